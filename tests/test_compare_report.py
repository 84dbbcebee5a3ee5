"""The tables and the picture, from runs made by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from koopcore.compare import figure, report, statistics, summary
from koopcore.compare.results import Comparison, Record, Run, Score

INF = math.inf
MACHINE = {"python": "3", "packages": {"torch": "2"}, "cpu": "x", "threads": 1, "jobs": 2}


def made_run(method, seed, steps, final=0.25, heldout=True, overfitted=False, target=0.5):
    curve = {
        "step": [0, 10, 20],
        "step_equivalents": [0.0, 10.0, 20.0],
        "seconds": [0.0, 1.0, 2.0],
        "train_loss": [4.0, 1.0, final],
    }
    scores = {"train@75": Score(1.0, 10.0, 1.0), "train@100": Score(target, steps, steps / 10)}
    if heldout:
        curve |= {"heldout_loss": [4.0, 2.0, 1.0], "heldout_accuracy": [0.1, 0.5, 0.9]}
        scores["heldout@75"] = Score(1.0 if overfitted else 2.0, 10.0, 1.0)
        scores["heldout@100"] = Score(1.0, steps, steps / 10)
    jumps = {name: [] for name in ("step", "horizon", "loss_before", "loss_after")}
    jumps["step_equivalents"] = [12.0] if method == "koopcore" else []
    jumped = (4, 1) if method == "koopcore" else (0, 0)
    return Run("digits", "sgd", method, seed, 0.1, 20, curve, jumps, *jumped, 9, 0.1, scores)


def made_comparison(methods, **changes):
    """Return a comparison from each method's steps to the target by seed; bare takes 20."""
    (n_seeds,) = {len(steps) for steps in methods.values()}
    records = []
    for seed in range(n_seeds):
        runs = [made_run("bare", seed, 20.0, 0.5, **changes)]
        for method, steps in methods.items():
            runs.append(made_run(method, seed, steps[seed], **changes))
        names = tuple(methods)
        records.append(Record("digits", "sgd", seed, 20, names, "Made", 10, MACHINE, runs))
    return Comparison(records)


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
    assert koop.steps_ratio == koop.seconds_ratio == statistics.Ratio(0.5, 0.25, 0.75)
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


def test_save_curves_draws_every_method_and_divergence(tmp_path):
    pytest.importorskip("matplotlib")
    methods = {name: [INF] for name in ("koopcore", "ema:0.9", "lawa:2", "secant", "rate:3.2")}
    comparison = made_comparison(methods, target=INF)
    comparison.runs[0].curve["train_loss"][1:] = [INF, INF]
    for column in ("train_loss", "heldout_loss"):
        path = tmp_path / f"{column}.png"
        figure.save_curves(comparison, path, column)
        assert path.stat().st_size > 5000
