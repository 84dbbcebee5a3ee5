"""What an accelerator reports: its counters and its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AcceleratorStats:
    """What an accelerator has done so far.

    Attributes
    ----------
    steps : int
        Optimizer steps seen (steps that did not happen are not counted).
    snapshots : int
        Steps whose weights were recorded.
    attempts, taken, refused : int
        Full windows; ``attempts == taken + refused``.
    trials : int
        Evaluations of `trial_loss`, those at the present weights included.
    seconds : float
        Time spent in koopcore, trials included.
    overhead : float
        Cost of koopcore over that of training: measured, or in step-equivalents of the trials
        where `trial_cost` was given.
    """

    steps: int
    snapshots: int
    attempts: int
    taken: int
    refused: int
    trials: int
    seconds: float
    overhead: float = 0.0


@dataclass(frozen=True, eq=False)
class Jump:
    """One attempt to jump.

    Attributes
    ----------
    step : int
        Optimizer step after which the attempt was made, counted from 1.
    horizon : int
        How many optimizer steps ahead the weights were put; 0 where refused.
    loss_before : float
        Trial loss at the weights before; nan where it could not be evaluated.
    loss_after : float
        Trial loss of the best forecast, taken or not; nan where there was none.
    taken : bool
    reason : str
        Why the attempt ended as it did.
    trials : int
        Evaluations of `trial_loss` in this attempt.
    seconds : float
        Duration of this attempt.
    rule : str
        The rule that was fitted; empty where none was.
    eigenvalues : ndarray of complex128
        Spectrum of the fit per snapshot (of a partition: of a sample of its operators).
    tried, losses : tuple
        Horizons that were tried, and their trial losses.
    displacement : float
        Length of the best forecast's jump over the distance the window covered; nan: not known.
    """

    step: int
    horizon: int
    loss_before: float
    loss_after: float
    taken: bool
    reason: str
    trials: int
    seconds: float
    rule: str = ""
    eigenvalues: NDArray[np.complex128] = field(default_factory=lambda: np.empty(0, np.complex128))
    tried: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    displacement: float = float("nan")

    @property
    def rank(self) -> int:
        """Number of eigenvalues of the fit."""
        return len(self.eigenvalues)


def jumps_to_state(jumps: Sequence[Jump]) -> dict[str, Any]:
    """As numbers, strings and lists for checkpoints: a list for each field.

    The keys are the same for any number of jumps, as `torch.distributed.checkpoint` needs it.
    """
    state: dict[str, Any] = {f.name: [getattr(j, f.name) for j in jumps] for f in fields(Jump)}
    values = [np.array(eigenvalues) for eigenvalues in state.pop("eigenvalues")]
    state["eigenvalues"] = [[v.real.tolist(), v.imag.tolist()] for v in values]
    return state | {name: list(map(list, state[name])) for name in ("tried", "losses")}


def jumps_from_state(state: dict[str, Any]) -> list[Jump]:
    """Undo `jumps_to_state`."""
    jumps = []
    for row in zip(*state.values(), strict=True):
        values = dict(zip(state, row, strict=True))
        real, imaginary = values["eigenvalues"]
        values["eigenvalues"] = np.empty(len(real), np.complex128)
        values["eigenvalues"].real, values["eigenvalues"].imag = real, imaginary
        jumps.append(Jump(**values | {name: tuple(values[name]) for name in ("tried", "losses")}))
    return jumps
