"""What a StreamingDMD answers: forecasts, predictions, amplitudes; forms of states; refusals."""

import numpy as np
import pytest
from streams import CLOSE, EXACT, PAIR, RATES, Unchanged, relative, same_bits
from support import DTYPES, planted

from koopcore import DMD, StreamingDMD, StreamingSVD


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


def modal(rates, n, times, seed=0):
    """Snapshots of a system at any times, negative and fractional ones too."""
    X = planted(rates, n=n, m=len(rates), seed=seed)
    amplitudes = np.linalg.solve(np.vander(rates, len(rates), increasing=True).T, X.T)
    return ((np.asarray(rates)[None] ** np.asarray(times)[:, None]) @ amplitudes).real.T


@pytest.mark.parametrize("options", [{}, {"affine": True}, {"delays": 2}], ids=str)
def test_horizons_may_be_fractional_negative_and_many(dtype, options):
    shift = 3.0 if options.get("affine") else 0.0
    X = planted(RATES, n=50, m=40, dtype=dtype, fixed_point=shift)
    model = StreamingDMD(4, **options).partial_fit(X)
    horizons = [0, 1, 2.5, 20, -3, -0.5]
    states = model.forecast(horizons)
    assert states.shape == (50, 6)
    assert states.dtype == dtype
    expected = modal(RATES, 50, 39 + np.array(horizons)) + shift
    assert relative(states, expected) < 50 * CLOSE[dtype]
    for j, h in enumerate(horizons):
        one = model.forecast(h)
        assert one.shape == (50,)
        assert relative(one, states[:, j]) < CLOSE[dtype]


@pytest.mark.parametrize("options", [{}, {"affine": True}], ids=str)
def test_out_is_written_and_returned(dtype, options):
    X = planted(RATES, n=24, m=40, dtype=dtype)
    whole = StreamingDMD(4, **options).partial_fit(X)
    out = np.full(24, np.nan, dtype)
    assert whole.forecast(2, out=out) is out
    np.testing.assert_array_equal(out, whole.forecast(2))
    split = StreamingDMD(4, **options)
    for x in X.T:
        split.update([x[:4], x[4:].reshape(5, 4)])
    outs = [np.empty(4, dtype), np.empty((5, 4), dtype)]
    assert split.forecast(2, out=outs) is outs
    np.testing.assert_array_equal(np.concatenate([outs[0], outs[1].ravel()]), out)


@pytest.mark.parametrize(
    ("horizon", "out", "error", "message"),
    [
        ([1, 2], np.empty(4), ValueError, r"out= holds one forecast; horizon asks for \[1, 2\]"),
        (1, np.empty(3), ValueError, r"out\[0\] has 3 numbers"),
        (1, np.empty(4, np.float32), TypeError, r"out\[0\] has dtype float32"),
        (1, np.empty(8)[::2], ValueError, "not C-contiguous"),
        (1, [np.empty(2), np.empty(2)], ValueError, "2 segments"),
        (np.nan, None, ValueError, "horizon=nan must be finite"),
        ([1, np.inf], None, ValueError, "must be finite"),
        ([], None, ValueError, r"horizon=\[\] must be"),
        ([[1]], None, ValueError, r"horizon=\[\[1\]\]"),
    ],
)
def test_a_bad_forecast_is_refused_by_name(horizon, out, error, message):
    model = StreamingDMD(2).partial_fit(planted((0.9, 0.5), n=4, m=20))
    with Unchanged(model), pytest.raises(error, match=message):
        model.forecast(horizon, out=out)


@pytest.mark.parametrize("options", [{}, {"affine": True}, {"delays": 2}], ids=str)
def test_predict_advances_given_states(dtype, options):
    X = planted(RATES, n=50, m=60, dtype=dtype, fixed_point=2.0 if "affine" in options else 0.0)
    model = StreamingDMD(4, **options).partial_fit(X[:, :41])
    if options.get("delays"):
        one, many = X[:, 4:6], np.stack([X[:, 4:9], X[:, 5:10]], axis=1)
    else:
        one, many = X[:, 5], X[:, 5:10]
    for steps in (1, 3):
        found = model.predict(one, steps)
        assert found.dtype == dtype
        assert relative(found, X[:, 5 + steps]) < 50 * CLOSE[dtype]
        found = model.predict(many, steps)
        assert relative(found, X[:, 5 + steps : 10 + steps]) < 50 * CLOSE[dtype]
    half = model.predict(one, 1.5)
    exact = modal(RATES, 50, [6.5])[:, 0] + (2.0 if "affine" in options else 0.0)
    assert relative(half, exact) < 50 * CLOSE[dtype]


def test_predict_is_that_of_batch_dmd_off_the_data(dtype):
    rng = np.random.default_rng(0)
    X = planted(RATES, n=12, m=60) + 1e-2 * rng.standard_normal((12, 60))
    x = rng.standard_normal((12, 3)).astype(dtype)
    X = X.astype(dtype)
    stream, batch = StreamingDMD(4).partial_fit(X), DMD(rank=4).fit(X)
    assert relative(stream.predict(x), batch.predict(x)) < 10 * EXACT[dtype]


@pytest.mark.parametrize("options", [{}, {"affine": True}], ids=str)
@pytest.mark.parametrize(
    ("x", "steps", "error", "message"),
    [
        (np.ones(3), 1, ValueError, r"x has shape \(3,\); expected \(4,\)"),
        (np.ones((4, 2, 2)), 1, ValueError, r"x has shape \(4, 2, 2\)"),
        (np.ones(4, np.float32), 1, TypeError, "x has dtype float32"),
        (np.array([1, np.nan, 1, 1]), 1, ValueError, "x has a value that is not finite"),
    ],
)
def test_a_bad_predict_is_refused_by_name(options, x, steps, error, message):
    model = StreamingDMD(2, **options).partial_fit(planted((0.9, 0.5), n=4, m=20))
    with Unchanged(model), pytest.raises(error, match=message):
        model.predict(x, steps)


@pytest.mark.parametrize("steps", [0, -1, np.nan, np.inf])
def test_predict_refuses_less_than_a_step(steps):
    model = StreamingDMD(2).partial_fit(planted((0.9, 0.5), n=4, m=20))
    with pytest.raises(ValueError, match="at least 1"):
        model.predict(np.ones(4), steps)


@pytest.mark.parametrize("options", [{"n_inputs": 1}, {"affine": True, "delays": 2}], ids=str)
def test_predict_says_for_which_streams_it_is(options):
    model = StreamingDMD(2, **options)
    with pytest.raises(ValueError, match="predict is for streams without inputs"):
        model.predict(np.ones(4))


def test_amplitudes_give_the_newest_state_and_the_forecasts(dtype):
    X = planted(RATES, n=50, m=41, dtype=dtype)
    model = StreamingDMD(4).partial_fit(X)
    modes, values, amplitudes = model.modes, model.eigenvalues, model.amplitudes
    assert modes.dtype == (np.complex64 if dtype == np.float32 else np.complex128)
    assert relative((modes @ amplitudes).real, X[:, -1]) < 20 * CLOSE[dtype]
    ahead = (modes @ (amplitudes * values**3)).real
    assert relative(ahead, model.forecast(3)) < 20 * CLOSE[dtype]


def test_amplitudes_with_delays_and_affine(dtype):
    X = planted(RATES, n=50, m=41, dtype=dtype, fixed_point=1.0)
    affine = StreamingDMD(4, affine=True).partial_fit(X)
    step = (affine.modes @ affine.amplitudes).real
    assert relative(step, X[:, -1] - X[:, -2]) < 100 * CLOSE[dtype]
    delayed = StreamingDMD(5, delays=2).partial_fit(X)
    oldest = (delayed.modes @ delayed.amplitudes).real
    assert relative(oldest, X[:, -2]) < 20 * CLOSE[dtype]


def test_continuous_time_is_that_of_dt():
    model = StreamingDMD(2, dt=0.25).partial_fit(planted((PAIR, PAIR.conjugate()), n=20, m=30))
    np.testing.assert_allclose(np.sort(model.frequency), np.array([-0.7, 0.7]) / (2 * np.pi * 0.25))
    np.testing.assert_allclose(model.growth_rate, np.log(0.8) / 0.25)
    np.testing.assert_allclose(np.exp(model.omega * 0.25), model.eigenvalues)
    np.testing.assert_array_equal(model.eigs, model.eigenvalues)


def test_lists_of_arrays_are_one_state(dtype):
    X = planted(RATES, n=24, m=40, dtype=dtype)
    whole, split = StreamingDMD(4), StreamingDMD(4)
    for x in X.T:
        whole.update(x)
        split.update([x[:4], x[4:].reshape(5, 4)])
    np.testing.assert_array_equal(split.eigenvalues, whole.eigenvalues)
    for question in (lambda m: m.modes, lambda m: m.forecast(2), lambda m: m.forecast([1, 2])):
        first, second = question(split)
        assert first.shape[:1] == (4,)
        assert second.shape[:2] == (5, 4)
        flat = np.concatenate([first, second.reshape(20, *second.shape[2:])])
        np.testing.assert_array_equal(flat, question(whole))


def test_tensors_are_taken_as_arrays(dtype):
    torch = pytest.importorskip("torch")
    X = planted(RATES, n=24, m=40, dtype=dtype)
    arrays = StreamingDMD(4).partial_fit(X[:, :30]).update(X[:, 30])
    tensors = StreamingDMD(4).partial_fit(torch.from_numpy(X[:, :30]))
    tensors.update(torch.from_numpy(X[:, 30].copy()))
    assert same_bits(arrays, tensors)
    np.testing.assert_array_equal(np.asarray(tensors.forecast(2)), arrays.forecast(2))
    np.testing.assert_array_equal(
        np.asarray(tensors.predict(torch.from_numpy(X[:, 3].copy()))), arrays.predict(X[:, 3])
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(rank=0), ValueError, "rank=0 must be at least 1"),
        (dict(rank=2.5), TypeError, r"rank=2\.5 must be an int"),
        (dict(rank="svht"), TypeError, "rank='svht' must be an int"),
        (dict(rank=True), ValueError, "rank=True"),
        (dict(oversampling=-1), ValueError, "oversampling=-1"),
        (dict(block=0), ValueError, "block=0"),
        (dict(forgetting=0.0), ValueError, r"forgetting=0\.0"),
        (dict(forgetting=1.5), ValueError, r"forgetting=1\.5"),
        (dict(forgetting=np.nan), ValueError, "forgetting=nan"),
        (dict(tol=-1e-3), ValueError, r"tol=-0\.001"),
        (dict(tol=1.0), ValueError, r"tol=1\.0"),
        (dict(random_state=-1), ValueError, "random_state=-1"),
        (dict(random_state=1.5), TypeError, r"random_state=1\.5"),
        (dict(random_state=2**64), ValueError, "random_state=18446744073709551616"),
        (dict(first_row=32), ValueError, "first_row=32 must be a multiple of 64"),
        (dict(first_row=-64), ValueError, "first_row=-64"),
        (dict(reduce=lambda x: x), ValueError, "say with first_row="),
    ],
)
@pytest.mark.parametrize("kind", [StreamingSVD, StreamingDMD])
def test_bad_options_of_streams_are_refused_by_name(kind, options, error, message):
    with pytest.raises(error, match=message):
        kind(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(variant="optimized"), "variant='optimized' fits all snapshots at once"),
        (dict(variant="other"), "variant='other' is not one of"),
        (dict(affine="constant"), "affine='constant' must be True or False"),
        (dict(delays=0), "delays=0"),
        (dict(n_inputs=-1), "n_inputs=-1"),
        (dict(n_inputs=1, variant="tls"), "n_inputs=1 goes with variant='standard'"),
        (dict(n_inputs=1, affine=True), "n_inputs=1 goes with"),
        (dict(ridge=0.1, variant="tls"), r"ridge=0\.1 goes with variant='standard'"),
        (dict(ridge=-1.0), r"ridge=-1\.0"),
        (dict(exact=True, variant="symmetric"), "exact=True"),
        (dict(unstable="explode"), "unstable='explode'"),
        (dict(constraint="even"), "constraint='even'"),
        (dict(dt=0.0), r"dt=0\.0"),
    ],
)
def test_bad_options_of_a_fit_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        StreamingDMD(**options)


@pytest.mark.parametrize(
    ("u", "error", "message"),
    [
        (None, ValueError, "n_inputs=2: give the inputs as well"),
        (np.ones(3), ValueError, r"the inputs have shape \(3,\); expected \(2, 1\)"),
        (np.ones((1, 2)), ValueError, r"the inputs have shape \(1, 2\); expected \(2, 1\)"),
        ([1.0, np.nan], ValueError, "not finite"),
        ([1.0, 1j], TypeError, "complex128; expected real"),
    ],
)
def test_bad_inputs_are_refused_and_change_nothing(u, error, message):
    model = StreamingDMD(2, n_inputs=2).update(np.ones(4), [1.0, 2.0])
    with Unchanged(model), pytest.raises(error, match=message):
        model.update(np.ones(4), u)
    with pytest.raises(ValueError, match="inputs were given, but this stream has n_inputs=0"):
        StreamingDMD(2).update(np.ones(4), [1.0])
    with pytest.raises(ValueError, match=r"shape \(3, 2\); expected \(2, 3\)"):
        model.partial_fit(np.ones((4, 3)), U=np.ones((3, 2)))


def test_questions_of_driven_streams_only_or_not_at_all():
    with pytest.raises(ValueError, match="no inputs"):
        _ = StreamingDMD(2).partial_fit(np.eye(4)).B
    driven = StreamingDMD(2, n_inputs=1).partial_fit(np.eye(4), U=np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"use forecast\(U\)"):
        _ = driven.amplitudes
    with pytest.raises(ValueError, match=r"inputs have shape \(2, 3\); expected \(1, k\)"):
        driven.forecast(np.ones((2, 3)))


@pytest.mark.parametrize("name", ["eigenvalues", "modes", "amplitudes", "singular_values"])
def test_a_question_without_a_pair_is_refused(name):
    with pytest.raises(ValueError, match="StreamingDMD has no snapshots yet"):
        getattr(StreamingDMD(2), name)
    for options, needed in (({}, 2), ({"delays": 3}, 4), ({"affine": True}, 3)):
        one = StreamingDMD(2, **options).update(np.ones(4))
        with pytest.raises(ValueError, match=f"at least {needed} successive states, got 1"):
            getattr(one, name)
    driven = StreamingDMD(2, n_inputs=1).update(np.ones(4), [0.0])
    with pytest.raises(ValueError, match="at least two successive states"):
        _ = driven.eigenvalues
