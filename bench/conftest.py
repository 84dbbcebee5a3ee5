"""The one problem table of the benchmarks, and what every report must say about the machine."""

import platform

import numpy as np
import pytest

import koopcore

N, M, RANK = 1_000_000, 64, 10
RATES = (0.99, 0.97, 0.95, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.4)


@pytest.fixture(scope="session")
def snapshots():
    """Snapshots of a planted system: n = 1e6, m = 64, float32, rank 10, in columns."""
    rng = np.random.default_rng(0)
    modes = rng.standard_normal((N, RANK), dtype=np.float32)
    return np.asfortranarray(modes @ np.vander(RATES, M, increasing=True).astype(np.float32))


def pytest_benchmark_update_machine_info(config, machine_info):
    """Record the BLAS and its threads beside the CPU."""
    machine_info["blas"] = koopcore._core.blas_name()
    machine_info["blas_threads"] = koopcore.num_threads()
    machine_info["machine"] = platform.machine()
