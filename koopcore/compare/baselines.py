"""The base optimizers that koopcore is compared with, at stated learning rates.

The rates are the best of a half-decade grid for the *bare* optimizer (lowest final training loss
on seed 100, which no comparison uses, at the workload's full budget; of equal ones, the lowest
held-out loss), so that koopcore is never measured against a badly tuned optimizer. To redo the
choice: ``koopcore tune WORKLOAD``. Where a run takes a minute or so, fewer rates were run, around
the best one, and fewer optimizers, and some for fewer steps (``--steps``, ``--rates``):

- fashion-mnist: four or five rates for 600 steps, and the best two of them, but for Adagrad and
  RMSprop, for the full budget; not Nesterov, NAdam and Muon.
- fashion-mnist-64: three rates, momentum four, for 400 steps; its default optimizers only.
- transformer: AdamW only, three rates for 150 steps, the schedule over those.
- mnist-1d-conv: its default optimizers only, all rates and steps.

L-BFGS has no rates where batches are small. On henon-heiles it comes to much the same loss at all
rates, and on digits to a loss of 1e-7 and less.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from .workloads import parse

if TYPE_CHECKING:
    import torch

TUNING_SEED = 100
NEEDS_CLOSURE = ("lbfgs",)  # steps that evaluate the loss themselves, and more than once

# Packages beyond torch that an optimizer imports, as (import name, name on the package index).
REQUIRES = {"muon": ("pytorch_optimizer", "pytorch_optimizer")}

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
    "nesterov": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "nadam": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    "muon": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    "lbfgs": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
}
NAMES = tuple(GRIDS)

LEARNING_RATES = {
    "hamiltonian": {
        "sgd": 0.01,
        "momentum": 0.01,
        "nesterov": 0.003,
        "adam": 0.003,
        "adamw": 0.003,
        "nadam": 0.01,
        "adadelta": 0.1,
        "adagrad": 0.3,
        "rmsprop": 0.0003,
        "muon": 0.01,
        "lbfgs": 0.3,
    },
    "hamiltonian-50": {
        "sgd": 0.003,
        "momentum": 0.003,
        "nesterov": 0.003,
        "adam": 0.003,
        "adamw": 0.003,
        "nadam": 0.001,
        "adadelta": 0.3,
        "adagrad": 0.1,
        "rmsprop": 0.003,
        "muon": 0.001,
        "lbfgs": 0.3,
    },
    "henon-heiles": {
        "sgd": 0.03,
        "momentum": 0.03,
        "nesterov": 0.03,
        "adam": 0.03,
        "adamw": 0.03,
        "nadam": 0.001,
        "adadelta": 1.0,
        "adagrad": 0.1,
        "rmsprop": 0.0001,
        "muon": 0.0003,
        "lbfgs": 0.3,
    },
    "digits": {
        "sgd": 1.0,
        "momentum": 0.3,
        "nesterov": 0.3,
        "adam": 0.03,
        "adamw": 0.03,
        "nadam": 0.03,
        "adadelta": 10.0,
        "adagrad": 0.1,
        "rmsprop": 0.01,
        "muon": 0.003,
        "lbfgs": 10.0,
    },
    "digits-64": {
        "sgd": 0.3,
        "momentum": 0.3,
        "nesterov": 0.3,
        "adam": 0.03,
        "adamw": 0.01,
        "nadam": 0.01,
        "adadelta": 10.0,
        "adagrad": 0.1,
        "rmsprop": 0.01,
        "muon": 0.003,
    },
    "mnist-5k": {
        "sgd": 0.1,
        "momentum": 0.03,
        "nesterov": 0.03,
        "adam": 0.01,
        "adamw": 0.01,
        "nadam": 0.003,
        "adadelta": 1.0,
        "adagrad": 0.03,
        "rmsprop": 0.003,
        "muon": 0.003,
    },
    "mnist-1d": {
        "sgd": 1.0,
        "momentum": 0.1,
        "nesterov": 0.1,
        "adam": 0.01,
        "adamw": 0.01,
        "nadam": 0.01,
        "adadelta": 3.0,
        "adagrad": 0.3,
        "rmsprop": 0.01,
        "muon": 0.003,
    },
    "mnist-1d-conv": {
        "momentum": 0.03,
        "adam": 0.01,
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
    "fashion-mnist-64": {
        "momentum": 0.3,
        "adam": 0.01,
        "adamw": 0.01,
    },
    "transformer": {
        "adamw": 0.003,
    },
}

_EQUATIONS = ("adam", "adadelta", "adagrad", "lbfgs")
_DIGITS = ("sgd", "momentum", "adam", "adamw", "adadelta", "adagrad", "rmsprop")

# The base optimizers of each workload where the user names none.
DEFAULT_OPTIMIZERS = {
    "hamiltonian": _EQUATIONS,
    "hamiltonian-50": _EQUATIONS,
    "henon-heiles": _EQUATIONS,
    "digits": _DIGITS,
    "digits-64": _DIGITS,
    "mnist-5k": ("adadelta", "adagrad", "adam"),
    "mnist-1d": ("adam", "momentum"),
    "mnist-1d-conv": ("adam", "momentum"),
    "fashion-mnist": ("adam", "adamw", "momentum"),
    "fashion-mnist-64": ("adam", "adamw", "momentum"),
    "transformer": ("adamw",),
}


def learning_rate(workload: str, optimizer: str) -> float:
    """Return the stated learning rate of an optimizer on a workload, whatever its size factor.

    Raises
    ------
    ValueError
        If the optimizer is unknown, or was not tuned on the workload; the message lists those
        that there are. If the workload is unknown or its size factor is not a number.
    """
    if optimizer not in GRIDS:
        raise ValueError(f"unknown optimizer {optimizer!r}; known optimizers: {', '.join(NAMES)}")
    rates = LEARNING_RATES[parse(workload)[0]]
    if optimizer not in rates:
        raise ValueError(f"{workload} has learning rates for {', '.join(rates)} only")
    return rates[optimizer]


def make_optimizer(
    name: str, parameters: Iterable[torch.nn.Parameter], rate: float
) -> torch.optim.Optimizer:
    """Return an optimizer by its name here; all settings but the rate are its library's defaults.

    ``momentum`` and ``nesterov`` are ``SGD`` with momentum 0.9. ``muon`` is Muon for matrices and
    convolution kernels, embeddings and the last layer included, and AdamW for the rest. ``lbfgs``
    searches along the line for the strong Wolfe conditions; a step of it is up to 20 iterations,
    needs a closure, and is for full-batch workloads.
    """
    from torch import optim

    if name == "muon":
        return _muon(parameters, rate)
    classes = {
        "sgd": optim.SGD,
        "momentum": partial(optim.SGD, momentum=0.9),
        "nesterov": partial(optim.SGD, momentum=0.9, nesterov=True),
        "adam": optim.Adam,
        "adamw": optim.AdamW,
        "nadam": optim.NAdam,
        "adadelta": optim.Adadelta,
        "adagrad": optim.Adagrad,
        "rmsprop": optim.RMSprop,
        "lbfgs": partial(optim.LBFGS, line_search_fn="strong_wolfe"),
    }
    return classes[name](parameters, lr=rate)


def _muon(parameters: Iterable[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """Return Muon for tensors of two and more dimensions and AdamW for the rest, as one optimizer.

    Both take the same rate: an orthogonal update is scaled to the size of one of AdamW's, by
    0.2 sqrt(max(rows, columns)) (Liu et al. 2025, arXiv 2502.16982). A kernel counts as a matrix
    with one row per output channel.
    """
    from pytorch_optimizer import Muon

    parameters = list(parameters)
    matrices = [p for p in parameters if p.ndim >= 2]
    others = [p for p in parameters if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": others, "use_muon": False}] if others else []
    if matrices:
        groups.append({"params": matrices, "use_muon": True})
    optimizer = Muon(groups, lr=rate, adamw_lr=rate, use_adjusted_lr=True)
    _keep_gradients(optimizer, matrices)
    return optimizer


def _keep_gradients(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]) -> None:
    """Have the optimizer write on copies, so that after a step the gradients are there to read.

    Muon turns them into its Nesterov momentum in place, and the accelerator would take that for
    the gradient.
    """
    gradients: list[torch.Tensor | None] = []

    def lend_copies(*_args: Any) -> None:
        gradients[:] = [p.grad for p in parameters]
        for p in parameters:
            p.grad = None if p.grad is None else p.grad.clone()

    def give_back(*_args: Any) -> None:
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient

    optimizer.register_step_pre_hook(lend_copies)
    optimizer.register_step_post_hook(give_back)
