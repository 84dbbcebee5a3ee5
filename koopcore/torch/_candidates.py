"""The candidates of `ForecastModel` and their contest, on one loss and under equal conditions.

Each is put in its place in turn (parameters into a trial, buffers into the module that is shown)
and tried. It beats the present weights if its loss is lower or, where the loss is a vector, lower
by more than the noise; of those that do, the one with the lowest mean wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from koopcore.rules import Rule
from koopcore.torch._follower import Follower, Once, copy_into
from koopcore.torch._span import fit_in_span
from koopcore.torch.forecasts import RuleForecast
from koopcore.torch.trial import RefusedJump, Trial, choose_horizon, improves

CURRENT, FITTED = "current", "fitted"
_BEYOND = 1e100  # stands for a present loss that is not finite, which every finite one beats


@dataclass(frozen=True)
class Candidate:
    """One set of weights that was tried.

    Attributes
    ----------
    name : str
        "current", "EMA 0.98", "fitted", or the rule that made it.
    horizon : int
        Optimizer steps beyond the last snapshot; 0 where that means nothing.
    loss : float
        Mean trial loss; nan where the trial failed or gave no finite number.
    """

    name: str
    horizon: int
    loss: float


@dataclass(frozen=True)
class Selection:
    """What `ForecastModel.choose` found.

    Attributes
    ----------
    step : int
        Calls of `update_parameters` before it.
    name, horizon, loss
        Of the candidate chosen; "" where the trial of the present weights failed and the module
        was left as it was.
    loss_current : float
        Trial loss of the present weights.
    table : tuple of Candidate
        All that were tried, in this order.
    reason : str
        Why it was chosen.
    trials, fit_evaluations : int
        Evaluations of the trial loss, and of `fit_loss` with its gradient.
    seconds : float
        Duration.
    """

    step: int
    name: str
    horizon: int
    loss: float
    loss_current: float
    table: tuple[Candidate, ...]
    reason: str
    trials: int
    fit_evaluations: int
    seconds: float

    def __str__(self) -> str:
        """Return the table, the choice marked."""
        width = max([len(c.name) for c in self.table], default=0)
        lines = [f"step {self.step}: {self.reason}"]
        for c in self.table:
            mark = "*" if (c.name, c.horizon) == (self.name, self.horizon) else " "
            ahead = f"{c.horizon:>7,}" if c.horizon else " " * 7
            lines.append(f"{mark} {c.name:<{width}} {ahead} {c.loss:.6g}")
        return "\n".join(lines)


class Stage:
    """Where a candidate stands for its trial.

    Parameters
    ----------
    module : torch.nn.Module
        Shows the choice in the end. Its buffers change with every candidate, its parameters only
        with `commit`.
    follower : Follower
    loss : callable
        The trial loss.
    shared : bool
        As for `Trial`.
    """

    def __init__(self, module: nn.Module, follower: Follower, loss: Callable, shared: bool) -> None:
        self.module, self.follower = module, follower
        self.trial = self.trial_of(loss, shared)
        state = follower.state
        self._floating = [torch.empty_like(t) for t in state[len(follower.names) :]]
        self._tensors = [*self.trial.tensors, *self._floating]
        own, parameters = dict(module.named_buffers()), dict(module.named_parameters())
        self._shown = [own[name] for name in follower.buffer_names]
        self._targets = [parameters[name] for name in follower.names]
        self._before = [b.clone() for b in module.buffers()]
        copy_into(list(module.buffers()), follower.buffers)

    def trial_of(self, loss: Callable, shared: bool) -> Trial:
        """Return an empty trial of a loss."""
        names = self.follower.names
        state = self.follower.state[: len(names)]
        return Trial(self.module, dict(zip(names, state, strict=True)), loss, shared=shared)

    def put(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put a state in place."""
        copy_into(self._tensors, tensors)
        copy_into(self._shown, self._floating)

    def combine(self, coefficients: NDArray[np.float64]) -> None:
        """Put a combination of the snapshots in place."""
        self.follower.window.combine(coefficients, self._tensors)
        copy_into(self._shown, self._floating)

    def commit(self) -> None:
        """Make what is in place the parameters of the module."""
        copy_into(self._targets, self.trial.tensors)

    def undo(self) -> None:
        """Give the module its buffers back."""
        copy_into(list(self.module.buffers()), self._before)


class Contest:
    """Tries candidates and keeps the best."""

    def __init__(self, stage: Stage, once: Once) -> None:
        self.stage, self._once = stage, once
        self._here = np.empty(0)
        self.table: list[Candidate] = []
        self.fit_evaluations = 0
        self.best = Candidate(CURRENT, 0, math.nan)
        self._lowest, self._put_best = math.inf, lambda: None

    def enter_current(self) -> None:
        """Try the present weights; the first to be tried.

        Raises
        ------
        RefusedJump
            The trial loss raised or returned no number.
        """

        def put() -> None:
            self.stage.put(self.stage.follower.state)

        put()
        here = self.stage.trial.losses()
        self.best, self._put_best = Candidate(CURRENT, 0, float(here.mean())), put
        self.table.append(self.best)
        finite = bool(np.isfinite(here).all())
        self._here = here if finite else np.full(len(here), _BEYOND)
        self._lowest = float(self._here.mean())

    def enter(self, name: str, put: Callable[[], None]) -> None:
        """Try what `put` puts in place; a failure of it only means that it does not win."""
        loss = math.nan
        with _forgiving(name, self._once):
            put()
            if self.stage.trial.is_finite():
                losses = self.stage.trial.losses()
                loss = float(losses.mean())
                if improves(losses, self._here):
                    self._note(Candidate(name, 0, loss), put)
        self.table.append(Candidate(name, 0, loss))

    def enter_rule(self, rule: Rule, horizons: Sequence[int]) -> None:
        """Try the forecasts of a rule up the ladder of horizons (optimizer steps)."""
        follower, name = self.stage.follower, repr(rule)
        with _forgiving(name, self._once):
            forecast = self._fitted(rule)

            def put(horizon: int) -> None:
                self.stage.combine(forecast.coefficients(horizon / follower.every))

            choice = choose_horizon(self.stage.trial, put, horizons, here=self._here)
            for horizon, loss in zip(choice.tried, choice.losses, strict=True):
                self.table.append(Candidate(name, horizon, loss))
            if choice.horizon:
                best = Candidate(name, choice.horizon, choice.loss_best)
                self._note(best, lambda: put(choice.horizon))

    def enter_average(self, rule: Rule) -> None:
        """Try the combination of a rule that knows no horizon."""
        self.enter(repr(rule), lambda: self.stage.combine(self._fitted(rule).coefficients(0)))

    def enter_fitted(self, fit_loss: Callable, steps: int, shared: bool) -> None:
        """Try the point in the span of the snapshots that is best for another loss."""
        follower = self.stage.follower
        trial = self.stage.trial_of(fit_loss, shared)

        coefficients: list[NDArray[np.float64]] = []

        def put() -> None:
            if not coefficients:
                self.stage.put(follower.state)  # buffers while the fit runs
                found = fit_in_span(follower.window, follower.state, trial, steps, shared)
                coefficients.append(found)
            self.stage.combine(coefficients[0])

        self.enter(FITTED, put)
        self.fit_evaluations += trial.evaluations

    def settle(self) -> None:
        """Give the module the best candidate."""
        self._put_best()
        self.stage.commit()

    @cached_property
    def _grams(self) -> NDArray[np.float64]:
        return self.stage.follower.window.grams()

    def _fitted(self, rule: Rule) -> RuleForecast:
        follower = self.stage.follower
        return RuleForecast(follower.window, self._grams, follower.rows, rule)

    def _note(self, candidate: Candidate, put: Callable[[], None]) -> None:
        if candidate.loss < self._lowest:
            self.best, self._lowest, self._put_best = candidate, candidate.loss, put


@contextmanager
def _forgiving(name: str, once: Once) -> Iterator[None]:
    """Turn the failure of a candidate into one message."""
    try:
        yield
    except RefusedJump as refusal:
        once.warn(refusal.kind, f"{name}: {refusal.reason}", refusal.__cause__)
    except Exception as error:
        once.warn(f"{name} {type(error).__name__}", f"{name}: {error}", error)
