"""What rules need of a Gram matrix: its checks, and the Gram matrix of changes."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
# Sums of up to 1e7 products, taken in another order, differ by less than this share.
ASYMMETRY = 1e-10


def checked(gram: ArrayLike, horizon: float, needed: int, rule: object) -> tuple[Array, float]:
    """Return both in double precision, or raise: every message names the argument."""
    if not isinstance(horizon, Real):
        raise TypeError(f"horizon={horizon!r} must be a real number of steps")
    if not math.isfinite(horizon):
        raise ValueError(f"horizon={horizon!r} must be finite")
    array = np.asarray(gram)
    if array.dtype != np.float64:
        raise TypeError(f"gram has dtype {array.dtype}; accumulate it in float64")
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"gram has shape {array.shape}; expected (m, m) for m snapshots")
    if len(array) < needed:
        raise ValueError(f"gram is of {len(array)} snapshots; {rule} needs at least {needed}")
    if not np.isfinite(array).all():
        raise ValueError("gram is not finite: a snapshot holds NaN or infinity, or is too large")
    if np.abs(array - array.T).max() > ASYMMETRY * np.abs(array).max():
        raise ValueError("gram is not symmetric; expected the inner products of the snapshots")
    return array, float(horizon)


def changes(gram: Array, base: slice) -> Array | None:
    """Gram matrix, up to a factor, of the snapshots 1, 2, ... minus those in `base`.

    None where all these are smaller than the rounding of `gram`, relative ``m * eps``.
    """
    largest = gram.diagonal().max()
    if not largest > 0.0:
        return None
    unit = gram / largest
    differences: Array = (unit[1:, 1:] - unit[base, 1:]) - (unit[1:, base] - unit[base, base])
    return differences if differences.diagonal().max() > len(gram) * EPS else None
