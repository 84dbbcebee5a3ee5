"""plot_summary: all of a model in one figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from koopcore.plotting._common import (
    COLORS,
    is_real,
    leading,
    light_grid,
    mode_name,
    say_no_modes,
    series,
    time_label,
)
from koopcore.plotting.spectrum import (
    plot_amplitudes,
    plot_eigenvalues,
    plot_rates,
    plot_singular_values,
)
from koopcore.plotting.states import check_shape, draw_mode

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_summary(model: Any, shape: tuple[int, int] | None = None, *, modes: bool = True) -> Figure:
    """Plot all of a model in one figure.

    Singular values, eigenvalues in discrete and in continuous time, amplitudes, and the three
    largest modes with their dynamics (see `plot_dynamics`), in colours that also ring their
    eigenvalues. Forms all modes, unless told to leave them out.

    Parameters
    ----------
    model : DMD or StreamingDMD
        Fitted. Of a stream: dynamics of the 100 steps from its newest state on.
    shape : (int, int), optional
        Rows and columns of the state, for modes drawn as images. Default: lines.
    modes : bool
        Draw the modes as well as their dynamics.

    Returns
    -------
    matplotlib.figure.Figure
        A new figure.

    Raises
    ------
    ValueError
        If `shape` has another number of entries than the state.
    """
    from matplotlib import pyplot

    states = np.asarray(model.modes) if modes else None
    if states is not None:
        check_shape(shape, len(states))
    times, dynamics = series(model)
    figure = pyplot.figure(figsize=(11.0, 7.5), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.0, 1.6 if modes else 0.8))
    top, bottom = parts
    singular, discrete, continuous, amplitudes = top.subplots(1, 4)
    plot_singular_values(model, singular)
    plot_eigenvalues(model, discrete)
    plot_rates(model, continuous)
    plot_amplitudes(model, amplitudes)
    for ax in (singular, discrete, continuous, amplitudes):
        ax.xaxis.label.set_fontsize(9)
        ax.yaxis.label.set_fontsize(9)
    largest = leading(model, dynamics)[:3]
    panels = bottom.subplots(1 + modes, max(1, len(largest)), squeeze=False)
    if not len(largest):
        for ax in panels[:, 0]:
            say_no_modes(ax)
    for k, color, column in zip(largest, COLORS, panels.T, strict=False):
        above, below = column[0], column[-1]
        if states is not None:
            draw_mode(above, states[:, k].real, shape, color)
        above.set_title(mode_name(model, k), fontsize="medium")
        below.plot(times, dynamics[k].real, color=color)
        below.set(xlabel=time_label(model), ylabel=r"Re $b\,\lambda^t$")
        light_grid(below)
        _ring(model, k, color, discrete, continuous)
    return figure


def _ring(model: Any, index: int, color: str, discrete: Axes, continuous: Axes) -> None:
    """Ring an eigenvalue, and for real data its conjugate, in both planes."""
    value, growth = model.eigenvalues[index], model.growth_rate[index]
    frequency = model.frequency[index]
    signs = (1.0, -1.0) if is_real(model) and value.imag != 0.0 else (1.0,)
    for sign in signs:
        places = [(discrete, value.real, value.imag), (continuous, growth, frequency)]
        for ax, x, y in places if np.isfinite(growth) else places[:1]:
            ax.plot(x, sign * y, "o", ms=10, mfc="none", mec=color, mew=1.8, zorder=4)
