"""Outcomes reduced over the starts: medians, bootstrap intervals, and counts against controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..statistics import Ratio, median_ratio
from .entrants import CONTROLS
from .score import TRUE, Outcome


@dataclass(frozen=True)
class Row:
    """One predictor on one recording at one horizon.

    Attributes
    ----------
    starts : int
    relative_error, error_to_growth : Ratio
        Median over the starts and its 95 % bootstrap interval.
    train_loss : float
        Median.
    train_ratio, heldout_ratio : Ratio
        Of the loss at the forecast to that at the start's weights ("stay"); `heldout_ratio` is nan
        where there are no held-out data.
    closer, lower : dict of str to int
        On how many starts the error, or the training loss, was below that of each control.
    """

    recording: str
    rule: str
    horizon: int
    steps: int
    starts: int
    relative_error: Ratio
    error_to_growth: Ratio
    train_loss: float
    train_ratio: Ratio
    heldout_ratio: Ratio
    closer: dict[str, int]
    lower: dict[str, int]


def summarize(outcomes: Sequence[Outcome]) -> list[Row]:
    """Return one row per outcome, in their order.

    The starts of one recording follow each other in one run: intervals tell how much a figure
    varies along that run, and nothing about other seeds.
    """
    by_key = {(o.recording, o.horizon, o.rule): o for o in outcomes}
    return [
        _row(o, {name: by_key[o.recording, o.horizon, name] for name in CONTROLS}) for o in outcomes
    ]


@dataclass(frozen=True)
class Tally:
    """One predictor at one horizon over all recordings: `Row.closer` and `Row.lower` added up."""

    rule: str
    horizon: int
    starts: int
    closer: dict[str, int]
    lower: dict[str, int]


def tally(rows: Sequence[Row]) -> list[Tally]:
    """Return the counts over all recordings, for the horizons that all of them have."""
    n_recordings = len({row.recording for row in rows})
    found = []
    for horizon, rule in dict.fromkeys((row.horizon, row.rule) for row in rows):
        group = [row for row in rows if (row.horizon, row.rule) == (horizon, rule)]
        if len(group) == n_recordings:
            closer, lower = (
                {name: sum(getattr(row, kind)[name] for row in group) for name in CONTROLS}
                for kind in ("closer", "lower")
            )
            found.append(Tally(rule, horizon, sum(row.starts for row in group), closer, lower))
    return found


def _row(outcome: Outcome, controls: dict[str, Outcome]) -> Row:
    stay = controls["stay"]

    def to_stay(name: str) -> Ratio:
        return median_ratio(list(zip(getattr(outcome, name), getattr(stay, name), strict=True)))

    return Row(
        outcome.recording,
        outcome.rule,
        outcome.horizon,
        outcome.steps,
        starts=len(outcome.train_loss),
        relative_error=_middle(outcome.relative_error),
        error_to_growth=_middle(outcome.error_to_growth),
        train_loss=median(outcome.train_loss),
        train_ratio=to_stay("train_loss"),
        heldout_ratio=to_stay("heldout_loss"),
        closer={k: _below(outcome.relative_error, o.relative_error) for k, o in controls.items()},
        lower={k: _below(outcome.train_loss, o.train_loss) for k, o in controls.items()},
    )


def _middle(values: Sequence[float]) -> Ratio:
    return median_ratio([(value, 1.0) for value in values])


def _below(values: Sequence[float], others: Sequence[float]) -> int:
    return sum(a < b for a, b in zip(values, others, strict=True))


def best(rows: Sequence[Row], figure: str) -> set[tuple[str, int, str]]:
    """Return (recording, horizon, rule) of those with the lowest median of a figure.

    The true weights and "stay" do not compete, and where none is below "stay", none is best.
    """
    found = set()
    for key in dict.fromkeys((row.recording, row.horizon) for row in rows):
        group = {r.rule: getattr(r, figure).median for r in rows if (r.recording, r.horizon) == key}
        bound = group.pop("stay")
        group.pop(TRUE, None)
        lowest = min(group.values())
        if lowest < bound:
            found |= {(*key, rule) for rule, value in group.items() if value == lowest}
    return found
