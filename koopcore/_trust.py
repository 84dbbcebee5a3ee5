"""How far a fit can be trusted: residuals, consistency, error bars and the horizon they allow.

All of it is m x m work on the Gram matrix, except the width of a band per feature.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore._base import positive_int
from koopcore._problem import Fitted, Problem, fit
from koopcore._validation import folds, held_out_errors

BAGS = 32
Array = NDArray[np.float64]


def mode_residuals(problem: Problem, fitted: Fitted) -> Array:
    """Relative residual of each mode's eigenfunction on pairs it was not fitted to, shape (r,).

    ``|g(y) - lambda g(x)| / |g(x)|`` over held-out pairs (x, y), g the mode's coordinate: the
    residual of Colbrook & Townsend (2024) in its dual form. In each of five folds the fit is made
    without the held-out pairs, and its modes are matched to those of the full fit by their
    eigenvalues. NaN where nothing can be held out.
    """
    values = fitted.core.eigenvalues
    above, below = np.zeros(len(values)), np.zeros(len(values))
    for train, held in folds(problem, fitted.options):
        options = fitted.options
        if options.max_rank > len(train):
            options = options.with_rank(len(train))
        part = fit(problem, options, train).core
        if part.rank == 0:
            continue
        g = part.spectral_coordinates()
        x, y = g[:, held], g[:, np.array(held) + problem.lag]
        misfit = np.sum(np.abs(y - part.eigenvalues[:, None] * x) ** 2, axis=1)
        size = np.sum(np.abs(x) ** 2, axis=1)
        nearest = np.abs(values[:, None] - part.eigenvalues[None, :]).argmin(axis=1)
        above += (misfit / np.where(size > 0.0, size, 1.0))[nearest] * len(held)
        below += len(held)
    found = np.divide(above, below, out=np.full(len(values), np.nan), where=below > 0.0)
    residuals: Array = np.sqrt(found)
    return residuals


def consistency_index(problem: Problem, fitted: Fitted) -> float:
    """Largest eigenvalue of ``I - M_f M_b`` on the reduced directions, between 0 and 1.

    M_f and M_b are the forward and the backward operator (Haseli & Cortes 2023). 0: the directions
    are invariant; the square root bounds the relative error of any prediction of theirs. With no
    more pairs than directions it is 0 whatever the data.
    """
    z = fitted.core.coordinates()
    if len(z) == 0:
        return 0.0
    starts = np.array(fitted.starts)
    x, y = z[:, starts], z[:, starts + problem.lag]
    forward, backward = y @ np.linalg.pinv(x), x @ np.linalg.pinv(y)
    defect = np.linalg.eigvals(np.eye(len(z)) - forward @ backward)
    return float(np.clip(np.abs(defect).max(), 0.0, 1.0))


class ForecastError:
    """Error of forecasts from the last snapshot: spread over bags plus held-out noise.

    The operator's part is the spread of forecasts over fits to resampled pairs (bagging; Sashidhar
    & Kutz 2022). What remains of the cross-validated error at the same horizon (noise of the
    snapshots, wrong rank) is added; beyond the longest horizon that can be held out, the value
    there is kept.
    """

    def __init__(self, problem: Problem, fitted: Fitted, bags: int = BAGS, seed: int = 0) -> None:
        self._problem, self._fitted = problem, fitted
        rng = np.random.default_rng(seed)
        starts = np.array(fitted.starts)
        draws = [
            np.sort(rng.choice(starts, len(starts))) for _ in range(positive_int("bags", bags))
        ]
        self._fits = [fit(problem, fitted.options, draw.tolist()).core for draw in draws]
        self._held = self._held_out()
        # A squared error is a difference of numbers as large as the squared snapshots.
        largest = float(np.diag(problem.gram).real.max())
        self._resolution = len(problem.gram) * np.finfo(np.float64).eps * largest

    def _held_out(self) -> Array:
        """Mean squared held-out error at 1, 2, ... steps."""
        options = self._fitted.options
        longest = 1 if self._problem.pairs else max(1, len(self._fitted.starts) // 4)
        horizons = np.arange(1, longest + 1)
        errors, counts = np.zeros(longest), np.zeros(longest)
        for train, held in folds(self._problem, options):
            part = options.with_rank(len(train)) if options.max_rank > len(train) else options
            e, c = held_out_errors(self._problem, fit(self._problem, part, train), held, horizons)
            errors, counts = errors + e, counts + c
        return errors[counts > 0.0] / counts[counts > 0.0]

    def deviations(self, horizon: float) -> NDArray[Any]:
        """Coefficients (k x bags) of the bags' forecasts minus their mean."""
        coefficients = np.column_stack([f.forecast(horizon) for f in self._fits])
        deviations: NDArray[Any] = coefficients - coefficients.mean(axis=1, keepdims=True)
        return deviations

    def operator_variance(self, horizon: float) -> float:
        """Spread over the bags, squared and summed over the features."""
        d = self.deviations(horizon)
        spread = np.einsum("ib,ij,jb->", d.conj(), self._problem.gram, d).real
        return max(0.0, float(spread)) / float(max(1, d.shape[1] - 1))

    def noise_variance(self, horizon: float) -> float:
        """Return what held-out errors show beyond the spread over bags, summed over features."""
        if len(self._held) == 0:
            return 0.0
        step = min(max(1, round(abs(horizon))), len(self._held))
        return max(0.0, float(self._held[step - 1]) - self.operator_variance(step))

    def total(self, horizon: float) -> float:
        """Return the expected error of the forecast in the norm of the state; 0: not resolved."""
        variance = self.operator_variance(horizon) + self.noise_variance(horizon)
        return float(np.sqrt(variance)) if variance > self._resolution else 0.0


def residual_coefficients(problem: Problem, fitted: Fitted) -> NDArray[Any]:
    """Coefficients (k x pairs) of the one-step errors on the pairs of the fit."""
    newest = fitted.options.least_snapshots - 2
    out = np.column_stack([fitted.core.forecast(1.0, a) for a in fitted.starts])
    out[np.array(fitted.starts) + newest + problem.lag, np.arange(out.shape[1])] -= 1.0
    return out


def half_widths(
    error: ForecastError, noise_shape: Array, spread: Any, horizons: Array, level: float
) -> Array:
    """Half the width of the band per feature and horizon, shape (n_features, len(horizons)).

    `noise_shape` (n_features,) sums to 1 and says how the noise is shared among the features;
    `spread` gives the norms of the rows of combinations of the snapshots.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level!r} is the probability of the band: 0 < level < 1")
    quantile = NormalDist().inv_cdf(0.5 + 0.5 * level)
    columns = []
    for horizon in horizons:
        deviations = error.deviations(float(horizon))
        variance = spread(deviations) ** 2 / max(1, deviations.shape[1] - 1)
        columns.append(np.sqrt(variance + error.noise_variance(float(horizon)) * noise_shape))
    return quantile * np.column_stack(columns)


def trusted_horizon(error: ForecastError, scale: float, tol: float, longest: int) -> int:
    """Count steps with an expected error within `tol` times `scale`, at most `longest`."""
    if not tol > 0.0:
        raise ValueError(f"tol={tol!r} is relative to the spread of the snapshots: it must be > 0")
    low, high = 0, 1
    while high <= longest and error.total(high) <= tol * scale:
        low, high = high, 2 * high
    if high > longest and error.total(longest) <= tol * scale:
        return longest
    high = min(high, longest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if error.total(middle) <= tol * scale else (low, middle)
    return low


def snapshot_spread(problem: Problem) -> float:
    """Root mean squared distance of the snapshots from their mean."""
    gram = problem.gram
    return float(np.sqrt(max(0.0, (np.trace(gram) - gram.mean() * len(gram)).real / len(gram))))


def horizons_of(horizon: ArrayLike) -> Array:
    """Return a number or a 1-D array of horizons as a 1-D array."""
    horizons = np.asarray(horizon, dtype=np.float64)
    if horizons.ndim > 1:
        raise ValueError(f"horizon has shape {horizons.shape}; give a number or a 1-D array")
    return np.atleast_1d(horizons)
