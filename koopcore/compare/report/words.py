"""What a comparison comes to, in sentences that are made from its figures alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

from ..registry import CONTROLS, OURS
from ..results import Comparison
from ..statistics import LEVEL, Ratio, smallest_p
from . import cells
from .summary import Summary, families, summarize
from .tables import violations

OUTCOMES = {
    "faster": "faster",
    "slower": "slower",
    "undecided": "neither for sure",
    "never there": "at the target on no more than half of the seeds",
    "-": "without a target, as bare diverged,",
}


def sentences(comparison: Comparison) -> list[str]:
    """Return the plain summary: per loss how koopcore did and who was fastest; then caveats.

    All times are seconds.
    """
    rows = summarize(comparison)
    names = families(comparison)
    ours = [name for name in OURS if name in names.values()]
    found = [] if ours else ["Neither koopcore nor its forecasts ran in this comparison."]
    for target in dict.fromkeys(row.target for row in rows):
        if target.endswith("@100"):
            mine = [row for row in rows if row.target == target]
            found += [_of_method(mine, names, name) for name in ours]
            found.append(_fastest(mine, names))
    return [*found, *_worse(rows, names, ours), *_caveats(comparison, rows, names)]


def outcome(ratio: Ratio) -> str:
    """Return in one word how a ratio to bare is to be read; a dash where there was no target."""
    if math.isnan(ratio.median):
        return "-"
    if math.isinf(ratio.median):
        return "never there"
    if smallest_p(ratio.pairs) > LEVEL:  # the interval of so few cannot be one of 95 %
        return "undecided"
    if ratio.high < 1:
        return "faster"
    return "slower" if ratio.low > 1 else "undecided"


def _of_method(rows: Sequence[Summary], names: dict[str, str], name: str) -> str:
    mine = [row for row in rows if names[row.method] == name]
    misses, runs = sum(row.misses for row in mine), sum(row.seeds for row in mine)
    found = Counter(outcome(row.seconds_ratio) for row in mine)
    counts = [f"{text} in {found[what]}" for what, text in OUTCOMES.items() if found[what]]
    pairs = f"{_number(len(mine), 'pair')} of workload and optimizer"
    start = f"{_heading(rows)}, {pairs}: against bare, {name} is {', '.join(counts)}"
    finite = [row for row in mine if math.isfinite(row.seconds_ratio.median)]
    if finite:
        best, last = (pick(finite, key=lambda r: r.seconds_ratio.median) for pick in (min, max))
        start += f". Its median ratios go from {_at(best)} to {_at(last)}"
    if not misses:
        return f"{start}. No run of {runs} missed the target."
    most = max(mine, key=lambda row: row.misses / row.seeds)
    return (
        f"{start}. It missed the target in {misses} of {runs} runs, most often on "
        f"{_place(most)} ({most.misses} of {most.seeds})."
    )


def _heading(rows: Sequence[Summary]) -> str:
    return cells.target(rows[0].target).capitalize()


def _fastest(rows: Sequence[Summary], names: dict[str, str]) -> str:
    """Say which method has the lowest median ratio of seconds where."""
    winners: dict[str, list[str]] = {}
    for place in dict.fromkeys((row.workload, row.optimizer) for row in rows):
        here = [row for row in rows if (row.workload, row.optimizer) == place]
        there = [row for row in here if math.isfinite(row.seconds_ratio.median)]
        if there:
            best = min(there, key=lambda row: row.seconds_ratio.median)
            winners.setdefault(names[best.method], []).append(_place(best))
    if not winners:
        return f"{_heading(rows)}: no method got there."
    order = sorted(winners.items(), key=lambda item: -len(item[1]))
    texts = [
        f"{name}{' (a control)' if name.partition(':')[0] in CONTROLS else ''} in {len(places)} "
        f"({', '.join(places)})"
        for name, places in order
    ]
    return f"{_heading(rows)}, lowest median ratio of all: {'; '.join(texts)}."


def _worse(rows: Sequence[Summary], names: dict[str, str], ours: Sequence[str]) -> list[str]:
    found = []
    for name in ours:
        mine = [r for r in rows if names[r.method] == name and r.target.endswith("@100")]
        for kind, label in cells.KINDS.items():
            here = [row for row in mine if row.target.startswith(kind)]
            worse, runs = sum(row.worse for row in here), sum(row.seeds for row in here)
            if worse:
                found.append(
                    f"{name} ended with a {label} above bare's, by more than the bare runs differ "
                    f"among themselves, in {worse} of {runs} runs."
                )
    return found


def _caveats(comparison: Comparison, rows: Sequence[Summary], names: dict[str, str]) -> list[str]:
    found, full = [], [row for row in rows if row.target.endswith("@100")]
    null = [r.seconds_ratio.median for r in full if r.method == "null"]
    null = [ratio for ratio in null if math.isfinite(ratio)]
    if null:
        found.append(
            f"The null method, which does nothing, took {median(null):.3f} of bare's seconds "
            f"(median of {_number(len(null), 'row')}, {min(null):.2f} to {max(null):.2f}): what "
            "differs less than that from 1 is noise."
        )
    bare = [r for r in full if r.method == "bare" and r.target.startswith("heldout")]
    overfit = [row for row in bare if 2 * row.overfitted >= row.seeds]
    if overfit:
        found.append(
            "The bare optimizer overfitted, with no lower held-out loss in the last quarter of its "
            f"budget, on at least half of the seeds of {', '.join(map(_place, overfit))}: there "
            "the held-out target comes early, and a faster fall of the training loss is no help."
        )
    seeds = min(row.seeds for row in rows)
    tests = [row.seconds_signs.p for row in full if row.method != "bare"]
    if tests:
        found.append(
            f"With {_number(seeds, 'seed')} a sign test gives p = {smallest_p(seeds):.2g} at the "
            f"least. Of the {_number(len(tests), 'test')} in seconds at 100 %, "
            f"{sum(p < LEVEL for p in tests)} are below {LEVEL}; none is corrected for the "
            f"others, and up to {math.ceil(LEVEL * len(tests))} would be by chance."
        )
    broken = violations(comparison)
    if broken:
        found.append(
            "Runs broke a rule or stopped with an error, and count as infinite everywhere: "
            f"{_number(len(broken), 'case')}, listed at the end."
        )
    return found


def _place(row: Summary) -> str:
    return f"{row.workload} with {row.optimizer}"


def _at(row: Summary) -> str:
    return f"{row.seconds_ratio.median:.2f} ({_place(row)})"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
