"""Counts of instructions repeat, changes of them are told, and what is missing is said."""

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import instructions

TOOLS = {"compiler": "c++ 1", "blas": "b", "valgrind": "v", "machine": "x86_64"}


def counts(tools=TOOLS, **numbers):
    return {"tools": tools, "instructions": numbers}


def test_counts_beyond_the_margin_are_told():
    old = counts(push=1_000_000, gram=1_000_000, combine=1_000_000, gone=5)
    new = counts(push=1_009_000, gram=1_011_000, combine=980_000, fit=7)
    text = instructions.comparison(new, old).splitlines()
    assert text[0].split() == ["push", "1,009,000", "+0.90", "%"]
    assert text[1].split() == ["gram", "1,011,000", "+1.10", "%", "MORE"]
    assert text[2].split() == ["combine", "980,000", "-2.00", "%", "fewer"]
    assert text[3].split() == ["fit", "7", "new"]
    assert text[4] == "not counted: gone"
    assert instructions.grown(new, old) == ["gram"]


def test_other_tools_are_told():
    text = instructions.comparison(counts(push=1), counts({**TOOLS, "compiler": "c++ 0"}, push=1))
    assert "compiler: c++ 0 -> c++ 1; counts differ for that, too" in text


def test_missing_program_is_said_and_nothing_is_built(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(instructions.shutil, "which", lambda name: None)
    monkeypatch.setattr(instructions, "build", lambda: pytest.fail("it was built all the same"))
    assert instructions.main(["--out", str(tmp_path / "x.json")]) == 2
    assert "valgrind was not found: instructions are not counted" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


def test_command_keeps_the_counts_and_fails_on_more_alone(monkeypatch, capsys, tmp_path):
    stored, out = tmp_path / "stored.json", tmp_path / "new.json"
    for name, value in {"program": lambda *_: "x", "build": lambda: "driver", "STORED": stored,
                        "tools": lambda: TOOLS, "cases": lambda driver: ["push"],
                        "count": lambda driver, case: 100}.items():  # fmt: skip
        monkeypatch.setattr(instructions, name, value)
    assert instructions.main(["--out", str(out)]) == 0  # nothing stored
    assert json.loads(out.read_text()) == counts(push=100)
    for before, tools, status in ((100, TOOLS, 0), (90, TOOLS, 1), (90, {}, 0), (110, TOOLS, 0)):
        stored.write_text(json.dumps(counts(tools, push=before)))
        assert instructions.main([]) == status
    assert "-9.09 %  fewer" in capsys.readouterr().out


def test_failing_command_shows_its_error_text():
    with pytest.raises(RuntimeError, match="failed:\nbecause"):
        instructions.run(sys.executable, "-c", "import sys; sys.exit('because')")


def test_count_of_the_smallest_case_repeats(tmp_path):
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind not found, so no instructions were counted (Debian: valgrind)")
    driver = instructions.build(tmp_path)
    assert {"push-m=16", "gram-m=64", "fit-m=64"} <= set(instructions.cases(driver))
    first, second = (instructions.count(driver, "combine-m=16") for _ in range(2))
    # 20,000 rows of 16 columns: some instructions for each vector of four or eight numbers.
    assert 20_000 * 16 / 8 < first < 100 * 20_000 * 16
    assert abs(first - second) <= 1e-3 * first
    assert instructions.tools(tmp_path).keys() == TOOLS.keys()


def test_stored_counts_are_of_the_cases_there_are():
    stored = json.loads(instructions.STORED.read_text())
    source = (instructions.ROOT / "bench/instructions/main.cpp").read_text()
    assert stored["tools"].keys() == TOOLS.keys()
    assert all(f'"{case}"' in source for case in stored["instructions"])
