"""What a comparison is of: workloads, optimizers, methods and seeds, and the tasks they make."""

from __future__ import annotations

from dataclasses import dataclass

from . import registry, workloads
from .baselines import DEFAULT_OPTIMIZERS, TUNING_SEED
from .results import Key, Record
from .sizes import milliseconds


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
    def work(self) -> float:
        """About how many seconds its runs take."""
        return (1 + len(self.methods)) * self.budget * milliseconds(self.workload) / 1000


@dataclass(frozen=True)
class Plan:
    """What a comparison is of.

    Attributes
    ----------
    names : tuple of str
        Names known to `workloads`.
    optimizers : tuple of str or None
        Known to `baselines`; None: each workload's own.
    methods : tuple of str
        Known to `registry`; "bare" may be among them and always runs. One that cannot wrap an
        optimizer is left out beside it.
    seeds : int
        Number of seeds; the seeds are 0, 1, ..., seeds - 1, which must not come to the seed that
        learning rates and rivals are tuned on.
    steps : int or None
        Budget in step-equivalents for all workloads, instead of each workload's own.
    """

    names: tuple[str, ...]
    optimizers: tuple[str, ...] | None
    methods: tuple[str, ...] = ("koopcore",)
    seeds: int = 3
    steps: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= TUNING_SEED:
            raise ValueError(f"seeds must be 1 to {TUNING_SEED}, got {self.seeds}")
        for method in self.methods:
            registry.check(method)

    def wrapped(self, optimizer: str) -> tuple[str, ...]:
        """Return the methods besides the bare optimizer that can wrap `optimizer`."""
        methods = registry.resolved(method for method in self.methods if method != "bare")
        return tuple(m for m in methods if registry.refusal(m, optimizer) is None)

    @property
    def left_out(self) -> list[str]:
        """Why methods are left out beside some of the optimizers."""
        pairs = [(m, optimizer) for _, optimizer, _ in self.pairs() for m in self.methods]
        return list(dict.fromkeys(filter(None, (registry.refusal(*pair) for pair in pairs))))

    def pairs(self) -> list[tuple[str, str, int]]:
        """Return every workload and optimizer with its budget."""
        found = []
        for name in self.names:
            optimizers = self.optimizers or DEFAULT_OPTIMIZERS[name.partition(":")[0]]
            budget = self.steps or workloads.load(name).steps
            found += [(name, optimizer, budget) for optimizer in optimizers]
        return found

    def tuning_tasks(self) -> list[Task]:
        """Return the tasks whose runs decide the values of rivals named without one."""
        tasks = [
            Task(n, o, TUNING_SEED, b, registry.grid(self.wrapped(o))) for n, o, b in self.pairs()
        ]
        return [task for task in tasks if task.methods]

    def tasks(self, tuning: dict[tuple[str, str], Record]) -> list[Task]:
        """Return the tasks of the comparison, with tuned rivals."""
        return [
            Task(n, o, seed, b, registry.tuned(self.wrapped(o), tuning.get((n, o))))
            for n, o, b in self.pairs()
            for seed in range(self.seeds)
        ]

    @property
    def work(self) -> float:
        """About how many seconds all runs take one after the other."""
        untuned = [Task(n, o, 0, b, self.wrapped(o)) for n, o, b in self.pairs()]
        tuning = sum(task.work for task in self.tuning_tasks())
        return self.seeds * sum(task.work for task in untuned) + tuning
