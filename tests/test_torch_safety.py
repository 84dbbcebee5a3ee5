"""What users do to a training loop: nothing of it may break training or do harm unseen."""

import copy
import logging
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from training_runs import differs, everything, regression, train  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402


def _accelerated(model, optimizer, loss, **options):
    options = {"window": 4, "every": 1, "max_overhead": None} | options
    return KoopmanAccelerator(model, optimizer, trial_loss=loss, **options)


def _warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def _linear_run(noise):
    model, loss = regression(torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(0)
    with _accelerated(model, optimizer, None, window=8) as accelerator:
        for _ in range(160):
            train(model, optimizer, loss, 1)
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(noise * torch.randn_like(p))
    return accelerator, loss(model).item()


def test_without_a_trial_a_clean_linear_problem_is_jumped():
    accelerator, reached = _linear_run(0.0)
    assert accelerator.stats.taken >= 1
    assert accelerator.stats.trials == 0
    assert max(jump.horizon for jump in accelerator.jumps) <= 3  # as far as was validated
    model, loss = regression(torch.float64)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), loss, 160)
    assert reached <= loss(model).item()


def test_without_a_trial_noise_is_not_jumped():
    accelerator, _ = _linear_run(0.1)
    assert accelerator.stats.attempts >= 2
    assert accelerator.stats.taken == 0
    assert "cross-validation does not vouch" in accelerator.history[0].reason


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_trial_that_is_not_finite_is_a_refusal(value, caplog):
    model, loss = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with _accelerated(model, optimizer, lambda m: value) as accelerator:
        train(model, optimizer, loss, 12)
    assert accelerator.stats.taken == 0 < accelerator.stats.refused
    assert len(_warnings(caplog)) == 1


def test_noisy_trials_of_several_batches_are_rarely_believed():
    model, loss = regression(hidden=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    noise = np.random.default_rng(0)

    def trial(m):
        return torch.from_numpy(noise.standard_normal(16))

    with _accelerated(model, optimizer, trial, window=3, horizons=[1]) as accelerator:
        train(model, optimizer, loss, 600)
    assert accelerator.stats.attempts >= 20
    assert accelerator.stats.taken <= 0.15 * accelerator.stats.attempts


def test_trial_that_writes_to_the_weights_reaches_copies_only():
    model, loss = regression(hidden=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bare, bare_optimizer = copy.deepcopy((model, optimizer))
    train(bare, bare_optimizer, loss, 9)

    def trial(m):
        with torch.no_grad():
            for p in m.parameters():
                p.zero_()
        m.load_state_dict({name: t + 1 for name, t in m.state_dict().items()})
        return math.inf

    with _accelerated(model, optimizer, trial):
        train(model, optimizer, loss, 9)
    assert not differs(everything(model, optimizer)[:2], everything(bare, bare_optimizer)[:2])


@pytest.mark.parametrize("options", [{}, {"average": 2, "every": 2}, {"observe": "gradients"}])
def test_resized_weights_start_the_window_afresh(options, caplog):
    model, loss = regression(hidden=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with _accelerated(model, optimizer, loss, **options) as accelerator:
        train(model, optimizer, loss, 7)
        before = accelerator.stats.attempts
        model[0].weight.data = torch.randn(5, 4)
        model[0].bias.data = torch.zeros(5)
        model[2].weight.data = torch.randn(1, 5)
        optimizer.zero_grad()
        train(model, optimizer, loss, 20)
    assert accelerator.stats.steps == 27
    assert accelerator.stats.attempts > before
    assert not [jump for jump in accelerator.history if "failed" in jump.reason]
    assert len(_warnings(caplog)) == 1


@pytest.mark.parametrize("options", [{}, {"average": 2, "every": 2}, {"state": "carry"}])
def test_weights_frozen_and_thawed_in_the_middle(options, caplog):
    model, loss = regression(hidden=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with _accelerated(model, optimizer, loss, **options) as accelerator:
        train(model, optimizer, loss, 9)
        model[0].requires_grad_(False)
        optimizer.zero_grad()  # sets the gradients to None
        frozen = copy.deepcopy(model[0].state_dict())
        taken = accelerator.stats.taken
        train(model, optimizer, loss, 24)
        assert accelerator.stats.taken > taken
        assert not differs(frozen, model[0].state_dict())
        assert accelerator.state_dict()["engine"]["names"] == ["2.weight", "2.bias"]
        model[0].requires_grad_(True)
        train(model, optimizer, loss, 24)
        assert len(accelerator.state_dict()["engine"]["names"]) == 4
    assert not [jump for jump in accelerator.history if "failed" in jump.reason]
    assert len(_warnings(caplog)) == 1
    assert "other parameters are trained now" in _warnings(caplog)[0]


def test_weights_frozen_from_the_start_join_when_they_are_thawed():
    model, loss = regression(hidden=3)
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with _accelerated(model, optimizer, loss) as accelerator:
        train(model, optimizer, loss, 6)
        model[0].requires_grad_(True)
        train(model, optimizer, loss, 6)
        assert len(accelerator.state_dict()["engine"]["names"]) == 4


def test_parameters_added_in_the_middle_join():
    model, loss = regression(hidden=3)
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.05)
    with _accelerated(model, optimizer, loss) as accelerator:
        train(model, optimizer, loss, 6)
        optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.01})
        train(model, optimizer, loss, 10)
        assert len(accelerator.state_dict()["engine"]["names"]) == 4
    assert accelerator.stats.attempts >= 3


def test_weights_exchanged_for_others_of_the_same_shape_are_noticed():
    model, loss = regression(hidden=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with _accelerated(model, optimizer, loss) as accelerator:
        train(model, optimizer, loss, 6)
        model[0].weight = nn.Parameter(torch.randn(3, 4))
        optimizer.param_groups[0]["params"] = list(model.parameters())
        train(model, optimizer, loss, 8)
        assert accelerator._engine.parameters["0.weight"] is model[0].weight
    assert accelerator.stats.taken >= 1


def test_another_data_type_in_the_middle_of_a_run(caplog):
    model, loss = regression(torch.float64, hidden=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with _accelerated(model, optimizer, loss) as accelerator:
        train(model, optimizer, loss, 6)
        attempts = accelerator.stats.attempts
        model[2].float()
        for _ in range(8):  # no forward pass works now, but steps do
            optimizer.step()
        model[2].double()
        optimizer.zero_grad()
        train(model, optimizer, loss, 12)
        assert accelerator.stats.attempts > attempts
    assert accelerator.stats.steps == 26
    assert any("mixes data types: '0.weight' is torch.float64" in m for m in _warnings(caplog))


@pytest.mark.parametrize("partition", ["network", "layer", "node", "weight", ("quasi-node", 2)])
def test_rows_of_an_embedding_that_no_batch_touched_stay(partition):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 4), nn.Linear(4, 20))
    tokens = torch.arange(0, 20, 3)
    untouched = torch.tensor([i for i in range(20) if i not in tokens])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = model[0].weight[untouched].clone()

    def loss(m):
        return nn.functional.cross_entropy(m(tokens), tokens.roll(1))

    with _accelerated(model, optimizer, loss, partition=partition) as accelerator:
        train(model, optimizer, loss, 12)
    assert accelerator.stats.taken >= 1
    assert torch.equal(model[0].weight[untouched], before)


class Adapted(nn.Module):
    """A frozen layer with a low-rank adapter (LoRA)."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(4, 6).requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.zeros(6, 2))
        self.head = nn.Linear(6, 1).requires_grad_(False)

    def forward(self, x):
        return self.head(torch.tanh(self.base(x) + x @ self.down.T @ self.up.T))


def test_adapters_jump_and_their_frozen_base_stays():
    _, loss = regression()
    model = Adapted()
    frozen = copy.deepcopy((model.base.state_dict(), model.head.state_dict()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with _accelerated(model, optimizer, loss) as accelerator:
        train(model, optimizer, loss, 12)
        assert accelerator.state_dict()["engine"]["names"] == ["down", "up"]
    assert accelerator.stats.taken >= 1
    assert not differs(frozen, (model.base.state_dict(), model.head.state_dict()))


@pytest.mark.parametrize("state", ["keep", "reset"])
def test_excluded_parameters_and_their_state_are_left_to_the_optimizer(state):
    model, loss = regression(hidden=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    bare, bare_optimizer = copy.deepcopy((model, optimizer))
    train(bare, bare_optimizer, loss, 4)
    partition = {r"^0\.": "exclude"}
    with _accelerated(model, optimizer, loss, partition=partition, state=state) as accelerator:
        train(model, optimizer, loss, 4)
    assert accelerator.stats.taken == 1
    assert not differs(model[0].state_dict(), bare[0].state_dict())
    assert differs(model[2].state_dict(), bare[2].state_dict())
    for p, q in zip(model[0].parameters(), bare[0].parameters(), strict=True):
        assert not differs(optimizer.state[p], bare_optimizer.state[q])


@pytest.mark.parametrize("steps", [0, 5])
def test_an_optimizer_that_was_replaced_is_noticed(steps, caplog):
    model, loss = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    used = torch.optim.SGD(model.parameters(), lr=0.1)
    accelerator = _accelerated(model, optimizer, loss).attach()
    train(model, used, loss, steps)
    accelerator.detach()
    accelerator.detach()
    assert len(_warnings(caplog)) == (steps > 0)
    assert all("not by a step of the optimizer" in message for message in _warnings(caplog))
    with accelerator:
        train(model, optimizer, loss, 2)
        train(model, used, loss, 2)  # two in turn are not our business
    assert len(_warnings(caplog)) == (steps > 0)


def test_an_error_of_log_fn_reaches_the_user_and_the_next_windows_go_on():
    model, loss = regression(hidden=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    raised = []

    def log_fn(fields, step):
        if not raised:
            raised.append(step)
            raise OSError("disk full")

    accelerator = _accelerated(model, optimizer, loss, log_fn=log_fn).attach()
    with pytest.raises(OSError, match="disk full"):
        train(model, optimizer, loss, 6)
    train(model, optimizer, loss, 8)
    assert [jump.step for jump in accelerator.history] == [4, 8, 12]


def test_an_interrupt_in_a_loop_that_goes_on_starts_the_window_afresh():
    model, loss = regression(hidden=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    stop = [True]

    def trial(m):
        if stop.pop() if stop else False:
            raise KeyboardInterrupt
        return loss(m)

    with _accelerated(model, optimizer, trial) as accelerator:
        with pytest.raises(KeyboardInterrupt):
            train(model, optimizer, loss, 6)
        assert accelerator.stats.steps == 4
        train(model, optimizer, loss, 3)
        assert accelerator.stats.attempts == 0
        train(model, optimizer, loss, 1)
        assert accelerator.stats.attempts == 1


def test_a_jump_that_cannot_be_written_teaches_the_trust_region_nothing(monkeypatch):
    model, loss = regression(hidden=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with _accelerated(model, optimizer, loss, state="carry") as accelerator:
        engine = accelerator._engine

        def fails(coefficients):
            raise ValueError("not finite")

        monkeypatch.setattr(engine._carrier, "combine", fails)
        train(model, optimizer, loss, 4)
        assert accelerator.stats.taken == 0
        assert "forecast failed: not finite" in accelerator.history[0].reason
        assert accelerator._trust.state_dict()["last"] is None


def test_a_layer_whose_forecast_does_harm_stays_where_it_is():
    model, loss = regression(hidden=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    bare = copy.deepcopy(model)
    train(bare, torch.optim.SGD(bare.parameters(), lr=0.05), loss, 4)
    here = [copy.deepcopy(layer.state_dict()) for layer in bare]

    def moved(m, i):
        return sum(
            float((p.detach() - here[i][name]).abs().sum()) for name, p in m[i].named_parameters()
        )

    def trial(m):
        return 0.1 * moved(m, 0) - moved(m, 2)

    with _accelerated(model, optimizer, trial, acceptance="layer", horizons=[4]) as accelerator:
        train(model, optimizer, loss, 4)
    assert accelerator.stats.taken == 1
    assert not differs(model[0].state_dict(), here[0])
    assert differs(model[2].state_dict(), here[2])
    assert trial(model) == pytest.approx(accelerator.history[0].loss_after)
