"""The learning rate as a known input: one law under any schedule."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from koopcore.rules import Dynamics  # noqa: E402
from koopcore.torch import KoopmanAccelerator  # noqa: E402
from koopcore.torch._scheduled import ScheduledDynamics  # noqa: E402


def _descent(rates, size=4, seed=0):
    """Gradient descent on a quadratic: snapshots in columns, the Hessian, the optimum."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((size, size)))[0]
    hessian = q @ np.diag(np.geomspace(0.1, 1.0, size)) @ q.T
    optimum, w = rng.standard_normal((2, size))
    states = [w]
    for rate in rates:
        states.append(states[-1] - rate * hessian @ (states[-1] - optimum))
    return np.array(states).T, hessian, optimum


def _gram(states):
    return (states - states[:, :1]).T @ (states - states[:, :1])


COSINE = 0.15 * (1 + np.cos(np.arange(8) * np.pi / 10))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forecast_under_a_schedule_is_that_of_the_law(dtype):
    states, hessian, optimum = _descent(COSINE)
    rule = ScheduledDynamics(COSINE, COSINE[-1])
    stored = states.astype(dtype).astype(np.float64)
    true = states[:, -1]
    for _ in range(10):
        true = true - COSINE[-1] * hessian @ (true - optimum)
    moved = np.linalg.norm(true - states[:, -1])
    scheduled, plain = (
        np.linalg.norm(states @ r.coefficients(_gram(stored), 10.0) - true) / moved
        for r in (rule, Dynamics())
    )
    assert scheduled < (1e-6 if dtype == np.float64 else 1e-2)
    assert plain > 0.1


def test_eigenvalues_are_one_minus_the_present_rate_times_those_of_the_hessian():
    states, hessian, _ = _descent(COSINE)
    found = ScheduledDynamics(COSINE, COSINE[-1]).eigenvalues(_gram(states))
    expected = np.sort(1 - COSINE[-1] * np.linalg.eigvalsh(hessian))[::-1]
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("horizon", [-1.0, 0.0, 0.5, 3.0, 1000.0])
def test_at_a_constant_rate_it_is_dynamics(horizon):
    rates = np.full(8, 0.3)
    states, _, _ = _descent(rates)
    a = ScheduledDynamics(rates, 0.3).coefficients(_gram(states), horizon)
    b = Dynamics().coefficients(_gram(states), horizon)
    assert a.sum() == pytest.approx(1.0, abs=1e-9)
    size = np.abs(states).max()
    assert np.abs(states @ a - states @ b).max() < 1e-5 * size


def test_rank_keeps_the_leading_directions_and_noise_stays_bounded():
    rates = np.full(8, 0.3)
    states, _, _ = _descent(rates, size=30)
    noisy = states + 1e-3 * np.random.default_rng(1).standard_normal(states.shape)
    rule = ScheduledDynamics(rates, 0.3, rank=2)
    assert np.count_nonzero(np.abs(rule.eigenvalues(_gram(noisy))) > 1e-9) == 2
    assert np.isfinite(rule.coefficients(_gram(noisy), 1e4)).all()


@pytest.mark.parametrize("count", [3, 6])
def test_nothing_moved_stays(count):
    rule = ScheduledDynamics(np.ones(count - 1), 1.0)
    expected = np.eye(count)[-1]
    assert rule.coefficients(np.zeros((count, count)), 5.0).tolist() == expected.tolist()
    assert rule.eigenvalues(np.zeros((count, count))).size == 0


def test_too_few_snapshots_are_refused():
    with pytest.raises(ValueError, match="gram is of 2 snapshots"):
        ScheduledDynamics([1.0], 1.0).coefficients(np.eye(2), 1.0)


def _run(control):
    torch.manual_seed(1)
    x = torch.randn(40, 4, dtype=torch.float64) * torch.tensor([1.0, 0.8, 0.6, 0.4])
    y = torch.randn(40, 1, dtype=torch.float64)
    model = nn.Linear(4, 1, bias=False).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 16)
    solution = torch.linalg.lstsq(x, y)[0]
    start = torch.linalg.norm(model.weight.detach().T - solution)

    def loss(m):
        return nn.functional.mse_loss(m(x), y)

    with KoopmanAccelerator(
        model, optimizer, trial_loss=loss, window=7, every=2, control=control, max_overhead=None
    ) as accelerator:
        for _ in range(14):
            optimizer.zero_grad()
            loss(model).backward()
            optimizer.step()
            scheduler.step()
    (jump,) = accelerator.history
    return jump, float(torch.linalg.norm(model.weight.detach().T - solution) / start)


def test_accelerator_with_control_jumps_closer_to_the_optimum_under_a_schedule():
    plain, scheduled = _run(None), _run("lr")
    assert scheduled[0].taken
    assert scheduled[0].rule == "ScheduledDynamics(rank=None)"
    assert scheduled[1] < 0.5 * plain[1]


def test_bad_control_is_named():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="control must be one of 'lr', got 'momentum'"):
        KoopmanAccelerator(model, optimizer, control="momentum")


def test_alternating_steps_have_a_forecast_at_any_horizon():
    """Eigenvalues below zero, which have no real powers that are not whole."""
    states, _, _ = _descent(np.full(6, 1.7))
    rule = ScheduledDynamics(np.full(6, 1.7), 1.7)
    for horizon in (0.3, 1.0, 2.5):
        coefficients = rule.coefficients(_gram(states), horizon)
        assert np.isfinite(coefficients).all()
        assert coefficients.sum() == pytest.approx(1.0)
