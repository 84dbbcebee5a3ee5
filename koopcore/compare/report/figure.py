"""The pictures of a comparison: a loss against step-equivalents or seconds, a panel per pair."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from ..results import Comparison, Run
from .styles import STRONG, style
from .summary import groups, scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLAIN = ("bare", "koopcore")  # those whose single seeds are drawn as well
TARGET_COLOR = "#0072B2"
TRAIN, HELDOUT = "train_loss", "heldout_loss"
LABELS = {TRAIN: "training loss", HELDOUT: "held-out loss"}
GRID_POINTS = 120


def without_window(width: float, height: float, layout: str = "none") -> Figure:
    """Return a figure of so many inches that never opens a window, whatever the user's backend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save_curves(comparison: Comparison, path: Path, column: str = TRAIN) -> None:
    """Draw one panel per workload (rows) and optimizer (columns) and write it as a PNG.

    Thick lines are medians over the seeds, thin lines single seeds of bare and koopcore,
    triangles the jumps taken, the dashed line the target at 100 % (median over the seeds).

    Parameters
    ----------
    comparison : Comparison
    path : Path
    column : str
        ``train_loss`` or ``heldout_loss``; workloads without the latter are left out.
    """
    budgets = {r.workload: r.budget for r in comparison.compared if column in r.runs[0].curve}
    optimizers = list(dict.fromkeys(run.optimizer for run in comparison.runs))
    width, height = 3.1 * len(optimizers) + 0.6, 2.6 * len(budgets) + 0.9
    figure = without_window(width, height, "constrained")
    axes = figure.subplots(len(budgets), len(optimizers), squeeze=False)
    for i, (name, budget) in enumerate(budgets.items()):
        for j, optimizer in enumerate(optimizers):
            runs = [r for r in scored(comparison) if (r.workload, r.optimizer) == (name, optimizer)]
            if runs:
                draw_panel(axes[i][j], runs, budget, column)
            else:
                axes[i][j].set_axis_off()
        axes[i][0].set_ylabel(LABELS[column])
    for axis in axes[-1]:
        axis.set_xlabel("step-equivalents")
    _add_legend(figure, comparison)
    figure.savefig(path, dpi=130)


def draw_panel(axis: Axes, runs: Sequence[Run], budget: float, column: str = TRAIN) -> None:
    """Draw all runs of one workload and optimizer up to `budget` step-equivalents."""
    axis.set_title(f"{runs[0].workload}, {runs[0].optimizer} {runs[0].learning_rate:g}", size=10)
    for method in dict.fromkeys(run.method for run in runs):
        look = style(method)
        mine = [run for run in runs if run.method == method]
        for run in mine if method in PLAIN else ():
            points = _finite_points(run.curve["step_equivalents"], run.curve[column])
            axis.plot(*points, color=look.color, lw=0.6, alpha=0.4)
            jumps = _jump_points(run, column)
            axis.plot(*jumps, "v", color=look.color, ms=3, mew=0.3, mec="white", zorder=4)
        axis.plot(*median_curve(mine, column), **look.line, zorder=3 if method in STRONG else 2)
    _frame(axis, runs, column)
    axis.set_xlim(-0.02 * budget, 1.02 * budget)


def draw_times(axis: Axes, runs: Sequence[Run], column: str = TRAIN) -> None:
    """Draw the runs of one workload and optimizer over the seconds that bare's budget took.

    Lines are medians over the seeds, the bands of bare and of koopcore's methods hold the middle
    half of the seeds.
    """
    for method in dict.fromkeys(run.method for run in runs):
        look, strong = style(method), method.partition(":")[0] in STRONG
        mine = [run for run in runs if run.method == method]
        times, low, middle, high = over_time(mine, column)
        axis.plot(*_finite_points(times, middle), **look.line, zorder=3 if strong else 2)
        if strong and len(mine) > 1:
            # An upper quartile that diverged goes out of the frame, not out of the picture.
            shown = (low > 0) & np.isfinite(low)
            band = {"color": look.color, "alpha": 0.18, "lw": 0, "zorder": 1, "where": shown}
            axis.fill_between(times, low, np.minimum(high, 1e30), **band)
    _frame(axis, runs, column)
    end = median(run.curve["seconds"][-1] for run in runs if run.method == "bare")
    axis.set_xlim(-0.02 * end, 1.1 * end)
    axis.locator_params(axis="x", nbins=6)
    axis.set_xlabel("seconds")
    axis.set_ylabel(LABELS[column])


def over_time(runs: Sequence[Run], column: str = TRAIN) -> tuple[np.ndarray, ...]:
    """Return seconds, and the lower quartile, median and upper quartile of a loss over the runs.

    Each run counts with its last evaluation at or before a point in time; the curve ends where
    half of the runs have.

    Returns
    -------
    tuple of four ndarrays of shape (n_points,)
        A quartile is infinite where it lies among runs that diverged.
    """
    times = np.linspace(0.0, median(run.curve["seconds"][-1] for run in runs), GRID_POINTS)
    values = [[_value_at(run, t, column, "seconds") for run in runs] for t in times]
    # Quartiles that are runs, not means of two: one that diverged has no mean with another.
    low, high = (
        np.quantile(values, q, axis=1, method=method)
        for q, method in ((0.25, "lower"), (0.75, "higher"))
    )
    return times, low, np.median(values, axis=1), high


def median_curve(runs: Sequence[Run], column: str = TRAIN) -> tuple[list[float], list[float]]:
    """Return the median loss over the runs as steps of a curve on the first run's grid.

    Runs are evaluated at different step-equivalents; each counts with its last evaluation at or
    before a grid point, so the curve uses nothing that was not yet paid for.
    """
    grid = runs[0].curve["step_equivalents"]
    values = [median(_value_at(run, position, column) for run in runs) for position in grid]
    return _finite_points(grid, values)


def _value_at(run: Run, position: float, column: str, axis: str = "step_equivalents") -> float:
    # Before the first evaluation, which may come after some work, nothing has changed yet.
    index = max(bisect_right(run.curve[axis], position) - 1, 0)
    return run.curve[column][index]


def _frame(axis: Axes, runs: Sequence[Run], column: str) -> None:
    """Set the vertical axis by bare and koopcore, and mark the target."""
    axis.set_yscale("log")
    axis.grid(alpha=0.25)
    kind = column.removesuffix("_loss")
    target = median(run.scores[f"{kind}@100"].target for run in runs)
    if math.isfinite(target):
        axis.axhline(target, color=TARGET_COLOR, ls="--", lw=1)
    else:
        axis.text(0.5, 0.5, "bare optimizer diverged", transform=axis.transAxes, ha="center")
    # A rival that blows up must not squeeze all others into one line.
    starts = [run.curve[column][0] for run in runs if math.isfinite(run.curve[column][0])]
    if starts and max(starts) > 0:
        axis.set_ylim(top=2 * max(starts))


def _jump_points(run: Run, column: str) -> tuple[list[float], list[float]]:
    """Return where the jumps landed on the run's own curve.

    The loss drawn is that of the next evaluation: the trial loss may be taken on a part of the
    data, and would float beside the line.
    """
    curve = run.curve["step_equivalents"]
    points = []
    for position in run.jumps["step_equivalents"]:
        after = [i for i, at in enumerate(curve) if at >= position]
        if after:
            points.append((position, run.curve[column][after[0]]))
    return _finite_points(*zip(*points, strict=True)) if points else ([], [])


def _finite_points(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the points that a logarithmic axis can show."""
    kept = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b) and b > 0]
    return [a for a, _ in kept], [b for _, b in kept]


def _add_legend(figure: Figure, comparison: Comparison) -> None:
    from matplotlib.lines import Line2D

    n_seeds = len({run.seed for run in comparison.runs})
    names = list(dict.fromkeys(m for methods in groups(comparison).values() for m in methods))
    looks = {}
    for name in names:  # values differ from row to row, looks do not
        looks.setdefault(style(name), name.partition(":")[0])
    handles = [Line2D([], [], label=label, **look.line) for look, label in looks.items()]
    if "koopcore" in names:
        jumps = style("koopcore").color
        handles.append(Line2D([], [], color=jumps, ls="", marker="v", ms=5, label="jump taken"))
    handles.append(Line2D([], [], color=TARGET_COLOR, ls="--", lw=1, label="target"))
    if n_seeds > 1:
        thin = f"single seeds ({n_seeds}); thick: median"
        handles.append(Line2D([], [], color="#777777", lw=0.6, label=thin))
    columns = max(2, int(figure.get_figwidth() / 2.2))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
