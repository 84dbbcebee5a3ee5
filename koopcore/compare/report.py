"""The table of a comparison: for the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .results import Comparison, Run

HEADER = (
    "optimizer",
    "rate",
    "method",
    "target",
    "steps to target",
    "ratio",
    "seconds",
    "ratio",
    "final loss",
    "held-out",
    "accuracy",
    "jumps",
)

LEGEND = """\
Medians over the seeds, [lowest-highest]. target: the bare optimizer's final training loss.
steps to target: step-equivalents until an evaluation (every {every} steps, off the clock) finds the
training loss there: one per optimizer step, plus a third of trial size / batch size per trial.
seconds: to the same point, all of koopcore's work included. ratio: to bare on the same seed; below
1 is faster. final loss: on the full training set when the budget is spent. held-out: loss and
accuracy on data never trained on. jumps: taken/refused per run."""


@dataclass(frozen=True)
class Summary:
    """The runs of one workload, optimizer and method, reduced over the seeds (medians).

    A ratio is the median over the seeds of a run's figure over the bare run's; it is infinity
    where the target was not reached and nan where there was no target, since bare diverged.
    """

    workload: str
    optimizer: str
    method: str
    learning_rate: float
    target: float
    steps: tuple[float, float, float]
    steps_ratio: float
    seconds: float
    seconds_ratio: float
    final_loss: float
    heldout_loss: float | None
    heldout_accuracy: float | None
    taken: float
    refused: float


def summarize(comparison: Comparison) -> list[Summary]:
    """Return one summary per workload, optimizer and method, in the order of the runs."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in comparison.runs:
        groups.setdefault((run.workload, run.optimizer, run.method), []).append(run)
    return [
        _summarize_group(runs, groups[workload, optimizer, "bare"])
        for (workload, optimizer, _), runs in groups.items()
    ]


def _summarize_group(runs: Sequence[Run], bare: Sequence[Run]) -> Summary:
    steps = [run.steps_to_target for run in runs]
    by_seed = {run.seed: run for run in bare}
    pairs = [(run, by_seed[run.seed]) for run in runs]

    def final(column: str) -> float | None:
        values = [run.final(column) for run in runs]
        return None if None in values else median(values)

    return Summary(
        workload=runs[0].workload,
        optimizer=runs[0].optimizer,
        method=runs[0].method,
        learning_rate=runs[0].learning_rate,
        target=median(run.target for run in runs),
        steps=(median(steps), min(steps), max(steps)),
        steps_ratio=_median_ratio([(a.steps_to_target, b.steps_to_target) for a, b in pairs]),
        seconds=median(run.seconds_to_target for run in runs),
        seconds_ratio=_median_ratio([(a.seconds_to_target, b.seconds_to_target) for a, b in pairs]),
        final_loss=final("train_loss"),
        heldout_loss=final("heldout_loss"),
        heldout_accuracy=final("heldout_accuracy"),
        taken=median(run.taken for run in runs),
        refused=median(run.refused for run in runs),
    )


def _median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the median of a/b over the pairs whose b is finite and positive; nan if none is."""
    ratios = [a / b for a, b in pairs if math.isfinite(b) and b > 0]
    return median(ratios) if ratios else math.nan


def terminal_table(comparison: Comparison) -> str:
    """Return the table as aligned text, one block per workload, with its legend."""
    blocks = []
    for title, header, *rows in _blocks(comparison):
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [_align(header, widths), "  ".join("-" * width for width in widths)]
        lines += [_align(row, widths) for row in rows]
        blocks.append("\n".join([title, *lines]))
    return "\n\n".join([*blocks, _legend(comparison)])


def markdown_table(comparison: Comparison) -> str:
    """Return the same table as Markdown, one section per workload, with its legend."""
    sections = []
    for title, header, *rows in _blocks(comparison):
        rule = "|" + " --- |" * len(header)
        lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
        sections.append("\n".join([f"### {title}", "", lines[0], rule, *lines[1:]]))
    machine = comparison.environment
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    made_on = f"Python {machine['python']}, {packages}; {machine['cpu']}; "
    load = f"threads per run: {machine['threads']}, runs side by side: {machine['jobs']}"
    closing = [_legend(comparison), made_on + load]
    return "\n\n".join([*sections, *closing]) + "\n"


def _legend(comparison: Comparison) -> str:
    return LEGEND.format(every=comparison.settings["evaluate_every"])


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if i in (0, 2) else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _blocks(comparison: Comparison) -> Iterator[list[Any]]:
    """Yield the title, the header and the rows of text of each workload."""
    summaries = summarize(comparison)
    n_seeds = len(comparison.settings["seeds"])
    for name, budget in comparison.settings["budgets"].items():
        title = (
            f"{name}: {comparison.settings['titles'][name]}; "
            f"budget {budget} step-equivalents; {n_seeds} seed{'s' if n_seeds > 1 else ''}"
        )
        rows = [_cells(summary) for summary in summaries if summary.workload == name]
        used = [i for i in range(len(HEADER)) if any(row[i] for row in rows)]
        yield [title, *([row[i] for i in used] for row in (HEADER, *rows))]


def _cells(row: Summary) -> tuple[str, ...]:
    bare = row.method == "bare"
    middle, low, high = (_count(value) for value in row.steps)
    return (
        row.optimizer if bare else "",
        f"{row.learning_rate:g}" if bare else "",
        row.method,
        _loss(row.target) if bare else "",
        middle if low == high else f"{middle} [{low}-{high}]",
        _ratio(row.steps_ratio),
        "never" if math.isinf(row.seconds) else f"{row.seconds:.2f}",
        _ratio(row.seconds_ratio),
        _loss(row.final_loss),
        "" if row.heldout_loss is None else _loss(row.heldout_loss),
        "" if row.heldout_accuracy is None else f"{row.heldout_accuracy:.3f}",
        "" if bare else f"{row.taken:.0f}/{row.refused:.0f}",
    )


def _count(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0f}"


def _loss(value: float) -> str:
    return "diverged" if math.isinf(value) else f"{value:.2e}"


def _ratio(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "never" if math.isinf(value) else f"{value:.2f}"
