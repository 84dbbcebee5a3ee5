"""The paper's experiments on tiny protocols, resumed, judged and written as a report."""

import json
import math
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("jinja2")
typer = pytest.importorskip("typer")
testing = pytest.importorskip("typer.testing")

from koopcore._cli_paper import paper  # noqa: E402
from koopcore.compare.paper import claims, cost, figures, mnist, ode, report, run, tables  # noqa: E402
from koopcore.compare.paper.run import Plan, Task  # noqa: E402
from koopcore.compare.paper.training import Protocol  # noqa: E402

TINY = Protocol(61, 300, 20)
TINY_MNIST = Protocol(21, 60, 12)
PLAN = Plan(seeds=2, optimizers=("adadelta", "adam"), quick=True)


@pytest.fixture(scope="module")
def tiny():
    """Protocols that take seconds together."""
    patch = pytest.MonkeyPatch()
    patch.setattr(ode, "QUICK", TINY)
    patch.setattr(mnist, "QUICK", TINY_MNIST)
    patch.setattr(mnist, "EARLY", 0.5)
    small = {
        name: (dict.fromkeys("Kdm", 4) | {"m": 16}, {"K": (2, 4), "d": (4, 8), "m": (16, 32)})
        for name in cost.SWEEPS
    }
    patch.setattr(cost, "SWEEPS", small)
    patch.setattr(cost, "STEPS", ({"width": 4, "B": 8}, {"width": (4, 8), "B": (8, 16)}))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("paper")


@pytest.fixture(scope="module")
def results(tiny, folder):
    pytest.importorskip("mlxtend")
    ticks = []
    found = run.run(PLAN, folder, progress=ticks.append)
    assert sum(ticks) == sum(task.steps for task in PLAN.tasks())
    return found


def invoke(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(paper)
    return testing.CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_oscillator_is_measured_by_every_partition_and_rule(results):
    for network in results.of("ode", "adadelta"):
        assert list(network["partitions"]) == ["weight", "quasi-node 5", "node", "layer", "network"]
        counts = [found["operators"] for found in network["partitions"].values()]
        assert counts == [152, 46, 22, 3, 1]
        for found in network["partitions"].values():
            assert found["fit_seconds"] > 0
            assert found["with_fit_to_training"] > found["forecast_to_training"] > 0
            assert found["end_to_end"] < network["end_to_end_at_most"]
            assert len(found["errors"]) == len(network["growth"]) == 152
            assert len(found["losses"]) == len(network["horizons"])
        assert network["partitions"]["node"]["routes_differ"] < 1e-3
        assert network["rules"]["stay"]["error_to_growth"] == 1.0
        assert network["rules"]["stay"]["loss"] == network["loss_before"]
        assert network["losses_true"][-1] == network["loss_true"]
        assert list(network["early"]) == ["10%", "25%", "50%"]


def test_scatter_and_error_to_growth_are_of_the_same_numbers(results):
    for network in results.of("ode", "adadelta"):
        growth = np.median(network["growth"])
        for found in network["partitions"].values():
            ratio = np.median(found["errors"]) / growth
            assert ratio == pytest.approx(found["error_to_growth"], rel=0.01)


def test_optimizers_seeds_and_jitter_change_the_network_and_repeats_do_not(results):
    once, other = results.of("ode", "adadelta")
    adam, _ = results.of("ode", "adam")
    shaken = results.of("questions")[0]["jitter"]
    losses = [found["loss_true"] for found in (once, other, adam, shaken)]
    assert len(set(losses)) == 4
    assert ode.run_network(0, TINY)["loss_true"] == losses[0]
    assert ode.run_network(0, TINY, jitter=0.03)["loss_true"] == losses[3]


def test_classifier_is_judged_along_the_forecast(results):
    for network in results.of("mnist"):
        assert network["horizons"] == [1, 6, 12]
        assert network["early"]["protocol"] == {"first": 11, "last": 30, "horizon": 6}
        for found in (*network["rules"].values(), *network["partitions"].values()):
            assert len(found["loss"]) == len(found["accuracy"]) == len(found["train_loss"]) == 3
        assert network["rules"]["training"]["error_to_growth"] == [0.0] * 3
        stay = network["rules"]["stay"]
        assert stay["error_to_growth"] == [1.0] * 3
        assert len(set(stay["loss"])) == 1
        assert network["partitions"]["node"]["operators"] == 70
        assert network["pinv"]["layer_1"] == pytest.approx(20 * network["pinv"]["one"])


def test_decaying_rate_is_a_known_input_and_falls_to_zero(results):
    for network in results.of("questions"):
        end = network["decay"]["end"]
        assert end["rate_over_window"][0] > end["rate_over_window"][1] > end["rate_at_the_end"] > 0
        assert set(end["rules"]) >= {"published", "koopcore, rates to come", "mean"}
    rates = ode.decayed_rates(TINY, "adadelta")
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(1 / TINY.steps)


def test_exponents_are_slopes_of_the_logarithms():
    rows = [{"route": "pinv", "varied": "d", "d": d, "seconds": 3e-6 * d**2.5} for d in (8, 32, 64)]
    assert cost.exponents(rows)["pinv"]["d"] == pytest.approx(2.5)
    assert cost.flops("pinv", K=2, d=10, m=100) == 2 * (6 * 100 * 100 + 22 * 1000)
    assert cost.flops("GroupedDMD", K=2, d=10, m=100) == 2 * 2 * 100**2 * 10
    assert cost.share_of_training(10_000, 11, 200, 2_500) == pytest.approx(0.22)
    assert cost.share_of_training(1_876, 785, 64, 938) == pytest.approx(24.5, abs=0.1)


def test_resume_runs_only_what_is_missing_or_of_another_plan(results, folder, monkeypatch):
    parts = folder / "parts"
    (parts / "ode-adam-1.json").unlink()
    (parts / "mnist-0.json").write_text("{")  # cut off by a kill
    done = []

    def pretend(self, progress=None):
        done.append(self.name)
        return {"seed": self.seed}

    monkeypatch.setattr(Task, "run", pretend)
    plan = Plan(("ode", "mnist"), 2, ("adadelta", "adam"), 0.0, True)
    resumed = run.run(plan, folder, resume=True)
    assert done == ["ode-adam-1", "mnist-0"]
    assert resumed.of("ode", "adadelta") == results.of("ode", "adadelta")
    done.clear()
    run.run(Plan(("ode",), 1, jitter=0.03, quick=True), folder, resume=True)
    assert done == ["ode-adadelta-0"]


def test_processes_side_by_side_give_the_same_networks(tmp_path):
    plan = Plan(("ode",), 2, quick=True)
    found = run.run(plan, tmp_path, jobs=2)
    assert [task.seed for task, _ in found.parts] == [0, 1]
    alone = ode.run_network(1, Protocol(701, 900, 50))
    assert found.of("ode", "adadelta")[1]["loss_true"] == alone["loss_true"]


def test_report_is_one_file_with_its_pictures_and_no_script(results, tmp_path):
    files = report.write(results, tmp_path)
    assert [path.name for path in files] == ["paper.json", "paper.md", "paper.html"]
    page = (tmp_path / "paper.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 12  # four of each optimizer, three of the classifier, one of the cost
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in page
    assert "http" not in re.sub(r'"data:image[^"]*"', "", page)  # base64 may spell anything
    assert page.count("<img alt=") == len(sources)
    document = json.loads((tmp_path / "paper.json").read_text())
    assert document["format"] == "koopcore-paper/2"
    assert len(document["parts"]) == len(PLAN.tasks())
    assert "threads per network: 1" in (tmp_path / "paper.md").read_text()


def test_every_table_is_rectangular_and_in_the_markdown(results):
    text = report.markdown(results)
    for table in tables.tables(results):
        assert len({len(row) for row in table.rows}) == 1, table.title
        assert f"## {table.title}" in text
    rows = [line for line in text.splitlines() if line.startswith("| seed ")]
    assert len(rows) == 4  # every network of both optimizers


def test_page_escapes_what_stands_in_tables(results, monkeypatch):
    monkeypatch.setattr(report, "subtitle", lambda _: "<b>&")
    assert "&lt;b&gt;&amp;" in report.html(results)


def network(seed, error, loss=1.0):
    """Return what the claims read of a network of experiment 1."""
    of_partition = {
        "error_to_growth": error,
        "loss": loss,
        "with_pinv_to_training": 0.02,
        "end_to_end_pinv": 1.05,
    }
    return {
        "seed": seed,
        "partitions": dict.fromkeys(("node", "layer", "network"), of_partition),
        "rules": {
            name: {"error_to_growth": 1.0, "loss": 2.0} for name in ("stay", "secant", "mean")
        },
        "loss_before": 2.0,
        "loss_true": 0.5,
        "end_to_end_at_most": 1.056,
    }


def test_claims_say_yes_no_or_in_part():
    good = [network(seed, 0.5) for seed in range(3)]
    bad = [network(seed, None, None) for seed in range(3)]
    assert claims.follows(good, "adam").holds == "yes"
    assert claims.follows(bad, "adam").holds == "no"
    assert claims.follows(good + bad, "adam").holds == "in part"
    assert "3 of 6 below 1" in claims.follows(good + bad, "adam").figure
    assert claims.trains(bad, "adam").holds == "no"
    assert claims.beats(good, "adam").holds == "yes"
    assert claims.faster(good, "adam").figure == "50 times (median); in 3 of 3 networks"
    assert claims.end_to_end(good, "adam").holds == "no"


def test_best_eleven_are_chosen_by_their_own_error_and_not_named_when_all_are():
    many = [network(seed, float(seed + 1)) for seed in range(13)]
    assert [n["seed"] for n in tables.ranked(many[::-1])[:11]] == list(range(11))
    assert "error / growth 6 (median)" in claims.selected(many, "adam").figure
    results = run.Results(Plan(("ode",), 2, ("adam",)), {})
    few = [dict(n, early={}, rules=n["rules"]) for n in many[:2]]
    for each in few:
        each["rules"] |= {"koopcore, identity": {"error_to_growth": 1.0, "loss": 1.0}}
    results.parts = [(Task("ode", n["seed"], "adam"), n) for n in few]
    assert not any("best 11" in claim.claim for claim in claims.claims(results))


def test_medians_count_what_is_not_finite_as_infinite():
    assert tables.middle([1.0, None, 2.0]) == 2.0
    assert tables.middle([None, None, 2.0]) == math.inf
    assert tables.text(math.inf) == tables.text(None) == "inf"


def test_scatter_draws_networks_whose_forecasts_overflowed(results):
    networks = json.loads(json.dumps(results.of("ode", "adadelta")))
    networks[0]["partitions"]["node"]["errors"] = [None] * 152
    assert figures.scatter(networks).startswith(b"\x89PNG")


def test_optimizers_offered_are_those_with_a_rate():
    assert tuple(ode.RATES) == run.OPTIMIZERS


def test_command_writes_its_report_and_says_what_holds(tiny, tmp_path):
    out = str(tmp_path / "r")
    result = invoke("--quick", "--experiment", "ode, cost", "--seeds", "1", "--report", out)
    assert result.exit_code == 0, result.output
    assert "adadelta: forecasting T steps is more than ten times faster" in result.output
    assert (tmp_path / "r" / "paper.html").exists()
    assert "parts" in [path.name for path in (tmp_path / "r").iterdir()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experiment", "odes"], "unknown experiment 'odes'; known experiments: ode, mnist"),
        (["--optimizer", "sgd"], "unknown optimizer 'sgd'; known optimizers: adadelta, adam"),
        (["--seeds", "0"], "0 is too small; at least 1 is needed"),
        (["--jobs", "0"], "0 is too small; at least 1 is needed"),
    ],
)
def test_command_refuses_what_it_does_not_know(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in re.sub(r"[│\s]+", " ", result.output)
