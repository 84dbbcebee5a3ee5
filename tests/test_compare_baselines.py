"""The base optimizers: stated rates, the settings they are said to have, and Muon in one piece."""

import copy
import itertools
from contextlib import nullcontext

import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import baselines, workloads  # noqa: E402
from koopcore.torch import KoopmanAccelerator  # noqa: E402


def require(name):
    if name in baselines.REQUIRES:
        pytest.importorskip(baselines.REQUIRES[name][0])


def network():
    """Return a small network with matrices, kernels and vectors, and its loss."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = torch.nn.Sequential(
            torch.nn.Conv1d(1, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(24, 3)
        )
        x, y = torch.randn(16, 1, 8), torch.randint(3, (16,))
    return model, lambda model: torch.nn.functional.cross_entropy(model(x), y)


def step(model, loss, optimizer):
    optimizer.zero_grad()
    value = loss(model)
    value.backward()
    optimizer.step()
    return value.item()


def test_learning_rates_are_stated_for_every_workload_and_inside_their_grid():
    assert set(baselines.LEARNING_RATES) == set(workloads.NAMES)
    assert len({len(grid) for grid in baselines.GRIDS.values()}) == 1  # the same tuning budget
    for rates in baselines.LEARNING_RATES.values():
        assert set(rates) <= set(baselines.NAMES)
        for optimizer, rate in rates.items():
            # Not at an end: a better one might lie beyond.
            assert rate in baselines.GRIDS[optimizer][1:-1]


def test_grids_are_of_half_decades():
    for grid in baselines.GRIDS.values():
        ratios = [b / a for a, b in itertools.pairwise(grid)]
        assert all(2.9 < ratio < 3.4 for ratio in ratios)


def test_every_workload_has_base_optimizers_of_its_own_with_stated_rates():
    assert set(baselines.DEFAULT_OPTIMIZERS) == set(workloads.NAMES)
    for workload, optimizers in baselines.DEFAULT_OPTIMIZERS.items():
        assert all(baselines.learning_rate(workload, name) > 0 for name in optimizers)


def test_lbfgs_has_rates_on_full_batches_only():
    full = {name for name, rates in baselines.LEARNING_RATES.items() if "lbfgs" in rates}
    assert full == {"hamiltonian", "hamiltonian-50", "henon-heiles", "digits"}


@pytest.mark.parametrize("name", baselines.NAMES)
def test_make_optimizer_uses_the_rate_given_in_every_group(name):
    require(name)
    model, _ = network()
    optimizer = baselines.make_optimizer(name, model.parameters(), 0.025)
    assert {group["lr"] for group in optimizer.param_groups} == {0.025}
    if name in ("sgd", "momentum", "nesterov"):
        group = optimizer.param_groups[0]
        assert group["momentum"] == (0 if name == "sgd" else 0.9)
        assert group["nesterov"] == (name == "nesterov")
    if name == "lbfgs":
        assert optimizer.param_groups[0]["line_search_fn"] == "strong_wolfe"


@pytest.mark.parametrize("name", [n for n in baselines.NAMES if n not in baselines.NEEDS_CLOSURE])
def test_step_hook_fires_once_and_the_loss_falls(name):
    require(name)
    model, loss = network()
    rate = {"adadelta": 1.0, "muon": 0.01}.get(name, 0.003)
    optimizer = baselines.make_optimizer(name, model.parameters(), rate)
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    first = step(model, loss, optimizer)
    for _ in range(20):
        last = step(model, loss, optimizer)
    assert len(calls) == 21
    assert last < first


def test_lbfgs_needs_its_closure_and_finds_a_minimum():
    model, loss = network()
    optimizer = baselines.make_optimizer("lbfgs", model.parameters(), 1.0)
    assert baselines.NEEDS_CLOSURE == ("lbfgs",)

    def closure():
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        return value

    for _ in range(5):
        optimizer.step(closure)
    assert loss(model).item() < 1e-3


def test_muon_steps_matrices_and_kernels_orthogonally_and_vectors_as_adamw():
    require("muon")
    model, loss = network()
    twin = copy.deepcopy(model)
    muon = baselines.make_optimizer("muon", model.parameters(), 0.01)
    step(model, loss, muon)
    reference = torch.optim.AdamW(twin.parameters(), 0.01, (0.9, 0.95), 1e-10, weight_decay=0)
    step(twin, loss, reference)
    start, _ = network()
    for (name, p), q, p0 in zip(
        model.named_parameters(), twin.parameters(), start.parameters(), strict=True
    ):
        if p.ndim < 2:
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
            continue
        change = (p - p0).detach().flatten(1)
        scale = 0.01 * 0.2 * max(change.shape) ** 0.5
        # Five Newton-Schulz steps bring the singular values to about 1, between .5 and 1.5.
        values = torch.linalg.svdvals(change) / scale
        assert ((values > 0.4) & (values < 1.6)).all(), name


def test_muon_leaves_the_gradients_as_they_were():
    require("muon")
    model, loss = network()
    optimizer = baselines.make_optimizer("muon", model.parameters(), 0.01)
    for _ in range(2):
        loss(model).backward()
        before = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("only", ["matrices", "vectors"])
def test_muon_takes_matrices_alone_and_vectors_alone(only):
    require("muon")
    p = torch.nn.Parameter(torch.ones((2, 3) if only == "matrices" else 3))
    optimizer = baselines.make_optimizer("muon", [p], 0.01)
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert (p < 1).all()


@pytest.mark.parametrize("preset", ["full_batch", "mini_batch"])
def test_accelerator_hooks_into_muon_and_a_refused_jump_changes_nothing(preset):
    require("muon")
    runs = []
    for accelerated in (False, True):
        model, loss = network()
        optimizer = baselines.make_optimizer("muon", model.parameters(), 0.01)
        make = getattr(KoopmanAccelerator, preset)
        blind = {"trial_loss": lambda model, loss=loss: 0.0 * loss(model)}  # nothing is better
        with make(model, optimizer, **blind) if accelerated else nullcontext() as accelerator:
            for _ in range(120):
                step(model, loss, optimizer)
        if accelerated:
            assert accelerator.history
            assert not any(jump.taken for jump in accelerator.history)
        runs.append((list(model.parameters()), optimizer.state_dict()["state"]))
    (plain, plain_state), (wrapped, wrapped_state) = runs
    assert all(torch.equal(a, b) for a, b in zip(plain, wrapped, strict=True))
    for key, state in plain_state.items():
        assert all(torch.equal(value, wrapped_state[key][name]) for name, value in state.items())


def test_learning_rate_unknown_optimizer_lists_known_ones():
    with pytest.raises(ValueError, match=r"'lion'.*sgd, momentum, adam"):
        baselines.learning_rate("digits", "lion")


def test_learning_rate_not_tuned_lists_those_that_are(monkeypatch):
    monkeypatch.setitem(baselines.LEARNING_RATES, "digits", {"sgd": 1.0, "adam": 0.1})
    with pytest.raises(ValueError, match="digits has learning rates for sgd, adam only"):
        baselines.learning_rate("digits", "rmsprop")
