"""The statistics, the tables and the pictures, from runs made by hand."""

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from made_comparisons import METHODS, edited, made_comparison, made_run, planted_comparison

from koopcore.compare import report, statistics
from koopcore.compare.registry import ALL_METHODS
from koopcore.compare.report import figure, profiles, styles, summary, words
from koopcore.compare.results import Comparison, Score

INF = math.inf


def row(comparison, method, target="train@100"):
    (found,) = [
        s for s in summary.summarize(comparison) if (s.method, s.target) == (method, target)
    ]
    return found


def test_summarize_takes_medians_of_paired_ratios():
    comparison = made_comparison({"koopcore": [10.0, 5.0, 15.0]})
    bare, koop = row(comparison, "bare"), row(comparison, "koopcore")
    assert (bare.steps, bare.steps_ratio.median, bare.misses, bare.seeds) == (20, 1, 0, 3)
    assert koop.steps == 10
    assert koop.steps_ratio == koop.seconds_ratio == statistics.Ratio(0.5, 0.25, 0.75, 3)
    assert (koop.final_loss, koop.accuracy, koop.taken, koop.refused) == (0.25, 0.9, 4, 1)
    assert row(comparison, "koopcore", "heldout@100").final_loss == 1.0


def test_summarize_misses_count_as_infinity():
    one_miss = row(made_comparison({"koopcore": [10.0, 5.0, INF]}), "koopcore")
    assert one_miss.steps_ratio.median == 0.5
    assert one_miss.steps_ratio.high == INF
    assert one_miss.misses == 1
    two_misses = row(made_comparison({"koopcore": [10.0, INF, INF]}), "koopcore")
    assert two_misses.steps_ratio.median == INF


def test_summarize_bare_divergence_has_no_ratio():
    comparison = made_comparison({"koopcore": [INF]}, target=INF)
    for run in comparison.runs:
        run.scores["train@100"] = Score(INF, INF, INF)
    assert math.isnan(row(comparison, "bare").steps_ratio.median)
    assert math.isnan(row(comparison, "koopcore").seconds_ratio.median)
    assert "infinite" in report.terminal_table(comparison)


def test_interval_covers_the_true_median_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(100):
        steps = 20 * rng.lognormal(sigma=0.3, size=10)  # ratios of median 1
        comparison = made_comparison({"koopcore": steps.tolist()}, heldout=False)
        ratio = summary.ratio_of(
            [run for run in comparison.runs if run.method == "koopcore"],
            [run for run in comparison.runs if run.method == "bare"],
            "train@100",
            "steps",
        )
        covered += ratio.low <= 1 <= ratio.high
    assert covered >= 85  # 95 of 100 are meant; with ten seeds the bootstrap is a little narrow


def test_overfitted_seeds_are_counted():
    assert row(made_comparison({"koopcore": [1.0] * 3}), "bare", "heldout@100").overfitted == 0
    comparison = made_comparison({"koopcore": [1.0] * 3}, overfitted=True)
    assert row(comparison, "bare", "heldout@100").overfitted == 3
    text = report.terminal_table(comparison)
    assert "overfit" in text
    assert "3/3" in text


def test_worse_is_beyond_the_spread_of_the_bare_runs():
    comparison = made_comparison({"ema:0.9": [9.0, 9.0, 9.0]})
    finals = {("bare", 0): 0.5, ("bare", 1): 0.6, ("bare", 2): 0.7}
    finals |= {("ema:0.9", 0): 0.65, ("ema:0.9", 1): 0.81, ("ema:0.9", 2): INF}
    for run in comparison.runs:
        run.curve["train_loss"][-1] = finals[run.method, run.seed]
    assert row(comparison, "ema:0.9").worse == 2
    assert row(comparison, "bare").worse == 0


def test_sign_test_counts_misses_as_losses_and_leaves_out_ties():
    pairs = [(1, 2)] * 7 + [(2, 1), (INF, 1), (3, 3), (INF, INF)]
    found = statistics.sign_test(pairs)
    assert (found.won, found.lost, found.left_out) == (7, 2, 2)
    # Two-sided: twice the chance of 0, 1 or 2 heads in 9 throws.
    assert found.p == pytest.approx(2 * (1 + 9 + 36) / 2**9)
    assert statistics.sign_test([(1, 2)] * 10).p == pytest.approx(statistics.smallest_p(10))
    assert statistics.sign_test([(1, 1)]) == statistics.SignTest(0, 0, 1, 1.0)


def test_signs_are_of_the_same_seed():
    comparison = made_comparison({"koopcore": [10.0, 25.0, 20.0, INF]})
    signs = row(comparison, "koopcore").steps_signs
    assert (signs.won, signs.lost, signs.left_out) == (1, 2, 1)


def test_runs_with_violations_are_infinite_everywhere_and_named():
    comparison = edited(
        made_comparison({"koopcore": [10.0, 5.0, 5.0], "pdt:5": [1.0, 1.0, 1.0]}),
        lambda run: replace(run, violations=["peeked"]) if run.method == "pdt:5" else run,
    )
    found = row(comparison, "pdt:5", "heldout@100")
    assert (found.misses, found.worse, found.violated) == (3, 3, 3)
    assert found.steps_ratio.median == found.final_loss == INF
    assert found.accuracy == 0
    assert profiles.profile(comparison, "train@100").share("pdt", 4) == 0
    for text in (report.terminal_table(comparison), report.markdown_table(comparison)):
        assert "pdt:5 on digits with sgd, seeds 0, 1, 2: peeked" in text
        assert "pdt:5 (!)" in text
    assert "1 case, listed" in " ".join(words.sentences(comparison))


def test_families_drop_a_number_unless_two_stand_beside_each_other():
    tuned = made_comparison({"ema:0.9": [1.0], "rate:1.8": [1.0], "rate:3.2": [1.0]})
    elsewhere = edited(
        made_comparison({"ema:0.98": [1.0], "rate:1.8": [1.0]}),
        lambda run: replace(run, optimizer="adam"),
    )
    both = Comparison([*tuned.records, *elsewhere.records])
    assert summary.families(both) == {
        "bare": "bare",
        "ema:0.9": "ema",
        "ema:0.98": "ema",
        "rate:1.8": "rate:1.8",
        "rate:3.2": "rate:3.2",
    }
    words_ = made_comparison({"dogra-redman:node": [1.0]})
    assert summary.families(words_)["dogra-redman:node"] == "dogra-redman:node"


def test_profile_is_the_share_of_instances_within_a_factor_of_the_best():
    comparison = made_comparison({"koopcore": [10.0, 40.0, INF], "ema:0.9": [15.0, INF, INF]})
    found = profiles.profile(comparison, "train@100", "steps")
    assert (found.instances, found.left_out) == (3, 0)
    assert found.ratios == {"bare": [1, 1, 2], "koopcore": [1, 2, INF], "ema": [1.5, INF, INF]}
    shares = [found.share(m, tau) for m in found.ratios for tau in (1, 1.5, 2, 4)]
    assert shares == pytest.approx(
        [2 / 3, 2 / 3, 1, 1, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 0, 1 / 3, 1 / 3, 1 / 3]
    )


def test_profile_leaves_out_instances_on_which_nobody_arrived():
    comparison = edited(
        made_comparison({"koopcore": [10.0, 10.0]}),
        lambda run: replace(run, scores={"train@100": Score(0.5, INF, INF)}) if run.seed else run,
    )
    found = profiles.profile(comparison, "train@100")
    assert (found.instances, found.left_out) == (1, 1)
    assert profiles.profile(comparison, "heldout@75").instances == 1


def test_profile_counts_a_start_that_was_good_enough_and_a_method_that_did_not_run():
    comparison = edited(
        made_comparison({"koopcore": [10.0]}),
        lambda run: (
            replace(run, scores={"train@100": Score(0.5, 0.0, 0.0)})
            if run.method == "bare"
            else run
        ),
    )
    found = profiles.profile(comparison, "train@100")
    assert found.ratios == {"bare": [1.0], "koopcore": [INF]}
    other = edited(made_comparison({"ema:0.9": [1.0]}), lambda run: replace(run, optimizer="adam"))
    both = profiles.profile(Comparison([*comparison.records, *other.records]), "train@100")
    assert both.not_run == {"bare": 0, "koopcore": 1, "ema": 1}


def test_sentences_are_made_from_the_figures():
    comparison = made_comparison({"koopcore": [10.0] * 6, "ema:0.9": [5.0] * 6, "null": [20.0] * 6})
    text = " ".join(words.sentences(comparison))
    assert "against bare, koopcore is faster in 1." in text
    assert "lowest median ratio of all: ema in 1 (digits with sgd)" in text
    assert "The null method, which does nothing, took 1.000" in text
    times = {"koopcore": [30.0, INF, *[40.0] * 4], "rate:2": [9.0] * 6}
    slow = " ".join(words.sentences(made_comparison(times)))
    assert "koopcore is slower in 1" in slow
    assert "It missed the target in 1 of 6 runs, most often on digits with sgd (1 of 6)" in slow
    assert "rate (a control) in 1" in slow
    never = " ".join(words.sentences(made_comparison({"koopcore": [INF, INF, 1.0]})))
    assert "koopcore is at the target on no more than half of the seeds in 1." in never
    assert "With 3 seeds a sign test gives p = 0.25 at the least" in never
    lone = words.sentences(made_comparison({"ema:0.9": [1.0]}))
    assert lone[0] == "Neither koopcore nor its forecasts ran in this comparison."


def test_outcome_reads_the_interval():
    read = [(0.5, 0.4, 0.9), (0.9, 0.5, 1.1), (1.5, 1.1, INF), (INF, 0.5, INF), (math.nan,) * 3]
    found = [words.outcome(statistics.Ratio(*figures, pairs=6)) for figures in read]
    assert found == ["faster", "undecided", "slower", "never there", "-"]
    # Of five seeds that are all faster, one in sixteen would be so by chance.
    assert words.outcome(statistics.Ratio(0.5, 0.4, 0.9, pairs=5)) == "undecided"


def test_verdict_stands_beside_the_best_rival_of_each_kind():
    comparison = made_comparison(
        {
            "koopcore": [10.0, 10.0, 12.0],
            "ema:0.9": [16.0, 20.0, INF],
            "lawa:2": [19.0, 19.0, 19.0],
            "secant": [INF, INF, 2.0],
            "rate:1.8": [1.0, 1.0, 1.0],
        }
    )
    found = {v.against: v for v in summary.verdicts(comparison) if v.target == "train@100"}
    assert list(found) == ["bare", "lawa:2", "secant"]
    assert found["bare"].steps.median == 0.5
    assert found["lawa:2"].steps.median == pytest.approx(10 / 19)
    # Where only the rival never got there the ratio is 0.
    assert found["secant"].steps.median == 0.0
    assert summary.verdicts(made_comparison({"ema:0.9": [1.0]})) == []
    assert summary.verdicts(made_comparison({"koopcore": [1.0], "rate:2": [1.0]})) == []


def test_terminal_table_shows_the_figures_in_120_columns():
    methods = {"koopcore": [10.0, 5.0, INF], "ema:0.9": [10.0, 10.0, 10.0], "secant": [1.0] * 3}
    text = report.terminal_table(made_comparison(methods))
    assert max(map(len, text.splitlines())) <= 120
    line = next(line for line in text.splitlines() if line.strip().startswith("koopcore"))
    assert "0.50 [0.25-inf]" in line
    assert "1/3" in line
    assert "4/1" in line
    assert "seeds: 3" in text
    assert "target of 75 %" not in text
    assert "koopcore against bare" in text


def test_terminal_table_of_twenty_methods_keeps_to_120_columns():
    comparison = planted_comparison(workloads=("digits-64",), optimizers=("adam",))
    lines = report.terminal_table(comparison).splitlines()
    assert max(map(len, lines)) <= 120
    assert sum(line.startswith("  ") for line in lines) >= 2 * len(METHODS)
    assert sum(line.startswith("adam 0.1, target ") for line in lines) == 2


def test_csv_has_a_row_per_method_and_target_with_all_figures():
    comparison = made_comparison({"koopcore": [10.0, 5.0, INF], "swa:0.5": [INF, INF, INF]})
    rows = list(csv.DictReader(io.StringIO(report.csv_table(comparison))))
    assert len(rows) == 3 * 4
    found = {(row["method"], row["target"]): row for row in rows}
    koop = found["koopcore", "train@100"]
    assert (koop["workload"], koop["optimizer"], koop["learning_rate"]) == ("digits", "sgd", "0.1")
    assert [
        float(koop[name]) for name in ("steps_ratio", "steps_ratio_low", "steps_ratio_high")
    ] == [
        0.5,
        0.25,
        INF,
    ]
    assert (koop["misses"], koop["steps_signs_won"], koop["steps_signs_lost"]) == ("1", "2", "1")
    assert koop["seconds_signs_p"] == "1.0"
    assert found["swa:0.5", "heldout@100"]["seconds"] == "inf"
    assert all(None not in row.values() and None not in row for row in rows)


def test_table_without_heldout_data_or_rivals_has_no_part_for_them():
    text = report.terminal_table(made_comparison({"koopcore": [10.0]}, heldout=False))
    assert "final loss" in text
    assert "accuracy" not in text.split("target:")[0]
    assert "against" not in text


def test_markdown_table_rows_have_as_many_cells_as_the_header():
    text = report.markdown_table(made_comparison({"koopcore": [10.0, 5.0], "swa:0.5": [1.0, 1.0]}))
    sections = text.split("###")[1:]
    assert len(sections) == 5  # two targets at two shares, and the verdict
    for section in sections:
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) == 1
    assert text.count("threads per run: 1, runs side by side: 2") == 1


def test_median_curve_uses_only_what_was_already_paid_for():
    first, second = (made_run("bare", seed, 20.0, 0.5) for seed in (0, 1))
    late = {**second.curve, "step_equivalents": [0.0, 15.0, 30.0], "train_loss": [2.0, 0.2, 0.1]}
    x, y = figure.median_curve([first, replace(second, curve=late)])
    assert x == [0, 10, 20]
    assert y == [3.0, 1.5, pytest.approx(0.35)]


def test_curve_over_time_holds_the_middle_half_and_infinity_where_runs_diverged():
    runs = [made_run("bare", seed, 20.0, 0.5) for seed in range(5)]
    for run in runs:
        run.curve["train_loss"][1] = float(1 + run.seed)
    runs[4].curve["train_loss"][1:] = [INF, INF]
    times, low, middle, high = figure.over_time(runs)
    assert (times[0], times[-1]) == (0.0, 2.0)
    at = int(np.searchsorted(times, 1.5))
    assert (low[at], middle[at], high[at]) == (2.0, 3.0, 4.0)
    runs[3].curve["train_loss"][1:] = [INF, INF]
    assert figure.over_time(runs)[3][at] == INF


def test_curve_before_the_first_evaluation_is_where_training_began():
    run = made_run("bare", 0, 20.0, 0.5)
    run.curve["seconds"][0] = 0.5  # what it takes to attach a method is on the clock
    assert [float(losses[0]) for losses in figure.over_time([run])[1:]] == [4.0, 4.0, 4.0]


def test_every_method_has_a_look_of_its_own():
    looks = [styles.style(name) for name in ALL_METHODS]
    assert len(set(looks)) == len(looks)
    assert styles.style("ema:0.98") == styles.style("ema")
    assert styles.style("new-one:3").color == styles.GREY


def test_save_curves_draws_every_method_and_divergence(tmp_path):
    pytest.importorskip("matplotlib")
    methods = {name: [INF] for name in ("koopcore", "ema:0.9", "lawa:2", "secant", "rate:3.2")}
    comparison = made_comparison(methods, target=INF)
    comparison.runs[0].curve["train_loss"][1:] = [INF, INF]
    for column in ("train_loss", "heldout_loss"):
        path = tmp_path / f"{column}.png"
        figure.save_curves(comparison, path, column)
        assert path.stat().st_size > 5000


def test_save_curves_leaves_a_gap_where_an_optimizer_did_not_run(tmp_path):
    pytest.importorskip("matplotlib")
    one = made_comparison({"koopcore": [10.0]})
    other = edited(one, lambda run: replace(run, workload="mnist-5k", optimizer="adam"))
    moved = [replace(record, workload="mnist-5k", optimizer="adam") for record in other.records]
    figure.save_curves(Comparison([*one.records, *moved]), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
