"""What the estimators share: their checked options, and the spectrum they report."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore import _core

Rank = int | float | str | None
Fit = _core.Dmd | _core.ComplexDmd

VARIANTS = ("standard", "tls", "forward-backward", "symmetric", "optimized")
AFFINE = {
    False: "none",
    None: "none",
    True: "differences",
    "differences": "differences",
    "constant": "constant",
}
CONSTRAINTS = (None, "stable", "unit_circle", "real")
UNSTABLE = ("clip", "reflect", "drop", "keep")


def split_rank(rank: Rank) -> tuple[int, float, str]:
    """Rank as (largest rank or 0 for no limit, energy fraction, name of a rule or "")."""
    if rank is None:
        return 0, 1.0, ""
    if isinstance(rank, str):
        if rank not in ("svht", "cv"):
            raise ValueError(f"rank={rank!r}: the rules with a name are 'svht' and 'cv'")
        return 0, 1.0, rank
    if isinstance(rank, (float, np.floating)):
        if not 0.0 < rank < 1.0:
            raise ValueError(
                f"rank={rank!r}: a float is the share of energy to keep and lies between 0 and 1; "
                "give an int for a number of modes"
            )
        return 0, float(rank), ""
    try:
        count = operator.index(rank)
    except TypeError:
        raise TypeError(
            f"rank={rank!r} must be an int, a float in (0, 1), 'svht', 'cv' or None"
        ) from None
    if count < 1 or isinstance(rank, (bool, np.bool_)):
        raise ValueError(f"rank={rank!r} must be at least 1, a float in (0, 1), or None for all")
    return count, 1.0, ""


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """Return the value, or refuse it with the list of what would be right."""
    if not any(value is choice or value == choice for choice in allowed):
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, allowed))}")
    return value


def positive_int(name: str, value: Any) -> int:
    """Return an int of at least 1."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} must be an int") from None
    if number < 1 or isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}={value!r} must be at least 1")
    return number


def checked_threads(n_threads: int | None) -> int | None:
    """Return a number of threads of at least 1, or None."""
    if n_threads is None:
        return None
    try:
        count = operator.index(n_threads)
    except TypeError:
        raise TypeError(f"n_threads={n_threads!r} must be an int or None") from None
    if count < 1:
        raise ValueError(f"n_threads={n_threads!r} must be at least 1, or None")
    return count


def checked_dt(dt: float) -> float:
    """Return the time between two snapshots, which must be positive."""
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt={dt!r} is the time between two snapshots and must be positive")
    return float(dt)


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit, checked once, in the words of the compiled core."""

    max_rank: int
    energy: float
    rule: str  # "", "svht" or "cv"
    tolerance: float
    variant: str
    modes: str
    affine: str
    delays: int
    ridge: float
    constraint: str
    unstable: str

    @classmethod
    def checked(
        cls,
        rank: Rank = None,
        tol: float | None = None,
        *,
        variant: str = "standard",
        exact: bool | None = None,
        affine: bool | str | None = False,
        delays: int = 1,
        ridge: float = 0.0,
        constraint: str | None = None,
        unstable: str = "clip",
    ) -> FitOptions:
        """Check what the user gave; every message names the argument."""
        max_rank, energy, rule = split_rank(rank)
        if tol is not None and not 0.0 <= tol < 1.0:
            raise ValueError(
                f"tol={tol!r} is relative to the largest singular value: 0 <= tol < 1, "
                "or None for what the data resolve"
            )
        one_of("variant", variant, VARIANTS)
        if exact and (variant not in VARIANTS[:2] or constraint is not None):
            raise ValueError(
                f"exact={exact!r}: variant={variant!r} with constraint={constraint!r} has "
                "projected modes only"
            )
        if not (math.isfinite(ridge) and ridge >= 0.0):
            raise ValueError(f"ridge={ridge!r} must be at least 0 (relative to the mean energy)")
        if ridge and variant != "standard":
            raise ValueError(f"ridge={ridge!r} goes with variant='standard', not {variant!r}")
        if affine and variant == "optimized":
            raise ValueError(
                f"affine={affine!r}: variant='optimized' finds a fixed point as a mode of its own "
                "(eigenvalue 1); leave affine=False"
            )
        modes = "auto" if exact is None else "exact" if exact else "projected"
        return cls(
            max_rank=max_rank,
            energy=energy,
            rule=rule,
            tolerance=-1.0 if tol is None else float(tol),
            variant=variant,
            modes=modes,
            affine=AFFINE[one_of("affine", affine, tuple(AFFINE))],
            delays=positive_int("delays", delays),
            ridge=float(ridge),
            constraint=one_of("constraint", constraint, CONSTRAINTS) or "none",
            unstable=one_of("unstable", unstable, UNSTABLE),
        )

    @property
    def least_snapshots(self) -> int:
        """Snapshots that one pair of a series takes."""
        return 1 + self.delays + (self.affine == "differences")

    def with_rank(self, rank: int) -> FitOptions:
        """Return the same options with a fixed rank."""
        return replace(self, max_rank=rank, energy=1.0, rule="")

    def fit(
        self,
        gram: NDArray[Any],
        *,
        lag: int = 1,
        starts: Sequence[int] = (),
        n_features: int = 0,
        from_factor: bool = False,
    ) -> Fit:
        """Fit the operator of the snapshots that have this Gram matrix (or this factor of it).

        `n_features` bounds the rank, and ``rank="svht"`` needs it. ``rank="cv"`` and
        ``variant="optimized"`` are resolved by `koopcore._problem`, which calls this.
        """
        kind = _core.ComplexDmd if gram.dtype.kind == "c" else _core.Dmd
        return kind(
            gram,
            from_factor=from_factor,
            lag=lag,
            starts=list(starts),
            state_size=n_features,
            **self.of_core(),
        )

    def of_core(self) -> dict[str, Any]:
        """Return the options that the compiled fits share, by their names there."""
        return {
            "delays": self.delays,
            "affine": self.affine,
            "variant": self.variant,
            "max_rank": self.max_rank,
            "energy": self.energy,
            "tolerance": self.tolerance,
            "hard_threshold": self.rule == "svht",
            "ridge": self.ridge,
            "modes": self.modes,
            "constraint": self.constraint,
            "unstable": self.unstable,
        }


class Spectrum:
    """Eigenvalues of a fit in the terms of its users. Needs ``_fitted()`` and ``dt``."""

    dt: float

    def _fitted(self) -> Fit:
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
        """All singular values of the snapshots before truncation, falling.

        Of the states X; with ``variant="tls"`` of [X; Y], with "optimized" of all snapshots.
        """
        return self._fitted().singular_values

    @property
    def omega(self) -> NDArray[np.complex128]:
        """Continuous-time ``log(eigenvalues) / dt``; real part -inf for eigenvalue 0."""
        values = self.eigenvalues
        with np.errstate(divide="ignore"):
            growth = np.log(np.abs(values)) / self.dt
        omega: NDArray[np.complex128] = growth + 1j * (np.angle(values) / self.dt)
        return omega

    @property
    def frequency(self) -> NDArray[np.float64]:
        """Cycles per unit of time, ``Im(omega) / (2 pi)``."""
        return self.omega.imag / (2.0 * np.pi)

    @property
    def growth_rate(self) -> NDArray[np.float64]:
        """Exponential rate per unit of time, ``Re(omega) = log|eigenvalues| / dt``."""
        return self.omega.real
