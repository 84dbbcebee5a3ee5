"""The two sizes of a whole comparison, and what a step of each workload costs.

``koopcore compare --quick`` takes minutes and shows every method on small networks; ``--full`` is
the comparison of the protocol: all workloads, their own optimizers, all methods, ten seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import registry, workloads

# Milliseconds of a step on one core of a server of 2024, the methods' own work included (mean over
# the methods of `--quick`): for the time left, and for what `--full` is said to take. Nothing
# that is measured depends on it.
MILLISECONDS = {
    "hamiltonian": 0.95,
    "hamiltonian-50": 1.4,
    "henon-heiles": 1.6,
    "digits": 3.5,
    "digits-64": 0.75,
    "mnist-5k": 1.1,
    "mnist-1d": 1.1,
    "mnist-1d-conv": 5.0,
    "fashion-mnist": 16.0,
    "fashion-mnist-64": 50.0,
    "transformer": 150.0,
}


@dataclass(frozen=True)
class Size:
    """What a comparison of a named size runs; `optimizers` None: each workload's own."""

    names: tuple[str, ...]
    optimizers: tuple[str, ...] | None
    methods: tuple[str, ...]
    seeds: int


QUICK = Size(
    ("hamiltonian", "digits-64", "mnist-5k"), ("adam", "sgd"), registry.QUICK_METHODS, seeds=6
)
FULL = Size(workloads.NAMES, None, registry.ALL_METHODS, seeds=10)


def milliseconds(name: str) -> float:
    """Return about what a step of a workload takes; widths by a factor take it in proportion."""
    plain, _, factor = name.partition(":")
    return MILLISECONDS.get(plain, 1.0) * float(factor or 1)
