"""Where snapshots lie that memory does not hold: files, datasets and arrays, read by ranges."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from koopcore._arrays import DTYPES

Range = tuple[int, int]
BAND = 1 << 26  # bytes of a mapped file that a copy may touch before they are given back
READABLE = "fiubc"  # kinds of numbers


class Source:
    """A matrix of snapshots (n_features, n_snapshots) that lies elsewhere.

    Attributes
    ----------
    name : str
        How messages call it.
    dtype : numpy.dtype
        Of what `read` gives.
    grid : tuple of int
        Shape of one snapshot.
    n_features, n_snapshots : int
    first : int
        Which snapshot of the file is the first one.
    time_first : bool
        Whether the numbers of one snapshot lie together, rather than those of one feature.
    chunk : (int, int)
        Features and snapshots that are cheapest read together.
    """

    def __init__(
        self, name: str, stored: np.dtype[Any], as_type: DTypeLike | None, grid: Sequence[int]
    ) -> None:
        self.name, self.grid = name, tuple(int(side) for side in grid)
        self.dtype = _type_to_give(name, stored, as_type)
        self.n_features = math.prod(self.grid)
        self.n_snapshots = 0
        self.first = 0
        self.time_first = True
        self.chunk = (1, 1)

    def read(self, rows: Range, columns: Range, out: NDArray[Any]) -> None:
        """Read a range of features of a range of snapshots into `out`, of that shape."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what was opened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def empty(self, rows: int, columns: int) -> NDArray[Any]:
        """Memory for a block, in the order of the source."""
        if self.time_first:
            return np.empty((columns, rows), self.dtype).T
        return np.empty((rows, columns), self.dtype)

    def whole(self) -> NDArray[Any]:
        """Return all of it as one array: for what is small."""
        out = self.empty(self.n_features, self.n_snapshots)
        self.read((0, self.n_features), (0, self.n_snapshots), out)
        return out


class FileSource(Source):
    """Numbers in a file, one after the other: the last axis of `shape` runs fastest."""

    def __init__(
        self,
        path: str,
        stored: np.dtype[Any],
        shape: tuple[int, ...],
        *,
        time_axis: int,
        offset: int = 0,
        as_type: DTypeLike | None = None,
    ) -> None:
        time_axis = checked_axis(path, time_axis, len(shape))
        super().__init__(path, stored, as_type, shape[1:] if time_axis == 0 else shape[:-1])
        self.n_snapshots = shape[0] if time_axis == 0 else shape[-1]
        self.time_first = time_axis == 0
        self._stored, self._offset = stored, offset
        self._scratch = np.empty(0, stored)
        self._file = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()

    def read(self, rows: Range, columns: Range, out: NDArray[Any]) -> None:
        """Read a range: in one go where it lies in one piece, otherwise piece by piece."""
        outer, inner = (columns, rows) if self.time_first else (rows, columns)
        target = out.T if self.time_first else out
        direct = target.flags.c_contiguous and target.dtype == self._stored
        place = target if direct else self._place(target.shape)
        length = self.n_features if self.time_first else self.n_snapshots
        size = self._stored.itemsize
        view = place.reshape(-1).view(np.uint8).data
        if inner == (0, length):
            self._fill(view, self._offset + outer[0] * length * size)
        else:
            piece = (inner[1] - inner[0]) * size
            at = self._offset + (outer[0] * length + inner[0]) * size
            for i in range(outer[1] - outer[0]):
                self._fill(view[i * piece : (i + 1) * piece], at + i * length * size)
        if not direct:
            np.copyto(target, place, casting="same_kind")

    def _place(self, shape: tuple[int, ...]) -> NDArray[Any]:
        count = math.prod(shape)
        if len(self._scratch) < count:
            self._scratch = np.empty(count, self._stored)
        return self._scratch[:count].reshape(shape)

    def _fill(self, view: memoryview, at: int) -> None:
        while len(view):
            count = os.preadv(self._file, [view], at)
            if count == 0:
                raise ValueError(f"{self.name!r} ended at byte {at}: it was cut while being read")
            view, at = view[count:], at + count


class IndexedSource(Source):
    """Anything with shape, dtype and slices: memory-mapped arrays, HDF5 and zarr datasets."""

    def __init__(
        self,
        data: Any,
        name: str,
        *,
        time_axis: int,
        as_type: DTypeLike | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        shape = tuple(int(side) for side in data.shape)
        time_axis = checked_axis(name, time_axis, len(shape))
        super().__init__(
            name, np.dtype(data.dtype), as_type, shape[1:] if time_axis == 0 else shape[:-1]
        )
        self._time_is_first_axis = time_axis == 0
        self.n_snapshots = shape[time_axis]
        self._data, self._close = data, close
        self._row_unit = math.prod(self.grid[1:])
        chunks = getattr(data, "chunks", None)
        self.time_first = self._time_is_first_axis
        if isinstance(data, np.ndarray):
            strides = np.abs(data.strides)
            self.time_first = bool(strides[time_axis] >= strides.max())
        elif chunks is not None:
            rows = chunks[1] if self._time_is_first_axis else chunks[0]
            self.chunk = (int(rows) * self._row_unit, int(chunks[time_axis]))
            self.time_first = self.chunk[1] < self.n_snapshots or self.chunk[0] >= self.n_features
        self._map = mapping_of(data)

    def close(self) -> None:
        """Close the file behind it, if it was opened here."""
        if self._close is not None:
            self._close()

    def read(self, rows: Range, columns: Range, out: NDArray[Any]) -> None:
        """Read a range by slices; pages of a mapped file are given back in between."""
        if self._map is None:
            self._copy(rows, columns, out)
            return
        step = rows[1] - rows[0]
        if not self.time_first:
            step = max(1, BAND // max(map(abs, self._data.strides)))
        for first in range(*rows, step):
            stop = min(first + step, rows[1])
            self._copy((first, stop), columns, out[first - rows[0] : stop - rows[0]])
            self._map.madvise(mmap.MADV_DONTNEED)

    def _copy(self, rows: Range, columns: Range, out: NDArray[Any]) -> None:
        if len(self.grid) == 1:
            first, stop, skip = *rows, 0
        else:  # whole slices of the first axis of space
            unit = self._row_unit
            first, stop = rows[0] // unit, -(-rows[1] // unit)
            skip = rows[0] - first * unit
        count, width = rows[1] - rows[0], columns[1] - columns[0]
        if self._time_is_first_axis:
            found = np.asarray(self._data[columns[0] : columns[1], first:stop])
            found = found.reshape(width, -1)[:, skip : skip + count].T
        else:
            found = np.asarray(self._data[first:stop, ..., columns[0] : columns[1]])
            found = found.reshape(-1, width)[skip : skip + count]
        np.copyto(out, found, casting="same_kind")


class PartSource(Source):
    """Some successive snapshots of another source."""

    def __init__(self, whole: Source, first: int, stop: int) -> None:
        super().__init__(whole.name, whole.dtype, None, whole.grid)
        self.first, self.n_snapshots = first, stop - first
        self.time_first, self.chunk, self._whole = whole.time_first, whole.chunk, whole

    def read(self, rows: Range, columns: Range, out: NDArray[Any]) -> None:
        """Read a range of the part."""
        self._whole.read(rows, (columns[0] + self.first, columns[1] + self.first), out)

    def close(self) -> None:
        """Close the source it is a part of."""
        self._whole.close()


def mapping_of(data: Any) -> mmap.mmap | None:
    """Find the map behind an array whose pages may be given back: changes are in the file."""
    if isinstance(data, np.memmap) and data.mode in ("r", "r+", "w+"):
        base: Any = data
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
            return base
    return None


def checked_axis(name: str, time_axis: int, ndim: int) -> int:
    """Return the axis that counts the snapshots, 0 or ndim - 1."""
    if ndim < 2:
        raise ValueError(
            f"{name!r} has {ndim} dimension; snapshots need 2 or more: one of time and the state's"
        )
    if time_axis not in (0, -1, ndim - 1):
        raise ValueError(
            f"time_axis={time_axis!r} of {name!r} with {ndim} dimensions must be the first "
            "(0) or the last (-1)"
        )
    return 0 if time_axis == 0 else ndim - 1


def _type_to_give(name: str, stored: np.dtype[Any], as_type: DTypeLike | None) -> np.dtype[Any]:
    native = stored.newbyteorder("=")
    if stored.kind not in READABLE or stored.names is not None:
        raise TypeError(f"{name!r} holds {stored}, which are no numbers")
    wanted = native if as_type is None else np.dtype(as_type)
    if wanted not in DTYPES:
        said = f"{name!r} holds {stored}" if as_type is None else f"as_type={as_type!r}"
        raise TypeError(
            f"{said}; koopcore works on float32 or float64: have the numbers converted while "
            "they are read, with as_type='float32'"
        )
    if native.kind == "c" and wanted.kind != "c":
        raise TypeError(f"{name!r} holds {stored}: as_type={as_type!r} would drop imaginary parts")
    return wanted
