"""Forecasts from weights and their gradients: the Hessian in their span, the optimum, roll-back."""

import copy
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402
from koopcore.torch._gradients import GradientForecaster  # noqa: E402
from koopcore.torch.partition import Layout  # noqa: E402


def _quadratic(dtype=torch.float64, spectrum=(1.0, 0.5, 0.2, 0.05), seed=0):
    """A module whose loss is (w - o)^T H (w - o) / 2, with H and o."""
    rng = np.random.default_rng(seed)
    size = len(spectrum)
    q = np.linalg.qr(rng.standard_normal((size, size)))[0]
    hessian = torch.tensor(q @ np.diag(spectrum) @ q.T, dtype=dtype)
    optimum = torch.tensor(rng.standard_normal(size), dtype=dtype)
    model = nn.Linear(size, 1, bias=False).to(dtype)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(rng.standard_normal((1, size)), dtype=dtype))

    def loss(m):
        d = m.weight[0] - optimum
        return d @ hessian @ d / 2

    return model, loss, hessian, optimum


def _train(model, optimizer, loss, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def _filled(model, optimizer, loss, pairs, capacity=10, spread=0.3):
    """Pairs of an optimizer's steps and random moves in between, so that they span the space."""
    parameters = list(model.parameters())
    rng = torch.Generator().manual_seed(0)
    forecaster = GradientForecaster(
        Layout(dict(model.named_parameters())), capacity, parameters, optimizer
    )
    for _ in range(pairs):
        with torch.no_grad():
            model.weight.add_(
                torch.randn(model.weight.shape, generator=rng, dtype=model.weight.dtype),
                alpha=spread,
            )
        forecaster.before_step()
        _train(model, optimizer, loss, 1)
        forecaster.push(parameters)
    return forecaster


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Adagrad"])
def test_spectrum_is_that_of_the_hessian_whatever_the_optimizer(dtype, optimizer):
    model, loss, hessian, _ = _quadratic(dtype)
    optimizer = getattr(torch.optim, optimizer)(model.parameters(), lr=0.1)
    forecaster = _filled(model, optimizer, loss, 8)
    (forecast,) = forecaster.fit()
    found = np.sort(forecast.spectrum().real)
    expected = np.sort(1 - 0.1 * torch.linalg.eigvalsh(hessian.double()).numpy())
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < (1e-8 if dtype == torch.float64 else 3e-3)


@pytest.mark.parametrize("pairs", [6, 25])  # 25: the ring has gone round
def test_long_forecast_is_the_optimum_and_short_ones_are_implicit_steps(pairs):
    model, loss, hessian, optimum = _quadratic()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    forecaster = _filled(model, optimizer, loss, pairs)
    (forecast,) = forecaster.fit()
    out = [torch.empty_like(p) for p in model.parameters()]
    forecast.write(1e12, out)
    assert (out[0][0] - optimum).norm() < 1e-6
    for horizon in (1.0, 10.0):
        forecast.write(horizon, out)
        newest = forecaster._newest[0]
        t = horizon / torch.linalg.eigvalsh(hessian).max()
        step = torch.linalg.solve(torch.eye(4) + t * hessian, t * hessian @ (newest - optimum))
        assert (out[0][0] - (newest - step)).norm() < 1e-7
        coefficients = forecast.coefficients(horizon)
        assert coefficients.shape == (1, len(forecaster))
        assert coefficients.sum() == pytest.approx(1.0, abs=1e-9)
    assert forecast.displacement(1e12) > forecast.displacement(1.0) > 0.0


def test_pairs_need_no_spacing_and_outlive_jumps():
    model, loss, _, optimum = _quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    forecaster = _filled(model, optimizer, loss, 0)
    parameters = list(model.parameters())
    rng = torch.Generator().manual_seed(0)
    for k in range(8):
        with torch.no_grad():
            model.weight.add_(torch.randn(1, 4, generator=rng, dtype=torch.float64), alpha=10.0**-k)
        forecaster.before_step()
        _train(model, optimizer, loss, 1)
        forecaster.push(parameters)
    (forecast,) = forecaster.fit()
    out = [torch.empty_like(p) for p in parameters]
    forecast.write(1e12, out)
    assert (out[0][0] - optimum).norm() < 1e-5


def test_negative_curvature_is_left_behind_and_not_approached():
    model, loss, _, _ = _quadratic(spectrum=(1.0, 0.5, -0.1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    forecaster = _filled(model, optimizer, loss, 8)
    before = loss(model).item()
    (forecast,) = forecaster.fit()
    out = [torch.empty_like(p) for p in model.parameters()]
    forecast.write(100.0, out)
    with torch.no_grad():
        model.weight.copy_(out[0])
    assert loss(model).item() < before


def test_weights_that_do_not_move_stay():
    model, _, _, _ = _quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    forecaster = _filled(model, optimizer, lambda m: 0.0 * m.weight.sum(), 6, spread=0.0)
    (forecast,) = forecaster.fit()
    out = [torch.empty_like(p) for p in model.parameters()]
    forecast.write(100.0, out)
    assert torch.equal(out[0], model.weight)
    assert forecast.spectrum().size == 0
    assert math.isnan(forecast.displacement(100.0))


def test_too_few_pairs_give_no_forecast_and_a_missing_or_infinite_gradient_is_refused():
    model, loss, _, _ = _quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    forecaster = _filled(model, optimizer, loss, 3)
    assert forecaster.fit() == []
    parameters = list(model.parameters())
    forecaster.before_step()
    optimizer.zero_grad()
    with pytest.raises(ValueError, match="'weight' has no gradient after the step"):
        forecaster.push(parameters)
    forecaster.before_step()
    model.weight.grad = torch.full_like(model.weight, math.inf)
    with pytest.raises(ValueError, match="not finite"):
        forecaster.push(parameters)
    assert len(forecaster) == 3


def test_state_goes_on_with_the_same_bits():
    ends = []
    for reload in (False, True):
        model, loss, _, _ = _quadratic(torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        forecaster = _filled(model, optimizer, loss, 13)
        if reload:
            other = _filled(model, optimizer, loss, 0)
            other.load_state_dict(copy.deepcopy(forecaster.state_dict()))
            forecaster = other
        forecaster.before_step()
        _train(model, optimizer, loss, 1)
        forecaster.push(list(model.parameters()))
        ends.append(forecaster.fit()[0].coefficients(100.0))
    assert np.array_equal(*ends)


def test_preset_for_full_batches_reaches_the_optimum_of_an_ill_conditioned_quadratic():
    spectrum = tuple(np.geomspace(1e-4, 1.0, 12))
    losses = []
    for accelerated in (False, True):
        model, loss, _, _ = _quadratic(spectrum=spectrum)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        if accelerated:
            with KoopmanAccelerator.full_batch(model, optimizer, loss, trial_cost=1 / 3) as acc:
                _train(model, optimizer, loss, 150)
            assert acc.stats.taken > 0
            assert acc.stats.overhead < 1.1
        else:
            _train(model, optimizer, loss, 150)
        losses.append(loss(model).item())
    assert losses[1] < 1e-6 * losses[0]


@pytest.mark.parametrize("observe", ["gradients", "weights"])
def test_jump_that_did_harm_is_undone_to_the_bit(observe):
    model, loss, _, _ = _quadratic()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    kept = {}
    calls = []

    def treacherous(m):
        """Praise every forecast, and after the first jump call everything bad."""
        calls.append(m)
        if accelerator.history and accelerator.history[-1].taken:
            return 100.0
        return -float(len(calls))

    def watch(fields, step):
        if fields["taken"]:
            kept["after"] = copy.deepcopy(optimizer.state_dict())

    accelerator = KoopmanAccelerator(
        model,
        optimizer,
        trial_loss=treacherous,
        observe=observe,
        window=6,
        every=1,
        rollback=True,
        max_overhead=None,
        log_fn=watch,
    )
    with accelerator:
        while not accelerator.history:
            before = (model.weight.detach().clone(), copy.deepcopy(optimizer.state_dict()))
            optimizer.zero_grad()
            loss(model).backward()
            optimizer.step()
        # What a bare step from there gives is what the roll-back must give.
        twin = nn.Linear(4, 1, bias=False).double()
        with torch.no_grad():
            twin.weight.copy_(before[0])
        twin_optimizer = torch.optim.Adam(twin.parameters(), lr=0.05)
        twin_optimizer.load_state_dict(before[1])
        _train(twin, twin_optimizer, loss, 1)
        assert accelerator.history[0].taken
        assert not torch.equal(model.weight, twin.weight)
        while len(accelerator.history) < 2:
            _train(model, optimizer, loss, 1)
        assert accelerator.history[1].reason == "the last jump has done harm: back to before it"
        assert torch.equal(model.weight, twin.weight)
        for key, value in twin_optimizer.state[twin.weight].items():
            assert torch.equal(optimizer.state[model.weight][key], value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"partition": "node"}, "observe='gradients' goes with partition='network' only"),
        ({"average": 2, "every": 2}, "observe='gradients' goes with average=1 only, got 2"),
        ({"state": "carry"}, "observe='gradients' goes with state=None only, got 'carry'"),
        ({"trial_loss": None}, "observe='gradients' needs a trial_loss"),
        ({"observe": "loss"}, "observe must be one of 'weights', 'gradients', got 'loss'"),
    ],
)
def test_what_does_not_go_together_is_named(options, text):
    model, loss, _, _ = _quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    arguments = {"trial_loss": loss, "observe": "gradients"} | options
    with pytest.raises(ValueError, match=text):
        KoopmanAccelerator(model, optimizer, **arguments)


def test_lbfgs_has_no_pairs():
    model, loss, _, _ = _quadratic()
    optimizer = torch.optim.LBFGS(model.parameters())
    with pytest.raises(ValueError, match="does not go with LBFGS"):
        KoopmanAccelerator(model, optimizer, trial_loss=loss, observe="gradients")
