"""Accelerate around a small real model: what it wraps, accumulates, skips and checkpoints."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from accelerate import Accelerator  # noqa: E402
from accelerate.optimizer import AcceleratedOptimizer  # noqa: E402
from accelerate.state import AcceleratorState, GradientState  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from torch import nn  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402
from koopcore.torch.integrations.accelerate import koopman_accelerator, unwrap  # noqa: E402

IMAGES, LABELS = (torch.tensor(array) for array in load_digits(return_X_y=True))
IMAGES = (IMAGES / 16).float()


@pytest.fixture(autouse=True)
def _settings_of_no_other_test():
    _reset()
    yield
    _reset()


def _reset():
    """Forget what Accelerate keeps once for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def _loss(model):
    return nn.functional.cross_entropy(model(IMAGES[:128]), LABELS[:128])


def _prepared(accelerator, lr=0.1, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=lr))
    options = {"trial_loss": _loss, "max_overhead": None, **options}
    koopman = koopman_accelerator(accelerator, model, optimizer, **options)
    return model, optimizer, koopman


def _train(accelerator, model, optimizer, steps):
    for _ in range(steps):
        with accelerator.accumulate(model):
            optimizer.zero_grad()
            accelerator.backward(_loss(model))
            optimizer.step()


def test_prepared_training_jumps_and_ends_with_the_hook_gone():
    accelerator = Accelerator(cpu=True)
    model, optimizer, koopman = _prepared(accelerator, every=2)
    before = _loss(model).item()
    with koopman:
        _train(accelerator, model, optimizer, 100)
    assert koopman.stats.steps == 100
    assert koopman.stats.taken >= 1
    assert _loss(model).item() < before
    _train(accelerator, model, optimizer, 5)
    assert koopman.stats.steps == 100


def test_wrapper_is_taken_off():
    model = nn.Linear(2, 1)
    inside = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapped = Accelerator(cpu=True).prepare(inside)
    assert isinstance(wrapped, AcceleratedOptimizer)
    assert unwrap(wrapped) is inside
    assert unwrap(inside) is inside
    with pytest.raises(TypeError, match="unexpected keyword argument 'evry'"):
        koopman_accelerator(Accelerator(cpu=True), model, wrapped, trial_loss=_loss, evry=2)


def test_batches_that_accumulate_do_not_count():
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    model, optimizer, koopman = _prepared(accelerator, every=2)
    with koopman:
        _train(accelerator, model, optimizer, 100)
    assert koopman.stats.steps == 25
    assert koopman.stats.snapshots == 12


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_the_scaler_skips_do_not_count(fused):
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    model = nn.Linear(64, 10)
    inside = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    # Accelerate itself makes a scaler on a GPU only.
    optimizer = AcceleratedOptimizer(inside, scaler=torch.amp.GradScaler("cpu", init_scale=8.0))
    koopman = koopman_accelerator(accelerator, model, optimizer, trial_loss=_loss)
    skipped = 0
    with koopman:
        for step in range(20):
            optimizer.zero_grad()
            optimizer.scaler.scale(_loss(model)).backward()
            if step % 5 == 4:
                model.weight.grad[0, 0] = torch.inf
            before = model.weight.detach().clone()
            optimizer.step()
            skipped += torch.equal(before, model.weight)
    assert skipped == 4
    assert koopman.stats.steps == 16


def test_mixed_precision_forward_is_tried_as_it_is_trained():
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    seen = []

    def loss(model):
        with torch.no_grad():
            seen.append(model(IMAGES[:8]))
        return _loss(model)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    koopman = koopman_accelerator(accelerator, model, optimizer, trial_loss=loss, every=2)
    with koopman:
        _train(accelerator, model, optimizer, 40)
    assert koopman.stats.attempts >= 1
    assert seen[0].dtype == torch.float32  # converted back, but
    assert torch.equal(seen[0], seen[0].bfloat16().float())  # computed in bfloat16


@pytest.mark.parametrize("stop", [30, 47])
def test_resumed_from_a_checkpoint_it_ends_with_the_same_bits(tmp_path, stop):
    def fresh():
        accelerator = Accelerator(cpu=True)
        return accelerator, *_prepared(accelerator, every=2)

    accelerator, model, optimizer, koopman = fresh()
    with koopman:
        _train(accelerator, model, optimizer, stop)
        accelerator.save_state(tmp_path / "checkpoint")
        _train(accelerator, model, optimizer, 100 - stop)
    expected, jumps = model.state_dict(), [(j.step, j.horizon) for j in koopman.history]
    assert any(horizon for step, horizon in jumps if step > stop)

    accelerator, model, optimizer, koopman = fresh()
    with koopman:
        _train(accelerator, model, optimizer, 3)  # to be forgotten
        accelerator.load_state(tmp_path / "checkpoint")
        _train(accelerator, model, optimizer, 100 - stop)
    assert [(j.step, j.horizon) for j in koopman.history] == jumps
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_exception_in_the_loop_detaches():
    accelerator = Accelerator(cpu=True)
    model, optimizer, koopman = _prepared(accelerator)

    def loop():
        _train(accelerator, model, optimizer, 3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), koopman:
        loop()
    _train(accelerator, model, optimizer, 3)
    assert koopman.stats.steps == 3
    with koopman_accelerator(accelerator, model, optimizer, trial_loss=_loss) as again:
        assert isinstance(again, KoopmanAccelerator)
