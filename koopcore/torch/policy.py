"""When to attempt a jump, how far it may go, and what all of it may cost.

Three small objects, each with one question: `Ledger` (is there money for an attempt?), `Pace`
(have attempts been refused lately?) and `TrustRegion` (did earlier jumps of this length last?).
"""

from __future__ import annotations

import math

UNLIMITED = 2**20  # trials, where there is no bound
FEWEST_TRIALS = 3  # the present weights and two forecasts: less tells nothing
PATIENCE = 0.5  # of a jump that can be undone: the optimizer may take a few steps to settle
CLIP = 3.0  # a step that took this many usual steps was held up by something else


class Ledger:
    """What training has cost, what koopcore has, and what it may still.

    Parameters
    ----------
    limit : float or None
        Largest share of training's cost that koopcore's may be; None: no limit.
    trial_cost : float or None
        Cost of a trial in optimizer steps. Then nothing is measured: only trials are charged, and
        the same run makes the same decisions again. None: all is measured, in seconds.
    """

    def __init__(self, limit: float | None, trial_cost: float | None) -> None:
        self._limit, self._trial_cost = limit, trial_cost
        self.steps = self.measured = 0
        self.step_seconds = 0.0
        self.own_seconds = 0.0
        self.trial_seconds = 0.0
        self.trials = 0

    def step(self, seconds: float | None) -> None:
        """Charge an optimizer step to training; `seconds` outside koopcore, None: not measured."""
        self.steps += 1
        if seconds is None:
            return
        if self.measured:
            seconds = min(seconds, CLIP * self.step_seconds / self.measured)
        self.step_seconds += seconds
        self.measured += 1

    def trial(self, seconds: float) -> None:
        """Note one trial; its time is part of what `work` will charge."""
        self.trials += 1
        self.trial_seconds += seconds

    def work(self, seconds: float) -> None:
        """Charge time to koopcore."""
        self.own_seconds += seconds

    @property
    def closed(self) -> bool:
        """Whether koopcore may cost nothing at all."""
        return self._limit == 0.0

    @property
    def overhead(self) -> float:
        """Cost of koopcore over that of training."""
        training, own = self._training(), self._own()
        return own / training if training > 0 else 0.0

    def affordable_trials(self, running: float = 0.0) -> int:
        """Trials that may be made now; `running` seconds of the present attempt are not booked."""
        if self._limit is None:
            return UNLIMITED
        left = self._limit * self._training() - self._own()
        left -= running if self._trial_cost is None else 0.0
        return max(0, int(left / max(self._unit(), 1e-12)))

    def steps_until(self, trials: int) -> int:
        """Optimizer steps to wait until so many trials are affordable."""
        if self._limit is None or not self._training():
            return 0
        per_step = self._training() / self.steps
        missing = self._own() + trials * self._unit() - self._limit * self._training()
        return max(0, math.ceil(missing / max(self._limit * per_step, 1e-12)))

    def state_dict(self) -> dict:
        """Return what goes on alike when loaded."""
        names = ("steps", "measured", "step_seconds", "own_seconds", "trial_seconds", "trials")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict) -> None:
        """Take up the books of another one."""
        for name in self.state_dict():
            setattr(self, name, type(getattr(self, name))(state[name]))

    def _training(self) -> float:
        if self._trial_cost is not None:
            return float(self.steps)
        # Steps that were not measured, the first one after an attach, took as long as the others.
        return self.step_seconds / max(self.measured, 1) * self.steps

    def _own(self) -> float:
        if self._trial_cost is None:
            return self.own_seconds
        return self.trials * self._trial_cost

    def _unit(self) -> float:
        """Cost of one trial; before the first, that of one step, which is forward and backward."""
        if self._trial_cost is not None:
            return self._trial_cost
        if self.trials:
            return self.trial_seconds / self.trials
        return self.step_seconds / max(self.measured, 1)


class Pace:
    """Back-off: after the second refusal in a row, pauses of 1, 2, 3, ... windows.

    In a run of T windows that are all refused about ``sqrt(2 T)`` attempts are made: their share of
    the cost tends to zero, while a run that turns for the better later is not given up. A jump
    ends the pauses only when the next trial has confirmed it, so that jumps and roll-backs
    in turn become rarer too.
    """

    def __init__(self) -> None:
        self.refusals = 0

    def note(self, taken: bool, confirmed: bool) -> None:
        """Note how an attempt ended, and whether its trial confirmed the jump before it."""
        if confirmed:
            self.refusals = 0
        if not taken:
            self.refusals += 1

    @property
    def windows(self) -> int:
        """Windows to leave unrecorded now."""
        return max(self.refusals - 1, 0)


class TrustRegion:
    """How far a jump may go, in units of the distance that the window has covered.

    There is no limit but the user's until a jump has done harm: the trial loss one window later is
    above the one before the jump. Then the radius is half of that jump's length. Each jump that
    used most of the radius and did no harm doubles it, and so does each attempt that found no
    horizon within it, so that a run is never stuck.

    Parameters
    ----------
    cap : float or None
        The user's limit.
    patience : float
        Share of the loss before a jump by which the loss one window later may be above it.
    """

    def __init__(self, cap: float | None = None, patience: float = 0.0) -> None:
        self._patience = patience
        self._cap = math.inf if cap is None else cap
        self.learned = math.inf
        self._last: tuple[float, float] | None = None  # length, trial loss before the jump

    @property
    def radius(self) -> float:
        """The present limit."""
        return min(self._cap, self.learned)

    def allows(self, length: float) -> bool:
        """Tell whether a jump may go this far; a length that is not known (nan) may."""
        return not length > self.radius

    def hindered(self) -> None:
        """Note that no horizon was allowed."""
        self.learned *= 2.0

    def jumped(self, length: float, loss_before: float) -> None:
        """Note a jump, to be judged when the next window is full."""
        self._last = (length, loss_before)

    def judge(self, loss: float) -> bool | None:
        """Learn from the trial loss one window after a jump.

        Returns
        -------
        bool or None
            Whether the jump has done harm; None: there was none to judge.
        """
        if self._last is None:
            return None
        length, before = self._last
        self._last = None
        harmed = not loss <= before + self._patience * abs(before)
        if math.isnan(length):
            return harmed
        if harmed:
            self.learned = 0.5 * min(length, self.radius)
        elif length > 0.5 * self.radius:
            self.learned = 2.0 * self.radius
        return harmed

    def state_dict(self) -> dict:
        """Return what goes on alike when loaded."""
        return {"learned": self.learned, "last": None if self._last is None else list(self._last)}

    def load_state_dict(self, state: dict) -> None:
        """Take up what another one has learned."""
        self.learned = float(state["learned"])
        self._last = None if state["last"] is None else tuple(map(float, state["last"]))
