"""The algorithms of the core in plain NumPy: slow, obvious, and the oracle of the tests.

Everything is done on the snapshots themselves, by singular value decomposition and repeated
multiplication, never through a Gram matrix. NumPy only; not exported.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


def reduced_svd(X: Array, rank: int) -> tuple[Array, Array, Array]:
    """Leading `rank` left vectors, singular values and right vectors (as columns) of X."""
    u, s, vt = np.linalg.svd(np.asarray(X, dtype=np.float64), full_matrices=False)
    return u[:, :rank], s[:rank], vt[:rank].T


def dmd(X: Array, Y: Array, rank: int, exact: bool = True) -> tuple[ComplexArray, ComplexArray]:
    """Eigenvalues (r,) and modes (n, r) of Y = A X, by falling modulus."""
    u, s, v = reduced_svd(X, rank)
    eigenvalues, vectors = np.linalg.eig(u.T @ Y @ v / s)
    order = np.lexsort((-eigenvalues.imag, -np.abs(eigenvalues).round(12)))
    modes = (Y @ v / s if exact else u) @ vectors
    return eigenvalues[order].astype(complex), modes[:, order].astype(complex)


def operator(X: Array, Y: Array, rank: int, exact: bool = True, clip: bool = False) -> Array:
    """Return the n x n operator; `clip` moves eigenvalues outside the unit circle onto it."""
    u, s, v = reduced_svd(X, rank)
    left = Y @ v / s if exact else u @ (u.T @ Y @ v / s)
    if not clip:
        return left @ u.T
    eigenvalues, vectors = np.linalg.eig(u.T @ left)
    factors = 1.0 / np.maximum(1.0, np.abs(eigenvalues))
    return (left @ (vectors * factors) @ np.linalg.inv(vectors)).real @ u.T


def forecast(
    S: Array,
    horizon: int,
    rank: int,
    *,
    exact: bool = True,
    affine: bool = False,
    clip: bool = False,
) -> Array:
    """State `horizon` steps after the last column of the series S, step by step."""
    data = np.diff(S, axis=1) if affine else S
    A = operator(data[:, :-1], data[:, 1:], rank, exact, clip)
    # Clipped eigenvalues enter from the second step on with exact modes: A^h = Y V/s A_r^(h-1) U^T.
    first = operator(data[:, :-1], data[:, 1:], rank, exact, clip and not exact)
    state, step, total = S[:, -1], data[:, -1], S[:, -1].copy()
    for k in range(horizon):
        step = (first if k == 0 else A) @ step
        total = total + step
        state = step
    return total if affine else state


def amplitudes(
    S: Array, eigenvalues: ComplexArray, modes: ComplexArray, *, opt: bool
) -> ComplexArray:
    """Least squares of the modes on the first column of S, or (opt) of their series on all."""
    if not opt:
        return np.linalg.lstsq(modes, S[:, 0].astype(complex), rcond=None)[0]
    rows = [modes * eigenvalues**t for t in range(S.shape[1])]
    return np.linalg.lstsq(np.vstack(rows), S.T.reshape(-1).astype(complex), rcond=None)[0]
