"""States made of one vector or of several arrays, handed to the core without concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore._arrays import Caller, as_numpy, require_float

Segments = list[NDArray[Any]]


def is_array(x: Any) -> bool:
    """Tell one array from a list of them."""
    return hasattr(x, "__array__") or hasattr(x, "__dlpack__")


def as_segments(x: Any) -> Segments:
    """View one snapshot as the C-contiguous arrays that the core takes.

    Raises
    ------
    TypeError, ValueError
        If `x` is neither one 1-D array nor a list of arrays.
    """
    if is_array(x):
        state = as_numpy(x, "x")
        if state.ndim != 1:
            raise ValueError(
                f"x has shape {state.shape}; one snapshot is 1-D, or a list of arrays of any shape"
            )
        return [np.ascontiguousarray(state)]
    for i, segment in enumerate(x):
        if not is_array(segment):
            raise TypeError(
                f"x[{i}] is a {type(segment).__name__}; a snapshot is one 1-D array, or a "
                "list of arrays"
            )
    return [np.ascontiguousarray(as_numpy(s, f"x[{i}]")) for i, s in enumerate(x)]


class StateShape:
    """Shapes, dtype and kind of a state, from its first snapshot.

    Parameters
    ----------
    segments : list of ndarray
        The first snapshot.
    single : bool
        Whether the caller's states are one vector each, not lists.
    callers : sequence of Caller, optional
        The kinds of the caller's arrays. Default: NumPy's.
    """

    def __init__(self, segments: Segments, *, single: bool, callers: Sequence[Caller] = ()) -> None:
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
        self._callers = list(callers) or [Caller(segment) for segment in segments]

    @classmethod
    def of(cls, x: Any, segments: Segments) -> StateShape:
        """Make it from a caller's snapshot and its segments."""
        single = is_array(x)
        callers = [Caller(s, np.ndim(s)) for s in ([x] if single else x)]
        return cls(segments, single=single, callers=callers)

    @classmethod
    def of_columns(cls, X: Any, array: NDArray[Any]) -> StateShape:
        """Make it from a matrix of snapshots in columns, as the caller's and as NumPy's."""
        column = array[:, 0] if array.shape[1] else np.empty(len(array), array.dtype)
        return cls([column], single=True, callers=[Caller(X)])

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

    def handed(self, segments: Segments, columns: str | None = None) -> Any:
        """Return segments in the caller's kind of array, one or a list."""
        given = [c.give(s, columns) for c, s in zip(self._callers, segments, strict=True)]
        return given[0] if self.single else given

    def give(self, states: NDArray[Any], columns: str | None = None) -> Any:
        """Cut states (n_features, ...) into segments of the shape and kind of a snapshot's."""
        cuts = np.cumsum(self.sizes)[:-1]
        return self.handed(
            [
                part.reshape(*shape, *states.shape[1:])
                for part, shape in zip(np.split(states, cuts), self.shapes, strict=True)
            ],
            columns,
        )
