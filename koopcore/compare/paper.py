"""The differential-equation experiment of Dogra and Redman (NeurIPS 2020, arXiv 2006.02361).

Networks 1-10-10-2 with sines solve the nonlinear oscillator of the workload ``hamiltonian``,
trained by Adadelta at torch's default rate of 1. The weights after each of the steps 35,001 ...
45,000 are snapshots; from them every unit's incoming weights and bias (two numbers in the first
layer, eleven in the others) get a linear operator ``U = F' pinv(F)``, without centring or
truncation, and its power 2,500 forecasts step 47,500 in one go. Reported are

- the time of that forecast, without and with the fit, over the time of the 2,500 training steps;
- median |forecast - true| / median |true - last snapshot| over the parameters: 1 is no better than
  leaving the weights alone. The paper shows the best 11 of 25 networks by this very figure; here
  all are shown, and the best ones beside them;
- the loss before, at the forecast, and after true training.

The operators are small and the snapshots many, so the fit goes through products of the operator's
own size, F F^T, rather than through an m x m Gram matrix; the pseudo-inverse is fitted as well, to
check it and to time it. Beside them stands what koopcore makes of the same data by its own
defaults: `koopcore.GroupedDMD` on first differences of 100 of the snapshots.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from koopcore import GroupedDMD

from .environment import describe
from .workloads._classifier import seeded
from .workloads.hamiltonian import Ansatz, SineNetwork

Array = NDArray[np.float64]

WIDTH, RATE = 10, 1.0
BEST = 11  # networks that the published figure shows, of 25
THINNED = 100  # snapshots that GroupedDMD is given, evenly taken, the last one included
RESOLVED = 1e10  # condition of F F^T, the square of F's, beyond which the fit takes pinv(F)
REPEATS = 5  # of what takes milliseconds; the median counts


@dataclass(frozen=True)
class Protocol:
    """Snapshots after the steps `first` to `last`, and a forecast `horizon` steps beyond."""

    first: int
    last: int
    horizon: int

    @property
    def steps(self) -> int:
        """Optimizer steps of one network."""
        return self.last + self.horizon


FULL = Protocol(35_001, 45_000, 2_500)
QUICK = Protocol(701, 900, 50)


@dataclass(frozen=True)
class Network:
    """What one network gave.

    Attributes
    ----------
    train_seconds : float
        Of the `horizon` optimizer steps that the forecast stands for.
    forecast_seconds, fit_seconds, pinv_seconds : float
        Of the published method: powers and products, the fit by F F^T, the same by pinv(F).
    forms_differ : float
        Largest difference between the forecasts of the two fits over the largest forecast change.
    error_to_growth, koopcore_error_to_growth : float
    loss_before, loss_true, loss_forecast, loss_koopcore : float
        At the last snapshot, after true training, at the two forecasts.
    koopcore_seconds : float
        Of `GroupedDMD`, fit and forecast.
    """

    seed: int
    train_seconds: float
    forecast_seconds: float
    fit_seconds: float
    pinv_seconds: float
    forms_differ: float
    error_to_growth: float
    koopcore_error_to_growth: float
    loss_before: float
    loss_true: float
    loss_forecast: float
    loss_koopcore: float
    koopcore_seconds: float


def unit_rows(model: SineNetwork) -> list[NDArray[np.int64]]:
    """Return, per layer, which parameters belong to each unit.

    Returns
    -------
    list of integer arrays of shape (units, inputs + 1)
        Places in the flat vector of all parameters: a unit's incoming weights, then its bias.
    """
    rows, start = [], 0
    for layer in (*model.layers, model.head):
        n_weights = layer.weight.numel()
        weights = start + np.arange(n_weights).reshape(layer.weight.shape)
        biases = start + n_weights + np.arange(len(layer.bias))
        rows.append(np.column_stack([weights, biases]))
        start += n_weights + len(layer.bias)
    return rows


def fit(states: Array) -> Array:
    """Return the operators of least squares between successive states, ``F' pinv(F)``.

    Parameters
    ----------
    states : array of shape (units, size, m)
        Snapshots in columns, ``m > size``.

    Returns
    -------
    array of shape (units, size, size)
    """
    before, after = states[..., :-1], states[..., 1:]
    transposed = np.swapaxes(before, 1, 2)
    products = before @ transposed
    if np.linalg.cond(products).max() > RESOLVED:
        return fit_by_pinv(states)
    operators = np.linalg.solve(products, before @ np.swapaxes(after, 1, 2))
    return np.swapaxes(operators, 1, 2)


def fit_by_pinv(states: Array) -> Array:
    """Return the same by the pseudo-inverse of all snapshots, as published."""
    return np.stack([d[:, 1:] @ np.linalg.pinv(d[:, :-1]) for d in states])


def forecast(operators: Array, last: Array, horizon: int) -> Array:
    """Return ``U^horizon w`` of every unit, shape (units, size)."""
    return (np.linalg.matrix_power(operators, horizon) @ last[..., None])[..., 0]


def error_to_growth(predicted: Array, true: Array, last: Array) -> float:
    """Return median |predicted - true| / median |true - last|; infinity if it is not a number."""
    value = float(np.median(np.abs(predicted - true)) / np.median(np.abs(true - last)))
    return value if math.isfinite(value) else math.inf


def run_network(
    seed: int,
    protocol: Protocol = FULL,
    jitter: float = 0.0,
    progress: Callable[[int], Any] | None = None,
) -> Network:
    """Train one network, forecast it, and measure both.

    Parameters
    ----------
    seed : int
        Of the initial weights and of the perturbations.
    protocol : Protocol
    jitter : float
        Standard deviation of the perturbation of the collocation points, drawn anew at every step,
        in units of their spacing.
    progress : callable, optional
        Called with the number of steps done since its last call.
    """
    model = seeded(lambda: SineNetwork(WIDTH), seed)
    snapshots, true, train_seconds = _trajectory(model, seed, protocol, jitter, progress)
    rows, last = unit_rows(model), snapshots[-1]
    states = [snapshots.T[layer] for layer in rows]
    operators, fit_seconds = _timed(lambda: [fit(layer) for layer in states])
    published, pinv_seconds = _timed(lambda: [fit_by_pinv(layer) for layer in states])

    def ahead(of_layers: list[Array]) -> Array:
        state = np.empty_like(last)
        for units, matrices in zip(rows, of_layers, strict=True):
            state[units] = forecast(matrices, last[units], protocol.horizon)
        return state

    predicted, forecast_seconds = _timed(lambda: ahead(operators))
    check = ahead(published)
    own, own_seconds = _timed(lambda: _by_koopcore(snapshots, rows, protocol))

    def loss(state: Array) -> float:
        torch.nn.utils.vector_to_parameters(
            torch.as_tensor(state, dtype=torch.float32), model.parameters()
        )
        with torch.no_grad():
            value = Ansatz().loss(model).item()
        return value if math.isfinite(value) else math.inf

    return Network(
        seed=seed,
        train_seconds=train_seconds,
        forecast_seconds=forecast_seconds,
        fit_seconds=fit_seconds,
        pinv_seconds=pinv_seconds,
        forms_differ=float(np.abs(predicted - check).max() / np.abs(check - last).max()),
        error_to_growth=error_to_growth(predicted, true, last),
        koopcore_error_to_growth=error_to_growth(own, true, last),
        loss_before=loss(last),
        loss_true=loss(true),
        loss_forecast=loss(predicted),
        loss_koopcore=loss(own),
        koopcore_seconds=own_seconds,
    )


def _trajectory(
    model: SineNetwork,
    seed: int,
    protocol: Protocol,
    jitter: float,
    progress: Callable[[int], Any] | None,
) -> tuple[Array, Array, float]:
    """Train; return the snapshots (m, n), the true final state and the seconds of the horizon."""
    optimizer = torch.optim.Adadelta(model.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    fixed = Ansatz()
    spacing = float(fixed.times[1] - fixed.times[0])

    def step() -> None:
        ansatz = fixed
        if jitter:
            noise = torch.randn(fixed.times.shape, generator=generator)
            ansatz = Ansatz(times=fixed.times + jitter * spacing * noise)
        optimizer.zero_grad()
        ansatz.loss(model).backward()
        optimizer.step()

    def state() -> Array:
        flat = torch.nn.utils.parameters_to_vector(model.parameters())
        return flat.detach().numpy().astype(np.float64)

    kept = []
    for i in range(1, protocol.last + 1):
        step()
        if i >= protocol.first:
            kept.append(state())
        if progress and i % 100 == 0:
            progress(100)
    start = perf_counter()
    for _ in range(protocol.horizon):
        step()
    seconds = perf_counter() - start
    if progress:
        progress(protocol.horizon + protocol.last % 100)
    return np.array(kept), state(), seconds


def _by_koopcore(snapshots: Array, rows: Sequence[NDArray], protocol: Protocol) -> Array:
    """Return the forecast of `GroupedDMD` with one operator per unit, on first differences."""
    stride = max(1, len(snapshots) // THINNED)
    thinned = snapshots[::-stride][:THINNED][::-1]
    sizes = [layer.shape[1] for layer in rows for _ in layer]
    stops = np.cumsum(sizes)
    order = np.concatenate([layer.ravel() for layer in rows])
    model = GroupedDMD(affine=True).fit(
        thinned.T[order], segments=np.column_stack([stops - sizes, stops])
    )
    state = np.empty(len(order))
    state[order] = model.forecast(protocol.horizon / stride)
    return state


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return the function's value and the median of the seconds it takes."""
    seconds = []
    for _ in range(REPEATS):
        start = perf_counter()
        value = function()
        seconds.append(perf_counter() - start)
    return value, median(seconds)


def to_json(protocol: Protocol, jitter: float, networks: Sequence[Network]) -> str:
    """Return everything measured, with the machine; what is not finite becomes null."""
    document = {
        "format": "koopcore-paper/1",
        "protocol": asdict(protocol),
        "jitter": jitter,
        "environment": describe(torch.get_num_threads()),
        "networks": [
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in asdict(network).items()
            }
            for network in networks
        ],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def table(protocol: Protocol, jitter: float, networks: Sequence[Network]) -> str:
    """Return a Markdown table of all networks, of their medians and of the best 11's."""
    ranked = sorted(networks, key=lambda network: network.error_to_growth)
    header = (
        "network | error / growth | koopcore | forecast / training time | with fit | with pinv | "
        "loss before | true | forecast | koopcore"
    )
    lines = [
        f"Snapshots after steps {protocol.first} to {protocol.last}, forecast over "
        f"{protocol.horizon} steps; collocation points perturbed by {jitter:g} of their spacing.",
        "",
        f"| {header} |",
        "| " + " | ".join(["---"] * (header.count("|") + 1)) + " |",
        *(_row(f"seed {network.seed}", [network]) for network in networks),
        _row(f"median of all {len(networks)}", networks),
    ]
    if len(networks) > BEST:
        lines.append(_row(f"median of the best {BEST}, by their own error", ranked[:BEST]))
    return "\n".join(lines) + "\n"


def _row(label: str, networks: Sequence[Network]) -> str:
    def middle(figure: Callable[[Network], float], style: str) -> str:
        return format(median(figure(network) for network in networks), style)

    cells = [
        middle(lambda n: n.error_to_growth, ".3g"),
        middle(lambda n: n.koopcore_error_to_growth, ".3g"),
        middle(lambda n: n.forecast_seconds / n.train_seconds, ".1e"),
        middle(lambda n: (n.forecast_seconds + n.fit_seconds) / n.train_seconds, ".1e"),
        middle(lambda n: (n.forecast_seconds + n.pinv_seconds) / n.train_seconds, ".1e"),
        middle(lambda n: n.loss_before, ".2e"),
        middle(lambda n: n.loss_true, ".2e"),
        middle(lambda n: n.loss_forecast, ".2e"),
        middle(lambda n: n.loss_koopcore, ".2e"),
    ]
    return f"| {label} | {' | '.join(cells)} |"
