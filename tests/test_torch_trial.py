"""A trial sees the forecast and leaves the model alone; the ladder finds the best horizon."""

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from koopcore.torch.trial import (  # noqa: E402
    RefusedJump,
    Trial,
    choose_horizon,
    default_horizons,
)


def _trial(model, loss):
    trial = Trial(model, dict(model.named_parameters()), loss)
    trial.load_current()
    return trial


def _noisy_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1))


def test_loss_sees_the_forecast_but_the_model_keeps_its_tensors():
    model = nn.Linear(2, 1)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    addresses = [p.data_ptr() for p in model.parameters()]
    trial = _trial(model, lambda m: m(torch.ones(1, 2)))
    for tensor in trial.tensors:
        tensor[:] = 1.0
    assert trial.loss() == 3.0
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert [p.data_ptr() for p in model.parameters()] == addresses


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_loss_recurrent_module_uses_the_forecast(kind):
    model, x = kind(3, 4), torch.ones(5, 2, 3)
    trial = _trial(model, lambda m: m(x)[0].abs().sum())
    assert trial.loss() == pytest.approx(model(x)[0].abs().sum().item())
    for tensor in trial.tensors:
        tensor[:] = 0.0
    assert trial.loss() == 0.0
    assert model(x)[0].abs().sum().item() > 0.0


def test_loss_tied_weight_is_replaced_in_both_places():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    trial = _trial(model, lambda m: m(torch.ones(1, 2)).sum())
    trial.tensors[0][:] = 1.0
    assert trial.loss() == 8.0
    assert model[1].weight is model[0].weight


def test_loss_restores_buffers_flags_and_random_numbers():
    model = _noisy_model()
    model[2].eval()
    x = torch.randn(8, 4)

    def loss(m):
        m[0].eval()
        m[2].train()
        return m(x).sum()

    trial = _trial(model, loss)
    buffers = [b.clone() for b in model.buffers()]
    generator = torch.get_rng_state()
    assert trial.loss() == trial.loss()
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
    assert torch.equal(torch.get_rng_state(), generator)
    assert [m.training for m in model] == [True, True, False, True]


def test_loss_differentiates_with_respect_to_inputs_even_under_no_grad():
    model = nn.Linear(1, 1)

    def loss(m):
        t = torch.ones(3, 1, requires_grad=True)
        (slope,) = torch.autograd.grad(m(t).sum(), t)
        assert not any(p.requires_grad for p in m.parameters())
        return slope.mean()

    with torch.no_grad():
        assert _trial(model, loss).loss() == pytest.approx(model.weight.item())


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5), torch.tensor([0.5]), 1])
def test_loss_accepts_any_real_scalar(value):
    assert _trial(nn.Linear(1, 1), lambda m: value).loss() == float(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.ones(4, 2), r"torch.float32 tensor of shape \(4, 2\)"),
        (torch.tensor(1j), "torch.complex64 tensor"),
        (None, "NoneType"),
        ("0.5", "str"),
    ],
)
def test_loss_not_scalar_is_refused(value, text):
    with pytest.raises(RefusedJump, match=f"must return a real scalar .* got .*{text}"):
        _trial(nn.Linear(1, 1), lambda m: value).loss()


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_loss_that_raises_leaves_the_model_as_it_was(error):
    model = _noisy_model()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(8, 4)

    def loss(m):
        m.eval()
        m[1].train()
        m(x)
        raise error

    expected = RefusedJump if isinstance(error, Exception) else KeyboardInterrupt
    trial = _trial(model, loss)
    trial.tensors[0][:] = 7.0
    with pytest.raises(expected):
        trial.loss()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(m.training for m in model.modules())


def test_commit_channels_last_keeps_addresses_and_layout():
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    strides, address = model.weight.stride(), model.weight.data_ptr()
    expected = model.weight.detach() * 2
    trial = _trial(model, lambda m: 0.0)
    for tensor in trial.tensors:
        tensor *= 2
    trial.commit()
    assert torch.equal(model.weight, expected)
    assert (model.weight.stride(), model.weight.data_ptr()) == (strides, address)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_is_finite_one_bad_entry_is_found(value):
    trial = _trial(nn.Linear(3, 2), lambda m: 0.0)
    assert trial.is_finite()
    trial.tensors[0].view(-1)[4] = value
    assert not trial.is_finite()


def _climb(losses, here=1.0):
    """Climb a ladder 1, 2, ... on which the forecast at h has the trial loss losses[h - 1]."""
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(here)
    trial = _trial(model, lambda m: m.weight.sum())
    tried = []

    def forecast(horizon):
        tried.append(horizon)
        trial.tensors[0][:] = losses[horizon - 1]

    return choose_horizon(trial, forecast, range(1, len(losses) + 1)), tried


@pytest.mark.parametrize(
    ("losses", "best", "tried"),
    [
        ([0.9, 0.5, 0.4], 3, 3),
        ([0.9, 0.5, 0.6, 0.7, 0.1], 2, 4),
        ([1.5, 0.8, 0.9, 0.7], 4, 4),
        ([1.5, 1.6, 0.1], 0, 2),
        ([1.0, 1.0, 1.0], 0, 2),
        ([0.9, 0.5, math.nan, 0.1], 2, 3),
        ([0.9, math.inf, 0.1], 1, 2),
    ],
)
def test_choose_horizon_takes_the_best_and_stops_after_two_rises(losses, best, tried):
    choice, seen = _climb(losses)
    assert choice.horizon == best
    assert len(seen) == tried
    assert choice.loss_before == 1.0
    assert choice.loss_best == min(x for x in losses[:tried] if math.isfinite(x))


def test_choose_horizon_first_forecast_not_finite_is_refused():
    with pytest.raises(RefusedJump, match="not finite at the first horizon, 1 steps"):
        _climb([math.nan, 0.1])


def test_choose_horizon_present_loss_not_finite_is_refused():
    with pytest.raises(RefusedJump, match="at the present weights is nan"):
        _climb([0.1], here=math.nan)


@pytest.mark.parametrize(("window", "every"), [(10, 5), (3, 1), (50, 1000)])
def test_default_horizons_double_from_one_window_to_25600(window, every):
    ladder = default_horizons(window, every)
    assert ladder[0] == window * every
    assert all(b == 2 * a for a, b in itertools.pairwise(ladder))
    assert ladder[-1] >= 25_600
