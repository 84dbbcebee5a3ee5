"""KoopmanAccelerator around real optimizers: planted spectra, refusals without a trace, errors."""

import copy
import logging
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402


def _regression(dtype=torch.float64):
    """Full-batch linear regression, its Hessian and its exact solution."""
    torch.manual_seed(1)
    x = torch.randn(40, 4, dtype=dtype) * torch.tensor([1.0, 0.8, 0.6, 0.4], dtype=dtype)
    y = torch.randn(40, 1, dtype=dtype)
    model = nn.Linear(4, 1, bias=False).to(dtype)
    hessian = 2 * x.T @ x / len(x)
    return model, lambda m: nn.functional.mse_loss(m(x), y), hessian, torch.linalg.lstsq(x, y)[0]


def _noisy_problem():
    """A model with BatchNorm and dropout, and a loss on a batch drawn by torch's generator."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 1)
    )
    x = torch.randn(64, 4)
    y = x.sum(1, keepdim=True)

    def loss(m):
        i = torch.randint(64, (16,))
        return nn.functional.mse_loss(m(x[i]), y[i])

    return model, loss


def _train(model, optimizer, loss, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def _everything(model, optimizer):
    return (
        copy.deepcopy(model.state_dict()),
        copy.deepcopy(optimizer.state_dict()),
        torch.get_rng_state(),
    )


def _assert_identical(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            _assert_identical(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _assert_identical(x, y)
    else:
        assert a == b


def test_window_of_gradient_descent_has_eigenvalues_of_the_hessian():
    model, loss, hessian, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    expected = 1 - 0.3 * torch.linalg.eigvalsh(hessian).numpy()
    seen = []

    def spy(m):
        seen.append(accelerator._engine.fit()[0].spectrum())
        return loss(m)

    with KoopmanAccelerator(
        model, optimizer, trial_loss=spy, max_overhead=None, window=6, every=1
    ) as accelerator:
        _train(model, optimizer, loss, 6)
    eigenvalues = np.sort_complex(seen[0])
    assert np.abs(eigenvalues - np.sort(expected)).max() < 1e-8


def test_jump_of_gradient_descent_lands_near_the_optimum():
    model, loss, _, solution = _regression()
    start = torch.linalg.norm(model.weight.detach().T - solution)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, max_overhead=None, window=6, every=1
    ) as accelerator:
        _train(model, optimizer, loss, 6)
    (jump,) = accelerator.history
    assert jump.taken
    assert jump.step == 6
    assert jump.loss_after < jump.loss_before
    assert loss(model).item() == pytest.approx(jump.loss_after, rel=1e-12)
    assert torch.linalg.norm(model.weight.detach().T - solution) < 1e-6 * start


def test_jump_goes_to_the_best_forecast_and_not_to_the_last_tried():
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scripted = iter([10.0, 5.0, 1.0, 3.0, 4.0])
    seen = []

    def script(m):
        seen.append(m.weight.detach().clone())
        return next(scripted)

    with KoopmanAccelerator(
        model,
        optimizer,
        trial_loss=script,
        max_overhead=None,
        window=4,
        every=1,
        horizons=[2, 4, 6, 8, 10],
    ) as accelerator:
        _train(model, optimizer, loss, 4)
    (jump,) = accelerator.history
    assert (jump.horizon, jump.loss_before, jump.loss_after, jump.trials) == (4, 10.0, 1.0, 5)
    assert torch.equal(model.weight, seen[2])
    assert not torch.equal(model.weight, seen[4])


@pytest.mark.parametrize("kind", ["worse", "raises", "nan", "matrix"])
def test_refused_jumps_leave_the_run_identical_to_the_bare_one(kind, caplog):
    model, loss = _noisy_problem()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    _train(model, optimizer, loss, 120)
    bare = _everything(model, optimizer)
    calls = []

    def refuse(m):
        calls.append(m)
        value = m.train()(torch.randn(16, 4)).detach().expand(16, 2)  # moves buffers, draws masks
        if kind == "raises":
            raise RuntimeError("boom")
        if kind == "matrix":
            return value
        return math.nan if kind == "nan" else len(calls)

    model, loss = _noisy_problem()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with (
        caplog.at_level(logging.WARNING, "koopcore"),
        KoopmanAccelerator(
            model, optimizer, trial_loss=refuse, max_overhead=None, window=4, every=3
        ) as accelerator,
    ):
        _train(model, optimizer, loss, 120)
    assert accelerator.stats.refused >= 3
    assert accelerator.stats.taken == 0
    assert accelerator.stats.trials == len(calls)
    assert all(jump.horizon == 0 and not jump.taken for jump in accelerator.history)
    _assert_identical(_everything(model, optimizer), bare)
    assert len(caplog.records) == (0 if kind == "worse" else 1)


def test_taken_jump_keeps_addresses_and_optimizer_state_and_warns_of_batch_norm_once(caplog):
    model, loss = _noisy_problem()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    addresses = [p.data_ptr() for p in model.parameters()]
    calls = []

    def improve(m):
        calls.append(m)
        return -len(calls)

    with KoopmanAccelerator(
        model, optimizer, trial_loss=improve, max_overhead=None, window=4, every=3, horizons=[12]
    ) as accelerator:
        _train(model, optimizer, loss, 11)
        loss(model).backward()
        before = copy.deepcopy(model.state_dict())
        optimizer.step()
        assert accelerator.stats.taken == 1
        _train(model, optimizer, loss, 12)
    assert accelerator.stats.taken == 2
    assert not torch.equal(before["0.weight"], model[0].weight)
    assert [p.data_ptr() for p in model.parameters()] == addresses
    assert {float(state["step"]) for state in optimizer.state.values()} == {24.0}
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "running statistics of '1'" in warnings[0]
    assert "torch.optim.swa_utils.update_bn" in warnings[0]


def test_keyboard_interrupt_in_a_trial_passes_and_leaves_the_weights():
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bare = copy.deepcopy(model)
    _train(bare, torch.optim.SGD(bare.parameters(), lr=0.1), loss, 3)

    def interrupt(m):
        raise KeyboardInterrupt

    def run():
        with KoopmanAccelerator(
            model, optimizer, trial_loss=interrupt, max_overhead=None, window=3, every=1
        ):
            _train(model, optimizer, loss, 4)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert torch.equal(model.weight, bare.weight)
    assert not optimizer._optimizer_step_post_hooks


def test_non_finite_weights_are_logged_once_and_training_goes_on(caplog):
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, max_overhead=None, window=3, every=1
    ) as accelerator:
        with torch.no_grad():
            model.weight[0, 0] = math.nan
        _train(model, optimizer, loss, 10)
    assert accelerator.stats.steps == 10
    assert accelerator.stats.snapshots == 0
    assert len(caplog.records) == 1
    assert "step 1 could not be recorded" in caplog.records[0].getMessage()


def test_weights_that_do_not_move_are_refused_and_training_goes_on():
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.zeros(2, 3)
    with KoopmanAccelerator(
        model, optimizer, max_overhead=None, trial_loss=lambda m: m(x).sum(), window=3, every=1
    ) as accelerator:
        for _ in range(6):
            optimizer.zero_grad()
            (0 * model(x).sum()).backward()
            optimizer.step()
    assert accelerator.stats.attempts == accelerator.stats.refused == 2


def _optimizer_cases():
    skip = {"Optimizer", "SparseAdam"}  # the base class; sparse gradients only
    names = [n for n in torch.optim.__all__ if n[0].isupper() and n not in skip]
    return sorted(set(names) | {"Adam", "LBFGS", "SGD"})


@pytest.mark.parametrize("name", _optimizer_cases())
def test_every_torch_optimizer_runs_with_a_scheduler(name):
    torch.manual_seed(0)
    x = torch.randn(32, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    model = nn.Linear(3, 1, bias=False)
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 20, 0.5)

    def loss(m):
        return nn.functional.mse_loss(m(x), y)

    def closure():
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        return value

    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, max_overhead=None, window=4, every=2
    ) as accelerator:
        for _ in range(24):
            if name == "LBFGS":
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
            scheduler.step()
    assert accelerator.stats.steps == 24
    assert accelerator.stats.attempts >= 2
    for jump in accelerator.history:
        assert jump.taken == (jump.loss_after < jump.loss_before)
        assert not jump.reason.startswith(("forecast failed", "trial_loss"))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(5e-3)


def test_hook_is_removed_on_exit_also_after_an_error():
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accelerator = KoopmanAccelerator(model, optimizer, trial_loss=loss, max_overhead=None)

    def run():
        with accelerator:
            _train(model, optimizer, loss, 2)
            raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user"):
        run()
    assert not optimizer._optimizer_step_post_hooks
    _train(model, optimizer, loss, 2)
    assert accelerator.stats.steps == 2
    accelerator.detach()
    with accelerator:
        _train(model, optimizer, loss, 1)
    assert accelerator.stats.steps == 3


def test_attach_twice_or_two_on_one_optimizer_is_refused():
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = KoopmanAccelerator(model, optimizer, trial_loss=loss, max_overhead=None)
    second = KoopmanAccelerator(model, optimizer, trial_loss=loss, max_overhead=None)
    with first:
        with pytest.raises(RuntimeError, match="attached already"):
            first.attach()
        with pytest.raises(RuntimeError, match="optimizer has a KoopmanAccelerator"):
            second.attach()
    with second:
        _train(model, optimizer, loss, 1)
    assert (first.stats.steps, second.stats.steps) == (0, 1)


def test_steps_with_all_learning_rates_zero_are_not_counted():
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, max_overhead=None, every=1
    ) as accelerator:
        _train(model, optimizer, loss, 3)
        optimizer.param_groups[0]["lr"] = 0.1
        _train(model, optimizer, loss, 2)
    assert (accelerator.stats.steps, accelerator.stats.snapshots) == (2, 2)


def test_step_cancelled_by_a_gradient_scaler_is_not_counted():
    model, loss, _, _ = _regression(torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, max_overhead=None, every=1
    ) as accelerator:
        for factor in (1.0, math.inf, 1.0):
            optimizer.zero_grad()
            scaler.scale(loss(model) * factor).backward()
            scaler.step(optimizer)
            scaler.update()
    assert (accelerator.stats.steps, accelerator.stats.snapshots) == (2, 2)


def test_log_fn_gets_every_attempt():
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    logged = []
    with KoopmanAccelerator(
        model,
        optimizer,
        trial_loss=loss,
        max_overhead=None,
        window=3,
        every=2,
        log_fn=lambda *a: logged.append(a),
    ) as accelerator:
        _train(model, optimizer, loss, 12)
    assert [step for _, step in logged] == [jump.step for jump in accelerator.history] == [6, 12]
    assert logged[0][0]["loss_before"] == accelerator.history[0].loss_before


def test_stats_add_up():
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, max_overhead=None, window=3, every=2
    ) as accelerator:
        _train(model, optimizer, loss, 25)
    stats = accelerator.stats
    assert stats.steps == 25
    assert stats.attempts == stats.taken + stats.refused == len(accelerator.history)
    assert stats.trials == sum(jump.trials for jump in accelerator.history)
    assert stats.seconds >= sum(jump.seconds for jump in accelerator.history) > 0


def test_repeated_refusals_make_attempts_rarer_without_end():
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    calls = []

    def refuse(m):
        calls.append(m)
        return len(calls)

    with KoopmanAccelerator(
        model, optimizer, trial_loss=refuse, max_overhead=None, window=5, every=2
    ) as accelerator:
        _train(model, optimizer, loss, 210)
    assert [jump.step for jump in accelerator.history] == [10, 20, 40, 70, 110, 160]
