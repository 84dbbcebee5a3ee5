"""Snapshots read in blocks: every source gives the columns it holds, streams and fits agree."""

import subprocess
import sys
from itertools import pairwise

import h5py
import numpy as np
import pytest
import zarr
from snapshot_files import KINDS, stored
from support import match, planted

from koopcore import DMD, RowBlocks, StreamingDMD, StreamingSVD, WindowDMD, outofcore
from koopcore._sources import FileSource, IndexedSource

RATES = [0.99, 0.9, 0.8 + 0.3j, 0.8 - 0.3j]
MEMORY = (1, 5_000, 40_000, 1 << 26)  # a column, several, of which the last does not fill its block


@pytest.fixture
def X():
    return planted(RATES, n=300, m=50, dtype=np.float32)


def gathered(source, **how):
    return np.hstack([block.copy() for block in outofcore.blocks(source, **how)])


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_its_snapshots_in_blocks(X, kind, memory, tmp_path):
    path, how = stored(X, kind, tmp_path)
    np.testing.assert_array_equal(gathered(path, memory=memory, **how), X)
    part = gathered(path, memory=memory, start=7, stop=31, rows=(3, 280), **how)
    np.testing.assert_array_equal(part, X[3:280, 7:31])
    for block in outofcore.blocks(path, memory=memory, **how):
        assert block.nbytes <= max(memory, X[:, :1].nbytes)
        assert block.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_stream_and_batch_fit_of_a_file_equal_those_of_the_array(X, kind, tmp_path):
    path, how = stored(X, kind, tmp_path)
    stream = outofcore.feed(StreamingDMD(rank=4), path, memory=9_000, **how)
    assert stream.n_snapshots == X.shape[1]
    np.testing.assert_array_equal(
        stream.eigenvalues, StreamingDMD(rank=4).partial_fit(X).eigenvalues
    )
    batch = outofcore.fit(DMD(rank=4), path, memory=9_000, **how)
    whole = DMD(rank=4).fit(X)
    assert match(batch.eigenvalues, whole.eigenvalues) < 1e-5
    np.testing.assert_allclose(batch.forecast(3), whole.forecast(3), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(batch.predict(X[:, 0]), whole.predict(X[:, 0]), atol=1e-3)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("mode", ["r", "c"])
def test_mapped_arrays_and_slices_of_them_are_read_from_where_they_begin(X, order, mode, tmp_path):
    np.save(tmp_path / "X.npy", np.asarray(X, order=order))
    mapped = np.load(tmp_path / "X.npy", mmap_mode=mode)
    whole = outofcore.open_source(mapped)
    assert isinstance(whole, FileSource if mode == "r" else IndexedSource)
    whole.close()
    for view in (mapped, mapped[5:200], mapped[:, 3:40], mapped[5:200, 3:40], mapped[::2, ::3]):
        for memory in MEMORY:
            np.testing.assert_array_equal(gathered(view, memory=memory), np.asarray(view))
    np.testing.assert_array_equal(gathered(mapped.T, time_axis=0), X)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("time_axis", [0, -1])
@pytest.mark.parametrize("kind", ["npy", "h5", "zarr", "memory"])
def test_fields_of_several_dimensions_are_flattened_as_numpy_does(kind, time_axis, order, tmp_path):
    field = np.asarray(np.random.default_rng(0).standard_normal((9, 4, 6, 11)), order=order)
    expected = field.reshape(9, -1).T if time_axis == 0 else field.reshape(-1, 11)
    source, path = field, tmp_path / f"field.{kind}"
    if kind == "npy":
        np.save(path, field)
        source = path
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["field"] = field
        source = path
    elif kind == "zarr":
        zarr.save_array(path, field)
        source = path
    how = {"time_axis": time_axis, "memory": 2_000}
    np.testing.assert_array_equal(gathered(source, **how), expected)
    np.testing.assert_array_equal(gathered(source, rows=(5, 101), **how), expected[5:101])


@pytest.mark.parametrize("memory", MEMORY)
def test_iterators_of_snapshots_and_of_blocks_are_gathered(X, memory):
    assert len(list(outofcore.blocks(iter(X.T), memory=12_000))) == 5
    np.testing.assert_array_equal(gathered(iter(X.T), memory=memory), X)
    pieces = [X[:, a:b] for a, b in pairwise([0, 1, 9, 30, 30, 50])]
    np.testing.assert_array_equal(gathered(iter(pieces), memory=memory), X)
    mixed = [X[:, 0], X[:, 1], X[:, 2:9], X[:, 9], X[:, 10:]]
    np.testing.assert_array_equal(gathered(mixed, memory=memory), X)
    part = gathered(iter(mixed), memory=memory, start=1, stop=30, rows=(2, 9))
    np.testing.assert_array_equal(part, X[2:9, 1:30])
    rows = gathered((piece.T for piece in pieces), time_axis=0, as_type="float64")
    np.testing.assert_array_equal(rows, X)


def test_open_datasets_are_taken_and_stay_open(X, tmp_path):
    path, _ = stored(X, "h5-columns", tmp_path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(gathered(file["flow/velocity"]), X)
        assert file["times"][3] == 3
    path, _ = stored(X, "zarr", tmp_path)
    np.testing.assert_array_equal(gathered(zarr.open(path, mode="r")["flow/velocity"]), X)


def test_endless_iterator_is_left_where_stop_says(X):
    endless = (X[:, 0] * 0.5**t for t in iter(int, 1))
    model = outofcore.feed(StreamingSVD(rank=1), endless, stop=20)
    assert model.n_snapshots == 20
    assert next(endless) is not None


@pytest.mark.parametrize("stored_type", ["int16", ">f4", ">f8", "float16", "uint8", "bool"])
def test_numbers_are_converted_while_they_are_read(stored_type, tmp_path):
    numbers = np.arange(60).reshape(12, 5).astype(stored_type)
    np.save(tmp_path / "X.npy", numbers)
    blocks = gathered(tmp_path / "X.npy", as_type="float32", memory=100)
    assert blocks.dtype == np.float32
    np.testing.assert_array_equal(blocks, numbers.astype(np.float32))


@pytest.mark.parametrize(
    "model",
    [StreamingSVD(rank=3), WindowDMD(window=12), DMD(rank=4)],
    ids=lambda model: type(model).__name__,
)
def test_feed_takes_every_stream_and_sends_batch_fits_to_fit(model, X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    if isinstance(model, DMD):
        with pytest.raises(TypeError, match=r"use koopcore\.outofcore\.fit"):
            outofcore.feed(model, tmp_path / "X.npy")
        return
    assert outofcore.feed(model, tmp_path / "X.npy", memory=5_000) is model
    expected = type(model)(**model._parameters)
    for column in X.T:
        expected.update(column.copy())
    np.testing.assert_allclose(model.singular_values, expected.singular_values, rtol=1e-6)


def test_stream_goes_on_where_it_was(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    model = outofcore.feed(StreamingDMD(rank=4), tmp_path / "X.npy", stop=21)
    again = StreamingDMD(rank=4)
    again.load_state_dict(model.state_dict())
    outofcore.feed(again, tmp_path / "X.npy", start=again.n_snapshots, memory=3_000)
    whole = outofcore.feed(StreamingDMD(rank=4), tmp_path / "X.npy")
    np.testing.assert_array_equal(again.eigenvalues, whole.eigenvalues)


def test_row_blocks_get_their_own_rows_of_a_file(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    rows = RowBlocks([StreamingDMD(rank=4, first_row=first) for first in (0, 64, 256)])
    outofcore.feed(rows, tmp_path / "X.npy", memory=10_000)
    whole = StreamingDMD(rank=4).partial_fit(X)
    assert match(rows.streams[0].eigenvalues, whole.eigenvalues) < 1e-5
    assert [len(stream.modes) for stream in rows.streams] == [64, 192, 44]


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "tls", "rank": 4},
        {"delays": 3, "rank": 4},
        {"affine": True, "rank": 3},
        {"rank": "cv"},
        {"rank": 0.999},
        {"variant": "optimized", "rank": 4},
        {"solver": "qr", "rank": 4},
    ],
    ids=str,
)
def test_every_form_of_the_batch_fit_works_by_row_blocks(options, tmp_path):
    X = planted(RATES, n=300, m=30)
    np.save(tmp_path / "X.npy", X)
    found = outofcore.fit(DMD(**options), tmp_path / "X.npy", memory=30_000)
    expected = DMD(**options).fit(X)
    assert found.solver_ == expected.solver_
    assert match(found.eigenvalues, expected.eigenvalues) < 1e-7
    modes = outofcore.write_modes(tmp_path / "modes.npy", found)
    np.testing.assert_array_equal(np.load(tmp_path / "modes.npy"), modes)
    reconstructed = found.modes @ found.dynamics
    np.testing.assert_allclose(
        reconstructed.real, (expected.modes @ expected.dynamics).real, atol=1e-6
    )
    for a, b in zip(found.forecast_interval(2), expected.forecast_interval(2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_complex_snapshots_are_fitted_by_row_blocks(tmp_path):
    rng = np.random.default_rng(0)
    modes = rng.standard_normal((200, 2)) + 1j * rng.standard_normal((200, 2))
    X = modes @ np.vander([0.9, 0.5j], 12, increasing=True)
    np.save(tmp_path / "X.npy", X)
    found = outofcore.fit(DMD(rank=2), tmp_path / "X.npy", memory=4_000)
    assert match(found.eigenvalues, [0.9, 0.5j]) < 1e-10
    outofcore.write_modes(tmp_path / "modes.npy", found)
    np.testing.assert_allclose(np.load(tmp_path / "modes.npy"), DMD(rank=2).fit(X).modes)
    with pytest.raises(TypeError, match="complex128"):
        outofcore.feed(StreamingDMD(rank=2), tmp_path / "X.npy")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["rows", "memory", "stream", "driven"])
def test_written_modes_are_those_of_the_model(kind, dtype, tmp_path):
    X = planted(RATES, n=301, m=40, dtype=dtype)
    np.save(tmp_path / "X.npy", X)
    model = {
        "rows": lambda: outofcore.fit(DMD(rank=4), tmp_path / "X.npy", memory=7_000),
        "memory": lambda: DMD(rank=4).fit(X),
        "stream": lambda: StreamingDMD(rank=4).partial_fit(X),
        "driven": lambda: StreamingDMD(rank=4, n_inputs=1).partial_fit(X, U=np.zeros((1, 40))),
    }[kind]()
    sample = outofcore.write_modes(tmp_path / "modes.npy", model, every=7)
    written = np.load(tmp_path / "modes.npy", mmap_mode="r")
    assert written.dtype == np.result_type(dtype, np.complex64)
    np.testing.assert_allclose(written, model.modes, atol=1e-6)
    np.testing.assert_array_equal(sample, written[::7])


def test_modes_that_cannot_be_written_are_refused(X, tmp_path):
    model = StreamingDMD(rank=4)
    for column in X.T:
        model.update([column[:100].copy(), column[100:].copy()])
    with pytest.raises(TypeError, match=r"lists of arrays of shapes .*: take model\.modes"):
        outofcore.write_modes(tmp_path / "modes.npy", model)
    with pytest.raises(ValueError, match=r"must end in \.npy"):
        outofcore.write_modes(tmp_path / "modes.bin", model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("memory", MEMORY)
def test_reordered_file_holds_the_same_snapshots_with_each_in_one_piece(X, memory, tmp_path):
    np.save(tmp_path / "X.npy", X)
    outofcore.reorder(tmp_path / "X.npy", tmp_path / "turned.npy", memory=memory)
    turned = np.load(tmp_path / "turned.npy", mmap_mode="r")
    assert turned.flags.f_contiguous
    np.testing.assert_array_equal(turned, X)
    with pytest.raises(ValueError, match=r"must end in \.npy"):
        outofcore.reorder(tmp_path / "X.npy", tmp_path / "turned")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_value_that_is_not_finite_is_named_with_its_place(X, bad, order, tmp_path):
    X[123, 33] = bad
    np.save(tmp_path / "X.npy", np.asarray(X, order=order))
    place = rf"snapshot 33 has the value {bad} at entry 123, which is not finite.*stop=33, start=34"
    model = StreamingDMD(rank=4)
    with pytest.raises(ValueError, match=rf"X\.npy', block of snapshots 30 to 39: {place}"):
        outofcore.feed(model, tmp_path / "X.npy", memory=10 * X[:, 0].nbytes)
    assert model.n_snapshots == 30
    with pytest.raises(ValueError, match=place):
        outofcore.feed(StreamingDMD(rank=4), iter(X.T))
    with pytest.raises(ValueError, match=place):
        outofcore.fit(DMD(rank=4), tmp_path / "X.npy", memory=7_000)


def test_progress_is_told_to_a_function_and_to_a_bar_that_is_silent_here(X, tmp_path, capsys):
    np.save(tmp_path / "X.npy", X)
    told = []
    outofcore.feed(
        StreamingSVD(), tmp_path / "X.npy", memory=24_000, progress=lambda *a: told.append(a)
    )
    assert told == [(20, 50), (40, 50), (50, 50)]
    told.clear()
    outofcore.feed(StreamingSVD(), iter(X.T), progress=lambda *a: told.append(a))
    assert told == [(50, None)]
    outofcore.feed(StreamingSVD(), tmp_path / "X.npy", progress=True)
    outofcore.fit(DMD(rank=2), tmp_path / "X.npy", progress=True)
    assert capsys.readouterr().err == ""


MEMORY_TEST = """
import sys
import numpy as np
from koopcore import DMD, StreamingDMD, outofcore

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line)

path, order, mapped = sys.argv[1:]
how = {"shape": (2_000, 20_000), "dtype": "f4"}
if order == "F":
    how = {"shape": (20_000, 2_000), "dtype": "f4", "time_axis": 0}
source = path
if mapped == "mapped":
    source = np.memmap(path, "f4", "r", shape=how["shape"])
    how = {"time_axis": how.get("time_axis", -1)}
small = np.zeros((2_000, 40), np.float32) + np.arange(40, dtype=np.float32)
StreamingDMD(rank=2).partial_fit(small).eigenvalues  # what is loaded by then is no block
before = peak()
outofcore.feed(StreamingDMD(rank=4), source, memory=1 << 22, **how).eigenvalues
print((peak() - before) / 1024)
"""


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["file", "mapped"])
def test_resident_memory_does_not_grow_with_the_file(order, kind, tmp_path):
    path = tmp_path / "X.bin"
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for _ in range(16):  # 160 MB
            file.write(rng.standard_normal(2_500_000, dtype=np.float32).data)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_TEST, str(path), order, kind],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 40.0  # MB, of 160; blocks are two of 4
