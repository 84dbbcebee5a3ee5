"""DMD, the batch estimator: snapshots in columns, everything from their Gram matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore._arrays import state_columns
from koopcore._base import FitOptions, Rank, checked_dt, one_of
from koopcore._estimator import Estimator
from koopcore._problem import Fitted, Problem, fit
from koopcore._snapshots import Snapshots, gathered
from koopcore._solve import pose, require, solve
from koopcore._sparse import sparse_amplitudes
from koopcore._trust import horizons_of


class DMD(Estimator):
    """Dynamic mode decomposition of snapshots in columns.

    Fits the linear operator ``A`` of ``x_{t+1} = A x_t`` on the leading directions of the data
    (Schmid 2010; Tu et al. 2014 for exact modes). Only the m x m Gram matrix is decomposed, in
    float64; the n x m data are read once by `fit`, in place and in blocks, and again only when
    modes, reconstruction or forecasts are asked for. Until then `fit` keeps a reference to the
    arrays it was given, not a copy: do not change them in between.

    Parameters
    ----------
    rank : int, float in (0, 1), "svht", "cv" or None
        Number of modes; share of the energy (sum of squared singular values) to keep; the optimal
        hard threshold for unknown noise (Gavish & Donoho 2014); cross-validated on held-out
        snapshots; or all that `tol` lets through. A number is lowered where the data have fewer
        directions, and refused where there are fewer pairs of snapshots.
    svd_rank : int or float, optional
        PyDMD's name for `rank`: -1 means None and 0 means "svht".
    variant : {"standard", "tls", "forward-backward", "symmetric", "optimized"}
        Least squares; total least squares, against noise in all snapshots (Hemati et al. 2017);
        forward-backward, likewise (Dawson et al. 2016), but the forward operator alone where the
        rank is above the data's; symmetric operator, as of gradient descent
        (Baddoo et al. 2023); exponentials fitted to all snapshots (Askham & Kutz 2018).
    exact : bool, optional
        Exact modes, in the span of the later snapshots, or projected ones. Default: exact where
        they exist, which is with "standard" and "tls" and no constraint.
    affine : bool or {"differences", "constant"}
        Fit ``x_{t+1} = A x_t + b``: through first differences (True), whose modes and amplitudes
        they then are, or with a constant among the observables.
    delays : int
        Successive snapshots stacked into one state (Arbabi & Mezic 2017); 1 is none.
    ridge : float
        ``(X X^T + ridge * mean eigenvalue)^-1`` in place of the inverse.
    constraint : {None, "stable", "unit_circle", "real"}
        Move every eigenvalue to the nearest admissible one; "optimized" fits under it.
    sparsity : float in [0, 1), optional
        Keep the modes with an amplitude under an L1 penalty, a share of the one that leaves none
        (Jovanovic et al. 2014).
    tol : float, optional
        Drop singular values below this times the largest. Default: what the solver resolves.
    solver : {"auto", "gram", "qr"}
        Gram matrix, which resolves singular values down to about 1e-7 of the largest; triangular
        factor, for float64 data beyond that, at several times the cost; or the second where the
        first is not enough. `solver_` says which it was.
    opt : bool
        Fit the amplitudes to all snapshots; otherwise, as in PyDMD by default, to the first.
    unstable : {"clip", "reflect", "drop", "keep"}
        Eigenvalues outside the unit circle in `forecast` and `predict`: put onto it (default),
        mirrored into it, left out, or kept. `eigenvalues`, `reconstruct` and `dynamics` always use
        them as fitted.
    dt : float
        Time between two snapshots.

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
        rank: Rank = None,
        *,
        svd_rank: int | float | None = None,
        variant: str = "standard",
        exact: bool | None = None,
        affine: bool | str = False,
        delays: int = 1,
        ridge: float = 0.0,
        constraint: str | None = None,
        sparsity: float | None = None,
        tol: float | None = None,
        solver: str = "auto",
        opt: bool = False,
        unstable: str = "clip",
        dt: float = 1.0,
    ) -> None:
        self._parameters = {k: v for k, v in locals().items() if k != "self"}
        if svd_rank is not None:
            if rank is not None:
                raise ValueError(f"rank={rank!r} and svd_rank={svd_rank!r} mean the same: give one")
            rank = None if svd_rank == -1 else "svht" if svd_rank == 0 else svd_rank
        if sparsity is not None and not 0.0 <= sparsity < 1.0:
            raise ValueError(
                f"sparsity={sparsity!r} is a share of the largest penalty: 0 <= .. < 1"
            )
        self.rank = rank
        self.solver = one_of("solver", solver, ("auto", "gram", "qr"))
        self.sparsity = sparsity
        self.opt = bool(opt)
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
        self._snapshots: Snapshots | None = None
        self._problem: Problem | None = None
        self._fit: Fitted | None = None

    def fit(self, X: Any, Y: Any = None, *, times: ArrayLike | None = None) -> DMD:
        """Fit the operator.

        Parameters
        ----------
        X : array of shape (n_features, n_snapshots), or list of such
            Snapshots in columns, equally spaced in time: a NumPy, torch, xarray or other CPU array
            with DLPack, float32, float64, complex64 or complex128; any strides, read in place. A
            list holds several trajectories of one system.
        Y : array of the same shape and dtype, optional
            Successors: ``Y[:, j]`` follows ``X[:, j]``. Without it the columns of X are one series.
        times : array of shape (n_snapshots,), optional
            Increasing times of the snapshots, for ``variant="optimized"``.

        Returns
        -------
        DMD
            Itself.

        Raises
        ------
        TypeError
            If the dtype is not one of those, or differs between the arrays.
        ValueError
            If a shape is wrong, there are too few snapshots, or a value is not finite.
        """
        snapshots = gathered(X, Y)
        require(snapshots, self._options, self.solver, pairs=Y is not None, timed=times is not None)
        gram = snapshots.gram() if self.solver != "qr" else np.empty((0, 0))
        problem = pose(snapshots, gram, pairs=Y is not None, times=times, dt=self.dt)
        return self._fit_to(snapshots, *solve(snapshots, problem, self._options, self.solver))

    def _fit_to(self, snapshots: Snapshots, problem: Problem, fitted: Fitted) -> DMD:
        self._sparse = None
        if self.sparsity is not None:
            fitted = self._sparsified(problem, fitted)
        self._snapshots, self._problem, self._fit = snapshots, problem, fitted
        return self

    def _sparsified(self, problem: Problem, fitted: Fitted) -> Fitted:
        """Keep the modes whose amplitude survives the penalty."""
        if len(problem.bounds()) > 1 or fitted.optimized is not None:
            raise ValueError(
                f"sparsity={self.sparsity!r} needs one time series and a variant other than "
                "'optimized'"
            )
        first, count = self._states_of(problem, 0)
        # The penalty is on the size of a mode's part of the first snapshot.
        squares = np.diag(fitted.core.amplitude_system(first, 1)[0]).real
        size = np.sqrt(np.where(squares > 0.0, squares, 1.0))
        assert self.sparsity is not None
        system, rhs = fitted.core.amplitude_system(first, count)
        found = sparse_amplitudes(system / np.outer(size, size), rhs / size, self.sparsity)
        kept = np.flatnonzero(found)
        self._sparse = found[kept] / size[kept]
        return Fitted(fitted.core.restricted(kept.tolist()), fitted.options, fitted.starts)

    def _state(self) -> tuple[Problem, Fitted]:
        if self._problem is None or self._fit is None:
            raise ValueError("this DMD is not fitted yet; call fit(X) first")
        return self._problem, self._fit

    def _to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Describe the fit by its parameters and arrays, for `koopcore.io`."""
        problem, data = self._state()[0], self._data()
        arrays = {f"snapshots.{i}": part for i, part in enumerate(data.parts)}
        for name in ("gram", "factor", "times"):
            if getattr(problem, name) is not None:
                arrays[name] = getattr(problem, name)
        return {"parameters": self._parameters, "pairs": problem.pairs}, arrays

    @classmethod
    def _from_state(cls, metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> DMD:
        model = cls(**metadata["parameters"])
        parts = [arrays[f"snapshots.{i}"] for i in range(sum("snapshots" in a for a in arrays))]
        snapshots = Snapshots(parts, [f"snapshots.{i}" for i in range(len(parts))])
        problem = pose(
            snapshots,
            arrays["gram"],
            pairs=metadata["pairs"],
            times=arrays.get("times"),
            dt=model.dt,
            factor=arrays.get("factor"),
        )
        return model._fit_to(snapshots, problem, fit(problem, model._options))

    def _data(self) -> Snapshots:
        self._state()
        assert self._snapshots is not None
        return self._snapshots

    def _combine(self, coefficients: NDArray[Any]) -> NDArray[Any]:
        return self._data().combine(coefficients)

    def _row_norms(self, coefficients: NDArray[Any]) -> NDArray[np.float64]:
        return self._data().row_norms(coefficients)

    def _shaped(self, states: NDArray[Any], columns: str | None = None) -> Any:
        return self._data().caller.give(states, columns)

    @property
    def solver_(self) -> str:
        """The route taken: "gram" or "qr"."""
        return "gram" if self._state()[0].factor is None else "qr"

    @property
    def snapshots(self) -> Any:
        """The snapshots as given: one array, or a list of trajectories (with Y: [X, Y])."""
        parts = [self._data().caller.give(part) for part in self._data().parts]
        return parts[0] if len(parts) == 1 else parts

    def predict(self, x: Any, n_steps: float = 1) -> Any:
        """Advance given states by the fitted operator.

        Parameters
        ----------
        x : array of shape (n_features,) or (n_features, n_states), dtype of the fit
            States to advance. With ``delays=d`` a state is its last d snapshots, oldest first:
            shape (n_features, d) or (n_features, d, n_states).
        n_steps : float
            Steps of one snapshot each, at least 1.

        Returns
        -------
        array of shape (n_features,) or (n_features, n_states)
            The advanced states, in the caller's kind of array.
        """
        fit, data, delays = self._fitted(), self._data(), self._options.delays
        columns, single = state_columns(x, data.n_features, delays, data.dtype)
        cross = data.cross(columns)
        if not np.isfinite(cross).all():
            raise ValueError("x has a value that is not finite")
        advanced = self._combine(fit.predict(cross, n_steps))
        return self._shaped(advanced[:, 0] if single else advanced)

    def forecast(self, horizon: ArrayLike) -> Any:
        """Forecast from the last snapshot (of Y, if given; of the last trajectory of a list).

        Parameters
        ----------
        horizon : float or array of shape (k,)
            Steps beyond the last snapshot; fractions interpolate, negative ones go back in time by
            negative powers of the eigenvalues (a mode with eigenvalue 0 has no past).

        Returns
        -------
        array of shape (n_features,) or (n_features, k)
            Forecast states in the dtype and kind of X, real for real data.
        """
        fit = self._fitted()
        columns = [fit.forecast(float(h)) for h in horizons_of(horizon)]
        states = self._combine(np.array(columns).reshape(len(columns), -1).T)
        return self._shaped(states[:, 0] if np.ndim(horizon) == 0 else states)
