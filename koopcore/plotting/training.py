"""Plots of a training run: losses with the jumps in them, and the spectrum over time.

They take plain sequences and records, so that the numbers may come from anywhere; of a
`koopcore.torch.KoopmanAccelerator` the records are its ``history``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore.plotting._common import BLUE, COLORS, GREY, axes, light_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HIGHEST = 1.5  # modulus up to which eigenvalues are drawn
FAINTEST = 1e-3  # share of the last change that has the darkest colour


def plot_training(
    attempts: Sequence[Any],
    steps: ArrayLike | None = None,
    losses: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot losses over optimizer steps, and where the weights jumped.

    A jump that was taken is a line from the trial loss before to the one after; one that was
    refused, a tick below. Losses have a log scale where all are positive.

    Parameters
    ----------
    attempts : sequence of records
        With the fields ``step``, ``horizon``, ``loss_before``, ``loss_after`` and ``taken``.
    steps, losses : array of shape (k,), optional
        Optimizer steps and the losses after them. Default: the trial losses alone.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If `steps` and `losses` are not of one length.
    """
    at, seen = _curve(steps, losses)
    ax = axes(ax)
    ax.set(xlabel="optimizer step", ylabel="loss", title="training")
    taken = [a for a in attempts if a.taken]
    refused = [a.step for a in attempts if not a.taken]
    if len(at):
        ax.plot(at, seen, color=BLUE, lw=1.2, label="loss")
    ends = np.array([[a.loss_before, a.loss_after] for a in taken], dtype=np.float64)
    if taken:
        stretched = sum(a.horizon for a in taken)
        label = f"{len(taken)} jumps ({stretched} steps ahead in all)"
        ax.vlines([a.step for a in taken], *ends.T, color=COLORS[1], lw=1.6, label=label)
        ax.plot([a.step for a in taken], ends[:, 1], "v", color=COLORS[1], ms=5)
    if refused:
        tops = ax.get_xaxis_transform()
        label = f"{len(refused)} refused"
        ax.plot(refused, np.full(len(refused), 0.02), "|", color=GREY, transform=tops, label=label)
    shown = np.concatenate([seen, ends.ravel()])
    shown = shown[np.isfinite(shown)]
    if len(shown) and (shown > 0.0).all():
        ax.set_yscale("log")
    if len(at) or attempts:
        ax.legend(fontsize="small")
    return light_grid(ax)


def plot_spectrum_over_time(fits: Sequence[Any], ax: Axes | None = None) -> Axes:
    """Plot the moduli of the eigenvalues of successive fits over optimizer steps.

    Parameters
    ----------
    fits : sequence of records
        With the fields ``step`` and ``eigenvalues``, complex of shape (r,). Where all have
        ``sizes`` too, of shape (r,) as `koopcore.diagnostics.mode_sizes` gives, the share of each
        in their sum colours its eigenvalue. Fits without eigenvalues are left out; moduli above
        1.5 are counted in a note instead.
    ax : matplotlib.axes.Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.
    """
    fits = [fit for fit in fits if len(fit.eigenvalues)]
    ax = axes(ax)
    ax.set(xlabel="optimizer step", ylabel=r"$|\lambda|$ per snapshot", title="spectrum over time")
    ax.axhline(1.0, color=GREY, lw=1, zorder=1)
    if not fits:
        text = "no fit has eigenvalues yet"
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center")
        return ax
    at = np.concatenate([np.full(len(fit.eigenvalues), fit.step) for fit in fits])
    moduli = np.abs(np.concatenate([fit.eigenvalues for fit in fits]))
    inside = moduli <= HIGHEST
    shares = _shares(fits)
    if shares is None:
        ax.scatter(at[inside], moduli[inside], s=12, color=BLUE, lw=0, zorder=3)
    else:
        _colored(ax, at[inside], moduli[inside], shares[inside])
    if not inside.all():
        text = f"{np.count_nonzero(~inside)} above {HIGHEST:g}"
        ax.text(0.98, 0.98, text, transform=ax.transAxes, ha="right", va="top", fontsize="small")
    ax.set_ylim(0.0, max(1.05, 1.03 * float(moduli[inside].max(initial=0.0))))
    return light_grid(ax)


def plot_run(
    attempts: Sequence[Any], steps: ArrayLike | None = None, losses: ArrayLike | None = None
) -> Figure:
    """Plot losses with jumps above the spectrum over time, in one figure.

    Parameters
    ----------
    attempts : sequence of records
        As in `plot_training`; those with ``eigenvalues`` as in `plot_spectrum_over_time`.
    steps, losses : array of shape (k,), optional
        As in `plot_training`.

    Returns
    -------
    matplotlib.figure.Figure
        A new figure.

    Raises
    ------
    ValueError
        If `steps` and `losses` are not of one length.
    """
    _curve(steps, losses)
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(7.0, 6.0), layout="constrained"
    )
    plot_training(attempts, steps, losses, ax=above)
    plot_spectrum_over_time([a for a in attempts if hasattr(a, "eigenvalues")], ax=below)
    above.set_xlabel("")
    return figure


def _curve(
    steps: ArrayLike | None, losses: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    at = np.asarray([] if steps is None else steps, dtype=np.float64)
    seen = np.asarray([] if losses is None else losses, dtype=np.float64)
    if at.ndim != 1 or at.shape != seen.shape:
        raise ValueError(
            f"steps has shape {at.shape} and losses {seen.shape}; give both, of shape (k,)"
        )
    return at, seen


def _shares(fits: list[Any]) -> NDArray[np.float64] | None:
    """Share of each mode in the sum of its fit's sizes, where all fits have sizes."""
    shares = []
    for fit in fits:
        sizes = getattr(fit, "sizes", None)
        if sizes is None or len(sizes) != len(fit.eigenvalues):
            return None
        total = float(np.sum(sizes))
        shares.append(np.asarray(sizes, dtype=np.float64) / (total if total > 0.0 else 1.0))
    return np.concatenate(shares)


def _colored(
    ax: Axes, at: NDArray[Any], moduli: NDArray[np.float64], shares: NDArray[np.float64]
) -> None:
    """Draw eigenvalues in the colours of their shares, those of the largest last."""
    from matplotlib.colors import LogNorm

    order = np.argsort(shares, kind="stable")
    points = ax.scatter(
        at[order],
        moduli[order],
        c=np.maximum(shares, FAINTEST)[order],
        norm=LogNorm(FAINTEST, 1.0),
        cmap="viridis",
        s=12,
        lw=0,
        zorder=3,
    )
    ax.figure.colorbar(points, ax=ax, label="share of the last change", pad=0.02)
