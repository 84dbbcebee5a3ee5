"""What the classification workloads share: batches, three parts of the data, and a `Problem`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from . import Problem

Samples = tuple[torch.Tensor, torch.Tensor]

CHUNK = 500  # samples that an evaluation takes at once: larger ones fall out of the cache


@dataclass(frozen=True)
class Parts:
    """Inputs and labels of the training, the kept and the test samples; no sample is in two.

    `kept` are kept from training so that a method may judge by them; `test` only the harness sees.
    """

    train: Samples
    kept: Samples
    test: Samples


def drawn_parts(x: torch.Tensor, y: torch.Tensor, *, n_kept: int, n_test: int, seed: int) -> Parts:
    """Return the samples in three parts, in an order drawn by the seed."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    test, kept, train = order.split([n_test, n_kept, len(x) - n_test - n_kept])
    return Parts(*((x[chosen], y[chosen]) for chosen in (train, kept, test)))


def shuffled_batches(x: torch.Tensor, y: torch.Tensor, size: int, seed: int) -> Iterator[Samples]:
    """Yield batches without end, reshuffled every epoch; an incomplete last batch is left out."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(x), generator=generator)
        for chosen in order[: len(x) // size * size].split(size):
            yield x[chosen], y[chosen]


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return a model initialised from the seed; the caller's random numbers are not used up."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def classifier(
    model: nn.Module,
    parts: Parts,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    seed: int,
    batch_size: int | None,
    trial_size: int,
    n_evaluated: int | None = None,
) -> Problem:
    """Return the problem of training a classifier.

    Parameters
    ----------
    model : torch.nn.Module
    parts : Parts
        In random order: their first samples are taken for random ones.
    loss : callable
        ``loss(output, labels)``, the mean over the samples.
    seed : int
        Fixes the order of the batches.
    batch_size : int or None
        None: the full training set, which then is the trial's, too.
    trial_size : int
        Training samples behind one trial when the batches are small.
    n_evaluated : int, optional
        Training samples that the evaluations take; by default all.
    """
    x_train, y_train = parts.train
    if batch_size is None:
        batches, trial_size = itertools.repeat(parts.train), len(x_train)
    else:
        batches = shuffled_batches(x_train, y_train, batch_size, seed)
    x_trial, y_trial = x_train[:trial_size], y_train[:trial_size]
    x_kept, y_kept = parts.kept

    def evaluate(model: nn.Module) -> dict[str, float]:
        train_loss, _ = _mean_loss(model, x_train[:n_evaluated], y_train[:n_evaluated], loss)
        heldout_loss, accuracy = _mean_loss(model, *parts.test, loss)
        return {
            "train_loss": train_loss,
            "heldout_loss": heldout_loss,
            "heldout_accuracy": accuracy,
        }

    return Problem(
        model=model,
        batches=batches,
        loss=lambda model, batch: loss(model(batch[0]), batch[1]),
        trial_loss=lambda model: loss(model(x_trial), y_trial),
        evaluate=evaluate,
        batch_size=batch_size or len(x_train),
        trial_size=trial_size,
        preset="full_batch" if batch_size is None else "mini_batch",
        heldout_trial_loss=lambda model: loss(model(x_kept), y_kept),
        heldout_trial_size=len(x_kept),
    )


@torch.no_grad()
def _mean_loss(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Callable
) -> tuple[float, float]:
    """Return the mean loss and the share of labels that are found; a sample may have several."""
    total, hits = 0.0, 0
    for inputs, labels in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
        output = model(inputs)
        total += loss(output, labels).item() * len(labels)
        hits += int((output.argmax(-1) == labels).sum())
    return total / len(y), hits / y.numel()
