"""From measurements to the figures that are reported: ratios to limits and peers, growth, gains.

Whatever a run did not measure has no figure; a part of the benchmarks makes a part of the report.
"""

from dataclasses import dataclass
from math import log
from statistics import median

import numpy as np

from koopcore.compare.against.timings import OURS, limit_of

# The last-level cache of a file that does not say it: growth over n is asked for beyond it.
CACHE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Figure:
    """One number that follows from measurements, and of which problem."""

    operation: str
    problem: str
    what: str
    value: float


@dataclass(frozen=True)
class Growth:
    """Exponent of the time over one size, with the others fixed.

    `large` and `large_range` are of those sizes alone whose data do not fit the caches; None where
    fewer than two do not.
    """

    operation: str
    fixed: str
    over: str
    range: tuple[float, float]
    exponent: float
    large_range: tuple[float, float] | None = None
    large: float | None = None


def problems(timings):
    """All (operation, problem) in their order, with the measurements of each."""
    found = {}
    for timing in timings:
        if timing.operation:
            found.setdefault((timing.operation, timing.problem), []).append(timing)
    return found


def seconds(timings, who, threads):
    """Median over the measurements of one party at these threads; None without any."""
    times = [t.seconds for t in timings if t.who == who and t.info.get("threads") == threads]
    return median(times) if times else None


def fastest(timings, who=OURS):
    """The measurement of a party at its fastest number of threads; None without any."""
    found = [t for t in timings if t.who == who]
    if not found:
        return None
    counts = dict.fromkeys(t.info.get("threads") for t in found)
    best = min(counts, key=lambda count: seconds(timings, who, count))
    alike = sorted((t for t in found if t.info.get("threads") == best), key=lambda t: t.seconds)
    return alike[(len(alike) - 1) // 2]


def threads_of(timings, who):
    """The numbers of threads that a party was measured at."""
    return {t.info["threads"] for t in timings if t.who == who and t.info.get("threads")}


def gain(timings, who=OURS):
    """Time with one thread over time with the most; None where either is missing."""
    counts = threads_of(timings, who)
    if len(counts) < 2 or 1 not in counts:
        return None
    return seconds(timings, who, 1) / seconds(timings, who, max(counts))


def limit_gain(timings):
    """What threads bring to the limit of a problem; None where it was not measured."""
    limits = [t for t in timings if t.is_limit]
    counts = {frozenset(threads_of(limits, t.who)) for t in limits}
    if len(counts) != 1 or len(threads := counts.pop()) < 2 or 1 not in threads:
        return None
    ends = (next(t for t in limits if t.info["threads"] == k) for k in (1, max(threads)))
    one, most = (limit_of(t, limits).seconds for t in ends)
    return one / most


def figures(timings):
    """All figures of labelled measurements, problem by problem."""
    found = []
    for (operation, problem), rows in problems(timings).items():
        values = _of_problem(rows)
        found += [Figure(operation, problem, k, v) for k, v in values.items() if v is not None]
    return found


def _of_problem(rows):
    values, best = {}, fastest(rows)
    if best is not None:
        time = seconds(rows, OURS, best.info.get("threads"))
        limit, one = limit_of(best, rows, fastest=True), seconds(rows, OURS, 1)
        if limit is not None:
            values["over limit"] = time / limit.seconds
        peers = dict.fromkeys(t.who for t in rows if t.who and not (t.is_limit or t.is_ours))
        ratios = {peer: fastest(rows, peer).seconds / time for peer in peers}
        values |= {f"{peer} / koopcore": ratio for peer, ratio in ratios.items()}
        if ratios:
            values["best peer / koopcore"] = min(ratios.values())
        values["gain of threads"] = gain(rows)
        if one is not None and limit is not None:
            alone = next(t for t in rows if t.who == OURS and t.info.get("threads") == 1)
            values["over limit, one thread"] = one / limit_of(alone, rows).seconds
    machine = not any(t.is_ours or t.is_limit for t in rows)  # bandwidth, matrix multiplication
    gains = [gain(rows, t.who) for t in rows] if machine else [limit_gain(rows)]
    values["gain of the limit"] = max(filter(None, gains), default=None)
    for key, what in (("peak_memory", "peak memory"), ("numbers", "numbers per feature")):
        held = [t.info[key] for t in rows if t.is_ours and key in t.info]
        values[what] = max(held, default=None)
    return values | _interleaved(rows)


def _interleaved(rows):
    """What a part of a loop takes beside the other one, over what it takes alone."""
    values = {}
    for part in ("torch", OURS):
        for threads in dict.fromkeys(t.info.get("threads") for t in rows):
            times = [seconds(rows, f"{part} {how}", threads) for how in ("interleaved", "alone")]
            if None not in times:
                name = f"{part} between the other's steps / alone, threads {threads}"
                values[name] = times[0] / times[1]
    return values


def growth(timings, cache_bytes=CACHE_BYTES):
    """Exponents of koopcore's time over n and over m, for every three sizes or more."""
    found = []
    for over, other in (("n", "m"), ("m", "n")):
        families = {}
        for t in timings:
            if t.who == OURS and t.info.get("n") and t.info.get("m"):
                fixed = (t.info[other], t.info.get("dtype"), t.info.get("threads"))
                sizes = families.setdefault((t.operation, *fixed), {})
                sizes.setdefault(t.info[over], []).append(t)
        for (operation, size, dtype, threads), sizes in families.items():
            if len(sizes) >= 3:
                words = [f"{other}={short(size)}", dtype, f"threads {threads}" if threads else None]
                fixed = ", ".join(filter(None, words))
                found.append(_growth(operation, fixed, over, sizes, cache_bytes))
    return found


def _growth(operation, fixed, over, sizes, cache_bytes):
    times = {size: median(t.seconds for t in rows) for size, rows in sorted(sizes.items())}
    large = [size for size in times if _bytes(sizes[size][0].info) > cache_bytes]
    whole = (operation, fixed, over, (min(times), max(times)), exponent(times))
    if over == "m" or len(large) < 2:
        return Growth(*whole)
    return Growth(*whole, (large[0], large[-1]), exponent({k: times[k] for k in large}))


def short(size):
    """A size as the names of problems have it: 1e6, 64."""
    digits = f"{size:.0e}".replace("e+0", "e").replace("e+", "e")
    return digits if size >= 1e4 and float(digits) == size else f"{size:g}"


def exponent(times):
    """Slope of log time over log size, by least squares."""
    return float(np.polyfit([log(k) for k in times], [log(t) for t in times.values()], 1)[0])


def _bytes(info):
    return info["n"] * info["m"] * np.dtype(info.get("dtype", "float32")).itemsize


def growth_figures(found):
    """The exponents as figures, for the goals."""
    return [
        Figure(g.operation, g.fixed, what, value)
        for g in found
        for what, value in (
            (f"exponent of {g.over}", g.exponent),
            (f"exponent of {g.over} beyond the caches", g.large),
        )
        if value is not None
    ]
