"""koopcore.StreamingDMD against planted systems, batch DMD, DMDc and the NumPy reference."""

import numpy as np
import pytest
from streams import CLOSE, EXACT, RATES, relative, same_bits
from support import DTYPES, match, planted

from koopcore import DMD, DMDc, StreamingDMD, reference

UNIT = tuple(rate / abs(rate) for rate in (RATES[2], RATES[3]))


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


def noisy(rates=RATES, n=12, m=90, seed=0, noise=1e-2, **options):
    """With n below the directions kept, a stream of it loses nothing."""
    rng = np.random.default_rng(seed)
    return planted(rates, n=n, m=m, seed=seed, **options) + noise * rng.standard_normal((n, m))


FORMS = {
    "standard": {},
    "projected": {"exact": False},
    "tls": {"variant": "tls"},
    "forward-backward": {"variant": "forward-backward"},
    "affine": {"affine": True},
    "delays": {"delays": 3},
    "affine delays": {"affine": True, "delays": 2},
    "stable": {"constraint": "stable"},
    "keep": {"unstable": "keep"},
    "forgetting": {"forgetting": 0.95},
    "narrow": {"block": 1, "oversampling": 0},
    "wide": {"block": 70},
}


@pytest.mark.parametrize("m", [20, 33, 64])
@pytest.mark.parametrize("form", FORMS)
def test_exact_rank_data_give_the_planted_system(dtype, form, m):
    X = planted(RATES, n=200, m=80, dtype=dtype, fixed_point=3.0 if "affine" in form else 0.0)
    model = StreamingDMD(4, **FORMS[form]).partial_fit(X[:, :m])
    assert match(model.eigenvalues, RATES) < EXACT[dtype]
    ahead = model.forecast([1, 7])
    assert ahead.dtype == dtype
    assert relative(ahead, X[:, [m, m + 6]]) < 20 * CLOSE[dtype]


BATCH = [form for form in FORMS if form not in ("forgetting", "narrow", "wide")]


@pytest.mark.parametrize("form", BATCH)
def test_exact_rank_data_give_batch_dmd(dtype, form):
    X = planted(RATES, n=60, m=50, dtype=dtype)
    stream = StreamingDMD(4, dt=0.5, **FORMS[form]).partial_fit(X)
    batch = DMD(rank=4, dt=0.5, **FORMS[form]).fit(X)
    assert match(stream.eigenvalues, batch.eigenvalues) < EXACT[dtype]
    order = np.argmin(np.abs(stream.eigenvalues[:, None] - batch.eigenvalues), axis=0)
    for name in ("omega", "frequency", "growth_rate"):
        np.testing.assert_allclose(
            getattr(stream, name)[order], getattr(batch, name), atol=10 * EXACT[dtype]
        )
    directions = stream.modes[:, order] / np.linalg.norm(stream.modes[:, order], axis=0)
    modes = batch.modes[: len(X)] / np.linalg.norm(batch.modes[: len(X)], axis=0)
    np.testing.assert_allclose(np.abs(np.sum(directions.conj() * modes, axis=0)), 1.0, rtol=1e-4)
    assert relative(stream.forecast(3.5), batch.forecast(3.5)) < 10 * EXACT[dtype]


def expected_eigenvalues(X, Y, rank, options, weight):
    variant = options.get("variant", "standard")
    if options.get("ridge"):
        alpha = options["ridge"] * np.sum(X**2) / weight
        return reference.ridge(X, Y, rank, alpha)
    if variant == "tls":
        return reference.total_least_squares(X, Y, rank)
    if variant == "forward-backward":
        return reference.forward_backward(X, Y, rank)
    if variant == "symmetric":
        return reference.symmetric(X, Y, rank)
    return reference.dmd(X, Y, rank)[0]


@pytest.mark.parametrize("forgetting", [1.0, 0.97])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"variant": "tls"},
        {"variant": "forward-backward"},
        {"variant": "symmetric"},
        {"ridge": 0.05},
        {"affine": True},
        {"delays": 3},
        {"delays": 2, "variant": "tls"},
        {"affine": True, "delays": 2, "variant": "tls"},
    ],
    ids=str,
)
def test_noisy_trajectories_give_the_reference(dtype, options, forgetting):
    """Every variant, with weights, over three trajectories, at rank below the data's."""
    S = noisy().astype(dtype)
    trajectories = [S[:, :31], S[:, 31:50], S[:, 50:]]
    stream = StreamingDMD(4, forgetting=forgetting, **options)
    for trajectory in trajectories:
        stream.start_trajectory().partial_fit(trajectory)
    wide = [t.astype(np.float64) for t in trajectories]
    delays, affine = options.get("delays", 1), options.get("affine", False)
    X, Y = reference.stream_pairs(wide, delays=delays, forgetting=forgetting, differences=affine)
    ones = [np.ones((1, t.shape[1] - affine)) for t in wide]
    weight = np.sum(reference.stream_pairs(ones, delays=delays, forgetting=forgetting)[0][0] ** 2)
    expected = expected_eigenvalues(X, Y, 4, options, weight)
    assert match(stream.eigenvalues, expected) < EXACT[dtype]
    if options.get("variant") != "tls":
        values = np.linalg.svd(X, compute_uv=False)
        assert relative(stream.singular_values[:4], values[:4]) < CLOSE[dtype]


def test_pairs_are_trajectories_of_two(dtype):
    S = noisy().astype(dtype)
    X, Y = S[:, :-1], S[:, 1:]
    pairs = StreamingDMD(4, forgetting=0.9).partial_fit(X, Y)
    short = StreamingDMD(4, forgetting=0.9)
    for j in range(X.shape[1]):
        short.start_trajectory().update(X[:, j]).update(Y[:, j])
    assert pairs.n_snapshots == 2 * X.shape[1]
    np.testing.assert_array_equal(pairs.eigenvalues, short.eigenvalues)
    roots = 0.9 ** (np.arange(X.shape[1] - 1, -1, -1.0) / 2)
    expected = reference.dmd(X.astype(float) * roots, Y.astype(float) * roots, 4)[0]
    assert match(pairs.eigenvalues, expected) < EXACT[dtype]
    with pytest.raises(ValueError, match="pairs have none to go on from"):
        pairs.forecast(1)
    with pytest.raises(ValueError, match="pairs have none to go on from"):
        _ = pairs.amplitudes
    A = reference.operator(X.astype(float) * roots, Y.astype(float) * roots, 4)
    assert relative(pairs.predict(X[:, 0]), A @ X[:, 0]) < 10 * EXACT[dtype]


@pytest.mark.parametrize("options", [{"delays": 2}, {"affine": True}])
def test_pairs_need_single_states(options):
    with pytest.raises(ValueError, match="pairs X, Y go with delays=1 and affine=False"):
        StreamingDMD(2, **options).partial_fit(np.ones((4, 3)), np.ones((4, 3)))


def test_a_new_trajectory_makes_no_pair_with_the_old_one(dtype):
    """Joined without a word, the jump between them would spoil the eigenvalues."""
    parts = [planted(RATES, n=60, m=14, dtype=dtype, seed=seed) for seed in range(3)]
    joined, apart = StreamingDMD(12), StreamingDMD(12)
    for part in parts:
        joined.partial_fit(part)
        apart.start_trajectory().partial_fit(part)
    distances = np.abs(apart.eigenvalues[:, None] - np.asarray(RATES)).min(axis=1)
    assert distances.max() < EXACT[dtype]
    assert np.abs(joined.eigenvalues[:, None] - np.asarray(RATES)).min(axis=1).max() > 1e-2


def test_the_newest_trajectory_must_reach_over_the_delays():
    X = planted(RATES, n=20, m=40)
    model = StreamingDMD(4, delays=3).partial_fit(X).start_trajectory().update(X[:, 0])
    with pytest.raises(ValueError, match="fewer than delays=3 states"):
        model.forecast(1)
    assert match(model.eigenvalues, RATES) < EXACT[np.float64]
    model.update(X[:, 1]).update(X[:, 2])
    assert relative(model.forecast(1), X[:, 3]) < 20 * CLOSE[np.float64]


@pytest.mark.parametrize("variant", ["standard", "tls", "forward-backward"])
@pytest.mark.parametrize("options", [{}, {"affine": True}, {"delays": 2}], ids=str)
def test_complex_pairs_are_exact_conjugates(dtype, variant, options):
    model = StreamingDMD(4, variant=variant, **options).partial_fit(noisy().astype(dtype))
    values, modes = model.eigenvalues, model.modes
    assert np.count_nonzero(values.imag) >= 2
    for k in np.flatnonzero(values.imag > 0):
        (partner,) = np.flatnonzero(values == values[k].conj())
        np.testing.assert_array_equal(modes[:, partner], modes[:, k].conj())
    for k in np.flatnonzero(values.imag == 0):
        np.testing.assert_array_equal(modes[:, k].imag, 0.0)


def test_leading_eigenvalues_of_noisy_data_are_those_of_batch_dmd(dtype):
    """Noise in all 300 directions, of which 14 are kept."""
    rates = (0.999 * UNIT[0], 0.999 * UNIT[1], 0.97, 0.8)
    for seed in range(3):
        X = noisy(rates, n=300, m=300, seed=seed, noise=1e-2).astype(dtype)
        for variant in ("standard", "tls"):
            stream = StreamingDMD(4, variant=variant).partial_fit(X).eigenvalues
            assert match(stream, DMD(rank=4, variant=variant).fit(X).eigenvalues) < 1e-3


def test_tls_beats_standard_against_the_bias_of_noise():
    rates = [0.9999 * rate for rate in UNIT]
    errors = {"standard": [], "tls": []}
    for seed in range(5):
        X = noisy(rates, n=20, m=1500, seed=seed, noise=0.5)
        for variant, found in errors.items():
            found.append(match(StreamingDMD(2, variant=variant).partial_fit(X).eigenvalues, rates))
    assert np.max(errors["tls"]) < 0.2 * np.min(errors["standard"])


@pytest.mark.parametrize("unstable", ["clip", "reflect", "drop", "keep"])
def test_unstable_eigenvalues_are_forecast_as_the_option_says(unstable):
    rates = (1.05, 0.9)
    X = planted(rates, n=30, m=30)
    model = StreamingDMD(2, unstable=unstable).partial_fit(X)
    assert match(model.eigenvalues, rates) < EXACT[np.float64]
    expected = DMD(rank=2, unstable=unstable).fit(X)
    assert relative(model.forecast([1, 2.5]), expected.forecast([1, 2.5])) < 1e-7
    assert relative(model.predict(X[:, 3], 4), expected.predict(X[:, 3], 4)) < 1e-7


@pytest.mark.parametrize("constraint", ["stable", "unit_circle", "real"])
def test_constraints_are_those_of_batch_dmd(constraint):
    X = noisy(noise=1e-4, n=10)
    stream = StreamingDMD(4, constraint=constraint).partial_fit(X)
    batch = DMD(rank=4, constraint=constraint).fit(X)
    assert match(stream.eigenvalues, batch.eigenvalues) < EXACT[np.float64]


def test_delays_see_a_wave_in_one_number(dtype):
    """cos(0.3 t) alone has no linear operator; with two delays it has two eigenvalues."""
    x = np.cos(0.3 * np.arange(60.0)).astype(dtype)[None]
    model = StreamingDMD(2, delays=2).partial_fit(x[:, :50])
    assert match(model.eigenvalues, np.exp([0.3j, -0.3j])) < EXACT[dtype]
    assert relative(model.forecast(np.arange(1, 11)), x[:, 50:]) < 20 * CLOSE[dtype]


def driven(dtype, n=40, m=120, noise=0.0):
    rng = np.random.default_rng(3)
    U = rng.standard_normal((2, m))
    A, B = np.diag([0.95, 0.7, 0.5]), rng.standard_normal((3, 2))
    states = [rng.standard_normal(3)]
    for t in range(1, m):
        states.append(A @ states[-1] + B @ U[:, t])
    lift = rng.standard_normal((n, 3))
    X = lift @ np.array(states).T + noise * rng.standard_normal((n, m))
    return X.astype(dtype), U, lift @ B


@pytest.mark.parametrize("noise", [0.0, 1e-2])
def test_inputs_are_separated_as_dmdc_does(dtype, noise):
    n = 40 if noise == 0.0 else 12
    X, U, B = driven(dtype, n=n, noise=noise)
    stream = StreamingDMD(3, n_inputs=2).partial_fit(X, U=U)
    batch = DMDc(rank=3).fit(X, U[:, 1:])
    assert match(stream.eigenvalues, batch.eigenvalues) < max(EXACT[dtype], noise * 1e-4)
    assert relative(stream.B, batch.B) < max(EXACT[dtype], noise)
    assert relative(stream.B, B) < max(EXACT[dtype], 2 * noise)
    ahead = np.random.default_rng(0).standard_normal((2, 6))
    states = stream.forecast(ahead)
    assert states.dtype == dtype
    assert relative(states, batch.forecast(ahead)) < max(EXACT[dtype], noise)
    if noise == 0.0:
        assert match(stream.eigenvalues, (0.95, 0.7, 0.5)) < EXACT[dtype]
        one_by_one = StreamingDMD(3, n_inputs=2)
        for x, u in zip(X.T, U.T, strict=True):
            one_by_one.update(x, u)
        assert same_bits(one_by_one, stream)
        pairs = StreamingDMD(3, n_inputs=2).partial_fit(X[:, :-1], X[:, 1:], U[:, 1:])
        assert match(pairs.eigenvalues, (0.95, 0.7, 0.5)) < EXACT[dtype]
        delayed = StreamingDMD(5, n_inputs=2, delays=2).partial_fit(X, U=U)
        assert relative(delayed.forecast(ahead), states) < EXACT[dtype]
