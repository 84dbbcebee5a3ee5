"""Cross-validation inside the snapshots, from their Gram matrix alone.

The error of a forecast with coefficients c of a snapshot that was held out is a quadratic form,
``|s - S c|^2 = e^H G e`` with ``e = c - unit(s)``: rank, variant, delays and ridge are chosen with
O(m^3) work, whatever the size of the state.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from koopcore._base import FitOptions
from koopcore._problem import Fitted, Problem, fit

FOLDS = 5
MOST_RANKS = 24  # more candidates than this are thinned out geometrically
Array = NDArray[np.float64]


def folds(problem: Problem, options: FitOptions, count: int = FOLDS) -> list[tuple[list[int], ...]]:
    """Split the pairs: (training starts, held-out starts) per fold.

    Held-out pairs are contiguous in time, and no training pair of a series shares a snapshot with
    them. Folds without a training pair are left out.
    """
    starts = problem.starts(options)
    gap = 1 if problem.pairs else options.least_snapshots
    out: list[tuple[list[int], ...]] = []
    for held in np.array_split(np.array(starts), min(count, len(starts))):
        train = [a for a in starts if a <= held[0] - gap or a >= held[-1] + gap]
        if train:
            out.append((train, [int(a) for a in held]))
    return out


def held_out_errors(
    problem: Problem, fitted: Fitted, held: list[int], horizons: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Squared errors of forecasts from held-out states, summed over them, and how many.

    Returns
    -------
    errors, counts : ndarray of shape (len(horizons),)
        Targets beyond the end of a trajectory are left out.
    """
    errors, counts = np.zeros(len(horizons)), np.zeros(len(horizons))
    newest = fitted.options.least_snapshots - 2
    for a in held:
        stop = next(stop for first, stop in problem.bounds() if first <= a < stop)
        for i, horizon in enumerate(horizons):
            target = a + newest + int(horizon) * problem.lag
            if target < stop:
                error = fitted.core.forecast(float(horizon), a)
                error[target] -= 1.0
                errors[i] += max(0.0, float((error.conj() @ problem.gram @ error).real))
                counts[i] += 1
    return errors, counts


def usual_horizons(problem: Problem, options: FitOptions, horizon: int) -> NDArray[np.int64]:
    """Return the steps to test: 1 to `horizon`, but 1 only where the columns are pairs."""
    return np.arange(1, 2 if problem.pairs else horizon + 1)


def validation_error(
    problem: Problem, options: FitOptions, horizon: int = 1, count: int = FOLDS
) -> tuple[float, float]:
    """Cross-validated error over 1 to `horizon` steps, and its standard error over the folds.

    Relative to the error of staying at the last snapshot: below 1 is better than not to forecast.
    NaN where the data are too short to hold anything out.
    """
    horizons = usual_horizons(problem, options, horizon)
    stay = _stay_error(problem, options, horizons)
    scores = []
    for train, held in folds(problem, options, count):
        limited = (
            options.with_rank(min(options.max_rank, len(train))) if options.max_rank else options
        )
        errors, counts = held_out_errors(problem, fit(problem, limited, train), held, horizons)
        if counts.sum():
            scores.append(errors.sum() / counts.sum() / stay)
    if not scores:
        return np.nan, np.nan
    spread = float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else np.nan
    return float(np.mean(scores)), spread


def _stay_error(problem: Problem, options: FitOptions, horizons: NDArray[np.int64]) -> float:
    """Mean squared distance of snapshots `horizons` steps apart; 1 where they do not differ."""
    gram, total, pairs = problem.gram, 0.0, 0
    diagonal = np.diag(gram).real
    for first, stop in problem.bounds():
        for step in horizons * problem.lag:
            a = np.arange(first, stop - step)
            total += float((diagonal[a] + diagonal[a + step] - 2.0 * gram[a, a + step].real).sum())
            pairs += len(a)
    return total / pairs if total > 0.0 else 1.0


def candidate_ranks(problem: Problem, options: FitOptions) -> list[int]:
    """Ranks worth comparing: up to what the data resolve and a training fold can carry."""
    plain = options.with_rank(0)
    split = folds(problem, plain)
    if not split:
        return [0]
    resolved = int(fit(problem, plain).core.coordinates().shape[0])
    largest = min(resolved, *(len(train) for train, _ in split))
    if largest <= MOST_RANKS:
        return list(range(1, largest + 1)) or [0]
    return sorted({round(r) for r in np.geomspace(1, largest, MOST_RANKS)})


def best_rank(problem: Problem, options: FitOptions, horizon: int = 1) -> int:
    """Return the lowest rank whose error is within one standard error of the best."""
    ranks = candidate_ranks(problem, options)
    table = [validation_error(problem, options.with_rank(r), horizon) for r in ranks]
    return ranks[lowest_within_one_error(table)]


def lowest_within_one_error(table: list[tuple[float, float]]) -> int:
    """Index of the first row within one standard error of the best one."""
    errors = np.array([error for error, _ in table])
    if np.isnan(errors).all():
        return 0
    best = int(np.nanargmin(errors))
    limit = errors[best] + np.nan_to_num(table[best][1])
    return int(np.flatnonzero(errors <= limit)[0])
