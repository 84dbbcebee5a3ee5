"""Experiment 1: networks that solve the nonlinear oscillator of the workload ``hamiltonian``.

Networks 1-10-10-2 with sines, 152 parameters; the weights after each of the steps 35,001 ...
45,000 are snapshots, and the 2,500th power of the operators forecasts step 47,500. Published are
Adadelta (the main figure) and, in the supplement, Adam and Adagrad, here at torch's default rates;
the original solver drew its collocation points anew at every step, with a deviation of 0.03 of
their spacing, and whether the paper kept that is not known: `jitter`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from koopcore.compare.workloads._classifier import seeded
from koopcore.compare.workloads.hamiltonian import Ansatz, SineNetwork

from . import measures
from .measures import end_to_end, end_to_end_seconds, error_to_growth, finite
from .operators import Array, Model, groups, unit_rows
from .training import Protocol, Record, train

WIDTH = 10
RATES = {"adadelta": 1.0, "adam": 0.001, "adagrad": 0.01}
QUASI = 5  # size of the chunks of the quasi-nodes, in layers 2 and 3; 2 = the node in layer 1
EARLY = (0.1, 0.25, 0.5)  # windows that end at these shares of the steps
SCATTERED = 152  # parameters whose errors are kept, of every partition

FULL = Protocol(35_001, 45_000, 2_500)
QUICK = Protocol(701, 900, 50)

Progress = Callable[[int], Any]


def ahead(horizon: int) -> list[int]:
    """Return the horizons that losses are taken at: up to the forecast's own."""
    return [h for h in (1, 10, 50, 200, 1000) if h < horizon] + [horizon]


def trajectory(
    seed: int,
    protocol: Protocol,
    optimizer: str = "adadelta",
    jitter: float = 0.0,
    decay: bool = False,
    progress: Progress | None = None,
) -> Record:
    """Train one network and keep what the forecasts need.

    Parameters
    ----------
    seed : int
        Of the initial weights and of the perturbations.
    protocol : Protocol
    optimizer : str
        ``adadelta``, ``adam`` or ``adagrad``.
    jitter : float
        Deviation of the collocation points, drawn anew at every step, in units of their spacing.
    decay : bool
        Let the learning rate fall linearly, to zero after the last step.
    progress : callable, optional
        Called with the number of steps done since its last call.
    """
    model = seeded(lambda: SineNetwork(WIDTH), seed)
    kinds = {"adadelta": torch.optim.Adadelta, "adam": torch.optim.Adam}
    kind = kinds.get(optimizer, torch.optim.Adagrad)
    stepper = kind(model.parameters(), lr=RATES[optimizer])
    generator = torch.Generator().manual_seed(seed)
    fixed = Ansatz()
    spacing = float(fixed.times[1] - fixed.times[0])
    rates = iter(decayed_rates(protocol, optimizer))

    def step() -> None:
        ansatz = fixed
        if decay:
            stepper.param_groups[0]["lr"] = float(next(rates))
        if jitter:
            noise = torch.randn(fixed.times.shape, generator=generator)
            ansatz = Ansatz(times=fixed.times + jitter * spacing * noise)
        stepper.zero_grad()
        ansatz.loss(model).backward()
        stepper.step()

    windows = [protocol, *(protocol.at(share) for share in EARLY)]
    kept = {protocol.last + h for h in ahead(protocol.horizon)}.union(*(w.kept() for w in windows))
    return train(model, step, protocol.steps, kept, progress)


def decayed_rates(protocol: Protocol, optimizer: str) -> Array:
    """Return the learning rate of every step under linear decay."""
    return RATES[optimizer] * (1 - np.arange(protocol.steps) / protocol.steps)


def loss_of(state: Array) -> float:
    """Return the loss, on even points, of the network with these weights."""
    model = SineNetwork(WIDTH)
    torch.nn.utils.vector_to_parameters(
        torch.as_tensor(state, dtype=torch.float32), model.parameters()
    )
    with torch.no_grad():
        return finite(Ansatz().loss(model).item())


def run_network(
    seed: int,
    protocol: Protocol = FULL,
    optimizer: str = "adadelta",
    jitter: float = 0.0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train one network, forecast it by every partition and rule, and measure; see `trajectory`."""
    record = trajectory(seed, protocol, optimizer, jitter, progress=progress)
    return judged(record, protocol, seed=seed, optimizer=optimizer, jitter=jitter)


def judged(record: Record, protocol: Protocol, **labels: Any) -> dict[str, Any]:
    """Return all measurements of one trained network as plain numbers and lists."""
    window, true = record.window(protocol), record.state(protocol.steps)
    last, horizons = window[-1].astype(np.float64), ahead(protocol.horizon)
    rows = unit_rows(SineNetwork(WIDTH))
    training = record.elapsed(protocol.last, protocol.steps)
    result: dict[str, Any] = {
        **labels,
        "training_seconds": training,
        "training_to_window_seconds": record.elapsed(0, protocol.last),
        "loss_before": loss_of(last),
        "loss_true": loss_of(true),
        "horizons": horizons,
        "losses_true": [loss_of(record.state(protocol.last + h)) for h in horizons],
        "growth": _short(np.abs(true - last)),
        "end_to_end_at_most": end_to_end(protocol),
        "partitions": {},
    }
    for label, wanted in partitions(rows).items():
        model = Model(window, wanted)
        found = _of_model(model, record, protocol, horizons)
        if label == "node":
            published = Model(window, wanted, by_pinv=True)
            found |= _by_pinv(published, model, record, protocol)
        result["partitions"][label] = found
    result["rules"] = {
        name: _judged_states(states, record, protocol)
        for name, states in _rules(window, rows, horizons).items()
    }
    result["early"] = {f"{share:.0%}": _early(record, protocol.at(share), rows) for share in EARLY}
    return result


def partitions(rows: Sequence) -> dict[str, list]:
    """Return the groups of every partition; the quasi-nodes split layers 2 and 3 only."""
    quasi = [*groups(rows[:1], "node"), *groups(rows[1:], "quasi-node", QUASI)]
    return {
        "weight": groups(rows, "weight"),
        f"quasi-node {QUASI}": quasi,
        "node": groups(rows, "node"),
        "layer": groups(rows, "layer"),
        "network": groups(rows, "network"),
    }


def _of_model(model: Model, record: Record, protocol: Protocol, horizons: list) -> dict[str, Any]:
    states, seconds = model.timed_forecast(protocol.horizon)
    curve = model.forecast(horizons)
    training = record.elapsed(protocol.last, protocol.steps)
    return {
        "operators": model.operators,
        "route": model.route,
        "fit_seconds": model.fit_seconds,
        "forecast_seconds": seconds,
        "forecast_to_training": seconds / training,
        "with_fit_to_training": (seconds + model.fit_seconds) / training,
        "step_seconds": model.seconds_per_step(),
        "end_to_end": end_to_end_seconds(record, protocol, seconds + model.fit_seconds),
        **_judged_states(curve, record, protocol),
        "errors": _short(np.abs(states - record.state(protocol.steps))),
        "spectra": model.spectra(),
    }


def _by_pinv(
    published: Model, model: Model, record: Record, protocol: Protocol
) -> dict[str, float]:
    """Return the time of the published route, and how far the two routes differ."""
    ours, theirs = (m.forecast([protocol.horizon])[0] for m in (model, published))
    with np.errstate(invalid="ignore", divide="ignore"):
        differ = np.abs(ours - theirs).max() / np.abs(theirs - model.last).max()
    training = record.elapsed(protocol.last, protocol.steps)
    forecast = published.timed_forecast(protocol.horizon)[1]
    return {
        "pinv_seconds": published.fit_seconds,
        "with_pinv_to_training": (published.fit_seconds + forecast) / training,
        "end_to_end_pinv": end_to_end_seconds(record, protocol, published.fit_seconds + forecast),
        "routes_differ": finite(float(differ)),
    }


def _rules(window: Any, rows: Sequence, horizons: list[int]) -> dict[str, Array]:
    """Return the forecasts of the plain rules and of koopcore's variants, one operator a node."""
    last = np.tile(window[-1].astype(np.float64), (len(horizons), 1))
    plain = {
        "stay": last,
        "secant": measures.secant(window, horizons),
        "mean": measures.mean(window, horizons),
    }
    return plain | {
        f"koopcore, {name}": measures.grouped(window, rows, horizons, **options)
        for name, options in measures.VARIANTS.items()
    }


def _judged_states(curve: Array, record: Record, protocol: Protocol) -> dict[str, Any]:
    """Return the error of the farthest forecast and the losses of all."""
    true, last = record.state(protocol.steps), record.state(protocol.last)
    losses = [loss_of(state) for state in curve]
    return {
        "error_to_growth": error_to_growth(curve[-1], true, last),
        "loss": losses[-1],
        "losses": losses,
    }


def _early(record: Record, protocol: Protocol, rows: Sequence) -> dict[str, Any]:
    """Return what the same, shrunk to an earlier window, comes to."""
    window = record.window(protocol)
    model = Model(window, groups(rows, "node"))
    horizons = [protocol.horizon]
    rules = _rules(window, rows, horizons)
    chosen = ("stay", "secant", "mean", "koopcore, affine")
    return {
        "last": protocol.last,
        "horizon": protocol.horizon,
        "loss_before": loss_of(window[-1]),
        "loss_true": loss_of(record.state(protocol.steps)),
        "node": _judged_states(model.forecast(horizons), record, protocol),
        "rules": {name: _judged_states(rules[name], record, protocol) for name in chosen},
    }


def _short(values: Array) -> list[float]:
    """Return at most `SCATTERED` evenly taken values, to four digits; infinity as it is."""
    stride = -(-len(values) // SCATTERED)
    return [float(f"{value:.3e}") for value in np.nan_to_num(values[::stride], nan=np.inf)]
