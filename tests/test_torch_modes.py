"""Modes for evaluation, several rules in one attempt, growing windows, presets, the plot."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn  # noqa: E402

from koopcore.rules import Dynamics, Polynomial, Secant, UniformAverage  # noqa: E402
from koopcore.torch import KoopmanAccelerator  # noqa: E402


def _problem(noise=0.0):
    torch.manual_seed(0)
    x = torch.randn(64, 5)
    y = x @ torch.randn(5, 1)
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)

    def loss(m):
        return nn.functional.mse_loss(m(x), y)

    rng = torch.Generator().manual_seed(1)

    def noisy(m):
        return nn.functional.mse_loss(m(x), y + noise * torch.randn(64, 1, generator=rng))

    return model, optimizer, loss, noisy


def _train(model, optimizer, loss, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def _weights(model):
    return [p.detach().clone() for p in model.parameters()]


def test_mode_evaluate_leaves_training_alone_and_moves_the_average():
    model, optimizer, loss, _ = _problem()
    _train(model, optimizer, loss, 60)
    bare = _weights(model)
    model, optimizer, loss, _ = _problem()
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, mode="evaluate", every=2, max_overhead=None
    ) as acc:
        _train(model, optimizer, loss, 19)
        lagging = loss(acc.averaged.module).item()
        _train(model, optimizer, loss, 1)
        assert loss(acc.averaged.module).item() < 0.1 * lagging
        _train(model, optimizer, loss, 40)
    assert all(torch.equal(a, b) for a, b in zip(_weights(model), bare, strict=True))
    assert acc.jumps[0].reason == "for evaluation: the forecast lowers the trial loss"


def test_average_without_a_jump_is_torchs_own():
    model, optimizer, loss, _ = _problem()
    twin = copy.deepcopy(model)
    expected = AveragedModel(twin, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    with KoopmanAccelerator(model, optimizer, trial_loss=loss, ema=0.9) as acc:
        for _ in range(12):
            _train(model, optimizer, loss, 1)
            expected.update_parameters(model)
    pairs = zip(expected.module.parameters(), acc.averaged.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_average_starts_anew_at_a_jump():
    model, optimizer, loss, _ = _problem()
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, ema=0.99, every=2, max_overhead=None
    ) as acc:
        _train(model, optimizer, loss, 20)
    assert acc.history[0].taken
    pairs = zip(model.parameters(), acc.averaged.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_mode_auto_stops_jumping_when_jumps_do_harm():
    model, optimizer, loss, _ = _problem()
    calls = []

    def treacherous(m):
        """Every forecast looks better than all before, every present state worse."""
        calls.append(m)
        first = not calls[:-1] or calls[-2] is None
        return float(len(calls)) if first else -float(len(calls))

    def attempt_ends(fields, step):
        calls.append(None)

    with KoopmanAccelerator(
        model,
        optimizer,
        trial_loss=treacherous,
        mode="auto",
        window=3,
        every=1,
        horizons=[3],
        max_overhead=None,
        log_fn=attempt_ends,
    ) as acc:
        _train(model, optimizer, loss, 60)
    reasons = [jump.reason for jump in acc.history]
    jumped = [reason == "the forecast lowers the trial loss" for reason in reasons]
    assert jumped[0]
    assert not any(jumped[4:])


def test_without_ema_there_is_no_average():
    model, optimizer, loss, _ = _problem()
    assert KoopmanAccelerator(model, optimizer, trial_loss=loss).averaged is None


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"mode": "sleep"}, ValueError, "mode must be one of 'jump', 'evaluate', 'auto'"),
        ({"mode": "auto", "trial_loss": None}, ValueError, "mode='auto' needs a trial_loss"),
        ({"ema": 1.0}, ValueError, r"ema must be in \[0, 1\), got 1.0"),
        ({"select": "luck"}, ValueError, "select must be one of 'validation', 'trial'"),
        ({"select": "trial", "trial_loss": None}, ValueError, "select='trial' needs a trial_loss"),
        ({"growth": -1}, ValueError, "growth must be at least 0, got -1"),
        ({"rule": []}, ValueError, "rule is empty"),
        ({"rule": 3}, TypeError, "rule must be one of koopcore.rules, or several of them, got 3"),
        ({"average": 6}, ValueError, "average=6 iterates cannot lie between two snapshots every=5"),
        ({"average": 2, "decay": 0.5}, ValueError, "give either average=2 or decay=0.5"),
    ],
)
def test_bad_argument_is_named(options, error, text):
    model, optimizer, loss, _ = _problem()
    with pytest.raises(error, match=text):
        KoopmanAccelerator(model, optimizer, **{"trial_loss": loss} | options)


def test_every_rule_is_tried_and_the_best_taken():
    model, optimizer, loss, _ = _problem()
    rules = (UniformAverage(), Dynamics(), Secant())
    with KoopmanAccelerator(
        model,
        optimizer,
        trial_loss=loss,
        rule=rules,
        select="trial",
        every=2,
        horizons=[20],
        max_overhead=None,
    ) as acc:
        _train(model, optimizer, loss, 20)
    (jump,) = acc.history
    assert jump.trials == 4  # the present weights and one horizon of each rule
    assert jump.tried == (20, 20, 20)
    assert jump.loss_after == min(jump.losses)
    assert jump.rule == repr(rules[int(np.argmin(jump.losses))])


def test_cross_validation_takes_the_rule_that_forecasts_the_window_best():
    model, optimizer, loss, _ = _problem()
    rules = (UniformAverage(), Dynamics(), Secant())
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, rule=rules, every=2, max_overhead=None
    ) as acc:
        _train(model, optimizer, loss, 20)
    assert acc.history[0].rule == "Dynamics()"


def test_cross_validation_says_no_where_averages_are_all_there_is():
    model, optimizer, loss, _ = _problem()
    calls = []

    def counted(m):
        calls.append(m)
        return loss(m)

    with KoopmanAccelerator(
        model,
        optimizer,
        trial_loss=counted,
        rule=(UniformAverage(), UniformAverage(last=5)),
        every=2,
        max_overhead=None,
    ) as acc:
        _train(model, optimizer, loss, 20)
    assert acc.history[0].reason == "no rule is worth a trial"
    assert not calls


def test_windows_grow_with_the_run_and_attempts_become_rare():
    model, optimizer, loss, noisy = _problem(noise=1.0)
    with KoopmanAccelerator(
        model,
        optimizer,
        trial_loss=loss,
        rule=Polynomial(1),
        every=4,
        average=4,
        growth=1.0,
        max_overhead=None,
    ) as acc:
        _train(model, optimizer, noisy, 700)
    assert [jump.step for jump in acc.history] == [40, 80, 160, 320, 640]


def test_line_through_the_last_snapshots_ignores_those_before():
    gram = np.eye(6)
    half = Polynomial(1, last=3).coefficients(gram, 2.0)
    assert half[:3].tolist() == [0.0, 0.0, 0.0]
    assert half[3:] == pytest.approx(Polynomial(1).coefficients(np.eye(3), 2.0))
    with pytest.raises(ValueError, match="last=1 must be an int of at least 2"):
        Polynomial(1, last=1)


@pytest.mark.parametrize("preset", ["full_batch", "mini_batch", "averaging_only"])
def test_presets_lower_the_loss_of_a_small_problem(preset):
    ends = {}
    for accelerated in (False, True):
        model, optimizer, loss, noisy = _problem(noise=0.0 if preset == "full_batch" else 0.5)
        if not accelerated:
            _train(model, optimizer, noisy, 300)
            ends["bare"] = loss(model).item()
            continue
        make = getattr(KoopmanAccelerator, preset)
        with make(model, optimizer, loss, trial_cost=1 / 3) as acc:
            _train(model, optimizer, noisy, 300)
        evaluated = model if acc.averaged is None else acc.averaged.module
        ends["koopcore"] = loss(evaluated).item()
        assert acc.stats.taken > 0
    assert ends["koopcore"] < ends["bare"]


def test_options_replace_those_of_a_preset():
    model, optimizer, loss, _ = _problem()
    acc = KoopmanAccelerator.mini_batch(model, optimizer, loss, every=20, ema=None)
    assert acc._engine.every == 20
    assert acc.averaged is None


def test_plot_shows_losses_and_spectrum():
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    model, optimizer, loss, _ = _problem()
    with KoopmanAccelerator(model, optimizer, trial_loss=loss, every=2, max_overhead=None) as acc:
        _train(model, optimizer, loss, 60)
    figure = acc.plot([20, 40, 60], [1.0, 0.5, 0.1])
    assert len(figure.axes) >= 2
    pyplot.close(figure)
