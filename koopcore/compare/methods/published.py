"""The operators of Dogra and Redman (NeurIPS 2020) as methods, one for each of their partitions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from koopcore.rules import Dynamics
from koopcore.torch import KoopmanAccelerator
from koopcore.torch.forecasts import RuleForecaster
from koopcore.torch.partition import Layout
from koopcore.torch.recorder import trained_parameters
from koopcore.torch.results import Jump
from koopcore.torch.windows import make_window

from . import after_steps
from .accelerated import AcceleratorMeter, spectra_of

if TYPE_CHECKING:
    from ..workloads import Problem

# Shares of the budget at the first and the last snapshot: 35,001 and 45,000 of the 47,500 steps of
# the paper's first experiment, which then jumps to their end.
FIRST, LAST = 0.737, 0.947
CHUNKS = {"weight": 1, "quasi-node": 10, "node": None}  # weights per operator
MEMORY = 2**30  # bytes of snapshots


class DograRedman:
    """The published method: one untried jump by ``U = F' pinv(F)`` on the raw weights.

    Scaled to the budget as in the paper's first experiment: every step from 74 % to 95 % of it is
    recorded, and the jump goes a quarter of that window ahead, to the end of the budget. Operators
    of single weights, of chunks of ten of a unit's weights and of whole units are those of
    `KoopmanAccelerator.dogra_redman`. Those of layers and of the whole network, which the paper
    draws but does not report, are too large to be formed; their powers on the last snapshot are
    the same combination of the snapshots, found from the Gram matrix (`koopcore.rules.Dynamics`,
    exact modes, nothing centred, truncated below what the Gram matrix resolves, or clipped).

    Differs from the paper, whose windows are 10,000 snapshots long, in these being as much shorter
    as the budget is, and in that training goes on after the jump. Where the snapshots of a large
    model would take more than 1 GiB, the window begins later. Nothing is tuned.

    Parameters
    ----------
    partition : str
        "weight", "quasi-node", "node", "layer" or "network": what shares an operator.
    budget : int
        Steps of the whole run.
    """

    def __init__(self, partition: str, budget: int) -> None:
        self.name = f"dogra-redman:{partition}"
        self._partition = partition
        self._last = max(3, round(LAST * budget))
        self._first = min(max(1, round(FIRST * budget)), self._last - 2)
        self._horizon = max(1, round((self._last - self._first + 1) / 4))

    @contextmanager
    def attach(self, problem: Problem, optimizer: torch.optim.Optimizer) -> Iterator[Any]:
        """Return a context in which the weights jump once."""
        size = sum(p.nbytes for group in optimizer.param_groups for p in group["params"])
        fitting = max(3, MEMORY // size)
        first = max(self._first, self._last + 1 - fitting)
        if self._partition in CHUNKS:
            with KoopmanAccelerator.dogra_redman(
                problem.model,
                optimizer,
                t1=first,
                t2=self._last,
                horizon=self._horizon,
                q=CHUNKS[self._partition],
            ) as accelerator:
                yield AcceleratorMeter(accelerator)
            return
        parameters = trained_parameters(problem.model, optimizer)
        layout = Layout(parameters, self._partition, problem.model)
        tensors = [parameters[name] for name in layout.names]
        jumper = _Jumper(layout, tensors, range(first, self._last + 1), self._horizon)
        with after_steps(optimizer, jumper.after_step):
            yield jumper


class _Jumper:
    """Records over a range of steps and jumps at the last one; also the method's meter."""

    evaluated = optimizer = None
    rule = Dynamics(affine=False, exact=True, unstable="keep")

    def __init__(
        self, layout: Layout, tensors: list[torch.Tensor], steps: range, horizon: int
    ) -> None:
        window = make_window(layout, len(steps), like=tensors, raw=True)
        rows = np.diff(layout.segments, axis=1).ravel()
        self._forecaster = RuleForecaster(window, rows, [self.rule])
        self._tensors, self._steps, self._horizon = tensors, steps, horizon
        self._step, self.seconds = 0, 0.0
        self.jumps: list[Jump] = []

    @property
    def spectra(self) -> dict[str, list[Any]]:
        return spectra_of(self.jumps)

    def after_step(self) -> None:
        """Take note of a step of the optimizer."""
        self._step += 1
        if self._step not in self._steps:
            return
        start = time.perf_counter()
        self._forecaster.push(self._tensors)
        if self._step == self._steps[-1]:
            self.jumps.append(self._jump(start))
            self._forecaster.clear()
        self.seconds += time.perf_counter() - start

    def _jump(self, start: float) -> Jump:
        """Fit, and put the weights ahead unless the forecast is not finite."""
        (forecast,) = self._forecaster.fit()
        ahead = [torch.empty_like(p) for p in self._tensors]
        forecast.write(self._horizon, ahead)
        finite = all(bool(torch.isfinite(t).all()) for t in ahead)
        if finite:
            with torch.no_grad():
                torch._foreach_copy_(self._tensors, ahead)
        return Jump(
            step=self._step,
            horizon=self._horizon if finite else 0,
            loss_before=np.nan,
            loss_after=np.nan,
            taken=finite,
            reason="as asked" if finite else "the forecast is not finite",
            trials=0,
            seconds=time.perf_counter() - start,
            rule=forecast.rule,
            eigenvalues=np.array(forecast.spectrum()),
        )
