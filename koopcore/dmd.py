"""DMD, the batch estimator: snapshots in columns, everything from their Gram matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore import _core
from koopcore._base import FitOptions, Spectrum, checked_dt, require_float


class DMD(Spectrum):
    """Dynamic mode decomposition of snapshots in columns.

    Fits the linear operator ``A`` of ``x_{t+1} = A x_t`` on the leading directions of the data
    (Schmid 2010; Tu et al. 2014 for exact modes). Only the m x m Gram matrix is decomposed, in
    float64; the n x m data are read once by `fit`, in place and in blocks, and again only when
    modes, reconstruction or forecasts are asked for. Until then `fit` keeps a reference to the
    arrays it was given, not a copy: do not change them in between.

    Parameters
    ----------
    rank : int, float in (0, 1) or None
        Number of modes, share of the energy (sum of squared singular values) to keep, or all that
        `tol` lets through. An int is lowered where the data have fewer directions.
    svd_rank : int or float, optional
        PyDMD's name for `rank`. -1 means None; 0 (a threshold by PyDMD) is not offered.
    tol : float, optional
        Drop singular values below this times the largest. Default: ``sqrt(m * eps)``, about 1e-7,
        the least that a Gram matrix resolves.
    exact : bool
        Exact modes, in the span of the later snapshots (PyDMD's default is False, projected).
    opt : bool
        Fit the amplitudes to all snapshots; otherwise, as in PyDMD by default, to the first.
    affine : bool
        Fit ``x_{t+1} = A x_t + b`` through first differences: for dynamics around a fixed point
        away from zero. Modes and amplitudes then belong to the differences.
    unstable : {"clip", "keep"}
        In `forecast` and `predict`, put eigenvalues outside the unit circle onto it (default), or
        keep them. `eigenvalues`, `reconstruct` and `dynamics` always use them as fitted.
    dt : float
        Time between two snapshots, for `frequency` and `growth_rate`.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(20)
    >>> X = np.outer([1.0, 2.0, 0.5], 0.9**t) + np.outer([1.0, -1.0, 0.0], 0.5**t)
    >>> model = DMD(rank=2).fit(X)
    >>> model.eigenvalues.real.round(6).tolist()
    [0.9, 0.5]
    >>> np.allclose(model.forecast(5), 0.9**24 * np.array([1.0, 2.0, 0.5]), atol=1e-6)
    True
    """

    def __init__(
        self,
        rank: int | float | None = None,
        *,
        svd_rank: int | float | None = None,
        tol: float | None = None,
        exact: bool = True,
        opt: bool = False,
        affine: bool = False,
        unstable: str = "clip",
        dt: float = 1.0,
    ) -> None:
        if svd_rank is not None:
            if rank is not None:
                raise ValueError(f"rank={rank!r} and svd_rank={svd_rank!r} mean the same: give one")
            rank = None if svd_rank == -1 else svd_rank
        self.rank = rank
        self.opt = bool(opt)
        self.dt = checked_dt(dt)
        self._options = FitOptions.checked(rank, tol, exact=exact, affine=affine, unstable=unstable)
        self._fit: _core.Dmd | None = None
        self._x: NDArray[Any] = np.empty((0, 0))
        self._y: NDArray[Any] | None = None

    def fit(self, X: ArrayLike, Y: ArrayLike | None = None) -> DMD:
        """Fit the operator.

        Parameters
        ----------
        X : array of shape (n_features, n_snapshots), float32 or float64
            Snapshots in columns, equally spaced in time; any strides, read in place.
        Y : array of the same shape and dtype, optional
            Successors: ``Y[:, j]`` follows ``X[:, j]``. Without it the columns of X are one series.

        Returns
        -------
        DMD
            Itself.

        Raises
        ------
        TypeError
            If the dtype is not float32 or float64, or differs between X and Y.
        ValueError
            If a shape is wrong, there are too few snapshots, or a value is not finite.
        """
        x = _snapshots(X, "X")
        if Y is None:
            fit = self._options.fit(_core.gram(x))
            self._y = None
        else:
            y = _snapshots(Y, "Y")
            if y.dtype != x.dtype:
                raise TypeError(f"X has dtype {x.dtype} and Y {y.dtype}; give both the same")
            if y.shape != x.shape:
                raise ValueError(f"X has shape {x.shape} and Y {y.shape}; they must be equal")
            if self._options.affine:
                raise ValueError("affine=True needs one time series: X alone, without Y")
            xy = _core.cross_gram(x, y)
            gram = np.block([[_core.gram(x), xy], [xy.T, _core.gram(y)]])
            fit = self._options.fit(gram, lag=x.shape[1])
            self._y = y
        self._x = x
        self._fit = fit
        return self

    def _fitted(self) -> _core.Dmd:
        if self._fit is None:
            raise ValueError("this DMD is not fitted yet; call fit(X) first")
        return self._fit

    def _combine(self, coefficients: NDArray[Any]) -> NDArray[Any]:
        """Combine the fitted snapshots: one pass over those with a coefficient."""
        if self._y is None:
            return _core.combine(self._x, coefficients)
        n_pairs = self._x.shape[1]
        on_x, on_y = coefficients[:n_pairs], coefficients[n_pairs:]
        if not on_x.any():
            return _core.combine(self._y, on_y)
        if not on_y.any():
            return _core.combine(self._x, on_x)
        total: NDArray[Any] = _core.combine(self._x, on_x) + _core.combine(self._y, on_y)
        return total

    @property
    def modes(self) -> NDArray[Any]:
        """Modes in columns, shape (n_features, r), complex; formed anew at each access."""
        return self._combine(self._fitted().mode_coefficients())

    @property
    def amplitudes(self) -> NDArray[np.complex128]:
        """Amplitudes of the modes, shape (r,): least squares on the first snapshot, or on all."""
        return self._fitted().amplitudes(self.opt)

    @property
    def dynamics(self) -> NDArray[np.complex128]:
        """Amplitude times eigenvalue power over the fitted times, shape (r, n_snapshots)."""
        times = self._x.shape[1] - (1 if self._options.affine else 0)
        powers: NDArray[np.complex128] = np.vander(self.eigenvalues, times, increasing=True)
        return self.amplitudes[:, None] * powers

    def reconstruct(self) -> NDArray[Any]:
        """Return the fitted snapshots as modes times dynamics, shape and dtype of X, real."""
        coefficients = (self._fitted().mode_coefficients() @ self.dynamics).real
        if self._options.affine:  # the series of differences, summed up from the first snapshot
            start = np.zeros((len(coefficients), 1))
            coefficients = np.cumsum(np.hstack([start, coefficients]), axis=1)
            coefficients[0] += 1.0
        return self._combine(coefficients)

    def predict(self, x: ArrayLike, n_steps: float = 1) -> NDArray[Any]:
        """Advance given states by the fitted operator.

        Parameters
        ----------
        x : array of shape (n_features,) or (n_features, n_states), dtype of the fit
            States to advance.
        n_steps : float
            Steps of one snapshot each, at least 1.

        Returns
        -------
        ndarray
            The advanced states, shape and dtype of `x`.
        """
        fit = self._fitted()
        states = np.asarray(x)
        if states.dtype != self._x.dtype:
            raise TypeError(f"x has dtype {states.dtype}; the fit has {self._x.dtype}")
        if states.ndim not in (1, 2) or states.shape[0] != self._x.shape[0]:
            raise ValueError(
                f"x has shape {states.shape}; expected ({self._x.shape[0]},) or "
                f"({self._x.shape[0]}, n_states)"
            )
        columns = states[:, None] if states.ndim == 1 else states
        cross = _core.cross_gram(self._x, columns)
        if self._y is not None:
            cross = np.vstack([cross, _core.cross_gram(self._y, columns)])
        if not np.isfinite(cross).all():
            raise ValueError("x has a value that is not finite")
        return self._combine(fit.predict(cross, n_steps)).reshape(states.shape)

    def forecast(self, horizon: ArrayLike) -> NDArray[Any]:
        """Forecast from the last snapshot (of Y, if given).

        Parameters
        ----------
        horizon : float or array of shape (k,)
            Steps beyond the last snapshot, at least 0; fractions interpolate.

        Returns
        -------
        ndarray of shape (n_features,) or (n_features, k)
            Forecast states in the dtype of the fit, real.
        """
        fit = self._fitted()
        horizons = np.asarray(horizon, dtype=np.float64)
        if horizons.ndim > 1:
            raise ValueError(f"horizon has shape {horizons.shape}; give a number or a 1-D array")
        columns = [fit.forecast(float(h)) for h in np.atleast_1d(horizons)]
        states = self._combine(np.array(columns).reshape(len(columns), -1).T)
        return states[:, 0] if horizons.ndim == 0 else states


def _snapshots(data: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(data)
    require_float(array, name)
    if array.ndim != 2:
        raise ValueError(
            f"{name} has shape {array.shape}; expected 2 dimensions (n_features, n_snapshots)"
        )
    if array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}: it is empty")
    return array
