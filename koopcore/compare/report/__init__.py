"""What a comparison leaves in its folder: the page, the tables and the pictures."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from ..results import COLUMNS, Comparison, write_atomically
from . import figure, page
from .tables import csv_table, markdown_table, terminal_table

__all__ = ["csv_table", "markdown_table", "terminal_table", "write"]

PICTURES = {"train_loss": "curves.png", "heldout_loss": "heldout.png"}


def write(comparison: Comparison, folder: Path, command: str) -> list[Path]:
    """Write ``report.html``, ``tables.md``, ``tables.csv`` and the pictures; return their paths.

    Parameters
    ----------
    comparison : Comparison
    folder : Path
        Exists.
    command : str
        What made the comparison, as it would be typed.

    Raises
    ------
    ValueError
        If the comparison has no runs beside those that tune the rivals.
    """
    if not comparison.runs:
        raise ValueError("the comparison has no runs on seeds that count; nothing to report")
    texts = {
        "report.html": page.html(comparison, command, date.today().isoformat()),
        "tables.md": markdown_table(comparison),
        "tables.csv": csv_table(comparison),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    written = [folder / name for name in texts]
    for column in COLUMNS.values():
        if any(column in run.curve for run in comparison.runs):
            figure.save_curves(comparison, folder / PICTURES[column], column)
            written.append(folder / PICTURES[column])
    return written
