"""A second set of weights for evaluation: an exponential average that jumps move, too.

Averages lag; where training jumps they would take long to follow, so that the average starts anew
from the forecast. In mode "evaluate" the forecast moves the average alone, and training nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from koopcore.torch import _arguments
from koopcore.torch.trial import Trial

MODES = ("jump", "evaluate", "auto")
DECAY = 0.98  # of the average where a mode needs one and none is given
TOO_MANY = 2  # jumps that did harm beyond those that did not, after which "auto" stops jumping


class _Decay:
    """`get_ema_multi_avg_fn`, whose function cannot be pickled."""

    def __init__(self, decay: float) -> None:
        self._decay = decay

    def __call__(self, averaged: Any, current: Any, count: Any) -> None:
        get_ema_multi_avg_fn(self._decay)(averaged, current, count)


class Evaluation:
    """The average, and whether jumps go to training or to it.

    Parameters
    ----------
    model : torch.nn.Module
    mode : {"jump", "evaluate", "auto"}
    decay : float
        Of the average, per step.
    """

    def __init__(self, model: nn.Module, mode: str, decay: float) -> None:
        self.mode = mode
        self.average = AveragedModel(model, multi_avg_fn=_Decay(decay))
        self._decay, self._entered = decay, 0
        self._lists: tuple[list[torch.Tensor], ...] = ()
        self._harmed = self._lasted = 0

    @property
    def nbytes(self) -> int:
        """Memory of the average."""
        return sum(p.nbytes for p in self.average.parameters())

    @property
    def jumps_in_training(self) -> bool:
        """Whether a forecast becomes the weights that are trained."""
        if self.mode == "auto":
            return self._harmed - self._lasted < TOO_MANY
        return self.mode == "jump"

    def judged(self, harmed: bool | None) -> None:
        """Take note of whether the last jump did harm; None: there was none to judge."""
        if harmed is not None:
            self._harmed += harmed
            self._lasted += not harmed

    def step(self, model: nn.Module) -> None:
        """Let an iterate into the average.

        It does what `AveragedModel.update_parameters` does, with the lists of tensors made once:
        of a small network's step that would take a fifth.
        """
        if not self._lists:
            module = self.average.module
            self._lists = tuple(
                list(tensors)
                for tensors in (
                    module.parameters(),
                    model.parameters(),
                    module.buffers(),
                    model.buffers(),
                )
            )
        own, given, own_buffers, buffers = self._lists
        with torch.no_grad():
            if self._entered:
                torch._foreach_lerp_(own, given, 1.0 - self._decay)
            else:
                torch._foreach_copy_(own, given)
            if buffers:
                torch._foreach_copy_(own_buffers, buffers)
            self.average.n_averaged.add_(1)
        self._entered += 1

    def follow(self, model: nn.Module) -> None:
        """Start the average anew from the weights after a jump."""
        self.average.n_averaged.zero_()
        self._entered = 0
        self.step(model)

    def forget(self) -> None:
        """Look for the model's tensors anew: some may have been exchanged."""
        self._lists = ()

    def offer(self, trial: Trial, names: Sequence[str], loss: float) -> bool:
        """Move the average to the forecast in the trial, if that has a lower trial loss.

        Returns
        -------
        bool
            Whether it was moved.
        """
        own = dict(self.average.module.named_parameters())
        forecast = [t.detach().clone() for t in trial.tensors]
        with torch.no_grad():
            torch._foreach_copy_(trial.tensors, [own[name] for name in names])
            if not loss < trial.loss():
                return False
            torch._foreach_copy_([own[name] for name in names], forecast)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on with the same bits when loaded."""
        tensors = {k: v.clone() for k, v in self.average.state_dict().items()}
        return {"average": tensors, "harmed": self._harmed, "lasted": self._lasted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the average of another run."""
        self.average.load_state_dict(state["average"])
        self._entered = int(self.average.n_averaged)
        self._harmed, self._lasted = int(state["harmed"]), int(state["lasted"])


def evaluation_of(model: nn.Module, mode: str, ema: float | None, trial: bool) -> Evaluation | None:
    """Check the user's `mode` and `ema`; None where there is nothing for evaluation."""
    mode = _arguments.choice("mode", mode, MODES)
    ema = _arguments.number("ema", ema, 0.0, 1.0, optional=True)
    if mode != "jump" and not trial:
        raise ValueError(f"mode={mode!r} needs a trial_loss")
    if mode == "jump" and ema is None:
        return None
    return Evaluation(model, mode, DECAY if ema is None else ema)
