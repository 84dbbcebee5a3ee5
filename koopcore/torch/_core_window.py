"""CoreWindow: the compiled `SnapshotWindow` for one operator of parameters on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from koopcore import _core
from koopcore.torch._tensor_window import check_state, checked_coefficients, not_finite, threads
from koopcore.torch.partition import Layout

_WINDOWS = {torch.float32: _core.SnapshotWindow32, torch.float64: _core.SnapshotWindow64}


def core_takes(layout: Layout, like: Sequence[Tensor]) -> bool:
    """Tell whether a `CoreWindow` can hold snapshots of these tensors."""
    kinds = {tensor.dtype for tensor in like}
    on_cpu = all(tensor.device.type == "cpu" for tensor in like)
    return len(layout.segments) == 1 and on_cpu and len(kinds) == 1 and kinds <= _WINDOWS.keys()


class CoreWindow:
    """The last `capacity` snapshots as differences from an early one.

    Parameters are read in place where their memory is contiguous, and Gram matrices are brought up
    to date, for the snapshots pushed since they were last asked for, in one pass. It takes no more
    threads than torch and koopcore have when the window is made.

    Parameters
    ----------
    layout, capacity, like, raw
        As for `make_window`.
    folder : str, default ""
        Not empty: all but one state lie in a file there, without a name.
    """

    def __init__(
        self,
        layout: Layout,
        capacity: int,
        *,
        like: Sequence[Tensor],
        raw: bool = False,
        folder: str = "",
    ) -> None:
        self.capacity, self.raw, self._layout = capacity, raw, layout
        self._dtype, self._folder = like[0].dtype, folder
        self._window = self._empty()

    def _empty(self) -> _core.SnapshotWindow32 | _core.SnapshotWindow64:
        sizes = [shape.numel() for shape in self._layout.shapes]
        try:
            return _WINDOWS[self._dtype](
                sizes, self.capacity, memory_map=self._folder, n_threads=threads()
            )
        except OSError as error:
            needed = (self.capacity + 1) * self._layout.size * self._dtype.itemsize
            raise OSError(
                error.errno,
                f"storage={self._folder!r} must be a folder or a file with room for {needed:,} "
                f"bytes: {os.strerror(error.errno)}",
            ) from None

    @property
    def nbytes(self) -> int:
        """Memory for the snapshots; a file is not counted."""
        states = 1 if self._folder else self.capacity + 2
        return states * self._layout.size * self._dtype.itemsize

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_folder": "", "_window": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._window = self._empty()
        self.load_state_dict(state["_window"])

    def __len__(self) -> int:
        return self._window.size

    def push(self, tensors: Sequence[Tensor]) -> None:
        """Append a snapshot; the oldest leaves once `capacity` are held.

        Raises
        ------
        ValueError
            An entry that is not finite or overflows in a difference; the parameter is named and
            the window is as before.
        """
        self._layout.check(tensors)
        try:
            self._window.push([tensor.detach().contiguous().numpy() for tensor in tensors])
        except _core.Error:
            raise not_finite(self._layout, tensors) from None

    def grams(self) -> NDArray[np.float64]:
        """Return the Gram matrix, shape (1, m, m), oldest snapshot first.

        Of the snapshots minus an earlier one or, if `raw`, of the snapshots themselves.
        """
        return np.ascontiguousarray(self._window.gram(self.raw))[None]

    @torch.no_grad()
    def combine(self, coefficients: NDArray[np.float64], out: Sequence[Tensor]) -> None:
        """Write ``sum_j coefficients[0, j] * snapshot_j`` to the tensors.

        Parameters
        ----------
        coefficients : ndarray of shape (1, m)
            Oldest snapshot first. Where they sum to one up to rounding, entries that never moved
            stay as they are to the bit.
        out : sequence of torch.Tensor
            In the order of ``layout.names``.
        """
        weights = checked_coefficients(coefficients, 1, len(self))[0]
        self._layout.check(out)
        dense = [tensor.detach().contiguous() for tensor in out]
        self._window.combine(weights, [tensor.numpy() for tensor in dense])
        for given, written in zip(out, dense, strict=True):
            if written.data_ptr() != given.data_ptr():
                given.copy_(written)

    def clear(self) -> None:
        """Forget all snapshots; the next one is what differences are taken from."""
        self._window.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all there is; a window that loads it goes on with the same bits."""
        columns, numbers = self._window.state()
        return {
            "kind": type(self).__name__,
            "layout": self._layout.fingerprint,
            "capacity": self.capacity,
            "columns": torch.from_numpy(columns.T),
            "numbers": torch.from_numpy(numbers),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of a window of the same layout and capacity.

        Raises
        ------
        ValueError
            The state is of another kind of window; nothing is loaded.
        """
        check_state(self, self._layout, state, ("columns", "numbers"))
        columns = state["columns"]
        if columns.dtype != self._dtype:
            raise ValueError(f"state: columns is {columns.dtype}; this window holds {self._dtype}")
        self._window.restore(columns.cpu().numpy().T, state["numbers"].tolist())
