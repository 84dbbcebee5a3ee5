"""The operators of Dogra and Redman (NeurIPS 2020) to the letter, to test what the paper claims.

Raw weights, not centred, not truncated, untried: per operator ``F = D[:, :-1]``, ``F' = D[:, 1:]``,
``U = F' pinv(F)``, forecast ``U^T w``. The cost is the paper's too: `m` snapshots are kept, and a
pseudo-inverse of (d, m) is taken per operator. Everything else in this package is meant to be
faster and safer than this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from koopcore.torch._arguments import integer
from koopcore.torch.forecasts import KEPT_EIGENVALUES
from koopcore.torch.partition import Layout

BATCH = 2**22  # numbers of the snapshots that are pseudo-inverted at once


def partition_of(q: object) -> Any:
    """Return the partition of a chunk size: None for whole nodes, a number, or one per pattern."""
    if q is None:
        return "node"
    if isinstance(q, Mapping):
        return {pattern: partition_of(size) for pattern, size in q.items()}
    size = integer("q", q, at_least=1)
    return "weight" if size == 1 else ("quasi-node", size)


class PinvForecast:
    """Operators ``U = F' pinv(F)``, and powers of them on the last snapshot."""

    rule = "pinv"

    def __init__(self, snapshots: NDArray[Any], layout: Layout) -> None:
        self._last, self._layout = snapshots[-1].astype(np.float64), layout
        self._operators: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        for rows in _batches(layout.segments, len(snapshots)):
            data = np.ascontiguousarray(snapshots[:, rows].transpose(1, 2, 0), np.float64)
            states, successors = data[:, :, :-1], data[:, :, 1:]
            self._operators.append((rows, successors @ np.linalg.pinv(states)))

    def coefficients(self, horizon: float) -> None:
        """None: the forecast is not formed from the snapshots."""
        return

    def write(self, horizon: float, out: Sequence[torch.Tensor]) -> None:
        """Write ``U^horizon w`` into `out`; whole steps only."""
        state = torch.empty(self._layout.size, dtype=torch.float64)
        for rows, operators in self._operators:
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
                powers = np.linalg.matrix_power(operators, round(horizon))
                ahead = (powers @ self._last[rows][:, :, None])[:, :, 0]
            state[torch.from_numpy(rows.ravel())] = torch.from_numpy(ahead.ravel())
        self._layout.scatter(state, out)

    def displacement(self, horizon: float) -> float:
        """Not known without the forecast itself."""
        return np.nan

    def spectrum(self) -> NDArray[np.complex128]:
        """Eigenvalues of the first operators, up to 256 of them."""
        found: list[NDArray[Any]] = []
        for _, operators in self._operators:
            for operator in operators:
                if sum(map(len, found)) + len(operator) > KEPT_EIGENVALUES:
                    break
                found.append(np.linalg.eigvals(operator))
        return np.concatenate([np.empty(0, np.complex128), *found])


class PinvForecaster:
    """All snapshots from t1 to t2, as they are.

    Parameters
    ----------
    layout : Layout
    capacity : int
        Snapshots.
    dtype : torch.dtype
        Of the parameters.
    """

    def __init__(self, layout: Layout, capacity: int, dtype: torch.dtype) -> None:
        kept = torch.float64 if dtype == torch.float64 else torch.float32
        self._layout, self._count = layout, 0
        self._snapshots = torch.empty(capacity, layout.size, dtype=kept)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Memory of the snapshots."""
        return self._snapshots.nbytes

    def push(self, tensors: Sequence[torch.Tensor]) -> None:
        """Append a snapshot."""
        self._layout.gather(tensors, self._snapshots[self._count])
        if not bool(torch.isfinite(self._snapshots[self._count]).all()):
            raise ValueError("the weights are not finite")
        self._count += 1

    def clear(self) -> None:
        """Forget all snapshots."""
        self._count = 0

    def fit(self) -> list[PinvForecast]:
        """Fit every operator."""
        return [PinvForecast(self._snapshots[: self._count].numpy(), self._layout)]

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on with the same bits when loaded."""
        return {"snapshots": self._snapshots[: self._count].clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the snapshots of another forecaster made alike."""
        self._count = len(state["snapshots"])
        self._snapshots[: self._count] = state["snapshots"]


def _batches(segments: NDArray[np.int64], snapshots: int) -> Iterator[NDArray[np.int64]]:
    """Rows of operators of one size, (operators, size), in batches of bounded memory."""
    sizes = np.diff(segments, axis=1).ravel()
    for size in np.unique(sizes):
        starts = segments[sizes == size, 0]
        at_once = max(1, BATCH // int(size * snapshots))
        for first in range(0, len(starts), at_once):
            yield starts[first : first + at_once, None] + np.arange(size)
