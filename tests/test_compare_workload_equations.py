"""The differential-equation workloads: their losses vanish on what an ODE solver finds."""

import importlib
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")


def oscillator(_t, z):
    return [z[1], -z[0] - z[0] ** 3]


def henon_heiles(_t, z):
    x, y, px, py = z
    return [px, py, -x - 2 * x * y, -y - x**2 + y**2]


def henon_heiles_energy(x, y, px, py):
    return (px**2 + py**2) / 2 + (x**2 + y**2) / 2 + x**2 * y - y**3 / 3


SYSTEMS = {
    "hamiltonian": (oscillator, [1.3, 1.0], 4 * math.pi),
    "henon_heiles": (henon_heiles, [0.3, -0.3, 0.3, 0.15], 6 * math.pi),
}


def exact_states(field, start, times):
    """Return the states at `times` from a high-order ODE solver, one in a row."""
    integrate = pytest.importorskip("scipy.integrate")
    return integrate.solve_ivp(
        field, (0, times[-1]), start, method="DOP853", t_eval=times, rtol=1e-12, atol=1e-12
    ).y.T


@pytest.mark.parametrize("name", SYSTEMS)
def test_residual_loss_on_exact_trajectory_is_zero(name):
    module = importlib.import_module(f"koopcore.compare.workloads.{name}")
    field, start, end = SYSTEMS[name]
    times = module.Ansatz(torch.float64).times[:, 0].numpy()
    assert (times[0], len(times)) == (0, 200)
    assert times[-1] == pytest.approx(end)
    state = exact_states(field, start, times)
    # The rate comes from differences of the trajectory, not from the equations under test.
    around = np.sort(np.concatenate([times[1:] - 1e-4, times[1:] + 1e-4]))
    near = exact_states(field, start, around)
    rate = torch.tensor((near[1::2] - near[::2]) / 2e-4)
    assert module.residual_loss(torch.tensor(state[1:]), rate).item() < 1e-12
    assert module.residual_loss(torch.tensor(state[1:] * 1.01), rate).item() > 1e-5


def test_henon_heiles_forces_are_the_slopes_of_its_energy():
    from koopcore.compare.workloads.henon_heiles import START, residual_loss

    generator = torch.Generator().manual_seed(4)
    state = torch.randn(20, 4, generator=generator, dtype=torch.float64).requires_grad_(True)
    (slope,) = torch.autograd.grad(henon_heiles_energy(*state.unbind(1)).sum(), state)
    hamilton = torch.cat([slope[:, 2:], -slope[:, :2]], dim=1)
    assert residual_loss(state, hamilton).item() < 1e-24
    assert residual_loss(state, -hamilton).item() > 1
    assert 0 < henon_heiles_energy(*START) < 1 / 6  # bounded motion


def test_residual_loss_on_known_numbers_sums_both_mean_squares():
    from koopcore.compare.workloads.hamiltonian import residual_loss

    state = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    rate = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    # (3 - 2)^2 / 2 + ((0 + 1 + 1)^2 + 4^2) / 2
    assert residual_loss(state, rate).item() == pytest.approx(0.5 + 10.0)


@pytest.mark.parametrize(("width", "n_outputs", "n_parameters"), [(10, 2, 152), (50, 4, 2854)])
def test_sine_network_rate_equals_autograd_derivative(width, n_outputs, n_parameters):
    from koopcore.compare.workloads.hamiltonian import SineNetwork

    torch.manual_seed(1)
    model = SineNetwork(width, n_outputs).double()
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    times = torch.linspace(0, 12, 50, dtype=torch.float64)[:, None].requires_grad_(True)
    value, rate = model(times)
    for column in range(n_outputs):
        (expected,) = torch.autograd.grad(value[:, column].sum(), times, retain_graph=True)
        torch.testing.assert_close(rate[:, [column]], expected, rtol=1e-12, atol=1e-12)


def test_ansatz_starts_at_initial_condition_and_its_rate_matches_differences():
    from koopcore.compare.workloads.hamiltonian import Ansatz, SineNetwork

    torch.manual_seed(2)
    model, ansatz = SineNetwork(10).double(), Ansatz(torch.float64)
    state, rate = ansatz.trajectory(model)
    assert state[0].tolist() == [1.3, 1.0]

    def state_at(times):
        value, _ = model(times)
        return torch.tensor([1.3, 1.0]) + (1 - torch.exp(-times)) * value

    h = 1e-5
    difference = (state_at(ansatz.times + h) - state_at(ansatz.times - h)) / (2 * h)
    torch.testing.assert_close(rate, difference, rtol=1e-7, atol=1e-7)
