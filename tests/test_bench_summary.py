"""The report of the benchmarks: its figures from made-up measurements, whole and in part."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("torch")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import report_figures
import report_goals
import report_roofline
import report_tables
import summary

from koopcore.compare.against.timings import load, timings

FIT = "n=1e6-m=64-float32"
GEMM, COPY, READ = "limit: flops at gemm peak", "limit: copy", "limit: read"
NUMPY = "NumPy, float64-blocked Gram"


def entry(operation, problem, who, median, n=10**6, m=64, threads=2, **info):
    stats = {"median": median, "q1": 0.99 * median, "q3": 1.01 * median, "rounds": 9}
    labels = {"operation": operation, "problem": problem, "who": who, "n": n, "m": m}
    extra = labels | {"dtype": "float32", "threads": threads} | info
    return {"name": f"test_{operation}", "stats": stats, "extra_info": extra}


def named(name, median, **info):
    stats = {"median": median, "q1": median, "q3": median, "rounds": 9}
    return {"name": name, "fullname": f"bench/bench_x.py::{name}", "stats": stats} | (
        {"extra_info": info} if info else {}
    )


FIT_ROWS = [
    entry("fit", FIT, READ, 0.010),
    entry("fit", FIT, GEMM, 0.040, combine="max"),
    entry("fit", FIT, "koopcore", 0.100, threads=1, bytes=2.56e8, flops=4.096e9),
    entry("fit", FIT, "koopcore", 0.050, bytes=2.56e8, flops=4.096e9, peak_memory=0.004),
    entry("fit", FIT, "koopcore, row-major input", 0.060),
    entry("fit", FIT, "PyDMD", 4.0, peak_memory=8.0),
    entry("fit", FIT, NUMPY, 0.080),
]
WINDOW = "n=1e6-m=16-float32"
PUSH_ROWS = [
    entry("push", WINDOW, COPY, 16e-3, m=16, per=16, combine="sum"),
    entry("push", WINDOW, GEMM, 8e-3, m=16, per=16, combine="sum"),
    entry("push", WINDOW, "koopcore", 33e-3, m=16, threads=1, per=16, bytes=1e8, flops=3e8),
    entry("push", WINDOW, "koopcore", 30e-3, m=16, per=16, bytes=1e8, flops=3e8),
]
MACHINE_ROWS = [
    entry("bandwidth", "read 400 MB", "torch.sum", 0.022, m=1, threads=1, bytes=4e8),
    entry("bandwidth", "read 400 MB", "torch.sum", 0.020, m=1, bytes=4e8),
    entry("gemm", "k", "NumPy", 0.2, threads=2, flops=2e10, bytes=1e8, dtype="float64"),
]
HOOK_ROWS = [
    named("test_hook[not-recorded]", 4e-5),
    named("test_hook[recorded]", 1e-3),
    named("test_bare_step", 1e-3),
    named("test_hook_1e6[every-5]", 0.5, steps=50),
    named("test_bare_step_1e6", 0.4),
    named("test_jump_1e7[untried]", 3.0),
    named("test_forward_backward_1e7", 1.0),
    named("test_harness[digits-64]", 1.0, bare=1.005, null=1.2),
    named("test_error[float32-1e-4-koopcore-gram]", 1.0, errors={"median": 1e-7, "worst": 2e-6}),
]
GROWTH_ROWS = [
    entry("fit", f"n=1e{k}-m=8-float32", "koopcore", 1e-9 * 10 ** (1.1 * k), n=10**k, m=8)
    for k in range(4, 9)
] + [
    entry("gram", f"n=1e5-m={m}-float32", "koopcore", 1e-6 * m**2, n=10**5, m=m)
    for m in (8, 16, 32)
]
ALL = [*FIT_ROWS, *PUSH_ROWS, *MACHINE_ROWS, *HOOK_ROWS, *GROWTH_ROWS]


def document(entries, **machine):
    info = {"cpu": {"brand_raw": "made up"}, "blas": "a BLAS"} | machine
    return {"machine_info": info, "benchmarks": entries}


def write(path, entries):
    path.write_text(json.dumps(document(entries)))
    return path


def values(entries):
    found = report_figures.figures(timings(document(entries)))
    return {(f.operation, f.problem, f.what): f.value for f in found}


def verdicts(entries, **machine):
    found = summary.verdicts_of(document(entries, **machine))
    return {(v.operation, v.problem, v.goal.what): v.verdict for v in found}


def test_figures_of_a_fit_follow_from_its_rows():
    found = {what: value for (_, _, what), value in values(FIT_ROWS).items()}
    assert found == pytest.approx(
        {
            "over limit": 1.25,
            "PyDMD / koopcore": 80.0,
            f"{NUMPY} / koopcore": 1.6,
            "best peer / koopcore": 1.6,
            "gain of threads": 2.0,
            "over limit, one thread": 2.5,
            "peak memory": 0.004,
        }
    )


def test_limits_of_a_push_are_added_and_divided_by_the_snapshots_of_a_call():
    found = values(PUSH_ROWS)
    assert found["push", WINDOW, "over limit"] == pytest.approx(30 / 24)
    table = report_tables.operations(timings(document(PUSH_ROWS)))
    assert f"| {WINDOW} | koopcore | 2 | 1.88 ms | 1.25 |" in table
    assert "| 10 | 3.33 |" in table  # GFLOP/s and GB/s of a whole call


def test_interleaved_parts_are_compared_with_themselves_alone():
    rows = [
        entry("interleaved", "p", "torch alone", 0.5, threads=1),
        entry("interleaved", "p", "torch alone", 1.0),
        entry("interleaved", "p", "torch interleaved", 1.1),
        entry("interleaved", "p", "koopcore alone", 2.0),
        entry("interleaved", "p", "koopcore interleaved", 3.0),
    ]
    found = {what: value for (_, _, what), value in values(rows).items()}
    assert found == pytest.approx(
        {
            "torch between the other's steps / alone, threads 2": 1.1,
            "koopcore between the other's steps / alone, threads 2": 1.5,
        }
    )
    assert "steps / alone, threads 2 | 1.5 |" in summary.markdown(document(rows))


def test_growth_is_the_slope_and_beyond_the_caches_that_of_the_large_sizes():
    over_n, over_m = report_figures.growth(timings(document(GROWTH_ROWS)))
    assert (over_n.operation, over_n.fixed) == ("fit", "m=8, float32, threads 2")
    assert over_n.range == (1e4, 1e8)
    assert over_n.exponent == pytest.approx(1.1)
    assert over_n.large_range == (1e7, 1e8)  # 1e6 states of 8 float32 numbers fit 32 MiB
    assert (over_m.operation, over_m.over, over_m.large) == ("gram", "m", None)
    assert over_m.exponent == pytest.approx(2.0)
    small = report_figures.growth(timings(document(GROWTH_ROWS)), cache_bytes=1e4)
    assert small[0].large_range == (1e4, 1e8)
    assert report_figures.growth(timings(document(GROWTH_ROWS[:2]))) == []


def test_goals_are_said_as_reached_missed_or_not_measured():
    found = verdicts(ALL)
    assert found["fit", FIT, "over limit"] == "reached"
    assert found["fit", FIT, "PyDMD / koopcore"] == "MISSED"
    assert found["fit", FIT, "gain of threads"] == "reached"
    assert found["combine", WINDOW, "over limit"] == "not measured"
    exponent = "exponent of n beyond the caches"
    assert found["fit", "m=8, float32, threads 2", exponent] == "MISSED"
    assert found["hook", "digits", "step without a snapshot, microseconds"] == "reached"
    assert found["hook", "n=1e6", "recording, every-5: hook / step"] == "MISSED"
    assert found["koopcore compare", "digits-64", "null: its clock / a plain loop"] == "MISSED"
    assert found["eigenvalue error", "float32-1e-4-koopcore-gram", "median"] == "reached"


def test_a_gain_that_memory_does_not_give_is_said_as_the_machines():
    assert verdicts(ALL)["push", WINDOW, "gain of threads"].startswith("the machine's: its limit")
    wide = [entry("bandwidth", "read", "torch.sum", t, threads=k) for k, t in ((1, 2.0), (2, 1.0))]
    assert verdicts([*PUSH_ROWS, *wide])["push", WINDOW, "gain of threads"] == "MISSED"
    assert verdicts(PUSH_ROWS)["push", WINDOW, "gain of threads"] == "MISSED"
    limits = [
        entry("push", WINDOW, who, 16 * t * (3 - k) / 2, m=16, threads=k, per=16, combine="sum")
        for k in (1, 2)
        for who, t in ((COPY, 1e-3), (GEMM, 5e-4))
    ]
    ours = [row for row in PUSH_ROWS if row["extra_info"]["who"] == "koopcore"]
    gain = values([*limits, *ours])["push", WINDOW, "gain of the limit"]
    assert gain == pytest.approx(2.0)
    assert verdicts([*limits, *ours])["push", WINDOW, "gain of threads"] == "MISSED"


@pytest.mark.parametrize("left", range(len(ALL)))
def test_report_of_a_part_of_the_rows_is_a_part_of_the_report(left):
    """Every single row alone, and all without it."""
    for rows in (ALL[left : left + 1], ALL[:left] + ALL[left + 1 :], []):
        text = summary.markdown(document(rows))
        assert text.startswith("# Benchmarks\n\nmade up; a BLAS; medians of one run\n\n## Goals")
        assert "nan" not in text


def test_report_is_the_same_each_time_and_its_tables_are_whole():
    text = summary.markdown(document(ALL))
    assert text == summary.markdown(document(ALL))
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) > 5
    for block in tables:
        assert len({line.count("|") for line in block.splitlines()}) == 1, block
    assert "| n=1e6-m=64-float32 | koopcore | 2 | 50 ms | 1.25 |" in text
    assert "| n=1e6-m=64-float32 | PyDMD | 2 | 4 s | 100 | 80 |" in text


def test_command_writes_the_report_and_the_picture(tmp_path, capsys):
    path = write(tmp_path / "core.json", ALL)
    summary.main([str(path), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out/core.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "out/roofline.png").read_bytes().startswith(b"\x89PNG")
    summary.main([str(path), "--goals"])
    lines = capsys.readouterr().out.splitlines()
    assert f"MISSED: fit, {FIT}: PyDMD / koopcore 80, goal >= 100" in lines
    assert "goals: 8 reached, 6 missed, 1 beyond what the machine gives, " in lines[-1]


def test_no_picture_without_a_roof(tmp_path, capsys):
    path = write(tmp_path / "core.json", FIT_ROWS)
    summary.main([str(path), "--out", str(tmp_path)])
    assert "no roofline" in capsys.readouterr().out
    assert not (tmp_path / "roofline.png").exists()
    assert not report_roofline.draw(timings(document(MACHINE_ROWS)), tmp_path / "x.png", "t")


def test_points_and_roofs_are_flops_per_byte_and_gflops():
    found = timings(document(ALL))
    assert report_roofline.points(found) == {
        "fit": (pytest.approx(16.0), pytest.approx(81.92)),
        "push": (pytest.approx(3.0), pytest.approx(10.0)),
    }
    assert report_roofline.roofs(found) == (pytest.approx(20.0), pytest.approx(100.0))


def test_labels_of_the_picture_do_not_hide_each_other():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure, axes = pyplot.subplots()
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    found = {"a": (0.5, 0.50), "b": (0.5, 0.50), "c": (0.5, 0.51), "far": (0.1, 0.50)}
    above = report_roofline._heights(axes, found)
    pyplot.close(figure)
    points = 0.01 * axes.bbox.height * 72 / figure.dpi  # from b to c
    places = sorted([above["a"], above["b"], above["c"] + points])
    assert min(b - a for a, b in pairwise(places)) >= 0.99 * report_roofline.LINE
    assert above["far"] == 0.0


def test_every_goal_can_be_met_and_missed():
    """No goal has a bound that any figure meets."""
    for goal in report_goals.GOALS:
        outcomes = {goal.met(value) for value in (-1e9, goal.bound, 1e9)}
        assert outcomes == {True, False}, goal


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="it has no benchmarks"):
        load(tmp_path / "x.json")


def test_the_fastest_limit_counts_even_where_koopcore_is_faster_on_one_thread():
    rows = [entry("fit", FIT, READ, 0.04, threads=1), entry("fit", FIT, READ, 0.02)]
    rows += [entry("fit", FIT, "koopcore", t, threads=k) for k, t in ((1, 0.05), (2, 0.06))]
    found = {what: value for (_, _, what), value in values(rows).items()}
    assert found["over limit"] == pytest.approx(2.5)
    assert found["over limit, one thread"] == pytest.approx(1.25)


def test_problems_without_a_size_do_not_grow():
    rows = [entry("import", "", "koopcore", 0.2, n=None, m=None) for _ in range(3)]
    assert report_figures.growth(timings(document(rows))) == []


def test_gain_is_that_of_the_most_threads_there_are():
    rows = [entry("fit", FIT, "koopcore", t, threads=k) for k, t in ((1, 0.9), (4, 0.5), (16, 0.1))]
    rows += [entry("fit", FIT, READ, t, threads=k) for k, t in ((1, 0.4), (16, 0.1))]
    found = {what: value for (_, _, what), value in values(rows).items()}
    assert found["gain of threads"] == pytest.approx(9.0)
    assert found["gain of the limit"] == pytest.approx(4.0)
    assert "| koopcore | 16 | 100 ms | 1 |  | 9 |" in summary.markdown(document(rows))
