"""Trajectories of weights on disk: recorded while a model trains, studied later."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from koopcore.torch._arguments import choice, integer
from koopcore.torch._trajectory_store import Store
from koopcore.torch.recorder import step_happened, trained_parameters, unwrapped

_log = logging.getLogger("koopcore")


class TrajectoryRecorder:
    """Store the trained parameters of a model every few optimizer steps in a zarr group.

    The weights at the start are the first snapshot; of later ones the differences from it are
    stored. They are gathered in memory and written `chunk` at a time. A chunk counts once it is
    whole: a run that is killed leaves a store with everything up to the last one, which
    `load_trajectory` reads and a recorder with ``append=True`` goes on with. A full disk, or
    parameters that change their shapes, stop the recording with a warning, but never the training.

    Parameters
    ----------
    model : torch.nn.Module
        On any device.
    optimizer : torch.optim.Optimizer
        Of parameters of `model`; those that it does not hold are not stored.
    path : str or path-like
        Folder to make; it must not exist, unless `append`.
    every : int
        Steps between snapshots: those are stored whose number it divides.
    dtype : {"float32", "float64"}
        Of the differences. With float32 a weight comes back to within ``2**-22`` of the larger of
        itself and its first value, with float64 to within ``2**-51`` (float32 models: ``2**-24``).
    chunk : int, optional
        Snapshots written at a time, which is also how many a killed run can lose. Default: as many
        as 16 MiB hold, at most 1000; with `append`, as the store has it. Memory: `chunk` states of
        `dtype`, and two more.
    append : bool
        Go on with a store, made with the same parameters, `every` and `dtype`.
    start : int, optional
        Optimizer steps done before. Snapshots that the store has of later ones are dropped, so that
        a run can be taken up from an older checkpoint. Default: the last step stored, or 0.

    Raises
    ------
    FileExistsError, FileNotFoundError
        If `path` exists without `append`, or does not with it.
    ImportError
        Without the package zarr, the extra "zarr".
    TypeError, ValueError
        For arguments that cannot work, or a store of other parameters.

    Notes
    -----
    With a `KoopmanAccelerator` on the same optimizer, attach the recorder last: it then stores the
    weights after a jump.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from koopcore.torch.trajectory import TrajectoryRecorder, load_trajectory
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with TrajectoryRecorder(model, optimizer, f"{folder}/run.zarr", every=2):
    ...         for _ in range(10):
    ...             optimizer.zero_grad()
    ...             model(torch.ones(3)).square().sum().backward()
    ...             optimizer.step()
    ...     trajectory = load_trajectory(f"{folder}/run.zarr")
    >>> trajectory.states.shape, trajectory.steps.tolist()
    ((4, 6), [0, 2, 4, 6, 8, 10])
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        path: str | os.PathLike[str],
        every: int = 1,
        *,
        dtype: str = "float32",
        chunk: int | None = None,
        append: bool = False,
        start: int | None = None,
    ) -> None:
        dtype = choice("dtype", dtype, ("float32", "float64"))
        self._every = integer("every", every, at_least=1)
        chunk = None if chunk is None else integer("chunk", chunk, at_least=1)
        start = None if start is None else integer("start", start, at_least=0)
        self._parameters = trained_parameters(unwrapped(model), optimizer)
        self._optimizer = optimizer
        self._shapes = {name: tuple(p.shape) for name, p in self._parameters.items()}
        about = {
            "names": list(self._shapes),
            "shapes": [list(shape) for shape in self._shapes.values()],
            "every": self._every,
        }
        size = sum(p.numel() for p in self._parameters.values())
        wide = next(iter(self._parameters.values())).dtype == torch.float64
        kind = "float64" if wide else "float32"
        if append:
            self._store = Store.open(os.fspath(path), "r+")
            self._store.require(about, dtype)
            self._step = int(self._store.steps[-1]) if start is None else start
            self._store.drop_after(self._step)
        else:
            self._step = start or 0
            self._store = Store.create(os.fspath(path), about, size, kind, dtype, chunk)
        self._state = torch.empty(size, dtype=getattr(torch, kind))
        self._rows = np.empty((self._store.rows, size), dtype)
        self._waiting: list[int] = []  # steps of the rows that are not written yet
        self._handle: Any = None

    def __enter__(self) -> TrajectoryRecorder:
        return self.attach()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()

    @property
    def n_snapshots(self) -> int:
        """Snapshots taken, with those of a store that is gone on with."""
        return len(self._store.steps) + len(self._waiting)

    def attach(self) -> TrajectoryRecorder:
        """Register the optimizer hook; take the first snapshot, if there is none.

        Raises
        ------
        RuntimeError
            This recorder is attached already.
        """
        if self._handle is not None:
            raise RuntimeError("this TrajectoryRecorder is attached already; detach() it first")
        if self.n_snapshots == 0:
            self._read()
            self._store.begin(self._state.numpy())
            self._keep()
            self.flush()
        self._handle = self._optimizer.register_step_post_hook(self._after_step)
        return self

    def detach(self) -> None:
        """Remove the hook and write what waits; detaching twice does nothing."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            self.flush()

    def flush(self) -> None:
        """Write the snapshots that wait in memory, for instance when a checkpoint is written.

        Raises
        ------
        OSError
            If they cannot be written. They wait on.
        """
        if self._waiting:
            self._store.append(self._rows[: len(self._waiting)], self._waiting)
            self._waiting = []

    def _after_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        if not step_happened(optimizer):
            return
        self._step += 1
        if self._step % self._every:
            return
        try:
            self._read()
            self._keep()
            if len(self._waiting) == len(self._rows):
                self.flush()
        except (OSError, ValueError) as error:
            self._handle.remove()
            self._handle = None
            _log.warning(
                "recording of the trajectory stopped at step %d, training goes on: %s",
                self._step,
                error,
            )

    def _read(self) -> None:
        """Copy the weights into one state."""
        end = 0
        for name, p in self._parameters.items():
            if tuple(p.shape) != self._shapes[name]:
                raise ValueError(
                    f"parameter {name!r} has shape {tuple(p.shape)} now; the trajectory has "
                    f"{self._shapes[name]}"
                )
            begin, end = end, end + p.numel()
            self._state[begin:end].view(p.shape).copy_(p.detach())

    def _keep(self) -> None:
        """Put the difference of the state from the first one among the rows that wait."""
        row, state = self._rows[len(self._waiting)], self._state.numpy()
        kind = np.result_type(row, state)
        np.subtract(state, self._store.first, out=row, dtype=kind, casting="same_kind")
        self._waiting.append(self._step)


@dataclass(frozen=True)
class Trajectory:
    """Snapshots of the weights of a run.

    Attributes
    ----------
    states : ndarray of shape (n_features, n_snapshots)
        In columns, as `koopcore.DMD` takes them; float64 if the model was, else float32.
    steps : ndarray of shape (n_snapshots,), int64
        Optimizer step of each. They increase, evenly unless a run went on at a later step.
    shapes : dict of str to tuple
        Of the parameters, by name, in their order in a state.
    """

    states: NDArray[Any]
    steps: NDArray[np.int64]
    shapes: dict[str, tuple[int, ...]]

    def parameters(self, index: int) -> dict[str, torch.Tensor]:
        """Return one snapshot as tensors by name, for ``model.load_state_dict(..., strict=False)``.

        Parameters
        ----------
        index : int
            Which column; negative from the end.
        """
        state, found, end = torch.from_numpy(self.states[:, index].copy()), {}, 0
        for name, shape in self.shapes.items():
            begin, end = end, end + int(np.prod(shape))
            found[name] = state[begin:end].reshape(shape)
        return found


def load_trajectory(
    path: str | os.PathLike[str], start: int = 0, stop: int | None = None
) -> Trajectory:
    """Read snapshots that a `TrajectoryRecorder` stored, also of a run that was killed.

    Parameters
    ----------
    path : str or path-like
        The store.
    start, stop : int, optional
        Range of snapshots, as of a slice. Default: all.

    Returns
    -------
    Trajectory

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        If there is no such store, zarr is missing, or it is no trajectory.

    Notes
    -----
    For a trajectory larger than memory, ``koopcore.outofcore.feed(model, path, time_axis=0)`` and
    ``koopcore dmd PATH --time-axis 0`` read the differences from the first snapshot in blocks: the
    same to a model with ``affine=True``.
    """
    store = Store.open(os.fspath(path), "r")
    chosen = slice(*slice(start, stop).indices(len(store.steps)))
    return Trajectory(store.states(chosen).T, store.steps[chosen], store.shapes)
