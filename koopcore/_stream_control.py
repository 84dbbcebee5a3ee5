"""The operator of a driven stream, from its few virtual trajectories (Proctor et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Real = NDArray[np.float64]


def real_inputs(u: ArrayLike) -> Real:
    """Take inputs as float64, and none that are complex or not finite."""
    array = np.asarray(u)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"the inputs have dtype {array.dtype}; expected real numbers")
    if not np.isfinite(array).all():
        raise ValueError("the inputs have a value that is not finite; nothing was recorded")
    return array.astype(np.float64)


def checked_inputs(u: ArrayLike | None, n_inputs: int, count: int) -> Real:
    """Check inputs beside `count` states, shape (n_inputs, count); (0, 0) where there are none."""
    if n_inputs == 0:
        if u is not None:
            raise ValueError("inputs were given, but this stream has n_inputs=0")
        return np.empty((0, 0))
    if u is None:
        raise ValueError(f"this stream has n_inputs={n_inputs}: give the inputs as well")
    array = real_inputs(u)
    if array.ndim == 1 and 1 in (n_inputs, count):
        array = array[:, None] if count == 1 else array[None]
    if array.shape != (n_inputs, count):
        raise ValueError(f"the inputs have shape {np.shape(u)}; expected ({n_inputs}, {count})")
    return array


@dataclass(frozen=True)
class DrivenStream:
    """``z_{t+1} = A z_t + B u_t`` in the coordinates of the stream's directions.

    `basis` (delays * directions, r) spans the states kept; ``on_state`` and ``on_input`` map
    coordinates in it, and inputs, to the next stacked state.
    """

    directions: int
    basis: Real
    singular_values: Real
    on_state: Real
    on_input: Real
    eigenvalues: NDArray[np.complex128]
    eigenvectors: NDArray[np.complex128]

    @classmethod
    def of(
        cls, rows: Real, directions: int, delays: int, inputs: int, rank: int, tol: float
    ) -> DrivenStream:
        """Fit: least squares on the leading states and the inputs, each scaled to its own size."""
        width = directions + inputs
        blocks = [rows[:, d * width : d * width + directions] for d in range(delays + 1)]
        before, after = np.hstack(blocks[:-1]).T, np.hstack(blocks[1:]).T
        u = rows[:, delays * width + directions :].T
        left, sigma, _ = np.linalg.svd(before, full_matrices=False)
        kept = int(min(rank, np.sum(sigma > tol * sigma[:1].sum())))
        basis = left[:, :kept]
        lengths = np.linalg.norm(u, axis=1)
        lengths[lengths == 0.0] = 1.0
        size = sigma[0] if kept else 1.0
        joint = np.vstack([basis.T @ before / size, u / lengths[:, None]])
        found = np.linalg.lstsq(joint.T, after.T, rcond=tol)[0].T
        on_state, on_input = found[:, :kept] / size, found[:, kept:] / lengths
        values, vectors = np.linalg.eig(basis.T @ on_state)
        order = np.argsort(-np.abs(values), kind="stable")
        return cls(
            directions,
            basis,
            sigma,
            on_state,
            on_input,
            values[order].astype(np.complex128),
            vectors[:, order].astype(np.complex128),
        )

    def modes(self) -> NDArray[np.complex128]:
        """Exact modes, their oldest block: (directions, r)."""
        modes: NDArray[np.complex128] = (self.on_state @ self.eigenvectors)[: self.directions]
        return modes

    def simulate(self, last: Real, inputs: Real) -> Real:
        """States after each input, from the newest ones (directions, delays): (directions, k)."""
        state = last.T.ravel()
        out = np.empty((self.directions, inputs.shape[1]))
        for j in range(inputs.shape[1]):
            state = self.on_state @ (self.basis.T @ state) + self.on_input @ inputs[:, j]
            out[:, j] = state[-self.directions :]
        return out
