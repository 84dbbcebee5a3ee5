"""Files, datasets and iterators that do not hold snapshots are refused with what is wrong."""

import sys

import h5py
import numpy as np
import pytest
from snapshot_files import stored
from support import planted

from koopcore import DMD, StreamingSVD, outofcore


@pytest.fixture
def X():
    return planted([0.9, 0.5], n=300, m=50, dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "content", "how", "error", "message"),
    [
        ("none.npy", None, {}, FileNotFoundError, "there is no file .*none.npy"),
        ("X.npy", b"no array", {}, ValueError, r"X.npy' is no \.npy file"),
        ("X.npy", np.zeros(5), {}, ValueError, "has 1 dimension; snapshots need 2 or more"),
        ("X.npy", np.zeros((0, 5)), {}, ValueError, r"has shape \(0, 5\): it is empty"),
        ("X.npy", np.zeros((2, 5), int), {}, TypeError, "holds int64; .* as_type='float32'"),
        ("X.npy", np.zeros((2, 5), "U3"), {}, TypeError, "holds <U3, which are no numbers"),
        ("X.npy", np.zeros((2, 5)), {"as_type": "int8"}, TypeError, "as_type='int8'; koopcore"),
        (
            "X.npy",
            np.zeros((2, 5), complex),
            {"as_type": "float32"},
            TypeError,
            "as_type='float32' would drop imaginary parts",
        ),
        ("X.npy", np.zeros((2, 3, 5)), {"time_axis": 1}, ValueError, "time_axis=1 of .* must be"),
        ("X.npy", np.zeros((2, 5)), {"start": 5}, ValueError, "start, stop: 5 to 5 of 5 is not"),
        ("X.npy", np.zeros((2, 5)), {"stop": 6}, ValueError, "start, stop: 0 to 6 of 5 is not"),
        ("X.npy", np.zeros((2, 5)), {"rows": (1, 3)}, ValueError, "rows: 1 to 3 of 2 is not"),
        ("X.bin", bytes(80), {}, ValueError, "is neither .npy, HDF5 .* say dtype= and shape="),
        (
            "X.bin",
            bytes(80),
            {"dtype": "f8", "shape": (2, 6)},
            ValueError,
            r"has 80 bytes after offset=0; shape=\(2, 6\) of float64 does not fill them .* 10 num",
        ),
        ("X.bin", bytes(80), {"dtype": "f8", "shape": (3, -1)}, ValueError, "does not fill them"),
        ("X.h5", b"no HDF5", {}, ValueError, "X.h5' is no HDF5 file"),
    ],
)
def test_bad_files_are_refused_with_what_is_wrong(name, content, how, error, message, tmp_path):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=message):
        list(outofcore.blocks(path, **how))


def test_datasets_must_be_named_where_there_are_several_or_none(X, tmp_path):
    path, _ = stored(X, "zarr", tmp_path)
    with pytest.raises(ValueError, match=r"has 2 datasets .*flow/velocity.*: say which with"):
        list(outofcore.blocks(path))
    with pytest.raises(ValueError, match=r"has no dataset 'flow'; it has .*other"):
        list(outofcore.blocks(path, dataset="flow"))
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(ValueError, match=r"has 0 datasets .*\(none\)"):
        list(outofcore.blocks(tmp_path / "empty.h5"))
    (tmp_path / "folder.zarr").mkdir()
    with pytest.raises(ValueError, match="is no zarr array or group"):
        list(outofcore.blocks(tmp_path / "folder.zarr"))
    with pytest.raises(ValueError, match="is a folder"):
        list(outofcore.blocks(tmp_path, dtype="f4", shape=(2, 2)))


@pytest.mark.parametrize(("package", "suffix", "extra"), [("h5py", "h5", "hdf5"), ("zarr",) * 3])
def test_missing_package_is_named_with_the_way_to_install_it(
    package, suffix, extra, X, tmp_path, monkeypatch
):
    path, how = stored(X, suffix, tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'{package}; install .*"koopcore\[{extra}\]"'):
        list(outofcore.blocks(path, **how))
    monkeypatch.setitem(sys.modules, "tqdm", None)
    np.save(tmp_path / "X.npy", X)
    with pytest.raises(ImportError, match=r'needs tqdm; .*"koopcore\[cli\]"'):
        outofcore.feed(StreamingSVD(), tmp_path / "X.npy", progress=True)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([np.zeros(3), np.zeros(4)], "item 1 of the iterable has 4 numbers of float64, those"),
        ([np.zeros(3), np.zeros(3, np.float32)], "item 1 of the iterable has 3 numbers of float32"),
        ([np.zeros((2, 2, 2))], r"item 0 of the iterable has shape \(2, 2, 2\)"),
    ],
)
def test_uneven_items_of_an_iterable_are_refused(items, message):
    with pytest.raises(ValueError, match=message):
        list(outofcore.blocks(iter(items)))


def test_iterators_are_refused_where_the_source_is_read_twice():
    with pytest.raises(TypeError, match="source is a generator, which can be read once"):
        outofcore.fit(DMD(), (x for x in np.eye(3)))


def test_file_that_is_cut_while_it_is_read_is_noticed(X, tmp_path):
    np.save(tmp_path / "X.npy", np.asfortranarray(X))
    reading = outofcore.blocks(tmp_path / "X.npy", memory=1)
    next(reading)
    with open(tmp_path / "X.npy", "r+b") as file:
        file.truncate(20_000)
    with pytest.raises(ValueError, match="was cut while being read"):
        list(reading)
