"""Planted cheats: the harness charges what can be charged and disqualifies the rest."""

import copy
import itertools
import math
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("threadpoolctl")

from koopcore.compare import baselines, protocol, workloads  # noqa: E402
from koopcore.compare.environment import pinned  # noqa: E402
from koopcore.compare.methods import Bare, Idle  # noqa: E402
from koopcore.compare.results import Run  # noqa: E402
from koopcore.compare.workloads import Problem, Workload  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    with pinned(1):
        yield


def problem(seed=0):
    """A line through four points; held-out loss at a slope that training does not lead to."""
    model = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.ones_(model.weight)
    x = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]

    def loss(model, batch=None):
        return model(x if batch is None else batch).square().mean()

    def evaluate(model):
        with torch.no_grad():
            return {
                "train_loss": loss(model).item(),
                "heldout_loss": (model(x) + x).square().mean().item(),
            }

    return Problem(model, itertools.repeat(x), loss, loss, evaluate, batch_size=4, trial_size=4)


class Hooked:
    """A method that does `act(problem)` after every step."""

    name = "planted"

    def __init__(self, act, meter=None):
        self.act, self.meter = act, meter or Idle()

    @contextmanager
    def attach(self, problem, optimizer):
        handle = optimizer.register_step_post_hook(lambda *_: self.act(problem))
        try:
            yield self.meter
        finally:
            handle.remove()


def run(method, budget=20):
    workload = Workload("hamiltonian", "planted", budget, problem, evaluate_every=5)
    return protocol.run_methods(workload, "sgd", seed=0, budget=budget, methods=[method])


def scores(run: Run):
    return {value for score in run.scores.values() for value in (score.steps, score.seconds)}


def peek(sealed):
    sealed.evaluate(sealed.model)


def peek_quietly(sealed):
    with suppress(RuntimeError):
        sealed.evaluate(sealed.model)


def take_a_batch(sealed):
    next(sealed.batches)


def take_batches(sealed):
    for _ in sealed.batches:
        break


@pytest.mark.parametrize("act", [peek, peek_quietly, take_a_batch, take_batches])
def test_method_that_looks_at_what_is_sealed_is_scored_infinity(act):
    bare, cheat = run(Hooked(act))
    assert scores(bare) != {math.inf}
    assert bare.violations == []
    assert scores(cheat) == {math.inf}
    assert len(cheat.violations) == 1
    assert "which only the harness may" in cheat.violations[0]


def test_work_in_attach_is_on_the_clock():
    class Slow(Hooked):
        @contextmanager
        def attach(self, problem, optimizer):
            time.sleep(0.05)
            yield Idle()

    _, slow = run(Slow(None))
    assert slow.curve["seconds"][0] >= 0.05
    assert slow.violations == []


@pytest.mark.parametrize("name", ["evaluated", "jumps"])
def test_work_in_what_the_meter_gives_is_on_the_clock(name):
    def work(_self):
        time.sleep(0.01)
        return () if name == "jumps" else None

    meter = type("Meter", (), {"seconds": 0.0, "optimizer": None, "spectra": {}})
    meter.evaluated, meter.jumps = None, ()
    setattr(meter, name, property(work))
    _, slow = run(Hooked(lambda _: None, meter()))
    looks = {"evaluated": 1 + 20 // 5, "jumps": 20}[name]  # at evaluations, at steps
    assert slow.curve["seconds"][-1] >= 0.01 * looks


def test_work_in_another_thread_is_a_violation():
    def burn():
        start = time.thread_time()
        while time.thread_time() - start < 0.3:
            pass

    started = []

    def act(_):
        if not started:
            started.append(threading.Thread(target=burn))
            started[0].start()
            started[0].join()

    _, cheat = run(Hooked(act))
    assert scores(cheat) == {math.inf}
    assert "in threads that no clock was over" in cheat.violations[0]


def test_training_inside_an_evaluation_is_a_violation():
    class Late(Hooked):
        @contextmanager
        def attach(self, problem, optimizer):
            def train_on(module, inputs, output):
                if not torch.is_grad_enabled():  # as in evaluations
                    module.weight.mul_(0.5)

            handle = problem.model.register_forward_hook(train_on)
            try:
                yield Idle()
            finally:
                handle.remove()

    _, cheat = run(Late(None))
    assert scores(cheat) == {math.inf}
    assert cheat.violations == ["changed the weights during an evaluation, off the clock"]


@pytest.mark.parametrize(
    ("passes", "charge"),
    [
        (lambda p: p.loss(p.model, torch.ones(4, 1, dtype=torch.float64)), 1.0),
        (lambda p: p.loss(copy.deepcopy(p.model), torch.ones(8, 1, dtype=torch.float64)), 2.0),
        (
            lambda p: torch.func.functional_call(
                p.model, {"weight": torch.ones(1, 1)}, (torch.ones(2, 1),)
            ),
            0.5,
        ),
        (torch.no_grad()(lambda p: p.model(torch.ones(4, 1, dtype=torch.float64))), 1 / 3),
        (lambda p: p.trial_loss(p.model), 1.0),
        (torch.no_grad()(lambda p: p.trial_loss(copy.deepcopy(p.model))), 1 / 3),
    ],
    ids=["gradient", "copy", "functional", "forward", "trial-gradient", "trial"],
)
def test_every_pass_through_the_model_is_charged_once(passes, charge):
    measured = protocol.train(
        problem(), torch.optim.SGD(problem().model.parameters()), Bare(), budget=4
    )
    assert measured["curve"]["step_equivalents"][-1] == 4
    own = problem()
    optimizer = torch.optim.SGD(own.model.parameters())
    measured = protocol.train(own, optimizer, Hooked(passes), budget=20, evaluate_every=1)
    steps, spent = measured["curve"]["step"], measured["curve"]["step_equivalents"]
    assert spent == pytest.approx([step * (1 + charge) for step in steps], abs=1e-12)
    assert measured["violations"] == []


def test_hook_is_gone_after_the_run():
    own = problem()
    protocol.train(own, torch.optim.SGD(own.model.parameters()), Bare(), budget=3)
    assert not own.model._forward_pre_hooks


def test_method_that_fails_is_reported_and_does_not_end_the_comparison():
    def fail(_):
        raise ZeroDivisionError("no more")

    _, failed = run(Hooked(fail))
    assert scores(failed) == {math.inf}
    assert failed.violations == ["stopped by ZeroDivisionError: no more"]
    assert failed.curve["step"] == [0]


def test_method_that_fails_to_attach_is_reported():
    class Broken(Hooked):
        def attach(self, problem, optimizer):
            raise TypeError("not with this optimizer")

    _, failed = run(Broken(None))
    assert failed.violations == ["stopped by TypeError: not with this optimizer"]
    assert failed.curve["step_equivalents"] == [0]


def test_error_of_the_bare_run_is_raised():
    broken = problem()
    broken.loss = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        protocol.train(broken, torch.optim.SGD(broken.model.parameters()), Bare(), budget=3)


def test_method_may_bring_its_own_optimizer():
    class Other(Hooked):
        @contextmanager
        def attach(self, problem, optimizer):
            yield Idle(optimizer=torch.optim.SGD(problem.model.parameters(), lr=0.0))

    bare, still = run(Other(None))
    assert len(set(still.curve["train_loss"])) == 1
    assert bare.curve["train_loss"][-1] < bare.curve["train_loss"][0]


def test_closures_of_lbfgs_count_as_steps():
    own, calls = problem(), []
    loss = own.loss
    own.loss = lambda *a: calls.append(1) or loss(*a)
    optimizer = torch.optim.LBFGS(own.model.parameters(), line_search_fn="strong_wolfe", max_iter=2)
    measured = protocol.train(own, optimizer, Bare(), budget=30)
    # Trials and evaluations do not go through `own.loss`, so each call is a pass of a closure.
    assert measured["curve"]["step_equivalents"][-1] == len(calls) <= 30
    assert measured["curve"]["step"] == list(range(len(measured["curve"]["step"])))


@pytest.mark.parametrize("name", workloads.NAMES)
def test_bare_optimizer_under_another_name_scores_one(name):
    small = f"{name}:0.25" if name in ("transformer", "fashion-mnist-64") else name
    package = workloads.required_package(name)
    if package:
        pytest.importorskip(package[0])
    if workloads.missing_data(name):
        pytest.skip(workloads.missing_data(name))
    optimizer = baselines.DEFAULT_OPTIMIZERS[name][0]
    workload = replace(workloads.load(small), evaluate_every=5)
    bare, null = protocol.run_methods(workload, optimizer, 0, 20, ["null"])
    for column in set(bare.curve) - {"seconds"}:
        assert null.curve[column][: len(bare.curve[column])] == bare.curve[column], column
    assert null.violations == []
    for target, score in bare.scores.items():
        assert null.scores[target].steps == score.steps < math.inf
