"""The runs of a comparison reduced over the seeds: ratios to bare, intervals, misses, verdict."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from ..registry import AVERAGES, OURS, PUBLISHED, RULES
from ..results import COLUMNS, Comparison, Run
from ..statistics import Ratio, SignTest, median_ratio, sign_test


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
    steps_signs, seconds_signs : SignTest
        Against bare on the same seed; won means earlier at the target.
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
    violated : int
        Runs that broke a rule or stopped with an error; they are misses.
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
    steps_signs: SignTest
    seconds_signs: SignTest
    misses: int
    seeds: int
    overfitted: int
    worse: int
    final_loss: float
    accuracy: float | None
    taken: float
    refused: float
    violated: int


Groups = dict[tuple[str, str], dict[str, list[Run]]]


def scored(comparison: Comparison) -> list[Run]:
    """Return the runs as they count: those with violations are infinite everywhere."""
    return [_void(run) if run.violations else run for run in comparison.runs]


def _void(run: Run) -> Run:
    """Return the run with infinite times and losses, and an accuracy of 0."""
    worst = {column: math.inf for column in COLUMNS.values()} | {"heldout_accuracy": 0.0}
    curve = {k: [worst[k]] * len(v) if k in worst else v for k, v in run.curve.items()}
    scores = {k: replace(v, steps=math.inf, seconds=math.inf) for k, v in run.scores.items()}
    return replace(run, curve=curve, scores=scores)


def families(comparison: Comparison) -> dict[str, str]:
    """Return what each method is called where optimizers and workloads are put together.

    A rival is tuned for each of them, so ``ema:0.9`` here is ``ema:0.98`` there: the number is
    dropped, unless two numbers of one rival stand beside each other somewhere.
    """
    found = {run.method: _without_number(run.method) for run in comparison.runs}
    for methods in groups(comparison).values():
        counts = Counter(found[method] for method in methods)
        found |= {method: method for method in methods if counts[found[method]] > 1}
    # A number that is kept in one place is kept in all.
    kept = {_without_number(method) for method, name in found.items() if method == name}
    return {m: m if name in kept else name for m, name in found.items()}


def _without_number(method: str) -> str:
    name, _, value = method.partition(":")
    try:
        float(value)
    except ValueError:
        return method
    return name


def groups(comparison: Comparison) -> Groups:
    """Return the runs by (workload, optimizer) and method, in order, as they count."""
    found: Groups = {}
    for run in scored(comparison):
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
        steps_signs=sign_test(paired(runs, bare, target, "steps")),
        seconds_signs=sign_test(paired(runs, bare, target, "seconds")),
        misses=sum(math.isinf(score.steps) for score in scores),
        seeds=len(runs),
        overfitted=sum(overfitted(run) for run in bare),
        worse=_worse(runs, bare, column),
        final_loss=median(run.final(column) for run in runs),
        accuracy=None if None in accuracies else median(accuracies),
        taken=median(run.taken for run in runs),
        refused=median(run.refused for run in runs),
        violated=sum(bool(run.violations) for run in runs),
    )


def overfitted(bare: Run) -> bool:
    """Tell whether the last quarter of the budget brought no lower held-out loss."""
    if "heldout@100" not in bare.scores:
        return False
    return bare.scores["heldout@75"].target <= bare.scores["heldout@100"].target


def paired(
    runs: Sequence[Run], others: Sequence[Run], target: str, field: str
) -> list[tuple[float, float]]:
    """Return the ``steps`` or ``seconds`` to a target of both on every seed that both ran on."""
    by_seed = {run.seed: getattr(run.scores[target], field) for run in others}
    return [
        (getattr(run.scores[target], field), by_seed[run.seed])
        for run in runs
        if run.seed in by_seed
    ]


def ratio_of(runs: Sequence[Run], others: Sequence[Run], target: str, field: str) -> Ratio:
    """Return the ratio of the runs' ``steps`` or ``seconds`` to the others' on the same seeds."""
    return median_ratio(paired(runs, others, target, field))


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
    """Return bare and the best average, rule and published method; nothing without one of these."""

    def to_bare(name: str) -> float:
        return ratio_of(methods[name], methods["bare"], target, "steps").median

    best = []
    for kind in (AVERAGES, RULES, PUBLISHED):
        rivals = [name for name in methods if name.partition(":")[0] in kind]
        best += [min(rivals, key=to_bare)] if rivals else []
    return ["bare", *best] if best else []
