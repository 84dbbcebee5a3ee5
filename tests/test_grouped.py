"""koopcore.GroupedDMD against koopcore.DMD fitted to each segment."""

import numpy as np
import pytest
from support import DTYPES, match, planted

import koopcore
from koopcore import DMD, GroupedDMD

RATES = [(0.97, 0.6), (0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j)), (0.8, -0.5), (0.95, 0.3)]
ROWS, BLOCK = 130, 33  # four segments, the last of 31 rows


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


def stacked(dtype=np.float64, m=18, noise=0.0):
    """Return four planted systems one below the other, on 33, 33, 33 and 31 rows."""
    sizes = [BLOCK, BLOCK, BLOCK, ROWS - 3 * BLOCK]
    parts = [
        planted(rates, n=size, m=m, seed=i)
        for i, (rates, size) in enumerate(zip(RATES, sizes, strict=True))
    ]
    X = np.vstack(parts)
    return (X + noise * np.random.default_rng(1).standard_normal(X.shape)).astype(dtype)


def assert_equals_single_fits(model, X, horizons=(0.0, 1.0, 7.5), **options):
    tolerance = (1e-5 if X.dtype == np.float32 else 1e-10) * np.abs(X).max()
    forecasts = model.forecast(horizons)
    assert forecasts.dtype == X.dtype
    assert forecasts.shape == (len(X), len(horizons))
    for i, (start, stop) in enumerate(model.segments):
        single = DMD(solver="gram", **options).fit(X[start:stop])
        assert model.ranks[i] == len(single.eigenvalues)
        assert match(model.eigenvalues[i], single.eigenvalues) < 1e-10
        np.testing.assert_allclose(
            forecasts[start:stop], single.forecast(horizons), atol=tolerance, rtol=1e-5
        )


@pytest.mark.parametrize("rank", [2, 5, 0.999, None])
@pytest.mark.parametrize("affine", [True, False])
def test_fit_noisy_blocks_equals_dmd_of_each(dtype, layout, rank, affine):
    X = laid_out(stacked(dtype, noise=1e-2), layout)
    model = GroupedDMD(rank=rank, affine=affine).fit(X, block=BLOCK)
    assert model.n_groups == 4
    assert model.segments[-1].tolist() == [99, 130]
    assert_equals_single_fits(model, X, rank=rank, affine=affine)


@pytest.mark.parametrize("m", [8, 23, 64])
def test_fit_planted_blocks_gives_their_eigenvalues(dtype, layout, m):
    model = GroupedDMD(rank=2).fit(laid_out(stacked(dtype, m=m), layout), block=BLOCK)
    for found, rates in zip(model.eigenvalues, RATES, strict=True):
        assert match(found, rates) < (2e-4 if dtype == np.float32 else 1e-9)
    assert [len(values) for values in model.singular_values] == [2, 2, 2, 2]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("unstable", ["clip", "keep"])
def test_options_are_those_of_dmd(exact, unstable):
    X = np.vstack([planted((1.05, 0.7), n=20), planted((0.9, 0.8), n=20)])
    options = dict(rank=2, tol=1e-6, exact=exact, unstable=unstable)
    assert_equals_single_fits(GroupedDMD(**options).fit(X, block=20), X, **options)


def test_each_segment_has_its_own_rank():
    X = np.vstack([planted((0.9,), n=20), planted((0.9, 0.5, -0.3), n=20), np.zeros((20, 16))])
    model = GroupedDMD(tol=1e-6).fit(X, block=20)
    assert model.ranks.tolist() == [1, 3, 0]
    assert model.eigenvalues[2].shape == (0,)
    np.testing.assert_array_equal(model.forecast(4)[40:], 0.0)
    assert GroupedDMD(rank=2).fit(X, block=20).ranks.tolist() == [1, 2, 0]


def test_ill_conditioned_segments_agree_with_dmd():
    scales = np.logspace(0, -6, 12)
    rng = np.random.default_rng(2)
    X = np.vstack([rng.standard_normal((50, 12)) * scales for _ in range(3)])
    for rank in (3, None):
        model = GroupedDMD(rank=rank).fit(X, block=50)
        for i in range(3):
            single = DMD(rank=rank, solver="gram").fit(X[50 * i : 50 * i + 50])
            np.testing.assert_allclose(model.eigenvalues[i], single.eigenvalues, rtol=1e-6)


def test_constant_segments_stay_constant(dtype):
    X = np.vstack([np.full((7, 6), 2.0), np.full((7, 6), -3.0)]).astype(dtype)
    for affine in (True, False):
        forecast = GroupedDMD(affine=affine).fit(X, block=7).forecast(9)
        np.testing.assert_allclose(forecast, X[:, 0], rtol=1e-6)


def test_segments_of_one_number(dtype):
    rates = np.array([0.9, 0.5, -0.7])
    X = np.vander(rates, 12, increasing=True).astype(dtype)
    model = GroupedDMD().fit(X, block=1)
    np.testing.assert_allclose(np.concatenate(model.eigenvalues), rates, rtol=1e-6)
    np.testing.assert_allclose(model.forecast(3), rates**14, rtol=1e-4)


def test_two_snapshots_are_enough_and_a_block_may_hold_everything(dtype):
    X = np.array([[1.0, 0.5], [2.0, 1.0]], dtype)
    model = GroupedDMD().fit(X, block=100)
    np.testing.assert_allclose(model.eigenvalues[0], [0.5], rtol=1e-6)


def test_segments_may_be_unsorted_and_leave_rows_out():
    X = stacked()
    model = GroupedDMD(rank=2).fit(X, segments=[(66, 99), (0, 33)])
    assert_equals_single_fits(model, X, rank=2)
    np.testing.assert_array_equal(model.forecast(5)[33:66], X[33:66, -1])
    np.testing.assert_array_equal(model.forecast([5])[99:, 0], X[99:, -1])


def test_threads_do_not_change_a_bit(dtype):
    X = stacked(dtype, noise=1e-2)
    one = GroupedDMD(rank=3, n_threads=1).fit(X, block=5)
    two = GroupedDMD(rank=3, n_threads=2).fit(X, block=5)
    for a, b in zip(one.eigenvalues, two.eigenvalues, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.forecast([1, 20]), two.forecast([1, 20]))


def test_read_only_input_is_read_in_place():
    X = stacked()
    X.flags.writeable = False
    assert GroupedDMD(rank=2).fit(X, block=BLOCK).forecast(1).shape == (ROWS,)


BAD = [
    (dict(), ValueError, "either segments or block"),
    (dict(segments=[(0, 3)], block=3), ValueError, "either segments or block"),
    (dict(block=0), ValueError, "block must be at least 1 row, got 0"),
    (dict(block=2.5), TypeError, r"block=2\.5"),
    (dict(segments=[]), ValueError, r"segments has shape \(0,\)"),
    (dict(segments=[(0, 3, 5)]), ValueError, r"segments has shape \(1, 3\)"),
    (dict(segments=[(0.0, 3.0)]), TypeError, "segments has dtype float64"),
    (dict(segments=[(0, 3), (5, 5)]), ValueError, r"segments\[1\] is \(5, 5\)"),
    (dict(segments=[(3, 0)]), ValueError, r"segments\[0\] is \(3, 0\)"),
    (dict(segments=[(-3, 2)]), ValueError, r"segments\[0\] is \(-3, 2\)"),
    (dict(segments=[(0, 131)]), ValueError, r"segments\[0\] is \(0, 131\)"),
    (dict(segments=[(10, 20), (0, 11)]), ValueError, r"segments\[1\] and segments\[0\] both"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_segments_are_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        GroupedDMD().fit(stacked(), **arguments)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_data_that_is_not_finite_names_the_first_such_segment(bad, n_threads):
    X = stacked()
    X[40, 3] = X[120, 2] = bad
    with pytest.raises(koopcore.Error, match=r"segment 1 \(rows 33 to 66\): "):
        GroupedDMD(n_threads=n_threads).fit(X, block=BLOCK)


@pytest.mark.parametrize(
    ("options", "data", "error", "message"),
    [
        (dict(), np.ones((4, 3), int), TypeError, "X has dtype int64"),
        (dict(), np.ones(4), ValueError, r"X has shape \(4,\)"),
        (dict(), np.ones((0, 3)), ValueError, r"X has shape \(0, 3\)"),
        (dict(), np.ones((4, 1)), ValueError, "^a fit needs at least 2 snapshots, got 1"),
        (dict(rank=3), np.ones((4, 3)), ValueError, "^rank=3 needs at least 4 snapshots, got 3"),
    ],
)
def test_bad_data_are_refused_by_name(options, data, error, message):
    with pytest.raises(error, match=message):
        GroupedDMD(**options).fit(data, block=2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(n_threads=0), ValueError, "n_threads=0"),
        (dict(n_threads=1.5), TypeError, r"n_threads=1\.5"),
        (dict(rank=0), ValueError, "rank=0"),
        (dict(dt=0.0), ValueError, r"dt=0\.0"),
    ],
)
def test_bad_options_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        GroupedDMD(**options)


def test_using_a_fit_wrongly_is_refused():
    with pytest.raises(ValueError, match="not fitted yet"):
        GroupedDMD().forecast(1)
    model = GroupedDMD(rank=1).fit(stacked(), block=BLOCK)
    with pytest.raises(koopcore.Error, match="horizon must be finite, got nan"):
        model.forecast(float("nan"))
    with pytest.raises(ValueError, match="horizon has shape"):
        model.forecast(np.ones((2, 2)))
