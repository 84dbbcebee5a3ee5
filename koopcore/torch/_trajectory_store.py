"""The zarr group behind a trajectory: made, gone on with, cut back, appended to and read.

A group of format 3 holds ``first``, the first snapshot in full; ``differences``, of shape
(n_snapshots, n_features), each snapshot minus the first; ``steps``, the optimizer step of each; and
attributes with the names and shapes of the parameters. zarr writes every key as a whole; rows count
from when their steps are there, which are written last.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 1 << 24
FORMAT = 1
MARK = "koopcore_trajectory"


class Store:
    """Rows of a trajectory on disk.

    Attributes
    ----------
    steps : ndarray of shape (n_snapshots,), int64
        Optimizer steps of the rows that are there as a whole.
    first : ndarray of shape (n_features,)
        Zeros until it is set by `begin`.
    rows : int
        Snapshots of a chunk.
    """

    def __init__(self, path: str, group: Any) -> None:
        self.path, self._group = path, group
        self._differences, self._steps = group["differences"], group["steps"]
        self.rows = int(self._differences.chunks[0])
        self.first: NDArray[Any] = group["first"][:]
        self.steps = _whole_steps(self._steps)

    @classmethod
    def create(
        cls, path: str, about: dict[str, Any], size: int, first: str, dtype: str, rows: int | None
    ) -> Store:
        """Make a group without a snapshot."""
        if os.path.exists(path):
            raise FileExistsError(
                f"path={path!r} exists already; go on with it by append=True, or give another"
            )
        entries = CHUNK_BYTES // np.dtype(dtype).itemsize
        if rows is None:
            rows = max(1, min(1000, entries // size))
        group = _zarr().create_group(path, zarr_format=3)
        group.create_array("first", shape=(size,), dtype=first)
        group.create_array(
            "differences",
            shape=(0, size),
            chunks=(rows, min(size, max(1, entries // rows))),
            dtype=dtype,
            fill_value=np.nan,
        )
        group.create_array("steps", shape=(0,), chunks=(1 << 16,), dtype="int64", fill_value=-1)
        # Last, so that what was cut short before is no trajectory yet.
        group.attrs.update({MARK: FORMAT, **about})
        return cls(path, group)

    @classmethod
    def open(cls, path: str, mode: str) -> Store:
        """Open a group that has at least one snapshot."""
        zarr = _zarr()
        if not os.path.exists(path):
            raise FileNotFoundError(f"there is no trajectory {path!r}")
        try:
            group = zarr.open_group(path, mode=mode)
        except Exception as error:  # zarr's own kinds differ between its versions
            raise ValueError(f"{path!r} is no zarr group: {error}") from error
        found = group.attrs.get(MARK)
        if found != FORMAT:
            raise ValueError(f"{path!r} is no trajectory of format {FORMAT}: {MARK} is {found!r}")
        store = cls(path, group)
        if not len(store.steps):
            raise ValueError(f"{path!r} holds no snapshot: its run ended before the first")
        return store

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters by name."""
        shapes = [tuple(shape) for shape in self._group.attrs["shapes"]]
        return dict(zip(self._group.attrs["names"], shapes, strict=True))

    def require(self, about: dict[str, Any], dtype: str) -> None:
        """Refuse to go on with a store of something else."""
        for key, value in about.items():
            if self._group.attrs[key] != value:
                raise ValueError(
                    f"path={self.path!r} holds {key} {self._group.attrs[key]}, not {value}"
                )
        if self._differences.dtype != dtype:
            raise ValueError(
                f"path={self.path!r} holds differences in {self._differences.dtype}, not "
                f"dtype={dtype!r}"
            )

    def begin(self, state: NDArray[Any]) -> None:
        """Set the first snapshot."""
        self.first[:] = state
        self._group["first"][:] = state

    def append(self, rows: NDArray[Any], steps: list[int]) -> None:
        """Write rows, and then that they are there."""
        stored, size = len(self.steps), len(self.steps) + len(steps)
        self._differences.resize((size, len(self.first)))
        self._differences[stored:] = rows
        self._steps.resize((size,))
        self._steps[stored:] = np.array(steps, np.int64)
        self.steps = np.append(self.steps, np.array(steps, np.int64))

    def drop_after(self, step: int) -> None:
        """Forget the snapshots of later steps, and rows that were cut short."""
        count = int(np.searchsorted(self.steps, step, side="right"))
        if count == 0:
            raise ValueError(
                f"start={step} is before the first snapshot of {self.path!r}, of step "
                f"{self.steps[0]}"
            )
        self._steps[count:] = -1  # a chunk that stays keeps what it has beyond the end
        self._steps.resize((count,))
        self._differences.resize((count, len(self.first)))
        self.steps = self.steps[:count]

    def states(self, chosen: slice) -> NDArray[Any]:
        """Read snapshots, in rows."""
        states = np.add(self.first, self._differences[chosen], dtype=np.float64)
        return states.astype(self.first.dtype, copy=False)


def _whole_steps(array: Any) -> NDArray[np.int64]:
    """Return the steps up to the first one that is missing."""
    steps: NDArray[np.int64] = array[:]
    return steps[: np.argmax(steps < 0)] if (steps < 0).any() else steps


def _zarr() -> Any:
    try:
        return importlib.import_module("zarr")
    except ImportError as error:
        raise ImportError(
            'trajectories need the package zarr; install it with pip install "koopcore[zarr]"'
        ) from error
