"""What keeps a method honest: a sealed problem, a clock over all its work, a count of its passes.

A method works inside the training loop, so it could look at the data that decide the comparison,
or work where no clock runs. `Watch` leaves no room for either: it hands out the problem without
its evaluation and its batches, runs the clock over everything that the method may do, and counts
forward passes at the model itself, whoever asks for them. What it cannot charge it notes as a
violation, and a run with any is scored infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter, process_time, thread_time
from typing import Any

import torch

from .workloads import Problem

# Work in other threads than the one on the clock: what is tolerated, for what Python itself does.
TOLERATED_SECONDS, TOLERATED_SHARE = 0.1, 0.02


class RuleBroken(RuntimeError):
    """A method used what it must not use."""


class _Sealed:
    """Stands where a method must not look; using it in any way is noted and ends the run."""

    def __init__(self, what: str, violations: list[str]) -> None:
        self._what, self._violations = what, violations

    def _broken(self, *_args: Any) -> Any:
        self._violations.append(f"used the {self._what}, which only the harness may")
        raise RuleBroken(self._violations[-1])

    __call__ = __iter__ = __next__ = _broken


class Watch:
    """Watches one run.

    Parameters
    ----------
    problem : Problem

    Attributes
    ----------
    sealed : Problem
        What the method gets.
    seconds : float
        On the clock so far.
    trials : int
        Evaluations of the trial losses.
    extra : float
        Step-equivalents beyond one per optimizer step: trials, and passes of any other kind.
    violations : list of str
    """

    def __init__(self, problem: Problem) -> None:
        self.seconds, self.trials, self.extra = 0.0, 0, 0.0
        self.violations: list[str] = []
        self._problem = problem
        self._foreseen = False  # the next forward pass is the loop's, a trial's or the harness's
        self.sealed = replace(
            problem,
            evaluate=_Sealed("evaluation on held-out data", self.violations),
            batches=_Sealed("training batches", self.violations),
            trial_loss=self._counted(problem.trial_loss, problem.trial_size),
        )
        if problem.heldout_trial_loss is not None:
            self.sealed.heldout_trial_loss = self._counted(
                problem.heldout_trial_loss, problem.heldout_trial_size
            )
        self._hook = problem.model.register_forward_pre_hook(self._pass_hook())
        self._elsewhere = process_time() - thread_time()

    def timed(self, function: Callable[[], Any]) -> Any:
        """Return the function's value; its time is the method's."""
        start = perf_counter()
        try:
            return function()
        finally:
            self.seconds += perf_counter() - start

    def foreseen(self, function: Callable, *args: Any) -> Any:
        """Return ``function(*args)``, whose forward passes are counted elsewhere or not at all."""
        outer, self._foreseen = self._foreseen, True
        try:
            return function(*args)
        finally:
            self._foreseen = outer

    def evaluate(self, offered: torch.nn.Module | None) -> dict[str, float]:
        """Return the figures of the offered model, off the clock, and see that no weight moves."""
        model = self._problem.model
        before = [p._version for p in model.parameters()]
        figures = self.foreseen(self._problem.evaluate, model if offered is None else offered)
        if [p._version for p in model.parameters()] != before:
            self.violations.append("changed the weights during an evaluation, off the clock")
        return figures

    def close(self) -> None:
        """Look for work in other threads, which the clock does not see."""
        self._hook.remove()
        elsewhere = process_time() - thread_time() - self._elsewhere
        allowed = TOLERATED_SECONDS + TOLERATED_SHARE * self.seconds
        # With several threads torch's own cannot be told from the method's.
        if torch.get_num_threads() == 1 and elsewhere > allowed:
            self.violations.append(f"worked {elsewhere:.2f} s in threads that no clock was over")

    def _counted(self, loss: Callable, n_samples: int) -> Callable:
        batches = n_samples / self._problem.batch_size

        def trial(model: torch.nn.Module) -> torch.Tensor:
            value = self.foreseen(loss, model)
            self.trials += 1
            # A loss with a gradient may be followed by a backward pass, which we would not see.
            self.extra += batches if value.requires_grad else batches / 3
            return value

        return trial

    def _pass_hook(self) -> Callable:
        # A plain function: copies of the model keep it, where a method would be copied with us.
        def charge(_module: torch.nn.Module, inputs: tuple) -> None:
            if self._foreseen:
                return
            first = inputs[0] if inputs else None
            n_samples = len(first) if torch.is_tensor(first) else self._problem.batch_size
            share = n_samples / self._problem.batch_size
            self.extra += share if torch.is_grad_enabled() else share / 3

        return charge
