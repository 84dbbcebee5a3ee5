"""All experiments: one task per network, each in a file of its own, so that a kill loses one."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from koopcore.compare.environment import describe, pinned
from koopcore.compare.results import finite, write_atomically

FORMAT = "koopcore-paper/2"
EXPERIMENTS = ("ode", "mnist", "cost", "questions")
OPTIMIZERS = ("adadelta", "adam", "adagrad")  # of `ode`, which is not imported before it runs
SEEDS = {"ode": 25, "mnist": 3, "cost": 1, "questions": 5}
QUICK_SEEDS = {"ode": 3, "mnist": 1, "cost": 1, "questions": 1}

Progress = Callable[[int], Any]


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes
    ----------
    experiments : tuple of str
    seeds : int or None
        Networks of every experiment: seeds 0, 1, 2, ...; None: as many as each has by itself.
    optimizers : tuple of str
        Of experiment 1.
    jitter : float
        Of the collocation points of experiment 1, in units of their spacing.
    quick : bool
        A fiftieth of the steps.
    """

    experiments: tuple[str, ...] = EXPERIMENTS
    seeds: int | None = None
    optimizers: tuple[str, ...] = ("adadelta",)
    jitter: float = 0.0
    quick: bool = False

    def tasks(self) -> list[Task]:
        """Return one task per network, in the order of the report."""
        counts = QUICK_SEEDS if self.quick else SEEDS
        found = []
        for experiment in self.experiments:
            count = self.seeds if self.seeds and experiment != "cost" else counts[experiment]
            chosen = self.optimizers if experiment == "ode" else ("",)
            for optimizer in chosen:
                jitter = self.jitter if experiment == "ode" else 0.0
                found += [
                    Task(experiment, seed, optimizer, jitter, self.quick) for seed in range(count)
                ]
        return found


@dataclass(frozen=True)
class Task:
    """One network, or the timings of `cost`."""

    experiment: str
    seed: int
    optimizer: str = ""
    jitter: float = 0.0
    quick: bool = False

    @property
    def name(self) -> str:
        """Name of its file, without the suffix."""
        return "-".join(filter(None, [self.experiment, self.optimizer, str(self.seed)]))

    @property
    def steps(self) -> int:
        """Optimizer steps, for the progress; the timings count as a network."""
        from . import mnist, ode

        steps: int = _of(mnist if self.experiment == "mnist" else ode, self.quick).steps
        return 2 * steps if self.experiment == "questions" else steps

    def run(self, progress: Progress | None = None) -> dict[str, Any]:
        """Do it on one thread and return what it measured, as JSON would give it back."""
        with pinned(1):
            measured = self._measured(progress)
        found: dict[str, Any] = json.loads(json.dumps(finite(measured), allow_nan=False))
        return found

    def _measured(self, progress: Progress | None) -> dict[str, Any]:
        from . import cost, mnist, ode, questions

        if self.experiment == "cost":
            found = cost.run(self.quick)
            if progress:
                progress(self.steps)
            return found
        if self.experiment == "mnist":
            return mnist.run_network(self.seed, _of(mnist, self.quick), progress)
        protocol = _of(ode, self.quick)
        if self.experiment == "questions":
            return questions.run_network(self.seed, protocol, progress)
        return ode.run_network(self.seed, protocol, self.optimizer, self.jitter, progress)


@dataclass
class Results:
    """What all tasks of a plan measured.

    Attributes
    ----------
    plan : Plan
    environment : dict
    parts : list of (Task, dict)
    """

    plan: Plan
    environment: dict[str, Any]
    parts: list[tuple[Task, dict[str, Any]]] = field(default_factory=list)

    def of(self, experiment: str, optimizer: str = "") -> list[dict[str, Any]]:
        """Return the networks of one experiment, by seed; empty if it was not run."""
        return [
            found
            for task, found in self.parts
            if task.experiment == experiment and task.optimizer == optimizer
        ]

    def to_json(self) -> str:
        """Return everything; what is not finite is null."""
        document = {
            "format": FORMAT,
            "plan": asdict(self.plan),
            "environment": self.environment,
            "parts": [{"task": asdict(task), "measured": found} for task, found in self.parts],
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"


def run(
    plan: Plan,
    folder: Path,
    jobs: int = 1,
    resume: bool = False,
    progress: Progress | None = None,
) -> Results:
    """Run a plan; every task leaves its file in ``folder/parts`` as soon as it is done.

    Parameters
    ----------
    plan : Plan
    folder : Path
    jobs : int
        Processes side by side, of one thread each. Timings are taken within each.
    resume : bool
        Take what the folder has of the same tasks instead of running them again.
    progress : callable, optional
        Called with the number of steps done since its last call.
    """
    tasks = plan.tasks()
    files = folder / "parts"
    files.mkdir(parents=True, exist_ok=True)
    found: dict[Task, dict[str, Any]] = {}
    for task in tasks if resume else ():
        stored = stored_part(files / f"{task.name}.json", task)
        if stored is not None:
            found[task] = stored
            if progress:
                progress(task.steps)
    for task, measured in _measured([t for t in tasks if t not in found], jobs, progress):
        found[task] = measured
        text = json.dumps({"format": FORMAT, "task": asdict(task), "measured": measured})
        write_atomically(files / f"{task.name}.json", text + "\n")
    return Results(plan, describe(1), [(task, found[task]) for task in tasks])


def stored_part(path: Path, task: Task) -> dict[str, Any] | None:
    """Return what a file holds of this very task, None if it is another's or not there."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = document.get("format") == FORMAT and document.get("task") == asdict(task)
    return document["measured"] if same else None


def _measured(
    tasks: list[Task], jobs: int, progress: Progress | None
) -> Iterator[tuple[Task, dict[str, Any]]]:
    if jobs == 1:
        for task in tasks:
            yield task, task.run(progress)
        return
    context = multiprocessing.get_context("spawn")  # a fork of torch's threads would hang
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting = {pool.submit(Task.run, task): task for task in tasks}
        try:
            for future in as_completed(waiting):
                task = waiting[future]
                yield task, future.result()
                if progress:
                    progress(task.steps)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()  # what they have not finished is run anew by --resume
            raise


def _of(module: Any, quick: bool) -> Any:
    return module.QUICK if quick else module.FULL
