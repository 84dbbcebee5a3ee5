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
from koopcore.torch.trial import (
    Choice,
    RefusedJump,
    choose_horizon,
    keep_what_helps,
    losses_here,
)

LEAST_GAIN = 0.003  # of a jump by gradients: it costs the optimizer its footing
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
    harmed: bool | None = None  # what the trial said of the jump before


def attempt(
    engine: Engine,
    outcome: Outcome,
    ladder: Callable[[Forecast], Sequence[int]],
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
    forecasts = engine.fit()
    if not forecasts:
        outcome.reason = "no rule is worth a trial"
        return
    _tell(outcome, forecasts[0])
    here = losses_here(engine.trial)
    outcome.loss_before = float(here.mean())
    outcome.harmed = trust.judge(outcome.loss_before)
    if outcome.harmed and engine.roll_back():
        outcome.reason = ROLLED_BACK
        return
    engine.keep_jump()
    best: tuple[Forecast, Choice] | None = None
    for forecast in forecasts:
        choice = _climb(engine, forecast, ladder(forecast), trust, affordable, here, rung)
        outcome.tried += choice.tried
        outcome.losses += choice.losses
        outcome.loss_after = float(np.nanmin([outcome.loss_after, choice.loss_best, math.inf]))
        if choice.horizon and (best is None or choice.loss_best < best[1].loss_best):
            best = forecast, choice
    if best is None:
        if not outcome.tried:
            trust.hindered()
            outcome.loss_after = math.nan
            outcome.reason = "the first horizon is beyond the trust region or the overhead allowed"
        return
    forecast, choice = best
    _tell(outcome, forecast)
    engine.write(forecast, choice.horizon)
    outcome.loss_after = choice.loss_best
    if engine.options.by_layer:
        layers = engine.layers()
        outcome.loss_after = keep_what_helps(engine.trial, layers, choice.loss_best, affordable)
    outcome.displacement = forecast.displacement(choice.horizon / engine.every)
    outcome.forecast, outcome.horizon, outcome.reason = forecast, choice.horizon, TAKEN


def _tell(outcome: Outcome, forecast: Forecast) -> None:
    outcome.rule, outcome.eigenvalues = forecast.rule, np.array(forecast.spectrum())


def _climb(
    engine: Engine,
    forecast: Forecast,
    horizons: Sequence[int],
    trust: TrustRegion,
    affordable: Callable[[], bool],
    here: NDArray[np.float64],
    rung: int | None,
) -> Choice:
    return choose_horizon(
        engine.trial,
        lambda horizon: engine.write(forecast, horizon),
        horizons,
        lambda horizon: trust.allows(forecast.displacement(horizon / engine.every)),
        affordable,
        here,
        rung,
        LEAST_GAIN if engine.samples else 0.0,
    )


def attempt_without_trial(
    engine: Engine, outcome: Outcome, trust: TrustRegion, forced: int | None
) -> None:
    """Fill in `outcome` with the horizon that cross-validation vouches for, or a forced one.

    Raises
    ------
    RefusedJump
        The forecast is not finite.
    """
    forecasts = engine.fit()
    horizon = forced
    if forced is None:
        horizon = engine.trusted_horizon() if forecasts else 0
    if not forecasts or not horizon:
        outcome.reason = "cross-validation does not vouch for a forecast"
        return
    forecast = forecasts[0]
    _tell(outcome, forecast)
    outcome.displacement = forecast.displacement(horizon / engine.every)
    if not trust.allows(outcome.displacement):
        outcome.reason = f"the forecast {horizon} steps ahead is beyond max_displacement"
        return
    engine.write(forecast, horizon)
    if not engine.trial.is_finite():
        raise RefusedJump("forecast not finite", f"forecast {horizon} steps ahead is not finite")
    outcome.forecast, outcome.horizon = forecast, horizon
    outcome.reason = "cross-validation vouches for the forecast" if forced is None else "as asked"
