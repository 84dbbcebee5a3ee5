"""The accelerator's work after each step: record, attempt when the window is full, start afresh."""

from __future__ import annotations

import contextlib
import logging
import math
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import distributed, nn

from koopcore.torch._aside import refresh_norms, stale_norms
from koopcore.torch._attempt import ROLLED_BACK, Outcome, attempt, attempt_without_trial
from koopcore.torch._engine import Engine
from koopcore.torch._evaluation import Evaluation
from koopcore.torch._hook import OptimizerHook
from koopcore.torch._options import Options
from koopcore.torch.policy import FEWEST_TRIALS, Ledger, Pace, TrustRegion
from koopcore.torch.recorder import is_shared, unwrapped
from koopcore.torch.results import Jump, jumps_from_state, jumps_to_state
from koopcore.torch.trial import BEYOND_AVERAGES, TIME_CONSTANTS, RefusedJump, default_horizons

_log = logging.getLogger("koopcore")
_busy_operators: weakref.WeakSet = weakref.WeakSet()
FORMAT = 1


class AttemptLoop(OptimizerHook):
    """Records, attempts, commits or refuses; `KoopmanAccelerator` checks its arguments."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        options: Options,
        ledger: Ledger,
        trust: TrustRegion,
        trial_loss: Callable[[nn.Module], object] | None,
        bn_loader: Any,
        log_fn: Callable[[dict, int], object] | None,
        evaluation: Evaluation | None,
    ) -> None:
        super().__init__(optimizer, ledger)
        self._model, self._trust, self._pace = unwrapped(model), trust, Pace()
        self._bn_loader, self._log_fn, self._evaluation = bn_loader, log_fn, evaluation
        self._trial_given = trial_loss is not None
        self._shared = is_shared(model)
        self._engine = Engine(
            self._model, optimizer, options, trial_loss, ledger.trial, self._shared
        )
        self._until_snapshot = -1 if ledger.closed else options.every + options.start_step
        self._until_attempt = self._engine.first_attempt
        self._snapshots = 0
        self._rung: int | None = None  # the horizon of the last jump
        self._attempts_left = 0.0 if ledger.closed else math.inf
        self._forced: int | None = None  # a horizon to take untried: the published method
        self._warned: set[str] = set()
        self.history: list[Jump] = []

    def _publish(self) -> None:
        """Fit the operators of the paper, and jump once, untried if there is no trial."""
        options = replace(self._engine.options, published=True)
        self._engine.rebuild(options)
        self._attempts_left = 1
        self._forced = None if self._trial_given else self._ladder()[0]

    def _before_attach(self) -> None:
        operator = self._engine.options.operator
        if operator is not None and operator in _busy_operators:
            raise RuntimeError(
                "operator records for another KoopmanAccelerator, whose snapshots would get mixed "
                "with these: detach() that one, or give each its own"
            )
        if operator is not None:
            _busy_operators.add(operator)
        self._engine.prepare(self._until_snapshot)
        _log.info("koopcore will hold up to %.1f MB", self._engine.nbytes / 1e6)

    def _after_detach(self) -> None:
        if self._engine.options.operator is not None:
            _busy_operators.discard(self._engine.options.operator)
        self._start_over()

    def _stepped(self, start: float) -> None:
        """Record the step if it is due; attempt a jump if the window is full."""
        try:
            if self._record():
                self._attempt(start)
                self._engine.prepare(self._until_snapshot)
        except BaseException:  # an interrupt, or an error of the user's log_fn
            self._start_over()
            raise

    def _record(self) -> bool:
        """Take note of a step, and a snapshot if it is due; return whether an attempt is due."""
        self._until_snapshot -= 1
        try:
            self._engine.step(self._until_snapshot)
            if self._evaluation is not None:
                self._evaluation.step(self._model)
            if self._until_snapshot == 0:
                self._until_snapshot = self._engine.every
                if not self._other_parameters():
                    self._engine.record()
                    self._snapshots += 1
                    self._until_attempt -= 1
                    if self._until_attempt == 0:
                        return True
            self._engine.prepare(self._until_snapshot)
        except Exception as error:
            self._warn_once(
                f"snapshot {type(error).__name__}",
                f"{self._here()} could not be recorded, the window starts afresh: {error}",
            )
            self._start_over()
            with contextlib.suppress(TypeError, ValueError):  # of parameters that do not work
                self._engine.refresh()
        return False

    def _other_parameters(self) -> bool:
        """Start afresh if other parameters are trained than before; return whether they are."""
        changed = self._engine.refresh()
        if changed:
            if self._evaluation is not None:
                self._evaluation.forget()
            self._warn_once(
                "parameters",
                f"{self._here()}: other parameters are trained now; the window starts afresh",
            )
            self._start_over()
        return changed

    def _start_over(self) -> None:
        """Empty the window. A pause goes on, and no other process is asked: it may be gone."""
        self._engine.clear()
        self._until_attempt = self._engine.first_attempt
        self._until_snapshot = max(self._engine.every, self._until_snapshot)
        if self._attempts_left <= 0:
            self._until_snapshot = -1

    def _attempt(self, start: float) -> None:
        """Choose a forecast, jump if it helps, and start the next window."""
        trials, outcome = self._engine.trial.evaluations, Outcome()
        try:
            self._choose(outcome, start)
            if outcome.horizon:
                self._take(outcome)
        except RefusedJump as refusal:
            self._refuse(outcome, refusal.kind, refusal.reason, refusal)
        except Exception as error:
            kind = f"forecast {type(error).__name__}"
            self._refuse(outcome, kind, f"forecast failed: {error}", error)
        taken = outcome.horizon > 0
        self._pace.note(taken, confirmed=outcome.harmed is False)
        if taken and self._jumps_in_training:
            self._refresh_batch_norm()
        self._attempts_left -= 1
        self.history.append(
            Jump(
                step=self._ledger.steps,
                taken=taken,
                trials=self._engine.trial.evaluations - trials,
                seconds=time.perf_counter() - start,
                **{k: v for k, v in vars(outcome).items() if k not in ("forecast", "harmed")},
            )
        )
        self._restart()
        _log.debug("%s", self.history[-1])
        if self._log_fn is not None:
            self._log_fn(asdict(self.history[-1]), self._ledger.steps)

    @property
    def _jumps_in_training(self) -> bool:
        return self._evaluation is None or self._evaluation.jumps_in_training

    def _take(self, outcome: Outcome) -> None:
        """Make a forecast the weights, or in mode "evaluate" those for evaluation."""
        assert outcome.forecast is not None
        evaluation, engine = self._evaluation, self._engine
        if evaluation is not None and not evaluation.jumps_in_training:
            if evaluation.offer(engine.trial, list(engine.parameters), outcome.loss_after):
                outcome.reason = "for evaluation: the forecast lowers the trial loss"
            else:
                outcome.horizon, outcome.reason = 0, "the average is better than the forecast"
            return
        self._engine.commit(outcome.forecast, outcome.horizon)
        if evaluation is not None:
            evaluation.follow(self._model)
        if self._trial_given:
            # The radius learns nothing where a jump can be undone, and nothing from the noise
            # of an iterate where snapshots are averages.
            fearless = self._engine.options.rollback or self._engine.recorder.averages
            length = math.nan if fearless else outcome.displacement
            self._trust.jumped(length, outcome.loss_before)

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
            lambda forecast: self._ladder(getattr(forecast, "share", 1.0)),
            self._rung,
            self._trust,
            lambda: self._engine.trial.evaluations < allowed,
        )
        if self._evaluation is not None:
            self._evaluation.judged(outcome.harmed)
            if outcome.reason == ROLLED_BACK:
                self._evaluation.follow(self._model)
        if outcome.horizon and self._engine.samples:
            self._rung = self._ladder().index(outcome.horizon)

    def _ladder(self, share: float = 1.0) -> tuple[int, ...]:
        """Return the horizons to try, in optimizer steps, with a rule that sees this share."""
        options = self._engine.options
        if options.horizons is not None:
            return options.horizons
        if self._engine.samples:
            return TIME_CONSTANTS
        if self._engine.recorder.averages:
            span = share * options.window * self._engine.every
            return tuple(max(1, round(windows * span)) for windows in BEYOND_AVERAGES)
        return default_horizons(options.window, self._engine.every)

    def _refuse(self, outcome: Outcome, kind: str, reason: str, error: Exception) -> None:
        outcome.horizon, outcome.reason = 0, reason
        self._warn_once(kind, f"jump refused at step {self._ledger.steps}: {reason}", error)

    def _restart(self) -> None:
        """Forget a trajectory, and set when the next snapshot and the next attempt are due."""
        options, engine = self._engine.options, self._engine
        if not engine.samples:
            engine.clear()
        engine.space(
            max(options.every, round(options.growth * self._ledger.steps / options.window))
        )
        snapshots = max(1, options.window // 10) if engine.samples else options.window
        steps = snapshots * engine.every
        # Windows that grow make attempts rarer by themselves.
        pause = 0 if options.growth else self._pace.windows * steps
        if self._trial_given:
            trials = max([FEWEST_TRIALS, *(jump.trials for jump in self.history[-3:])])
            pause = max(pause, self._agreed(self._ledger.steps_until(trials)) - steps)
        if engine.samples:  # recorded on through a short pause: later snapshots tell more
            snapshots = min(snapshots + pause // engine.every, options.window)
            pause = max(0, pause + steps - snapshots * engine.every)
        self._until_attempt = snapshots
        self._until_snapshot = engine.every + pause
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
        stale = stale_norms(self._model)
        if not stale:
            return
        if self._bn_loader is not None:
            try:
                refresh_norms(self._model, self._bn_loader)
            except Exception as error:
                self._warn_once(
                    "bn_loader",
                    f"running statistics of {stale[0]!r} could not be refreshed after the jump at "
                    f"{self._here()} and are those of the weights before: {error}",
                )
        elif "batch norm" not in self._warned:
            self._warned.add("batch norm")
            _log.warning(
                "the weights have jumped, but the running statistics of %r describe the "
                "weights before; give bn_loader, or refresh them with "
                "torch.optim.swa_utils.update_bn(loader, model) before evaluating",
                stale[0],
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to go on as if it had not been stopped.

        Tensors, numbers, strings, lists and dicts only. Load it after the model and the optimizer;
        with a `trial_cost`, or without a `max_overhead`, the run then goes on with the same bits.
        """
        with contextlib.suppress(TypeError, ValueError):  # of parameters that do not work
            self._other_parameters()
        return {
            "format": FORMAT,
            "engine": self._engine.state_dict(),
            "until_attempt": self._until_attempt,
            "rung": self._rung,
            "until_snapshot": self._until_snapshot,
            "every": self._engine.every,
            "snapshots": self._snapshots,
            "attempts_left": self._attempts_left,
            "refusals": self._pace.refusals,
            "ledger": self._ledger.state_dict(),
            "trust": self._trust.state_dict(),
            "evaluation": self._evaluation.state_dict() if self._evaluation is not None else {},
            "warned": sorted(self._warned),
            "history": jumps_to_state(self.history),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the place of the accelerator that gave `state`.

        Raises
        ------
        ValueError
            If it is of other parameters or of another version.
        """
        if state.get("format") != FORMAT:
            raise ValueError(
                f"state has format {state.get('format')!r}; this version reads {FORMAT!r}"
            )
        self._engine.load_state_dict(state["engine"])
        self._engine.space(int(state["every"]))
        self._until_attempt = int(state["until_attempt"])
        self._rung = None if state["rung"] is None else int(state["rung"])
        self._until_snapshot = int(state["until_snapshot"])
        self._snapshots = int(state["snapshots"])
        self._attempts_left = float(state["attempts_left"])
        self._pace.refusals = int(state["refusals"])
        self._ledger.load_state_dict(state["ledger"])
        self._trust.load_state_dict(state["trust"])
        if self._evaluation is not None:
            self._evaluation.load_state_dict(state["evaluation"])
        self._warned = set(state["warned"])
        self.history = jumps_from_state(state["history"])
