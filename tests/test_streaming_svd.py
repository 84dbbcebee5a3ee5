"""koopcore.StreamingSVD against numpy.linalg.svd of all snapshots, weighted and centred."""

import numpy as np
import pytest
from streams import CLOSE, Unchanged, low_rank, relative, same_bits
from support import DTYPES

from koopcore import StreamingSVD


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


def svd(X, rank):
    u, s, _ = np.linalg.svd(X.astype(np.float64), full_matrices=False)
    return u[:, :rank], s[:rank]


def spans(basis, X):
    """Share of X outside the basis."""
    wide, data = basis.astype(np.float64), X.astype(np.float64)
    return np.linalg.norm(data - wide @ (wide.T @ data)) / np.linalg.norm(data)


def orthogonality(basis):
    wide = basis.astype(np.float64)
    return np.abs(wide.T @ wide - np.eye(wide.shape[1])).max(initial=0.0)


@pytest.mark.parametrize("oversampling", [0, 10])
@pytest.mark.parametrize("block", [1, 5, 16, 64])
def test_exact_rank_data_give_numpys_singular_values_and_span(dtype, block, oversampling):
    X = low_rank(5, 200, 70, dtype)
    model = StreamingSVD(5, block=block, oversampling=oversampling).partial_fit(X)
    assert relative(model.singular_values, svd(X, 5)[1]) < CLOSE[dtype]
    assert model.basis.shape == (200, 5)
    assert model.basis.dtype == dtype
    assert spans(model.basis, X) < CLOSE[dtype]
    assert orthogonality(model.basis) < 1e-6


def test_vectors_are_numpys_one_by_one(dtype):
    X = low_rank(4, 150, 60, dtype)
    basis = StreamingSVD(4).partial_fit(X).basis
    overlap = np.abs(np.sum(basis * svd(X, 4)[0], axis=0))
    np.testing.assert_allclose(overlap, 1.0, atol=10 * CLOSE[dtype])


def test_states_that_fit_in_the_basis_lose_nothing(dtype):
    """As many directions are kept as there are features: numpy's numbers to the last one."""
    X = np.random.default_rng(0).standard_normal((12, 100)).astype(dtype)
    model = StreamingSVD(6).partial_fit(X)
    assert relative(model.singular_values, svd(X, 6)[1]) < CLOSE[dtype]
    assert relative(np.abs(np.sum(model.basis * svd(X, 6)[0], axis=0)), np.ones(6)) < 1e-4


def test_truncation_keeps_the_largest_directions(dtype):
    """Small directions first, then large ones, with more directions than are kept."""
    small = 1e-2 * low_rank(40, 120, 60, dtype, seed=1, fall=0.99)
    large = low_rank(4, 120, 60, dtype, seed=2)
    X = np.hstack([small, large, small])
    model = StreamingSVD(4, oversampling=4).partial_fit(X)
    u, s = svd(X, 4)
    assert relative(model.singular_values, s) < 1e-3
    assert np.linalg.svd(u.T @ model.basis, compute_uv=False).min() > 0.999


def test_noise_below_the_rank_changes_little():
    rng = np.random.default_rng(0)
    X = low_rank(5, 100, 150) + 1e-3 * rng.standard_normal((100, 150))
    model = StreamingSVD(5).partial_fit(X)
    assert relative(model.singular_values, svd(X, 5)[1]) < 1e-5


def test_energy_ratio_and_weight_of_exact_rank_data(dtype):
    X = low_rank(5, 200, 70, dtype)
    model = StreamingSVD(5).partial_fit(X)
    assert model.energy == pytest.approx(np.sum(X.astype(np.float64) ** 2), rel=CLOSE[dtype])
    assert model.explained_ratio.sum() == pytest.approx(1.0, rel=CLOSE[dtype])
    assert np.all(np.diff(model.explained_ratio) < 0.0)
    assert model.weight == 70.0
    assert model.n_snapshots == 70


@pytest.mark.parametrize("center", [False, True])
def test_forgetting_weighs_by_age(dtype, center):
    X = low_rank(5, 100, 90, dtype) + dtype(2.0 if center else 0.0)
    model = StreamingSVD(5, forgetting=0.9, center=center).partial_fit(X)
    weights = 0.9 ** np.arange(89, -1, -1.0)
    mean = X @ weights / weights.sum() if center else np.zeros(100)
    expected = svd((X - mean[:, None]) * np.sqrt(weights), 5)[1]
    assert relative(model.singular_values, expected) < 5 * CLOSE[dtype]
    assert model.weight == pytest.approx(weights.sum())
    assert relative(model.mean + 1.0, mean + 1.0) < CLOSE[dtype]


@pytest.mark.parametrize("m", [1, 2, 16, 17, 75])
def test_centred_values_mean_and_energy_are_numpys(dtype, m):
    """Far from the origin: squared without the mean, float32 would keep no digit of it."""
    X = (low_rank(4, 100, 75, np.float64) + 1e4 * np.linspace(-1, 1, 100)[:, None]).astype(dtype)
    X = X[:, :m]
    model = StreamingSVD(4, center=True).partial_fit(X)
    wide = X.astype(np.float64)
    mean = wide.mean(axis=1)
    assert relative(model.mean, mean) < CLOSE[dtype]
    assert model.mean.dtype == dtype
    expected = svd(wide - mean[:, None], 4)[1]
    found = np.zeros(len(expected))
    found[: len(model.singular_values)] = model.singular_values
    # The data themselves are given to eps of 1e4.
    assert np.abs(found - expected).max() < 1e4 * CLOSE[dtype]
    assert model.energy == pytest.approx(expected @ expected, rel=1e-3, abs=1e-20)


def test_without_centring_the_mean_is_zero(dtype):
    model = StreamingSVD(2).partial_fit(low_rank(2, 30, 20, dtype) + dtype(3))
    np.testing.assert_array_equal(model.mean, np.zeros(30, dtype))


def test_error_estimates_the_rest(dtype):
    """Unbiased in its square: over seeds of the sketch the mean is within a few per cent."""
    X = low_rank(40, 400, 80, dtype, fall=0.8)
    ratios = []
    for seed in range(12):
        model = StreamingSVD(6, random_state=seed).partial_fit(X)
        rest = np.linalg.norm(X - model.basis @ (model.basis.T @ X))
        assert 0.6 < model.error / rest < 1.5
        ratios.append((model.error / rest) ** 2)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.15)


def test_error_of_exact_rank_data_is_rounding(dtype):
    X = low_rank(3, 100, 50, dtype)
    model = StreamingSVD(3).partial_fit(X)
    assert model.error < 1e-6 * np.linalg.norm(X)


@pytest.mark.parametrize("center", [False, True])
def test_transform_gives_coordinates(dtype, center):
    X = low_rank(4, 80, 50, dtype) + dtype(1)
    model = StreamingSVD(5, center=center).partial_fit(X)
    coordinates = model.transform(X)
    assert coordinates.shape == (5, 50) if not center else coordinates.shape[1] == 50
    expected = model.basis.T.astype(float) @ (X.astype(float) - model.mean.astype(float)[:, None])
    assert np.abs(coordinates - expected).max() < 10 * CLOSE[dtype] * np.abs(X).max() * 80**0.5
    back = model.basis @ coordinates + model.mean[:, None]
    assert relative(back, X) < 10 * CLOSE[dtype]
    np.testing.assert_allclose(model.transform(X[:, 3]), coordinates[:, 3], atol=CLOSE[dtype] * 80)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.ones(4, np.float32), TypeError, "X has dtype float32; the stream has float64"),
        (np.ones(5), ValueError, r"X has shape \(5,\); expected \(4,\) or \(4, k\)"),
        (np.ones((5, 2)), ValueError, r"X has shape \(5, 2\)"),
        (np.ones((4, 2, 2)), ValueError, r"X has shape \(4, 2, 2\)"),
    ],
)
def test_transform_refuses_other_states(X, error, message):
    model = StreamingSVD(2).partial_fit(np.diag([1.0, 2.0, 3.0, 4.0]))
    with pytest.raises(error, match=message):
        model.transform(X)


def test_lists_of_arrays_are_one_state(dtype):
    X = low_rank(3, 24, 40, dtype)
    whole, split = StreamingSVD(3), StreamingSVD(3)
    for x in X.T:
        whole.update(x)
        split.update([x[:4], x[4:].reshape(5, 4)])
    first, second = split.basis
    assert first.shape == (4, 3)
    assert second.shape == (5, 4, 3)
    np.testing.assert_array_equal(np.vstack([first, second.reshape(20, 3)]), whole.basis)
    np.testing.assert_array_equal(split.mean[1].ravel(), whole.mean[4:])


def test_tensors_are_taken_as_arrays():
    torch = pytest.importorskip("torch")
    X = low_rank(3, 24, 40)
    arrays = StreamingSVD(3).partial_fit(X).update(X[:, 0])
    tensors = StreamingSVD(3).partial_fit(torch.from_numpy(X)).update(torch.from_numpy(X[:, 0]))
    assert same_bits(arrays, tensors)


@pytest.mark.parametrize("layout", ["F", "C", "strided", "reversed", "list"])
def test_layout_of_a_block_changes_no_bit(dtype, layout):
    X = low_rank(3, 40, 50, dtype)
    forms = {
        "F": np.asfortranarray(X),
        "C": np.ascontiguousarray(X),
        "strided": np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
        "reversed": np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    }
    given = forms.get(layout, X)
    if layout == "list" and dtype == np.float64:
        given = X.tolist()
    one = StreamingSVD(3).partial_fit(X.copy())
    assert same_bits(one, StreamingSVD(3).partial_fit(given))


HARD = {
    "zeros": (np.zeros((6, 40)), []),
    "constant": (np.full((6, 40), 3.0), [3.0 * np.sqrt(240)]),
    "repeated": (np.outer(np.arange(6.0), np.ones(40)), [np.sqrt(55 * 40)]),
    "denormals": (np.full((6, 40), 1e-40), []),
    "one": (np.arange(6.0)[:, None], [np.sqrt(55)]),
    "large": (np.full((6, 40), 1e30), [1e30 * np.sqrt(240)]),
    "small": (np.full((6, 40), 1e-25), [1e-25 * np.sqrt(240)]),
    "then zeros": (np.hstack([np.eye(6)[:, :2], np.zeros((6, 90))]), [1.0, 1.0]),
}


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("name", HARD)
def test_hard_streams_are_finite_and_have_the_rank_of_the_data(dtype, name, center):
    X, expected = HARD[name]
    X = X.astype(dtype)
    if dtype == np.float64 and name == "denormals":
        X = np.full((6, 40), 1e-310)
    model = StreamingSVD(3, center=center, block=8).partial_fit(X)
    if center:
        wide = X.astype(np.float64)
        expected = svd(wide - wide.mean(axis=1, keepdims=True), 3)[1]
        expected = expected[expected > CLOSE[dtype] * np.abs(wide).max()]
    found = model.singular_values
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-5)
    assert np.all(found[len(expected) :] <= CLOSE[dtype] * np.abs(X).max(initial=0.0))
    assert model.basis.shape == (6, len(found))
    assert orthogonality(model.basis) < 1e-6
    assert np.isfinite(model.energy)
    assert np.isfinite(model.error)
    assert np.isfinite(model.state_dict()["numbers"]).all()


def test_values_whose_square_overflows_are_refused_by_name():
    model = StreamingSVD(2).partial_fit(np.ones((4, 3)))
    for refused in (
        lambda: model.update(np.full(4, 1e200)),
        lambda: model.partial_fit(np.full((4, 40), 1e200)),
        lambda: model.partial_fit(np.full((4, 2), 1e200)),
    ):
        with Unchanged(model), pytest.raises(ValueError, match="could overflow"):
            refused()


def test_blocks_wider_than_the_rank_and_ranks_above_the_data(dtype):
    X = low_rank(3, 50, 200, dtype)
    model = StreamingSVD(40, oversampling=5, block=300).partial_fit(X)
    found = model.singular_values
    assert relative(found[:3], svd(X, 3)[1]) < CLOSE[dtype]
    assert np.all(found[3:] < 1e-5 * found[0])
    few = StreamingSVD(2, oversampling=0, block=4).partial_fit(X)
    assert few.basis.shape == (50, 2)
    assert few.singular_values[0] == pytest.approx(found[0], rel=1e-2)


@pytest.mark.parametrize("name", ["singular_values", "basis", "mean", "energy", "error"])
def test_a_question_without_snapshots_is_refused(name):
    with pytest.raises(ValueError, match="StreamingSVD has no snapshots yet"):
        getattr(StreamingSVD(2), name)
    assert StreamingSVD(2).weight == 0.0
    assert StreamingSVD(2).n_snapshots == 0


def test_clear_forgets_all_and_takes_another_shape(dtype):
    X = low_rank(3, 30, 40, dtype)
    used = StreamingSVD(3).partial_fit(np.ones((5, 9)))
    used.clear()
    assert used.n_snapshots == 0
    assert same_bits(used.partial_fit(X), StreamingSVD(3).partial_fit(X))
