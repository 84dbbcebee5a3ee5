"""Rivals and controls against closed forms and loops by hand: they do what their papers say."""

import copy
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_optimizer")
pytest.importorskip("schedulefree")

from koopcore.compare import protocol, registry, workloads  # noqa: E402
from koopcore.compare.baselines import NAMES as OPTIMIZERS  # noqa: E402
from koopcore.compare.baselines import make_optimizer  # noqa: E402
from koopcore.compare.methods.accelerated import EIGENVALUES, FITS, spectra_of  # noqa: E402
from koopcore.compare.methods.masked import PDT, displacements, mask  # noqa: E402
from koopcore.compare.methods.published import DograRedman  # noqa: E402
from koopcore.compare.methods.wrapped import BETA, Lookahead, ScheduleFree  # noqa: E402
from koopcore.torch.partition import Layout  # noqa: E402
from koopcore.torch.windows import make_window  # noqa: E402

RATES = {"sgd": 0.02, "momentum": 0.01, "nesterov": 0.01, "adadelta": 1.0}


class Toy:
    """A small regression in double precision, trained step by step."""

    def __init__(self, optimizer="sgd", hidden=4):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(3, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 2)
        ).double()
        self.x = torch.randn(12, 3, dtype=torch.float64)
        self.y = torch.randn(12, 2, dtype=torch.float64)
        rate = RATES.get(optimizer, 0.01)
        self.optimizer = make_optimizer(optimizer, self.model.parameters(), rate)
        self.problem = SimpleNamespace(model=self.model)

    def gradient(self, model=None):
        model = model or self.model
        model.zero_grad()
        torch.nn.functional.mse_loss(model(self.x), self.y).backward()

    def step(self, optimizer=None):
        self.gradient()
        (optimizer or self.optimizer).step()

    @property
    def weights(self):
        return flat(self.model)


def flat(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def trained(name, method, n_steps, read=True):
    """Return the weights after each step and what the method offered then."""
    toy, seen, offered = Toy(name), [], []
    with method.attach(toy.problem, toy.optimizer) as meter:
        for _ in range(n_steps):
            toy.step(meter.optimizer)
            seen.append(toy.weights)
            offered.append(flat(meter.evaluated) if read and meter.evaluated else None)
    return seen, offered, meter


@pytest.mark.parametrize("name", ["sgd", "adam", "muon"])
def test_lookahead_is_the_loop_of_its_paper(name):
    seen, offered, _ = trained(name, Lookahead(k=3), 10)
    toy = Toy(name)
    slow = toy.weights
    for step, (weights, offer) in enumerate(zip(seen, offered, strict=True), 1):
        toy.step()
        if step % 3 == 0:
            slow = slow + 0.5 * (toy.weights - slow)
            torch.nn.utils.vector_to_parameters(slow.clone(), toy.model.parameters())
        torch.testing.assert_close(weights, toy.weights)
        torch.testing.assert_close(offer, slow)


def schedule_free_by_hand(toy, update, n_steps, warm_up=0):
    """Return (y, x) after each step: ``update(gradient, rate)`` is what z goes down by."""
    z = x = y = toy.weights
    total, found = 0.0, []
    for step in range(n_steps):
        toy.gradient()
        rate = min(1.0, (step + 1) / warm_up) if warm_up else 1.0
        z = z - update(torch.cat([p.grad.ravel() for p in toy.model.parameters()]), rate)
        total += rate**2
        x = x + (z - x) * rate**2 / total
        y = (1 - BETA) * z + BETA * x
        torch.nn.utils.vector_to_parameters(y.clone(), toy.model.parameters())
        found.append((y, x))
    return found


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_schedule_free_sgd_is_the_recursion_with_its_warm_up(name):
    rate = RATES[name] * (1 if name == "sgd" else 10)  # the size of steps with momentum 0.9
    seen, offered, _ = trained(name, ScheduleFree(0.5, budget=80), 12)
    hand = schedule_free_by_hand(
        Toy(name), lambda gradient, share: 0.5 * rate * share * gradient, 12, warm_up=4
    )
    for weights, offer, (y, x) in zip(seen, offered, hand, strict=True):
        torch.testing.assert_close(weights, y)
        torch.testing.assert_close(offer, x)


def test_schedule_free_adam_normalises_the_gradient_and_averages():
    seen, offered, _ = trained("adam", ScheduleFree(3, budget=4), 12)
    squares, count = 0.0, 0

    def update(gradient, share):
        nonlocal squares, count
        count += 1
        squares = 0.999 * squares + 0.001 * gradient**2
        return 0.03 * gradient / ((squares / (1 - 0.999**count)).sqrt() + 1e-8)

    hand = schedule_free_by_hand(Toy("adam"), update, 12)
    for weights, offer, (y, x) in zip(seen, offered, hand, strict=True):
        torch.testing.assert_close(weights, y)
        torch.testing.assert_close(offer, x)


@pytest.mark.parametrize("name", ["rmsprop", "adadelta", "adagrad", "nadam", "muon"])
def test_schedule_free_wraps_any_other_optimizer_around_z(name):
    seen, offered, _ = trained(name, ScheduleFree(0.5, budget=4), 12)
    toy, inner = Toy(name), Toy(name)  # the second one's weights are z
    for group in inner.optimizer.param_groups:
        group["lr"] *= 0.5

    def update(gradient, share):
        before = inner.weights
        for p, q in zip(inner.model.parameters(), toy.model.parameters(), strict=True):
            p.grad = q.grad.clone()
        inner.optimizer.step()
        return before - inner.weights

    hand = schedule_free_by_hand(toy, update, 12)
    for weights, offer, (y, x) in zip(seen, offered, hand, strict=True):
        torch.testing.assert_close(weights, y, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(offer, x, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
def test_what_schedule_free_offers_is_its_librarys_own_and_costs_training_no_bit(name):
    method = partial(ScheduleFree, 2, budget=40)
    watched, offered, _ = trained(name, method(), 9)
    unwatched, _, other = trained(name, method(), 9, read=False)
    assert all(map(torch.equal, watched, unwatched))
    other.optimizer.eval()
    pairs = [p for group in other.optimizer.param_groups for p in group["params"]]
    torch.testing.assert_close(torch.cat([p.detach().ravel() for p in pairs]), offered[-1])


def test_schedule_free_offers_the_start_before_the_first_step():
    toy = Toy()
    with ScheduleFree(1, budget=10).attach(toy.problem, toy.optimizer) as meter:
        assert torch.equal(flat(meter.evaluated), toy.weights)


@pytest.mark.parametrize("spec", ["null", "identity"])
@pytest.mark.parametrize("name", ["hamiltonian", "digits-64:0.1"])
def test_controls_that_change_nothing_leave_training_alone_to_the_bit(spec, name):
    pytest.importorskip("sklearn")
    bare, run = protocol.run_methods(workloads.load(name), "adam", 0, 150, [spec])
    assert (run.refused > 0) == (spec == "identity")
    losses = [dict(zip(r.curve["step"], r.curve["train_loss"], strict=True)) for r in (bare, run)]
    common = losses[0].keys() & losses[1].keys()
    assert len(common) > 3
    assert all(losses[0][step] == losses[1][step] for step in common)
    if spec == "null":
        assert {k: s.steps for k, s in run.scores.items()} == {
            k: s.steps for k, s in bare.scores.items()
        }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_reset_is_a_new_optimizer_every_so_many_steps(name):
    toys = Toy(name), Toy(name)
    method = registry.make("reset:4", 100)
    with method.attach(toys[0].problem, toys[0].optimizer):
        for step in range(1, 11):
            for toy in toys:
                toy.optimizer.step(partial(closure, toy)) if name == "lbfgs" else toy.step()
            assert torch.equal(toys[0].weights, toys[1].weights)
            if step % 4 == 0:
                parameters = toys[1].model.parameters()
                toys[1].optimizer = make_optimizer(name, parameters, RATES.get(name, 0.01))


def closure(toy):
    toy.gradient()
    return torch.nn.functional.mse_loss(toy.model(toy.x), toy.y)


@pytest.mark.parametrize("partition", registry.VARIANTS["dogra-redman"])
def test_the_published_operators_are_least_squares_between_raw_weights(partition):
    toy, budget = Toy("sgd", hidden=2), 120
    layout = Layout(
        dict(toy.model.named_parameters()),
        ("quasi-node", 10) if partition == "quasi-node" else partition,
        toy.model,
    )
    columns = []
    with DograRedman(partition, budget).attach(toy.problem, toy.optimizer) as meter:
        for step in range(1, 115):
            toy.gradient()
            if step == 114:  # the step of the jump
                bare = copy.deepcopy(toy)
                bare.optimizer = torch.optim.SGD(bare.model.parameters(), lr=RATES["sgd"])
                for p, q in zip(bare.model.parameters(), toy.model.parameters(), strict=True):
                    p.grad = q.grad.clone()
                bare.optimizer.step()
            toy.optimizer.step()
            if step >= 88:  # 74 % of the budget
                state = torch.empty(layout.size, dtype=torch.float64)
                layout.gather(list((bare if step == 114 else toy).model.parameters()), state)
                columns.append(state.numpy())
    snapshots = np.array(columns).T
    expected = np.empty(layout.size)
    for start, stop in layout.segments:
        block = snapshots[start:stop]
        operator = block[:, 1:] @ np.linalg.pinv(block[:, :-1], rcond=1e-8)
        expected[start:stop] = np.linalg.matrix_power(operator, 7) @ block[:, -1]
    found = torch.empty(layout.size, dtype=torch.float64)
    layout.gather(list(toy.model.parameters()), found)
    change = np.abs(expected - snapshots[:, -1]).max()
    assert np.abs(found.numpy() - expected).max() < 1e-4 * change
    assert [(j.step, j.horizon, j.taken) for j in meter.jumps] == [(114, 7, True)]
    assert meter.spectra["step"] == [114]


def test_the_published_window_of_a_large_model_begins_later(monkeypatch):
    toy = Toy()
    size = sum(p.nbytes for p in toy.model.parameters())
    monkeypatch.setattr("koopcore.compare.methods.published.MEMORY", 5 * size)
    with DograRedman("network", 120).attach(toy.problem, toy.optimizer) as meter:
        for _ in range(114):
            toy.step()
    assert len(meter.jumps[0].eigenvalues) <= 4  # five snapshots
    assert meter.jumps[0].horizon == 7


def window_of(snapshots):
    window = make_window(
        Layout({"weights": snapshots[0]}), len(snapshots), like=[snapshots[0]], raw=True
    )
    for snapshot in snapshots:
        window.push([snapshot])
    return window


def projected_dmd(snapshots, horizons):
    """The displacements by the textbook: rank by the hard threshold, projected modes."""
    before, after = snapshots[:-1].T, snapshots[1:].T
    u, s, vt = np.linalg.svd(before, full_matrices=False)
    beta = before.shape[1] / before.shape[0]
    omega = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
    rank = max(1, int((s > omega * np.median(s)).sum()))
    u, s, v = u[:, :rank], s[:rank], vt[:rank].T
    values, vectors = np.linalg.eig(u.T @ after @ v / s)
    modes = u @ vectors
    start = np.linalg.pinv(modes) @ snapshots[-1]
    return np.array([((modes * (values**k - 1)) @ start).real for k in horizons]), values


def test_pdt_forecasts_by_projected_dmd_of_the_raw_weights():
    generator = np.random.default_rng(0)
    decays = np.array([1.0, 0.9, 0.5])[:, None] ** np.arange(5)
    snapshots = (generator.normal(size=(40, 3)) @ decays).T
    snapshots += 1e-3 * generator.normal(size=snapshots.shape)
    given = torch.from_numpy(snapshots)
    ahead, eigenvalues = displacements(window_of(given), given[-1], range(1, 6))
    expected, values = projected_dmd(snapshots, range(1, 6))
    np.testing.assert_allclose(ahead.numpy(), expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(np.sort(np.abs(eigenvalues)), np.sort(np.abs(values)), rtol=1e-8)


def test_pdt_masks_by_distance_and_by_the_side_of_every_step():
    moved = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, 0.0, 1.0])
    ahead = torch.ones(5, 7).cumsum(0) * torch.tensor([0.5, 0.2, 1.01, -0.5, -1.0, 0.0, 0.5])
    ahead[2, 6] = -0.1  # one step of five on the other side
    expected = [True, False, False, False, True, False, False]
    assert mask(ahead, moved).tolist() == expected


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_pdt_is_the_loop_of_its_paper(name):
    seen, _, meter = trained(name, PDT(every=3), 60)
    toy, history, jumps = Toy(name), [Toy(name).weights.numpy()], []
    for step, weights in enumerate(seen, 1):
        toy.step()
        if step % 3 == 0:
            current = toy.weights.numpy()
            if len(history) >= 5:
                ahead, _ = projected_dmd(np.array(history[-5:]), range(1, 6))
                moved = current - history[-1]
                chosen = (np.sign(ahead) == np.sign(moved)).all(axis=0)
                chosen &= np.abs(moved) < np.abs(ahead[-1])
                chosen &= np.abs(ahead[-1]) <= 5 * np.abs(moved)
                jumps.append(bool(chosen.any()))
                current = np.where(chosen, history[-1] + ahead[-1], current)
                torch.nn.utils.vector_to_parameters(
                    torch.from_numpy(current.copy()), toy.model.parameters()
                )
            history.append(current)
        torch.testing.assert_close(weights, toy.weights, rtol=1e-6, atol=1e-9)
    assert [jump.taken for jump in meter.jumps] == jumps
    assert any(jumps)
    assert all(jump.horizon == (12 if jump.taken else 0) for jump in meter.jumps)


def test_pdt_says_nothing_about_weights_that_are_not_finite():
    toy = Toy()
    with PDT(every=1).attach(toy.problem, toy.optimizer) as meter:
        for step in range(8):
            toy.gradient()
            if step == 6:
                toy.model[0].weight.grad[0, 0] = math.inf
            toy.optimizer.step()
    assert len(meter.jumps) == 2  # after five snapshots, until there are infinite ones


def test_averaging_only_never_looks_ahead_and_offers_its_average():
    workload = workloads.load("hamiltonian")
    (run,) = protocol.run_methods(workload, "sgd", 0, 400, ["averaging-only"])[1:]
    assert run.taken + run.refused > 0
    assert set(run.jumps["horizon"]) <= {1}
    problem = workload.build(0)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.01)
    with registry.make("averaging-only", 400).attach(problem, optimizer) as meter:
        assert isinstance(meter.evaluated, torch.nn.Module)


def test_spectra_are_thinned_evenly_to_the_largest_eigenvalues():
    def attempt(step, n):
        return SimpleNamespace(step=step, eigenvalues=np.arange(n) * 1j + step)

    many = spectra_of([attempt(step, step % 3) for step in range(1, 31)])
    assert many["step"][0] == 1
    assert many["step"][-1] == 29  # the last one that has eigenvalues
    assert {len(column) for column in many.values()} == {FITS}
    one = spectra_of([attempt(3, 100), SimpleNamespace(step=4, eigenvalues=np.array([np.inf]))])
    assert one["step"] == [3]
    assert one["imag"] == [list(range(99, 99 - EIGENVALUES, -1))]
    assert one["real"] == [[3.0] * EIGENVALUES]
    assert spectra_of([attempt(3, 0)]) == {}


@pytest.mark.parametrize("name", ["koopcore", "secant", "pdt:1"])
def test_methods_that_jump_do_so_beside_lbfgs_too(name):
    toy = Toy("lbfgs")
    toy.problem.preset, toy.problem.trial_size, toy.problem.batch_size = "full_batch", 1, 1
    toy.problem.trial_loss = lambda model: torch.nn.functional.mse_loss(model(toy.x), toy.y)
    with registry.make(name, 100).attach(toy.problem, toy.optimizer) as meter:
        for _ in range(12):
            toy.optimizer.step(partial(closure, toy))
    assert len(meter.jumps) > 0


@pytest.mark.parametrize(
    ("optimizer", "name", "rate"),
    [
        ("adam", "digits-64:0.1", 0.01),
        ("sgd", "digits-64:0.1", 0.1),
        ("lbfgs", "digits:0.1", 1.0),
    ],
)
def test_every_method_runs_beside_every_kind_of_optimizer(optimizer, name, rate, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(protocol, "learning_rate", lambda *_: rate)
    specs = [
        f"{spec}:{registry.GRIDS[spec][0]:g}" if spec in registry.GRIDS else spec
        for spec in registry.ALL_METHODS
        if registry.refusal(spec, optimizer) is None
    ]
    _, *runs = protocol.run_methods(workloads.load(name), optimizer, 0, 60, specs)
    assert [run.method for run in runs] == specs
    assert [run.violations for run in runs] == [[]] * len(runs)
