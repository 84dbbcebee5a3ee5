"""One update of a centred streaming SVD: 16 snapshots of 1e6 float32 numbers into 20 directions."""

import numpy as np
import pytest
import stream_blocks
from measure import Row, measure
from sklearn.decomposition import IncrementalPCA

from koopcore import StreamingSVD

OPERATION = "streaming-svd"


@pytest.fixture(scope="module")
def blocks():
    return stream_blocks.blocks_of(stream_blocks.make_modes())


def test_streaming_svd_limit_copy(benchmark, blocks, machine_threads):
    stream_blocks.copy_limit(benchmark, OPERATION, machine_threads, blocks)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_streaming_svd_limit_flops_at_gemm_peak(benchmark, dtype, machine_threads):
    stream_blocks.flops_limit(benchmark, OPERATION, machine_threads, dtype)


def test_streaming_svd(benchmark, blocks, threads):
    model = StreamingSVD(stream_blocks.RANK, center=True)
    row = stream_blocks.update_row(OPERATION, "koopcore", threads)
    stream_blocks.measure_updates(benchmark, row, model, blocks)
    assert model.error < np.sqrt(model.energy)


def test_streaming_svd_incremental_pca(benchmark, blocks):
    """scikit-learn takes no more components than the block has snapshots: 16."""
    peer = IncrementalPCA(n_components=stream_blocks.BLOCK)
    for block in blocks[:2]:
        peer.partial_fit(block.T)
    row = Row(OPERATION, stream_blocks.PROBLEM, "scikit-learn, IncrementalPCA")
    measure(benchmark, row, lambda: peer.partial_fit(blocks[2].T), rounds=3, warmup_rounds=0)
    assert np.isfinite(peer.singular_values_).all()
