"""What the two benchmarks of streams have in common: the blocks, the limit, the problem.

Blocks of 16 snapshots of 1e6 float32 numbers into 20 modes. They carry white noise, so that every
block moves every direction: the costliest case. The limit is the sum of the time to copy the block
and of the flops of the update, a Gram matrix of c = 30 + 16 columns in float64 and a combination of
them to 30 in float32, at the matrix-multiply speeds measured here.
"""

import itertools

import limits
import numpy as np
from measure import Problem, Row, measure

N, RANK, BLOCK, KEPT = 1_000_000, 20, 16, 30
PROBLEM = Problem(N, BLOCK, name=f"n=1e6-k={RANK}-b={BLOCK}-float32")
RATES = np.linspace(0.9, 0.999, RANK)
GRAM, COMBINATION = N * (KEPT + BLOCK) ** 2, 2 * N * (KEPT + BLOCK) * KEPT
MOVED = PROBLEM.bytes + 2 * 4 * N * KEPT  # the block is read, the basis read and written
ROUNDS = 9


def make_modes(n=N):
    return np.random.default_rng(0).standard_normal((n, RANK), dtype=np.float32)


def block_of(modes, first, noise):
    rng = np.random.default_rng(first)
    powers = RATES[:, None] ** np.arange(first, first + BLOCK)
    block = modes @ powers.astype(np.float32)
    if noise:
        block += np.float32(noise) * rng.standard_normal(block.shape, dtype=np.float32)
    return np.asfortranarray(block)


def blocks_of(modes, noise=1e-3):
    return [block_of(modes, BLOCK * i, noise) for i in range(4)]


def copy_limit(benchmark, operation, threads, blocks):
    arrays = [blocks[0].T], [np.empty_like(blocks[0]).T]
    limits.copy(benchmark, operation, PROBLEM, threads, *arrays, combine="sum")


def flops_limit(benchmark, operation, threads, dtype):
    """Of the Gram matrix (float64) or the combination (float32)."""
    options = {"dtype": dtype, "who": f", {dtype}", "combine": "sum"}
    count = GRAM if dtype == "float64" else COMBINATION
    limits.flops(benchmark, operation, PROBLEM, threads, count, **options)


def measure_updates(benchmark, row, model, blocks):
    """Measure updates of a model that four blocks have filled: every further one is alike."""
    for block in blocks:
        model.partial_fit(block)
    turns = itertools.cycle(blocks)
    measure(benchmark, row, lambda: model.partial_fit(next(turns)), rounds=ROUNDS)


def update_row(operation, who, threads):
    return Row(operation, PROBLEM, who, threads, MOVED, GRAM + COMBINATION)
