"""The Gram matrix behind a fit with one and with two BLAS threads: why one is the default."""

import numpy as np
import pytest

import koopcore


@pytest.mark.benchmark(group="Gram matrix n=1e6 m=64 float32, BLAS threads")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("turn", ["first", "again"])
def test_gram(benchmark, snapshots, turn, threads):
    """Take turns: the second thread's gain differs from one call to the next."""
    koopcore.set_num_threads(threads)
    try:
        gram = benchmark.pedantic(koopcore._core.gram, (snapshots,), rounds=5, warmup_rounds=1)
    finally:
        koopcore.set_num_threads(1)
    np.testing.assert_allclose(gram[0, 0], np.sum(snapshots[:, 0].astype(np.float64) ** 2))
