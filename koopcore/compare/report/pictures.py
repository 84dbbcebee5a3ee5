"""The pictures of the page: each one panel, as a small PNG within the page itself."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from functools import cache
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from ..results import Run
from .figure import TARGET_COLOR, draw_times, without_window
from .profiles import MAX_TAU, Profile
from .styles import COLORS, STRONG, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

SIZE = (4.8, 3.3)  # inches; at 100 CSS pixels to the inch the text is as large as the page's small
DPI = 120
SHADES = (1.0, 0.72, 0.45, 0.22, 0.1)  # of every colour on white: smoothed edges and bands
FRAME = 2.0  # eigenvalues farther out than this are counted, not drawn


def times(runs: Sequence[Run], column: str) -> str:
    """Return the picture of a loss against seconds; see `figure.draw_times`."""
    figure = _panel(*SIZE)
    draw_times(figure.subplots(), runs, column)
    return _uri(figure)


def profile(found: Profile) -> str:
    """Return the picture of performance profiles: shares of instances over tau from 1 to 4."""
    figure = _panel(*SIZE)
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
    figure = _panel(4.2, 3.2, right=0.55)
    axis = figure.subplots()
    spectra = run.spectra
    points = [
        (x, y, step)
        for step, real, imag in zip(*(spectra[k] for k in ("step", "real", "imag")), strict=True)
        for x, y in zip(real, imag, strict=True)
    ]
    shown = [p for p in points if max(abs(p[0]), abs(p[1])) <= FRAME]
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
    axis.set(xlabel="real part", ylabel="imaginary part")
    axis.grid(alpha=0.2)
    return _uri(figure)


def jumps(runs: Sequence[Run]) -> str:
    """Return the timeline of the jumps taken: their horizons, and the trial loss after / before."""
    figure = _panel(SIZE[0], 3.9)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for run in runs:
        strong = run.method.partition(":")[0] in STRONG
        look = {"color": style(run.method).color, "lw": 0, "s": 14 if strong else 8}
        look |= {"alpha": 0.5, "zorder": 3 if strong else 2, "marker": "o" if strong else "x"}
        if not strong:
            look["lw"] = 0.8
        upper.scatter(run.jumps["step"], run.jumps["horizon"], **look)
        lower.scatter(*_drops(run), **look)
    upper.set(yscale="log", ylabel="horizon, steps")
    lower.set(ylabel="loss after / before", xlabel="optimizer step")
    lower.axhline(1, color="#777777", lw=0.8)  # so that the logarithm has something to show
    lower.set_yscale("log")
    lower.set_xlim(0, median(run.budget for run in runs))
    for axis in (upper, lower):
        axis.grid(alpha=0.25)
    return _uri(figure)


def _panel(width: float, height: float, right: float = 0.18) -> Figure:
    """Return a figure with room for the labels; to measure them takes longer than to draw it."""
    figure = without_window(width, height)
    figure.subplots_adjust(0.72 / width, 0.55 / height, 1 - right / width, 1 - 0.25 / height)
    return figure


def _drops(run: Run) -> tuple[list[float], list[float]]:
    """Return the steps of the jumps that were tried first, and the ratio of their losses."""
    columns = (run.jumps[name] for name in ("step", "loss_before", "loss_after"))
    known = [
        (step, after / before)
        for step, before, after in zip(*columns, strict=True)
        if 0 < before < math.inf and 0 < after < math.inf
    ]
    return [step for step, _ in known], [drop for _, drop in known]


def _uri(figure: Figure) -> str:
    """Return the figure as a PNG of few colours in a data URI."""
    from PIL import Image

    plain, small = io.BytesIO(), io.BytesIO()
    figure.savefig(plain, format="png", dpi=DPI)
    with Image.open(plain) as image:
        few = image.convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
        few.save(small, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode()


@cache
def _palette() -> Image.Image:
    """Return shades of the colours there are; a palette by frequency would mix thin lines' hues."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb
    from PIL import Image

    named = [to_rgb(color) for color in (*COLORS, TARGET_COLOR)]
    named += [color[:3] for color in colormaps["viridis"](np.linspace(0, 1, 10))]
    shades = [[1 - s * (1 - part) for part in color] for color in named for s in SHADES]
    values = [round(255 * part) for color in [(1.0, 1.0, 1.0), *shades] for part in color]
    image = Image.new("P", (1, 1))
    image.putpalette(values)
    return image
