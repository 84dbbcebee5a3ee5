"""ForecastModel with what models are made of: state, buffers, ties, wrappers, processes; errors."""

import copy
import io
import logging
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from forecast_runs import away_from, identical, noisy_problem, regression, sgd, train, weights_of  # noqa: E402
from torch import nn  # noqa: E402
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn  # noqa: E402

from koopcore.rules import Polynomial, UniformAverage  # noqa: E402
from koopcore.torch import ForecastModel, KoopmanAccelerator  # noqa: E402


@pytest.mark.parametrize("options", [{}, {"average": 1}, {"partition": "node"}, {"storage": "cpu"}])
@pytest.mark.parametrize("steps", [0, 5, 17])
def test_state_round_trip_goes_on_with_the_same_bits(options, steps):
    def made(model):
        return ForecastModel(model, kept_aside, every=3, window=4, fit_loss=kept_aside, **options)

    model, loss, kept_aside, _ = noisy_problem()
    optimizer, follower = sgd(model), made(model)
    train(model, optimizer, loss, steps, follower)
    if steps == 17:
        follower.choose()
    file = io.BytesIO()
    torch.save(follower.state_dict(), file)
    file.seek(0)
    resumed = made(noisy_problem()[0])
    resumed.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(follower)
    if steps:  # before, averages are memory that nothing was written to
        assert identical(resumed.state_dict(), follower.state_dict())
    train(model, optimizer, loss, 20, follower, resumed, copied)
    tables = [one.choose().table for one in (follower, resumed, copied)]
    assert len(tables[0]) > 5
    assert identical(*[[(c.name, c.horizon, c.loss) for c in t] for t in tables[:2]])
    assert identical(*[[(c.name, c.horizon, c.loss) for c in t] for t in tables[1:]])
    assert identical(follower.state_dict(), resumed.state_dict())
    assert identical(follower.state_dict(), copied.state_dict())


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
    model, loss, kept_aside, x = noisy_problem()
    follower = ForecastModel(model, kept_aside, every=2, window=4)
    train(model, sgd(model), loss, 20, follower)
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
    model, loss, kept_aside, _ = noisy_problem()
    follower = ForecastModel(model, kept_aside, averages=(0.9,), use_buffers=True)
    oracle = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    train(model, sgd(model), loss, 25, follower, oracle)
    target = weights_of(oracle.module)
    selection = follower.choose(lambda m: (weights_of(m) - target).abs().max())
    assert (selection.name, selection.loss) == ("EMA 0.9", 0.0)
    for name in ("0.weight", "1.running_mean", "1.running_var", "4.bias"):
        assert torch.equal(follower.module.state_dict()[name], oracle.module.state_dict()[name])
    assert torch.equal(follower.module[1].num_batches_tracked, model[1].num_batches_tracked)


def test_use_buffers_fills_the_window_with_them():
    model, loss, kept_aside, _ = noisy_problem()
    follower = ForecastModel(
        model, kept_aside, every=2, window=5, use_buffers=True, fit_loss=kept_aside
    )
    train(model, sgd(model), loss, 12, follower)
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
    train(model, sgd(model), loss, 10, follower)
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
    model, loss, kept_aside, _ = noisy_problem()
    model[0].weight.requires_grad_(False)
    follower = ForecastModel(model, kept_aside, every=1, window=4, partition={r"^4\.": "exclude"})
    train(model, sgd(model), loss, 12, follower)
    assert follower.choose(away_from(weights_of(model))).name != "current"
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


def test_other_parameters_start_afresh_with_one_message(caplog):
    model, loss, kept_aside, _ = noisy_problem()
    follower = ForecastModel(model, kept_aside, every=1, window=4)
    train(model, sgd(model), loss, 6, follower)
    with caplog.at_level(logging.WARNING, "koopcore"):
        model[0].requires_grad_(False)
        follower.update_parameters(model)
        model[4] = nn.Linear(8, 1, bias=False)
        follower.update_parameters(model)
    assert len(caplog.records) == 1
    assert "start afresh" in caplog.text
    assert follower.steps == 1
    assert follower.choose().name == "current"
    assert identical(follower.module.state_dict(), model.state_dict())


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
    model, loss, _ = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    follower = ForecastModel(model, loss, every=2, window=4)
    with KoopmanAccelerator(model, optimizer, trial_loss=loss, max_overhead=None) as accelerator:
        train(model, optimizer, loss, 120, follower)
    assert accelerator.stats.attempts
    selection = follower.choose()
    assert selection.loss <= selection.loss_current


TWO_PROCESSES = """
import os
import sys
import torch
from torch import distributed, multiprocessing, nn
from koopcore.torch import ForecastModel

def run(rank, store):
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    y = x.sum(1, keepdim=True)
    model = nn.parallel.DistributedDataParallel(nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)

    def loss(m):  # the processes have other data, and rank 1 alone would choose otherwise
        own = slice(32 * rank, 32 * rank + 32)
        return nn.functional.mse_loss(m(x[own]), (1 - 1.2 * rank) * y[own])

    follower = ForecastModel(model, loss, every=2, window=4, fit_loss=loss)
    for step in range(12):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        follower.update_parameters(model)
    for failing in (False, True):
        trial = (lambda m: 1 / rank) if failing else None
        selection = follower.choose(trial)
        shown = torch.cat([p.detach().flatten() for p in follower.parameters()])
        ours = [torch.empty_like(shown) for _ in range(2)]
        distributed.all_gather(ours, shown)
        assert torch.equal(*ours)
        assert (selection.name == "") == failing, selection
        assert failing or selection.fit_evaluations > 1
    distributed.barrier()
    os._exit(0)  # gloo's threads now and then abort a process that ends, without koopcore too

if __name__ == "__main__":
    multiprocessing.spawn(run, ("file://" + sys.argv[1],), nprocs=2)
    print("both alike")
"""


def test_two_processes_choose_alike(tmp_path):
    program = tmp_path / "two_processes.py"
    program.write_text(TWO_PROCESSES)
    result = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "both alike" in result.stdout, result.stderr
