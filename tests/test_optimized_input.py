"""What optimized DMD refuses, by name."""

import numpy as np
import pytest

from koopcore._optimized import fit_optimized, initial_omega


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 1.0, 1.0, 2.0], r"times\[1\]=1.0 is followed by times\[2\]=1.0"),
        ([0.0, 1.0, 3.0, 2.0], r"times\[2\]=3.0 is followed by times\[3\]=2.0"),
        ([0.0, np.nan, 1.0, 2.0], r"times\[1\]=nan must be finite"),
        ([0.0, 1.0, 2.0, np.inf], r"times\[3\]=inf must be finite"),
        ([0.0, 1.0, 2.0], r"times has shape \(3,\); Z has 4 snapshots"),
        ([[0.0, 1.0, 2.0, 3.0]], r"times has shape \(1, 4\)"),
    ],
)
def test_wrong_times_are_refused_by_name(times, message):
    for function in (fit_optimized, initial_omega):
        with pytest.raises(ValueError, match=message):
            function(np.ones((2, 4)), times)


@pytest.mark.parametrize(
    ("Z", "message"),
    [
        (np.ones(4), r"Z has shape \(4,\)"),
        (np.ones((2, 1)), r"Z has shape \(2, 1\)"),
        (np.ones((0, 4)), r"Z has shape \(0, 4\)"),
        (np.array([[1.0, 2.0, np.nan, 1.0]]), r"Z\[0, 2\]=nan must be finite"),
    ],
)
def test_wrong_snapshots_are_refused_by_name(Z, message):
    with pytest.raises(ValueError, match=message):
        fit_optimized(Z, np.arange(4.0)[: Z.shape[-1]])


def test_snapshots_that_are_not_numbers_are_refused():
    with pytest.raises(TypeError, match="Z has dtype"):
        fit_optimized([["a", "b"]], [0.0, 1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0 must be between 1 and 2"),
        ({"count": 3}, "count=3 must be between 1 and 2"),
        ({"count": 2, "omega": [1.0, 2.0]}, "either count=2 or omega"),
        ({"omega": []}, r"omega has shape \(0,\)"),
        ({"omega": np.ones(4)}, r"omega has shape \(4,\)"),  # m exponents fit anything
        ({"omega": [np.inf]}, "must be finite"),
        ({"omega": [1.0j]}, "conjugate pairs"),
        ({"omega": [1.0j, -1.0j, -1.0j]}, "conjugate pairs"),
        ({"omega": [1.0j, -1.1j]}, "conjugate pairs"),
        ({"constraint": "stabel"}, "constraint='stabel' must be one of"),
        ({"max_iterations": -1}, "max_iterations=-1"),
        ({"tol": -1.0}, "tol=-1.0"),
        ({"tol": np.nan}, "tol=nan"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        fit_optimized(np.ones((2, 4)), np.arange(4.0), **options)


def test_count_must_be_an_integer_of_any_type():
    Z, times = np.random.default_rng(0).standard_normal((4, 12)), np.arange(12)
    assert len(fit_optimized(Z, times, count=np.int32(3)).omega) == 3
    with pytest.raises(TypeError):
        fit_optimized(Z, times, count=2.0)
