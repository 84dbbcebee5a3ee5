"""ForecastModel: training untouched, the candidates are what they say, the best one is shown."""

import copy
import io
import logging
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn  # noqa: E402

from koopcore.rules import (  # noqa: E402
    Dynamics,
    ExponentialAverage,
    Polynomial,
    Secant,
    UniformAverage,
)
from koopcore.torch import ForecastModel, KoopmanAccelerator  # noqa: E402

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def _regression(dtype=torch.float64):
    """Full-batch linear regression, and its exact solution."""
    torch.manual_seed(1)
    x = torch.randn(40, 4, dtype=dtype) * torch.tensor([1.0, 0.8, 0.6, 0.4], dtype=dtype)
    y = torch.randn(40, 1, dtype=dtype)
    model = nn.Linear(4, 1, bias=False).to(dtype)
    return model, lambda m: nn.functional.mse_loss(m(x), y), torch.linalg.lstsq(x, y)[0].T


def _noisy_problem():
    """A model with BatchNorm and dropout, a batch loss that draws, and data kept aside."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 1)
    )
    x = torch.randn(128, 4)
    y = x.sum(1, keepdim=True) + 0.3 * torch.randn(128, 1)

    def loss(m):
        i = torch.randint(64, (16,))
        return nn.functional.mse_loss(m(x[i]), y[i])

    def kept_aside(m):
        m.eval()
        return (m(x[64:]) - y[64:]).square().flatten()

    return model, loss, kept_aside, x


def _train(model, optimizer, loss, steps, *followers):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
        for follower in followers:
            follower.update_parameters(model)


def _sgd(model, lr=0.05):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5)


def _identical(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_identical(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_identical, a, b))
    return a == b or (a != a and b != b)


def _away_from(weights):
    """A loss that any weights but these lower."""
    weights = weights.detach().clone()
    return lambda m: -(_weights(m) - weights).square().sum()


def _weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_training_is_untouched_to_the_bit():
    ends = []
    for follow in (False, True):
        model, loss, kept_aside, _ = _noisy_problem()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        torch.manual_seed(3)
        followers = []
        if follow:
            followers.append(
                ForecastModel(model, kept_aside, every=2, window=4, fit_loss=kept_aside)
            )
        for _ in range(4):
            _train(model, optimizer, loss, 7, *followers)
            for follower in followers:
                assert follower.choose().name
        ends.append((model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
        assert all(m.training for m in model.modules())
        assert all(p.requires_grad for p in model.parameters())
    assert _identical(*ends)


def test_module_follows_training_until_a_choice_and_after_it():
    model, loss, kept_aside, x = _noisy_problem()
    follower = ForecastModel(model, kept_aside, every=1, window=4)
    assert not {id(t) for t in model.parameters()} & {id(t) for t in follower.parameters()}
    optimizer = _sgd(model)
    for _ in range(2):
        _train(model, optimizer, loss, 9, follower)
        assert _identical(follower.module.state_dict(), model.state_dict())
        selection = follower.choose(_away_from(_weights(model)))
        assert selection.name != "current"
        assert not torch.equal(_weights(follower), _weights(model))
        assert follower.steps == selection.step
    follower.eval()
    assert torch.equal(follower(x), follower.module(x))


@DTYPES
def test_running_average_is_that_of_averaged_model(dtype):
    model, loss, _ = _regression(dtype)
    follower = ForecastModel(model, lambda m: 0.0, averages=(0.9,))
    oracle = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    _train(model, _sgd(model), loss, 50, follower, oracle)
    target = oracle.module.weight.detach()
    selection = follower.choose(lambda m: (m.weight - target).abs().max())
    assert selection.name == "EMA 0.9"
    assert selection.loss == 0.0
    assert torch.equal(follower.module.weight, target)


@DTYPES
def test_uniform_average_of_the_window_is_stochastic_weight_averaging(dtype):
    model, loss, _ = _regression(dtype)
    averages = (UniformAverage(), UniformAverage(last=3), ExponentialAverage(0.5))
    follower = ForecastModel(
        model, lambda m: 0.0, every=4, window=5, average=1, averages=averages, rule=Secant()
    )
    optimizer, oracle = _sgd(model), AveragedModel(model)
    for _ in range(5):
        _train(model, optimizer, loss, 4, follower)
        oracle.update_parameters(model)
    target = oracle.module.weight.detach()
    selection = follower.choose(lambda m: (m.weight - target).abs().max())
    assert selection.name == repr(UniformAverage())
    assert selection.loss <= 4 * torch.finfo(dtype).eps * float(target.abs().max())


def test_average_snapshots_are_means_of_all_steps_between():
    model, loss, _ = _regression()
    follower = ForecastModel(model, lambda m: 0.0, every=4, window=3, rule=Secant())
    oracle = AveragedModel(model)
    _train(model, _sgd(model), loss, 12, follower, oracle)
    target = oracle.module.weight.detach()
    assert follower.choose(lambda m: (m.weight - target).abs().max()).loss < 1e-15


@DTYPES
@pytest.mark.parametrize("average", [1, 2, None])
def test_forecast_of_a_linear_iteration_finds_its_limit(dtype, average):
    model, loss, solution = _regression(dtype)
    follower = ForecastModel(
        model, loss, every=2, window=10, average=average, rule=Dynamics(), horizons=[20, 20_000]
    )
    _train(model, torch.optim.SGD(model.parameters(), lr=0.2), loss, 20, follower)
    selection = follower.choose()
    assert (selection.name, selection.horizon) == (repr(Dynamics()), 20_000)
    error = (follower.module.weight - solution).abs().max()
    assert error < (1e-6 if dtype == torch.float64 else 3e-3)
    assert error < 0.1 * (model.weight - solution).abs().max()


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("fitted", [False, True])
def test_choice_is_never_worse_than_the_present_weights(vector, fitted):
    model, loss, kept_aside, _ = _noisy_problem()
    trial_loss = kept_aside if vector else lambda m: kept_aside(m).mean()
    follower = ForecastModel(
        model, trial_loss, every=3, window=5, fit_loss=kept_aside if fitted else None
    )
    optimizer = _sgd(model)
    for _ in range(6):
        _train(model, optimizer, loss, 10, follower)
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
    model, loss, _ = _regression()
    follower = ForecastModel(model, lambda m: 1.0, every=1, window=3)
    _train(model, _sgd(model), loss, 5, follower)
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
        snapshots.append(_weights(model).double().numpy())
    selection = follower.choose()
    last, d = snapshots[-1], np.stack([s - snapshots[-1] for s in snapshots[:-1]], axis=1)
    t, w = (torch.cat([v.flatten() for v in vs]).double().numpy() for vs in (target, scales))
    z = np.linalg.solve(d.T @ (w[:, None] * d), d.T @ (w * (t - last)))
    best = last + d @ z
    assert selection.name == "fitted"
    assert selection.fit_evaluations > 1
    assert selection.loss == pytest.approx(float((w * (best - t) ** 2).sum()), rel=1e-5)
    tolerance = 1e-5 if dtype == torch.float64 else 3e-3
    assert np.abs(_weights(follower).double().numpy() - best).max() < tolerance


@pytest.mark.parametrize("options", [{}, {"average": 1}, {"partition": "node"}, {"storage": "cpu"}])
@pytest.mark.parametrize("steps", [0, 5, 17])
def test_state_round_trip_goes_on_with_the_same_bits(options, steps):
    def made(model):
        return ForecastModel(model, kept_aside, every=3, window=4, fit_loss=kept_aside, **options)

    model, loss, kept_aside, _ = _noisy_problem()
    optimizer, follower = _sgd(model), made(model)
    _train(model, optimizer, loss, steps, follower)
    if steps == 17:
        follower.choose()
    file = io.BytesIO()
    torch.save(follower.state_dict(), file)
    file.seek(0)
    resumed = made(_noisy_problem()[0])
    resumed.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(follower)
    assert _identical(resumed.state_dict(), follower.state_dict())
    _train(model, optimizer, loss, 20, follower, resumed, copied)
    tables = [one.choose().table for one in (follower, resumed, copied)]
    assert len(tables[0]) > 5
    assert _identical(*[[(c.name, c.horizon, c.loss) for c in t] for t in tables[:2]])
    assert _identical(*[[(c.name, c.horizon, c.loss) for c in t] for t in tables[1:]])
    assert _identical(follower.state_dict(), resumed.state_dict())
    assert _identical(follower.state_dict(), copied.state_dict())


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"every": 7}, "every 5, this one 7"),
        ({"averages": ()}, r"averages \[0.9, 0.98\], this one \[\]"),
        ({"window": 4}, "capacity"),
        ({"partition": {"weight": "network", "bias": "exclude"}}, "names"),
    ],
)
def test_state_of_another_make_is_refused(other, text):
    model = nn.Linear(2, 1)
    state = ForecastModel(model, lambda m: 0.0, every=5).state_dict()
    with pytest.raises(ValueError, match=text):
        ForecastModel(model, lambda m: 0.0, **{"every": 5, **other}).load_state_dict(state)
    state["_extra_state"]["format"] = 99
    with pytest.raises(ValueError, match="format 99; this version reads 1"):
        ForecastModel(model, lambda m: 0.0, every=5).load_state_dict(state)


def test_buffers_are_those_of_the_model_and_update_bn_works():
    model, loss, kept_aside, x = _noisy_problem()
    follower = ForecastModel(model, kept_aside, every=2, window=4)
    _train(model, _sgd(model), loss, 20, follower)
    assert follower.choose().name != "current"
    assert all(map(torch.equal, follower.module.buffers(), model.buffers()))
    loader = torch.utils.data.DataLoader(x[:64], batch_size=16)
    update_bn(loader, follower)
    activations = follower.module[0](x[:64]).detach()
    assert torch.allclose(follower.module[1].running_mean, activations.mean(0), atol=1e-5)
    again = follower.choose()  # from the model's buffers, not from those of the choice before
    assert again.loss_current == follower.choose().loss_current
    assert all(map(torch.equal, follower.module.buffers(), model.buffers()))


def test_use_buffers_averages_them_like_averaged_model():
    model, loss, kept_aside, _ = _noisy_problem()
    follower = ForecastModel(model, kept_aside, averages=(0.9,), use_buffers=True)
    oracle = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    _train(model, _sgd(model), loss, 25, follower, oracle)
    target = _weights(oracle.module)
    selection = follower.choose(lambda m: (_weights(m) - target).abs().max())
    assert (selection.name, selection.loss) == ("EMA 0.9", 0.0)
    for name in ("0.weight", "1.running_mean", "1.running_var", "4.bias"):
        assert torch.equal(follower.module.state_dict()[name], oracle.module.state_dict()[name])
    assert torch.equal(follower.module[1].num_batches_tracked, model[1].num_batches_tracked)


def test_use_buffers_fills_the_window_with_them():
    model, loss, kept_aside, _ = _noisy_problem()
    follower = ForecastModel(
        model, kept_aside, every=2, window=5, use_buffers=True, fit_loss=kept_aside
    )
    _train(model, _sgd(model), loss, 12, follower)
    before = [b.clone() for b in model.buffers()]
    names = {c.name for c in follower.choose().table}
    assert {"current", "EMA 0.9", "fitted", repr(UniformAverage()), repr(Polynomial(1))} <= names
    assert all(map(torch.equal, model.buffers(), before))


def test_tied_weights_stay_tied():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    x = torch.randn(10, 3)

    def loss(m):
        return (m(x) - x).square().mean()

    follower = ForecastModel(model, loss, every=1, window=4, fit_loss=loss)
    _train(model, _sgd(model), loss, 10, follower)
    selection = follower.choose()
    assert selection.name != "current"
    assert follower.module[1].weight is follower.module[0].weight
    assert loss(follower).item() == pytest.approx(selection.loss)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_averaged_in_float32(dtype):
    model = nn.Linear(2, 1).to(dtype)
    start = model.weight.detach().float()
    follower = ForecastModel(model, lambda m: 0.0, averages=(0.999,), every=2, window=3)
    follower.update_parameters(model)
    with torch.no_grad():
        model.weight.add_(1.0)
    for _ in range(1000):
        follower.update_parameters(model)
    selection = follower.choose(lambda m: (m.weight - (start + 1 - 0.999**1000)).abs().max())
    assert selection.name == "EMA 0.999"
    assert follower.module.weight.dtype == dtype
    assert follower.module.weight.data_ptr() != model.weight.data_ptr()


def test_frozen_and_excluded_parameters_are_the_present_ones():
    model, loss, kept_aside, _ = _noisy_problem()
    model[0].weight.requires_grad_(False)
    follower = ForecastModel(model, kept_aside, every=1, window=4, partition={r"^4\.": "exclude"})
    _train(model, _sgd(model), loss, 12, follower)
    assert follower.choose(_away_from(_weights(model))).name != "current"
    assert torch.equal(follower.module[0].weight, model[0].weight)
    assert torch.equal(follower.module[4].weight, model[4].weight)
    assert not torch.equal(follower.module[1].weight, model[1].weight)


def test_compiled_and_parallel_wrappers_are_looked_through():
    model = nn.Linear(2, 1)
    compiled = torch.compile(model, backend="eager")
    follower = ForecastModel(compiled, lambda m: 0.0)
    follower.update_parameters(compiled)
    follower.update_parameters(nn.DataParallel(model))
    assert type(follower.module) is nn.Linear
    assert set(follower.state_dict()) == {"_extra_state", "module.weight", "module.bias"}


def test_snapshot_that_is_not_finite_is_left_out_with_one_message(caplog):
    model, loss, _ = _regression()
    follower = ForecastModel(model, loss, every=2, window=3, averages=(0.5,), rule=Secant())
    optimizer = _sgd(model)
    _train(model, optimizer, loss, 6, follower)
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
    model, loss, kept_aside, _ = _noisy_problem()
    follower = ForecastModel(model, kept_aside, every=1, window=4)
    _train(model, _sgd(model), loss, 8, follower)
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
    assert _identical(before, follower.module.state_dict())


@pytest.mark.parametrize(
    ("fit_loss", "text"),
    [
        (lambda m: 1.0, "fit_loss must return a tensor that depends on the parameters, got 1.0"),
        (lambda m: m.nothing, "fit_loss raised AttributeError"),
        (lambda m: m.weight.sum() * math.nan, ""),
    ],
)
def test_failing_fit_only_loses(fit_loss, text, caplog):
    model, loss, _ = _regression()
    follower = ForecastModel(model, loss, every=1, window=4, fit_loss=fit_loss)
    _train(model, _sgd(model, lr=0.01), loss, 8, follower)
    with caplog.at_level(logging.WARNING, "koopcore"):
        selection = follower.choose()
    assert selection.name not in ("", "current", "fitted")
    assert [c.name for c in selection.table if math.isnan(c.loss)] == ["fitted"]
    assert text in caplog.text


def test_rule_that_fails_only_loses(caplog):
    class Bad:
        def coefficients(self, gram, horizon):
            raise ValueError("no coefficients today")

    model, loss, _ = _regression()
    follower = ForecastModel(
        model, loss, every=1, window=4, rule=[Bad(), Secant()], averages=(UniformAverage(last=9),)
    )
    _train(model, _sgd(model, lr=0.01), loss, 8, follower)
    with caplog.at_level(logging.WARNING, "koopcore"):
        for _ in range(2):
            assert follower.choose().name == repr(Secant())
    assert len(caplog.records) == 2
    assert "no coefficients today" in caplog.text


def test_other_parameters_start_afresh_with_one_message(caplog):
    model, loss, kept_aside, _ = _noisy_problem()
    follower = ForecastModel(model, kept_aside, every=1, window=4)
    _train(model, _sgd(model), loss, 6, follower)
    with caplog.at_level(logging.WARNING, "koopcore"):
        model[0].requires_grad_(False)
        follower.update_parameters(model)
        model[4] = nn.Linear(8, 1, bias=False)
        follower.update_parameters(model)
    assert len(caplog.records) == 1
    assert "start afresh" in caplog.text
    assert follower.steps == 1
    assert follower.choose().name == "current"
    assert _identical(follower.module.state_dict(), model.state_dict())


def test_choose_of_a_converted_module_is_refused():
    model = nn.Linear(2, 1)
    follower = ForecastModel(model, lambda m: 0.0)
    assert follower.choose().name == "current"
    follower.double()
    with pytest.raises(RuntimeError, match="moved or converted since the last update"):
        follower.choose()
    follower.update_parameters(model.double())
    assert follower.choose().name == "current"


def test_memory_is_known_at_construction():
    model = nn.Linear(10, 10, bias=False)
    follower = ForecastModel(model, lambda m: 0.0, average=1, averages=(0.9,))
    assert follower.nbytes == 400 * 3 + follower._follower.window.nbytes
    known = follower.nbytes
    for _ in range(330):
        follower.update_parameters(model)
    assert follower.nbytes == known


def test_selection_prints_its_table():
    model, loss, _ = _regression()
    follower = ForecastModel(model, loss, every=1, window=4)
    _train(model, _sgd(model, lr=0.01), loss, 8, follower)
    lines = str(follower.choose()).splitlines()
    assert lines[0].startswith("step 8: lowest trial loss")
    assert [line[0] for line in lines[1:]].count("*") == 1


def test_loss_that_is_a_module_is_no_part_of_the_model():
    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, m):
            return (self.scale * m.weight).sum()

    follower = ForecastModel(nn.Linear(2, 1), Loss(), fit_loss=Loss())
    assert set(dict(follower.named_parameters())) == {"module.weight", "module.bias"}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"model": "net"}, TypeError, "model must be a torch.nn.Module, got str"),
        ({"model": nn.LazyLinear(1)}, ValueError, "'weight' has no shape yet"),
        ({"model": nn.ReLU()}, ValueError, "model has no trainable parameters"),
        ({"trial_loss": 1.0}, TypeError, "trial_loss must be a function of the model, got float"),
        ({"fit_loss": 1.0}, TypeError, "fit_loss must be a function of the model, got float"),
        ({"window": 2}, ValueError, "window must be at least 3, got 2"),
        ({"every": 0}, ValueError, "every must be at least 1, got 0"),
        ({"every": 2, "average": 3}, ValueError, "average=3 iterates cannot lie between"),
        ({"fitted_steps": 0}, ValueError, "fitted_steps must be at least 1, got 0"),
        ({"horizons": [2, 1]}, ValueError, "horizons must increase, got 2 before 1"),
        ({"averages": 0.9}, TypeError, "averages must be a sequence of decays and rules, got 0.9"),
        ({"averages": [1.0]}, ValueError, r"averages must be in \[0, 1\), got 1.0"),
        ({"averages": ["x"]}, TypeError, "averages must be a number, got 'x'"),
        ({"rule": 3}, TypeError, "rule must be one of koopcore.rules"),
        ({"partition": "unit"}, ValueError, "partition='unit' is not known"),
        ({"storage": torch.float16}, ValueError, "storage=torch.float16 is not offered"),
    ],
)
def test_bad_argument_is_named(options, error, text):
    arguments = {"model": nn.Linear(2, 1), "trial_loss": lambda m: 0.0} | options
    with pytest.raises(error, match=text):
        ForecastModel(**arguments)


def test_bad_loss_of_a_choice_is_named():
    with pytest.raises(TypeError, match="trial_loss must be a function of the model, got int"):
        ForecastModel(nn.Linear(2, 1), lambda m: 0.0).choose(3)


def test_goes_together_with_an_accelerator():
    model, loss, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    follower = ForecastModel(model, loss, every=2, window=4)
    with KoopmanAccelerator(model, optimizer, trial_loss=loss, max_overhead=None) as accelerator:
        _train(model, optimizer, loss, 120, follower)
    assert accelerator.stats.attempts
    selection = follower.choose()
    assert selection.loss <= selection.loss_current
