"""The report of a benchmark run as Markdown."""

from math import isinf

from report_figures import OURS, gain, limit_of, problems, seconds, short, threads_of
from report_goals import ABSENT, MISSED, REACHED

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def table(head, rows):
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def time(value):
    """Seconds in the unit that suits them, three digits."""
    unit, name = next((u for u in UNITS if value >= u[0]), UNITS[-1])
    return f"{number(value / unit)} {name}"


def number(value):
    """Three digits, without an exponent where it can be; empty for None."""
    if value is None:
        return ""
    if isinf(value) or not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2g}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def operations(timings):
    """One table per operation: who takes how long, over what limit, with what memory."""
    head = ["problem", "who", "threads", "median", "/ limit", "/ koopcore", "threads gain"]
    head += ["GFLOP/s", "GB/s", "peak memory"]
    parts = {}
    for (operation, problem), rows in problems(timings).items():
        lines = parts.setdefault(operation, [])
        lines += [[problem, *_line(who, threads, rows)] for who, threads in _parties(rows)]
    return "\n\n".join(f"### {name}\n\n{_filled(head, rows)}" for name, rows in parts.items())


def _parties(rows):
    """Whoever was measured, at which threads: koopcore, its limits, its peers."""
    found = dict.fromkeys((t.who, t.info.get("threads")) for t in rows)
    return sorted(found, key=lambda party: 1 if party[0].startswith("limit:") else
                  0 if party[0].startswith(OURS) else 2)  # fmt: skip


def _line(who, threads, rows):
    ours = next(t for t in rows if (t.who, t.info.get("threads")) == (who, threads))
    median, limit = seconds(rows, who, threads), limit_of(ours, rows)
    koopcore = [seconds(rows, OURS, t.info.get("threads")) for t in rows if t.who == OURS]
    over = median / limit.seconds if limit and not ours.is_limit else None
    call = median * ours.info.get("per", 1)
    rates = [ours.info[key] / call / 1e9 if ours.info.get(key) else None for key in KEYS]
    ratio = median / min(koopcore) if koopcore and who != OURS else None
    second = gain(rows, who) if threads == max(threads_of(rows, who), default=None) else None
    memory = ours.info.get("peak_memory")
    cells = [number(value) for value in (over, ratio, second, *rates, memory)]
    return [who, str(threads or ""), time(median), *cells]


KEYS = ("flops", "bytes")


def _filled(head, rows):
    """The table without the columns that are empty all over."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    return table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])


def growth_table(found, cache_bytes):
    """Exponents, where they hold, and what was taken for the size of the caches."""
    if not found:
        return ""
    head = ["operation", "fixed", "over", "range", "exponent", "beyond the caches", "range"]
    rows = [
        [g.operation, g.fixed, g.over, _range(g.range), f"{g.exponent:.2f}",
         "" if g.large is None else f"{g.large:.2f}", _range(g.large_range)]
        for g in found
    ]  # fmt: skip
    note = (
        "Least squares of log time over log size. Beyond the caches: data above "
        f"{cache_bytes / 2**20:g} MiB."
    )
    return f"## Growth\n\n{note}\n\n{table(head, rows)}"


def _range(sizes):
    return "" if sizes is None else f"{short(sizes[0])} to {short(sizes[1])}"


def training_table(figures):
    """What is told of training and accuracy."""
    rows = [[f.operation, f.problem, f.what, number(f.value)] for f in figures]
    head = ["what", "problem", "figure", "value"]
    return f"## Training, import, accuracy\n\n{table(head, rows)}" if rows else ""


def goals_table(verdicts):
    """Every goal, what was found, and how many were missed."""
    rows = [
        [v.operation, v.problem, v.goal.what, v.goal.text, number(v.found), v.verdict]
        for v in verdicts
    ]
    head = ["operation", "problem", "what", "goal", "found", ""]
    return f"## Goals\n\n{summary_line(verdicts)}\n\n{table(head, rows)}"


def missed_lines(verdicts):
    """What was missed, a line each, and the counts."""
    lines = [
        f"MISSED: {v.operation}, {v.problem}: {v.goal.what} {number(v.found)}, goal {v.goal.text}"
        for v in verdicts
        if v.verdict == MISSED
    ]
    return "\n".join([*lines, summary_line(verdicts)])


def summary_line(verdicts):
    """How many goals there are, missed and not measured."""
    reached, missed, absent = (
        sum(v.verdict == verdict for v in verdicts) for verdict in (REACHED, MISSED, ABSENT)
    )
    machine = len(verdicts) - reached - missed - absent
    return (
        f"{len(verdicts)} goals: {reached} reached, {missed} missed, {machine} beyond what the "
        f"machine gives, {absent} not measured."
    )
