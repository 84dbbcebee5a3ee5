"""The table and the picture, from runs made by hand."""

import math
from dataclasses import replace

import pytest

from koopcore.compare import figure, report
from koopcore.compare.results import Comparison, Run


def made_run(method, seed, steps, final, target=0.5, workload="digits", heldout=True):
    curve = {
        "step": [0, 10, 20],
        "step_equivalents": [0.0, 10.0, 20.0],
        "seconds": [0.0, 1.0, 2.0],
        "train_loss": [4.0, 1.0, final],
    }
    if heldout:
        curve |= {"heldout_loss": [4.0, 2.0, 1.0], "heldout_accuracy": [0.1, 0.5, 0.9]}
    jumps = {name: [] for name in ("step", "horizon", "loss_before", "loss_after")}
    jumps["step_equivalents"] = [12.0] if method == "koopcore" else []
    run = Run(workload, "sgd", method, seed, 0.1, curve, jumps, 4, 1, 9, 0.1)
    return replace(run, target=target, steps_to_target=steps, seconds_to_target=steps / 10)


def made_comparison(koopcore_steps, **changes):
    runs = []
    for seed, steps in enumerate(koopcore_steps):
        runs.append(made_run("bare", seed, 20.0, 0.5, **changes))
        runs.append(made_run("koopcore", seed, steps, 0.25, **changes))
    name = runs[0].workload
    settings = {
        "budgets": {name: 20},
        "titles": {name: "Made by hand"},
        "optimizers": ["sgd"],
        "seeds": list(range(len(koopcore_steps))),
        "evaluate_every": 10,
    }
    machine = {"python": "3", "packages": {"torch": "2"}, "cpu": "x", "threads": 1, "jobs": 2}
    return Comparison(settings, machine, runs)


def test_summarize_takes_medians_of_paired_ratios():
    bare, koop = report.summarize(made_comparison([10.0, 5.0, 15.0]))
    assert bare.steps == (20, 20, 20)
    assert bare.steps_ratio == 1
    assert koop.steps == (10, 5, 15)
    assert koop.steps_ratio == koop.seconds_ratio == 0.5
    assert (koop.final_loss, koop.heldout_loss, koop.heldout_accuracy) == (0.25, 1.0, 0.9)
    assert (koop.taken, koop.refused) == (4, 1)


def test_summarize_misses_count_as_infinity():
    _, one_miss = report.summarize(made_comparison([10.0, 5.0, math.inf]))
    assert one_miss.steps == (10, 5, math.inf)
    assert one_miss.steps_ratio == 0.5
    _, two_misses = report.summarize(made_comparison([10.0, math.inf, math.inf]))
    assert two_misses.steps_ratio == math.inf


def test_summarize_bare_divergence_has_no_ratio():
    comparison = made_comparison([10.0])
    runs = [
        replace(run, target=math.inf, steps_to_target=math.inf, seconds_to_target=math.inf)
        for run in comparison.runs
    ]
    bare, koop = report.summarize(replace(comparison, runs=runs))
    assert math.isnan(bare.steps_ratio)
    assert math.isnan(koop.steps_ratio)
    assert "diverged" in report.terminal_table(replace(comparison, runs=runs))


def test_terminal_table_shows_the_figures_in_120_columns():
    text = report.terminal_table(made_comparison([10.0, 5.0, math.inf]))
    assert max(map(len, text.splitlines())) <= 120
    (line,) = [line for line in text.splitlines() if line.strip().startswith("koopcore")]
    expected = "koopcore 10 [5-never] 0.50 1.00 0.50 2.50e-01 1.00e+00 0.900 4/1"
    assert line.split() == expected.split()
    assert "1 seed" not in text
    assert "3 seeds" in text


def test_table_without_heldout_data_has_no_columns_for_it():
    changes = {"workload": "hamiltonian", "heldout": False}
    text = report.terminal_table(made_comparison([10.0], **changes))
    header = text.splitlines()[1]
    assert "final loss" in header
    assert "accuracy" not in header


def test_markdown_table_rows_have_as_many_cells_as_the_header():
    text = report.markdown_table(made_comparison([10.0, 5.0]))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert len({row.count("|") for row in rows}) == 1
    assert "threads per run: 1, runs side by side: 2" in text


def test_median_curve_uses_only_what_was_already_paid_for():
    first, second = (made_run("bare", seed, 20.0, 0.5) for seed in (0, 1))
    late = {**second.curve, "step_equivalents": [0.0, 15.0, 30.0], "train_loss": [2.0, 0.2, 0.1]}
    x, y = figure.median_curve([first, replace(second, curve=late)])
    assert x == [0, 10, 20]
    assert y == [3.0, 1.5, pytest.approx(0.35)]


def test_save_curves_draws_divergence_and_single_seeds(tmp_path):
    pytest.importorskip("matplotlib")
    comparison = made_comparison([math.inf])
    runs = [replace(run, target=math.inf) for run in comparison.runs]
    runs[0].curve["train_loss"][1:] = [math.inf, math.inf]
    figure.save_curves(replace(comparison, runs=runs), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
