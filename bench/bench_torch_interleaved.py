"""Training and koopcore by turns in one loop: what each costs the other, in caches and threads.

A round is ten steps of SGD on a perceptron of 1e6 parameters. After each step the parameters are
pushed into a window, after the tenth a Gram matrix and a combination are asked for, too. The clock
counts one of these two parts, alike where the other part runs between and where it does not.
"""

from time import perf_counter

import numpy as np
import pytest
import torch
from measure import Problem, Row, measure
from torch import nn

import koopcore

ROUNDS, STEPS, WINDOW, WIDTH, INPUTS, BATCH = 15, 10, 16, 1024, 488, 128
N = 2 * WIDTH * INPUTS + WIDTH + INPUTS
PROBLEM = Problem(N, WINDOW, name=f"n=1e6-m={WINDOW}-float32")


class Clock:
    """Seconds spent inside it alone: what pytest-benchmark reads as the time."""

    __name__ = "Clock"
    total = 0.0

    def __call__(self):
        return self.total

    def __enter__(self):
        self.start = perf_counter()

    def __exit__(self, *_):
        self.total += perf_counter() - self.start


CLOCK = Clock()
pytestmark = pytest.mark.benchmark(timer=CLOCK)


class Training:
    """A step of torch, without the clock's knowing."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, INPUTS))
        self.batch = torch.randn(BATCH, INPUTS)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.states = [p.detach().numpy() for p in self.model.parameters()]

    def __call__(self, _):
        self.optimizer.zero_grad()
        (self.model(self.batch) - self.batch).square().mean().backward()
        self.optimizer.step()


class Recording:
    """A push, and with every tenth a Gram matrix and a combination: the last snapshot."""

    def __init__(self, states):
        self.states, self.out = states, [np.empty_like(state) for state in states]
        self.window = koopcore.WindowDMD(window=WINDOW, affine=True)
        for _ in range(WINDOW):
            self.window.update(states)

    def __call__(self, count):
        self.window.update(self.states)
        if count == STEPS - 1:
            gram = self.window.gram
            self.window._buffer.combine(np.eye(len(gram))[-1], self.out)


@pytest.fixture
def both_threads(threads):
    """As many threads for torch as for koopcore."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("how", ["alone", "interleaved"])
@pytest.mark.parametrize("part", ["torch", "koopcore"])
def test_interleaved(benchmark, part, how, both_threads):
    train = Training()
    record = Recording(train.states)
    timed, other = (train, record) if part == "torch" else (record, train)

    def loop():
        for count in range(STEPS):
            with CLOCK:
                timed(count)
            if how == "interleaved":
                other(count)

    row = Row("interleaved", PROBLEM, f"{part} {how}", both_threads, per=STEPS)
    measure(benchmark, row, loop, rounds=ROUNDS, warmup_rounds=2)
    assert all(np.isfinite(state).all() for state in train.states)
    if part == "koopcore" or how == "interleaved":
        record(STEPS - 1)
        for state, out in zip(train.states, record.out, strict=True):
            np.testing.assert_allclose(out, state, rtol=1e-4, atol=1e-5)
