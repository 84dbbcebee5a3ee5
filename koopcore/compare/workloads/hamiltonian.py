"""A nonlinear oscillator solved by a small network (a Hamiltonian network).

The network N(t), 1-w-w-2 with sines, solves x' = p, p' = -x - x^3, the equations of motion of
H = p^2/2 + x^2/2 + x^4/4, on 0 <= t <= 4 pi through the ansatz z(t) = z0 + (1 - exp(-t)) N(t),
which satisfies z(0) = z0 = (1.3, 1.0) exactly. The loss is the mean squared residual.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch
from torch import nn

from . import Problem, Workload

START = (1.3, 1.0)
N_POINTS = 200
T_END = 4 * math.pi


class SineNetwork(nn.Module):
    """A 1-w-w-2 network with sine activations that returns its value and its time derivative.

    Parameters
    ----------
    width : int
        Units in each of the two hidden layers.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(1, width), nn.Linear(width, width)])
        self.head = nn.Linear(width, 2)

    def forward(self, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return N and dN/dt, both of shape (n_points, 2), at `times` of shape (n_points, 1).

        The derivative is carried forward beside the value: exact, and one pass instead of the
        two that differentiating by autograd takes.
        """
        value, rate = times, torch.ones_like(times)
        for layer in self.layers:
            value, rate = layer(value), rate @ layer.weight.T
            value, rate = torch.sin(value), torch.cos(value) * rate
        return self.head(value), rate @ self.head.weight.T


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


class Ansatz:
    """z(t) = z0 + (1 - exp(-t)) N(t) on fixed times, and the loss of a network under it.

    Parameters
    ----------
    dtype : torch.dtype
    times : tensor of shape (n_points, 1), optional
        By default 200 points from 0 to 4 pi.
    """

    def __init__(
        self, dtype: torch.dtype = torch.float32, times: torch.Tensor | None = None
    ) -> None:
        even = torch.linspace(0, T_END, N_POINTS, dtype=dtype)[:, None]
        self.times = even if times is None else times
        self._start = torch.tensor(START, dtype=dtype)
        self._decay = torch.exp(-self.times)
        self._ramp = 1 - self._decay

    def trajectory(self, model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z and dz/dt of the model, both of shape (n_points, 2)."""
        value, rate = model(self.times)
        return self._start + self._ramp * value, self._decay * value + self._ramp * rate

    def loss(self, model: nn.Module) -> torch.Tensor:
        """Return the residual loss of the model, a scalar."""
        return residual_loss(*self.trajectory(model))


def build(seed: int, width: int) -> Problem:
    """Return the problem with hidden layers of `width` units, initialised from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SineNetwork(width)
    ansatz = Ansatz()

    def evaluate(model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"train_loss": ansatz.loss(model).item()}

    return Problem(
        model=model,
        batches=itertools.repeat(None),  # full batch: the 200 times are the data
        loss=lambda model, _batch: ansatz.loss(model),
        trial_loss=ansatz.loss,
        evaluate=evaluate,
        batch_size=N_POINTS,
        trial_size=N_POINTS,
    )


WORKLOADS = {
    "hamiltonian": Workload(
        "hamiltonian", "Nonlinear oscillator, 1-10-10-2", 3000, partial(build, width=10)
    ),
    "hamiltonian-50": Workload(
        "hamiltonian-50", "Nonlinear oscillator, 1-50-50-2", 3000, partial(build, width=50)
    ),
}
