"""Alarms from the spectra of successive fits: training that diverges, and training at rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore._base import positive_int
from koopcore._estimator import Estimator


def mode_sizes(model: Estimator) -> NDArray[np.float64]:
    """Size of each mode's part of the last change, the newest snapshot minus the one before.

    From inner products of the snapshots alone: no mode is formed.

    Parameters
    ----------
    model : DMD or WindowDMD
        Fitted to one trajectory, with or without ``affine=True``.

    Returns
    -------
    ndarray of shape (r,)
        Euclidean norms, in the order of ``model.eigenvalues``. The parts add up to the change as
        fitted, but are not orthogonal: their sizes may add up to more than its size.

    Raises
    ------
    ValueError
        If the model is not fitted, or to several trajectories or pairs.
    """
    problem, fitted = model._state()
    if len(problem.bounds()) > 1 or problem.pairs:
        raise ValueError("model was fitted to pairs or several trajectories, which have no one end")
    values, options = model.eigenvalues, fitted.options
    if len(values) == 0:
        return np.zeros(0)
    coefficients = fitted.core.mode_coefficients()
    squares = np.sum(coefficients.conj() * (problem.gram @ coefficients), axis=0).real
    # Amplitudes of the newest state: those of the first, times powers, let spurious eigenvalues
    # explode. The modes are of the oldest of the delays.
    differences = options.affine == "differences"
    newest = len(problem.gram) - options.least_snapshots + 1
    amplitudes = fitted.core.amplitudes(newest if differences else newest - 1, 1)
    last = amplitudes * values ** (options.delays - 1) * (1.0 if differences else values - 1.0)
    sizes: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0)) * np.abs(last)
    return sizes


def movement_left(eigenvalues: ArrayLike, sizes: ArrayLike, horizon: int = 1000) -> float:
    """Bound how far the state will move over the next `horizon` snapshots.

    A mode with eigenvalue ``l`` that moved by d will move by ``(l + ... + l^horizon) d``, which for
    ``|l| < 1`` tends to ``l / (1 - l) d``. The sizes of these are added up. Eigenvalues outside the
    unit circle count as on it, as in forecasts.

    Parameters
    ----------
    eigenvalues, sizes : array of shape (r,)
        Of a fit, and what `mode_sizes` gives.
    horizon : int
        At least 1.

    Returns
    -------
    float
        In the units of the state.
    """
    horizon = positive_int("horizon", horizon)
    values, sizes = _checked(eigenvalues, sizes)
    values = values / np.maximum(np.abs(values), 1.0)
    near = np.abs(1.0 - values) < 1e-12
    ratios = np.where(near, 0.5, values)  # 0.5: any value that divides
    steps = np.abs(ratios * (1.0 - ratios**horizon) / (1.0 - ratios))
    return float(np.sum(np.where(near, horizon, steps) * sizes))


@dataclass(frozen=True)
class Alarm:
    """What an alarm says.

    Attributes
    ----------
    kind : {"divergence", "plateau"}
    value : float
        Divergence: share of the growing modes in the last change. Plateau: movement left over the
        distance travelled.
    eigenvalue : complex or None
        Divergence: of the largest growing mode.
    message : str
        One line for people.
    """

    kind: str
    value: float
    eigenvalue: complex | None
    message: str


class SpectrumAlarms:
    """Tell from the spectra of successive fits that training diverges, or has come to rest.

    **Divergence**: modes with ``|eigenvalue| > 1 + growth + uncertainty`` make up at least `share`
    of the last change, and more than `still` of the distance travelled (less is rounding, once all
    else has converged). A step that is too large shows as a negative (with momentum: complex)
    eigenvalue, as long as every step is recorded; a positive one is growth in one direction, as on
    the way out of a saddle, which may be what you want.

    **Plateau**: what is left to move over the next `horizon` snapshots (`movement_left`) is at most
    `still` of the distance travelled since the start, and there is no divergence.

    Either must hold in `patience` fits in a row.

    Parameters
    ----------
    growth : float
        Growth per snapshot that is none yet: 0.01 doubles a mode in 70 snapshots.
    share : float in (0, 1]
        Share of the growing modes in the sum of all sizes.
    still : float
        Movement that is none, as a share of the distance travelled.
    horizon : int
        Snapshots ahead that count as "left".
    patience : int
        Fits in a row.

    Examples
    --------
    >>> from koopcore import WindowDMD
    >>> alarms, window, x = SpectrumAlarms(), WindowDMD(6, affine=True), np.array([1.0, 1.0])
    >>> start, said = x, []
    >>> for step in range(20):  # gradient descent with curvatures 1 and 2, learning rate 1.1
    ...     x = x - 1.1 * np.array([1.0, 2.0]) * x
    ...     if window.update(x).n_snapshots == 6:
    ...         travelled = np.linalg.norm(x - start)
    ...         said += alarms.update(window.eigenvalues, mode_sizes(window), travelled)
    >>> print(said[0].message)
    divergence: modes that grow make up 100 % of the last change, eigenvalue -1.2
    """

    def __init__(
        self,
        *,
        growth: float = 0.01,
        share: float = 0.1,
        still: float = 1e-3,
        horizon: int = 1000,
        patience: int = 3,
    ) -> None:
        for name, value in (("growth", growth), ("still", still)):
            if not 0.0 <= value < np.inf:
                raise ValueError(f"{name}={value!r} must be a finite number, at least 0")
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share={share!r} must be above 0 and at most 1")
        self.growth, self.share, self.still = float(growth), float(share), float(still)
        self.horizon = positive_int("horizon", horizon)
        self.patience = positive_int("patience", patience)
        self._growing_fits = self._still_fits = 0

    def update(
        self,
        eigenvalues: ArrayLike,
        sizes: ArrayLike,
        travelled: float,
        *,
        uncertainty: ArrayLike = 0.0,
    ) -> list[Alarm]:
        """Take the next fit; return the alarms that stand after it.

        Parameters
        ----------
        eigenvalues, sizes : array of shape (r,)
            Of the fit, and what `mode_sizes` gives; empty where nothing moves.
        travelled : float
            Distance from the first weights of the run to the newest ones.
        uncertainty : float or array of shape (r,), optional
            Of the moduli of the eigenvalues, such as ``model.residuals()``, without which noise can
            look like growth. NaN, as residuals that are not known are, counts as 0.

        Returns
        -------
        list of Alarm
            Mostly empty. An alarm is repeated at each fit for as long as it stands.

        Raises
        ------
        ValueError
            If shapes differ, a value is not finite, or a size or `travelled` is negative.
        """
        values, sizes = _checked(eigenvalues, sizes)
        if not 0.0 <= travelled < np.inf:
            raise ValueError(f"travelled={travelled!r} must be a distance: finite, at least 0")
        doubt = np.nan_to_num(np.broadcast_to(uncertainty, values.shape).astype(float))
        growing = np.abs(values) > 1.0 + self.growth + doubt
        total, grown = float(sizes.sum()), float(sizes[growing].sum())
        share = grown / total if total > 0.0 else 0.0
        left = movement_left(values, sizes, self.horizon)
        diverges = share >= self.share and grown > self.still * travelled
        rests = not diverges and left <= self.still * travelled
        self._growing_fits = self._growing_fits + 1 if diverges else 0
        self._still_fits = self._still_fits + 1 if rests else 0
        alarms = []
        if self._growing_fits >= self.patience:
            largest = complex(values[np.where(growing, sizes, -1.0).argmax()])
            alarms.append(Alarm("divergence", share, largest, _divergence(share, largest)))
        if self._still_fits >= self.patience:
            value = left / travelled if travelled > 0.0 else 0.0
            alarms.append(Alarm("plateau", value, None, _plateau(value, self.horizon)))
        return alarms


def _divergence(share: float, value: complex) -> str:
    shown = f"{value.real:.3g}" if abs(value.imag) < 1e-9 * abs(value) else f"{value:.3g}"
    return (
        f"divergence: modes that grow make up {100 * share:.0f} % of the last change, "
        f"eigenvalue {shown}"
    )


def _plateau(value: float, horizon: int) -> str:
    return (
        f"plateau: the next {horizon} snapshots hold at most {value:.2g} of the distance "
        "travelled so far"
    )


def _checked(
    eigenvalues: ArrayLike, sizes: ArrayLike
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    values = np.asarray(eigenvalues, dtype=np.complex128)
    lengths = np.asarray(sizes, dtype=np.float64)
    if values.ndim != 1 or values.shape != lengths.shape:
        raise ValueError(
            f"eigenvalues has shape {values.shape} and sizes {lengths.shape}; both must be (r,)"
        )
    if not (np.isfinite(values).all() and np.isfinite(lengths).all() and (lengths >= 0.0).all()):
        raise ValueError("eigenvalues and sizes must be finite, and sizes not negative")
    return values, lengths
