"""A bare training run with its weights after chosen steps and the time of every step.

What keeping the weights costs is outside the clock: the paper charges its forecasts against bare
optimizer steps, so bare steps is what is timed. All seconds of the paper's experiments are those
that one thread computes, on which other work on the machine has little influence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

TICK = 100  # steps between two calls of `progress`


@dataclass(frozen=True)
class Protocol:
    """Snapshots after the steps `first` to `last`, and a forecast `horizon` steps beyond."""

    first: int
    last: int
    horizon: int

    @property
    def steps(self) -> int:
        """Optimizer steps of one network."""
        return self.last + self.horizon

    @property
    def snapshots(self) -> int:
        """Number of snapshots."""
        return self.last - self.first + 1

    def at(self, share: float) -> Protocol:
        """Return the protocol shrunk to a share of all its steps: the same, earlier."""
        last = round(share * self.last)
        return Protocol(
            last - max(2, round(share * self.snapshots)) + 1,
            last,
            max(1, round(share * self.horizon)),
        )

    def kept(self) -> set[int]:
        """Return the steps whose weights the forecast and its judgement need."""
        return {*range(self.first, self.last + 1), self.steps}


@dataclass(frozen=True)
class Record:
    """The weights after some steps of a run.

    Attributes
    ----------
    steps : integer array of shape (k,)
        Rising; 0 is before the first.
    states : array of shape (k, n), float32
        All parameters, flat, in the order of ``model.parameters()``.
    seconds : array of shape (steps,)
        Of every optimizer step of the run, the first one first.
    """

    steps: NDArray[np.int64]
    states: NDArray[np.float32]
    seconds: NDArray[np.float64]

    def window(self, protocol: Protocol) -> NDArray[np.float32]:
        """Return the snapshots that a protocol fits, in rows."""
        start, stop = np.searchsorted(self.steps, [protocol.first, protocol.last + 1])
        found = self.states[start:stop]
        if len(found) != protocol.snapshots:
            raise ValueError(f"{protocol} needs {protocol.snapshots} snapshots, kept: {len(found)}")
        return found

    def state(self, step: int) -> NDArray[np.float32]:
        """Return the weights after `step`."""
        place = int(np.searchsorted(self.steps, step))
        if place == len(self.steps) or self.steps[place] != step:
            raise ValueError(f"the weights after step {step} were not kept")
        return self.states[place]

    def elapsed(self, after: int, until: int) -> float:
        """Return the seconds of the optimizer steps ``after + 1`` to ``until``.

        Each is charged the median of them, so that a burst of other work does not count.
        """
        return (until - after) * float(np.median(self.seconds[after:until]))


def train(
    model: torch.nn.Module,
    step: Callable[[], Any],
    steps: int,
    kept: Iterable[int],
    progress: Callable[[int], Any] | None = None,
) -> Record:
    """Call `step` so many times; keep the weights after the steps `kept`.

    Parameters
    ----------
    model : torch.nn.Module
    step : callable
        One optimizer step of the model, batch included.
    steps : int
    kept : iterable of int
        Between 0 and `steps`.
    progress : callable, optional
        Called with the number of steps done since its last call.
    """
    wanted = np.unique(np.fromiter(kept, np.int64))
    parameters = list(model.parameters())
    states = np.empty((len(wanted), sum(p.numel() for p in parameters)), np.float32)
    seconds, place = np.empty(steps), 0
    for i in range(steps + 1):
        if i:
            start = process_time()
            step()
            seconds[i - 1] = process_time() - start
        if place < len(wanted) and wanted[place] == i:
            _flatten(parameters, states[place])
            place += 1
        if progress and i and (i % TICK == 0 or i == steps):
            progress((i - 1) % TICK + 1)
    return Record(wanted, states, seconds)


def _flatten(parameters: list[torch.nn.Parameter], out: NDArray[np.float32]) -> None:
    start = 0
    for parameter in parameters:
        stop = start + parameter.numel()
        out[start:stop] = parameter.detach().numpy().ravel()
        start = stop
