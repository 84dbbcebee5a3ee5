"""The learning-rate grid of the bare optimizers, run on a seed that no comparison uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import workloads
from .baselines import GRIDS, TUNING_SEED, make_optimizer
from .environment import pinned
from .methods import Bare
from .protocol import train


@dataclass(frozen=True)
class Trial:
    """One run of the bare optimizer: its rate, final training loss and lowest held-out loss."""

    optimizer: str
    rate: float
    train_loss: float
    heldout_loss: float | None


def tune(
    name: str,
    optimizers: Sequence[str],
    steps: int | None = None,
    threads: int = 1,
    rates: Sequence[float] | None = None,
) -> Iterator[Trial]:
    """Run the grids of `baselines` and yield each run's result.

    Parameters
    ----------
    name : str
        A workload.
    optimizers : sequence of str
        Optimizers whose grids to run.
    steps : int, optional
        Budget instead of the workload's own.
    threads : int
        Torch threads.
    rates : sequence of float, optional
        Learning rates instead of each optimizer's grid.
    """
    workload = workloads.load(name)
    pairs = [(optimizer, rate) for optimizer in optimizers for rate in rates or GRIDS[optimizer]]
    with pinned(threads):
        for optimizer, rate in pairs:
            problem = workload.build(TUNING_SEED)
            base = make_optimizer(optimizer, problem.model.parameters(), rate)
            budget = steps or workload.steps
            if problem.schedule is not None:
                problem.schedule(base, budget)
            curve = train(problem, base, Bare(), budget, workload.evaluate_every)["curve"]
            heldout = min(curve["heldout_loss"]) if "heldout_loss" in curve else None
            yield Trial(optimizer, rate, curve["train_loss"][-1], heldout)
