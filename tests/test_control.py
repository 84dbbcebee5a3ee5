"""koopcore.control.DMDc against planted driven systems, dense least squares, DMD and PyDMD."""

import re
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import DTYPES, match

from koopcore import DMD
from koopcore.control import DMDc

RATES = np.array([0.95, 0.8 * np.exp(0.5j), 0.8 * np.exp(-0.5j), -0.6])
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-11}


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


def inputs(count=2, steps=39, seed=1):
    return np.random.default_rng(seed).standard_normal((count, steps))


def driven(U, n=300, noise=0.0, scales=(1.0, 1.0, 1.0, 1.0), seed=0):
    """(X, B) of a system with RATES in a random 4-D subspace; `scales` are the sizes of its modes.

    With n = 4 the subspace is everything.
    """
    rng = np.random.default_rng(seed)
    c, s = 0.8 * np.cos(0.5), 0.8 * np.sin(0.5)
    A = np.diag([0.95, c, c, -0.6])
    A[1, 2], A[2, 1] = -s, s
    lift = np.linalg.qr(rng.standard_normal((n, 4)))[0] * scales
    b = rng.standard_normal((4, len(U)))
    z = [rng.standard_normal(4)]
    for u in U.T:
        z.append(A @ z[-1] + b @ u)
    X = lift @ np.array(z).T
    return X + noise / np.sqrt(n) * rng.standard_normal(X.shape), lift @ b


def dense(X, U, rank, rcond=1e-7):
    """A (n, n) and B by least squares on the projected states and scaled inputs themselves."""
    left, sigma, _ = np.linalg.svd(X[:, :-1], full_matrices=False)
    Q, lengths = left[:, :rank], np.linalg.norm(U, axis=1)
    regressors = np.vstack([Q.T @ X[:, :-1] / sigma[0], U / lengths[:, None]])
    weights = np.linalg.lstsq(regressors.T, X[:, 1:].T, rcond=rcond)[0].T
    return weights[:, :rank] @ Q.T / sigma[0], weights[:, rank:] / lengths


def operator(model):
    """A of the fit, column by column."""
    n, n_inputs = model.B.shape
    return model.predict(np.eye(n, dtype=model.B.dtype), np.zeros((n_inputs, n)))


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("order", ["C", "F", "sliced"])
def test_fit_planted_system_gives_its_operator(dtype, order, known):
    U = inputs()
    X, B = driven(U)
    if order == "sliced":
        wide = np.zeros((600, 120), dtype)
        wide[::2, ::3] = X
        data = wide[::2, ::3]
    else:
        data = np.asarray(X, dtype, order=order)
    model = DMDc(rank=4).fit(data, U, B.astype(dtype) if known else None)
    assert match(model.eigenvalues, RATES) < TOLERANCE[dtype]
    assert np.all(np.diff(np.abs(model.eigenvalues)) <= 1e-12)
    assert model.B.dtype == dtype
    assert distance(model.B, B) < TOLERANCE[dtype]
    assert model.modes.dtype == (np.complex64 if dtype == np.float32 else np.complex128)
    assert model.singular_values.shape == (39,)


def test_modes_are_eigenvectors_and_the_reduced_matrices_are_projections(dtype):
    U = inputs()
    X, B = driven(U)
    model = DMDc(rank=4).fit(X.astype(dtype), U)
    modes, Q = model.modes, model.basis
    advanced = model.predict(modes.real.astype(dtype), np.zeros((2, 4)))
    np.testing.assert_allclose(advanced, (modes * model.eigenvalues).real, atol=1e-6)
    np.testing.assert_allclose(Q.T @ Q, np.eye(4), atol=1e-5)
    assert match(np.linalg.eigvals(model.A_reduced), RATES) < TOLERANCE[dtype]
    np.testing.assert_allclose(model.B_reduced, Q.T @ B, atol=1e-5)
    np.testing.assert_allclose((modes @ model.amplitudes).real, X[:, 0], atol=1e-5)


@pytest.mark.parametrize("known", [True, False])
def test_forecast_predict_and_reconstruct_follow_the_system(dtype, known):
    U = inputs(steps=80)
    X, B = driven(U)
    past, B = X[:, :40].astype(dtype), B.astype(dtype)
    model = DMDc(rank=4).fit(past, U[:, :39], B if known else None)
    atol = 20 * TOLERANCE[dtype] * np.abs(X).max()
    forecast = model.forecast(U[:, 39:])
    assert forecast.dtype == dtype
    np.testing.assert_allclose(forecast, X[:, 40:], atol=atol)
    assert model.forecast(U[:, :0]).shape == (300, 0)
    rebuilt = model.reconstruct()
    assert rebuilt.dtype == dtype
    np.testing.assert_allclose(rebuilt, past, atol=atol)
    np.testing.assert_array_equal(rebuilt[:, 0], past[:, 0])
    np.testing.assert_allclose(model.reconstruct(U), X, atol=atol)
    np.testing.assert_allclose(model.predict(past[:, :5], U[:, :5]), X[:, 1:6], atol=atol)
    np.testing.assert_allclose(model.predict(past[:, 7], U[:, 7]), X[:, 8], atol=atol)
    other = driven(np.hstack([U[:, :39], -3.0 * U[:, 39:]]))[0]
    np.testing.assert_allclose(model.forecast(-3.0 * U[:, 39:]), other[:, 40:], atol=4 * atol)


@pytest.mark.parametrize("rank", [2, 4])
def test_unknown_b_agrees_with_dense_least_squares(rank):
    U = inputs(3)
    X, _ = driven(U, n=50, noise=1e-2)  # no exact answer: methods must agree
    model = DMDc(rank=rank).fit(X, U)
    A, B = dense(X, U, rank)
    np.testing.assert_allclose(operator(model), A, atol=1e-10)
    np.testing.assert_allclose(model.B, B, atol=1e-10)
    expected = np.linalg.eigvals(A)
    assert match(model.eigenvalues, expected[np.argsort(-np.abs(expected))][:rank]) < 1e-10


def test_unknown_b_without_truncation_is_plain_least_squares():
    U = inputs(3)
    X, _ = driven(U, n=4, noise=1e-2)
    weights = np.linalg.lstsq(np.vstack([X[:, :-1], U]).T, X[:, 1:].T, rcond=None)[0].T
    model = DMDc().fit(X, U)
    np.testing.assert_allclose(operator(model), weights[:, :4], atol=1e-11)
    np.testing.assert_allclose(model.B, weights[:, 4:], atol=1e-11)


def test_known_b_agrees_with_dmd_of_the_states_without_the_inputs():
    U = inputs()
    X, B = driven(U, noise=1e-2)
    model = DMDc(rank=3, dt=0.1).fit(X, U, B)
    plain = DMD(rank=3, dt=0.1).fit(X[:, :-1], X[:, 1:] - B @ U)
    np.testing.assert_allclose(model.eigs, plain.eigs, atol=1e-11)
    terms = model.modes * model.amplitudes
    np.testing.assert_allclose(terms, plain.modes * plain.amplitudes, atol=1e-9)
    np.testing.assert_allclose(model.frequency, plain.frequency, atol=1e-10)
    np.testing.assert_allclose(model.growth_rate, plain.growth_rate, atol=1e-9)
    np.testing.assert_allclose(model.omega, np.log(plain.eigs) / 0.1, atol=1e-9)
    assert model.B is B


@pytest.mark.parametrize("rank", [2, None, 0.99])
@pytest.mark.parametrize("known", [True, False])
def test_inputs_that_do_nothing_leave_plain_dmd(dtype, rank, known):
    quiet = np.zeros((2, 39))
    X, _ = driven(quiet, noise=0.1)
    X = X.astype(dtype)
    plain = DMD(rank=rank, unstable="keep").fit(X)
    model = DMDc(rank=rank).fit(X, quiet, np.zeros((300, 2), dtype) if known else None)
    assert match(model.eigenvalues, plain.eigenvalues) < 1e-8
    np.testing.assert_array_equal(model.B, np.zeros((300, 2)))
    np.testing.assert_allclose(model.singular_values, plain.singular_values, atol=1e-6)
    few = DMDc(rank=2).fit(X, quiet)
    terms = DMD(rank=2).fit(X)
    np.testing.assert_allclose(
        few.modes * few.amplitudes, terms.modes * terms.amplitudes, atol=1e-6
    )
    horizons = plain.forecast(np.arange(1, 4))
    np.testing.assert_allclose(model.forecast(np.ones((2, 3))), horizons, atol=1e-6)


def test_one_dead_input_beside_a_live_one():
    U = np.vstack([inputs(1), np.zeros((1, 39))])
    X, B = driven(U)
    model = DMDc(rank=4).fit(X, U)
    assert match(model.eigenvalues, RATES) < 1e-11
    np.testing.assert_allclose(model.B[:, 0], B[:, 0], atol=1e-11)
    np.testing.assert_array_equal(model.B[:, 1], np.zeros(300))


@pytest.mark.parametrize("units", [(1e-6, 1e5), (1e-170, 1e170), (-3.0, 0.25)])
def test_units_of_the_inputs_change_b_inversely_and_nothing_else(units):
    U = inputs()
    X, _ = driven(U, noise=1e-2)
    units = np.array(units)
    model, other = DMDc(rank=4).fit(X, U), DMDc(rank=4).fit(X, units[:, None] * U)
    np.testing.assert_allclose(other.eigenvalues, model.eigenvalues, atol=1e-12)
    np.testing.assert_allclose(other.B * units, model.B, atol=1e-12)
    np.testing.assert_allclose(other.forecast(units[:, None] * U), model.forecast(U), atol=1e-11)


def test_constant_input_is_the_fixed_point():
    U = np.ones((1, 39))
    X, B = driven(U, n=4)
    model = DMDc(rank=4).fit(X, U[0])
    assert match(model.eigenvalues, RATES) < 1e-9
    fixed_point = np.linalg.solve(np.eye(4) - operator(model), B[:, 0])
    np.testing.assert_allclose(model.forecast(np.ones(1000))[:, -1], fixed_point, atol=1e-8)


def test_state_feedback_is_not_identified_and_gives_the_answer_of_least_norm(dtype):
    X, _ = driven(np.zeros((1, 39)), n=6)
    X = X.astype(dtype).astype(np.float64)
    U = inputs(1, 6) @ X[:, :-1]
    model = DMDc(tol=1e-5).fit(X.astype(dtype), U)
    A, B = dense(X, U, 4, rcond=1e-5)
    atol = 100 * TOLERANCE[dtype]
    np.testing.assert_allclose(operator(model), A, atol=atol)
    np.testing.assert_allclose(model.B, B, atol=atol)
    assert np.linalg.norm(B) > 0.1
    np.testing.assert_allclose(model.reconstruct(), X, atol=atol)


@pytest.mark.parametrize("tol", [None, 0.0])
def test_the_same_input_twice_shares_its_effect(tol):
    U = inputs(1)
    X, B = driven(U)
    model = DMDc(rank=4, tol=tol).fit(X, np.vstack([U, 3.0 * U]))
    np.testing.assert_allclose(model.B, np.hstack([B / 2, B / 6]), atol=1e-11)
    assert match(model.eigenvalues, RATES) < 1e-11


def test_fewer_steps_than_unknowns_still_reproduce_the_data(dtype):
    U = inputs(2, 4)
    X, _ = driven(U)
    model = DMDc().fit(X.astype(dtype), U)
    predicted = model.predict(X[:, :-1].astype(dtype), U)
    np.testing.assert_allclose(predicted, X[:, 1:], atol=50 * TOLERANCE[dtype])


def test_one_pair_is_shared_between_state_and_input():
    X = np.array([[1.0, 2.0], [0.0, 1.0]])
    model = DMDc().fit(X, [4.0])  # both regressors of length 1: half the effect each
    np.testing.assert_allclose(model.B[:, 0], X[:, 1] / 8, atol=1e-14)
    np.testing.assert_allclose(model.eigenvalues, [1.0], atol=1e-14)
    np.testing.assert_allclose(model.reconstruct(), X, atol=1e-14)
    known = DMDc().fit(X, [4.0], np.array([[0.0], [0.25]]))
    np.testing.assert_allclose(known.eigenvalues, [2.0], atol=1e-14)


def test_small_modes_of_float32_data_keep_their_eigenvalues():
    U = inputs()
    X, B = driven(U, n=20000, scales=(1e-4, 1.0, 1.0, 1.0))
    model = DMDc(rank=4).fit(X.astype(np.float32), U)
    assert match(model.eigenvalues, RATES) < 1e-5
    assert np.argmax(np.abs(model.eigenvalues)) == 0  # by modulus, not by size of the mode
    assert distance(model.B, B) < 1e-6


def test_inputs_alike_to_one_part_in_ten_thousand_are_told_apart():
    U = inputs()
    U[1] = U[0] + 1e-4 * U[1]
    X, B = driven(U)
    model = DMDc(rank=4).fit(X, U)
    assert match(model.eigenvalues, RATES) < 1e-10
    assert distance(model.B, B) < 1e-9


def test_zero_and_resting_data_have_defined_answers(dtype):
    zero = DMDc().fit(np.zeros((5, 6), dtype), np.ones(5))
    assert zero.eigenvalues.shape == zero.amplitudes.shape == zero.omega.shape == (0,)
    assert zero.modes.shape == zero.basis.shape == (5, 0)
    for states in (zero.B, zero.reconstruct(), zero.forecast(np.ones(3))):
        np.testing.assert_array_equal(states, np.zeros_like(states))
    pushed = np.zeros((5, 2), dtype)
    pushed[:, 1] = 6.0  # at rest, then pushed: only B can be known
    np.testing.assert_allclose(DMDc().fit(pushed, [3.0]).B, np.full((5, 1), 2.0), rtol=1e-6)


def test_eigenvalue_zero_has_omega_minus_infinity():
    X = np.zeros((4, 3))
    X[0, 0] = 1.0
    model = DMDc().fit(X, np.zeros(2))
    np.testing.assert_array_equal(model.eigenvalues, [0.0])
    np.testing.assert_array_equal(model.omega, [-np.inf])


def test_rank_is_lowered_where_the_data_have_fewer_directions():
    U = inputs()
    X, _ = driven(U)
    for rank in (10, None, np.int32(9), 0.999999999):
        assert len(DMDc(rank=rank).fit(X, U).eigenvalues) == 4
    assert len(DMDc(svd_rank=-1).fit(X, U).eigenvalues) == 4
    assert len(DMDc(svd_rank=2).fit(X, U).eigenvalues) == 2


@pytest.mark.parametrize("kind", [bool, np.int8, np.float16, np.float32])
def test_inputs_of_any_real_type_and_lists_are_taken(kind):
    U = (inputs() > 0).astype(kind)
    X, B = driven(U.astype(np.float64))
    assert distance(DMDc(rank=4).fit(X, U).B, B) < 1e-11
    assert distance(DMDc(rank=4).fit(X, U.tolist()).B, B) < 1e-11


def test_fit_forms_nothing_of_the_size_of_the_state():
    U = inputs(1, 19)
    X, B = (array.astype(np.float32) for array in driven(U, n=50_000))
    tracemalloc.start()
    DMDc(rank=4).fit(X, U)
    DMDc(rank=4).fit(X, U, B)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < B.nbytes  # one column


def pydmd(X, U, B=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pydmd import DMDc as PyDMDc

        return PyDMDc(**options).fit(X, U, B)


def test_pydmd_gives_the_same_where_it_is_right():
    """Its growth_rate is Re(eigenvalue) / dt, and its B is projected: compared where exact."""
    U = inputs()
    X, B = driven(U)
    noisy, _ = driven(U, noise=1e-2)
    small, _ = driven(U, n=4, noise=1e-2)
    for data, known, ours, theirs in [
        (X, None, dict(rank=4), dict(svd_rank=4, svd_rank_omega=6)),
        (small, None, dict(), dict(svd_rank=-1)),
        (noisy, B, dict(rank=3), dict(svd_rank=3)),
    ]:
        model, other = DMDc(**ours).fit(data, U, known), pydmd(data, U, known, **theirs)
        assert match(model.eigs, other.eigs) < 1e-10
        np.testing.assert_allclose(model.B, other.B, atol=1e-10)
        order = [int(np.argmin(np.abs(other.eigs - value))) for value in model.eigs]
        terms = (other.modes * other.amplitudes)[:, order]
        np.testing.assert_allclose(model.modes * model.amplitudes, terms, atol=1e-9)
        if known is None:  # its reconstruction applies modes, eigs and pinv(modes), not A
            np.testing.assert_allclose(model.reconstruct(), other.reconstructed_data(), atol=1e-9)


def test_pydmd_loses_inputs_in_small_units_where_ours_are_kept():
    """Truncating state and unscaled inputs together drops the inputs before the noise."""
    U = inputs()
    X, B = driven(U, noise=1e-2)
    theirs = pydmd(X, 1e-6 * U, svd_rank=4, svd_rank_omega=6)
    ours = DMDc(rank=4).fit(X, 1e-6 * U)
    assert match(theirs.eigs, RATES) > 1e-2 > 10 * match(ours.eigs, RATES)
    assert distance(1e-6 * theirs.B, B) > 0.5
    assert distance(1e-6 * ours.B, B) < 5e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3), st.sampled_from(DTYPES), st.booleans())
def test_scaling_the_states_leaves_the_eigenvalues(seed, scale, kind, known):
    U = inputs(seed=seed)
    X, B = driven(U, n=40, noise=1e-2, seed=seed)
    given_b = B.astype(kind) if known else None
    scaled_b = (scale * B).astype(kind) if known else None
    rounding = np.finfo(kind).eps
    model = DMDc(rank=4).fit(X.astype(kind), U, given_b)
    scaled = DMDc(rank=4).fit((scale * X).astype(kind), U, scaled_b)
    assert match(scaled.eigenvalues, model.eigenvalues) < 1e4 * rounding
    assert distance(scaled.B, scale * model.B) < 1e4 * rounding


def test_example_of_the_documentation_runs():
    page = Path(__file__).resolve().parents[1] / "docs/variants/control.md"
    names = {}
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
        exec(compile(code, page.name, "exec"), names)
    np.testing.assert_allclose(names["model"].eigenvalues.real, [0.95, 0.7], atol=1e-5)
