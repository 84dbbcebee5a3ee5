"""MNIST-1D, a perceptron 40-100-100-10 or a convolutional network 25-25-25, batches of 128.

Greydanus and Kobak (ICML 2024, arXiv 2011.14439): 5,000 sequences of 40 numbers in ten classes,
drawn from one-dimensional digits that are padded, stretched, moved and overlaid with noise. The
package mnist1d makes them anew, always the same; nothing is downloaded. The networks are the
paper's, with 15,210 and 5,210 parameters; its batches are of 100. The seed draws which 3,744
sequences are trained on, which 256 are kept for trials and which 1,000 are test data.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from . import Problem, Workload, scaled
from ._classifier import Parts, classifier, drawn_parts, seeded

BATCH_SIZE, TRIAL_SIZE = 128, 256
N_TEST, N_KEPT = 1000, 256


@functools.cache  # a second, and always the same
def sequences_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sequences, shape (5000, 40), float32, and their labels.

    The package seeds the random numbers of Python and NumPy; they are put back to where they were.
    """
    from mnist1d.data import make_dataset

    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        made = make_dataset()
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    x = np.concatenate([made["x"], made["x_test"]])
    y = np.concatenate([made["y"], made["y_test"]])
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def split(seed: int) -> Parts:
    """Return 3,744 training, 256 kept and 1,000 test samples in an order drawn by the seed."""
    return drawn_parts(*sequences_and_labels(), n_kept=N_KEPT, n_test=N_TEST, seed=seed)


def perceptron(factor: float = 1.0) -> nn.Sequential:
    """Return the 40-100-100-10 multilayer perceptron with torch's default initialisation."""
    width = scaled(100, factor)
    return nn.Sequential(
        nn.Linear(40, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def convolutional(factor: float = 1.0) -> nn.Sequential:
    """Return three convolutions with stride 2 (40 -> 19 -> 10 -> 5 points) and a linear layer."""
    width = scaled(25, factor)
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 40))]
    for channels, kernel in ((1, 5), (width, 3), (width, 3)):
        layers += [nn.Conv1d(channels, width, kernel, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(5 * width, 10))


def build(seed: int, factor: float = 1.0, *, network: Callable[[float], nn.Module]) -> Problem:
    """Return the problem of one seed."""
    return classifier(
        seeded(functools.partial(network, factor), seed),
        split(seed),
        cross_entropy,
        seed=seed,
        batch_size=BATCH_SIZE,
        trial_size=TRIAL_SIZE,
    )


WORKLOADS = {
    "mnist-1d": Workload(
        "mnist-1d",
        "MNIST-1D, 40-100-100-10, batches of 128",
        1500,
        functools.partial(build, network=perceptron),
    ),
    "mnist-1d-conv": Workload(
        "mnist-1d-conv",
        "MNIST-1D, convolutions 25-25-25, batches of 128",
        2000,
        functools.partial(build, network=convolutional),
        evaluate_every=20,
    ),
}
