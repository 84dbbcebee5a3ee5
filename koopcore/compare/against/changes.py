"""What differs between an old and a new set of measurements, and how it is told."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..report import cells
from ..statistics import Ratio

WORSE = ("slower", "worse")
VERDICTS = (*WORSE, "faster", "better", "unchanged")


@dataclass(frozen=True)
class Change:
    """One figure of one measurement, old and new.

    Attributes
    ----------
    place : str
        What was measured.
    figure : str
        Which figure of it.
    old, new : float
        Its median over what both have.
    ratio : Ratio
        New over old; nan where it has no meaning.
    verdict : str
        One of `VERDICTS`.
    """

    place: str
    figure: str
    old: float
    new: float
    ratio: Ratio
    verdict: str


def counts(changes: Sequence[Change]) -> dict[str, int]:
    """Return how many changes of each verdict there are."""
    found = Counter(change.verdict for change in changes)
    return {verdict: found[verdict] for verdict in VERDICTS}


def text(changes: Sequence[Change], notes: Sequence[str], rule: str) -> str:
    """Return the changes beyond noise, a line each, the counts, the notes and the rule."""
    lines = [
        f"{change.verdict}: {change.place}: {change.figure} {_change(change)}"
        for verdict in VERDICTS[:-1]
        for change in changes
        if change.verdict == verdict
    ]
    summary = ", ".join(f"{verdict} {count}" for verdict, count in counts(changes).items())
    return "\n".join([*lines, summary, *(f"note: {note}" for note in notes), rule])


def _change(change: Change) -> str:
    figures = f"{_number(change.old)} -> {_number(change.new)}"
    return figures if math.isnan(change.ratio.median) else f"{figures}, {_ratio(change.ratio)}"


def _number(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.4g}"


def _ratio(value: Ratio) -> str:
    return "x inf" if math.isinf(value.median) else f"x {cells.ratio(value)}"
