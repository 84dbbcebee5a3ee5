"""koopcore.io: what is saved comes back, and nothing else is taken for it."""

import importlib.util
import json
import os
import stat
import sys
import types
import zipfile

import numpy as np
import pytest
from support import DTYPES, planted

from koopcore import DMD, DMDc, GroupedDMD, WindowDMD, io

needs_safetensors = pytest.mark.skipif(
    importlib.util.find_spec("safetensors") is None, reason="safetensors is not installed"
)
SUFFIXES = [".npz", pytest.param(".safetensors", marks=needs_safetensors)]
RATES = (0.97, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j))


class Record:
    """An estimator that is nothing but its state."""

    def __init__(self, metadata, arrays):
        self.metadata, self.arrays = metadata, arrays

    def _to_state(self):
        return self.metadata, self.arrays

    @classmethod
    def _from_state(cls, metadata, arrays):
        return cls(metadata, arrays)


@pytest.fixture(autouse=True)
def _known_record(monkeypatch):
    monkeypatch.setitem(sys.modules, "records", types.SimpleNamespace(Record=Record))
    monkeypatch.setitem(io.CLASSES, "Record", "records")


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"model{request.param}"


def small():
    return Record({"rank": 2}, {"x": np.arange(6.0).reshape(2, 3), "y": np.ones(2, np.complex64)})


def arrays_of_every_kind():
    rng = np.random.default_rng(0)
    big = rng.standard_normal((40, 30)) + 1j * rng.standard_normal((40, 30))
    fortran = np.asfortranarray(big)
    readonly = np.arange(3)
    readonly.flags.writeable = False
    return {
        **{dtype[1:]: big.real.astype(dtype) for dtype in io.DTYPES if "c" not in dtype},
        **{dtype[1:]: big.astype(dtype) for dtype in io.DTYPES if "c" in dtype},
        "fortran": fortran,
        "fortran float32": np.asfortranarray(big.real.astype(np.float32)),
        "sliced": big[::2, ::-3],
        "transposed slices": rng.standard_normal((4, 5, 6)).transpose(1, 0, 2)[:, 1:],
        "column": big[:, :1].copy(),
        "scalar": np.array(2.0 + 1j),
        "empty": np.empty((0, 3), np.complex64),
        "special": np.array([np.nan, -np.inf, -0.0, 5e-324]),
        "readonly": readonly,
    }


@pytest.mark.parametrize("chunk", [1, 7, io.CHUNK])
def test_load_gives_back_every_array_and_the_metadata(path, chunk, monkeypatch):
    monkeypatch.setattr(io, "CHUNK", chunk)
    metadata = {"a": 0.1, "b": [1, None, True], "c": {"d": "Köln"}, "e": 1e-300, "f": np.int64(3)}
    arrays = arrays_of_every_kind()
    io.save(path, Record(metadata, arrays))
    loaded = io.load(str(path))
    assert loaded.metadata == metadata
    assert loaded.arrays.keys() == arrays.keys()
    for key, array in arrays.items():
        back = loaded.arrays[key]
        assert (back.dtype, back.shape) == (array.dtype, array.shape), key
        assert back.tobytes() == array.tobytes(), key
        if array.flags.f_contiguous:
            assert back.flags.f_contiguous, key  # so that BLAS takes the same path and rounds alike


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_loaded_dmd_gives_the_same_numbers(path, dtype, order):
    model = DMD(rank=3, dt=0.1, opt=True).fit(np.asarray(planted(RATES, dtype=dtype), order=order))
    io.save(path, model)
    loaded = io.load(path)
    assert type(loaded) is DMD
    for name in ("eigenvalues", "singular_values", "modes", "amplitudes", "dynamics", "frequency"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name), err_msg=name)
        assert getattr(loaded, name).dtype == getattr(model, name).dtype
    np.testing.assert_array_equal(loaded.forecast([0.5, 3]), model.forecast([0.5, 3]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_loaded_grouped_and_driven_fits_give_the_same_numbers(path, dtype):
    X, u = planted(RATES, dtype=dtype), np.random.default_rng(0).standard_normal((2, 15))
    grouped = GroupedDMD(np.int64(2), delays=2).fit(X, segments=[(20, 30), (0, 7)])
    io.save(path, grouped)
    loaded = io.load(path)
    np.testing.assert_array_equal(loaded.segments, grouped.segments)
    np.testing.assert_array_equal(loaded.forecast([0.5, 3]), grouped.forecast([0.5, 3]))
    for known in (None, np.ones((len(X), 2), dtype)):
        driven = DMDc(svd_rank=3, dt=0.1).fit(X, u, known)
        io.save(path, driven)
        loaded = io.load(path)
        for name in ("eigenvalues", "omega", "modes", "B", "A_reduced"):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(driven, name))
        np.testing.assert_array_equal(loaded.forecast(u), driven.forecast(u))
        assert loaded.B.dtype == dtype


def test_same_model_makes_the_same_file(path):
    io.save(path, small())
    first = path.read_bytes()
    io.save(path, small())
    assert path.read_bytes() == first


def test_npz_opens_in_numpy_without_pickle(tmp_path):
    io.save(tmp_path / "m.npz", small())
    with np.load(tmp_path / "m.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["x"], small().arrays["x"])
    with zipfile.ZipFile(tmp_path / "m.npz") as archive:
        document = json.loads(archive.read("koopcore.json"))
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert document["class"] == "Record"
    assert len(document["checksum"]) == 64


def test_safetensors_opens_in_its_own_package(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    io.save(tmp_path / "m.safetensors", small())
    arrays = safetensors.load_file(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(arrays["x"], small().arrays["x"])
    np.testing.assert_array_equal(arrays["y"], [[1, 0], [1, 0]])


def test_save_leaves_one_file_with_the_users_permissions(path):
    umask = os.umask(0o027)
    try:
        io.save(path, small())
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == [path.name]


def test_save_through_a_link_replaces_the_file_and_keeps_the_link(path, tmp_path):
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / path.name
    path.symlink_to(real)
    io.save(path, small())
    assert path.is_symlink()
    assert not real.is_symlink()
    assert io.load(real).metadata == {"rank": 2}


def fail(*_args, **_options):
    raise OSError("disk full")


@pytest.mark.parametrize("step", ["fsync", "replace", "write", "chmod"])
def test_save_that_fails_leaves_the_old_file_alone(path, step, monkeypatch):
    io.save(path, Record({"old": True}, {}))
    before = path.read_bytes()
    if step == "write":
        container = io._container(path)

        def half(temporary, text, arrays):
            container.write(temporary, text, arrays)
            temporary.write_bytes(temporary.read_bytes()[:40])
            fail()

        monkeypatch.setattr(io, "_container", lambda path: container._replace(write=half))
    elif step == "chmod":
        monkeypatch.setattr("pathlib.Path.chmod", fail)
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        io.save(path, small())
    monkeypatch.undo()
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == before


def test_save_syncs_the_file_before_its_new_name_and_the_folder_after(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(handle):
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def spy_replace(source, target):
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    io.save(path, small())
    assert calls[-3:] == ["file", "replace", "folder"]


def test_every_flipped_byte_is_found_or_does_not_matter(path):
    io.save(path, small())
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            loaded = io.load(path)
        except ValueError:
            refused += 1
        else:  # a date in the archive, say
            assert loaded.metadata == small().metadata
            for key, array in small().arrays.items():
                np.testing.assert_array_equal(loaded.arrays[key], array)
    assert refused > 0.6 * len(whole)


def test_every_truncation_is_found(path):
    io.save(path, small())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="truncated or damaged"):
            io.load(path)


def rewritten(path, members=(), **changes):
    """Write a small model with a changed document or changed members, as only zip sees them."""
    io.save(path, small())
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["koopcore.json"] = json.dumps(json.loads(content["koopcore.json"]) | changes).encode()
    content |= dict(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


def npy(array, tmp_path):
    np.save(tmp_path / "array.npy", array, allow_pickle=True)
    return (tmp_path / "array.npy").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not a koopcore file: its format is not 'koopcore model'"),
        ({"version": io.VERSION + 1}, r"format version \d+ .* reads up to version \d+: upgrade"),
        ({"version": "1"}, "there is no format version '1'"),
        ({"version": 0}, "there is no format version 0"),
        ({"metadata": {"rank": 3}}, "SHA-256 checksum does not match"),
        ({"class": "DMD"}, "SHA-256 checksum does not match"),
        ({"class": None}, "lacks 'class' as a str"),
        ({"arrays": {"x": {}}}, "says of array 'x' only {}"),
        ({"checksum": None}, "SHA-256 checksum does not match"),
    ],
)
def test_load_refuses_a_changed_document(tmp_path, changes, message):
    path = tmp_path / "m.npz"
    rewritten(path, **changes)
    with pytest.raises(ValueError, match=message):
        io.load(path)


def test_load_refuses_changed_missing_and_pickled_arrays(tmp_path):
    path = tmp_path / "m.npz"
    x = small().arrays["x"]
    for member, message in {
        None: "array 'x' is missing",
        npy(x + 1, tmp_path): "SHA-256 checksum does not match",
        npy(x.T, tmp_path): r"array 'x' is not .*\[2, 3\]",
        npy(x.astype(np.float32), tmp_path): "array 'x' is not .*<f8",
        npy(np.array([print], dtype=object), tmp_path): "allow_pickle=False",
        b"text": "not a koopcore file, truncated or damaged",
    }.items():
        rewritten(path, {"x.npy": member})
        with pytest.raises(ValueError, match=message):
            io.load(path)


def test_load_refuses_a_missing_or_changed_tensor(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    package = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "m.safetensors"
    io.save(path, small())
    with safetensors.safe_open(path, framework="np") as stream:
        metadata = stream.metadata()
    arrays = package.load_file(path)
    for changed, message in [
        ({"x": arrays["x"]}, "array 'y' is missing"),
        (arrays | {"x": arrays["x"] + 1}, "SHA-256 checksum does not match"),
        (arrays | {"y": arrays["x"]}, "damaged"),
    ]:
        package.save_file(changed, path, metadata=metadata)
        with pytest.raises(ValueError, match=message):
            io.load(path)
    package.save_file(arrays, path)
    with pytest.raises(ValueError, match="no key 'koopcore'"):
        io.load(path)


def test_load_refuses_files_of_others(path):
    for content in (b"", b"text", b"PK\x03\x04", b"\x93NUMPY", os.urandom(3000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a koopcore file"):
            io.load(path)


def test_load_refuses_an_archive_of_numpy(tmp_path):
    np.savez(tmp_path / "m.npz", x=np.ones(3))
    with pytest.raises(ValueError, match=r"not a koopcore file.* no member koopcore\.json"):
        io.load(tmp_path / "m.npz")


def test_load_of_an_unknown_class_names_the_known_ones(path, monkeypatch):
    io.save(path, small())
    monkeypatch.delitem(io.CLASSES, "Record")
    with pytest.raises(ValueError, match=r"holds a 'Record'.* it loads DMD"):
        io.load(path)


@pytest.mark.parametrize("name", ["model", "model.pkl", "model.npz.gz", "model.npy"])
def test_another_suffix_is_an_error_that_names_the_right_ones(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in \.npz or \.safetensors"):
        io.save(tmp_path / name, small())
    with pytest.raises(ValueError, match=r"must end in \.npz or \.safetensors"):
        io.load(tmp_path / name)
    assert not os.listdir(tmp_path)


def test_save_refuses_what_load_could_not_build(path):
    class Derived(DMD):
        pass

    impostor = type("WindowDMD", (), {})
    assert impostor is not WindowDMD
    for model in (Derived(), impostor(), np.ones(3)):
        with pytest.raises(TypeError, match="only these can be saved: DMD"):
            io.save(path, model)
    assert not os.listdir(path.parent)


def test_save_refuses_values_that_a_file_cannot_hold(path):
    for array in (np.array([None]), np.array(["a"]), np.ones(2, np.float16), np.ones(2, ">f8")):
        with pytest.raises(TypeError, match="array 'x' has dtype"):
            io.save(path, Record({}, {"x": array}))
    with pytest.raises(TypeError, match=r"metadata hold .* set"):
        io.save(path, Record({"a": {1, 2}}, {}))
    assert not os.listdir(path.parent)


def test_missing_file_and_missing_folder_are_named(path):
    with pytest.raises(FileNotFoundError, match=path.name):
        io.load(path)
    with pytest.raises(FileNotFoundError, match="its folder does not exist"):
        io.save(path.parent / "no" / path.name, small())


def test_missing_safetensors_is_an_import_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda p: io.save(p, small()), io.load):
        with pytest.raises(ImportError, match="pip install safetensors"):
            call(tmp_path / "m.safetensors")
    io.save(tmp_path / "m.npz", small())
    assert io.load(tmp_path / "m.npz").metadata == {"rank": 2}
