"""The arena's files: made by a run, refused when wrong, shipped with the package; its commands."""

import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("typer")
import torch
from arena_runs import SMALL, changed
from typer.testing import CliRunner

import koopcore
from koopcore import _cli_arena
from koopcore.compare import workloads
from koopcore.compare.arena import load, shipped
from koopcore.compare.arena.parameters import Parameters
from koopcore.compare.arena.record import record
from koopcore.compare.arena.recording import save
from koopcore.compare.baselines import make_optimizer
from koopcore.compare.environment import pinned


@pytest.fixture(scope="module")
def small():
    return record("hamiltonian", "adam", **SMALL)


def test_file_comes_back_with_the_same_bits(small, tmp_path):
    save(tmp_path / "run.npz", small)
    again = load(tmp_path / "run.npz")
    assert again.about == small.about
    for name in ("states", "steps", "train_loss", "heldout_loss"):
        np.testing.assert_array_equal(getattr(again, name), getattr(small, name))
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_recording_again_gives_the_same_file(small, tmp_path):
    torch.manual_seed(123)  # of no influence
    save(tmp_path / "a.npz", small)
    save(tmp_path / "b.npz", record("hamiltonian", "adam", **SMALL))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_file_that_is_cut_short_or_something_else_is_refused(small, tmp_path):
    path = tmp_path / "run.npz"
    save(path, small)
    whole = path.read_bytes()
    lies = io.BytesIO()
    np.savez(lies, about=np.array(small.about.to_json()), states=small.states[:3])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for content in (whole[:-1], whole[:1000], b"", b"not a file", bytes(flipped), lies.getvalue()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.npz is damaged, truncated, or no recording"):
            load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")


@pytest.mark.parametrize("format", ["koopcore-arena/2", None])
def test_file_of_another_version_is_refused_by_its_version(small, tmp_path, format):
    document = json.loads(small.about.to_json()) | {"format": format, "future": 1}
    np.savez(tmp_path / "run.npz", about=np.array(json.dumps(document)))
    with pytest.raises(ValueError, match=rf"is of format {format!r}; .* reads 'koopcore-arena/1'"):
        load(tmp_path / "run.npz")


def test_file_with_other_steps_than_its_starts_need_is_refused(small):
    with pytest.raises(ValueError, match="steps has"):
        changed(small, starts=[8, 26])


@pytest.mark.parametrize(
    ("workload", "optimizer"), [("digits-64:0.1", "sgd"), ("hamiltonian", "lbfgs")]
)
def test_recorded_weights_are_those_of_the_training_loop(workload, optimizer):
    found = record(workload, optimizer, 3, rate=0.1, **SMALL | {"steps": 16})
    problem = workloads.load(workload).build(3)
    base = make_optimizer(optimizer, problem.model.parameters(), 0.1)
    with pinned(1):
        for _ in range(found.about.starts[0]):
            batch = next(problem.batches)

            def closure():
                base.zero_grad()
                loss = problem.loss(problem.model, batch)  # noqa: B023
                loss.backward()
                return loss

            base.step(closure)
        expected = torch.nn.utils.parameters_to_vector(problem.model.parameters()).detach()
        figures = problem.evaluate(problem.model)
    last = found.at(found.about.starts[0])
    np.testing.assert_array_equal(found.states[last], expected.numpy())
    assert found.train_loss[last] == figures["train_loss"]
    np.testing.assert_equal(found.heldout_loss[last], figures.get("heldout_loss", math.nan))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("oscillator", "adam"), "unknown workload 'oscillator'"),
        (("hamiltonian", "adams"), "unknown optimizer 'adams'"),
    ],
)
def test_record_of_an_unknown_name_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        record(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every=0 is too small; at least 1"),
        ({"window": 1}, "window=1 is too small; at least 2"),
        ({"starts": 0}, "starts=0 is too small"),
        ({"steps": 0}, "steps=0 is too small"),
        ({"horizons": ()}, r"horizons\[0\]=0 is too small"),
        ({"horizons": (4, -1)}, r"horizons\[0\]=-1 is too small"),
        ({"steps": 14}, r"steps=14: too short for starts=2, .* at least 16 are needed"),
        ({"rate": 1e30}, "diverged: weights at step .* are not finite"),
    ],
    ids=str,
)
def test_record_of_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        record("hamiltonian", "sgd", **SMALL | options)


def test_shortest_run_that_the_message_names_is_long_enough():
    assert record("hamiltonian", "sgd", **SMALL | {"steps": 16}).about.starts == (8, 10)


def test_shipped_set_is_small_and_its_losses_are_those_of_the_workloads():
    recordings = shipped()
    folder = Path(koopcore.__file__).parent / "compare/data"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2_000_000
    assert len(recordings) == len(list(folder.glob("*.npz"))) == 5
    for recording in recordings:
        about = recording.about
        assert about.horizons[-1] * about.every >= 500
        problem = workloads.load(about.workload).build(about.seed)
        parameters = Parameters(problem.model)
        with pinned(1):
            for i in range(0, len(recording.steps), 7):
                parameters.write(recording.states[i])
                figures = problem.evaluate(problem.model)
                assert figures["train_loss"] == pytest.approx(recording.train_loss[i], rel=1e-4)
                heldout = figures.get("heldout_loss", math.nan)
                np.testing.assert_allclose(heldout, recording.heldout_loss[i], rtol=1e-4)


def invoke(*arguments):
    result = CliRunner().invoke(
        _cli_arena.app, [*map(str, arguments)], env={"COLUMNS": "200", "NO_COLOR": "1"}
    )
    return result, re.sub(r"[\s│╭╮╰╯─]+", " ", result.output)


def test_command_line_records_scores_and_reports(tmp_path):
    path, out = tmp_path / "run.npz", tmp_path / "out"
    options = ["--every", 2, "--window", 5, "--horizons", "1,3", "--starts", 2, "--steps", 30]
    result, text = invoke("record", "hamiltonian", "adam", *options, "--out", path)
    assert result.exit_code == 0, text
    assert "hamiltonian adam 0.003 seed 0 every 2: 14 snapshots of 152 weights" in text
    result, text = invoke("score", path, "--rules", "dmd-1,mine", "--window", 5, "--report", out)
    assert result.exit_code == 1
    assert "unknown rule 'mine'" in text
    assert not out.exists()
    result, text = invoke("score", path, "--rules", "dmd-1", "--window", 5, "--report", out)
    assert result.exit_code == 0, text
    assert "error over growth" in text
    assert {file.name for file in out.iterdir()} == {"arena.md", "arena.csv", "arena.png"}
    assert (out / "arena.png").read_bytes().startswith(b"\x89PNG")
    assert f"koopcore arena score {path} --rules dmd-1 --window 5" in (out / "arena.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", "none.npz"), "none.npz"),
        (("score", "--horizons", "1,x"), "--horizons: '1,x' is not a list of whole numbers"),
        (("score", "--window", "50", "--rules", "stay"), "give 2 to 20"),
        (("record", "oscillator", "adam", "--out", "x.npz"), "unknown workload 'oscillator'"),
        (("record", "hamiltonian", "adams", "--out", "x.npz"), "unknown optimizer 'adams'"),
    ],
)
def test_command_line_refuses_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result, text = invoke(*arguments)
    assert result.exit_code == 1
    assert message in text
    assert list(tmp_path.iterdir()) == []


def test_command_line_is_light():
    code = (
        "import sys; from koopcore import _cli_arena\n"
        "print([m for m in ('torch', 'sklearn', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=True
    )
    assert result.stdout.strip() == "[]"
