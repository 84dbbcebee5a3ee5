"""A character-level transformer of about a million parameters on licence texts, AdamW's home.

A decoder: characters and positions embedded in 128 dimensions, five pre-norm blocks of causal
self-attention with four heads and 512 hidden units, a linear layer onto the characters. A sample is
64 characters and, as labels, the ones that follow each; a batch has 16. No dropout.

The text (see `_text`) is cut in three contiguous parts, 90 % to train on, 5 % kept for trials and
5 % test data, so that the last texts, in alphabetical order, are hardly seen in training. Another
Debian release may have other texts, and so other losses. Evaluations take 64 samples of each part.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import MultiplicativeLR

from . import Problem, Workload, _text, scaled
from ._classifier import Parts, Samples, classifier, seeded

CONTEXT, BATCH_SIZE = 64, 16
TRIAL_SIZE, N_KEPT, N_EVALUATED = 32, 32, 64
WIDTH, N_HEADS, N_BLOCKS = 128, 4, 5
WARM_UP, FLOOR = 0.1, 0.1  # share of the steps; share of the rate that is left in the end


@functools.cache
def split() -> tuple[Parts, int]:
    """Return the samples of the three parts and the number of different characters.

    Samples of a part are in an order that is the same at every seed.
    """
    text = _text.read()
    characters = sorted(set(text))
    number = {character: i for i, character in enumerate(characters)}
    codes = torch.tensor([number[character] for character in text])
    kept, test = (round(share * len(codes)) for share in (0.9, 0.95))
    parts = (codes[:kept], codes[kept:test], codes[test:])
    train, kept_samples, test_samples = map(_samples, parts)
    kept_samples = tuple(t[:N_KEPT] for t in kept_samples)
    test_samples = tuple(t[:N_EVALUATED] for t in test_samples)
    return Parts(train, kept_samples, test_samples), len(characters)


def _samples(codes: torch.Tensor) -> Samples:
    """Return windows of the text that do not overlap and the characters after each of theirs."""
    n_samples = (len(codes) - 1) // CONTEXT
    shape, end = (n_samples, CONTEXT), n_samples * CONTEXT
    order = torch.randperm(n_samples, generator=torch.Generator().manual_seed(0))
    return codes[:end].view(shape)[order], codes[1 : end + 1].view(shape)[order]


class Decoder(nn.Module):
    """Predicts every next character from those before it.

    Parameters
    ----------
    n_characters : int
    width : int
        Dimensions of the model, a multiple of the number of heads.
    """

    def __init__(self, n_characters: int, width: int = WIDTH) -> None:
        super().__init__()
        self.characters = nn.Embedding(n_characters, width)
        self.positions = nn.Embedding(CONTEXT, width)
        block = functools.partial(
            nn.TransformerEncoderLayer,
            width,
            N_HEADS,
            4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.ModuleList([block() for _ in range(N_BLOCKS)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_characters)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (n, length, n_characters), for `codes` of shape (n, length)."""
        length = codes.shape[1]
        x = self.characters(codes) + self.positions.weight[:length]
        later = nn.Transformer.generate_square_subsequent_mask(length)
        for block in self.blocks:
            x = block(x, src_mask=later, is_causal=True)
        return self.head(self.norm(x))


def loss(logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy of the characters, in nats."""
    return cross_entropy(logits.flatten(0, 1), codes.flatten())


def share_of_rate(step: int, steps: int) -> float:
    """Return what share of the learning rate the step after `step` others takes.

    It rises over a tenth of the steps, falls to a tenth of the rate along half a cosine, and stays.
    """
    rising = max(1, round(WARM_UP * steps))
    if step < rising:
        return (step + 1) / rising
    done = min(1.0, (step - rising) / max(1, steps - rising))
    return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2


def schedule(optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Make the optimizer's rates follow `share_of_rate` over `steps` of its steps.

    Rates are multiplied, not set, so that what a method makes of them lasts.
    """
    for group in optimizer.param_groups:
        group["lr"] *= share_of_rate(0, steps)
    turn = MultiplicativeLR(
        optimizer, lambda step: share_of_rate(step, steps) / share_of_rate(step - 1, steps)
    )
    optimizer.register_step_post_hook(lambda *_: turn.step())


def build(seed: int, factor: float = 1.0) -> Problem:
    """Return the problem of one seed, its model of 128 times `factor` dimensions."""
    parts, n_characters = split()
    width = scaled(WIDTH, factor, multiple=N_HEADS)
    problem = classifier(
        seeded(lambda: Decoder(n_characters, width), seed),
        parts,
        loss,
        seed=seed,
        batch_size=BATCH_SIZE,
        trial_size=TRIAL_SIZE,
        n_evaluated=N_EVALUATED,
    )
    problem.schedule = schedule
    return problem


WORKLOADS = {
    "transformer": Workload(
        "transformer", "Character-level transformer, 1 M parameters", 400, build, evaluate_every=20
    )
}
