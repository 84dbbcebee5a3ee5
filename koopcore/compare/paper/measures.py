"""What a forecast is judged by, in both experiments, and the plain rules it has to beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore import GroupedDMD
from koopcore.torch._scheduled import ScheduledDynamics

from .operators import Array, Places
from .training import Protocol, Record

THINNED = 100  # snapshots that koopcore's rules are given, evenly taken, the last one included
VARIANTS: dict[str, dict[str, Any]] = {
    "identity": {},
    "affine": {"affine": True},
    "2 delays": {"delays": 2},
    "affine, 2 delays": {"affine": True, "delays": 2},
}


def error_to_growth(predicted: Array, true: Array, last: Array) -> float:
    """Return median |predicted - true| / median |true - last|; infinity if it is not a number."""
    true, last = true.astype(np.float64), last.astype(np.float64)  # as precise as the forecast
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.abs(predicted - true)
    growth = float(np.median(np.abs(true - last)))
    if growth == 0.0 or not np.isfinite(errors).all():
        return math.inf
    return float(np.median(errors)) / growth


def secant(window: NDArray, horizons: Sequence[int]) -> Array:
    """Return last + h (last - first) / (m - 1), shape (horizons, n)."""
    first, last = window[0].astype(np.float64), window[-1].astype(np.float64)
    return last + np.outer(horizons, (last - first) / (len(window) - 1))


def mean(window: NDArray, horizons: Sequence[int]) -> Array:
    """Return the average of the window, the same for every horizon."""
    return np.tile(window.mean(0, dtype=np.float64), (len(horizons), 1))


def thinned(window: NDArray) -> tuple[NDArray, int]:
    """Return at most `THINNED` evenly taken snapshots that end with the last, and their stride."""
    stride = max(1, len(window) // THINNED)
    return window[::-stride][:THINNED][::-1], stride


def grouped(
    window: NDArray, groups: Sequence[Places], horizons: Sequence[float], **options: Any
) -> Array:
    """Return the forecasts of `koopcore.GroupedDMD` from the thinned window, (horizons, n)."""
    snapshots, stride = thinned(window)
    sizes = [part.shape[1] for part in groups for _ in part]
    stops = np.cumsum(sizes)
    order = np.concatenate([part.ravel() for part in groups])
    model = GroupedDMD(**options, n_threads=1).fit(
        np.ascontiguousarray(snapshots.T[order], np.float64),
        segments=np.column_stack([stops - sizes, stops]),
    )
    states = np.empty((len(horizons), len(order)))
    states[:, order] = np.asarray(model.forecast([h / stride for h in horizons])).T
    return states


def averaged(window: NDArray, groups: Sequence[Places], horizons: Sequence[float]) -> Array:
    """Return what `grouped`, affine, makes of averages of successive snapshots, (horizons, n)."""
    stride = max(1, len(window) // THINNED)
    count = min(THINNED, len(window) // stride)
    blocks = window[len(window) - count * stride :].reshape(count, stride, -1)
    means = blocks.mean(1, dtype=np.float64)
    # the newest average stands for the middle of its steps
    shifted = [(h + (stride - 1) / 2) / stride for h in horizons]
    return grouped(means, groups, shifted, affine=True)


def scheduled(
    window: NDArray,
    groups: Sequence[Places],
    rates: NDArray[np.float64],
    horizon: float,
) -> Array:
    """Return the forecast of koopcore's rules with ``control="lr"``, shape (n,).

    Parameters
    ----------
    window : array of shape (m, n)
    groups : list of integer arrays of shape (groups, d)
    rates : array of shape (m - 1,)
        The learning rates of the steps between successive snapshots.
    horizon : float
        Steps ahead at the last rate.
    """
    snapshots, stride = thinned(window)
    used = rates[len(rates) - (len(snapshots) - 1) * stride :]
    sums = used.reshape(-1, stride).sum(1)
    rule = ScheduledDynamics(sums, float(rates[-1]) * stride)
    state = window[-1].astype(np.float64)
    for row in (row for part in groups for row in part):
        data = snapshots[:, row].astype(np.float64)
        state[row] = data.T @ rule.coefficients(data @ data.T, horizon / stride)
    return state


def end_to_end(protocol: Protocol) -> float:
    """Return all steps over those left when the forecast replaces the last ones: 1.056 at most."""
    return protocol.steps / protocol.last


def end_to_end_seconds(record: Record, protocol: Protocol, work: float) -> float:
    """Return the time of training to the forecast step over that of the window, fit and forecast.

    Every step is charged the mean of all, so that a machine that slows down midway does not count.

    Parameters
    ----------
    record : Record
    protocol : Protocol
    work : float
        Seconds of the fit and the forecast. What keeping the snapshots costs is not in it.
    """
    total = record.elapsed(0, protocol.steps)
    return total / (total * protocol.last / protocol.steps + work)


def finite(value: float) -> float:
    """Return a loss, infinity if it is not a number."""
    return value if math.isfinite(value) else math.inf
