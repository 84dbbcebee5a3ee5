"""The accelerator's work after each step: record, attempt when the window is full, start afresh."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import distributed, nn

from koopcore.torch._attempt import Outcome, attempt, attempt_without_trial
from koopcore.torch._engine import Engine
from koopcore.torch._hook import OptimizerHook
from koopcore.torch.policy import FEWEST_TRIALS, Pace, TrustRegion
from koopcore.torch.results import Jump
from koopcore.torch.trial import RefusedJump, default_horizons

_log = logging.getLogger("koopcore")
_busy_operators: weakref.WeakSet = weakref.WeakSet()


class AttemptLoop(OptimizerHook):
    """Records, attempts, commits or refuses; `KoopmanAccelerator` sets its fields."""

    history: list[Jump]
    _model: nn.Module
    _engine: Engine
    _trust: TrustRegion
    _pace: Pace
    _every: int
    _capacity: int
    _growth: float
    _horizons: tuple[int, ...] | None  # None: those of the window
    _by_layer: bool
    _trial_given: bool
    _shared: bool
    _bn_loader: Any
    _log_fn: Callable[[dict, int], object] | None
    _until_snapshot: int
    _snapshots: int
    _attempts_left: float  # infinity, or how many more there will be
    _forced: int | None  # a horizon to take untried: the published method
    _warned: set[str]

    def _before_attach(self) -> None:
        operator = self._engine.operator
        if operator is not None and operator in _busy_operators:
            raise RuntimeError(
                "operator records for another KoopmanAccelerator, whose snapshots would get mixed "
                "with these: detach() that one, or give each its own"
            )
        if operator is not None:
            _busy_operators.add(operator)
        _log.info("koopcore will hold up to %.1f MB", self._engine.nbytes / 1e6)

    def _after_detach(self) -> None:
        if self._engine.operator is not None:
            _busy_operators.discard(self._engine.operator)
        self._restart()

    def _stepped(self, start: float) -> None:
        """Record the step if it is due; attempt a jump if the window is full."""
        self._until_snapshot -= 1
        self._engine.step(self._until_snapshot)
        if self._until_snapshot == 0:
            self._until_snapshot = self._engine.every
            if self._record():
                self._attempt(start)

    def _record(self) -> bool:
        """Take a snapshot; return whether the window is full."""
        try:
            if self._engine.refresh():
                self._warn_once(
                    "parameters",
                    f"{self._here()}: other parameters are trained now; the window starts afresh",
                )
            self._engine.record()
        except Exception as error:
            self._warn_once(
                f"snapshot {type(error).__name__}",
                f"{self._here()} could not be recorded, the window starts afresh: {error}",
            )
            self._restart()
            return False
        self._snapshots += 1
        return len(self._engine) == self._capacity

    def _attempt(self, start: float) -> None:
        """Choose a forecast, jump if it helps, and start the next window."""
        trials, outcome = self._engine.trial.evaluations, Outcome()
        try:
            self._choose(outcome, start)
            if outcome.horizon:
                assert outcome.forecast is not None
                self._engine.commit(outcome.forecast, outcome.horizon)
        except RefusedJump as refusal:
            self._refuse(outcome, refusal.kind, refusal.reason, refusal)
        except Exception as error:
            kind = f"forecast {type(error).__name__}"
            self._refuse(outcome, kind, f"forecast failed: {error}", error)
        taken = outcome.horizon > 0
        self._pace.note(taken)
        if taken:
            self._refresh_batch_norm()
        self._attempts_left -= 1
        self.history.append(
            Jump(
                step=self._ledger.steps,
                taken=taken,
                trials=self._engine.trial.evaluations - trials,
                seconds=time.perf_counter() - start,
                **{k: v for k, v in vars(outcome).items() if k != "forecast"},
            )
        )
        self._restart()
        _log.debug("%s", self.history[-1])
        if self._log_fn is not None:
            self._log_fn(asdict(self.history[-1]), self._ledger.steps)

    def _choose(self, outcome: Outcome, start: float) -> None:
        if not self._trial_given:
            attempt_without_trial(self._engine, outcome, self._trust, self._forced)
            return
        running = time.perf_counter() - start
        made = self._engine.trial.evaluations
        allowed = made + max(FEWEST_TRIALS, self._agreed(self._ledger.affordable_trials(running)))
        attempt(
            self._engine,
            outcome,
            self._ladder(),
            self._trust,
            lambda: self._engine.trial.evaluations < allowed,
            self._by_layer,
        )

    def _ladder(self) -> tuple[int, ...]:
        """Return the horizons to try, in optimizer steps."""
        if self._horizons is not None:
            return self._horizons
        return default_horizons(self._capacity, self._engine.every)

    def _refuse(self, outcome: Outcome, kind: str, reason: str, error: Exception) -> None:
        outcome.horizon, outcome.reason = 0, reason
        self._warn_once(kind, f"jump refused at step {self._ledger.steps}: {reason}", error)

    def _restart(self) -> None:
        """Empty the window and set when the next snapshot is due."""
        self._engine.clear()
        grown = round(self._growth * self._ledger.steps / self._capacity)
        self._engine.space(max(self._every, grown))
        span = self._capacity * self._engine.every
        pause = self._pace.windows * span
        if self._trial_given:
            trials = max([FEWEST_TRIALS, *(jump.trials for jump in self.history[-3:])])
            pause = max(pause, self._agreed(self._ledger.steps_until(trials)) - span)
        self._until_snapshot = self._engine.every + pause
        if self._attempts_left <= 0:
            self._until_snapshot = -1  # counts down and never comes to 0

    def _agreed(self, count: int) -> int:
        """Return the number of the first process, where several train one model."""
        if not self._shared:
            return count
        device = self._engine.trial.tensors[0].device
        shared = torch.tensor([count], device=device)
        distributed.broadcast(shared, 0)
        return int(shared)

    def _here(self) -> str:
        return f"step {self._ledger.steps}"

    def _warn_once(self, kind: str, message: str, error: Exception | None = None) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            cause = error.__cause__ if error is not None else None
            _log.warning("%s (further ones of this kind are not logged)", message, exc_info=cause)

    def _refresh_batch_norm(self) -> None:
        """Recompute running statistics for the weights after a jump, or say that they are stale."""
        stale = [
            name or type(module).__name__
            for name, module in self._model.named_modules()
            if getattr(module, "running_mean", None) is not None
        ]
        if not stale:
            return
        if self._bn_loader is not None:
            torch.optim.swa_utils.update_bn(self._bn_loader, self._model)
        elif "batch norm" not in self._warned:
            self._warned.add("batch norm")
            _log.warning(
                "the weights have jumped, but the running statistics of %r describe the "
                "weights before; give bn_loader, or refresh them with "
                "torch.optim.swa_utils.update_bn(loader, model) before evaluating",
                stale[0],
            )
