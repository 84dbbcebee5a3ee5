"""scikit-learn's 8x8 digits and a 64-100-100-10 network, full batch or batches of 64.

The data (1,797 images) comes inside scikit-learn. Four fifths of it are trained on; of the rest,
which is drawn by the seed and stratified by class, one third is kept for trials and two thirds are
test data.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from . import Problem, Workload, scaled
from ._classifier import Parts, classifier, seeded

TRIAL_SIZE = 256
"""Training samples behind one trial when the batches are small."""

N_TEST, N_KEPT = 240, 120


def split(seed: int) -> Parts:
    """Return 1,437 training, 120 kept and 240 test samples, stratified by class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    def divide(x, y, size):
        return train_test_split(x, y, test_size=size, stratify=y, random_state=seed)

    def tensors(x, y):
        return torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)

    x_train, x_rest, y_train, y_rest = divide(*load_digits(return_X_y=True), N_TEST + N_KEPT)
    x_kept, x_test, y_kept, y_test = divide(x_rest, y_rest, N_TEST)
    return Parts(tensors(x_train, y_train), tensors(x_kept, y_kept), tensors(x_test, y_test))


def network(factor: float = 1.0) -> nn.Sequential:
    """Return a 64-100-100-10 multilayer perceptron with torch's default initialisation."""
    width = scaled(100, factor)
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def build(seed: int, factor: float = 1.0, *, batch_size: int | None) -> Problem:
    """Return the problem of one seed; `batch_size` None stands for the full training set."""
    return classifier(
        seeded(partial(network, factor), seed),
        split(seed),
        cross_entropy,
        seed=seed,
        batch_size=batch_size,
        trial_size=TRIAL_SIZE,
    )


WORKLOADS = {
    "digits": Workload(
        "digits", "Digits, 64-100-100-10, full batch", 1500, partial(build, batch_size=None)
    ),
    "digits-64": Workload(
        "digits-64", "Digits, 64-100-100-10, batches of 64", 1500, partial(build, batch_size=64)
    ),
}
