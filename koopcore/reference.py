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
    clipped: Array = (left @ (vectors * factors) @ np.linalg.inv(vectors)).real @ u.T
    return clipped


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
    state, step, total = S[:, -1], data[:, -1], S[:, -1].copy()
    for _ in range(horizon):
        step = A @ step
        total = total + step
        state = step
    return total if affine else state


def amplitudes(
    S: Array, eigenvalues: ComplexArray, modes: ComplexArray, *, opt: bool
) -> ComplexArray:
    """Least squares of the modes on the first column of S, or (opt) of their series on all."""
    if not opt:
        first = S[:, 0].astype(np.complex128)
        return np.asarray(np.linalg.lstsq(modes, first, rcond=None)[0], np.complex128)
    rows = [modes * eigenvalues**t for t in range(S.shape[1])]
    series = S.T.reshape(-1).astype(complex)
    return np.asarray(np.linalg.lstsq(np.vstack(rows), series, rcond=None)[0], np.complex128)


def stacked(S: Array, delays: int) -> Array:
    """`delays` successive columns below each other."""
    count = S.shape[1] - delays + 1
    return np.vstack([S[:, d : d + count] for d in range(delays)])


def eigenvalues(operator_on_basis: Array) -> ComplexArray:
    """By falling modulus."""
    values = np.linalg.eigvals(operator_on_basis)
    return values[np.lexsort((-values.imag, -np.abs(values).round(12)))].astype(complex)


def total_least_squares(X: Array, Y: Array, rank: int) -> ComplexArray:
    """Eigenvalues after both matrices are projected on the leading right vectors of [X; Y]."""
    _, _, v = reduced_svd(np.vstack([X, Y]), rank)
    return dmd(X @ v @ v.T, Y @ v @ v.T, rank)[0]


def forward_backward(X: Array, Y: Array, rank: int) -> ComplexArray:
    """Eigenvalues of the root of (forward times inverse backward) nearest to the forward operator.

    All 2^rank roots that share the eigenvectors are tried.
    """
    u, _, _ = reduced_svd(X, rank)
    forward = (u.T @ Y) @ np.linalg.pinv(u.T @ X)
    backward = (u.T @ X) @ np.linalg.pinv(u.T @ Y)
    squares, vectors = np.linalg.eig(forward @ np.linalg.inv(backward))
    inverse, roots = np.linalg.inv(vectors), np.sqrt(squares.astype(complex))
    best, distance = forward, np.inf
    for signs in np.ndindex(*([2] * rank)):
        root = (vectors * (roots * (1 - 2 * np.array(signs)))) @ inverse
        if np.linalg.norm(root - forward) < distance:
            best, distance = root, float(np.linalg.norm(root - forward))
    return eigenvalues(best)


def symmetric(X: Array, Y: Array, rank: int) -> ComplexArray:
    """Eigenvalues of the symmetric A that minimises |Y - A X| on the leading directions of X."""
    u, _, _ = reduced_svd(X, rank)
    x, y = u.T @ X, u.T @ Y
    entries = [(i, j) for i in range(rank) for j in range(i + 1)]
    columns = []
    for i, j in entries:
        unit = np.zeros((rank, rank))
        unit[i, j] = unit[j, i] = 1.0
        columns.append((unit @ x).ravel())
    found = np.linalg.lstsq(np.column_stack(columns), y.ravel(), rcond=None)[0]
    A = np.zeros((rank, rank))
    for value, (i, j) in zip(found, entries, strict=True):
        A[i, j] = A[j, i] = value
    return eigenvalues(A)


def ridge(X: Array, Y: Array, rank: int, alpha: float) -> ComplexArray:
    """Eigenvalues with (X X^T + alpha I)^-1 on the leading directions of X."""
    u, _, _ = reduced_svd(X, rank)
    x, y = u.T @ X, u.T @ Y
    return eigenvalues(y @ x.T @ np.linalg.inv(x @ x.T + alpha * np.eye(rank)))


def stream_pairs(
    trajectories: list[Array],
    *,
    delays: int = 1,
    forgetting: float = 1.0,
    differences: bool = False,
) -> tuple[Array, Array]:
    """Successive states of a stream, each pair times the root of its weight.

    Every step from a snapshot to its successor multiplies the weights of all pairs before it.
    """
    before, after, times, clock = [], [], [], 0
    for snapshots in trajectories:
        series = np.diff(snapshots, axis=1) if differences else snapshots
        for t in range(1, series.shape[1]):
            clock += 1
            if t >= delays:
                states = stacked(series[:, t - delays : t + 1], delays)
                before.append(states[:, 0])
                after.append(states[:, 1])
                times.append(clock)
    roots = np.sqrt(forgetting ** (clock - np.array(times, np.float64)))
    return np.column_stack(before) * roots, np.column_stack(after) * roots
