"""The training loop, its charges, and the scores: time to what the bare optimizer reaches.

For each optimizer and seed:

1. The optimizer runs bare for the whole budget. The lowest training loss that an evaluation found
   within 75 % and within 100 % of the budget are the targets ``train@75`` and ``train@100``, the
   lowest held-out losses ``heldout@75`` and ``heldout@100``; all set before any other method has
   run. Where the last quarter of the budget brings no lower held-out loss, the bare run is
   overfitted: the target is then the minimum it came to before.
2. Every other method starts from the same weights and sees the same batches in the same order. It
   may go on to `GRACE` times the budget, so that a method that is a little slower is told from one
   that never gets there; final losses are those within the budget.
3. A score is the step-equivalents, and the seconds, at the first evaluation that finds the loss at
   or below the target; infinity if none does. The bare run is scored likewise.

A step-equivalent is one optimizer step (forward and backward pass, about three forward passes).
A trial, one forward pass, counts one third of a step times trial size / batch size, and a whole
one where its loss has a gradient. Snapshots, fits and averages need no pass through the model; they
are charged in the seconds, which run over everything between fetching a batch and the end of the
optimizer's step, hooks included. The evaluations that the score rests on come every
`Workload.evaluate_every` optimizer steps, off the clock, for all alike, and are of the model that
the method offers: the trained one, or its average.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch

from . import registry
from .baselines import learning_rate, make_optimizer
from .methods import Bare, Meter, Method
from .results import COLUMNS, Run, Score
from .workloads import Problem, Workload

GRACE = 1.1
SHARES = (75, 100)  # per cent of the bare run's budget at which its best losses are the targets


class _Trials:
    """Stands in for the trial losses of a problem and counts what they cost, whoever calls."""

    def __init__(self, problem: Problem) -> None:
        self.count, self.step_equivalents = 0, 0.0
        problem.trial_loss = self._counted(
            problem.trial_loss, problem.trial_size / problem.batch_size
        )
        if problem.heldout_trial_loss is not None:
            problem.heldout_trial_loss = self._counted(
                problem.heldout_trial_loss, problem.heldout_trial_size / problem.batch_size
            )

    def _counted(self, loss: Callable, batches: float) -> Callable:
        def trial(model: torch.nn.Module) -> torch.Tensor:
            value = loss(model)
            self.count += 1
            # A loss with a gradient may be followed by a backward pass, which we would not see.
            self.step_equivalents += batches if value.requires_grad else batches / 3
            return value

        return trial


class _Recorder:
    """Keeps the curve and the jumps of one run; nothing here is on the clock."""

    def __init__(self, problem: Problem, meter: Meter, trials: _Trials) -> None:
        self._problem, self._meter, self._trials = problem, meter, trials
        self._n_seen = 0
        self.curve: dict[str, list[float]] = {}
        fields = ("step", "step_equivalents", "horizon", "loss_before", "loss_after")
        self.jumps: dict[str, list[float]] = {name: [] for name in fields}
        self.refused = 0

    def step_equivalents(self, step: int) -> float:
        return step + self._trials.step_equivalents

    def note_jumps(self, step: int) -> None:
        """Record the attempts made since the last call."""
        attempts = self._meter.jumps
        for jump in attempts[self._n_seen :]:
            if not jump.taken:
                self.refused += 1
                continue
            self.jumps["step_equivalents"].append(self.step_equivalents(step))
            for name in ("step", "horizon", "loss_before", "loss_after"):
                self.jumps[name].append(getattr(jump, name))
        self._n_seen = len(attempts)

    def evaluate(self, step: int, seconds: float) -> bool:
        """Append a point to the curve; return whether the training loss is still finite."""
        offered = self._meter.evaluated
        figures = self._problem.evaluate(self._problem.model if offered is None else offered)
        point = {
            "step": step,
            "step_equivalents": self.step_equivalents(step),
            "seconds": seconds,
            **{k: v if math.isfinite(v) else math.inf for k, v in figures.items()},
        }
        for name, value in point.items():
            self.curve.setdefault(name, []).append(value)
        return math.isfinite(figures["train_loss"])


def train(
    problem: Problem,
    optimizer: torch.optim.Optimizer,
    method: Method,
    budget: int,
    evaluate_every: int = 10,
    grace: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Train until the budget of step-equivalents is spent or the loss is no longer finite.

    Parameters
    ----------
    problem : Problem
        Used up: its model is trained, its batches are consumed, its trial losses are counted.
    optimizer : torch.optim.Optimizer
        Over the model's parameters.
    method : Method
        What is attached to the optimizer.
    budget : int
        Step-equivalents; the last state within them is evaluated.
    evaluate_every : int
        Optimizer steps between evaluations.
    grace : float
        The run ends at this multiple of the budget. A state that cost more is not evaluated.
    progress : callable, optional
        Called with the step-equivalents spent since its last call.

    Returns
    -------
    dict
        The measured fields of `Run`.
    """
    step, seconds, reported = 0, 0.0, 0.0
    trials, end = _Trials(problem), grace * budget
    with method.attach(problem, optimizer) as meter:
        record = _Recorder(problem, meter, trials)
        alive = record.evaluate(0, 0.0)
        while alive:
            start = perf_counter()
            batch = next(problem.batches)
            optimizer.zero_grad()
            problem.loss(problem.model, batch).backward()
            optimizer.step()
            seconds += perf_counter() - start
            step += 1
            record.note_jumps(step)
            spent = record.step_equivalents(step)
            last = spent + 1 > end  # there is no room for another step
            regular = step % evaluate_every == 0
            if spent <= end and (last or regular or spent <= budget < spent + 1):
                alive = record.evaluate(step, seconds)
            if progress and (last or not alive or regular):
                now = min(spent, budget) if alive else budget  # a run that died is done with
                progress(now - reported)
                reported = now
            if last:
                break
        return {
            "budget": budget,
            "curve": record.curve,
            "jumps": record.jumps,
            "taken": len(record.jumps["step"]),
            "refused": record.refused,
            "trials": trials.count,
            "overhead_seconds": meter.seconds,
        }


def targets(curve: dict[str, list[float]], budget: int) -> dict[str, float]:
    """Return the targets that a bare run's curve sets, by their names.

    All are infinity where the run diverged.
    """
    diverged = not math.isfinite(curve["train_loss"][-1])
    positions, found = curve["step_equivalents"], {}
    for kind, column in COLUMNS.items():
        for share in SHARES if column in curve else ():
            points = zip(positions, curve[column], strict=True)
            best = min(loss for at, loss in points if at <= share / 100 * budget)
            found[f"{kind}@{share}"] = math.inf if diverged else best
    return found


def first_reaching(
    curve: dict[str, list[float]], target: float, column: str = "train_loss"
) -> tuple[float, float]:
    """Return the step-equivalents and seconds of the first point at or below the target.

    Both are infinity if no point is, or if the target itself is not finite.
    """
    if math.isfinite(target):
        columns = (curve[column], curve["step_equivalents"], curve["seconds"])
        for loss, steps, seconds in zip(*columns, strict=True):
            if loss <= target:
                return steps, seconds
    return math.inf, math.inf


def score(run: Run, aims: dict[str, float]) -> Run:
    """Return the run with its times to the targets filled in."""
    scores = {}
    for name, target in aims.items():
        column = COLUMNS[name.partition("@")[0]]
        scores[name] = Score(target, *first_reaching(run.curve, target, column))
    return replace(run, scores=scores)


def run_methods(
    workload: Workload,
    optimizer: str,
    seed: int,
    budget: int,
    methods: Sequence[str | Method] = ("koopcore",),
    progress: Callable[[float], None] | None = None,
) -> list[Run]:
    """Run the bare optimizer and then each method on one seed; return their scored runs.

    Parameters
    ----------
    workload : Workload
    optimizer : str
        A name of `baselines`; it runs at its stated learning rate.
    seed, budget : int
    methods : sequence of str or Method
        By their names in `registry`, with values.
    progress : callable, optional
        As in `train`.
    """
    rate = learning_rate(workload.name, optimizer)
    runs: list[Run] = []
    aims: dict[str, float] = {}
    for chosen in (Bare(), *methods):
        method = registry.make(chosen, budget) if isinstance(chosen, str) else chosen
        problem = workload.build(seed)
        base = make_optimizer(optimizer, problem.model.parameters(), rate)
        grace = GRACE if runs else 1.0
        measured = train(problem, base, method, budget, workload.evaluate_every, grace, progress)
        run = Run(workload.name, optimizer, method.name, seed, rate, **measured)
        if not runs:
            aims = targets(run.curve, budget)
        runs.append(score(run, aims))
    return runs
