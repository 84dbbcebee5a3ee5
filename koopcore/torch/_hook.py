"""An optimizer hook that can be taken off again: attach, detach, copies, one per optimizer."""

from __future__ import annotations

import logging
import time
import weakref
from types import TracebackType
from typing import Any, Self

import torch

from koopcore.torch.policy import Ledger
from koopcore.torch.recorder import step_happened

_log = logging.getLogger("koopcore")
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
        self._unstepped: list[int] | None = None  # versions of the weights, until the first step

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
        self._left, self._unstepped = None, self._versions()
        # Traced by torch.compile, in an optimizer step that is compiled, it would be compiled anew
        # at every step.
        hook = torch.compiler.disable(self._after_step)
        self._handle = self._optimizer.register_step_post_hook(hook)
        _hooked_optimizers.add(self._optimizer)
        return self

    def detach(self) -> None:
        """Remove the hook and empty the window. History stays; detaching twice does nothing."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            _hooked_optimizers.discard(self._optimizer)
            self._after_detach()
            before, self._unstepped = self._unstepped, None
            if before and all(a != b for a, b in zip(before, self._versions(), strict=False)):
                _log.warning(
                    "the weights have changed, but not by a step of the optimizer that %s is "
                    "attached to: if training uses another one now, make a new %s with that",
                    *2 * (type(self).__name__,),
                )

    def _versions(self) -> list[int]:
        """How often each weight has been written to, as autograd counts it."""
        return [p._version for group in self._optimizer.param_groups for p in group["params"]]

    def _before_attach(self) -> None:
        """Refuse to be attached, where there is a reason."""

    def _after_detach(self) -> None:
        """Clean up."""

    def _stepped(self, start: float) -> None:
        """Act on an optimizer step; the hook was entered at `start`."""
        raise NotImplementedError

    def _after_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        start = time.perf_counter()
        self._unstepped = None
        try:
            if step_happened(optimizer):
                self._ledger.step(start - self._left if self._left is not None else None)
                self._stepped(start)
        finally:
            self._left = time.perf_counter()
            self._ledger.work(self._left - start)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {
            "_handle": None,
            "_left": None,
            "_unstepped": None,
            "_attached": self._handle is not None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        attached = state.pop("_attached")
        self.__dict__.update(state)
        if attached:
            self.attach()
