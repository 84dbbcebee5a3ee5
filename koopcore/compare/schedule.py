"""A whole comparison: every workload, optimizer and seed, one after the other or side by side."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import torch

from . import workloads
from .environment import describe
from .protocol import EVALUATE_EVERY, run_methods
from .results import Comparison, Run

WARM_UP_STEPS = 100

Progress = Callable[[str, float], None]
_warm: set[str] = set()  # workloads that this process has run before


@dataclass(frozen=True)
class Task:
    """All methods on one workload, optimizer and seed: always run in one process, in turn."""

    workload: str
    optimizer: str
    seed: int
    budget: int

    def __str__(self) -> str:
        return f"{self.workload} {self.optimizer} seed {self.seed}"


def compare(
    names: Sequence[str],
    optimizers: Sequence[str],
    seeds: int,
    steps: int | None = None,
    threads: int = 1,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Comparison:
    """Compare every optimizer with and without koopcore on every workload.

    Parameters
    ----------
    names, optimizers : sequence of str
        Names known to `workloads` and `baselines`.
    seeds : int
        Number of seeds; the seeds are 0, 1, ..., seeds - 1. (Learning rates were chosen on seed
        100, which is none of them below 101 seeds.)
    steps : int, optional
        Budget in step-equivalents for all workloads, instead of each workload's own.
    threads : int
        Torch threads per run.
    jobs : int
        Processes that work side by side. The bare run and the koopcore run of a seed follow each
        other in one process, so ratios of seconds compare like with like; step counts do not
        depend on it.
    progress : callable, optional
        Called with a label and the step-equivalents spent since its last call.

    Returns
    -------
    Comparison
    """
    chosen = [workloads.load(name) for name in names]
    budgets = {workload.name: steps or workload.steps for workload in chosen}
    tasks = [
        Task(name, optimizer, seed, budget)
        for name, budget in budgets.items()
        for optimizer in optimizers
        for seed in range(seeds)
    ]
    run_all = _one_by_one if jobs == 1 else _side_by_side
    results = dict(run_all(tasks, threads, jobs, progress))
    settings = {
        "budgets": budgets,
        "optimizers": list(optimizers),
        "seeds": list(range(seeds)),
        "evaluate_every": EVALUATE_EVERY,
        "titles": {workload.name: workload.title for workload in chosen},
    }
    runs = [run for task in tasks for run in results[task]]
    return Comparison(settings, describe(threads) | {"jobs": jobs}, runs)


def _one_by_one(
    tasks: Sequence[Task], threads: int, _jobs: int, progress: Progress | None
) -> Iterator[tuple[Task, list[Run]]]:
    previous = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for task in tasks:
            yield task, run_task(task, progress)
    finally:
        torch.set_num_threads(previous)


def _side_by_side(
    tasks: Sequence[Task], threads: int, jobs: int, progress: Progress | None
) -> Iterator[tuple[Task, list[Run]]]:
    # spawn, since a process forked after torch has started its threads may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        waiting = {pool.submit(run_task, task): task for task in tasks}
        try:
            for future in as_completed(waiting):
                task, runs = waiting[future], future.result()
                if progress:
                    progress(str(task), len(runs) * task.budget)
                yield task, runs
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run_task(task: Task, progress: Progress | None = None) -> list[Run]:
    """Run the bare optimizer and every method for one task; return their scored runs."""
    workload = workloads.load(task.workload)
    if task.workload not in _warm:
        # First calls load and allocate things once; the bare run must not pay for that.
        run_methods(workload, task.optimizer, seed=task.seed, budget=WARM_UP_STEPS)
        _warm.add(task.workload)
    tick = None if progress is None else (lambda done: progress(str(task), done))
    return run_methods(workload, task.optimizer, task.seed, task.budget, progress=tick)
