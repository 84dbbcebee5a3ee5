"""Methods that jump: koopcore's accelerator, its machinery with rivals' rules, and a control."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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

    evaluated = None

    def __init__(self, accelerator: KoopmanAccelerator) -> None:
        self._accelerator = accelerator

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
        Arguments beyond the preset. ``rule=Secant(over=None)`` or ``rule=Anderson()``, of
        `koopcore.rules`, put a rival's forecast in the same window, ladder and trial.
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
