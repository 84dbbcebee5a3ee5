"""What the accelerator adds to a full-batch step of the digits network (64-100-100-10)."""

import numpy as np
import pytest
import torch

from koopcore.compare import workloads
from koopcore.torch import KoopmanAccelerator

pytestmark = pytest.mark.benchmark(group="step of the digits network, full batch")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def problem():
    return workloads.load("digits").build(0)


def test_bare_step(benchmark, problem):
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        problem.loss(problem.model, next(problem.batches)).backward()
        optimizer.step()

    benchmark.pedantic(step, rounds=50, warmup_rounds=5)
    assert np.isfinite(problem.evaluate(problem.model)["train_loss"])


@pytest.mark.parametrize("every", [1, 1000], ids=["recorded", "not-recorded"])
def test_hook(benchmark, problem, every):
    """Time the hook alone; at a recorded step with its share of the window's Gram matrix."""
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    accelerator = KoopmanAccelerator(
        problem.model, optimizer, trial_loss=lambda model: 0.0, window=10, every=every
    )

    def ten_steps():
        for k in range(10):
            accelerator._steps += 1
            accelerator._until_snapshot -= 1
            if every == 1:
                with torch.no_grad():
                    next(problem.model.parameters()).add_(1e-4 * (k + 1))
                accelerator._record()
        if every == 1:
            accelerator._operator.coefficients(1.0)  # brings the Gram matrix up to date, and fits
            accelerator._operator.clear()

    def hooked():
        for _ in range(10):
            accelerator._after_step(optimizer, (), {})

    benchmark.pedantic(ten_steps if every == 1 else hooked, rounds=50, warmup_rounds=5)
    assert accelerator.stats.snapshots == (550 if every == 1 else 0)
