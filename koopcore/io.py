"""Save and load: fitted estimators in one checked file, without pickle.

Both kinds of file hold the arrays and one JSON document: format, format version, class, metadata,
dtype and shape of every array, and a SHA-256 checksum of all of it. A `.npz` is an ordinary NumPy
archive whose member `koopcore.json` is the document. A `.safetensors` file keeps the document
under `koopcore` in its own metadata; a complex array is stored as real pairs on a last axis of
length 2, and an array in Fortran order as its transpose.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import secrets
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from koopcore._core import __version__

FORMAT = "koopcore model"
VERSION = 1  # of the file format
DOCUMENT = "koopcore.json"
# Only these are ever imported or built by `load`, each when a file names it.
CLASSES = {
    "DMD": "koopcore.dmd",
    "DMDc": "koopcore.control",
    "GroupedDMD": "koopcore.grouped",
    "WindowDMD": "koopcore.streaming",
    "StreamingDMD": "koopcore.streaming_dmd",
    "StreamingSVD": "koopcore.streaming_svd",
}
DTYPES = ("<f4", "<f8", "<c8", "<c16", "<i4", "<i8", "|u1", "|b1")
CHUNK = 1 << 22  # elements copied at a time where an array is not contiguous
# What the standard library and NumPy raise on bytes that `save` did not write.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OverflowError,
    RuntimeError,
    struct.error,
)

Arrays = dict[str, NDArray[Any]]
Document = dict[str, Any]


def save(path: str | os.PathLike[str], model: Any) -> None:
    """Save an estimator to a file that `load` reads back.

    The file appears whole or not at all: it is written beside `path` under another name, brought to
    the disk, and then takes the place of what was there. Arrays are hashed and written where they
    lie; only one that is contiguous in neither order is copied, for `.safetensors`.

    Parameters
    ----------
    path : str or path-like
        Ends in `.npz`, or in `.safetensors` (needs the package of that name).
    model : DMD, DMDc, GroupedDMD or WindowDMD
        The estimator.

    Raises
    ------
    TypeError
        If `model` is of another class, also one derived from these.
    ValueError
        If `path` ends otherwise.
    FileNotFoundError
        If the folder of `path` does not exist.
    ImportError
        If `path` ends in `.safetensors` and that package is missing.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from koopcore import DMD
    >>> from koopcore.io import load, save
    >>> model = DMD(rank=1).fit(np.outer([1.0, 2.0], 0.5 ** np.arange(6)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/model.npz", model)
    ...     print(load(f"{folder}/model.npz").eigenvalues.real.round(6))
    [0.5]
    """
    container = _container(path)
    name = type(model).__name__
    if name not in CLASSES or _class(name) is not type(model):
        raise TypeError(f"model is a {name}; only these can be saved: {', '.join(CLASSES)}")
    metadata, arrays = model._to_state()
    for key, array in arrays.items():
        if array.dtype.str not in DTYPES:
            raise TypeError(f"array {key!r} has dtype {array.dtype}; files hold {DTYPES}")
    document: Document = {
        "format": FORMAT,
        "version": VERSION,
        "koopcore": __version__,
        "class": name,
        "metadata": metadata,
        "arrays": {key: _description(array) for key, array in arrays.items()},
    }
    document["checksum"] = _checksum(document, arrays)
    text = json.dumps(document, default=_plain)
    # Through links, so that a linked file is replaced and not its link.
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot save {os.fspath(path)!r}: its folder does not exist")
    _replace(target, lambda temporary: container.write(temporary, text, arrays))


def load(path: str | os.PathLike[str]) -> Any:
    """Load an estimator that `save` wrote.

    Parameters
    ----------
    path : str or path-like
        Ends in `.npz` or `.safetensors`.

    Returns
    -------
    DMD, DMDc, GroupedDMD or WindowDMD
        The estimator, with the results it had, as NumPy arrays.

    Raises
    ------
    ValueError
        If the file is none of koopcore's, is truncated or altered, lacks an array, or was written
        in a newer format or for a class that this koopcore does not know.
    FileNotFoundError
        If there is no such file.
    ImportError
        If `path` ends in `.safetensors` and that package is missing.
    """
    container = _container(path)
    where = os.fspath(path)
    with _reading(where):
        document = json.loads(container.read_document(where))
    _check_document(where, document)
    with _reading(where):
        arrays = container.read_arrays(where, document["arrays"])
    for key, entry in document["arrays"].items():
        if key not in arrays:
            raise ValueError(f"{where!r} is damaged: array {key!r} is missing")
        if _description(arrays[key]) != entry:
            raise ValueError(f"{where!r} is damaged: array {key!r} is not {entry}, as it should be")
    if _checksum(document, arrays) != document.get("checksum"):
        raise ValueError(
            f"{where!r} is damaged: its SHA-256 checksum does not match; get a fresh copy"
        )
    name = document["class"]
    if name not in CLASSES:
        raise ValueError(
            f"{where!r} holds a {name!r}, which koopcore {__version__} does not know; it loads "
            f"{', '.join(CLASSES)}"
        )
    return _class(name)._from_state(document["metadata"], arrays)


def _class(name: str) -> Any:
    return getattr(importlib.import_module(CLASSES[name]), name)


@contextmanager
def _reading(where: str) -> Iterator[None]:
    try:
        yield
    except (*UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a seek to nowhere
            raise
        raise ValueError(
            f"{where!r} is not a koopcore file, truncated or damaged: {error}"
        ) from error


def _check_document(where: str, document: Any) -> None:
    """Judge the version before anything that another version may change."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{where!r} is not a koopcore file: its format is not {FORMAT!r}")
    version = document.get("version")
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"{where!r} is damaged: there is no format version {version!r}")
    if version > VERSION:
        raise ValueError(
            f"{where!r} has format version {version} of koopcore {document.get('koopcore')}; "
            f"koopcore {__version__} reads up to version {VERSION}: upgrade koopcore"
        )
    for key, kind in {"class": str, "metadata": dict, "arrays": dict}.items():
        if not isinstance(document.get(key), kind):
            raise ValueError(f"{where!r} is damaged: it lacks {key!r} as a {kind.__name__}")
    for key, entry in document["arrays"].items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "order"}:
            raise ValueError(f"{where!r} is damaged: it says of array {key!r} only {entry!r}")


def _is_transposed(array: NDArray[Any]) -> bool:
    """Whether the memory holds the transpose in C order: then so does the file."""
    return array.flags.f_contiguous and not array.flags.c_contiguous


def _description(array: NDArray[Any]) -> dict[str, Any]:
    order = "F" if _is_transposed(array) else "C"
    return {"dtype": array.dtype.str, "shape": list(array.shape), "order": order}


def _plain(value: Any) -> Any:
    """Turn NumPy's numbers, which json does not know, into Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"metadata hold {value!r}, a {type(value).__name__}, which JSON cannot say")


def _checksum(document: Document, arrays: Arrays) -> str:
    """SHA-256 of the document and, in the order of their names, of the bytes of the arrays."""
    content = {key: value for key, value in document.items() if key != "checksum"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode())
    for key in sorted(document["arrays"]):
        for chunk in _chunks(arrays[key]):
            digest.update(chunk.data)
    return digest.hexdigest()


def _chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the elements in the order of the file: views wherever that is the memory's."""
    stored = array.T if _is_transposed(array) else array
    if stored.flags.c_contiguous:
        yield stored
        return
    step = max(1, CHUNK // stored[0].size)
    for start in range(0, len(stored), step):
        yield np.ascontiguousarray(stored[start : start + step])


def _replace(target: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target, bring that to the disk, and only then put it in its place."""
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # as the user's umask has it; safetensors makes its files private
        _sync(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(target.parent)  # the new name is on the disk only when its folder is


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Container(NamedTuple):
    """How one kind of file is written and read."""

    write: Callable[[Path, str, Arrays], None]
    read_document: Callable[[str], str]
    read_arrays: Callable[[str, Document], Arrays]


def _container(path: str | os.PathLike[str]) -> Container:
    suffix = Path(path).suffix
    if suffix == ".npz":
        return Container(_write_npz, _npz_document, _npz_arrays)
    if suffix == ".safetensors":
        _safetensors()  # tell at once when it is missing
        return Container(_write_safetensors, _safetensors_document, _safetensors_arrays)
    raise ValueError(f"path={os.fspath(path)!r} must end in .npz or .safetensors")


def _write_npz(path: Path, text: str, arrays: Arrays) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(DOCUMENT), text)  # ZipInfo: no clock time in the file
        for key, array in arrays.items():
            member = zipfile.ZipInfo(f"{key}.npy")
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def _npz_document(where: str) -> str:
    with zipfile.ZipFile(where) as archive:
        if DOCUMENT not in archive.namelist():
            raise ValueError(f"it has no member {DOCUMENT}")
        return archive.read(DOCUMENT).decode()


def _npz_arrays(where: str, entries: Document) -> Arrays:
    arrays = {}
    with zipfile.ZipFile(where) as archive:
        for key in entries:
            if f"{key}.npy" in archive.namelist():
                with archive.open(f"{key}.npy") as stream:
                    arrays[key] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def _safetensors() -> ModuleType:
    try:
        importlib.import_module("safetensors.numpy")
        return importlib.import_module("safetensors")
    except ImportError as error:
        raise ImportError(
            "a path that ends in .safetensors needs the package safetensors "
            "(pip install safetensors); one that ends in .npz needs nothing"
        ) from error


def _write_safetensors(path: Path, text: str, arrays: Arrays) -> None:
    stored = {}
    for key, array in arrays.items():
        # The package writes memory as it lies, whatever the strides say.
        array = np.asarray(array.T if _is_transposed(array) else array, order="C")
        if array.dtype.kind == "c":
            array = array[..., None].view(array.real.dtype)
        stored[key] = array
    _safetensors().numpy.save_file(stored, path, metadata={"koopcore": text})


@contextmanager
def _opened_safetensors(where: str) -> Iterator[Any]:
    package = _safetensors()
    try:
        with package.safe_open(where, framework="np") as stream:
            yield stream
    except package.SafetensorError as error:
        raise ValueError(str(error)) from error


def _safetensors_document(where: str) -> str:
    with _opened_safetensors(where) as stream:
        metadata = stream.metadata() or {}
        if "koopcore" not in metadata:
            raise ValueError("its metadata have no key 'koopcore'")
        return str(metadata["koopcore"])


def _safetensors_arrays(where: str, entries: Document) -> Arrays:
    arrays = {}
    with _opened_safetensors(where) as stream:
        for key in entries.keys() & set(stream.keys()):
            array = stream.get_tensor(key)
            if entries[key]["dtype"].startswith("<c"):
                array = array.view(entries[key]["dtype"])[..., 0]
            arrays[key] = array.T if entries[key]["order"] == "F" else array
    return arrays
