"""Old comparisons and benchmarks beside new ones: planted changes are found, noise is not."""

import json
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


def benchmark_file(path, medians, rounds=20, iqr=0.05, memory=None, cpu="x"):
    entries = [
        {
            "name": name,
            "stats": {
                "median": value,
                "q1": value * (1 - iqr / 2),
                "q3": value * (1 + iqr / 2),
                "rounds": rounds,
            },
            "extra_info": {} if memory is None else {"peak_memory": memory},
        }
        for name, value in medians.items()
    ]
    machine = {"cpu": {"brand_raw": cpu}, "python_version": "3"}
    path.write_text(json.dumps({"machine_info": machine, "benchmarks": entries}))
    return path


def verdicts(new, old):
    return {change.place: change.verdict for change in against.against_benchmarks(new, old)}


def test_benchmark_twice_as_slow_is_found_and_one_within_its_rounds_is_not(tmp_path):
    base = {"test_copy": 1.0, "test_push": 2.0, "test_fit": 3.0}
    old = benchmark_file(tmp_path / "old.json", base)
    new = benchmark_file(tmp_path / "new.json", base | {"test_push": 4.0, "test_fit": 3.2})
    assert verdicts(new, old) == {"test_push": "slower", "test_fit": "unchanged"}
    assert verdicts(old, new)["test_push"] == "faster"
    text = against.benchmarks_text(new, old)
    assert "slower: test_push: seconds 2 -> 4, x 2.00" in text
    assert "slower 1, worse 0, faster 0, better 0, unchanged 1" in text


def test_benchmark_on_a_slower_machine_is_divided_by_its_yardsticks(tmp_path):
    base = {"test_copy": 1.0, "test_gram_flops_at_gemm_peak": 1.0, "test_push": 2.0}
    old = benchmark_file(tmp_path / "old.json", base)
    new = benchmark_file(tmp_path / "new.json", {k: 2 * v for k, v in base.items()}, cpu="y")
    assert verdicts(new, old) == {"test_push": "unchanged"}
    text = against.benchmarks_text(new, old)
    assert "yardsticks take 2.00 of their old time" in text
    assert "cpu: x -> y" in text
    lone = benchmark_file(tmp_path / "lone.json", {"test_push": 4.0})
    assert verdicts(lone, old) == {"test_push": "slower"}
    assert "no yardstick" in against.benchmarks_text(lone, old)


def test_benchmark_of_few_rounds_must_differ_by_half(tmp_path):
    old = benchmark_file(tmp_path / "old.json", {"test_fit": 1.0}, rounds=3, iqr=0.0)
    for factor, verdict in ((1.4, "unchanged"), (1.6, "slower"), (0.6, "faster")):
        new = benchmark_file(tmp_path / "new.json", {"test_fit": factor}, rounds=3, iqr=0.0)
        assert verdicts(new, old) == {"test_fit": verdict}


def test_peak_memory_is_compared_too(tmp_path):
    old = benchmark_file(tmp_path / "old.json", {"test_fit": 1.0}, memory=0.1)
    new = benchmark_file(tmp_path / "new.json", {"test_fit": 1.0}, memory=0.2)
    assert [c.verdict for c in against.against_benchmarks(new, old)] == ["unchanged", "worse"]
    assert [c.verdict for c in against.against_benchmarks(old, new)] == ["unchanged", "better"]
    tiny = benchmark_file(tmp_path / "tiny.json", {"test_fit": 1.0}, memory=0.101)
    assert [c.verdict for c in against.against_benchmarks(tiny, old)] == ["unchanged"] * 2


def test_benchmark_files_that_are_none_or_share_nothing_are_refused(tmp_path):
    good = benchmark_file(tmp_path / "good.json", {"test_fit": 1.0})
    other = benchmark_file(tmp_path / "other.json", {"test_push": 1.0})
    with pytest.raises(ValueError, match="no benchmark in common"):
        against.against_benchmarks(good, other)
    for text in ("{", "[]", "{}"):
        bad = tmp_path / "bad.json"
        bad.write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json is not the JSON of pytest-benchmark"):
            against.against_benchmarks(good, bad)
