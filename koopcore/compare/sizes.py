"""The two sizes of a whole comparison, and what a step of each workload costs.

``koopcore compare --quick`` takes minutes and shows every method on small networks; ``--full`` is
the comparison of the protocol: all workloads, their own optimizers, all methods, ten seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import registry, workloads

# Milliseconds of a step on one core of a server of 2024, from runs of ten steps and more: for the
# time left, and for the time that `--full` is said to take. Nothing measured depends on it.
MILLISECONDS = {
    "hamiltonian": 0.7,
    "hamiltonian-50": 1.0,
    "henon-heiles": 0.9,
    "digits": 2.8,
    "digits-64": 0.6,
    "mnist-5k": 0.7,
    "mnist-1d": 0.8,
    "mnist-1d-conv": 4.0,
    "fashion-mnist": 14.0,
    "fashion-mnist-64": 45.0,
    "transformer": 120.0,
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
