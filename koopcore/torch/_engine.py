"""All that depends on which parameters there are, behind one object that can be built anew.

Recorder, window, rules, trial and the carried optimizer state belong to one set of tensors. When
parameters appear, vanish, are frozen or change shape in the middle of a run, `Engine.refresh`
builds all of it for the new set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from koopcore.torch._dogra_redman import PinvForecaster
from koopcore.torch._gradients import GradientForecaster
from koopcore.torch._optimizer_state import Saved, StateCarrier, reset_state
from koopcore.torch._options import Options
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
        options: Options,
        trial_loss: Callable | None,
        note: Callable[[float], object],
        shared: bool,
    ) -> None:
        self._model, self._optimizer, self.options = model, optimizer, options
        self._trial_loss, self._note, self._shared = trial_loss, note, shared
        self.every = options.every
        # L-BFGS builds curvature from successive gradients, between which no jump may lie.
        self._state = "reset" if isinstance(optimizer, torch.optim.LBFGS) else options.state
        if options.observe == "gradients" and isinstance(optimizer, torch.optim.LBFGS):
            raise ValueError(
                "observe='gradients' does not go with LBFGS, whose last gradient is not that of "
                "the weights before its step"
            )
        self._build()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_model", "_optimizer", "options", "_trial_loss", "_note", "_shared", "every")
        made = {name: self.__dict__[name] for name in (*kept, "_state")}
        return {"made with": made, "held": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["made with"])
        self._build()
        self.load_state_dict(state["held"])

    def _build(self) -> None:
        everything = trained_parameters(self._model, self._optimizer)
        self._everything = everything
        self._signature = signature(everything, self._optimizer)
        self.layout = Layout(everything, self.options.partition, self._model)
        self.parameters = {name: everything[name] for name in self.layout.names}
        tensors = list(self.parameters.values())
        options = self.options
        self.recorder = Recorder(tensors, self.every, options.average, options.decay)
        self.forecaster = self._forecaster(tensors)
        self.trial = Trial(self._model, self.parameters, self._trial_loss, self._note, self._shared)
        self._rates: deque[float] = deque(maxlen=options.window)
        self._rate = 0.0  # sum since the last snapshot
        self._saved: Saved | None = None
        self._carrier = None
        if self._state == "carry":
            self._carrier = StateCarrier(self.layout, options.window, self._optimizer, tensors)

    def _forecaster(self, tensors: list[torch.Tensor]) -> Any:
        options, layout = self.options, self.layout
        if options.published:
            return PinvForecaster(layout, options.window, tensors[0].dtype)
        if options.observe == "gradients":
            return GradientForecaster(layout, options.window, tensors, self._optimizer)
        if options.operator is not None:
            return OperatorForecaster(options.operator)
        window = make_window(layout, options.window, like=tensors, storage=options.storage)
        rows = np.diff(layout.segments, axis=1).ravel()
        return RuleForecaster(window, rows, options.rules, options.try_all)

    @property
    def samples(self) -> bool:
        """Whether snapshots are samples that outlive a jump, and not a trajectory."""
        return self.options.observe == "gradients"

    @property
    def first_attempt(self) -> int:
        """Snapshots before the first attempt."""
        return min(self.options.window, 5) if self.samples else self.options.window

    def prepare(self, steps_to_snapshot: int) -> None:
        """Be told at the end of a step, and of a jump, how far off the next snapshot is."""
        if self.samples and steps_to_snapshot == 1:
            self.forecaster.before_step()

    def space(self, every: int) -> None:
        """Take snapshots this many steps apart from now on; for an empty window."""
        self.every = self.recorder.every = every

    def rebuild(self, options: Options) -> None:
        """Build all of it anew with other options."""
        self.options = options
        self._build()

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
        if self.options.rollback:
            carried += Saved.size(self._optimizer, list(self.parameters.values()))
        parts = (self.forecaster, self.recorder, self.trial)
        return carried + sum(part.nbytes for part in parts)

    def step(self, steps_to_snapshot: int) -> None:
        """Take note of an optimizer step, where snapshots are more than the iterate."""
        if self.recorder.averages:
            self.recorder.enter(steps_to_snapshot)
        if self.options.control is not None:
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

    def fit(self) -> list[Forecast]:
        """Fit the window: forecasts to try, none where no rule is worth it."""
        if self.options.control is None:
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
        if self.options.rollback:
            self._saved = Saved(self._optimizer, list(self.parameters.values()))
        try:
            self._apply(carried)
        except BaseException:
            self._apply(carried)
            raise

    def roll_back(self) -> bool:
        """Go back to before the last jump, if that was kept; return whether it was."""
        saved, self._saved = self._saved, None
        if saved is None:
            return False
        try:
            self._restore(saved)
        except BaseException:
            self._restore(saved)
            raise
        return True

    def _restore(self, saved: Saved) -> None:
        saved.restore()
        self.trial.load_current()
        self.trial.commit()  # the model's own copies, where the state is of masters
        self.recorder.forget()

    def keep_jump(self) -> None:
        """Let go of what would undo the last jump."""
        self._saved = None

    def _apply(self, carried: list[tuple[list[torch.Tensor], list[torch.Tensor]]]) -> None:
        self.trial.commit()
        with torch.no_grad():
            for tensors, ahead in carried:
                torch._foreach_copy_(tensors, ahead)
        if self._state == "reset":
            reset_state(self._optimizer, list(self.parameters.values()))
        self.recorder.forget()

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on with the same bits when loaded."""
        return {
            "names": list(map(_canonical, self.parameters)),
            "shapes": [list(p.shape) for p in self.parameters.values()],
            "forecaster": self.forecaster.state_dict(),
            "recorder": self.recorder.state_dict(),
            "carrier": self._carrier.state_dict() if self._carrier is not None else {},
            "trials": self.trial.evaluations,
            "rates": list(self._rates),
            "rate": self._rate,
            "saved": self._saved.state_dict() if self._saved is not None else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the snapshots of another engine made alike.

        Raises
        ------
        ValueError
            It was of other parameters.
        """
        shapes = [list(p.shape) for p in self.parameters.values()]
        for what, own in (
            ("names", list(map(_canonical, self.parameters))),
            ("shapes", shapes),
        ):
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
        self._rates = deque(map(float, state["rates"]), maxlen=self.options.window)
        self._rate = float(state["rate"])
        self._saved = None
        if state["saved"]:
            self._saved = Saved(self._optimizer, list(self.parameters.values()), state["saved"])


def _canonical(name: str) -> str:
    """Return a parameter's name as it is where no part of the model is compiled."""
    return name.replace("_orig_mod.", "")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else list(value)
