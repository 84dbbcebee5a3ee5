"""From snapshots to a fit: what the data must have, and the route through Gram matrix or QR."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore._base import FitOptions
from koopcore._problem import Fitted, Problem, fit
from koopcore._snapshots import Snapshots

# solver="auto" takes the QR route for float64 data whose smallest kept singular value is below this
# share of the largest: the Gram route's eigenvalues are off by about eps over its square.
GRAM_RESOLVES = 1e-4


def require(
    snapshots: Snapshots, options: FitOptions, solver: str, *, pairs: bool, timed: bool
) -> None:
    """Check that the data have what these options need."""
    lengths = snapshots.lengths
    if pairs and (options.affine == "differences" or options.delays > 1):
        raise ValueError(
            "affine=True and delays need one time series: X alone, without Y "
            "(affine='constant' goes with Y)"
        )
    if timed and options.variant != "optimized":
        raise ValueError("times need variant='optimized'; the others take equal steps dt")
    if snapshots.is_complex and solver == "qr":
        raise ValueError("solver='qr' needs real data; complex data take solver='gram'")
    for i, length in enumerate(lengths):
        if len(lengths) > 1 and not pairs and length < options.least_snapshots:
            raise ValueError(
                f"X[{i}] has {length} snapshots; a trajectory needs at least "
                f"{options.least_snapshots}"
            )


def pose(
    snapshots: Snapshots,
    gram: NDArray[Any],
    *,
    pairs: bool,
    times: ArrayLike | None,
    dt: float,
    factor: NDArray[np.float64] | None = None,
) -> Problem:
    """Describe the snapshots by their inner products and by which columns belong together."""
    ends = np.cumsum([0, *snapshots.lengths]).tolist()
    segments = () if pairs or len(ends) == 2 else tuple(itertools.pairwise(ends))
    stamps = None if times is None else np.asarray(times, dtype=np.float64)
    if stamps is not None and stamps.shape != (ends[-1],):
        raise ValueError(f"times has shape {stamps.shape}; expected ({ends[-1]},)")
    return Problem(gram, segments, pairs, snapshots.n_features, stamps, dt, factor)


def solve(
    snapshots: Snapshots, problem: Problem, options: FitOptions, solver: str
) -> tuple[Problem, Fitted]:
    """Fit through the Gram matrix, and through a triangular factor where that is not enough."""
    if solver != "qr":
        fitted = fit(problem, options)
        if solver == "gram" or snapshots.dtype != np.float64 or _resolved(fitted, options):
            return problem, fitted
    factor = snapshots.factor()
    problem = replace(problem, gram=factor.T @ factor, factor=factor)
    return problem, fit(problem, options)


def _resolved(fitted: Fitted, options: FitOptions) -> bool:
    """Whether the Gram matrix shows all directions that the options ask for, well enough."""
    sigma, kept = fitted.core.singular_values, fitted.core.coordinates().shape[0]
    if kept == 0 or sigma[0] == 0.0:
        return True
    wanted = options.max_rank or len(sigma)
    if options.energy < 1.0 or options.rule:
        wanted = kept  # these rules look at the large singular values
    cut_by_solver = kept < wanted and options.tolerance < GRAM_RESOLVES
    return not cut_by_solver and bool(sigma[kept - 1] >= GRAM_RESOLVES * sigma[0])
