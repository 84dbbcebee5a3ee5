"""One attempt: fit the window, try forecasts, say which of them to take. Nothing is written yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from koopcore.torch._engine import Engine
from koopcore.torch.forecasts import Forecast
from koopcore.torch.policy import TrustRegion
from koopcore.torch.trial import RefusedJump, choose_horizon, keep_what_helps, losses_here

REFUSED = "no forecast lowers the trial loss"
ROLLED_BACK = "the last jump has done harm: back to before it"
TAKEN = "the forecast lowers the trial loss"


@dataclass
class Outcome:
    """What came of an attempt; `forecast` and a `horizon` above 0 where it is to be taken."""

    reason: str = REFUSED
    horizon: int = 0
    loss_before: float = math.nan
    loss_after: float = math.nan
    forecast: Forecast | None = None
    rule: str = ""
    eigenvalues: NDArray[np.complex128] = field(default_factory=lambda: np.empty(0, np.complex128))
    tried: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    displacement: float = math.nan


def attempt(
    engine: Engine,
    outcome: Outcome,
    horizons: Sequence[int],
    rung: int | None,
    trust: TrustRegion,
    affordable: Callable[[], bool],
) -> None:
    """Fill in `outcome`; what is known when an exception leaves it, is in it.

    Raises
    ------
    RefusedJump
        A trial failed or gave no finite loss.
    """
    forecast, _ = engine.fit()
    if forecast is None:
        outcome.reason = "cross-validation finds no rule better than staying"
        return
    outcome.rule, outcome.eigenvalues = forecast.rule, np.array(forecast.spectrum())

    def length(horizon: int) -> float:
        return forecast.displacement(horizon / engine.every)

    here = losses_here(engine.trial)
    outcome.loss_before = float(here.mean())
    if trust.judge(outcome.loss_before) and engine.roll_back():
        outcome.reason = ROLLED_BACK
        return
    engine.keep_jump()
    choice = choose_horizon(
        engine.trial,
        lambda horizon: engine.write(forecast, horizon),
        horizons,
        lambda horizon: trust.allows(length(horizon)),
        affordable,
        here,
        rung,
    )
    outcome.loss_after, outcome.tried, outcome.losses = (
        choice.loss_best,
        choice.tried,
        choice.losses,
    )
    if not choice.horizon:
        if not choice.tried:
            trust.hindered()
            outcome.reason = "the first horizon is beyond the trust region or the overhead allowed"
        return
    engine.write(forecast, choice.horizon)
    if engine.options.by_layer:
        layers = engine.layers()
        outcome.loss_after = keep_what_helps(engine.trial, layers, choice.loss_best, affordable)
    outcome.displacement = length(choice.horizon)
    outcome.forecast, outcome.horizon, outcome.reason = forecast, choice.horizon, TAKEN


def attempt_without_trial(
    engine: Engine, outcome: Outcome, trust: TrustRegion, forced: int | None
) -> None:
    """Fill in `outcome` with the horizon that cross-validation vouches for, or a forced one.

    Raises
    ------
    RefusedJump
        The forecast is not finite.
    """
    forecast, _ = engine.fit()
    horizon = forced
    if forced is None:
        horizon = 0 if forecast is None else engine.trusted_horizon()
    if forecast is None or not horizon:
        outcome.reason = "cross-validation does not vouch for a forecast"
        return
    outcome.rule, outcome.eigenvalues = forecast.rule, np.array(forecast.spectrum())
    outcome.displacement = forecast.displacement(horizon / engine.every)
    if not trust.allows(outcome.displacement):
        outcome.reason = f"the forecast {horizon} steps ahead is beyond max_displacement"
        return
    engine.write(forecast, horizon)
    if not engine.trial.is_finite():
        raise RefusedJump("forecast not finite", f"forecast {horizon} steps ahead is not finite")
    outcome.forecast, outcome.horizon = forecast, horizon
    outcome.reason = "cross-validation vouches for the forecast" if forced is None else "as asked"
