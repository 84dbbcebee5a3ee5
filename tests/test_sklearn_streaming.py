"""koopcore.sklearn.StreamingDMD against planted systems, batch fits and koopcore.StreamingDMD."""

import pickle
import re

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from support import DTYPES, match, planted

import koopcore
from koopcore.sklearn import DMD, StreamingDMD

RATES = (0.97, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j), -0.6)


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["linear", "affine"])
def affine(request):
    return request.param


def series(dtype=np.float64, affine=False, m=40, noise=0.0):
    X = planted(RATES, m=m, fixed_point=3.0 if affine else 0.0).T
    return (X + noise * np.random.default_rng(5).standard_normal(X.shape)).astype(dtype)


def close(dtype, scale=1.0):
    return {"rtol": 0, "atol": scale * (2e-5 if dtype == np.float32 else 1e-10)}


def test_planted_system_is_found_and_forecast(dtype, affine):
    full = series(affine=affine)
    X = full[:24].astype(dtype)
    model = StreamingDMD(4, affine=affine, dt=0.5).fit(X)
    assert match(model.eigenvalues_, RATES) < close(dtype)["atol"]
    assert match(model.omega_, np.log(np.array(RATES, complex)) / 0.5) < 4 * close(dtype)["atol"]
    np.testing.assert_allclose(model.forecast(range(1, 17)), full[24:], **close(dtype))
    np.testing.assert_allclose(model.predict(X[:-1]), X[1:], **close(dtype))
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, **close(dtype))
    assert model.predict(X).dtype == model.transform(X).dtype == dtype
    assert model.score(X) > 1.0 - 1e-6
    eye = np.eye(4)
    np.testing.assert_allclose(model.components_ @ model.components_.T, eye, **close(dtype))
    np.testing.assert_allclose(
        model.transform(X) @ model.operator_.T + model.drift_,
        model.transform(model.predict(X)),
        **close(dtype),
    )


@pytest.mark.parametrize("variant", ["standard", "tls", "forward-backward", "symmetric"])
def test_all_directions_kept_equals_a_batch_fit(variant, dtype, affine):
    X = series(dtype, affine, noise=1e-3)
    model = StreamingDMD(3, variant=variant, affine=affine, oversampling=40).fit(X)
    batch = DMD(3, variant=variant, affine=affine).fit(X)
    np.testing.assert_allclose(
        np.sort_complex(model.eigenvalues_), np.sort_complex(batch.eigenvalues_), **close(dtype)
    )
    for found, expected in (
        (model.predict(X), batch.predict(X)),
        (model.forecast([1, 5]), batch.forecast([1, 5])),
        (model.components_.T @ model.components_, batch.components_.T @ batch.components_),
        (model.operator_, batch.operator_),
    ):
        np.testing.assert_allclose(abs(found), abs(expected), **close(dtype))


def test_agrees_with_koopcore_on_columns(dtype, affine):
    X = series(dtype, affine, m=300, noise=1e-2)
    options = dict(affine=affine, forgetting=0.98, variant="tls", constraint="stable", dt=2.0)
    model = StreamingDMD(3, batch_size=5, oversampling=4, **options).fit(X)
    stream = koopcore.StreamingDMD(3, block=5, oversampling=4, exact=False, **options)
    stream.partial_fit(X.T)
    np.testing.assert_array_equal(model.eigenvalues_, stream.eigenvalues)
    np.testing.assert_array_equal(model.omega_, stream.omega)
    np.testing.assert_allclose(model.predict(X), stream.predict(X.T).T, **close(dtype, 10))
    np.testing.assert_allclose(model.forecast([1, 4]), stream.forecast([1, 4]).T, **close(dtype))
    np.testing.assert_allclose(abs(model.modes_), abs(stream.modes).T, **close(dtype))


@pytest.mark.parametrize("sizes", [[1] * 40, [5, 12, 23], [40]])
def test_cuts_into_blocks_change_no_bit(dtype, affine, sizes):
    X = series(dtype, affine, noise=1e-3)
    whole, parts = StreamingDMD(3, affine=affine).fit(X), StreamingDMD(3, affine=affine)
    for block in np.split(X, np.cumsum(sizes)[:-1]):
        assert parts.partial_fit(block) is parts
    assert parts.n_samples_seen_ == 40
    np.testing.assert_array_equal(parts.forecast([1, 5]), whole.forecast([1, 5]))
    np.testing.assert_array_equal(parts.fit(X).forecast(5), whole.forecast(5))


def test_it_is_fitted_from_the_first_pair_on(affine):
    X = series(affine=affine)
    model = StreamingDMD(3, affine=affine)
    enough = 3 if affine else 2
    for row in X[: enough - 1]:
        model.partial_fit(row[None])
        with pytest.raises(NotFittedError):
            model.predict(X)
    assert model.partial_fit(X[enough - 1 : enough]).n_components_ == 1
    assert model.partial_fit(X[enough:]).n_components_ == 3


@pytest.mark.parametrize("rows", [1, 6, 30])
def test_it_goes_on_after_a_pickle_with_the_same_bits(rows, dtype, affine):
    X = series(dtype, affine, noise=1e-3)
    model = StreamingDMD(2, affine=affine).partial_fit(X[:rows])
    copied = pickle.loads(pickle.dumps(model)).partial_fit(X[rows:])
    model.partial_fit(X[rows:])
    np.testing.assert_array_equal(copied.forecast([1, 3]), model.forecast([1, 3]))
    assert copied.n_samples_seen_ == 40


def test_bad_block_leaves_the_stream_as_it_was():
    X = series()
    model = StreamingDMD(4).fit(X)
    before = model.forecast(2)
    bad = X[:3].copy()
    bad[1, 4] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        model.partial_fit(bad)
    with pytest.raises(ValueError, match="199 features, but StreamingDMD is expecting 200"):
        model.partial_fit(X[:, :-1])
    assert model.n_samples_seen_ == 40
    np.testing.assert_array_equal(model.forecast(2), before)
    assert model.partial_fit(X[:2].astype(np.float32)).components_.dtype == np.float64


def test_degenerate_data(dtype, affine):
    zero, constant = np.zeros((6, 5), dtype), np.full((6, 5), 2.0, dtype)
    model = StreamingDMD(affine=affine).fit(zero)
    assert model.transform(zero).shape == (6, 0)
    np.testing.assert_array_equal(model.predict(zero), zero)
    np.testing.assert_array_equal(model.forecast([1, 2]), zero[:2])
    model = StreamingDMD(affine=affine).fit(constant)
    np.testing.assert_allclose(model.forecast([1, 9]), constant[:2], rtol=1e-5)
    np.testing.assert_allclose(model.predict(constant), constant, rtol=1e-5)
    halves = 0.5 ** np.arange(6, dtype=dtype)[:, None] * np.ones((1, 3), dtype)
    assert StreamingDMD().fit(halves).n_components_ == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components=0 must be at least 1"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"affine": "constant"}, "affine='constant' is not one of False, True"),
        ({"variant": "optimized"}, "variant='optimized' fits all snapshots at once"),
        ({"forgetting": 2.0}, "forgetting=2.0 is the share kept"),
        ({"oversampling": -1}, "oversampling=-1 must be at least 1"),
        ({"ridge": -1.0}, "ridge=-1.0"),
        ({"dt": 0.0}, "dt=0.0"),
    ],
)
def test_bad_parameters_are_refused_in_fit_by_name(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        StreamingDMD(**options).fit(series())
