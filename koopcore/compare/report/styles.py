"""The look of a method in every picture: few colours, one per kind, told apart by their dashes."""

from __future__ import annotations

from typing import NamedTuple

from ..registry import CONTROLS

# Okabe and Ito's colours for all kinds of colour vision. bare and koopcore's own stand out by their
# width; rivals of one kind share a colour.
COLORS = ("#000000", "#D55E00", "#E69F00", "#009E73", "#A3548A", "#3A8FC4", "#8A8A8A")
BLACK, ORANGE, AMBER, GREEN, PURPLE, BLUE, GREY = COLORS
DASHES = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (6, 1.5, 1.5, 1.5, 1.5, 1.5), (9, 3))
STRONG = ("bare", "koopcore", "forecast")
_KINDS = {
    GREEN: ("ema", "swa", "lawa", "lookahead", "schedule-free"),
    PURPLE: ("secant", "anderson", "rank-one"),
    BLUE: (
        "pdt",
        "dogra-redman:network",
        "dogra-redman:layer",
        "dogra-redman:node",
        "dogra-redman:quasi-node",
        "dogra-redman:weight",
    ),
    GREY: CONTROLS,
}
_STYLES = {
    "bare": (BLACK, ()),
    "koopcore": (ORANGE, ()),
    "forecast": (AMBER, DASHES[1]),
    "rate:3.2": (GREY, DASHES[5]),
    "dogra-redman": (BLUE, DASHES[5]),
} | {
    name: (color, dashes)
    for color, names in _KINDS.items()
    for name, dashes in zip(names, DASHES, strict=False)
}


class Style(NamedTuple):
    """A line: its colour, its dashes in points (none: solid) and its width in points."""

    color: str
    dashes: tuple[float, ...]
    width: float

    @property
    def line(self) -> dict[str, object]:
        """Keyword arguments for matplotlib's lines."""
        dashes = (0, self.dashes) if self.dashes else "-"
        return {"color": self.color, "ls": dashes, "lw": self.width}


def style(method: str) -> Style:
    """Return the look of a method, whatever its value; a dotted grey for one that is not known."""
    name = method.partition(":")[0]
    color, dashes = _STYLES.get(method) or _STYLES.get(name) or (GREY, (1, 3))
    return Style(color, dashes, 1.9 if name in STRONG else 1.0)
