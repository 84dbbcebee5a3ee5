"""Coefficients of every rule from the Gram matrix of a window, as each forecast needs them.

The peer of Dynamics is the plain algorithm of koopcore/reference.py on m x m snapshots that have
this Gram matrix; it has no other rule.
"""

import numpy as np
import pytest
from measure import Problem, Row, measure

from koopcore import reference, rules

HORIZON, RATES = 10, (0.95, 0.8, 0.5)
RULES = {
    "secant": rules.Secant(),
    "polynomial": rules.Polynomial(degree=2),
    "rank-one-linear": rules.RankOneLinear(),
    "uniform-average": rules.UniformAverage(),
    "exponential-average": rules.ExponentialAverage(decay=0.9),
    "anderson": rules.Anderson(),
    "dynamics": rules.Dynamics(rank=3),
}
SIZES = pytest.mark.parametrize("m", [16, 64], ids="m={}".format)


def series_of(m):
    """Return m states of m numbers that tend to a fixed point."""
    rng = np.random.default_rng(0)
    modes, fixed = rng.standard_normal((m, len(RATES))), rng.standard_normal((m, 1))
    return fixed + modes @ np.vander(RATES, m, increasing=True)


def row_of(name, m, who):
    return Row("rules", Problem(m, m, "float64", name=f"{name}-m={m}"), who)


@SIZES
@pytest.mark.parametrize("name", RULES)
def test_rules(benchmark, name, m):
    series = series_of(m)
    gram = series.T @ series
    row = row_of(name, m, "koopcore")
    c = measure(benchmark, row, RULES[name].coefficients, gram, HORIZON, rounds=200)
    np.testing.assert_allclose(c.sum(), 1.0, rtol=1e-6)
    if name == "dynamics":
        expected = reference.forecast(series, HORIZON, 3, affine=True)
        np.testing.assert_allclose(series @ c, expected, rtol=1e-3, atol=1e-3)


@SIZES
def test_rules_numpy(benchmark, m):
    series = series_of(m)

    def forecast():
        return reference.forecast(series, HORIZON, 3, affine=True)

    found = measure(benchmark, row_of("dynamics", m, "NumPy"), forecast, rounds=100)
    assert np.isfinite(found).all()
