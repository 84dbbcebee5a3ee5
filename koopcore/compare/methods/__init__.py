"""What may be wrapped around a training loop: the protocol, and the optimizer alone.

A method has a `name` and an `attach(problem, optimizer)` that returns a context manager. Inside
it the loop runs unchanged; what the context yields, a `Meter`, tells what the method has done so
far and which model it offers for evaluation. A method works in hooks of the optimizer's step, so
that all its work is on the clock; what it evaluates by the problem's trial losses is counted there.
The others: `accelerated`, `averages`, `wrapped`, `masked`, `published`, `controls`; by their
names: `registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from ..workloads import Problem


class Meter(Protocol):
    """What a method has done since it was attached, and what it offers.

    Attributes
    ----------
    seconds : float
        Time the method itself reports; for information, the protocol has its own clock.
    jumps : sequence
        Attempts in time order, each with `step`, `horizon`, `loss_before`, `loss_after`, `taken`.
    evaluated : torch.nn.Module or None
        The model to evaluate (an average, say). None: the one that is trained. Reading it is on
        the clock, so it may be formed then.
    optimizer : torch.optim.Optimizer or None
        What the loop steps instead of the optimizer that the method was given. None: that one.
    spectra : dict of lists
        Eigenvalues of some of the method's fits, as in `results.Run`.
    """

    @property
    def seconds(self) -> float: ...  # noqa: D102

    @property
    def jumps(self) -> Sequence[Any]: ...  # noqa: D102

    @property
    def evaluated(self) -> torch.nn.Module | None: ...  # noqa: D102

    @property
    def optimizer(self) -> torch.optim.Optimizer | None: ...  # noqa: D102

    @property
    def spectra(self) -> dict[str, list[Any]]: ...  # noqa: D102


class Method(Protocol):
    """A named way of training; see the module's docstring."""

    name: str

    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> AbstractContextManager[Meter]:
        """Return a context in which the method acts on the problem's model."""
        ...


@dataclass
class Idle:
    """The meter of a method that makes no jumps; averages set `evaluated`."""

    seconds: float = 0.0
    jumps: tuple = ()
    evaluated: torch.nn.Module | None = None
    optimizer: torch.optim.Optimizer | None = None
    spectra: dict[str, list[Any]] = field(default_factory=dict)


@contextmanager
def after_steps(optimizer: torch.optim.Optimizer, act: Callable[[], object]) -> Iterator[None]:
    """Return a context in which `act` is called after every step of the optimizer."""
    handle = optimizer.register_step_post_hook(lambda *_: act())
    try:
        yield
    finally:
        handle.remove()


class Bare:
    """The optimizer alone: it sets the target that the other methods have to reach."""

    name = "bare"

    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> AbstractContextManager[Meter]:
        """Return a context that leaves the loop alone."""
        return nullcontext(Idle())


class FasterRate:
    """A control: the optimizer alone at a multiple of its learning rate.

    A method that only makes steps longer, on purpose or by a slip, gains no more than this.

    Parameters
    ----------
    factor : float
        Of the learning rate of every group.
    """

    def __init__(self, factor: float) -> None:
        self.name = f"rate:{factor:g}"
        self._factor = factor

    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> AbstractContextManager[Meter]:
        """Return a context; the rates are changed at once, and for good."""
        for group in optimizer.param_groups:
            group["lr"] *= self._factor
        return nullcontext(Idle())
