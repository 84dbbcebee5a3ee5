"""Where the snapshots of a window lie: in memory or in a file, in full or in bfloat16."""

from __future__ import annotations

import errno
import os

import numpy as np

from koopcore import _core
from koopcore._segments import StateShape

Buffer = _core.SnapshotWindow32 | _core.SnapshotWindow64


def checked_storage(storage: object) -> str | None:
    """Return None or "bfloat16", or raise ValueError."""
    if storage is not None and storage != "bfloat16":
        raise ValueError(f'storage={storage!r} must be None or "bfloat16"')
    return None if storage is None else "bfloat16"


def checked_folder(memory_map: object) -> str | None:
    """Return an absolute path: the working folder may change before the first snapshot comes."""
    if memory_map is None:
        return None
    if not isinstance(memory_map, str | os.PathLike):
        raise TypeError(f"memory_map={memory_map!r} must be None or the path of a folder")
    path = os.path.abspath(os.fspath(memory_map))
    if not os.path.isdir(path):
        code = errno.ENOTDIR if os.path.exists(path) else errno.ENOENT
        raise OSError(  # by its number, Python makes FileNotFoundError or NotADirectoryError of it
            code,
            f"memory_map={memory_map!r} must be a folder with room for (window + 1) states: "
            f"{os.strerror(code)}",
        )
    return path


def new_buffer(
    shape: StateShape, window: int, storage: str | None, memory_map: str | None
) -> Buffer:
    """Make room for snapshots of a shape."""
    single = shape.dtype == np.float32
    if storage is not None and not single:
        raise TypeError(
            f"storage={storage!r} is for float32 states, got {shape.dtype}: convert them with "
            "astype(numpy.float32), or leave storage=None"
        )
    kind = _core.SnapshotWindow32 if single else _core.SnapshotWindow64
    return kind(shape.sizes, window, bfloat16=storage is not None, memory_map=memory_map or "")
