"""Fit of 10 modes to 64 snapshots of 1e6 float32 numbers: koopcore, its limit, and its peers.

The limit is the larger of the time to read the bytes once (a copy reads and writes them, so this
is generous) and the flops of one Gram matrix, n m^2, at the matrix-multiply speed measured here.
"""

import warnings

import numpy as np
import pytest
from conftest import RANK, RATES, M, N
from memory import peak_memory

import koopcore

pytestmark = pytest.mark.benchmark(group="fit n=1e6 m=64 r=10 float32")
OPTIONS = {"rounds": 3, "iterations": 1, "warmup_rounds": 1}


def leading_error(eigenvalues):
    """Error of the leading eigenvalue; the small ones are limited by float32 data."""
    return np.abs(np.max(np.abs(eigenvalues)) - RATES[0])


def test_copy(benchmark, snapshots):
    target = np.empty_like(snapshots)
    benchmark.pedantic(np.copyto, (target, snapshots), **OPTIONS)
    assert target[-1, -1] == snapshots[-1, -1]


def test_gram_flops_at_gemm_peak(benchmark):
    """Run a square float64 product with as many flops as the Gram matrix, n m^2."""
    k = round((N * M * M / 2) ** (1 / 3))
    a = np.random.default_rng(1).standard_normal((k, k))
    result = benchmark.pedantic(np.dot, (a, a), **OPTIONS)
    assert np.isfinite(result[0, 0])


def test_koopcore(benchmark, snapshots):
    model = benchmark.pedantic(lambda: koopcore.DMD(rank=RANK).fit(snapshots), **OPTIONS)
    assert leading_error(model.eigenvalues) < 1e-4
    benchmark.extra_info["peak_memory"] = peak_memory("koopcore.DMD(rank=10).fit(X)")


def test_koopcore_row_major(benchmark, snapshots):
    rows = np.ascontiguousarray(snapshots)
    model = benchmark.pedantic(lambda: koopcore.DMD(rank=RANK).fit(rows), **OPTIONS)
    assert leading_error(model.eigenvalues) < 1e-4


def test_numpy_blocked_gram(benchmark, snapshots):
    """Ten careful lines of NumPy: the same algorithm, float64 in blocks of rows."""

    def fit():
        g = np.zeros((M, M))
        for i in range(0, N, 4096):
            block = snapshots[i : i + 4096].astype(np.float64)
            g += block.T @ block
        values, vectors = np.linalg.eigh(g[:-1, :-1])
        basis = vectors[:, : -RANK - 1 : -1] / np.sqrt(values[: -RANK - 1 : -1])
        return np.linalg.eigvals(basis.T @ g[:-1, 1:] @ basis)

    assert leading_error(benchmark.pedantic(fit, **OPTIONS)) < 1e-4


def test_pydmd(benchmark, snapshots):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pydmd import DMD

        model = benchmark.pedantic(
            lambda: DMD(svd_rank=RANK).fit(snapshots), rounds=3, iterations=1
        )
    assert leading_error(model.eigs) < 1e-3
    benchmark.extra_info["peak_memory"] = peak_memory("pydmd.DMD(svd_rank=10).fit(X)", "pydmd")
