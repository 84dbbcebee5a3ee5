"""Sparsity-promoting amplitudes: closed forms, monotony, PyDMD."""

import warnings

import numpy as np
import pytest
from support import DTYPES, match, planted

from koopcore import DMD
from koopcore._sparse import _support, soft_threshold, sparse_amplitudes


def problem(seed, r=6):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((20, r)) + 1j * rng.standard_normal((20, r))
    return a.conj().T @ a, a.conj().T @ (rng.standard_normal(20) + 1j * rng.standard_normal(20))


def penalised(system, rhs, penalty):
    """What ADMM converges to, before the polish."""
    b = np.zeros(len(rhs), complex)
    for _ in range(20_000):  # coordinate descent: another algorithm, the same minimum
        for i in range(len(rhs)):
            rest = rhs[i] - system[i] @ b + system[i, i] * b[i]
            b[i] = soft_threshold(np.array([rest]), penalty / 2)[0] / system[i, i]
    return b


def test_one_mode_and_diagonal_systems_have_closed_forms():
    rhs = np.array([3.0, -1.0j, 0.2])
    system = np.diag([2.0, 1.0, 4.0]).astype(complex)
    for share, kept in ((0.0, 3), (0.05, 3), (0.1, 2), (0.5, 1), (0.99, 1), (1.0, 0)):
        found = sparse_amplitudes(system, rhs, share)
        expected = np.where(np.abs(rhs) > share * 3.0, rhs / np.diag(system), 0.0)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert np.count_nonzero(found) == kept


@pytest.mark.parametrize("seed", range(3))
def test_support_is_that_of_the_penalised_minimum(seed):
    system, rhs = problem(seed)
    penalty = 0.4 * 2 * np.abs(rhs).max()
    minimum = penalised(system, rhs, penalty)
    np.testing.assert_array_equal(_support(system, rhs, penalty), np.abs(minimum) > 1e-12)


def test_a_larger_penalty_keeps_no_more_and_polish_is_least_squares():
    system, rhs = problem(7)
    counts = []
    for share in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999):
        found = sparse_amplitudes(system, rhs, share)
        kept = found != 0
        counts.append(np.count_nonzero(kept))
        gradient = system[np.ix_(kept, kept)] @ found[kept] - rhs[kept]
        assert np.abs(gradient).max() < 1e-10
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 6
    assert counts[-1] == 1


def test_singular_zero_and_empty_systems():
    one = np.ones((2, 2), complex)  # twice the same mode
    assert np.isfinite(sparse_amplitudes(one, np.array([1.0, 1.0 + 0j]), 0.5)).all()
    assert not sparse_amplitudes(np.zeros((2, 2), complex), np.zeros(2, complex), 0.5).any()
    assert sparse_amplitudes(np.zeros((0, 0), complex), np.zeros(0, complex), 0.5).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_spurious_modes_go_and_pairs_stay_together(dtype):
    rates = (0.98, 0.95 * np.exp(0.5j), 0.95 * np.exp(-0.5j))
    X = planted(rates, n=60, m=40) + 0.05 * np.random.default_rng(0).standard_normal((60, 40))
    model = DMD(rank=12, sparsity=0.05).fit(X.astype(dtype))
    assert match(model.eigenvalues, rates) < 5e-3
    assert match(model.eigenvalues, model.eigenvalues.conj()) < 1e-9


def test_the_penalty_does_not_depend_on_the_scale_of_data_or_modes():
    X = planted((0.98, 0.5, -0.7), n=60, m=30)
    X = X + 0.1 * np.random.default_rng(1).standard_normal(X.shape)
    kept = [len(DMD(rank=8, sparsity=0.1).fit(scale * X).eigenvalues) for scale in (1e-3, 1, 1e3)]
    assert len(set(kept)) == 1


def test_pydmd_keeps_the_same_modes():
    """SpDMD on projected modes of norm 1; its penalty is absolute, ours a share."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pydmd import SpDMD

        rng = np.random.default_rng(2)
        X = planted((0.98, 0.95 * np.exp(0.5j), 0.95 * np.exp(-0.5j)), n=60, m=40)
        X = X + 0.05 * rng.standard_normal(X.shape)
        plain = DMD(rank=8, exact=False, sparsity=0.0).fit(X)
        norms = np.linalg.norm(plain.modes, axis=0)
        _, rhs = plain._fitted().amplitude_system(0, 40)
        gamma = 0.1 * 2 * np.abs(rhs / norms).max()
        theirs = SpDMD(svd_rank=8, gamma=gamma, exact=False, rho=1e2, verbose=False).fit(X)
    ours = DMD(rank=8, exact=False, sparsity=0.1).fit(X)
    kept = theirs.eigs[np.abs(theirs.amplitudes) > 1e-8]
    assert match(ours.eigenvalues, kept) < 1e-9
