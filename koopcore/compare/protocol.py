"""The training loop, its charges, and the score: time to the bare optimizer's final loss.

For each optimizer and seed:

1. The optimizer runs bare for the whole budget; its final training loss is the target, set
   before any other method has run.
2. Every other method starts from the same weights, sees the same batches in the same order, and
   stops at the same budget of step-equivalents.
3. The score is the step-equivalents, and the seconds, at the first evaluation that finds the
   training loss at or below the target; infinity if none does. The bare run is scored likewise.

A step-equivalent is one optimizer step (forward and backward pass, about three forward passes).
A trial, one forward pass, counts one third of a step times trial size / batch size. Snapshots and
fits need no pass through the model; they are charged in the seconds, which run over everything
between fetching a batch and the end of the optimizer's step, hooks included. The evaluations that
the score rests on come every `EVALUATE_EVERY` optimizer steps, off the clock, for all alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch

from .baselines import learning_rate, make_optimizer
from .methods import Bare, Koopcore, Meter, Method
from .results import Run
from .workloads import Problem, Workload

EVALUATE_EVERY = 10


class _Recorder:
    """Keeps the curve and the jumps of one run; nothing here is on the clock."""

    def __init__(self, problem: Problem, meter: Meter) -> None:
        self._problem, self._meter = problem, meter
        self._charge = problem.trial_size / (3 * problem.batch_size)
        self._n_seen = 0
        self.curve: dict[str, list[float]] = {}
        fields = ("step", "step_equivalents", "horizon", "loss_before", "loss_after")
        self.jumps: dict[str, list[float]] = {name: [] for name in fields}
        self.refused = 0

    def step_equivalents(self, step: int) -> float:
        return step + self._meter.trials * self._charge

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
        figures = self._problem.evaluate(self._problem.model)
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
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Train until the budget of step-equivalents is spent or the loss is no longer finite.

    Parameters
    ----------
    problem : Problem
        Used up: its model is trained and its batches are consumed.
    optimizer : torch.optim.Optimizer
        Over the model's parameters.
    method : Method
        What is attached to the optimizer.
    budget : int
        Step-equivalents. A state that cost more than this is not evaluated.
    progress : callable, optional
        Called with the step-equivalents spent since its last call.

    Returns
    -------
    dict
        The measured fields of `Run`.
    """
    step, seconds, reported = 0, 0.0, 0.0
    with method.attach(problem, optimizer) as meter:
        record = _Recorder(problem, meter)
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
            last = spent + 1 > budget  # there is no room for another step
            if spent <= budget and (last or step % EVALUATE_EVERY == 0):
                alive = record.evaluate(step, seconds)
            if progress and (last or not alive or step % EVALUATE_EVERY == 0):
                progress(min(spent, budget) - reported)
                reported = min(spent, budget)
            if last:
                break
        return {
            "curve": record.curve,
            "jumps": record.jumps,
            "taken": len(record.jumps["step"]),
            "refused": record.refused,
            "trials": meter.trials,
            "overhead_seconds": meter.seconds,
        }


def first_reaching(curve: dict[str, list[float]], target: float) -> tuple[float, float]:
    """Return the step-equivalents and seconds of the first point at or below the target.

    Both are infinity if no point is, or if the target itself is not finite.
    """
    if math.isfinite(target):
        columns = (curve["train_loss"], curve["step_equivalents"], curve["seconds"])
        for loss, steps, seconds in zip(*columns, strict=True):
            if loss <= target:
                return steps, seconds
    return math.inf, math.inf


def score(run: Run, target: float) -> Run:
    """Return the run with its time to the target filled in."""
    steps, seconds = first_reaching(run.curve, target)
    return replace(run, target=target, steps_to_target=steps, seconds_to_target=seconds)


def run_methods(
    workload: Workload,
    optimizer: str,
    seed: int,
    budget: int,
    methods: Sequence[Method] = (Koopcore(),),
    progress: Callable[[float], None] | None = None,
) -> list[Run]:
    """Run the bare optimizer and then each method on one seed; return their scored runs."""
    rate = learning_rate(workload.name, optimizer)
    runs: list[Run] = []
    target = math.inf
    for method in (Bare(), *methods):
        problem = workload.build(seed)
        base = make_optimizer(optimizer, problem.model.parameters(), rate)
        measured = train(problem, base, method, budget, progress)
        run = Run(workload.name, optimizer, method.name, seed, rate, **measured)
        if not runs:
            target = run.final("train_loss")
        runs.append(score(run, target))
    return runs
