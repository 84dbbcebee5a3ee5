"""What the tests of the streams share: tolerances, states compared bit by bit, planted data."""

import numpy as np

from koopcore import StreamingDMD, StreamingSVD

# Eigenvalues of data of exact rank, against batch DMD or the planted ones.
EXACT = {np.float32: 1e-4, np.float64: 1e-8}
# Singular values, states and bases, relative to the largest: blocks of 16 in bases of 20.
CLOSE = {dtype: 200 * float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64)}

PAIR = 0.8 * np.exp(0.7j)
RATES = (0.99, 0.9, PAIR, PAIR.conjugate())
KINDS = {"svd": StreamingSVD, "dmd": StreamingDMD}


def low_rank(rank, n, m, dtype=np.float64, seed=0, fall=0.5):
    """Random data whose singular values fall by a factor."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((n, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((m, rank)))[0]
    return ((left * fall ** np.arange(rank)) @ right.T * np.sqrt(m)).astype(dtype)


def parts(state):
    """What is in a state, as bytes: equal for equal bits only."""
    return {
        key: np.asarray(value).tobytes() if key in ("columns", "numbers") else value
        for key, value in state.items()
    }


def same_bits(one, other):
    return parts(one.state_dict()) == parts(other.state_dict())


class Unchanged:
    """Within it, the streams must not change by a bit."""

    def __init__(self, *streams):
        self.streams = streams

    def __enter__(self):
        self.before = [parts(s.state_dict()) for s in self.streams]
        self.seen = [s.n_snapshots for s in self.streams]

    def __exit__(self, *_):
        assert [parts(s.state_dict()) for s in self.streams] == self.before
        assert [s.n_snapshots for s in self.streams] == self.seen


def relative(found, expected):
    """Largest difference as a share of the largest expected number."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    largest = float(np.abs(expected).max(initial=0.0))
    return float(np.abs(found - expected).max(initial=0.0)) / max(largest, 1e-300)
