"""One operator per neuron: 2,000 segments of 785 float32 numbers over 64 snapshots.

The peer is the NumPy loop of the published method (Dogra & Redman 2020): U = F' pinv(F) for each
segment. The limit is the flops of the Gram matrices, n m^2, at the matrix-multiply speed measured
here, on all the threads that NumPy takes.
"""

import os

import numpy as np
import pytest
from conftest import RANK, RATES, M
from threadpoolctl import threadpool_limits

from koopcore import GroupedDMD

GROUPS, SIZE = 2000, 785
pytestmark = pytest.mark.benchmark(group=f"{GROUPS} operators of {SIZE} states, m={M} float32")
OPTIONS = {"rounds": 5, "iterations": 1, "warmup_rounds": 1}
CORES = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def neurons():
    """Weights of all neurons, in columns; noise keeps every direction of the data alive."""
    rng = np.random.default_rng(0)
    n = GROUPS * SIZE
    modes = rng.standard_normal((n, RANK), dtype=np.float32)
    X = modes @ np.vander(RATES, M, increasing=True).astype(np.float32)
    X += np.float32(1e-3) * rng.standard_normal((n, M), dtype=np.float32)
    return np.asfortranarray(X)


def leading_errors(eigenvalues):
    """Error of the leading eigenvalue of each segment; noise of 1e-3 limits it."""
    return np.abs([np.max(np.abs(values)) - RATES[0] for values in eigenvalues])


def test_grouped_flops_at_gemm_peak(benchmark):
    """Run a square float64 product with as many flops as the Gram matrices, n m^2."""
    k = round((GROUPS * SIZE * M * M / 2) ** (1 / 3))
    a = np.random.default_rng(1).standard_normal((k, k))
    assert np.isfinite(benchmark.pedantic(np.dot, (a, a), **OPTIONS)).all()


@pytest.mark.parametrize("order", ["F", "C"])
@pytest.mark.parametrize("n_threads", sorted({1, CORES}))
def test_grouped(benchmark, neurons, order, n_threads):
    X = np.asarray(neurons, order=order)
    model = GroupedDMD(rank=RANK, n_threads=n_threads)
    benchmark.pedantic(lambda: model.fit(X, block=SIZE), **OPTIONS)
    assert (model.ranks == RANK).all()
    assert leading_errors(model.eigenvalues).max() < 1e-2


def test_grouped_forecast(benchmark, neurons):
    model = GroupedDMD(rank=RANK, n_threads=CORES).fit(neurons, block=SIZE)
    forecast = benchmark.pedantic(lambda: model.forecast(1), **OPTIONS)
    assert np.abs(forecast - RATES[0] * neurons[:, -1]).max() < 0.1


def test_grouped_all_directions(benchmark, neurons):
    """Without a limit on the rank the general eigenproblem of 63 x 63 takes most of the time."""
    model = GroupedDMD(n_threads=CORES)
    benchmark.pedantic(lambda: model.fit(neurons, block=SIZE), rounds=1)
    assert (model.ranks == M - 1).all()


def test_grouped_numpy_loop_of_pinv(benchmark, neurons):
    """With one BLAS thread: on matrices this small a second one costs NumPy more than it brings."""

    def fit():
        traces = []
        for start in range(0, len(neurons), SIZE):
            snapshots = neurons[start : start + SIZE]
            U = snapshots[:, 1:] @ np.linalg.pinv(snapshots[:, :-1])
            traces.append(np.trace(U))
        return traces

    with threadpool_limits(1, "blas"):
        traces = benchmark.pedantic(fit, rounds=1)
    # The sum of all 63 eigenvalues, as koopcore finds them without a limit on the rank.
    eigenvalues = GroupedDMD(n_threads=CORES).fit(neurons[:SIZE], block=SIZE).eigenvalues[0]
    assert abs(traces[0] - eigenvalues.sum().real) < 0.1
