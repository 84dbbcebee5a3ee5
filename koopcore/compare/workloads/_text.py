"""The text that the transformer is trained on: where it is, and how it is read.

Apart from the workload itself, and without torch, so that the command line can say what is missing
before it imports it.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "KOOPCORE_TEXT"
LICENCES = Path("/usr/share/common-licenses")
LEAST = 50_000  # characters


def files() -> list[Path]:
    """Return the file that the environment names, else Debian's licence texts, each once."""
    if named := os.environ.get(VARIABLE):
        return [Path(named)]
    # Links, such as GPL to GPL-3, would bring a text in twice.
    texts = LICENCES.iterdir() if LICENCES.is_dir() else []
    return sorted(path for path in texts if path.is_file() and not path.is_symlink())


def missing_text() -> str | None:
    """Return how to get the text where there is none or too little of it, else None."""
    found = [path for path in files() if path.is_file()]
    size = sum(path.stat().st_size for path in found)
    if size >= LEAST:
        return None
    where = os.environ.get(VARIABLE) or LICENCES
    return (
        f"transformer needs a text of at least {LEAST:,} characters and found {size:,} bytes in "
        f"{where}; on Debian or Ubuntu the licence texts there come with the package base-files; "
        f"elsewhere set {VARIABLE} to a text file in UTF-8, such as a book"
    )


def read() -> str:
    """Return the text, the files one after the other.

    Raises
    ------
    FileNotFoundError
        If it is missing; the message says how to get it.
    ValueError
        If it is not UTF-8.
    """
    if message := missing_text():
        raise FileNotFoundError(message)
    for path in files():
        try:
            path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not a text in UTF-8: {error.reason}") from None
    return "".join(path.read_text("utf-8") for path in files())
