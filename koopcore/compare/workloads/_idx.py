"""FashionMNIST's files in the IDX format: where they are, and how they are read.

Apart from the workload itself, and with NumPy alone, so that the command line can say what is
missing before it imports torch.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VARIABLE = "KOOPCORE_FASHION_MNIST"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)


def folder() -> Path:
    """Return the folder that the environment names, else that of the Debian package."""
    return Path(os.environ.get(VARIABLE) or DEBIAN_FOLDER)


def locate(name: str) -> Path | None:
    """Return the path of a file, compressed or not; None where there is neither."""
    candidates = [folder() / f"{name}.gz", folder() / name]
    return next((path for path in candidates if path.is_file()), None)


def missing_fashion_mnist() -> str | None:
    """Return which files are missing and how to get them; None where all are there."""
    missing = [name for name in FILES if locate(name) is None]
    if not missing:
        return None
    return (
        f"fashion-mnist needs {', '.join(missing)} (as they are or with .gz) in {folder()}; on "
        "Debian or Ubuntu: apt-get install dataset-fashion-mnist; elsewhere put the files of "
        f"github.com/zalandoresearch/fashion-mnist in a folder and set {VARIABLE} to it"
    )


def read(path: Path) -> NDArray[np.uint8]:
    """Return the array of bytes in an IDX file.

    Parameters
    ----------
    path : Path
        Compressed with gzip where its name ends in ``.gz``.

    Raises
    ------
    ValueError
        If the file is not of bytes in the IDX format, or not of the length that it states.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, zlib.error, gzip.BadGzipFile):
        content = b""
    known = len(content) > 4 and content[:3] == b"\x00\x00\x08"  # 8: unsigned bytes
    start = 4 + 4 * content[3] if known else 0
    if known and len(content) >= start:
        shape = np.frombuffer(content[4:start], ">u4").astype(int)
        if len(content) == start + shape.prod():
            return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    raise ValueError(f"{path} is not a whole IDX file of bytes; get it anew")
