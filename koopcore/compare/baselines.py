"""The optimizers of torch.optim that koopcore is compared with, at stated learning rates.

The rates are the best of a half-decade grid for the *bare* optimizer (lowest final training loss
on seed 100, which no comparison uses, at the workload's full budget), so that koopcore is never
measured against a badly tuned optimizer. To redo the choice: ``koopcore tune WORKLOAD``. On
fashion-mnist, where a run takes most of a minute, four or five rates around the best one were
run for 600 steps, and the best two of them, but for Adagrad and RMSprop, for the full budget:
``koopcore tune fashion-mnist --steps 600 --rates ...``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TUNING_SEED = 100

# The half-decade grid of each optimizer: the same number of values for all, wide enough that no
# choice below lies at an end.
GRIDS = {
    "sgd": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    "momentum": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "adam": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    "adamw": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    "adadelta": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    "adagrad": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    "rmsprop": (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
}
NAMES = tuple(GRIDS)

LEARNING_RATES = {
    "hamiltonian": {
        "sgd": 0.01,
        "momentum": 0.01,
        "adam": 0.003,
        "adamw": 0.003,
        "adadelta": 0.1,
        "adagrad": 0.3,
        "rmsprop": 0.0003,
    },
    "hamiltonian-50": {
        "sgd": 0.003,
        "momentum": 0.003,
        "adam": 0.003,
        "adamw": 0.003,
        "adadelta": 0.3,
        "adagrad": 0.1,
        "rmsprop": 0.003,
    },
    "digits": {
        "sgd": 1.0,
        "momentum": 0.3,
        "adam": 0.03,
        "adamw": 0.03,
        "adadelta": 10.0,
        "adagrad": 0.1,
        "rmsprop": 0.01,
    },
    "digits-64": {
        "sgd": 0.3,
        "momentum": 0.3,
        "adam": 0.03,
        "adamw": 0.01,
        "adadelta": 10.0,
        "adagrad": 0.1,
        "rmsprop": 0.01,
    },
    "mnist-5k": {
        "sgd": 0.1,
        "momentum": 0.03,
        "adam": 0.01,
        "adamw": 0.01,
        "adadelta": 1.0,
        "adagrad": 0.03,
        "rmsprop": 0.003,
    },
    "fashion-mnist": {
        "sgd": 0.3,
        "momentum": 0.1,
        "adam": 0.01,
        "adamw": 0.01,
        "adadelta": 10.0,
        "adagrad": 0.03,
        "rmsprop": 0.003,
    },
}


def learning_rate(workload: str, optimizer: str) -> float:
    """Return the stated learning rate of an optimizer on a workload.

    Raises
    ------
    ValueError
        If the optimizer is unknown, or was not tuned on the workload; the message lists those
        that there are.
    """
    if optimizer not in GRIDS:
        raise ValueError(f"unknown optimizer {optimizer!r}; known optimizers: {', '.join(NAMES)}")
    rates = LEARNING_RATES[workload]
    if optimizer not in rates:
        raise ValueError(f"{workload} has learning rates for {', '.join(rates)} only")
    return rates[optimizer]


def make_optimizer(
    name: str, parameters: Iterable[torch.nn.Parameter], rate: float
) -> torch.optim.Optimizer:
    """Return a torch optimizer by its name here; all settings but the rate are torch's defaults.

    ``momentum`` is ``SGD`` with momentum 0.9.
    """
    from torch import optim

    if name == "momentum":
        return optim.SGD(parameters, lr=rate, momentum=0.9)
    classes = {
        "sgd": optim.SGD,
        "adam": optim.Adam,
        "adamw": optim.AdamW,
        "adadelta": optim.Adadelta,
        "adagrad": optim.Adagrad,
        "rmsprop": optim.RMSprop,
    }
    return classes[name](parameters, lr=rate)
