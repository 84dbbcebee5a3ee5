"""One update of a stream: 16 snapshots of 1e6 float32 numbers into 20 modes, and its peers.

The snapshots carry white noise, so that every block moves every direction: the costliest case.
The limit is the time to copy the block plus the flops of the update, a Gram matrix of c = 30 + 16
columns in float64 and a combination of them to 30 in float32, at the matrix-multiply speeds
measured here, on all the threads that NumPy takes.
"""

import itertools
import os

import numpy as np
import pytest
from memory import peak_of
from sklearn.decomposition import IncrementalPCA
from stream_shapes import Hemati

from koopcore import StreamingDMD, StreamingSVD

N, RANK, BLOCK, KEPT = 1_000_000, 20, 16, 30
HELD = f"koopcore.StreamingDMD({RANK})"
CORES = len(os.sched_getaffinity(0))
RATES = np.linspace(0.9, 0.999, RANK)
pytestmark = pytest.mark.benchmark(group=f"stream update n={N:.0e} k={RANK} blocks of {BLOCK}")
OPTIONS = {"rounds": 9, "iterations": 1, "warmup_rounds": 1}


def block_of(modes, first, noise):
    rng = np.random.default_rng(first)
    powers = RATES[:, None] ** np.arange(first, first + BLOCK)
    block = modes @ powers.astype(np.float32)
    if noise:
        block += np.float32(noise) * rng.standard_normal(block.shape, dtype=np.float32)
    return np.asfortranarray(block)


@pytest.fixture(scope="module")
def modes():
    return np.random.default_rng(0).standard_normal((N, RANK), dtype=np.float32)


@pytest.fixture(scope="module")
def noisy(modes):
    return [block_of(modes, BLOCK * i, 1e-3) for i in range(4)]


def warmed(model, blocks):
    """Return the model after four blocks: its basis is full and every update is alike."""
    for block in blocks:
        model.partial_fit(block)
    return model


def test_stream_copy_of_a_block(benchmark, noisy):
    target = np.empty_like(noisy[0])
    benchmark.pedantic(np.copyto, (target, noisy[0]), **OPTIONS)
    assert target[-1, -1] == noisy[0][-1, -1]


@pytest.mark.parametrize(
    ("kind", "flops"),
    [("gram", N * (KEPT + BLOCK) ** 2), ("combination", 2 * N * (KEPT + BLOCK) * KEPT)],
)
def test_stream_flops_at_gemm_peak(benchmark, kind, flops):
    k = round((flops / 2) ** (1 / 3))
    dtype = np.float64 if kind == "gram" else np.float32
    a = np.random.default_rng(1).standard_normal((k, k)).astype(dtype)
    assert np.isfinite(benchmark.pedantic(np.dot, (a, a), **OPTIONS)).all()


@pytest.mark.parametrize("n_threads", sorted({1, CORES}))
@pytest.mark.parametrize("order", ["F", "C"])
def test_stream_update(benchmark, noisy, order, n_threads):
    model = warmed(StreamingDMD(RANK, n_threads=n_threads), noisy)
    blocks = itertools.cycle([np.asarray(block, order=order) for block in noisy])
    benchmark.pedantic(lambda: model.partial_fit(next(blocks)), **OPTIONS)
    assert np.isfinite(model.singular_values).all()
    if order == "F":
        benchmark.extra_info["numbers"] = peak_of(
            "import koopcore", f"{HELD}.partial_fit(X).partial_fit(X).partial_fit(X)", (N, BLOCK)
        )


def test_stream_update_without_new_directions(benchmark, modes):
    """Exact-rank data: the basis stays, and only the Gram matrix is left to do."""
    exact = [block_of(modes, BLOCK * i, 0.0) for i in range(4)]
    model = warmed(StreamingDMD(RANK, n_threads=CORES), exact)
    blocks = itertools.cycle(exact[1:])
    benchmark.pedantic(lambda: model.partial_fit(next(blocks)), **OPTIONS)
    assert np.abs(np.abs(model.eigenvalues[0]) - RATES[-1]) < 0.1


def test_stream_svd_update(benchmark, noisy):
    model = warmed(StreamingSVD(RANK, center=True, n_threads=CORES), noisy)
    blocks = itertools.cycle(noisy)
    benchmark.pedantic(lambda: model.partial_fit(next(blocks)), **OPTIONS)
    assert model.error < np.sqrt(model.energy)


def test_stream_query(benchmark, noisy):
    """Eigenvalues anew, half a block pending: what a question costs, at any length."""
    model = warmed(StreamingDMD(RANK), noisy)

    def ask():
        model.update(noisy[0][:, 0])
        return model.eigenvalues

    assert len(benchmark.pedantic(ask, rounds=5, iterations=1)) == RANK


def test_stream_hemati_numpy(benchmark, noisy):
    """Hemati, Williams & Rowley 2014 in NumPy, with slack so that it compresses once a block."""
    peer = Hemati(N, RANK, oversampling=KEPT - RANK, dtype=np.float32, slack=BLOCK)
    for block in noisy[:3]:
        peer.update(block)
    benchmark.pedantic(lambda: peer.update(noisy[3]), rounds=2, iterations=1)
    assert np.isfinite(peer.eigenvalues(RANK)).all()


def test_stream_incremental_pca(benchmark, noisy):
    """scikit-learn takes no more components than the block has snapshots: 16."""
    peer = IncrementalPCA(n_components=BLOCK)
    for block in noisy[:2]:
        peer.partial_fit(block.T)
    benchmark.pedantic(lambda: peer.partial_fit(noisy[2].T), rounds=2, iterations=1)
    assert np.isfinite(peer.singular_values_).all()
