"""torch.compile and layers with running statistics: what a trial and a jump must not disturb."""

import copy
import logging

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from training_runs import differs, regression, train  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402


class Backend:
    """The backend "eager", counting what it is asked to compile."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


class Net(nn.Module):
    """A module that can be compiled in place, which layers of torch's own cannot."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


@pytest.fixture
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _compiled_parts(model, backend):
    model.first = torch.compile(model.first, backend=backend)
    return model


def _compiled_in_place(model, backend):
    model.compile(backend=backend)
    return model


def _compiled(model, backend):
    return torch.compile(model, backend=backend)


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("how", [_compiled, _compiled_in_place, _compiled_parts])
def test_trials_and_jumps_compile_nothing(how):
    def run(attached):
        torch._dynamo.reset()
        backend = Backend()
        _, loss = regression()
        model = how(Net(), backend)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        accelerator = KoopmanAccelerator(
            model, optimizer, trial_loss=loss, max_overhead=None, window=4, every=1
        )
        if attached:
            accelerator.attach()
        train(model, optimizer, loss, 12)
        return backend.graphs, accelerator

    bare, _ = run(False)
    graphs, accelerator = run(True)
    assert graphs == bare > 0
    assert accelerator.stats.taken > 0
    names = accelerator.state_dict()["engine"]["names"]
    assert names == ["first.weight", "first.bias", "last.weight", "last.bias"]


@pytest.mark.usefixtures("_fresh_compiler")
def test_a_compiled_loss_that_closes_over_its_data_compiles_once():
    backend = Backend()
    model, loss = regression(hidden=3)
    compiled = torch.compile(loss, backend=backend)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=compiled, max_overhead=None, window=4, every=1
    ) as accelerator:
        train(model, optimizer, compiled, 8)
    assert accelerator.stats.taken > 0
    assert backend.graphs == 1


@pytest.mark.usefixtures("_fresh_compiler")
def test_ahead_of_time_graphs_see_the_weights_of_a_jump():
    model, loss = regression(hidden=3)
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
    with KoopmanAccelerator(
        compiled, optimizer, trial_loss=loss, max_overhead=None, window=4, every=1
    ) as accelerator:
        train(compiled, optimizer, loss, 8)
    assert accelerator.stats.taken > 0
    assert torch.allclose(loss(compiled), loss(model))


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_a_compiled_optimizer_step_records_and_jumps():
    model, loss = regression(hidden=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    backend = Backend()
    step = torch.compile(optimizer.step, backend=backend)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, max_overhead=None, window=4, every=1
    ) as accelerator:
        graphs = []
        for _ in range(12):
            optimizer.zero_grad()
            loss(model).backward()
            step()
            graphs.append(backend.graphs)
    assert accelerator.stats.steps == 12
    assert accelerator.stats.taken > 0
    assert graphs[2] == graphs[-1]  # the first steps have to, since they make the state


def _with_norms():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.BatchNorm1d(6), nn.Linear(6, 1)
    )
    x = torch.randn(64, 4)
    loss = nn.functional.mse_loss
    return model, x, lambda m: loss(m(x), x.sum(1, keepdim=True))


def _jump(model, loss, steps=4, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, max_overhead=None, window=4, every=1, **options
    ) as accelerator:
        train(model, optimizer, loss, steps)
    assert accelerator.stats.taken >= 1
    return accelerator


def test_running_statistics_are_refreshed_by_the_loader_after_a_jump():
    model, x, loss = _with_norms()
    model[3].eval()  # frozen statistics: part of the function, which stay
    frozen = copy.deepcopy(model[3].state_dict())
    _jump(model, loss, bn_loader=[x[:32], (x[32:], None)])
    assert [m.training for m in model] == [True, True, True, False, True]
    assert not differs(frozen["running_var"], model[3].running_var)
    assert int(model[1].num_batches_tracked) == 2
    ahead = model[0](x)
    expected = (ahead[:32].mean(0) + ahead[32:].mean(0)) / 2
    assert torch.allclose(model[1].running_mean, expected, atol=1e-6)
    assert model[1].momentum == 0.1


def test_a_loader_that_is_used_up_leaves_the_running_statistics(caplog):
    model, _, loss = _with_norms()
    before = model[1].num_batches_tracked.item()
    _jump(model, loss, bn_loader=iter(()))
    assert int(model[1].num_batches_tracked) == before + 4
    assert model[1].momentum == 0.1
    assert "bn_loader gives no batch" in caplog.text


def test_a_loader_that_raises_leaves_the_running_statistics(caplog):
    def batches():
        yield torch.ones(8, 4)
        raise OSError("disk gone")

    model, _, loss = _with_norms()
    _jump(model, loss, bn_loader=batches())
    assert int(model[1].num_batches_tracked) == 4
    assert "disk gone" in caplog.text


def test_frozen_norms_need_no_refresh_and_no_warning(caplog):
    model, _, loss = _with_norms()
    model[1].eval()
    model[3].eval()
    _jump(model, loss)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_norms_without_a_loader_give_one_warning(caplog):
    model, _, loss = _with_norms()
    accelerator = _jump(model, loss, steps=16)
    assert accelerator.stats.taken > 1
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
