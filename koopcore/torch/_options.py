"""The accelerator's options, checked once, and what does not go together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from koopcore import StreamingDMD, WindowDMD
from koopcore.rules import Rule
from koopcore.torch import _arguments

OBSERVABLES = ("weights", "gradients")


@dataclass(frozen=True)
class Options:
    """What the engine and the loop need to know; see `KoopmanAccelerator` for the meaning."""

    observe: str
    partition: Any
    rules: tuple[Rule, ...]
    try_all: bool
    window: int
    every: int
    average: int
    decay: float
    growth: float
    horizons: tuple[int, ...] | None
    start_step: int
    by_layer: bool
    state: str
    rollback: bool
    control: str | None
    storage: torch.dtype | str | None
    operator: WindowDMD | StreamingDMD | None
    published: bool = False  # operators of the paper in the place of window and rule

    ARGUMENTS: ClassVar[tuple[str, ...]] = (
        *("observe", "partition", "rule", "select", "window", "every", "average", "decay"),
        *("growth", "horizons", "start_step", "acceptance", "state", "rollback", "control"),
        *("storage", "operator"),
    )

    @classmethod
    def checked(
        cls,
        *,
        observe: str,
        partition: Any,
        rule: Any,
        select: str,
        window: int,
        every: int,
        average: int,
        decay: float,
        growth: float,
        horizons: Sequence[int] | None,
        start_step: int,
        acceptance: str,
        state: str,
        rollback: bool,
        control: str | None,
        storage: torch.dtype | str | None,
        operator: WindowDMD | StreamingDMD | None,
        trial: bool,
    ) -> Options:
        """Check what the user gave; every message names the argument. `trial`: there is one."""
        window = _arguments.integer("window", window, at_least=3)
        every = _arguments.integer("every", every, at_least=1)
        options = cls(
            observe=_arguments.choice("observe", observe, OBSERVABLES),
            partition=partition,
            rules=_arguments.rules(rule),
            try_all=_arguments.choice("select", select, ("validation", "trial")) == "trial",
            window=window,
            every=every,
            **_arguments.averaging(average, decay, every),
            growth=_arguments.number("growth", growth, 0.0, math.inf),
            horizons=None if horizons is None else _arguments.ladder(horizons),
            start_step=_arguments.integer("start_step", start_step, at_least=0),
            by_layer=_arguments.choice("acceptance", acceptance, ("network", "layer")) == "layer",
            state=_arguments.choice("state", state, ("keep", "reset", "carry")),
            rollback=bool(rollback),
            control=None if control is None else _arguments.choice("control", control, ("lr",)),
            storage=storage,
            operator=None if operator is None else _arguments.usable(operator, window),
        )
        options._check_operator(trial)
        options._check_gradients(trial)
        return options

    def _check_operator(self, trial: bool) -> None:
        if self.try_all and not trial:
            raise ValueError("select='trial' needs a trial_loss")
        if self.operator is None:
            return
        if self.partition != "network":
            raise ValueError(f"operator is for partition='network' only, got {self.partition!r}")
        if self.control is not None:
            raise ValueError(f"control={self.control!r} is for rules, not for an operator")
        if self.state == "carry":
            raise ValueError("state='carry' needs the coefficients of a rule, not an operator")
        if not trial:
            raise ValueError("an operator needs a trial_loss; without one, leave operator=None")

    def _check_gradients(self, trial: bool) -> None:
        if self.observe == "weights":
            return
        others = {
            "partition": (self.partition, "network"),
            "average": (self.average, 1),
            "decay": (self.decay, 0.0),
            "control": (self.control, None),
            "storage": (self.storage, None),
            "operator": (self.operator, None),
            "state": (self.state if self.state == "carry" else None, None),
        }
        for name, (given, needed) in others.items():
            if given != needed:
                raise ValueError(
                    f"observe='gradients' goes with {name}={needed!r} only, got {given!r}"
                )
        if not trial:
            raise ValueError("observe='gradients' needs a trial_loss")
