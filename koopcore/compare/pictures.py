"""The pictures of the page: each one panel, as a small PNG within the page itself."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from .figure import blank, draw_times
from .profiles import MAX_TAU, Profile
from .results import Run
from .styles import STRONG, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (4.8, 3.3)  # inches; at 100 CSS pixels to the inch the text is as large as the page's small
DPI = 120
COLORS_KEPT = 32
FRAME = 2.0  # eigenvalues farther out than this are counted, not drawn
RATES = ("rates", "generator")  # kinds of spectra that are not per step


def times(runs: Sequence[Run], column: str) -> str:
    """Return the picture of a loss against seconds; see `figure.draw_times`."""
    figure = blank(*SIZE)
    draw_times(figure.subplots(), runs, column)
    return _uri(figure)


def profile(found: Profile) -> str:
    """Return the picture of performance profiles: shares of instances over tau from 1 to 4."""
    figure = blank(*SIZE)
    axis = figure.subplots()
    for method, ratios in found.ratios.items():
        within = [ratio for ratio in ratios if ratio <= MAX_TAU]
        shares = np.arange(len(within) + 1) / found.instances
        # From the share that is fastest at tau = 1 in steps to tau = 4.
        x, y = [1.0, *within, MAX_TAU], [shares[0], *shares[1:], shares[-1]]
        order = 3 if method.partition(":")[0] in STRONG else 2
        axis.step(x, y, where="post", zorder=order, **style(method).line)
    axis.set(xlim=(1, MAX_TAU), ylim=(-0.02, 1.02), xlabel="times the fastest method's seconds")
    axis.set_ylabel("share of instances")
    axis.grid(alpha=0.25)
    return _uri(figure)


def spectrum(run: Run) -> str:
    """Return the picture of the eigenvalues of a run's fits, the later the lighter."""
    figure = blank(4.0, 3.2)
    axis = figure.subplots()
    spectra = run.spectra
    rates = all(kind in RATES for kind in spectra["kind"])
    points = [
        (x, y, step)
        for step, real, imag in zip(*(spectra[k] for k in ("step", "real", "imag")), strict=True)
        for x, y in zip(real, imag, strict=True)
    ]
    shown = points if rates else [p for p in points if max(abs(p[0]), abs(p[1])) <= FRAME]
    if not rates:
        angle = np.linspace(0, 2 * math.pi, 200)
        axis.plot(np.cos(angle), np.sin(angle), color="#777777", lw=0.8)
        axis.set_aspect("equal", "datalim")
    if shown:
        x, y, step = zip(*shown, strict=True)
        drawn = axis.scatter(x, y, c=step, cmap="viridis", s=16, alpha=0.8, lw=0, zorder=3)
        figure.colorbar(drawn, label="optimizer step", shrink=0.85)
    if len(shown) < len(points):
        axis.set_title(f"{len(points) - len(shown)} farther out", size=9)
    axis.axhline(0, color="#CCCCCC", lw=0.6)
    unit = "per step" if rates else ""
    axis.set(xlabel=f"real part {unit}".strip(), ylabel=f"imaginary part {unit}".strip())
    axis.grid(alpha=0.2)
    return _uri(figure)


def jumps(runs: Sequence[Run]) -> str:
    """Return the timeline of the jumps taken: their horizons, and the trial loss after / before."""
    figure = blank(SIZE[0], 3.9)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for run in runs:
        strong = run.method.partition(":")[0] in STRONG
        look = {"color": style(run.method).color, "lw": 0, "s": 14 if strong else 8}
        look |= {"alpha": 0.5, "zorder": 3 if strong else 2, "marker": "o" if strong else "x"}
        if not strong:
            look["lw"] = 0.8
        upper.scatter(run.jumps["step"], run.jumps["horizon"], **look)
        lower.scatter(run.jumps["step"], _drops(run), **look)
    upper.set(yscale="log", ylabel="horizon, steps")
    lower.set(yscale="log", ylabel="loss after / before", xlabel="optimizer step")
    lower.axhline(1, color="#777777", lw=0.8)
    lower.set_xlim(0, median(run.budget for run in runs))
    for axis in (upper, lower):
        axis.grid(alpha=0.25)
    return _uri(figure)


def _drops(run: Run) -> list[float]:
    """Return the ratio of the losses of every jump; nan, which is not drawn, without both."""
    pairs = zip(run.jumps["loss_before"], run.jumps["loss_after"], strict=True)
    known = [(a, b) if 0 < a < math.inf and 0 < b < math.inf else (math.nan, 1) for a, b in pairs]
    return [after / before for before, after in known]


def _uri(figure: Figure) -> str:
    """Return the figure as a PNG of few colours in a data URI."""
    from PIL import Image

    plain, small = io.BytesIO(), io.BytesIO()
    figure.savefig(plain, format="png", dpi=DPI)
    with Image.open(plain) as image:
        image.convert("RGB").quantize(COLORS_KEPT).save(small, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode()
