"""``koopcore dmd``: the way it takes, what it writes, and what it says to files that are wrong."""

import csv
import re
import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import zarr
from support import match, planted

pytest.importorskip("typer")
from typer.testing import CliRunner

import koopcore
from koopcore import DMD, StreamingDMD, _decompose, cli, plotting
from koopcore._decompose import Options, choose

RATES = [0.99, 0.9, 0.8 + 0.3j, 0.8 - 0.3j]


def run(*arguments):
    result = CliRunner().invoke(
        cli.app, ["dmd", *map(str, arguments)], env={"COLUMNS": "200", "NO_COLOR": "1"}
    )
    return result, re.sub(r"[\s│╭╮╰╯─]+", " ", result.output)


@pytest.fixture
def X(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = planted(RATES, n=300, m=60)
    np.save("X.npy", X)
    return X


def table(path="koopcore-dmd/eigenvalues.csv"):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def check(X, folder, dt=1.0):
    """Compare everything that was written with a fit of the array."""
    found = table(f"{folder}/eigenvalues.csv")
    values = found["eigenvalue_real"] + 1j * found["eigenvalue_imag"]
    assert match(values, RATES) < 1e-6
    omega = found["omega_real"] + 1j * found["omega_imag"]
    np.testing.assert_allclose(omega, np.log(values) / dt)
    np.testing.assert_allclose(found["frequency"], omega.imag / (2 * np.pi))
    np.testing.assert_allclose(found["growth_rate"], omega.real)
    amplitudes = found["amplitude_real"] + 1j * found["amplitude_imag"]
    np.testing.assert_allclose(found["amplitude"], np.abs(amplitudes))
    modes = np.load(f"{folder}/modes.npy", mmap_mode="r")
    assert modes.shape == (len(X), 4)
    model = koopcore.load(f"{folder}/model.npz")
    np.testing.assert_array_equal(model.eigenvalues, values)
    np.testing.assert_allclose(model.modes, modes, atol=1e-6)
    state = X[:, 0] if isinstance(model, DMD) else X[:, -1]
    np.testing.assert_allclose((modes @ amplitudes).real, state, atol=1e-4)
    with open(f"{folder}/summary.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"


@pytest.mark.parametrize("way", ["--stream", "--batch"])
def test_stream_and_batch_write_the_same_files_for_every_kind_of_source(X, way):
    np.save("rows.npy", X.T)
    X.T.tofile("X.raw")
    with h5py.File("X.h5", "w") as file:
        file["a"], file["b"] = X.astype(np.float32), np.eye(3)
    zarr.save_array("X.zarr", X)
    cases = {
        "X.npy": [],
        "rows.npy": ["--time-axis", 0],
        "X.raw": ["--dtype", "float64", "--shape", "-1,300", "--time-axis", "0"],
        "X.h5": ["--dataset", "a", "--as-type", "float64"],
        "X.zarr": [],
    }
    for name, options in cases.items():
        result, text = run(name, way, "--rank", 4, "--dt", 0.5, "--out", f"out/{name}", *options)
        assert result.exit_code == 0, text
        assert f"{way.strip('-')}: as asked for" in text
        assert "300 features, 60 snapshots of float64 (144 kB)" in text
        assert f"picture: out/{name}/summary.png" in text
        assert "%|" not in text  # no bar, since this is no terminal
        expected = X if name != "X.h5" else X.astype(np.float32)
        check(expected, f"out/{name}", dt=0.5)


def test_default_is_a_batch_fit_of_what_is_small_with_ten_modes_at_most(X):
    result, text = run("X.npy", "--start", 5, "--stop", 12)
    assert result.exit_code == 0, text
    assert "7 snapshots of float64" in text
    assert "batch: exact and cheap" in text
    assert "fitted in 0.0 s: rank 4" in text
    assert re.search(r"0\.990000\+0\.000000j 0\.990000 0 -0\.01005", text)
    assert match(DMD(rank=4).fit(X[:, 5:12]).eigenvalues, RATES) < 1e-6
    found = table()
    assert match(found["eigenvalue_real"] + 1j * found["eigenvalue_imag"], RATES) < 1e-6


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--rank", "0.5"], DMD(rank=0.5)),
        (["--rank", "all"], DMD()),
        (["--rank", "svht"], DMD(rank="svht")),
        (["--rank", "cv"], DMD(rank="cv")),
        (["--rank", "3", "--affine"], DMD(rank=3, affine=True)),
        (["--rank", "4", "--delays", "3", "--variant", "tls"], DMD(4, delays=3, variant="tls")),
        (["--rank", "4", "--variant", "optimized"], DMD(rank=4, variant="optimized")),
        (["--rank", "4", "--forgetting", "0.9"], StreamingDMD(rank=4, forgetting=0.9)),
        (
            ["--rank", "3", "--stream", "--affine", "--delays", "2"],
            StreamingDMD(rank=3, affine=True, delays=2),
        ),
    ],
    ids=str,
)
def test_options_reach_the_model(X, options, expected):
    result, text = run("X.npy", *options)
    assert result.exit_code == 0, text
    found = koopcore.load("koopcore-dmd/model.npz")
    assert found._parameters == expected._parameters
    expected = expected.fit(X) if isinstance(expected, DMD) else expected.partial_fit(X)
    assert match(found.eigenvalues, expected.eigenvalues) < 1e-8
    assert f"rank {len(expected.eigenvalues)}" in text


def test_modes_are_left_out_and_older_ones_removed(X):
    assert run("X.npy")[0].exit_code == 0
    result, text = run("X.npy", "--no-modes", "--stream")
    assert result.exit_code == 0, text
    assert "modes:" not in text
    assert sorted(path.name for path in (_decompose.Path("koopcore-dmd")).iterdir()) == [
        "eigenvalues.csv",
        "model.npz",
        "summary.png",
    ]


def test_complex_and_zero_snapshots_are_fitted_all_at_once(X):
    turning = np.exp(0.3j * np.arange(20))
    np.save("complex.npy", np.outer(np.arange(1.0, 9.0), turning))
    result, text = run("complex.npy", "--rank", 1)
    assert result.exit_code == 0, text
    assert "batch: complex snapshots" in text
    assert match(table()["omega_imag"], [0.3]) < 1e-10
    np.save("zero.npy", np.zeros((5, 9)))
    for way in ("--batch", "--stream"):
        result, text = run("zero.npy", way)
        assert result.exit_code == 0, text
        assert "the snapshots are zero: there are no modes" in text


def test_long_tables_are_cut_and_fields_drawn_as_images(X):
    rng = np.random.default_rng(0)
    np.save("field.npy", rng.standard_normal((40, 6, 9)))
    result, text = run("field.npy", "--time-axis", 0, "--rank", 20)
    assert result.exit_code == 0, text
    assert "... and 8 more" in text
    assert len(table()["amplitude"]) == 20


def test_states_with_very_many_numbers_are_drawn_thinned_out(X, monkeypatch):
    monkeypatch.setattr(_decompose, "DRAWN_ROWS", 100)
    drawn = []
    summary = plotting.plot_summary
    monkeypatch.setattr(
        plotting,
        "plot_summary",
        lambda model, *a, **k: drawn.append(model.modes) or summary(model, *a, **k),
    )
    assert run("X.npy", "--rank", 4)[0].exit_code == 0
    np.testing.assert_array_equal(drawn[0], np.load("koopcore-dmd/modes.npy")[::3])


def test_batch_model_of_large_data_and_pictures_without_matplotlib_are_left_out(X, monkeypatch):
    monkeypatch.setattr(_decompose, "SAVED", 1000)
    monkeypatch.setattr(
        _decompose.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else 1
    )
    result, text = run("X.npy")
    assert result.exit_code == 0, text
    assert "model: not saved, since a batch model holds all its snapshots" in text
    assert 'picture: not drawn; it needs matplotlib: pip install "koopcore[plot]"' in text


def source(n, m, time_first=True, dtype=np.float32):
    return SimpleNamespace(
        n_features=n, n_snapshots=m, time_first=time_first, dtype=np.dtype(dtype)
    )


@pytest.mark.parametrize(
    ("given", "options", "expected", "why"),
    [
        (source(10**6, 100), {}, "batch", "exact and cheap"),
        (source(10**4, 1_000), {}, "batch", "exact and cheap"),
        (source(10**6, 1_000), {}, "stream", "1000 snapshots in one pass"),
        (source(10**6, 1_000, False), {}, "batch", "numbers of a feature lie together"),
        (source(10**4, 100_000, False), {}, "stream", "in one pass"),
        (source(10**6, 100_000, False), {}, "stream", "in one pass"),
        (source(10**12, 1_000), {}, "batch", "a stream would hold 36 states, 144 TB"),
        (source(10**6, 100), {"forgetting": 0.9}, "stream", "forgetting=0.9"),
        (source(10**6, 100), {"way": "stream"}, "stream", "as asked for"),
        (source(10**6, 1_000), {"way": "batch"}, "batch", "as asked for"),
        (source(10**6, 1_000), {"rank": 0.9}, "batch", "rank=0.9 is chosen from all"),
        (source(10**6, 1_000), {"rank": None}, "batch", "rank=None is chosen from all"),
        (source(10**6, 1_000), {"variant": "optimized"}, "batch", "all snapshots at once"),
        (source(10**6, 1_000, dtype=complex), {}, "batch", "complex snapshots"),
    ],
)
def test_way_is_chosen_by_shape_layout_and_options(given, options, expected, why):
    way, reason = choose(given, Options(**options))
    assert way == expected
    assert why in reason


@pytest.mark.parametrize("enough", [True, False])
def test_file_of_short_pieces_is_put_in_order_for_a_stream(X, monkeypatch, enough):
    monkeypatch.setattr(_decompose._blocks, "STRIDED_MEMORY", 30_000)
    if not enough:
        usage = SimpleNamespace(free=1000)
        monkeypatch.setattr(_decompose.shutil, "disk_usage", lambda _: usage)
        result, text = run("X.npy", "--stream")
        assert result.exit_code == 1
        assert "has 1 kB left of the 144 kB that this takes: give another folder, or ask" in text
        return
    result, text = run("X.npy", "--stream", "--rank", 4, "--out", "out")
    assert result.exit_code == 0, text
    assert "putting the snapshots in order, into out/snapshots-in-order.npy" in text
    assert not _decompose.Path("out/snapshots-in-order.npy").exists()
    check(X, "out")
    X[7, 33] = np.nan
    np.save("X.npy", X)
    result, text = run("X.npy", "--stream", "--start", 3)
    assert result.exit_code == 1
    assert "X.npy, block of snapshots 3 to 59: snapshot 33" in text.replace("'", "")
    assert not _decompose.Path("koopcore-dmd/snapshots-in-order.npy").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.npy"], "koopcore: there is no file 'none.npy'"),
        (["X.npy", "--time-axis", "1", "--start", "299"], "1 snapshots, got"),
        (["X.npy", "--start", "59"], "a fit needs at least 2 snapshots, got 1"),
        (["X.npy", "--start", "59", "--stream"], "a fit needs at least 2 successive states, got 1"),
        (["X.npy", "--start", "60"], "start, stop: 60 to 60 of 60"),
        (["X.npy", "--rank", "80"], "80"),
        (["X.npy", "--rank", "ten"], "rank='ten' is neither a number, a share of"),
        (["X.npy", "--rank", "0"], "rank=0"),
        (["X.npy", "--variant", "other"], "variant='other' is not one of 'standard', 'tls'"),
        (["X.npy", "--dt", "0"], "dt=0.0 is the time between two snapshots"),
        (["X.npy", "--delays", "0"], "delays=0 must be at least 1"),
        (["X.npy", "--forgetting", "2"], "forgetting=2.0 is the share kept per snapshot"),
        (["X.npy", "--forgetting", "0.5", "--batch"], "forgetting=0.5 takes a stream, but a batch"),
        (["X.npy", "--forgetting", "0.5", "--rank", "0.9"], "but rank=0.9 is chosen from all"),
        (["X.npy", "--stream", "--rank", "cv"], "a stream is asked for, but rank='cv' is chosen"),
        (["X.npy", "--as-type", "int8"], "as_type='int8'; koopcore works on float32 or float64"),
        (["X.raw"], "say dtype= and shape="),
        (["X.raw", "--dtype", "f4", "--shape", "a,b"], "shape='a,b' must be numbers"),
        (["X.raw", "--dtype", "f4", "--shape", "7x-1"], "does not fill them"),
        (["X.raw", "--dtype", "nonsense", "--shape", "7x-1"], "nonsense"),
        (["integers.npy"], "holds int64; koopcore works on float32 or float64"),
        (["X.h5"], "X.h5' is no HDF5 file"),
        (["nan.npy"], "snapshot 33 has the value nan at entry 7, which is not finite. Repair it"),
        (["nan.npy", "--stream"], "block of snapshots 0 to 59: snapshot 33 has the value nan"),
        (["nan.npy", "--start", "30"], "snapshot 33 has the value nan at entry 7"),
        (["nan.npy", "--start", "30", "--stream"], "snapshot 33 has the value nan at entry 7"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_1(X, arguments, message):
    _decompose.Path("X.raw").write_bytes(bytes(40))
    _decompose.Path("X.h5").write_bytes(b"no HDF5")
    np.save("integers.npy", np.arange(12).reshape(3, 4))
    X[7, 33] = np.nan
    np.save("nan.npy", X)
    if "--time-axis" in arguments:  # a middle axis counts nothing
        np.save("X.npy", np.zeros((2, 3, 4)))
        message = "time_axis=1 of 'X.npy' with 3 dimensions must be the first (0) or the last (-1)"
    result, text = run(*arguments)
    assert result.exit_code == 1, text
    assert message in text
    assert "Traceback" not in text
    assert not list(_decompose.Path().glob("koopcore-dmd/*"))


def test_command_runs_as_a_program_without_torch_and_matplotlib_being_loaded_for_help(X):
    code = (
        "import sys; sys.argv = ['koopcore', 'dmd', *sys.argv[1:]]\n"
        "import koopcore.cli\n"
        "heavy = {'torch', 'sklearn', 'matplotlib', 'h5py', 'zarr', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "koopcore.cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "X.npy", "--rank", "4"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "rank 4" in done.stdout
    check(X, "koopcore-dmd")


def test_missing_typer_is_named_with_the_way_to_install_it():
    code = "import sys; sys.modules['typer'] = None; import koopcore.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert 'needs typer; install it with pip install "koopcore[cli]"' in done.stderr
