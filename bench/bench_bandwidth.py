"""What the machine gives, with one thread and with all: reading, copying, multiplying.

The ceilings of all operations, and of what a second thread can gain on each.
"""

import numpy as np
import pytest
import torch
from measure import Problem, Row, measure

SIZE = 10**8


def test_bandwidth_read(benchmark, machine_threads):
    problem, data = Problem(SIZE, 1, name="read 400 MB"), torch.ones(SIZE)
    row = Row("bandwidth", problem, "torch.sum", machine_threads, bytes=4 * SIZE)
    assert float(measure(benchmark, row, torch.sum, data, rounds=15)) == SIZE


def test_bandwidth_copy(benchmark, machine_threads):
    problem = Problem(SIZE, 1, name="copy 400 MB")
    source, target = torch.ones(SIZE), torch.zeros(SIZE)
    row = Row("bandwidth", problem, "torch copy_", machine_threads, bytes=8 * SIZE)
    measure(benchmark, row, target.copy_, source, rounds=15)
    assert target[-1] == 1.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gemm(benchmark, dtype, machine_threads):
    k = 2048
    a = np.random.default_rng(1).standard_normal((k, k)).astype(dtype)
    problem = Problem(k, k, dtype, name=f"{k}x{k}-{dtype}")
    row = Row("gemm", problem, "NumPy", machine_threads, 3 * a.nbytes, 2 * k**3)
    product = measure(benchmark, row, np.dot, a, a, rounds=7)
    np.testing.assert_allclose(product[0], a[0] @ a, rtol=1e-2, atol=1e-2)
