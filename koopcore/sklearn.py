"""The estimators under scikit-learn's rules: rows are snapshots in time, columns are features.

A fitted estimator holds the reduced model alone, (n_components + 1) rows of features and some small
matrices, and none of the data; what has `partial_fit` also keeps its window or its stream.
"""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import validate_data

import koopcore
from koopcore._base import Rank
from koopcore._pca import StreamingPCA
from koopcore._reduced import FLOATS, FedModel, ReducedModel, in_our_words

__all__ = ["DMD", "StreamingDMD", "StreamingPCA", "WindowDMD"]


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


class WindowDMD(FedModel):
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

    def _new_stream(self) -> koopcore.WindowDMD:
        options = self._shared_options()
        return in_our_words(lambda: koopcore.WindowDMD(self.window, **options))

    def _least_rows(self, stream: koopcore.WindowDMD) -> int:
        options = stream._options
        return options.least_snapshots - 1 + max(1, options.max_rank)


class StreamingDMD(FedModel):
    """Dynamic mode decomposition of all rows of a stream, in one pass and constant memory.

    `koopcore.StreamingDMD` (see there) for pipelines: `partial_fit` appends rows and then fits to
    all that was seen, so blocks of rows cost fewer fits than single ones.

    Parameters
    ----------
    n_components : int
        Components, at most.
    variant, affine, ridge, constraint, unstable, dt
        As in `DMD`; there is no ``variant="optimized"``.
    forgetting : float in (0, 1]
        Factor of the weight of a step in the fit per later step; 1 forgets nothing.
    oversampling : int
        Directions kept beyond `n_components`.
    batch_size : int
        Rows gathered before the directions are brought up to date.
    tol : float or None
        Share of a row that makes a new direction.

    Attributes
    ----------
    n_samples_seen_ : int
        Rows since the last `fit`.
    components_, operator_, drift_, origin_, eigenvalues_, omega_, modes_, singular_values_, ...
        As in `DMD`. They appear with the second row, with `affine` with the third.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(400)[:, None]
    >>> X = 0.99**t * [1.0, 2.0, 0.5] + 0.9**t * [1.0, -1.0, 0.0]
    >>> model = StreamingDMD(n_components=2)
    >>> for block in np.split(X, 40):
    ...     _ = model.partial_fit(block)
    >>> model.eigenvalues_.real.round(6).tolist()
    [0.99, 0.9]
    """

    def __init__(
        self,
        n_components: int = 10,
        *,
        variant: str = "standard",
        affine: bool = False,
        ridge: float = 0.0,
        constraint: str | None = None,
        forgetting: float = 1.0,
        oversampling: int = 10,
        batch_size: int = 16,
        tol: float | None = None,
        unstable: str = "clip",
        dt: float = 1.0,
    ) -> None:
        self.n_components = n_components
        self.variant = variant
        self.affine = affine
        self.ridge = ridge
        self.constraint = constraint
        self.forgetting = forgetting
        self.oversampling = oversampling
        self.batch_size = batch_size
        self.tol = tol
        self.unstable = unstable
        self.dt = dt

    def _new_stream(self) -> koopcore.StreamingDMD:
        options = self._shared_options()
        return in_our_words(
            lambda: koopcore.StreamingDMD(
                forgetting=self.forgetting,
                oversampling=self.oversampling,
                block=self.batch_size,
                **options,
            )
        )

    def _least_rows(self, stream: koopcore.StreamingDMD) -> int:
        return stream._options.least_snapshots
