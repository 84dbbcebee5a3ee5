"""WindowDMD and StreamingDMD are one interface: the same calls, results and refusals."""

import copy
import pickle
import threading

import numpy as np
import pytest
from support import DTYPES, match, planted

from koopcore import DMD, StreamingDMD, WindowDMD, load, save

RATES = (0.97, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j))
N, M = 60, 24
KINDS = {
    "window": lambda **options: WindowDMD(window=M, rank=3, **options),
    "stream": lambda **options: StreamingDMD(rank=3, **options),
}


@pytest.fixture(params=KINDS)
def make(request):
    return KINDS[request.param]


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["linear", "affine"])
def affine(request):
    return request.param


def trajectory(dtype=np.float64, affine=False, m=M + 12):
    """Return a planted system around 0, or around a fixed point."""
    return planted(RATES, n=N, m=m, dtype=dtype, fixed_point=2.0 if affine else 0.0)


def parts(x):
    """Cut a state into a list of arrays of its own shapes."""
    return [x[:20].copy(), x[20:].reshape(5, 8, *x.shape[1:]).copy()]


def close(dtype, scale=1.0):
    return {"atol": scale * (5e-4 if dtype == np.float32 else 1e-8), "rtol": 0}


def test_planted_system_is_found_and_forecast(make, dtype, affine):
    X = trajectory(dtype, affine)
    model = make(affine=affine, dt=0.5)
    assert model.n_snapshots == 0
    for x in X[:, :M].T:
        assert model.update(x) is model
    assert model.n_snapshots == M
    tolerance = 2e-4 if dtype == np.float32 else 1e-8
    assert match(model.eigenvalues, RATES) < tolerance
    assert match(model.omega, np.log(np.array(RATES, complex)) / 0.5) < 4 * tolerance
    assert model.forecast(5).dtype == model.forecast([1, 2]).dtype == dtype
    np.testing.assert_allclose(model.forecast(5), X[:, M + 4], **close(dtype))
    np.testing.assert_allclose(model.forecast([0, 12, 1]), X[:, [M - 1, M + 11, M]], **close(dtype))
    np.testing.assert_allclose(model.forecast(-2), X[:, M - 3], **close(dtype, 10))
    assert model.forecast([3]).shape == (N, 1)
    halves = model.forecast([0.5, 1.5, 2.5])
    assert np.isfinite(halves).all()
    out = np.empty(N, dtype)
    assert model.forecast(5, out=out) is out
    np.testing.assert_array_equal(out, model.forecast(5))


def test_partial_fit_has_the_bits_of_updates(make, dtype, affine):
    X = trajectory(dtype, affine)
    one, many = make(affine=affine), make(affine=affine)
    for x in X.T:
        one.update(x)
    strided = np.zeros((2 * N, 3 * X.shape[1]), dtype)
    strided[::2, ::3] = X
    for a, b, source in ((0, 1, X), (1, 20, strided[::2, ::3]), (20, 20, X), (20, 36, X.copy("F"))):
        assert many.partial_fit(source[:, a:b]) is many
    for horizon in (1, [0.5, 7]):
        np.testing.assert_array_equal(one.forecast(horizon), many.forecast(horizon))
    np.testing.assert_array_equal(one.eigenvalues, many.eigenvalues)


def test_a_question_in_between_changes_no_bit(make, dtype):
    X = trajectory(dtype)
    asked, silent = make(), make()
    for t, x in enumerate(X.T):
        asked.update(x)
        silent.update(x)
        if t > 5:
            assert np.isfinite(asked.forecast(1)).all()
    np.testing.assert_allclose(asked.forecast(3), silent.forecast(3), **close(dtype))


def test_modes_times_amplitudes_are_the_states(make, dtype):
    X = trajectory(dtype)[:, :M]
    model = make().partial_fit(X)
    modes, amplitudes = model.modes, model.amplitudes
    assert modes.shape == (N, 3)
    assert modes.dtype == np.result_type(dtype, np.complex64)
    # Amplitudes are those of the newest state, of a window those of its oldest one.
    ahead = M - 1 if isinstance(model, WindowDMD) else 0
    newest = modes @ (amplitudes * model.eigenvalues**ahead)
    np.testing.assert_allclose(newest.imag, 0.0, **close(dtype))
    np.testing.assert_allclose(newest.real, X[:, -1], **close(dtype))
    below, real, above = np.argsort(model.eigenvalues.imag)
    np.testing.assert_array_equal(modes[:, below], modes[:, above].conj())
    assert not modes[:, real].imag.any()


def test_predict_advances_given_states(make, dtype, affine):
    X = trajectory(dtype, affine)
    model = make(affine=affine).partial_fit(X[:, :M])
    np.testing.assert_allclose(model.predict(X[:, 3]), X[:, 4], **close(dtype))
    three = model.predict(X[:, :5], n_steps=3)
    assert three.dtype == dtype
    np.testing.assert_allclose(three, X[:, 3:8], **close(dtype))
    assert model.predict(X[:, :1]).shape == (N, 1)


@pytest.mark.parametrize(
    "options",
    [{}, {"exact": False}, {"variant": "tls"}, {"variant": "symmetric", "unstable": "keep"}],
    ids=repr,
)
def test_predict_of_any_state_is_that_of_a_batch_fit(make, affine, options):
    rng = np.random.default_rng(1)
    X = trajectory(affine=affine)[:, :M] + 1e-2 * rng.standard_normal((N, M))
    wide = {"oversampling": M} if make is KINDS["stream"] else {}
    model = make(affine=affine, **options, **wide).partial_fit(X)
    batch = DMD(rank=3, affine=affine, solver="gram", **options).fit(X)
    x = rng.standard_normal((N, 4))  # not of the span of the modes
    for n_steps in (1, 2.5):
        np.testing.assert_allclose(
            model.predict(x, n_steps), batch.predict(x, n_steps), rtol=0, atol=1e-10
        )


def test_predict_with_delays_takes_stacked_states(make):
    X = trajectory()
    model = make(delays=2).partial_fit(X[:, :M])
    stacked = np.stack([X[:, :4], X[:, 1:5]], axis=1)
    assert stacked.shape == (N, 2, 4)
    np.testing.assert_allclose(model.predict(stacked, 2), X[:, 3:7], atol=1e-8)
    np.testing.assert_allclose(model.predict(stacked[:, :, 1]), X[:, 3], atol=1e-8)


def test_lists_of_arrays_are_one_state(make, dtype, affine):
    X = trajectory(dtype, affine)
    whole, split = make(affine=affine).partial_fit(X[:, :M]), make(affine=affine)
    split.update(parts(X[:, 0]))
    split.partial_fit(X[:, 1:20])  # columns are the arrays one below the other
    for x in X[:, 20:M].T:
        split.update(parts(x))
    for given, expected in (
        (split.forecast(4), whole.forecast(4)),
        (split.forecast([4, 5]), whole.forecast([4, 5])),
        (split.modes, whole.modes),
        (split.predict(X[:, 3]), whole.predict(X[:, 3])),
        (split.predict(parts(X[:, 3:5])), whole.predict(X[:, 3:5])),
    ):
        for a, b in zip(given, parts(expected), strict=True):
            np.testing.assert_array_equal(a, b)
    out = [np.empty(20, dtype), np.empty((5, 8), dtype)]
    assert split.forecast(4, out=out) is out
    np.testing.assert_array_equal(out[1], split.forecast(4)[1])
    with pytest.raises(ValueError, match=r"x has 1 arrays; a state has 2"):
        split.predict(parts(X[:, 3])[:1])
    with pytest.raises(ValueError, match=r"x\[1\] has shape \(8, 5\); expected it to begin"):
        split.predict([X[:20, 3], np.ones((8, 5), dtype)])


def test_clear_forgets_all_and_takes_another_shape(make, dtype):
    X = trajectory(dtype)
    model, fresh = make().partial_fit(X), make().partial_fit(X[:30])
    model.clear()
    assert model.n_snapshots == 0
    with pytest.raises(ValueError, match="no snapshots yet"):
        model.forecast(1)
    np.testing.assert_array_equal(model.partial_fit(X[:30]).forecast(3), fresh.forecast(3))
    model.clear()
    other = np.float64 if dtype == np.float32 else np.float32
    for x in X.astype(other).T:
        model.update(parts(x))
    weights = model.forecast(1)[1]
    assert (weights.shape, weights.dtype) == ((5, 8), other)


@pytest.mark.parametrize("form", [lambda x: x, parts], ids=["vector", "list"])
@pytest.mark.parametrize("seen", [0, 1, 2, 17, 30])
def test_state_dict_goes_on_elsewhere(make, dtype, affine, form, seen):
    X = trajectory(dtype, affine)
    model = make(affine=affine)
    for x in X[:, :seen].T:
        model.update(form(x))
    state = copy.deepcopy(model.state_dict())
    resumed = make(affine=affine).partial_fit(np.ones((3, 4)))  # which it takes the place of
    resumed.load_state_dict(state)
    assert resumed.n_snapshots == model.n_snapshots
    for x in X[:, seen:].T:
        model.update(form(x))
        resumed.update(form(x))
    flat = [
        np.concatenate([np.ravel(s) for s in f]) if isinstance(f, list) else f
        for f in (model.forecast(6), resumed.forecast(6))
    ]
    np.testing.assert_array_equal(*flat)


def test_size_of_the_state_does_not_grow(make):
    model = make().partial_fit(trajectory(m=100))

    def size():
        return sum(np.size(value) for value in model.state_dict().values())

    before = size()
    assert before < N * 40 + 1000
    model.partial_fit(trajectory(m=400))
    assert size() <= before


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(make):
    X = trajectory()
    model = make().partial_fit(X)
    before, state = model.forecast(2), model.state_dict()
    columns, numbers = state["columns"], state["numbers"]
    spoiled = np.append(numbers[:-1], np.nan)
    for bad, message in (
        ({"shapes": [[N]]}, "not from state_dict"),
        ({**state, "columns": columns[:-1]}, f"{N - 1}"),
        ({**state, "columns": np.hstack([columns] * 3)}, f"{3 * columns.shape[1]}"),
        ({**state, "columns": np.full_like(columns, np.nan)}, "not finite|overflow"),
        ({**state, "numbers": numbers[:-1]}, f"{len(numbers) - 1} numbers"),
        ({**state, "numbers": spoiled}, "nan"),
    ):
        with pytest.raises(ValueError, match=message):
            model.load_state_dict(bad)
        np.testing.assert_array_equal(model.forecast(2), before)
    model.load_state_dict({})
    assert model.n_snapshots == 0


def test_pickle_copy_and_files_keep_it(make, dtype, tmp_path):
    X = trajectory(dtype)
    model = make(dt=0.1).partial_fit(X)
    save(tmp_path / "model.npz", model)
    for other in (
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        load(tmp_path / "model.npz"),
    ):
        np.testing.assert_array_equal(other.forecast(2), model.forecast(2))
        assert other.dt == 0.1
        assert other.update(X[:, 0]).n_snapshots >= M
    empty = pickle.loads(pickle.dumps(make()))
    assert empty.partial_fit(X).n_snapshots == make().partial_fit(X).n_snapshots


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        (np.ones((N, 2), int), TypeError, "X has dtype int64"),
        (np.ones((N, 2), np.float32), TypeError, "float32"),
        (np.ones(N), ValueError, "expected 2 dimensions"),
        (np.ones((N - 1, 2)), ValueError, f"{N - 1}"),
        (np.array([[1.0, 2.0, np.nan]] * N), ValueError, "not finite"),
        (np.array([[1.0, -np.inf, 2.0]] * N), ValueError, "not finite"),
    ],
)
def test_a_bad_block_is_refused_whole(make, block, error, message):
    X = trajectory()
    model = make().partial_fit(X[:, :M])
    before = model.forecast(2)
    with pytest.raises(error, match=message):
        model.partial_fit(block)
    assert model.n_snapshots == M
    np.testing.assert_array_equal(model.forecast(2), before)


def test_a_block_that_overflows_halfway_is_refused_whole(make):
    small = 1e140 if make is KINDS["stream"] else 1e308  # a stream squares, a window subtracts
    model = make().partial_fit(small * np.ones((N, 2)))
    before = model.state_dict()
    block = np.outer(np.ones(N), [1e100, -1e308, 1.0])
    with pytest.raises(ValueError, match=r"finite|overflow"):
        model.partial_fit(block)
    after = model.state_dict()
    assert model.n_snapshots == 2
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.predict(np.ones(N, np.float32)), TypeError, "x has dtype float32"),
        (lambda m: m.predict(np.ones(N + 1)), ValueError, rf"x has shape \({N + 1},\)"),
        (lambda m: m.predict(np.full(N, np.nan)), ValueError, "x has a value that is not finite"),
        (lambda m: m.predict(np.ones(N), 0.5), ValueError, "steps must be at least 1"),
        (lambda m: m.forecast(np.nan), ValueError, "finite"),
        (lambda m: m.forecast([1.0, np.inf]), ValueError, "finite"),
        (lambda m: m.forecast([[1.0]]), ValueError, "horizon"),
        (lambda m: m.forecast([1, 2], out=np.empty(N)), ValueError, "one forecast"),
        (lambda m: m.forecast(1, out=np.empty(N - 1)), ValueError, r"out\[0\]"),
        (lambda m: m.update(np.ones(N - 1)), ValueError, f"{N - 1}"),
        (lambda m: m.update(np.full(N, np.inf)), ValueError, "finite"),
        (lambda m: m.update(np.ones((N, 1))), ValueError, "one snapshot is 1-D"),
    ],
)
def test_bad_calls_are_refused_and_change_nothing(make, call, error, message):
    model = make().partial_fit(trajectory())
    before, seen = model.forecast(2), model.n_snapshots
    with pytest.raises(error, match=message):
        call(model)
    assert model.n_snapshots == seen
    np.testing.assert_array_equal(model.forecast(2), before)


def test_questions_before_the_first_snapshot_are_refused(make):
    for ask in (
        lambda m: m.forecast(1),
        lambda m: m.forecast([1, 2]),
        lambda m: m.predict(np.ones(3)),
        lambda m: m.eigenvalues,
        lambda m: m.modes,
        lambda m: m.amplitudes,
    ):
        with pytest.raises(ValueError, match="no snapshots yet; call update"):
            ask(make())
    model = make()
    with pytest.raises(ValueError, match="it is empty"):
        model.partial_fit(np.ones((0, 2)))
    model.update(np.ones(3))
    with pytest.raises(ValueError, match="at least"):
        model.forecast(1)


def test_two_threads_share_one_object(make):
    X = trajectory(m=400)
    model = make()
    model.partial_fit(X[:, :M])
    errors = []

    def ask():
        try:
            for _ in range(40):
                assert np.isfinite(model.forecast([1, 2])).all()
                assert np.isfinite(model.predict(X[:, 0])).all()
                assert model.modes.shape[0] == N
                model.state_dict()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for x in X[:, M:].T:
        model.update(x)
    for thread in threads:
        thread.join()
    assert not errors
