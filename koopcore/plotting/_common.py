"""What the plots share: colours, which modes to draw, and how to name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


BLUE, GREY = "#0072B2", "#8C8C8C"
AHEAD = 100  # steps from the newest state of a stream that its dynamics are drawn for
COLORS = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def axes(ax: Axes | None) -> Axes:
    """Return the axes to draw on: pyplot is touched only where none are given."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(layout="constrained")[1]


def say_no_modes(ax: Axes) -> Axes:
    """Say in the middle of the axes why there is nothing to see."""
    text = "no modes:\nthe data are zero"
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", backgroundcolor="w")
    return ax


def light_grid(ax: Axes) -> Axes:
    """Draw a grid behind everything else."""
    ax.grid(alpha=0.25)
    ax.set_axisbelow(True)
    return ax


def unit(model: Any) -> str:
    """Return the unit of time: snapshots, until `dt` says what lies between two of them."""
    return "snapshot" if model.dt == 1.0 else "time"


def time_label(model: Any) -> str:
    """Say what the times of `series` are."""
    return unit(model) if hasattr(model, "dynamics") else f"{unit(model)} after the newest"


def history(model: Any) -> NDArray[Any] | None:
    """Return the snapshots, of several trajectories the last, if the model has them."""
    snapshots = getattr(model, "snapshots", None)
    if isinstance(snapshots, list):
        snapshots = snapshots[-1]
    return None if snapshots is None else np.asarray(snapshots)


def first_amplitudes(model: Any) -> NDArray[np.float64]:
    """Return the moduli of the amplitudes, of several trajectories the first's."""
    amplitudes: NDArray[np.float64] = np.abs(model.amplitudes)
    return amplitudes if amplitudes.ndim == 1 else amplitudes[:, 0]


def series(model: Any) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Return times and dynamics: of several trajectories the first's, of a stream those to come."""
    if not hasattr(model, "dynamics"):
        powers = np.vander(model.eigenvalues, AHEAD, increasing=True)
        return model.dt * np.arange(float(AHEAD)), model.amplitudes[:, None] * powers
    dynamics = model.dynamics
    dynamics = dynamics[0] if isinstance(dynamics, list) else dynamics
    times = getattr(model, "times", None)
    if times is None or len(times) < dynamics.shape[1]:
        times = model.dt * np.arange(dynamics.shape[1])
    return times[: dynamics.shape[1]], dynamics


def is_real(model: Any) -> bool:
    """Whether the data are real; without them, whether the eigenvalues come in pairs."""
    past = history(model)
    if past is not None:
        return not np.iscomplexobj(past)
    values = model.eigenvalues
    gaps = np.abs(values[:, None] - values.conj()[None, :])
    return bool((gaps.min(axis=1, initial=np.inf) <= 1e-9 * np.abs(values)).all())


def one_of_each_pair(model: Any) -> NDArray[np.intp]:
    """Modes to draw: for real data without the second of each conjugate pair."""
    values = model.eigenvalues
    return np.flatnonzero((values.imag >= 0.0) | (not is_real(model)))


def leading(model: Any, dynamics: NDArray[Any]) -> NDArray[np.intp]:
    """Modes to draw, by falling root mean square of their dynamics."""
    chosen = one_of_each_pair(model)
    return chosen[np.argsort(-np.linalg.norm(dynamics[chosen], axis=1), kind="stable")]


def mode_name(model: Any, index: int) -> str:
    """Name a mode by its index, modulus and frequency; of a pair, the frequency of both."""
    modulus = abs(model.eigenvalues[index])
    # Digits that no eye sees over the whole circle are dropped; adding 0.0 turns -0 into 0.
    frequency = np.round(model.frequency[index] * model.dt, 4) / model.dt + 0.0
    if is_real(model):
        frequency = abs(frequency)
    return rf"mode {index}: $|\lambda|$ = {modulus:.4g}, $f$ = {frequency:.3g}"
