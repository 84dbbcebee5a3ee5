"""States made of one vector or of several arrays, handed to the core without concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore._arrays import require_float

Segments = list[NDArray[Any]]


def as_segments(x: Any) -> Segments:
    """View one snapshot as the C-contiguous arrays that the core takes.

    Raises
    ------
    TypeError, ValueError
        If `x` is neither one 1-D array nor a list of arrays.
    """
    if hasattr(x, "__array__"):
        state = np.asarray(x)
        if state.ndim != 1:
            raise ValueError(
                f"x has shape {state.shape}; one snapshot is 1-D, or a list of arrays of any shape"
            )
        return [np.ascontiguousarray(state)]
    for i, segment in enumerate(x):
        if not hasattr(segment, "__array__"):
            raise TypeError(
                f"x[{i}] is a {type(segment).__name__}; a snapshot is one 1-D array, or a "
                "list of arrays"
            )
    return [np.ascontiguousarray(segment) for segment in x]


class StateShape:
    """Shapes and dtype of a state, from its first snapshot.

    Parameters
    ----------
    segments : list of ndarray
        The first snapshot.
    single : bool
        Whether the caller's states are one vector each, not lists.
    """

    def __init__(self, segments: Segments, *, single: bool) -> None:
        if not segments:
            raise ValueError("x is an empty list; a state needs at least one array")
        for i, segment in enumerate(segments):
            name = "x" if single else f"x[{i}]"
            require_float(segment, name)
            if segment.dtype != segments[0].dtype:
                raise TypeError(
                    f"{name} has dtype {segment.dtype} and x[0] {segments[0].dtype}; "
                    "give all the same"
                )
            if segment.size == 0:
                raise ValueError(f"{name} has shape {segment.shape}: it is empty")
        self.shapes = [segment.shape for segment in segments]
        self.single = single
        self.dtype: np.dtype[Any] = segments[0].dtype

    @classmethod
    def of_metadata(cls, shapes: Sequence[Sequence[int]], single: bool, dtype: str) -> StateShape:
        """Make it from what a file says."""
        return cls([np.empty(tuple(shape), np.dtype(dtype)) for shape in shapes], single=single)

    @property
    def sizes(self) -> list[int]:
        """Numbers in each segment."""
        return [int(np.prod(shape)) for shape in self.shapes]

    @property
    def n_features(self) -> int:
        """Numbers in the state."""
        return sum(self.sizes)

    def empty(self) -> Segments:
        """Return uninitialised arrays for one state."""
        return [np.empty(shape, self.dtype) for shape in self.shapes]

    def give(self, states: NDArray[Any]) -> NDArray[Any] | Segments:
        """Cut states (n_features, ...) into segments shaped like a snapshot's."""
        cuts = np.cumsum(self.sizes)[:-1]
        segments = [
            part.reshape(*shape, *states.shape[1:])
            for part, shape in zip(np.split(states, cuts), self.shapes, strict=True)
        ]
        return segments[0] if self.single else segments
