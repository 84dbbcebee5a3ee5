"""The published method: U = F' pinv(F) per chunk of a unit's weights, one untried jump."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402

T1, T2, HORIZON = 6, 40, 7


def _problem(dtype=torch.float64):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).to(dtype)
    x = torch.randn(30, 4, dtype=dtype)
    y = torch.randn(30, 2, dtype=dtype)
    return model, lambda m: nn.functional.mse_loss(m(x), y)


def _train(model, optimizer, loss, steps):
    """Train; return the rows [weight | bias] of both layers after each step."""
    trace = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
        trace.append(_rows(model))
    return np.array(trace)


def _rows(model):
    parts = [torch.cat([m.weight, m.bias[:, None]], 1).detach().flatten() for m in model[::2]]
    return torch.cat(parts).double().numpy().copy()


def _oracle(trace, chunks):
    """The paper's forecast, chunk by chunk, in NumPy."""
    window = trace[T1 - 1 : T2].T
    ahead = np.empty(len(window))
    for chunk in chunks:
        d = window[chunk]
        u = d[:, 1:] @ np.linalg.pinv(d[:, :-1])
        ahead[chunk] = np.linalg.matrix_power(u, HORIZON) @ d[:, -1]
    return ahead


def _split(row_starts, width, q):
    return [slice(a, min(a + q, s + width)) for s in row_starts for a in range(s, s + width, q)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("q", "chunks"),
    [
        (1, [slice(i, i + 1) for i in range(23)]),
        (2, [*_split([0, 5, 10], 5, 2), *_split([15, 19], 4, 2)]),
        (None, [*_split([0, 5, 10], 5, 5), *_split([15, 19], 4, 4)]),
        ({r"^0\.": 3, r"^2\.": None}, [*_split([0, 5, 10], 5, 3), *_split([15, 19], 4, 4)]),
    ],
)
def test_jump_is_the_papers_forecast(q, chunks, dtype):
    model, loss = _problem(dtype)
    trace = _train(model, torch.optim.SGD(model.parameters(), lr=0.05), loss, T2)
    model, loss = _problem(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with KoopmanAccelerator.dogra_redman(
        model, optimizer, q=q, t1=T1, t2=T2, horizon=HORIZON
    ) as accelerator:
        _train(model, optimizer, loss, T2)
        (jump,) = accelerator.history
        assert (jump.step, jump.horizon, jump.taken, jump.trials) == (T2, HORIZON, True, 0)
        expected = _oracle(trace, chunks)
        # An ill-conditioned pseudo-inverse amplifies the rounding of float32 snapshots alike.
        tolerance = 1e-9 if dtype == torch.float64 else 1e-5 if q == 1 else 5e-3
        assert np.abs(_rows(model) - expected).max() < tolerance * np.abs(expected).max()
        _train(model, optimizer, loss, 2 * T2)
        assert len(accelerator.history) == 1
    assert accelerator.stats.snapshots == T2 - T1 + 1


def test_trial_loss_makes_the_jump_one_that_must_help():
    model, loss = _problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    seen = []

    def worse(m):
        seen.append(m)
        return len(seen)

    with KoopmanAccelerator.dogra_redman(
        model, optimizer, t1=T1, t2=T2, horizon=HORIZON, trial_loss=worse
    ) as accelerator:
        trace = _train(model, optimizer, loss, T2)
    assert [jump.taken for jump in accelerator.history] == [False]
    assert np.array_equal(_rows(model), trace[-1])


def test_forecast_that_is_not_finite_is_refused(caplog):
    model, loss = _problem(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with KoopmanAccelerator.dogra_redman(
        model, optimizer, q=1, t1=2, t2=6, horizon=10**9
    ) as accelerator:
        trace = _train(model, optimizer, loss, 6)
    (jump,) = accelerator.history
    assert not jump.taken
    assert math.isnan(jump.loss_before)
    assert np.array_equal(_rows(model), trace[-1])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"t1": 0}, ValueError, "t1 must be at least 1, got 0"),
        ({"t2": 7}, ValueError, "t2 must be at least 8, got 7"),
        ({"horizon": 0}, ValueError, "horizons must be at least 1, got 0"),
        ({"q": 0}, ValueError, "q must be at least 1, got 0"),
        ({"q": 1.5}, TypeError, r"q must be an integer, got 1\.5"),
    ],
)
def test_bad_argument_is_named(options, error, text):
    model, _ = _problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    arguments = {"t1": T1, "t2": T2, "horizon": HORIZON} | options
    with pytest.raises(error, match=text):
        KoopmanAccelerator.dogra_redman(model, optimizer, **arguments)
