"""The methods by name, and the grids over which rivals are tuned.

A method is asked for as ``name`` or ``name:value``. One that has a grid and is asked for without
a value is tuned: the grid is run on seed 100, which no comparison uses, for each workload and
optimizer, and the best value runs on the seeds. The accelerator itself has presets and no grid,
and so have the published operators, whose values are words: each partition is a method.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .methods import Method
    from .results import Record, Run

# Values to tune over, the same number for all. EMA: decay. SWA: share of the budget spent before
# averaging starts. LAWA: steps between the 10 checkpoints. Lookahead: steps between moves of the
# slow weights. Schedule-Free: factor on the learning rate. PDT: steps that stand for an epoch.
# Reset: steps between resets. forecast: steps between choices.
GRIDS: dict[str, tuple[float, ...]] = {
    "ema": (0.9, 0.98, 0.995),
    "swa": (0.25, 0.5, 0.75),
    "lawa": (2, 10, 50),
    "lookahead": (5, 10, 20),
    "schedule-free": (1, 3, 10),
    "pdt": (1, 5, 20),
    "reset": (50, 150, 500),
    "forecast": (50, 100, 200),
}
# Values that are methods of their own, and those that stand for them all where none is given: the
# factors on the learning rate lie between the points of the half-decade grid.
VARIANTS: dict[str, tuple[str, ...]] = {
    "dogra-redman": ("weight", "quasi-node", "node", "layer", "network"),
    "rate": ("1.8", "3.2"),
}
DEFAULTS = {"dogra-redman": ("node",), "rate": VARIANTS["rate"]}

OURS = ("koopcore", "forecast")
AVERAGES = ("ema", "swa", "lawa", "lookahead", "schedule-free")
RULES = ("secant", "anderson", "rank-one", "pdt")
PUBLISHED = ("dogra-redman",)
CONTROLS = ("null", "identity", "averaging-only", "reset", "rate")
NAMES = ("bare", *OURS, *AVERAGES, *RULES, *PUBLISHED, *CONTROLS)

ALL_METHODS = (
    *(*OURS, *AVERAGES, *RULES),
    *(f"dogra-redman:{partition}" for partition in VARIANTS["dogra-redman"]),
    *("null", "identity", "averaging-only", "reset", "rate:1.8", "rate:3.2"),
)
QUICK_METHODS = (
    *("koopcore", "forecast", "ema", "schedule-free", "secant", "pdt", "dogra-redman:node"),
    *("null", "identity", "rate:1.8", "rate:3.2"),
)

# Packages beyond torch that a method imports, as (import name, name on the package index).
REQUIRES = {
    "lookahead": ("pytorch_optimizer", "pytorch_optimizer"),
    "schedule-free": ("schedulefree", "schedulefree"),
}

_WHOLE = ("lawa", "forecast", "lookahead", "pdt", "reset")
_BELOW_ONE = ("ema", "swa")
_NOT_WITH_LBFGS = {
    "lookahead": "its moves between two steps would spoil the curvature that L-BFGS builds from "
    "successive gradients",
    "schedule-free": "it takes gradients at another point than the one that is stepped, of which "
    "a line search knows nothing",
    "dogra-redman": "its window is a share of the budget in steps, and a step of L-BFGS costs as "
    "much as its line search takes",
    "swa": "it starts after a share of the budget in steps, and a step of L-BFGS costs as much as "
    "its line search takes",
}


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
    if name == "dogra-redman":
        if text not in VARIANTS[name]:
            words = ", ".join(VARIANTS[name])
            raise ValueError(f"method {spec!r}: the value must be one of {words}")
    elif name in GRIDS or name in VARIANTS:
        _check_number(spec, name, text)
    else:
        raise ValueError(f"method {spec!r}: {name} takes no value")


def _check_number(spec: str, name: str, text: str) -> None:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    whole, below_one = name in _WHOLE, name in _BELOW_ONE
    if not 0 < value < (1 if below_one else math.inf) or (whole and value % 1):
        kind = "a whole number" if whole else "a number"
        range_ = "between 0 and 1" if below_one else "above 0"
        raise ValueError(f"method {spec!r}: the value must be {kind} {range_}")


def refusal(spec: str, optimizer: str) -> str | None:
    """Return why a method cannot run on a base optimizer, or None if it can.

    Parameters
    ----------
    spec : str
        With or without a value.
    optimizer : str
        A name of `baselines`.
    """
    name = spec.partition(":")[0]
    if optimizer == "lbfgs" and name in _NOT_WITH_LBFGS:
        return f"{name} does not run on lbfgs: {_NOT_WITH_LBFGS[name]}"
    return None


def make(spec: str, budget: int) -> Method:
    """Return the method of a spec with its value, if it has one.

    Parameters
    ----------
    spec : str
        Such as ``koopcore`` or ``ema:0.98``.
    budget : int
        Steps of the run; SWA starts at a share of it.

    Raises
    ------
    ValueError
        As `check`, and if a value is missing that is to be tuned.
    """
    check(spec)
    name, _, value = spec.partition(":")
    if name in GRIDS and not value:
        raise ValueError(f"method {spec!r} needs a value, such as {name}:{GRIDS[name][0]:g}")
    return _MAKERS[name](value or DEFAULTS.get(name, ("",))[0], budget)


def _of(module: str, name: str, value: Callable | None = None, budget: bool = False) -> Callable:
    """Return a maker that imports the method's class when it is called.

    `value` converts the text of a spec to the first argument, None if there is none; `budget` says
    whether the steps of the run are the last.
    """

    def made(text: str, steps: int) -> Method:
        arguments = [value(text)] if value else []
        arguments += [steps] if budget else []
        return getattr(importlib.import_module(f"{__package__}.{module}"), name)(*arguments)

    return made


def _rule(name: str, rule: str, **options: object) -> Callable:
    def made(_text: str, _steps: int) -> Method:
        from koopcore import rules

        from .methods.accelerated import Rule

        return Rule(name, getattr(rules, rule)(**options))

    return made


def _whole(text: str) -> int:
    return int(float(text))


_MAKERS: dict[str, Callable[[str, int], Method]] = {
    "bare": _of("methods", "Bare"),
    "koopcore": _of("methods.accelerated", "Koopcore"),
    "forecast": _of("methods.accelerated", "Forecast", _whole),
    "ema": _of("methods.averages", "EMA", float),
    "swa": _of("methods.averages", "SWA", float, budget=True),
    "lawa": _of("methods.averages", "LAWA", _whole),
    "lookahead": _of("methods.wrapped", "Lookahead", _whole),
    "schedule-free": _of("methods.wrapped", "ScheduleFree", float, budget=True),
    "secant": _rule("secant", "Secant", over=None),
    "anderson": _rule("anderson", "Anderson"),
    "rank-one": _rule("rank-one", "RankOneLinear"),
    "pdt": _of("methods.masked", "PDT", _whole),
    "dogra-redman": _of("methods.published", "DograRedman", str, budget=True),
    "null": _of("methods.controls", "Null"),
    "identity": _of("methods.accelerated", "Identity"),
    "averaging-only": _of("methods.controls", "AveragingOnly"),
    "reset": _of("methods.controls", "Reset", _whole),
    "rate": _of("methods", "FasterRate", float),
}


def grid(specs: Sequence[str]) -> tuple[str, ...]:
    """Return the specs to run on the tuning seed for those among `specs` that lack a value."""
    return tuple(f"{spec}:{value:g}" for spec in specs for value in GRIDS.get(spec, ()))


def resolved(specs: Iterable[str]) -> tuple[str, ...]:
    """Return the specs, each once, with the values that a name without one stands for.

    ``rate`` becomes ``rate:1.8`` and ``rate:3.2``, ``dogra-redman`` becomes ``dogra-redman:node``;
    names that are tuned stay as they are.
    """
    found: list[str] = []
    for spec in specs:
        found += [f"{spec}:{value}" for value in DEFAULTS[spec]] if spec in DEFAULTS else [spec]
    return tuple(dict.fromkeys(found))


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

    return tuple(best(spec) if spec in GRIDS else spec for spec in resolved(specs))
