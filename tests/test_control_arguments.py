"""What koopcore.control.DMDc refuses, by the name of the argument."""

import numpy as np
import pytest

from koopcore.control import DMDc

X0, U0 = np.eye(3, 5), np.ones((2, 4))
NAN = np.where(np.eye(3, 5) > 0, np.nan, 1.0)
BAD = [
    (dict(), (X0.astype(int), U0), TypeError, "X has dtype int64"),
    (dict(), (X0.astype(complex), U0), TypeError, "X has dtype complex128"),
    (dict(), (X0[0], U0), ValueError, r"X has shape \(5,\)"),
    (dict(), (X0[:0], U0), ValueError, r"X has shape \(0, 5\): it is empty"),
    (dict(), (X0[:, :1], U0[:, :0]), ValueError, "at least 2 snapshots, got 1"),
    (dict(), (NAN, U0), ValueError, "X has a value that is not finite"),
    (dict(), (X0 * 1e200, U0), ValueError, "X .*overflow"),
    (dict(rank=5), (X0, U0), ValueError, "rank=5 needs at least 6 snapshots, got 5"),
    (dict(), (X0, np.ones((2, 5))), ValueError, r"U has shape \(2, 5\).*expected \(n_inputs, 4\)"),
    (dict(), (X0, np.ones(3)), ValueError, r"U has shape \(3,\)"),
    (dict(), (X0, np.ones((0, 4))), ValueError, r"U has shape \(0, 4\)"),
    (dict(), (X0, np.ones((1, 2, 2))), ValueError, r"U has shape \(1, 2, 2\)"),
    (dict(), (X0, 1.0), ValueError, r"U has shape \(\)"),
    (dict(), (X0, U0 * 1j), TypeError, "U has dtype complex128"),
    (dict(), (X0, U0.astype(str)), TypeError, "U has dtype <U"),
    (dict(), (X0, U0 * np.inf), ValueError, "U has a value that is not finite"),
    (dict(), (X0, U0, np.ones((3, 1))), ValueError, r"B has shape \(3, 1\); expected \(3, 2\)"),
    (dict(), (X0, U0, np.ones(3)), ValueError, r"B has shape \(3,\)"),
    (dict(), (X0, U0, np.ones((3, 2), "f")), TypeError, "X has dtype float64 and B float32"),
    (dict(), (X0, U0, np.full((3, 2), np.nan)), ValueError, "B has a value that is not finite"),
]


@pytest.mark.parametrize(("options", "data", "error", "message"), BAD)
def test_fit_bad_input_is_refused_by_name(options, data, error, message):
    with pytest.raises(error, match=message):
        DMDc(**options).fit(*data)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(rank=0), ValueError, "rank=0"),
        (dict(rank="ten"), ValueError, "rank='ten'"),
        (dict(rank="cv"), ValueError, "rank='cv'"),
        (dict(svd_rank=1.5), ValueError, r"rank=1\.5"),
        (dict(rank=2, svd_rank=2), ValueError, "give one"),
        (dict(tol=1.0), ValueError, r"tol=1\.0"),
        (dict(tol=float("nan")), ValueError, "tol=nan"),
        (dict(dt=-1.0), ValueError, r"dt=-1\.0"),
    ],
)
def test_bad_options_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        DMDc(**options)


def test_using_a_fit_wrongly_is_refused():
    with pytest.raises(ValueError, match="not fitted yet"):
        DMDc().forecast(np.ones(3))
    model = DMDc().fit(X0, U0)
    for call, error, message in [
        (lambda: model.forecast(np.ones(3)), ValueError, r"U has shape \(3,\); the fit has 2"),
        (lambda: model.reconstruct(np.ones((3, 4))), ValueError, "the fit has 2 inputs"),
        (lambda: model.forecast(U0 * np.nan), ValueError, "U has a value that is not finite"),
        (lambda: model.predict(X0[:, 0], U0), ValueError, r"u has shape \(2, 4\); expected \(2,\)"),
        (lambda: model.predict(X0, U0[:, 0]), ValueError, r"expected \(2, 5\)"),
        (lambda: model.predict(X0[:2], U0), ValueError, r"x has shape \(2, 5\)"),
        (lambda: model.predict(X0.astype("f"), U0), TypeError, "x has dtype float32"),
        (lambda: model.predict(NAN[:, 0], U0[:, 0]), ValueError, "x has a value that is not"),
    ]:
        with pytest.raises(error, match=message):
            call()
