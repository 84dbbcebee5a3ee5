"""Two questions of the reviewers that need other training runs: noise, and decaying rates.

The others - early windows, other observables, plain extrapolation and averages - are measured on
the networks of the two experiments themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from koopcore.compare.workloads.hamiltonian import SineNetwork

from . import measures, ode
from .measures import error_to_growth
from .ode import Progress
from .operators import Array, Model, groups, unit_rows
from .training import Protocol, Record

JITTER = 0.03  # of the spacing of the collocation points, as in the original solver
SHARES = {"half": 0.5, "end": 1.0}  # windows that end at these shares of the steps


def run_network(
    seed: int, protocol: Protocol = ode.FULL, progress: Progress | None = None
) -> dict[str, Any]:
    """Train one network under perturbed points and one under a decaying rate; forecast both.

    Parameters
    ----------
    seed : int
    protocol : Protocol
    progress : callable, optional
        Called with the number of steps done since its last call.

    Returns
    -------
    dict
        Plain numbers and lists.
    """
    record = ode.trajectory(seed, protocol, decay=True, progress=progress)
    rates = ode.decayed_rates(protocol, "adadelta")
    return {
        "seed": seed,
        "decay": {
            name: under_decay(record, protocol if share == 1.0 else protocol.at(share), rates)
            for name, share in SHARES.items()
        },
        "jitter": ode.run_network(seed, protocol, jitter=JITTER, progress=progress),
    }


def under_decay(record: Record, protocol: Protocol, rates: Array) -> dict[str, Any]:
    """Return errors and losses of one forecast while the learning rate falls.

    Parameters
    ----------
    record : Record
    protocol : Protocol
    rates : array of shape (steps,)
        Of every step of the run.
    """
    window, horizon = record.window(protocol), protocol.horizon
    rows = unit_rows(SineNetwork(ode.WIDTH))
    within = rates[protocol.first : protocol.last]
    to_come = rates[protocol.last : protocol.steps].sum() / within[-1]
    states = {
        "stay": window[-1].astype(np.float64),
        "secant": measures.secant(window, [horizon])[0],
        "mean": measures.mean(window, [horizon])[0],
        "published": Model(window, groups(rows, "node")).forecast([horizon])[0],
        "koopcore, affine": measures.grouped(window, rows, [horizon], affine=True)[0],
        "koopcore, present rate": measures.scheduled(window, rows, within, horizon),
        "koopcore, rates to come": measures.scheduled(window, rows, within, to_come),
    }
    last, true = states["stay"], record.state(protocol.steps).astype(np.float64)
    return {
        "rate_over_window": [float(within[0]), float(within[-1])],
        "rate_at_the_end": float(rates[protocol.steps - 1]),
        "loss_true": ode.loss_of(true),
        "rules": {
            name: {
                "error_to_growth": error_to_growth(state, true, last),
                "loss": ode.loss_of(state),
            }
            for name, state in states.items()
        },
    }
