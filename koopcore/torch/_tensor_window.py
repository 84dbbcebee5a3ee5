"""TensorWindow: the last snapshots as torch tensors, on any device and in other storage."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from koopcore import _core
from koopcore.torch._grouped import grouped_combine, grouped_grams
from koopcore.torch.partition import Layout

Storage = str | os.PathLike[str] | torch.dtype | None

# Below the largest number by this factor the difference of two entries does not overflow.
_HEADROOM = 4.0


def threads() -> int:
    """Return how many threads a window takes: no more than torch has, nor than koopcore."""
    return min(torch.get_num_threads(), _core.num_threads())


class TensorWindow:
    """The last `capacity` snapshots: the newest one, and the changes that led to it.

    A ring of changes ``d_i = x_i - x_(i-1)`` and the newest snapshot as it was pushed. Snapshots
    are ``x_j = x_newest - sum_(i > j) d_i``, and their Gram matrices follow from those of the
    changes, in float64. Changes are small: in bfloat16 each is off by up to 2^-9 of itself.

    Parameters
    ----------
    layout, capacity, like, raw, storage
        As for `make_window`.
    """

    def __init__(
        self,
        layout: Layout,
        capacity: int,
        *,
        like: Sequence[Tensor],
        raw: bool = False,
        storage: Storage = None,
    ) -> None:
        self.capacity, self.raw, self._layout = capacity, raw, layout
        dtype = state_dtype(layout, like)
        device = torch.device("cpu") if storage not in (None, torch.bfloat16) else like[0].device
        # Pinned, a snapshot leaves the GPU at full speed; the ring behind it need not be.
        pinned = storage == "cpu" and torch.cuda.is_available()
        self._scratch = torch.zeros(layout.size, dtype=dtype, device=device, pin_memory=pinned)
        self.nbytes = _bytes(self._scratch)
        self._columns: Tensor | None = None
        if storage == torch.bfloat16:
            self._newest = torch.zeros_like(self._scratch)
            self._changes = torch.zeros(
                capacity - 1, layout.size, dtype=torch.bfloat16, device=device
            )
            self.nbytes += _bytes(self._newest) + _bytes(self._changes)
        elif storage in (None, "cpu"):
            self._columns = torch.zeros(capacity, layout.size, dtype=dtype, device=device)
            self.nbytes += _bytes(self._columns)
        else:
            self._columns = _mapped(storage, capacity, layout.size, dtype)
        self._start = self._size = 0
        self._set_views()

    def _set_views(self) -> None:
        self._views = self._layout.views(self._scratch)
        if self._columns is not None:
            self._newest, self._changes = self._columns[0], self._columns[1:]

    def __getstate__(self) -> dict[str, Any]:
        own = ("_newest", "_changes") if self._columns is None else ()
        views = {"_views", "_newest", "_changes"} - {*own}
        return {name: value for name, value in vars(self).items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._set_views()  # pickled by themselves they would no longer be views

    def __len__(self) -> int:
        return self._size

    @torch.no_grad()
    def push(self, tensors: Sequence[Tensor]) -> None:
        """Append a snapshot; the oldest leaves once `capacity` are held.

        Raises
        ------
        ValueError
            An entry that is not finite or overflows in a difference; the parameter is named and
            the window is as before.
        """
        torch._foreach_copy_(self._views, self._layout.sources(tensors))
        # Both ends are NaN if any entry is; a twentieth of the time of a norm, or of isfinite().
        peak = float(torch.stack(torch.aminmax(self._scratch)).abs().max())
        if not peak <= torch.finfo(self._scratch.dtype).max / _HEADROOM:
            raise not_finite(self._layout, tensors)
        if self._size:
            full = self._size == self.capacity
            slot = (self._start + self._size - 1) % (self.capacity - 1)
            torch.sub(self._scratch, self._newest, out=self._changes[slot])
            self._start = (self._start + full) % (self.capacity - 1)
        self._newest.copy_(self._scratch)
        self._size = min(self._size + 1, self.capacity)

    @torch.no_grad()
    def grams(self) -> NDArray[np.float64]:
        """Return the Gram matrix of each operator, shape (K, m, m), oldest snapshot first.

        Of the snapshots minus the oldest one or, if `raw`, of the snapshots themselves.
        """
        if not self._size:
            return np.zeros((len(self._layout.segments), 0, 0))
        columns = self._held(0 if self.raw else 1)
        if self._by_core:
            changes = _core.grouped_grams(columns[0].numpy().T, self._layout.segments, threads())
        else:
            changes = grouped_grams(columns, self._layout.segments)
        to_snapshots = self._snapshots_of_columns() if self.raw else self._snapshots_of_changes()
        grams = to_snapshots @ changes @ to_snapshots.T
        return (grams + grams.transpose(0, 2, 1)) / 2.0

    @torch.no_grad()
    def combine(self, coefficients: NDArray[np.float64], out: Sequence[Tensor]) -> None:
        """Write ``sum_j coefficients[k, j] * snapshot_j`` of each operator k to the tensors.

        Parameters
        ----------
        coefficients : ndarray of shape (K, m)
            Oldest snapshot first. Where they sum to one up to rounding, entries that never moved
            stay as they are to the bit.
        out : sequence of torch.Tensor
            In the order of ``layout.names``.
        """
        weights = checked_coefficients(coefficients, len(self._layout.segments), self._size)
        on_columns = weights @ self._snapshots_of_columns()
        on_columns[:, 0] = sums_of(weights)
        columns, segments = self._held(0), self._layout.segments
        if self._by_core:
            x, state = columns[0].numpy().T, self._scratch.numpy()
            _core.grouped_combine(x, segments, on_columns, state, threads())
        else:
            grouped_combine(columns, segments, on_columns, self._scratch)
        torch._foreach_copy_(self._layout.sources(out), self._views)

    def clear(self) -> None:
        """Forget all snapshots."""
        self._start = self._size = 0

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all there is; a window that loads it goes on with the same bits."""
        return {
            "kind": type(self).__name__,
            "layout": self._layout.fingerprint,
            "capacity": self.capacity,
            "size": self._size,
            "start": self._start,
            "newest": self._newest.clone(),
            "changes": self._changes.clone(),  # all slots: of one shape, as DCP needs it
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of a window of the same layout, capacity and storage.

        Raises
        ------
        ValueError
            The state is of another kind of window; nothing is loaded.
        """
        check_state(self, self._layout, state, ("size", "start", "newest", "changes"))
        changes, newest = state["changes"], state["newest"]
        for name, given, own in (
            ("changes", changes, self._changes),
            ("newest", newest, self._newest),
        ):
            if given.dtype != own.dtype:
                raise ValueError(f"state: {name} is {given.dtype}; this window holds {own.dtype}")
        self._newest.copy_(newest)
        self._changes[: len(changes)].copy_(changes)
        self._size, self._start = int(state["size"]), int(state["start"])

    @property
    def _by_core(self) -> bool:
        return self._columns is not None and self._scratch.device.type == "cpu"

    def _held(self, first: int) -> list[Tensor]:
        """Return the newest snapshot and the changes (`first` = 1: these only), as they lie."""
        if self._columns is not None:
            return [self._columns[first : max(self._size, 1)]]
        changes = self._changes[: self._size - 1]
        return [changes] if first else [self._newest[None], changes]

    def _later(self) -> NDArray[np.bool_]:
        """Whether the change in a slot came after a snapshot, shape (snapshots, changes)."""
        n = self._size
        age = np.empty(n - 1, np.int64)
        age[(self._start + np.arange(n - 1)) % (self.capacity - 1)] = np.arange(1, n)
        return age > np.arange(n)[:, None]

    def _snapshots_of_columns(self) -> NDArray[np.float64]:
        """Weights of the snapshots on the newest one and the changes, shape (m, m)."""
        return np.hstack([np.ones((self._size, 1)), -1.0 * self._later()])

    def _snapshots_of_changes(self) -> NDArray[np.float64]:
        """Weights of the snapshots minus the oldest one on the changes, shape (m, m - 1)."""
        return 1.0 * ~self._later()


def state_dtype(layout: Layout, like: Sequence[Tensor]) -> torch.dtype:
    """Return the data type of the state: float64 if a parameter has it, or else float32."""
    for name, tensor in zip(layout.names, like, strict=True):
        if not tensor.is_floating_point():
            raise TypeError(
                f"{name!r} is {tensor.dtype}; a window takes real floating-point numbers"
            )
    return torch.float64 if any(t.dtype == torch.float64 for t in like) else torch.float32


def not_finite(layout: Layout, tensors: Sequence[Tensor]) -> ValueError:
    """Return the error that names the first parameter with an entry that cannot be recorded."""
    for name, tensor in zip(layout.names, tensors, strict=True):
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            return ValueError(
                f"{name!r} has {bad} of {tensor.numel()} entries that are not finite; the snapshot "
                "was not recorded"
            )
    peaks = [float(torch.linalg.vector_norm(t.double(), torch.inf)) for t in tensors]
    worst = int(np.argmax(peaks))
    return ValueError(
        f"{layout.names[worst]!r} has an entry of size {peaks[worst]:.3g}, whose differences "
        "overflow; the snapshot was not recorded"
    )


def checked_coefficients(
    coefficients: NDArray[np.float64], operators: int, snapshots: int
) -> NDArray[np.float64]:
    """Return coefficients as float64 of shape (operators, snapshots), or raise ValueError."""
    weights = np.ascontiguousarray(coefficients, np.float64)
    if weights.shape != (operators, snapshots) or not snapshots:
        raise ValueError(
            f"coefficients have shape {weights.shape}; expected ({operators}, {snapshots}), a row "
            "per operator and a column per snapshot held, of which there must be one at least"
        )
    return weights


def sums_of(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the rows; a sum that rounding does not tell from one is one."""
    sums = weights.sum(1)
    rounding = weights.shape[1] * np.finfo(np.float64).eps * np.abs(weights).sum(1)
    return np.where(np.abs(sums - 1.0) <= rounding, 1.0, sums)


def check_state(window: Any, layout: Layout, state: dict[str, Any], needed: Sequence[str]) -> None:
    """Raise ValueError unless a state is one of a window like this."""
    own = {"kind": type(window).__name__, "layout": layout.fingerprint, "capacity": window.capacity}
    for name, value in own.items():
        if name in state and state[name] != value:
            raise ValueError(
                f"state has {name}={state[name]!r}, this window {value!r}: load it into a window "
                "made with the same parameters, partition, capacity and storage"
            )
    missing = {*own, *needed} - state.keys()
    if missing:
        raise ValueError(f"state lacks {', '.join(sorted(missing))}: not from state_dict()")


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _mapped(storage: Any, capacity: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return a tensor in a file of its size; one of another size is not overwritten."""
    path = os.fspath(storage)
    kind = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
    needed = capacity * size * kind.itemsize
    try:
        with _opened(path, needed) as file:
            # Taken now, since a disk that is full later would end the process with a bus error.
            os.posix_fallocate(file.fileno(), 0, needed)
            return torch.from_numpy(np.asarray(np.memmap(file, kind, "r+", shape=(capacity, size))))
    except OSError as error:
        raise OSError(
            error.errno,
            f"storage={path!r} must be a folder or a file with room for {needed:,} bytes: "
            f"{error.strerror}",
        ) from None


def _opened(path: str, needed: int) -> IO[bytes]:
    """Open the file, or one without a name if the path is a folder."""
    disk = os.statvfs(path if os.path.exists(path) else os.path.dirname(path) or ".")
    there = os.path.getsize(path) if os.path.isfile(path) else 0
    if needed - there > disk.f_bavail * disk.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if os.path.isdir(path):
        return tempfile.TemporaryFile(dir=path)
    if there not in (0, needed):
        raise ValueError(
            f"storage={path!r} exists with {there:,} bytes; this window takes {needed:,}: give "
            "another path, or remove the file"
        )
    open(path, "ab").close()
    return open(path, "r+b")
