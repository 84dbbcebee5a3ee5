"""koopcore.WindowDMD: a window equals a fresh batch fit, and refuses what it cannot hold."""

import sys
import threading
import time

import numpy as np
import pytest
from support import DTYPES, match, planted

from koopcore import DMD, WindowDMD


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


@pytest.mark.parametrize("affine", [True, False])
def test_window_equals_a_batch_fit_of_its_snapshots(dtype, affine):
    X = planted((0.99, 0.9, 0.7), m=30, dtype=dtype, fixed_point=2.0 if affine else 0.0)
    window = WindowDMD(window=12, rank=3, affine=affine)
    for t in range(30):
        window.update(X[:, t])
        if t % 4 == 3:
            held = X[:, max(0, t - 11) : t + 1]
            if held.shape[1] < 5:
                continue
            batch = DMD(rank=3, affine=affine).fit(held)
            assert match(window.eigenvalues, batch.eigenvalues) < (
                2e-2 if dtype == np.float32 else 1e-7
            )
            forecast = window.forecast(5)
            assert forecast.dtype == dtype
            np.testing.assert_allclose(forecast, batch.forecast(5), rtol=1e-2, atol=2e-3)
    assert window.n_snapshots == 12


def test_after_10000_updates_the_window_equals_a_fresh_fit(dtype):
    rng = np.random.default_rng(0)
    drift, cosine, sine = rng.standard_normal((3, 300))
    t = np.arange(10000)
    swing = np.outer(cosine, np.cos(0.5 * t)) + np.outer(sine, np.sin(0.5 * t))
    X = (0.1 * np.outer(drift, t) + swing).astype(dtype)
    window = WindowDMD(window=10, affine=True, rank=3)
    for k in range(10000):
        window.update(X[:, k])
        if k % 7 == 0 and k > 10:
            window.coefficients(1)
    fresh = WindowDMD(window=10, affine=True, rank=3)
    for k in range(9990, 10000):
        fresh.update(X[:, k])
    tolerance = 2e-3 if dtype == np.float32 else 1e-7
    expected = (1.0, np.exp(0.5j), np.exp(-0.5j))
    assert match(window.eigenvalues, expected) < tolerance
    assert match(window.eigenvalues, fresh.eigenvalues) < tolerance


def test_segments_are_one_state(dtype):
    X = planted((0.95, 0.8), n=24, m=8, dtype=dtype, fixed_point=1.0)
    whole = WindowDMD(window=6, affine=True)
    split = WindowDMD(window=6, affine=True)
    for state in X.T:
        whole.update(state)
        split.update([state[:4].copy(), state[4:].reshape(5, 4).copy()])
    first, second = split.forecast(10)
    assert first.shape == (4,)
    assert second.shape == (5, 4)
    np.testing.assert_array_equal(np.concatenate([first, second.ravel()]), whole.forecast(10))
    out = [np.empty(4, dtype), np.empty((5, 4), dtype)]
    returned = split.forecast(10, out=out)
    assert returned[0] is out[0]
    np.testing.assert_array_equal(out[1], second)


def test_coefficients_give_the_forecast_and_sum_to_one():
    X = planted((0.95, 0.8), m=8, fixed_point=1.0)
    window = WindowDMD(window=6, affine=True)
    for state in X.T:
        window.update(state)
    coefficients = window.coefficients(7.5)
    assert coefficients.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(X[:, -6:] @ coefficients, window.forecast(7.5), rtol=1e-9)
    assert window.gram.shape == (6, 6)


def test_clear_starts_anew_with_the_same_state(dtype):
    X = planted((0.9,), m=5, dtype=dtype)
    window = WindowDMD(window=4, rank=1)
    for state in X.T:
        window.update(state)
    before = window.forecast(2)
    window.clear()
    assert window.n_snapshots == 0
    with pytest.raises(ValueError, match="no snapshots yet"):
        window.forecast(1)
    for state in X.T:
        window.update(state)
    np.testing.assert_array_equal(window.forecast(2), before)


def test_cpu_tensors_are_taken_as_arrays():
    torch = pytest.importorskip("torch")
    X = planted((0.9,), m=5)
    arrays, tensors = WindowDMD(window=4, rank=1), WindowDMD(window=4, rank=1)
    for x in X.T:
        arrays.update(x)
        tensors.update(torch.from_numpy(x.copy()))
    np.testing.assert_array_equal(tensors.forecast(3), arrays.forecast(3))
    assert isinstance(tensors.forecast(3), torch.Tensor)
    assert isinstance(tensors.modes, torch.Tensor)
    layers = WindowDMD(window=4, rank=1)
    for x in X.T:
        layers.update([torch.from_numpy(x[:8].reshape(2, 4)).requires_grad_(), x[8:]])
    weights, rest = layers.forecast(3)
    np.testing.assert_array_equal(weights, arrays.forecast(3)[:8].reshape(2, 4))
    assert isinstance(weights, torch.Tensor)
    assert isinstance(rest, np.ndarray)


def test_labels_of_xarray_are_kept():
    xarray = pytest.importorskip("xarray")
    window = WindowDMD(window=4, rank=1)
    for x in planted((0.9,), n=3, m=5).T:
        window.update(xarray.DataArray(x, dims="site", coords={"site": [10, 20, 30]}))
    assert window.forecast(2).site.values.tolist() == [10, 20, 30]
    assert window.modes.dims == ("site", "mode")
    assert window.reconstruct().dims == ("site", "snapshot")


OPTIONS = [
    {},
    {"exact": False},
    {"affine": True},
    {"affine": "constant"},
    {"delays": 2},
    {"variant": "tls"},
    {"variant": "optimized"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_modes_and_dynamics_are_those_of_a_batch_fit(dtype, options):
    fixed_point = 2.0 if "affine" in options else 0.0
    X = planted((0.97, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j)), dtype=dtype, m=20,
                fixed_point=fixed_point)  # fmt: skip
    options = {"rank": 4 if options.get("affine") == "constant" else 3, "dt": 0.1, **options}
    whole, parts = WindowDMD(window=12, **options), WindowDMD(window=12, **options)
    for x in X.T:
        whole.update(x)
        parts.update([x[:50], x[50:].reshape(10, 15)])
    held, tolerance = X[:, 8:], 1e-8 if dtype == np.float64 else 2e-3
    batch = DMD(solver="gram", **options).fit(held)
    assert whole.modes.dtype == batch.modes.dtype
    np.testing.assert_allclose(whole.reconstruct(), held, atol=tolerance)
    np.testing.assert_allclose(abs(whole.modes), abs(batch.modes), atol=tolerance)
    np.testing.assert_allclose(abs(whole.dynamics), abs(batch.dynamics), atol=10 * tolerance)
    np.testing.assert_array_equal(whole.times, batch.times)
    assert [part.shape for part in parts.modes] == [
        (50, options["rank"]),
        (10, 15, options["rank"]),
    ]
    np.testing.assert_array_equal(parts.reconstruct()[0], whole.reconstruct()[:50])
    assert whole.forecast(-2).dtype == dtype
    np.testing.assert_allclose(whole.forecast([-2, 0]), X[:, [17, 19]], atol=tolerance)
    np.testing.assert_array_equal(parts.forecast([-2])[0], whole.forecast([-2])[:50])
    with pytest.raises(ValueError, match=r"out takes one forecast, got horizon=\[1, 2\]"):
        whole.forecast([1, 2], out=np.empty(200, dtype))


def test_strided_vectors_are_taken():
    X = planted((0.9,), m=5)
    window = WindowDMD(window=4, rank=1)
    for j in range(5):
        window.update(np.ascontiguousarray(X)[:, j])
    assert match(window.eigenvalues, (0.9,)) < 1e-8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(window=1), ValueError, "window=1 must be at least 2"),
        (dict(window=-5), ValueError, "window=-5"),
        (dict(window=2, affine=True), ValueError, "at least 3"),
        (dict(window=2.5), TypeError, r"window=2\.5"),
        (dict(window=5, rank=5), ValueError, "rank=5 needs a window of at least 6"),
        (dict(window=5, rank=4, affine=True), ValueError, "at least 6"),
        (dict(unstable=None), ValueError, "unstable=None"),
    ],
)
def test_bad_options_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        WindowDMD(**options)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (np.ones(4, np.float32), TypeError, "dtype float32; expected float64"),
        (np.ones(4, int), TypeError, "dtype int64"),
        (np.ones(5), ValueError, r"shape \(5,\)\); expected 4"),
        (np.ones((2, 2)), ValueError, "one snapshot is 1-D"),
        ([np.ones(2), np.ones(2)], ValueError, "2 segments; expected 1"),
        (np.array([1.0, np.nan, 1.0, 1.0]), ValueError, "not finite"),
        (np.array([1.0, np.inf, 1.0, 1.0]), ValueError, "not finite"),
    ],
)
def test_a_bad_update_is_refused_and_changes_nothing(state, error, message):
    window = WindowDMD(window=3)
    for t in range(4):
        window.update(np.array([1.0, 2.0, 3.0, 4.0]) * 0.5**t)
    before = window.forecast(2)
    with pytest.raises(error, match=message):
        window.update(state)
    assert window.n_snapshots == 3
    np.testing.assert_array_equal(window.forecast(2), before)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ([], ValueError, "empty list"),
        ([1.0, 2.0], TypeError, r"x\[0\] is a float"),
        ([np.ones(2), np.ones(2, np.float32)], TypeError, r"\[1\] has dtype float32"),
        ([np.ones(2), np.ones((0, 3))], ValueError, r"x\[1\] has shape \(0, 3\)"),
        (np.ones(3, np.float16), TypeError, "x has dtype float16"),
        (np.array([np.nan]), ValueError, "not finite"),
    ],
)
def test_a_bad_first_update_leaves_the_window_unused(state, error, message):
    window = WindowDMD(window=3)
    with pytest.raises(error, match=message):
        window.update(state)
    with pytest.raises(ValueError, match="no snapshots yet"):
        window.forecast(1)
    assert window.gram.shape == (0, 0)
    window.update(np.ones(7))  # any other state is still welcome
    assert window.n_snapshots == 1


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty(3, np.float32), TypeError, r"out\[0\] has dtype float32"),
        (np.empty(2), ValueError, r"out\[0\] has 2 numbers"),
        (np.empty(6)[::2], ValueError, "not C-contiguous"),
        ([np.empty(3), np.empty(3)], ValueError, "2 segments"),
        (["text"], TypeError, r"out\[0\] is a str"),
    ],
)
def test_a_bad_out_is_refused_by_name(out, error, message):
    window = WindowDMD(window=3)
    for t in range(3):
        window.update(np.ones(3) * 0.5**t)
    with pytest.raises(error, match=message):
        window.forecast(1, out=out)


def test_a_read_only_out_is_refused():
    window = WindowDMD(window=3)
    for t in range(3):
        window.update(np.ones(3) * 0.5**t)
    out = np.empty(3)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        window.forecast(1, out=out)


def test_push_runs_without_the_interpreter_lock():
    window = WindowDMD(window=4)
    state = np.ones(4_000_000)
    window.update(state)
    ticks, stop = [], threading.Event()

    def count():
        while not stop.is_set():
            ticks.append(None)
            time.sleep(0)  # gives the lock back at once

    interval = sys.getswitchinterval()
    sys.setswitchinterval(10.0)  # the other thread gets the lock only where it is given up
    try:
        thread = threading.Thread(target=count)
        thread.start()
        before = len(ticks)
        for _ in range(50):  # on a busy machine the other thread may miss a few turns
            window._buffer.push([state])
            after = len(ticks)
            if after > before:
                break
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert after > before
