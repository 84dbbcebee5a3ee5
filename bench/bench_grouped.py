"""One operator per neuron: 2,000 segments of 785 float32 numbers over 64 snapshots.

The peer is the NumPy loop of the published method (Dogra & Redman 2020): U = F' pinv(F) for each
segment. The limit is the flops of the Gram matrices, n m^2, at the matrix-multiply speed measured
here.
"""

import limits
import numpy as np
import pytest
from conftest import RATES
from measure import Problem, Row, measure
from threadpoolctl import threadpool_limits

from koopcore import GroupedDMD

GROUPS, SIZE, RANK, M = 2000, 785, 10, 64
PROBLEM = Problem(GROUPS * SIZE, M, name=f"{GROUPS}x{SIZE}-m={M}-float32")


@pytest.fixture(scope="module")
def neurons():
    """Weights of all neurons, in columns; noise keeps every direction of the data alive."""
    rng = np.random.default_rng(0)
    modes = rng.standard_normal((PROBLEM.n, RANK), dtype=np.float32)
    X = modes @ np.vander(RATES, M, increasing=True).astype(np.float32)
    X += np.float32(1e-3) * rng.standard_normal((PROBLEM.n, M), dtype=np.float32)
    return np.asfortranarray(X)


def leading_errors(eigenvalues):
    """Error of the leading eigenvalue of each segment; noise of 1e-3 limits it."""
    return np.abs([np.max(np.abs(values)) - RATES[0] for values in eigenvalues])


def test_grouped_limit_flops_at_gemm_peak(benchmark, machine_threads):
    limits.flops(benchmark, "grouped", PROBLEM, machine_threads, PROBLEM.gram_flops)


@pytest.mark.parametrize("who", ["koopcore", "koopcore, row-major input"])
def test_grouped(benchmark, neurons, who, threads):
    X = neurons if who == "koopcore" else np.ascontiguousarray(neurons)
    model = GroupedDMD(rank=RANK)
    row = Row("grouped", PROBLEM, who, threads, PROBLEM.bytes, PROBLEM.gram_flops)
    measure(benchmark, row, lambda: model.fit(X, block=SIZE))
    assert (model.ranks == RANK).all()
    assert leading_errors(model.eigenvalues).max() < 1e-2


def test_grouped_numpy_loop_of_pinv(benchmark, neurons):
    """With one BLAS thread: on matrices this small a second one costs NumPy more than it brings."""

    def fit():
        traces = []
        for start in range(0, len(neurons), SIZE):
            snapshots = neurons[start : start + SIZE]
            U = snapshots[:, 1:] @ np.linalg.pinv(snapshots[:, :-1])
            traces.append(np.trace(U))
        return traces

    row = Row("grouped", PROBLEM, "NumPy, loop of pinv", 1)
    with threadpool_limits(1, "blas"):
        traces = measure(benchmark, row, fit, rounds=1, warmup_rounds=0)
    # The sum of all 63 eigenvalues, as koopcore finds them without a limit on the rank.
    eigenvalues = GroupedDMD().fit(neurons[:SIZE], block=SIZE).eigenvalues[0]
    assert abs(traces[0] - eigenvalues.sum().real) < 0.1


def test_grouped_forecast(benchmark, neurons, threads):
    model = GroupedDMD(rank=RANK).fit(neurons, block=SIZE)
    row = Row("grouped forecast", PROBLEM, "koopcore", threads, PROBLEM.bytes)
    forecast = measure(benchmark, row, lambda: model.forecast(1))
    assert np.abs(forecast - RATES[0] * neurons[:, -1]).max() < 0.1


def test_grouped_all_directions(benchmark, neurons, threads):
    """Without a limit on the rank the general eigenproblem of 63 x 63 takes most of the time."""
    model = GroupedDMD()
    row = Row("grouped, all directions", PROBLEM, "koopcore", threads)
    measure(benchmark, row, lambda: model.fit(neurons, block=SIZE), rounds=1, warmup_rounds=0)
    assert (model.ranks == M - 1).all()
