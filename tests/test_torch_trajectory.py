"""Trajectories on disk: what comes back is what was trained, whatever happened to the run."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
zarr = pytest.importorskip("zarr")

from torch import nn  # noqa: E402

from koopcore import DMD, StreamingDMD, outofcore  # noqa: E402
from koopcore.torch import _trajectory_store  # noqa: E402
from koopcore.torch.trajectory import TrajectoryRecorder, load_trajectory  # noqa: E402

DTYPES = (torch.float32, torch.float64)


def training(seed=0, dtype=torch.float32, device="cpu"):
    """A model, its optimizer, and a function that does one step and returns the weights."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).to(device, dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    x = torch.randn(32, 5, dtype=dtype).to(device)

    def step():
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        return flat(model)

    return model, optimizer, step


def flat(model):
    return torch.cat([p.detach().float().flatten() for p in model.parameters()]).cpu().numpy()


def exact(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).numpy().copy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("stored", "error"), [("float32", 2.0**-22), ("float64", 2.0**-51)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_states_come_back_to_rounding(tmp_path, dtype, stored, error, chunk):
    model, optimizer, step = training(dtype=dtype)
    expected = [exact(model)]
    with TrajectoryRecorder(model, optimizer, tmp_path / "run", dtype=stored, chunk=chunk) as held:
        for _ in range(25):
            step()
            expected.append(exact(model))
        assert held.n_snapshots == 26
    found = load_trajectory(tmp_path / "run")
    expected = np.array(expected).T
    largest = np.maximum(np.abs(expected), np.abs(expected[:, :1]))
    assert found.states.dtype == expected.dtype
    assert (
        np.abs(found.states - expected) <= max(error, 2.0**-24 * (dtype == DTYPES[0])) * largest
    ).all()
    np.testing.assert_array_equal(found.states[:, 0], expected[:, 0])
    np.testing.assert_array_equal(found.steps, np.arange(26))
    assert list(found.shapes.items()) == [(n, tuple(p.shape)) for n, p in model.named_parameters()]


def test_parameters_of_a_snapshot_go_back_into_the_model(tmp_path):
    model, optimizer, step = training()
    with TrajectoryRecorder(model, optimizer, tmp_path / "run", every=3):
        middle = [step() for _ in range(10)][5]
    found = load_trajectory(tmp_path / "run", start=1)
    np.testing.assert_array_equal(found.steps, [3, 6, 9])
    model.load_state_dict(found.parameters(-2), strict=False)
    np.testing.assert_allclose(flat(model), middle, rtol=0, atol=1e-6)
    assert load_trajectory(tmp_path / "run", 1, -1).states.shape == (39, 2)


def test_half_precision_and_frozen_parameters(tmp_path):
    model, optimizer, step = training(dtype=torch.bfloat16)
    model[0].requires_grad_(False)
    with TrajectoryRecorder(model, optimizer, tmp_path / "run"):
        last = [step() for _ in range(3)][-1]
    found = load_trajectory(tmp_path / "run")
    assert list(found.shapes) == ["2.weight", "2.bias"]
    np.testing.assert_array_equal(found.states[:, -1], last[24:])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_parameters_on_a_gpu(tmp_path):
    model, optimizer, step = training(device="cuda")
    with TrajectoryRecorder(model, optimizer, tmp_path / "run"):
        last = [step() for _ in range(3)][-1]
    np.testing.assert_allclose(load_trajectory(tmp_path / "run").states[:, -1], last, atol=1e-6)


def test_steps_that_did_not_happen_are_not_recorded(tmp_path):
    model, optimizer, step = training()
    with TrajectoryRecorder(model, optimizer, tmp_path / "run") as recorder:
        optimizer.param_groups[0]["lr"] = 0
        step()
        assert recorder.n_snapshots == 1
    step()  # after the hook has gone
    assert load_trajectory(tmp_path / "run").states.shape[1] == 1


def test_out_of_core_reads_the_differences(tmp_path):
    model, optimizer, step = training()
    with TrajectoryRecorder(model, optimizer, tmp_path / "run", chunk=8):
        for _ in range(30):
            step()
    states = load_trajectory(tmp_path / "run").states.astype(np.float64)
    batch = DMD(3, affine=True)
    outofcore.fit(batch, tmp_path / "run", time_axis=0, as_type="float64")
    expected = DMD(3, affine=True).fit(states)
    np.testing.assert_allclose(batch.eigenvalues, expected.eigenvalues, atol=1e-4)
    stream = outofcore.feed(StreamingDMD(3, affine=True), tmp_path / "run", time_axis=0)
    assert stream.n_snapshots == 31


def test_append_goes_on_where_the_run_ended(tmp_path):
    model, optimizer, step = training()
    path = tmp_path / "run"
    with TrajectoryRecorder(model, optimizer, path, every=2, chunk=4):
        expected = [step() for _ in range(7)][1::2]
    with TrajectoryRecorder(model, optimizer, path, every=2, append=True) as recorder:
        assert recorder.n_snapshots == 4
        expected += [step() for _ in range(4)][1::2]  # steps count from the last one stored
    found = load_trajectory(path)
    np.testing.assert_array_equal(found.steps, [0, 2, 4, 6, 8, 10])
    np.testing.assert_allclose(found.states[:, 1:].T, expected, atol=1e-6)


def test_append_from_an_older_checkpoint_drops_what_came_later(tmp_path):
    model, optimizer, step = training()
    path, states = tmp_path / "run", [flat(training()[0])]
    with TrajectoryRecorder(model, optimizer, path, chunk=3):
        for i in range(10):
            states.append(step())
            if i == 5:
                weights = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for p, kept in zip(model.parameters(), weights, strict=True):
            p.copy_(kept)
    optimizer.state.clear()
    with TrajectoryRecorder(model, optimizer, path, append=True, start=6):
        states = [*states[:7], step(), step()]
    found = load_trajectory(path)
    np.testing.assert_array_equal(found.steps, np.arange(9))
    np.testing.assert_allclose(found.states.T, states, atol=1e-6)


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from test_torch_trajectory import TrajectoryRecorder, training
model, optimizer, step = training()
with TrajectoryRecorder(model, optimizer, sys.argv[1], chunk=3):
    while True:
        step()
        print("step", flush=True)
"""


def test_killed_run_leaves_all_whole_chunks_and_goes_on(tmp_path):
    path, lines = tmp_path / "run", 47
    command = [sys.executable, "-c", CHILD.format(tests=str(Path(__file__).parent)), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for _ in range(lines):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
    found = load_trajectory(path)
    assert len(found.steps) >= lines - 3
    model, optimizer, step = training()
    expected = np.array([flat(model), *[step() for _ in found.steps[1:]]]).T
    np.testing.assert_array_equal(found.steps, np.arange(len(found.steps)))
    np.testing.assert_allclose(found.states, expected, atol=1e-6)
    with TrajectoryRecorder(model, optimizer, path, append=True):
        last = step()
    found = load_trajectory(path)
    assert found.steps[-1] == len(expected.T)
    np.testing.assert_allclose(found.states[:, -1], last, atol=1e-6)


@pytest.mark.parametrize("cut", ["rows made", "rows written", "steps made"])
def test_rows_cut_short_do_not_count(tmp_path, cut):
    """What a kill leaves between any two writes of a flush."""
    model, optimizer, step = training()
    path = tmp_path / "run"
    with TrajectoryRecorder(model, optimizer, path, chunk=4):
        expected = [step() for _ in range(5)]
    group = zarr.open_group(path, mode="r+")
    group["differences"].resize((9, 39))
    if cut != "rows made":
        group["differences"][6:] = 1.0
    if cut == "steps made":
        group["steps"].resize((9,))
    assert load_trajectory(path).states.shape[1] == 6
    with TrajectoryRecorder(model, optimizer, path, append=True):
        expected.append(step())
    found = load_trajectory(path)
    np.testing.assert_array_equal(found.steps, np.arange(7))
    np.testing.assert_allclose(found.states[:, 1:].T, expected, atol=1e-6)


def test_full_disk_stops_the_recording_but_not_the_training(tmp_path, monkeypatch, caplog):
    model, optimizer, step = training()
    with TrajectoryRecorder(model, optimizer, tmp_path / "run", chunk=2) as recorder:
        step()

        def full(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr(recorder._store, "append", full)
        with caplog.at_level(logging.WARNING, "koopcore"):
            for _ in range(4):
                step()
    (record,) = caplog.records
    assert "stopped at step 2, training goes on: No space left" in record.message
    np.testing.assert_array_equal(load_trajectory(tmp_path / "run").steps, [0])


def test_parameters_that_change_their_shape_stop_the_recording(tmp_path, caplog):
    model, optimizer, step = training()
    with TrajectoryRecorder(model, optimizer, tmp_path / "run"):
        step()
        last = model[2]
        last.weight.data, last.bias.data = torch.zeros(2, 4), torch.zeros(2)
        optimizer.state.clear()
        step()
    assert "'2.weight' has shape (2, 4) now" in caplog.text
    assert load_trajectory(tmp_path / "run").steps[-1] <= 1


def test_flush_writes_what_waits(tmp_path):
    model, optimizer, step = training()
    with TrajectoryRecorder(model, optimizer, tmp_path / "run", chunk=50) as recorder:
        step()
        assert len(load_trajectory(tmp_path / "run").steps) == 1
        recorder.flush()
        recorder.flush()
        assert len(load_trajectory(tmp_path / "run").steps) == 2


def test_exception_in_the_loop_keeps_the_snapshots(tmp_path):
    model, optimizer, step = training()

    def interrupted():
        with TrajectoryRecorder(model, optimizer, tmp_path / "run", chunk=50):
            step()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(load_trajectory(tmp_path / "run").steps) == 2


def test_attaching_twice_is_refused_and_detaching_twice_is_not(tmp_path):
    model, optimizer, _ = training()
    recorder = TrajectoryRecorder(model, optimizer, tmp_path / "run").attach()
    with pytest.raises(RuntimeError, match="attached already"):
        recorder.attach()
    recorder.detach()
    recorder.detach()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dtype": "float16"}, ValueError, "dtype must be one of 'float32', 'float64'"),
        ({"every": 0}, ValueError, "every must be at least 1"),
        ({"chunk": 0}, ValueError, "chunk must be at least 1"),
        ({"start": -1}, ValueError, "start must be at least 0"),
        ({"start": "a"}, TypeError, "start must be an integer"),
        ({"append": True}, FileNotFoundError, "there is no trajectory"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path, options, error, message):
    model, optimizer, _ = training()
    with pytest.raises(error, match=message):
        TrajectoryRecorder(model, optimizer, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_append_refuses_a_store_of_something_else(tmp_path):
    model, optimizer, _ = training()
    path = tmp_path / "run"
    TrajectoryRecorder(model, optimizer, path, start=5).attach().detach()
    with pytest.raises(FileExistsError, match="append=True"):
        TrajectoryRecorder(model, optimizer, path)
    for options, message in [
        ({"every": 2}, "holds every 1, not 2"),
        ({"dtype": "float64"}, "holds differences in float32"),
        ({"start": 4}, "start=4 is before the first snapshot"),
    ]:
        with pytest.raises(ValueError, match=message):
            TrajectoryRecorder(model, optimizer, path, append=True, **options)
    other = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="holds names"):
        TrajectoryRecorder(other, torch.optim.SGD(other.parameters(), lr=0.1), path, append=True)


def test_what_is_no_trajectory_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_trajectory(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="is no zarr group"):
        load_trajectory(tmp_path / "folder")
    zarr.create_group(tmp_path / "group", zarr_format=3)
    with pytest.raises(ValueError, match="is no trajectory of format 1"):
        load_trajectory(tmp_path / "group")
    model, optimizer, _ = training()
    TrajectoryRecorder(model, optimizer, tmp_path / "empty")
    with pytest.raises(ValueError, match="holds no snapshot"):
        load_trajectory(tmp_path / "empty")


def test_without_zarr_the_message_says_what_to_install(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(_trajectory_store.importlib, "import_module", missing)
    model, optimizer, _ = training()
    with pytest.raises(ImportError, match=r"koopcore\[zarr\]"):
        TrajectoryRecorder(model, optimizer, tmp_path / "run")
