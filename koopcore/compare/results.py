"""What a comparison keeps, and its file: plain data, written atomically as JSON.

JSON has no infinity, so a number that is not finite (a target never reached, a loss after
divergence) is stored as null and read back as infinity.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = "koopcore-compare/1"


@dataclass(frozen=True)
class Run:
    """One training run by one method.

    Attributes
    ----------
    curve : dict of lists
        Columns ``step``, ``step_equivalents``, ``seconds``, ``train_loss`` and, where there is
        held-out data, ``heldout_loss`` and ``heldout_accuracy``; one entry per evaluation, the
        first before any step.
    jumps : dict of lists
        The jumps taken: ``step``, ``step_equivalents``, ``horizon``, ``loss_before``,
        ``loss_after`` (both losses are trial losses).
    taken, refused, trials : int
        Jumps taken, jumps tried and refused, evaluations of the trial loss.
    overhead_seconds : float
        The part of the run's seconds that the method says was its own work.
    target, steps_to_target, seconds_to_target : float
        The training loss to reach, and the step-equivalents and seconds after which an
        evaluation first found it reached; infinity if none did.
    """

    workload: str
    optimizer: str
    method: str
    seed: int
    learning_rate: float
    curve: dict[str, list[float]]
    jumps: dict[str, list[float]]
    taken: int
    refused: int
    trials: int
    overhead_seconds: float
    target: float = math.inf
    steps_to_target: float = math.inf
    seconds_to_target: float = math.inf

    def final(self, column: str) -> float | None:
        """Return the last entry of a column of the curve, or None if there is no such column."""
        return self.curve[column][-1] if column in self.curve else None


@dataclass(frozen=True)
class Comparison:
    """All runs of one comparison, with the settings and the machine they were made on."""

    settings: dict[str, Any]
    environment: dict[str, Any]
    runs: list[Run] = field(default_factory=list)


def save(comparison: Comparison, path: Path) -> None:
    """Write the comparison to `path` as JSON; the file is either complete or not there."""
    document = {"format": FORMAT, **asdict(comparison)}
    write_atomically(path, json.dumps(_finite(document), allow_nan=False) + "\n")


def load(path: Path) -> Comparison:
    """Read a comparison written by `save`.

    Raises
    ------
    ValueError
        If the file is not a comparison in this format.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path}: format is {found!r}, expected {FORMAT!r}")
    runs = [Run(**_infinite(run)) for run in document["runs"]]
    return Comparison(document["settings"], document["environment"], runs)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary file beside it, flushed to the disk."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the results from other users
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _finite(value: Any) -> Any:
    """Return `value` with every float that is not finite replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _infinite(value: Any) -> Any:
    """Undo `_finite`: None becomes infinity."""
    if value is None:
        return math.inf
    if isinstance(value, dict):
        return {key: _infinite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_infinite(item) for item in value]
    return value
