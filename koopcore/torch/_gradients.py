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

    def __init__(self, owner: GradientForecaster, rate: float) -> None:
        self._owner, self._rate = owner, rate
        change = owner.differences()
        self._gram = change @ owner.steps @ change.T
        cross = change @ owner.turns @ change.T
        lengths = np.sqrt(np.maximum(np.diag(self._gram), 0.0))
        lengths[lengths == 0.0] = 1.0
        squares, right = _eigh(self._gram / np.outer(lengths, lengths))
        kept = squares > RESOLVED * max(squares[-1], 0.0)
        # Rows orthonormal in the space of the weights, as combinations of the differences.
        basis = (right[:, kept] / np.sqrt(squares[kept])).T / lengths
        operator = basis @ cross @ basis.T
        self._values, vectors = _eigh((operator + operator.T) / 2.0)
        self._directions = vectors.T @ basis
        self._slopes = self._directions @ (change @ owner.slopes())

    def coefficients(self, horizon: float) -> NDArray[np.float64]:
        """Coefficients on the snapshots, oldest first, shape (1, m); they sum to 1.

        Parameters
        ----------
        horizon : float
            Length of the step, in time constants of the steepest direction.
        """
        on_differences = self._on_differences(horizon)
        return np.append(on_differences, 1.0 - on_differences.sum())[None]

    def _on_differences(self, horizon: float) -> NDArray[np.float64]:
        """Coefficients on the differences of the other snapshots from the newest."""
        if not len(self._values):
            return np.zeros(len(self._gram))
        curvature = np.abs(self._values)
        damped = curvature + curvature.max() / horizon
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.where(damped > 0.0, self._slopes / damped, 0.0)
        return -steps @ self._directions

    def write(self, horizon: float, out: Sequence[torch.Tensor]) -> None:
        """Write the forecast into `out`."""
        self._owner.combine(self._on_differences(horizon), out)

    def displacement(self, horizon: float) -> float:
        """Distance from the newest snapshot over that from the oldest to the newest."""
        moved = self._on_differences(horizon)
        travelled = self._gram[0, 0]
        return (
            float(np.sqrt(max(moved @ self._gram @ moved, 0.0) / travelled))
            if travelled
            else np.nan
        )

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

        def rows(count: int) -> torch.Tensor:
            return torch.zeros(count, layout.size, dtype=dtype, device=like.device)

        # A ring of changes from pair to pair, of weights and of gradients: their inner products
        # keep the digits of the last, small steps however far the run has come.
        self._weight_changes, self._gradient_changes = rows(capacity - 1), rows(capacity - 1)
        self._newest, self._coming = rows(2), rows(2)  # weights, gradient
        self._change, self._flat = rows(2), rows(1)[0]
        self._coming_views = [layout.views(row) for row in self._coming]
        self._flat_views = layout.views(self._flat)
        self._weight_products = np.zeros((capacity - 1, capacity - 1))
        self._mixed_products = np.zeros((capacity - 1, capacity - 1))
        self._count = self._next = 0
        self._before = False  # whether the weights before the coming step are held

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Memory of the changes, the newest pair and the coming one."""
        return sum(tensor.nbytes for tensor in self._tensors())

    def _tensors(self) -> tuple[torch.Tensor, ...]:
        changes = (self._weight_changes, self._gradient_changes)
        return (*changes, self._newest, self._coming, self._change)

    @torch.no_grad()
    def before_step(self) -> None:
        """Take the weights that the coming step's gradient will belong to."""
        torch._foreach_copy_(self._coming_views[0], self._layout.sources(self._parameters))
        self._before = True

    @torch.no_grad()
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
        torch._foreach_copy_(self._coming_views[1], self._layout.sources(grads))
        torch.sub(self._coming, self._newest, out=self._change)
        new = _products(self._change, self._change)
        if not np.isfinite(new).all():
            raise ValueError("weights or gradients are not finite")
        if self._count:
            self._append(new)
        self._newest.copy_(self._coming)
        self._count = min(self._count + 1, self.capacity)

    def _append(self, new: NDArray[np.float64]) -> None:
        """Put the change in the ring, with its inner products."""
        at, (step, turn) = self._next, self._change
        self._weight_changes[at].copy_(step)
        self._gradient_changes[at].copy_(turn)
        with_both = _products(self._weight_changes, self._change)
        self._weight_products[:, at] = self._weight_products[at] = with_both[:, 0]
        self._mixed_products[:, at] = with_both[:, 1]
        self._mixed_products[at] = _products(self._gradient_changes, self._change[:1])[:, 0]
        self._weight_products[at, at], self._mixed_products[at, at] = new[0]
        self._next = (at + 1) % (self.capacity - 1)

    @property
    def _order(self) -> NDArray[np.int64]:
        """Places of the changes in the ring, oldest first."""
        changes = max(self._count - 1, 0)
        return (self._next - changes + np.arange(changes)) % (self.capacity - 1)

    @property
    def steps(self) -> NDArray[np.float64]:
        """Gram matrix of the changes of the weights, oldest first."""
        return self._weight_products[np.ix_(self._order, self._order)]

    @property
    def turns(self) -> NDArray[np.float64]:
        """Inner products of the changes of the weights with those of the gradients."""
        return self._mixed_products[np.ix_(self._order, self._order)]

    def slopes(self) -> NDArray[np.float64]:
        """Inner products of the changes of the weights with the newest gradient."""
        return _products(self._weight_changes, self._newest[1:])[self._order, 0]

    def differences(self) -> NDArray[np.float64]:
        """Differences of the other weights from the newest ones, as sums of changes."""
        changes = len(self._order)
        return -np.triu(np.ones((changes, changes)))

    @torch.no_grad()
    def combine(self, on_differences: NDArray[np.float64], out: Sequence[torch.Tensor]) -> None:
        """Write the newest weights plus a combination of differences to the tensors."""
        weights = np.zeros(self.capacity - 1)
        weights[self._order] = on_differences @ self.differences()
        # In the precision of the rows: what is rounded is the jump, not the weights.
        torch.mv(
            self._weight_changes.t(), torch.from_numpy(weights).to(self._newest), out=self._flat
        )
        self._flat += self._newest[0]
        torch._foreach_copy_(self._layout.sources(out), self._flat_views)

    def clear(self) -> None:
        """Forget all pairs."""
        self._count = self._next = 0
        self._before = False

    def fit(self) -> list[GradientForecast]:
        """Fit the generator; nothing while there are too few pairs."""
        if self._count < LEAST:
            return []
        return [GradientForecast(self, float(self._optimizer.param_groups[0]["lr"]))]

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on with the same bits when loaded."""
        return {
            "tensors": [tensor.clone() for tensor in self._tensors()],
            "products": [
                torch.from_numpy(products.copy())
                for products in (self._weight_products, self._mixed_products)
            ],
            "count": self._count,
            "next": self._next,
            "before": self._before,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the pairs of another forecaster made alike."""
        for tensor, saved in zip(self._tensors(), state["tensors"], strict=True):
            tensor.copy_(saved)
        self._weight_products[:], self._mixed_products[:] = (p.numpy() for p in state["products"])
        self._count, self._next = int(state["count"]), int(state["next"])
        self._before = bool(state["before"])


def _products(rows: torch.Tensor, others: torch.Tensor) -> NDArray[np.float64]:
    """Inner products of all rows with all others, in float64."""
    if rows.device.type == "cpu":
        return _core.cross_gram(rows.numpy().T, others.numpy().T)
    total = torch.zeros(len(rows), len(others), dtype=torch.float64, device=rows.device)
    for a in range(0, rows.shape[1], CHUNK):
        total += rows[:, a : a + CHUNK].double() @ others[:, a : a + CHUNK].double().T
    return total.cpu().numpy()


def _eigh(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenpairs by torch, with the threads that training has.

    NumPy's BLAS would start threads of its own for matrices this small, and they would wait for
    each other longer than they work wherever training keeps the cores busy.
    """
    values, vectors = torch.linalg.eigh(torch.from_numpy(matrix))
    return values.numpy(), vectors.numpy()
