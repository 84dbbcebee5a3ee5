"""Old comparisons and benchmarks beside new ones: planted changes are found, noise is not."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from made_comparisons import edited, made_comparison, planted_comparison

from koopcore.compare import against
from koopcore.compare.against.changes import counts
from koopcore.compare.results import Comparison, Score

INF = math.inf
SEEDS = range(10)


def changed(new, old, figure, method="koopcore"):
    """Return the verdicts on a figure of a method."""
    found = against.against(new, old)
    return {
        change.verdict for change in found if change.figure == figure and method in change.place
    }


def timed(comparison, factor=1.0, noise=0.0, method="koopcore", field="seconds"):
    """Return the comparison with a method's times multiplied, and with noise on everyone's."""
    rng = np.random.default_rng(1)

    def change(run):
        by = rng.lognormal(sigma=noise) * (factor if run.method == method else 1.0)
        scores = {
            name: replace(score, **{field: by * getattr(score, field)})
            for name, score in run.scores.items()
        }
        return replace(run, scores=scores)

    return edited(comparison, change)


def test_against_itself_nothing_changed():
    comparison = planted_comparison(methods=("bare", "koopcore", "ema:0.98"))
    found = counts(against.against(comparison, comparison))
    unchanged = found.pop("unchanged")
    assert unchanged > 20
    assert set(found.values()) == {0}
    assert "slower 0, worse 0, faster 0, better 0" in against.text(comparison, comparison)


def test_seconds_twice_as_long_are_slower_and_half_as_long_faster():
    old = timed(made_comparison({"koopcore": [10.0] * 10, "ema:0.9": [15.0] * 10}), noise=0.1)
    new = timed(old, factor=2.0, noise=0.1)
    assert changed(new, old, "seconds over bare's") == {"slower"}
    assert changed(old, new, "seconds over bare's") == {"faster"}
    assert changed(new, old, "seconds over bare's", "ema:0.9") == {"unchanged"}
    text = against.text(new, old)
    assert "slower: digits, sgd, koopcore, training loss at 100 %: seconds over bare's" in text
    assert "slower 4, worse 0, faster 0, better 0" in text


def test_noise_in_seconds_is_not_told():
    comparison = made_comparison({"koopcore": [10.0] * 10, "ema:0.9": [15.0] * 10})
    new, old = timed(comparison, noise=0.1), comparison
    assert set(changed(new, old, "seconds over bare's")) == {"unchanged"}


def test_a_machine_twice_as_slow_is_not_told():
    old = made_comparison({"koopcore": [10.0] * 3})
    new = timed(timed(old, 2.0), 2.0, method="bare")
    assert changed(new, old, "seconds over bare's") == {"unchanged"}


def test_two_seeds_are_too_few_for_seconds():
    old = made_comparison({"koopcore": [10.0] * 2})
    assert changed(timed(old, 2.0), old, "seconds over bare's") == {"unchanged"}


def test_steps_that_all_grew_are_slower_and_shaken_ones_are_not():
    old = made_comparison({"koopcore": [10.0] * 5}, heldout=False)
    assert changed(made_comparison({"koopcore": [11.0] * 5}, heldout=False), old, "steps") == {
        "slower",
        "unchanged",  # the target at 75 %, which is where it was
    }
    shaken = made_comparison({"koopcore": [12.0, 8.0, 12.0, 8.0, 12.0]}, heldout=False)
    assert changed(shaken, old, "steps") == {"unchanged"}
    fewer = made_comparison({"koopcore": [9.0, 9.0, 9.0, 10.0, 10.0]}, heldout=False)
    assert "faster" in changed(fewer, old, "steps")


def test_new_misses_are_worse():
    old = made_comparison({"koopcore": [10.0] * 5}, heldout=False)
    new = made_comparison({"koopcore": [10.0, 10.0, 10.0, 10.0, INF]}, heldout=False)
    assert "worse" in changed(new, old, "misses")
    assert "better" in changed(old, new, "misses")
    assert "misses 0 -> 1" in against.text(new, old)


def test_a_violation_is_as_many_misses():
    old = made_comparison({"koopcore": [10.0] * 3}, heldout=False)
    new = edited(
        old, lambda run: replace(run, violations=["peeked"]) if run.method == "koopcore" else run
    )
    assert changed(new, old, "misses") == {"worse"}
    assert changed(new, old, "final loss") == {"worse"}


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.5, "unchanged"), (5.0, "worse"), (0.1, "better")]
)
def test_final_loss_counts_beyond_the_spread_of_the_old_runs(factor, verdict):
    comparison = made_comparison({"koopcore": [10.0] * 3}, heldout=False)

    def final(by):
        def change(run):
            losses = [*run.curve["train_loss"][:-1], by * (1 + run.seed)]
            return replace(run, curve={**run.curve, "train_loss": losses})

        return edited(comparison, change)

    assert changed(final(factor), final(1.0), "final loss") == {verdict}


def test_other_budgets_and_machines_are_said():
    old = planted_comparison(methods=("bare", "koopcore"))
    shorter = edited(old, lambda run: replace(run, budget=9) if run.optimizer == "sgd" else run)
    machine = {**old.records[0].environment, "cpu": "y", "packages": {"torch": "3"}}
    new = Comparison([replace(record, environment=machine) for record in shorter.records])
    text = against.text(new, old)
    assert "note: digits-64 with sgd is left out: budget 600 -> 9" in text
    assert "note: cpu: x -> y" in text
    assert "note: torch: 2 -> 3" in text
    assert not [change for change in against.against(new, old) if "sgd" in change.place]


def test_what_only_one_has_is_said_and_nothing_in_common_is_an_error():
    old = made_comparison({"koopcore": [10.0]})
    more = made_comparison({"koopcore": [10.0], "ema:0.9": [10.0]})
    assert "only in the new one: digits, sgd, ema:0.9" in against.text(more, old)
    both = Comparison(
        [*old.records, *edited(more, lambda run: replace(run, optimizer="x")).records]
    )
    assert "note: only in the new one: digits with x\n" in against.text(both, old)
    other = edited(old, lambda run: replace(run, workload="mnist-5k"))
    with pytest.raises(ValueError, match=r"nothing in common.*mnist-5k with sgd.*digits with sgd"):
        against.against(other, old)
    with pytest.raises(ValueError, match="nothing in common"):
        against.against(Comparison([]), old)
    longer = edited(old, lambda run: replace(run, budget=30))
    with pytest.raises(ValueError, match="budget 20 -> 30"):
        against.against(longer, old)


def test_targets_of_one_side_only_are_left_out():
    old = made_comparison({"koopcore": [10.0] * 3}, heldout=False)
    new = made_comparison({"koopcore": [10.0] * 3})
    assert not [c for c in against.against(new, old) if "held-out" in c.place]
    diverged = edited(old, lambda run: replace(run, scores={"train@100": Score(INF, INF, INF)}))
    assert changed(diverged, diverged, "steps") == {"unchanged"}
