"""What the callbacks share: the options, and the accelerator of the fit that is running."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from koopcore.torch.accelerator import KoopmanAccelerator


class AcceleratorOfTheFit:
    """Makes an accelerator when training begins, since there is no optimizer before.

    Attributes
    ----------
    koopman : KoopmanAccelerator or None
        That of the present fit, or of the last one; its `stats` and `history` stay after the end.
    """

    def __init__(self, make: Callable[..., KoopmanAccelerator], options: dict[str, Any]) -> None:
        # Unknown options are told here, where they are written, and not when training begins.
        inspect.signature(make).bind(None, None, **options)
        self._make = make
        self._options = options
        self.koopman: KoopmanAccelerator | None = None

    def _begin(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any] | None
    ) -> None:
        """Attach a new accelerator, which goes on from `state` where there is one."""
        self.detach()  # a fit that ended without a word, or is tried again with smaller batches
        self.koopman = self._make(model, optimizer, **self._options).attach()
        if state:
            try:
                self.koopman.load_state_dict(state)
            except BaseException:
                self.detach()
                raise

    def detach(self) -> None:
        """Take the accelerator off the optimizer; twice, or before any fit, does nothing."""
        if self.koopman is not None:
            self.koopman.detach()

    def __getstate__(self) -> dict[str, Any]:
        # A hook lies on one optimizer: a copy makes its own accelerator when its fit begins.
        return {**self.__dict__, "koopman": None}
