"""What an accelerator reports: its counters and its attempts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
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

    def to_state(self) -> dict[str, Any]:
        """As tensors, numbers, strings and lists, for checkpoints."""
        state = asdict(self)
        state["eigenvalues"] = torch.from_numpy(np.array(self.eigenvalues))
        return state | {"tried": list(self.tried), "losses": list(self.losses)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Jump:
        """Undo `to_state`."""
        return cls(
            **state
            | {
                "eigenvalues": state["eigenvalues"].numpy(),
                "tried": tuple(state["tried"]),
                "losses": tuple(state["losses"]),
            }
        )
