"""Choosing rank, variant, delays and ridge by cross-validation inside the snapshots.

The data are read once, for their Gram matrix; every candidate is then fitted and scored on
snapshots it has not seen in O(m^3).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from koopcore._base import FitOptions, positive_int
from koopcore._problem import Problem
from koopcore._snapshots import gathered
from koopcore._solve import pose, require, solve
from koopcore._validation import (
    FOLDS,
    candidate_ranks,
    lowest_within_one_error,
    validation_error,
)
from koopcore.dmd import DMD


@dataclass(frozen=True)
class Candidate:
    """One row of the table: options, and the error of forecasts of held-out snapshots.

    Attributes
    ----------
    variant, delays, ridge, rank
        Options of `koopcore.DMD`.
    error : float
        Mean squared error over 1 to `horizon` steps, relative to staying at the last snapshot.
    standard_error : float
        Of `error`, over the folds.
    """

    variant: str
    delays: int
    ridge: float
    rank: int
    error: float
    standard_error: float


@dataclass(frozen=True)
class Selection:
    """What was chosen, from what, and the model fitted with it.

    Attributes
    ----------
    model : DMD
        Fitted to all snapshots with the best candidate's options.
    best : Candidate
        The first row of `table` within one standard error of the lowest error.
    table : tuple of Candidate
        All that were compared, from simple to rich: by number of delays, then rank.
    """

    model: DMD
    best: Candidate
    table: tuple[Candidate, ...]

    def __str__(self) -> str:
        rows = [f"{'variant':<17}{'delays':>7}{'ridge':>9}{'rank':>6}{'error':>11}{'+-':>10}"]
        for row in self.table:
            mark = " <" if row is self.best else ""
            rows.append(
                f"{row.variant:<17}{row.delays:>7}{row.ridge:>9.2g}{row.rank:>6}"
                f"{row.error:>11.3g}{row.standard_error:>10.1g}{mark}"
            )
        return "\n".join(rows)


def select(
    X: Any,
    Y: Any = None,
    *,
    ranks: Iterable[int] | None = None,
    variants: Iterable[str] = ("standard", "tls", "forward-backward"),
    delays: Iterable[int] = (1,),
    ridges: Iterable[float] = (0.0,),
    horizon: int = 1,
    folds: int = FOLDS,
    **options: Any,
) -> Selection:
    """Compare candidates on held-out snapshots and fit the best.

    Held-out snapshots are contiguous in time and share none with the training pairs. Of the
    candidates within one standard error of the lowest error the simplest is taken: fewest delays,
    then lowest rank, then in the order given.

    Parameters
    ----------
    X, Y
        As in `koopcore.DMD.fit`.
    ranks : iterable of int, optional
        Default: 1, 2, ... up to what data and folds carry, at most 24 of them.
    variants, delays, ridges : iterables
        Candidates; a ridge above 0 goes with the standard variant only and is skipped elsewhere.
    horizon : int
        Steps ahead that are scored (1 with Y).
    folds : int
        Parts that are held out in turn, at least 2.
    **options
        Other options of `koopcore.DMD`, the same for all (affine, dt, unstable, ...).

    Returns
    -------
    Selection

    Raises
    ------
    ValueError
        If an option is wrong, or the snapshots are too few to hold any out.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((50, 2)) @ np.vander([0.95, 0.6], 30, increasing=True)
    >>> chosen = select(X + 1e-3 * rng.standard_normal(X.shape), variants=["standard"])
    >>> chosen.best.rank
    2
    """
    horizon = positive_int("horizon", horizon)
    if positive_int("folds", folds) < 2:
        raise ValueError(f"folds={folds!r} must be at least 2")
    given = None if ranks is None else [positive_int("ranks", r) for r in ranks]
    grid = [
        (variant, delay, ridge)
        for delay, variant, ridge in itertools.product(sorted(delays), variants, ridges)
        if not ridge or variant == "standard"
    ]
    if not grid or given == []:
        raise ValueError("select needs at least one variant, delay, ridge and rank to compare")
    snapshots = gathered(X, Y)
    models = [DMD(variant=v, delays=d, ridge=alpha, **options) for v, d, alpha in grid]
    pairs = Y is not None
    for model in models:
        require(snapshots, model._options, model.solver, pairs=pairs, timed=False)
    gram = snapshots.gram()
    problem = pose(snapshots, gram, pairs=pairs, times=None, dt=models[0].dt)
    rows: list[Candidate] = []
    for model in models:
        rows += _scored(model._options, problem, given, horizon, folds)
    rows.sort(key=lambda row: (row.delays, row.rank))
    if all(row.error != row.error for row in rows):
        raise ValueError("the snapshots are too few to hold any out; give DMD a rank instead")
    best = rows[lowest_within_one_error([(row.error, row.standard_error) for row in rows])]
    model = DMD(best.rank, variant=best.variant, delays=best.delays, ridge=best.ridge, **options)
    solved = solve(snapshots, problem, model._options, model.solver)
    return Selection(model._fit_to(snapshots, *solved), best, tuple(rows))


def _scored(
    options: FitOptions, problem: Problem, ranks: list[int] | None, horizon: int, folds: int
) -> list[Candidate]:
    """Score one variant at all its ranks."""
    rows = []
    for rank in candidate_ranks(problem, options) if ranks is None else ranks:
        error, spread = validation_error(problem, options.with_rank(rank), horizon, folds)
        rows.append(Candidate(options.variant, options.delays, options.ridge, rank, error, spread))
    return rows
