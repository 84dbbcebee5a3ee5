"""The measurements in a file of pytest-benchmark, by what their ``extra_info`` says of them.

A measurement with `operation` and `problem` belongs to that problem: `who` is "koopcore", the name
of a peer, or "limit: ..." for what the machine could do at best. Several limits of one problem make
one by their maximum, or by their sum where they say so (`combine`). One without is known by its
name alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS, LIMIT = "koopcore", "limit:"


@dataclass(frozen=True)
class Timing:
    """One benchmark: seconds of its rounds, and of what.

    Attributes
    ----------
    name : str
        File and function with its parameters.
    operation, problem, who : str
        What was measured, on what, of whom; empty where the benchmark does not say.
    seconds, low, high : float
        Median and quartiles, divided by `per` of the ``extra_info``.
    rounds : int
        How many rounds they are of.
    info : dict
        The whole ``extra_info``.
    """

    name: str
    operation: str
    problem: str
    who: str
    seconds: float
    low: float
    high: float
    rounds: int
    info: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def place(self) -> str:
        """What was measured, in words."""
        if not self.operation:
            return self.name
        threads = self.info.get("threads")
        parts = [self.operation, self.problem, self.who if self.who != OURS else ""]
        return ", ".join([*filter(None, parts), *([f"threads {threads}"] if threads else [])])

    @property
    def is_limit(self) -> bool:
        """Whether it says what the machine could do at best."""
        return self.who.startswith(LIMIT)

    @property
    def is_ours(self) -> bool:
        """Whether koopcore was measured, in whatever form."""
        return self.who.startswith(OURS)


def load(path: Path) -> dict[str, Any]:
    """Return the JSON of pytest-benchmark.

    Raises
    ------
    ValueError
        If the file is something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not the JSON of pytest-benchmark: {error}") from None
    if not isinstance(document, dict) or not {"benchmarks", "machine_info"} <= document.keys():
        raise ValueError(f"{path} is not the JSON of pytest-benchmark: it has no benchmarks")
    return document


def timings(document: dict[str, Any]) -> list[Timing]:
    """Return all measurements of a loaded file, in its order."""
    return [_timing(entry) for entry in document["benchmarks"]]


def limit_of(timing: Timing, among: Iterable[Timing], *, fastest: bool = False) -> Timing | None:
    """Return the limit of a measurement's problem as one made-up measurement; None without any.

    Each limit counts at the threads of the measurement; where it was not measured at them, or with
    `fastest`, at those where it is fastest.
    """
    kinds: dict[str, list[Timing]] = {}
    for other in among:
        same = (other.operation, other.problem) == (timing.operation, timing.problem)
        if same and other.operation and other.is_limit:
            kinds.setdefault(other.who, []).append(other)
    threads = None if fastest else timing.info.get("threads")
    chosen = [_at_threads(found, threads) for found in kinds.values()]
    return _combined(chosen) if chosen else None


def _at_threads(found: Sequence[Timing], threads: Any) -> Timing:
    alike = [t for t in found if t.info.get("threads") == threads]
    return min(alike or found, key=lambda t: t.seconds)


def _combined(limits: Sequence[Timing]) -> Timing:
    add = any(t.info.get("combine") == "sum" for t in limits)
    largest = max(limits, key=lambda t: t.seconds)
    join = (lambda values: sum(values)) if add else max
    return Timing(
        (" + " if add else " or ").join(t.who.removeprefix(LIMIT).strip() for t in limits),
        largest.operation,
        largest.problem,
        LIMIT,
        join(t.seconds for t in limits),
        join(t.low for t in limits),
        join(t.high for t in limits),
        min(t.rounds for t in limits),
        largest.info,
    )


def _timing(entry: dict[str, Any]) -> Timing:
    info, stats = entry.get("extra_info", {}), entry["stats"]
    per = float(info.get("per", 1))
    return Timing(
        entry.get("fullname", entry["name"]).rsplit("/", 1)[-1],
        str(info.get("operation", "")),
        str(info.get("problem", "")),
        str(info.get("who", "")),
        stats["median"] / per,
        stats["q1"] / per,
        stats["q3"] / per,
        stats["rounds"],
        info,
    )
