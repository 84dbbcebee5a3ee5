"""Problems of the kind that PyDMD's tutorials solve, small, with their eigenvalues known."""

from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class Problem:
    """Snapshots in columns, and the discrete eigenvalues that made them."""

    name: str
    snapshots: np.ndarray
    eigenvalues: np.ndarray
    times: np.ndarray | None = None
    inputs: np.ndarray | None = None
    input_map: np.ndarray | None = None  # B

    @property
    def clock(self):
        """Times of the snapshots: given, or their numbers."""
        return np.arange(self.snapshots.shape[1]) if self.times is None else self.times

    def error(self, eigenvalues):
        """Largest distance between found and true eigenvalues."""
        return distance(eigenvalues, self.eigenvalues)


def distance(found, expected):
    """Largest distance between two sets of eigenvalues, each to its nearest."""
    if len(found) != len(expected):
        return np.inf
    gaps = np.abs(np.asarray(found)[:, None] - np.asarray(expected)[None, :])
    return max(gaps.min(axis=0).max(), gaps.min(axis=1).max())


def _two_modes(t):
    x = np.linspace(-5.0, 5.0, 128)
    left, middle = 1.0 / np.cosh(x + 3.0), 2.0 * np.tanh(x) / np.cosh(x)
    return np.outer(left, np.exp(2.3j * t)) + np.outer(middle, np.exp(2.8j * t))


@cache
def spatiotemporal():
    """Return sech(x + 3) exp(2.3 i t) + 2 sech(x) tanh(x) exp(2.8 i t), complex."""
    t = np.linspace(0.0, 4.0 * np.pi, 129)
    return Problem("two modes", _two_modes(t), np.exp(1j * t[1] * np.array([2.3, 2.8])))


@cache
def uneven():
    """Return the same two modes at random times, with noise of size 0.01."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0.0, 4.0 * np.pi, 129))
    clean = _two_modes(t)
    noise = rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape)
    return Problem("uneven times", clean + 0.01 * noise, np.exp([2.3j, 2.8j]), times=t)


@cache
def linear(noise=0.0, angles=(0.3, 1.0)):
    """Two damped oscillations of 300 numbers, 60 snapshots."""
    rng = np.random.default_rng(0)
    upper = np.array([0.98, 0.95]) * np.exp(1j * np.array(angles))
    modes = rng.standard_normal((300, 2)) + 1j * rng.standard_normal((300, 2))
    clean = (modes @ np.vander(upper, 60, increasing=True)).real
    name = "fast linear" if max(angles) > np.pi / 2 else "linear"
    return Problem(
        f"noisy {name}" if noise else name,
        clean + noise * rng.standard_normal(clean.shape),
        np.concatenate([upper, upper.conj()]),
    )


@cache
def wake(dtype=np.float64):
    """Return a mean flow and three harmonics that travel along it, as behind a cylinder."""
    x, y = np.linspace(0.0, 8.0, 60)[:, None], np.linspace(-2.0, 2.0, 30)[None, :]
    phase = 0.25 * np.arange(50)
    flow = [np.broadcast_to(1.0 - 0.5 * np.exp(-(y**2)), (60, 30)) for _ in phase]
    for k in (1, 2, 3):
        profile = 0.2**k * np.exp(-k * y**2) * (y if k == 2 else 1.0)
        flow = [u + profile * np.cos(k * (1.5 * x - p)) for u, p in zip(flow, phase, strict=True)]
    states = np.stack([u.ravel() for u in flow], axis=1).astype(dtype)
    name = "wake" if dtype == np.float64 else "wake, float32"
    return Problem(name, states, np.exp(0.25j * np.arange(-3, 4)))


@cache
def standing(noise=0.0):
    """Return sin(x) cos(t): one direction in space, so that only delays show the frequency."""
    x, t = np.linspace(0.0, np.pi, 100), 0.2 * np.arange(80)
    states = np.outer(np.sin(x), np.cos(t))
    states = states + noise * np.random.default_rng(0).standard_normal(states.shape)
    name = "noisy standing wave" if noise else "standing wave"
    return Problem(name, states, np.exp([0.2j, -0.2j]))


@cache
def descent():
    """Return gradient descent on a quadratic: a symmetric operator, 1 - rate * curvature."""
    rng = np.random.default_rng(0)
    rates = np.array([0.99, 0.9, 0.7, 0.4])
    basis = np.linalg.qr(rng.standard_normal((300, 4)))[0]
    states = (basis * rng.standard_normal(4)) @ np.vander(rates, 30, increasing=True)
    return Problem("descent", states, rates)


@cache
def controlled(noise=0.0):
    """Four real modes driven by two known inputs."""
    rng = np.random.default_rng(0)
    rates = np.array([0.95, 0.8, 0.6, -0.5])
    modes = np.linalg.qr(rng.standard_normal((300, 4)))[0]
    effect, inputs = rng.standard_normal((4, 2)), rng.standard_normal((2, 59))
    z = [rng.standard_normal(4)]
    for u in inputs.T:
        z.append(rates * z[-1] + effect @ u)
    states = modes @ np.array(z).T
    return Problem(
        "noisy control" if noise else "control",
        states + noise * rng.standard_normal(states.shape),
        rates,
        inputs=inputs,
        input_map=modes @ effect,
    )
