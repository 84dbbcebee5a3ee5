"""Two files of benchmarks beside each other: planted regressions are found, noise is not."""

import json

import pytest

pytest.importorskip("torch")

from koopcore.compare import against
from koopcore.compare.against.timings import limit_of, load, timings

COPY, FLOPS = "limit: copy", "limit: flops at gemm peak"


def entry(name, median, rounds=20, iqr=0.05, **info):
    quartiles = {"q1": median * (1 - iqr / 2), "q3": median * (1 + iqr / 2)}
    stats = {"median": median, "rounds": rounds, **quartiles}
    return {"name": name, "stats": stats, "extra_info": info}


def fit(median, who="koopcore", problem="n=1e6-m=64-float32", **more):
    labels = {"operation": "fit", "problem": problem, "who": who}
    return entry(f"test_{who}", median, **labels | more)


def write(path, entries, cpu="x"):
    machine = {"cpu": {"brand_raw": cpu}, "python_version": "3", "blas": "b"}
    path.write_text(json.dumps({"machine_info": machine, "benchmarks": entries}))
    return path


@pytest.fixture
def judge(tmp_path):
    """Verdicts on new entries against old ones, by place."""

    def judged(new, old):
        files = write(tmp_path / "new.json", new), write(tmp_path / "old.json", old)
        return {change.place: change.verdict for change in against.against_benchmarks(*files)}

    return judged


def test_twice_as_slow_is_found_and_what_is_within_the_rounds_is_not(judge, tmp_path):
    old = [entry("test_push", 2.0), entry("test_fit", 3.0)]
    new = [entry("test_push", 4.0), entry("test_fit", 3.2)]
    assert judge(new, old) == {"test_push": "slower", "test_fit": "unchanged"}
    assert judge(old, new)["test_push"] == "faster"
    text = against.benchmarks_text(tmp_path / "new.json", tmp_path / "old.json")
    assert "faster: test_push: seconds 4 -> 2, x 0.50" in text
    assert "slower 0, worse 0, faster 1, better 0, unchanged 1" in text
    assert "note: no limit in both files: seconds are compared" in text


def test_time_is_judged_over_the_limit_of_its_own_run(judge, tmp_path):
    old = [fit(2.0), fit(1.0, COPY)]
    assert judge([fit(4.0), fit(2.0, COPY)], old) == {"fit, n=1e6-m=64-float32": "unchanged"}
    assert judge([fit(2.0), fit(0.5, COPY)], old) == {"fit, n=1e6-m=64-float32": "slower"}
    text = against.benchmarks_text(tmp_path / "new.json", tmp_path / "old.json")
    assert "slower: fit, n=1e6-m=64-float32: time over limit 2 -> 4" in text
    assert "note: the limits take 0.50 of their old time" in text


def test_quartiles_of_both_runs_and_of_the_limits_are_the_noise(judge):
    old, new = [fit(2.0), fit(1.0, COPY)], [fit(2.6), fit(1.0, COPY)]
    assert set(judge(new, old).values()) == {"slower"}
    shaken = [fit(2.6), fit(1.0, COPY, iqr=0.3)]
    assert set(judge(shaken, old).values()) == {"unchanged"}
    assert set(judge(new, shaken[1:] + old[:1]).values()) == {"unchanged"}


def test_a_limit_made_of_other_parts_is_not_compared(judge):
    old, new = [fit(2.0), fit(1.0, COPY)], [fit(2.0), fit(1.0, COPY), fit(4.0, FLOPS)]
    assert judge(new, old) == {"fit, n=1e6-m=64-float32": "unchanged"}
    assert judge([fit(4.0), *new[1:]], old) == {"fit, n=1e6-m=64-float32": "slower"}


def test_without_a_limit_of_its_own_the_growth_of_all_limits_is_taken_out(judge):
    old = [fit(1.0, COPY), entry("test_import", 2.0)]
    assert judge([fit(2.0, COPY), entry("test_import", 4.0)], old) == {"test_import": "unchanged"}
    assert judge([fit(1.0, COPY), entry("test_import", 4.0)], old) == {"test_import": "slower"}


def test_peers_and_limits_are_not_judged(judge):
    old = [fit(1.0), fit(50.0, "PyDMD"), fit(0.5, COPY)]
    new = [fit(1.0), fit(500.0, "PyDMD"), fit(0.5, COPY)]
    assert list(judge(new, old)) == ["fit, n=1e6-m=64-float32"]


def test_threads_and_forms_are_told_apart(judge):
    rows = [fit(1.0, threads=1), fit(0.6, threads=2), fit(2.0, "koopcore, row-major")]
    slow = [*rows[:1], fit(1.2, threads=2), *rows[2:]]
    assert judge(slow, rows) == {
        "fit, n=1e6-m=64-float32, threads 1": "unchanged",
        "fit, n=1e6-m=64-float32, threads 2": "slower",
        "fit, n=1e6-m=64-float32, koopcore, row-major": "unchanged",
    }


def test_renamed_functions_and_repeated_measurements_are_matched_in_their_order(judge):
    old = [fit(1.0) | {"name": "test_a[before]"}, fit(3.0) | {"name": "test_a[after]"}]
    new = [fit(1.0) | {"name": "test_b[x-before]"}, fit(3.0) | {"name": "test_b[x-after]"}]
    assert judge(new, old) == {"fit, n=1e6-m=64-float32": "unchanged"}
    assert judge(new[:1], old[1:]) == {"fit, n=1e6-m=64-float32": "faster"}


@pytest.mark.parametrize(
    ("combine", "expected"), [("max", 3.0), ("sum", 4.0), (None, 3.0)], ids=str
)
def test_limits_make_one_by_their_maximum_or_sum(tmp_path, combine, expected):
    extra = {} if combine is None else {"combine": combine}
    rows = [
        fit(5.0),
        fit(16.0, COPY, per=16, **extra),
        fit(3.0, FLOPS, **extra),
        fit(9.0, COPY, problem="n=1e7"),
    ]
    found = timings(load(write(tmp_path / "a.json", rows)))
    limit = limit_of(found[0], found)
    assert limit.seconds == expected
    assert limit.high == pytest.approx(1.025 * expected)
    assert limit_of(timings(load(write(tmp_path / "b.json", rows[:1])))[0], found[:1]) is None


def test_limit_is_the_one_at_the_same_threads_else_the_fastest(tmp_path):
    rows = [fit(5.0, threads=1), fit(3.0, threads=2), fit(4.0, threads=4)]
    rows += [fit(2.0, COPY, threads=1), fit(1.0, COPY, threads=2)]
    found = timings(load(write(tmp_path / "a.json", rows)))
    assert [limit_of(t, found).seconds for t in found[:3]] == [2.0, 1.0, 1.0]


def test_few_rounds_must_differ_by_half(judge):
    old = [entry("test_fit", 1.0, rounds=3, iqr=0.0)]
    for factor, verdict in ((1.4, "unchanged"), (1.6, "slower"), (0.6, "faster")):
        assert judge([entry("test_fit", factor, rounds=3, iqr=0.0)], old) == {"test_fit": verdict}


def test_peak_memory_is_compared_too(tmp_path):
    def file(name, memory):
        return write(tmp_path / name, [entry("test_fit", 1.0, peak_memory=memory)])

    old, new, tiny = file("old.json", 0.1), file("new.json", 0.2), file("tiny.json", 0.101)
    assert [c.verdict for c in against.against_benchmarks(new, old)] == ["unchanged", "worse"]
    assert [c.verdict for c in against.against_benchmarks(old, new)] == ["unchanged", "better"]
    assert [c.verdict for c in against.against_benchmarks(tiny, old)] == ["unchanged"] * 2


def test_other_machines_and_lone_benchmarks_are_said(tmp_path):
    old = write(tmp_path / "old.json", [fit(1.0)])
    new = write(tmp_path / "new.json", [fit(1.0), fit(2.0, "koopcore, row-major")], cpu="y")
    text = against.benchmarks_text(new, old)
    assert "note: cpu: x -> y" in text
    assert "note: only in the new one: 1 benchmarks of koopcore" in text


def test_files_that_are_none_or_share_nothing_are_refused(tmp_path):
    good = write(tmp_path / "good.json", [entry("test_fit", 1.0)])
    other = write(tmp_path / "other.json", [entry("test_push", 1.0)])
    with pytest.raises(ValueError, match="no benchmark in common"):
        against.against_benchmarks(good, other)
    for text in ("{", "[]", "{}"):
        bad = tmp_path / "bad.json"
        bad.write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json is not the JSON of pytest-benchmark"):
            against.against_benchmarks(good, bad)
