"""The small matrices of DMD with control: from a Gram matrix and the inputs to A and B."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class DrivenOperator:
    """A and B as coefficients on the columns T of [X B] (X alone where B is unknown).

    ``Q = X[:, :-1] projection`` is orthonormal, ``A = T on_state Q^T`` and ``B = T on_input``.
    """

    gram: Real  # T^T T
    singular_values: Real
    projection: Real
    on_state: Real
    on_input: Real
    reduced: Real  # Q^T T
    eigenvalues: Complex
    eigenvectors: Complex

    @classmethod
    def of(cls, gram: Real, state: Principal, on_state: Real, on_input: Real) -> DrivenOperator:
        projection = state.right / state.kept
        reduced = projection.T @ gram[: len(projection)]
        eigenvalues, vectors = np.linalg.eig(reduced @ on_state)
        order = np.argsort(-np.abs(eigenvalues), kind="stable")
        return cls(
            gram,
            state.singular_values,
            projection,
            on_state,
            on_input,
            reduced,
            eigenvalues[order].astype(np.complex128),
            vectors[:, order].astype(np.complex128),
        )

    def simulate(self, start: Real, inputs: Real) -> Real:
        """Coefficients of the states after each input, from these coordinates in Q."""
        on_state, on_input = self.reduced @ self.on_state, self.reduced @ self.on_input @ inputs
        coordinates = np.empty((len(start), inputs.shape[1]))
        for j in range(inputs.shape[1]):
            coordinates[:, j] = start
            start = on_state @ start + on_input[:, j]
        return self.on_state @ coordinates + self.on_input @ inputs


@dataclass(frozen=True)
class Principal:
    """Singular values of the snapshots X[:, :-1] and the leading right singular vectors kept."""

    singular_values: Real
    right: Real  # (n_pairs, r)

    @property
    def kept(self) -> Real:
        return self.singular_values[: self.right.shape[1]]


def principal(gram: Real, tol: float, max_rank: int, energy: float) -> Principal:
    squares, vectors = np.linalg.eigh(gram)
    squares = np.maximum(squares[::-1], 0.0)
    sigma = np.sqrt(squares)
    rank = int(np.count_nonzero(sigma > tol * sigma[0]))
    if max_rank:
        rank = min(rank, max_rank)
    if energy < 1.0:
        share = np.cumsum(squares)
        rank = min(rank, int(np.searchsorted(share, energy * share[-1])) + 1)
    return Principal(sigma, vectors[:, ::-1][:, :rank])


def fit_known(gram: Real, state: Principal, u: Real) -> DrivenOperator:
    """Fit A = (Y - B U) V Sigma^-1 Q^T (section 3.2)."""
    n_pairs, n_inputs = len(state.right), len(u)
    successors = state.right / state.kept
    on_state = np.vstack([np.zeros((1, len(state.kept))), successors, -u @ successors])
    on_input = np.vstack([np.zeros((n_pairs + 1, n_inputs)), np.eye(n_inputs)])
    return DrivenOperator.of(gram, state, on_state, on_input)


def fit_unknown(gram: Real, state: Principal, u: Real, tol: float) -> DrivenOperator:
    """Fit [A Q, B] = Y [Q^T X; U]^+ (section 3.3), with each row scaled to size 1."""
    peak = np.max(np.abs(u), axis=1, keepdims=True)
    peak[peak == 0.0] = 1.0
    length = np.linalg.norm(u / peak, axis=1, keepdims=True)  # of 1 to sqrt(n_pairs): no overflow
    length[length == 0.0] = 1.0
    rank = len(state.kept)
    largest = state.kept[0] if rank else 1.0
    rows = np.vstack([(state.right * (state.kept / largest)).T, u / peak / length])
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    found = values > max(tol, u.shape[1] * np.finfo(np.float64).eps)  # tol=0: not rounding
    inverse = (right[found].T / values[found]) @ left[:, found].T
    weights = np.hstack([inverse[:, :rank] / largest, inverse[:, rank:] / length.T / peak.T])
    on_snapshots = np.vstack([np.zeros((1, len(rows))), weights])
    return DrivenOperator.of(gram, state, on_snapshots[:, :rank], on_snapshots[:, rank:])
