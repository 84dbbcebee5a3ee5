"""scikit-learn's 8x8 digits and a 64-100-100-10 network, full batch or batches of 64.

The data (1,797 images) comes inside scikit-learn; one fifth of it, stratified by class and drawn
by the seed, is held out and never seen by the optimizer or by a trial.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from . import Problem, Workload

TRIAL_SIZE = 256
"""Training samples behind one trial when the batches are small."""


def split(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return x_train, y_train, x_heldout, y_heldout: 80 % and 20 %, stratified by class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=seed)
    x_train, x_heldout = (torch.tensor(part / 16, dtype=torch.float32) for part in parts[:2])
    y_train, y_heldout = (torch.tensor(part) for part in parts[2:])
    return x_train, y_train, x_heldout, y_heldout


def network() -> nn.Sequential:
    """Return a 64-100-100-10 multilayer perceptron with torch's default initialisation."""
    return nn.Sequential(
        nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
    )


def shuffled_batches(
    x: torch.Tensor, y: torch.Tensor, size: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches without end, reshuffled every epoch; an incomplete last batch is left out."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(x), generator=generator)
        for chosen in order[: len(x) // size * size].split(size):
            yield x[chosen], y[chosen]


def build(seed: int, batch_size: int | None) -> Problem:
    """Return the problem of one seed; `batch_size` None stands for the full training set."""
    x_train, y_train, x_heldout, y_heldout = split(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network()
    if batch_size is None:
        batches, n_trial = itertools.repeat((x_train, y_train)), len(x_train)
    else:
        batches, n_trial = shuffled_batches(x_train, y_train, batch_size, seed), TRIAL_SIZE
    # The split is already in random order, so the first rows are a random sample.
    x_trial, y_trial = x_train[:n_trial], y_train[:n_trial]

    def evaluate(model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            heldout = model(x_heldout)
            return {
                "train_loss": cross_entropy(model(x_train), y_train).item(),
                "heldout_loss": cross_entropy(heldout, y_heldout).item(),
                "heldout_accuracy": (heldout.argmax(1) == y_heldout).float().mean().item(),
            }

    return Problem(
        model=model,
        batches=batches,
        loss=lambda model, batch: cross_entropy(model(batch[0]), batch[1]),
        trial_loss=lambda model: cross_entropy(model(x_trial), y_trial),
        evaluate=evaluate,
        batch_size=batch_size or len(x_train),
        trial_size=n_trial,
    )


WORKLOADS = {
    "digits": Workload(
        "digits", "Digits, 64-100-100-10, full batch", 1500, partial(build, batch_size=None)
    ),
    "digits-64": Workload(
        "digits-64", "Digits, 64-100-100-10, batches of 64", 1500, partial(build, batch_size=64)
    ),
}
