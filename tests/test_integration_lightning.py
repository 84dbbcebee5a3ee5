"""Lightning's Trainer with the callback: jumps, checkpoints, several optimizers, exceptions."""

import copy
import csv
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from lightning.pytorch import LightningModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import Callback, ModelCheckpoint  # noqa: E402
from lightning.pytorch.core.optimizer import LightningOptimizer  # noqa: E402
from lightning.pytorch.loggers import CSVLogger  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from torch import nn  # noqa: E402

from koopcore.torch.integrations.lightning import KoopmanCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning",  # Lightning's, of torch
    "ignore:.*smaller than the logging interval",
    "ignore:Checkpoint directory .* exists and is not empty",
)

IMAGES, LABELS = (torch.tensor(array) for array in load_digits(return_X_y=True))
IMAGES, LABELS = (IMAGES[:256] / 16).float(), LABELS[:256]


class Batches:
    """A loader that knows its place in the epoch, which Lightning keeps in its checkpoints."""

    def __init__(self):
        self.place = 0

    def __len__(self):
        return 4

    def __iter__(self):
        self.place %= len(self)
        while self.place < len(self):
            rows = slice(64 * self.place, 64 * (self.place + 1))
            self.place += 1
            yield IMAGES[rows], LABELS[rows]

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


class Digits(LightningModule):
    def __init__(self, fail_at=None):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        self.fail_at = fail_at

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        if self.global_step == self.fail_at:
            raise ZeroDivisionError
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.5)

    def train_dataloader(self):
        return Batches()


class TwoOptimizers(Digits):
    """Each layer has its own optimizer, stepped by hand, one of them every other time."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        self.manual_backward(super().training_step(batch, batch_idx))
        first.step()
        first.zero_grad()
        if batch_idx % 2:
            second.step()
            second.zero_grad()

    def configure_optimizers(self):
        return (
            torch.optim.SGD(self.net[0].parameters(), lr=0.05),
            torch.optim.Adam(self.net[2].parameters(), lr=0.001),
        )


def trial_loss(module):
    return nn.functional.cross_entropy(module(IMAGES), LABELS)


def _callback(**options):
    return KoopmanCallback(trial_loss=trial_loss, **{"every": 2, "max_overhead": None, **options})


def _trainer(tmp_path, *callbacks, epochs=15, **options):
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, "enable_checkpointing": False, **options},
    )


def _fit(tmp_path, model, *callbacks, ckpt_path=None, **options):
    trainer = _trainer(tmp_path, *callbacks, **options)
    trainer.fit(model, ckpt_path=ckpt_path)
    return trainer


def _jumps(callback):
    return [(jump.step, jump.horizon) for jump in callback.koopman.history]


def _step_by_hand(optimizer):
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.zeros_like(p)
    optimizer.step()


def test_training_jumps_and_the_hook_is_gone_afterwards(tmp_path):
    callback, model = _callback(), Digits()
    assert callback.koopman is None
    trainer = _fit(tmp_path, model, callback)
    assert callback.koopman.stats.steps == 60
    assert callback.koopman.stats.taken >= 1
    bare = Digits()
    _fit(tmp_path, bare)
    assert trial_loss(model) < trial_loss(bare)
    _step_by_hand(trainer.optimizers[0])
    assert callback.koopman.stats.steps == 60


def test_accumulated_batches_do_not_count(tmp_path):
    callback = _callback()
    _fit(tmp_path, Digits(), callback, accumulate_grad_batches=4)
    assert callback.koopman.stats.steps == 15


def test_bf16_autocast_trains_and_tries(tmp_path):
    callback = _callback()
    _fit(tmp_path, Digits(), callback, precision="bf16-mixed")
    assert callback.koopman.stats.steps == 60
    assert callback.koopman.stats.attempts >= 1


@pytest.mark.parametrize("every_n_train_steps", [20, 28, 33])  # 33: in the middle of an epoch
def test_resumed_from_a_checkpoint_it_ends_with_the_same_bits(tmp_path, every_n_train_steps):
    def saving():
        return ModelCheckpoint(tmp_path, every_n_train_steps=every_n_train_steps, save_top_k=-1)

    model, callback = Digits(), _callback()
    _fit(tmp_path, model, callback, saving(), enable_checkpointing=True)
    (checkpoint,) = tmp_path.glob(f"*step={every_n_train_steps}.ckpt")
    jumps = _jumps(callback)
    assert any(horizon for step, horizon in jumps if step > every_n_train_steps)

    resumed, callback = Digits(), _callback()
    torch.nn.init.zeros_(resumed.net[0].weight)  # to be overwritten
    _fit(tmp_path, resumed, callback, saving(), enable_checkpointing=True, ckpt_path=checkpoint)
    assert _jumps(callback) == jumps
    assert callback.koopman.stats.steps == 60
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_saved_after_the_end_it_goes_on_with_the_same_bits(tmp_path):
    model, callback = Digits(), _callback()
    _fit(tmp_path, model, callback)
    half = Digits()
    _fit(tmp_path, half, _callback(), epochs=8).save_checkpoint(tmp_path / "half.ckpt")
    resumed, again = Digits(), _callback()
    _fit(tmp_path, resumed, again, ckpt_path=tmp_path / "half.ckpt")
    assert _jumps(again) == _jumps(callback)
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_checkpoint_holds_nothing_that_weights_only_refuses(tmp_path):
    trainer = _fit(tmp_path, Digits(), _callback(), epochs=5)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    content = torch.load(tmp_path / "it.ckpt", weights_only=True)
    assert list(content["callbacks"]) == ["KoopmanCallback{'optimizer_index': 0}"]
    callback = _callback()
    resumed = _trainer(tmp_path, callback)
    resumed.fit(Digits(), ckpt_path=tmp_path / "it.ckpt", weights_only=True)
    assert callback.koopman.stats.steps == 60


def test_second_fit_of_the_same_callback_starts_afresh(tmp_path):
    callback = _callback()
    _fit(tmp_path, Digits(), callback)
    first = callback.koopman, _jumps(callback)
    _fit(tmp_path, Digits(), callback)
    assert callback.koopman is not first[0]
    assert _jumps(callback) == first[1]


def test_several_optimizers_need_an_index(tmp_path):
    with pytest.raises(ValueError, match=r"2 optimizers \(SGD, Adam\).*optimizer_index"):
        _fit(tmp_path, TwoOptimizers(), _callback())
    with pytest.raises(ValueError, match=r"optimizer_index=2.*has 2 optimizers"):
        _fit(tmp_path, TwoOptimizers(), _callback(optimizer_index=2))


def test_one_callback_per_optimizer_counts_and_resumes_its_own(tmp_path):
    def pair():
        return _callback(optimizer_index=0), _callback(optimizer_index=1, every=1)

    model, callbacks = TwoOptimizers(), pair()
    _fit(tmp_path, model, *callbacks)
    assert [callback.koopman.stats.steps for callback in callbacks] == [60, 30]
    half = pair()
    trainer = _fit(tmp_path, TwoOptimizers(), *half, epochs=7)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, again = TwoOptimizers(), pair()
    _fit(tmp_path, resumed, *reversed(again), ckpt_path=tmp_path / "half.ckpt")
    assert [_jumps(callback) for callback in again] == [_jumps(callback) for callback in callbacks]
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_two_callbacks_for_one_optimizer_are_refused(tmp_path):
    with pytest.raises(RuntimeError, match="state_key"):
        _trainer(tmp_path, _callback(), _callback(optimizer_index=0))


def test_wrapped_optimizer_is_hooked_inside(tmp_path):
    class Wrapped(Digits):
        def configure_optimizers(self):
            return LightningOptimizer(super().configure_optimizers())

    callback = _callback()
    _fit(tmp_path, Wrapped(), callback, epochs=3)
    assert callback.koopman.stats.steps == 12


@pytest.mark.parametrize("where", ["training_step", "another callback"])
def test_exception_detaches(tmp_path, where):
    class Failing(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 5 and where == "another callback":
                raise ZeroDivisionError

    callback, trainer = _callback(), None
    trainer = _trainer(tmp_path, Failing(), callback)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(Digits(fail_at=5 if where == "training_step" else None))
    assert callback.koopman.stats.steps == 5
    _step_by_hand(trainer.optimizers[0])
    assert callback.koopman.stats.steps == 5


def test_interrupt_detaches(tmp_path):
    class Interrupting(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 5:
                raise KeyboardInterrupt

    callback = _callback()
    trainer = _trainer(tmp_path, callback, Interrupting())
    with pytest.raises(SystemExit):
        trainer.fit(Digits())
    _step_by_hand(trainer.optimizers[0])
    assert callback.koopman.stats.steps == 5


def test_jumps_reach_the_loggers_whatever_the_interval(tmp_path):
    callback = _callback()
    _fit(tmp_path, Digits(), callback, logger=CSVLogger(tmp_path), log_every_n_steps=50)
    with open(next(tmp_path.rglob("metrics.csv"))) as file:
        rows = [row for row in csv.DictReader(file) if row["koopman/horizon"]]
    assert [(int(row["step"]), float(row["koopman/horizon"])) for row in rows] == _jumps(callback)
    taken = [bool(float(row["koopman/taken"])) for row in rows]
    assert taken == [horizon > 0 for _, horizon in _jumps(callback)]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_make_their_own_accelerator(tmp_path, duplicate):
    original = _callback()
    _fit(tmp_path, Digits(), original)
    twin = duplicate(original)
    assert twin.koopman is None
    assert twin.state_key == original.state_key
    _fit(tmp_path, Digits(), twin)
    assert _jumps(twin) == _jumps(original)


def test_copy_of_a_trainer_trains(tmp_path):
    trainer = copy.deepcopy(_trainer(tmp_path, _callback()))
    trainer.fit(Digits())
    callback = next(c for c in trainer.callbacks if isinstance(c, KoopmanCallback))
    assert callback.koopman.stats.steps == 60


def test_module_is_copied_in_the_middle_of_training(tmp_path):
    """As callbacks that average weights do."""

    class Copying(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.global_step == 11:
                self.twin = copy.deepcopy(pl_module)

    copying, callback = Copying(), _callback()
    _fit(tmp_path, Digits(), callback, copying)
    twin = copying.twin
    _step_by_hand(twin.configure_optimizers())
    assert callback.koopman.stats.steps == 60


TWO_PROCESSES = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from lightning.pytorch import Callback, Trainer
from test_integration_lightning import Digits, KoopmanCallback, trial_loss

def unequal(module):
    return trial_loss(module) * (1 + torch.distributed.get_rank())

class Compare(Callback):
    def on_train_end(self, trainer, pl_module):
        weights = torch.cat([p.detach().flatten() for p in pl_module.parameters()])
        ours, theirs = pl_module.all_gather(weights)
        assert torch.equal(ours, theirs)
        koopman = next(c.koopman for c in trainer.callbacks if isinstance(c, KoopmanCallback))
        assert koopman.stats.taken >= 1
        assert koopman.stats.steps == 60

if __name__ == "__main__":
    callbacks = [Compare(), KoopmanCallback(trial_loss=unequal, every=2)]
    Trainer(
        accelerator="cpu", devices=2, strategy="ddp_spawn", max_epochs=15, logger=False,
        callbacks=callbacks, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    ).fit(Digits())
    print("both alike")
"""


def test_two_processes_jump_alike(tmp_path):
    program = tmp_path / "two_processes.py"
    program.write_text(TWO_PROCESSES)
    result = subprocess.run(
        [sys.executable, str(program), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert "both alike" in result.stdout, result.stderr


def test_unknown_options_are_told_at_once():
    with pytest.raises(TypeError, match="unexpected keyword argument 'evry'"):
        KoopmanCallback(trial_loss=trial_loss, evry=2)
