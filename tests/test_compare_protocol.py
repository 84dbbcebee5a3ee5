"""The protocol: what is charged, when a target counts as reached, what a seed fixes."""

import itertools
import math
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import protocol, watch, workloads  # noqa: E402
from koopcore.compare.methods import Bare, Idle  # noqa: E402
from koopcore.compare.results import Score  # noqa: E402
from koopcore.compare.workloads import Problem, Workload  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    """Small models on a busy machine: a second thread makes a step up to 50 times slower."""
    previous = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(previous)


def parabola(seed=0, batch_size=64, trial_size=64, heldout=None):
    """Return a problem whose loss under SGD with rate 0.1 is 0.64^steps.

    `heldout`, a function of the weight, gives it a held-out loss.
    """
    model = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.ones_(model.weight)

    def loss(model, _batch=None):
        return model.weight.square().sum()

    def evaluate(model):
        figures = {"train_loss": loss(model).item()}
        return figures | ({"heldout_loss": heldout(model.weight.item())} if heldout else {})

    return Problem(model, itertools.repeat(None), loss, loss, evaluate, batch_size, trial_size)


def sgd(problem, rate=0.1):
    return torch.optim.SGD(problem.model.parameters(), lr=rate)


class Planted:
    """A method that makes `trials` trials at every tenth step and may jump at given steps."""

    name = "planted"

    def __init__(self, trials=3, jumps_at=(), factor=0.1):
        self.per_attempt, self.jumps_at, self.factor = trials, jumps_at, factor

    @contextmanager
    def attach(self, problem, optimizer):
        meter = SimpleNamespace(
            seconds=0.0, jumps=[], evaluated=None, steps=0, optimizer=None, spectra={}
        )

        def hook(*_):
            meter.steps += 1
            if meter.steps % 10:
                return
            for _ in range(self.per_attempt):
                with torch.no_grad():
                    problem.trial_loss(problem.model)
            taken = meter.steps in self.jumps_at
            if taken:
                with torch.no_grad():
                    problem.model.weight.mul_(self.factor)
            meter.jumps.append(
                SimpleNamespace(
                    step=meter.steps, horizon=80 * taken, loss_before=2.0, loss_after=1.0,
                    taken=taken,
                )
            )  # fmt: skip

        handle = optimizer.register_step_post_hook(hook)
        try:
            yield meter
        finally:
            handle.remove()


def test_train_bare_charges_one_per_step_and_spends_the_budget():
    problem = parabola()
    measured = protocol.train(problem, sgd(problem), Bare(), budget=35)
    assert measured["curve"]["step"] == [0, 10, 20, 30, 35]
    assert measured["curve"]["step_equivalents"] == [0, 10, 20, 30, 35]
    assert measured["curve"]["train_loss"] == pytest.approx([0.64**k for k in (0, 10, 20, 30, 35)])
    assert (measured["trials"], measured["taken"], measured["refused"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("trial_size", "charge"),
    [(64, 1.0), (256, 4.0), (16, 0.25)],
    ids=["equal", "larger", "smaller"],
)
def test_train_known_trials_are_charged_exactly(trial_size, charge):
    problem = parabola(trial_size=trial_size)
    measured = protocol.train(problem, sgd(problem), Planted(trials=3), budget=40)
    steps = measured["curve"]["step"]
    # Three trials at every tenth step, each a third of a step times trial size / batch size.
    expected = [step + (step // 10) * charge for step in steps]
    assert measured["curve"]["step_equivalents"] == pytest.approx(expected, abs=1e-12)
    assert max(measured["curve"]["step_equivalents"]) <= 40
    assert measured["refused"] * 3 == measured["trials"]


def test_train_state_beyond_the_budget_is_not_evaluated():
    problem = parabola()
    measured = protocol.train(problem, sgd(problem), Planted(trials=90), budget=25)
    # Step 10 costs 10 + 30 > 25 and ends the run: only the start remains.
    assert measured["curve"]["step"] == [0]
    assert measured["trials"] == 90


def test_train_records_jumps_with_their_position_and_refusals():
    problem = parabola()
    measured = protocol.train(problem, sgd(problem), Planted(trials=3, jumps_at=(20,)), budget=44)
    assert measured["taken"] == 1
    assert measured["refused"] == 3
    assert measured["jumps"] == {
        "step": [20],
        "step_equivalents": [22.0],
        "horizon": [80],
        "loss_before": [2.0],
        "loss_after": [1.0],
    }


def test_train_trial_with_a_gradient_counts_as_a_step():
    problem = parabola()
    problem.heldout_trial_loss, problem.heldout_trial_size = problem.trial_loss, 32

    class Both:
        name = "both"

        @contextmanager
        def attach(self, problem, optimizer):
            problem.trial_loss(problem.model)
            problem.heldout_trial_loss(problem.model)
            with torch.no_grad():
                problem.heldout_trial_loss(problem.model)
            yield Idle()

    measured = protocol.train(problem, sgd(problem), Both(), budget=10)
    # A whole step, half of one since the held-out trial is smaller, and a sixth.
    assert measured["curve"]["step_equivalents"][0] == pytest.approx(1 + 1 / 2 + 1 / 6)
    assert measured["trials"] == 3


def test_train_grace_goes_on_and_final_losses_are_those_within_the_budget(monkeypatch):
    monkeypatch.setattr(protocol, "learning_rate", lambda *_: 0.1)
    workload = Workload("parabola", "", 45, parabola)
    bare, planted = protocol.run_methods(workload, "sgd", 0, 45, [Planted(trials=1)])
    assert bare.curve["step"] == [0, 10, 20, 30, 40, 45]
    # Trials at 10, 20, 30, 40: 4/3 of a step in all. Step 43 is the last within the budget.
    assert planted.curve["step"] == [0, 10, 20, 30, 40, 43, 48]
    assert planted.curve["step_equivalents"][-1] == pytest.approx(48 + 4 / 3)
    assert planted.final("train_loss") == planted.curve["train_loss"][-2]
    assert planted.scores["train@100"].steps == pytest.approx(48 + 4 / 3)


def test_run_methods_planted_jump_reaches_target_at_the_known_cost(monkeypatch):
    monkeypatch.setattr(protocol, "learning_rate", lambda *_: 0.1)
    workload = Workload("parabola", "", 100, parabola)
    # The jump at step 20 multiplies the loss by 0.64^20, so step 80 has the target's loss.
    method = Planted(trials=3, jumps_at=(20,), factor=0.8**20 * (1 - 1e-9))
    bare, planted = protocol.run_methods(workload, "sgd", 0, 100, [method])
    target = bare.final("train_loss")
    assert bare.scores["train@100"] == Score(target, 100, bare.curve["seconds"][-1])
    score = planted.scores["train@100"]
    assert (score.target, score.steps) == (target, 80 + 8)
    assert 0 < score.seconds < math.inf
    # The loss of step 70, the last evaluation within 75 steps, is that of step 50 after the jump.
    assert bare.scores["train@75"].steps == 70
    assert planted.scores["train@75"].steps == 50 + 5
    assert set(bare.scores) == {"train@75", "train@100"}


def test_run_methods_useless_work_scores_infinity(monkeypatch):
    monkeypatch.setattr(protocol, "learning_rate", lambda *_: 0.1)
    workload = Workload("parabola", "", 100, parabola)
    _, planted = protocol.run_methods(workload, "sgd", 0, 100, [Planted(trials=6)])
    assert planted.scores["train@100"].steps == planted.scores["train@100"].seconds == math.inf
    assert planted.final("train_loss") > planted.scores["train@100"].target


def test_run_methods_divergence_is_infinity_and_no_crash(monkeypatch):
    monkeypatch.setattr(protocol, "learning_rate", lambda *_: 1e4)
    workload = Workload("parabola", "", 200, parabola)
    bare, planted = protocol.run_methods(workload, "sgd", 0, 200, [Planted()])
    for run in (bare, planted):
        assert run.final("train_loss") == run.scores["train@100"].steps == math.inf
        assert run.scores["train@100"].target == math.inf
        assert run.curve["step"][-1] < 200  # stopped as soon as an evaluation found out


def test_heldout_target_of_an_overfitted_run_is_its_minimum(monkeypatch):
    monkeypatch.setattr(protocol, "learning_rate", lambda *_: 0.1)
    best = 0.8**30  # the weight at step 30, where the held-out loss is lowest

    def build(seed):
        return parabola(heldout=lambda weight: 1 + abs(math.log(weight / best)))

    (bare,) = protocol.run_methods(Workload("parabola", "", 100, build), "sgd", 0, 100, [])
    for name in ("heldout@75", "heldout@100"):
        assert bare.scores[name].target == pytest.approx(1, abs=1e-12)
        assert bare.scores[name].steps == 30
    assert bare.scores["train@100"].steps == 100


def test_evaluation_is_of_the_model_that_the_method_offers():
    problem = parabola()

    class Offer:
        name = "offer"

        @contextmanager
        def attach(self, problem, optimizer):
            other = parabola().model
            torch.nn.init.constant_(other.weight, 3.0)
            yield Idle(evaluated=other)

    measured = protocol.train(problem, sgd(problem), Offer(), budget=20)
    assert measured["curve"]["train_loss"] == [9.0, 9.0, 9.0]
    assert problem.model.weight.item() == pytest.approx(0.8**20)


def test_first_reaching_planted_crossing_is_first_point_at_or_below():
    curve = {
        "train_loss": [5.0, 3.0, 1.0, 2.0, 0.5],
        "step_equivalents": [0.0, 10.0, 21.0, 32.0, 43.0],
        "seconds": [0.0, 0.1, 0.2, 0.3, 0.4],
    }
    assert protocol.first_reaching(curve, 1.0) == (21.0, 0.2)
    assert protocol.first_reaching(curve, 0.9) == (43.0, 0.4)
    assert protocol.first_reaching(curve, 6.0) == (0.0, 0.0)
    assert protocol.first_reaching(curve, 0.1) == (math.inf, math.inf)
    assert protocol.first_reaching(curve, math.inf) == (math.inf, math.inf)


def test_clock_runs_during_hooks_and_stands_during_evaluation(monkeypatch):
    now = itertools.count()  # every look at the clock finds it one second later
    monkeypatch.setattr(watch, "perf_counter", lambda: next(now))
    problem = parabola()
    plain = problem.evaluate
    problem.evaluate = lambda model: [next(now) for _ in range(50)] and plain(model)

    class Slow(Planted):
        @contextmanager
        def attach(self, problem, optimizer):
            handle = optimizer.register_step_post_hook(lambda *_: [next(now) for _ in range(7)])
            yield Idle()
            handle.remove()

    measured = protocol.train(problem, sgd(problem), Slow(), budget=20)
    # A second to attach and one for every look at the meter, 1 + 7 for a step.
    assert measured["curve"]["seconds"] == [2, 2 + 10 * 9 + 1, 2 + 20 * 9 + 2]


def without_times(run):
    curve = {name: column for name, column in run.curve.items() if name != "seconds"}
    scores = {name: replace(score, seconds=0.0) for name, score in run.scores.items()}
    return replace(run, curve=curve, overhead_seconds=0.0, scores=scores)


@pytest.mark.parametrize("name", ["hamiltonian", "digits-64"])
def test_run_methods_same_seed_gives_the_same_run(name):
    if name.startswith("digits"):
        pytest.importorskip("sklearn")
    workload = workloads.load(name)
    once, again = (protocol.run_methods(workload, "adam", 0, 120) for _ in range(2))
    assert [without_times(run) for run in once] == [without_times(run) for run in again]
    other = protocol.run_methods(workload, "adam", 1, 120, [])
    assert other[0].curve["train_loss"] != once[0].curve["train_loss"]


def test_koopcore_charges_equal_the_accelerators_own_count():
    from koopcore.compare.methods.accelerated import koopcore_context

    workload = workloads.load("hamiltonian")
    _, run = protocol.run_methods(workload, "adam", 0, 150)
    problem = workload.build(0)
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=run.learning_rate)
    calls = []

    def counted(model, loss=problem.trial_loss):
        calls.append(1)
        return loss(model)

    problem.trial_loss = counted
    with koopcore_context(problem, optimizer) as accelerator:
        for _ in range(run.curve["step"][-1]):
            optimizer.zero_grad()
            problem.loss(problem.model, None).backward()
            optimizer.step()
    assert run.trials >= 2  # the budget has room for an attempt
    assert run.curve["step_equivalents"][-1] == pytest.approx(
        run.curve["step"][-1] + len(calls) / 3
    )
    last = run.curve["step"][-1]  # the run goes on a little beyond its last evaluation
    assert sum(step <= last for step in run.jumps["step"]) == accelerator.stats.taken > 0
    final = problem.evaluate(problem.model)["train_loss"]
    assert final == run.curve["train_loss"][-1]
