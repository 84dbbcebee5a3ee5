"""Gram matrix of tall snapshots, with float64 sums whatever the data: koopcore and its limit.

The limit is the larger of the time to read the snapshots once and of the flops, n m^2.
"""

import limits
import numpy as np
import pytest
from conftest import BATCHES
from measure import Row, measure
from peers import blocked_gram

import koopcore

pytestmark = pytest.mark.parametrize("problem", BATCHES, ids=lambda problem: problem.id)


def assert_gram(gram, snapshots):
    last = snapshots[:, -1].astype(np.float64)
    np.testing.assert_allclose(gram[-1, -1], last @ last, rtol=1e-9)
    np.testing.assert_allclose(gram[0, -1], snapshots[:, 0].astype(np.float64) @ last, rtol=1e-9)


def test_gram_limit_read(benchmark, problem, snapshots, machine_threads):
    limits.read(benchmark, "gram", problem, machine_threads, snapshots)


def test_gram_limit_flops_at_gemm_peak(benchmark, problem, machine_threads):
    limits.flops(benchmark, "gram", problem, machine_threads, problem.gram_flops)


def test_gram(benchmark, problem, snapshots, threads):
    row = Row("gram", problem, threads=threads, bytes=problem.bytes, flops=problem.gram_flops)
    assert_gram(measure(benchmark, row, koopcore._core.gram, snapshots), snapshots)


def test_gram_numpy(benchmark, problem, snapshots):
    row = Row("gram", problem, "NumPy, float64-blocked Gram")
    assert_gram(measure(benchmark, row, blocked_gram, snapshots, rounds=5), snapshots)
