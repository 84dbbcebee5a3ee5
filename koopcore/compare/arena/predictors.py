"""What takes part in the arena: rules on the window's Gram matrix, and operators of parts of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from koopcore.grouped import GroupedDMD
from koopcore.rules import Rule

if TYPE_CHECKING:
    from .parameters import Parameters, Partition

Array = NDArray[np.float64]
AFFINE_TO = 1e-6  # how far from 1 rounding may take the sum of an affine rule's coefficients


@runtime_checkable
class Predictor(Protocol):
    """Anything that forecasts weights from a window of them."""

    def forecast(self, window: Array, horizon: int, parameters: Parameters) -> Array:
        """Return the forecast.

        Parameters
        ----------
        window : ndarray of shape (m, n_weights), float64
            Snapshots, oldest first.
        horizon : int
            Snapshots beyond the last one.
        parameters : Parameters
            ``parameters.groups(partition)`` tells which weights form a node, a layer, ...

        Returns
        -------
        ndarray of shape (n_weights,)
        """
        ...


@dataclass(frozen=True)
class FromRule:
    """A rule of `koopcore.rules`, or any object with its ``coefficients(gram, horizon)``.

    Parameters
    ----------
    rule : Rule
    affine : bool
        The coefficients sum to 1: the rule then sees the Gram matrix of the changes since the
        window's first snapshot, which keeps the digits of small changes. False: that of the
        snapshots themselves.
    """

    rule: Rule
    affine: bool = True

    def forecast(self, window: Array, horizon: int, parameters: Parameters) -> Array:
        """Return the forecast; see `Predictor`."""
        reference = window[0] if self.affine else np.zeros_like(window[0])
        changes = window - reference
        c = np.asarray(self.rule.coefficients(changes @ changes.T, horizon), np.float64)
        if c.shape != (len(window),):
            raise ValueError(
                f"{self.rule} returned coefficients of shape {c.shape}; expected "
                f"({len(window)},), one per snapshot"
            )
        if self.affine and abs(c.sum() - 1.0) > AFFINE_TO * np.abs(c).sum():
            raise ValueError(
                f"the coefficients of {self.rule} sum to {c.sum():.6g}, not to 1; wrap it in "
                "FromRule(rule, affine=False)"
            )
        forecast: Array = reference + c @ changes
        return forecast


@dataclass(frozen=True)
class Pinv:
    """The operators of Dogra and Redman (NeurIPS 2020): ``U = F' pinv(F)``, and its powers.

    Raw weights, not centred, not truncated, as in ``KoopmanAccelerator.dogra_redman``. With more
    weights than steps the power is taken of ``pinv(F) F'``, which is as large as the window and
    gives the same, ``(F' P)^h w = F' (P F')^(h-1) P w`` with ``P = pinv(F)``: so an operator of the
    whole network costs hardly more than one of a node.

    Parameters
    ----------
    partition : str or tuple
        As of `koopcore.torch.partition.Layout`.
    """

    partition: Partition

    def forecast(self, window: Array, horizon: int, parameters: Parameters) -> Array:
        """Return the forecast; see `Predictor`."""
        order, segments = parameters.groups(self.partition)
        sizes = np.diff(segments, axis=1).ravel()
        state = np.empty(window.shape[1])
        for size in np.unique(sizes):  # all operators of one size at once
            rows = order[segments[sizes == size, 0][:, None] + np.arange(size)]
            state[rows] = _powers(window[:, rows].transpose(1, 2, 0), horizon)
        return state


def _powers(data: Array, horizon: int) -> Array:
    """Forecast states of shape (operators, size, m); whole steps."""
    before, after = data[..., :-1], data[..., 1:]
    inverse, last = np.linalg.pinv(before), data[..., -1:]
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows scores infinity
        if before.shape[1] <= before.shape[2]:
            ahead = np.linalg.matrix_power(after @ inverse, horizon) @ last
        else:
            small = np.linalg.matrix_power(inverse @ after, horizon - 1)
            ahead = after @ (small @ (inverse @ last))
    return ahead[..., 0]


class Grouped:
    """`koopcore.GroupedDMD`: an operator per part of the network, each from its own Gram matrix.

    Parameters
    ----------
    partition : str or tuple
        As of `koopcore.torch.partition.Layout`.
    **options
        Of `koopcore.GroupedDMD`; ``affine=True`` is the default here.
    """

    def __init__(self, partition: Partition, **options: Any) -> None:
        self._partition = partition
        self._model = GroupedDMD(**{"affine": True, "n_threads": 1, **options})

    def forecast(self, window: Array, horizon: int, parameters: Parameters) -> Array:
        """Return the forecast; see `Predictor`."""
        order, segments = parameters.groups(self._partition)
        state = np.empty(window.shape[1])
        state[order] = self._model.fit(window.T[order], segments).forecast(horizon)
        return state
