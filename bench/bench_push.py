"""A snapshot into a full window of m, with its share of the Gram matrix: koopcore and its limit.

One call pushes m snapshots and asks for the Gram matrix once. The limit is the sum of m copies,
into the slots of a ring of m + 1 states that are as cold as those of the window (m snapshots and
the reference), and of the flops of the Gram matrix of those.
"""

import limits
import numpy as np
import pytest
from conftest import OVER_N, WINDOW, WINDOWS
from measure import Row, measure
from peers import blocked_gram

from koopcore import WindowDMD

all_problems = pytest.mark.parametrize("problem", WINDOWS, ids=lambda problem: problem.id)
some_problems = pytest.mark.parametrize(
    "problem", [WINDOW, OVER_N[-1]], ids=lambda problem: problem.id
)


def row_of(problem, who, threads, stored):
    """Each snapshot is read and stored, then the Gram matrix is made of what is stored."""
    moved, flops = problem.bytes + stored, problem.gram_flops
    return Row("push", problem, who, threads, moved, flops, per=problem.m)


def pusher(window, snapshots):
    def push():
        for state in snapshots.T:
            window.update(state)
        return window.gram

    return push


def assert_gram(gram, snapshots, rtol=1e-4):
    """The Gram matrix of the differences between snapshots, which no reference changes."""
    first = snapshots[:, 0].astype(np.float64)
    change = snapshots[:, -1] - first
    found = gram[-1, -1] - 2 * gram[0, -1] + gram[0, 0]
    np.testing.assert_allclose(found, change @ change, rtol=rtol)


@all_problems
def test_push_limit_copy(benchmark, problem, snapshots, machine_threads):
    ring = np.zeros((problem.m + 1, problem.n), problem.dtype)
    arrays = list(snapshots.T), list(ring)
    limits.copy(benchmark, "push", problem, machine_threads, *arrays, per=problem.m, combine="sum")


@all_problems
def test_push_limit_flops_at_gemm_peak(benchmark, problem, machine_threads):
    flops = problem.gram_flops
    limits.flops(benchmark, "push", problem, machine_threads, flops, per=problem.m, combine="sum")


@all_problems
def test_push(benchmark, problem, snapshots, threads):
    window = WindowDMD(window=problem.m, affine=True)
    row = row_of(problem, "koopcore", threads, stored=problem.bytes)
    assert_gram(measure(benchmark, row, pusher(window, snapshots)), snapshots)


@some_problems
def test_push_bfloat16(benchmark, problem, snapshots, threads):
    window = WindowDMD(window=problem.m, affine=True, storage="bfloat16")
    row = row_of(problem, "koopcore, bfloat16", threads, stored=problem.bytes // 2)
    assert_gram(measure(benchmark, row, pusher(window, snapshots)), snapshots, 0.02)


@all_problems
def test_push_numpy(benchmark, problem, snapshots):
    """Differences from the first snapshot in a ring, and their Gram matrix in blocks."""
    ring = np.zeros((problem.n, problem.m), problem.dtype, order="F")
    reference = snapshots[:, 0].copy()

    def push():
        for slot, state in enumerate(snapshots.T):
            np.subtract(state, reference, out=ring[:, slot])
        return blocked_gram(ring)

    row = Row("push", problem, "NumPy, float64-blocked Gram", per=problem.m)
    assert_gram(measure(benchmark, row, push), snapshots)
