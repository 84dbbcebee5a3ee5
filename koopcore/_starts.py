"""Starts for optimized DMD: from a fitted operator, and by greedy choice of exponents from a grid.

The operator is accurate where noise is small and times are dense; noise makes its exponents decay
until some describe one snapshot only, and the search never brings them back. The greedy start
(matching pursuit, Mallat & Zhang 1993, in its orthogonal form) knows only coarse exponents but
cannot lose an oscillation that stands out of the noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore._varpro import Clock

Array = NDArray[Any]
ComplexArray = NDArray[np.complex128]

# Decays of the grid over the whole span of time; frequencies are half a resolved step apart.
DECAYS = (0.0, -3.0, -10.0)
# A candidate that is all but spanned already has no direction of its own left to judge.
LEAST_NEW = 1e-3


def operator_start(data: Array, clock: Clock, count: int, eps: float) -> ComplexArray:
    """Exponents on the clock: log of exact DMD's eigenvalues, or the trapezoidal rule."""
    before, after = data[:, :-1], data[:, 1:]
    if not clock.even:
        before, after = (before + after) / 2, (after - before) / np.diff(clock.t)
    left, s, right = np.linalg.svd(before, full_matrices=False)
    # Float32 data have directions that are only the rounding of their numbers.
    rank = min(count, int(np.count_nonzero(s > max(data.shape) * eps * s[0])))
    left, s, right = left[:, :rank], s[:rank], right[:rank]
    reduced = left.conj().T @ after @ (right.conj().T / s)
    values: ComplexArray = np.linalg.eigvals(reduced).astype(np.complex128)
    if not clock.even:
        return values
    steps = len(clock.t) - 1
    # An eigenvalue 0 has no logarithm: it gets the fastest decay that the clock allows.
    least = np.exp(clock.lowest / steps)
    values[np.abs(values) < least] = least
    logs: ComplexArray = np.log(values) * steps
    return logs


def greedy_start(data: Array, clock: Clock, count: int) -> ComplexArray:
    """Exponents on the clock, each chosen to lower the residual most; costs O(m^2 (r + count))."""
    is_real = not np.iscomplexobj(data)
    m = len(clock.t)
    frequencies = np.pi * np.arange(0 if is_real else 1 - m, m)
    oscillations = np.exp(1j * np.outer(clock.t, frequencies))
    decays = np.exp(np.outer(clock.t, DECAYS))
    grid = (np.array(DECAYS)[:, None] + 1j * frequencies).ravel()
    atoms = (decays[:, :, None] * oscillations[:, None, :]).reshape(m, -1)
    atoms /= np.linalg.norm(atoms, axis=0)
    return _pursue(atoms, grid, data.T, count)


def _pursue(atoms: ComplexArray, grid: ComplexArray, target: Array, count: int) -> ComplexArray:
    """Orthogonal matching pursuit; for a real target each oscillation brings its conjugate."""
    is_real = not np.iscomplexobj(target)
    matches = atoms.conj().T @ target
    new = np.ones(len(grid))
    basis = np.empty((len(target), 0), dtype=complex)
    chosen: list[complex] = []
    while len(chosen) < count:
        gains = np.sum(np.abs(matches) ** 2, axis=1) / np.maximum(new, LEAST_NEW)
        if is_real and len(chosen) == count - 1:
            gains[grid.imag != 0] = -1.0
        best = int(gains.argmax())
        added = [atoms[:, best]]
        chosen.append(complex(grid[best]))
        if is_real and grid[best].imag != 0:
            added.append(atoms[:, best].conj())
            chosen.append(complex(grid[best].conj()))
        directions = np.stack(added, axis=1)
        for _ in range(2):
            directions = directions - basis @ (basis.conj().T @ directions)
        directions = np.linalg.qr(directions)[0]
        basis = np.hstack([basis, directions])
        inside = atoms.conj().T @ directions
        matches -= inside @ (directions.conj().T @ target)
        new -= np.sum(np.abs(inside) ** 2, axis=1)
    return np.array(chosen)
