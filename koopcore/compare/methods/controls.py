"""Controls: what a method gains that only seems to do something.

The identity jump is in `accelerated`, the faster learning rate in `methods`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import Bare, Idle, after_steps
from .accelerated import Koopcore

if TYPE_CHECKING:
    import torch

    from ..workloads import Problem


class Null(Bare):
    """The bare optimizer under another name: must score 1.00, and shows what the harness costs."""

    name = "null"


class AveragingOnly(Koopcore):
    """The accelerator with averages of the past in the place of forecasts.

    `KoopmanAccelerator.averaging_only`, on full batches as on small ones: snapshots, trials and
    the average kept for evaluation are those of the preset for mini-batches. What koopcore gains
    beyond this is due to looking ahead.
    """

    def __init__(self) -> None:
        super().__init__("averaging-only", preset="averaging_only")


class Reset:
    """The optimizer's state reset every few steps, as after a jump, but without one.

    All of it goes: moments and step counts. A method that resets at its jumps gains nothing by the
    jumps if it gains no more than this.

    Parameters
    ----------
    every : int
        Steps between resets.
    """

    def __init__(self, every: int) -> None:
        self.name = f"reset:{every:d}"
        self._every = every

    @contextmanager
    def attach(self, problem: Problem, optimizer: torch.optim.Optimizer) -> Iterator[Idle]:
        """Return a context in which the state is reset after every so many steps."""
        step = 0

        def act() -> None:
            nonlocal step
            step += 1
            if step % self._every == 0:
                reset(optimizer)

        with after_steps(optimizer, act):
            yield Idle()


def reset(optimizer: torch.optim.Optimizer) -> None:
    """Put all of an optimizer's state back to that before its first step; no weight is touched."""
    from koopcore.torch._optimizer_state import reset_state

    reset_state(optimizer, [p for group in optimizer.param_groups for p in group["params"]])
