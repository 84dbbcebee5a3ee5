"""WindowDMD: the operator of the last snapshots of a stream."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore import _core
from koopcore._base import FitOptions, Rank, checked_dt, positive_int
from koopcore._estimator import Estimator
from koopcore._live import Live, described, shape_in
from koopcore._problem import Fitted, Problem, fit
from koopcore._segments import Segments, StateShape, as_segments
from koopcore._storage import Buffer, checked_folder, checked_storage, new_buffer
from koopcore._trust import horizons_of

COLUMNS = 16  # of a block that are brought into one piece of memory at a time


class WindowDMD(Live, Estimator):
    """Dynamic mode decomposition of the last `window` snapshots of a state.

    `update` copies one snapshot into a ring buffer; the Gram matrix and the fit are brought up to
    date only when something is asked for. A state is one vector, or a list of arrays (say, the
    parameters of a network) that are treated as one vector without being concatenated.

    It is used as `koopcore.StreamingDMD` is, with two differences. What left the window counts no
    more, so there is nothing to forget or to merge; and `amplitudes` are, as everywhere in
    `koopcore.DMD`, those of the oldest state, where `dynamics` and `times` begin (times
    ``eigenvalues**k`` those of the state k later, such as the newest).

    Threads may share a window: each call is whole. `forecast_interval` alone reads it twice, and
    wants it left alone meanwhile.

    Parameters
    ----------
    window : int
        Snapshots kept, at least 2 (3 with `affine`). Memory: (window + 2) states, of which all but
        one lie as the next two say.
    rank, tol, variant, exact, affine, delays, ridge, constraint, unstable, dt
        As in `koopcore.DMD`.
    storage : {None, "bfloat16"}
        What snapshots are kept in. None: their own numbers. ``"bfloat16"``, for float32 states:
        differences from an earlier snapshot, rounded to 8 bits, in half the memory. Everything is
        computed from these as exactly as without, so noise of 2^-9 (0.2 %) of how far the state
        moves within a window or two is as if it were in the data: good for forecasts, and for
        eigenvalues of modes that are much larger than it.
    memory_map : str or path-like, optional
        Folder of a file that holds the snapshots in the place of memory, for windows that do not
        fit. Fast where the folder is on a fast local disk. The file has no name (as one of
        `tempfile.TemporaryFile`): the system removes it with the window, even if the process is
        killed. A forked child cannot use the window. Results are the same to the bit. Copies,
        pickles and what `koopcore.load` returns are in memory.

    Examples
    --------
    >>> import numpy as np
    >>> model = WindowDMD(window=4, affine=True)
    >>> for t in range(10):
    ...     _ = model.update(np.array([1.0, 2.0]) + 0.5**t)
    >>> model.forecast(1000).round(6).tolist()  # the fixed point
    [1.0, 2.0]
    """

    _state_arrays = ("columns", "numbers")

    def __init__(
        self,
        window: int = 10,
        *,
        rank: Rank = None,
        tol: float | None = None,
        variant: str = "standard",
        exact: bool | None = None,
        affine: bool | str = False,
        delays: int = 1,
        ridge: float = 0.0,
        constraint: str | None = None,
        unstable: str = "clip",
        dt: float = 1.0,
        storage: str | None = None,
        memory_map: str | os.PathLike[str] | None = None,
    ) -> None:
        self._parameters = {k: v for k, v in locals().items() if k != "self"}
        self.window = positive_int("window", window)
        self._storage = checked_storage(storage)
        self._memory_map = checked_folder(memory_map)
        self._parameters["memory_map"] = None  # the folder may be none where a copy is made
        self.dt = checked_dt(dt)
        self._options = FitOptions.checked(
            rank,
            tol,
            variant=variant,
            exact=exact,
            affine=affine,
            delays=delays,
            ridge=ridge,
            constraint=constraint,
            unstable=unstable,
        )
        least = self._options.least_snapshots
        if self.window < least:
            raise ValueError(
                f"window={window!r} must be at least {least} (affine={affine!r}, delays={delays!r})"
            )
        if self._options.max_rank > self.window - least + 1:
            raise ValueError(
                f"rank={rank!r} needs a window of at least {self._options.max_rank + least - 1} "
                f"snapshots, got window={window!r}"
            )
        self._shape: StateShape | None = None
        self._buffer: Buffer | None = None
        self._fit: tuple[Problem, Fitted] | None = None
        self._lock = threading.RLock()

    @property
    def n_snapshots(self) -> int:
        """Snapshots held now."""
        with self._lock:
            return 0 if self._buffer is None else self._buffer.size

    def update(self, x: NDArray[Any] | Sequence[NDArray[Any]]) -> WindowDMD:
        """Append one snapshot; the oldest leaves once `window` are held.

        Parameters
        ----------
        x : array of shape (n_features,), or sequence of arrays
            The state, float32 or float64, of NumPy, torch, xarray or another CPU array with DLPack:
            the same shapes and dtype at every call. Results are of the first one's kind.

        Returns
        -------
        WindowDMD
            Itself.

        Raises
        ------
        TypeError, ValueError
            On a wrong dtype or shape, or a value that is not finite; the window is then unchanged.
        OSError
            If the file of `memory_map` cannot be made: at the first snapshot, whose size it has.
        """
        segments = as_segments(x)
        with self._lock:
            if self.n_snapshots == 0:
                self._allocate(StateShape.of(x, segments), segments)
            assert self._buffer is not None
            self._buffer.push(segments)
            self._fit = None
        return self

    def partial_fit(self, X: Any) -> WindowDMD:
        """Append snapshots, all or none of them; the same bits as one `update` for each.

        Parameters
        ----------
        X : array of shape (n_features, n_snapshots), float32 or float64
            Snapshots in columns that go on with the trajectory; any strides.

        Returns
        -------
        WindowDMD
            Itself.

        Raises
        ------
        TypeError, ValueError
            As for `update`.
        """
        array = self._matrix(X)
        if array.shape[0] == 0:
            raise ValueError(f"X has shape {array.shape}: it is empty")
        if array.shape[1] == 0:
            return self
        peak = np.maximum(array.max(), -array.min())
        if not np.isfinite(peak):
            raise ValueError("X has a value that is not finite; nothing was recorded")
        with self._lock:
            if self.n_snapshots == 0:
                shape = StateShape.of_columns(X, array)
                self._allocate(shape, [np.ascontiguousarray(array[:, 0])])
            assert self._shape is not None
            if (len(array), array.dtype) != (self._shape.n_features, self._shape.dtype):
                raise (ValueError if array.dtype == self._shape.dtype else TypeError)(
                    f"X has shape {array.shape} ({array.dtype}); the window takes states of "
                    f"{self._shape.n_features} numbers ({self._shape.dtype})"
                )
            self._push_columns(array, float(peak))
        return self

    def _push_columns(self, array: NDArray[Any], peak: float) -> None:
        assert self._buffer is not None
        assert self._shape is not None
        # A finite number is refused only where its difference from the reference overflows, which
        # takes one within a rounding error of the largest.
        info = np.finfo(array.dtype)
        risky = peak > 0.25 * float(info.eps) * float(info.max)
        before = self.state_dict() if risky else None
        cuts = np.cumsum(self._shape.sizes)[:-1]
        self._fit = None
        try:
            for first in range(0, array.shape[1], COLUMNS):
                for state in np.ascontiguousarray(array[:, first : first + COLUMNS].T):
                    self._buffer.push(np.split(state, cuts))
        except Exception:
            if before is not None:
                self.load_state_dict(before)
            raise

    def forecast(
        self, horizon: ArrayLike, out: NDArray[Any] | Sequence[NDArray[Any]] | None = None
    ) -> Any:
        """Forecast the state.

        Parameters
        ----------
        horizon : float or array of shape (k,)
            Snapshots beyond the last one; fractions interpolate, negative ones go back.
        out : like a snapshot, optional
            C-contiguous arrays to write the forecast of one horizon to.

        Returns
        -------
        array or list of arrays
            The forecast (`out`, if given) in the form and the kind of array of the snapshots; of k
            horizons with one more dimension of that size.
        """
        with self._lock:
            if np.ndim(horizon) > 0:
                if out is not None:
                    raise ValueError(f"out takes one forecast, got horizon={horizon!r}")
                columns = [self.coefficients(h) for h in horizons_of(horizon)]
                return self._shaped(self._combine(np.array(columns).reshape(len(columns), -1).T))
            coefficients = self.coefficients(float(horizon))  # type: ignore[arg-type]
            assert self._buffer is not None
            assert self._shape is not None
            if out is None:
                segments = self._shape.empty()
            else:
                segments = [out] if isinstance(out, np.ndarray) else list(out)
            self._buffer.combine(coefficients, segments)
            return out if out is not None else self._shape.handed(segments)

    def predict(self, x: Any, n_steps: float = 1) -> Any:
        """Advance given states by the operator of the window.

        Parameters
        ----------
        x : array of shape (n_features,) or (n_features, n_states), dtype of the window
            States to advance. With ``delays=d`` a state is its last d snapshots, oldest first:
            shape (n_features, d) or (n_features, d, n_states). For states that are lists, a list
            of arrays with these further dimensions.
        n_steps : float
            Steps of one snapshot each, at least 1.

        Returns
        -------
        array of shape (n_features,) or (n_features, n_states), or list of arrays
            The advanced states, in the form and the kind of array of the snapshots.
        """
        with self._lock:
            core = self._fitted()
            columns, single = self._given_states(x, self._options.delays)
            cross = self._cross(columns)
            if not np.isfinite(cross).all():
                raise ValueError("x has a value that is not finite")
            advanced = self._combine(core.predict(cross, float(n_steps)))
            return self._shaped(advanced[:, 0] if single else advanced)

    def _cross(self, columns: NDArray[Any]) -> NDArray[np.float64]:
        """Inner products of the snapshots with states, one snapshot formed at a time.

        With differences, the newest snapshot is the reference of both. Fits see only how these
        products grow from one snapshot to the next, so the Gram matrix may have another reference.
        """
        count, rows = self.n_snapshots, []
        differences = self._options.affine == "differences"
        weights = np.eye(count)
        if differences:
            weights[:, -1] -= 1.0
            columns = columns - self._combine(np.eye(count)[:, -1:])
        for row in weights:
            rows.append(_core.cross_gram(self._combine(row[:, None]), columns)[0])
        cross: NDArray[np.float64] = np.array(rows)
        return cross + self._state()[0].gram[:, -1:] if differences else cross

    def coefficients(self, horizon: float) -> NDArray[np.float64]:
        """Coefficients on the snapshots, oldest first, whose combination is the forecast.

        Their sum is 1 with ``affine=True``: the forecast is then an affine combination.
        """
        coefficients: NDArray[np.float64] = self._fitted().forecast(float(horizon))
        return coefficients

    @property
    def gram(self) -> NDArray[np.float64]:
        """Gram matrix, oldest snapshot first, shape (n_snapshots, n_snapshots), float64.

        Of the snapshots themselves, or with ``affine=True`` of the snapshots minus a reference:
        affine rules do not depend on it, and small changes keep their digits.
        """
        with self._lock:
            if self._buffer is None:
                return np.zeros((0, 0))
            return self._buffer.gram(raw=self._options.affine != "differences")

    def clear(self) -> None:
        """Forget all snapshots; the next one may have another shape.

        The memory is kept for states of the same shape.
        """
        with self._lock:
            self._fit = None
            if self._buffer is not None:
                self._buffer.clear()

    def state_dict(self) -> dict[str, Any]:
        """Everything the window holds, as arrays, numbers and strings.

        Loaded into a window made alike, it goes on with the same bits.
        """
        with self._lock:
            if self._shape is None or self._buffer is None or self.n_snapshots == 0:
                return {}
            columns, numbers = self._buffer.state()
            return {"columns": columns, "numbers": numbers, **described(self._shape)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the place of the window that gave `state`.

        Raises
        ------
        ValueError
            If it does not fit this one, which then stays as it was.
        """
        if not state:
            return self.clear()
        shape = shape_in(state, self._state_arrays)
        buffer = self._new_buffer(shape)
        numbers = [float(number) for number in state["numbers"]]
        buffer.restore(np.asfortranarray(state["columns"]), numbers)
        with self._lock:
            self._shape, self._buffer, self._fit = shape, buffer, None
        return None

    def _state(self) -> tuple[Problem, Fitted]:
        with self._lock:
            if self._shape is None or self.n_snapshots == 0:
                raise ValueError("this WindowDMD has no snapshots yet; call update(x) first")
            if self._fit is None:
                problem = Problem(self.gram, n_features=self._shape.n_features, dt=self.dt)
                self._fit = problem, fit(problem, self._options)
            return self._fit

    def _combine(self, coefficients: NDArray[Any]) -> NDArray[Any]:
        """Combine the snapshots, all segments below each other: (n_features, q)."""
        assert self._buffer is not None
        assert self._shape is not None
        if np.iscomplexobj(coefficients):
            kind = np.result_type(self._shape.dtype, np.complex64)
            parts = self._combine(coefficients.real), self._combine(coefficients.imag)
            return (parts[0] + 1j * parts[1]).astype(kind, copy=False)
        states = []
        for column in coefficients.T:
            segments = self._shape.empty()
            self._buffer.combine(np.ascontiguousarray(column), segments)
            states.append(np.concatenate([segment.ravel() for segment in segments]))
        if not states:
            return np.empty((self._shape.n_features, 0), self._shape.dtype)
        return np.stack(states, axis=1)

    def _row_norms(self, coefficients: NDArray[Any]) -> NDArray[np.float64]:
        assert self._shape is not None
        squares = np.zeros(self._shape.n_features)
        for column in coefficients.T:
            squares += self._combine(column[:, None])[:, 0].astype(np.float64) ** 2
        norms: NDArray[np.float64] = np.sqrt(squares)
        return norms

    def _shaped(self, states: NDArray[Any], columns: str | None = None) -> Any:
        assert self._shape is not None
        return self._shape.give(states, columns)

    def _allocate(self, shape: StateShape, segments: Segments) -> None:
        """Make room for states like this first one, unless there is."""
        old = self._shape
        if old is None or (old.shapes, old.dtype) != (shape.shapes, shape.dtype):
            buffer = self._new_buffer(shape)
            buffer.push(segments)  # refuses non-finite values before anything is kept
            buffer.clear()
            self._buffer = buffer
        self._shape = shape

    def _new_buffer(self, shape: StateShape) -> Buffer:
        return new_buffer(shape, self.window, self._storage, self._memory_map)
