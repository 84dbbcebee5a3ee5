"""The last snapshots of a layout: their Gram matrices per operator, and their combinations.

`CoreWindow` keeps them in the compiled core; `TensorWindow` as torch tensors, where there are many
operators, another device or another storage. Both answer the same questions, to rounding.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from koopcore.torch._core_window import CoreWindow, core_takes
from koopcore.torch._tensor_window import Storage, TensorWindow, state_dtype
from koopcore.torch.partition import Layout

__all__ = ["CoreWindow", "TensorWindow", "Window", "make_window"]


class Window(Protocol):
    """What a window of snapshots can do.

    Attributes
    ----------
    capacity : int
        Snapshots that it holds at most.
    raw : bool
        Whether Gram matrices are those of the snapshots themselves.
    nbytes : int
        Memory for the snapshots, all taken at construction; a file is not counted.
    """

    capacity: int
    raw: bool
    nbytes: int

    def __len__(self) -> int:
        """Return the number of snapshots held."""

    def push(self, tensors: Sequence[Tensor]) -> None:
        """Append a snapshot; one that is not finite is refused with its parameter's name."""

    def grams(self) -> NDArray[np.float64]:
        """Return Gram matrices (K, m, m), oldest snapshot first: 8 K m^2 bytes of memory."""

    def combine(self, coefficients: NDArray[np.float64], out: Sequence[Tensor]) -> None:
        """Write the combinations with coefficients (K, m) to the tensors."""

    def clear(self) -> None:
        """Forget all snapshots."""

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all there is: tensors, numbers, strings."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state with the same bits."""


def make_window(
    layout: Layout,
    capacity: int,
    *,
    like: Sequence[Tensor],
    raw: bool = False,
    storage: Storage = None,
) -> Window:
    """Make an empty window for snapshots of a layout.

    Parameters
    ----------
    layout : Layout
    capacity : int
        Snapshots held at most, at least 2.
    like : sequence of torch.Tensor
        The parameters in the order of ``layout.names``: their data types and devices. With float16
        or bfloat16 among them and no float64 the window computes in float32.
    raw : bool, default False
        Gram matrices of the snapshots instead of their differences from an early one.
    storage : optional
        Where the snapshots are kept. None: on the device of the first parameter.
        ``torch.bfloat16``: there, but all except the newest as changes in bfloat16, in half the
        memory. ``"cpu"``: in CPU memory, through a pinned buffer where there is CUDA. A folder: in
        a memory-mapped file there without a name, which the system removes with the window. Another
        path: in a memory-mapped file, which is created, or overwritten if it has the size that is
        needed, and stays.

    Returns
    -------
    Window
        A `CoreWindow` for one operator of parameters on the CPU that are all float32 or all
        float64, without `storage` or in a folder; otherwise a `TensorWindow`, which in bfloat16
        keeps the newest snapshot exact. Copies and pickles are windows of their own, in memory
        where the original was in a file.

    Raises
    ------
    TypeError, ValueError
        Arguments that cannot work.
    OSError
        The file cannot be made; the error names the path and the bytes that it needs.

    Examples
    --------
    >>> import torch
    >>> from koopcore.torch.partition import Layout
    >>> from koopcore.torch.windows import make_window
    >>> weight = torch.tensor([1.0, 2.0])
    >>> window = make_window(Layout({"weight": weight}), capacity=3, like=[weight])
    >>> for _ in range(3):
    ...     window.push([weight])
    ...     weight *= 0.5
    >>> window.grams()[0].tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.25, 1.875], [0.0, 1.875, 2.8125]]
    """
    try:
        capacity = operator.index(capacity)
    except TypeError:
        raise TypeError(f"capacity={capacity!r} must be an int, a number of snapshots") from None
    if capacity < 2:
        raise ValueError(f"capacity={capacity} must be at least 2 snapshots")
    layout.check(like)
    state_dtype(layout, like)
    folder = _folder(storage)
    if (storage is None or folder) and core_takes(layout, like):
        return CoreWindow(layout, capacity, like=like, raw=raw, folder=folder)
    if isinstance(storage, torch.dtype) and storage != torch.bfloat16:
        raise ValueError(f"storage={storage} is not offered; the only data type is torch.bfloat16")
    if not isinstance(storage, str | os.PathLike | torch.dtype | None):
        raise TypeError(
            f'storage={storage!r} must be None, torch.bfloat16, "cpu" or the path of a file'
        )
    return TensorWindow(layout, capacity, like=like, raw=raw, storage=storage)


def _folder(storage: Storage) -> str:
    """Return the folder that `storage` names, if it does."""
    named = isinstance(storage, str | os.PathLike) and storage != "cpu" and os.path.isdir(storage)
    return os.path.abspath(os.fspath(storage)) if named else ""
