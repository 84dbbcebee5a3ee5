"""One benchmark in one line: its group, its rounds, and what the JSON says of it."""

import os
from dataclasses import asdict, dataclass

import numpy as np

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Problem:
    """n numbers in each of m snapshots, with a name where these do not tell it all."""

    n: int
    m: int
    dtype: str = "float32"
    name: str = ""

    @property
    def id(self):
        if self.name:
            return self.name
        exponent = len(str(self.n)) - 1
        return f"n={self.n / 10**exponent:g}e{exponent}-m={self.m}-{self.dtype}"

    @property
    def bytes(self):
        """Of all snapshots."""
        return self.n * self.m * np.dtype(self.dtype).itemsize

    @property
    def gram_flops(self):
        """Of the Gram matrix of the snapshots; its symmetry saves half of 2 n m^2."""
        return self.n * self.m**2

    @property
    def rounds(self):
        """More of short ones; never fewer than quartiles need."""
        return int(np.clip(5e8 / (self.n * self.m), 5, 50))


@dataclass(frozen=True)
class Row:
    """What the JSON says of one benchmark; `bench/summary.py` reads this and the times alone.

    Bytes and flops are those of one call: what must be moved and computed at the least. A call's
    time is divided by `per` before it is compared. The limits ("limit: ...") of one operation and
    problem make one: their "max", or their "sum".
    """

    operation: str
    problem: Problem
    who: str = "koopcore"
    threads: int = CORES
    bytes: float = 0
    flops: float = 0
    per: float = 1
    combine: str = "max"


def measure(benchmark, row, function, *args, rounds=None, warmup_rounds=1, setup=None):
    """Run a benchmark and record its row; return what the last call returned."""
    problem = row.problem
    benchmark.group = f"{row.operation} {problem.id}"
    result = benchmark.pedantic(
        function,
        args,
        setup=setup,
        rounds=rounds or problem.rounds,
        iterations=1,
        warmup_rounds=warmup_rounds,
    )
    info = asdict(row) | {"problem": problem.id, "n": problem.n, "m": problem.m}
    info["dtype"] = problem.dtype
    median = benchmark.stats.stats.median
    info["gflops"], info["gbytes"] = row.flops / median / 1e9, row.bytes / median / 1e9
    benchmark.extra_info.update(info)
    return result
