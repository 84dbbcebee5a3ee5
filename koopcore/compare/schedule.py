"""A whole comparison: every workload, optimizer and seed, one after the other or side by side."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from . import workloads
from .environment import cores_of, describe, pin, pinned
from .plan import Plan, Task
from .protocol import run_methods
from .results import Comparison, Record, Run, Store
from .sizes import milliseconds

WARM_UP_STEPS, WARM_UP_SECONDS = 100, 1.0  # per run, whichever is less, but 12 steps at least

Progress = Callable[[str, float], None]
_warm: set[tuple[str, str, tuple[str, ...]]] = set()  # what this process has run before


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
        Called with a label and the share of `Plan.work` done since its last call.

    Returns
    -------
    Comparison
    """
    with Store(path, resume) as store:

        def run(tasks: Sequence[Task]) -> list[Record]:
            waiting = [task for task in tasks if task.key not in store.done]
            for task in tasks:
                if progress and task.key in store.done:
                    progress(str(task), task.work)
            run_all = _one_by_one if jobs == 1 else _side_by_side
            for task, (runs, environment) in run_all(waiting, threads, jobs, progress):
                store.add(_record(task, runs, environment | {"jobs": jobs}))
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


Done = tuple[Task, tuple[list[Run], dict[str, Any]]]


def _one_by_one(
    tasks: Sequence[Task], threads: int, _jobs: int, progress: Progress | None
) -> Iterator[Done]:
    with pinned(threads):
        for task in tasks:
            yield task, run_task(task, threads, progress)


def _side_by_side(
    tasks: Sequence[Task], threads: int, jobs: int, progress: Progress | None
) -> Iterator[Done]:
    # spawn, since a process forked after torch has started its threads may hang
    context = multiprocessing.get_context("spawn")
    cores, ticks = context.SimpleQueue(), context.SimpleQueue()
    for own in cores_of(jobs, threads):
        cores.put(own)
    start = (threads, cores, ticks)
    with (
        _passed_on(ticks, progress),
        ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=start) as pool,
    ):
        waiting = {pool.submit(_run_task, task, threads): task for task in tasks}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()  # what they have not finished is run anew by --resume
            raise


_ticks: Any = None  # in a worker: where its progress goes


def _begin(threads: int, cores: Any, ticks: Any) -> None:
    global _ticks
    _ticks = ticks
    pin(threads, cores.get())


def _run_task(task: Task, threads: int) -> tuple[list[Run], dict[str, Any]]:
    return run_task(task, threads, lambda label, done: _ticks.put((label, done)))


@contextmanager
def _passed_on(ticks: Any, progress: Progress | None) -> Iterator[None]:
    """Call `progress` with what the workers put into the queue."""

    def read() -> None:
        while (tick := ticks.get()) is not None:
            if progress:
                progress(*tick)

    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    finally:
        ticks.put(None)
        reader.join()


def run_task(
    task: Task, threads: int, progress: Progress | None = None
) -> tuple[list[Run], dict[str, Any]]:
    """Run the bare optimizer and every method for one task.

    Returns
    -------
    runs : list of Run
        Scored.
    environment : dict
        As they were made in: see `environment.describe`.
    """
    workload = workloads.load(task.workload)
    if (task.workload, task.optimizer, task.methods) not in _warm:
        # First calls load and allocate things once; no run that counts must pay for that.
        steps = round(1000 * WARM_UP_SECONDS / milliseconds(task.workload))
        steps = min(task.budget, WARM_UP_STEPS, max(steps, 12))
        with _quiet():
            run_methods(workload, task.optimizer, task.seed, steps, task.methods)
        _warm.add((task.workload, task.optimizer, task.methods))
    tick = None if progress is None else _Ticks(task, progress)
    with _quiet():
        runs = run_methods(workload, task.optimizer, task.seed, task.budget, task.methods, tick)
    return runs, describe(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep refused jumps out of the log: they are in the results."""
    logger = logging.getLogger("koopcore")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Ticks:
    """Passes on the progress of a task whenever a twentieth of a run is done."""

    def __init__(self, task: Task, progress: Progress) -> None:
        self._task, self._progress, self._steps, self._sum = task, progress, 0.0, 0.0

    def __call__(self, steps: float) -> None:
        self._steps += steps
        self._sum += steps
        all_steps = (1 + len(self._task.methods)) * self._task.budget
        if self._steps >= self._task.budget / 20 or self._sum >= all_steps:
            share, self._steps = self._steps / all_steps, 0.0
            self._progress(str(self._task), share * self._task.work)
