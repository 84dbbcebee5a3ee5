"""Snapshots in a file or dataset as a fit sees them: blocks of rows, never all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore import _core
from koopcore._arrays import Caller
from koopcore._blocks import Progress, Where, refuse_nonfinite, row_blocks, shown
from koopcore._snapshots import Snapshots, _combine, _cross, _gram
from koopcore._sources import Source


class StoredSnapshots(Snapshots):
    """The columns of a source, of which a fit only ever sees blocks of rows."""

    def __init__(self, source: Source, memory: int | None, progress: Progress = False) -> None:
        self.caller = Caller(np.empty(0))
        self.source, self.memory, self.progress = source, memory, progress

    @property
    def parts(self) -> list[NDArray[Any]]:  # type: ignore[override]
        """All of it, in memory."""
        return [self.source.whole()]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the data and of every result."""
        return self.source.dtype

    @property
    def n_features(self) -> int:
        """Rows."""
        return self.source.n_features

    @property
    def lengths(self) -> list[int]:
        """Columns."""
        return [self.source.n_snapshots]

    def located(self) -> Iterator[tuple[Where, NDArray[Any]]]:
        """Yield blocks of rows and where they are."""
        with shown(self.progress, self.n_features, "rows") as show:
            for where, block in row_blocks(self.source, self.memory):
                yield where, block
                show(block.shape[0])

    def _blocks(self) -> Iterator[NDArray[Any]]:
        return (block for _, block in self.located())

    def gram(self) -> NDArray[Any]:
        """``S^H S``, float64 or complex128. One pass over the data."""
        total: NDArray[Any] | None = None
        for where, block in self.located():
            part = _gram(block)
            if not np.isfinite(part.diagonal()).all():
                refuse_nonfinite(self.source.name, where, block, self.source.first)
            total = part if total is None else total + part
        assert total is not None
        return total

    def factor(self) -> NDArray[np.float64]:
        """Triangular R with ``R^T R = S^T S`` (real data)."""
        found: NDArray[np.float64] | None = None
        for block in self._blocks():
            part = _core.triangular_factor(block)
            both = part if found is None else np.vstack([found, part])
            found = part if found is None else _core.triangular_factor(both)
        assert found is not None
        return found

    def cross(self, states: NDArray[Any]) -> NDArray[Any]:
        """``S^H states`` for states of shape (n_features, q)."""
        terms = [_cross(block, states[slice(*rows)]) for (rows, _), block in self.located()]
        total: NDArray[Any] = np.sum(terms, axis=0)
        return total

    def combined(self, coefficients: NDArray[Any], progress: Progress) -> Iterator[NDArray[Any]]:
        """Yield ``S coefficients`` by blocks of rows."""
        with shown(progress, self.n_features, "rows") as show:
            for _, block in row_blocks(self.source, self.memory):
                yield _combine(block, coefficients)
                show(len(block))

    def combine(self, coefficients: NDArray[Any]) -> NDArray[Any]:
        """``S coefficients``, shape (n_features, q), in memory."""
        return np.concatenate(list(self.combined(coefficients, False)))

    def row_norms(self, coefficients: NDArray[Any]) -> NDArray[np.float64]:
        """Norms of the rows of ``S coefficients``, shape (n_features,)."""
        return np.concatenate(
            [np.linalg.norm(_combine(block, coefficients), axis=1) for block in self._blocks()]
        )
