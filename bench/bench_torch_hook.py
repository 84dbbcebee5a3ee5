"""What the accelerator adds to a training step, and what a jump costs.

The digits network (64-100-100-10) stands for small steps, a perceptron of 1e6 parameters for those
that the goal is about, one of 1e7 for jumps. All on one thread, of torch and of koopcore.
"""

import numpy as np
import pytest
import torch
from measure import Problem, Row, measure
from torch import nn

import koopcore
from koopcore.compare import workloads
from koopcore.torch import KoopmanAccelerator


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads(), koopcore.num_threads()
    torch.set_num_threads(1)
    koopcore.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    koopcore.set_num_threads(before[1])


def _perceptron(width, inputs):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, inputs))
    x = torch.randn(128, inputs)
    return model, lambda m: (m(x) - x).square().mean()


PERCEPTRONS = {"1e6": (1024, 488), "1e7": (4096, 1220)}
DIGITS = Problem(17_510, 10, name="digits")
MILLION = Problem(10**6, 10, name="n=1e6")
TEN_MILLION = Problem(10**7, 10, name="n=1e7")


def _step(model, optimizer, loss):
    optimizer.zero_grad()
    loss(model).backward()
    optimizer.step()


def test_bare_step(benchmark):
    problem = workloads.load("digits").build(0)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    batch = next(problem.batches)

    def step():
        _step(problem.model, optimizer, lambda m: problem.loss(m, batch))

    row = Row("hook", DIGITS, "torch, bare step", threads=1)
    measure(benchmark, row, step, rounds=50, warmup_rounds=5)
    assert np.isfinite(problem.evaluate(problem.model)["train_loss"])


@pytest.mark.parametrize("every", [1, 1000], ids=["recorded", "not-recorded"])
def test_hook(benchmark, every):
    """Ten steps' hooks; with the Gram matrix and the fit of a window where they are recorded."""
    problem = workloads.load("digits").build(0)
    who = f"koopcore, ten steps {'recorded' if every == 1 else 'without a snapshot'}"
    _hooks(benchmark, Row("hook", DIGITS, who, threads=1), problem.model, 10, every=every)


def test_bare_step_1e6(benchmark):
    model, loss = _perceptron(*PERCEPTRONS["1e6"])
    optimizer = torch.optim.Adam(model.parameters())
    row = Row("hook", MILLION, "torch, bare step", threads=1)
    measure(benchmark, row, _step, model, optimizer, loss, rounds=30, warmup_rounds=3)
    assert np.isfinite(loss(model).item())


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("every-5", {"every": 5}),
        ("average-28", {"every": 28, "average": 28}),
        ("average-7-of-28", {"every": 28, "average": 7}),
    ],
    ids=["every-5", "average-28", "average-7-of-28"],
)
def test_hook_1e6(benchmark, how, options):
    """The hooks of ten windows' steps, with Gram matrices and fits, no trial."""
    model, _ = _perceptron(*PERCEPTRONS["1e6"])
    steps = 10 * options["every"]
    row = Row("hook", MILLION, f"koopcore, {steps} steps, {how}", threads=1)
    _hooks(benchmark, row, model, steps, **options)
    benchmark.extra_info["steps"] = steps


def _hooks(benchmark, row, model, steps, **options):
    """Time the hook alone. A trial that is refused at once leaves the fit and no forecast."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accelerator = KoopmanAccelerator(
        model,
        optimizer,
        trial_loss=lambda m: float("nan"),
        window=10,
        max_overhead=None,
        **options,
    )
    p = next(model.parameters())

    def hooked():
        accelerator._pace.refusals = 0  # or attempts would become rarer
        for k in range(steps):
            if k % 5 == 0:
                with torch.no_grad():
                    p.add_(1e-4 * (k + 1))
            accelerator._after_step(optimizer, (), {})

    measure(benchmark, row, hooked, rounds=20, warmup_rounds=2)
    assert accelerator.stats.steps == 22 * steps
    assert accelerator.stats.attempts == (22 if options["every"] < steps else 0)


def test_forward_backward_1e7(benchmark):
    model, loss = _perceptron(*PERCEPTRONS["1e7"])
    row = Row("jump", TEN_MILLION, "torch, forward and backward pass", threads=1)
    measure(benchmark, row, lambda: loss(model).backward(), rounds=10, warmup_rounds=2)
    assert model[0].weight.grad is not None


@pytest.mark.parametrize("tried", [0, 1], ids=["untried", "one-trial"])
def test_jump_1e7(benchmark, tried):
    """Fit of a full window, one forecast (with a trial of it), and the commit."""
    model, loss = _perceptron(*PERCEPTRONS["1e7"])
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

    who = "koopcore, one trial" if tried else "koopcore, untried"
    measure(benchmark, Row("jump", TEN_MILLION, who, threads=1), jump, setup=fill, rounds=7)
    assert all(torch.isfinite(p).all() for p in parameters)
