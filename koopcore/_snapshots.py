"""Snapshot matrices as one object: the only place of the estimators that touches n numbers.

One matrix, a pair (X, Y), or several trajectories are columns of one matrix S, which is never
formed: its Gram matrix, its triangular factor and combinations of its columns come from row blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore import _core
from koopcore._arrays import Caller, as_numpy, require_float

BLOCK_NUMBERS = 1 << 20  # of a row block of several matrices side by side


class Snapshots:
    """Matrices of equally many rows, their columns taken as one sequence.

    Parameters
    ----------
    matrices : sequence of arrays of shape (n_features, n_snapshots_i)
        float32, float64, complex64 or complex128, all of one dtype; any strides.
    names : sequence of str
        How messages call them.
    """

    def __init__(self, matrices: Sequence[Any], names: Sequence[str]) -> None:
        self.caller = Caller(matrices[0])
        self.parts = [_matrix(m, name) for m, name in zip(matrices, names, strict=True)]
        first = self.parts[0]
        for part, name in zip(self.parts, names, strict=True):
            if part.dtype != first.dtype:
                raise TypeError(
                    f"{names[0]} has dtype {first.dtype} and {name} {part.dtype}; "
                    "give both the same"
                )
            if part.shape[0] != first.shape[0]:
                raise ValueError(
                    f"{names[0]} has {first.shape[0]} features (shape {first.shape}) and {name} "
                    f"{part.shape[0]} (shape {part.shape}); they must be equal"
                )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the data and of every result, complex ones in the matching complex type."""
        return self.parts[0].dtype

    @property
    def n_features(self) -> int:
        """Rows."""
        return int(self.parts[0].shape[0])

    @property
    def lengths(self) -> list[int]:
        """Columns of each matrix."""
        return [int(part.shape[1]) for part in self.parts]

    @property
    def is_complex(self) -> bool:
        """Whether the data are complex."""
        return self.dtype.kind == "c"

    def _blocks(self) -> Iterator[NDArray[Any]]:
        """Yield S in row blocks; a single matrix whole, since the core reads it in blocks."""
        if len(self.parts) == 1:
            yield self.parts[0]
            return
        rows = max(1, BLOCK_NUMBERS // sum(self.lengths))
        for first in range(0, self.n_features, rows):
            yield np.concatenate([part[first : first + rows] for part in self.parts], axis=1)

    def gram(self) -> NDArray[Any]:
        """``S^H S``, float64 or complex128. One pass over the data."""
        blocks = self._blocks()
        total = _gram(next(blocks))
        for block in blocks:
            total += _gram(block)
        return total

    def factor(self) -> NDArray[np.float64]:
        """Triangular R with ``R^T R = S^T S`` (real data)."""
        factors = [_core.triangular_factor(block) for block in self._blocks()]
        return factors[0] if len(factors) == 1 else _core.triangular_factor(np.vstack(factors))

    def cross(self, states: NDArray[Any]) -> NDArray[Any]:
        """``S^H states`` for states of shape (n_features, q)."""
        return np.vstack([_cross(part, states) for part in self.parts])

    def combine(self, coefficients: NDArray[Any]) -> NDArray[Any]:
        """``S coefficients``, shape (n_features, q): one pass over the matrices that have any."""
        total: NDArray[Any] | None = None
        first = 0
        for part in self.parts:
            own = coefficients[first : first + part.shape[1]]
            first += part.shape[1]
            if own.any() or (total is None and first == len(coefficients)):
                term = _combine(part, own)
                total = term if total is None else total + term
        assert total is not None
        return total

    def row_norms(self, coefficients: NDArray[Any]) -> NDArray[np.float64]:
        """Norms of the rows of ``S coefficients``, shape (n_features,), without forming it."""
        out = np.empty(self.n_features)
        rows = max(1, BLOCK_NUMBERS // coefficients.shape[1])
        for first in range(0, self.n_features, rows):
            part = Snapshots.__new__(Snapshots)
            part.parts = [p[first : first + rows] for p in self.parts]
            out[first : first + rows] = np.linalg.norm(part.combine(coefficients), axis=1)
        return out


def gathered(X: Any, Y: Any) -> Snapshots:
    """Collect one matrix, a pair, or trajectories as one sequence of columns."""
    if isinstance(X, (list, tuple)) and X and hasattr(X[0], "ndim"):
        if Y is not None:
            raise ValueError("Y goes with one matrix X, not with a list of trajectories")
        return Snapshots(X, [f"X[{i}]" for i in range(len(X))])
    if Y is None:
        return Snapshots([X], ["X"])
    snapshots = Snapshots([X, Y], ["X", "Y"])
    if len(set(snapshots.lengths)) > 1:
        x, y = (part.shape for part in snapshots.parts)
        raise ValueError(f"X has shape {x} and Y {y}; they must be equal")
    return snapshots


def _matrix(data: Any, name: str) -> NDArray[Any]:
    array = as_numpy(data, name)
    require_float(array, name, complex_too=True)
    if array.ndim != 2:
        raise ValueError(
            f"{name} has shape {array.shape}; expected 2 dimensions (n_features, n_snapshots)"
        )
    if array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}: it is empty")
    return array


def _gram(x: NDArray[Any]) -> NDArray[Any]:
    if x.dtype.kind != "c":
        return _core.gram(x)
    mixed = _core.cross_gram(x.real, x.imag)
    return _core.gram(x.real) + _core.gram(x.imag) + 1j * (mixed - mixed.T)


def _cross(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    if x.dtype.kind != "c":
        return _core.cross_gram(x, y)
    real = _core.cross_gram(x.real, y.real) + _core.cross_gram(x.imag, y.imag)
    return real + 1j * (_core.cross_gram(x.real, y.imag) - _core.cross_gram(x.imag, y.real))


def _combine(x: NDArray[Any], coefficients: NDArray[Any]) -> NDArray[Any]:
    if x.dtype.kind != "c":
        return _core.combine(x, coefficients)
    total: NDArray[Any] = _core.combine(x.real, coefficients) + 1j * _core.combine(
        x.imag, coefficients
    )
    return total.astype(x.dtype, copy=False)
