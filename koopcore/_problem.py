"""A fit as the small matrices see it: a Gram matrix, which columns belong together, the options.

Everything that estimators, rules, cross-validation and error bars fit goes through `fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore._base import Fit, FitOptions
from koopcore._optimized import OptimizedFit, fit_optimized


@dataclass(frozen=True)
class Problem:
    """Snapshots known by their inner products.

    Attributes
    ----------
    gram : ndarray of shape (k, k)
        ``S^H S``, float64 or complex128.
    segments : tuple of (first, stop)
        Columns of each trajectory; empty: one trajectory of all of them.
    pairs : bool
        The first half of the columns are X, the second half their successors Y.
    n_features : int
        Numbers per snapshot.
    times : ndarray of shape (k,), optional
        Times of the snapshots; None: multiples of dt.
    dt : float
        Time of one step of a forecast.
    factor : ndarray, optional
        F with ``F^T F = gram``, where the Gram matrix has lost small singular values.
    """

    gram: NDArray[Any]
    segments: tuple[tuple[int, int], ...] = ()
    pairs: bool = False
    n_features: int = 0
    times: NDArray[np.float64] | None = None
    dt: float = 1.0
    factor: NDArray[np.float64] | None = None

    @property
    def lag(self) -> int:
        """Columns from a state to its successor."""
        return len(self.gram) // 2 if self.pairs else 1

    def bounds(self) -> tuple[tuple[int, int], ...]:
        """Columns of each trajectory."""
        return self.segments or ((0, len(self.gram)),)

    def starts(self, options: FitOptions) -> list[int]:
        """First columns of all pairs."""
        least = options.least_snapshots - 1 + self.lag
        return [a for first, stop in self.bounds() for a in range(first, stop - least + 1)]


@dataclass(frozen=True)
class Fitted:
    """A fit, the options as resolved (``rank="cv"`` has become a number), its pairs."""

    core: Fit
    options: FitOptions
    starts: list[int]
    optimized: OptimizedFit | None = None


def fit(problem: Problem, options: FitOptions, starts: Sequence[int] | None = None) -> Fitted:
    """Fit the pairs that begin at `starts` (default: all there are)."""
    if not problem.starts(options):
        least = options.least_snapshots - 1 + problem.lag
        raise ValueError(f"a fit needs at least {least} snapshots, got {len(problem.gram)}")
    if options.rule == "cv":
        from koopcore._validation import best_rank  # which fits in turn

        options = options.with_rank(best_rank(problem, options))
    chosen = problem.starts(options) if starts is None else list(starts)
    if options.variant == "optimized":
        return _fit_optimized(problem, options, chosen)
    core = options.fit(
        problem.gram if problem.factor is None else problem.factor,
        lag=problem.lag,
        starts=chosen,
        n_features=problem.n_features,
        from_factor=problem.factor is not None,
    )
    return Fitted(core, options, chosen)


def _fit_optimized(problem: Problem, options: FitOptions, starts: list[int]) -> Fitted:
    """Exponentials through the states of all pairs, in the basis of those states."""
    if problem.pairs or len(problem.bounds()) > 1:
        raise ValueError(
            "variant='optimized' fits exponentials to one time series: give X alone, "
            "not Y and not several trajectories"
        )
    if problem.times is not None and options.delays > 1:
        raise ValueError(
            f"delays={options.delays!r} need snapshots at equal steps; leave times=None"
        )
    columns = sorted({column for a in starts for column in (a, a + 1)})
    plain = replace(options, variant="standard", constraint="none")
    base = plain.fit(
        problem.gram if problem.factor is None else problem.factor,
        lag=0,
        starts=columns,
        n_features=problem.n_features,
        from_factor=problem.factor is not None,
    )
    even = problem.dt * np.arange(len(problem.gram), dtype=np.float64)
    times = even if problem.times is None else problem.times
    states = base.coordinates()
    if len(states) == 0:
        return Fitted(base, options, starts)
    constraint = None if options.constraint == "none" else options.constraint
    found = fit_optimized(states[:, columns], times[columns], constraint=constraint)
    last = times[states.shape[1] - 1] - times[columns[0]]
    core = base.with_spectrum(
        np.exp(found.omega * problem.dt), found.modes, found.amplitudes * np.exp(found.omega * last)
    )
    return Fitted(core, options, starts, found)
