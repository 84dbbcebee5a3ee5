"""Degenerate data and bad data: every form has a defined answer, or says what is wrong."""

import numpy as np
import pytest
from support import DTYPES, planted

from koopcore import DMD, Error


def name(options):
    return "-".join(f"{key}={value}" for key, value in options.items()) or "standard"


DEGENERATE = [
    {},
    {"exact": False},
    {"variant": "tls"},
    {"variant": "forward-backward"},
    {"variant": "symmetric"},
    {"variant": "optimized"},
    {"delays": 2},
    {"ridge": 0.1},
    {"solver": "qr"},
    {"solver": "gram"},
    {"affine": True},
    {"affine": "constant"},
    {"constraint": "stable"},
    {"constraint": "unit_circle"},
    {"constraint": "real"},
    {"rank": "svht"},
    {"rank": "cv"},
    {"sparsity": 0.1},
]

# Those that find the operator of any clean data.
FAITHFUL = [
    options
    for options in DEGENERATE
    if not {"ridge", "constraint", "sparsity", "rank"} & options.keys()
    and options.get("variant") != "symmetric"
]


@pytest.mark.parametrize("options", DEGENERATE, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_degenerate_data_have_defined_answers(options, dtype):
    t = np.arange(8)
    jordan = np.outer(np.ones(6), 0.9**t) + np.outer(np.arange(6.0), t * 0.9**t)
    vanishing = np.zeros((6, 8))
    vanishing[0], vanishing[1, 0] = 1.0, 2.0  # eigenvalues 1 and 0
    cases = {
        "zero": np.zeros((6, 8)),
        "constant": np.full((6, 8), 2.0),
        "rank deficient": np.outer(np.arange(6.0), 0.5**t),
        "one row": 0.7 ** t[None, :],
        "defective": jordan,
        "eigenvalue zero": vanishing,
    }
    for case, data in cases.items():
        model = DMD(**options).fit(data.astype(dtype))
        for result in (model.forecast([0, 1, 2.5, 20]), model.reconstruct(), model.modes):
            assert np.isfinite(result).all(), case
        assert np.isfinite(model.amplitudes).all(), case
        assert len(model.residuals()) == len(model.eigenvalues)
        assert 0.0 <= model.consistency_index() <= 1.0
        np.testing.assert_allclose(model.forecast(0), data[:, -1].astype(dtype), atol=1e-5)
    still = DMD(**options).fit(cases["constant"].astype(dtype)).forecast([1, 30])
    if not options.get("ridge"):  # which shrinks
        np.testing.assert_allclose(still, 2.0, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"exact": False}, {"variant": "forward-backward"}])
def test_rounded_eigenvalue_zero_has_no_past(options):
    t, rng = np.arange(8), np.random.default_rng(0)
    X = np.outer(rng.standard_normal(20), 0.9**t) + np.outer(rng.standard_normal(20), t == 0)
    model = DMD(2, **options).fit(X)
    np.testing.assert_array_equal(model.growth_rate[1], -np.inf)
    np.testing.assert_allclose(model.forecast([-20, 3]), np.outer(X[:, -1], [0.9**-20, 0.9**3]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", FAITHFUL, ids=name)
def test_snapshots_of_a_defective_operator_are_rebuilt(options, dtype):
    t, rng = np.arange(12), np.random.default_rng(0)
    start, slope = rng.standard_normal((2, 20))
    X = np.outer(start, 0.9**t) + np.outer(slope, t * 0.9**t)
    tolerance = (1e-7 if dtype == np.float64 else 1e-5) * np.abs(X).max()
    options = {**options, "rank": 3 if options.get("affine") == "constant" else 2}
    for opt in (False, True):
        model = DMD(opt=opt, **options).fit(X[:, :9].astype(dtype))
        np.testing.assert_allclose(model.reconstruct(), X[:, :9], atol=tolerance)
        np.testing.assert_allclose(model.forecast([1, 3]), X[:, [9, 11]], atol=tolerance)


def test_no_more_directions_than_features_are_kept_whatever_the_tolerance():
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((3, 20))
    for options, most in (
        ({}, 3),
        ({"solver": "gram"}, 3),
        ({"delays": 2}, 6),
        ({"affine": "constant"}, 4),
        ({"variant": "tls"}, 3),
    ):
        model = DMD(tol=0.0, **options).fit(wide)
        assert len(model.eigenvalues) == most
        assert np.abs(model.forecast(5)).max() < 1e3


@pytest.mark.parametrize("options", DEGENERATE, ids=name)
def test_too_little_or_bad_data_are_refused_in_every_form(options):
    with pytest.raises(ValueError, match="snapshots, got 1"):
        DMD(**options).fit(np.ones((4, 1)))
    for bad in (np.nan, np.inf):
        X = planted((0.9, 0.5), n=6)
        X[3, 4] = bad
        with pytest.raises(Error, match="holds NaN or infinity"):
            DMD(**options).fit(X)
    if "rank" not in options:
        with pytest.raises(Error, match="rank=40 needs at least"):
            DMD(rank=40, **options).fit(planted((0.9, 0.5), n=6))
