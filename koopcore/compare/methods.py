"""What may be wrapped around a training loop: one small class per method.

A method has a `name` and an `attach(problem, optimizer)` that returns a context manager. Inside
it the loop runs unchanged; what the context yields, a `Meter`, tells what the method has done so
far, so that the protocol can charge for it. A new method (an average, a control) is a new class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from .workloads import Problem


class Meter(Protocol):
    """What a method has done since it was attached.

    Attributes
    ----------
    trials : int
        Evaluations of the trial loss.
    seconds : float
        Time the method itself reports; for information, the protocol has its own clock.
    jumps : sequence
        Attempts in time order, each with `step`, `horizon`, `loss_before`, `loss_after`, `taken`.
    """

    @property
    def trials(self) -> int: ...  # noqa: D102

    @property
    def seconds(self) -> float: ...  # noqa: D102

    @property
    def jumps(self) -> Sequence[Any]: ...  # noqa: D102


class Method(Protocol):
    """A named way of training; see the module's docstring."""

    name: str

    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> AbstractContextManager[Meter]:
        """Return a context in which the method acts on the problem's model."""
        ...


@dataclass(frozen=True)
class _Idle:
    """The meter of a method that does nothing."""

    trials: int = 0
    seconds: float = 0.0
    jumps: tuple = ()


class Bare:
    """The optimizer alone: it sets the target that the other methods have to reach."""

    name = "bare"

    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> AbstractContextManager[Meter]:
        """Return a context that leaves the loop alone."""
        return nullcontext(_Idle())


class _KoopcoreMeter:
    """Reads the counters of a KoopmanAccelerator."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    @property
    def trials(self) -> int:
        return self._accelerator.stats.trials

    @property
    def seconds(self) -> float:
        return self._accelerator.stats.seconds

    @property
    def jumps(self) -> Sequence[Any]:
        return self._accelerator.jumps


class Koopcore:
    """The optimizer with `koopcore.torch.KoopmanAccelerator` at its default settings."""

    name = "koopcore"

    @contextmanager
    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> Iterator[_KoopcoreMeter]:
        """Return a context in which the accelerator is hooked into the optimizer."""
        from koopcore.torch import KoopmanAccelerator

        with KoopmanAccelerator(
            problem.model, optimizer, trial_loss=problem.trial_loss
        ) as accelerator:
            yield _KoopcoreMeter(accelerator)
