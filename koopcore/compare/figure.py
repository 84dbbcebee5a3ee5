"""The picture of a comparison: loss against step-equivalents, one panel per pair."""

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

# Okabe and Ito's colours for all kinds of colour vision; told apart in grey as well.
COLORS = {"bare": "#000000", "koopcore": "#D55E00"}
TARGET_COLOR = "#0072B2"


def save_curves(comparison: Comparison, path: Path) -> None:
    """Draw one panel per workload (rows) and optimizer (columns) and write it as a PNG.

    Thick lines are medians over the seeds, thin lines single seeds, triangles the jumps taken,
    the dashed line the target (median over the seeds).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(comparison.settings["budgets"])
    optimizers = comparison.settings["optimizers"]
    size = (3.1 * len(optimizers) + 0.6, 2.6 * len(names) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)  # never opens a window, whatever backend the user has chosen
    axes = figure.subplots(len(names), len(optimizers), squeeze=False)
    for i, name in enumerate(names):
        for j, optimizer in enumerate(optimizers):
            runs = [r for r in comparison.runs if (r.workload, r.optimizer) == (name, optimizer)]
            draw_panel(axes[i][j], runs, comparison.settings["budgets"][name])
        axes[i][0].set_ylabel("training loss")
    for axis in axes[-1]:
        axis.set_xlabel("step-equivalents")
    _add_legend(figure, comparison)
    figure.savefig(path, dpi=130)


def draw_panel(axis: Axes, runs: Sequence[Run], budget: float) -> None:
    """Draw all runs of one workload and optimizer up to `budget` step-equivalents."""
    axis.set_title(f"{runs[0].workload}, {runs[0].optimizer} {runs[0].learning_rate:g}", size=10)
    axis.set_yscale("log")
    for method, color in COLORS.items():
        mine = [run for run in runs if run.method == method]
        for run in mine:
            axis.plot(*_drawable(run), color=color, lw=0.6, alpha=0.4)
            axis.plot(*_jump_points(run), "v", color=color, ms=3, mew=0.3, mec="white", zorder=4)
        axis.plot(*median_curve(mine), color=color, lw=1.8, zorder=3)
    target = median(run.target for run in runs)
    if math.isfinite(target):
        axis.axhline(target, color=TARGET_COLOR, ls="--", lw=1)
    else:
        axis.text(0.5, 0.5, "bare optimizer diverged", transform=axis.transAxes, ha="center")
    axis.set_xlim(-0.02 * budget, 1.02 * budget)
    axis.grid(alpha=0.25)


def median_curve(runs: Sequence[Run]) -> tuple[list[float], list[float]]:
    """Return the median loss over the runs as steps of a curve on the first run's grid.

    Runs are evaluated at different step-equivalents; each counts with its last evaluation at or
    before a grid point, so the curve uses nothing that was not yet paid for.
    """
    grid = runs[0].curve["step_equivalents"]
    values = [median(_value_at(run, position) for run in runs) for position in grid]
    return _finite_points(grid, values)


def _value_at(run: Run, position: float) -> float:
    index = bisect_right(run.curve["step_equivalents"], position) - 1
    return run.curve["train_loss"][index]


def _drawable(run: Run) -> tuple[list[float], list[float]]:
    return _finite_points(run.curve["step_equivalents"], run.curve["train_loss"])


def _jump_points(run: Run) -> tuple[list[float], list[float]]:
    """Return where the jumps landed on the run's own curve.

    The loss drawn is the training loss at the next evaluation: the trial loss may be taken on a
    part of the data, and would float beside the line.
    """
    curve = run.curve["step_equivalents"]
    points = []
    for position in run.jumps["step_equivalents"]:
        after = [i for i, at in enumerate(curve) if at >= position]
        if after:
            points.append((position, run.curve["train_loss"][after[0]]))
    return _finite_points(*zip(*points, strict=True)) if points else ([], [])


def _finite_points(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the points that a logarithmic axis can show."""
    kept = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b) and b > 0]
    return [a for a, _ in kept], [b for _, b in kept]


def _add_legend(figure, comparison: Comparison) -> None:
    from matplotlib.lines import Line2D

    n_seeds = len(comparison.settings["seeds"])
    bare, jumps = COLORS["bare"], COLORS["koopcore"]
    handles = [
        Line2D([], [], color=bare, lw=1.8, label="bare optimizer"),
        Line2D([], [], color=jumps, lw=1.8, label="with koopcore"),
        Line2D([], [], color=jumps, ls="", marker="v", ms=5, label="jump taken"),
        Line2D([], [], color=TARGET_COLOR, ls="--", lw=1, label="target"),
    ]
    if n_seeds > 1:
        thin = f"single seeds ({n_seeds}); thick: median"
        handles.append(Line2D([], [], color="#777777", lw=0.6, label=thin))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
