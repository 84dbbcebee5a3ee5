"""Planted systems for the tests."""

import numpy as np

DTYPES = (np.float32, np.float64)


def planted(rates, n=200, m=16, dtype=np.float64, fixed_point=0.0, seed=0):
    """Snapshots of a linear system with these eigenvalues (conjugate pairs both given)."""
    rng = np.random.default_rng(seed)
    rates = np.asarray(rates, dtype=complex)
    modes = np.zeros((n, len(rates)), dtype=complex)
    for k, rate in enumerate(rates):
        if rate.imag >= 0:
            imaginary = rng.standard_normal(n) if rate.imag > 0 else 0.0
            modes[:, k] = rng.standard_normal(n) + 1j * imaginary
        if rate.imag > 0:
            modes[:, list(rates).index(rate.conjugate())] = modes[:, k].conj()
    states = (modes @ np.vander(rates, m, increasing=True)).real + fixed_point
    return states.astype(dtype)


def match(found, expected):
    """Largest distance between two sets of eigenvalues, each found one to its nearest."""
    found, expected = np.asarray(found), np.asarray(expected, dtype=complex)
    assert found.shape == expected.shape
    distances = np.abs(found[:, None] - expected[None, :])
    return max(distances.min(axis=0).max(), distances.min(axis=1).max())
