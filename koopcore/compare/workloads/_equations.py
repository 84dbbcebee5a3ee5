"""What the differential-equation workloads share: the network, the ansatz and a `Problem`.

A network N(t), 1-w-w-d with sines, solves z' = f(z) through z(t) = z0 + (1 - exp(-t)) N(t), which
satisfies z(0) = z0 exactly (Mattheakis et al. 2022, Physical Review E 105, 065305). The loss is the
mean squared residual on fixed times.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import nn

from . import Problem
from ._classifier import seeded


class SineNetwork(nn.Module):
    """A 1-w-w-d network with sine activations that returns its value and its time derivative.

    Parameters
    ----------
    width : int
        Units in each of the two hidden layers.
    n_outputs : int
    """

    def __init__(self, width: int, n_outputs: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(1, width), nn.Linear(width, width)])
        self.head = nn.Linear(width, n_outputs)

    def forward(self, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return N and dN/dt, both of shape (n_points, d), at `times` of shape (n_points, 1).

        The derivative is carried forward beside the value: exact, and one pass instead of the
        two that differentiating by autograd takes.
        """
        value, rate = times, torch.ones_like(times)
        for layer in self.layers:
            value, rate = layer(value), rate @ layer.weight.T
            value, rate = torch.sin(value), torch.cos(value) * rate
        return self.head(value), rate @ self.head.weight.T


class Trajectory:
    """z(t) = z0 + (1 - exp(-t)) N(t) on fixed times, and the loss of a network under it.

    Parameters
    ----------
    start : sequence of float
        z0, of length d.
    times : tensor of shape (n_points, 1)
    residual_loss : callable
        ``residual_loss(z, dz/dt)``, zero where the equations hold; both of shape (n_points, d).
    """

    def __init__(
        self,
        start: Sequence[float],
        times: torch.Tensor,
        residual_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> None:
        self.times = times
        self._residual_loss = residual_loss
        self._start = torch.tensor(start, dtype=times.dtype)
        self._decay = torch.exp(-self.times)
        self._ramp = 1 - self._decay

    def trajectory(self, model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z and dz/dt of the model, both of shape (n_points, d)."""
        value, rate = model(self.times)
        return self._start + self._ramp * value, self._decay * value + self._ramp * rate

    def loss(self, model: nn.Module) -> torch.Tensor:
        """Return the residual loss of the model, a scalar."""
        return self._residual_loss(*self.trajectory(model))


def even_times(end: float, n_points: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return evenly spaced times from 0 to `end`, shape (n_points, 1)."""
    return torch.linspace(0, end, n_points, dtype=dtype)[:, None]


def solver(ansatz: Trajectory, width: int, n_outputs: int, seed: int) -> Problem:
    """Return the problem of training a sine network under the ansatz, full batch."""
    n_points = len(ansatz.times)

    def evaluate(model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"train_loss": ansatz.loss(model).item()}

    return Problem(
        model=seeded(lambda: SineNetwork(width, n_outputs), seed),
        batches=itertools.repeat(None),  # full batch: the times are the data
        loss=lambda model, _batch: ansatz.loss(model),
        trial_loss=ansatz.loss,
        evaluate=evaluate,
        batch_size=n_points,
        trial_size=n_points,
    )
