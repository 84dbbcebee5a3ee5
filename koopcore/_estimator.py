"""What every fitted estimator can say of itself beyond its spectrum: modes, dynamics, trust."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore import _trust
from koopcore._base import Fit, FitOptions, Spectrum
from koopcore._problem import Fitted, Problem


class Estimator(Spectrum):
    """Spectrum, modes and trust. Needs the four methods that raise here, and ``_options``."""

    opt: bool = False
    sparsity: float | None = None
    _options: FitOptions
    _sparse: NDArray[np.complex128] | None = None
    _errors: tuple[Fitted, int, int, _trust.ForecastError] | None = None

    def _state(self) -> tuple[Problem, Fitted]:
        raise NotImplementedError

    def _combine(self, coefficients: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError

    def _row_norms(self, coefficients: NDArray[Any]) -> NDArray[np.float64]:
        raise NotImplementedError

    def _shaped(self, states: NDArray[Any], columns: str | None = None) -> Any:
        raise NotImplementedError

    def _fitted(self) -> Fit:
        return self._state()[1].core

    @property
    def omega(self) -> NDArray[np.complex128]:
        """Continuous-time ``log(eigenvalues) / dt``; real part -inf for eigenvalue 0."""
        optimized = self._state()[1].optimized
        return super().omega if optimized is None else optimized.omega

    @property
    def times(self) -> NDArray[np.float64]:
        """Times of the snapshots, of several trajectories the first's: from 0 in steps of dt."""
        problem, _ = self._state()
        if problem.times is not None:
            return problem.times
        first, stop = problem.bounds()[0]
        count = problem.lag if problem.pairs else stop - first
        return self.dt * np.arange(count, dtype=np.float64)

    @property
    def modes(self) -> Any:
        """Modes in columns, shape (n_features, r), complex; formed anew at each access.

        With delays their oldest block, so that ``modes @ dynamics`` follows the snapshots.
        """
        return self._shaped(self._combine(self._fitted().mode_coefficients()), "mode")

    def _states_of(self, problem: Problem, trajectory: int) -> tuple[int, int]:
        """First state and number of states that amplitudes are fitted to."""
        if problem.pairs:
            return 0, problem.lag if self.opt or self.sparsity is not None else 1
        first, stop = problem.bounds()[trajectory]
        count = stop - first - self._options.least_snapshots + 2
        return first, count if self.opt or self.sparsity is not None else 1

    @property
    def amplitudes(self) -> NDArray[np.complex128]:
        """Amplitudes of the modes: least squares on the first snapshot, or on all.

        Shape (r,); (r, n_trajectories) if several trajectories were given.
        """
        problem, fitted = self._state()
        if fitted.optimized is not None:
            return fitted.optimized.amplitudes
        if self._sparse is not None:
            return self._sparse
        found = [
            fitted.core.amplitudes(*self._states_of(problem, i))
            for i in range(len(problem.bounds()))
        ]
        return found[0] if len(found) == 1 else np.column_stack(found)

    @property
    def dynamics(self) -> Any:
        """Amplitude times eigenvalue power over the fitted times, shape (r, n_snapshots).

        A list of such if several trajectories were given.
        """
        problem, fitted = self._state()
        if problem.times is not None and fitted.optimized is not None:
            elapsed = problem.times - problem.times[0]
            return self.amplitudes[:, None] * np.exp(self.omega[:, None] * elapsed)
        amplitudes = self.amplitudes.reshape(len(self.eigenvalues), len(problem.bounds()))
        shorter = 1 if fitted.options.affine == "differences" else 0
        series = []
        for i, (first, stop) in enumerate(problem.bounds()):
            length = problem.lag if problem.pairs else stop - first - shorter
            powers = np.vander(self.eigenvalues, length, increasing=True)
            series.append(amplitudes[:, i, None] * powers)
        return series[0] if len(series) == 1 else series

    def reconstruct(self) -> Any:
        """Return the fitted snapshots as modes times dynamics, real for real data.

        Shape, dtype and kind of the snapshots; a list if several trajectories were given.
        """
        problem, fitted = self._state()
        modes, dynamics = fitted.core.mode_coefficients(), self.dynamics
        states = []
        several = dynamics if isinstance(dynamics, list) else [dynamics]
        for (first, _), series in zip(problem.bounds(), several, strict=True):
            coefficients = modes @ series
            if problem.gram.dtype.kind != "c":
                coefficients = coefficients.real
            if fitted.options.affine == "differences":  # summed up from the first snapshot
                start = np.zeros((len(coefficients), 1))
                coefficients = np.cumsum(np.hstack([start, coefficients]), axis=1)
                coefficients[first] += 1.0
            states.append(self._shaped(self._combine(coefficients)))
        return states[0] if len(states) == 1 else states

    def residuals(self) -> NDArray[np.float64]:
        """Relative residual of each mode on snapshots it was not fitted to, shape (r,).

        ``|g(y) - lambda g(x)| / |g(x)|`` over held-out pairs (x, y), with g the coordinate of the
        mode: 0 for a mode that goes on as fitted, about 1 and more for a spurious one (Colbrook &
        Townsend 2024, in dual form). Five-fold: modes of the partial fits are matched by their
        eigenvalues. NaN where the snapshots are too few to hold any out.
        """
        return _trust.mode_residuals(*self._state())

    def consistency_index(self) -> float:
        """Forward-backward consistency of the reduced directions: 0 is perfect, 1 the worst.

        Largest eigenvalue of ``I - M_f M_b`` (Haseli & Cortes 2023). It sees noise only where there
        are more pairs than directions: choose a rank.
        """
        return _trust.consistency_index(*self._state())

    def _forecast_error(self, bags: int, random_state: int) -> _trust.ForecastError:
        problem, fitted = self._state()
        if (
            self._errors is None
            or self._errors[0] is not fitted
            or self._errors[1:3] != (bags, random_state)
        ):
            error = _trust.ForecastError(problem, fitted, bags, random_state)
            self._errors = (fitted, bags, random_state, error)
        return self._errors[3]

    def forecast_interval(
        self,
        horizon: ArrayLike,
        level: float = 0.9,
        *,
        bags: int = _trust.BAGS,
        random_state: int = 0,
    ) -> tuple[Any, Any]:
        """Band that a future snapshot lies in with the given probability, per feature.

        Forecasts of fits to resampled pairs (bagging) give the operator's part; the rest of the
        error of forecasts of held-out snapshots is added as noise, shared among the features like
        the one-step residuals. How often the band holds is measured in the documentation.

        Parameters
        ----------
        horizon : float or array of shape (k,)
            Steps beyond the last snapshot.
        level : float
            Probability, between 0 and 1.
        bags : int
            Resampled fits.
        random_state : int
            Seed of the resampling.

        Returns
        -------
        lower, upper : like the result of ``forecast(horizon)``
        """
        problem, fitted = self._state()
        if problem.gram.dtype.kind == "c":
            raise ValueError("forecast_interval needs real snapshots: complex ones have no order")
        horizons = _trust.horizons_of(horizon)
        error = self._forecast_error(bags, random_state)
        shape = self._row_norms(_trust.residual_coefficients(problem, fitted)) ** 2
        shape = shape / shape.sum() if shape.sum() > 0.0 else np.full(len(shape), 1.0 / len(shape))
        widths = _trust.half_widths(error, shape, self._row_norms, horizons, level)
        middle = self._combine(np.column_stack([fitted.core.forecast(float(h)) for h in horizons]))
        band = [(middle + sign * widths).astype(middle.dtype) for sign in (-1.0, 1.0)]
        if np.ndim(horizon) == 0:
            band = [side[:, 0] for side in band]
        return self._shaped(band[0]), self._shaped(band[1])

    def horizon_of_trust(
        self,
        tol: float = 0.1,
        *,
        longest: int = 100_000,
        bags: int = _trust.BAGS,
        random_state: int = 0,
    ) -> int:
        """Count the steps up to which the expected error of a forecast stays within `tol`.

        The error is that of `forecast_interval` in the norm of the state, relative to the root mean
        squared distance of the snapshots from their mean. 0: not even one step.

        Parameters
        ----------
        tol : float
            Relative error, positive.
        longest : int
            The answer is at most this.
        bags, random_state
            As in `forecast_interval`.
        """
        problem, _ = self._state()
        error = self._forecast_error(bags, random_state)
        return _trust.trusted_horizon(error, _trust.snapshot_spread(problem), tol, longest)
