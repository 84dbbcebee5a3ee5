"""The runs of a comparison reduced over the seeds: ratios to bare, intervals, misses, verdict."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from .registry import AVERAGES, OURS, RULES
from .results import COLUMNS, Comparison, Run

RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """Median over the seeds of a figure over the bare run's, and the bootstrap's 95 % interval.

    Infinity where the target was not reached, nan where there was none, since bare diverged.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """One workload, optimizer, method and target, reduced over the seeds.

    Attributes
    ----------
    bound : float
        The target, median over the seeds.
    steps, seconds : float
        Medians of the times to the target.
    steps_ratio, seconds_ratio : Ratio
        To bare on the same seed.
    misses, seeds : int
        Runs that never reached the target, out of so many.
    overfitted : int
        Seeds on which the last quarter of the bare run's budget brought no lower held-out loss.
    worse : int
        Runs whose final loss exceeds the bare run's by more than the bare runs' final losses
        differ among themselves (highest less lowest; 0 with one seed).
    final_loss : float
        Median final loss of the kind that the target is of.
    accuracy : float or None
        Median final accuracy on held-out data.
    taken, refused : float
        Medians of the jumps.
    """

    workload: str
    optimizer: str
    method: str
    learning_rate: float
    target: str
    bound: float
    steps: float
    seconds: float
    steps_ratio: Ratio
    seconds_ratio: Ratio
    misses: int
    seeds: int
    overfitted: int
    worse: int
    final_loss: float
    accuracy: float | None
    taken: float
    refused: float


Groups = dict[tuple[str, str], dict[str, list[Run]]]


def groups(comparison: Comparison) -> Groups:
    """Return the runs by (workload, optimizer) and method, in the order of the runs."""
    found: Groups = {}
    for run in comparison.runs:
        methods = found.setdefault((run.workload, run.optimizer), {})
        methods.setdefault(run.method, []).append(run)
    return found


def summarize(comparison: Comparison) -> list[Summary]:
    """Return one summary per workload, optimizer, target and method."""
    return [
        _summary(target, runs, methods["bare"])
        for methods in groups(comparison).values()
        for target in methods["bare"][0].scores
        for runs in methods.values()
    ]


def _summary(target: str, runs: Sequence[Run], bare: Sequence[Run]) -> Summary:
    column = COLUMNS[target.partition("@")[0]]
    scores = [run.scores[target] for run in runs]
    accuracies = [run.final("heldout_accuracy") for run in runs]
    return Summary(
        workload=runs[0].workload,
        optimizer=runs[0].optimizer,
        method=runs[0].method,
        learning_rate=runs[0].learning_rate,
        target=target,
        bound=median(score.target for score in scores),
        steps=median(score.steps for score in scores),
        seconds=median(score.seconds for score in scores),
        steps_ratio=ratio_of(runs, bare, target, "steps"),
        seconds_ratio=ratio_of(runs, bare, target, "seconds"),
        misses=sum(math.isinf(score.steps) for score in scores),
        seeds=len(runs),
        overfitted=sum(overfitted(run) for run in bare),
        worse=_worse(runs, bare, column),
        final_loss=median(run.final(column) for run in runs),
        accuracy=None if None in accuracies else median(accuracies),
        taken=median(run.taken for run in runs),
        refused=median(run.refused for run in runs),
    )


def overfitted(bare: Run) -> bool:
    """Tell whether the last quarter of the budget brought no lower held-out loss."""
    if "heldout@100" not in bare.scores:
        return False
    return bare.scores["heldout@75"].target <= bare.scores["heldout@100"].target


def ratio_of(runs: Sequence[Run], others: Sequence[Run], target: str, field: str) -> Ratio:
    """Return the ratio of the runs' ``steps`` or ``seconds`` to the others' on the same seeds.

    Where only the run misses the target, the ratio is infinity; where only the other does, 0.
    Seeds on which both do, or the other is there before any step, are left out.
    """
    by_seed = {run.seed: getattr(run.scores[target], field) for run in others}
    pairs = [(getattr(run.scores[target], field), by_seed[run.seed]) for run in runs]
    ratios = [a / b for a, b in pairs if b > 0 and not math.isinf(min(a, b))]
    if not ratios:
        return Ratio(math.nan, math.nan, math.nan)
    # A generator of its own with a fixed seed: the same runs always give the same interval.
    chosen = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    medians = np.sort(np.median(np.asarray(ratios)[chosen], axis=1))
    cut = round(0.025 * RESAMPLES)
    return Ratio(median(ratios), float(medians[cut]), float(medians[-1 - cut]))


def _worse(runs: Sequence[Run], bare: Sequence[Run], column: str) -> int:
    finals = {run.seed: run.final(column) for run in bare}
    finite = [loss for loss in finals.values() if math.isfinite(loss)]
    spread = max(finite) - min(finite) if finite else math.inf
    return sum(run.final(column) > finals[run.seed] + spread for run in runs)


@dataclass(frozen=True)
class Verdict:
    """Time of one of koopcore's methods to a target over that of bare or of its best rivals.

    The best one of a kind has the lowest median ratio of step-equivalents to bare, chosen after
    the runs, in its favour.
    """

    workload: str
    optimizer: str
    target: str
    method: str
    against: str
    steps: Ratio
    seconds: Ratio


def verdicts(comparison: Comparison) -> list[Verdict]:
    """Return the verdicts of each workload and optimizer on the targets at 100 % of the budget.

    Where neither koopcore's methods nor rivals ran, there are none.
    """
    found = []
    for (workload, optimizer), methods in groups(comparison).items():
        for target in methods["bare"][0].scores:
            if not target.endswith("@100"):
                continue
            for ours, against in itertools.product(
                [name for name in methods if name.partition(":")[0] in OURS],
                _to_stand_beside(methods, target),
            ):
                runs = methods[ours], methods[against]
                ratios = (ratio_of(*runs, target, field) for field in ("steps", "seconds"))
                found.append(Verdict(workload, optimizer, target, ours, against, *ratios))
    return found


def _to_stand_beside(methods: dict[str, list[Run]], target: str) -> list[str]:
    """Return bare, the best average and the best other rule; nothing without one of the latter."""

    def to_bare(name: str) -> float:
        return ratio_of(methods[name], methods["bare"], target, "steps").median

    best = []
    for kind in (AVERAGES, RULES):
        rivals = [name for name in methods if name.partition(":")[0] in kind]
        best += [min(rivals, key=to_bare)] if rivals else []
    return ["bare", *best] if best else []
