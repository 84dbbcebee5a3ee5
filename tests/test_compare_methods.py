"""Rivals and controls: the averages they say, and registry names that make what they say."""

import math
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import protocol, registry, workloads  # noqa: E402
from koopcore.compare.methods.accelerated import Koopcore, koopcore_context  # noqa: E402
from koopcore.compare.methods.averages import EMA, LAWA, SWA  # noqa: E402
from koopcore.compare.results import Run, Score  # noqa: E402


def averaged(method, n_steps, dtype=torch.float64):
    """Return the weights after each step and what the method offered then (None: nothing yet)."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, seen, offered = torch.randn(5, 3, dtype=dtype), [], []

    def flat(module):
        return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()

    with method.attach(SimpleNamespace(model=model), optimizer) as meter:
        assert meter.evaluated is None
        for _ in range(n_steps):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
            seen.append(flat(model))
            offered.append(None if meter.evaluated is None else flat(meter.evaluated))
    optimizer.step()
    left = None if meter.evaluated is None else flat(meter.evaluated)
    assert left is offered[-1] or torch.equal(left, offered[-1])  # unhooked
    return torch.stack(seen), offered


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ema_is_the_recursion_from_the_first_weights(dtype):
    seen, offered = averaged(EMA(0.9), 12, dtype)
    expected = seen[0]
    for weights, offer in zip(seen, offered, strict=True):
        expected = expected if weights is seen[0] else 0.9 * expected + 0.1 * weights
        if offer is offered[0]:
            expected = seen[0]
        torch.testing.assert_close(offer, expected)


def test_swa_is_the_mean_since_its_start_and_nothing_before():
    seen, offered = averaged(SWA(0.25, budget=20), 12)
    assert offered[:4] == [None] * 4
    for i in range(4, 12):
        torch.testing.assert_close(offered[i], seen[4 : i + 1].mean(dim=0))


def test_lawa_is_the_mean_of_the_last_checkpoints():
    seen, offered = averaged(LAWA(every=2, count=3), 12)
    checkpoints = seen[1::2]
    assert offered[0] is None
    for i in range(1, 12):
        so_far = (i + 1) // 2
        torch.testing.assert_close(offered[i], checkpoints[max(0, so_far - 3) : so_far].mean(dim=0))


@pytest.mark.parametrize("spec", ["ema:0.9", "swa:0.5", "lawa:2", "forecast:20"])
def test_averages_leave_training_alone(spec):
    workload = workloads.load("hamiltonian")
    bare, run = protocol.run_methods(workload, "adam", 0, 40, [spec])
    assert run.method == spec
    assert run.taken == run.refused == 0
    assert (run.trials > 0) == spec.startswith("forecast")
    problem = workload.build(0)
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=run.learning_rate)
    with registry.make(spec, 40).attach(problem, optimizer):
        for _ in range(40):
            optimizer.zero_grad()
            problem.loss(problem.model, None).backward()
            optimizer.step()
    assert problem.evaluate(problem.model)["train_loss"] == bare.curve["train_loss"][-1]
    if not spec.startswith("forecast"):  # which has not chosen yet after the last step
        assert run.final("train_loss") != bare.final("train_loss")  # the average is evaluated


def test_forecast_is_charged_for_forward_passes_and_evaluated_at_its_choices():
    pytest.importorskip("sklearn")
    workload = workloads.load("digits-64")
    bare, run = protocol.run_methods(workload, "sgd", 0, 400, ["forecast:200"])
    spent = run.curve["step_equivalents"][-1] - run.curve["step"][-1]
    assert spent == pytest.approx(run.trials * 120 / (3 * 64))  # kept samples, no gradients
    by_step = [
        dict(zip(r.curve["step"], r.curve["heldout_loss"], strict=True)) for r in (bare, run)
    ]
    assert by_step[1][190] == by_step[0][190]
    assert by_step[1][200] != by_step[0][200]


def test_rate_multiplies_every_group():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": [parameters[0]], "lr": 2.0}, {"params": parameters[1:]}], lr=1.0
    )
    with registry.make("rate:1.8", 10).attach(None, optimizer):
        pass
    assert [group["lr"] for group in optimizer.param_groups] == [3.6, 1.8]


def test_identity_does_the_work_and_changes_nothing():
    workload = workloads.load("hamiltonian")
    bare, run = protocol.run_methods(workload, "sgd", 0, 150, ["identity"])
    assert run.trials > 0
    assert run.taken == 0
    assert run.refused > 0
    # Up to the budget both are evaluated after the same steps, and are the same there.
    common = set(bare.curve["step"]) & set(run.curve["step"])
    assert len(common) > 10
    losses = [dict(zip(r.curve["step"], r.curve["train_loss"], strict=True)) for r in (bare, run)]
    assert all(losses[0][step] == losses[1][step] for step in common)


def test_koopcore_context_uses_the_preset_where_there_is_one(monkeypatch):
    import koopcore.torch

    made = []

    class Accelerator:
        def __init__(self, *arguments, **options):
            made.append(("plain", options))

        @classmethod
        def mini_batch(cls, *arguments, **options):
            made.append(("mini_batch", options))

    monkeypatch.setattr(koopcore.torch, "KoopmanAccelerator", Accelerator)
    sizes = {"trial_size": 30, "batch_size": 5}
    problem = SimpleNamespace(model=None, trial_loss=len, preset="mini_batch", **sizes)
    koopcore_context(problem, None, rule=3)
    koopcore_context(SimpleNamespace(**vars(problem) | {"preset": "full_batch"}), None)
    always = {"trial_loss": len, "trial_cost": 2.0}
    assert made == [("mini_batch", always | {"rule": 3}), ("plain", always)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lion", "unknown method 'lion'; known methods: bare, koopcore, forecast, ema"),
        ("", "unknown method ''"),
        ("koopcore:3", "koopcore takes no value"),
        ("ema:1", "must be a number between 0 and 1"),
        ("swa:x", "must be a number between 0 and 1"),
        ("lawa:2.5", "must be a whole number above 0"),
        ("forecast:0", "must be a whole number above 0"),
        ("lawa:inf", "must be a whole number above 0"),
        ("lookahead:2.5", "must be a whole number above 0"),
        ("pdt:x", "must be a whole number above 0"),
        ("schedule-free:0", "must be a number above 0"),
        ("dogra-redman:", "must be one of weight, quasi-node, node, layer, network"),
        ("dogra-redman:2", "must be one of weight, quasi-node, node, layer, network"),
        ("null:1", "null takes no value"),
        ("rate:-1", "must be a number above 0"),
        ("rate:nan", "must be a number above 0"),
    ],
)
def test_check_refuses_by_name_and_value(spec, message):
    with pytest.raises(ValueError, match=message):
        registry.check(spec)


@pytest.mark.parametrize("name", registry.NAMES)
def test_make_gives_a_method_of_that_name(name):
    for spec in registry.grid([name]) or registry.resolved([name]):
        assert registry.make(spec, 100).name == spec


@pytest.mark.parametrize("name", ["secant", "anderson", "rank-one"])
def test_rules_run_in_the_accelerator(name):
    assert isinstance(registry.make(name, 100), Koopcore)


def test_make_asks_for_a_value_that_is_to_be_tuned():
    with pytest.raises(ValueError, match=r"'ema' needs a value, such as ema:0\.9"):
        registry.make("ema", 100)


def test_names_that_stand_for_several_methods_are_resolved_once():
    asked = ("rate", "koopcore", "dogra-redman", "rate:3.2", "ema", "koopcore")
    found = ("rate:1.8", "rate:3.2", "koopcore", "dogra-redman:node", "ema")
    assert registry.resolved(asked) == found
    assert registry.tuned(asked[:4], None) == found[:-1]
    assert registry.make("dogra-redman", 100).name == "dogra-redman:node"


def test_groups_cover_every_method_and_all_of_them_are_in_the_table():
    named = {spec.partition(":")[0] for spec in registry.ALL_METHODS}
    assert named == set(registry.NAMES) - {"bare"}
    assert len(set(registry.ALL_METHODS)) == len(registry.ALL_METHODS)
    assert set(registry.QUICK_METHODS) < set(registry.ALL_METHODS)
    for spec in registry.ALL_METHODS:
        registry.check(spec)
        assert registry.resolved([spec]) == (spec,)
    assert len({len(values) for values in registry.GRIDS.values()}) == 1  # the same tuning budget


@pytest.mark.parametrize("name", ["lookahead", "schedule-free:3", "dogra-redman:node", "swa"])
def test_what_cannot_run_on_lbfgs_says_so(name):
    assert "does not run on lbfgs: " in registry.refusal(name, "lbfgs")
    assert registry.refusal(name, "adam") is None


def test_what_is_refused_nowhere_runs_on_lbfgs():
    assert all(registry.refusal(name, "lbfgs") is None for name in ("koopcore", "pdt:5", "ema"))


def planted_run(method, train, heldout, final):
    scores = {
        "train@75": Score(1, 0, 0),
        "train@100": Score(1, train, 0),
        "heldout@100": Score(1, heldout, 0),
    }
    curve = {"step_equivalents": [0.0], "train_loss": [final]}
    return Run("digits", "sgd", method, 100, 0.1, 50, curve, {}, 0, 0, 0, 0.0, scores)


def test_tuned_takes_the_lowest_mean_with_misses_counted_twice():
    def best(*runs):
        record = SimpleNamespace(budget=50, runs=[planted_run(*run) for run in runs])
        return registry.tuned(("koopcore", "ema", "lawa:3"), record)[1]

    assert best(("ema:0.1", 40, 30, 1), ("ema:0.2", 30, 35, 1), ("swa:0.1", 1, 1, 1)) == "ema:0.2"
    # One target missed costs as much as both at 50 and 55.
    assert best(("ema:0.1", math.inf, 6, 1), ("ema:0.2", 50, 55, 1)) == "ema:0.2"
    assert best(("ema:0.1", math.inf, 4, 1), ("ema:0.2", 50, 55, 1)) == "ema:0.1"
    assert best(("ema:0.1", 50, 50, 2.0), ("ema:0.2", 50, 50, 1.0)) == "ema:0.2"
    assert registry.tuned(("koopcore", "ema:0.3"), None) == ("koopcore", "ema:0.3")
