"""koopcore.sklearn.StreamingPCA against scikit-learn's PCA and weighted sums by hand."""

import copy
import pickle
import re

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support import DTYPES

from koopcore.sklearn import StreamingPCA


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


def rows(dtype=np.float64, n=300, features=40, directions=6, noise=0.0):
    """Rows around a mean, of well separated variances in a few directions, and noise."""
    rng = np.random.default_rng(3)
    axes = np.linalg.qr(rng.standard_normal((features, directions)))[0]
    scores = rng.standard_normal((n, directions)) * 2.0 ** -np.arange(directions)
    X = 3.0 + scores @ axes.T + noise * rng.standard_normal((n, features))
    return X.astype(dtype)


def tolerance(dtype):
    return 5e-6 if dtype == np.float32 else 1e-13


FITTED = (
    "components_",
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
    "mean_",
    "noise_variance_",
)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [6, 8, 20])
def test_all_directions_kept_equals_pca(dtype, whiten, n_components):
    X = rows(dtype, features=20, directions=20 if n_components == 20 else 6)
    model = StreamingPCA(n_components, whiten=whiten).fit(X)
    r = min(n_components, 20 if n_components == 20 else 6)
    expected = PCA(r, whiten=whiten, svd_solver="full").fit(X)
    assert model.n_components_ == r
    assert model.n_samples_seen_ == 300
    small = 2.0 ** (r - 1)  # the smallest direction is known that much less well
    for name in FITTED:
        found = getattr(model, name)
        # From Gram matrices: what rounding makes of the largest value's square, over a small one.
        scale = {"components_": small, "singular_values_": 100.0, "mean_": 3.0}.get(name, 1.0)
        np.testing.assert_allclose(
            found, getattr(expected, name), rtol=0, atol=4 * scale * tolerance(dtype), err_msg=name
        )
        assert np.ndim(found) == 0 or found.dtype == dtype
    at = {"rtol": 0, "atol": 40 * small * tolerance(dtype) * (small if whiten else 1.0)}
    np.testing.assert_allclose(model.transform(X), expected.transform(X), **at)
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(X)), X, rtol=0, atol=40 * tolerance(dtype)
    )
    assert model.transform(X).dtype == dtype
    np.testing.assert_allclose(
        model.get_covariance(), expected.get_covariance(), rtol=0, atol=10 * tolerance(dtype)
    )


def test_more_directions_than_are_reported_is_pca_all_the_same(dtype):
    X = rows(dtype, directions=9)
    model = StreamingPCA(3).fit(X)  # 13 are kept
    expected = PCA(3, svd_solver="full").fit(X)
    for name in FITTED:
        scale = 30.0 if name == "singular_values_" else 8.0
        np.testing.assert_allclose(
            getattr(model, name),
            getattr(expected, name),
            rtol=0,
            atol=4 * scale * tolerance(dtype),
            err_msg=name,
        )
    precision = expected.get_precision()
    np.testing.assert_allclose(
        model.get_precision(), precision, rtol=0, atol=abs(precision).max() * 1e3 * tolerance(dtype)
    )
    left = np.linalg.norm(X - expected.inverse_transform(expected.transform(X)))
    assert abs(model.error_ / left - 1.0) < 0.6


def test_noisy_rows_beyond_the_kept_directions_are_near_pca():
    X = rows(n=2000, noise=0.02)
    model, expected = StreamingPCA(4).fit(X), PCA(4, svd_solver="full").fit(X)
    other = IncrementalPCA(4, batch_size=20).fit(X)
    np.testing.assert_allclose(model.explained_variance_, expected.explained_variance_, rtol=1e-3)
    np.testing.assert_allclose(model.noise_variance_, expected.noise_variance_, rtol=1e-2)
    angle, theirs = (
        np.linalg.norm(m.components_ @ expected.components_.T - np.eye(4), 2)
        for m in (model, other)
    )
    assert angle < 1e-3
    assert angle < theirs


@pytest.mark.parametrize("sizes", [[1] * 300, [2, 1, 150, 147], [300]])
def test_cuts_into_batches_change_no_bit(dtype, sizes):
    X = rows(dtype, noise=0.1)
    whole, parts = StreamingPCA(4).fit(X), StreamingPCA(4)
    for batch in np.split(X, np.cumsum(sizes)[:-1]):
        assert parts.partial_fit(batch) is parts
    assert parts.n_samples_seen_ == 300
    for name in FITTED:
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_forgetting_weighs_rows(dtype):
    X, f = rows(dtype, n=60), 0.9
    model = StreamingPCA(6, forgetting=f).fit(X)
    w = f ** np.arange(59, -1, -1.0)
    mean = w @ X / w.sum()
    centred = np.sqrt(w)[:, None] * (X - mean)
    values = np.linalg.svd(centred, compute_uv=False)[:6]
    at = {"rtol": 0, "atol": 50 * tolerance(dtype)}
    np.testing.assert_allclose(model.mean_, mean, **at)
    np.testing.assert_allclose(model.singular_values_, values, **at)
    degrees = w.sum() - (w**2).sum() / w.sum()
    np.testing.assert_allclose(model.explained_variance_, values**2 / degrees, **at)
    assert model.explained_variance_ratio_.sum() == pytest.approx(1.0)


def test_components_appear_as_the_rows_span_them():
    X = rows()
    model = StreamingPCA(4)
    for i, row in enumerate(X[:8]):
        model.partial_fit(row[None])
        assert model.n_components_ == len(model.components_) == min(i, 4)
        assert model.transform(X[:3]).shape == (3, min(i, 4))
        assert np.isfinite(model.explained_variance_).all()
    assert StreamingPCA().partial_fit(X[:5]).partial_fit(X[5:]).n_components_ == 5
    assert StreamingPCA().fit(X[:, :3]).n_components_ == 3


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_rows_have_no_components(dtype, value):
    X = np.full((40, 5), value, dtype)
    model = StreamingPCA(3).fit(X)
    assert model.n_components_ == 0
    assert model.transform(X).shape == (40, 0)
    np.testing.assert_array_equal(model.mean_, X[0])
    assert model.noise_variance_ == 0.0


def test_signs_are_scikit_learns(dtype):
    components = StreamingPCA(6).fit(-rows(dtype)).components_
    largest = np.abs(components).argmax(axis=1)
    assert (components[np.arange(6), largest] > 0).all()


def test_sparse_rows_are_filled_in(dtype):
    X = sparse.random_array((120, 30), density=0.2, rng=np.random.default_rng(0), dtype=dtype)
    dense, model = StreamingPCA(5).fit(X.toarray()), StreamingPCA(5)
    for form in ("csr", "csc", "lil"):
        model.fit(X.asformat(form))
        np.testing.assert_array_equal(model.components_, dense.components_)
    np.testing.assert_allclose(model.transform(X.tocsr()), dense.transform(X.toarray()), atol=1e-5)
    with pytest.raises(TypeError, match="Sparse data was passed to partial_fit"):
        model.partial_fit(X)


@pytest.mark.parametrize("seen", [1, 5, 100])
def test_it_goes_on_after_a_pickle_with_the_same_bits(dtype, seen):
    X = rows(dtype, noise=0.1)
    model = StreamingPCA(4, batch_size=7).partial_fit(X[:seen])
    if seen > 1:
        assert np.isfinite(model.components_).all()
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        other.partial_fit(X[seen:])
        assert other.n_samples_seen_ == 300
        np.testing.assert_array_equal(
            other.components_, copy.deepcopy(model).partial_fit(X[seen:]).components_
        )
    assert model.n_samples_seen_ == seen
    assert not hasattr(clone(model), "components_")


def test_what_was_returned_stays_as_it_was():
    X = rows(noise=0.1)
    model = StreamingPCA(3).partial_fit(X[:50])
    before, kept = model.components_, model.components_.copy()
    assert model.components_ is before  # formed once per batch
    model.partial_fit(X[50:])
    np.testing.assert_array_equal(before, kept)
    assert not np.array_equal(model.components_, kept)


def test_data_are_not_overwritten_and_unchecked_batches_are_taken():
    X = rows()
    before = X.copy()
    model = StreamingPCA(3).fit(X).partial_fit(X, check_input=False)
    np.testing.assert_array_equal(X, before)
    assert model.n_samples_seen_ == 600


def test_pipelines_searches_and_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows()[:, :5], columns=list("abcde"))
    steps = make_pipeline(StandardScaler(), StreamingPCA(2)).set_output(transform="pandas")
    assert list(steps.fit_transform(frame).columns) == ["streamingpca0", "streamingpca1"]
    assert list(steps[1].feature_names_in_) == list("abcde")


def test_bad_batch_leaves_the_stream_as_it_was():
    X = rows()
    model = StreamingPCA(3).fit(X)
    before = model.components_.copy()
    bad = X[:3].copy()
    bad[1, 4] = np.inf
    with pytest.raises(ValueError, match="contains infinity"):
        model.partial_fit(bad)
    with pytest.raises(ValueError, match="39 features, but StreamingPCA is expecting 40"):
        model.partial_fit(X[:, :-1])
    with pytest.raises(ValueError, match="not finite"):
        model.partial_fit(bad, check_input=False)
    assert model.n_samples_seen_ == 300
    np.testing.assert_array_equal(model.components_, before)
    assert model.partial_fit(X[:2].astype(np.float32)).components_.dtype == np.float64


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components=0 must be at least 1"),
        ({"n_components": 0.5}, TypeError, "n_components=0.5 must be an int"),
        ({"n_components": 41}, ValueError, "n_components=41 must be at most n_features=40"),
        ({"whiten": "yes"}, ValueError, "whiten='yes' is not one of False, True"),
        ({"batch_size": 0}, ValueError, "batch_size=0 must be at least 1"),
        ({"forgetting": 0.0}, ValueError, "forgetting=0.0 is the share kept"),
        ({"oversampling": -1}, ValueError, "oversampling=-1 must be at least 1"),
        ({"random_state": "x"}, ValueError, "'x' cannot be used to seed"),
    ],
)
def test_bad_parameters_are_refused_in_fit_by_name(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        StreamingPCA(**options).fit(rows())


def test_questions_before_the_first_row_are_refused():
    model = StreamingPCA(2)
    for ask in (model.transform, model.inverse_transform):
        with pytest.raises(NotFittedError):
            ask(np.ones((3, 2)))
    with pytest.raises(AttributeError, match="has seen no rows yet"):
        model.components_  # noqa: B018
    assert StreamingPCA(2, random_state=np.random.RandomState(0)).fit(rows()).error_ > 0.0
    assert StreamingPCA(2, random_state=None).fit(rows()).n_components_ == 2


def test_grid_search_over_the_number_of_components():
    X = rows(noise=0.02)
    search = GridSearchCV(
        StreamingPCA(),
        {"n_components": [2, 6]},
        scoring=lambda m, X: -np.linalg.norm(X - m.inverse_transform(m.transform(X))),
        cv=3,
    )
    assert search.fit(X).best_params_ == {"n_components": 6}
