"""An old comparison beside a new one: what became slower or worse, and is not noise.

Only what both have is judged: the same workload, optimizer, learning rate, budget, method and seed.

- Steps to a target follow from the seed, so every difference is real. A method is slower where the
  median over the seeds of new / old is above 1, and at least nine in ten of the seeds that differ
  at all went that way: a change that only shakes the runs goes both ways.
- Seconds to a target are compared as ratios to the bare run of the same seed and process, which
  takes the machine out. A method is slower where the 95 % interval of new / old over the seeds is
  above 1.1, on three seeds or more.
- A method is worse where more of its runs miss a target, or where its final loss grew by more than
  the old runs differ among themselves (median and spread of the logarithm over the seeds).

Faster and better likewise. The bare optimizer's own seconds depend on the machine and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

from ..report import cells
from ..report.summary import scored
from ..results import COLUMNS, Comparison, Record, Run
from ..statistics import Ratio, median_ratio
from .benchmarks import against_benchmarks, benchmarks_text
from .changes import Change
from .changes import text as as_text

__all__ = ["against", "against_benchmarks", "benchmarks_text", "notes", "text"]

MARGIN = 1.1
AGREEING = 0.9
SEEDS_NEEDED = 3
RULE = (
    "steps: the median over the seeds of new / old, where nine in ten of the seeds that differ "
    "agree; seconds: over bare's of the same seed, where the 95 % interval of new / old leaves out "
    f"1 by more than 10 % on {SEEDS_NEEDED} seeds or more; final loss: where it moved by more than "
    "the old runs differ"
)
_NO_RATIO = Ratio(math.nan, math.nan, math.nan)

Key = tuple[str, str, str]
Found = dict[Key, dict[int, Run]]


def against(new: Comparison, old: Comparison) -> list[Change]:
    """Return every figure that both comparisons have, and whether it changed beyond noise.

    Raises
    ------
    ValueError
        If they have nothing in common that can be compared.
    """
    ours, theirs = _by_key(new), _by_key(old)
    common = [key for key in ours if key in theirs and _alike(ours[key], theirs[key])]
    if not common:
        message = (
            f"nothing in common to compare: new has {_contents(ours)}; old {_contents(theirs)}"
        )
        raise ValueError("; ".join([message, *notes(new, old)]))
    return [
        change
        for key in common
        for change in _changes(key, _bare(ours, key), _bare(theirs, key), ours[key], theirs[key])
    ]


def notes(new: Comparison, old: Comparison) -> list[str]:
    """Return what else differs: the machine, versions, budgets, rates, and what only one has."""
    found = _environments(new.records[0], old.records[0]) if new.records and old.records else []
    ours, theirs = _by_key(new), _by_key(old)
    for key in ours:
        if key in theirs and (reason := _difference(ours[key], theirs[key])):
            found.append(f"{_pair(key)} is left out: {reason}")
    for which, one, other in (("new", ours, theirs), ("old", theirs, ours)):
        pairs = {_pair(key) for key in other}
        lone = [", ".join(k) if _pair(k) in pairs else _pair(k) for k in one if k not in other]
        if lone:
            found.append(f"only in the {which} one: {'; '.join(dict.fromkeys(lone))}")
    return list(dict.fromkeys(found))  # what is left out is so for all methods


def text(new: Comparison, old: Comparison) -> str:
    """Return what became slower, worse, faster or better, with counts, as lines for a terminal.

    Raises
    ------
    ValueError
        If they have nothing in common that can be compared.
    """
    return as_text(against(new, old), notes(new, old), RULE)


def _by_key(comparison: Comparison) -> Found:
    found: Found = {}
    for run in scored(comparison):
        key = run.workload, run.optimizer, run.method
        found.setdefault(key, {})[run.seed] = run
    return found


def _bare(found: Found, key: Key) -> dict[int, Run]:
    return found[(*key[:2], "bare")]


def _pair(key: Key) -> str:
    return f"{key[0]} with {key[1]}"


def _contents(found: Found) -> str:
    return ", ".join(dict.fromkeys(map(_pair, found))) or "no runs"


def _alike(ours: dict[int, Run], theirs: dict[int, Run]) -> bool:
    return not _difference(ours, theirs)


def _difference(ours: dict[int, Run], theirs: dict[int, Run]) -> str:
    """Return why two sets of runs of one key cannot be compared; empty where they can."""
    for name in ("budget", "learning_rate"):
        values = [getattr(next(iter(runs.values())), name) for runs in (theirs, ours)]
        if values[0] != values[1]:
            return f"{name.replace('_', ' ')} {values[0]:g} -> {values[1]:g}"
    return "" if ours.keys() & theirs.keys() else "no seed in both"


def _environments(new: Record, old: Record) -> list[str]:
    found = []
    for name in ("cpu", "python", "packages", "threads", "jobs"):
        now, before = new.environment.get(name), old.environment.get(name)
        if isinstance(now, dict) and isinstance(before, dict):
            changed = [part for part in now if now[part] != before.get(part, now[part])]
            found += [f"{part}: {before[part]} -> {now[part]}" for part in changed]
        elif now != before:
            found.append(f"{name}: {before} -> {now}")
    if found:
        found.append("on another machine or other versions steps need not repeat to the bit")
    return found


def _changes(
    key: Key,
    bare_now: dict[int, Run],
    bare_before: dict[int, Run],
    now: dict[int, Run],
    before: dict[int, Run],
) -> Iterator[Change]:
    place, seeds = ", ".join(key), sorted(now.keys() & before.keys())
    losses = set()
    for target in now[seeds[0]].scores:
        kind = target.partition("@")[0]
        if target not in before[seeds[0]].scores:
            continue
        losses.add(COLUMNS[kind])
        here = f"{place}, {cells.target(target)}"
        pairs = [(now[s].scores[target].steps, before[s].scores[target].steps) for s in seeds]
        yield _steps(here, pairs)
        yield _misses(here, pairs)
        if key[2] != "bare":
            ratios = [
                (_to_bare(now[s], bare_now[s], target), _to_bare(before[s], bare_before[s], target))
                for s in seeds
            ]
            yield _seconds(here, [pair for pair in ratios if all(map(math.isfinite, pair))])
    for column in sorted(losses):
        finals = [(now[s].final(column), before[s].final(column)) for s in seeds]
        yield _final(f"{place}, {column.replace('_', ' ')}", finals)


def _to_bare(run: Run, bare: Run, target: str) -> float:
    """Return the seconds over bare's; infinite if either missed, or bare was there at once."""
    ours, theirs = run.scores[target].seconds, bare.scores[target].seconds
    return ours / theirs if 0 < theirs < math.inf else math.inf


def _steps(place: str, pairs: Sequence[tuple[float, float]]) -> Change:
    ratio = median_ratio(pairs)
    more, fewer = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    needed = AGREEING * (more + fewer)
    verdict = "unchanged"
    if ratio.median > 1 and more >= needed:
        verdict = "slower"
    elif ratio.median < 1 and fewer >= needed:
        verdict = "faster"
    return Change(place, "steps", *_medians(pairs), ratio, verdict)


def _seconds(place: str, pairs: Sequence[tuple[float, float]]) -> Change:
    ratio, verdict = median_ratio(pairs), "unchanged"
    if len(pairs) >= SEEDS_NEEDED and ratio.low > MARGIN:
        verdict = "slower"
    elif len(pairs) >= SEEDS_NEEDED and ratio.high < 1 / MARGIN:
        verdict = "faster"
    return Change(place, "seconds over bare's", *_medians(pairs), ratio, verdict)


def _misses(place: str, pairs: Sequence[tuple[float, float]]) -> Change:
    new, old = (sum(map(math.isinf, side)) for side in zip(*pairs, strict=True))
    verdict = "worse" if new > old else "better" if new < old else "unchanged"
    return Change(place, "misses", old, new, _NO_RATIO, verdict)


def _final(place: str, pairs: Sequence[tuple[float, float]]) -> Change:
    new, old = (sorted(map(_log, side)) for side in zip(*pairs, strict=True))
    spread = old[-1] - old[0] if math.isfinite(old[-1]) else math.inf
    grown = median(new) - median(old) if math.isfinite(median(old)) else 0.0
    verdict = "worse" if grown > spread else "better" if grown < -spread else "unchanged"
    if math.isinf(median(old)) and math.isfinite(median(new)):
        verdict = "better"
    if math.isinf(median(new)) and math.isfinite(median(old)):
        verdict = "worse"
    return Change(place, "final loss", *_medians(pairs), _NO_RATIO, verdict)


def _log(loss: float) -> float:
    """Return the logarithm of a loss, which may be 0 or infinite."""
    return math.log(max(loss, 1e-300)) if math.isfinite(loss) else math.inf


def _medians(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the medians of the old and of the new figures."""
    if not pairs:
        return math.nan, math.nan
    new, old = zip(*pairs, strict=True)
    return median(old), median(new)
