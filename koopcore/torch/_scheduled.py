"""Dynamics under a learning-rate schedule: the rate as a known input.

Gradient descent with rates ``u_t`` is ``w_{t+1} = w_t + u_t (A w_t + b)``: the rate multiplies the
whole right-hand side. So it is the *velocity* per unit of rate, ``y_t = (w_{t+1} - w_t) / u_t``,
that follows one linear law, ``y_{t+1} - y_t = A (w_{t+1} - w_t)``, while plain differences follow
another one at every rate. A forecast needs a future rate: the present one is taken to stay. At a
constant rate the fit is that of `koopcore.rules.Dynamics`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore._gram import EPS, checked

Array = NDArray[np.float64]


class ScheduledDynamics:
    """A rule for one window (see `koopcore.rules.Rule`).

    Parameters
    ----------
    rates : sequence of float, m - 1 of them
        Sums of the learning rates of the steps between successive snapshots.
    ahead : float
        The same for the snapshots to come.
    rank : int or None
        Directions kept; None: all that the Gram matrix resolves.
    """

    def __init__(self, rates: Sequence[float], ahead: float, rank: int | None = None) -> None:
        self._rates, self._ahead, self._rank = np.asarray(rates, np.float64), ahead, rank

    def __repr__(self) -> str:
        return f"ScheduledDynamics(rank={self._rank})"

    def coefficients(self, gram: ArrayLike, horizon: float) -> Array:
        """Return the coefficients; see `koopcore.rules.Rule`. They sum to 1."""
        gram, horizon = checked(gram, horizon, 3, self)
        last = np.eye(1, len(gram), len(gram) - 1)[0]
        fitted = self._fitted(gram)
        if fitted is None:
            return last
        steps, operator, velocity = fitted
        values, vectors = np.linalg.eig(operator)
        moduli = np.abs(values)
        values = np.where(moduli > 1.0, values / np.maximum(moduli, 1.0), values)
        amplitudes = np.linalg.lstsq(vectors, velocity.astype(complex), rcond=None)[0]
        travelled = self._ahead * (vectors @ (_geometric(values, horizon) * amplitudes)).real
        on_steps = np.linalg.lstsq(steps, travelled, rcond=None)[0]
        last[1:] += on_steps
        last[:-1] -= on_steps
        return last

    def eigenvalues(self, gram: Array) -> NDArray[np.complex128]:
        """Eigenvalues of one snapshot ahead at the present rate, by falling modulus."""
        fitted = self._fitted(gram)
        values = np.empty(0) if fitted is None else np.linalg.eigvals(fitted[1])
        return values[np.argsort(-np.abs(values))].astype(np.complex128)

    def _fitted(self, gram: Array) -> tuple[Array, Array, Array] | None:
        """Return steps between snapshots, operator and last velocity in orthonormal coordinates."""
        rates = self._rates[: len(gram) - 1]  # fewer where cross-validation cut the window
        between = np.diff(np.diff(gram, axis=0), axis=1)  # Gram matrix of the steps
        squares, right = np.linalg.eigh(between)
        kept = squares > len(gram) * EPS * np.abs(gram).max()
        if not kept.any():
            return None
        steps = np.sqrt(squares[kept])[:, None] * right[:, kept].T
        velocities = steps / rates
        left, values, right = np.linalg.svd(steps[:, :-1], full_matrices=False)
        rank = int(np.count_nonzero(values > np.sqrt(len(gram) * EPS) * values[0]))
        rank = min(rank, self._rank or rank)
        left = left[:, :rank]
        inverse = (right[:rank].T / values[:rank]) @ left.T
        law = np.diff(velocities, axis=1) @ inverse
        velocity = velocities[:, -1] + law @ steps[:, -1]
        # Beyond the directions kept nothing is known to go on.
        return steps, (left @ left.T) @ (np.eye(len(steps)) + self._ahead * law), velocity


def _geometric(values: NDArray[np.complex128], horizon: float) -> NDArray[np.complex128]:
    """``1 + v + ... + v^(horizon - 1)``, for any real horizon; `horizon` at v = 1."""
    small = np.abs(values - 1.0) < 1e-9
    away = np.where(small, 0.5, values).astype(complex)  # powers of negative numbers
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.where(away == 0.0, 0.0, np.power(away, horizon))
    return np.where(small, horizon, (powers - 1.0) / (away - 1.0))
