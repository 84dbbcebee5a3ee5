"""The arena's tables: aligned for the terminal, as Markdown, and as CSV with every figure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..statistics import Ratio
from .score import TRUE
from .summary import Row, best, summarize, tally

__all__ = ["csv_table", "markdown", "summarize", "terminal"]

MUCH = 1000.0  # above it a figure only says that the forecast is useless
FIGURES = {
    "error_to_growth": "error over growth",
    "relative_error": "error over the size of the true weights",
    "train_ratio": "training loss at the forecast over that of staying",
    "heldout_ratio": "held-out loss at the forecast over that of staying",
}
COUNTS = {
    "closer": "closer to the true weights than stay / than secant",
    "lower": "lower training loss than stay / than secant",
}
LEGEND = """\
Window: {window} snapshots. A horizon is counted in snapshots, in parentheses in optimizer steps.
Figures are medians over the starts of a recording, in brackets the 95 % bootstrap interval (along
one run: it says nothing about other seeds). "true" stands for the weights that training came to,
"stay" for those of the window's end. * marks the lowest median of a column, if it is below that of
staying; >1000 and inf are forecasts that left the rails. Counts are of starts."""


@dataclass(frozen=True)
class _Block:
    """A table: its title and its rows, the header first; the first column holds words."""

    title: str
    rows: list[tuple[str, ...]]


def terminal(rows: Sequence[Row], window: int) -> str:
    """Return error over growth, training loss and the counts as aligned text."""
    texts = []
    for block in _blocks(rows, ("error_to_growth", "train_ratio")):
        widths = [max(map(len, column)) for column in zip(*block.rows, strict=True)]
        lines = [
            "  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]).rstrip()
            for first, *others in block.rows
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        texts.append("\n".join([block.title, *lines]))
    return "\n\n".join([*texts, LEGEND.format(window=window)])


def markdown(rows: Sequence[Row], window: int, command: str = "") -> str:
    """Return all tables as Markdown, with the legend and the command that made them."""
    sections = ["# koopcore arena"]
    if command:
        sections.append(f"Made by `{command}`.")
    sections.append(LEGEND.format(window=window))
    for block in _blocks(rows, tuple(FIGURES)):
        header, *lines = ["| " + " | ".join(row) + " |" for row in block.rows]
        rule = "| --- |" + " ---: |" * (len(block.rows[0]) - 1)
        sections.append("\n".join([f"### {block.title}", "", header, rule, *lines]))
    return "\n\n".join(sections) + "\n"


def csv_table(rows: Sequence[Row]) -> str:
    """Return every figure, one line per recording, rule and horizon."""
    header = ["recording", "rule", "horizon", "steps", "starts", "train_loss"]
    header += [f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")]
    header += [f"{kind}_than_{control}" for kind in COUNTS for control in rows[0].closer]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        ratios = [getattr(row, name) for name in FIGURES]
        writer.writerow(
            [row.recording, row.rule, row.horizon, row.steps, row.starts, f"{row.train_loss:.9g}"]
            + [f"{value:.6g}" for r in ratios for value in (r.median, r.low, r.high)]
            + [count for kind in COUNTS for count in getattr(row, kind).values()]
        )
    return text.getvalue()


def _blocks(rows: Sequence[Row], figures: Sequence[str]) -> list[_Block]:
    found = []
    for name in dict.fromkeys(row.recording for row in rows):
        mine = [row for row in rows if row.recording == name]
        for figure in figures:
            if figure == "heldout_ratio" and math.isnan(getattr(mine[0], figure).median):
                continue
            title = f"{name}, {mine[0].starts} starts: {FIGURES[figure]}"
            found.append(_Block(title, _by_horizon(mine, figure)))
    counts = tally(rows)
    for kind, words in COUNTS.items() if counts else ():
        title = f"all recordings, {counts[0].starts} starts: {words}"
        shown = [row for row in counts if row.rule not in ("stay", TRUE)]
        keys = {(row.horizon, row.rule): row for row in shown}
        columns = {horizon: str(horizon) for horizon, _ in keys}
        texts = {k: " / ".join(map(str, getattr(row, kind).values())) for k, row in keys.items()}
        found.append(_Block(title, _grid(columns, texts.__getitem__, [rule for _, rule in keys])))
    return found


def _by_horizon(rows: Sequence[Row], figure: str) -> list[tuple[str, ...]]:
    of_loss = figure in ("train_ratio", "heldout_ratio")  # the error of the true weights is 0
    keys = {(row.horizon, row.rule): row for row in rows if of_loss or row.rule != TRUE}
    columns = {row.horizon: f"{row.horizon} ({row.steps})" for row in rows}
    stars = best(rows, figure)

    def text(key: tuple[int, str]) -> str:
        row = keys[key]
        star = "*" if (row.recording, *key) in stars else ""
        return f"{star}{_ratio(getattr(row, figure))}"

    return _grid(columns, text, [rule for _, rule in keys])


def _grid(
    columns: dict[int, str], text: Callable[[tuple[int, str]], str], rules: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return a header and a row of texts per rule."""
    body = [(rule, *(text((h, rule)) for h in columns)) for rule in dict.fromkeys(rules)]
    return [("rule", *columns.values()), *body]


def _ratio(value: Ratio) -> str:
    if value.median > MUCH:
        return "inf" if math.isinf(value.median) else ">1000"
    middle, low, high = map(_number, (value.median, value.low, value.high))
    return middle if low == high else f"{middle} [{low}-{high}]"


def _number(value: float) -> str:
    if value > MUCH:
        return "inf" if math.isinf(value) else ">1000"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:#.2g}" if value < 0.1 else f"{value:#.3g}"
