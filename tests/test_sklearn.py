"""koopcore.sklearn against planted systems and koopcore.DMD; its searches, errors and page."""

import doctest
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support import DTYPES, match, planted

import koopcore.sklearn
from koopcore.sklearn import DMD, WindowDMD

ROOT = Path(__file__).resolve().parents[1]
RATES = (0.97, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j), -0.6)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-9}


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["linear", "affine"])
def affine(request):
    return request.param


def series(dtype=np.float64, affine=False, m=24):
    """Rows of the planted system."""
    return np.ascontiguousarray(
        planted(RATES, m=m, dtype=dtype, fixed_point=3.0 if affine else 0.0).T
    )


def noisy(dtype=np.float64, affine=False):
    """Return the same with noise, which keeps the components well apart from rounding."""
    X = series(np.float64, affine)
    noise = 1e-3 * np.random.default_rng(5).standard_normal(X.shape)
    return (X + noise).astype(dtype)


def test_fit_planted_system_gives_its_eigenvalues_and_its_future(dtype, affine):
    full = series(np.float64, affine, m=40)
    X = full[:24].astype(dtype)
    tolerance = TOLERANCE[dtype] * 1e2
    for model in (DMD(4, affine=affine), WindowDMD(20, n_components=4, affine=affine)):
        assert match(model.fit(X).eigenvalues_, RATES) < TOLERANCE[dtype] * 10
        future = model.forecast(range(1, 17))
        np.testing.assert_allclose(future, full[24:], atol=tolerance)
        np.testing.assert_allclose(model.predict(X[:-1]), X[1:], atol=tolerance)
        np.testing.assert_allclose(model.forecast([16, 3, 3]), future[[15, 2, 2]], atol=tolerance)
        np.testing.assert_allclose(model.forecast(5), future[[4]], atol=tolerance)
        assert future.dtype == model.predict(X).dtype == model.transform(X).dtype == dtype
        assert model.score(X) > 1.0 - 1e-6
        rebuilt = model.inverse_transform(model.transform(X))
        np.testing.assert_allclose(rebuilt, X, atol=tolerance)


@pytest.mark.parametrize("variant", ["standard", "tls", "forward-backward", "symmetric"])
def test_agrees_with_koopcore_on_columns(variant, dtype, affine):
    X = noisy(dtype, affine)
    expected = koopcore.DMD(rank=3, exact=False, variant=variant, affine=affine, dt=0.5).fit(X.T)
    window = WindowDMD(len(X), n_components=3, variant=variant, affine=affine, dt=0.5)
    close = {"atol": 2e-5 if dtype == np.float32 else 1e-10}
    for model in (DMD(3, variant=variant, affine=affine, dt=0.5), window):
        model.fit(X)
        np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues, **close)
        np.testing.assert_allclose(model.omega_, expected.omega, atol=1e-4)
        np.testing.assert_allclose(model.predict(X).T, expected.predict(X.T.copy()), **close)
        steps = np.arange(1, 30)
        np.testing.assert_allclose(model.forecast(steps).T, expected.forecast(steps), **close)
        projectors = [modes @ modes.conj().T for modes in (model.modes_.T, expected.modes)]
        np.testing.assert_allclose(*projectors, **close)
        assert model.modes_.dtype == np.result_type(dtype, np.complex64)


def test_optimized_variant_agrees_with_koopcore():
    X = noisy()
    expected = koopcore.DMD(rank=4, variant="optimized").fit(X.T)
    model = DMD(4, variant="optimized").fit(X)
    np.testing.assert_allclose(model.forecast([1, 9]).T, expected.forecast([1, 9]), atol=1e-10)
    np.testing.assert_allclose(model.predict(X).T, expected.predict(X.T.copy()), atol=1e-10)


def test_reduced_model_is_what_it_says(dtype, affine):
    X = noisy(dtype, affine)
    model = DMD(3, affine=affine).fit(X)
    eye = model.components_ @ model.components_.T
    np.testing.assert_allclose(eye, np.eye(3), atol=1e-5 if dtype == np.float32 else 1e-12)
    assert match(np.linalg.eigvals(model.operator_), model.eigenvalues_) < 1e-6
    by_hand = model.inverse_transform(model.transform(X) @ model.operator_.T + model.drift_)
    np.testing.assert_allclose(
        model.predict(X), by_hand, atol=1e-4 if dtype == np.float32 else 1e-9
    )
    if affine:
        np.testing.assert_allclose(model.origin_, X[-1], rtol=1e-6)
    else:
        assert model.origin_ is None
        assert not model.drift_.any()


def test_components_stay_orthonormal_where_the_gram_matrix_has_lost_them(dtype):
    rng = np.random.default_rng(6)
    left = np.linalg.qr(rng.standard_normal((200, 8)))[0]
    right = np.linalg.qr(rng.standard_normal((12, 8)))[0]
    X = ((left * 10.0 ** -np.arange(8)) @ right.T).T.astype(dtype)
    for model in (DMD(), DMD(solver="gram"), WindowDMD(12), DMD(affine=True)):
        components = model.fit(X).components_
        eye = np.eye(model.n_components_)
        np.testing.assert_allclose(components @ components.T, eye, atol=1e-5)
        assert np.isfinite(model.predict(X)).all()


def test_constraint_and_unstable_reach_the_forecast():
    growing = 1.05 ** np.arange(12.0)[:, None] * [1.0, 2.0]
    clipped, kept = (DMD(unstable=rule).fit(growing) for rule in ("clip", "keep"))
    np.testing.assert_allclose(clipped.eigenvalues_, 1.05)
    np.testing.assert_allclose(clipped.forecast([1, 50]), growing[[-1, -1]], rtol=1e-7)
    np.testing.assert_allclose(kept.forecast(8), growing[[-1]] * 1.05**8, rtol=1e-7)
    np.testing.assert_allclose(DMD(constraint="stable").fit(growing).eigenvalues_, 1.0)


def test_nothing_of_the_data_is_kept_and_a_pickle_is_small():
    X = noisy().copy()
    model = DMD(2, affine=True).fit(X)
    before = model.forecast(3)
    X[:] = np.nan
    np.testing.assert_array_equal(model.forecast(3), before)
    dumped = pickle.dumps(model)
    assert len(dumped) < X.nbytes / 4
    np.testing.assert_array_equal(pickle.loads(dumped).forecast(3), before)


def test_partial_fit_in_any_blocks_equals_fit_of_the_last_rows(dtype, affine):
    X = noisy(dtype, affine)
    whole = WindowDMD(10, n_components=3, affine=affine).fit(X)
    assert whole.n_samples_seen_ == 24
    last = DMD(3, affine=affine).fit(X[-10:])
    for sizes in ([1] * 24, [5, 12, 7], [24]):
        model = WindowDMD(10, n_components=3, affine=affine)
        for block in np.split(X, np.cumsum(sizes)[:-1]):
            model.partial_fit(block)
        assert model.n_samples_seen_ == 24
        close = {"atol": 1e-4 if dtype == np.float32 else 1e-10}
        np.testing.assert_allclose(model.forecast([1, 5]), whole.forecast([1, 5]), **close)
        np.testing.assert_allclose(model.forecast([1, 5]), last.forecast([1, 5]), **close)
        np.testing.assert_array_equal(model.fit(X).forecast(5), whole.forecast(5))


def test_window_is_fitted_once_it_holds_enough_rows(affine):
    X = noisy(affine=affine)
    model = WindowDMD(8, n_components=3, affine=affine)
    enough = 5 if affine else 4
    for row in X[: enough - 1]:
        model.partial_fit(row[None])
        with pytest.raises(NotFittedError):
            model.predict(X)
    assert model.partial_fit(X[enough - 1 : enough]).n_components_ == 3


@pytest.mark.parametrize("rows", [1, 6, 20])
def test_window_goes_on_after_a_pickle(rows, dtype):
    X = noisy(dtype, affine=True)
    model = WindowDMD(8, n_components=2, affine=True).partial_fit(X[:rows])
    copied = pickle.loads(pickle.dumps(model)).partial_fit(X[rows:])
    model.partial_fit(X[rows:])
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(copied.forecast(3), model.forecast(3), atol=tolerance)
    assert copied.n_samples_seen_ == 24


def test_bad_block_leaves_the_window_as_it_was():
    X = noisy()
    model = WindowDMD(8, n_components=2).fit(X)
    before = model.forecast(2)
    bad = X[:3].copy()
    bad[1, 4] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        model.partial_fit(bad)
    with pytest.raises(ValueError, match="199 features, but WindowDMD is expecting 200"):
        model.partial_fit(X[:, :-1])
    assert model.n_samples_seen_ == 24
    np.testing.assert_array_equal(model.forecast(2), before)
    assert model.partial_fit(X[:2].astype(np.float32)).components_.dtype == np.float64


def test_score_is_relative_to_persistence():
    X = noisy()
    model = DMD(4).fit(X[:16])
    held = X[16:]
    missed = np.sum((held[1:] - model.predict(held[:-1])) ** 2)
    assert model.score(held) == pytest.approx(1.0 - missed / np.sum(np.diff(held, axis=0) ** 2))
    still = np.ones((4, 200))
    assert DMD().fit(np.zeros((4, 3))).score(np.zeros((4, 3))) == 1.0
    assert model.score(still) == 0.0
    with pytest.raises(ValueError, match="minimum of 2"):
        model.score(X[:1])


def test_grid_search_finds_the_planted_form():
    rng = np.random.default_rng(7)
    t = np.arange(120)[:, None]
    cosine, sine, fixed_point = rng.standard_normal((3, 50))
    X = fixed_point + 0.995**t * (np.cos(0.3 * t) * cosine + np.sin(0.3 * t) * sine)
    X = X + 1e-3 * rng.standard_normal(X.shape)
    grid = {"n_components": [1, 2, 3], "affine": [False, True]}
    search = GridSearchCV(DMD(), grid, cv=TimeSeriesSplit(4), error_score="raise").fit(X)
    scores = dict(
        zip(
            [(p["n_components"], p["affine"]) for p in search.cv_results_["params"]],
            search.cv_results_["mean_test_score"],
            strict=True,
        )
    )
    for enough in ((2, True), (3, False), (3, True)):
        assert scores[enough] > 0.99
    for too_few in ((1, True), (1, False), (2, False)):
        assert scores[too_few] < 0.9
    assert search.score(X[-10:]) > 0.99
    assert search.best_estimator_.forecast(4).shape == (1, 50)


def test_pipeline_with_names_and_pandas_output():
    pandas = pytest.importorskip("pandas")
    X = noisy()[:, :5]
    frame = pandas.DataFrame(X, columns=list("abcde"))
    steps = make_pipeline(StandardScaler(), DMD(2)).set_output(transform="pandas").fit(frame)
    assert list(steps.transform(frame).columns) == ["dmd0", "dmd1"]
    assert list(steps[:1].get_feature_names_out()) == list("abcde")
    assert WindowDMD(9, n_components=2).fit(frame).get_feature_names_out()[1] == "windowdmd1"


def test_integers_become_float64_and_any_memory_order_is_read():
    X = noisy()
    assert DMD(1).fit((X * 100).astype(np.int32)).components_.dtype == np.float64
    expected = DMD(3).fit(X).forecast(2)
    strided = np.zeros((48, 600))
    strided[::2, ::3] = X
    for same in (np.asfortranarray(X), strided[::2, ::3]):
        np.testing.assert_allclose(DMD(3).fit(same).forecast(2), expected, atol=1e-10)


@pytest.mark.parametrize("estimator", [DMD, WindowDMD])
def test_degenerate_data(estimator, dtype):
    zero = np.zeros((6, 5), dtype)
    model = estimator().fit(zero)
    assert model.transform(zero).shape == (6, 0)
    assert model.n_components_ == 0
    np.testing.assert_array_equal(model.predict(zero), zero)
    np.testing.assert_array_equal(model.inverse_transform(model.transform(zero)), zero)
    np.testing.assert_array_equal(model.forecast([1, 2]), zero[:2])
    constant = np.full((6, 5), 2.0, dtype)
    for affine in (False, True):
        model = estimator(affine=affine).fit(constant)
        np.testing.assert_allclose(model.forecast([1, 9]), constant[:2], rtol=1e-5)
        np.testing.assert_allclose(model.predict(constant), constant, rtol=1e-5)
    repeated = 0.5 ** np.arange(6, dtype=dtype)[:, None] * np.ones((1, 3), dtype)
    assert estimator().fit(repeated).n_components_ == 1
    two = np.array([[2.0, 4.0], [1.0, 2.0]], dtype)
    np.testing.assert_allclose(estimator().fit(two).forecast(1), two[1:] / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (DMD, np.float32),
        (DMD, np.float64),
        (WindowDMD, np.float64),
        (WindowDMD, np.float32),
    ],
)
def test_one_feature(estimator, kind):
    X = 0.5 ** np.arange(6, dtype=kind)[:, None]
    model = estimator().fit(X)
    np.testing.assert_allclose(model.forecast([1, 3])[:, 0], X[-1, 0] / [2, 8], rtol=1e-5)
    np.testing.assert_allclose(model.predict(X[::-1]), X[::-1] / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components=0 must be at least 1"),
        ({"n_components": 1.5}, "n_components=1.5: a float"),
        ({"n_components": 24}, "n_components=24 needs "),
        ({"affine": "constant"}, "affine='constant' is not one of False, True"),
        ({"variant": "exact"}, "variant='exact' is not one of"),
        ({"ridge": -1.0}, "ridge=-1.0"),
        ({"dt": 0.0}, "dt=0.0"),
    ],
)
@pytest.mark.parametrize("estimator", [DMD, WindowDMD])
def test_bad_parameters_are_refused_in_fit_by_name(estimator, options, message):
    model = estimator(**options)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        model.fit(noisy())


def test_other_bad_input_is_refused():
    X = noisy()
    with pytest.raises(TypeError, match=r"^n_components=\[2\] must be an int"):
        DMD([2]).fit(X)
    with pytest.raises(ValueError, match="solver='lu' is not one of"):
        DMD(solver="lu").fit(X)
    with pytest.raises(ValueError, match="window=2 must be at least 3"):
        WindowDMD(2, affine=True).fit(X)
    with pytest.raises(ValueError, match="1 sample"):
        DMD().fit(X[:1])
    with pytest.raises(ValueError, match="2 sample"):
        DMD(affine=True).fit(X[:2])
    with pytest.raises(TypeError, match="Sparse data was passed"):
        DMD().fit(sparse.csr_array(X))
    with pytest.raises(NotFittedError):
        DMD().forecast(1)
    model = DMD(2).fit(X)
    with pytest.raises(TypeError, match=re.escape("horizon=0.5 must be an int")):
        model.forecast(0.5)
    with pytest.raises(ValueError, match="horizon=0 must be at least 1"):
        model.forecast(0)
    with pytest.raises(ValueError, match=re.escape("expected (n_samples, 2)")):
        model.inverse_transform(np.ones((4, 3)))


def test_docstring_examples_run():
    assert doctest.testmod(koopcore.sklearn).attempted > 8
    assert doctest.testmod(koopcore.sklearn).failed == 0


def test_python_of_the_documentation_runs(capsys):
    page = (ROOT / "docs/sklearn.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.S)
    names = {}
    exec(compile("".join(code), "sklearn.md", "exec"), names)
    assert capsys.readouterr().out
    model = names["model"]
    assert names["Z"].shape == (120, model.n_components_)
    assert names["ahead"].shape == (10, 50)
    expected = 0.995 * np.exp([0.3j, -0.3j])
    found = model.eigenvalues_
    assert np.abs(found[:, None] - expected).min(axis=0).max() < 0.02
    np.testing.assert_allclose(np.abs(names["stream"].eigenvalues_), 0.995, atol=0.02)
    assert names["pca"].explained_variance_ratio_.sum() > 0.9
