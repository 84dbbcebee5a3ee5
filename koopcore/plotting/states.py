"""Plots of states and times: modes, dynamics and forecasts."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore.plotting._common import (
    BLUE,
    COLORS,
    GREY,
    axes,
    history,
    is_real,
    leading,
    light_grid,
    mode_name,
    say_no_modes,
    series,
    time_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


DASHES = ("-", "--", "-.", ":")


def plot_dynamics(model: Any, modes: int = 3, ax: Axes | None = None) -> Axes:
    """Plot the real part of the dynamics of the largest modes over the fitted times.

    Parameters
    ----------
    model : DMD or StreamingDMD
        Fitted. Of a stream: the 100 steps from its newest state on.
    modes : int
        How many, those with the largest root mean square of ``model.dynamics``; for real data one
        of each conjugate pair.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on; times in units of `model.dt`, from 0 at the first snapshot (of a stream:
        at the newest one).

    Raises
    ------
    TypeError, ValueError
        If `modes` is not an int, at least 1.
    """
    if operator.index(modes) < 1:
        raise ValueError(f"modes={modes!r} must be at least 1, the number of modes to draw")
    ax = axes(ax)
    ax.set(xlabel=time_label(model), ylabel=r"Re $b\,\lambda^t$", title="dynamics")
    times, dynamics = series(model)
    if not len(dynamics):
        return say_no_modes(ax)
    for i, k in enumerate(leading(model, dynamics)[:modes]):
        color, dashes = COLORS[i % len(COLORS)], DASHES[i % len(DASHES)]
        ax.plot(times, dynamics[k].real, color=color, ls=dashes, label=mode_name(model, k))
    ax.legend(fontsize="small")
    return light_grid(ax)


def plot_mode(
    model: Any, index: int, shape: tuple[int, int] | None = None, ax: Axes | None = None
) -> Axes:
    """Plot the real part of one mode: a line, or an image.

    Parameters
    ----------
    model : DMD
        Fitted.
    index : int
        Which column of ``model.modes``; negative from the end.
    shape : (int, int), optional
        Rows and columns of the image whose C-order entries are the state. Default: a line.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    IndexError
        If there is no such mode.
    ValueError
        If `shape` has another number of entries than the state.
    """
    modes = np.asarray(model.modes)
    if not -modes.shape[1] <= operator.index(index) < modes.shape[1]:
        raise IndexError(f"index={index!r}: the model has {modes.shape[1]} modes")
    mode = modes[:, index].real
    check_shape(shape, len(mode))
    ax = axes(ax)
    draw_mode(ax, mode, shape)
    ax.set_title(mode_name(model, index % modes.shape[1]))
    return ax


def check_shape(shape: tuple[int, int] | None, n_features: int) -> None:
    """Refuse a shape that does not hold the state."""
    if shape is None:
        return
    if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] != n_features:
        raise ValueError(f"shape={shape!r} must be (rows, columns) with {n_features} entries")


def draw_mode(
    ax: Axes, mode: NDArray[Any], shape: tuple[int, int] | None, color: str = BLUE
) -> None:
    """Draw one mode, of shape (n_features,), as a line or an image."""
    if shape is None:
        ax.plot(np.arange(len(mode)), mode, color=color, lw=1)
        ax.set(xlabel="entry of the state", ylabel="Re mode")
        light_grid(ax)
        return
    size = float(np.abs(mode).max()) or 1.0
    image = ax.imshow(mode.reshape(shape), cmap="RdBu_r", vmin=-size, vmax=size)
    ax.set(xlabel="column", ylabel="row")
    ax.figure.colorbar(image, ax=ax, label="Re mode", fraction=0.046, pad=0.04)


def plot_forecast(
    model: Any,
    horizon: int,
    entries: int | Sequence[int] = 0,
    level: float = 0.9,
    ax: Axes | None = None,
) -> Axes:
    """Plot the past of some entries of the state, their forecast and its band.

    Parameters
    ----------
    model : DMD
        Fitted. Where it has ``snapshots``, of shape (n_features, n_snapshots), they are the past;
        where it has ``forecast_interval(horizons, level)``, that is the band.
    horizon : int
        Steps to forecast, at least 1. Forms (horizon + 1) states.
    entries : int or sequence of int
        Which entries of the state.
    level : float
        Probability that the band is meant to hold, between 0 and 1.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on; time 0 is the last snapshot. Complex data: real parts.

    Raises
    ------
    TypeError, ValueError
        If `horizon` is not an int, at least 1.
    IndexError
        If the state has no such entry.
    """
    if operator.index(horizon) < 1:
        raise ValueError(f"horizon={horizon!r} must be at least 1, the steps to forecast")
    rows = np.atleast_1d(entries)
    horizons = np.arange(horizon + 1)
    future = _rows(model.forecast(horizons), rows)
    band = getattr(model, "forecast_interval", None) if is_real(model) else None
    bounds = [] if band is None else [_rows(b, rows) for b in band(horizons, level=level)]
    past = history(model)
    ax = axes(ax)
    for i, row in enumerate(rows):
        color = COLORS[i % len(COLORS)]
        if past is not None:
            seen = np.real(past[row])
            times = model.dt * np.arange(1 - len(seen), 1)
            ax.plot(times, seen, color=color, lw=1.4, label=f"entry {row}")
        label = None if past is not None else f"entry {row}"
        ax.plot(model.dt * horizons, future[i], color=color, lw=1.4, ls="--", label=label)
        if bounds:
            ax.fill_between(
                model.dt * horizons, bounds[0][i], bounds[1][i], color=color, alpha=0.2, lw=0
            )
    ax.axvline(0.0, color=GREY, lw=0.8, ls=":")
    title = f"forecast with its {100 * level:g} % band" if bounds else "forecast"
    ax.set(xlabel="time after the last snapshot", ylabel="state", title=title)
    ax.legend(fontsize="small")
    return light_grid(ax)


def _rows(states: ArrayLike, rows: NDArray[Any]) -> NDArray[np.float64]:
    return np.real(np.asarray(states)[rows])
