"""Making a recording: a bare run of a workload, and the snapshots of it that scores need."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

import koopcore

from .. import workloads
from ..baselines import NAMES, NEEDS_CLOSURE, learning_rate, make_optimizer
from ..environment import pinned
from .recording import About, Recording, needed_steps

HORIZONS = (1, 4, 16, 64, 256)


def record(
    workload: str,
    optimizer: str,
    seed: int = 0,
    *,
    every: int = 1,
    window: int = 20,
    horizons: tuple[int, ...] = HORIZONS,
    starts: int = 12,
    steps: int | None = None,
    rate: float | None = None,
    progress: Callable[[int], object] | None = None,
) -> Recording:
    """Train and keep the weights before and after evenly spaced starts.

    Runs on one thread, so that a run made again has the same bits on the same machine.

    Parameters
    ----------
    workload, optimizer : str
        Names of `koopcore.compare.workloads` and `koopcore.compare.baselines`.
    seed : int
        Of the initial weights, the data's split and the order of the batches.
    every : int
        Optimizer steps from one snapshot to the next.
    window : int
        Snapshots kept up to each start.
    horizons : tuple of int
        Snapshots beyond a start whose weights are kept.
    starts : int
        How many; the first as early as the window allows, the last as late as the horizons do.
    steps : int, optional
        Optimizer steps of the run. Default: the workload's budget.
    rate : float, optional
        Learning rate. Default: the stated one.
    progress : callable, optional
        Called with the steps done since its last call.

    Returns
    -------
    Recording

    Raises
    ------
    ValueError
        A name or a number that cannot be, a run too short for its horizons, or one that diverges.
    """
    horizons = tuple(sorted(set(horizons)))
    steps = workloads.load(workload).steps if steps is None else steps
    _check(every=(every, 1), window=(window, 2), starts=(starts, 1), steps=(steps, 1))
    _check(**{f"horizons[{i}]": (horizon, 1) for i, horizon in enumerate(horizons or (0,))})
    if optimizer not in NAMES:
        raise ValueError(f"unknown optimizer {optimizer!r}; known optimizers: {', '.join(NAMES)}")
    rate = learning_rate(workload, optimizer) if rate is None else rate
    problem = workloads.load(workload).build(seed)
    named = {name: p for name, p in problem.model.named_parameters() if p.requires_grad}
    about = About(
        workload=workload,
        optimizer=optimizer,
        seed=seed,
        rate=rate,
        run_steps=steps,
        every=every,
        window=window,
        horizons=horizons,
        starts=_starts(every, window, horizons, starts, steps),
        shapes={name: tuple(p.shape) for name, p in named.items()},
        packages={m.__name__: str(m.__version__) for m in (koopcore, torch, np)},
    )
    with pinned(1):  # sums over threads need not have the same bits every time
        return _run(about, problem, list(named.values()), progress)


def _check(**values: tuple[int, int]) -> None:
    for name, (value, least) in values.items():
        if value < least:
            raise ValueError(f"{name}={value} is too small; at least {least} is needed")


def _starts(
    every: int, window: int, horizons: tuple[int, ...], count: int, steps: int
) -> tuple[int, ...]:
    """Return evenly spaced starts, in optimizer steps."""
    first, last = window - 1, steps // every - horizons[-1]
    if last - first + 1 < count:
        raise ValueError(
            f"steps={steps}: too short for starts={count}, window={window} and the horizon "
            f"{horizons[-1]}, in snapshots of every={every} steps; at least "
            f"{every * (first + count - 1 + horizons[-1])} are needed"
        )
    return tuple(every * int(k) for k in np.linspace(first, last, count).round())


def _run(
    about: About,
    problem: workloads.Problem,
    parameters: list[torch.nn.Parameter],
    progress: Callable[[int], object] | None,
) -> Recording:
    """Train until the last snapshot that is needed."""
    optimizer = make_optimizer(about.optimizer, problem.model.parameters(), about.rate)
    if problem.schedule is not None:
        problem.schedule(optimizer, about.run_steps)
    needed, states, losses = needed_steps(about), [], []
    wanted = set(needed)
    for step in range(needed[-1] + 1):
        if step in wanted:
            states.append(_state(parameters, step))
            figures = problem.evaluate(problem.model)
            losses.append((figures["train_loss"], figures.get("heldout_loss", math.nan)))
        if step == needed[-1]:
            break
        batch = next(problem.batches)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = problem.loss(problem.model, batch)  # noqa: B023 (called in this step only)
            loss.backward()
            return loss

        if about.optimizer in NEEDS_CLOSURE:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        if progress:
            progress(1)
    train, heldout = np.array(losses, np.float64).T
    return Recording(
        about, np.array(states), np.array(needed, np.int64), train.copy(), heldout.copy()
    )


def _state(parameters: list[torch.nn.Parameter], step: int) -> NDArray[np.float32]:
    flat = torch.cat([p.detach().reshape(-1).float() for p in parameters]).numpy()
    if not np.isfinite(flat).all():
        raise ValueError(f"the run diverged: weights at step {step} are not finite; lower the rate")
    return flat
