"""The paper's operators: known ones, every partition, all routes, errors by hand."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from koopcore.compare.paper import measures, operators  # noqa: E402
from koopcore.compare.paper.operators import Model, fit, fit_by_pinv, groups, powers  # noqa: E402
from koopcore.compare.paper.training import Protocol, train  # noqa: E402
from koopcore.compare.workloads.hamiltonian import SineNetwork  # noqa: E402

ROWS = [np.arange(20).reshape(10, 2), 20 + np.arange(110).reshape(10, 11)]


def trajectories(matrices, m, seed=0):
    """Return m states of every linear system ``w <- U w``, shape (units, size, m)."""
    rng = np.random.default_rng(seed)
    states = [rng.standard_normal(matrices.shape[:2])]
    for _ in range(m - 1):
        states.append(np.einsum("uij,uj->ui", matrices, states[-1]))
    return np.stack(states, axis=2)


def walk(m, n, seed=0):
    """Return m snapshots, in rows, of a random walk around weights of size 1."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(n) + 0.1 * np.cumsum(rng.standard_normal((m, n)), axis=0)


def published(snapshots, places, horizon):
    """Return ``U^h w`` as NumPy writes it: no shortcut of ours."""
    states = snapshots[:, places].T
    operator = states[:, 1:] @ np.linalg.pinv(states[:, :-1])
    return np.linalg.matrix_power(operator, horizon) @ states[:, -1]


@pytest.mark.parametrize("route", [lambda states: fit(states)[0], fit_by_pinv])
def test_fit_finds_a_known_operator_and_forecasts_its_future(route):
    rotation = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    known = np.stack([rotation, 0.99 * rotation.T])
    states = trajectories(known, 140)
    fitted = route(states[..., :40])
    np.testing.assert_allclose(fitted, known, atol=1e-12)
    (ahead,) = powers(fitted, states[..., 39], [100])
    np.testing.assert_allclose(ahead, states[..., 139], atol=1e-10)


def test_fit_of_weights_that_stand_still_leaves_them():
    snapshots = np.tile(np.arange(1.0, 7.0), (10, 1))
    model = Model(snapshots, [np.arange(6).reshape(2, 3)])
    assert model.route == "pinv"  # the products are singular
    np.testing.assert_allclose(model.forecast([50])[0], snapshots[-1])


def test_fit_takes_products_where_they_are_well_conditioned():
    states = walk(200, 6).T.reshape(2, 3, 200)
    found, route = fit(states)
    assert route == "products"
    np.testing.assert_allclose(found, fit_by_pinv(states), atol=1e-9)


@pytest.mark.parametrize("partition", operators.PARTITIONS)
@pytest.mark.parametrize("m", [15, 30, 400])
def test_forecast_of_every_partition_is_numpys(partition, m):
    """Among them groups wider than the window, which go through reduced operators."""
    snapshots = walk(m, 130)
    wanted = groups(ROWS, partition, 5)
    model = Model(snapshots, wanted)
    horizons = [1, 2, 7]
    for horizon, state in zip(horizons, model.forecast(horizons), strict=True):
        for places in (row for part in wanted for row in part):
            expected = published(snapshots, places, horizon)
            np.testing.assert_allclose(state[places], expected, rtol=1e-6, atol=1e-6)


def test_groups_hold_every_parameter_once():
    for partition in operators.PARTITIONS:
        for size in (1, 2, 5, 11, 50):
            found = groups(ROWS, partition, size)
            places = np.concatenate([part.ravel() for part in found])
            np.testing.assert_array_equal(np.sort(places), np.arange(130))


def test_quasi_nodes_nest_between_weight_and_node():
    second = ROWS[1:]
    for small, same in ((1, "weight"), (11, "node"), (40, "node")):
        theirs = groups(second, same)
        ours = groups(second, "quasi-node", small)
        for part, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(part, other)
    chunks = groups(second, "quasi-node", 5)
    assert [part.shape for part in chunks] == [(20, 5), (10, 1)]  # the rest of 11 on its own


def test_single_weights_grow_by_their_least_squares_ratio():
    snapshots = walk(40, 130)
    before, after = snapshots[:-1], snapshots[1:]
    ratios = (before * after).sum(0) / (before**2).sum(0)
    state = Model(snapshots, groups(ROWS, "weight")).forecast([9])[0]
    np.testing.assert_allclose(state, ratios**9 * snapshots[-1], rtol=1e-9)


def test_groups_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="unknown partition 'neuron'; known: weight, quasi-node"):
        groups(ROWS, "neuron")
    with pytest.raises(ValueError, match="size=0: quasi-node needs the size of its chunks"):
        groups(ROWS, "quasi-node", 0)


def test_cut_removes_directions_below_the_precision_of_the_weights():
    """A second direction, of 1e-6 at most, grows by half a step unless it is cut."""
    kept = np.outer(0.99 ** np.arange(30), [1.0, 2.0])
    snapshots = kept + 1e-11 * np.outer(1.5 ** np.arange(30), [2.0, -1.0])
    places = [np.array([[0, 1]])]
    raw, cut = (Model(snapshots, places, cut=value) for value in (False, True))
    assert raw.spectra()[0]["radius"] == pytest.approx(1.5, rel=1e-3)
    assert cut.spectra()[0]["radius"] == pytest.approx(0.99, rel=1e-3)


@pytest.mark.parametrize("m", [8, 60])
def test_cut_operators_are_numpys_with_the_same_cut(m):
    """Fewer snapshots than parameters, and more; half of the directions lie below the cut."""
    rng = np.random.default_rng(1)
    scales = np.where(np.arange(20) % 2, 1.0, 1e-7)
    snapshots = scales * np.cumsum(rng.standard_normal((m, 20)), axis=0)
    model = Model(snapshots, [np.arange(20)[None]], cut=True)
    states, cut = snapshots.T, operators.CUT_32 * max(m - 1, 20)
    operator = states[:, 1:] @ np.linalg.pinv(states[:, :-1], rcond=cut)
    assert model.parts[0].core.shape[0] <= 10
    for horizon, found in zip((1, 3), model.forecast([1, 3]), strict=True):
        expected = np.linalg.matrix_power(operator, horizon) @ states[:, -1]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_reduced_spectrum_is_that_of_the_whole_operator_but_its_zeros():
    snapshots = walk(8, 20)
    model = Model(snapshots, [np.arange(20)[None]])
    states = snapshots.T
    operator = states[:, 1:] @ np.linalg.pinv(states[:, :-1])
    expected = np.sort(np.abs(np.linalg.eigvals(operator)))[-7:]
    found = model.spectra()[0]
    moduli = np.sort(np.hypot(*np.array(found["values"]).T))
    np.testing.assert_allclose(moduli, expected, rtol=1e-5)
    assert found["radius"] == pytest.approx(expected[-1])
    assert found["size"] == 20


def test_powers_that_overflow_are_not_finite_and_no_error():
    (state,) = powers(np.full((1, 1, 1), 1e300), np.ones((1, 1)), [9])
    assert not np.isfinite(state).any()


def test_unit_rows_are_incoming_weights_and_bias():
    model = SineNetwork(10)
    flat = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    rows = operators.unit_rows(model)
    assert [layer.shape for layer in rows] == [(10, 2), (10, 11), (2, 11)]
    assert sorted(np.concatenate([layer.ravel() for layer in rows])) == list(range(152))
    for units, layer in zip(rows, (*model.layers, model.head), strict=True):
        expected = torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().numpy()
        np.testing.assert_array_equal(flat[units], expected)


def test_error_to_growth_on_planted_vectors():
    last, true = np.zeros(3), np.array([2.0, 4.0, -6.0])
    assert measures.error_to_growth(true, true, last) == 0
    assert measures.error_to_growth(last, true, last) == 1
    assert measures.error_to_growth(np.array([3.0, 5.0, 0.0]), true, last) == 0.25
    assert measures.error_to_growth(np.full(3, np.inf), true, last) == math.inf
    assert measures.error_to_growth(true, last, last) == math.inf


def test_plain_rules_by_hand():
    window = np.array([[0.0, 1.0], [1.0, 1.0], [4.0, 1.0]])
    np.testing.assert_allclose(measures.secant(window, [1, 3]), [[6.0, 1.0], [10.0, 1.0]])
    np.testing.assert_allclose(measures.mean(window, [1, 3]), [[5 / 3, 1.0]] * 2)


def test_koopcores_rules_find_the_future_of_a_linear_law():
    """One unit of two weights that decay to a fixed point; 300 snapshots, thinned to 100."""
    steps = np.arange(400)
    exact = np.column_stack([3 + 0.99**steps, 1 - 2 * 0.97**steps])
    rows = [np.array([[0, 1]])]
    found = measures.grouped(exact[:300], rows, [30, 99], affine=True)
    np.testing.assert_allclose(found, exact[[329, 398]], atol=1e-6)
    averages = measures.averaged(exact[:300], rows, [30])[0]
    np.testing.assert_allclose(averages, exact[329], atol=1e-4)


def test_scheduled_rule_follows_a_falling_rate():
    """Gradient flow at rates that fall: the weights depend on the sum of the rates alone."""
    rates = 0.02 * (1 - np.arange(400) / 500)
    weights = [np.array([1.0, 2.0])]
    for rate in rates:
        weights.append(weights[-1] - rate * np.array([1.0, 0.5]) * (weights[-1] - 5.0))
    window = np.array(weights[:301])
    ahead = rates[300:400].sum() / rates[299]
    found = measures.scheduled(window, [np.array([[0, 1]])], rates[:300], ahead)
    np.testing.assert_allclose(found, weights[400], atol=1e-3)


def test_end_to_end_counts_burn_in_window_fit_and_forecast():
    protocol = Protocol(35_001, 45_000, 2_500)
    assert measures.end_to_end(protocol) == pytest.approx(47_500 / 45_000)
    small = Protocol(11, 20, 10)
    model = torch.nn.Linear(1, 1)
    record = train(model, lambda: None, small.steps, small.kept())
    record.seconds[:] = 0.1
    assert measures.end_to_end_seconds(record, small, 0.0) == pytest.approx(1.5)
    assert measures.end_to_end_seconds(record, small, 1.0) == pytest.approx(1.0)
    assert measures.end_to_end_seconds(record, small, 2.0) == pytest.approx(0.75)


def test_record_keeps_the_weights_after_the_steps_asked_for():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)

    def step():
        model.weight.data += 1.0

    ticks = []
    record = train(model, step, 250, [0, 7, 8, 250], ticks.append)
    assert record.states.ravel().tolist() == [0, 7, 8, 250]
    assert ticks == [100, 100, 50]
    assert record.window(Protocol(7, 8, 1)).ravel().tolist() == [7, 8]
    assert record.state(250) == 250
    record.seconds[:] = [*np.full(200, 2.0), *np.full(50, 3.0)]
    record.seconds[[3, 220]] = 100.0  # something else had the machine
    assert record.elapsed(0, 200) == 400
    assert record.elapsed(200, 250) == 150
    with pytest.raises(ValueError, match="after step 9 were not kept"):
        record.state(9)
    with pytest.raises(ValueError, match="needs 3 snapshots, kept: 2"):
        record.window(Protocol(7, 9, 1))


def test_protocol_shrinks_window_and_horizon_alike():
    full = Protocol(35_001, 45_000, 2_500)
    assert (full.steps, full.snapshots) == (47_500, 10_000)
    assert full.at(0.5) == Protocol(17_501, 22_500, 1_250)
    assert full.at(0.1) == Protocol(3_501, 4_500, 250)
