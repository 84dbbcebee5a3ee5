"""All that depends on which parameters there are, behind one object that can be built anew.

Recorder, window, rules, trial and the carried optimizer state belong to one set of tensors. When
parameters appear, vanish, are frozen or change shape in the middle of a run, `Engine.refresh`
builds all of it for the new set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from koopcore import StreamingDMD, WindowDMD
from koopcore.rules import Rule
from koopcore.torch._dogra_redman import PinvForecaster
from koopcore.torch._optimizer_state import StateCarrier, reset_state
from koopcore.torch.forecasts import Forecast, OperatorForecaster, RuleForecaster
from koopcore.torch.partition import Layout
from koopcore.torch.recorder import Recorder, signature, trained_parameters
from koopcore.torch.trial import Trial
from koopcore.torch.windows import make_window

TRUSTED_ERROR = 0.25  # of staying, below which a forecast without a trial is believed


class Engine:
    """Records snapshots of a model, fits them, writes forecasts. See `KoopmanAccelerator`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        trial_loss: Callable | None,
        partition: Any,
        rules: Sequence[Rule],
        window: int,
        every: int,
        averaging: dict[str, Any],
        state: str,
        storage: torch.dtype | str | None,
        operator: WindowDMD | StreamingDMD | None,
        published: bool,
        control: str | None,
        note: Callable[[float], object],
        shared: bool,
    ) -> None:
        self._model, self._optimizer = model, optimizer
        self._trial_loss, self._partition, self._rules = trial_loss, partition, rules
        self._window, self.every, self._averaging = window, every, averaging
        self._storage, self.operator, self._published = storage, operator, published
        self._note, self._shared = note, shared
        self._control = control
        # L-BFGS builds curvature from successive gradients, between which no jump may lie.
        self._state = "reset" if isinstance(optimizer, torch.optim.LBFGS) else state
        if operator is not None and partition != "network":
            raise ValueError(f"operator is for partition='network' only, got {partition!r}")
        if operator is not None and control is not None:
            raise ValueError(f"control={control!r} is for rules, not for an operator")
        if operator is not None and state == "carry":
            raise ValueError("state='carry' needs the coefficients of a rule, not an operator")
        if operator is not None and trial_loss is None:
            raise ValueError("an operator needs a trial_loss; without one, leave operator=None")
        self._build()

    def __getstate__(self) -> dict[str, Any]:
        built = ("parameters", "layout", "recorder", "forecaster", "trial", "_carrier")
        built += ("_signature", "_everything", "_rates", "_rate")
        rest = {k: v for k, v in self.__dict__.items() if k not in built}
        return {"made with": rest, "held": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["made with"])
        self._build()
        self.load_state_dict(state["held"])

    def _build(self) -> None:
        everything = trained_parameters(self._model, self._optimizer)
        layout = Layout(everything, self._partition, self._model)
        self.parameters = {name: everything[name] for name in layout.names}
        tensors = list(self.parameters.values())
        self._signature = signature(everything, self._optimizer)
        self._everything = everything
        self.layout = layout
        self.recorder = Recorder(tensors, self.every, **self._averaging)
        if self._published:
            self.forecaster = PinvForecaster(layout, self._window, tensors[0].dtype)
        elif self.operator is None:
            window = make_window(layout, self._window, like=tensors, storage=self._storage)
            rows = np.diff(layout.segments, axis=1).ravel()
            self.forecaster = RuleForecaster(window, rows, self._rules)
        else:
            self.forecaster = OperatorForecaster(self.operator)
        self.trial = Trial(self._model, self.parameters, self._trial_loss, self._note, self._shared)
        self._rates: deque[float] = deque(maxlen=self._window)
        self._rate = 0.0  # sum since the last snapshot
        self._carrier = None
        if self._state == "carry":
            self._carrier = StateCarrier(layout, self._window, self._optimizer, tensors)

    def space(self, every: int) -> None:
        """Take snapshots this many steps apart from now on; for an empty window."""
        self.every = self.recorder.every = every

    def refresh(self) -> bool:
        """Build anew if other parameters are trained than before; return whether they are."""
        if signature(self._everything, self._optimizer) == self._signature:
            return False
        evaluations = self.trial.evaluations
        self._build()
        self.trial.evaluations = evaluations
        return True

    def __len__(self) -> int:
        return len(self.forecaster)

    @property
    def nbytes(self) -> int:
        """Memory that recording, forecasts and carried state take once the window is full."""
        carried = self._carrier.nbytes if self._carrier is not None else 0
        parts = (self.forecaster, self.recorder, self.trial)
        return carried + sum(part.nbytes for part in parts)

    def step(self, steps_to_snapshot: int) -> None:
        """Take note of an optimizer step, where snapshots are more than the iterate."""
        if self.recorder.averages:
            self.recorder.enter(steps_to_snapshot)
        if self._control is not None:
            self._rate += self._learning_rate()

    def _learning_rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def record(self) -> None:
        """Append a snapshot of the weights, and of the optimizer state if it is carried."""
        self.forecaster.push(self.recorder.snapshot())
        self._rates.append(self._rate)
        self._rate = 0.0
        if self._carrier is not None:
            self._carrier.push()

    def clear(self) -> None:
        """Forget all snapshots."""
        self.forecaster.clear()
        self.recorder.restart()
        self._rates.clear()
        self._rate = 0.0
        if self._carrier is not None:
            self._carrier.clear()

    def fit(self) -> tuple[Forecast | None, NDArray[np.float64]]:
        """Fit the window; None where cross-validation found no rule to forecast with."""
        if self._control is None:
            return self.forecaster.fit()
        # The first sum is that of the steps before the first snapshot.
        return self.forecaster.fit(list(self._rates)[1:], self._learning_rate() * self.every)

    def trusted_horizon(self) -> int:
        """Optimizer steps that cross-validation alone vouches for; 0: none."""
        errors = self.forecaster.errors()
        good = np.cumprod(errors < TRUSTED_ERROR).sum()
        return int(good) * self.every

    def write(self, forecast: Forecast, horizon: int) -> None:
        """Write the forecast `horizon` optimizer steps ahead into the trial."""
        forecast.write(horizon / self.every, self.trial.tensors)

    def layers(self) -> list[list[int]]:
        """Return the tensors of each layer, by their place in the trial."""
        layers: dict[str, list[int]] = {}
        for i, name in enumerate(self.parameters):
            layers.setdefault(name.rpartition(".")[0], []).append(i)
        return list(layers.values())

    def commit(self, forecast: Forecast, horizon: int) -> None:
        """Make what the trial holds the weights, and treat the optimizer state as asked for.

        All that can fail comes first. What follows is done again if an interrupt comes between,
        so that weights and state never part.
        """
        carried = []
        if self._carrier is not None:
            coefficients = forecast.coefficients(horizon / self.every)
            carried = self._carrier.combine(coefficients)
        try:
            self._apply(carried)
        except BaseException:
            self._apply(carried)
            raise
        self.recorder.forget()

    def _apply(self, carried: list[tuple[list[torch.Tensor], list[torch.Tensor]]]) -> None:
        self.trial.commit()
        with torch.no_grad():
            for tensors, ahead in carried:
                torch._foreach_copy_(tensors, ahead)
        if self._state == "reset":
            reset_state(self._optimizer, list(self.parameters.values()))

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on with the same bits when loaded."""
        return {
            "names": list(self.parameters),
            "shapes": [list(p.shape) for p in self.parameters.values()],
            "forecaster": self.forecaster.state_dict(),
            "recorder": self.recorder.state_dict(),
            "carrier": self._carrier.state_dict() if self._carrier is not None else {},
            "trials": self.trial.evaluations,
            "rates": list(self._rates),
            "rate": self._rate,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the snapshots of another engine made alike.

        Raises
        ------
        ValueError
            It was of other parameters.
        """
        shapes = [list(p.shape) for p in self.parameters.values()]
        for what, own in (("names", list(self.parameters)), ("shapes", shapes)):
            if list(map(_plain, state[what])) != own:
                raise ValueError(
                    f"the saved state is of parameters with {what} {state[what]}; this "
                    f"model's are {own}"
                )
        self.forecaster.load_state_dict(state["forecaster"])
        self.recorder.load_state_dict(state["recorder"])
        if self._carrier is not None:
            self._carrier.load_state_dict(state["carrier"])
        self.trial.evaluations = int(state["trials"])
        self._rates = deque(map(float, state["rates"]), maxlen=self._window)
        self._rate = float(state["rate"])


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else list(value)
