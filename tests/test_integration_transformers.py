"""Transformers' Trainer with the callback on a small GPT-2: jumps, checkpoints, exceptions."""

import copy
import logging
import pickle
import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from accelerate.state import AcceleratorState  # noqa: E402
from transformers import (  # noqa: E402
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from koopcore.torch.integrations.transformers import FILE, KoopmanTrainerCallback  # noqa: E402

STEPS = 48  # 8 batches of 8 sequences in an epoch


@pytest.fixture(autouse=True)
def _settings_of_no_other_test():
    AcceleratorState._reset_state(reset_partial_state=True)  # one for the whole process
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def _model(**options):
    """A GPT-2 with tied embeddings and dropout."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 12, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**{**sizes, **options}))


def _sequences():
    """Counting up from a random number, to be learnt by heart."""
    torch.manual_seed(1)
    starts = torch.randint(10, (64, 1))
    return (starts + torch.arange(12)) % 10


SEQUENCES = _sequences()
SAMPLES = [{"input_ids": row, "labels": row} for row in SEQUENCES]


def trial_loss(model):
    model.eval()
    return model(input_ids=SEQUENCES[:16], labels=SEQUENCES[:16]).loss


def _callback(**options):
    options = {"every": 1, "window": 6, "max_overhead": None, **options}
    return KoopmanTrainerCallback(trial_loss=trial_loss, **options)


def _trainer(folder, *callbacks, model=None, **options):
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **{"max_steps": STEPS, "learning_rate": 3e-3, "save_strategy": "no", **options},
        lr_scheduler_type="constant_with_warmup",
    )
    return Trainer(
        model=model or _model(), args=arguments, train_dataset=SAMPLES, callbacks=list(callbacks)
    )


def _jumps(callback):
    return [(jump.step, jump.horizon) for jump in callback.koopman.history]


def _step_by_hand(trainer):
    for p in trainer.model.parameters():
        p.grad = torch.zeros_like(p)
    trainer.optimizer.step()


class At(TrainerCallback):
    """Does something after a given number of steps."""

    def __init__(self, step, do):
        self.step, self.do = step, do

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.do(**kwargs)


def _fail(**_):
    raise ZeroDivisionError


def test_training_jumps_and_the_hook_is_gone_afterwards(tmp_path):
    callback = _callback()
    trainer = _trainer(tmp_path, callback)
    trainer.train()
    assert callback.koopman.stats.steps == STEPS
    assert callback.koopman.stats.taken >= 1
    assert trainer.model.lm_head.weight is trainer.model.transformer.wte.weight
    _step_by_hand(trainer)
    assert callback.koopman.stats.steps == STEPS


def test_accumulated_batches_do_not_count(tmp_path):
    callback = _callback()
    _trainer(tmp_path, callback, gradient_accumulation_steps=4, max_steps=10).train()
    assert callback.koopman.stats.steps == 10


def test_bf16_autocast_trains_and_tries(tmp_path):
    callback = _callback()
    _trainer(tmp_path, callback, bf16=True).train()
    assert callback.koopman.stats.steps == STEPS
    assert callback.koopman.stats.attempts >= 1


@pytest.mark.parametrize("stop", [16, 21])  # at the end of an epoch, in the middle of one
def test_resumed_from_a_checkpoint_it_ends_with_the_same_bits(tmp_path, stop):
    whole, callback = tmp_path / "whole", _callback()
    trainer = _trainer(whole, callback, save_strategy="steps", save_steps=stop)
    trainer.train()
    assert (whole / f"checkpoint-{stop}" / FILE).is_file()
    assert not list(whole.rglob("*.tmp"))
    assert any(horizon for step, horizon in _jumps(callback) if step > stop)

    part = tmp_path / "part"
    shutil.copytree(whole / f"checkpoint-{stop}", part / f"checkpoint-{stop}")
    again = _callback()
    resumed = _trainer(part, again, save_strategy="steps", save_steps=stop)
    resumed.train(resume_from_checkpoint=True)
    assert _jumps(again) == _jumps(callback)
    assert again.koopman.stats.steps == STEPS
    for (name, a), b in zip(
        resumed.model.named_parameters(), trainer.model.parameters(), strict=True
    ):
        assert torch.equal(a, b), name


def test_folder_elsewhere_is_found_by_the_arguments(tmp_path, caplog):
    first = _callback()
    _trainer(tmp_path / "a", first, save_strategy="steps", save_steps=20, max_steps=20).train()
    folder = str(tmp_path / "a" / "checkpoint-20")
    again = _callback()
    trainer = _trainer(tmp_path / "b", again, resume_from_checkpoint=folder)
    with caplog.at_level(logging.WARNING, "koopcore"):
        trainer.train(resume_from_checkpoint=folder)
    assert again.koopman.stats.steps == STEPS
    assert "empty window" not in caplog.text


def test_window_of_other_weights_is_refused_with_a_warning(tmp_path, caplog):
    for name, rate in (("a", 3e-3), ("b", 1e-3)):
        trainer = _trainer(
            tmp_path / name,
            _callback(),
            save_strategy="steps",
            save_steps=20,
            max_steps=20,
            learning_rate=rate,
        )
        trainer.train()
    again = _callback()
    with caplog.at_level(logging.WARNING, "koopcore"):
        _trainer(tmp_path / "b", again).train(
            resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-20")
        )
    assert "belongs to other weights" in caplog.text
    assert again.koopman.stats.steps == STEPS - 20


def test_checkpoint_without_the_file_starts_with_an_empty_window(tmp_path, caplog):
    _trainer(tmp_path, save_strategy="steps", save_steps=20, max_steps=20).train()
    callback = _callback()
    with caplog.at_level(logging.WARNING, "koopcore"):
        _trainer(tmp_path, callback).train(resume_from_checkpoint=True)
    assert "resumes at step 20 with an empty window: there is no" in caplog.text
    assert callback.koopman.stats.steps == STEPS - 20


def test_no_file_where_only_the_model_is_saved(tmp_path):
    trainer = _trainer(
        tmp_path, _callback(), save_strategy="steps", save_steps=20, save_only_model=True
    )
    trainer.train()
    assert (tmp_path / "checkpoint-20").is_dir()
    assert not list(tmp_path.rglob(FILE))


def test_restoring_the_states_of_other_callbacks_leaves_this_one(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 20}
    _trainer(tmp_path, _callback(), max_steps=20, **options).train()
    callback = _callback()
    trainer = _trainer(tmp_path, callback, restore_callback_states_from_checkpoint=True, **options)
    trainer.train(resume_from_checkpoint=True)
    assert callback.koopman.stats.steps == STEPS


def test_exception_within_a_with_statement_detaches(tmp_path):
    callback = _callback()
    trainer = _trainer(tmp_path, callback, At(5, _fail))
    with pytest.raises(ZeroDivisionError), callback:
        trainer.train()
    assert callback.koopman.stats.steps == 5
    _step_by_hand(trainer)
    assert callback.koopman.stats.steps == 5


def test_training_again_after_an_exception_starts_afresh(tmp_path):
    callback, failing = _callback(), At(5, _fail)
    trainer = _trainer(tmp_path, callback, failing)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    first, failing.step = callback.koopman, None
    trainer.train()
    assert first.stats.steps == 5
    assert callback.koopman.stats.steps == STEPS


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_make_their_own_accelerator(tmp_path, duplicate):
    original = _callback()
    _trainer(tmp_path, original).train()
    twin = duplicate(original)
    assert twin.koopman is None
    _trainer(tmp_path, twin).train()
    assert _jumps(twin) == _jumps(original)


def test_copy_of_a_trainer_trains(tmp_path):
    trainer = copy.deepcopy(_trainer(tmp_path, _callback()))
    trainer.train()
    (callback,) = (
        c for c in trainer.callback_handler.callbacks if isinstance(c, KoopmanTrainerCallback)
    )
    assert callback.koopman.stats.steps == STEPS


def test_model_is_copied_in_the_middle_of_training(tmp_path):
    twins = []
    callback = _callback()
    copying = At(9, lambda model, **_: twins.append(copy.deepcopy(model)))
    _trainer(tmp_path, callback, copying).train()
    optimizer = torch.optim.SGD(twins[0].parameters(), lr=0.1)
    for p in twins[0].parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert callback.koopman.stats.steps == STEPS


def test_unknown_options_are_told_at_once():
    with pytest.raises(TypeError, match="unexpected keyword argument 'evry'"):
        KoopmanTrainerCallback(trial_loss=trial_loss, evry=2)


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(RuntimeError, match=r"in 2 processes.*koopman_accelerator"):
        _callback().on_train_begin(arguments, None, None, model=_model(), optimizer=None)


def test_frozen_parameters_stay(tmp_path):
    model, callback = _model(), _callback()
    for p in model.transformer.h.parameters():
        p.requires_grad_(False)
    before = copy.deepcopy(model.transformer.h.state_dict())
    _trainer(tmp_path, callback, model=model).train()
    assert callback.koopman.stats.attempts >= 1
    for name, value in model.transformer.h.state_dict().items():
        assert torch.equal(value, before[name]), name
