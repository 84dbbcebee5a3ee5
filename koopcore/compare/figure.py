"""The pictures of a comparison: a loss against step-equivalents, one panel per pair."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from .results import Comparison, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours for all kinds of colour vision; told apart in grey as well. Rivals that
# share a colour differ in their dashes.
COLORS = {
    "bare": ("#000000", "-"),
    "koopcore": ("#D55E00", "-"),
    "forecast": ("#E69F00", "-"),
    "ema": ("#009E73", "-"),
    "swa": ("#009E73", "--"),
    "lawa": ("#009E73", ":"),
    "secant": ("#CC79A7", "-"),
    "anderson": ("#CC79A7", "--"),
    "identity": ("#999999", "--"),
    "rate": ("#999999", ":"),
}
PLAIN = ("bare", "koopcore")  # those whose single seeds are drawn as well
TARGET_COLOR = "#0072B2"
TRAIN, HELDOUT = "train_loss", "heldout_loss"
LABELS = {TRAIN: "training loss", HELDOUT: "held-out loss"}


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    budgets = {r.workload: r.budget for r in comparison.compared if column in r.runs[0].curve}
    optimizers = list(dict.fromkeys(run.optimizer for run in comparison.runs))
    size = (3.1 * len(optimizers) + 0.6, 2.6 * len(budgets) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)  # never opens a window, whatever backend the user has chosen
    axes = figure.subplots(len(budgets), len(optimizers), squeeze=False)
    for i, (name, budget) in enumerate(budgets.items()):
        for j, optimizer in enumerate(optimizers):
            runs = [r for r in comparison.runs if (r.workload, r.optimizer) == (name, optimizer)]
            draw_panel(axes[i][j], runs, budget, column)
        axes[i][0].set_ylabel(LABELS[column])
    for axis in axes[-1]:
        axis.set_xlabel("step-equivalents")
    _add_legend(figure, comparison)
    figure.savefig(path, dpi=130)


def draw_panel(axis: Axes, runs: Sequence[Run], budget: float, column: str = TRAIN) -> None:
    """Draw all runs of one workload and optimizer up to `budget` step-equivalents."""
    axis.set_title(f"{runs[0].workload}, {runs[0].optimizer} {runs[0].learning_rate:g}", size=10)
    axis.set_yscale("log")
    for method in dict.fromkeys(run.method for run in runs):
        color, dashes = COLORS[method.partition(":")[0]]
        mine = [run for run in runs if run.method == method]
        for run in mine if method in PLAIN else ():
            points = _finite_points(run.curve["step_equivalents"], run.curve[column])
            axis.plot(*points, color=color, lw=0.6, alpha=0.4)
            jumps = _jump_points(run, column)
            axis.plot(*jumps, "v", color=color, ms=3, mew=0.3, mec="white", zorder=4)
        width = 1.8 if method in PLAIN else 1.1
        axis.plot(*median_curve(mine, column), color=color, ls=dashes, lw=width, zorder=3)
    kind = column.removesuffix("_loss")
    target = median(run.scores[f"{kind}@100"].target for run in runs)
    if math.isfinite(target):
        axis.axhline(target, color=TARGET_COLOR, ls="--", lw=1)
    else:
        axis.text(0.5, 0.5, "bare optimizer diverged", transform=axis.transAxes, ha="center")
    axis.set_xlim(-0.02 * budget, 1.02 * budget)
    axis.grid(alpha=0.25)


def median_curve(runs: Sequence[Run], column: str = TRAIN) -> tuple[list[float], list[float]]:
    """Return the median loss over the runs as steps of a curve on the first run's grid.

    Runs are evaluated at different step-equivalents; each counts with its last evaluation at or
    before a grid point, so the curve uses nothing that was not yet paid for.
    """
    grid = runs[0].curve["step_equivalents"]
    values = [median(_value_at(run, position, column) for run in runs) for position in grid]
    return _finite_points(grid, values)


def _value_at(run: Run, position: float, column: str) -> float:
    index = bisect_right(run.curve["step_equivalents"], position) - 1
    return run.curve[column][index]


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


def _add_legend(figure, comparison: Comparison) -> None:
    from matplotlib.lines import Line2D

    n_seeds = len({run.seed for run in comparison.runs})
    names = list(dict.fromkeys(run.method.partition(":")[0] for run in comparison.runs))
    handles = []
    for name in names:
        color, dashes = COLORS[name]
        label = "bare optimizer" if name == "bare" else name
        width = 1.8 if name in PLAIN else 1.1
        handles.append(Line2D([], [], color=color, ls=dashes, lw=width, label=label))
    if "koopcore" in names:
        jumps = COLORS["koopcore"][0]
        handles.append(Line2D([], [], color=jumps, ls="", marker="v", ms=5, label="jump taken"))
    handles.append(Line2D([], [], color=TARGET_COLOR, ls="--", lw=1, label="target"))
    if n_seeds > 1:
        thin = f"single seeds ({n_seeds}); thick: median"
        handles.append(Line2D([], [], color="#777777", lw=0.6, label=thin))
    columns = max(2, int(figure.get_figwidth() / 2.2))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
