"""Two files of ``make bench`` beside each other: which benchmarks became slower beyond noise.

Machines differ, and one machine from hour to hour. So a time is compared as its ratio to the limit
that the same run measured for the same problem: what copies and matrix multiplications take. Where
a problem has no limit, or another one than it had, its time is divided by what all limits that both
files have take now over what they took (the median of it); where there are none at all, seconds
are compared.

A benchmark is slower where the lower quartile of its new rounds is above the upper quartile of its
old ones by more than a tenth; the quartiles of a ratio are those of both its parts, the worst way
round. With fewer than five rounds on either side there are no quartiles to speak of: its median
must have grown by half, more than the third by which such figures move from run to run on a shared
machine. A peak of memory is worse where it grew by more than a tenth. Peers are not judged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ..statistics import Ratio
from .changes import Change, text
from .timings import Timing, limit_of, load, timings

MARGIN = 1.1
FEW_ROUNDS, FEW_MARGIN = 5, 1.5
MEMORY_FLOOR = 0.01  # of the input: what is smaller is the interpreter's
RULE = (
    "slower: the new lower quartile is above the old upper one by more than 10 %, or, with fewer "
    f"than {FEW_ROUNDS} rounds, the median grew by more than half; of the ratio to the limit that "
    "the same run measured, else of seconds divided by the growth of all limits"
)


def against_benchmarks(new: Path, old: Path) -> list[Change]:
    """Return the medians of every benchmark that both files have, and whether they changed.

    Parameters
    ----------
    new, old : Path
        JSON of pytest-benchmark.

    Raises
    ------
    ValueError
        If a file is no such JSON, or the two have no benchmark in common.
    """
    ours, theirs = timings(load(new)), timings(load(old))
    pairs = _pairs(ours, theirs)
    if not pairs:
        raise ValueError(f"{new} and {old} have no benchmark in common")
    growth = _growth(pairs)
    changes = []
    for now, before in pairs:
        if now.is_limit or (now.who and not now.is_ours):
            continue
        limits = limit_of(now, ours), limit_of(before, theirs)
        changes.append(_time(now, before, limits, growth or 1.0))
        memory = [side.info.get("peak_memory") for side in (before, now)]
        if None not in memory:
            changes.append(_memory(now.place, *memory))
    return changes


def benchmarks_text(new: Path, old: Path) -> str:
    """Return what became slower, worse, faster or better, with counts, as lines for a terminal.

    Raises
    ------
    ValueError
        As of `against_benchmarks`.
    """
    changes = against_benchmarks(new, old)
    now, before = load(new), load(old)
    ours, theirs = timings(now), timings(before)
    growth = _growth(_pairs(ours, theirs))
    notes = [
        "no limit in both files: seconds are compared as they are"
        if growth is None
        else f"the limits take {growth:.2f} of their old time"
    ]
    machines = [document["machine_info"] for document in (before, now)]
    named = {"cpu": ("cpu", "brand_raw"), "python": ("python_version",), "blas": ("blas",)}
    for label, keys in named.items():
        values = [_inner(machine, keys) for machine in machines]
        if values[0] != values[1]:
            notes.append(f"{label}: {values[0]} -> {values[1]}")
    for which, one, other in (("new", ours, theirs), ("old", theirs, ours)):
        lone = {t.place for t in one if t.is_ours} - {t.place for t in other}
        if lone:
            notes.append(f"only in the {which} one: {len(lone)} benchmarks of koopcore")
    return text(changes, notes, RULE)


def recognised(path: Path) -> bool:
    """Tell whether a file is of pytest-benchmark."""
    try:
        load(path)
    except (OSError, ValueError):
        return False
    return True


def _keyed(timings: Sequence[Timing]) -> dict[tuple[str, int], Timing]:
    """Name measurements by what they are of, the second of one kind as such, and so on.

    Functions and parameters may be renamed meanwhile.
    """
    found: dict[tuple[str, int], Timing] = {}
    before: Counter[str] = Counter()
    for timing in timings:
        found[timing.place, before[timing.place]] = timing
        before[timing.place] += 1
    return found


def _pairs(new: Sequence[Timing], old: Sequence[Timing]) -> list[tuple[Timing, Timing]]:
    before = _keyed(old)
    return [(timing, before[key]) for key, timing in _keyed(new).items() if key in before]


def _growth(pairs: Sequence[tuple[Timing, Timing]]) -> float | None:
    """Return the median of new / old over the limits in both; None without any."""
    ratios = [now.seconds / before.seconds for now, before in pairs if now.is_limit]
    return median(ratios) if ratios else None


def _time(
    new: Timing, old: Timing, limits: tuple[Timing | None, Timing | None], growth: float
) -> Change:
    ours, theirs = limits
    if ours is not None and theirs is not None and ours.name == theirs.name:
        figure, sides = "time over limit", (_over(new, ours), _over(old, theirs))
        growth, rounds = 1.0, min(t.rounds for t in (new, old, ours, theirs))
    else:
        figure, rounds = "seconds", min(new.rounds, old.rounds)
        sides = (Ratio(new.seconds, new.low, new.high), Ratio(old.seconds, old.low, old.high))
    now, before = sides
    middle = now.median / before.median / growth
    ratio = Ratio(middle, now.low / before.high / growth, now.high / before.low / growth)
    verdict, margin = "unchanged", MARGIN
    if rounds < FEW_ROUNDS:
        ratio, margin = Ratio(middle, middle, middle), FEW_MARGIN
    if ratio.low > margin:
        verdict = "slower"
    elif ratio.high < 1 / margin:
        verdict = "faster"
    return Change(new.place, figure, before.median, now.median, ratio, verdict)


def _over(timing: Timing, limit: Timing) -> Ratio:
    return Ratio(timing.seconds / limit.seconds, timing.low / limit.high, timing.high / limit.low)


def _memory(name: str, old: float, new: float) -> Change:
    verdict = "unchanged"
    if new > max(MARGIN * old, old + MEMORY_FLOOR):
        verdict = "worse"
    elif old > max(MARGIN * new, new + MEMORY_FLOOR):
        verdict = "better"
    return Change(name, "peak memory over input", old, new, Ratio(*[math.nan] * 3), verdict)


def _inner(machine: dict[str, Any], keys: tuple[str, ...]) -> Any:
    found: Any = machine
    for key in keys:
        found = found.get(key, {}) if isinstance(found, dict) else {}
    return found or "unknown"
