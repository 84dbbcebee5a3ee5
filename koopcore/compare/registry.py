"""The methods by name, and the grids over which rivals are tuned.

A method is asked for as ``name`` or ``name:value``. One that has a value and is asked for without
is tuned: the grid is run on seed 100, which no comparison uses, for each workload and optimizer,
and the best value runs on the seeds. The accelerator itself has presets and no grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .methods import Method
    from .results import Record, Run

# EMA: decay. SWA: share of the budget spent before averaging starts. LAWA: steps between the 10
# checkpoints. rate: factor on the learning rate, between the points of the half-decade grid.
# forecast: steps between choices.
GRIDS: dict[str, tuple[float, ...]] = {
    "ema": (0.9, 0.98, 0.995),
    "swa": (0.25, 0.5, 0.75),
    "lawa": (2, 10, 50),
    "rate": (1.8, 3.2),
    "forecast": (50, 100, 200),
}
OURS = ("koopcore", "forecast")
AVERAGES = ("ema", "swa", "lawa")
RULES = ("secant", "anderson")
NAMES = ("bare", *OURS, *AVERAGES, *RULES, "identity", "rate")


def check(spec: str) -> None:
    """Refuse a method that cannot be made.

    Raises
    ------
    ValueError
        The message names the method and what would be right.
    """
    name, colon, text = spec.partition(":")
    if name not in NAMES:
        raise ValueError(f"unknown method {name!r}; known methods: {', '.join(NAMES)}")
    if not colon:
        return
    if name not in GRIDS:
        raise ValueError(f"method {spec!r}: {name} takes no value")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    whole, below_one = name in ("lawa", "forecast"), name in ("ema", "swa")
    if not 0 < value < (1 if below_one else math.inf) or (whole and value % 1):
        kind = "a whole number" if whole else "a number"
        range_ = "between 0 and 1" if below_one else "above 0"
        raise ValueError(f"method {spec!r}: the value must be {kind} {range_}")


def make(spec: str, budget: int) -> Method:
    """Return the method of a spec with its value, if it has one.

    Parameters
    ----------
    spec : str
        Such as ``koopcore`` or ``ema:0.98``.
    budget : int
        Steps of the run; SWA starts at a share of it.
    """
    from koopcore.rules import Anderson, Secant

    from .accelerated import Forecast, Identity, Koopcore, Rule
    from .averages import EMA, LAWA, SWA
    from .methods import Bare, FasterRate

    check(spec)
    name, _, value = spec.partition(":")
    makers = {
        "bare": Bare,
        "koopcore": Koopcore,
        "secant": lambda: Rule("secant", Secant(over=None)),
        "anderson": lambda: Rule("anderson", Anderson()),
        "identity": Identity,
        "forecast": lambda: Forecast(int(float(value))),
        "ema": lambda: EMA(float(value)),
        "swa": lambda: SWA(float(value), budget),
        "lawa": lambda: LAWA(int(float(value))),
        "rate": lambda: FasterRate(float(value)),
    }
    return makers[name]()


def grid(specs: Sequence[str]) -> tuple[str, ...]:
    """Return the specs to run on the tuning seed for those among `specs` that lack a value."""
    return tuple(f"{spec}:{value:g}" for spec in specs for value in GRIDS.get(spec, ()))


def tuned(specs: Sequence[str], tuning: Record | None) -> tuple[str, ...]:
    """Return the specs with the best value of their grid filled in.

    The best one has the lowest mean of the step-equivalents to the targets at 100 % of the bare
    budget, on the training objective and on held-out data, where a target missed counts as twice
    the budget; of equals, the one with the lowest final training loss.
    """

    def cost(run: Run) -> tuple[float, float]:
        scores = [score.steps for name, score in run.scores.items() if name.endswith("@100")]
        missed = 2.0 * tuning.budget
        return sum(min(steps, missed) for steps in scores) / len(scores), run.final("train_loss")

    def best(spec: str) -> str:
        runs = [run for run in tuning.runs if run.method.startswith(f"{spec}:")]
        return min(runs, key=cost).method

    return tuple(best(spec) if spec in GRIDS else spec for spec in specs)
