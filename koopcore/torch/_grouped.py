"""Gram matrices and combinations of many row ranges at once, by torch operations in float64.

The way of `TensorWindow` on devices other than the CPU, and for data types that the compiled core
does not read. The results are the core's up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Numbers of a block that are widened to float64 at a time: 32 MiB.
_NUMBERS = 1 << 22

# Columns of a state, one below the other in (n, size) tensors that may differ in data type.
Columns = Sequence[Tensor]
# Numbers of some operators of equal size, and the row ranges that are dealt with at a time: an
# index of shape (n, rows).
_Piece = tuple[NDArray[np.intp], Tensor]


def grouped_grams(
    columns: Columns, segments: NDArray[np.int64], numbers: int = _NUMBERS
) -> NDArray[np.float64]:
    """Return the Gram matrix of the columns within each segment, shape (K, m, m).

    Parameters
    ----------
    columns : sequence of torch.Tensor of shape (n, size)
        On one device; m is the sum of the n.
    segments : ndarray of shape (K, 2)
        Row ranges (start, stop).
    numbers : int
        How many numbers are widened to float64 at a time.
    """
    m = sum(len(c) for c in columns)
    grams = np.zeros((len(segments), m, m))
    for groups, rows in _pieces(segments, max(numbers // max(m, 1), 1), columns[0].device):
        x = _block(columns, rows)
        grams[groups] += torch.bmm(x, x.transpose(1, 2)).cpu().numpy()
    return (grams + grams.transpose(0, 2, 1)) / 2.0


def grouped_combine(
    columns: Columns,
    segments: NDArray[np.int64],
    coefficients: NDArray[np.float64],
    out: Tensor,
    numbers: int = _NUMBERS,
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
    for groups, rows in _pieces(segments, max(numbers // max(m, 1), 1), out.device):
        weights = torch.from_numpy(coefficients[groups]).to(out.device)
        values = torch.bmm(weights[:, None, :], _block(columns, rows))[:, 0]
        out[rows] = values.to(out.dtype)


def _pieces(segments: NDArray[np.int64], most: int, device: torch.device) -> Iterator[_Piece]:
    """Split the work in pieces of at most `most` rows, segments of equal size together."""
    sizes = segments[:, 1] - segments[:, 0]
    for size in np.unique(sizes).tolist():
        groups = np.flatnonzero(sizes == size)
        starts = torch.from_numpy(segments[groups, 0]).to(device)
        at_once = max(most // size, 1)
        for i in range(0, len(groups), at_once):
            first = starts[i : i + at_once, None]
            for begin in range(0, size, most):
                within = torch.arange(begin, min(begin + most, size), device=device)
                yield groups[i : i + at_once], first + within


def _block(columns: Columns, rows: Tensor) -> Tensor:
    """Return these rows of all columns in float64, shape (n, m, rows)."""
    blocks = [column[:, rows].to(torch.float64) for column in columns]
    return torch.cat(blocks).transpose(0, 1)
