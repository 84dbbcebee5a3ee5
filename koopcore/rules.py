"""Coefficient rules: from the Gram matrix of a window to a forecast in its span.

Every rule is a small frozen object (it prints, compares and hashes) with one method,
``coefficients(gram, horizon)``; see `Rule`. A rule is affine, its coefficients sum to 1, unless
its docstring says otherwise: the forecast then does not depend on the reference that was
subtracted from the snapshots, and subtracting one keeps the digits of small changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from koopcore._base import FitOptions
from koopcore._gram import EPS, Array, changes, checked
from koopcore._problem import Problem, fit


class Rule(Protocol):
    """What all rules have in common."""

    def coefficients(self, gram: ArrayLike, horizon: float) -> Array:
        """Return the coefficients of a forecast on the snapshots.

        Parameters
        ----------
        gram : array of shape (m, m), float64
            Gram matrix of the snapshots, oldest first, or of the snapshots minus any common
            reference.
        horizon : float
            Steps (of one snapshot each) beyond the last snapshot; negative: before it.

        Returns
        -------
        ndarray of shape (m,), float64
            c, oldest snapshot first: the forecast is ``sum_j c[j] * snapshot_j``. Where all
            snapshots are equal to what the Gram matrix resolves, a rule whose coefficients depend
            on it returns the last snapshot.

        Raises
        ------
        TypeError, ValueError
            If `gram` is not float64, square, finite and symmetric, or of fewer snapshots than the
            rule needs; if `horizon` is not a finite real number.
        """
        ...


@dataclass(frozen=True)
class Secant:
    """Straight on: ``w_last + horizon * (w_last - w_{last - over}) / over``.

    Parameters
    ----------
    over : int or None
        Steps that the slope is taken over; None: from the first snapshot to the last. Needs
        ``over + 1`` snapshots (None: 2).

    Examples
    --------
    >>> Secant().coefficients(np.eye(3), horizon=2).tolist()
    [0.0, -2.0, 3.0]
    """

    over: int | None = 1

    def __post_init__(self) -> None:
        if self.over is not None:
            _require_count(self.over, "over", 1)

    def coefficients(self, gram: ArrayLike, horizon: float) -> Array:
        """Return the coefficients; see `Rule`."""
        gram, horizon = checked(gram, horizon, (self.over or 1) + 1, self)
        over = self.over or len(gram) - 1
        c = _last(len(gram))
        c[-1] += horizon / over
        c[-1 - over] -= horizon / over
        return c


@dataclass(frozen=True)
class Polynomial:
    """Least-squares polynomial in time, evaluated at the horizon.

    The basis is orthonormal on the window and built by Arnoldi's process (Brubeck, Nakatsukasa and
    Trefethen, SIAM Review 63, 2021), so that high degrees lose no digits to the basis.

    Parameters
    ----------
    degree : int
        Degree, at least 0 (the mean) and below the number of snapshots (``m - 1`` interpolates).
    last : int or None
        How many of the last snapshots it is fitted to, more than `degree`; None: all.

    Examples
    --------
    >>> Polynomial(degree=2).coefficients(np.eye(3), horizon=1).round(12).tolist()
    [1.0, -3.0, 3.0]
    """

    degree: int = 1
    last: int | None = None

    def __post_init__(self) -> None:
        _require_count(self.degree, "degree", 0)
        if self.last is not None:
            _require_count(self.last, "last", self.degree + 1)

    def coefficients(self, gram: ArrayLike, horizon: float) -> Array:
        """Return the coefficients; see `Rule`."""
        m = len(checked(gram, horizon, self.last or self.degree + 1, self)[0])
        count = self.last or m
        weights = np.zeros(m)
        weights[m - count :] = _polynomial_weights(count, self.degree, float(horizon))
        return weights


@dataclass(frozen=True)
class RankOneLinear:
    """Rank 1 plus linear regression: a line fitted to the scores on one direction (RELEX).

    With ``d_j = w_j - w_0`` (`w_0` the first snapshot, j = 1 ... m - 1) and v their leading left
    singular vector, the scores ``v.d_j`` are fitted by a line s(t) in time; the forecast is
    ``w_0 + s(t) v`` (Wei et al. 2026, arXiv 2605.21468: there per tensor, from the base model).
    As there, the differences are not centred before the singular value decomposition; the other
    reading, the principal direction of the centred window, is not implemented. At horizon 0 the
    forecast is near the last snapshot, not equal to it. Needs 3 snapshots.

    Examples
    --------
    >>> X = np.outer([1.0, 2.0], [0.0, 1.0, 2.0, 3.0])
    >>> (X @ RankOneLinear().coefficients(X.T @ X, horizon=7)).round(12).tolist()
    [10.0, 20.0]
    """

    def coefficients(self, gram: ArrayLike, horizon: float) -> Array:
        """Return the coefficients; see `Rule`."""
        gram, horizon = checked(gram, horizon, 3, self)
        differences = changes(gram, slice(0, 1))
        if differences is None:
            return _last(len(gram))
        scores = np.linalg.eigh(differences)[1][:, -1]
        # v and the scores both carry u = scores up to one scale, which cancels, as its sign does.
        on_differences = scores * (_polynomial_weights(len(scores), 1, horizon) @ scores)
        return np.concatenate([[1.0 - on_differences.sum()], on_differences])


@dataclass(frozen=True)
class UniformAverage:
    """Mean of the last snapshots (as in SWA and LAWA). The horizon is ignored.

    Parameters
    ----------
    last : int or None
        How many snapshots, all of which the window must hold; None: the whole window.

    Examples
    --------
    >>> UniformAverage(last=2).coefficients(np.eye(3), horizon=0).tolist()
    [0.0, 0.5, 0.5]
    """

    last: int | None = None

    def __post_init__(self) -> None:
        if self.last is not None:
            _require_count(self.last, "last", 1)

    def coefficients(self, gram: ArrayLike, horizon: float) -> Array:
        """Return the coefficients; see `Rule`."""
        m = len(checked(gram, horizon, self.last or 1, self)[0])
        count = self.last or m
        return np.repeat([0.0, 1.0 / count], [m - count, count])


@dataclass(frozen=True)
class ExponentialAverage:
    """Exponential moving average over the window (EMA). The horizon is ignored.

    The coefficients are ``decay**age``, divided by their sum: the recursion
    ``a = decay * a + (1 - decay) * w`` from a = 0, corrected for that start.

    Parameters
    ----------
    decay : float
        ``0 <= decay < 1`` per snapshot; 0 is the last snapshot.

    Examples
    --------
    >>> (7 * ExponentialAverage(decay=0.5).coefficients(np.eye(3), horizon=0)).round(12).tolist()
    [1.0, 2.0, 4.0]
    """

    decay: float

    def __post_init__(self) -> None:
        if not (isinstance(self.decay, Real) and 0.0 <= self.decay < 1.0):
            raise ValueError(f"decay={self.decay!r} must be in [0, 1); for 1 use UniformAverage")

    def coefficients(self, gram: ArrayLike, horizon: float) -> Array:
        """Return the coefficients; see `Rule`."""
        m = len(checked(gram, horizon, 1, self)[0])
        powers = np.power(float(self.decay), np.arange(m - 1, -1, -1.0))
        weights: Array = powers / powers.sum()
        return weights


@dataclass(frozen=True)
class Anderson:
    """Anderson's, or regularised nonlinear, acceleration: the limit of the iteration.

    With residuals ``r_j = w_{j+1} - w_j`` it minimises ``|sum c_j r_j|^2 + ridge |R| |c|^2`` over
    ``sum c_j = 1``, where |R| is the largest eigenvalue of the residuals' Gram matrix (Scieur,
    d'Aspremont and Bach 2016, algorithm RNA; without a ridge, reduced rank extrapolation, and for
    three numbers Aitken's delta-squared). The coefficients are put on the *later* snapshots
    ``w_{j+1}``, as in Anderson mixing with full steps; the authors' program takes the earlier ones.
    The horizon is ignored: it is the limit that is estimated. Needs 2 snapshots.

    Parameters
    ----------
    ridge : float
        At least 0; what lies below ``m * eps``, which no Gram matrix resolves, counts as that.
        Large values tend to the mean of the later snapshots.

    Examples
    --------
    >>> X = np.array([[1.0], [-2.0]]) + np.outer([1.0, 1.0], 0.5 ** np.arange(4))
    >>> (X @ Anderson().coefficients(X.T @ X, horizon=0)).round(6).tolist()
    [1.0, -2.0]
    """

    ridge: float = 1e-8

    def __post_init__(self) -> None:
        if not (isinstance(self.ridge, Real) and 0.0 <= self.ridge < math.inf):
            raise ValueError(f"ridge={self.ridge!r} must be a finite number, at least 0")

    def coefficients(self, gram: ArrayLike, horizon: float) -> Array:
        """Return the coefficients; see `Rule`."""
        gram, _ = checked(gram, horizon, 2, self)
        residuals = changes(gram, slice(0, -1))
        if residuals is None:
            return _last(len(gram))
        values, vectors = np.linalg.eigh(residuals)
        ridge = max(float(self.ridge), len(gram) * EPS)
        damped = np.maximum(values / values[-1], 0.0) + ridge
        z = vectors @ (vectors.sum(axis=0) / damped)
        return np.concatenate([[0.0], z / z.sum()])


@dataclass(frozen=True, init=False, repr=False)
class Dynamics:
    """Dynamic mode decomposition in any of its forms, as a rule.

    Keywords are those of the estimators (`koopcore.DMD`: `rank`, `tol`, `exact`, `unstable`, ...)
    and checked at once, except that ``affine=True`` is the default here. Only then do the
    coefficients sum to 1: with ``affine=False`` give the Gram matrix of the snapshots themselves,
    without a reference. Needs 3 snapshots (2 with ``affine=False``).

    Examples
    --------
    >>> X = np.array([[1.0], [-2.0]]) + np.outer([1.0, 1.0], 0.5 ** np.arange(4))
    >>> (X @ Dynamics(rank=1).coefficients(X.T @ X, horizon=100)).round(6).tolist()
    [1.0, -2.0]
    """

    options: FitOptions

    def __init__(self, **options: Any) -> None:
        object.__setattr__(self, "options", FitOptions.checked(**{"affine": True, **options}))
        object.__setattr__(self, "_given", options)

    def __repr__(self) -> str:
        given: dict[str, Any] = self.__dict__["_given"]
        return f"Dynamics({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def coefficients(self, gram: ArrayLike, horizon: float) -> Array:
        """Return the coefficients; see `Rule`."""
        gram, horizon = checked(gram, horizon, 1, self)
        coefficients: Array = fit(Problem(gram), self.options).core.forecast(horizon)
        return coefficients


def _require_count(value: int, name: str, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r} must be an int of at least {least}")


def _last(m: int) -> Array:
    last: Array = np.eye(1, m, m - 1)[0]
    return last


def _polynomial_weights(m: int, degree: int, horizon: float) -> Array:
    """Weights on times 0 ... m - 1 that give the least-squares polynomial at m - 1 + horizon."""
    half = max(m - 1, 1) / 2.0
    times, target = np.arange(m) / half - 1.0, 1.0 + horizon / half
    basis, values = np.zeros((m, degree + 1)), np.zeros(degree + 1)
    basis[:, 0] = values[0] = 1.0 / math.sqrt(m)
    for k in range(1, degree + 1):
        column, value = times * basis[:, k - 1], target * values[k - 1]
        for _ in range(2):  # one projection leaves rounding that the next degrees would amplify
            overlap = basis[:, :k].T @ column
            column = column - basis[:, :k] @ overlap
            value = value - values[:k] @ overlap
        norm = np.linalg.norm(column)
        basis[:, k], values[k] = column / norm, value / norm
    weights: Array = basis @ values
    return weights
