"""Variable projection for sums of exponentials: Levenberg-Marquardt on the exponents alone.

Golub & Pereyra (1973) with Kaufman's Jacobian (1975), which drops the term orthogonal to the
residual and keeps the gradient exact. Ours differs in two ways. The unknowns are real numbers that
hold real data and constraints exactly, whatever rounding does. And the Jacobian is never formed:
each of its columns is an outer product, so two small QR factorizations give an equivalent one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

EPS = float(np.finfo(np.float64).eps)
CONSTRAINTS = (None, "stable", "unit_circle", "real")

# With times on [0, 1]: exponents nearer than COINCIDENT count as one and are moved apart by
# SPREAD; couples nearer than CLOSE may turn from conjugate into real and back.
COINCIDENT, SPREAD, CLOSE = 1e-7, 0.05, np.pi
FIRST_DAMPING, LAST_DAMPING = 1e-2, 1e8
# Directions in which exponentials differ less than this are left out: the modes along them would
# be so large that only their cancellation fits, and rounding with them.
LEAST_SPAN = 1e-10
ROUNDING = (100 * EPS) ** 2  # squared residual of norm-1 snapshots at which nothing is left to fit


@dataclass(frozen=True)
class Clock:
    """Times on [0, 1] and the exponents that they can carry, in units of 1 / span."""

    t: FloatArray
    span: float
    nyquist: float  # pi / step; infinite for uneven times
    lowest: float
    highest: float

    @property
    def even(self) -> bool:
        """Whether the times are evenly spaced."""
        return bool(np.isfinite(self.nyquist))

    @classmethod
    def of(cls, times: FloatArray) -> Clock:
        """Scale increasing times; those on an even grid up to their rounding are put onto it."""
        intervals = len(times) - 1
        span = float(times[-1] - times[0])
        t, grid = (times - times[0]) / span, np.arange(intervals + 1) / intervals
        rounding = 1e-9 / intervals + 4 * EPS * float(np.abs(times).max()) / span
        even = bool(np.abs(t - grid).max() <= rounding)
        t = grid if even else t
        step = max(float(np.diff(t).min()), EPS)
        return cls(
            t=t,
            span=span,
            nyquist=np.pi * intervals if even else np.inf,
            lowest=float(np.log(EPS)) / step,
            highest=min(600.0, -float(np.log(EPS)) / step),
        )

    def wrapped(self, omega: ComplexArray) -> ComplexArray:
        """Aliases with ``-nyquist < Im <= nyquist``: at even times they are one exponential."""
        if not self.even:
            return omega
        im = omega.imag - 2 * self.nyquist * np.round(omega.imag / (2 * self.nyquist))
        im[np.abs(np.abs(im) - self.nyquist) <= 1e-9 * self.nyquist] = self.nyquist
        return omega.real + 1j * im


@dataclass(frozen=True)
class Point:
    """A set of exponents with the best modes for it; `left` spans the exponentials."""

    omega: ComplexArray  # (q,)
    left: Array  # (m, rank)
    slopes: Array  # (m, q), derivatives of the exponentials
    weights: Array  # (q, r), modes times amplitudes, as rows
    residual: Array  # (m, r)
    cost: float  # squared residual


@dataclass(frozen=True)
class Directions:
    """How real unknowns move the exponents: `T` (q, p), and couples moved by mean and square.

    Exponents ``mean + root`` and ``mean - root`` of couple (first, second) are moved through
    ``root**2``, the unknown `square`: its sign decides between real and conjugate, and the
    residual is smooth in it where both meet.
    """

    T: ComplexArray
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    square: NDArray[np.intp]


class Problem:
    """Snapshots, scaled to norm 1 and in rows, with what is demanded of their exponents.

    For real snapshots the exponents are kept in the order pairs with positive imaginary part,
    their conjugates, singles; a single is real or, at even times, on the line ``Im = nyquist``,
    whose samples are real as well.
    """

    def __init__(self, data: Array, clock: Clock, constraint: str | None) -> None:
        largest = float(np.abs(data).max()) or 1.0
        self.norm = largest * (float(np.linalg.norm(data / largest)) or 1.0)
        self.snapshots = np.ascontiguousarray(data.T) / self.norm
        self.is_real = not np.iscomplexobj(data)
        self.clock = clock
        self.constraint = constraint

    def feasible(self, omega: ComplexArray) -> ComplexArray:
        """Nearest exponents that the constraint, the clock and real data allow."""
        clock = self.clock
        re = np.clip(omega.real, clock.lowest, clock.highest)
        im = clock.wrapped(omega).imag
        if self.constraint == "stable":
            re = np.minimum(re, 0.0)
        elif self.constraint == "unit_circle":
            re = np.zeros_like(re)
        elif self.constraint == "real":
            im = np.zeros_like(im)
        if not self.is_real:
            return re + 1j * im
        paired = (im > 0) & (im < clock.nyquist)
        single = (im == 0) | (im == clock.nyquist)
        return _with_conjugates((re + 1j * im)[paired], (re + 1j * im)[single])

    def spread(self, omega: ComplexArray) -> ComplexArray:
        """Move coincident exponents apart: the data may hold t exp(omega t) as well."""
        free = omega[omega.imag >= 0] if self.is_real else omega
        near = np.abs(free[:, None] - free[None, :]) < COINCIDENT
        shift = SPREAD * np.tril(near, -1).sum(axis=1)
        moved = free + (1j * shift if self.constraint == "unit_circle" else -shift)
        if not self.is_real:
            return self.feasible(moved)
        zeros = free == 0
        if self.constraint == "unit_circle" and zeros.sum() > 1:
            # On the imaginary axis two zeros can only part as a conjugate pair.
            pairs = 1j * SPREAD * np.arange(1, zeros.sum() // 2 + 1)
            kept = np.zeros(zeros.sum() % 2, dtype=complex)
            moved = np.concatenate((moved[~zeros], pairs, kept))
        single = (moved.imag == 0) | (moved.imag == self.clock.nyquist)
        return self.feasible(_with_conjugates(moved[~single], moved[single]))

    def evaluate(self, omega: ComplexArray) -> Point:
        """Least-squares modes for these exponents, through a truncated SVD."""
        # Each exponential is scaled to largest value 1: growth cannot overflow.
        t = self.clock.t
        growth = np.maximum(omega.real, 0.0)
        exponentials = np.exp(t[:, None] * omega - growth)
        left, s, right = np.linalg.svd(exponentials, full_matrices=False)
        rank = int(np.count_nonzero(s > s[0] * LEAST_SPAN))
        left, s, right = left[:, :rank], s[:rank], right[:rank]
        inner = left.conj().T @ self.snapshots
        residual = self.snapshots - left @ inner
        return Point(
            omega=omega,
            left=left,
            slopes=t[:, None] * exponentials,
            weights=right.conj().T @ (inner / s[:, None]),
            residual=residual,
            cost=float(np.vdot(residual, residual).real),
        )

    def directions(self, omega: ComplexArray) -> Directions:
        """Real unknowns at these exponents."""
        q, none = len(omega), np.empty(0, dtype=np.intp)
        eye = np.eye(q, dtype=complex)
        if not self.is_real or self.constraint == "real":
            with_re, with_im = self.constraint != "unit_circle", self.constraint != "real"
            return Directions(np.hstack([eye] * with_re + [1j * eye] * with_im), none, none, none)
        n_pairs = int(np.count_nonzero((omega.imag > 0) & (omega.imag < self.clock.nyquist)))
        upper, lower = eye[:, :n_pairs], eye[:, n_pairs : 2 * n_pairs]
        if self.constraint == "unit_circle":
            return Directions(1j * (upper - lower), none, none, none)
        couples = [(k, k + n_pairs) for k in range(n_pairs) if omega[k].imag < CLOSE]
        couples += _close_reals(omega, first=2 * n_pairs, stable=self.constraint == "stable")
        first, second = np.array(couples, dtype=np.intp).reshape(-1, 2).T
        T = np.hstack([upper + lower, 1j * (upper - lower), eye[:, 2 * n_pairs :]])
        # Column numbers agree with exponents: of the mean with `first`, of the root with `second`.
        root = (omega[first] - omega[second]) / 2
        T[:, first] = eye[:, first] + eye[:, second]
        T[:, second] = (eye[:, first] - eye[:, second]) / (2 * root)
        return Directions(T, first, second, second)

    def moved(self, omega: ComplexArray, by: Directions, step: FloatArray) -> ComplexArray:
        """Feasible exponents after this step."""
        linear = step.copy()
        linear[by.square] = 0.0
        target = omega + by.T @ linear
        mean = ((target[by.first] + target[by.second]) / 2).real
        square = (((omega[by.first] - omega[by.second]) / 2) ** 2).real + step[by.square]
        root = np.sqrt(square.astype(complex))
        target[by.first], target[by.second] = mean + root, mean - root
        return self.feasible(target)

    def frozen(
        self, omega: ComplexArray, by: Directions, downhill: FloatArray
    ) -> NDArray[np.bool_]:
        """Unknowns that would leave the stable half plane at once."""
        if self.constraint != "stable":
            return np.zeros(len(downhill), dtype=bool)
        raises = np.all((by.T.imag == 0) & (by.T.real >= 0), axis=0)
        at_bound = (by.T.real[omega.real >= 0] > 0).any(axis=0)
        return np.asarray(raises & at_bound & (downhill > 0))


def _with_conjugates(pairs: ComplexArray, singles: ComplexArray) -> ComplexArray:
    return np.concatenate((pairs, pairs.conj(), singles))


def _close_reals(omega: ComplexArray, first: int, stable: bool) -> list[tuple[int, int]]:
    """Couples of neighbouring real exponents, the larger one first."""
    reals = [k for k in range(first, len(omega)) if omega[k].imag == 0]
    reals = [k for k in reals if not (stable and omega[k].real >= 0)]
    reals.sort(key=lambda k: -omega[k].real)
    couples: list[tuple[int, int]] = []
    while len(reals) > 1:
        gap = omega[reals[0]].real - omega[reals[1]].real
        if 0 < gap < 2 * CLOSE:
            couples.append((reals.pop(0), reals.pop(0)))
        else:
            reals.pop(0)
    return couples


@dataclass(frozen=True)
class _Linear:
    """The linearised problem at a point, in scaled unknowns: ``left diag(s) right step = r``."""

    by: Directions
    scale: FloatArray
    s: FloatArray
    right: FloatArray
    target: FloatArray  # left.T r

    @classmethod
    def of(cls, problem: Problem, point: Point) -> _Linear:
        by = problem.directions(point.omega)
        J, complex_r = _reduced_jacobian(point)
        complex_columns = J @ by.T
        columns: FloatArray = np.concatenate((complex_columns.real, complex_columns.imag))
        r: FloatArray = np.concatenate((complex_r.real, complex_r.imag))
        columns[:, problem.frozen(point.omega, by, columns.T @ r)] = 0.0
        scale = np.linalg.norm(columns, axis=0)
        scale[scale == 0.0] = 1.0
        left, s, right = np.linalg.svd(columns / scale, full_matrices=False)
        return cls(by, scale, s, right, left.T @ r)

    def step(self, damping: float) -> tuple[FloatArray, float]:
        """Damped step and the drop in cost that it promises."""
        share = self.s / (self.s**2 + damping)
        left_over = damping / (self.s**2 + damping)
        promise = float(np.sum(self.target**2 * (1.0 - left_over**2)))
        return self.right.T @ (share * self.target) / self.scale, promise


def _reduced_jacobian(point: Point) -> tuple[ComplexArray, ComplexArray]:
    """Jacobian and residual without the part that no step reaches, both by isometries.

    Column k is the outer product of slope k, projected off the exponentials, with row k of the
    weights: it is enough to factor both families.
    """
    off = point.slopes - point.left @ (point.left.conj().T @ point.slopes)
    time_basis, time = np.linalg.qr(off)
    state_basis, state = np.linalg.qr(point.weights.T)
    J = (time[:, None, :] * state[None, :, :]).reshape(-1, len(point.omega))
    return J, (time_basis.conj().T @ point.residual @ state_basis.conj()).reshape(-1)


def minimise(
    problem: Problem, start: ComplexArray, max_iterations: int, tol: float
) -> tuple[Point, int, bool]:
    """Best point found, accepted steps, and whether nothing better is near."""
    first = problem.evaluate(problem.feasible(start))
    spread = problem.evaluate(problem.spread(first.omega))
    last, iterations, converged = _descend(problem, spread, max_iterations, tol)
    # Moving coincident exponents apart may have raised the residual.
    return (last if last.cost <= first.cost else first), iterations, converged


def _descend(
    problem: Problem, point: Point, max_iterations: int, tol: float
) -> tuple[Point, int, bool]:
    damping, growth = FIRST_DAMPING, 2.0
    for iteration in range(max_iterations):
        linear = _Linear.of(problem, point)
        if point.cost <= ROUNDING or linear.target @ linear.target <= tol * point.cost:
            return point, iteration, True
        # Damping after Nielsen (1999): by how well the promise was kept, faster at each refusal.
        while True:
            step, promise = linear.step(damping)
            candidate = problem.evaluate(problem.moved(point.omega, linear.by, step))
            if candidate.cost < point.cost:
                break
            damping, growth = damping * growth, growth * 2.0
            if damping > LAST_DAMPING:
                return point, iteration, True
        kept = (point.cost - candidate.cost) / promise
        damping, growth = damping * max(1.0 / 3.0, 1.0 - (2.0 * kept - 1.0) ** 3), 2.0
        point = candidate
    return point, max_iterations, False
