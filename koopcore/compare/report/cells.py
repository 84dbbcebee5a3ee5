"""The figures of a comparison as the text in a table's cell, for the terminal and all files."""

from __future__ import annotations

import math

from ..statistics import Ratio, SignTest

KINDS = {"train": "training loss", "heldout": "held-out loss"}


def steps(value: float) -> str:
    """Return a number of step-equivalents."""
    return "never" if math.isinf(value) else f"{value:.0f}"


def seconds(value: float) -> str:
    """Return a time in seconds."""
    return "never" if math.isinf(value) else f"{value:.2f}"


def loss(value: float) -> str:
    """Return a loss; it is infinite where training diverged or a run does not count."""
    return "infinite" if math.isinf(value) else f"{value:.2e}"


def ratio(value: Ratio) -> str:
    """Return a ratio with its interval; a dash where there was no target."""
    if math.isnan(value.median):
        return "-"
    middle = "never" if math.isinf(value.median) else f"{value.median:.2f}"
    # With one seed, or none that differs, there is no interval to speak of.
    return middle if value.low == value.high else f"{middle} [{value.low:.2f}-{value.high:.2f}]"


def signs(value: SignTest) -> str:
    """Return the seeds won and lost, and the p-value of the sign test."""
    return f"{value.won}-{value.lost}, {value.p:.2g}"


def share(count: int, whole: int) -> str:
    """Return so many out of so many."""
    return f"{count}/{whole}"


def accuracy(value: float | None) -> str:
    """Return an accuracy between 0 and 1, or nothing."""
    return "" if value is None else f"{value:.3f}"


def jumps(taken: float, refused: float) -> str:
    """Return the jumps taken and refused, or nothing where none was tried."""
    return f"{taken:.0f}/{refused:.0f}" if taken + refused else ""


def target(name: str) -> str:
    """Return a target in words: ``train@75`` is the training loss at 75 %."""
    kind, _, per_cent = name.partition("@")
    return f"{KINDS[kind]} at {per_cent} %"
