"""What an accelerator reports: its counters and its jumps."""

from __future__ import annotations

from dataclasses import dataclass


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
    """

    steps: int
    snapshots: int
    attempts: int
    taken: int
    refused: int
    trials: int
    seconds: float


@dataclass(frozen=True)
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
    """

    step: int
    horizon: int
    loss_before: float
    loss_after: float
    taken: bool
    reason: str
    trials: int
    seconds: float
