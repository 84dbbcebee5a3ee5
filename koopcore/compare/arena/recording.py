"""A stored weight trajectory: its file, and the set that comes with the package.

A file is a NumPy archive (.npz, nothing pickled) with the arrays

- ``about``: a JSON text, see `Recording`; its ``format`` is ``koopcore-arena/1``;
- ``states``: float32, (n_snapshots, n_weights), the trained parameters one after the other in the
  order of ``named_parameters()``, each in row-major order;
- ``steps``: int64, (n_snapshots,), the optimizer steps done before each snapshot, increasing;
- ``train_loss``, ``heldout_loss``: float64, (n_snapshots,), what the workload evaluates them to;
  ``heldout_loss`` is NaN where there are no held-out data.

Only the snapshots that scores need are there: before each start a window, after it the horizons. So
long horizons fit in small files, which is why this is no `koopcore.torch.TrajectoryRecorder`: that
keeps every k-th step.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore.io import _replace as replace_file

FORMAT = "koopcore-arena/1"
ARRAYS = {"states": np.float32, "steps": np.int64, "train_loss": float, "heldout_loss": float}
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError)


@dataclass(frozen=True)
class About:
    """How a recording was made.

    Attributes
    ----------
    workload, optimizer : str
        Names of `koopcore.compare.workloads` and `koopcore.compare.baselines`.
    seed : int
    rate : float
        Learning rate.
    run_steps : int
        Optimizer steps of the run.
    every : int
        Optimizer steps between two snapshots of a window; also the unit of the horizons.
    window : int
        Snapshots kept up to each start, that of the start included.
    horizons : tuple of int
        Kept after each start, in snapshots.
    starts : tuple of int
        Optimizer steps of the ends of the windows.
    shapes : dict of str to tuple
        Of the parameters by name, in the order of a state.
    packages : dict of str to str
        Versions that it was made with.
    """

    workload: str
    optimizer: str
    seed: int
    rate: float
    run_steps: int
    every: int
    window: int
    horizons: tuple[int, ...]
    starts: tuple[int, ...]
    shapes: dict[str, tuple[int, ...]]
    packages: dict[str, str]

    @property
    def name(self) -> str:
        """The workload, the optimizer with its rate, the seed and the steps between snapshots."""
        run = f"{self.workload} {self.optimizer} {self.rate:g} seed {self.seed}"
        return f"{run} every {self.every}"

    @classmethod
    def of_json(cls, text: str) -> About:
        """Undo `to_json`."""
        found = json.loads(text)
        if found.get("format") != FORMAT:
            raise WrongFormatError(found.get("format"))
        del found["format"]
        for name in ("horizons", "starts"):
            found[name] = tuple(found[name])
        found["shapes"] = {name: tuple(shape) for name, shape in found["shapes"].items()}
        return cls(**found)

    def to_json(self) -> str:
        """Return all of it, and the format."""
        return json.dumps({"format": FORMAT, **asdict(self)})


class WrongFormatError(Exception):
    """The file says that it is of another format or version."""


@dataclass(frozen=True)
class Recording:
    """Snapshots of a run's weights before and after its starts.

    Attributes
    ----------
    about : About
    states : ndarray of shape (n_snapshots, n_weights), float32
    steps : ndarray of shape (n_snapshots,), int64
        Optimizer step of each snapshot, increasing.
    train_loss, heldout_loss : ndarray of shape (n_snapshots,), float64
        Losses of the snapshots; `heldout_loss` is NaN where the workload has none.
    """

    about: About
    states: NDArray[np.float32]
    steps: NDArray[np.int64]
    train_loss: NDArray[np.float64]
    heldout_loss: NDArray[np.float64]

    def __post_init__(self) -> None:
        n_snapshots, size = len(self.steps), sum(map(_size, self.about.shapes.values()))
        if self.states.shape != (n_snapshots, size):
            raise ValueError(
                f"states has shape {self.states.shape}; expected ({n_snapshots}, {size})"
            )
        for name in ("train_loss", "heldout_loss"):
            if getattr(self, name).shape != (n_snapshots,):
                raise ValueError(f"{name} has shape {getattr(self, name).shape}")
        needed = needed_steps(self.about)
        if list(self.steps) != needed:
            raise ValueError(f"steps has {n_snapshots} entries that are not the {len(needed)} due")

    def at(self, start: int, ahead: int = 0) -> int:
        """Return the index of the snapshot that comes `ahead` snapshots after a start's."""
        return int(np.searchsorted(self.steps, start + ahead * self.about.every))

    def window(self, start: int, m: int) -> NDArray[np.float64]:
        """Return the last m snapshots up to a start, shape (m, n_weights), oldest first."""
        last = self.at(start)
        return self.states[last - m + 1 : last + 1].astype(np.float64)

    def require(self, window: int, horizons: tuple[int, ...]) -> None:
        """Refuse what the file cannot be scored on."""
        about = self.about
        if not 2 <= window <= about.window:
            raise ValueError(
                f"window={window}: {about.name} has {about.window} snapshots up to each start; "
                f"give 2 to {about.window}"
            )
        for horizon in horizons:
            if horizon not in about.horizons:
                raise ValueError(
                    f"horizon {horizon}: {about.name} has the horizons "
                    f"{', '.join(map(str, about.horizons))} (in snapshots of {about.every} steps)"
                )


def needed_steps(about: About) -> list[int]:
    """Return the optimizer steps of all snapshots that its starts need, increasing."""
    offsets = [*range(1 - about.window, 1), *about.horizons]
    return sorted({start + about.every * k for start in about.starts for k in offsets})


def save(path: Path, recording: Recording) -> None:
    """Write a recording; the file appears whole or not at all, the same bytes for the same run."""
    arrays = {name: getattr(recording, name) for name in ARRAYS}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, about=np.array(recording.about.to_json()), **arrays)

    replace_file(path, write)


def load(path: Path | str) -> Recording:
    """Read a recording.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Recording

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is truncated, damaged, something else, or of another version.
    """
    return read(Path(path).read_bytes(), str(path))


def read(content: bytes, name: str) -> Recording:
    """Return the recording of a file's bytes; `name` is what errors call it."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            about = About.of_json(str(archive["about"]))
            return Recording(about, **_arrays(archive))
    except WrongFormatError as error:
        raise ValueError(
            f"{name} is of format {error.args[0]!r}; this version of koopcore reads {FORMAT!r}: "
            "record it again"
        ) from None
    except DAMAGED as error:
        raise ValueError(
            f"{name} is damaged, truncated, or no recording of koopcore arena: {error}"
        ) from error


def _arrays(archive: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: archive[name] for name in ARRAYS}
    for name, kind in ARRAYS.items():
        if found[name].dtype != kind:
            raise ValueError(f"{name} is of {found[name].dtype}, not {np.dtype(kind)}")
    return found


def shipped() -> list[Recording]:
    """Return the recordings that come with the package, by their file names."""
    folder = files("koopcore.compare") / "data"
    found = sorted((f for f in folder.iterdir() if f.name.endswith(".npz")), key=lambda f: f.name)
    return [read(file.read_bytes(), file.name) for file in found]


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))
