"""KoopmanAccelerator: hooks an optimizer, records, forecasts, tries, commits or refuses."""

from __future__ import annotations

import itertools
import logging
import math
import operator
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import TracebackType

import torch
from torch import nn

from koopcore import StreamingDMD, WindowDMD
from koopcore.torch.recorder import Recorder, step_happened, trained_parameters
from koopcore.torch.results import AcceleratorStats, Jump
from koopcore.torch.trial import RefusedJump, Trial, choose_horizon, default_horizons

_log = logging.getLogger("koopcore")
_hooked_optimizers: weakref.WeakSet = weakref.WeakSet()
_busy_operators: weakref.WeakSet = weakref.WeakSet()
_LONGEST_PAUSE = 3  # windows left unrecorded, at most, after several refusals in a row


class KoopmanAccelerator:
    """Jump ahead along the forecast of the weights, whenever a trial says that it helps.

    Every `every` steps of `optimizer` the trained parameters are recorded. A full window gives one
    linear operator for the whole network, fitted to the differences of successive snapshots (so
    that the weights may converge to any point), and with it forecasts at all `horizons`. They are
    tried in turn; the best one becomes the weights if its trial loss is below that of the present
    weights. Otherwise weights, buffers, optimizer state and torch's CPU random numbers stay
    identical to the bit. Either way the window starts afresh, since an attempt on nearly the
    same snapshots would end nearly the same way, and after two refusals in a row or more
    recording pauses for one window, then three. The optimizer state is kept across a jump.

    Parameters
    ----------
    model : torch.nn.Module
        On the CPU, with parameters all float32 or all float64.
    optimizer : torch.optim.Optimizer
        Any optimizer over parameters of `model`; those it does not hold are left alone.
    trial_loss : callable
        ``trial_loss(model)`` returns the loss to be lowered, as a real scalar, for instance on a
        fixed subset of the training samples. It sees the model with a forecast's parameters in
        place and copies of all buffers; the real tensors are out of its reach. Gradients
        are enabled, so that it can differentiate with respect to *inputs*, but the parameters
        do not require any, so a plain forward pass records no graph. It may call ``model.eval()``
        (the flags are put back) and draw random numbers (each trial draws the same ones). It
        should give the same loss for the same weights: a new batch at each call would compare
        batches. Every failure of it is a refused jump, logged once; training goes on.
    window : int, default 10
        Number of snapshots in a window, at least 3.
    every : int, default 5
        Optimizer steps between snapshots.
    horizons : sequence of int, optional
        Increasing numbers of optimizer steps. By default the span of one window,
        doubled until 25,600 steps are reached.
    log_fn : callable, optional
        ``log_fn(fields, step)`` is called once per attempt with the fields of `Jump` as a dict.
    operator : WindowDMD or StreamingDMD, optional
        An empty one with ``affine=True`` that takes the place of the default
        ``WindowDMD(window, affine=True)``, to choose its rank, variant or treatment of unstable
        eigenvalues. `window` is then the number of snapshots between attempts, which a
        `koopcore.WindowDMD` may not exceed (a smaller one keeps the last of them). It is cleared
        before every start and after every attempt, so that a `koopcore.StreamingDMD` too sees no
        more than `window` snapshots: its memory is ``rank + oversampling + block + 1`` states
        against ``window + 2``, and whether its jumps are better is for you to measure.

    Raises
    ------
    TypeError, ValueError
        For arguments that cannot work; the message names the argument, its value and what would
        be right.

    Notes
    -----
    By default the fit is dynamic mode decomposition of the window's Gram matrix
    (`koopcore.WindowDMD` with ``affine=True``); eigenvalues outside the unit circle are put on it
    in forecasts. Training by Koopman forecasts is due to Dogra and Redman (NeurIPS 2020); the trial
    is ours.

    Examples
    --------
    >>> import torch
    >>> from koopcore.torch import KoopmanAccelerator
    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(64, 3)
    >>> y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    >>> def loss(model):
    ...     return torch.nn.functional.mse_loss(model(x), y)
    >>> with KoopmanAccelerator(model, optimizer, trial_loss=loss) as accelerator:
    ...     for _ in range(100):
    ...         optimizer.zero_grad()
    ...         loss(model).backward()
    ...         optimizer.step()
    >>> accelerator.stats.attempts
    2
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        trial_loss: Callable[[nn.Module], object],
        window: int = 10,
        every: int = 5,
        horizons: Sequence[int] | None = None,
        log_fn: Callable[[dict, int], object] | None = None,
        operator: WindowDMD | StreamingDMD | None = None,
    ) -> None:
        _check_types(model, optimizer, trial_loss, log_fn)
        window = _integer("window", window, at_least=3)
        self._every = _integer("every", every, at_least=1)
        self._horizons = (
            default_horizons(window, self._every) if horizons is None else _ladder(horizons)
        )
        parameters = trained_parameters(model, optimizer)
        self._model, self._optimizer, self._log_fn = model, optimizer, log_fn
        self._recorder = Recorder(parameters)
        self._trial = Trial(model, parameters, trial_loss)
        self._operator = (
            WindowDMD(window, affine=True) if operator is None else _usable(operator, window)
        )
        self._capacity = window
        self._recorded = 0  # snapshots since the operator was cleared
        self._pause_unit = window * self._every
        self._handle = None
        self._until_snapshot = self._every
        self._refusals_in_a_row = 0
        self._steps = self._snapshots = 0
        self._seconds = 0.0
        self._warned: set[str] = set()
        self.jumps: list[Jump] = []

    def __enter__(self) -> KoopmanAccelerator:
        return self.attach()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()

    def attach(self) -> KoopmanAccelerator:
        """Register the optimizer hook and start with an empty window.

        Raises
        ------
        RuntimeError
            This accelerator is attached already, or another one to the same optimizer or operator.
        """
        if self._handle is not None:
            raise RuntimeError("this KoopmanAccelerator is attached already; detach() it first")
        if self._optimizer in _hooked_optimizers:
            raise RuntimeError(
                "optimizer has a KoopmanAccelerator attached already; two would record each "
                "other's jumps: detach() the first one"
            )
        if self._operator in _busy_operators:
            raise RuntimeError(
                "operator records for another KoopmanAccelerator, whose snapshots would get mixed "
                "with these: detach() that one, or give each its own"
            )
        self._restart()
        self._handle = self._optimizer.register_step_post_hook(self._after_step)
        _hooked_optimizers.add(self._optimizer)
        _busy_operators.add(self._operator)
        return self

    def detach(self) -> None:
        """Remove the hook. Statistics and jumps stay; detaching twice does nothing."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            _hooked_optimizers.discard(self._optimizer)
            _busy_operators.discard(self._operator)

    @property
    def stats(self) -> AcceleratorStats:
        """Counts and time up to now, as an `AcceleratorStats`."""
        taken = sum(jump.taken for jump in self.jumps)
        return AcceleratorStats(
            steps=self._steps,
            snapshots=self._snapshots,
            attempts=len(self.jumps),
            taken=taken,
            refused=len(self.jumps) - taken,
            trials=self._trial.evaluations,
            seconds=self._seconds,
        )

    def _after_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        """Count the step; record it if it is due; attempt a jump if the window is full."""
        start = time.perf_counter()
        try:
            if not step_happened(optimizer):
                return
            self._steps += 1
            self._until_snapshot -= 1
            if self._until_snapshot:
                return
            self._until_snapshot = self._every
            if self._record():
                self._attempt()
        finally:
            self._seconds += time.perf_counter() - start

    def _record(self) -> bool:
        """Take a snapshot; return whether the window is full."""
        try:
            self._operator.update(self._recorder.snapshot())
        except Exception as error:
            self._warn_once(
                f"snapshot {type(error).__name__}",
                f"step {self._steps} could not be recorded, the window starts afresh: {error}",
            )
            self._restart()
            return False
        self._snapshots += 1
        self._recorded += 1
        return self._recorded == self._capacity

    def _attempt(self) -> None:
        """Choose a horizon by trial, jump if it helps, and start the next window."""
        start, trials = time.perf_counter(), self._trial.evaluations
        horizon, before, after = 0, math.nan, math.nan
        try:
            choice = choose_horizon(self._trial, self._forecast, self._horizons)
            before, after = choice.loss_before, choice.loss_best
            reason = "no forecast lowers the trial loss"
            if choice.horizon:
                self._forecast(choice.horizon)
                self._trial.commit()
                horizon, reason = choice.horizon, "the forecast lowers the trial loss"
        except RefusedJump as refusal:
            reason = refusal.reason
            self._warn_once(refusal.kind, f"jump refused at step {self._steps}: {reason}", refusal)
        except Exception as error:
            reason = f"forecast failed: {error}"
            kind = f"forecast {type(error).__name__}"
            self._warn_once(kind, f"jump refused at step {self._steps}: {reason}", error)
        if horizon:
            self._warn_of_batch_norm()
        self._refusals_in_a_row = 0 if horizon else self._refusals_in_a_row + 1
        self._restart()
        self.jumps.append(
            Jump(
                step=self._steps,
                horizon=horizon,
                loss_before=before,
                loss_after=after,
                taken=horizon > 0,
                reason=reason,
                trials=self._trial.evaluations - trials,
                seconds=time.perf_counter() - start,
            )
        )
        self._report(self.jumps[-1])

    def _forecast(self, horizon: int) -> None:
        """Write the forecast `horizon` optimizer steps ahead into the trial."""
        self._operator.forecast(horizon / self._every, out=self._trial.segments)

    def _restart(self) -> None:
        """Empty the operator and set when the next snapshot is due."""
        self._operator.clear()
        self._recorded = 0
        pause = min(2 ** max(self._refusals_in_a_row - 1, 0) - 1, _LONGEST_PAUSE)
        self._until_snapshot = self._every + pause * self._pause_unit

    def _report(self, jump: Jump) -> None:
        _log.debug("%s", jump)
        if self._log_fn is not None:
            self._log_fn(asdict(jump), jump.step)

    def _warn_once(self, kind: str, message: str, error: Exception | None = None) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            cause = error.__cause__ if error is not None else None
            _log.warning("%s (further ones of this kind are not logged)", message, exc_info=cause)

    def _warn_of_batch_norm(self) -> None:
        if "batch norm" in self._warned:
            return
        for name, module in self._model.named_modules():
            if getattr(module, "running_mean", None) is not None:
                self._warned.add("batch norm")
                _log.warning(
                    "the weights have jumped, but the running statistics of %r describe the "
                    "weights before; refresh them with torch.optim.swa_utils.update_bn(loader, "
                    "model) before evaluating",
                    name or type(module).__name__,
                )
                return


def _check_types(model: object, optimizer: object, trial_loss: object, log_fn: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}; "
            "of a wrapper, pass the optimizer inside (often its .optimizer)"
        )
    if not callable(trial_loss):
        raise TypeError(
            f"trial_loss must be a function of the model, got {type(trial_loss).__name__}"
        )
    if log_fn is not None and not callable(log_fn):
        raise TypeError(f"log_fn must be callable or None, got {type(log_fn).__name__}")


def _usable(operator: object, window: int) -> WindowDMD | StreamingDMD:
    """Check that an operator of the user's can take the place of the default one."""
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


def _integer(name: str, value: object, *, at_least: int) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
    return number


def _ladder(horizons: object) -> tuple[int, ...]:
    try:
        ladder = tuple(horizons)
    except TypeError:
        raise TypeError(
            f"horizons must be a sequence of integers or None, got {horizons!r}"
        ) from None
    if not ladder:
        raise ValueError("horizons is empty; give at least one number of optimizer steps, or None")
    ladder = tuple(_integer("horizons", h, at_least=1) for h in ladder)
    for low, high in itertools.pairwise(ladder):
        if high <= low:
            raise ValueError(f"horizons must increase, got {low} before {high}")
    return ladder
