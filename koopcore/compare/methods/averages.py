"""The averages of weights that users have today, as methods: EMA, SWA and LAWA.

Training is left alone; what is evaluated is the average. Its upkeep happens in the hook after the
optimizer's step and so is on the clock. The workloads have no BatchNorm, whose statistics an
average would have to refresh.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import Idle, after_steps

if TYPE_CHECKING:
    import torch
    from torch.optim.swa_utils import AveragedModel

    from ..workloads import Problem


class _Average:
    """Calls `update(step)` after every step; until it gives a model, the trained one counts."""

    name: str

    def update_of(self, problem: Problem):
        """Return ``update(step)``, which gives the averaged model, or None if there is none yet."""
        raise NotImplementedError

    @contextmanager
    def attach(self, problem: Problem, optimizer: torch.optim.Optimizer) -> Iterator[Idle]:
        """Return a context in which the average follows the optimizer."""
        update, meter, step = self.update_of(problem), Idle(), 0

        def act() -> None:
            nonlocal step
            step += 1
            meter.evaluated = update(step)

        with after_steps(optimizer, act):
            yield meter


def _updated(average: AveragedModel, model: torch.nn.Module) -> torch.nn.Module:
    average.update_parameters(model)
    return average.module


class EMA(_Average):
    """Exponential moving average of the weights after every step.

    Parameters
    ----------
    decay : float
        Weight of the past at each step.
    """

    def __init__(self, decay: float) -> None:
        self.name = f"ema:{decay:g}"
        self._decay = decay

    def update_of(self, problem: Problem):
        """Return the update; see `_Average`."""
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        average = AveragedModel(problem.model, multi_avg_fn=get_ema_multi_avg_fn(self._decay))
        return lambda _step: _updated(average, problem.model)


class SWA(_Average):
    """Equal average of the weights after every step since a share of the budget was spent.

    Parameters
    ----------
    start : float
        Share of the budget, between 0 and 1, before which nothing is averaged.
    budget : int
        Steps of the whole run.
    """

    def __init__(self, start: float, budget: int) -> None:
        self.name = f"swa:{start:g}"
        self._first = max(1, round(start * budget))

    def update_of(self, problem: Problem):
        """Return the update; see `_Average`."""
        from torch.optim.swa_utils import AveragedModel

        average = AveragedModel(problem.model)
        return lambda step: _updated(average, problem.model) if step >= self._first else None


class LAWA(_Average):
    """Equal average of the last checkpoints (Kaddour 2022, arXiv 2209.14981).

    Parameters
    ----------
    every : int
        Steps between checkpoints.
    count : int
        How many of them are kept; before there are so many, those there are count.
    """

    def __init__(self, every: int, count: int = 10) -> None:
        self.name = f"lawa:{every:d}"
        self._every, self._count = every, count

    def update_of(self, problem: Problem):
        """Return the update; see `_Average`."""
        import torch

        average = copy.deepcopy(problem.model)
        current = list(problem.model.parameters())
        mean = [p.data for p in average.parameters()]
        checkpoints: deque[list[torch.Tensor]] = deque(maxlen=self._count)

        @torch.no_grad()
        def update(step: int) -> torch.nn.Module | None:
            if step % self._every == 0:
                checkpoints.append([p.clone() for p in current])
                torch._foreach_zero_(mean)
                for checkpoint in checkpoints:
                    torch._foreach_add_(mean, checkpoint, alpha=1 / len(checkpoints))
            return average if checkpoints else None

        return update
