"""What the estimators share: their checked options, and the spectrum they report."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koopcore import _core

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def require_float(array: np.ndarray, name: str) -> None:
    """Refuse every dtype but float32 and float64: nothing is cast silently."""
    if array.dtype not in FLOATS:
        raise TypeError(
            f"{name} has dtype {array.dtype}; koopcore works on float32 or float64: "
            f"pass {name}.astype(numpy.float64)"
        )


def split_rank(rank: int | float | None) -> tuple[int, float]:
    """Rank as (largest rank or 0 for no limit, energy fraction)."""
    if rank is None:
        return 0, 1.0
    if isinstance(rank, (float, np.floating)):
        if not 0.0 < rank < 1.0:
            raise ValueError(
                f"rank={rank!r}: a float is the share of energy to keep and lies between 0 and 1; "
                "give an int for a number of modes"
            )
        return 0, float(rank)
    try:
        count = operator.index(rank)
    except TypeError:
        raise TypeError(f"rank={rank!r} must be an int, a float in (0, 1) or None") from None
    if count < 1 or isinstance(rank, (bool, np.bool_)):
        raise ValueError(f"rank={rank!r} must be at least 1, a float in (0, 1), or None for all")
    return count, 1.0


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit, checked once, in the words of the compiled core."""

    max_rank: int
    energy: float
    tolerance: float
    exact: bool
    affine: bool
    clip: bool

    @classmethod
    def checked(
        cls,
        rank: int | float | None,
        tol: float | None,
        *,
        exact: bool,
        affine: bool,
        unstable: str,
    ) -> FitOptions:
        """Check what the user gave; every message names the argument."""
        max_rank, energy = split_rank(rank)
        if tol is not None and not 0.0 <= tol < 1.0:
            raise ValueError(
                f"tol={tol!r} is relative to the largest singular value: 0 <= tol < 1, "
                "or None for what the Gram matrix resolves"
            )
        if unstable not in ("clip", "keep"):
            raise ValueError(f"unstable={unstable!r} must be 'clip' or 'keep'")
        tolerance = -1.0 if tol is None else float(tol)
        return cls(max_rank, energy, tolerance, bool(exact), bool(affine), unstable == "clip")

    def fit(self, gram: NDArray[np.float64], lag: int = 1) -> _core.Dmd:
        """Fit the operator of the snapshots that have this Gram matrix."""
        return _core.Dmd(
            gram,
            lag=lag,
            max_rank=self.max_rank,
            energy=self.energy,
            tolerance=self.tolerance,
            exact=self.exact,
            affine=self.affine,
            clip=self.clip,
        )


def checked_dt(dt: float) -> float:
    """Return the time between two snapshots, which must be positive."""
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt={dt!r} is the time between two snapshots and must be positive")
    return float(dt)


class Spectrum:
    """Eigenvalues of a fit in the terms of its users. Needs ``_fitted()`` and ``dt``."""

    dt: float

    def _fitted(self) -> _core.Dmd:
        raise NotImplementedError

    @property
    def eigenvalues(self) -> NDArray[np.complex128]:
        """Discrete-time eigenvalues as fitted, shape (r,), by falling modulus."""
        return self._fitted().eigenvalues

    @property
    def eigs(self) -> NDArray[np.complex128]:
        """The same as `eigenvalues`, under PyDMD's name."""
        return self.eigenvalues

    @property
    def singular_values(self) -> NDArray[np.float64]:
        """All singular values of the snapshots before truncation, falling."""
        return self._fitted().singular_values

    @property
    def frequency(self) -> NDArray[np.float64]:
        """Cycles per unit of time, ``arg(eigenvalues) / (2 pi dt)``."""
        return np.angle(self.eigenvalues) / (2.0 * np.pi * self.dt)

    @property
    def growth_rate(self) -> NDArray[np.float64]:
        """Exponential rate per unit of time, ``log|eigenvalues| / dt``; -inf for eigenvalue 0."""
        with np.errstate(divide="ignore"):
            return np.log(np.abs(self.eigenvalues)) / self.dt
