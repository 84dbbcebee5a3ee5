"""The offline arena: scores against closed forms, what takes part, and the tables."""

import csv
import io
import math

import numpy as np
import pytest

pytest.importorskip("sklearn")
import torch
from arena_runs import HORIZONS, RATE, SMALL, changed, linear_recording, oscillator

from koopcore.compare.arena import ARENA_RULES, FromRule
from koopcore.compare.arena import score as arena
from koopcore.compare.arena.entrants import predictors
from koopcore.compare.arena.parameters import Parameters
from koopcore.compare.arena.predictors import Grouped, Pinv
from koopcore.compare.arena.record import record
from koopcore.compare.arena.summary import best, summarize, tally
from koopcore.compare.arena.tables import csv_table, markdown, terminal
from koopcore.rules import Dynamics, Secant, UniformAverage
from koopcore.torch._dogra_redman import PinvForecast
from koopcore.torch.partition import Layout

PARTITIONS = ("weight", ("quasi-node", 5), "node", "layer", "network")


@pytest.fixture(scope="module")
def problem():
    return oscillator()


@pytest.fixture(scope="module")
def linear(problem):
    return linear_recording(problem)


@pytest.fixture(scope="module")
def small():
    return record("hamiltonian", "adam", **SMALL)


def outcomes(recording, *rules, **options):
    found = arena.score([recording], rules, **options)
    return {(o.rule, o.horizon): o for o in found}


def test_score_of_a_linear_trajectory_is_the_closed_form(linear, monkeypatch):
    found = outcomes(linear, "stay", "secant", "dmd-1")
    for horizon in HORIZONS:
        true_change = RATE**horizon - 1
        secant = abs(horizon * (1 - 1 / RATE) - true_change) / abs(true_change)
        assert found["stay", horizon].error_to_growth == [1.0, 1.0]
        np.testing.assert_allclose(found["secant", horizon].error_to_growth, secant, rtol=1e-3)
        assert max(found["dmd-1", horizon].error_to_growth) < 1e-3
        assert found["true", horizon].error_to_growth == [0.0, 0.0]


def test_relative_error_is_over_the_size_of_the_true_weights(linear):
    found = outcomes(linear, "stay")
    for horizon in HORIZONS:
        for i, start in enumerate(linear.about.starts):
            last = linear.states[linear.at(start)].astype(float)
            true = linear.states[linear.at(start, horizon)].astype(float)
            expected = np.linalg.norm(last - true) / np.linalg.norm(true)
            assert found["stay", horizon].relative_error[i] == pytest.approx(expected)


def test_loss_of_the_true_and_of_the_last_weights_is_the_recorded_one(linear):
    found = outcomes(linear, "stay")
    for horizon in HORIZONS:
        for i, start in enumerate(linear.about.starts):
            later = linear.train_loss[linear.at(start, horizon)]
            assert found["true", horizon].train_loss[i] == pytest.approx(later, rel=1e-5)
            now = linear.train_loss[linear.at(start)]
            assert found["stay", horizon].train_loss[i] == pytest.approx(now, rel=1e-5)
        assert found["stay", horizon].heldout_loss == []


@pytest.mark.parametrize("partition", PARTITIONS, ids=str)
@pytest.mark.parametrize("m", [4, 10])
def test_pinv_is_that_of_the_accelerator(problem, linear, partition, m):
    parameters, model = Parameters(problem.model), problem.model
    noise = 0.1 * np.random.default_rng(1).standard_normal((m, 152))
    window = linear.window(60, m) + noise
    layout = Layout(dict(model.named_parameters()), partition, model)
    order, segments = parameters.groups(partition)
    np.testing.assert_array_equal(segments, layout.segments)
    out = [torch.empty(p.shape, dtype=torch.float64) for p in model.parameters()]
    PinvForecast(window[:, order], layout).write(3, out)
    expected = torch.cat([tensor.ravel() for tensor in out]).numpy()
    found = Pinv(partition).forecast(window, 3, parameters)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_groups_of_nodes_hold_the_weights_and_the_bias_of_a_unit(problem):
    order, segments = Parameters(problem.model).groups("node")
    assert sorted(order) == list(range(152))
    assert np.diff(segments, axis=1).ravel().tolist() == [2] * 10 + [11] * 12
    assert order[:4].tolist() == [0, 10, 1, 11]  # 10 weights of the first layer, then its 10 biases


def test_grouped_over_the_network_is_the_rule(problem, linear):
    parameters, window = Parameters(problem.model), linear.window(24, 8)
    grouped = Grouped("network", rank=1).forecast(window, 5, parameters)
    rule = FromRule(Dynamics(rank=1)).forecast(window, 5, parameters)
    np.testing.assert_allclose(grouped, rule, rtol=1e-6)


def test_rule_that_is_not_affine_sees_the_snapshots_themselves(problem, linear):
    rule = FromRule(Dynamics(affine=False, rank=2), affine=False)
    found = rule.forecast(linear.window(24, 8), 4, Parameters(problem.model))
    true = linear.states[linear.at(24, 4)]
    np.testing.assert_allclose(found, true, atol=1e-3 * np.abs(true).max())


def test_every_default_entrant_forecasts(small):
    found = arena.score([small], window=5)
    assert {o.rule for o in found} == {"true", *ARENA_RULES}
    assert all(len(o.train_loss) == 2 for o in found)
    assert not any(math.isnan(x) for o in found for x in o.relative_error + o.train_loss)


def test_new_rule_joins_by_one_class(small, monkeypatch):
    class Twice:
        def coefficients(self, gram, horizon):
            return Secant().coefficients(gram, 2 * horizon)

    monkeypatch.setitem(ARENA_RULES, "twice", Twice())
    found = outcomes(small, "twice", window=2)
    assert set(found) == {(r, h) for r in ("true", "stay", "secant", "twice") for h in (1, 3)}


def test_predictor_cannot_change_the_window_of_the_next(small, monkeypatch):
    class Vandal:
        def forecast(self, window, horizon, parameters):
            window[:] = 0.0
            return window[-1]

    alone = outcomes(small, "mean", window=4)
    monkeypatch.setitem(ARENA_RULES, "vandal", Vandal())
    together = outcomes(small, "vandal", "mean", window=4)
    assert together["mean", 1] == alone["mean", 1]


def test_forecast_that_is_not_finite_scores_infinity(small, monkeypatch):
    class Broken:
        def forecast(self, window, horizon, parameters):
            return np.full(window.shape[1], np.nan if horizon == 1 else 1e300)

    monkeypatch.setitem(ARENA_RULES, "broken", Broken())
    found = arena.score([small], ("broken",), window=4)
    for outcome in [o for o in found if o.rule == "broken"]:
        assert outcome.train_loss == [math.inf] * 2
    rows = {(r.rule, r.horizon): r for r in summarize(found)}
    assert rows["broken", 1].error_to_growth.median == math.inf
    assert ">1000" in terminal(list(rows.values()), 4)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (object(), TypeError, "has neither coefficients"),
        (type("Half", (), {"coefficients": lambda *_: np.ones(4) / 2})(), ValueError, "sum to 2"),
        (type("Few", (), {"coefficients": lambda *_: np.ones(1)})(), ValueError, r"shape \(1,\)"),
        (type("Flat", (), {"forecast": lambda *_: np.ones(3)})(), ValueError, r"shape \(3,\)"),
        (UniformAverage(last=9), ValueError, "needs at least 9"),
    ],
    ids=["no rule", "not affine", "few coefficients", "wrong shape", "short window"],
)
def test_entrant_that_is_wrong_is_refused(small, monkeypatch, entry, error, message):
    monkeypatch.setitem(ARENA_RULES, "wrong", entry)
    with pytest.raises(error, match=message):
        arena.score([small], ("wrong",), window=4)


def test_unknown_rule_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"unknown rule 'secants'; known rules: stay, secant"):
        predictors(("secants",))


def test_window_or_horizon_that_the_file_lacks_is_refused(small):
    with pytest.raises(ValueError, match=r"window=6: .* give 2 to 5"):
        arena.score([small], ("stay",), window=6)
    with pytest.raises(ValueError, match=r"horizon 256: .* has the horizons 1, 3"):
        arena.score([small], ("stay",), window=4, horizons=(1, 256))
    with pytest.raises(ValueError, match="is given 2 times"):
        arena.score([small, small], ("stay",), window=4)


def test_workload_that_has_changed_since_is_refused(small):
    with pytest.raises(ValueError, match=r"was recorded with the parameters .* record it again"):
        arena.score([changed(small, shapes={"w": [152]})], window=4)
    other = changed(small)
    other.train_loss[:] *= 1.1
    with pytest.raises(ValueError, match=r"the training loss at step .* was recorded"):
        arena.score([other], ("stay",), window=4)


def test_summary_counts_the_starts_and_takes_medians(linear):
    rows = summarize(arena.score([linear], ("dmd-1",)))
    row = next(r for r in rows if r.rule == "dmd-1" and r.horizon == 4)
    assert (row.starts, row.steps) == (2, 8)
    assert row.closer == {"stay": 2, "secant": 2}
    assert row.error_to_growth.low <= row.error_to_growth.median <= row.error_to_growth.high
    stay = next(r for r in rows if r.rule == "stay" and r.horizon == 4)
    assert (stay.error_to_growth.median, stay.train_ratio.median) == (1.0, 1.0)
    assert stay.closer == {"stay": 0, "secant": 0}
    assert (linear.about.name, 4, "dmd-1") in best(rows, "error_to_growth")
    assert not {rule for _, _, rule in best(rows, "error_to_growth")} & {"true", "stay"}


def test_tally_adds_up_recordings_with_the_same_horizons(linear, small):
    rows = summarize(arena.score([linear, small], ("dmd-1",), window=5))
    counts = tally(rows)
    assert {count.horizon for count in counts} == {1}  # the only one that both have
    assert {count.starts for count in counts} == {4}
    assert next(c for c in counts if c.rule == "dmd-1").closer["stay"] == 4


def test_tables_hold_every_figure():
    recording = record("digits:0.05", "sgd", **SMALL)
    rows = summarize(arena.score([recording], ("dmd-1",), window=5))
    text = markdown(rows, 5, "koopcore arena score run.npz")
    for words in (
        "error over growth",
        "held-out loss",
        "closer to",
        "`koopcore arena score run.npz`",
    ):
        assert words in text
    table = list(csv.DictReader(io.StringIO(csv_table(rows))))
    assert len(table) == 2 * 4
    stay = next(line for line in table if line["rule"] == "stay" and line["horizon"] == "3")
    assert (stay["steps"], stay["starts"], stay["error_to_growth"]) == ("6", "2", "1")
    assert float(stay["heldout_ratio"]) == 1.0
    assert stay["closer_than_secant"] in "012"
