"""An optimizer hook that can be taken off again: attach, detach, copies, one per optimizer."""

from __future__ import annotations

import time
import weakref
from types import TracebackType
from typing import Any, Self

import torch

from koopcore.torch.policy import Ledger
from koopcore.torch.recorder import step_happened

_hooked_optimizers: weakref.WeakSet = weakref.WeakSet()


class OptimizerHook:
    """Calls `_stepped` after every optimizer step that happened, and keeps the time.

    Hooks vanish from an optimizer that is copied or unpickled; a copy of this object attaches
    itself to the optimizer that was copied with it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, ledger: Ledger) -> None:
        self._optimizer, self._ledger = optimizer, ledger
        self._handle: Any = None
        self._left: float | None = None  # when the last hook ended

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()

    def attach(self) -> Self:
        """Register the optimizer hook.

        Raises
        ------
        RuntimeError
            This object is attached already, or another one to the same optimizer or operator.
        """
        if self._handle is not None:
            raise RuntimeError(f"this {type(self).__name__} is attached already; detach() it first")
        if self._optimizer in _hooked_optimizers:
            raise RuntimeError(
                f"optimizer has a {type(self).__name__} attached already; two would record each "
                "other's jumps: detach() the first one"
            )
        self._before_attach()
        self._left = None
        self._handle = self._optimizer.register_step_post_hook(self._after_step)
        _hooked_optimizers.add(self._optimizer)
        return self

    def detach(self) -> None:
        """Remove the hook and empty the window. History stays; detaching twice does nothing."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            _hooked_optimizers.discard(self._optimizer)
            self._after_detach()

    def _before_attach(self) -> None:
        """Refuse to be attached, where there is a reason."""

    def _after_detach(self) -> None:
        """Clean up."""

    def _stepped(self, start: float) -> None:
        """Act on an optimizer step; the hook was entered at `start`."""
        raise NotImplementedError

    def _after_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        start = time.perf_counter()
        try:
            if step_happened(optimizer):
                self._ledger.step(start - self._left if self._left is not None else 0.0)
                self._stepped(start)
        finally:
            self._left = time.perf_counter()
            self._ledger.work(self._left - start)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {
            "_handle": None,
            "_left": None,
            "_attached": self._handle is not None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        attached = state.pop("_attached")
        self.__dict__.update(state)
        if attached:
            self.attach()
