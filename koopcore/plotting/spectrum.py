"""Plots of the numbers of a fit: eigenvalues, singular values, amplitudes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from koopcore.plotting._common import (
    BLUE,
    GREY,
    axes,
    first_amplitudes,
    is_real,
    light_grid,
    one_of_each_pair,
    say_no_modes,
    unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_eigenvalues(model: Any, ax: Axes | None = None) -> Axes:
    """Plot the discrete-time eigenvalues in the complex plane, with the unit circle.

    Parameters
    ----------
    model : DMD or WindowDMD
        Fitted. Where it has ``residuals()``, of shape (r,), they colour the eigenvalues; those
        that are not known, NaN, are hollow.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.
    """
    ax = axes(ax)
    angle = np.linspace(0.0, 2.0 * np.pi, 361)
    ax.plot(np.cos(angle), np.sin(angle), color=GREY, lw=1, zorder=1)
    ax.axhline(0.0, color=GREY, lw=0.4, zorder=0)
    ax.axvline(0.0, color=GREY, lw=0.4, zorder=0)
    ax.set(xlabel=r"Re $\lambda$", ylabel=r"Im $\lambda$", title="eigenvalues")
    ax.set_aspect("equal", adjustable="datalim")
    values = model.eigenvalues
    if not len(values):
        return say_no_modes(ax)
    residuals = np.full(len(values), np.nan)
    if hasattr(model, "residuals"):
        residuals = np.asarray(model.residuals(), dtype=np.float64)
    known = np.isfinite(residuals)
    if known.any():
        _colored(ax, values[known], residuals[known])
    face = "none" if known.any() else BLUE
    unknown = values[~known]
    ax.scatter(unknown.real, unknown.imag, s=28, facecolors=face, edgecolors="black", lw=0.6)
    return ax


def _colored(ax: Axes, values: NDArray[Any], residuals: NDArray[np.float64]) -> None:
    """Draw eigenvalues in the colours of their residuals, on a log scale of its own."""
    from matplotlib.colors import LogNorm

    # A residual of 0 has no logarithm: to double precision it is eps.
    shown = np.maximum(residuals, np.finfo(np.float64).eps)
    low, high = float(shown.min()), float(shown.max())
    if high < 10.0 * low:  # less than a decade: a scale with one tick, or none
        low, high = low / 3.0, high * 3.0
    points = ax.scatter(
        values.real,
        values.imag,
        c=shown,
        norm=LogNorm(low, high),
        cmap="viridis",
        s=28,
        edgecolors="black",
        lw=0.6,
        zorder=3,
    )
    ax.figure.colorbar(points, ax=ax, label="residual", fraction=0.046, pad=0.04)


def plot_rates(model: Any, ax: Axes | None = None) -> Axes:
    """Plot the continuous-time eigenvalues: frequencies over growth rates.

    Parameters
    ----------
    model : DMD or WindowDMD
        Fitted. Eigenvalues 0, whose growth rate is -inf, are counted in a note instead.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on; rates and cycles per unit of `model.dt`.
    """
    ax = axes(ax)
    ax.axvline(0.0, color=GREY, lw=1, zorder=1)
    ax.set(xlabel=f"growth rate (1 / {unit(model)})", title="continuous time")
    ax.set_ylabel(f"frequency (cycles / {unit(model)})")
    growth = model.growth_rate
    if not len(growth):
        return say_no_modes(ax)
    finite = np.isfinite(growth)
    ax.scatter(
        growth[finite], model.frequency[finite], s=28, color=BLUE, edgecolors="black", lw=0.6
    )
    ax.margins(0.12)
    if not finite.all():
        note = f"eigenvalue 0 not shown: {np.count_nonzero(~finite)}"
        ax.annotate(note, (0.03, 0.03), xycoords="axes fraction", fontsize="small")
    return light_grid(ax)


def plot_singular_values(model: Any, ax: Axes | None = None) -> Axes:
    """Plot the singular values of the snapshots over the largest, and the rank of the fit.

    Parameters
    ----------
    model : DMD or WindowDMD
        Fitted.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on; its scale is logarithmic.
    """
    from matplotlib.ticker import MaxNLocator

    ax = axes(ax)
    ax.set(xlabel="index", ylabel="singular value / largest", title="singular values")
    values = model.singular_values
    if not len(values) or not values[0] > 0.0:
        return say_no_modes(ax)
    rank = len(model.eigenvalues)
    index = np.arange(1, len(values) + 1)
    relative = np.where(values > 0.0, values / values[0], np.nan)  # 0 has no place on a log scale
    ax.set_yscale("log")
    ax.plot(index[:rank], relative[:rank], "o", color=BLUE, ms=4, label="kept")
    ax.plot(index[rank:], relative[rank:], "o", color=GREY, mfc="none", ms=4, label="dropped")
    ax.axvline(rank + 0.5, color="black", ls="--", lw=0.8)
    ax.set_xlim(0.0, len(values) + 1.0)
    ax.set_ylim(min(0.1, 0.5 * float(np.nanmin(relative))), 2.0)  # a decade at least
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.legend(title=f"rank {rank}", frameon=False)
    return light_grid(ax)


def plot_amplitudes(model: Any, ax: Axes | None = None) -> Axes:
    """Plot the moduli of the amplitudes against the frequencies.

    Parameters
    ----------
    model : DMD
        Fitted. For real data one of each conjugate pair is drawn, at its positive frequency.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on; frequencies in cycles per unit of `model.dt`.
    """
    ax = axes(ax)
    ax.set(
        xlabel=f"frequency (cycles / {unit(model)})", ylabel=r"amplitude $|b|$", title="amplitudes"
    )
    if not len(model.eigenvalues):
        return say_no_modes(ax)
    chosen = one_of_each_pair(model)
    frequency = model.frequency[chosen]
    if is_real(model):  # -0.6 - 0.0j is at minus the Nyquist frequency
        frequency = np.abs(frequency)
    drawn = ax.stem(frequency, first_amplitudes(model)[chosen], basefmt=" ")
    drawn.markerline.set(color=BLUE, markersize=5)
    drawn.stemlines.set(color=BLUE, linewidth=1.2)
    ax.set_ylim(bottom=0.0)
    ax.margins(x=0.08)
    return light_grid(ax)
