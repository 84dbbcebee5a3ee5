"""A whole comparison: every workload, optimizer and seed, one after the other or side by side."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch

from . import registry, workloads
from .baselines import TUNING_SEED
from .environment import describe
from .protocol import run_methods
from .results import Comparison, Key, Record, Run, Store

WARM_UP_STEPS = 100

Progress = Callable[[str, float], None]
_warm: set[tuple[str, tuple[str, ...]]] = set()  # what this process has run before


@dataclass(frozen=True)
class Task:
    """Bare and all methods on one workload, optimizer and seed: in one process, in turn."""

    workload: str
    optimizer: str
    seed: int
    budget: int
    methods: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.workload} {self.optimizer} seed {self.seed}"

    @property
    def key(self) -> Key:
        """As of the `Record` that it becomes."""
        return self.workload, self.optimizer, self.seed, self.budget, self.methods

    @property
    def steps(self) -> int:
        """Step-equivalents of all its runs."""
        return (1 + len(self.methods)) * self.budget


@dataclass(frozen=True)
class Plan:
    """What a comparison is of.

    Attributes
    ----------
    names, optimizers : tuple of str
        Names known to `workloads` and `baselines`.
    methods : tuple of str
        Known to `registry`; "bare" may be among them and always runs.
    seeds : int
        Number of seeds; the seeds are 0, 1, ..., seeds - 1, which must not come to the seed that
        learning rates and rivals are tuned on.
    steps : int or None
        Budget in step-equivalents for all workloads, instead of each workload's own.
    """

    names: tuple[str, ...]
    optimizers: tuple[str, ...]
    methods: tuple[str, ...] = ("koopcore",)
    seeds: int = 3
    steps: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= TUNING_SEED:
            raise ValueError(f"seeds must be 1 to {TUNING_SEED}, got {self.seeds}")
        for method in self.methods:
            registry.check(method)

    @property
    def wrapped(self) -> tuple[str, ...]:
        """The methods besides the bare optimizer."""
        return tuple(method for method in self.methods if method != "bare")

    def pairs(self) -> list[tuple[str, str, int]]:
        """Return every workload and optimizer with its budget."""
        budgets = {name: self.steps or workloads.load(name).steps for name in self.names}
        return [(n, optimizer, budgets[n]) for n in self.names for optimizer in self.optimizers]

    def tuning_tasks(self) -> list[Task]:
        """Return the tasks whose runs decide the values of rivals named without one."""
        grid = registry.grid(self.wrapped)
        return [Task(n, o, TUNING_SEED, b, grid) for n, o, b in self.pairs()] if grid else []

    def tasks(self, tuning: dict[tuple[str, str], Record]) -> list[Task]:
        """Return the tasks of the comparison, with tuned rivals."""
        return [
            Task(n, o, seed, b, registry.tuned(self.wrapped, tuning.get((n, o))))
            for n, o, b in self.pairs()
            for seed in range(self.seeds)
        ]

    @property
    def total_steps(self) -> int:
        """Step-equivalents of all runs, those on the tuning seed included."""
        per_seed = sum((1 + len(self.wrapped)) * budget for _, _, budget in self.pairs())
        return self.seeds * per_seed + sum(task.steps for task in self.tuning_tasks())


def compare(
    plan: Plan,
    threads: int = 1,
    jobs: int = 1,
    path: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Compare every optimizer with and without the methods on every workload.

    Parameters
    ----------
    plan : Plan
    threads : int
        Torch threads per run.
    jobs : int
        Processes that work side by side. The bare run and the others of a seed follow each other
        in one process, so ratios of seconds compare like with like; step counts do not depend on
        it.
    path : Path, optional
        File that every finished task is appended to.
    resume : bool
        Keep the tasks that the file already holds and run only the others.
    progress : callable, optional
        Called with a label and the step-equivalents spent since its last call.

    Returns
    -------
    Comparison
    """
    store = Store(path, resume)

    def run(tasks: Sequence[Task]) -> list[Record]:
        waiting = [task for task in tasks if task.key not in store.done]
        for task in tasks:
            if progress and task.key in store.done:
                progress(str(task), task.steps)
        run_all = _one_by_one if jobs == 1 else _side_by_side
        for task, runs in run_all(waiting, threads, jobs, progress):
            store.add(_record(task, runs, describe(threads) | {"jobs": jobs}))
        return [store.done[task.key] for task in tasks]

    tuning = run(plan.tuning_tasks())
    tuned_by = {(record.workload, record.optimizer): record for record in tuning}
    return Comparison([*tuning, *run(plan.tasks(tuned_by))])


def _record(task: Task, runs: list[Run], environment: dict) -> Record:
    workload = workloads.load(task.workload)
    return Record(
        *task.key,
        title=workload.title,
        evaluate_every=workload.evaluate_every,
        environment=environment,
        runs=runs,
    )


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
                    progress(str(task), task.steps)
                yield task, runs
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run_task(task: Task, progress: Progress | None = None) -> list[Run]:
    """Run the bare optimizer and every method for one task; return their scored runs."""
    workload = workloads.load(task.workload)
    if (task.workload, task.methods) not in _warm:
        # First calls load and allocate things once; no run that counts must pay for that.
        steps = min(WARM_UP_STEPS, task.budget)
        run_methods(workload, task.optimizer, task.seed, steps, task.methods)
        _warm.add((task.workload, task.methods))
    tick = None if progress is None else (lambda done: progress(str(task), done))
    return run_methods(workload, task.optimizer, task.seed, task.budget, task.methods, tick)
