"""KoopmanAccelerator with an operator of the user's: a window or a stream, the same guarantees."""

import copy
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from koopcore import DMD, StreamingDMD, WindowDMD  # noqa: E402
from koopcore.torch import KoopmanAccelerator  # noqa: E402

OPERATORS = {
    "window": lambda: WindowDMD(6, affine=True),
    "small window": lambda: WindowDMD(5, rank=2, affine=True, variant="tls", unstable="drop"),
    "stream": lambda: StreamingDMD(rank=4, affine=True),
    "small stream": lambda: StreamingDMD(rank=2, affine=True, oversampling=0, block=2),
    "delays": lambda: StreamingDMD(rank=2, affine=True, delays=2, variant="tls", forgetting=0.9),
}


@pytest.fixture(params=OPERATORS)
def operator(request):
    return OPERATORS[request.param]()


def _regression(dtype=torch.float64):
    """Full-batch linear regression, its Hessian and its exact solution."""
    torch.manual_seed(1)
    x = torch.randn(40, 4, dtype=dtype) * torch.tensor([1.0, 0.8, 0.6, 0.4], dtype=dtype)
    y = torch.randn(40, 1, dtype=dtype)
    model = nn.Linear(4, 1, bias=False).to(dtype)
    hessian = 2 * x.T @ x / len(x)
    return model, lambda m: nn.functional.mse_loss(m(x), y), hessian, torch.linalg.lstsq(x, y)[0]


def _network(dtype):
    """A small network with tensors of several shapes, batch statistics and random masks."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1)
    ).to(dtype)
    x = torch.randn(64, 4, dtype=dtype)

    def loss(m):
        i = torch.randint(64, (16,))
        return nn.functional.mse_loss(m(x[i]), x[i].sum(1, keepdim=True))

    return model, loss


def _train(model, optimizer, loss, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def _bits(model, optimizer):
    tensors = [*model.state_dict().values()]
    tensors += [v for state in optimizer.state.values() for v in state.values()]
    return [*(t.clone() for t in tensors), torch.get_rng_state()]


@pytest.mark.parametrize("make", [OPERATORS["window"], OPERATORS["stream"]])
def test_spectrum_of_gradient_descent_is_that_of_the_hessian(make):
    model, loss, hessian, solution = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    expected = np.sort(1 - 0.3 * torch.linalg.eigvalsh(hessian).numpy())
    start = torch.linalg.norm(model.weight.detach().T - solution)
    operator, seen = make(), []

    def spy(m):
        seen.append(operator.eigenvalues)
        return loss(m)

    with KoopmanAccelerator(
        model, optimizer, trial_loss=spy, max_overhead=None, window=6, every=1, operator=operator
    ) as accelerator:
        _train(model, optimizer, loss, 6)
    assert np.abs(np.sort_complex(seen[0]) - expected).max() < 1e-7
    (jump,) = accelerator.history
    assert jump.taken
    assert operator.n_snapshots == 0
    assert torch.linalg.norm(model.weight.detach().T - solution) < 1e-5 * start


def test_default_and_the_same_window_given_jump_alike():
    ends = []
    for given in (None, WindowDMD(5, affine=True)):
        model, loss = _network(torch.float32)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        with KoopmanAccelerator(
            model, optimizer, trial_loss=loss, max_overhead=None, window=5, every=2, operator=given
        ) as accelerator:
            _train(model, optimizer, loss, 60)
        assert accelerator.stats.attempts > 1
        ends.append(_bits(model, optimizer))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["worse", "raises", "nan"])
def test_refusals_leave_the_run_identical_to_the_bare_one(operator, dtype, kind):
    model, loss = _network(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    _train(model, optimizer, loss, 80)
    bare = _bits(model, optimizer)
    calls = []

    def refuse(m):
        calls.append(m.train()(torch.randn(16, 4, dtype=dtype)))
        if kind == "raises":
            raise RuntimeError("boom")
        return math.nan if kind == "nan" else len(calls)

    model, loss = _network(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=refuse, max_overhead=None, window=6, every=2, operator=operator
    ) as accelerator:
        _train(model, optimizer, loss, 80)
    assert accelerator.stats.refused == accelerator.stats.attempts >= 3
    assert accelerator.history[0].step == 12
    assert not any(jump.reason.startswith("forecast failed") for jump in accelerator.history)
    now = _bits(model, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(now, bare, strict=True))


def test_a_failing_operator_is_a_refused_jump(operator, monkeypatch, caplog):
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bare = copy.deepcopy(model)
    _train(bare, torch.optim.SGD(bare.parameters(), lr=0.1), loss, 30)

    def fail(horizon, out):
        for segment in out:
            segment[:] = 7.0
        raise ArithmeticError("no forecast")

    monkeypatch.setattr(operator, "forecast", fail)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, max_overhead=None, window=6, every=1, operator=operator
    ) as accelerator:
        _train(model, optimizer, loss, 30)
    assert accelerator.stats.attempts > 1
    assert {jump.reason for jump in accelerator.history} == {"forecast failed: no forecast"}
    assert torch.equal(model.weight, bare.weight)
    assert len(caplog.records) == 1


def test_non_finite_weights_start_the_operator_afresh(operator):
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, max_overhead=None, window=6, every=1, operator=operator
    ) as accelerator:
        _train(model, optimizer, loss, 3)
        keep = model.weight.detach().clone()
        with torch.no_grad():
            model.weight[0, 0] = math.nan
        _train(model, optimizer, loss, 2)
        assert operator.n_snapshots == 0
        with torch.no_grad():
            model.weight.copy_(keep)
        _train(model, optimizer, loss, 6)
    assert [jump.step for jump in accelerator.history] == [11]
    assert accelerator.stats.snapshots == 9


def test_one_operator_serves_one_accelerator_at_a_time(operator):
    runs = []
    for _ in range(2):
        model, loss, _, _ = _regression()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        accelerator = KoopmanAccelerator(
            model, optimizer, trial_loss=loss, max_overhead=None, window=6, operator=operator
        )
        runs.append((model, optimizer, loss, accelerator))
    with runs[0][3]:
        _train(*runs[0][:3], 10)
        assert operator.n_snapshots == 2
        with pytest.raises(RuntimeError, match="operator records for another"):
            runs[1][3].attach()
    with runs[1][3]:
        assert operator.n_snapshots == 0
        _train(*runs[1][:3], 5)
        assert operator.n_snapshots == 1


def _filled(operator):
    return operator.update(np.ones(3))


@pytest.mark.parametrize(
    ("operator", "error", "message"),
    [
        ("stream", TypeError, "operator must be a koopcore.WindowDMD, a koopcore.StreamingDMD or "
         "None, got str"),
        (WindowDMD, TypeError, "got type"),
        (DMD(affine=True), TypeError, "got DMD"),
        (WindowDMD(10), ValueError, "made with affine=True"),
        (WindowDMD(10, affine="constant"), ValueError, "made with affine=True"),
        (StreamingDMD(4), ValueError, "made with affine=True"),
        (_filled(WindowDMD(10, affine=True)), ValueError, "operator holds 1 snapshots"),
        (_filled(StreamingDMD(4, affine=True)), ValueError, "operator holds 1 snapshots"),
        (WindowDMD(20, affine=True), ValueError, "operator has window=20, which the window=10"),
        (StreamingDMD(4, affine=True, delays=9), ValueError, "window must be at least 11 for an "
         "operator with delays=9, got 10"),
        (StreamingDMD(4, affine=True, first_row=0), ValueError, "without first_row"),
    ],
)  # fmt: skip
def test_an_operator_that_cannot_work_is_refused(operator, error, message):
    model, loss, _, _ = _regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(error, match=message):
        KoopmanAccelerator(model, optimizer, trial_loss=loss, max_overhead=None, operator=operator)
