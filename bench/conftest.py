"""The one problem table of the benchmarks, and what every report must say about the machine."""

import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from measure import CORES, Problem
from threadpoolctl import threadpool_info, threadpool_limits

import koopcore

RATES = (0.99, 0.97, 0.95, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.4)
HEADLINE = Problem(10**6, 64)
WINDOW = Problem(10**6, 16)
OVER_N = [Problem(n, 8) for n in (10**4, 10**5, 10**6, 10**7, 3 * 10**7, 10**8)]
OVER_M = [Problem(10**5, m) for m in (16, 32, 64, 128, 256, 512)]  # and m = 8, just above
WINDOWS = [*OVER_N, WINDOW]  # a snapshot of n numbers into a window of m
BATCHES = [*OVER_N, *OVER_M, WINDOW, HEADLINE, Problem(10**6, 64, "float64")]
COUNTS = sorted({1, CORES})

_held = {}  # the snapshots of one problem


def planted_rates(problem):
    """Eigenvalues of the planted system: as many as m snapshots tell apart in float32."""
    return RATES if problem.m > 16 else RATES[::4]


def planted(problem):
    """Snapshots in columns of a system with these eigenvalues, made in blocks of rows."""
    powers = np.vander(planted_rates(problem), problem.m, increasing=True).astype(problem.dtype)
    rng, X = np.random.default_rng(0), np.empty((problem.n, problem.m), problem.dtype, order="F")
    for first in range(0, problem.n, 50_000):
        block = X[first : first + 50_000]
        block[:] = rng.standard_normal((len(block), len(powers)), dtype=problem.dtype) @ powers
    return X


@pytest.fixture
def snapshots(problem):
    """The planted snapshots of a problem, kept until another problem takes their place."""
    if problem not in _held:
        _held.clear()  # before the next ones are made: the largest take gigabytes
        _held[problem] = planted(problem)
    return _held[problem]


@pytest.fixture(params=COUNTS, ids="threads={}".format)
def threads(request):
    """Threads of koopcore, set for one benchmark."""
    before = koopcore.num_threads()
    koopcore.set_num_threads(request.param)
    yield request.param
    koopcore.set_num_threads(before)


@pytest.fixture(params=COUNTS, ids="threads={}".format)
def machine_threads(request):
    """Threads of torch and of NumPy's BLAS, set for one limit."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    with threadpool_limits(request.param, "blas"):
        yield request.param
    torch.set_num_threads(before)


def pytest_collection_modifyitems(items):
    """Run all benchmarks on one problem, limits and peers among them, then those on the next."""

    def place(item):
        problem = getattr(item, "callspec", None) and item.callspec.params.get("problem")
        return (problem.m * problem.n, problem.id) if problem else (0, "")

    items.sort(key=place)


def pytest_benchmark_update_machine_info(config, machine_info):
    """Record the BLAS and the threads beside the CPU."""
    machine_info["blas"] = koopcore._core.blas_name()
    machine_info["blas_kernels"] = sorted(
        {library["architecture"] for library in threadpool_info() if "architecture" in library}
    )
    machine_info["instruction_set"] = koopcore._core.instruction_set()
    machine_info["threads"] = koopcore.num_threads()
    machine_info["cores"] = CORES
    machine_info["machine"] = platform.machine()
    cache = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    if cache.exists():  # in K; what the report calls "beyond the caches"
        machine_info["cache_bytes"] = int(cache.read_text().strip().rstrip("K")) * 1024
