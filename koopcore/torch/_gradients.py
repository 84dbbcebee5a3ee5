"""Forecasts from weights *and* their gradients: the generator of gradient flow, fitted to samples.

A step leaves its gradient behind, so every pair (weights before the step, gradient there) is a free
sample of the vector field ``-g(w)`` that all gradient methods follow in their own ways. In the span
of the last weights a symmetric operator A with ``g_j - g_i = A (w_j - w_i)`` is fitted (generator
DMD, Klus et al. 2020, on affine observables; the secant equations of quasi-Newton methods), and the
forecast is the implicit Euler step of length t of its flow, ``w - t (1 + t |A|)^-1 g``. Unlike a
trajectory of weights, the samples need no equal spacing, survive a jump, and do not depend on the
optimizer's own dynamics.

Everything is again a combination of the snapshots with coefficients from small matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from koopcore import _core
from koopcore.torch.partition import Layout

RESOLVED = 1e-10  # squares of directions below this share of the largest are rounding
LEAST = 4  # pairs that a fit needs
CHUNK = 2**20  # numbers of a row that are widened at once away from the CPU


class GradientForecast:
    """The flow of a fitted generator from the newest pair on."""

    rule = "gradients"

    def __init__(self, owner: GradientForecaster, order: NDArray[np.int64], rate: float) -> None:
        self._owner, self._order, self._rate = owner, order, rate
        self._fit()

    def _fit(self) -> None:
        """Eigenvalues of the operator, its eigenvectors and the gradient on the snapshots."""
        order, capacity = self._order, self._owner.capacity
        both = np.concatenate([order, capacity + order])
        products = self._owner.products[np.ix_(both, both)]
        m = len(order)
        # Differences from the newest pair, oldest first: rows of D on the snapshots.
        change = np.hstack([np.eye(m - 1), -np.ones((m - 1, 1))])
        on_weights = change @ products[:m, :m] @ change.T
        lengths = np.sqrt(np.maximum(np.diag(on_weights), 0.0))
        lengths[lengths == 0.0] = 1.0
        change /= lengths[:, None]
        on_weights /= np.outer(lengths, lengths)
        squares, right = np.linalg.eigh(on_weights)
        kept = squares > RESOLVED * squares[-1] if squares[-1] > 0.0 else squares > np.inf
        basis = (right[:, kept] / np.sqrt(squares[kept])).T @ change  # rows orthonormal in space
        cross = products[:m, m:]
        operator = basis @ cross @ basis.T
        self._values, vectors = np.linalg.eigh((operator + operator.T) / 2.0)
        self._directions = vectors.T @ basis
        self._slopes = self._directions @ cross[:, -1]

    def coefficients(self, horizon: float) -> NDArray[np.float64]:
        """Coefficients on the snapshots, oldest first, shape (1, m); they sum to 1.

        Parameters
        ----------
        horizon : float
            Length of the step, in time constants of the steepest direction.
        """
        result = np.zeros((1, len(self._order)))
        result[0, -1] = 1.0
        if len(self._values):
            curvature = np.abs(self._values)
            damped = curvature + curvature.max() / horizon
            with np.errstate(divide="ignore", invalid="ignore"):
                steps = np.where(damped > 0.0, self._slopes / damped, 0.0)
            result[0] -= steps @ self._directions
        return result

    def write(self, horizon: float, out: Sequence[torch.Tensor]) -> None:
        """Write the forecast into `out`."""
        self._owner.combine(self._order, self.coefficients(horizon)[0], out)

    def displacement(self, horizon: float) -> float:
        """Distance from the newest snapshot over that from the oldest to the newest."""
        m, order = len(self._order), self._order
        gram = self._owner.products[np.ix_(order, order)]
        change = self.coefficients(horizon)[0]
        change[-1] -= 1.0
        span = np.eye(m)[-1] - np.eye(m)[0]
        travelled = span @ gram @ span
        return float(np.sqrt(max(change @ gram @ change, 0.0) / travelled)) if travelled else np.nan

    def spectrum(self) -> NDArray[np.complex128]:
        """Eigenvalues ``1 - rate * eig(A)`` of plain gradient descent at the present rate."""
        values = 1.0 - self._rate * self._values
        return values[np.argsort(-np.abs(values))].astype(np.complex128)


class GradientForecaster:
    """The last pairs of weights and gradients, with all their inner products.

    Parameters
    ----------
    layout : Layout
        Of one operator.
    capacity : int
        Pairs.
    parameters : sequence of torch.Tensor
        Whose ``grad`` is read, in the order of the layout.
    optimizer : torch.optim.Optimizer
        Whose learning rate the spectrum is told at.
    """

    def __init__(
        self,
        layout: Layout,
        capacity: int,
        parameters: Sequence[torch.Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.capacity, self._layout, self._parameters = capacity, layout, list(parameters)
        self._optimizer = optimizer
        like = self._parameters[0]
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        # Rows: weights minus a reference, then gradients, then what is to become the next pair.
        self._rows = torch.zeros(2 * capacity + 2, layout.size, dtype=dtype, device=like.device)
        self._reference = torch.zeros(layout.size, dtype=dtype, device=like.device)
        self.products = np.zeros((2 * capacity, 2 * capacity))
        self._count = self._next = 0
        self._before = False  # whether the weights before the coming step are held

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Memory of the pairs and the reference."""
        return self._rows.nbytes + self._reference.nbytes

    def before_step(self) -> None:
        """Take the weights that the coming step's gradient will belong to."""
        row = self._rows[-2]
        self._layout.gather(self._parameters, row)
        if self._count == 0:
            self._reference.copy_(row)
        row.sub_(self._reference)
        self._before = True

    def push(self, tensors: Sequence[torch.Tensor]) -> None:
        """Append the pair of the weights before the last step and its gradient.

        Raises
        ------
        ValueError
            A parameter has no gradient or one that is not finite; nothing is appended then.
        """
        if not self._before:
            return
        self._before = False
        grads = [getattr(p, "grad", None) for p in self._parameters]
        if any(g is None for g in grads):
            name = self._layout.names[next(i for i, g in enumerate(grads) if g is None)]
            raise ValueError(
                f"parameter {name!r} has no gradient after the step; with observe='gradients' "
                "gradients must not be set to None before the step has ended"
            )
        self._layout.gather(grads, self._rows[-1])
        new = self._products_with(self._rows[-2:])
        if not np.isfinite(new).all():
            raise ValueError("weights or gradients are not finite")
        at = [self._next, self.capacity + self._next]
        self._rows[at[0]].copy_(self._rows[-2])
        self._rows[at[1]].copy_(self._rows[-1])
        self.products[:, at] = new[:-2]
        self.products[at, :] = new[:-2].T
        self.products[np.ix_(at, at)] = new[-2:]
        self._next = (self._next + 1) % self.capacity
        self._count = min(self._count + 1, self.capacity)

    def _products_with(self, two: torch.Tensor) -> NDArray[np.float64]:
        """Inner products of all rows with two of them, in float64."""
        if two.device.type == "cpu":
            return _core.cross_gram(self._rows.numpy().T, two.numpy().T)
        total = torch.zeros(len(self._rows), 2, dtype=torch.float64, device=two.device)
        for a in range(0, self._rows.shape[1], CHUNK):
            total += self._rows[:, a : a + CHUNK].double() @ two[:, a : a + CHUNK].double().T
        return total.cpu().numpy()

    def combine(
        self, order: NDArray[np.int64], coefficients: NDArray[np.float64], out: Sequence[Any]
    ) -> None:
        """Write the reference plus a combination of the weights to the tensors."""
        weights = np.zeros((self.capacity, 1))
        weights[order, 0] = coefficients
        rows = self._rows[: self.capacity]
        if rows.device.type == "cpu":
            flat = torch.from_numpy(_core.combine(rows.numpy().T, weights)[:, 0])
        else:
            flat = torch.from_numpy(weights[:, 0]).to(rows) @ rows
        self._layout.scatter(self._reference + flat, out)

    def clear(self) -> None:
        """Forget all pairs."""
        self._count = self._next = 0
        self._before = False

    def fit(self) -> tuple[GradientForecast | None, NDArray[np.float64]]:
        """Fit the generator; None while there are too few pairs."""
        if self._count < LEAST:
            return None, np.empty(0)
        order = (self._next - self._count + np.arange(self._count)) % self.capacity
        rate = float(self._optimizer.param_groups[0]["lr"])
        return GradientForecast(self, order, rate), np.empty(0)

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on with the same bits when loaded."""
        return {
            "rows": self._rows.clone(),
            "reference": self._reference.clone(),
            "products": torch.from_numpy(self.products.copy()),
            "count": self._count,
            "next": self._next,
            "before": self._before,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the pairs of another forecaster made alike."""
        self._rows.copy_(state["rows"])
        self._reference.copy_(state["reference"])
        self.products[:] = state["products"].numpy()
        self._count, self._next = int(state["count"]), int(state["next"])
        self._before = bool(state["before"])
