"""The tables of a comparison: for the terminal, as Markdown, and as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..results import Comparison, Record
from ..statistics import Ratio, SignTest
from . import cells
from .summary import Summary, Verdict, summarize, verdicts

# What is the same for all methods of an optimizer: columns in Markdown, a line in the terminal.
SHARED = ("optimizer", "target", "overfit")
# Left to the files: the score is in seconds, and a terminal has 120 columns.
ONLY_IN_FILES = ("steps: won-lost, p",)

LEGEND = """\
target: the lowest loss that the bare optimizer came to within {share} of its budget (median over
the seeds). steps, seconds: until an evaluation (every few steps, off the clock) finds the loss
there; for bare as they are, for the others the median over the seeds of the ratio to bare, below 1
is faster, with the bootstrap's 95 % interval. won-lost, p: seeds on which the method was there
before or after bare{of}, ties left out, and the two-sided p-value of the sign test, not corrected
for the number of rows. One step-equivalent per optimizer step, and a third of trial size / batch
size per trial; all of a method's work is in the seconds. missed: seeds that never got there; they
count as infinity. overfit: seeds whose bare run found no lower held-out loss in the last quarter of
its budget. worse: runs that end above bare by more than the bare runs differ. final loss: when the
budget is spent. jumps: taken/refused per run. Rivals with a value are at the best of their grid on
seed 100. Averages are evaluated themselves, beside the training."""

Row = dict[str, str]


@dataclass(frozen=True)
class _Block:
    """A table: its title and its rows of text; what the first columns hold is words."""

    title: str
    rows: list[Row]
    words: tuple[str, ...]


def terminal_table(comparison: Comparison) -> str:
    """Return the tables of the targets at 100 % of the budget as aligned text, with the legend."""
    texts = [_aligned(block) for block in _blocks(comparison, ("100",))]
    legend = LEGEND.format(share="100 %", of=" in seconds")
    return "\n\n".join([*texts, *_marked(comparison), legend])


def markdown_table(comparison: Comparison) -> str:
    """Return the tables of all targets as Markdown, with the legend and the machine."""
    sections = []
    for block in _blocks(comparison, ("75", "100")):
        columns = _used(block.rows)
        lines = [columns, ["---"] * len(columns)]
        lines += [[row[column] for column in columns] for row in block.rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        sections.append(f"### {block.title}\n\n{text}")
    legend = LEGEND.format(share="75 % or 100 %", of="")
    return "\n\n".join([*sections, *_marked(comparison), legend, *machines(comparison)]) + "\n"


def csv_table(comparison: Comparison) -> str:
    """Return one row per workload, optimizer, method and target, with all figures, unrounded.

    Infinity is written ``inf``, what there is not (a ratio where bare diverged) ``nan``, and an
    accuracy that a workload has not as nothing.
    """
    rows = [_tidy(row) for row in summarize(comparison)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _tidy(row: Summary) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in vars(row).items():
        if isinstance(value, Ratio):
            found |= {name: value.median, f"{name}_low": value.low, f"{name}_high": value.high}
        elif isinstance(value, SignTest):
            found |= {f"{name}_{field}": figure for field, figure in vars(value).items()}
        else:
            found["target_loss" if name == "bound" else name] = value
    return found


def machines(comparison: Comparison) -> list[str]:
    """Return a line per machine and set of versions that the runs were made on."""
    found = []
    for machine in (record.environment for record in comparison.records):
        packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        made_on = f"Python {machine['python']}, {packages}; {machine['cpu']}; "
        load = f"threads per run: {machine['threads']}, runs side by side: {machine['jobs']}"
        found.append(made_on + load)
    return list(dict.fromkeys(found))


def violations(comparison: Comparison) -> list[str]:
    """Return a line per method and text of what the harness caught, with the seeds."""
    seeds: dict[tuple[str, ...], list[int]] = {}
    for run in comparison.runs:
        for text in run.violations:
            seeds.setdefault((run.workload, run.optimizer, run.method, text), []).append(run.seed)
    return [
        f"{method} on {workload} with {optimizer}, seeds {', '.join(map(str, found))}: {text}"
        for (workload, optimizer, method, text), found in seeds.items()
    ]


def _marked(comparison: Comparison) -> list[str]:
    lines = violations(comparison)
    title = "(!) Runs that do not count, infinite everywhere:"
    return ["\n".join([title, *lines])] if lines else []


def _aligned(block: _Block) -> str:
    shared = SHARED if "target" in block.rows[0] else ()
    columns = [c for c in _used(block.rows) if c not in (*shared, *ONLY_IN_FILES)]
    width = {c: max(len(c), *(len(row[c]) for row in block.rows)) for c in columns}

    def line(row: Row) -> str:
        padded = (
            row[c].ljust(width[c]) if c in block.words else row[c].rjust(width[c]) for c in columns
        )
        return "  " + "  ".join(padded).rstrip()

    lines = [block.title, line({c: c for c in columns}), line({c: "-" * width[c] for c in columns})]
    for row in block.rows:
        named = [f"{name} {row[name]}" for name in shared if row[name]]
        lines += [", ".join(named).removeprefix("optimizer ")] if named else []
        lines.append(line(row))
    return "\n".join(lines)


def _blocks(comparison: Comparison, shares: Sequence[str]) -> Iterator[_Block]:
    """Yield the tables of each workload: one per target, then the verdict."""
    summaries, judged = summarize(comparison), verdicts(comparison)
    for name, record in titles(comparison).items():
        mine = [summary for summary in summaries if summary.workload == name]
        for target in dict.fromkeys(summary.target for summary in mine):
            kind, _, share = target.partition("@")
            if share not in shares:
                continue
            title = (
                f"{name}: {record.title}; {cells.KINDS[kind]}, target of {share} % of the budget "
                f"of {record.budget}; seeds: {mine[0].seeds}"
            )
            rows = [_cells(summary) for summary in mine if summary.target == target]
            yield _Block(title, rows, ("optimizer", "method"))
        rows = [_verdict_cells(verdict) for verdict in judged if verdict.workload == name]
        if rows:
            title = f"{name}: koopcore against bare and the best rivals, targets of 100 %"
            yield _Block(title, rows, ("optimizer", "loss", "method", "against"))


def titles(comparison: Comparison) -> dict[str, Record]:
    """Return a record of each workload, in order, which has its title and budget."""
    return {record.workload: record for record in comparison.compared}


def _used(rows: Sequence[Row]) -> list[str]:
    return [column for column in rows[0] if any(row[column] for row in rows)]


def _cells(row: Summary) -> Row:
    bare, heldout = row.method == "bare", row.target.startswith("heldout")
    other = not bare
    return {
        "optimizer": f"{row.optimizer} {row.learning_rate:g}" if bare else "",
        "target": cells.loss(row.bound) if bare else "",
        "overfit": cells.share(row.overfitted, row.seeds) if bare and heldout else "",
        "method": f"{row.method} (!)" if row.violated else row.method,
        "steps to target": cells.steps(row.steps) if bare else cells.ratio(row.steps_ratio),
        "steps: won-lost, p": cells.signs(row.steps_signs) if other else "",
        "seconds to target": cells.seconds(row.seconds) if bare else cells.ratio(row.seconds_ratio),
        "won-lost, p": cells.signs(row.seconds_signs) if other else "",
        "missed": cells.share(row.misses, row.seeds) if other else "",
        "worse": cells.share(row.worse, row.seeds) if other else "",
        "final loss": cells.loss(row.final_loss),
        "accuracy": cells.accuracy(row.accuracy) if heldout else "",
        "jumps": "" if heldout else cells.jumps(row.taken, row.refused),
    }


def _verdict_cells(row: Verdict) -> Row:
    first = row.against == "bare"
    return {
        "optimizer": row.optimizer if first else "",
        "loss": cells.KINDS[row.target.partition("@")[0]] if first else "",
        "method": row.method if first else "",
        "against": row.against,
        "steps to target": cells.ratio(row.steps),
        "seconds to target": cells.ratio(row.seconds),
    }
