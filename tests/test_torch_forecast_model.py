"""ForecastModel: training untouched, the candidates are what they say, the best one is shown."""

import copy
import logging
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from forecast_runs import away_from, identical, noisy_problem, regression, sgd, train, weights_of  # noqa: E402
from torch import nn  # noqa: E402
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn  # noqa: E402

from koopcore.rules import (  # noqa: E402
    Dynamics,
    ExponentialAverage,
    Secant,
    UniformAverage,
)
from koopcore.torch import ForecastModel  # noqa: E402

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def test_training_is_untouched_to_the_bit():
    ends = []
    for follow in (False, True):
        model, loss, kept_aside, _ = noisy_problem()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        torch.manual_seed(3)
        followers = []
        if follow:
            followers.append(
                ForecastModel(model, kept_aside, every=2, window=4, fit_loss=kept_aside)
            )
        for _ in range(4):
            train(model, optimizer, loss, 7, *followers)
            for follower in followers:
                assert follower.choose().name
        ends.append((model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
        assert all(m.training for m in model.modules())
        assert all(p.requires_grad for p in model.parameters())
    assert identical(*ends)


def test_module_follows_training_until_a_choice_and_after_it():
    model, loss, kept_aside, x = noisy_problem()
    follower = ForecastModel(model, kept_aside, every=1, window=4)
    assert not {id(t) for t in model.parameters()} & {id(t) for t in follower.parameters()}
    optimizer = sgd(model)
    for _ in range(2):
        train(model, optimizer, loss, 9, follower)
        assert identical(follower.module.state_dict(), model.state_dict())
        selection = follower.choose(away_from(weights_of(model)))
        assert selection.name != "current"
        assert not torch.equal(weights_of(follower), weights_of(model))
        assert follower.steps == selection.step
    follower.eval()
    assert torch.equal(follower(x), follower.module(x))


@DTYPES
def test_running_average_is_that_of_averaged_model(dtype):
    model, loss, _ = regression(dtype)
    follower = ForecastModel(model, lambda m: 0.0, averages=(0.9,))
    oracle = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    train(model, sgd(model), loss, 50, follower, oracle)
    target = oracle.module.weight.detach()
    selection = follower.choose(lambda m: (m.weight - target).abs().max())
    assert selection.name == "EMA 0.9"
    assert selection.loss == 0.0
    assert torch.equal(follower.module.weight, target)


@DTYPES
def test_uniform_average_of_the_window_is_stochastic_weight_averaging(dtype):
    model, loss, _ = regression(dtype)
    averages = (UniformAverage(), UniformAverage(last=3), ExponentialAverage(0.5))
    follower = ForecastModel(
        model, lambda m: 0.0, every=4, window=5, average=1, averages=averages, rule=Secant()
    )
    optimizer, oracle = sgd(model), AveragedModel(model)
    for _ in range(5):
        train(model, optimizer, loss, 4, follower)
        oracle.update_parameters(model)
    target = oracle.module.weight.detach()
    selection = follower.choose(lambda m: (m.weight - target).abs().max())
    assert selection.name == repr(UniformAverage())
    assert selection.loss <= 4 * torch.finfo(dtype).eps * float(target.abs().max())


def test_average_snapshots_are_means_of_all_steps_between():
    model, loss, _ = regression()
    follower = ForecastModel(model, lambda m: 0.0, every=4, window=3, rule=Secant())
    oracle = AveragedModel(model)
    train(model, sgd(model), loss, 12, follower, oracle)
    target = oracle.module.weight.detach()
    assert follower.choose(lambda m: (m.weight - target).abs().max()).loss < 1e-15


@DTYPES
@pytest.mark.parametrize("average", [1, 2, None])
def test_forecast_of_a_linear_iteration_finds_its_limit(dtype, average):
    model, loss, solution = regression(dtype)
    follower = ForecastModel(
        model, loss, every=2, window=10, average=average, rule=Dynamics(), horizons=[20, 20_000]
    )
    train(model, torch.optim.SGD(model.parameters(), lr=0.2), loss, 20, follower)
    selection = follower.choose()
    assert (selection.name, selection.horizon) == (repr(Dynamics()), 20_000)
    error = (follower.module.weight - solution).abs().max()
    assert error < (1e-6 if dtype == torch.float64 else 3e-3)
    assert error < 0.1 * (model.weight - solution).abs().max()


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("fitted", [False, True])
def test_choice_is_never_worse_than_the_present_weights(vector, fitted):
    model, loss, kept_aside, _ = noisy_problem()
    trial_loss = kept_aside if vector else lambda m: kept_aside(m).mean()
    follower = ForecastModel(
        model, trial_loss, every=3, window=5, fit_loss=kept_aside if fitted else None
    )
    optimizer = sgd(model)
    for _ in range(6):
        train(model, optimizer, loss, 10, follower)
        selection = follower.choose()
        assert selection.loss <= selection.loss_current
        assert selection.loss == min(c.loss for c in selection.table if c.name == selection.name)
        shown = copy.deepcopy(follower.module)
        assert kept_aside(shown).mean().item() == pytest.approx(selection.loss, rel=1e-6)


def test_vector_gain_within_its_noise_does_not_win():
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    noise = torch.tensor([5.0, -5.0, 5.0, -4.9])

    def trial_loss(m):
        return m.weight.flatten() * (0.1 + noise)

    follower = ForecastModel(model, trial_loss, averages=(0.5,))
    follower.update_parameters(model)
    with torch.no_grad():
        model.weight.mul_(2.0)
    follower.update_parameters(model)
    assert follower.choose(lambda m: trial_loss(m).mean()).name == "EMA 0.5"
    assert follower.choose().name == "current"
    assert torch.equal(follower.module.weight, model.weight)


def test_tie_goes_to_the_present_weights():
    model, loss, _ = regression()
    follower = ForecastModel(model, lambda m: 1.0, every=1, window=3)
    train(model, sgd(model), loss, 5, follower)
    selection = follower.choose()
    assert (selection.name, selection.horizon, selection.loss) == ("current", 0, 1.0)
    assert selection.table[0].name == "current"
    assert len(selection.table) > 5


@DTYPES
@pytest.mark.parametrize("partition", ["network", "node"])
def test_fitted_coefficients_reach_the_best_point_of_the_span(dtype, partition):
    torch.manual_seed(2)
    model = nn.Linear(6, 2).to(dtype)
    target = [torch.randn_like(p) for p in model.parameters()]
    scales = [torch.rand_like(p) + 0.5 for p in model.parameters()]

    def loss(m):
        parts = zip(m.parameters(), target, scales, strict=True)
        return sum((s * (p - t).square()).sum() for p, t, s in parts)

    follower = ForecastModel(
        model,
        loss,
        every=1,
        window=4,
        rule=Secant(),
        horizons=[1],
        fit_loss=loss,
        fitted_steps=20,
        partition=partition,
    )
    snapshots = []
    for _ in range(4):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))
        follower.update_parameters(model)
        snapshots.append(weights_of(model).double().numpy())
    selection = follower.choose()
    last, d = snapshots[-1], np.stack([s - snapshots[-1] for s in snapshots[:-1]], axis=1)
    t, w = (torch.cat([v.flatten() for v in vs]).double().numpy() for vs in (target, scales))
    z = np.linalg.solve(d.T @ (w[:, None] * d), d.T @ (w * (t - last)))
    best = last + d @ z
    assert selection.name == "fitted"
    assert selection.fit_evaluations > 1
    assert selection.loss == pytest.approx(float((w * (best - t) ** 2).sum()), rel=1e-5)
    tolerance = 1e-5 if dtype == torch.float64 else 3e-3
    assert np.abs(weights_of(follower).double().numpy() - best).max() < tolerance


def test_snapshot_that_is_not_finite_is_left_out_with_one_message(caplog):
    model, loss, _ = regression()
    follower = ForecastModel(model, loss, every=2, window=3, averages=(0.5,), rule=Secant())
    optimizer = sgd(model)
    train(model, optimizer, loss, 6, follower)
    good = model.weight.detach().clone()
    with caplog.at_level(logging.WARNING, "koopcore"):
        with torch.no_grad():
            model.weight.fill_(math.nan)
        for _ in range(4):
            follower.update_parameters(model)
    assert [r.message.split(":")[0] for r in caplog.records] == ["snapshot at step 8 left out"]
    selection = follower.choose()  # what was recorded before is better than nan
    assert math.isnan(selection.loss_current)
    assert math.isfinite(selection.loss)
    with torch.no_grad():
        model.weight.copy_(good)
    follower.update_parameters(model)
    table = {c.name: c.loss for c in follower.choose().table}
    assert table["EMA 0.5"] == table["current"]  # begun anew


def test_failing_trial_leaves_the_module_as_it_was(caplog):
    model, loss, kept_aside, _ = noisy_problem()
    follower = ForecastModel(model, kept_aside, every=1, window=4)
    train(model, sgd(model), loss, 8, follower)
    follower.choose()
    for buffer in follower.module.buffers():
        buffer.add_(1)
    before = copy.deepcopy(follower.module.state_dict())

    def boom(m):
        raise RuntimeError("boom")

    with caplog.at_level(logging.WARNING, "koopcore"):
        for _ in range(2):
            selection = follower.choose(boom)
            assert (selection.name, selection.table, selection.trials) == ("", (), 1)
            assert "boom" in selection.reason
            assert math.isnan(selection.loss)
    assert len(caplog.records) == 1
    assert "nothing chosen at step 8" in caplog.text

    def interrupt(m):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follower.choose(interrupt)
    assert identical(before, follower.module.state_dict())


@pytest.mark.parametrize(
    ("fit_loss", "text"),
    [
        (lambda m: 1.0, "fit_loss must return a tensor that depends on the parameters, got 1.0"),
        (lambda m: m.nothing, "fit_loss raised AttributeError"),
        (lambda m: m.weight.sum() * math.nan, ""),
    ],
)
def test_failing_fit_only_loses(fit_loss, text, caplog):
    model, loss, _ = regression()
    follower = ForecastModel(model, loss, every=1, window=4, fit_loss=fit_loss)
    train(model, sgd(model, lr=0.01), loss, 8, follower)
    with caplog.at_level(logging.WARNING, "koopcore"):
        selection = follower.choose()
    assert selection.name not in ("", "current", "fitted")
    assert [c.name for c in selection.table if math.isnan(c.loss)] == ["fitted"]
    assert text in caplog.text


def test_rule_that_fails_only_loses(caplog):
    class Bad:
        def coefficients(self, gram, horizon):
            raise ValueError("no coefficients today")

    model, loss, _ = regression()
    follower = ForecastModel(
        model, loss, every=1, window=4, rule=[Bad(), Secant()], averages=(UniformAverage(last=9),)
    )
    train(model, sgd(model, lr=0.01), loss, 8, follower)
    with caplog.at_level(logging.WARNING, "koopcore"):
        for _ in range(2):
            assert follower.choose().name == repr(Secant())
    assert len(caplog.records) == 2
    assert "no coefficients today" in caplog.text


def test_selection_prints_its_table():
    model, loss, _ = regression()
    follower = ForecastModel(model, loss, every=1, window=4)
    train(model, sgd(model, lr=0.01), loss, 8, follower)
    lines = str(follower.choose()).splitlines()
    assert lines[0].startswith("step 8: lowest trial loss")
    assert [line[0] for line in lines[1:]].count("*") == 1
