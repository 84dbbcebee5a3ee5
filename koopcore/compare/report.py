"""The tables of a comparison: for the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .results import Comparison
from .summary import Ratio, Summary, Verdict, summarize, verdicts

HEADER = (
    "optimizer",
    "method",
    "target",
    "steps to target",
    "seconds to target",
    "missed",
    "overfit",
    "worse",
    "final loss",
    "accuracy",
    "jumps",
)
VERDICT_HEADER = (
    "optimizer",
    "target",
    "method",
    "against",
    "steps to target",
    "seconds to target",
)
KINDS = {"train": "training loss", "heldout": "held-out loss"}

LEGEND = """\
target: the lowest loss that the bare optimizer came to within {share} of its budget (median over
the seeds). steps, seconds: until an evaluation (every few steps, off the clock) finds the loss
there; for bare as they are, for the others the median over the seeds of the ratio to bare, below 1
is faster, with the bootstrap's 95 % interval. One step-equivalent per optimizer step, and a third
of trial size / batch size per trial; all of a method's work is in the seconds. missed: seeds that
never got there; they count as infinity. overfit: seeds whose bare run found no lower held-out
loss in the last quarter of its budget. worse: runs that end above bare by more than the bare runs
differ. final loss: when the budget is spent. jumps: taken/refused per run. Rivals with a value are
at the best of their grid on seed 100. Averages are evaluated themselves, beside the training."""


@dataclass(frozen=True)
class _Block:
    """A table: its title, its header and its rows of text, and how many columns are words."""

    title: str
    rows: list[tuple[str, ...]]
    words: tuple[int, ...] = (0, 1)


def terminal_table(comparison: Comparison) -> str:
    """Return the tables of the targets at 100 % of the budget as aligned text, with the legend."""
    texts = []
    for block in _blocks(comparison, ("@100",)):
        widths = [max(map(len, column)) for column in zip(*block.rows, strict=True)]
        lines = [_align(row, widths, block.words) for row in block.rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        texts.append("\n".join([block.title, *lines]))
    return "\n\n".join([*texts, LEGEND.format(share="100 %")])


def markdown_table(comparison: Comparison) -> str:
    """Return the tables of all targets as Markdown, with the legend and the machine."""
    sections = []
    for block in _blocks(comparison, ("@75", "@100")):
        header, *rows = ["| " + " | ".join(row) + " |" for row in block.rows]
        rule = "|" + " --- |" * len(block.rows[0])
        sections.append("\n".join([f"### {block.title}", "", header, rule, *rows]))
    legend = LEGEND.format(share="75 % or 100 %")
    return "\n\n".join([*sections, legend, "\n".join(_machines(comparison))]) + "\n"


def _machines(comparison: Comparison) -> list[str]:
    """Return a line per machine and set of versions that the runs were made on."""
    found = []
    for machine in (record.environment for record in comparison.records):
        packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        made_on = f"Python {machine['python']}, {packages}; {machine['cpu']}; "
        load = f"threads per run: {machine['threads']}, runs side by side: {machine['jobs']}"
        found.append(made_on + load)
    return list(dict.fromkeys(found))


def _align(cells: Sequence[str], widths: Sequence[int], words: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if i in words else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _blocks(comparison: Comparison, shares: Sequence[str]) -> Iterator[_Block]:
    """Yield the tables of each workload: one per target, then the verdict."""
    summaries, judged = summarize(comparison), verdicts(comparison)
    titles = {record.workload: record for record in comparison.compared}
    for name, record in titles.items():
        mine = [summary for summary in summaries if summary.workload == name]
        for target in dict.fromkeys(summary.target for summary in mine):
            kind, _, share = target.partition("@")
            if f"@{share}" not in shares:
                continue
            rows = [_cells(summary) for summary in mine if summary.target == target]
            title = (
                f"{name}: {record.title}; {KINDS[kind]}, target of {share} % of the budget of "
                f"{record.budget}; seeds: {mine[0].seeds}"
            )
            yield _Block(title, _without_empty_columns([HEADER, *rows]))
        rows = [_verdict_cells(verdict) for verdict in judged if verdict.workload == name]
        if rows:
            title = f"{name}: koopcore against bare and the best rivals, targets of 100 %"
            yield _Block(title, [VERDICT_HEADER, *rows], words=(0, 1, 2, 3))


def _without_empty_columns(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    used = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    return [tuple(row[i] for i in used) for row in rows]


def _cells(row: Summary) -> tuple[str, ...]:
    bare, heldout = row.method == "bare", row.target.startswith("heldout")
    return (
        f"{row.optimizer} {row.learning_rate:g}" if bare else "",
        row.method,
        _loss(row.bound) if bare else "",
        _count(row.steps) if bare else _ratio(row.steps_ratio),
        _seconds(row.seconds) if bare else _ratio(row.seconds_ratio),
        "" if bare else f"{row.misses}/{row.seeds}",
        f"{row.overfitted}/{row.seeds}" if bare and heldout else "",
        "" if bare else f"{row.worse}/{row.seeds}",
        _loss(row.final_loss),
        f"{row.accuracy:.3f}" if heldout and row.accuracy is not None else "",
        f"{row.taken:.0f}/{row.refused:.0f}" if row.taken + row.refused and not heldout else "",
    )


def _verdict_cells(row: Verdict) -> tuple[str, ...]:
    first = row.against == "bare"
    return (
        row.optimizer if first else "",
        KINDS[row.target.partition("@")[0]] if first else "",
        row.method if first else "",
        row.against,
        _ratio(row.steps),
        _ratio(row.seconds),
    )


def _count(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0f}"


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.2f}"


def _loss(value: float) -> str:
    return "diverged" if math.isinf(value) else f"{value:.2e}"


def _ratio(value: Ratio) -> str:
    if math.isnan(value.median):
        return "-"
    middle = "never" if math.isinf(value.median) else f"{value.median:.2f}"
    # With one seed, or none that differs, there is no interval to speak of.
    return middle if value.low == value.high else f"{middle} [{value.low:.2f}-{value.high:.2f}]"
