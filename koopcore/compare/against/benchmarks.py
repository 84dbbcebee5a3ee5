"""Two files of ``make bench`` beside each other: which benchmarks became slower beyond noise.

A benchmark is slower where the lower quartile of its new rounds is above the upper quartile of its
old ones by more than a tenth. With fewer than five rounds on either side there are no quartiles to
speak of: its median must have grown by half, more than the third by which such figures move from
run to run on a shared machine. Before that, the new times are divided by the median growth of the
yardsticks that both files have: copies, reads and matrix multiplications, which only the machine
can change. A peak of memory is worse where it grew by more than a tenth.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

from ..statistics import Ratio
from .changes import Change, text

MARGIN = 1.1
FEW_ROUNDS, FEW_MARGIN = 5, 1.5
MEMORY_FLOOR = 0.01  # of the input: what is smaller is the interpreter's
_YARDSTICKS = ("test_copy", "test_read_of", "test_stream_copy")
RULE = (
    "slower: the new lower quartile is above the old upper one by more than 10 %, or, with fewer "
    f"than {FEW_ROUNDS} rounds, the median grew by more than half; new times are divided by the "
    "growth of the yardsticks"
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
    ours, theirs = _stats(_load(new)), _stats(_load(old))
    common = [name for name in ours if name in theirs]
    if not common:
        raise ValueError(f"{new} and {old} have no benchmark in common")
    growth = _growth(ours, theirs)
    changes = []
    for name in common:
        if not _is_yardstick(name):
            changes.append(_time(name, ours[name]["stats"], theirs[name]["stats"], growth or 1.0))
        memory = [side[name].get("extra_info", {}).get("peak_memory") for side in (theirs, ours)]
        if None not in memory:
            changes.append(_memory(name, *memory))
    return changes


def benchmarks_text(new: Path, old: Path) -> str:
    """Return what became slower, worse, faster or better, with counts, as lines for a terminal.

    Raises
    ------
    ValueError
        As of `against_benchmarks`.
    """
    changes = against_benchmarks(new, old)
    now, before = _load(new), _load(old)
    growth = _growth(_stats(now), _stats(before))
    notes = [
        "no yardstick in both files: the times are compared as they are"
        if growth is None
        else f"the yardsticks take {growth:.2f} of their old time, which is taken out"
    ]
    machines = [document["machine_info"] for document in (before, now)]
    for label, keys in {"cpu": ("cpu", "brand_raw"), "python": ("python_version",)}.items():
        values = [_inner(machine, keys) for machine in machines]
        if values[0] != values[1]:
            notes.append(f"{label}: {values[0]} -> {values[1]}")
    return text(changes, notes, RULE)


def recognised(path: Path) -> bool:
    """Tell whether a file is of pytest-benchmark."""
    try:
        _load(path)
    except (OSError, ValueError):
        return False
    return True


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not the JSON of pytest-benchmark: {error}") from None
    if not isinstance(document, dict) or not {"benchmarks", "machine_info"} <= document.keys():
        raise ValueError(f"{path} is not the JSON of pytest-benchmark: it has no benchmarks")
    return document


def _stats(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in document["benchmarks"]}


def _is_yardstick(name: str) -> bool:
    return name.startswith(_YARDSTICKS) or "flops_at_gemm_peak" in name


def _growth(ours: dict[str, Any], theirs: dict[str, Any]) -> float | None:
    """Return the median of new / old over the yardsticks in both; None without any."""
    ratios = [
        ours[name]["stats"]["median"] / theirs[name]["stats"]["median"]
        for name in ours
        if name in theirs and _is_yardstick(name)
    ]
    return median(ratios) if ratios else None


def _time(name: str, new: dict[str, float], old: dict[str, float], growth: float) -> Change:
    middle = new["median"] / old["median"] / growth
    ratio = Ratio(middle, new["q1"] / old["q3"] / growth, new["q3"] / old["q1"] / growth)
    verdict, margin = "unchanged", MARGIN
    if min(new["rounds"], old["rounds"]) < FEW_ROUNDS:
        ratio, margin = Ratio(middle, middle, middle), FEW_MARGIN
    if ratio.low > margin:
        verdict = "slower"
    elif ratio.high < 1 / margin:
        verdict = "faster"
    return Change(name, "seconds", old["median"], new["median"], ratio, verdict)


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
