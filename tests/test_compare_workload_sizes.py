"""The size factor in a workload's name."""

import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import workloads  # noqa: E402
from koopcore.compare.baselines import learning_rate  # noqa: E402

# A weight of each workload whose shape the factor sets in both dimensions.
SHAPES = {
    "hamiltonian": ("layers.1.weight", (5, 5)),
    "hamiltonian-50": ("layers.1.weight", (25, 25)),
    "henon-heiles": ("layers.1.weight", (25, 25)),
    "digits": ("2.weight", (50, 50)),
    "digits-64": ("2.weight", (50, 50)),
    "mnist-5k": ("2.weight", (10, 10)),
    "mnist-1d": ("2.weight", (50, 50)),
    "mnist-1d-conv": ("3.weight", (12, 12, 3)),
    "fashion-mnist": ("2.weight", (16, 8, 3, 3)),
    "fashion-mnist-64": ("2.weight", (32, 16, 3, 3)),
    "transformer": ("blocks.4.linear1.weight", (256, 64)),
}


def require(name):
    """Skip where the package or the data of a workload is not there."""
    if package := workloads.required_package(name):
        pytest.importorskip(package[0])
    if message := workloads.missing_data(name):
        pytest.skip(message)


def test_every_workload_is_in_the_table():
    assert set(SHAPES) == set(workloads.NAMES)


@pytest.mark.parametrize("name", workloads.NAMES)
def test_factor_of_a_half_halves_the_hidden_layers(name):
    require(name)
    plain, half = workloads.load(name), workloads.load(f"{name}:0.5")
    assert half.name == f"{name}:0.5"
    assert half.title == f"{plain.title}, widths x0.5"
    assert (half.steps, half.evaluate_every) == (plain.steps, plain.evaluate_every)
    problem, whole = half.build(3), plain.build(3)
    place, shape = SHAPES[name]
    assert tuple(dict(problem.model.named_parameters())[place].shape) == shape
    assert problem.batch_size == whole.batch_size
    problem.loss(problem.model, next(problem.batches)).backward()
    assert all(torch.isfinite(p.grad).all() for p in problem.model.parameters())


@pytest.mark.parametrize("name", ["hamiltonian", "henon-heiles"])
def test_tiny_factor_leaves_one_unit_and_one_gives_the_plain_network(name):
    tiny = workloads.load(f"{name}:0.001").build(0).model
    assert dict(tiny.named_parameters())["layers.1.weight"].shape == (1, 1)
    same, plain = (workloads.load(n).build(0).model for n in (f"{name}:1", name))
    pairs = zip(same.parameters(), plain.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("factor", ["", "x", "0", "-1", "nan", "inf", "101", "1:2"])
def test_bad_factor_is_refused_with_what_would_be_right(factor):
    pattern = rf"size factor of workload 'digits:{factor}' must be a number above 0.*digits:0\.5"
    for ask in (workloads.load, workloads.missing_data, workloads.required_package):
        with pytest.raises(ValueError, match=pattern):
            ask(f"digits:{factor}")


def test_unknown_name_with_a_factor_lists_known_ones():
    with pytest.raises(ValueError, match=r"unknown workload 'mnist:2'.*hamiltonian"):
        workloads.load("mnist:2")


def test_learning_rate_package_and_data_are_those_of_the_plain_name(monkeypatch, tmp_path):
    assert learning_rate("digits:0.25", "adam") == learning_rate("digits", "adam")
    assert workloads.required_package("digits:2") == ("sklearn", "scikit-learn")
    assert workloads.required_package("hamiltonian:2") is None
    monkeypatch.setenv("KOOPCORE_FASHION_MNIST", str(tmp_path))
    assert "dataset-fashion-mnist" in workloads.missing_data("fashion-mnist-64:2")
    assert workloads.missing_data("digits:2") is None
