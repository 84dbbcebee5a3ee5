"""When to attempt and at what cost: small objects by given numbers, a run by a given clock."""

import math
import time

import pytest

torch = pytest.importorskip("torch")

from training_runs import regression, train  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402
from koopcore.torch.policy import FEWEST_TRIALS, Ledger, Pace, TrustRegion  # noqa: E402


def _ledger(limit, steps=100, seconds=1.0, own=0.0, trials=0, trial_seconds=0.0):
    ledger = Ledger(limit, None)
    for _ in range(steps):
        ledger.step(seconds)
    for _ in range(trials):
        ledger.trial(trial_seconds)
    ledger.work(own)
    return ledger


def test_ledger_without_a_limit_affords_everything_at_once():
    ledger = _ledger(None, own=1e9, trials=1, trial_seconds=1e9)
    assert ledger.affordable_trials() > 10**6
    assert ledger.steps_until(10) == 0
    assert not ledger.closed


@pytest.mark.parametrize(
    ("own", "trials", "unit", "affordable", "wait"),
    [
        (0.0, 0, 0.0, 10, 0),  # before the first trial, one is thought to cost a step
        (4.0, 2, 2.0, 3, 0),  # 6 of 10 seconds left
        (10.0, 2, 5.0, 0, 150),  # spent: 3 trials of 5 s need another 15 s, which 150 steps give
        (13.0, 4, 0.5, 0, 45),
    ],
)
def test_ledger_spends_a_tenth_of_what_training_has_cost(own, trials, unit, affordable, wait):
    ledger = _ledger(0.1, own=own, trials=trials, trial_seconds=unit)
    assert ledger.overhead == pytest.approx(own / 100)
    assert ledger.affordable_trials() == affordable
    assert ledger.steps_until(3) == wait


def test_ledger_does_not_spend_what_the_present_attempt_has_used():
    assert _ledger(0.1, own=4.0, trials=2, trial_seconds=2.0).affordable_trials(4.5) == 0


def test_ledger_by_trials_needs_no_clock():
    ledger = Ledger(0.1, 0.5)
    for _ in range(100):
        ledger.step(None)
    assert ledger.affordable_trials(1e9) == 20
    for _ in range(20):
        ledger.trial(1e9)
    ledger.work(1e9)
    assert ledger.overhead == pytest.approx(0.1)
    assert (ledger.affordable_trials(), ledger.steps_until(3)) == (0, 15)


def test_ledger_a_pause_of_the_user_is_no_cost_of_training():
    ledger = _ledger(0.1, steps=10)
    ledger.step(3600.0)
    assert ledger.overhead == 0.0
    assert ledger.affordable_trials() <= 1


def test_ledger_steps_that_were_not_measured_count_as_the_others():
    ledger = Ledger(0.1, None)
    ledger.step(None)
    assert ledger.steps_until(3) == ledger.affordable_trials() == 0
    ledger.step(2.0)
    ledger.work(0.4)
    assert ledger.overhead == pytest.approx(0.1)


def test_ledger_state_goes_on_alike():
    ledger = _ledger(0.1, own=4.0, trials=2, trial_seconds=2.0)
    other = Ledger(0.1, None)
    other.load_state_dict(ledger.state_dict())
    assert other.state_dict() == ledger.state_dict()
    assert other.affordable_trials() == ledger.affordable_trials()


def test_pace_pauses_grow_with_refusals_and_end_with_a_jump():
    pace, pauses = Pace(), []
    for taken in (False, False, False, False, True, False):
        pace.note(taken, confirmed=taken)
        pauses.append(pace.windows)
    assert pauses == [*sorted(pauses[:4]), 0, 0]
    assert pauses[0] == 0 < pauses[1] < pauses[3]


def test_trust_is_unlimited_until_a_jump_does_harm():
    trust = TrustRegion()
    assert trust.judge(1.0) is None
    assert trust.allows(1e9)
    trust.jumped(8.0, 1.0)
    assert trust.judge(2.0) is True
    assert (trust.allows(4.0), trust.allows(4.1)) == (True, False)
    assert trust.judge(3.0) is None  # judged once


def test_trust_grows_again_with_jumps_that_used_it_and_did_no_harm():
    trust = TrustRegion()
    trust.jumped(8.0, 1.0)
    trust.judge(2.0)
    trust.jumped(1.0, 1.0)
    assert trust.judge(0.5) is False
    assert trust.radius == 4.0  # a short jump teaches nothing
    trust.jumped(3.0, 1.0)
    trust.judge(0.5)
    assert trust.radius == 8.0


def test_trust_a_loss_that_is_nan_is_harm():
    trust = TrustRegion()
    trust.jumped(2.0, 1.0)
    assert trust.judge(math.nan) is True
    assert trust.radius == 1.0


def test_trust_never_passes_the_cap():
    trust = TrustRegion(3.0)
    assert (trust.allows(3.0), trust.allows(3.5)) == (True, False)
    for _ in range(3):
        trust.jumped(3.0, 1.0)
        trust.judge(0.5)
    assert trust.radius == 3.0
    trust.jumped(3.0, 1.0)
    trust.judge(1.5)
    assert trust.radius == 1.5


def test_trust_a_length_that_is_not_known_is_allowed_and_teaches_nothing():
    trust = TrustRegion(1.0)
    assert trust.allows(math.nan)
    trust.jumped(math.nan, 1.0)
    assert trust.judge(2.0) is True
    assert trust.radius == 1.0


def test_trust_state_goes_on_alike():
    trust, other = TrustRegion(), TrustRegion()
    trust.jumped(8.0, 1.0)
    trust.judge(2.0)
    trust.jumped(2.0, 1.0)
    other.load_state_dict(trust.state_dict())
    assert other.judge(2.0) is trust.judge(2.0) is True
    assert other.radius == trust.radius == 1.0


class Clock:
    """Stands still, but for what the test says."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def _timed(monkeypatch, clock, steps, trial_takes, trial_gives=None, **options):
    """Train with steps of one second; return the accelerator and the step and cost of trials."""
    monkeypatch.setattr(time, "perf_counter", clock)
    model, loss = regression(hidden=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    spent = []

    def trial(m):
        clock.now += trial_takes
        spent.append((accelerator.stats.steps, trial_takes))
        return loss(m) if trial_gives is None else trial_gives(len(spent))

    accelerator = KoopmanAccelerator(
        model, optimizer, trial_loss=trial, window=4, every=2, **options
    )
    with accelerator:
        for _ in range(steps):
            clock.now += 1.0
            train(model, optimizer, loss, 1)
    return accelerator, spent


@pytest.mark.parametrize("trial_takes", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("limit", [0.03, 0.3])
def test_cost_stays_below_the_bound_but_for_the_last_attempt(monkeypatch, trial_takes, limit):
    accelerator, spent = _timed(monkeypatch, Clock(), 1200, trial_takes, max_overhead=limit)
    assert accelerator.stats.attempts >= 2
    for jump in accelerator.history:
        before = sum(cost for step, cost in spent if step < jump.step)
        cost = sum(cost for step, cost in spent if step == jump.step)
        bound = limit * jump.step
        # The first attempt cannot know, and every one may make as many trials as it needs least.
        assert before + cost <= max(bound, before + FEWEST_TRIALS * trial_takes) + 1e-6
        if jump is not accelerator.history[0]:
            assert before <= bound + 1e-6
    total = sum(cost for _, cost in spent)
    assert accelerator.stats.overhead == pytest.approx(total / 1200, rel=0.01)
    last = accelerator.history[-1].trials * trial_takes
    assert total <= max(limit * 1200 + last, FEWEST_TRIALS * trial_takes) + 1e-6


def test_attempts_that_are_refused_become_rarer_and_their_cost_tends_to_zero(monkeypatch):
    accelerator, spent = _timed(
        monkeypatch, Clock(), 3000, 0.3, lambda calls: calls, max_overhead=None
    )
    assert accelerator.stats.taken == 0
    early, late = (
        sum(cost for step, cost in spent if end / 2 < step <= end) / end for end in (750, 3000)
    )
    assert 0.0 < late < 0.7 * early


def test_nothing_is_done_where_nothing_may_be_spent(monkeypatch):
    accelerator, spent = _timed(monkeypatch, Clock(), 60, 1.0, max_overhead=0)
    assert not spent
    stats = accelerator.stats
    assert (stats.steps, stats.snapshots, stats.attempts) == (60, 0, 0)


def test_a_pause_goes_on_over_epochs_that_are_shorter(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    model, loss = regression(hidden=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def trial(m):
        clock.now += 2.0
        return loss(m)

    accelerator = KoopmanAccelerator(
        model, optimizer, trial_loss=trial, window=4, every=1, max_overhead=0.1
    )
    for _ in range(60):
        with accelerator:
            for _ in range(10):
                clock.now += 1.0
                train(model, optimizer, loss, 1)
    assert accelerator.stats.attempts > 1
    assert accelerator.stats.overhead < 0.1 + 0.05
