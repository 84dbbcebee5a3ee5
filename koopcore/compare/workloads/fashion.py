"""FashionMNIST and small convolutional networks, 16-32-32 or 32-64-64 channels, batches of 128.

Three 3x3 convolutions, each with stride 2 and padding 1 (28 -> 14 -> 7 -> 4 pixels a side), ReLU,
the mean over the remaining pixels and one linear layer: the 14,378 parameters of the task that
goes by FM-16 in work on learned optimizers, whose second and third convolutions keep 13 x 13
pixels; here they do not, so that a step on one core takes about a sixth of the arithmetic. The
wider network has 56,394 parameters.

The published tasks are run to 89.5 % and 90.5 % of accuracy on the test data. Adam at its stated
rate does not come so far here within 2,500 steps, five epochs: to 88.2 % and 89.6 % on seed 100,
``heldout_accuracy`` in the results.

Of the 60,000 training images the same 1,024 are kept for trials at every seed; evaluations take
2,000 training and 4,000 test images, the first of each. The files: see `_idx`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from . import Problem, Workload, _idx, scaled
from ._classifier import Parts, Samples, classifier, seeded

BATCH_SIZE, TRIAL_SIZE, N_KEPT = 128, 512, 1024
N_EVALUATED, N_TEST = 2000, 4000
MEAN, DEVIATION = 0.2860, 0.3530  # of the training images, between 0 and 1


def samples(part: str) -> Samples:
    """Return the images of ``train`` or ``t10k``, shape (n, 1, 28, 28), normalised, and labels.

    Raises
    ------
    FileNotFoundError
        If files are missing; the message says how to get them.
    """
    if message := _idx.missing_fashion_mnist():
        raise FileNotFoundError(message)
    images = _idx.read(_idx.locate(f"{part}-images-idx3-ubyte"))
    labels = _idx.read(_idx.locate(f"{part}-labels-idx1-ubyte"))
    x = torch.from_numpy(images.copy()).to(torch.float32)[:, None]
    return x.div_(255).sub_(MEAN).div_(DEVIATION), torch.from_numpy(labels.copy()).long()


@functools.cache  # a quarter of a second and 190 MB, shared by all runs of a process
def split() -> Parts:
    """Return 58,976 training, 1,024 kept and 4,000 test samples; the same at every seed."""
    (x, y), (x_test, y_test) = samples("train"), samples("t10k")
    kept, train = slice(None, N_KEPT), slice(N_KEPT, None)
    return Parts((x[train], y[train]), (x[kept], y[kept]), (x_test[:N_TEST], y_test[:N_TEST]))


def network(channels: Sequence[int] = (16, 32, 32), factor: float = 1.0) -> nn.Sequential:
    """Return the network of the module's docstring with torch's default initialisation."""
    widths = [scaled(width, factor) for width in channels]
    layers: list[nn.Module] = []
    for fewer, more in itertools.pairwise([1, *widths]):
        layers += [nn.Conv2d(fewer, more, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def build(seed: int, factor: float = 1.0, *, channels: Sequence[int]) -> Problem:
    """Return the problem of one seed."""
    return classifier(
        seeded(lambda: network(channels, factor), seed),
        split(),
        cross_entropy,
        seed=seed,
        batch_size=BATCH_SIZE,
        trial_size=TRIAL_SIZE,
        n_evaluated=N_EVALUATED,
    )


def _workload(name: str, channels: tuple[int, int, int]) -> Workload:
    title = f"FashionMNIST, convolutions {'-'.join(map(str, channels))}, batches of {BATCH_SIZE}"
    return Workload(name, title, 2500, functools.partial(build, channels=channels), 50)


WORKLOADS = {
    "fashion-mnist": _workload("fashion-mnist", (16, 32, 32)),
    "fashion-mnist-64": _workload("fashion-mnist-64", (32, 64, 64)),
}
