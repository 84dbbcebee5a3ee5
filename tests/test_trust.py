"""Residuals, consistency, error bars, the horizon they allow, cross-validation and select."""

import numpy as np
import pytest
from support import DTYPES, match, planted

from koopcore import DMD, WindowDMD, select

RATES = (0.99, 0.97 * np.exp(0.4j), 0.97 * np.exp(-0.4j), 0.8)


def noisy(m=40, noise=0.1, n=100, seed=0, rates=RATES, **options):
    full = planted(rates, n=n, m=m, seed=seed, **options)
    return full + noise * np.random.default_rng(10_000 + seed).standard_normal(full.shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_residuals_tell_modes_from_noise(dtype):
    clean = DMD(rank=4).fit(planted(RATES, m=40, dtype=dtype))
    assert clean.residuals().max() < (1e-3 if dtype == np.float32 else 1e-9)
    model = DMD(rank=8).fit(noisy(noise=0.02).astype(dtype))
    true = np.abs(model.eigenvalues[:, None] - np.array(RATES)[None, :]).min(axis=1) < 0.02
    assert true.sum() == 4
    residuals = model.residuals()
    assert residuals[true].max() < 0.5 * residuals[~true].min()
    # The residual on the pairs that were fitted is what held-out pairs are there to replace.
    full_rank = DMD(tol=0.0).fit(noisy(m=12, noise=0.02))
    g = full_rank._fitted().spectral_coordinates()
    fitted = g[:, 1:] - full_rank.eigenvalues[:, None] * g[:, :-1]
    assert np.abs(fitted).max() < 1e-6 * np.abs(g).max()
    assert full_rank.residuals().max() > 0.1


def test_residuals_are_nan_where_nothing_can_be_held_out():
    assert np.isnan(DMD().fit(planted((0.9,), m=2)).residuals()).all()


def test_consistency_index_is_zero_without_noise_and_grows_with_it():
    index = [DMD(rank=4).fit(noisy(noise=noise)).consistency_index() for noise in (0, 0.1, 1.0)]
    assert index[0] < 1e-10
    assert index[0] < index[1] < index[2] <= 1.0
    assert DMD().fit(np.zeros((3, 5))).consistency_index() == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 4},
        {"rank": 4, "variant": "tls"},
        {"rank": 4, "variant": "forward-backward"},
        {"rank": 4, "delays": 2},
        {"rank": 5, "affine": True},
    ],
    ids=str,
)
def test_bands_hold_the_future_about_as_often_as_they_say(options):
    """The documentation has the table; `bench/coverage.py` makes it."""
    horizons = np.array([1, 3, 10, 30])
    inside = []
    for seed in range(20):
        data = noisy(m=71, seed=seed, fixed_point=3.0 if options.get("affine") else 0.0)
        lower, upper = DMD(**options).fit(data[:, :40]).forecast_interval(horizons, 0.9)
        future = data[:, 39 + horizons]
        inside.append(((future >= lower) & (future <= upper)).mean())
    assert 0.85 < np.mean(inside) < 0.995


def test_bands_follow_level_noise_and_features():
    data = noisy(m=40)
    model = DMD(rank=4).fit(data)
    narrow, wide = (model.forecast_interval(5, level) for level in (0.5, 0.99))
    assert np.all(wide[0] < narrow[0])
    assert np.all(narrow[1] < wide[1])
    middle = model.forecast(5)
    np.testing.assert_allclose((wide[0] + wide[1]) / 2, middle)
    again = DMD(rank=4).fit(data).forecast_interval(5, 0.99)
    np.testing.assert_array_equal(wide[0], again[0])  # the seed is fixed
    clean = DMD(rank=4).fit(planted(RATES, n=100, m=40)).forecast_interval(5)
    assert np.max(clean[1] - clean[0]) < 1e-5  # a Gram matrix shows errors down to 1e-8 of a norm
    loud = np.where(np.arange(100) < 50, 10.0, 1.0)[:, None]
    uneven = planted(RATES, n=100, m=40) + 0.1 * loud * np.random.default_rng(1).standard_normal(
        (100, 40)
    )
    lower, upper = DMD(rank=4).fit(uneven).forecast_interval(1)
    assert np.mean((upper - lower)[:50]) > 3 * np.mean((upper - lower)[50:])


def test_horizon_of_trust_shrinks_with_the_noise():
    noise = (0.0, 0.01, 0.1, 10.0)
    trust = [DMD(rank=4).fit(noisy(noise=s)).horizon_of_trust(0.1, longest=500) for s in noise]
    assert trust[0] == 500
    assert trust[0] >= trust[1] > trust[2] >= trust[3] == 0
    model = DMD(rank=4).fit(noisy(noise=0.01))
    assert model.horizon_of_trust(0.05) <= model.horizon_of_trust(0.2)
    assert DMD().fit(np.full((4, 6), 2.0)).horizon_of_trust(longest=7) == 7
    window = WindowDMD(window=20, rank=4)
    for x in noisy(noise=0.01)[:, :20].T:
        window.update([x[:30].copy(), x[30:].reshape(7, 10).copy()])
    assert window.horizon_of_trust(0.2) > 0
    lower, upper = window.forecast_interval(3)
    assert [part.shape for part in lower] == [(30,), (7, 10)]
    assert all(np.all(a < b) for a, b in zip(lower, upper, strict=True))


def test_arguments_of_trust_are_refused_by_name():
    model = DMD(rank=2).fit(planted((0.9, 0.5)))
    with pytest.raises(ValueError, match=r"level=1\.0"):
        model.forecast_interval(1, 1.0)
    with pytest.raises(ValueError, match=r"tol=0\.0"):
        model.horizon_of_trust(0.0)
    with pytest.raises(ValueError, match="bags=0"):
        model.forecast_interval(1, bags=0)
    with pytest.raises(ValueError, match="horizon has shape"):
        model.forecast_interval(np.ones((2, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rank_by_cross_validation_finds_the_planted_one(dtype):
    for seed in range(5):
        model = DMD(rank="cv").fit(noisy(noise=0.02, seed=seed, m=60).astype(dtype))
        assert len(model.eigenvalues) == 4
    assert len(DMD(rank="cv").fit(planted(RATES, m=40).astype(dtype)).eigenvalues) == 4


def test_svht_finds_the_planted_rank_and_is_pydmds():
    for seed in range(5):
        X = noisy(noise=0.1, seed=seed, m=60)
        assert len(DMD(rank="svht").fit(X).eigenvalues) == 4
        assert len(DMD(svd_rank=0).fit(X).eigenvalues) == 4
    flat = np.random.default_rng(0).standard_normal((20, 50))  # fewer features than snapshots
    assert len(DMD(rank="svht").fit(flat).eigenvalues) < 5


def test_select_finds_the_delays_that_the_dynamics_need():
    rng = np.random.default_rng(1)
    t = np.arange(60)
    # One sensor on two oscillations: no operator on one number, one on four stacked numbers.
    wave = np.sin(0.3 * t) + 0.5 * np.sin(0.8 * t)
    X = (wave + 1e-3 * rng.standard_normal(60))[None, :]
    chosen = select(X, delays=(1, 2, 4, 6), variants=("standard", "tls"), horizon=5)
    assert chosen.best.delays >= 4
    assert chosen.best.rank == 4
    assert match(chosen.model.eigenvalues, np.exp(1j * np.array([0.3, -0.3, 0.8, -0.8]))) < 1e-2
    np.testing.assert_allclose(
        chosen.model.forecast(10), np.sin(0.3 * 69) + 0.5 * np.sin(0.8 * 69), atol=0.1
    )
    assert chosen.best in chosen.table
    assert len(str(chosen).splitlines()) == len(chosen.table) + 1
    errors = {(row.delays, row.rank): row.error for row in chosen.table}
    assert errors[chosen.best.delays, 4] < 0.01 < errors[1, 1]


def test_select_scores_only_what_was_held_out():
    """Changing the held-out snapshots of a fold must not change that fold's fit."""
    from koopcore._base import FitOptions
    from koopcore._problem import Problem, fit
    from koopcore._validation import folds

    X = noisy()
    options = FitOptions.checked(3, delays=2, affine=True)
    for train, held in folds(Problem(X.T @ X), options):
        other = X.copy()
        seen = {column for a in train for column in range(a, a + options.least_snapshots)}
        other[:, [c for c in range(40) if c not in seen]] += 5.0
        before = fit(Problem(X.T @ X), options, train).core.eigenvalues
        after = fit(Problem(other.T @ other), options, train).core.eigenvalues
        assert match(after, before) < 1e-8
        assert not set(train) & set(held)


def test_select_takes_ridges_pairs_and_trajectories():
    X = noisy()
    table = select(X, ridges=(0.0, 1e-3), ranks=[2, 4], variants=("standard", "tls")).table
    assert len(table) == 6  # tls has no ridge
    assert select(X[:, :-1], X[:, 1:], ranks=[4]).best.rank == 4
    assert select([X[:, :20], X[:, 20:]], ranks=[4]).best.rank == 4
    assert select(X, affine=True, dt=0.5).model.dt == 0.5


def test_select_refuses_by_name():
    X = planted((0.9, 0.5))
    with pytest.raises(ValueError, match="folds=1"):
        select(X, folds=1)
    with pytest.raises(ValueError, match="at least one"):
        select(X, variants=["tls"], ridges=[0.1])
    with pytest.raises(ValueError, match="too few to hold any out"):
        select(X[:, :2])
    with pytest.raises(ValueError, match="ranks=0"):
        select(X, ranks=[0])
