"""Whole comparisons: order, processes, tuned rivals, and a file that survives a kill."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import environment, results, schedule  # noqa: E402
from koopcore.compare.plan import Plan  # noqa: E402
from koopcore.compare.results import Comparison, Record, Run, Score, Store  # noqa: E402
from koopcore.compare.sizes import milliseconds  # noqa: E402


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    previous = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(schedule, "WARM_UP_STEPS", 1)
    yield
    torch.set_num_threads(previous)


def without_times(record):
    runs = []
    for run in record.runs:
        curve = {name: column for name, column in run.curve.items() if name != "seconds"}
        scores = {name: replace(score, seconds=0.0) for name, score in run.scores.items()}
        runs.append(replace(run, curve=curve, overhead_seconds=0.0, scores=scores))
    return replace(record, runs=runs, environment={})


def same(one, other):
    return list(map(without_times, one.records)) == list(map(without_times, other.records))


def test_compare_restores_the_thread_count_and_keeps_the_order():
    torch.set_num_threads(2)
    plan, ticks = Plan(("hamiltonian",), ("sgd",), seeds=2, steps=20), []
    comparison = schedule.compare(plan, progress=lambda _, n: ticks.append(n))
    assert torch.get_num_threads() == 2
    assert [record.environment["threads"] for record in comparison.records] == [1, 1]
    order = [(run.seed, run.method) for run in comparison.runs]
    assert order == [(0, "bare"), (0, "koopcore"), (1, "bare"), (1, "koopcore")]
    assert sum(ticks) == pytest.approx(plan.work) == 4 * 20 * milliseconds("hamiltonian") / 1000


def test_compare_side_by_side_gives_the_same_runs():
    plan = Plan(("hamiltonian",), ("adam",), seeds=2, steps=80)
    alone, ticks = schedule.compare(plan), []
    together = schedule.compare(plan, jobs=2, progress=lambda _, n: ticks.append(n))
    assert same(alone, together)
    assert sum(ticks) == pytest.approx(plan.work)
    assert (alone.records[0].environment["jobs"], together.records[0].environment["jobs"]) == (1, 2)


def test_rivals_are_tuned_on_a_seed_of_their_own_and_run_with_the_best_value():
    plan = Plan(("hamiltonian",), ("adam",), ("bare", "ema", "rate"), seeds=1, steps=40)
    comparison = schedule.compare(plan)
    tuning, record = comparison.records
    assert (tuning.seed, tuning.methods) == (100, ("ema:0.9", "ema:0.98", "ema:0.995"))
    # In 40 steps that all go downhill the shortest memory is the best; both rates run untuned.
    assert record.methods == ("ema:0.9", "rate:1.8", "rate:3.2")
    assert [run.method for run in comparison.runs] == ["bare", *record.methods]
    assert comparison.compared == [record]
    assert plan.work == pytest.approx((4 + 4) * 40 * milliseconds("hamiltonian") / 1000)


def test_resume_runs_only_what_is_missing(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    plan = Plan(("hamiltonian",), ("sgd",), ("ema",), seeds=2, steps=20)
    whole = schedule.compare(plan, path=path)
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 3  # tuning and two seeds
    path.write_text("".join(lines[:2]) + lines[2][:99])  # killed while it wrote the last one
    done, run_task = [], schedule.run_task
    monkeypatch.setattr(schedule, "run_task", lambda *a: done.append(str(a[0])) or run_task(*a))
    ticks = []
    resumed = schedule.compare(plan, path=path, resume=True, progress=lambda _, n: ticks.append(n))
    assert done == ["hamiltonian sgd seed 1"]
    assert same(resumed, whole)
    assert same(results.load(path), whole)
    assert sum(ticks) == pytest.approx(plan.work)
    schedule.compare(replace(plan, seeds=3), path=path, resume=True)
    assert done == ["hamiltonian sgd seed 1", "hamiltonian sgd seed 2"]


def test_without_resume_the_file_is_started_anew_and_the_old_one_kept(tmp_path):
    path = tmp_path / "results.jsonl"
    for seeds in (2, 1):
        schedule.compare(Plan(("hamiltonian",), ("sgd",), seeds=seeds, steps=10), path=path)
    assert len(path.read_text().splitlines()) == 1
    assert len((tmp_path / "previous.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds must be 1 to 100, got 0"),
        ({"seeds": 101}, "seeds must be 1 to 100, got 101"),
        (
            {"methods": ("lion",)},
            "unknown method 'lion'; known methods: bare, koopcore, forecast, ema",
        ),
    ],
)
def test_plan_refuses_what_cannot_run(changes, message):
    with pytest.raises(ValueError, match=message):
        Plan(("hamiltonian",), ("sgd",), **changes)


PACKAGES = {name: environment.version(name) for name in ("koopcore", "torch")}
ENVIRONMENT = {"cpu": "x", "packages": PACKAGES}


def planted_record(**changes):
    curve = {"step": [0, 10], "step_equivalents": [0.0, 10.0], "seconds": [0.0, 0.5]}
    curve["train_loss"] = [1.0, math.inf]
    jumps = {"step": [5], "step_equivalents": [7.0]}
    scores = {"train@100": Score(0.25, math.inf, math.inf)}
    run = Run("digits", "sgd", "bare", 0, 0.1, 10, curve, jumps, 1, 2, 6, 0.1, scores)
    record = Record("digits", "sgd", 0, 10, ("koopcore",), "Digits", 10, ENVIRONMENT, [run])
    return replace(record, **changes)


def test_store_round_trip_is_strict_json_line_by_line(tmp_path):
    path = tmp_path / "results.jsonl"
    records = [planted_record(), planted_record(seed=1, methods=())]
    with Store(path) as store:
        for record in records:
            store.add(record)
    assert results.load(path) == Comparison(records)

    def refuse(constant):
        raise AssertionError(f"not JSON: {constant}")

    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    with Store(path, resume=True) as store:
        assert list(store.done.values()) == records
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == ["results.jsonl"]


def test_store_refuses_a_second_run_in_one_folder(tmp_path):
    path = tmp_path / "results.jsonl"
    with Store(path) as store:
        store.add(planted_record())
        with pytest.raises(BlockingIOError, match=r"another run is writing to .*another fold"):
            Store(path, resume=True)
        store.add(planted_record(seed=1))
    with Store(path, resume=True) as store:
        assert len(store.done) == 2


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_compare_schedule import planted_record
from koopcore.compare.results import Store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store(Path(sys.argv[1])) as store:
    store.add(planted_record())
    size = Path(sys.argv[1]).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))  # room for half a line
    try:
        store.add(planted_record(seed=1))
    except OSError as error:
        print(error)
"""


def test_store_that_cannot_be_written_keeps_what_it_had(tmp_path):
    path = tmp_path / "results.jsonl"
    command = [sys.executable, "-c", FULL_DISK, str(path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "the 1 records before it are kept" in done.stdout, done.stderr
    assert results.load(path) == Comparison([planted_record()])


@pytest.mark.parametrize("package", ["koopcore", "torch"])
def test_resume_of_results_by_other_versions_is_refused(tmp_path, package):
    path = tmp_path / "results.jsonl"
    packages = PACKAGES | {package: "0.0.7"}
    with Store(path) as store:
        store.add(planted_record(environment={"packages": packages}))
    before = path.read_text()
    with pytest.raises(ValueError, match=f"was made with {package} 0.0.7, this is .* be mixed"):
        Store(path, resume=True)
    assert path.read_text() == before
    assert len(results.load(path).records) == 1  # to look at, or to compare with, it is good


def test_store_without_a_path_keeps_nothing_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(None, resume=True)
    store.add(planted_record())
    assert planted_record().key in store.done
    assert not list(tmp_path.iterdir())


def test_final_is_the_last_figure_within_the_budget():
    run = planted_record().runs[0]
    curve = run.curve | {"step_equivalents": [0.0, 10.5]}
    assert run.final("train_loss") == math.inf
    assert replace(run, curve=curve).final("train_loss") == 1.0
    assert run.final("heldout_loss") is None


def test_write_atomically_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "table.md"
    path.write_text("old")

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(results.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        results.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.md"]


@pytest.mark.parametrize("text", ['{"format": "other/1"}\n', "[]\n"])
def test_load_foreign_file_is_refused_with_its_format(tmp_path, text):
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected 'koopcore-compare/3'"):
        results.load(path)
    with pytest.raises(ValueError, match="expected 'koopcore-compare/3'"):
        Store(path, resume=True)
    assert path.read_text() == text


def test_environment_of_a_run_reports_its_threads_and_cores():
    plan = Plan(("hamiltonian",), ("sgd",), (), seeds=2, steps=10)
    for record in schedule.compare(plan, jobs=2).records:
        report = record.environment["thread_report"]
        counts = {name: count for name, count in report.items() if name != "cores allowed"}
        assert set(counts.values()) == {1}, report
        assert {"torch", "koopcore"} < set(counts)
        if os.cpu_count() >= 2:
            assert report["cores allowed"] == 1


@pytest.mark.parametrize(
    ("jobs", "threads", "cores"),
    [(2, 1, [(3,), (5,)]), (1, 2, [(3, 5)]), (3, 1, [(), (), ()]), (2, 2, [(), ()])],
)
def test_cores_are_disjoint_or_left_to_the_system(monkeypatch, jobs, threads, cores):
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda _: {5, 3}, raising=False)
    assert environment.cores_of(jobs, threads) == cores


def test_interrupted_comparison_keeps_its_finished_runs_and_no_process(tmp_path):
    import multiprocessing

    path, finished = tmp_path / "results.jsonl", []

    def interrupt(label, _done):
        finished.append(label)
        if path.stat().st_size:
            raise KeyboardInterrupt

    plan = Plan(("hamiltonian",), ("sgd",), (), seeds=4, steps=40)
    with pytest.raises(KeyboardInterrupt):
        schedule.compare(plan, path=path, progress=interrupt)
    assert 1 <= len(results.load(path).records) < 4
    assert not multiprocessing.active_children()
    whole = schedule.compare(plan, path=path, resume=True)
    assert len(whole.records) == 4
