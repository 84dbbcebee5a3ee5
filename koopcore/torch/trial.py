"""Trying a forecast: the model with other parameters in place, the choice of a horizon, the commit.

A trial never writes to the model. `torch.func.functional_call` exchanges the tensors inside the
modules for the duration of one call and puts the real ones back, also when that call raises.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from koopcore.torch.recorder import memory_view

PATIENCE = 2  # rungs of the ladder in a row on which the loss may rise before the climb ends
LONGEST = 25_600  # optimizer steps; the default ladder reaches at least this far


class RefusedJump(Exception):
    """The attempt ends without a jump. `kind` groups reasons, so that each is logged once."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True)
class Choice:
    """The best horizon found (0 where none improved) and the trial losses there and here."""

    horizon: int
    loss_before: float
    loss_best: float


class _LossModule(nn.Module):
    """Runs ``trial_loss(model)`` as a forward pass, so that `functional_call` can surround it."""

    def __init__(self, model: nn.Module, trial_loss: Callable) -> None:
        super().__init__()
        self.model = model
        # Inside a tuple, a trial_loss that is itself a module is not registered as a submodule.
        self._trial_loss = (trial_loss,)

    def forward(self) -> object:
        return self._trial_loss[0](self.model)


class Trial:
    """Holds one forecast of the parameters and evaluates the trial loss with it in place.

    Parameters
    ----------
    model : torch.nn.Module
    parameters : dict of str to torch.nn.Parameter
        The parameters that a forecast replaces, by their names in `model`.
    trial_loss : callable
        ``trial_loss(model)`` returns a scalar.

    Attributes
    ----------
    segments : list of ndarray
        Flat views of the forecast's memory, in the order of `parameters`: write forecasts here.
    evaluations : int
        How many times `trial_loss` has been called.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, nn.Parameter],
        trial_loss: Callable[[nn.Module], object],
    ) -> None:
        self._model = model
        self._parameters = list(parameters.values())
        self._call = _LossModule(model, trial_loss)
        # Parameters, because models look for them by type; without gradients, so that a trial
        # records no graph for them even where it differentiates with respect to its inputs.
        self._forecast = {
            f"model.{name}": nn.Parameter(torch.empty_like(p), requires_grad=False)
            for name, p in parameters.items()
        }
        self.segments = [memory_view(t) for t in self._forecast.values()]
        self.evaluations = 0

    def load_current(self) -> None:
        """Make the forecast a copy of the model's present parameters."""
        with torch.no_grad():
            torch._foreach_copy_(list(self._forecast.values()), self._parameters)

    def commit(self) -> None:
        """Write the forecast into the model's parameters, in place: their addresses stay.

        One call into torch: an interrupt comes before or after it, never within.
        """
        with torch.no_grad():
            torch._foreach_copy_(self._parameters, list(self._forecast.values()))

    def is_finite(self) -> bool:
        """Tell whether every entry of the forecast is finite."""
        norms = torch._foreach_norm(list(self._forecast.values()), ord=math.inf)
        return bool(torch.isfinite(torch.stack(norms)).all())

    def loss(self) -> float:
        """Evaluate `trial_loss` with the forecast and a copy of all buffers in place.

        Afterwards buffers, training flags and torch's CPU random numbers are as before, so that
        every trial of an attempt draws the same dropout masks and a refused jump leaves no trace.

        Raises
        ------
        RefusedJump
            `trial_loss` raised, or returned something that is not a scalar.
        """
        flags = [(module, module.training) for module in self._model.modules()]
        buffers = {f"model.{name}": b.clone() for name, b in self._model.named_buffers()}
        self.evaluations += 1
        try:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                value = torch.func.functional_call(self._call, self._forecast | buffers, ())
        except Exception as error:
            raise RefusedJump(
                f"trial_loss raised {type(error).__name__}", f"trial_loss raised {error!r}"
            ) from error
        finally:
            for module, training in flags:
                module.training = training
        return _scalar(value)


def _scalar(value: object) -> float:
    """Return a trial loss as a float, or refuse the jump."""
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex():
        return float(value.detach())
    if isinstance(value, numbers.Real):
        return float(value)
    what = f"{type(value).__name__}"
    if isinstance(value, torch.Tensor):
        what = f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    raise RefusedJump(
        "trial_loss not scalar",
        f"trial_loss must return a real scalar (a float or a tensor with one entry), got {what}",
    )


def default_horizons(window: int, every: int) -> tuple[int, ...]:
    """Return the default ladder: the span of one window, doubled until 25,600 steps are reached."""
    ladder = [window * every]
    while ladder[-1] < LONGEST:
        ladder.append(2 * ladder[-1])
    return tuple(ladder)


def choose_horizon(
    trial: Trial, forecast: Callable[[int], None], horizons: Sequence[int]
) -> Choice:
    """Climb the ladder of horizons and return the one with the lowest trial loss.

    The climb ends at the top, at the first forecast or loss that is not finite, or after the loss
    has risen `PATIENCE` times in a row: beyond its valley a forecast does not recover, and every
    trial is paid for. The present weights are evaluated by the same code as the forecasts.

    Parameters
    ----------
    trial : Trial
        Left holding the last forecast tried, not the best one.
    forecast : callable
        ``forecast(horizon)`` writes the forecast `horizon` optimizer steps ahead into the trial.
    horizons : sequence of int
        Increasing.

    Raises
    ------
    RefusedJump
        A trial failed, or the loss at the present weights or at the first rung is not finite.
    """
    trial.load_current()
    here = trial.loss()
    if not math.isfinite(here):
        raise RefusedJump("trial loss not finite", f"trial loss at the present weights is {here}")
    best, best_loss, previous, rises = 0, math.inf, here, 0
    for horizon in horizons:
        loss = _loss_at(trial, forecast, horizon)
        if not math.isfinite(loss):
            if horizon == horizons[0]:
                raise RefusedJump(
                    "forecast not finite",
                    f"forecast or trial loss is not finite at the first horizon, {horizon} steps",
                )
            break
        if loss < best_loss:
            best, best_loss = horizon, loss
        rises = 0 if loss < previous else rises + 1
        previous = loss
        if rises == PATIENCE:
            break
    return Choice(best if best_loss < here else 0, here, best_loss)


def _loss_at(trial: Trial, forecast: Callable[[int], None], horizon: int) -> float:
    forecast(horizon)
    return trial.loss() if trial.is_finite() else math.nan
