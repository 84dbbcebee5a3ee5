"""What a comparison keeps, and its file: plain data, one JSON document per line.

A line holds all runs of one workload, optimizer and seed and is appended when they are done, so
that a comparison that was killed can go on from its file. JSON has no infinity: a number that is
not finite (a target never reached, a loss after divergence) is stored as null and read back as
infinity.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .baselines import TUNING_SEED

FORMAT = "koopcore-compare/3"

# The columns of a curve that targets are set on, by the kind of target.
COLUMNS = {"train": "train_loss", "heldout": "heldout_loss"}

Key = tuple[str, str, int, int, tuple[str, ...]]


@dataclass(frozen=True)
class Score:
    """A target and when it was reached.

    Attributes
    ----------
    target : float
        The loss to reach; infinity where the bare run diverged.
    steps, seconds : float
        Step-equivalents and seconds after which an evaluation first found it reached; infinity
        if none did.
    """

    target: float
    steps: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """One training run by one method.

    Attributes
    ----------
    budget : int
        Step-equivalents of the bare run; the others may go on somewhat longer.
    curve : dict of lists
        Columns ``step``, ``step_equivalents``, ``seconds``, ``train_loss`` and, where there is
        held-out data, ``heldout_loss`` and ``heldout_accuracy``; one entry per evaluation, the
        first before any step.
    jumps : dict of lists
        The jumps taken: ``step``, ``step_equivalents``, ``horizon``, ``loss_before``,
        ``loss_after`` (both losses are trial losses).
    taken, refused, trials : int
        Jumps taken, jumps tried and refused, evaluations of the trial losses.
    overhead_seconds : float
        The part of the run's seconds that the method says was its own work.
    scores : dict of str to Score
        By target: ``train@75``, ``train@100``, and with held-out data ``heldout@75`` and
        ``heldout@100``; see `protocol`.
    violations : list of str
        What the harness caught the method at, or the error it stopped with; a run with any is
        scored infinity everywhere.
    spectra : dict of lists
        Eigenvalues of some of the method's fits, per step: ``step``, ``real`` and ``imag`` (lists
        of numbers), one entry per fit; empty where there are none.
    """

    workload: str
    optimizer: str
    method: str
    seed: int
    learning_rate: float
    budget: int
    curve: dict[str, list[float]]
    jumps: dict[str, list[float]]
    taken: int
    refused: int
    trials: int
    overhead_seconds: float
    scores: dict[str, Score] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    spectra: dict[str, list[Any]] = field(default_factory=dict)

    def final(self, column: str) -> float | None:
        """Return a column's last entry within the budget, or None if there is no such column."""
        if column not in self.curve:
            return None
        within = bisect_right(self.curve["step_equivalents"], self.budget)
        return self.curve[column][within - 1]


@dataclass(frozen=True)
class Record:
    """All runs of one workload, optimizer and seed, made in turn in one process; bare is first."""

    workload: str
    optimizer: str
    seed: int
    budget: int
    methods: tuple[str, ...]
    title: str
    evaluate_every: int
    environment: dict[str, Any]
    runs: list[Run]

    @property
    def key(self) -> Key:
        """What the record is a record of."""
        return self.workload, self.optimizer, self.seed, self.budget, self.methods


@dataclass(frozen=True)
class Comparison:
    """The records of one comparison."""

    records: Sequence[Record]

    @property
    def compared(self) -> list[Record]:
        """The records without those that only served to tune the rivals."""
        return [record for record in self.records if record.seed != TUNING_SEED]

    @property
    def runs(self) -> list[Run]:
        """The runs of `compared`, in order."""
        return [run for record in self.compared for run in record.runs]


class WrongResultsError(ValueError):
    """A file that is no comparison, or one that cannot be gone on with."""


class Store:
    """The file of a comparison while it runs, closed to other runs; a context manager.

    Parameters
    ----------
    path : Path or None
        None keeps nothing on disk.
    resume : bool
        Keep what the file holds, in `done`. A last line that was cut off by a kill is dropped.
        Without it, a file that is there is kept as ``previous.jsonl`` beside the new one.

    Raises
    ------
    ValueError
        If the file to resume is not a comparison in this format, or one by other versions.
    BlockingIOError
        If another run is writing to the folder.
    """

    def __init__(self, path: Path | None, resume: bool = False) -> None:
        self._path = path
        self.done: dict[Key, Record] = {}
        self._lock = _lock(path) if path else None
        try:
            if path and path.exists() and resume:
                self.done = {record.key: record for record in load(path).records}
                for record in self.done.values():
                    _require_same_versions(path, record)
            elif path and path.exists():
                path.replace(path.with_name("previous.jsonl"))
            if path:
                write_atomically(path, "".join(map(_line, self.done.values())))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other runs write to the folder."""
        if self._lock is not None:
            self._lock.release()

    def add(self, record: Record) -> None:
        """Append a record and see it to the disk.

        Raises
        ------
        OSError
            If it cannot be written. The file is then as it was before, and can be resumed.
        """
        if self._path:
            size = self._path.stat().st_size
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(_line(record))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                os.truncate(self._path, size)
                message = f"{error.strerror}; the {len(self.done)} records before it are kept"
                raise OSError(error.errno, message, str(self._path)) from error
        self.done[record.key] = record


def _lock(path: Path) -> Any:
    from filelock import FileLock, Timeout

    # Beside the file, which is replaced; the system frees it when the process ends, however.
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        message = f"another run is writing to {path.parent}; name another folder"
        raise BlockingIOError(message) from None
    return lock


def _require_same_versions(path: Path, record: Record) -> None:
    """Refuse to mix runs of different code in one comparison."""
    from .environment import version

    for package in ("koopcore", "torch"):
        theirs, ours = record.environment["packages"][package], version(package)
        if theirs != ours:
            raise WrongResultsError(
                f"{path} was made with {package} {theirs}, this is {ours}: they cannot be mixed in "
                "one comparison; name another folder, or leave out --resume to start anew"
            )


def load(path: Path) -> Comparison:
    """Read the file of a comparison; a last line that was cut off is left out.

    Raises
    ------
    ValueError
        If the file is not a comparison in this format.
    """
    *lines, _cut_off = path.read_text(encoding="utf-8").split("\n")
    return Comparison([_record(path, line) for line in lines])


def _line(record: Record) -> str:
    document = {"format": FORMAT, **asdict(record)}
    return json.dumps(finite(document), allow_nan=False) + "\n"


def _record(path: Path, line: str) -> Record:
    try:
        document = json.loads(line)
    except json.JSONDecodeError:
        document = None
    found = document.pop("format", None) if isinstance(document, dict) else None
    if found != FORMAT:
        raise WrongResultsError(
            f"{path}: format is {found!r}, expected {FORMAT!r}; results of another version cannot "
            "be read, make them anew"
        )
    document = _infinite(document)
    runs = []
    for run in document.pop("runs"):
        scores = {name: Score(**score) for name, score in run.pop("scores").items()}
        runs.append(Run(**run, scores=scores))
    return Record(**document | {"methods": tuple(document["methods"])}, runs=runs)


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


def finite(value: Any) -> Any:
    """Return `value` with every float in it that is not finite replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _infinite(value: Any) -> Any:
    """Undo `finite`: None becomes infinity."""
    if value is None:
        return math.inf
    if isinstance(value, dict):
        return {key: _infinite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_infinite(item) for item in value]
    return value
