"""A combination of the m snapshots of a window: koopcore, its limit and its peer.

The limit is the time to read the window once, its m snapshots and the reference.
"""

import limits
import numpy as np
import pytest
from conftest import OVER_N, WINDOW, WINDOWS
from measure import Row, measure

from koopcore import WindowDMD

all_problems = pytest.mark.parametrize("problem", WINDOWS, ids=lambda problem: problem.id)
some_problems = pytest.mark.parametrize(
    "problem", [WINDOW, OVER_N[-1]], ids=lambda problem: problem.id
)


def row_of(problem, who, threads, stored):
    """The m snapshots are read as they are stored, and the reference; the result is written."""
    moved, flops = stored + 2 * problem.bytes // problem.m, 2 * problem.n * (problem.m + 1)
    return Row("combine", problem, who, threads, moved, flops)


def coefficients_of(problem):
    """Of the last snapshot plus thrice its change."""
    coefficients = np.zeros(problem.m)
    coefficients[-2:] = -3.0, 4.0
    return coefficients


def assert_combined(out, snapshots, atol=1e-4):
    expected = 4.0 * snapshots[:1000, -1] - 3.0 * snapshots[:1000, -2]
    np.testing.assert_allclose(out[:1000], expected, rtol=1e-3, atol=atol)


def combined(benchmark, row, window, snapshots):
    """Measure a combination of a window that these snapshots fill."""
    for state in snapshots.T:
        window.update(state)
    out, coefficients = np.empty_like(snapshots[:, 0]), coefficients_of(row.problem)
    measure(benchmark, row, lambda: window._buffer.combine(coefficients, [out]))
    return out


@all_problems
def test_combine_limit_read(benchmark, problem, machine_threads):
    window = np.ones((problem.m + 1, problem.n), problem.dtype)
    limits.read(benchmark, "combine", problem, machine_threads, window)


@all_problems
def test_combine(benchmark, problem, snapshots, threads):
    window = WindowDMD(window=problem.m, affine=True)
    row = row_of(problem, "koopcore", threads, stored=problem.bytes)
    assert_combined(combined(benchmark, row, window, snapshots), snapshots)


@some_problems
def test_combine_bfloat16(benchmark, problem, snapshots, threads):
    window = WindowDMD(window=problem.m, affine=True, storage="bfloat16")
    row = row_of(problem, "koopcore, bfloat16", threads, stored=problem.bytes // 2)
    assert_combined(combined(benchmark, row, window, snapshots), snapshots, atol=0.2)


@all_problems
def test_combine_numpy(benchmark, problem, snapshots):
    """In the type of the data, which sums no digit more than it has."""
    coefficients = coefficients_of(problem).astype(problem.dtype)
    row = Row("combine", problem, "NumPy, X @ c")
    assert_combined(measure(benchmark, row, np.dot, snapshots, coefficients), snapshots)
