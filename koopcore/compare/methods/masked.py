"""PDT: forecasts of the weights by dynamic mode decomposition, taken where a mask allows it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import parameters_to_vector

from koopcore._base import FitOptions
from koopcore._problem import Problem as Snapshots
from koopcore._problem import fit
from koopcore.torch.partition import Layout
from koopcore.torch.results import Jump
from koopcore.torch.windows import Window, make_window

from . import after_steps
from .accelerated import spectra_of
from .controls import reset

if TYPE_CHECKING:
    from ..workloads import Problem

HISTORY, AHEAD = 5, 5  # the paper's h and tau: snapshots per fit, and how many ahead it forecasts
OPTIONS = FitOptions.checked(rank="svht", exact=False, unstable="keep")


class PDT:
    """Predictive Differential Training (ICLR 2026, openreview.net/forum?id=zSTgrLkpRi).

    The weights are recorded at the end of every epoch. From the fifth epoch on, the operator of
    the last five snapshots (dynamic mode decomposition of the raw weights, projected modes, rank
    by the optimal hard threshold of Gavish and Donoho) forecasts them five epochs ahead of the
    last snapshot, while the optimizer goes one. A weight takes its forecast where

    - the forecast moves it farther than the optimizer did in its epoch, and at most five times as
      far, and
    - all five steps of the forecast lie on the side to which the optimizer moved it;

    the others stay where the optimizer put them. No loss is asked.

    Where the description leaves something open, this is the reading taken. The forecast is the last
    snapshot plus ``Re(Phi (Lambda^k - 1) Phi^+ w)``, as in the authors' program, so that what the
    modes do not reach stays. The mask is that of the paper; the program's asks the last of the five
    steps for its side only, and allows six times the optimizer's distance. Every epoch brings a
    forecast, and tau stays 5: the scheduler that changes both when the training loss rises is part
    of the authors' program for several devices only. The optimizer's state is kept, but for the
    history of L-BFGS, which does not outlive a jump.

    The paper's epochs are passes through large training sets. Here an epoch is a number of steps
    that is tuned, so that the method can also act on full batches, whose epochs are single steps.

    Parameters
    ----------
    every : int
        Optimizer steps that stand for an epoch.
    """

    def __init__(self, every: int) -> None:
        self.name = f"pdt:{every:d}"
        self._every = every

    @contextmanager
    def attach(self, problem: Problem, optimizer: torch.optim.Optimizer) -> Iterator[_Predictor]:
        """Return a context in which forecasts follow the optimizer."""
        predictor = _Predictor(optimizer, self._every)
        with after_steps(optimizer, predictor.after_step):
            yield predictor


def displacements(
    window: Window, last: torch.Tensor, horizons: Sequence[int]
) -> tuple[torch.Tensor, NDArray[np.complex128]]:
    """Return how far forecasts lie from the last snapshot, and the eigenvalues of the fit.

    Parameters
    ----------
    window : Window
        Of flat snapshots, with their own inner products (``raw``).
    last : torch.Tensor of shape (n,)
        The last of them.
    horizons : sequence of int
        Snapshots ahead.

    Returns
    -------
    torch.Tensor of shape (len(horizons), n)
    ndarray of shape (rank,)
    """
    core = fit(Snapshots(window.grams()[0], n_features=len(last)), OPTIONS).core
    start = core.spectral_coordinates()[:, -1]
    growth = core.eigenvalues[:, None] ** np.asarray(horizons) - 1.0
    # Modes are combinations of the snapshots, so that only their combination has to be formed.
    coefficients = (core.mode_coefficients() @ (growth * start[:, None])).real
    ahead = last.new_empty(len(horizons), len(last))
    for of_one, out in zip(coefficients.T, ahead, strict=True):
        window.combine(np.ascontiguousarray(of_one)[None], [out])
    return ahead, core.eigenvalues


def mask(ahead: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """Return which weights take their forecast.

    Parameters
    ----------
    ahead : torch.Tensor of shape (tau, n)
        Displacements of the forecast, 1 to tau epochs ahead.
    moved : torch.Tensor of shape (n,)
        That of the optimizer in one epoch.

    Returns
    -------
    torch.Tensor of shape (n,), bool
    """
    agree = (torch.sign(ahead) == torch.sign(moved)).all(dim=0)
    far, step = ahead[-1].abs(), moved.abs()
    return agree & (step < far) & (far <= len(ahead) * step)


class _Predictor:
    """Records and forecasts in the hook of the optimizer's step; also the method's meter."""

    evaluated = optimizer = None

    def __init__(self, optimizer: torch.optim.Optimizer, every: int) -> None:
        self._given, self._every, self._step = optimizer, every, 0
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._last = self._weights()
        layout = Layout({"weights": self._last})
        self._window = make_window(layout, HISTORY, like=[self._last], raw=True)
        self._window.push([self._last])
        self.jumps: list[Jump] = []

    @property
    def seconds(self) -> float:
        """Time of the forecasts; that of recording is not in it."""
        return sum(jump.seconds for jump in self.jumps)

    @property
    def spectra(self) -> dict[str, list[Any]]:
        return spectra_of(self.jumps)

    def after_step(self) -> None:
        """Take note of a step of the optimizer; at the end of an epoch, forecast and record."""
        self._step += 1
        if self._step % self._every:
            return
        weights = self._weights()
        if not bool(torch.isfinite(weights).all()):
            return  # the run has diverged, which is not for us to report
        if len(self._window) == HISTORY:
            weights = self._predict(weights)
        self._last = weights
        self._window.push([weights])

    @torch.no_grad()
    def _weights(self) -> torch.Tensor:
        return parameters_to_vector(self._parameters)

    @torch.no_grad()
    def _predict(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the weights with those forecasts that the mask allows, written to the model."""
        start = time.perf_counter()
        ahead, eigenvalues = displacements(self._window, self._last, range(1, AHEAD + 1))
        chosen = mask(ahead, weights - self._last)
        share = float(chosen.double().mean())
        if share:
            weights = torch.where(chosen, self._last + ahead[-1], weights)
            for p, view in zip(self._parameters, self._split(weights), strict=True):
                p.copy_(view.view_as(p))
            if isinstance(self._given, torch.optim.LBFGS):
                reset(self._given)
        self.jumps.append(
            Jump(
                step=self._step,
                horizon=(AHEAD - 1) * self._every if share else 0,
                loss_before=np.nan,
                loss_after=np.nan,
                taken=share > 0,
                reason=f"the mask lets {share:.1%} of the weights jump",
                trials=0,
                seconds=time.perf_counter() - start,
                rule="pdt",
                eigenvalues=eigenvalues,
            )
        )
        return weights

    def _split(self, weights: torch.Tensor) -> Sequence[torch.Tensor]:
        return weights.split([p.numel() for p in self._parameters])
