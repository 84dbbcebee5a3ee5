"""Performance profiles (Dolan and More 2002): how often a method is nearly the fastest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from ..results import Comparison, Run
from .summary import families, scored

MAX_TAU = 4.0


@dataclass(frozen=True)
class Profile:
    """Performance profiles of all methods to one target.

    Attributes
    ----------
    target : str
        Such as ``train@100``.
    ratios : dict of lists
        By method (its family's name, see `summary.families`): its time over that of the fastest
        method, sorted, one entry per instance on which anybody arrived; infinity for a miss.
    instances, left_out : int
        Workload, optimizer and seed on which some method arrived, or none did.
    not_run : dict of int
        By method: the instances that it did not run on and so has missed.
    """

    target: str
    ratios: dict[str, list[float]]
    instances: int
    left_out: int
    not_run: dict[str, int]

    def share(self, method: str, tau: float) -> float:
        """Return the share of the instances that the method took at most `tau` of the best on."""
        return sum(ratio <= tau for ratio in self.ratios[method]) / self.instances


def profile(comparison: Comparison, target: str, field: str = "seconds") -> Profile:
    """Return the performance profiles to one target over all instances of a comparison.

    A method that did not run on an instance has missed there.

    Parameters
    ----------
    comparison : Comparison
    target : str
        Workloads without it are left out.
    field : str
        ``seconds`` or ``steps``.
    """
    names = families(comparison)
    ratios: dict[str, list[float]] = {name: [] for name in names.values()}
    not_run = dict.fromkeys(ratios, 0)
    left_out = 0
    for runs in _instances(comparison, target):
        times = {names[run.method]: getattr(run.scores[target], field) for run in runs}
        best = min(times.values())
        if math.isinf(best):
            left_out += 1
            continue
        for name, found in ratios.items():
            found.append(_over(times.get(name, math.inf), best))
            not_run[name] += name not in times
    instances = len(next(iter(ratios.values()))) if ratios else 0
    ordered = {name: sorted(found) for name, found in ratios.items()}
    return Profile(target, ordered, instances, left_out, not_run)


def _instances(comparison: Comparison, target: str) -> list[Sequence[Run]]:
    def key(run: Run) -> tuple[str, str, int]:
        return run.workload, run.optimizer, run.seed

    runs = sorted((run for run in scored(comparison) if target in run.scores), key=key)
    return [list(found) for _, found in groupby(runs, key)]


def _over(time: float, best: float) -> float:
    """Return the ratio to the best time, which may be 0: the start was good enough."""
    if best > 0:
        return time / best
    return 1.0 if time == 0 else math.inf
