"""Coefficient rules against closed forms, planted systems and the same rules on the data."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import DTYPES, planted

from koopcore import DMD, _core
from koopcore.rules import (
    Anderson,
    Dynamics,
    ExponentialAverage,
    Polynomial,
    RankOneLinear,
    Secant,
    UniformAverage,
)

EPS = np.finfo(np.float64).eps
RATES = (0.95, 0.7, -0.4)
AFFINE = (
    Secant(),
    Secant(over=None),
    Polynomial(),
    Polynomial(degree=2),
    RankOneLinear(),
    UniformAverage(),
    UniformAverage(last=2),
    ExponentialAverage(decay=0.8),
    Anderson(),
    Anderson(ridge=0.1),
    Dynamics(),
    Dynamics(rank=1, exact=False),
)
RULES = (*AFFINE, Dynamics(affine=False))
NEEDS = {Secant: 2, Polynomial: 2, RankOneLinear: 3, Anderson: 2, Dynamics: 3}
every_rule = pytest.mark.parametrize("rule", RULES, ids=str)
every_affine_rule = pytest.mark.parametrize("rule", AFFINE, ids=str)
both_types = pytest.mark.parametrize("dtype", DTYPES)
quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)


def random(seed, n, m):
    return np.random.default_rng(seed).standard_normal((n, m))


def forecast(rule, X, horizon=3.0):
    """The forecast from snapshots as they are, in float64."""
    return X.astype(np.float64) @ rule.coefficients(_core.gram(X), horizon)


def rank_one_on_the_data(X, horizon):
    """The definition of RankOneLinear by a singular value decomposition of the data."""
    differences = X[:, 1:] - X[:, :1]
    direction = np.linalg.svd(differences, full_matrices=False)[0][:, 0]
    times = np.arange(1, X.shape[1])
    line = np.polynomial.Polynomial.fit(times, direction @ differences, 1)
    return X[:, 0] + line(X.shape[1] - 1 + horizon) * direction


# Every rule


@quick
@every_affine_rule
@given(seed=seeds, m=st.integers(3, 8), horizon=st.floats(0.0, 20.0))
def test_affine_rules_sum_to_one_and_do_not_depend_on_the_reference(rule, seed, m, horizon):
    X, reference = random(seed, 30, m), random(seed + 1, 30, 1)
    c = rule.coefficients(_core.gram(X), horizon)
    assert c.shape == (m,)
    assert c.dtype == np.float64
    assert abs(c.sum() - 1.0) < 1e-12 * max(1.0, np.abs(c).sum())
    expected = X @ c
    shifted = forecast(rule, X - reference, horizon) + reference[:, 0]
    np.testing.assert_allclose(shifted, expected, atol=1e-7 * np.abs(expected).max())


@quick
@every_rule
@given(seed=seeds, m=st.integers(3, 8), exponent=st.integers(-400, 400))
def test_scaling_the_snapshots_scales_the_forecast(rule, seed, m, exponent):
    gram = _core.gram(random(seed, 20, m))
    expected = rule.coefficients(gram, 2.0)
    scaled = rule.coefficients(np.ldexp(gram, exponent), 2.0)
    np.testing.assert_allclose(scaled, expected, atol=1e-9 * np.abs(expected).max())


@quick
@given(seed=seeds, m=st.integers(3, 8))
def test_only_affine_rules_ignore_the_reference(seed, m):
    X, reference = random(seed, 20, m), random(seed + 1, 20, 1)
    rule = Dynamics(affine=False)
    shifted = forecast(rule, X - reference) + reference[:, 0]
    assert np.abs(shifted - forecast(rule, X)).max() > 1e-6


@every_rule
def test_constant_snapshots_stay(rule):
    X = np.full((5, 6), 3.0)
    np.testing.assert_allclose(forecast(rule, X), 3.0)
    c = rule.coefficients(np.zeros((6, 6)), 3.0)
    assert np.isfinite(c).all()
    if isinstance(rule, (RankOneLinear, Anderson)) or rule == Dynamics():
        np.testing.assert_array_equal(c, [0, 0, 0, 0, 0, 1])


@pytest.mark.parametrize("rule", [RankOneLinear(), Anderson()])
def test_changes_below_the_rounding_of_the_gram_matrix_count_as_none(rule):
    rng = np.random.default_rng(0)
    X = 1.0 + 1e-10 * rng.standard_normal((50, 6))
    np.testing.assert_array_equal(rule.coefficients(_core.gram(X), 5.0), [0, 0, 0, 0, 0, 1])
    changed = X - X[:, :1]  # with the reference taken off the same changes are all there is
    assert rule.coefficients(_core.gram(changed), 5.0)[:-1].any()


@every_rule
@both_types
def test_few_directions_give_finite_forecasts(rule, dtype):
    X = np.outer(np.arange(1.0, 9.0), 1.0 - 0.5 ** np.arange(10)).astype(dtype)  # rank 1
    assert np.isfinite(forecast(rule, X)).all()
    assert np.isfinite(forecast(rule, X[:1])).all()  # a state of one number
    assert np.isfinite(forecast(rule, X[:0])).all()  # and of none


@pytest.mark.parametrize("rule", [UniformAverage(), ExponentialAverage(0.9), Polynomial(degree=0)])
def test_one_snapshot_is_its_own_average(rule):
    np.testing.assert_allclose(rule.coefficients(np.ones((1, 1)), 4.0), [1.0])


@every_rule
def test_too_few_snapshots_are_refused(rule):
    needed = NEEDS.get(type(rule), 1)
    needed = {Polynomial(degree=2): 3, UniformAverage(2): 2, Dynamics(affine=False): 2}.get(
        rule, needed
    )
    assert rule.coefficients(np.eye(needed), 1.0).shape == (needed,)
    with pytest.raises(ValueError, match=f"needs at least {needed}|at least {needed} snap|gram is"):
        rule.coefficients(np.eye(needed - 1), 1.0)


@pytest.mark.parametrize(
    ("gram", "error", "message"),
    [
        (np.ones((3, 4)), ValueError, r"gram has shape \(3, 4\)"),
        (np.ones(9), ValueError, r"gram has shape \(9,\)"),
        (np.zeros((0, 0)), ValueError, "gram is of 0 snapshots"),
        (np.eye(4, dtype=np.float32), TypeError, "gram has dtype float32"),
        (np.eye(4, dtype=complex), TypeError, "gram has dtype complex128"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), ValueError, "gram is not finite"),
        (np.diag([1.0, np.inf, 1.0, 1.0]), ValueError, "gram is not finite"),
        (np.triu(np.ones((4, 4))), ValueError, "gram is not symmetric"),
    ],
)
@every_rule
def test_a_bad_gram_matrix_is_refused(rule, gram, error, message):
    with pytest.raises(error, match=message):
        rule.coefficients(gram, 1.0)


@every_rule
def test_a_bad_horizon_is_refused(rule):
    for horizon in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="horizon="):
            rule.coefficients(np.eye(4), horizon)
    for horizon in ("1", None, 1j):
        with pytest.raises(TypeError, match="horizon="):
            rule.coefficients(np.eye(4), horizon)


@every_rule
def test_rounding_and_types_of_the_arguments_do_not_matter(rule):
    gram = _core.gram(random(3, 20, 4))
    expected = rule.coefficients(gram, 2)
    np.testing.assert_array_equal(rule.coefficients(gram.tolist(), np.float32(2.0)), expected)
    nearly = gram * (1.0 + np.triu(np.full((4, 4), 4 * EPS)))
    np.testing.assert_allclose(rule.coefficients(nearly, 2), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Secant(over=0), "over=0"),
        (lambda: Secant(over=1.5), "over=1.5"),
        (lambda: Polynomial(degree=-1), "degree=-1"),
        (lambda: Polynomial(degree=True), "degree=True"),
        (lambda: UniformAverage(last=0), "last=0"),
        (lambda: ExponentialAverage(decay=1.0), "decay=1.0"),
        (lambda: ExponentialAverage(decay=-0.1), "decay=-0.1"),
        (lambda: ExponentialAverage(decay="1"), "decay='1'"),
        (lambda: Anderson(ridge=-1e-8), "ridge=-1e-08"),
        (lambda: Anderson(ridge=math.nan), "ridge=nan"),
        (lambda: Dynamics(rank=0), "rank=0"),
        (lambda: Dynamics(unstable="explode"), "unstable='explode'"),
    ],
)
def test_bad_parameters_are_refused_by_name(make, name):
    with pytest.raises(ValueError, match=re.escape(name)):
        make()


def test_an_unknown_option_of_dynamics_is_refused():
    with pytest.raises(TypeError, match="no_such_option"):
        Dynamics(no_such_option=1)


def test_rules_compare_hash_and_print():
    assert Polynomial(2) == Polynomial(degree=2) != Polynomial(3)
    assert Dynamics(rank=2) == Dynamics(affine=True, rank=2) != Dynamics(rank=3)
    assert len(set(RULES)) == len(RULES)
    assert str(Anderson()) == "Anderson(ridge=1e-08)"
    with pytest.raises(AttributeError):
        Secant().over = 3


# Trends in time


@both_types
@pytest.mark.parametrize("horizon", [-2.0, 0.0, 0.5, 40.0])
def test_a_straight_line_is_continued(dtype, horizon):
    start, slope = random(4, 30, 2).T
    X = (start[:, None] + np.outer(slope, np.arange(8.0))).astype(dtype)
    expected = start + slope * (7 + horizon)
    atol = (1e-4 if dtype == np.float32 else 1e-12) * np.abs(expected).max()
    for rule in (Secant(), Secant(3), Secant(None), Polynomial(1), Polynomial(3), RankOneLinear()):
        np.testing.assert_allclose(forecast(rule, X, horizon), expected, atol=atol)


def test_secant_has_its_formula():
    gram = np.eye(5)
    np.testing.assert_array_equal(Secant(over=2).coefficients(gram, 6), [0, 0, -3, 0, 4])
    np.testing.assert_array_equal(Secant(over=None).coefficients(gram, 6), [-1.5, 0, 0, 0, 2.5])


@pytest.mark.parametrize("m", [1, 2, 7, 30])
def test_polynomial_of_full_degree_has_binomial_coefficients(m):
    c = Polynomial(degree=m - 1).coefficients(np.eye(m), 1.0)
    exact = [(-1) ** (m - 1 - j) * math.comb(m, j) for j in range(m)]
    np.testing.assert_allclose(c, exact, rtol=1e-9)


@pytest.mark.parametrize(("m", "degree"), [(1, 0), (6, 0), (9, 2), (40, 12)])
def test_polynomial_weights_are_a_polynomial_and_continue_polynomials(m, degree):
    # Which only the weights of the least-squares fit do.
    half = max(m - 1, 1) / 2
    on_window = np.polynomial.legendre.legvander(np.arange(m) / half - 1.0, degree)
    at_target = np.polynomial.legendre.legvander([1.0 + 2.0 / half], degree)[0]
    c = Polynomial(degree).coefficients(np.eye(m), 2.0)
    np.testing.assert_allclose(c @ on_window, at_target, rtol=1e-11)
    fitted = on_window @ np.linalg.lstsq(on_window, c)[0]
    np.testing.assert_allclose(fitted, c, atol=1e-11 * np.abs(c).max())


@both_types
@pytest.mark.parametrize("horizon", [-1.0, 0.0, 12.0])
def test_rank_one_linear_agrees_with_the_decomposition_of_the_data(dtype, horizon):
    X = planted(RATES, n=60, m=9, dtype=dtype, fixed_point=2.0)
    expected = rank_one_on_the_data(X.astype(np.float64), horizon)
    tolerance = 1e-10 * np.abs(expected).max()
    np.testing.assert_allclose(forecast(RankOneLinear(), X, horizon), expected, atol=tolerance)


def test_rank_one_linear_of_small_changes_needs_the_reference():
    changes = 1e-7 * np.cumsum(random(5, 80, 8) + random(6, 80, 1), axis=1)
    X = 1.0 + changes
    expected = rank_one_on_the_data(X - X[:, :1], 5.0)

    def error(offset):
        c = RankOneLinear().coefficients(_core.gram(X - offset), 5.0)
        return np.linalg.norm((X - X[:, :1]) @ c - expected) / np.linalg.norm(expected)

    assert error(X[:, :1]) < 1e-12
    assert error(0.0) > 1e-6


# Averages


def test_averages_are_the_averages():
    X = random(7, 12, 6)
    np.testing.assert_allclose(forecast(UniformAverage(), X), X.mean(axis=1))
    np.testing.assert_allclose(forecast(UniformAverage(4), X), X[:, 2:].mean(axis=1))
    average = np.zeros(12)
    for x in X.T:
        average = 0.9 * average + 0.1 * x
    np.testing.assert_allclose(forecast(ExponentialAverage(0.9), X), average / (1.0 - 0.9**6))
    np.testing.assert_array_equal(forecast(ExponentialAverage(0.0), X), X[:, -1])


@pytest.mark.parametrize("rule", [UniformAverage(), ExponentialAverage(0.9), Anderson()], ids=str)
def test_averages_and_limits_ignore_the_horizon(rule):
    gram = _core.gram(random(8, 12, 6))
    for horizon in (-5.0, 100.0):
        np.testing.assert_array_equal(
            rule.coefficients(gram, horizon), rule.coefficients(gram, 0.0)
        )


# Limits


@both_types
@pytest.mark.parametrize("m", [5, 9])
def test_anderson_finds_the_fixed_point_of_a_linear_iteration(dtype, m):
    X = planted(RATES, m=m, dtype=dtype, fixed_point=2.0)
    tolerance = 1e-3 if dtype == np.float32 else 1e-8
    reference = X[:, :1].astype(np.float64)
    c = Anderson(ridge=0.0).coefficients(_core.gram(X - X[:, :1]), 0.0)
    np.testing.assert_allclose((X - reference) @ c + reference[:, 0], 2.0, atol=tolerance)
    assert c[0] == 0.0


def test_anderson_with_as_many_residuals_as_rates_does_not():
    X = planted(RATES, m=len(RATES) + 1, fixed_point=2.0)  # the boundary of the statement above
    assert np.abs(forecast(Anderson(ridge=0.0), X) - 2.0).max() > 1e-3


@quick
@given(
    limit=st.floats(-2.0, 2.0), first=st.floats(0.5, 2.0), rate=st.sampled_from([0.9, 0.3, -0.6])
)
def test_anderson_of_three_numbers_is_aitkens_delta_squared(limit, first, rate):
    x = limit + first * np.array([1.0, rate, 0.8 * rate**2])  # not geometric: no exact limit
    aitken = x[2] - (x[2] - x[1]) ** 2 / (x[2] - 2.0 * x[1] + x[0])
    found = forecast(Anderson(ridge=0.0), x[None, :])
    np.testing.assert_allclose(found, aitken, atol=1e-10)


@quick
@given(seed=seeds, m=st.integers(3, 8), ridge=st.sampled_from([1e-6, 1e-2, 10.0]))
def test_anderson_is_stationary_for_its_own_objective(seed, m, ridge):
    X = random(seed, 20, m)
    c = Anderson(ridge).coefficients(_core.gram(X), 0.0)[1:]
    residuals = np.diff(X, axis=1)
    size = np.linalg.norm(residuals, 2) ** 2
    gradient = residuals.T @ (residuals @ c) + ridge * size * c
    np.testing.assert_allclose(gradient, gradient.mean(), atol=1e-9 * size)


def test_anderson_bears_a_gram_matrix_that_rounding_made_indefinite():
    residuals = np.diag([1.0, 0.0, -2e-6])
    sums = np.tri(4, 3, -1)  # snapshots as sums of residuals, the first one 0
    c = Anderson(ridge=1e-6).coefficients(sums @ residuals @ sums.T, 0.0)
    np.testing.assert_allclose(c, [0.0, 0.0, 0.5, 0.5], atol=1e-5)


def test_anderson_tends_to_the_mean_as_the_ridge_grows():
    X = random(9, 20, 6)
    np.testing.assert_allclose(forecast(Anderson(1e9), X), X[:, 1:].mean(axis=1), atol=1e-8)


@both_types
def test_anderson_keeps_small_coefficients_where_the_residuals_are_ill_conditioned(dtype):
    X = planted((0.99, 0.98), m=12, dtype=dtype)  # residuals nearly parallel
    plain = np.abs(Anderson(ridge=0.0).coefficients(_core.gram(X), 0.0)).sum()
    c = Anderson(ridge=1e-3).coefficients(_core.gram(X), 0.0)
    assert np.abs(c).sum() < 0.1 * plain
    assert np.linalg.norm(X @ c) < np.linalg.norm(X[:, -1])


# Dynamics


@both_types
@pytest.mark.parametrize("options", [{}, {"rank": 2, "exact": False}, {"tol": 1e-3}], ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_dynamics_forecasts_as_the_estimator_does(dtype, options, affine):
    X = planted(RATES, dtype=dtype, fixed_point=1.0 if affine else 0.0)
    model = DMD(affine=affine, **options).fit(X)
    found = forecast(Dynamics(affine=affine, **options), X, 4.0)
    np.testing.assert_allclose(found, model.forecast(4.0), atol=1e-5 * np.abs(X).max())


def test_dynamics_far_ahead_agrees_with_anderson():
    X = planted(RATES, m=8, fixed_point=3.0)
    far = forecast(Dynamics(rank=3), X, 1e4)
    np.testing.assert_allclose(far, 3.0, atol=1e-6)
    np.testing.assert_allclose(forecast(Anderson(ridge=0.0), X), far, atol=1e-6)


def test_python_of_the_page_runs(capsys):
    page = (Path(__file__).resolve().parents[1] / "docs" / "rules.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert blocks
    names = {}
    for code in blocks:
        exec(compile(code, "docs/rules.md", "exec"), names)
    assert np.abs(names["limit"] - names["fixed_point"]).max() < 1e-3
    assert names["best"] == Dynamics(rank=2)
    assert capsys.readouterr().out
