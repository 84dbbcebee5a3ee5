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
one where its loss has a gradient; so does any other pass that a method makes. Every call of the
closure of L-BFGS counts as a step. Snapshots, fits and averages need no pass through the model;
they are charged in the seconds, which run over everything between fetching a batch and the end of
the optimizer's step, hooks included, and over all else that a method does (see `watch`). A run
that breaks the rules or stops with an error is scored infinity. The evaluations that the score
rests on come every `Workload.evaluate_every` optimizer steps, off the clock, for all alike, and
are of the model that the method offers: the trained one, or its average.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from . import registry
from .baselines import learning_rate, make_optimizer
from .methods import Bare, Idle, Meter, Method
from .results import COLUMNS, Run, Score
from .watch import RuleBroken, Watch
from .workloads import Problem, Workload

GRACE = 1.1
SHARES = (75, 100)  # per cent of the bare run's budget at which its best losses are the targets


class _Recorder:
    """Keeps the curve and the jumps of one run; but for what it reads, nothing is on the clock."""

    def __init__(self, watch: Watch, progress: Callable[[float], None] | None) -> None:
        self.meter: Meter = Idle()
        self.step = 0
        self._watch, self._progress = watch, progress
        self._n_seen, self._reported = 0, 0.0
        self._curve: dict[str, list[float]] = {}
        fields = ("step", "step_equivalents", "horizon", "loss_before", "loss_after")
        self._jumps: dict[str, list[float]] = {name: [] for name in fields}
        self._refused = 0

    @property
    def spent(self) -> float:
        """Step-equivalents so far."""
        return self.step + self._watch.extra

    def note_step(self) -> float:
        """Record a step and the attempts made in it; return the step-equivalents so far."""
        self.step += 1
        attempts = self._watch.timed(lambda: self.meter.jumps)
        for jump in attempts[self._n_seen :]:
            if not jump.taken:
                self._refused += 1
                continue
            self._jumps["step"].append(self.step)
            self._jumps["step_equivalents"].append(self.spent)
            for name in ("horizon", "loss_before", "loss_after"):
                self._jumps[name].append(getattr(jump, name))
        self._n_seen = len(attempts)
        return self.spent

    def evaluate(self) -> bool:
        """Append a point to the curve; return whether the training loss is still finite."""
        offered = self._watch.timed(lambda: self.meter.evaluated)
        figures = self._watch.evaluate(offered)
        point = {
            "step": self.step,
            "step_equivalents": self.spent,
            "seconds": self._watch.seconds,
            **{k: v if math.isfinite(v) else math.inf for k, v in figures.items()},
        }
        for name, value in point.items():
            self._curve.setdefault(name, []).append(value)
        return math.isfinite(figures["train_loss"])

    def report(self, spent: float) -> None:
        """Tell the progress."""
        if self._progress:
            self._progress(spent - self._reported)
            self._reported = spent

    def give_up(self, budget: int) -> None:
        """Fill in what a run that was stopped lacks."""
        if not self._curve:
            self.evaluate()
        self.report(budget)

    @property
    def measured(self) -> dict[str, Any]:
        """The measured fields of `Run` but for its budget."""
        return {
            "curve": self._curve,
            "jumps": self._jumps,
            "taken": len(self._jumps["step"]),
            "refused": self._refused,
            "trials": self._watch.trials,
            "overhead_seconds": self.meter.seconds,
            "violations": list(dict.fromkeys(self._watch.violations)),
            "spectra": self.meter.spectra,
        }


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
    watch = Watch(problem)
    record = _Recorder(watch, progress)
    try:
        with ExitStack() as stack:
            meter = watch.timed(lambda: stack.enter_context(method.attach(watch.sealed, optimizer)))
            record.meter = meter
            stepped = meter.optimizer or optimizer
            # A step with a line search costs many: its end is the only place to look.
            every = 1 if isinstance(stepped, torch.optim.LBFGS) else evaluate_every
            _loop(_step_of(problem, stepped, watch), record, budget, every, grace * budget)
    except Exception as error:
        if isinstance(method, Bare):
            raise
        if not isinstance(error, RuleBroken):
            watch.violations.append(f"stopped by {type(error).__name__}: {error}")
        record.give_up(budget)
    finally:
        watch.close()
    return record.measured | {"budget": budget}


def _loop(step: Callable, record: _Recorder, budget: int, evaluate_every: int, end: float) -> None:
    alive = record.evaluate()
    while alive:
        step()
        spent = record.note_step()
        last = spent + 1 > end  # there is no room for another step
        regular = record.step % evaluate_every == 0
        if spent <= end and (last or regular or spent <= budget < spent + 1):
            alive = record.evaluate()
        if last or not alive or regular:
            record.report(min(spent, budget) if alive else budget)  # a run that died is done with
        if last:
            return


def _step_of(problem: Problem, optimizer: torch.optim.Optimizer, watch: Watch) -> Callable:
    """Return what makes one optimizer step and takes its time."""
    model = problem.model

    def passes(batch: Any) -> torch.Tensor:
        optimizer.zero_grad()
        loss = watch.foreseen(problem.loss, model, batch)
        loss.backward()
        return loss

    def plain() -> None:
        batch = next(problem.batches)
        passes(batch)
        optimizer.step()

    def line_search() -> None:
        batch, calls = next(problem.batches), 0

        def closure() -> torch.Tensor:
            nonlocal calls
            calls += 1
            return passes(batch)

        optimizer.step(closure)
        watch.extra += calls - 1  # every call is a forward and a backward pass

    chosen = line_search if isinstance(optimizer, torch.optim.LBFGS) else plain
    return lambda: watch.timed(chosen)


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
    """Return the run with its times to the targets filled in; infinity if it broke a rule."""
    scores = {}
    for name, target in aims.items():
        column = COLUMNS[name.partition("@")[0]]
        reached = first_reaching(run.curve, target, column)
        scores[name] = Score(target, *((math.inf, math.inf) if run.violations else reached))
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
        # A method that takes the place of schedules would read a rate that is still warming up.
        if problem.schedule is not None and not getattr(method, "own_schedule", False):
            problem.schedule(base, budget)
        grace = GRACE if runs else 1.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # for what a method draws
            measured = train(
                problem, base, method, budget, workload.evaluate_every, grace, progress
            )
        run = Run(workload.name, optimizer, method.name, seed, rate, **measured)
        if not runs:
            aims = targets(run.curve, budget)
        runs.append(score(run, aims))
    return runs
