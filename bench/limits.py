"""What no program could beat on this machine, measured beside each operation.

Bytes are read or copied by the fastest of the ways at hand, flops run at the speed of NumPy's
matrix multiplication; both at the threads that the fixture `machine_threads` sets.
"""

import itertools
from time import perf_counter

import numpy as np
import torch
from measure import Row, measure


def fastest(*ways):
    """Return the way whose best of three calls is shortest."""

    def seconds(way):
        times = []
        for _ in range(3):
            start = perf_counter()
            way()
            times.append(perf_counter() - start)
        return min(times)

    return min(ways, key=seconds)


def read(benchmark, operation, problem, threads, data):
    """Time to read an array once; it must be contiguous in some order."""
    flat = data.reshape(-1, order="A")
    assert np.shares_memory(flat, data)
    tensor = torch.from_numpy(flat)
    way = fastest(lambda: np.dot(flat, flat), lambda: torch.sum(tensor))
    row = Row(operation, problem, "limit: read", threads, bytes=flat.nbytes)
    assert np.isfinite(float(measure(benchmark, row, way)))


def copy(benchmark, operation, problem, threads, sources, targets, *, per=1, combine="max"):
    """Time to copy each of some arrays into the next of the targets, which come in turns."""
    places = itertools.cycle(range(len(targets)))
    tensors = [torch.from_numpy(array) for array in (*sources, *targets)]

    def by_numpy():
        for source in sources:
            np.copyto(targets[next(places)], source)

    def by_torch():
        for source in tensors[: len(sources)]:
            tensors[len(sources) + next(places)].copy_(source)

    moved = 2 * sum(source.nbytes for source in sources)
    row = Row(operation, problem, "limit: copy", threads, moved, per=per, combine=combine)
    measure(benchmark, row, fastest(by_numpy, by_torch))
    last = targets[next(places) - 1]
    assert np.array_equal(last.reshape(-1)[-5:], sources[-1].reshape(-1)[-5:])


def flops(
    benchmark, operation, problem, threads, count, *, dtype="float64", who="", combine="max", per=1
):
    """Time of flops at the speed of a square product large enough to reach its peak."""
    k = int(np.clip(round((count / 2) ** (1 / 3)), 1024, 1536))
    a = np.random.default_rng(1).standard_normal((k, k)).astype(dtype)
    row = Row(
        operation,
        problem,
        f"limit: flops at gemm peak{who}",
        threads,
        flops=2 * k**3,
        per=per * 2 * k**3 / count,
        combine=combine,
    )
    assert np.isfinite(measure(benchmark, row, np.dot, a, a, rounds=7)).all()
