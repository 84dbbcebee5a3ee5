"""The workloads: right losses, disjoint splits, everything fixed by the seed."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import baselines, workloads  # noqa: E402


def exact_trajectory(times):
    """Return the oscillator's state and rate at `times` from a high-order ODE solver."""
    integrate = pytest.importorskip("scipy.integrate")

    def field(_t, z):
        return np.stack([z[1], -z[0] - z[0] ** 3])

    solution = integrate.solve_ivp(
        field, (0, times[-1]), [1.3, 1.0], method="DOP853", t_eval=times, rtol=1e-12, atol=1e-12
    )
    return solution.y.T, field(None, solution.y).T


def test_residual_loss_on_exact_trajectory_is_zero():
    from koopcore.compare.workloads.hamiltonian import Ansatz, residual_loss

    times = Ansatz(torch.float64).times[:, 0].numpy()
    assert (times[0], len(times)) == (0, 200)
    assert times[-1] == pytest.approx(4 * math.pi)
    state, _ = exact_trajectory(times)
    # The rate comes from differences of the trajectory, not from the equations under test.
    near, _ = exact_trajectory(np.sort(np.concatenate([times[1:] - 1e-4, times[1:] + 1e-4])))
    rate = (near[1::2] - near[::2]) / 2e-4
    loss = residual_loss(torch.tensor(state[1:]), torch.tensor(rate))
    assert loss.item() < 1e-12
    wrong = residual_loss(torch.tensor(state[1:] * 1.01), torch.tensor(rate))
    assert wrong.item() > 1e-5


def test_residual_loss_on_known_numbers_sums_both_mean_squares():
    from koopcore.compare.workloads.hamiltonian import residual_loss

    state = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    rate = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    # (3 - 2)^2 / 2 + ((0 + 1 + 1)^2 + 4^2) / 2
    assert residual_loss(state, rate).item() == pytest.approx(0.5 + 10.0)


@pytest.mark.parametrize("width", [10, 50])
def test_sine_network_rate_equals_autograd_derivative(width):
    from koopcore.compare.workloads.hamiltonian import SineNetwork

    torch.manual_seed(1)
    model = SineNetwork(width).double()
    assert sum(p.numel() for p in model.parameters()) == 2 * width + width * (width + 1) + (
        2 * width + 2
    )
    times = torch.linspace(0, 12, 50, dtype=torch.float64)[:, None].requires_grad_(True)
    value, rate = model(times)
    for column in range(2):
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


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_split_is_disjoint_stratified_and_complete(seed):
    datasets = pytest.importorskip("sklearn.datasets")
    from koopcore.compare.workloads.digits import split

    images, labels = datasets.load_digits(return_X_y=True)
    x_train, y_train, x_heldout, y_heldout = split(seed)
    assert (len(x_train), len(x_heldout)) == (1437, 360)
    both = np.concatenate([x_train.numpy(), x_heldout.numpy()]) * 16
    # Every image is in exactly one part: sorted, the parts together are the data set.
    assert np.array_equal(both[np.lexsort(both.T)], images[np.lexsort(images.T)])
    shares = [np.bincount(y.numpy(), minlength=10) / len(y) for y in (y_train, y_heldout)]
    assert np.abs(shares[0] - shares[1]).max() < 0.005
    assert (
        np.bincount(np.concatenate([y_train, y_heldout])).tolist() == np.bincount(labels).tolist()
    )


def test_digits_batches_cover_an_epoch_once_and_repeat_for_a_seed():
    pytest.importorskip("sklearn")
    from koopcore.compare.workloads.digits import shuffled_batches

    x, y = torch.arange(640.0)[:, None], torch.arange(640)
    first = shuffled_batches(x, y, 64, seed=3)
    epoch = [next(first)[1] for _ in range(10)]
    assert sorted(torch.cat(epoch).tolist()) == list(range(640))
    again = shuffled_batches(x, y, 64, seed=3)
    assert all(torch.equal(batch, next(again)[1]) for batch in epoch)
    other = shuffled_batches(x, y, 64, seed=4)
    assert not torch.equal(epoch[0], next(other)[1])


@pytest.mark.parametrize("name", workloads.NAMES)
def test_build_same_seed_same_weights_and_first_batch(name):
    if name in workloads.REQUIRES:
        pytest.importorskip("sklearn")
    workload = workloads.load(name)
    assert workload.name == name
    state = torch.random.get_rng_state()
    one, two, other = workload.build(5), workload.build(5), workload.build(6)
    assert torch.equal(state, torch.random.get_rng_state())  # the caller's numbers are not used up
    parameters = [list(problem.model.parameters()) for problem in (one, two, other)]
    assert all(torch.equal(a, b) for a, b in zip(*parameters[:2], strict=True))
    assert not torch.equal(parameters[0][0], parameters[2][0])
    losses = [p.loss(p.model, next(p.batches)).item() for p in (one, two)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["hamiltonian", "digits"])
def test_full_batch_trial_and_evaluation_are_the_training_objective(name):
    if name in workloads.REQUIRES:
        pytest.importorskip("sklearn")
    problem = workloads.load(name).build(0)
    loss = problem.loss(problem.model, next(problem.batches)).item()
    assert problem.trial_loss(problem.model).item() == loss
    assert problem.evaluate(problem.model)["train_loss"] == loss
    assert problem.trial_size == problem.batch_size


def test_mini_batch_trial_uses_training_samples_only():
    pytest.importorskip("sklearn")
    from koopcore.compare.workloads.digits import split

    problem = workloads.load("digits-64").build(0)
    x_train, y_train, _, _ = split(0)
    expected = torch.nn.functional.cross_entropy(problem.model(x_train[:256]), y_train[:256])
    assert problem.trial_loss(problem.model).item() == expected.item()
    assert (problem.batch_size, problem.trial_size) == (64, 256)


def test_load_unknown_name_lists_known_ones():
    with pytest.raises(ValueError, match=r"'mnist'.*hamiltonian, hamiltonian-50, digits"):
        workloads.load("mnist")


def test_learning_rates_are_stated_for_every_pair_and_inside_their_grid():
    assert set(baselines.LEARNING_RATES) == set(workloads.NAMES)
    assert len({len(grid) for grid in baselines.GRIDS.values()}) == 1  # the same tuning budget
    for rates in baselines.LEARNING_RATES.values():
        assert set(rates) == set(baselines.NAMES)
        for optimizer, rate in rates.items():
            # Not at an end: a better one might lie beyond.
            assert rate in baselines.GRIDS[optimizer][1:-1]


@pytest.mark.parametrize("name", baselines.NAMES)
def test_make_optimizer_uses_the_rate_given(name):
    optimizer = baselines.make_optimizer(name, [torch.nn.Parameter(torch.zeros(2))], 0.025)
    assert optimizer.param_groups[0]["lr"] == 0.025
    assert optimizer.param_groups[0].get("momentum", 0) == (0.9 if name == "momentum" else 0)


def test_learning_rate_unknown_optimizer_lists_known_ones():
    with pytest.raises(ValueError, match=r"'lbfgs'.*sgd, momentum, adam"):
        baselines.learning_rate("digits", "lbfgs")
