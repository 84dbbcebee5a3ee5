"""What the accelerator adds to a training step, and what a jump costs.

The digits network (64-100-100-10) stands for small steps, a perceptron of 1e6 parameters for those
that the goal is about, one of 1e7 for jumps. All on one torch thread.
"""

import numpy as np
import pytest
import torch
from torch import nn

from koopcore.compare import workloads
from koopcore.torch import KoopmanAccelerator

LOOP = 50  # steps per round: five windows of ten at every step, one at every fifth


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _perceptron(width, inputs):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, inputs))
    x = torch.randn(128, inputs)
    return model, lambda m: (m(x) - x).square().mean()


PROBLEMS = {"1e6": (1024, 488), "1e7": (4096, 1220)}


def _step(model, optimizer, loss):
    optimizer.zero_grad()
    loss(model).backward()
    optimizer.step()


@pytest.mark.benchmark(group="step of the digits network, full batch")
def test_bare_step(benchmark):
    problem = workloads.load("digits").build(0)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    batch = next(problem.batches)
    benchmark.pedantic(
        lambda: _step(problem.model, optimizer, lambda m: problem.loss(m, batch)),
        rounds=50,
        warmup_rounds=5,
    )
    assert np.isfinite(problem.evaluate(problem.model)["train_loss"])


@pytest.mark.benchmark(group="step of the digits network, full batch")
@pytest.mark.parametrize("every", [1, 1000], ids=["recorded", "not-recorded"])
def test_hook(benchmark, every):
    """Ten steps' hooks; with the Gram matrix and the fit of a window where they are recorded."""
    problem = workloads.load("digits").build(0)
    _hooks(benchmark, problem.model, {"every": every, "window": 10}, steps=10)


@pytest.mark.benchmark(group="step of a perceptron of 1e6 parameters, batch 128")
def test_bare_step_1e6(benchmark):
    model, loss = _perceptron(*PROBLEMS["1e6"])
    optimizer = torch.optim.Adam(model.parameters())
    benchmark.pedantic(_step, (model, optimizer, loss), rounds=30, warmup_rounds=3)
    assert np.isfinite(loss(model).item())


@pytest.mark.benchmark(group="step of a perceptron of 1e6 parameters, batch 128")
@pytest.mark.parametrize(
    "options",
    [
        {"window": 10, "every": 5},
        {"window": 10, "every": 28, "average": 28},
        {"window": 10, "every": 28, "average": 7},
    ],
    ids=["every-5", "average-28", "average-7-of-28"],
)
def test_hook_1e6(benchmark, options):
    """The hooks of LOOP steps, with their share of windows' Gram matrices and fits, no trial."""
    model, _ = _perceptron(*PROBLEMS["1e6"])
    _hooks(benchmark, model, options, steps=10 * options["every"])
    benchmark.extra_info["steps"] = 10 * options["every"]


def _hooks(benchmark, model, options, steps):
    """Time the hook alone. A trial that is refused at once leaves the fit and no forecast."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accelerator = KoopmanAccelerator(
        model, optimizer, trial_loss=lambda m: float("nan"), max_overhead=None, **options
    )
    p = next(model.parameters())

    def hooked():
        accelerator._pace.refusals = 0  # or attempts would become rarer
        for k in range(steps):
            if k % 5 == 0:
                with torch.no_grad():
                    p.add_(1e-4 * (k + 1))
            accelerator._after_step(optimizer, (), {})

    benchmark.pedantic(hooked, rounds=20, warmup_rounds=2)
    assert accelerator.stats.steps == 22 * steps
    assert accelerator.stats.attempts == (22 if options["every"] < steps else 0)


@pytest.mark.benchmark(group="jump at 1e7 parameters, window 10")
def test_forward_backward_1e7(benchmark):
    model, loss = _perceptron(*PROBLEMS["1e7"])
    benchmark.pedantic(lambda: loss(model).backward(), rounds=10, warmup_rounds=2)
    assert model[0].weight.grad is not None


@pytest.mark.benchmark(group="jump at 1e7 parameters, window 10")
@pytest.mark.parametrize("tried", [0, 1], ids=["untried", "one-trial"])
def test_jump_1e7(benchmark, tried):
    """Fit of a full window, one forecast (with a trial of it), and the commit."""
    model, loss = _perceptron(*PROBLEMS["1e7"])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    accelerator = KoopmanAccelerator(model, optimizer, trial_loss=loss, max_overhead=None)
    engine = accelerator._engine
    parameters = list(model.parameters())

    def fill():
        engine.clear()
        for k in range(10):
            with torch.no_grad():
                for p in parameters:
                    p.mul_(1.0 - 1e-3 * 0.9**k)
            engine.record()

    def jump():
        (forecast,) = engine.fit()
        engine.write(forecast, 50)
        if tried:
            engine.trial.losses()
        engine.commit(forecast, 50)

    benchmark.pedantic(jump, setup=fill, rounds=7, warmup_rounds=1)
    assert all(torch.isfinite(p).all() for p in parameters)
