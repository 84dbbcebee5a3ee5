"""Every predictor on every recording: the same windows, the same later weights, the same losses.

From the window that ends at a start, a predictor forecasts the weights h snapshots later. With w
the start's weights, w' the true weights h snapshots later and f the forecast, it is scored by

- relative error ``|f - w'| / |w'|``;
- error to growth ``|f - w'| / |w' - w|``: 1 for staying at w, 0 for a perfect forecast;
- loss: the training loss, and the held-out loss where there is one, at f, beside those at w and w'.

A forecast that is not finite scores infinity, and so does a loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .. import workloads
from ..environment import pinned
from .entrants import predictors
from .parameters import Parameters
from .predictors import Predictor
from .recording import Recording

TRUE = "true"  # the rule that knows the later weights
AGREE = 1e-3  # relative difference at which a loss is no longer the one recorded


@dataclass
class Outcome:
    """One predictor on one recording at one horizon; lists have one entry per start.

    Attributes
    ----------
    recording, rule : str
        The rule is "true" for the later weights themselves.
    horizon : int
        In snapshots.
    steps : int
        The same in optimizer steps.
    relative_error, error_to_growth, train_loss, heldout_loss : list of float
        `heldout_loss` is empty where the workload has none.
    """

    recording: str
    rule: str
    horizon: int
    steps: int
    relative_error: list[float] = field(default_factory=list)
    error_to_growth: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    heldout_loss: list[float] = field(default_factory=list)


def score(
    recordings: Sequence[Recording],
    rules: tuple[str, ...] | None = None,
    *,
    window: int = 10,
    horizons: tuple[int, ...] | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Outcome]:
    """Score predictors on recordings.

    Parameters
    ----------
    recordings : sequence of Recording
    rules : tuple of str, optional
        Names in `ARENA_RULES`; "stay" and "secant" always take part. Default: all.
    window : int
        Snapshots that every predictor is given.
    horizons : tuple of int, optional
        In snapshots. Default: all that a recording has.
    progress : callable, optional
        Called with 1 after every start; there are `Recording.about.starts`.

    Returns
    -------
    list of Outcome
        By recording, horizon and rule, in this order; the true weights first.

    Raises
    ------
    ValueError
        An unknown rule, a window or a horizon that a recording does not have, or a workload that
        no longer gives the recorded losses.
    """
    chosen = predictors(rules)
    names = [recording.about.name for recording in recordings]
    for recording, name in zip(recordings, names, strict=True):
        if names.count(name) > 1:
            raise ValueError(f"{name} is given {names.count(name)} times; once is needed")
        recording.require(window, horizons or ())
    found: list[Outcome] = []
    with pinned(1):
        for recording in recordings:
            found += _Bench(recording, window, horizons).score(chosen, progress)
    return found


class _Bench:
    """One recording with its workload, ready to judge forecasts."""

    def __init__(self, recording: Recording, window: int, horizons: tuple[int, ...] | None) -> None:
        self._recording, self._window = recording, window
        self._horizons = horizons or recording.about.horizons
        self._problem = workloads.load(recording.about.workload).build(recording.about.seed)
        self._parameters = Parameters(self._problem.model)
        self._parameters.require(recording.about.shapes, recording.about.name)

    def score(
        self, chosen: dict[str, Predictor], progress: Callable[[int], object] | None
    ) -> list[Outcome]:
        about = self._recording.about
        table = {
            (horizon, rule): Outcome(about.name, rule, horizon, horizon * about.every)
            for horizon in self._horizons
            for rule in (TRUE, *chosen)
        }
        for start in about.starts:
            window = self._recording.window(start, self._window)
            self._check_loss(start, window[-1])
            for horizon in self._horizons:
                true = self._recording.states[self._recording.at(start, horizon)].astype(float)
                self._judge(table[horizon, TRUE], true, true, window[-1])
                for rule, predictor in chosen.items():
                    forecast = self._forecast(rule, predictor, window, horizon)
                    self._judge(table[horizon, rule], forecast, true, window[-1])
            if progress:
                progress(1)
        return list(table.values())

    def _forecast(
        self, rule: str, predictor: Predictor, window: NDArray[np.float64], horizon: int
    ) -> NDArray[np.float64]:
        # A copy: a predictor that writes into its window must not change it for the next.
        forecast = np.asarray(predictor.forecast(window.copy(), horizon, self._parameters))
        if forecast.shape != window[-1].shape:
            raise ValueError(
                f"rule {rule!r} returned a forecast of shape {forecast.shape}; expected "
                f"{window[-1].shape}"
            )
        return forecast

    def _judge(
        self,
        outcome: Outcome,
        forecast: NDArray[np.float64],
        true: NDArray[np.float64],
        last: NDArray[np.float64],
    ) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            error = _finite(float(np.linalg.norm(forecast - true)))
        growth = float(np.linalg.norm(true - last))
        outcome.relative_error.append(error / float(np.linalg.norm(true)))
        outcome.error_to_growth.append(error / growth if growth else math.inf if error else 0.0)
        figures = self._losses(forecast)
        outcome.train_loss.append(figures["train_loss"])
        if "heldout_loss" in figures:
            outcome.heldout_loss.append(figures["heldout_loss"])

    def _losses(self, state: NDArray[np.float64]) -> dict[str, float]:
        with np.errstate(over="ignore"):
            self._parameters.write(state.astype(np.float32))
        figures = self._problem.evaluate(self._problem.model)
        return {name: _finite(value) for name, value in figures.items()}

    def _check_loss(self, start: int, state: NDArray[np.float64]) -> None:
        recorded = float(self._recording.train_loss[self._recording.at(start)])
        found = self._losses(state)["train_loss"]
        if not math.isclose(found, recorded, rel_tol=AGREE):
            raise ValueError(
                f"{self._recording.about.name}: the training loss at step {start} is {found:.6g}, "
                f"and {recorded:.6g} was recorded: the workload or its data are others now; record "
                "it again"
            )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf
