"""The page of a comparison: one HTML file with its tables, pictures and words, and no other."""

from __future__ import annotations

import inspect
import math
import struct
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from .. import registry
from ..registry import OURS
from ..results import COLUMNS, Comparison, Run
from . import cells, pictures
from .profiles import Profile, profile
from .styles import style
from .summary import Summary, families, groups, summarize, verdicts
from .tables import titles, violations
from .words import outcome, sentences

TAUS = (1, 2, 4)
_LOOKS = {"faster": "faster", "slower": "slower", "never there": "never"}

Context = dict[str, Any]


def html(comparison: Comparison, command: str, date: str) -> str:
    """Return the page.

    Parameters
    ----------
    comparison : Comparison
    command : str
        What made it, as it would be typed.
    date : str
        Of the comparison, YYYY-MM-DD.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("koopcore.compare.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(_context(comparison, command, date))


def _context(comparison: Comparison, command: str, date: str) -> Context:
    targets = list(dict.fromkeys(t for run in comparison.runs for t in run.scores))
    profiles = [profile(comparison, target) for target in targets]
    profiles = [found for found in profiles if found.instances]
    return {
        "title": f"koopcore compare: {', '.join(titles(comparison))}",
        "command": command,
        "date": date,
        "sentences": sentences(comparison),
        "tally": _tally(comparison),
        "violations": violations(comparison),
        "workloads": list(_workloads(comparison)),
        "legend": _legend(comparison),
        "profiles": [_profile_figure(found) for found in profiles],
        "shares": _shares(profiles),
        "methods": _methods(comparison),
        "machines": _machines(comparison),
    }


def _tally(comparison: Comparison) -> Context:
    """Return how every method did in all pairs of workload and optimizer together."""
    names = families(comparison)
    rows = [r for r in summarize(comparison) if r.target.endswith("@100") and r.method != "bare"]
    targets = list(dict.fromkeys(row.target for row in rows))
    found = []
    for name in dict.fromkeys(names[row.method] for row in rows):
        mine = [row for row in rows if names[row.method] == name]
        counts = [_counts([row for row in mine if row.target == target]) for target in targets]
        found.append({"method": name, "look": _row_look(name), "counts": counts})
    return {"kinds": [cells.target(target) for target in targets], "rows": found}


def _counts(rows: Sequence[Summary]) -> Context:
    found = Counter(outcome(row.seconds_ratio) for row in rows)
    ratios = [row.seconds_ratio.median for row in rows if math.isfinite(row.seconds_ratio.median)]
    return {
        "faster": found["faster"],
        "undecided": found["undecided"],
        "slower": found["slower"],
        "never": found["never there"],
        "ratios": " to ".join(dict.fromkeys(f"{r:.2f}" for r in (min(ratios), max(ratios))))
        if ratios
        else "-",
        "missed": cells.share(sum(row.misses for row in rows), sum(row.seeds for row in rows)),
    }


def _workloads(comparison: Comparison) -> Iterator[Context]:
    summaries, judged = summarize(comparison), verdicts(comparison)
    for name, record in titles(comparison).items():
        mine = [row for row in summaries if row.workload == name]
        pairs = {o: runs for (w, o), runs in groups(comparison).items() if w == name}
        yield {
            "name": name,
            "title": record.title,
            "budget": record.budget,
            "every": record.evaluate_every,
            "seeds": _seeds(comparison, name),
            "tables": [
                _table(label, [row for row in mine if row.target.startswith(kind)])
                for kind, label in cells.KINDS.items()
                if any(row.target.startswith(kind) for row in mine)
            ],
            "verdicts": [_verdict(row) for row in judged if row.workload == name],
            "curves": list(_curves(name, pairs)),
            "jumps": list(_jumps(name, pairs)),
            "spectra": list(_spectra(name, pairs)),
        }


def _seeds(comparison: Comparison, workload: str) -> str:
    seeds = sorted({run.seed for run in comparison.runs if run.workload == workload})
    return ", ".join(map(str, seeds))


def _table(label: str, rows: Sequence[Summary]) -> Context:
    shares = list(dict.fromkeys(row.target.partition("@")[2] for row in rows))
    found = []
    for _, group in groupby(_by_method(rows), lambda same: same[0].optimizer):
        methods = list(group)
        bare = methods[0]
        targets = [
            f"{cells.loss(row.bound)} ({share} %)" for row, share in zip(bare, shares, strict=True)
        ]
        heading = f"{bare[0].optimizer}, learning rate {bare[0].learning_rate:g}: targets "
        heading += ", ".join(targets)
        if label == cells.KINDS["heldout"] and bare[0].overfitted:
            heading += f"; bare overfitted on {bare[0].overfitted} of {bare[0].seeds} seeds"
        found.append({"heading": heading, "rows": [_row(same) for same in methods]})
    return {"label": label, "shares": shares, "groups": found}


def _by_method(rows: Sequence[Summary]) -> list[list[Summary]]:
    """Return the rows of one optimizer and method together, which differ in the target."""
    found: dict[tuple[str, str], list[Summary]] = {}
    for row in rows:
        found.setdefault((row.optimizer, row.method), []).append(row)
    return list(found.values())


def _row(same: Sequence[Summary]) -> Context:
    last = same[-1]
    bare = last.method == "bare"
    return {
        "method": f"{last.method} (!)" if last.violated else last.method,
        "look": "bare" if bare else _row_look(last.method),
        "times": [_times(row) for row in same],
        "loss": cells.loss(last.final_loss),
        "worse": "" if bare else cells.share(last.worse, last.seeds),
        "accuracy": cells.accuracy(last.accuracy),
        "jumps": cells.jumps(last.taken, last.refused),
    }


def _row_look(method: str) -> str:
    return "ours" if method.partition(":")[0] in OURS else ""


def _times(row: Summary) -> Context:
    if row.method == "bare":
        found = dict.fromkeys(("steps_look", "seconds_look", "steps_signs", "seconds_signs"), "")
        found |= {"steps": cells.steps(row.steps), "seconds": f"{cells.seconds(row.seconds)} s"}
        return found | {"missed": ""}
    return {
        "steps": cells.ratio(row.steps_ratio),
        "steps_look": _LOOKS.get(outcome(row.steps_ratio), ""),
        "steps_signs": cells.signs(row.steps_signs),
        "seconds": cells.ratio(row.seconds_ratio),
        "seconds_look": _LOOKS.get(outcome(row.seconds_ratio), ""),
        "seconds_signs": cells.signs(row.seconds_signs),
        "missed": cells.share(row.misses, row.seeds),
    }


def _verdict(row: Any) -> Context:
    return {
        "optimizer": row.optimizer,
        "loss": cells.KINDS[row.target.partition("@")[0]],
        "method": row.method,
        "against": row.against,
        "steps": cells.ratio(row.steps),
        "steps_look": _LOOKS.get(outcome(row.steps), ""),
        "seconds": cells.ratio(row.seconds),
        "seconds_look": _LOOKS.get(outcome(row.seconds), ""),
    }


Pairs = dict[str, dict[str, list[Run]]]


def _curves(workload: str, pairs: Pairs) -> Iterator[Context]:
    for kind, label in cells.KINDS.items():
        for optimizer, methods in pairs.items():
            runs = [run for found in methods.values() for run in found]
            if COLUMNS[kind] in runs[0].curve:
                src = pictures.times(runs, COLUMNS[kind])
                alt = f"{label} of {workload} with {optimizer} against seconds, for every method"
                yield _figure(src, alt.capitalize(), f"{optimizer}, {label}")


def _jumps(workload: str, pairs: Pairs) -> Iterator[Context]:
    for optimizer, methods in pairs.items():
        runs = [run for found in methods.values() for run in found]
        jumped = [run for run in runs if run.jumps["step"]]
        if not jumped:
            continue
        counts = [
            f"{method} {median(run.taken for run in found):.0f}/"
            f"{median(run.refused for run in found):.0f}"
            for method, found in methods.items()
            if any(run.taken + run.refused for run in found)
        ]
        alt = f"Horizons and losses of the jumps taken on {workload} with {optimizer}"
        caption = f"{optimizer}; taken/refused per run, median: {', '.join(counts)}"
        yield _figure(pictures.jumps(jumped), alt, caption)


def _spectra(workload: str, pairs: Pairs) -> Iterator[Context]:
    """Yield koopcore's spectra with every optimizer, other methods' with the first only."""
    for optimizer, methods in pairs.items():
        for method, found in methods.items():
            run = min(found, key=lambda run: run.seed)
            first = optimizer == next(iter(pairs))
            if any(run.spectra.get("real", ())) and (method == "koopcore" or first):
                alt = f"Eigenvalues of {method} on {workload} with {optimizer}, seed {run.seed}"
                caption = f"{method} with {optimizer}, seed {run.seed}"
                yield _figure(pictures.spectrum(run), alt, caption)


def _figure(src: str, alt: str, caption: str) -> Context:
    # The size, so that a browser leaves room; a PNG's is in its first bytes.
    width, height = struct.unpack(">II", b64decode(src.partition(",")[2][:32])[16:24])
    return {"src": src, "alt": alt, "caption": caption, "width": width, "height": height}


def _profile_figure(found: Profile) -> Context:
    caption = f"{cells.target(found.target)}; instances: {found.instances}"
    if found.left_out:
        caption += f", left out since nobody arrived: {found.left_out}"
    missing = [f"{method} on {count}" for method, count in found.not_run.items() if count]
    if missing:
        caption += f"; did not run, which counts as a miss: {', '.join(missing)}"
    alt = f"Performance profiles of all methods, {cells.target(found.target)}"
    return _figure(pictures.profile(found), alt, caption)


def _shares(profiles: Sequence[Profile]) -> Context:
    rows = [
        {
            "method": method,
            "look": "bare" if method == "bare" else _row_look(method),
            "figures": [f"{p.share(method, tau):.2f}" for p in profiles for tau in TAUS],
        }
        for method in (profiles[0].ratios if profiles else ())
    ]
    targets = [cells.target(found.target) for found in profiles]
    return {"targets": targets, "taus": TAUS, "rows": rows}


def _legend(comparison: Comparison) -> list[Context]:
    found = []
    for name in dict.fromkeys(families(comparison).values()):
        look = style(name)
        dashes = " ".join(f"{1.5 * length:g}" for length in look.dashes) or "none"
        found.append({"name": name, "color": look.color, "dashes": dashes, "width": look.width})
    return found


def _methods(comparison: Comparison) -> list[Context]:
    """Return every method with the values it had and the first line of its docstring."""
    values: dict[str, dict[str, str]] = {}
    for run in comparison.runs:
        name, _, value = run.method.partition(":")
        values.setdefault(name, {})[value] = run.method
    budget = comparison.runs[0].budget
    found = []
    for name, specs in values.items():
        label = f"{name}: {', '.join(specs)}" if any(specs) else name
        found.append({"name": label, "text": _described(next(iter(specs.values())), budget)})
    return found


def _described(spec: str, budget: int) -> str:
    try:
        made = registry.make(spec, budget)
    except (ValueError, ImportError):
        return "Not known to what is installed here."
    texts = [_first_line(type(made))]
    rule = vars(made).get("_options", {}).get("rule")
    return " ".join([*texts, _first_line(type(rule))] if rule else texts)


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0].replace("`", "")


def _machines(comparison: Comparison) -> list[list[tuple[str, str]]]:
    """Return what is known of each machine, as names and texts."""
    found = []
    for record in comparison.records:
        lines = [(k.replace("_", " "), _text(v)) for k, v in record.environment.items()]
        if lines not in found:
            found.append(lines)
    return found


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    if isinstance(value, float) and math.isinf(value):  # what is null in the file
        return "not known"
    return str(value)
