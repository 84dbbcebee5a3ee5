"""The arena's picture: error over growth against the horizon, one panel per recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .score import TRUE
from .summary import Row

# Okabe and Ito's colours, one per family of rules; its members differ in their dashes.
FAMILIES = {
    "#000000": ("secant", "secant-window"),
    "#0072B2": ("line", "parabola", "rank-1-line"),
    "#999999": ("mean", "ema-0.8", "anderson"),
    "#D55E00": ("dmd", "dmd-1", "dmd-2", "dmd-2-tls", "dmd-2-delays"),
    "#E69F00": ("dmd-node", "dmd-node-1"),
    "#009E73": ("pinv-weight", "pinv-quasi-5", "pinv-node", "pinv-layer", "pinv-network"),
}
OTHER = "#CC79A7"
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
TOP = 30.0  # what lies above is off the picture


def save_picture(rows: Sequence[Row], path: Path) -> None:
    """Draw medians over the starts and write a PNG.

    Parameters
    ----------
    rows : sequence of Row
    path : Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.recording for row in rows))
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * lines + 1.0), layout="constrained")
    FigureCanvasAgg(figure)  # never opens a window, whatever backend the user has chosen
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    shown = [row for row in rows if row.rule not in ("stay", TRUE)]
    styles = _styles(list(dict.fromkeys(row.rule for row in shown)))
    for axis, name in zip(panels, names, strict=False):
        mine = [row for row in shown if row.recording == name]
        for rule, (color, dashes) in styles.items():
            points = [(r.steps, r.error_to_growth.median) for r in mine if r.rule == rule]
            steps, values = np.array(points).T
            # A line that leaves the picture must not end where it becomes infinite.
            values = np.minimum(values, 1e6)
            axis.plot(steps, values, color=color, ls=dashes, marker=".", ms=4, lw=1.2, label=rule)
        axis.axhline(1.0, color="#444444", lw=1.8, label="stay")
        axis.set(title=name, xlabel="optimizer steps ahead", xscale="log", yscale="log")
        axis.title.set_size(10)
        axis.grid(alpha=0.25)
    panels[0].set_ylim(top=TOP)
    for axis in panels[::columns]:
        axis.set_ylabel("error over growth")
    for axis in panels[len(names) :]:
        axis.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3 * columns, frameon=False, fontsize=8
    )
    figure.savefig(path, dpi=130)


def _styles(rules: Sequence[str]) -> dict[str, tuple[str, object]]:
    """Return the colour and the dashes of every rule."""
    known = {
        rule: (color, DASHES[i])
        for color, members in FAMILIES.items()
        for i, rule in enumerate(members)
    }
    others = [rule for rule in rules if rule not in known]
    new = {rule: (OTHER, DASHES[i % len(DASHES)]) for i, rule in enumerate(others)}
    return {rule: known.get(rule) or new[rule] for rule in rules}
