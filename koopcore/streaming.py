"""WindowDMD: the operator of the last snapshots of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore import _core
from koopcore._base import FitOptions, Rank, checked_dt, positive_int
from koopcore._estimator import Estimator
from koopcore._problem import Fitted, Problem, fit
from koopcore._segments import Segments, StateShape, as_segments
from koopcore._trust import horizons_of


class WindowDMD(Estimator):
    """Dynamic mode decomposition of the last `window` snapshots of a state.

    `update` copies one snapshot into a ring buffer; the Gram matrix and the fit are brought up to
    date only when something is asked for. A state is one vector, or a list of arrays (say, the
    parameters of a network) that are treated as one vector without being concatenated.

    Parameters
    ----------
    window : int
        Snapshots kept, at least 2 (3 with `affine`). Memory: (window + 2) states.
    rank, tol, variant, exact, affine, delays, ridge, constraint, unstable, dt
        As in `koopcore.DMD`.

    Examples
    --------
    >>> import numpy as np
    >>> model = WindowDMD(window=4, affine=True)
    >>> for t in range(10):
    ...     _ = model.update(np.array([1.0, 2.0]) + 0.5**t)
    >>> model.forecast(1000).round(6).tolist()  # the fixed point
    [1.0, 2.0]
    """

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
    ) -> None:
        self._parameters = {k: v for k, v in locals().items() if k != "self"}
        self.window = positive_int("window", window)
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
        self._buffer: _core.SnapshotWindow32 | _core.SnapshotWindow64 | None = None
        self._fit: tuple[Problem, Fitted] | None = None

    @property
    def n_snapshots(self) -> int:
        """Snapshots held now."""
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
        """
        segments = as_segments(x)
        if self._buffer is None:
            self._allocate(StateShape.of(x, segments), segments)
        assert self._buffer is not None
        self._buffer.push(segments)
        self._fit = None
        return self

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
        if self._buffer is None:
            return np.zeros((0, 0))
        return self._buffer.gram(raw=self._options.affine != "differences")

    def clear(self) -> None:
        """Forget all snapshots; shapes and dtype stay."""
        self._fit = None
        if self._buffer is not None:
            self._buffer.clear()

    def _state(self) -> tuple[Problem, Fitted]:
        if self._fit is None:
            if self._buffer is None or self._shape is None:
                raise ValueError("this WindowDMD has no snapshots yet; call update(x) first")
            problem = Problem(self.gram, n_features=self._shape.n_features, dt=self.dt)
            self._fit = problem, fit(problem, self._options)
        return self._fit

    def _to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Describe the window by its parameters and snapshots (n_features, k), for `koopcore.io`.

        A snapshot comes back to within rounding: it is held as a difference from a reference.
        """
        metadata: dict[str, Any] = {"parameters": self._parameters}
        if self._shape is None:
            return metadata, {}
        metadata |= {"shapes": self._shape.shapes, "single": self._shape.single}
        return metadata, {"snapshots": self._combine(np.eye(self.n_snapshots))}

    @classmethod
    def _from_state(cls, metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> WindowDMD:
        model = cls(**metadata["parameters"])
        if "snapshots" in arrays:
            states = arrays["snapshots"]
            shape = StateShape.of_metadata(metadata["shapes"], metadata["single"], states.dtype.str)
            for state in np.ascontiguousarray(states.T):
                model.update(shape.give(state))
        return model

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
        kind = _core.SnapshotWindow32 if shape.dtype == np.float32 else _core.SnapshotWindow64
        buffer = kind(shape.sizes, self.window)
        buffer.push(segments)  # refuses non-finite values before anything is kept
        buffer.clear()
        self._shape, self._buffer = shape, buffer
