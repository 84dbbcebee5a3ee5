"""Transformers: the accelerator as a callback of `Trainer`, its state in a file of each checkpoint.

Trainer keeps the state of callbacks as JSON only and builds them anew from it, which neither a
window of weights nor a trial loss survives; hence a file of our own, beside Trainer's.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from koopcore.torch.accelerator import KoopmanAccelerator
from koopcore.torch.integrations._callback import AcceleratorOfTheFit

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

    from koopcore.torch.integrations.accelerate import unwrap
except ImportError as error:
    raise ImportError(
        "koopcore.torch.integrations.transformers needs Transformers and Accelerate, of which one "
        'is not installed; install them with: pip install "koopcore[transformers]"'
    ) from error

FILE = "koopcore.pt"  # in the folder of a checkpoint
_log = logging.getLogger("koopcore")


class KoopmanTrainerCallback(AcceleratorOfTheFit, TrainerCallback):
    """A KoopmanAccelerator for the duration of ``Trainer.train``.

    It is attached when training begins and taken off when it ends. Trainer does not tell callbacks
    of an exception: to be detached then, too, write ``with callback: trainer.train()``.

    Its state is the file `koopcore.pt` in each checkpoint, written whole or not at all after
    Trainer's own files, and read without pickle. ``train(resume_from_checkpoint=True)`` goes on in
    the middle of a window. A callback is not told the folder either: to resume from one outside of
    `output_dir`, give it to ``TrainingArguments(resume_from_checkpoint=...)`` as well. A file that
    is missing, or was written beside other weights, is a warning, and the window starts empty.

    Parameters
    ----------
    make : callable, default KoopmanAccelerator
        The class, or one of its presets.
    **options
        Keyword arguments of `make`. ``trial_loss(model)`` gets Trainer's model and may return
        ``model(**batch).loss``.

    Attributes
    ----------
    koopman : KoopmanAccelerator or None
        That of the present training, or of the last one; its `stats` and `history` stay.

    Raises
    ------
    TypeError
        For options that `make` does not have.
    RuntimeError
        When training begins in several processes: a callback sees nothing of how they share a
        model, and each would jump by itself.

    Examples
    --------
    >>> from koopcore.torch.integrations.transformers import KoopmanTrainerCallback
    >>> batch = {}
    >>> callback = KoopmanTrainerCallback(trial_loss=lambda model: model(**batch).loss, every=2)
    >>> callback.koopman is None  # until ``Trainer(..., callbacks=[callback]).train()``
    True
    """

    def __init__(
        self, *, make: Callable[..., KoopmanAccelerator] = KoopmanAccelerator, **options: Any
    ) -> None:
        super().__init__(make, options)

    def __enter__(self) -> KoopmanTrainerCallback:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        **_: Any,
    ) -> None:
        """Attach."""
        if args.world_size > 1:
            raise RuntimeError(
                f"training runs in {args.world_size} processes, and Trainer does not show "
                "callbacks the wrapper by which they share a model: use one process, or a loop of "
                "your own with koopcore.torch.integrations.accelerate.koopman_accelerator"
            )
        resumed = _stored_state(args, state, model) if state.global_step else None
        self._begin(model, unwrap(optimizer), resumed)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Detach."""
        self.detach()

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module,
        **_: Any,
    ) -> None:
        """Write the state into the checkpoint that Trainer has just saved."""
        folder = _folder(args, state)
        if self.koopman is None or not args.should_save or args.save_only_model:
            return
        if not folder.is_dir():  # a search over hyperparameters names its folders otherwise
            _log.warning("no folder %s: the window is in no checkpoint", folder)
            return
        content = {"weights": _fingerprint(model), "accelerator": self.koopman.state_dict()}
        _replace(folder / FILE, content)


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _stored_state(
    args: TrainingArguments, state: TrainerState, model: nn.Module
) -> dict[str, Any] | None:
    """Return the accelerator's state of the checkpoint that `model` was just restored from."""
    given = args.resume_from_checkpoint
    folders = [Path(given)] if isinstance(given, str) else []
    folders.append(_folder(args, state))
    files = [folder / FILE for folder in folders if (folder / FILE).is_file()]
    for file in files:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if content["weights"] == _fingerprint(model):
            return content["accelerator"]
    _log.warning(
        "training resumes at step %d with an empty window: %s; if the checkpoint lies elsewhere, "
        "give its folder to TrainingArguments(resume_from_checkpoint=...), too",
        state.global_step,
        f"{files[0]} belongs to other weights" if files else f"there is no {folders[0] / FILE}",
    )
    return None


def _fingerprint(model: nn.Module) -> str:
    """Return a hash of the parameters, to know a checkpoint by."""
    digest = hashlib.sha256()
    for p in model.parameters():
        digest.update(p.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _replace(target: Path, content: dict[str, Any]) -> None:
    """Write `content` beside `target`, bring it to the disk, and put it in its place."""
    temporary = target.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
