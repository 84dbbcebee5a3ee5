"""Rivals that step another optimizer than the given one: Lookahead and Schedule-Free.

Both are their libraries' own; the loop steps what `Meter.optimizer` names.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytorch_optimizer
import schedulefree
import torch

from . import Idle

if TYPE_CHECKING:
    from ..workloads import Problem

BETA = 0.9  # Schedule-Free: where between z and x the gradient is taken, its authors' default
WARM_UP = 0.05  # share of the budget in which Schedule-Free's rate rises to its full value


class Lookahead:
    """Lookahead (Zhang et al. 2019, arXiv 1907.08610) by ``pytorch_optimizer.Lookahead``.

    After every `k` steps of the given optimizer the slow weights move half of the way to its fast
    weights, which start anew from there. Its state is kept when they do, the paper's and the
    library's default. The slow weights are evaluated at all times, as in the paper, also between
    their moves. Differs from the paper in nothing but that no schedule is retuned for it.

    Parameters
    ----------
    k : int
        Steps between moves of the slow weights.
    alpha : float
        How far they go.
    """

    def __init__(self, k: int, alpha: float = 0.5) -> None:
        self.name = f"lookahead:{k:d}"
        self._k, self._alpha = k, alpha

    @contextmanager
    def attach(self, problem: Problem, optimizer: torch.optim.Optimizer) -> Iterator[Idle]:
        """Return a context whose optimizer moves the slow weights."""
        outer = pytorch_optimizer.Lookahead(optimizer, k=self._k, alpha=self._alpha)
        slow = copy.deepcopy(problem.model)
        # The library moves its slow weights in place: a model that holds them is always ready.
        for own, trained in zip(slow.parameters(), problem.model.parameters(), strict=True):
            if trained in outer.state:
                own.data = outer.state[trained]["slow_params"]
        yield Idle(evaluated=slow, optimizer=outer)


class ScheduleFree:
    """Schedule-Free learning (Defazio et al. 2024, arXiv 2405.15682) by ``schedulefree``.

    Adam and AdamW become ``AdamWScheduleFree`` with their weight decay, SGD with and without
    momentum ``SGDScheduleFree``, and all others are put in ``ScheduleFreeWrapper`` as they are,
    momentum of their own included. The average x is evaluated, formed from y and z as the library
    does it, but in a copy, so that an evaluation leaves training alone to the last bit. The rate
    rises over the first 5 % of the budget, as the authors advise; their wrapper has no such
    warm-up and runs without. A workload's own schedule of the rate does not act on it.

    Parameters
    ----------
    factor : float
        Of the given optimizer's learning rate, tuned without averaging; the authors advise higher
        ones. Where that has momentum, of its rate over ``1 - momentum``: the size of its steps.
    budget : int
        Steps of the whole run.
    """

    own_schedule = True  # the workload's, if it has one, is not to be set up beside it

    def __init__(self, factor: float, budget: int) -> None:
        self.name = f"schedule-free:{factor:g}"
        self._factor, self._warm_up = factor, round(WARM_UP * budget)

    @contextmanager
    def attach(self, problem: Problem, optimizer: torch.optim.Optimizer) -> Iterator[Any]:
        """Return a context whose optimizer is schedule-free."""
        made = self._made(optimizer)
        made.train()
        yield _Averaged(problem.model, made)

    def _made(self, optimizer: torch.optim.Optimizer) -> Any:
        common = {"warmup_steps": self._warm_up}
        if isinstance(optimizer, torch.optim.SGD):
            groups = self._groups(optimizer, ("weight_decay",))
            return schedulefree.SGDScheduleFree(groups, momentum=BETA, **common)
        if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
            groups = self._groups(optimizer, ("weight_decay", "eps"))
            for group, given in zip(groups, optimizer.param_groups, strict=True):
                group["betas"] = (BETA, given["betas"][1])
            return schedulefree.AdamWScheduleFree(groups, **common)
        for group in optimizer.param_groups:
            group["lr"] *= self._factor
        return _Wrapper(optimizer, momentum=BETA)

    def _groups(
        self, optimizer: torch.optim.Optimizer, kept: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        return [
            {
                "params": group["params"],
                "lr": self._factor * group["lr"] / (1.0 - group.get("momentum", 0.0)),
                **{name: group[name] for name in kept},
            }
            for group in optimizer.param_groups
        ]


class _Wrapper(schedulefree.ScheduleFreeWrapper):
    """Keeps z apart from the state of the wrapped optimizer.

    Most optimizers make their state at the first step where they find none, and would take z for
    it.
    """

    def __init__(self, base: torch.optim.Optimizer, momentum: float) -> None:
        super().__init__(base, momentum=momentum)
        self._own: defaultdict[torch.Tensor, dict[str, Any]] = defaultdict(dict)

    @property
    def state(self) -> defaultdict[torch.Tensor, dict[str, Any]]:
        return self._own


class _Averaged:
    """The meter of Schedule-Free: forms x when it is read.

    Parameters
    ----------
    model : torch.nn.Module
        At y.
    optimizer
        Has z in its state after its first step.
    """

    seconds, jumps = 0.0, ()

    def __init__(self, model: torch.nn.Module, optimizer: Any) -> None:
        self.optimizer, self.spectra = optimizer, {}
        self._copy = copy.deepcopy(model)
        self._pairs = list(zip(self._copy.parameters(), model.parameters(), strict=True))

    @property
    @torch.no_grad()
    def evaluated(self) -> torch.nn.Module:
        """The model at x, from ``y = beta x + (1 - beta) z``."""
        x, y = map(list, zip(*self._pairs, strict=True))
        torch._foreach_copy_(x, y)
        moved = [i for i, p in enumerate(y) if "z" in self.optimizer.state.get(p, ())]
        if moved:
            z = [self.optimizer.state[y[i]]["z"] for i in moved]
            torch._foreach_lerp_([x[i] for i in moved], z, 1.0 - 1.0 / BETA)
        return self._copy
