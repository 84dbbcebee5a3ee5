"""Optimized DMD: exponentials fitted to all reduced snapshots at once, at even or uneven times.

Askham & Kutz (2018), "Variable projection methods for an optimized dynamic mode decomposition",
SIAM J. Appl. Dyn. Syst. 17. The minimisation is in `_varpro`; here are its start and its result.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore._starts import greedy_start, operator_start
from koopcore._varpro import CONSTRAINTS, ROUNDING, Clock, Point, Problem, minimise

Array = NDArray[Any]
ComplexArray = NDArray[np.complex128]

# More snapshots than this are not searched for the greedy start, which costs their square.
GREEDY_LIMIT = 512
PAIRING = 1e-8  # relative distance up to which a given start counts as conjugate, or as real


@dataclass(frozen=True)
class OptimizedFit:
    """Exponentials fitted to reduced snapshots: Z = modes diag(amplitudes) exp(omega (t - t_0)).

    Attributes
    ----------
    omega : ndarray of shape (q,), complex128
        Exponents per unit of time, by falling real part; pairs side by side. For real data they
        are exact conjugate pairs, real, or (even times) ``a + i pi / dt``, which samples as the
        real ``(-exp(a dt))**k``.
    modes : ndarray of shape (r, q), complex128
        Columns of norm 1 (0 where the amplitude is 0), conjugate where the exponents are.
    amplitudes : ndarray of shape (q,), complex128
        At the first time, not negative.
    relative_residual : float
        Norm of the misfit over the norm of the snapshots; 0 for zero snapshots.
    iterations : int
        Accepted steps.
    converged : bool
        False if `max_iterations` ended the search.
    """

    omega: ComplexArray
    modes: ComplexArray
    amplitudes: ComplexArray
    relative_residual: float
    iterations: int
    converged: bool


def fit_optimized(
    Z: ArrayLike,
    times: ArrayLike,
    *,
    count: int | None = None,
    omega: ArrayLike | None = None,
    constraint: str | None = None,
    max_iterations: int = 30,
    tol: float = 1e-10,
) -> OptimizedFit:
    """Minimise ``||Z - modes diag(b) exp(omega t)||`` over exponents, modes and amplitudes.

    Levenberg-Marquardt on the exponents (Askham & Kutz 2018, section 3, with Kaufman's Jacobian),
    from `initial_omega` and, for up to 512 snapshots, once more from exponents picked greedily off
    a grid; the better end is the result. Only steps that lower the residual are taken, so it never
    exceeds that of the start. Real parts stay between ``log(eps) / (smallest step)``, at which an
    exponential is gone by the next snapshot (an eigenvalue 0), and the growth that float64 holds
    over the whole span of time.

    Parameters
    ----------
    Z : ndarray of shape (r, m)
        Reduced snapshots in columns, real or complex, finite.
    times : ndarray of shape (m,)
        Strictly increasing, even or not. Only differences matter.
    count : int, optional
        Exponents wanted, from 1 to ``min(r, m - 1)``, the default; lowered where the snapshots
        have fewer directions, to 0 for zero snapshots.
    omega : ndarray of shape (q,), optional
        The only start, instead of those two: 1 to m - 1 exponents, in conjugate pairs for real `Z`.
    constraint : {None, "stable", "unit_circle", "real"}
        Keep every exponent at ``Re <= 0``, ``Re == 0`` or ``Im == 0``, by projection of each
        iterate (Sashidhar & Kutz 2022), the start included.
    max_iterations : int
        Largest number of steps from each start, at least 0.
    tol : float
        Stop when the linearised problem promises to lower the squared residual by less than this
        share of it.

    Returns
    -------
    OptimizedFit
        The best exponents found; with ``max_iterations=0`` the better start.

    Raises
    ------
    TypeError
        If `Z` does not hold numbers.
    ValueError
        On wrong shapes, values that are not finite, times that do not increase, too few
        snapshots, a start without conjugate pairs for real data, or an unknown constraint.

    Examples
    --------
    >>> times = np.array([0.0, 0.1, 0.3, 0.4, 0.8, 0.9, 1.5])
    >>> fit = fit_optimized([np.exp(-2 * times) + np.exp(-times), np.exp(-times)], times)
    >>> fit.omega.real.round(6).tolist()
    [-1.0, -2.0]
    """
    data, eps = _checked_snapshots(Z)
    clock = _checked_clock(times, data.shape[1])
    if constraint not in CONSTRAINTS:
        raise ValueError(f"constraint={constraint!r} must be one of {CONSTRAINTS}")
    if max_iterations < 0 or not tol >= 0:
        raise ValueError(f"{max_iterations=} and {tol=} must not be negative")
    if omega is None:
        starts = _starts(data, clock, _checked_count(count, data), eps)
    elif count is None:
        starts = [_checked_omega(omega, data, clock)]
    else:
        raise ValueError(f"give either count={count!r} or omega, which sets the count itself")
    if starts[0].size == 0:
        modes = np.zeros((len(data), 0), dtype=complex)
        return OptimizedFit(starts[0], modes, modes.sum(axis=0), float(data.any()), 0, True)
    problem = Problem(data, clock, constraint)
    best, iterations, converged = minimise(problem, starts[0], max_iterations, tol)
    for start in starts[1:]:
        if best.cost > ROUNDING:
            other = minimise(problem, start, max_iterations, tol)
            if other[0].cost < best.cost:
                best, iterations, converged = other
    modes, amplitudes = _unit_modes(problem, best)
    order = np.lexsort((-best.omega.imag, np.abs(best.omega.imag), -best.omega.real))
    return OptimizedFit(
        omega=best.omega[order] / clock.span,
        modes=modes[:, order],
        amplitudes=amplitudes[order],
        relative_residual=float(np.sqrt(best.cost)),
        iterations=iterations,
        converged=converged,
    )


def initial_omega(Z: ArrayLike, times: ArrayLike, count: int | None = None) -> ComplexArray:
    """Exponents to start from, shape (count,) or fewer where `Z` has fewer directions.

    Even times: ``log(eigenvalues) / dt`` of exact DMD. Uneven times: eigenvalues of the operator
    that takes the means of neighbouring snapshots to their difference quotients, which is the
    trapezoidal rule (Askham & Kutz 2018, section 4). Parameters as in `fit_optimized`.
    """
    data, eps = _checked_snapshots(Z)
    clock = _checked_clock(times, data.shape[1])
    return operator_start(data, clock, _checked_count(count, data), eps) / clock.span


def _starts(data: Array, clock: Clock, count: int, eps: float) -> list[ComplexArray]:
    first = operator_start(data, clock, count, eps)
    if first.size == 0 or data.shape[1] > GREEDY_LIMIT:
        return [first]
    return [first, greedy_start(data, clock, first.size)]


def _unit_modes(problem: Problem, point: Point) -> tuple[ComplexArray, ComplexArray]:
    """Modes of norm 1 and amplitudes at time 0; exact conjugates and reals for real data."""
    modes: ComplexArray = point.weights.T.astype(np.complex128)
    if problem.is_real:
        # Rounding alone separates the weights from their symmetric part.
        omega = point.omega
        partner = np.arange(len(omega))
        pairs = np.flatnonzero((omega.imag > 0) & (omega.imag < problem.clock.nyquist))
        partner[pairs], partner[pairs + len(pairs)] = pairs + len(pairs), pairs
        modes = (modes + modes[:, partner].conj()) / 2
    norms = np.linalg.norm(modes, axis=0)
    modes /= np.where(norms > 0.0, norms, 1.0)
    # The weights belong to exponentials whose largest value is 1, at the last time if they grow.
    amplitudes = problem.norm * norms * np.exp(-np.maximum(point.omega.real, 0.0))
    return modes, amplitudes.astype(complex)


def _checked_snapshots(Z: ArrayLike) -> tuple[Array, float]:
    """Snapshots in double precision, and the rounding of the type they came in."""
    data = np.asarray(Z)
    if data.dtype.kind not in "iufc":
        raise TypeError(f"Z has dtype {data.dtype}; it must hold real or complex numbers")
    if data.ndim != 2 or data.shape[0] < 1 or data.shape[1] < 2:
        raise ValueError(f"Z has shape {data.shape}; it must be (r, m) with r >= 1 and m >= 2")
    if not np.isfinite(data).all():
        row, column = np.argwhere(~np.isfinite(data))[0]
        raise ValueError(f"Z[{row}, {column}]={data[row, column]} must be finite")
    eps = np.finfo(data.dtype if data.dtype.kind in "fc" else np.float64).eps
    return data.astype(np.complex128 if data.dtype.kind == "c" else np.float64), float(eps)


def _checked_clock(times: ArrayLike, m: int) -> Clock:
    values = np.asarray(times, dtype=np.float64)
    if values.shape != (m,):
        raise ValueError(f"times has shape {values.shape}; Z has {m} snapshots and needs ({m},)")
    if not np.isfinite(values).all():
        k = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"times[{k}]={values[k]} must be finite")
    if not (np.diff(values) > 0).all():
        k = int(np.flatnonzero(np.diff(values) <= 0)[0])
        raise ValueError(
            f"times must increase strictly, but times[{k}]={values[k]} is followed by "
            f"times[{k + 1}]={values[k + 1]}"
        )
    return Clock.of(values)


def _checked_count(count: int | None, data: Array) -> int:
    r, m = data.shape
    limit: int = min(r, m - 1)
    if count is None:
        return limit
    if not 1 <= operator.index(count) <= limit:
        raise ValueError(
            f"count={count!r} must be between 1 and {limit}, the limit for {m} snapshots of {r} "
            f"rows (any {m} exponents fit {m} snapshots exactly)"
        )
    return int(count)


def _checked_omega(omega: ArrayLike, data: Array, clock: Clock) -> ComplexArray:
    """Given start in the units of the clock, exact conjugates for real data."""
    start = np.array(omega, dtype=np.complex128)
    if start.ndim != 1 or not 1 <= start.size < data.shape[1]:
        raise ValueError(
            f"omega has shape {start.shape}; for {data.shape[1]} snapshots it must be (q,) with "
            f"1 <= q <= {data.shape[1] - 1}"
        )
    if not np.isfinite(start).all():
        raise ValueError(f"omega={omega!r} must be finite")
    start *= clock.span
    if not np.iscomplexobj(data):
        start.imag[np.abs(start.imag) <= PAIRING * np.abs(start)] = 0.0
        wrapped = clock.wrapped(start)
        paired = wrapped[(wrapped.imag != 0) & (wrapped.imag != clock.nyquist)]
        distance = np.abs(paired[:, None] - paired.conj()).min(axis=1, initial=np.inf)
        if (paired.imag > 0).sum() * 2 != len(paired) or (distance > PAIRING * abs(paired)).any():
            raise ValueError(f"omega={omega!r} must come in conjugate pairs, since Z is real")
    return start
