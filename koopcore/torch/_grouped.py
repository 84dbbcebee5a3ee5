"""Gram matrices and combinations of many row ranges at once, by torch operations in float64.

The way of `TensorWindow` on devices other than the CPU, and for data types that the compiled core
does not read. The results are the core's up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Numbers that are widened to float64 at a time: on the CPU they stay in cache, elsewhere fewer
# kernels are launched.
_NUMBERS_ON_CPU, _NUMBERS_ELSEWHERE = 1 << 18, 1 << 22

# Columns of a state, one below the other in (n, size) tensors that may differ in data type.
Columns = Sequence[Tensor]


@dataclass(frozen=True)
class _Piece:
    """Rows of some segments: `rows` each, from `starts` on; `adjacent` if without gaps between."""

    groups: NDArray[np.intp]
    starts: NDArray[np.int64]
    rows: int
    adjacent: bool

    def of(self, tensor: Tensor) -> Tensor:
        """Return these entries of the last dimension as (..., segments, rows)."""
        if self.adjacent:
            first, shape = int(self.starts[0]), (len(self.starts), self.rows)
            return tensor[..., first : first + shape[0] * shape[1]].unflatten(-1, shape)
        return tensor[..., self._index(tensor.device)]

    def write(self, values: Tensor, out: Tensor) -> None:
        if self.adjacent:
            self.of(out).copy_(values)
        else:
            out[self._index(out.device)] = values.to(out.dtype)

    def _index(self, device: torch.device) -> Tensor:
        starts = torch.from_numpy(self.starts).to(device)
        return starts[:, None] + torch.arange(self.rows, device=device)


def grouped_grams(
    columns: Columns, segments: NDArray[np.int64], numbers: int | None = None
) -> NDArray[np.float64]:
    """Return the Gram matrix of the columns within each segment, shape (K, m, m).

    Parameters
    ----------
    columns : sequence of torch.Tensor of shape (n, size)
        On one device; m is the sum of the n.
    segments : ndarray of shape (K, 2)
        Row ranges (start, stop).
    numbers : int, optional
        How many numbers are widened to float64 at a time; default: by the device.
    """
    m = sum(len(c) for c in columns)
    grams = np.zeros((len(segments), m, m))
    for piece in _pieces(segments, _rows_at_once(m, numbers, columns[0])):
        x = _block(columns, piece)
        grams[piece.groups] += torch.bmm(x, x.transpose(1, 2)).cpu().numpy()
    return (grams + grams.transpose(0, 2, 1)) / 2.0


def grouped_combine(
    columns: Columns,
    segments: NDArray[np.int64],
    coefficients: NDArray[np.float64],
    out: Tensor,
    numbers: int | None = None,
) -> None:
    """Write the combination ``sum_j coefficients[k, j] * columns[j]`` of each segment k to `out`.

    Parameters
    ----------
    columns, segments, numbers
        As for `grouped_grams`.
    coefficients : ndarray of shape (K, m)
    out : torch.Tensor of shape (size,)
        Entries in no segment stay as they are.
    """
    m = coefficients.shape[1]
    for piece in _pieces(segments, _rows_at_once(m, numbers, columns[0])):
        weights = torch.from_numpy(coefficients[piece.groups]).to(out.device)
        piece.write(torch.bmm(weights[:, None, :], _block(columns, piece))[:, 0], out)


def _rows_at_once(m: int, numbers: int | None, like: Tensor) -> int:
    if numbers is None:
        numbers = _NUMBERS_ON_CPU if like.device.type == "cpu" else _NUMBERS_ELSEWHERE
    return max(numbers // max(m, 1), 1)


def _pieces(segments: NDArray[np.int64], most: int) -> Iterator[_Piece]:
    """Split the work in pieces of at most `most` rows, segments of equal size together."""
    sizes = segments[:, 1] - segments[:, 0]
    for size in np.unique(sizes).tolist():
        groups = np.flatnonzero(sizes == size)
        starts = segments[groups, 0]
        at_once = max(most // size, 1)
        for i in range(0, len(groups), at_once):
            some = starts[i : i + at_once]
            adjacent = bool((np.diff(some) == size).all())
            for begin in range(0, size, most):
                rows = min(most, size - begin)
                yield _Piece(groups[i : i + at_once], some + begin, rows, adjacent)


def _block(columns: Columns, piece: _Piece) -> Tensor:
    """Return the rows of a piece of all columns in float64, shape (segments, m, rows)."""
    blocks = [piece.of(column).to(torch.float64) for column in columns]
    return torch.cat(blocks).transpose(0, 1)
