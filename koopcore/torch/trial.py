"""Trying a forecast: the model with other parameters in place, the choice of a horizon, the commit.

A trial never writes to the model. `torch.func.functional_call` exchanges the tensors inside the
modules for the duration of one call and puts the real ones back, also when that call raises.
"""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn

from koopcore.torch._aside import aside

PATIENCE = 2  # rungs of the ladder in a row on which the loss may rise before the climb ends
LONGEST = 25_600  # optimizer steps; the default ladder reaches at least this far
TIME_CONSTANTS = (10, 100, 1_000, 10_000)  # horizons of the flow fitted to gradients
BEYOND_AVERAGES = (0.0, 0.55, 1.55, 3.55, 7.55)  # horizons in windows: noise leaves few to try
CONFIDENCE = 2.0  # standard errors by which the mean of several paired trial losses must fall


class RefusedJump(Exception):
    """The attempt ends without a jump. `kind` groups reasons, so that each is logged once."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True)
class Choice:
    """The best horizon found (0 where none improved), and the trials that led to it."""

    horizon: int
    loss_before: float
    loss_best: float
    tried: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()


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
    parameters : dict of str to torch.Tensor
        The tensors that a forecast replaces, by the names of the parameters in `model` (which
        they are, or whose float32 masters they are).
    trial_loss : callable
        ``trial_loss(model)`` returns a scalar, or a vector of several losses.
    note : callable, optional
        Called with the seconds that each evaluation took.
    shared : bool
        Average the losses over all processes of `torch.distributed`, so that all of them come to
        the same decision.

    Attributes
    ----------
    tensors : list of torch.Tensor
        The forecast, in the order of `parameters`: write forecasts here.
    evaluations : int
        How many times `trial_loss` has been called.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, torch.Tensor],
        trial_loss: Callable[[nn.Module], object],
        note: Callable[[float], object] = lambda seconds: None,
        shared: bool = False,
    ) -> None:
        self._model = model
        self._parameters = list(parameters.values())
        self._call = _LossModule(model, trial_loss)
        self._note, self._shared = note, shared
        # Parameters, because models look for them by type; without gradients, so that a trial
        # records no graph for them even where it differentiates with respect to its inputs.
        self.tensors = [
            nn.Parameter(torch.empty_like(p), requires_grad=False) for p in self._parameters
        ]
        own = dict(model.named_parameters())
        self._targets = [own[name] for name in parameters]
        self._masters = any(
            a is not b for a, b in zip(self._targets, self._parameters, strict=True)
        )
        self._names = [f"model.{name}" for name in parameters]
        self.evaluations = 0

    @property
    def nbytes(self) -> int:
        """Memory of the forecast."""
        return sum(t.nbytes for t in self.tensors)

    def load_current(self) -> None:
        """Make the forecast a copy of the present parameters."""
        with torch.no_grad():
            torch._foreach_copy_(self.tensors, self._parameters)

    def commit(self) -> None:
        """Write the forecast into the model's parameters, in place: their addresses stay.

        One call into torch (two where there are masters); done twice, it does the same.
        """
        with torch.no_grad():
            torch._foreach_copy_(self._parameters, self.tensors)
            if self._masters:
                torch._foreach_copy_(self._targets, self._parameters)

    def is_finite(self) -> bool:
        """Tell whether every entry of the forecast is finite."""
        norms = torch._foreach_norm(self.tensors, ord=math.inf)
        return bool(torch.isfinite(torch.stack(norms)).all())

    def loss(self) -> float:
        """Mean of `losses`."""
        return float(self.losses().mean())

    def losses(self) -> NDArray[np.float64]:
        """Evaluate `trial_loss` with the forecast and a copy of all buffers in place.

        Afterwards buffers, training flags and torch's random numbers (of the CPU, and of the
        model's device) are as before, so that every trial of an attempt draws the same dropout
        masks and a refused jump leaves no trace.

        Returns
        -------
        ndarray of shape (losses,)

        Raises
        ------
        RefusedJump
            `trial_loss` raised, or returned something that is neither a scalar nor a vector.
        """
        start = time.perf_counter()
        self.evaluations += 1
        try:
            values = _numbers(self._evaluate())
        except RefusedJump as refusal:
            _agreed(None, self._shared, self._parameters[0].device)
            raise refusal
        finally:
            self._note(time.perf_counter() - start)
        return _agreed(values, self._shared, self._parameters[0].device)

    def _evaluate(self) -> object:
        buffers = {f"model.{name}": b.clone() for name, b in self._model.named_buffers()}
        shown = self.tensors
        if self._masters:
            shown = [t.to(p.dtype) for t, p in zip(shown, self._targets, strict=True)]
        replaced = dict(zip(self._names, shown, strict=True)) | buffers
        devices = {p.device for p in self._parameters if p.device.type == "cuda"}
        try:
            random = torch.random.fork_rng(devices=list(devices))
            with aside(self._model), random, torch.enable_grad():
                return torch.func.functional_call(self._call, replaced, ())
        except Exception as error:
            raise RefusedJump(
                f"trial_loss raised {type(error).__name__}", f"trial_loss raised {error!r}"
            ) from error


def _numbers(value: object) -> NDArray[np.float64]:
    """Return trial losses as a vector, or refuse the jump."""
    if isinstance(value, torch.Tensor) and not value.is_complex():
        if value.numel() == 1:
            value = value.reshape(1)
        if value.ndim == 1 and value.numel():
            return value.detach().to("cpu", torch.float64).numpy()
    elif isinstance(value, numbers.Real):
        return np.array([float(value)])
    what = f"{type(value).__name__}"
    if isinstance(value, torch.Tensor):
        what = f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    raise RefusedJump(
        "trial_loss not scalar",
        "trial_loss must return a real scalar (a float or a tensor with one entry), or a vector "
        f"of the losses of several batches or samples, got {what}",
    )


def _agreed(
    values: NDArray[np.float64] | None, shared: bool, device: torch.device
) -> NDArray[np.float64]:
    """Mean of the vectors of all processes; where one has none, all refuse."""
    if shared:
        count = torch.tensor([0 if values is None else len(values)], device=device)
        counts = [torch.empty_like(count) for _ in range(distributed.get_world_size())]
        distributed.all_gather(counts, count)
        found = {int(c) for c in counts}
        if values is not None and found != {len(values)}:
            reason = f"trial_loss gave {sorted(found)} losses in the processes of this run"
            raise RefusedJump("trial_loss of another process", reason)
        if values is not None:
            total = torch.from_numpy(values).to(device)
            distributed.all_reduce(total)
            return total.cpu().numpy() / len(counts)
    return np.empty(0) if values is None else values


def default_horizons(window: int, every: int) -> tuple[int, ...]:
    """Return the default ladder: the span of one window, doubled until 25,600 steps are reached."""
    ladder = [window * every]
    while ladder[-1] < LONGEST:
        ladder.append(2 * ladder[-1])
    return tuple(ladder)


def improves(
    after: NDArray[np.float64], before: NDArray[np.float64], least_gain: float = 0.0
) -> bool:
    """Tell whether losses have fallen: one, or the mean of several by more than their noise.

    Several are compared in pairs: the mean difference must be below ``-2`` standard errors. Either
    must fall by more than the share `least_gain` of what it was.
    """
    if not np.isfinite(after).all():
        return False
    gain = before - after
    if gain.mean() <= least_gain * abs(float(before.mean())):
        return False
    if len(gain) == 1:
        return bool(gain[0] > 0.0)
    error = gain.std(ddof=1) / math.sqrt(len(gain))
    return bool(gain.mean() > CONFIDENCE * error)


def choose_horizon(
    trial: Trial,
    forecast: Callable[[int], None],
    horizons: Sequence[int],
    allows: Callable[[int], bool] = lambda horizon: True,
    affordable: Callable[[], bool] = lambda: True,
    here: NDArray[np.float64] | None = None,
    start: int | None = None,
    least_gain: float = 0.0,
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
    allows : callable
        ``allows(horizon)`` is False where a jump would be too long; the climb ends there.
    affordable : callable
        ``affordable()`` is False when no further trial may be made.
    here : ndarray, optional
        The losses at the present weights, where they are known.
    start : int, optional
        Rung to begin at, the best one of last time: the climb goes up from it as long as the loss
        falls, or else down.
    least_gain : float, optional
        Share of the present loss that a forecast must gain.

    Raises
    ------
    RefusedJump
        A trial failed, or the loss at the present weights or at the first rung is not finite.
    """
    if here is None:
        here = losses_here(trial)
    climb = _Climb(trial, forecast, horizons, allows, affordable)
    if start is None:
        climb.go(range(len(horizons)), float(here.mean()), PATIENCE)
    else:
        climb.go(range(start, len(horizons)), math.inf, 1)
        if climb.best in (0, horizons[start]):
            climb.go(range(start - 1, -1, -1), float(climb.best_losses.mean()), 1)
    if climb.losses and not math.isfinite(climb.losses[0]) and climb.tried[0] == horizons[0]:
        raise RefusedJump(
            "forecast not finite",
            f"forecast or trial loss is not finite at the first horizon, {horizons[0]} steps",
        )
    best = climb.best if improves(climb.best_losses, here, least_gain) else 0
    after = float(climb.best_losses.mean()) if climb.tried else math.nan
    return Choice(best, float(here.mean()), after, tuple(climb.tried), tuple(climb.losses))


class _Climb:
    """What a climb of the ladder has seen so far."""

    def __init__(
        self,
        trial: Trial,
        forecast: Callable[[int], None],
        horizons: Sequence[int],
        allows: Callable[[int], bool],
        affordable: Callable[[], bool],
    ) -> None:
        self._trial, self._forecast, self._horizons = trial, forecast, horizons
        self._allows, self._affordable = allows, affordable
        self.tried: list[int] = []
        self.losses: list[float] = []
        self.best, self.best_losses = 0, np.array([math.inf])

    def go(self, rungs: Sequence[int], previous: float, patience: int) -> None:
        """Try rungs in this order until the loss has risen `patience` times in a row."""
        rises = 0
        for rung in rungs:
            horizon = self._horizons[rung]
            if not (self._allows(horizon) and self._affordable()):
                return
            self._forecast(horizon)
            losses = self._trial.losses() if self._trial.is_finite() else np.array([math.nan])
            loss = float(losses.mean())
            self.tried.append(horizon)
            self.losses.append(loss)
            if not math.isfinite(loss):
                return
            if loss < self.best_losses.mean():
                self.best, self.best_losses = horizon, losses
            rises = 0 if loss < previous else rises + 1
            previous = loss
            if rises == patience:
                return


def losses_here(trial: Trial) -> NDArray[np.float64]:
    """Losses at the present weights.

    Raises
    ------
    RefusedJump
        The trial failed, or a loss is not finite.
    """
    trial.load_current()
    here = trial.losses()
    if not np.isfinite(here).all():
        mean = float(here.mean())
        raise RefusedJump("trial loss not finite", f"trial loss at the present weights is {mean}")
    return here


def keep_what_helps(
    trial: Trial, groups: Sequence[Sequence[int]], losses: float, affordable: Callable[[], bool]
) -> float:
    """Try each layer without its jump, and leave those where they are that are better so.

    Parameters
    ----------
    trial : Trial
        Holds the forecast chosen; afterwards with the present weights in some layers.
    groups : sequence of sequences of int
        The tensors of each layer, by their place in the trial.
    losses : float
        Trial loss of the forecast.
    affordable : callable
        ``affordable()`` is False when no further trial may be made.

    Returns
    -------
    float
        Trial loss of what the trial then holds.
    """
    for group in groups:
        if not affordable():
            break
        ahead = [trial.tensors[i].clone() for i in group]
        with torch.no_grad():
            for i in group:
                trial.tensors[i].copy_(trial._parameters[i])
            loss = trial.loss()
            if loss < losses:
                losses = loss
            else:
                for i, tensor in zip(group, ahead, strict=True):
                    trial.tensors[i].copy_(tensor)
    return losses
