"""Running the user's model aside from training, so that training does not notice.

Nothing is compiled anew for it, and the training flags, also those that differ between layers, are
put back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def aside(model: nn.Module) -> Iterator[None]:
    """Run what is inside without compilation, and put the training flags back afterwards.

    Other tensors in the place of the parameters fail the guards of `torch.compile`, each a
    compilation that training would wait for.
    """
    flags = [(module, module.training) for module in model.modules()]
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, training in flags:
            module.training = training


def stale_norms(model: nn.Module) -> list[str]:
    """Names of the layers whose running statistics training updates: stale after a jump."""
    return [
        name or type(module).__name__
        for name, module in model.named_modules()
        if getattr(module, "running_mean", None) is not None and module.training
    ]


def refresh_norms(model: nn.Module, loader: Iterable[Any]) -> None:
    """Recompute the running statistics of BatchNorm by `torch.optim.swa_utils.update_bn`.

    Layers in evaluation mode keep theirs, which are constants of the model. If anything fails, all
    of them are as before.

    Raises
    ------
    ValueError
        `loader` has no batch: an iterator that was used up, for instance.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [
        (norm, norm.momentum, norm.training, [b.clone() for b in norm.buffers()]) for norm in norms
    ]
    seen: list[int] = []

    def batches() -> Iterator[Any]:
        for batch in loader:
            seen.append(1)
            yield batch

    done = False
    try:
        with aside(model):
            torch.optim.swa_utils.update_bn(batches(), model)
        done = bool(seen)
    finally:
        for norm, momentum, training, buffers in before:
            norm.momentum = momentum
            if not (done and training):
                torch._foreach_copy_(list(norm.buffers()), buffers)
    if not done:
        raise ValueError(
            "bn_loader gives no batch; give an object that can be iterated over again and again, "
            "as a DataLoader or a list"
        )
