"""One update of a streaming DMD: 16 snapshots of 1e6 float32 numbers into 20 modes, and its peers.

odmd holds n x n matrices, 8 TB of them at n = 1e6: it is compared at n = 1e3.
"""

from itertools import pairwise

import numpy as np
import pytest
import stream_blocks
from measure import Problem, Row, measure
from memory import peak_of
from odmd import OnlineDMD
from stream_blocks import BLOCK, GRAM, KEPT, PROBLEM, RANK, RATES, N
from stream_shapes import Hemati

from koopcore import StreamingDMD

OPERATION = "streaming-dmd"
SMALL = Problem(1000, BLOCK, name=f"n=1e3-k={RANK}-b={BLOCK}-float32")
EXACT = Problem(N, BLOCK, name=f"{PROBLEM.id}-exact-rank")


@pytest.fixture(scope="module")
def modes():
    return stream_blocks.make_modes()


@pytest.fixture(scope="module")
def blocks(modes):
    return stream_blocks.blocks_of(modes)


@pytest.fixture(scope="module")
def small_blocks():
    return stream_blocks.blocks_of(stream_blocks.make_modes(SMALL.n))


def test_streaming_dmd_limit_copy(benchmark, blocks, machine_threads):
    stream_blocks.copy_limit(benchmark, OPERATION, machine_threads, blocks)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_streaming_dmd_limit_flops_at_gemm_peak(benchmark, dtype, machine_threads):
    stream_blocks.flops_limit(benchmark, OPERATION, machine_threads, dtype)


@pytest.mark.parametrize("who", ["koopcore", "koopcore, row-major input"])
def test_streaming_dmd(benchmark, blocks, who, threads):
    given = blocks if who == "koopcore" else [np.ascontiguousarray(block) for block in blocks]
    model = StreamingDMD(RANK)
    row = stream_blocks.update_row(OPERATION, who, threads)
    stream_blocks.measure_updates(benchmark, row, model, given)
    assert np.isfinite(model.singular_values).all()
    if who == "koopcore":
        statement = f"koopcore.StreamingDMD({RANK})" + 3 * ".partial_fit(X)"
        numbers = peak_of("import koopcore", statement, (N, BLOCK))
        benchmark.extra_info.update(peak_memory=numbers / BLOCK, numbers=numbers)


def test_streaming_dmd_hemati_numpy(benchmark, blocks):
    """Hemati, Williams & Rowley 2014 in NumPy, with slack so that it compresses once a block."""
    peer = Hemati(N, RANK, oversampling=KEPT - RANK, dtype=np.float32, slack=BLOCK)
    for block in blocks[:3]:
        peer.update(block)
    row = Row(OPERATION, PROBLEM, "NumPy, Hemati et al.")
    measure(benchmark, row, lambda: peer.update(blocks[3]), rounds=3, warmup_rounds=0)
    assert np.isfinite(peer.eigenvalues(RANK)).all()


def test_streaming_dmd_exact_rank(benchmark, modes, threads):
    """Exact-rank data: the basis stays, and only the Gram matrix is left to do."""
    exact = stream_blocks.blocks_of(modes, noise=0.0)
    model = StreamingDMD(RANK)
    row = Row(OPERATION, EXACT, "koopcore", threads, EXACT.bytes + 4 * N * KEPT, GRAM)
    model.partial_fit(exact[0])
    stream_blocks.measure_updates(benchmark, row, model, exact[1:])
    assert np.abs(np.abs(model.eigenvalues[0]) - RATES[-1]) < 0.1


def test_streaming_dmd_query(benchmark, blocks, threads):
    """Eigenvalues anew, half a block pending: what a question costs, at any length."""
    model = StreamingDMD(RANK)
    for block in blocks:
        model.partial_fit(block)

    def ask():
        model.update(blocks[0][:, 0])
        return model.eigenvalues

    row = Row("streaming-dmd query", PROBLEM, "koopcore", threads)
    assert len(measure(benchmark, row, ask, rounds=5)) == RANK


def test_streaming_dmd_small(benchmark, small_blocks, threads):
    model = StreamingDMD(RANK)
    row = Row(OPERATION, SMALL, "koopcore", threads)
    stream_blocks.measure_updates(benchmark, row, model, small_blocks)
    assert np.isfinite(model.singular_values).all()


def test_streaming_dmd_small_odmd(benchmark, small_blocks):
    peer = OnlineDMD(SMALL.n, 1.0)
    series = np.hstack(small_blocks)[:, : BLOCK + 1].astype(np.float64).T

    def update():
        for before, after in pairwise(series):
            peer.update(before, after)

    measure(benchmark, Row(OPERATION, SMALL, "odmd, OnlineDMD"), update, rounds=3, warmup_rounds=0)
    error = peer.A @ series[-2] - series[-1]
    assert np.linalg.norm(error) < 1e-2 * np.linalg.norm(series[-1])
