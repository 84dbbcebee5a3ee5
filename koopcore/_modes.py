"""Files that are written piece by piece: modes, and snapshots in another order."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore._blocks import Progress, row_blocks, shown
from koopcore._sources import Source
from koopcore._stored import StoredSnapshots
from koopcore.dmd import DMD
from koopcore.io import _replace
from koopcore.streaming_dmd import StreamingDMD


def write_modes(
    path: str | os.PathLike[str],
    model: DMD | StreamingDMD,
    *,
    every: int = 1,
    progress: Progress = False,
) -> NDArray[Any]:
    """Write the modes of a model to a `.npy` file without holding them.

    Those of `koopcore.outofcore.fit` are formed by blocks of rows, in one pass over its source;
    those of a stream one by one. The file appears whole or not at all; read it with
    ``numpy.load(path, mmap_mode="r")``.

    Parameters
    ----------
    path : str or path-like
        Ends in `.npy`; the array has the shape (n_features, r) and is complex.
    model : DMD or StreamingDMD
        Fitted; its states are single arrays.
    every : int
        Which rows to return.
    progress : bool or callable
        As in `koopcore.outofcore.fit`.

    Returns
    -------
    ndarray of shape (ceil(n_features / every), r)
        Rows 0, every, 2 every, ...: for a look at states with very many numbers.
    """
    if Path(path).suffix != ".npy":
        raise ValueError(f"path={os.fspath(path)!r} must end in .npy")
    by_columns = isinstance(model, StreamingDMD)
    shape, dtype, pieces = (
        _columns(model) if isinstance(model, StreamingDMD) else _rows(model, progress)
    )
    kept: list[NDArray[Any]] = []

    def write(temporary: Path) -> None:
        first = 0
        with open(temporary, "wb") as file:
            _begin(file, dtype, shape, fortran=by_columns)
            for piece in pieces:
                file.write(np.ascontiguousarray(piece).data)
                kept.append(piece[(-first) % every :: every].copy())
                first += 0 if by_columns else len(piece)

    _replace(Path(os.path.realpath(path)), write)
    if not by_columns:
        return np.concatenate(kept)
    return np.column_stack(kept) if kept else np.empty((-(-shape[0] // every), 0), dtype)


Pieces = tuple[tuple[int, int], np.dtype[Any], Iterator[NDArray[Any]]]


def _rows(model: DMD, progress: Progress) -> Pieces:
    data, coefficients = model._data(), model._fitted().mode_coefficients()
    shape = (data.n_features, coefficients.shape[1])
    dtype = np.result_type(data.dtype, np.complex64)
    if not isinstance(data, StoredSnapshots):
        return shape, dtype, iter([np.asarray(model.modes)])
    return shape, dtype, data.combined(coefficients, progress)


def _columns(model: StreamingDMD) -> Pieces:
    with model._lock:
        if model.n_inputs:
            _, _, lift, _, _, version = model._moments()
            coefficients = lift @ model._driven().modes()
        else:
            core, lift, _, _, version = model._found()
            coefficients = lift @ core.mode_coefficients()
        state = model._shape
    assert state is not None
    if not state.single:
        raise TypeError(
            f"the states are lists of arrays of shapes {state.shapes}: take model.modes"
        )
    columns = (
        model._combine_complex(coefficients[:, [j]], version) for j in range(coefficients.shape[1])
    )
    dtype = np.result_type(state.dtype, np.complex64)
    return (state.n_features, coefficients.shape[1]), dtype, columns


def _begin(file: Any, dtype: np.dtype[Any], shape: Sequence[int], *, fortran: bool) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": fortran,
        "shape": tuple(shape),
    }
    np.lib.format.write_array_header_1_0(file, header)


def reordered(path: Path, source: Source, memory: int | None, progress: Progress) -> None:
    """Write a source to a `.npy` file in which the numbers of one snapshot lie together."""
    n, size = source.n_features, source.dtype.itemsize

    def write(temporary: Path) -> None:
        with open(temporary, "wb", buffering=0) as file, shown(progress, n, "rows") as show:
            _begin(file, source.dtype, (n, source.n_snapshots), fortran=True)
            begin = file.tell()
            file.truncate(begin + math.prod((n, source.n_snapshots, size)))
            for ((first, stop), _), block in row_blocks(source, memory):
                for j, piece in enumerate(np.ascontiguousarray(block.T)):
                    _write_at(file.fileno(), piece.data.cast("B"), begin + (j * n + first) * size)
                show(stop - first)

    _replace(path, write)


def _write_at(file: int, view: memoryview, at: int) -> None:
    while len(view):
        count = os.pwrite(file, view, at)
        view, at = view[count:], at + count
