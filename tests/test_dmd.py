"""koopcore.DMD against planted systems, the plain reference and PyDMD."""

import warnings

import numpy as np
import pytest
from support import DTYPES, match, planted

import koopcore
from koopcore import DMD, reference

RATES = (0.97, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j), -0.6)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-10}


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


@pytest.fixture(params=["C", "F", "sliced"])
def layout(request):
    return request.param


def laid_out(array, layout):
    if layout == "sliced":
        big = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
        big[::2, ::3] = array
        return big[::2, ::3]
    return np.asarray(array, order=layout)


@pytest.mark.parametrize("exact", [True, False])
def test_fit_planted_system_gives_its_eigenvalues(dtype, layout, exact):
    X = laid_out(planted(RATES, dtype=dtype), layout)
    model = DMD(rank=4, exact=exact).fit(X)
    assert match(model.eigenvalues, RATES) < TOLERANCE[dtype]
    np.testing.assert_array_equal(model.eigs, model.eigenvalues)
    assert model.modes.dtype == (np.complex64 if dtype == np.float32 else np.complex128)
    assert np.all(np.diff(np.abs(model.eigenvalues)) <= 1e-12)


def test_fit_pairs_equals_fit_of_the_series(dtype):
    X = planted(RATES, dtype=dtype)
    series = DMD(rank=4).fit(X)
    pairs = DMD(rank=4).fit(X[:, :-1], X[:, 1:])
    assert match(pairs.eigenvalues, series.eigenvalues) < 1e-9
    scale = np.abs(X).max()
    np.testing.assert_allclose(pairs.forecast(3), series.forecast(3), atol=1e-5 * scale)
    np.testing.assert_allclose(pairs.forecast(0), X[:, -1])
    np.testing.assert_allclose(pairs.predict(X[:, 2], 2), X[:, 4], atol=1e-4 * scale)
    projected = DMD(rank=4, exact=False).fit(X[:, :-1], X[:, 1:])
    np.testing.assert_allclose(projected.forecast([0.0, 3.0])[:, 0], X[:, -1])
    np.testing.assert_allclose(projected.forecast(3), series.forecast(3), atol=1e-4 * scale)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("opt", [True, False])
def test_modes_and_amplitudes_agree_with_the_reference(exact, opt):
    rng = np.random.default_rng(1)
    X = planted(RATES) + 1e-3 * rng.standard_normal(
        (200, 16)
    )  # no exact answer: methods must agree
    model = DMD(rank=3, exact=exact, opt=opt).fit(X)
    eigenvalues, modes = reference.dmd(X[:, :-1], X[:, 1:], 3, exact)
    np.testing.assert_allclose(model.eigenvalues, eigenvalues, atol=1e-9)
    ratio = model.modes[0] / modes[0]  # eigenvectors are free up to a factor
    np.testing.assert_allclose(model.modes, modes * ratio, atol=1e-8)
    amplitudes = reference.amplitudes(X, eigenvalues, modes, opt=opt)
    np.testing.assert_allclose(model.amplitudes * ratio, amplitudes, rtol=1e-6)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("clip", [True, False])
def test_forecast_agrees_with_the_reference(affine, exact, clip):
    rng = np.random.default_rng(2)
    X = planted((1.02, 0.7), fixed_point=3.0 if affine else 0.0)
    X = X + 1e-3 * rng.standard_normal(X.shape)
    model = DMD(rank=2, exact=exact, affine=affine, unstable="clip" if clip else "keep").fit(X)
    for horizon in (1, 2, 7):
        expected = reference.forecast(X, horizon, 2, exact=exact, affine=affine, clip=clip)
        np.testing.assert_allclose(model.forecast(horizon), expected, atol=1e-7)


@pytest.mark.parametrize("affine", [True, False])
def test_reconstruct_and_forecast_follow_the_series(dtype, affine):
    fixed_point = 4.0 if affine else 0.0
    full = planted(RATES, m=40, dtype=np.float64, fixed_point=fixed_point)
    X = full[:, :16].astype(dtype)
    model = DMD(rank=4, affine=affine, opt=True).fit(X)
    tolerance = (2e-3 if dtype == np.float32 else 1e-8) * np.abs(full).max()
    rebuilt = model.reconstruct()
    assert rebuilt.dtype == dtype
    np.testing.assert_allclose(rebuilt, X, atol=tolerance)
    forecasts = model.forecast(np.arange(25))
    assert forecasts.dtype == dtype
    assert forecasts.shape == (200, 25)
    np.testing.assert_allclose(forecasts, full[:, 15:], atol=tolerance)
    np.testing.assert_allclose(model.predict(X[:, 3], 5), X[:, 8], atol=tolerance)
    np.testing.assert_allclose(model.predict(X[:, :4]), X[:, 1:5], atol=tolerance)


def test_linear_regression_under_gradient_descent_has_eigenvalues_one_minus_eta_h():
    # A well-spread spectrum: the snapshots then are well conditioned, as a Gram matrix needs.
    rng = np.random.default_rng(3)
    features, _ = np.linalg.qr(rng.standard_normal((40, 4)))
    rotation, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    A = features * np.sqrt([0.2, 1.0, 3.0, 4.5]) @ rotation.T
    b = rng.standard_normal(40)
    hessian, rate = A.T @ A, 0.2
    w, path = np.zeros(4), []
    for _ in range(16):
        path.append(w)
        w = w - rate * A.T @ (A @ w - b)
    model = DMD(rank=4, affine=True).fit(np.array(path).T)
    assert match(model.eigenvalues, 1.0 - rate * np.linalg.eigvalsh(hessian)) < 1e-8
    np.testing.assert_allclose(model.forecast(1e6), np.linalg.solve(hessian, A.T @ b), rtol=1e-7)


def test_spectrum_in_continuous_terms():
    dt = 0.1
    model = DMD(rank=2, dt=dt).fit(planted(0.9 * np.exp([0.3j, -0.3j])))
    np.testing.assert_allclose(
        sorted(model.frequency), [-0.3 / (2 * np.pi * dt), 0.3 / (2 * np.pi * dt)]
    )
    np.testing.assert_allclose(model.growth_rate, np.log(0.9) / dt)


def test_float32_data_with_small_modes_keep_their_eigenvalues():
    rng = np.random.default_rng(4)
    q, _ = np.linalg.qr(rng.standard_normal((20000, 2)))
    t = np.arange(20)
    X = (np.outer(q[:, 0], 0.99**t) + 1e-4 * np.outer(q[:, 1], 0.8**t)).astype(np.float32)
    assert match(DMD(rank=2).fit(X).eigenvalues, (0.99, 0.8)) < 1e-4
    # The same through a float32 Gram matrix is worthless; that is why it is float64.
    G = (X.T @ X).astype(np.float64)
    through_float32 = koopcore._core.Dmd(G, max_rank=2, tolerance=0.0).eigenvalues
    assert match(through_float32, (0.99, 0.8)) > 1e-2


def test_pydmd_gives_the_same_where_it_is_right():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pydmd import DMD as PyDMD

        X = planted(RATES) + 1e-3 * np.random.default_rng(5).standard_normal((200, 16))
        theirs = PyDMD(svd_rank=4, exact=True).fit(X)
    ours = DMD(svd_rank=4).fit(X)
    assert match(ours.eigs, theirs.eigs) < 1e-9
    order = [int(np.argmin(np.abs(theirs.eigs - value))) for value in ours.eigs]
    ours_terms = ours.modes * ours.amplitudes
    theirs_terms = (theirs.modes * theirs.amplitudes)[:, order]
    np.testing.assert_allclose(ours_terms, theirs_terms, atol=1e-7)
    np.testing.assert_allclose(ours.reconstruct(), theirs.reconstructed_data.real, atol=1e-6)
    np.testing.assert_allclose(ours.frequency, theirs.frequency[order], atol=1e-9)


@pytest.mark.parametrize("rank", [np.int32(2), np.int64(2), 2, None, 0.999999])
def test_rank_takes_integers_of_any_type_fractions_and_none(rank):
    X = planted((0.9, 0.5))
    assert len(DMD(rank=rank).fit(X).eigenvalues) == 2


def test_rank_is_lowered_where_the_data_have_fewer_directions():
    model = DMD(rank=6).fit(planted((0.9, 0.5)))
    assert len(model.eigenvalues) == 2
    assert np.isfinite(model.forecast(100)).all()


def test_zero_and_constant_data_have_defined_answers(dtype):
    zero = DMD().fit(np.zeros((5, 6), dtype))
    assert len(zero.eigenvalues) == 0
    assert zero.modes.shape == (5, 0)
    np.testing.assert_array_equal(zero.reconstruct(), np.zeros((5, 6)))
    np.testing.assert_array_equal(zero.forecast(4), np.zeros(5))
    constant = DMD(affine=True).fit(np.full((5, 6), 2.0, dtype))
    np.testing.assert_array_equal(constant.forecast(4), np.full(5, 2.0))
    np.testing.assert_array_equal(constant.reconstruct(), np.full((5, 6), 2.0))
    once = DMD().fit(np.full((5, 6), 2.0, dtype))
    np.testing.assert_allclose(once.forecast(4), 2.0, rtol=1e-6)


def test_eigenvalue_zero_has_growth_rate_minus_infinity():
    X = np.zeros((4, 3))
    X[0, 0] = 1.0  # e0 -> 0 -> 0
    model = DMD().fit(X)
    np.testing.assert_array_equal(model.eigenvalues, [0.0])
    assert np.isneginf(model.growth_rate).all()
    np.testing.assert_array_equal(model.forecast([1, 2.5]), np.zeros((4, 2)))


def test_read_only_input_is_read_in_place():
    X = planted((0.9,))
    X.flags.writeable = False
    assert match(DMD(rank=1).fit(X).eigenvalues, (0.9,)) < 1e-10


BAD = [
    (dict(), lambda: np.ones((4, 3), np.int64), TypeError, "X has dtype int64"),
    (dict(), lambda: np.ones((4, 3), np.float16), TypeError, "X has dtype float16"),
    (dict(), lambda: np.ones((4, 3), object), TypeError, "X has dtype object"),
    (dict(solver="qr"), lambda: np.ones((4, 3), complex), ValueError, "needs real data"),
    (dict(), lambda: np.ones(4), ValueError, r"X has shape \(4,\)"),
    (dict(), lambda: np.ones((2, 2, 2)), ValueError, r"X has shape \(2, 2, 2\)"),
    (dict(), lambda: np.ones((0, 3)), ValueError, "empty"),
    (dict(), lambda: np.ones((3, 0)), ValueError, "empty"),
    (dict(), lambda: np.ones((3, 1)), ValueError, "at least 2 snapshots, got 1"),
    (dict(affine=True), lambda: np.ones((3, 2)), ValueError, "at least 3 snapshots, got 2"),
    (dict(rank=5), lambda: np.ones((9, 5)), ValueError, "rank=5 needs at least 6 snapshots, got 5"),
    (dict(), lambda: np.array([[1.0, np.nan], [1.0, 2.0]]), ValueError, "NaN"),
    (dict(), lambda: np.array([[1.0, np.inf], [1.0, 2.0]]), ValueError, "infinity"),
    (dict(), lambda: np.full((3, 4), 1e200), ValueError, "overflow"),
]


@pytest.mark.parametrize(("options", "data", "error", "message"), BAD)
def test_fit_bad_input_is_refused_by_name(options, data, error, message):
    with pytest.raises(error, match=message):
        DMD(**options).fit(data())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(rank=0), ValueError, "rank=0"),
        (dict(rank=-3), ValueError, "rank=-3"),
        (dict(rank=1.5), ValueError, r"rank=1\.5"),
        (dict(rank="ten"), ValueError, "rank='ten'"),
        (dict(rank=[2]), TypeError, r"rank=\[2\]"),
        (dict(rank=True), ValueError, "rank=True"),
        (dict(svd_rank=-2), ValueError, "rank=-2"),
        (dict(rank=2, svd_rank=2), ValueError, "give one"),
        (dict(tol=1.0), ValueError, r"tol=1\.0"),
        (dict(tol=float("nan")), ValueError, "tol=nan"),
        (dict(unstable="damp"), ValueError, "unstable='damp'"),
        (dict(dt=0.0), ValueError, r"dt=0\.0"),
        (dict(dt=float("inf")), ValueError, "dt=inf"),
    ],
)
def test_bad_options_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        DMD(**options)


def test_pairs_must_match():
    X = planted((0.9, 0.5))
    with pytest.raises(ValueError, match="they must be equal"):
        DMD().fit(X, X[:, 1:])
    with pytest.raises(TypeError, match="give both the same"):
        DMD().fit(X, X.astype(np.float32))
    with pytest.raises(ValueError, match="without Y"):
        DMD(affine=True).fit(X, X)


def test_using_a_fit_wrongly_is_refused():
    with pytest.raises(ValueError, match="not fitted yet"):
        DMD().forecast(1)
    model = DMD(rank=1).fit(planted((0.9,)))
    with pytest.raises(koopcore.Error, match="horizon must be finite, got nan"):
        model.forecast(np.nan)
    with pytest.raises(ValueError, match="horizon has shape"):
        model.forecast(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"x has shape \(3,\)"):
        model.predict(np.ones(3))
    with pytest.raises(TypeError, match="x has dtype float32"):
        model.predict(np.ones(200, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        model.predict(np.full(200, np.nan))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        model.predict(np.ones(200), 0)


def test_svd_rank_minus_one_means_all():
    assert len(DMD(svd_rank=-1).fit(planted((0.9, 0.5))).eigenvalues) == 2
