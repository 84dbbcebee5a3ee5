"""The accelerator as a guest in a training loop: what real PyTorch does around it.

Schedulers, gradient scalers, distributed checkpoints, copies, autograd, layers with state, shared
and half-precision weights, closures and accumulated gradients.
"""

import copy
import io
import math
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.distributed.checkpoint as dcp  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict  # noqa: E402
from training_runs import differs, everything, regression, train  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402


def _accelerated(model, optimizer, loss, **options):
    options = {"window": 4, "every": 1, "max_overhead": None} | options
    return KoopmanAccelerator(model, optimizer, trial_loss=loss, **options)


def _jumping(hidden=3, dtype=torch.float64, lr=0.1, **options):
    """A run that jumps whenever its window is full."""
    model, loss = regression(dtype, hidden)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return model, optimizer, loss, _accelerated(model, optimizer, loss, **options)


def test_schedulers_never_notice_that_the_accelerator_comes_and_goes():
    def run(with_accelerator):
        model, loss = regression(hidden=3)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        schedulers = [
            torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=40),
            torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
        ]
        # A loss that falls with every call refuses all jumps, so that both runs are the same.
        calls = []
        accelerator = _accelerated(model, optimizer, lambda m: calls.append(1) or len(calls))
        rates = []
        for epoch in range(4):
            if with_accelerator and epoch != 1:
                accelerator.attach()
            for _ in range(8):
                train(model, optimizer, loss, 1)
                schedulers[0].step()
                schedulers[1].step(loss(model).item())
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            accelerator.detach()
        return rates, everything(model, optimizer), accelerator.stats

    (bare, a, _), (accelerated, b, stats) = run(False), run(True)
    assert bare == accelerated
    assert not differs(a, b)
    assert stats.steps == 24
    assert stats.attempts > 2


@pytest.mark.parametrize("fused", [True, False])
def test_steps_skipped_by_a_gradient_scaler_are_no_snapshots(fused):
    model, loss = regression()
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    accelerator = _accelerated(model, optimizer, loss, window=10)
    recorded = []
    with accelerator:
        for factor in (1.0, math.inf, 1.0, math.nan, 1.0):
            optimizer.zero_grad()
            scaler.scale(loss(model) * factor).backward()
            scaler.step(optimizer)
            scaler.update()
            recorded.append(accelerator.stats.snapshots)
    assert recorded == [1, 1, 2, 2, 3]
    assert accelerator.stats.steps == 3


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adagrad"])
def test_distributed_checkpoint_of_a_fresh_optimizer_is_no_step(name):
    model, loss = regression()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1)
    with _accelerated(model, optimizer, loss) as accelerator:
        before = copy.deepcopy(model.state_dict())
        get_state_dict(model, optimizer)
        assert not differs(before, model.state_dict())
        assert (accelerator.stats.steps, accelerator.stats.snapshots) == (0, 0)
        train(model, optimizer, loss, 2)
        assert accelerator.stats.snapshots == 2


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("partition", ["network", "node"])
def test_state_goes_through_distributed_checkpoints(tmp_path, partition):
    def fresh():
        model, loss = regression(hidden=3)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        options = {"state": "carry", "every": 2, "average": 2, "partition": partition}
        return model, optimizer, loss, _accelerated(model, optimizer, loss, **options)

    model, optimizer, loss, accelerator = fresh()
    with accelerator:
        train(model, optimizer, loss, 13)  # after an attempt, in the middle of a window
        weights, moments = get_state_dict(model, optimizer)
        state = {"model": weights, "optimizer": moments, "accelerator": accelerator}
        dcp.save(state, checkpoint_id=tmp_path / "saved", no_dist=True)
        train(model, optimizer, loss, 12)
    expected = everything(model, optimizer)
    assert len(accelerator.history) == 3

    model, optimizer, loss, again = fresh()
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "accelerator": again}
    dcp.load(state, checkpoint_id=tmp_path / "saved", no_dist=True)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
    )
    with again:
        train(model, optimizer, loss, 12)
    assert not differs(expected, everything(model, optimizer))
    assert [j.step for j in again.history] == [j.step for j in accelerator.history]


class _Loss:
    """A loss that can be pickled."""

    def __init__(self, dtype):
        self.x = torch.linspace(-1.0, 1.0, 20, dtype=dtype).reshape(5, 4)

    def __call__(self, model):
        return (model(self.x) - self.x.sum(1, keepdim=True)).square().mean()


def _pickled(run):
    return pickle.loads(pickle.dumps(run))


@pytest.mark.parametrize("copied", [copy.deepcopy, _pickled])
@pytest.mark.parametrize("options", [{"state": "carry"}, {"ema": 0.9}, {"observe": "gradients"}])
def test_a_copy_of_a_run_goes_on_by_itself_with_the_same_bits(copied, options):
    model, _ = regression(hidden=3)
    loss = _Loss(torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    accelerator = _accelerated(model, optimizer, loss, **options).attach()
    train(model, optimizer, loss, 6)
    twin = copied((model, optimizer, accelerator))
    assert len(optimizer._optimizer_step_post_hooks) == 1
    assert len(twin[1]._optimizer_step_post_hooks) == 1
    train(*twin[:2], loss, 6)
    assert accelerator.stats.steps == 6
    train(model, optimizer, loss, 6)
    assert not differs(everything(model, optimizer), everything(*twin[:2]))
    assert twin[2].stats.attempts == accelerator.stats.attempts > 1
    assert accelerator.stats.taken > 0
    twin[2].detach()
    with pytest.raises(RuntimeError, match="attached already"):
        accelerator.attach()


def test_a_detached_accelerator_is_copied_detached():
    model, optimizer, _, accelerator = _jumping()
    _, other, twin = copy.deepcopy((model, optimizer, accelerator))
    assert not other._optimizer_step_post_hooks
    twin.attach()
    assert other._optimizer_step_post_hooks


def test_jumps_write_in_place():
    model, optimizer, loss, accelerator = _jumping()
    before = [(id(p), p.data_ptr(), p.grad is None) for p in model.parameters()]
    with accelerator:
        train(model, optimizer, loss, 4)
    assert accelerator.stats.taken == 1
    after = [(id(p), p.data_ptr(), p.grad is not None) for p in model.parameters()]
    assert before == after


def test_autograd_notices_a_jump_between_forward_and_backward():
    model, optimizer, loss, accelerator = _jumping()
    accelerator.attach()
    train(model, optimizer, loss, 3)
    optimizer.zero_grad()
    loss(model).backward()
    pending = loss(model)
    optimizer.step()
    assert accelerator.stats.taken == 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        pending.backward()


def test_nothing_of_the_accelerator_is_in_the_optimizer_state():
    for state in ("keep", "reset", "carry"):
        model, loss = regression(torch.float32, hidden=3)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        with _accelerated(model, optimizer, loss, state=state) as accelerator:
            train(model, optimizer, loss, 6)
        assert accelerator.stats.taken >= 1
        for entries in optimizer.state.values():
            assert set(entries) == {"step", "exp_avg", "exp_avg_sq"}
            assert {t.dtype for t in entries.values()} == {torch.float32}
        before = everything(model, optimizer)
        optimizer.load_state_dict(optimizer.state_dict())
        assert not differs(before, everything(model, optimizer))


def test_dropout_draws_the_same_mask_in_all_trials_and_leaves_the_generator_alone():
    model = nn.Sequential(nn.Linear(4, 1), nn.Dropout())
    x, ones = torch.randn(16, 4), torch.ones(64, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masks, generator = [], []

    def loss(m):
        return m(x).square().mean()

    def trial(m):
        generator.append(torch.get_rng_state())
        masks.append(m[1](ones))
        return loss(m)

    with _accelerated(model, optimizer, trial):
        train(model, optimizer, loss, 4)
    assert len(masks) >= 3
    assert all(torch.equal(masks[0], m) for m in masks)
    assert 0 < int(masks[0].count_nonzero()) < 64
    assert torch.equal(generator[0], torch.get_rng_state())


def test_tied_weights_jump_once_and_stay_tied():
    torch.manual_seed(0)
    embedding = nn.Embedding(12, 4)
    head = nn.Linear(4, 12, bias=False)
    head.weight = embedding.weight
    model = nn.Sequential(embedding, nn.Linear(4, 4), head)
    tokens = torch.arange(12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def loss(m):
        return nn.functional.cross_entropy(m(tokens), tokens.roll(1))

    with _accelerated(model, optimizer, loss) as accelerator:
        train(model, optimizer, loss, 4)
        assert accelerator.state_dict()["engine"]["names"] == ["0.weight", "1.weight", "1.bias"]
    assert accelerator.stats.taken == 1
    assert model[2].weight is model[0].weight
    assert loss(model).item() == pytest.approx(accelerator.history[0].loss_after)


class _Counting(nn.Module):
    """Counts its calls in an integer buffer, replaces another one, and has a boolean mask."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(1), persistent=False)
        self.register_buffer("mask", torch.ones(4, dtype=torch.bool))

    def forward(self, x):
        self.calls += 1
        self.last = x.mean().reshape(1)
        return self.linear(x * self.mask)


def test_buffers_are_never_fitted_and_trials_do_not_move_them():
    model = _Counting()
    x = torch.randn(16, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss(m):
        return (m(x) - 1.0).square().mean()

    with _accelerated(model, optimizer, lambda m: m(2 * x).square().mean()) as accelerator:
        train(model, optimizer, loss, 12)
    assert accelerator.stats.trials >= 6
    assert int(model.calls) == 12
    assert torch.equal(model.last, x.mean().reshape(1))


def test_float32_masters_of_bfloat16_weights_jump_with_them():
    model = nn.Linear(4, 1).bfloat16()
    masters = [p.detach().float().requires_grad_() for p in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.1)
    x, y = torch.randn(32, 4).bfloat16(), torch.ones(32, 1).bfloat16()

    def loss(m):
        return nn.functional.mse_loss(m(x), y).float()

    with _accelerated(model, optimizer, loss) as accelerator:
        for step in range(4):
            model.zero_grad()
            loss(model).backward()
            for master, p in zip(masters, model.parameters(), strict=True):
                master.grad = p.grad.float()
            if step == 3:
                before = [master.detach().clone() for master in masters]
            optimizer.step()
            if step < 3:
                with torch.no_grad():
                    torch._foreach_copy_(list(model.parameters()), masters)
    assert accelerator.stats.taken == 1
    for master, p, old in zip(masters, model.parameters(), before, strict=True):
        assert p.dtype == torch.bfloat16
        assert torch.equal(p, master.bfloat16())
        assert (master - old).abs().max() > 1e-3
        assert not torch.equal(master, p.float())  # the masters have more digits than the model


def test_lbfgs_counts_steps_not_closures_and_forgets_its_curvature_at_a_jump():
    model, loss = regression(torch.float64, hidden=3)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    evaluations = []

    def closure():
        evaluations.append(1)
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        return value

    with _accelerated(model, optimizer, loss, state="keep") as accelerator:
        for _ in range(4):
            assert accelerator.stats.taken == 0
            optimizer.step(closure)
        assert accelerator.stats.steps == 4 < len(evaluations)
        assert accelerator.stats.taken == 1
        assert not optimizer.state
        optimizer.step(closure)
        assert optimizer.state


def test_accumulated_gradients_count_as_one_step():
    model, optimizer, loss, accelerator = _jumping(window=10)
    with accelerator:
        for micro in range(12):
            (loss(model) / 4).backward()
            if micro % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    assert (accelerator.stats.steps, accelerator.stats.snapshots) == (3, 3)


def test_a_window_with_nan_never_reaches_a_decomposition(monkeypatch, caplog):
    fitted = []
    monkeypatch.setattr("koopcore.torch.forecasts._fit", lambda *a: fitted.append(a))
    model, optimizer, loss, accelerator = _jumping()
    with accelerator:
        train(model, optimizer, loss, 2)
        kept = model[0].weight.detach().clone()
        with torch.no_grad():
            model[0].weight[0, 0] = math.nan
        train(model, optimizer, loss, 2)
        assert accelerator.stats.snapshots == 2
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.ones_like(p))
            model[0].weight.copy_(kept)
        window = accelerator._engine.forecaster.window
        monkeypatch.setattr(window, "grams", lambda: np.full((1, 4, 4), np.nan))
        train(model, optimizer, loss, 4)
    assert not fitted
    assert [jump.taken for jump in accelerator.history] == [False]
    assert "Gram matrix of the window is not finite" in accelerator.history[0].reason
    assert "'0.weight' has" in caplog.text


def test_parameters_have_the_order_of_the_model_whatever_that_of_the_optimizer():
    model, loss = regression(hidden=3)
    names = [name for name, _ in model.named_parameters()]
    groups = [{"params": [p]} for p in reversed(list(model.parameters()))]
    accelerator = _accelerated(model, torch.optim.SGD(groups, lr=0.1), loss)
    assert accelerator.state_dict()["engine"]["names"] == names


def test_state_is_of_tensors_numbers_and_strings_only():
    model, optimizer, loss, accelerator = _jumping(every=2, average=2, partition="node")
    with accelerator:
        train(model, optimizer, loss, 11)
        file = io.BytesIO()
        torch.save(accelerator.state_dict(), file)
    file.seek(0)
    assert not differs(torch.load(file, weights_only=True)["history"]["step"], [8])
