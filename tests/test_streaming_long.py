"""Long and hard streams: all stays finite and bounded, and right where there is an answer."""

import gc
from pathlib import Path

import numpy as np
import pytest
from streams import EXACT, RATES, Unchanged, relative
from support import DTYPES, match, planted

from koopcore import DMD, StreamingDMD, StreamingSVD

LONG = 100_000


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


def waves(n, dtype, rates, seed=0):
    """100,000 snapshots with one orthonormal direction for each real or imaginary part."""
    t = np.arange(LONG)
    rows = []
    for rate in np.asarray(rates, complex):
        size = abs(rate) ** t
        rows.append(size * np.cos(np.angle(rate) * t))
        if rate.imag:
            rows.append(size * np.sin(np.angle(rate) * t))
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, len(rows))))[0]
    return (Q @ np.array(rows)).astype(dtype)


def assert_bounded(model, limit):
    state = model.state_dict()
    for name in ("columns", "numbers"):
        assert np.isfinite(state[name]).all(), name
        assert np.abs(state[name]).max(initial=0.0) <= limit, name


@pytest.mark.parametrize("options", [{}, {"variant": "tls"}, {"delays": 2}], ids=str)
def test_100000_updates_of_decaying_data_find_what_persists(dtype, options):
    """With forgetting 0.9 a fixed point and a wave last, two other modes die out on the way.

    Recursive least squares of such data is not finite after 6,646 updates.
    """
    X = waves(20, dtype, (1.0, np.exp(0.3j), 0.999, 0.99 * np.exp(0.9j)))
    model = StreamingDMD(3, forgetting=0.9, **options)
    for j in range(2_000):
        model.update(X[:, j])
    for first in range(2_000, LONG, 700):
        model.partial_fit(X[:, first : first + 700])
        assert_bounded(model, LONG)
    assert model.n_snapshots == LONG
    assert match(model.eigenvalues, (1.0, np.exp(0.3j), np.exp(-0.3j))) < 1e-6
    assert relative(model.forecast(0), X[:, -1]) < 1e-5


@pytest.mark.parametrize("forgetting", [1.0, 0.9])
@pytest.mark.parametrize("affine", [False, True])
def test_a_stream_that_dies_out_and_comes_back_is_followed(dtype, forgetting, affine):
    """100,000 snapshots down to 1e-43, some zeros, and then a wave."""
    dying = waves(20, dtype, (0.999, 0.99, 0.9))
    model = StreamingDMD(3, forgetting=forgetting, affine=affine)
    for first in range(0, LONG, 5_000):
        model.partial_fit(dying[:, first : first + 5_000])
        assert_bounded(model, LONG)
    model.partial_fit(np.zeros((20, 100), dtype))
    assert_bounded(model, 2 * LONG)
    assert np.isfinite(model.forecast([0, 1, 10])).all()
    if forgetting == 1.0:
        assert np.abs(model.eigenvalues - 0.999).min() < 1e-4
    model.start_trajectory().partial_fit(planted((np.exp(0.5j), np.exp(-0.5j)), 20, 90, dtype))
    found = model.eigenvalues
    if forgetting < 1.0:
        assert match(found[np.abs(found) > 0.95], np.exp([0.5j, -0.5j])) < 1e-3
    assert np.isfinite(model.forecast([0, 1, 10])).all()


@pytest.mark.parametrize("forgetting", [0.8, 0.9, 0.95, 0.98])
def test_forgetting_follows_a_sudden_change_in_three_times_its_memory(forgetting):
    """To 1e-2 within 3 / (1 - forgetting) steps, and for good; without forgetting never."""
    old, new = np.exp([0.3j, -0.3j]), np.exp([0.9j, -0.9j])
    rng = np.random.default_rng(0)
    after = round(3.0 / (1.0 - forgetting))
    X = np.hstack([planted(old, 50, 1000, seed=1), planted(new, 50, 3 * after, seed=2)])
    X += 1e-3 * rng.standard_normal(X.shape)
    model = StreamingDMD(2, forgetting=forgetting).partial_fit(X[:, :1000])
    assert match(model.eigenvalues, old) < 1e-3
    for j in range(1000, X.shape[1]):
        model.update(X[:, j])
        if j == 1000 + after // 20:
            assert match(model.eigenvalues, new) > 0.1
        if j >= 1000 + after:
            assert match(model.eigenvalues, new) < 1e-2
    remembers = StreamingDMD(2).partial_fit(X)
    assert match(remembers.eigenvalues, new) > 0.1


def test_the_basis_stays_orthonormal_over_100000_updates():
    """Noise in all directions turns the basis at every block; float32."""
    rng = np.random.default_rng(0)
    model = StreamingSVD(5, oversampling=5, forgetting=0.99, block=16)
    for _ in range(LONG // 1600 + 1):
        model.partial_fit(rng.standard_normal((40, 1600), np.float32))
    stored = model.state_dict()["columns"].astype(np.float64)
    assert stored.shape == (40, 10)  # nothing pending: the basis as it is kept
    for basis in (stored, model.basis.astype(np.float64)):
        assert np.abs(basis.T @ basis - np.eye(basis.shape[1])).max() < 1e-6
    assert model.n_snapshots > LONG


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("kind", [StreamingSVD, StreamingDMD])
def test_memory_is_constant(kind):
    """A block is 1.6 MB: one that stays behind at every turn would be seen at once."""
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal((25_000, 16), np.float32) for _ in range(3)]
    model = kind(4, oversampling=2, forgetting=0.9)

    def turn(count):
        for i in range(count):
            model.partial_fit(blocks[i % 3])
            _ = model.singular_values
            if i % 10 == 0:
                _ = model.basis if kind is StreamingSVD else model.modes
                model.load_state_dict(model.state_dict())
        gc.collect()

    turn(20)
    before = resident()
    turn(60)
    assert resident() - before < 16 * 2**20


@pytest.mark.parametrize("ratio", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_small_modes_are_found_beside_large_ones(dtype, ratio):
    """In float64 the error grows as eps / ratio^2, in float32 as eps / ratio (of the data)."""
    rates = (0.999 * np.exp(0.3j), 0.99 * np.exp(1.1j))
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((200, 4)))[0]
    Z = np.array([part(rate ** np.arange(80)) for rate in rates for part in (np.real, np.imag)])
    X = (Q * [1.0, 1.0, ratio, ratio] @ Z).astype(dtype)
    eps = np.finfo(dtype).eps
    limit = 1000 * (eps / ratio if dtype == np.float32 else max(eps, eps / ratio**2))
    found = StreamingDMD(4).partial_fit(X).eigenvalues
    assert match(found, [r for rate in rates for r in (rate, rate.conjugate())]) < limit


HARD = {
    "constant": (np.full((6, 40), 3.0), [1.0]),
    "repeated": (np.outer(np.arange(1.0, 7.0), np.ones(40)), [1.0]),
    "large": (1e30 * planted((0.9, 0.5), 6, 40), [0.9, 0.5]),
    "small": (1e-25 * planted((0.9, 0.5), 6, 40), [0.9, 0.5]),
    "alternating": (np.outer(np.arange(1.0, 7.0), (-1.0) ** np.arange(40)), [-1.0]),
    "dead directions": (np.vstack([planted((0.9, 0.5), 3, 40), np.zeros((3, 40))]), [0.9, 0.5]),
    "two snapshots": (np.outer(np.arange(1.0, 7.0), [1.0, 0.5]), [0.5]),
}


@pytest.mark.parametrize(
    "options", [{}, {"variant": "tls"}, {"variant": "forward-backward"}], ids=str
)
@pytest.mark.parametrize("name", HARD)
def test_hard_streams_have_the_eigenvalues_of_their_data(dtype, name, options):
    X, rates = HARD[name]
    model = StreamingDMD(4, **options).partial_fit(X.astype(dtype))
    assert match(model.eigenvalues, rates) < EXACT[dtype]
    assert model.modes.shape == (6, len(rates))
    assert relative(model.forecast(0), X[:, -1]) < 1e-4
    assert_bounded(model, max(1e3, np.abs(X).max()))  # the unit is a power of two


NOTHING = {
    "zeros": np.zeros((6, 40)),
    "denormals": np.full((6, 40), 1e-42),
    "two zeros": np.zeros((6, 2)),
}


@pytest.mark.parametrize(
    "options", [{}, {"affine": True}, {"variant": "tls"}, {"delays": 2}], ids=str
)
@pytest.mark.parametrize("name", NOTHING)
def test_streams_of_nothing_stay_finite(dtype, name, options):
    X = NOTHING[name].astype(dtype) * (1e-270 if dtype == np.float64 else 1.0)
    model = StreamingDMD(4, **options).partial_fit(X)
    assert_bounded(model, 40.0)
    if X.shape[1] > 2 and name == "zeros":
        assert len(model.eigenvalues) == 0
        np.testing.assert_array_equal(model.forecast([0, 1, 5]), np.zeros((6, 3)))
    wave = planted(RATES, 6, 60, dtype)
    model.start_trajectory().partial_fit(wave)
    assert match(model.eigenvalues, RATES) < EXACT[dtype]


def test_a_constant_offset_needs_affine(dtype):
    X = planted((0.9, 0.5), 30, 60, dtype, fixed_point=5.0)
    affine = StreamingDMD(2, affine=True).partial_fit(X)
    assert match(affine.eigenvalues, (0.9, 0.5)) < 10 * EXACT[dtype]
    constant = StreamingDMD(2, affine=True).partial_fit(np.full((30, 60), 5.0, dtype))
    assert len(constant.eigenvalues) == 0
    np.testing.assert_array_equal(constant.forecast(3), np.full(30, 5.0, dtype))


def test_blocks_wider_than_the_rank_and_a_rank_above_the_data(dtype):
    X = planted(RATES, 50, 200, dtype)
    wide = StreamingDMD(30, oversampling=0, block=128).partial_fit(X)
    assert len(wide.eigenvalues) == 4
    assert match(wide.eigenvalues, DMD(rank=4).fit(X).eigenvalues) < EXACT[dtype]
    few = StreamingDMD(3, block=128).partial_fit(X)
    assert match(few.eigenvalues, DMD(rank=3).fit(X).eigenvalues) < EXACT[dtype]


def huge(value, dtype, columns=1):
    return np.full((6, columns), value, dtype)


@pytest.mark.parametrize("options", [{}, {"affine": True}, {"delays": 2}], ids=str)
def test_values_whose_square_overflows_are_refused_by_name(options):
    model = StreamingDMD(2, **options).partial_fit(planted((0.9, 0.5), 6, 23))
    for X in (huge(1e200, np.float64), huge(1e200, np.float64, 60)):
        with Unchanged(model), pytest.raises(ValueError, match=r"could overflow"):
            model.partial_fit(X)
    with Unchanged(model), pytest.raises(ValueError, match=r"could overflow"):
        model.update(huge(1e200, np.float64)[:, 0])


@pytest.mark.parametrize("width", [2, 60])
def test_differences_that_overflow_are_refused_before_any_change(width):
    """Every value is finite, but not every difference."""
    model = StreamingDMD(2, affine=True).partial_fit(planted((0.9, 0.5), 6, 23, np.float32))
    X = np.ones((6, width), np.float32)
    X[:, -2:] = [3e38, -3e38]
    with Unchanged(model), pytest.raises(ValueError, match="finite"):
        model.partial_fit(X)


def test_a_first_state_too_large_for_any_difference_is_refused():
    model = StreamingDMD(2, affine=True)
    with pytest.raises(ValueError, match="overflow"):
        model.update(huge(1e200, np.float64)[:, 0])
    assert model.n_snapshots == 0
