"""Sparsity-promoting amplitudes: which modes carry the data (Jovanovic, Schmid, Nichols 2014).

Minimises ``b^H P b - 2 Re(q^H b) + penalty * sum_i |b_i|`` by ADMM (section III), then fits the
amplitudes that survive by least squares alone. Unlike theirs, the penalty is a share of the
smallest one that leaves no mode, so that it needs no units.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ComplexArray = NDArray[np.complex128]

MOST_ITERATIONS = 10_000
TOLERANCE = 1e-8  # of the change and of the disagreement, relative to the amplitudes


def sparse_amplitudes(system: ComplexArray, rhs: ComplexArray, share: float) -> ComplexArray:
    """Amplitudes with exact zeros for the modes that are not needed.

    Parameters
    ----------
    system : ndarray of shape (r, r)
        P: Hermitian, positive semidefinite.
    rhs : ndarray of shape (r,)
        q.
    share : float
        Penalty over ``2 max|q|``, the smallest that leaves none; 0 <= share.

    Returns
    -------
    ndarray of shape (r,)
        Least squares on the support found.
    """
    largest = 2.0 * np.abs(rhs).max(initial=0.0)
    if largest == 0.0 or share >= 1.0:
        return np.zeros(len(rhs), complex)
    if share == 0.0:
        return _polished(system, rhs, np.ones(len(rhs), bool))
    return _polished(system, rhs, _support(system, rhs, share * largest))


def _support(system: ComplexArray, rhs: ComplexArray, penalty: float) -> NDArray[np.bool_]:
    """Run ADMM: alternate a ridge step (a) and a soft threshold (b), with their difference (d)."""
    rho = float(np.trace(system).real) / len(rhs)
    inverse = np.linalg.inv(system + 0.5 * rho * np.eye(len(rhs)))
    b = np.zeros(len(rhs), complex)
    d = np.zeros(len(rhs), complex)
    for _ in range(MOST_ITERATIONS):
        a = inverse @ (rhs + 0.5 * rho * (b - d))
        before, b = b, soft_threshold(a + d, penalty / rho)
        d = d + a - b
        size = TOLERANCE * max(float(np.linalg.norm(a)), float(np.linalg.norm(b)))
        if np.linalg.norm(a - b) <= size and np.linalg.norm(b - before) <= size:
            break
    return np.asarray(b != 0.0)


def soft_threshold(values: ComplexArray, threshold: float) -> ComplexArray:
    """Move every value towards 0 by `threshold`, at most to 0."""
    modulus = np.abs(values)
    factor = np.maximum(0.0, 1.0 - threshold / np.where(modulus > 0.0, modulus, np.inf))
    return values * np.where(modulus > 0.0, factor, 0.0)


def _polished(system: ComplexArray, rhs: ComplexArray, kept: NDArray[np.bool_]) -> ComplexArray:
    amplitudes = np.zeros(len(rhs), complex)
    found = np.linalg.lstsq(system[np.ix_(kept, kept)], rhs[kept], rcond=1e-13)[0]
    amplitudes[kept] = found
    return amplitudes
