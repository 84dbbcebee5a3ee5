"""Fit of ten modes (three to few snapshots): koopcore, its limit, and its peers.

The limit is the larger of the time to read the snapshots once and of the flops of one Gram matrix,
n m^2. More peers are in bench_peers.py.
"""

import warnings

import limits
import numpy as np
import pytest
from conftest import BATCHES, HEADLINE, RATES, planted_rates
from measure import Row, measure
from memory import peak_memory
from peers import blocked_gram, eigenvalues_of

import koopcore

all_problems = pytest.mark.parametrize("problem", BATCHES, ids=lambda problem: problem.id)
headline = pytest.mark.parametrize("problem", [HEADLINE], ids=[HEADLINE.id])


def leading_error(eigenvalues):
    """Error of the leading eigenvalue; the small ones are limited by float32 data."""
    return np.abs(np.max(np.abs(eigenvalues)) - RATES[0])


@all_problems
def test_fit_limit_read(benchmark, problem, snapshots, machine_threads):
    limits.read(benchmark, "fit", problem, machine_threads, snapshots)


@all_problems
def test_fit_limit_flops_at_gemm_peak(benchmark, problem, machine_threads):
    limits.flops(benchmark, "fit", problem, machine_threads, problem.gram_flops)


@all_problems
def test_fit(benchmark, problem, snapshots, threads):
    row = Row("fit", problem, threads=threads, bytes=problem.bytes, flops=problem.gram_flops)
    rank = len(planted_rates(problem))
    model = measure(benchmark, row, lambda: koopcore.DMD(rank=rank).fit(snapshots))
    assert leading_error(model.eigenvalues) < 1e-4
    if problem == HEADLINE:
        benchmark.extra_info["peak_memory"] = peak_memory("koopcore.DMD(rank=10).fit(X)")


@headline
def test_fit_row_major(benchmark, problem, snapshots, threads):
    rows = np.ascontiguousarray(snapshots)
    row = Row("fit", problem, "koopcore, row-major input", threads=threads)
    model = measure(benchmark, row, lambda: koopcore.DMD(rank=10).fit(rows))
    assert leading_error(model.eigenvalues) < 1e-4


@all_problems
def test_fit_numpy(benchmark, problem, snapshots):
    """Ten careful lines of NumPy: the same algorithm, float64 in blocks of rows."""
    row = Row("fit", problem, "NumPy, float64-blocked Gram")
    rank = len(planted_rates(problem))

    def fit():
        return eigenvalues_of(blocked_gram(snapshots), rank)

    found = measure(benchmark, row, fit, rounds=5)
    assert leading_error(found) < 1e-4


@headline
def test_fit_pydmd(benchmark, problem, snapshots):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pydmd import DMD

        row = Row("fit", problem, "PyDMD")
        model = measure(
            benchmark, row, lambda: DMD(svd_rank=10).fit(snapshots), rounds=3, warmup_rounds=0
        )
    assert leading_error(model.eigs) < 1e-3
    benchmark.extra_info["peak_memory"] = peak_memory("pydmd.DMD(svd_rank=10).fit(X)", "pydmd")
