"""The paper's experiment: operators that are known, the right units, both forms of the fit."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import paper  # noqa: E402
from koopcore.compare.paper import Protocol, forecast, run_network  # noqa: E402
from koopcore.compare.workloads.hamiltonian import SineNetwork  # noqa: E402

TINY = Protocol(31, 90, 10)


@pytest.fixture(scope="module")
def networks():
    previous = torch.get_num_threads()
    torch.set_num_threads(1)
    found = [run_network(seed, TINY) for seed in (0, 1)]
    torch.set_num_threads(previous)
    return found


def trajectories(operators, m, seed=0):
    """Return m states of every linear system ``w <- U w``, shape (units, size, m)."""
    rng = np.random.default_rng(seed)
    states = [rng.standard_normal(operators.shape[:2])]
    for _ in range(m - 1):
        states.append(np.einsum("uij,uj->ui", operators, states[-1]))
    return np.stack(states, axis=2)


@pytest.mark.parametrize("fit", [paper.fit, paper.fit_by_pinv])
def test_fit_finds_a_known_operator_and_forecasts_its_future(fit):
    rotation = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    operators = np.stack([rotation, 0.99 * rotation.T])
    states = trajectories(operators, 140)
    fitted = fit(states[..., :40])
    np.testing.assert_allclose(fitted, operators, atol=1e-12)
    np.testing.assert_allclose(forecast(fitted, states[..., 39], 100), states[..., 139], atol=1e-10)


def test_fit_of_weights_that_stand_still_leaves_them():
    states = np.repeat(np.arange(1.0, 7.0).reshape(2, 3, 1), 10, axis=2)
    for fit in (paper.fit, paper.fit_by_pinv):
        np.testing.assert_allclose(forecast(fit(states), states[..., -1], 50), states[..., -1])


def test_unit_rows_are_incoming_weights_and_bias():
    model = SineNetwork(10)
    flat = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    rows = paper.unit_rows(model)
    assert [layer.shape for layer in rows] == [(10, 2), (10, 11), (2, 11)]
    assert sorted(np.concatenate([layer.ravel() for layer in rows])) == list(range(152))
    for units, layer in zip(rows, (*model.layers, model.head), strict=True):
        expected = torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().numpy()
        np.testing.assert_array_equal(flat[units], expected)


def test_error_to_growth_on_planted_vectors():
    last, true = np.zeros(3), np.array([2.0, 4.0, -6.0])
    assert paper.error_to_growth(true, true, last) == 0
    assert paper.error_to_growth(last, true, last) == 1
    assert paper.error_to_growth(np.array([3.0, 5.0, 0.0]), true, last) == 0.25
    assert paper.error_to_growth(np.full(3, np.inf), true, last) == math.inf


def test_network_is_measured_both_ways(networks):
    for network in networks:
        assert network.forms_differ < 1e-3  # the products square a condition number
        assert 0 < network.forecast_seconds < network.train_seconds
        assert network.fit_seconds > 0
        assert network.pinv_seconds > 0
        assert network.error_to_growth > 0
        assert network.koopcore_error_to_growth > 0
        for loss in (network.loss_before, network.loss_true, network.loss_forecast):
            assert 0 < loss < 10
    assert networks[0].loss_true != networks[1].loss_true


def test_jitter_perturbs_training_and_zero_does_not(networks):
    once, again, other = (run_network(0, TINY, jitter=j) for j in (0.0, 0.03, 0.03))
    assert once.loss_true == networks[0].loss_true
    assert again.loss_true != once.loss_true
    assert again.loss_true == other.loss_true


def test_progress_adds_up_to_the_steps():
    ticks = []
    run_network(0, Protocol(101, 210, 7), progress=ticks.append)
    assert sum(ticks) == 217


def test_json_is_strict_and_the_table_has_all_and_the_best(networks):
    bad = replace(networks[0], loss_forecast=math.inf, error_to_growth=math.inf)
    many = [replace(networks[1], seed=seed, error_to_growth=float(seed)) for seed in range(1, 12)]
    document = json.loads(paper.to_json(TINY, 0.03, [bad, *many]))
    assert document["networks"][0]["loss_forecast"] is None
    assert document["jitter"] == 0.03
    text = paper.table(TINY, 0.03, [bad, *many])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert len(rows) == 2 + 12 + 2
    assert "| median of all 12 | 6.5 |" in text
    assert "| median of the best 11, by their own error | 6 |" in text
    assert "best 11" not in paper.table(TINY, 0.0, many)
