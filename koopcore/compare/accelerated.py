"""koopcore's accelerator and its forecasts for evaluation, rivals' rules in it, and a control."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .methods import Idle

if TYPE_CHECKING:
    import torch

    from koopcore.torch import KoopmanAccelerator

    from .workloads import Problem


def koopcore_context(
    problem: Problem, optimizer: torch.optim.Optimizer, **options: Any
) -> AbstractContextManager[KoopmanAccelerator]:
    """Return the accelerator as a user of this kind of problem would make it.

    Parameters
    ----------
    problem : Problem
        Its `preset` names the accelerator's class method.
    optimizer : torch.optim.Optimizer
    **options
        Further arguments, such as ``rule``.
    """
    from koopcore.torch import KoopmanAccelerator

    make = getattr(KoopmanAccelerator, problem.preset, KoopmanAccelerator)
    # Stated, not measured, so that a run decides alike whatever else the machine does.
    trial_cost = problem.trial_size / (3 * problem.batch_size)
    options = {"trial_loss": problem.trial_loss, "trial_cost": trial_cost, **options}
    return make(problem.model, optimizer, **options)


class _AcceleratorMeter:
    """Reads the counters of a KoopmanAccelerator."""

    def __init__(self, accelerator: KoopmanAccelerator) -> None:
        self._accelerator = accelerator
        # What the preset for mini-batches keeps for evaluation; the trained model without.
        averaged = accelerator.averaged
        self.evaluated = None if averaged is None else averaged.module

    @property
    def seconds(self) -> float:
        return self._accelerator.stats.seconds

    @property
    def jumps(self) -> Sequence[Any]:
        return self._accelerator.history


class Koopcore:
    """The optimizer with `koopcore.torch.KoopmanAccelerator`, by the preset of the problem.

    Parameters
    ----------
    name : str
    **options
        Arguments beyond the preset.
    """

    def __init__(self, name: str = "koopcore", **options: Any) -> None:
        self.name = name
        self._options = options

    @contextmanager
    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> Iterator[_AcceleratorMeter]:
        """Return a context in which the accelerator is hooked into the optimizer."""
        with koopcore_context(problem, optimizer, **self._options) as accelerator:
            yield _AcceleratorMeter(accelerator)


class Rule(Koopcore):
    """A rival's rule of `koopcore.rules` in the same machinery: window, ladder, trial, roll-back.

    Rules forecast trajectories of weights, so that a preset that observes gradients gives way to
    ten snapshots, five steps apart.
    """

    def __init__(self, name: str, rule: Any) -> None:
        super().__init__(name, rule=rule)

    @contextmanager
    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> Iterator[_AcceleratorMeter]:
        """Return a context in which the accelerator is hooked into the optimizer."""
        options = dict(self._options)
        if problem.preset == "full_batch":
            options |= {"observe": "weights", "window": 10, "every": 5}
        with koopcore_context(problem, optimizer, **options) as accelerator:
            yield _AcceleratorMeter(accelerator)


class Forecast:
    """The optimizer alone, and `koopcore.torch.ForecastModel` for evaluation.

    The choice is by the loss on kept samples, by the trial loss where there are none.

    Parameters
    ----------
    every : int
        Steps between choices; in between, the present weights are evaluated. Only choices at
        steps at which the harness evaluates can be seen.
    """

    def __init__(self, every: int) -> None:
        self.name = f"forecast:{every:d}"
        self._every = every

    @contextmanager
    def attach(self, problem: Problem, optimizer: torch.optim.Optimizer) -> Iterator[Idle]:
        """Return a context in which the forecasts follow the optimizer."""
        from koopcore.torch import ForecastModel

        best = ForecastModel(problem.model, problem.heldout_trial_loss or problem.trial_loss)

        def hook(*_args) -> None:
            best.update_parameters(problem.model)
            if best.steps % self._every == 0:
                best.choose()

        handle = optimizer.register_step_post_hook(hook)
        try:
            yield Idle(evaluated=best.module)
        finally:
            handle.remove()


class Identity(Koopcore):
    """A control: all the work of the accelerator, and no change.

    Every trial is evaluated and then taken for 0, so that no forecast is better than what is.
    """

    def __init__(self) -> None:
        super().__init__("identity")

    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> AbstractContextManager[_AcceleratorMeter]:
        """Return a context in which the accelerator is hooked and refuses all it finds."""
        trial_loss = problem.trial_loss
        blind = replace(problem, trial_loss=lambda model: 0.0 * trial_loss(model))
        return super().attach(blind, optimizer)
