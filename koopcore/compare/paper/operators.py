"""The published operators on every partition: ``U = F' pinv(F)`` on raw weights, and its powers.

The states of a group of parameters over the window stand in the columns of ``D`` (d x m);
``F = D[:, :-1]``, ``F' = D[:, 1:]``. Nothing is centred, truncated or regularised beyond what
``numpy.linalg.pinv`` cuts (singular values below 1e-15 of the largest). Three routes give the same
operator:

- ``pinv``: as published;
- ``products``: ``U = (F' F^T) (F F^T)^-1``, a tenth of the work for many snapshots of small groups.
  It squares the condition number, so it is taken only where F F^T is well conditioned;
- ``reduced``: where d >= m - 1 the operator has rank m - 1 at most. With ``F = Q S V^T`` it is
  ``U = (F' V S^-1) Q^T``, and ``U^h w = F' V S^-1 C^(h-1) Q^T w`` with ``C = Q^T F' V S^-1``:
  no d x d matrix is formed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = NDArray[np.int64]

PARTITIONS = ("weight", "quasi-node", "node", "layer", "network")
RESOLVED = 1e10  # condition of F F^T, the square of F's, beyond which the fit takes pinv(F)
CUT = 1e-15  # of singular values: numpy.linalg.pinv's own
CUT_32 = float(np.finfo(np.float32).eps)  # times max(d, m): torch.linalg.pinv's own on float32
REPEATS, ENOUGH = 5, 2.0  # times a forecast is timed, and the seconds after which once is enough
SHOWN = 256  # eigenvalues kept of each part
BATCH = 2**24  # numbers of the snapshots that are widened to float64 at once


def unit_rows(model: torch.nn.Module) -> list[Places]:
    """Return, per linear layer, which parameters belong to each unit.

    Returns
    -------
    list of integer arrays of shape (units, inputs + 1)
        Places in the flat vector of all parameters: a unit's incoming weights, then its bias.
    """
    rows, start = [], 0
    for layer in (part for part in model.modules() if isinstance(part, torch.nn.Linear)):
        n_weights = layer.weight.numel()
        weights = start + np.arange(n_weights).reshape(layer.weight.shape)
        biases = start + n_weights + np.arange(len(layer.bias))
        rows.append(np.column_stack([weights, biases]))
        start += n_weights + len(layer.bias)
    return rows


def groups(rows: Sequence[Places], partition: str, size: int | None = None) -> list[Places]:
    """Return the groups of parameters that get an operator each.

    Parameters
    ----------
    rows : list of integer arrays of shape (units, inputs + 1)
        Of `unit_rows`.
    partition : str
        ``weight``, ``quasi-node``, ``node``, ``layer`` or ``network``.
    size : int, optional
        Of the chunks a unit's row is split into, for ``quasi-node``; a shorter last chunk is a
        group of its own.

    Returns
    -------
    list of integer arrays of shape (groups, d)
        Layer by layer, groups of one size together; every parameter is in one group.
    """
    if partition == "network":
        return [np.concatenate([layer.ravel() for layer in rows])[None]]
    if partition == "layer":
        return [layer.reshape(1, -1) for layer in rows]
    if partition == "node":
        return list(rows)
    if partition == "weight":
        size = 1
    elif partition != "quasi-node":
        raise ValueError(f"unknown partition {partition!r}; known: {', '.join(PARTITIONS)}")
    if size is None or size < 1:
        raise ValueError(f"size={size!r}: quasi-node needs the size of its chunks, at least 1")
    found = []
    for layer in rows:
        whole = layer.shape[1] // size * size
        found += [part for part in (layer[:, :whole].reshape(-1, size),) if part.size]
        found += [layer[:, whole:]] if whole < layer.shape[1] else []
    return found


@dataclass(frozen=True)
class Full:
    """Operators of shape (groups, d, d) on the parameters at `places`, shape (groups, d)."""

    places: Places
    matrices: Array
    route: str

    @property
    def operator(self) -> Array:
        """What the eigenvalues are of."""
        return self.matrices

    def ahead(self, last: Array, horizons: Iterable[int]) -> Iterator[Array]:
        """Yield ``U^h w`` of all groups, shape (groups, d), for rising horizons."""
        yield from powers(self.matrices, last[self.places], horizons)

    def step(self, state: Array) -> Array:
        """Return ``U w``."""
        return (self.matrices @ state[..., None])[..., 0]

    def start(self, last: Array) -> Array:
        """Return what `step` goes on from."""
        return last[self.places]

    def eigenvalues(self) -> NDArray[np.complex128]:
        """Return those of all groups, flat."""
        return np.linalg.eigvals(self.operator).ravel()


@dataclass(frozen=True)
class Reduced:
    """One operator of rank r below d: ``U = lift Q^T`` and ``core = Q^T lift``.

    Attributes
    ----------
    places : integer array of shape (1, d)
    basis, lift : array of shape (d, r)
    core : array of shape (r, r)
    """

    places: Places
    basis: Array
    lift: Array
    core: Array
    route: str = "reduced"

    @property
    def operator(self) -> Array:
        """What the eigenvalues are of."""
        return self.core

    def ahead(self, last: Array, horizons: Iterable[int]) -> Iterator[Array]:
        """Yield ``U^h w``, shape (1, d), for rising horizons of at least 1."""
        inside = (self.basis.T @ last[self.places[0]])[None]
        for state in powers(self.core[None], inside, [h - 1 for h in horizons]):
            yield state @ self.lift.T

    def step(self, state: Array) -> Array:
        """Return the next coordinates in the basis, and form the weights they belong to."""
        self.lift @ state
        return self.core @ state

    def start(self, last: Array) -> Array:
        """Return what `step` goes on from."""
        return self.basis.T @ last[self.places[0]]

    def eigenvalues(self) -> NDArray[np.complex128]:
        """Return those that are not zero by its rank."""
        return np.linalg.eigvals(self.operator)


def powers(matrices: Array, states: Array, horizons: Iterable[int]) -> Iterator[Array]:
    """Yield ``M^h s``, shape (groups, d), for rising horizons, by repeated squaring of M.

    What overflows becomes infinite or not a number; it is for the caller to judge.
    """
    squares, done = [matrices], 0
    with np.errstate(over="ignore", invalid="ignore"):
        for horizon in horizons:
            left, bit = horizon - done, 0
            while left >> bit:
                if bit == len(squares):
                    squares.append(squares[-1] @ squares[-1])
                if left >> bit & 1:
                    states = (squares[bit] @ states[..., None])[..., 0]
                bit += 1
            done = horizon
            yield states


def fit_by_pinv(states: Array) -> Array:
    """Return ``F' pinv(F)``, shape (groups, d, d), of states of shape (groups, d, m)."""
    return np.stack([d[:, 1:] @ np.linalg.pinv(d[:, :-1], rcond=CUT) for d in states])


def fit(states: Array) -> tuple[Array, str]:
    """Return the same by the faster route where it resolves them, and which it was.

    Parameters
    ----------
    states : array of shape (groups, d, m)
    """
    before, after = states[..., :-1], states[..., 1:]
    products = before @ np.swapaxes(before, 1, 2)
    values = np.linalg.eigvalsh(products)
    if not (values[:, 0] * RESOLVED > values[:, -1]).all():
        return fit_by_pinv(states), "pinv"
    found = np.linalg.solve(products, before @ np.swapaxes(after, 1, 2))
    return np.swapaxes(found, 1, 2), "products"


def fit_reduced(places: Places, states: Array) -> Reduced:
    """Return the operator of one group of d >= m - 1 parameters, `states` of shape (d, m)."""
    basis, values, right = np.linalg.svd(states[:, :-1], full_matrices=False)
    kept = values > CUT * values[0]
    lift = states[:, 1:] @ (right[kept].T / values[kept])
    basis = np.ascontiguousarray(basis[:, kept])
    return Reduced(places, basis, lift, basis.T @ lift)


def fit_cut(places: Places, states: Array, cut: float) -> Reduced:
    """Return the operator without singular values below `cut` times the largest.

    Parameters
    ----------
    places : integer array of shape (1, d)
    states : array of shape (d, m)
    cut : float
        Well above 1e-8, so that the smaller one of F F^T and F^T F resolves what is kept.
    """
    before, after = states[:, :-1], states[:, 1:]
    wide = len(before) > before.shape[1]
    squares, vectors = np.linalg.eigh(before.T @ before if wide else before @ before.T)
    kept = squares > cut**2 * squares[-1]
    squares, vectors = squares[kept], vectors[:, kept]
    if wide:
        combinations = vectors / np.sqrt(squares)  # V S^-1
        basis, lift = before @ combinations, after @ combinations
    else:
        basis, lift = vectors, after @ (before.T @ (vectors / squares))
    return Reduced(places, basis, lift, basis.T @ lift, "cut")


class Model:
    """The operators of one partition, fitted.

    Parameters
    ----------
    snapshots : array of shape (m, n), float32 or float64
    wanted : list of integer arrays of shape (groups, d)
        Of `groups`.
    by_pinv : bool
        Take the published route whatever the faster one would do.
    cut : bool
        Cut singular values at the precision of float32 weights, which the published code does not.

    Attributes
    ----------
    parts : list of Full or Reduced
    fit_seconds : float
    """

    def __init__(
        self, snapshots: NDArray, wanted: Sequence[Places], by_pinv: bool = False, cut: bool = False
    ) -> None:
        start = process_time()
        self.parts: list[Full | Reduced] = []
        for places in wanted:
            if cut:
                at = CUT_32 * max(len(snapshots) - 1, places.shape[1])
                self.parts += [fit_cut(row[None], _states(snapshots, row), at) for row in places]
            else:
                self.parts += _fitted(snapshots, places, by_pinv)
        self.last = snapshots[-1].astype(np.float64)
        self.fit_seconds = process_time() - start

    @property
    def operators(self) -> int:
        """Number of operators."""
        return sum(len(part.places) for part in self.parts)

    @property
    def route(self) -> str:
        """Names of the routes taken."""
        return ", ".join(dict.fromkeys(part.route for part in self.parts))

    def forecast(self, horizons: Iterable[int]) -> Array:
        """Return the forecast states, shape (horizons, n), for rising horizons of at least 1."""
        horizons = list(horizons)
        states = np.tile(self.last, (len(horizons), 1))
        for part in self.parts:
            for state, ahead in zip(states, part.ahead(self.last, horizons), strict=True):
                state[part.places] = ahead
        return states

    def timed_forecast(self, horizon: int) -> tuple[Array, float]:
        """Return the state so many steps ahead, in one go, and the median seconds it takes."""
        seconds, states = [], np.empty((1, 0))
        while len(seconds) < REPEATS and sum(seconds) < ENOUGH:
            start = process_time()
            states = self.forecast([horizon])
            seconds.append(process_time() - start)
        return states[0], float(np.median(seconds))

    def spectra(self) -> list[dict[str, Any]]:
        """Return size and eigenvalues, the largest first and few enough to draw, of every part."""
        found = []
        for part in self.parts:
            values = part.eigenvalues() if np.isfinite(part.operator).all() else np.empty(0)
            values = values[np.argsort(-np.abs(values))]
            radius = float(np.abs(values[0])) if len(values) else None
            shown = values[:: -(-len(values) // SHOWN) or 1]
            listed = [[float(f"{v.real:.7g}"), float(f"{v.imag:.7g}")] for v in shown]
            found.append({"size": part.places.shape[1], "radius": radius, "values": listed})
        return found

    def seconds_per_step(self, repeats: int = 50) -> float:
        """Return the median seconds of one application of all operators, the weights formed."""
        states, seconds = [part.start(self.last) for part in self.parts], []
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(repeats):
                start = process_time()
                states = [p.step(s) for p, s in zip(self.parts, states, strict=True)]
                seconds.append(process_time() - start)
        return float(np.median(seconds))


def _states(snapshots: NDArray, row: Places) -> Array:
    return np.ascontiguousarray(snapshots.T[row], np.float64)


def _fitted(snapshots: NDArray, places: Places, by_pinv: bool) -> list[Full | Reduced]:
    count, size = places.shape
    if size >= len(snapshots) - 1:
        return [fit_reduced(row[None], _states(snapshots, row)) for row in places]
    found: list[Full | Reduced] = []
    at_once = max(1, BATCH // (size * len(snapshots)))
    for first in range(0, count, at_once):
        batch = places[first : first + at_once]
        states = np.ascontiguousarray(snapshots[:, batch].transpose(1, 2, 0), np.float64)
        matrices, route = (fit_by_pinv(states), "pinv") if by_pinv else fit(states)
        found.append(Full(batch, matrices, route))
    return found
