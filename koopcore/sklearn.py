"""The estimators under scikit-learn's rules: rows are snapshots in time, columns are features.

A fitted estimator holds the reduced model alone, (n_components + 1) rows of features and some small
matrices, and none of the data; only `WindowDMD` keeps its window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

import koopcore
from koopcore._base import Rank
from koopcore._reduced import FLOATS, ReducedModel, in_our_words

__all__ = ["DMD", "WindowDMD"]


class DMD(ReducedModel):
    """Dynamic mode decomposition of a time series in rows.

    `koopcore.DMD` (see there) for pipelines and searches, with projected modes: the operator acts
    within the span of `components_` (Schmid 2010). The data are read in place, through a transposed
    view.

    Parameters
    ----------
    n_components : int, float in (0, 1), "svht", "cv" or None
        Number of components; share of the energy; optimal threshold for noise; cross-validated; or
        all that the data resolve: `rank` of `koopcore.DMD`.
    variant : {"standard", "tls", "forward-backward", "symmetric", "optimized"}
        How the operator is fitted.
    affine : bool
        Fit ``x(t+1) = A x(t) + b``, through differences of successive rows.
    ridge, constraint, tol, solver, unstable, dt
        As in `koopcore.DMD`.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features)
        Orthonormal basis in rows, by falling singular value.
    operator_ : ndarray of shape (n_components_, n_components_)
        Advances coordinates by one step, with `unstable` applied.
    drift_ : ndarray of shape (n_components_,)
        What a step adds; 0 unless `affine`.
    origin_ : ndarray of shape (n_features,) or None
        Row that coordinates are relative to: with `affine` the last one.
    eigenvalues_, omega_ : ndarray of shape (n_eigenvalues,), complex
        As fitted, in discrete and in continuous time.
    modes_ : ndarray of shape (n_eigenvalues, n_features), complex
        Modes in rows, formed anew at each access.
    singular_values_ : ndarray
        Of the snapshots (with `affine`: of their differences), before truncation.
    n_components_, n_features_in_ : int
    feature_names_in_ : ndarray of str, if X has column names

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(20)[:, None]
    >>> X = 0.9**t * [1.0, 2.0, 0.5] + 0.5**t * [1.0, -1.0, 0.0]
    >>> model = DMD(n_components=2).fit(X)
    >>> model.eigenvalues_.real.round(6).tolist()
    [0.9, 0.5]
    >>> model.transform(X).shape
    (20, 2)
    >>> np.allclose(model.predict(X)[:-1], X[1:])
    True
    """

    def __init__(
        self,
        n_components: Rank = None,
        *,
        variant: str = "standard",
        affine: bool = False,
        ridge: float = 0.0,
        constraint: str | None = None,
        tol: float | None = None,
        solver: str = "auto",
        unstable: str = "clip",
        dt: float = 1.0,
    ) -> None:
        self.n_components = n_components
        self.variant = variant
        self.affine = affine
        self.ridge = ridge
        self.constraint = constraint
        self.tol = tol
        self.solver = solver
        self.unstable = unstable
        self.dt = dt

    def fit(self, X: Any, y: Any = None) -> DMD:
        """Fit the operator that takes each row to the next.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Snapshots in rows, equally spaced in time: float32 or float64, other numbers become
            float64.
        y : ignored

        Returns
        -------
        DMD
            Itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or X is not as described, or X has too few rows.
        """
        options = {**self._shared_options(), "solver": self.solver}
        model = in_our_words(lambda: koopcore.DMD(**options))
        least = model._options.least_snapshots
        rows = validate_data(self, X, dtype=FLOATS, ensure_min_samples=least)
        in_our_words(lambda: model.fit(rows.T))
        self._reduce(model)
        return self


class WindowDMD(ReducedModel):
    """Dynamic mode decomposition of the last `window` rows of a stream.

    `koopcore.WindowDMD` (see there) for pipelines: `partial_fit` appends rows and then fits to what
    the window holds, so blocks of rows cost fewer fits than single ones.

    Parameters
    ----------
    window : int
        Rows kept.
    n_components, variant, affine, ridge, constraint, tol, unstable, dt
        As in `DMD`.

    Attributes
    ----------
    n_samples_seen_ : int
        Rows since the last `fit`.
    components_, operator_, drift_, origin_, eigenvalues_, omega_, modes_, singular_values_, ...
        As in `DMD`. They appear once the window holds enough rows for a fit: 2, with `affine` 3,
        with an integer `n_components` as many more as it is above 1.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(20)[:, None]
    >>> X = np.array([1.0, 2.0]) + 0.5**t * [1.0, -1.0]
    >>> model = WindowDMD(window=5, affine=True)
    >>> for block in np.split(X, 4):
    ...     _ = model.partial_fit(block)
    >>> model.forecast(1000).round(6).tolist()  # the fixed point
    [[1.0, 2.0]]
    """

    def __init__(
        self,
        window: int = 10,
        *,
        n_components: Rank = None,
        variant: str = "standard",
        affine: bool = False,
        ridge: float = 0.0,
        constraint: str | None = None,
        tol: float | None = None,
        unstable: str = "clip",
        dt: float = 1.0,
    ) -> None:
        self.window = window
        self.n_components = n_components
        self.variant = variant
        self.affine = affine
        self.ridge = ridge
        self.constraint = constraint
        self.tol = tol
        self.unstable = unstable
        self.dt = dt

    def fit(self, X: Any, y: Any = None) -> WindowDMD:
        """Forget what was seen and fit to the last `window` rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As in `DMD.fit`.
        y : ignored

        Returns
        -------
        WindowDMD
            Itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or X is not as described, or X has too few rows.
        """
        stream = self._new_stream()
        least = _least_rows(stream)
        rows = validate_data(self, X, dtype=FLOATS, ensure_min_samples=least)
        return self._append(stream, rows, seen=0)

    def partial_fit(self, X: Any, y: Any = None) -> WindowDMD:
        """Append the rows of X to the window and fit to what it then holds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The next rows; a single one is enough. Converted to the dtype of the first ones.
        y : ignored

        Returns
        -------
        WindowDMD
            Itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or X is not as described; the window is then unchanged.
        """
        if not hasattr(self, "_stream"):
            stream = self._new_stream()
            return self._append(stream, validate_data(self, X, dtype=FLOATS), seen=0)
        rows = validate_data(self, X, reset=False, dtype=self._stream._shape.dtype)
        return self._append(self._stream, rows, seen=self.n_samples_seen_)

    def _new_stream(self) -> koopcore.WindowDMD:
        options = self._shared_options()
        return in_our_words(lambda: koopcore.WindowDMD(self.window, **options))

    def _append(self, stream: koopcore.WindowDMD, rows: NDArray[Any], seen: int) -> WindowDMD:
        for row in rows[-self.window :]:
            stream.update(row)
        self._stream = stream
        self.n_samples_seen_ = seen + len(rows)
        if stream.n_snapshots >= _least_rows(stream):
            self._reduce(stream)
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "_stream" in state:  # compiled: kept as its rows
            stream = state["_stream"]
            state["_stream"] = stream._combine(np.eye(stream.n_snapshots)).T
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_stream" in state:
            self._stream = self._new_stream()
            for row in state["_stream"]:
                self._stream.update(row)


def _least_rows(stream: koopcore.WindowDMD) -> int:
    options = stream._options
    return options.least_snapshots - 1 + max(1, options.max_rank)
