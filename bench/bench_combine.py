"""A combination of the m snapshots of a window: koopcore, its limit and its peer.

The limit is the time to read the window once, its m snapshots and the reference.
"""

import limits
import numpy as np
import pytest
from conftest import WINDOWS
from measure import Row, measure

from koopcore import WindowDMD

pytestmark = pytest.mark.parametrize("problem", WINDOWS, ids=lambda problem: problem.id)


def bytes_of(problem):
    """The window is read, the result written."""
    return problem.bytes // problem.m * (problem.m + 2)


def coefficients_of(problem):
    """Of the last snapshot plus thrice its change."""
    coefficients = np.zeros(problem.m)
    coefficients[-2:] = -3.0, 4.0
    return coefficients


def assert_combined(out, snapshots):
    expected = 4.0 * snapshots[:1000, -1] - 3.0 * snapshots[:1000, -2]
    np.testing.assert_allclose(out[:1000], expected, rtol=1e-3, atol=1e-4)


def test_combine_limit_read(benchmark, problem, machine_threads):
    window = np.ones((problem.m + 1, problem.n), problem.dtype)
    limits.read(benchmark, "combine", problem, machine_threads, window)


def test_combine(benchmark, problem, snapshots, threads):
    window = WindowDMD(window=problem.m, affine=True)
    for state in snapshots.T:
        window.update(state)
    out, coefficients = np.empty_like(snapshots[:, 0]), coefficients_of(problem)
    flops = 2 * problem.n * (problem.m + 1)
    row = Row("combine", problem, "koopcore", threads, bytes_of(problem), flops)
    measure(benchmark, row, lambda: window._buffer.combine(coefficients, [out]))
    assert_combined(out, snapshots)


def test_combine_numpy(benchmark, problem, snapshots):
    """In the type of the data, which sums no digit more than it has."""
    coefficients = coefficients_of(problem).astype(problem.dtype)
    row = Row("combine", problem, "NumPy, X @ c")
    assert_combined(measure(benchmark, row, np.dot, snapshots, coefficients), snapshots)
