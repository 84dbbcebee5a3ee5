"""The learning-rate grid of the bare optimizers, run on a seed that no comparison uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from . import workloads
from .baselines import GRIDS, TUNING_SEED, make_optimizer
from .methods import Bare
from .protocol import train


def tune(
    name: str, optimizers: Sequence[str], steps: int | None = None, threads: int = 1
) -> Iterator[tuple[str, float, float]]:
    """Yield (optimizer, learning rate, final training loss) over the grids of `baselines`.

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
    """
    workload = workloads.load(name)
    torch.set_num_threads(threads)
    for optimizer in optimizers:
        for rate in GRIDS[optimizer]:
            problem = workload.build(TUNING_SEED)
            base = make_optimizer(optimizer, problem.model.parameters(), rate)
            measured = train(problem, base, Bare(), steps or workload.steps)
            yield optimizer, rate, measured["curve"]["train_loss"][-1]
