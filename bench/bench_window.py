"""One snapshot into a window of 16, and a combination of the window, at n = 1e6 float32."""

import numpy as np
import pytest
from conftest import N

from koopcore import WindowDMD


@pytest.fixture
def window():
    rng = np.random.default_rng(0)
    state = rng.standard_normal(N, dtype=np.float32)
    window = WindowDMD(window=16, affine=True)
    for t in range(16):
        window.update(state * np.float32(1.0 + 0.9**t))
    return window, state


@pytest.mark.benchmark(group="push n=1e6 window=16 float32")
def test_copy_of_the_state(benchmark):
    source, target = np.ones(N, np.float32), np.empty(N, np.float32)
    benchmark(np.copyto, target, source)
    assert target[-1] == 1.0


@pytest.mark.benchmark(group="push n=1e6 window=16 float32")
def test_push(benchmark, window):
    held, state = window
    benchmark(held.update, state)
    assert held.n_snapshots == 16


@pytest.mark.benchmark(group="combine n=1e6 m=16 float32")
def test_read_of_the_window(benchmark):
    data = np.ones((16, N), np.float32)
    total = benchmark(np.sum, data)
    assert total == 16 * N


@pytest.mark.benchmark(group="combine n=1e6 m=16 float32")
def test_combine(benchmark, window):
    held, state = window
    out = np.empty_like(state)
    coefficients = held.coefficients(1e4)
    benchmark(held._buffer.combine, coefficients, [out])
    np.testing.assert_allclose(out, state, rtol=1e-3, atol=1e-3)
