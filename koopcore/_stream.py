"""What streams share: snapshots in, merging, row blocks, and their contents for files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from koopcore._base import checked_threads, positive_int
from koopcore._live import Live, described, shape_in
from koopcore._segments import StateShape, as_segments

Reduce = Callable[[NDArray[np.float64]], NDArray[np.float64]]

# Where the core's names of options are not those of the arguments.
ARGUMENTS = {
    "tolerance": "tol",
    "seed": "random_state",
    "sharded": "first_row",
    "differences": "affine",
    "inputs": "n_inputs",
}


def stream_options(
    rank: int,
    oversampling: int,
    block: int,
    forgetting: float,
    tol: float | None,
    random_state: int,
    first_row: int | None,
    reduce: Reduce | None,
    n_threads: int | None,
) -> dict[str, Any]:
    """Check what streams have in common; every message names the argument."""
    if not 0.0 < forgetting <= 1.0:
        raise ValueError(
            f"forgetting={forgetting!r} is the share kept per snapshot: 0 < forgetting <= 1"
        )
    if tol is not None and not 0.0 <= tol < 1.0:
        raise ValueError(f"tol={tol!r} is a share of a snapshot: 0 <= tol < 1, or None")
    if oversampling != 0:
        oversampling = positive_int("oversampling", oversampling)
    seed = 0 if random_state == 0 else positive_int("random_state", random_state)
    if seed >= 2**64:
        raise ValueError(f"random_state={random_state!r} must be below 2**64")
    if reduce is not None and first_row is None:
        raise ValueError(
            "reduce= adds up row blocks of one state: say with first_row= where this one begins"
        )
    if first_row is not None and (first_row < 0 or first_row % 64):
        raise ValueError(
            f"first_row={first_row!r} must be a multiple of 64, and at least 0: cut the rows there"
        )
    return {
        "rank": positive_int("rank", rank),
        "oversampling": oversampling,
        "block": positive_int("block", block),
        "forgetting": float(forgetting),
        "tolerance": -1.0 if tol is None else float(tol),
        "seed": seed,
        "first_row": first_row or 0,
        "sharded": first_row is not None,
        "n_threads": checked_threads(n_threads) or 0,
    }


def require_square(array: NDArray[Any], name: str) -> None:
    """Refuse, before anything changes, values that the core would."""
    largest = np.abs(array).max(initial=0.0)
    if not largest < (np.inf if array.dtype == np.float32 else 2.0**490):
        raise ValueError(
            f"{name} has a value that is not finite, or of 2^490 or more, whose square could "
            "overflow; nothing was recorded"
        )


class Stream(Live):
    """A compiled stream and the form of the caller's states.

    A class derived from it says which compiled kinds it uses (`_kinds`, for float32 and float64)
    and with which options (`_core_options`).
    """

    _state_arrays = ("columns", "numbers")
    _kinds: tuple[Any, Any]
    _core_options: dict[str, Any]
    _reduce: Reduce | None = None

    def _start(self) -> None:
        self._lock = threading.RLock()
        self._empty()

    def _empty(self) -> None:
        self._shape: StateShape | None = None
        self._stream: Any = None
        self._answers: dict[Any, Any] = {}

    @property
    def n_snapshots(self) -> int:
        """Snapshots seen."""
        return 0 if self._stream is None else int(self._stream.seen)

    def _update(self, x: Any, *extra: Any) -> None:
        segments = as_segments(x)
        with self._lock:
            fresh = self._stream is None
            if fresh:
                self._allocate(StateShape.of(x, segments))
            try:
                self._stream.push(segments, *extra)
            except Exception:
                if fresh:
                    self._empty()
                raise
            self._answers = {}
            self._share_when_full()

    def _matrix(self, X: Any, name: str = "X") -> NDArray[Any]:
        array = super()._matrix(X, name)
        if self._reduce is not None:  # it goes in by parts, and all or none of them
            require_square(array, name)
        return array

    def _extend(self, X: Any, array: NDArray[Any], push: Callable[[int, int], None]) -> None:
        """Push columns, through as many sums over row blocks as they take."""
        with self._lock:
            fresh = self._stream is None
            if fresh:
                if array.shape[0] == 0:
                    raise ValueError(f"X has shape {array.shape}: it is empty")
                self._allocate(StateShape.of_columns(X, array))
            try:
                if not self._core_options["sharded"]:
                    push(0, array.shape[1])
                else:
                    self._extend_shared(array.shape[1], push)
            except Exception:
                if fresh and self.n_snapshots == 0:
                    self._empty()
                raise
            self._answers = {}

    def _extend_shared(self, count: int, push: Callable[[int, int], None]) -> None:
        if self._reduce is None:
            push(0, count)
            return
        first = 0
        while first < count:
            step = min(count - first, self._stream.room)
            push(first, first + step)
            first += step
            self._share_when_full()

    def _share_when_full(self) -> None:
        if self._reduce is not None and self._stream.room == 0:
            self._share()

    def _share(self) -> None:
        assert self._reduce is not None
        self._stream.provide(self._reduce(self._stream.partial()))

    def _summed(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up over the row blocks what each has of its own rows."""
        if not self._core_options["sharded"]:
            return own
        if self._reduce is None:
            raise ValueError(
                "this stream holds the rows from first_row= on, of a state that only all row "
                "blocks know: it needs reduce= for this"
            )
        return self._reduce(own)

    def _ask(self, key: Any, question: Callable[[], Any]) -> Any:
        """Answer once, until the stream goes on."""
        with self._lock:
            if self._stream is None:
                raise ValueError(
                    f"this {type(self).__name__} has no snapshots yet; call update(x) first"
                )
            if key not in self._answers:
                if self._reduce is not None:
                    self._share()
                self._answers[key] = question()
            return self._answers[key]

    def _combine(
        self, coefficients: NDArray[np.float64], version: int, extra: float = 0.0
    ) -> NDArray[Any]:
        """Columns of the stream times coefficients (columns, k): (n_features, k)."""
        assert self._shape is not None
        k = coefficients.shape[1]
        parts = [np.empty((k, size), self._shape.dtype) for size in self._shape.sizes]
        self._stream.combine(coefficients, version, extra, parts)
        states: NDArray[Any] = (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)).T
        return states

    def _combine_complex(self, coefficients: NDArray[Any], version: int) -> NDArray[Any]:
        parts = np.hstack([coefficients.real, coefficients.imag])
        both = self._combine(np.ascontiguousarray(parts), version)
        k = coefficients.shape[1]
        assert self._shape is not None
        kind = np.complex64 if self._shape.dtype == np.float32 else np.complex128
        out = np.empty((len(both), k), kind, order="F")
        out.real, out.imag = both[:, :k], both[:, k:]
        return out

    def _allocate(self, shape: StateShape) -> None:
        kind = self._kinds[0] if shape.dtype == np.float32 else self._kinds[1]
        self._stream = kind(shape.sizes, **self._core_options)
        self._shape = shape

    def merge(self, other: Self) -> Self:
        """Add what another stream of the same kind has seen, as if it had been seen here.

        Exact where the data have no more directions than are kept; otherwise to within what
        truncation drops. With forgetting, the newest snapshots of both count alike. The other
        stream stays as it is.

        Parameters
        ----------
        other : of the same class, with the same options

        Returns
        -------
        Itself.

        Raises
        ------
        TypeError, ValueError
            If the classes, options, shapes or dtypes differ; both are then as they were.
        """
        if type(other) is not type(self):
            raise TypeError(f"other is a {type(other).__name__}; expected a {type(self).__name__}")
        self._require_alike(other, "other", "this one")
        if other._stream is None:
            return self
        assert other._shape is not None
        with self._lock:
            if self._shape is not None and (
                self._shape.dtype != other._shape.dtype or self._shape.shapes != other._shape.shapes
            ):
                raise ValueError(
                    f"other has states of {other._shape.shapes} {other._shape.dtype}, this one of "
                    f"{self._shape.shapes} {self._shape.dtype}"
                )
            fresh = self._stream is None
            if fresh:
                self._allocate(other._shape)
            try:
                self._stream.merge(other._stream)
            except Exception:
                if fresh:
                    self._empty()
                raise
            self._answers = {}
        return self

    def _require_alike(self, other: Self, theirs: str, ours: str, but: Sequence[str] = ()) -> None:
        for name, value in self._core_options.items():
            if name not in (*but, "n_threads") and other._core_options[name] != value:
                argument = ARGUMENTS.get(name, name)
                raise ValueError(
                    f"{theirs} was made with {argument}={other._parameters[argument]!r}, {ours} "
                    f"with {self._parameters[argument]!r}; they must be made alike"
                )

    def clear(self) -> None:
        """Forget everything; the next snapshot may have another shape."""
        with self._lock:
            self._empty()

    def state_dict(self) -> dict[str, Any]:
        """Everything the stream holds, as arrays, numbers and strings.

        Its size does not depend on how many snapshots were seen. Loaded into a stream made alike,
        it goes on with the same bits.
        """
        with self._lock:
            if self._stream is None or self._shape is None:
                return {}
            columns, numbers = self._stream.state()
            return {"columns": columns, "numbers": numbers, **described(self._shape)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the place of the stream that gave `state`.

        Raises
        ------
        ValueError
            If it does not fit the options of this one, which then stays as it was.
        """
        if not state:
            return self.clear()
        shape = shape_in(state, self._state_arrays)
        fresh = type(self)(**self._parameters)
        fresh._allocate(shape)
        numbers = [float(number) for number in state["numbers"]]
        fresh._stream.restore(np.asfortranarray(state["columns"]), numbers)
        with self._lock:
            self._shape, self._stream, self._answers = shape, fresh._stream, {}
        return None

    def _to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        if self._reduce is not None:
            raise ValueError("a stream with reduce= holds one row block: save its state_dict()")
        return super()._to_state()
