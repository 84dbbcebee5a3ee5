"""The Hénon-Heiles system, chaotic at this energy, solved by a small network.

The network N(t), 1-50-50-4 with sines, solves the equations of motion of
H = (px^2 + py^2)/2 + (x^2 + y^2)/2 + x^2 y - y^3/3 from (x, y, px, py) = (.3, -.3, .3, .15), the
start of the published solver (Mattheakis et al. 2022, Physical Review E 105, 065305), on
0 <= t <= 6 pi, its shorter span. The energy there, .128, is below 1/6, so that the motion is
bounded. The published network has 80 units in a layer, perturbed times and a penalty on the energy;
here the times are fixed and there is no penalty, as in the workload ``hamiltonian``.
"""

from __future__ import annotations

import math

import torch

from . import Problem, Workload, scaled
from ._equations import Trajectory, even_times, solver

START = (0.3, -0.3, 0.3, 0.15)
N_POINTS = 200
T_END = 6 * math.pi
WIDTH = 50


def residual_loss(state: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """Return the sum of the four mean squared residuals; zero on an exact trajectory.

    Parameters
    ----------
    state, rate : tensor of shape (n_points, 4)
        Columns (x, y, px, py) and their derivatives in time.
    """
    x, y, px, py = state.unbind(1)
    force = torch.stack([-x - 2 * x * y, -y - x**2 + y**2], dim=1)
    velocity = torch.stack([px, py], dim=1)
    return (rate - torch.cat([velocity, force], dim=1)).square().mean(0).sum()


class Ansatz(Trajectory):
    """The system's z(t) on 200 times from 0 to 6 pi, and the loss of a network under it.

    Parameters
    ----------
    dtype : torch.dtype
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(START, even_times(T_END, N_POINTS, dtype), residual_loss)


def build(seed: int, factor: float = 1.0) -> Problem:
    """Return the problem of one seed, its hidden layers of 50 times `factor` units."""
    return solver(Ansatz(), scaled(WIDTH, factor), 4, seed)


WORKLOADS = {
    "henon-heiles": Workload("henon-heiles", "Hénon-Heiles system, 1-50-50-4", 3000, build)
}
