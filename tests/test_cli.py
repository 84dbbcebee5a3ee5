"""The command line: clear refusals, a quick start, and a small comparison from end to end."""

import json
import re
import subprocess
import sys

import pytest

pytest.importorskip("typer")
from typer.testing import CliRunner

from koopcore import cli


def run(*arguments):
    result = CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1"})
    # One line, without the box and the quotes that typer draws (they differ between versions).
    return result, re.sub(r"[\s│╭╮╰╯─]+", " ", result.output).replace("'", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["compare", "mnist"],
            "unknown workload mnist; known workloads: hamiltonian, hamiltonian-50, digits, digi",
        ),
        (
            ["compare", "digits", "--optimizers", "adam,lion"],
            "unknown optimizer lion; known optimizers: sgd, momentum, adam",
        ),
        (["compare", "digits", "--optimizers", ""], "unknown optimizer ;"),
        (["compare", "digits", "--seeds", "0"], "--seeds: 0 is too small; at least 1 is needed"),
        (["compare", "digits", "--seeds", "three"], "Invalid value for --seeds"),
        (["compare", "digits", "--steps", "-5"], "--steps: -5 is too small; at least 1 is needed"),
        (
            ["compare", "digits", "--threads", "0"],
            "--threads: 0 is too small; at least 1 is needed",
        ),
        (["compare"], "Missing argument"),
        (["tune", "mnist"], "unknown workload mnist"),
    ],
)
def test_bad_argument_is_refused_with_exit_code_2(arguments, message):
    result, text = run(*arguments)
    assert result.exit_code == 2
    assert message in text


def test_output_folder_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "taken"
    path.write_text("")
    result, text = run("compare", "hamiltonian", "--out", str(path))
    assert result.exit_code == 2
    assert "is a file" in text


@pytest.mark.parametrize(
    ("workload", "hidden", "label"),
    [
        ("digits", "sklearn", "scikit-learn"),
        ("hamiltonian", "matplotlib", "matplotlib"),
        ("hamiltonian", "torch", "torch"),
    ],
)
def test_missing_package_is_named_with_the_way_to_install_it(monkeypatch, workload, hidden, label):
    find = cli.importlib.util.find_spec
    monkeypatch.setattr(
        cli.importlib.util, "find_spec", lambda name: None if name == hidden else find(name)
    )
    result, text = run("compare", workload)
    assert result.exit_code == 1
    assert f"needs {label}, not installed here" in text
    assert 'pip install "koopcore[compare]"' in text


def test_hamiltonian_does_not_need_scikit_learn():
    assert cli._extra_packages(["hamiltonian", "hamiltonian-50"]) == []


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


def test_compare_small_run_writes_three_files_and_prints_the_table(tmp_path):
    for package in ("torch", "sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(package)
    out = tmp_path / "deep" / "folder"
    arguments = ["digits-64", "hamiltonian", "--optimizers", "adam,sgd", "--steps", "60"]
    result, _ = run("compare", *arguments, "--seeds", "1", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "results.json", "table.md"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((out / "results.json").read_text())
    assert len(document["runs"]) == 2 * 2 * 2
    assert document["environment"]["packages"]["torch"]
    assert document["settings"]["budgets"] == {"digits-64": 60, "hamiltonian": 60}
    for koop in document["runs"][1::2]:
        assert koop["method"] == "koopcore"
        assert koop["curve"]["step_equivalents"][-1] <= 60
    assert max(map(len, result.output.splitlines())) <= 120
    assert str(out / "curves.png") in result.output
    assert "\x1b" not in result.output
    assert "%|" not in result.output
    table = (out / "table.md").read_text()
    assert table.count("| koopcore |") == 4
    assert "step-equivalent" in table


def test_tune_prints_one_line_per_rate():
    pytest.importorskip("torch")
    from koopcore.compare.baselines import GRIDS

    result, _ = run("tune", "hamiltonian", "--optimizers", "sgd", "--steps", "5")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == len(GRIDS["sgd"])
    assert re.match(r"hamiltonian  sgd +0\.001 +\d\.\d{3}e", result.stdout)
