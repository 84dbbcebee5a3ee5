"""A nonlinear oscillator solved by a small network (a Hamiltonian network).

The network N(t), 1-w-w-2 with sines, solves x' = p, p' = -x - x^3, the equations of motion of
H = p^2/2 + x^2/2 + x^4/4, on 0 <= t <= 4 pi through the ansatz z(t) = z0 + (1 - exp(-t)) N(t),
which satisfies z(0) = z0 = (1.3, 1.0) exactly. The loss is the mean squared residual.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from . import Problem, Workload, scaled
from ._equations import SineNetwork, Trajectory, even_times, solver

__all__ = ["WORKLOADS", "Ansatz", "SineNetwork", "build", "residual_loss"]

START = (1.3, 1.0)
N_POINTS = 200
T_END = 4 * math.pi


def residual_loss(state: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """Return mean((x' - p)^2) + mean((p' + x + x^3)^2); zero on an exact trajectory.

    Parameters
    ----------
    state, rate : tensor of shape (n_points, 2)
        Columns (x, p) and (x', p').
    """
    x, p = state.unbind(1)
    dx, dp = rate.unbind(1)
    return (dx - p).square().mean() + (dp + x + x**3).square().mean()


class Ansatz(Trajectory):
    """The oscillator's z(t) on fixed times, and the loss of a network under it.

    Parameters
    ----------
    dtype : torch.dtype
    times : tensor of shape (n_points, 1), optional
        By default 200 points from 0 to 4 pi.
    """

    def __init__(
        self, dtype: torch.dtype = torch.float32, times: torch.Tensor | None = None
    ) -> None:
        even = even_times(T_END, N_POINTS, dtype)
        super().__init__(START, even if times is None else times, residual_loss)


def build(seed: int, factor: float = 1.0, *, width: int) -> Problem:
    """Return the problem with hidden layers of `width` times `factor` units."""
    return solver(Ansatz(), scaled(width, factor), 2, seed)


WORKLOADS = {
    "hamiltonian": Workload(
        "hamiltonian", "Nonlinear oscillator, 1-10-10-2", 3000, partial(build, width=10)
    ),
    "hamiltonian-50": Workload(
        "hamiltonian-50", "Nonlinear oscillator, 1-50-50-2", 3000, partial(build, width=50)
    ),
}
