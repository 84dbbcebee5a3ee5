"""Checks of what users give to the accelerator: every message names the argument and its value."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from numbers import Real

import torch
from torch import nn

from koopcore import StreamingDMD, WindowDMD
from koopcore.rules import Dynamics, Rule


def check_types(model: object, optimizer: object, trial_loss: object, log_fn: object) -> None:
    """Refuse arguments of the wrong kind."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}; "
            "of a wrapper, pass the optimizer inside (often its .optimizer)"
        )
    if trial_loss is not None and not callable(trial_loss):
        raise TypeError(
            f"trial_loss must be a function of the model, got {type(trial_loss).__name__}"
        )
    if log_fn is not None and not callable(log_fn):
        raise TypeError(f"log_fn must be callable or None, got {type(log_fn).__name__}")


def integer(name: str, value: object, *, at_least: int) -> int:
    """Return an int of at least this."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
    return number


def number(name: str, value: object, low: float, high: float, *, optional: bool = False):
    """Return a float in [low, high), or None where that is allowed."""
    if value is None and optional:
        return None
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number{' or None' if optional else ''}, got {value!r}")
    if not low <= value < high:
        bound = f"at least {low:g}" if math.isinf(high) else f"in [{low:g}, {high:g})"
        raise ValueError(f"{name} must be {bound}, got {value!r}")
    return float(value)


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def ladder(horizons: object) -> tuple[int, ...]:
    """Return increasing horizons."""
    try:
        rungs = tuple(horizons)
    except TypeError:
        raise TypeError(
            f"horizons must be a sequence of integers or None, got {horizons!r}"
        ) from None
    if not rungs:
        raise ValueError("horizons is empty; give at least one number of optimizer steps, or None")
    rungs = tuple(integer("horizons", h, at_least=1) for h in rungs)
    for low, high in itertools.pairwise(rungs):
        if high <= low:
            raise ValueError(f"horizons must increase, got {low} before {high}")
    return rungs


def rules(rule: object) -> tuple[Rule, ...]:
    """Return the rules given: none (the default), one, or several."""
    given = (Dynamics(),) if rule is None else rule
    given = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not given:
        raise ValueError("rule is empty; give one of koopcore.rules, several, or None")
    for one in given:
        if not callable(getattr(one, "coefficients", None)):
            raise TypeError(
                f"rule must be one of koopcore.rules, or several of them, got {one!r}; an object "
                "of your own needs coefficients(gram, horizon)"
            )
    return given


def usable(operator: object, window: int) -> WindowDMD | StreamingDMD:
    """Check that an operator of the user's can take the place of window and rule."""
    if not isinstance(operator, WindowDMD | StreamingDMD):
        raise TypeError(
            "operator must be a koopcore.WindowDMD, a koopcore.StreamingDMD or None, got "
            f"{type(operator).__name__}"
        )
    options = operator._options
    if options.affine != "differences":
        raise ValueError(
            "operator must be made with affine=True, so that the weights may converge to any point"
        )
    if operator.n_snapshots:
        raise ValueError(
            f"operator holds {operator.n_snapshots} snapshots; it must be empty: clear() it, or "
            "make a new one"
        )
    if window < options.least_snapshots:
        raise ValueError(
            f"window must be at least {options.least_snapshots} for an operator with "
            f"delays={options.delays}, got {window}"
        )
    if isinstance(operator, WindowDMD):
        if operator.window > window:
            raise ValueError(
                f"operator has window={operator.window}, which the window={window} snapshots "
                "between attempts never fill; make them equal"
            )
    elif operator._core_options["sharded"]:
        raise ValueError("operator must be of whole states, made without first_row and reduce")
    return operator


def averaging(average: object, decay: object, every: int) -> dict[str, object]:
    """Return how snapshots are averaged, as the arguments of a Recorder."""
    average = integer("average", average, at_least=1)
    decay = number("decay", decay, 0.0, 1.0)
    if average > every:
        raise ValueError(
            f"average={average} iterates cannot lie between two snapshots every={every} steps "
            "apart; make every at least as large"
        )
    if average > 1 and decay:
        raise ValueError(f"give either average={average} or decay={decay:g}, not both")
    return {"average": average, "decay": decay}
