"""Opening what holds snapshots: .npy, raw, HDF5 and zarr files, datasets, mapped arrays."""

from __future__ import annotations

import importlib
import math
import mmap
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from koopcore._sources import FileSource, IndexedSource, Source, checked_axis, mapping_of

HDF5 = (".h5", ".hdf5", ".hdf", ".nc")


def open_source(
    source: Any,
    *,
    dataset: str | None = None,
    dtype: DTypeLike | None = None,
    shape: Sequence[int] | None = None,
    offset: int = 0,
    time_axis: int = -1,
    as_type: DTypeLike | None = None,
) -> Source:
    """Open a file, or take an array; see `koopcore.outofcore.blocks`."""
    options: dict[str, Any] = {"time_axis": time_axis, "as_type": as_type}
    if isinstance(source, Source):
        return source
    if not isinstance(source, (str, os.PathLike)):
        if not all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
            raise TypeError(
                f"source is a {type(source).__name__}, which can be read once and forward only; "
                "here it must be a file, an array or a dataset"
            )
        return _array(source, options)
    path = os.fspath(source)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path!r}")
    suffix = Path(path).suffix.lower()
    if dtype is None and shape is None:
        if suffix in HDF5:
            return _hdf5(path, dataset, options)
        if os.path.isdir(path) or ".zarr" in Path(path).name:
            return _zarr(path, dataset, options)
        if suffix == ".npy":
            return _npy(path, options)
    if os.path.isdir(path):
        raise ValueError(f"{path!r} is a folder: dtype and shape are for raw binary files")
    return _raw(path, dtype, shape, offset, options)


def _array(data: Any, options: dict[str, Any]) -> Source:
    name = getattr(data, "filename", None) or getattr(data, "name", None) or type(data).__name__
    base = mapping_of(data)
    if base is None or data.size == 0 or data.ndim < 2 or not os.path.exists(str(name)):
        return IndexedSource(data, str(name), **options)
    # The file is read rather than the map, whose pages would count as this process' memory.
    map_begins = np.frombuffer(base, np.uint8).ctypes.data
    offset = data.offset - data.offset % mmap.ALLOCATIONGRANULARITY
    offset += data.ctypes.data - map_begins
    return _ordered(str(name), data, offset, options)


def _ordered(path: str, data: NDArray[Any], offset: int, options: dict[str, Any]) -> Source:
    """Read the file behind a mapped array where it holds the entries in one of both orders."""
    if data.flags.c_contiguous:
        return FileSource(path, data.dtype, data.shape, offset=offset, **options)
    if data.ndim > 2 or not data.flags.f_contiguous:
        return IndexedSource(data, path, **options)
    turned = {**options, "time_axis": -1 if checked_axis(path, options["time_axis"], 2) == 0 else 0}
    return FileSource(path, data.dtype, data.shape[::-1], offset=offset, **turned)


def _npy(path: str, options: dict[str, Any]) -> Source:
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise ValueError(f"{path!r} is no .npy file, or it was cut short: {error}") from error
    if mapped.size == 0:
        raise ValueError(f"{path!r} has shape {mapped.shape}: it is empty")
    checked_axis(path, options["time_axis"], mapped.ndim)
    return _ordered(path, mapped, mapped.offset, options)


def _raw(
    path: str,
    dtype: DTypeLike | None,
    shape: Sequence[int] | None,
    offset: int,
    options: dict[str, Any],
) -> Source:
    if dtype is None or shape is None:
        raise ValueError(
            f"{path!r} is neither .npy, HDF5 ({', '.join(HDF5)}) nor zarr: of a raw binary file "
            "say dtype= and shape="
        )
    kind, sides = np.dtype(dtype), [operator.index(side) for side in shape]
    size = os.path.getsize(path) - offset
    if sides.count(-1) == 1:  # as many as the file holds
        others = math.prod(side for side in sides if side != -1) * kind.itemsize
        if others > 0 and size > 0 and size % others == 0:
            sides[sides.index(-1)] = size // others
    if min(sides, default=0) < 1 or math.prod(sides) * kind.itemsize != size:
        raise ValueError(
            f"{path!r} has {size} bytes after offset={offset}; shape={tuple(shape)} of {kind} "
            f"does not fill them ({kind.itemsize} bytes a number): {size / kind.itemsize:g} numbers"
        )
    return FileSource(path, kind, tuple(sides), offset=offset, **options)


def _package(name: str, path: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{path!r} needs the package {name}; install it with pip install "koopcore[{extra}]"'
        ) from error


def _hdf5(path: str, dataset: str | None, options: dict[str, Any]) -> Source:
    h5py = _package("h5py", path, "hdf5")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path!r} is no HDF5 file, or damaged: {error}") from error
    try:
        found: dict[str, Any] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = item

        file.visititems(note)
        data = _chosen(path, dataset, found)
        return IndexedSource(data, f"{path}:{data.name}", close=file.close, **options)
    except Exception:
        file.close()
        raise


def _zarr(path: str, dataset: str | None, options: dict[str, Any]) -> Source:
    zarr = _package("zarr", path, "zarr")
    try:
        node = zarr.open(path, mode="r")
    except Exception as error:  # zarr's own kinds differ between its versions
        raise ValueError(f"{path!r} is no zarr array or group: {error}") from error
    if not hasattr(node, "shape"):
        members = node.members(max_depth=None)
        node = _chosen(path, dataset, {k: v for k, v in members if hasattr(v, "shape")})
    return IndexedSource(node, f"{path}:{node.name}", **options)


def _chosen(path: str, dataset: str | None, found: dict[str, Any]) -> Any:
    """Return the dataset of that name, or the only one that can hold snapshots."""
    if dataset is not None:
        dataset = dataset.strip("/")
        if dataset not in found:
            raise ValueError(
                f"{path!r} has no dataset {dataset!r}; it has {', '.join(found) or 'none'}"
            )
        return found[dataset]
    able = [name for name, item in found.items() if len(item.shape) > 1]
    if len(able) != 1:
        raise ValueError(
            f"{path!r} has {len(able)} datasets of 2 or more dimensions "
            f"({', '.join(able) or 'none'}): say which with dataset="
        )
    return found[able[0]]
