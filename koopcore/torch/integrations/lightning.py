"""Lightning: the accelerator as a callback, with its state in Lightning's checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from koopcore.torch.accelerator import KoopmanAccelerator
from koopcore.torch.integrations._callback import AcceleratorOfTheFit

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.core.optimizer import LightningOptimizer
except ModuleNotFoundError as error:
    raise ImportError(
        "koopcore.torch.integrations.lightning needs Lightning, which is not installed; "
        'install it with: pip install "koopcore[lightning]"'
    ) from error


class KoopmanCallback(AcceleratorOfTheFit, Callback):
    """A KoopmanAccelerator for the duration of ``Trainer.fit``.

    It is attached when training begins, after a checkpoint has been restored, and taken off when
    training ends, by an exception too. Its state travels in Lightning's checkpoints, so that
    ``fit(ckpt_path=...)`` goes on in the middle of a window. Every attempt to jump is sent to the
    trainer's loggers under ``koopman/...``, as far as its fields are numbers.

    Parameters
    ----------
    optimizer_index : int, optional
        Which of the trainer's optimizers, where there are several. Several callbacks, one for each
        of them, are told apart by it in a checkpoint.
    make : callable, default KoopmanAccelerator
        The class, or one of its presets.
    **options
        Keyword arguments of `make`. ``trial_loss(module)`` gets the LightningModule. It should not
        call a ``training_step`` that logs: the trial's values would count as the batch's.

    Attributes
    ----------
    koopman : KoopmanAccelerator or None
        That of the present fit, or of the last one; its `stats` and `history` stay after the end.

    Raises
    ------
    TypeError
        For options that `make` does not have.
    ValueError
        When training begins: no such optimizer, or several and no `optimizer_index`.

    Examples
    --------
    >>> from koopcore.torch.integrations.lightning import KoopmanCallback
    >>> callback = KoopmanCallback(trial_loss=lambda module: module.loss(module.batch), every=2)
    >>> callback.state_key
    "KoopmanCallback{'optimizer_index': 0}"
    """

    def __init__(
        self,
        *,
        optimizer_index: int | None = None,
        make: Callable[..., KoopmanAccelerator] = KoopmanAccelerator,
        **options: Any,
    ) -> None:
        super().__init__(make, options)
        self._optimizer_index = optimizer_index
        self._restored: dict[str, Any] | None = None  # from a checkpoint, for the next fit
        self._ended: dict[str, Any] | None = None  # of the last fit, for checkpoints after its end
        self._reported = 0  # attempts

    @property
    def state_key(self) -> str:
        """Name of this callback's state in a checkpoint: one for each optimizer."""
        return self._generate_state_key(optimizer_index=self._optimizer_index or 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the accelerator's state, after the end that at the end; empty before any fit."""
        for state in (self._restored, self._ended):
            if state is not None:
                return state
        return {} if self.koopman is None else self.koopman.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep `state_dict` until training begins: there is no optimizer yet."""
        self._restored = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach."""
        state, self._restored, self._ended = self._restored, None, None
        # With its wrapper, by which processes that train one model together are recognised.
        self._begin(trainer.model, self._optimizer(trainer.optimizers), state)
        self._reported = len(self.koopman.history)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Send the attempts of this batch to the loggers."""
        # Straight to the loggers: what goes by `self.log` is dropped between `log_every_n_steps`.
        for jump in self.koopman.history[self._reported :]:
            fields = {f"koopman/{name}": value for name, value in _numbers(asdict(jump)).items()}
            for logger in trainer.loggers:
                logger.log_metrics(fields, step=trainer.global_step)
        self._reported = len(self.koopman.history)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Detach."""
        self._finish()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Detach."""
        self._finish()

    def _finish(self) -> None:
        """Detach, which empties the window: for checkpoints that are yet to come, keep it."""
        if self.koopman is not None and self._ended is None:
            self._ended = self.koopman.state_dict()
            self.detach()

    def _optimizer(self, optimizers: list) -> torch.optim.Optimizer:
        index, names = self._optimizer_index, ", ".join(type(o).__name__ for o in optimizers)
        if index is None and len(optimizers) > 1:
            raise ValueError(
                f"the trainer has {len(optimizers)} optimizers ({names}); say which one with "
                "optimizer_index, and use one KoopmanCallback for each"
            )
        index = index or 0
        if not 0 <= index < len(optimizers):
            raise ValueError(
                f"optimizer_index={index}, but the trainer has {len(optimizers)} optimizers "
                f"({names or 'configure_optimizers returned none'})"
            )
        optimizer = optimizers[index]
        # Lightning's wrapper passes attributes on, but its `step` calls the hooks of the inner one.
        return optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer


def _numbers(fields: dict[str, Any]) -> dict[str, float]:
    """Return the fields that are finite numbers."""
    return {
        name: float(value)
        for name, value in fields.items()
        if isinstance(value, bool | int | float) and math.isfinite(value)
    }
