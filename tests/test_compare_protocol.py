"""The protocol: what is charged, when a target counts as reached, what a seed fixes."""

import itertools
import json
import math
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import protocol, results, schedule, workloads  # noqa: E402
from koopcore.compare.methods import Bare, Koopcore  # noqa: E402
from koopcore.compare.workloads import Problem, Workload  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    """Small models on a busy machine: a second thread makes a step up to 50 times slower."""
    previous = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(previous)


def parabola(seed=0, batch_size=64, trial_size=64):
    """Return a problem whose loss under SGD with rate 0.1 is 0.64^steps."""
    model = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.ones_(model.weight)

    def loss(model, _batch=None):
        return model.weight.square().sum()

    def evaluate(model):
        return {"train_loss": loss(model).item()}

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
        meter = SimpleNamespace(trials=0, seconds=0.0, jumps=[], steps=0)

        def hook(*_):
            meter.steps += 1
            if meter.steps % 10:
                return
            meter.trials += self.per_attempt
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


def test_run_methods_planted_jump_reaches_target_at_the_known_cost(monkeypatch):
    monkeypatch.setattr(protocol, "learning_rate", lambda *_: 0.1)
    workload = Workload("parabola", "", 100, parabola)
    # The jump at step 20 multiplies the loss by 0.64^20, so step 80 has the target's loss.
    method = Planted(trials=3, jumps_at=(20,), factor=0.8**20 * (1 - 1e-9))
    bare, planted = protocol.run_methods(workload, "sgd", 0, 100, [method])
    assert bare.target == planted.target == bare.final("train_loss")
    assert bare.steps_to_target == 100
    assert planted.steps_to_target == 80 + 8
    assert 0 < planted.seconds_to_target < math.inf


def test_run_methods_useless_work_scores_infinity(monkeypatch):
    monkeypatch.setattr(protocol, "learning_rate", lambda *_: 0.1)
    workload = Workload("parabola", "", 100, parabola)
    _, planted = protocol.run_methods(workload, "sgd", 0, 100, [Planted(trials=1)])
    assert planted.steps_to_target == planted.seconds_to_target == math.inf
    assert planted.final("train_loss") > planted.target


def test_run_methods_divergence_is_infinity_and_no_crash(monkeypatch):
    monkeypatch.setattr(protocol, "learning_rate", lambda *_: 1e4)
    workload = Workload("parabola", "", 200, parabola)
    bare, planted = protocol.run_methods(workload, "sgd", 0, 200, [Planted()])
    for run in (bare, planted):
        assert run.final("train_loss") == run.steps_to_target == math.inf
        assert run.curve["step"][-1] < 200  # stopped as soon as an evaluation found out


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
    monkeypatch.setattr(protocol, "perf_counter", lambda: next(now))
    problem = parabola()
    plain = problem.evaluate
    problem.evaluate = lambda model: [next(now) for _ in range(50)] and plain(model)

    class Slow(Planted):
        @contextmanager
        def attach(self, problem, optimizer):
            handle = optimizer.register_step_post_hook(lambda *_: [next(now) for _ in range(7)])
            yield SimpleNamespace(trials=0, seconds=0.0, jumps=[])
            handle.remove()

    measured = protocol.train(problem, sgd(problem), Slow(), budget=20)
    assert measured["curve"]["seconds"] == [0, 80, 160]  # 1 + 7 seconds a step


def without_times(run):
    curve = {name: column for name, column in run.curve.items() if name != "seconds"}
    return replace(run, curve=curve, overhead_seconds=0.0, seconds_to_target=0.0)


@pytest.mark.parametrize("name", ["hamiltonian", "digits-64"])
def test_run_methods_same_seed_gives_the_same_run(name):
    if name.startswith("digits"):
        pytest.importorskip("sklearn")
    workload = workloads.load(name)
    once, again = (protocol.run_methods(workload, "adam", 0, 120, [Koopcore()]) for _ in range(2))
    assert [without_times(run) for run in once] == [without_times(run) for run in again]
    other = protocol.run_methods(workload, "adam", 1, 120, [])
    assert other[0].curve["train_loss"] != once[0].curve["train_loss"]


def test_koopcore_charges_equal_the_accelerators_own_count():
    from koopcore.torch import KoopmanAccelerator

    workload = workloads.load("hamiltonian")
    _, run = protocol.run_methods(workload, "adam", 0, 150, [Koopcore()])
    problem = workload.build(0)
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=run.learning_rate)
    calls = []

    def counted(model):
        calls.append(1)
        return problem.trial_loss(model)

    with KoopmanAccelerator(problem.model, optimizer, trial_loss=counted) as accelerator:
        for _ in range(run.curve["step"][-1]):
            optimizer.zero_grad()
            problem.loss(problem.model, None).backward()
            optimizer.step()
    assert run.trials >= 2  # the budget has room for an attempt
    assert run.curve["step_equivalents"][-1] == pytest.approx(
        run.curve["step"][-1] + len(calls) / 3
    )
    assert (run.taken, run.refused) == (accelerator.stats.taken, accelerator.stats.refused)
    final = problem.evaluate(problem.model)["train_loss"]
    assert final == run.final("train_loss")


def test_compare_restores_the_thread_count_and_keeps_the_order(monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(schedule, "WARM_UP_STEPS", 1)
    ticks = []
    comparison = schedule.compare(
        ["hamiltonian"],
        ["sgd"],
        seeds=2,
        steps=20,
        threads=1,
        progress=lambda _, n: ticks.append(n),
    )
    assert torch.get_num_threads() == 2
    assert comparison.environment["threads"] == 1
    order = [(run.seed, run.method) for run in comparison.runs]
    assert order == [(0, "bare"), (0, "koopcore"), (1, "bare"), (1, "koopcore")]
    assert sum(ticks) == 4 * 20


def test_compare_side_by_side_gives_the_same_runs():
    arguments = (["hamiltonian"], ["adam"], 2, 80)
    alone = schedule.compare(*arguments, jobs=1)
    ticks = []
    together = schedule.compare(*arguments, jobs=2, progress=lambda _, n: ticks.append(n))
    assert [without_times(r) for r in alone.runs] == [without_times(r) for r in together.runs]
    assert sum(ticks) == 2 * 2 * 80
    assert (alone.environment["jobs"], together.environment["jobs"]) == (1, 2)


def planted_run(**changes):
    curve = {"step": [0, 10], "step_equivalents": [0.0, 10.0], "seconds": [0.0, 0.5]}
    curve["train_loss"] = [1.0, math.inf]
    jumps = {"step": [5], "step_equivalents": [7.0]}
    run = results.Run(
        "digits", "sgd", "bare", 0, 0.1, curve, jumps, 1, 2, 6, 0.1, 0.25, math.inf, math.inf
    )
    return replace(run, **changes)


def test_results_round_trip_through_strict_json(tmp_path):
    path = tmp_path / "results.json"
    runs = [planted_run(), planted_run(seed=1, steps_to_target=10.0, seconds_to_target=0.5)]
    comparison = results.Comparison({"seeds": [0, 1]}, {"cpu": "x"}, runs)
    results.save(comparison, path)
    assert results.load(path) == comparison

    def refuse(constant):
        raise AssertionError(f"not JSON: {constant}")

    json.loads(path.read_text(), parse_constant=refuse)
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_write_atomically_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(results.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        results.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ['{"format": "other/1"}', "[]"])
def test_load_foreign_file_is_refused_with_its_format(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected 'koopcore-compare/1'"):
        results.load(path)
