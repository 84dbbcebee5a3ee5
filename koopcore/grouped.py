"""GroupedDMD: thousands of small operators, one per range of rows, in one call."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore import _core
from koopcore._arrays import Caller, as_numpy, require_float
from koopcore._base import FitOptions, Rank, checked_dt, checked_threads
from koopcore._trust import horizons_of


class GroupedDMD:
    """Dynamic mode decomposition of each segment of a state on its own.

    The rows of the snapshots are split in segments, say one per neuron of a network, and every
    segment gets its own linear operator, of its own rank, from its own m x m Gram matrix, as `DMD`
    would fit it (Schmid 2010). All of them are fitted in one call, shared among threads. Until the
    last `forecast`, `fit` keeps a reference to the array it was given, not a copy.

    Parameters
    ----------
    rank, tol, variant, exact, affine, delays, ridge, constraint, unstable, dt
        As in `DMD`, for each segment; ``rank="cv"`` and ``variant="optimized"`` are not offered.
    n_threads : int, optional
        Threads that share the segments; results do not depend on it. Default:
        `koopcore.num_threads`.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(12)
    >>> slow, fast = np.outer([1.0, 2.0, 0.5], 0.9**t), np.outer([1.0, -1.0, 3.0], 0.5**t)
    >>> model = GroupedDMD(rank=1).fit(np.vstack([slow, fast]), block=3)
    >>> [values.real.round(6).tolist() for values in model.eigenvalues]
    [[0.9], [0.5]]
    >>> np.allclose(model.forecast(5)[:3], 0.9**16 * np.array([1.0, 2.0, 0.5]))
    True
    """

    def __init__(
        self,
        rank: Rank = None,
        *,
        tol: float | None = None,
        variant: str = "standard",
        exact: bool | None = None,
        affine: bool | str = False,
        delays: int = 1,
        ridge: float = 0.0,
        constraint: str | None = None,
        unstable: str = "clip",
        dt: float = 1.0,
        n_threads: int | None = None,
    ) -> None:
        self._parameters = {k: v for k, v in locals().items() if k != "self"}
        self.rank = rank
        self.dt = checked_dt(dt)
        self.n_threads = checked_threads(n_threads)
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
        if self._options.rule == "cv" or variant == "optimized":
            raise ValueError(
                f"GroupedDMD has no rank='cv' and no variant='optimized', got rank={rank!r}, "
                f"variant={variant!r}"
            )
        self._fit: _core.GroupedDmd | None = None
        self._x: NDArray[Any] = np.empty((0, 0))
        self._segments: NDArray[np.int64] = np.empty((0, 2), np.int64)

    def fit(
        self, X: Any, segments: ArrayLike | None = None, block: int | None = None
    ) -> GroupedDMD:
        """Fit one operator per segment.

        Parameters
        ----------
        X : array of shape (n_features, n_snapshots), float32 or float64
            Snapshots in columns, equally spaced in time; any strides, read in place.
        segments : integers of shape (n_groups, 2), optional
            Row ranges (start, stop) in any order, not empty and without overlap. Rows in none of
            them are not forecast: they stay as in the last snapshot.
        block : int, optional
            Instead of `segments`: consecutive segments of this many rows, the last one shorter.

        Returns
        -------
        GroupedDMD
            Itself.

        Raises
        ------
        TypeError
            If the dtype of X is not float32 or float64, or segments are not integers.
        ValueError
            If a shape is wrong, both or neither of `segments` and `block` are given, a segment is
            empty, out of range or overlaps another, there are too few snapshots, or a value is not
            finite; the message names the segment.
        """
        x = as_numpy(X, "X")
        require_float(x, "X")
        if x.ndim != 2 or x.size == 0:
            raise ValueError(
                f"X has shape {x.shape}; expected 2 dimensions (n_features, n_snapshots), not empty"
            )
        ranges = _checked_segments(len(x), segments, block)
        self._fit = _core.GroupedDmd(
            x,
            ranges,
            n_threads=self.n_threads or 0,
            **self._options.of_core(),
        )
        self._x = x
        self._caller = Caller(X)
        self._segments = ranges
        return self

    def _to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Describe the fit by its parameters and data, for `koopcore.io`."""
        self._fitted()
        return {"parameters": self._parameters}, {"X": self._x, "segments": self._segments}

    @classmethod
    def _from_state(cls, metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> GroupedDMD:
        return cls(**metadata["parameters"]).fit(arrays["X"], arrays["segments"])

    def _fitted(self) -> _core.GroupedDmd:
        if self._fit is None:
            raise ValueError("this GroupedDMD is not fitted yet; call fit(X, ...) first")
        return self._fit

    @property
    def n_groups(self) -> int:
        """Number of segments, and of operators."""
        return len(self._fitted().ranks)

    @property
    def segments(self) -> NDArray[np.int64]:
        """Row ranges (start, stop), shape (n_groups, 2), in the order of the results."""
        self._fitted()
        return self._segments.copy()

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Modes of each operator, shape (n_groups,)."""
        return self._fitted().ranks

    @property
    def eigenvalues(self) -> list[NDArray[np.complex128]]:
        """Discrete-time eigenvalues as fitted, one array per segment, by falling modulus."""
        return self._fitted().eigenvalues

    @property
    def singular_values(self) -> list[NDArray[np.float64]]:
        """Singular values of each segment above `tol`, falling; with an int `rank`, so many."""
        return self._fitted().singular_values

    def forecast(self, horizon: ArrayLike) -> Any:
        """Forecast all segments from the last snapshot, in one pass over the data.

        Parameters
        ----------
        horizon : float or array of shape (k,)
            Steps beyond the last snapshot; fractions interpolate, negative ones go back.

        Returns
        -------
        array of shape (n_features,) or (n_features, k)
            Forecast states in the dtype and kind of X, real.
        """
        fit = self._fitted()
        coefficients = fit.forecast([float(h) for h in horizons_of(horizon)])
        states = fit.combine(self._x, coefficients)
        return self._caller.give(states[:, 0] if np.ndim(horizon) == 0 else states)


def _checked_segments(
    n_rows: int, segments: ArrayLike | None, block: int | None
) -> NDArray[np.int64]:
    if (segments is None) == (block is None):
        raise ValueError("give either segments or block, and not both")
    if block is not None:
        try:
            size = operator.index(block)
        except TypeError:
            raise TypeError(f"block={block!r} must be an int, a number of rows") from None
        return _core.equal_segments(n_rows, size)
    ranges = np.asarray(segments)
    if ranges.ndim != 2 or ranges.shape[1] != 2 or len(ranges) == 0:
        raise ValueError(
            f"segments has shape {ranges.shape}; expected (n_groups, 2): one (start, stop) each"
        )
    if ranges.dtype.kind not in "iu":
        raise TypeError(f"segments has dtype {ranges.dtype}; row numbers must be integers")
    return ranges.astype(np.int64)
