"""What `ForecastModel` knows of a training run: present weights, running averages, a window.

It only ever reads from the model in training; all tensors here are its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from koopcore.torch.partition import Layout
from koopcore.torch.recorder import Recorder, _check_alike
from koopcore.torch.windows import make_window

_log = logging.getLogger("koopcore")
_HALF = (torch.float16, torch.bfloat16)


class Once:
    """Logs each kind of trouble once."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    def warn(self, kind: str, message: str, cause: BaseException | None = None) -> None:
        """Log a message unless one of its kind has been."""
        if kind not in self.kinds:
            self.kinds.add(kind)
            _log.warning("%s (further ones of this kind are not logged)", message, exc_info=cause)


def copy_into(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    """Copy tensors in place, if there are any."""
    if len(targets) != len(sources):
        raise ValueError(f"{len(sources)} tensors do not go into {len(targets)}")
    with torch.no_grad():
        if targets:
            torch._foreach_copy_(list(targets), list(sources))


def signature(model: nn.Module) -> tuple:
    """Return what must not change while a window fills: names, shapes, types, places."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return tuple((name, t.shape, t.dtype, t.device) for name, t in named)


def trainable(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters that require a gradient, by name; tied ones once.

    Raises
    ------
    TypeError, ValueError
        There are none, or of several data types or devices, without values, or sharded.
    """
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    lazy = [name for name, p in found.items() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ValueError(
            f"model: parameter {lazy[0]!r} has no shape yet; run one forward pass first"
        )
    found = {name: p for name, p in found.items() if p.numel()}
    if not found:
        raise ValueError(
            "model has no trainable parameters; at least one non-empty parameter with "
            "requires_grad=True is needed"
        )
    _check_alike(found)
    return found


class Follower:
    """Present weights, exponential averages of all iterates, and the window of snapshots.

    Parameters
    ----------
    model : torch.nn.Module
        In training; only read.
    partition, storage
        As for `koopcore.torch.windows.make_window`.
    window, every, average : int
        Snapshots in the window, steps between them, iterates averaged in one.
    decays : sequence of float
        Of the running averages.
    use_buffers : bool
        Whether floating-point buffers are averaged and forecast like parameters.
    once : Once

    Attributes
    ----------
    state : list of torch.Tensor
        The present weights (then buffers, with `use_buffers`) in the order of ``layout.names``,
        in float32 where the model has less.
    buffers : list of torch.Tensor
        All buffers of the model, at the last update.
    averages : list of list of torch.Tensor
        Like `state`, for each decay.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        partition: Any,
        window: int,
        every: int,
        average: int,
        decays: Sequence[float],
        storage: torch.dtype | str | None,
        use_buffers: bool,
        once: Once,
    ) -> None:
        self.every, self.decays, self._once = every, tuple(decays), once
        self._average = average
        parameters = trainable(model)
        floating = {n: b for n, b in model.named_buffers() if b.is_floating_point()}
        tensors = parameters | (floating if use_buffers else {})
        self.layout = Layout(tensors, partition, model)
        self.rows = np.diff(self.layout.segments, axis=1).ravel()
        self.names = [name for name in self.layout.names if name in parameters]
        self.buffer_names = [name for name in self.layout.names if name not in parameters]
        self.state = [_own(tensors[name]) for name in self.layout.names]
        self.buffers = [b.detach().clone() for b in model.buffers()]
        self.averages = [[torch.zeros_like(t) for t in self.state] for _ in self.decays]
        self.recorder = Recorder(self.state, every, average)
        self.window = make_window(self.layout, window, like=self.state, storage=storage)
        self.signature, self.trained = signature(model), list(parameters)
        self.steps = self._averaged = 0
        self._until_snapshot = every

    @property
    def nbytes(self) -> int:
        """Memory held once the window is full."""
        own = [*self.state, *self.buffers, *(t for mean in self.averages for t in mean)]
        return sum(t.nbytes for t in own) + self.recorder.nbytes + self.window.nbytes

    @property
    def ready(self) -> bool:
        """Whether the window is full."""
        return len(self.window) == self.window.capacity

    @property
    def averaging(self) -> bool:
        """Whether running averages have begun."""
        return self._averaged > 0

    def fits(self, model: nn.Module) -> bool:
        """Tell whether the model still trains what is followed here."""
        trained = [n for n, p in model.named_parameters() if p.requires_grad and p.numel()]
        return trained == self.trained and signature(model) == self.signature

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take note of the model after one more step."""
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        copy_into(self.state, [tensors[name] for name in self.layout.names])
        copy_into(self.buffers, list(model.buffers()))
        for mean, decay in zip(self.averages, self.decays, strict=True):
            if self._averaged:  # as in torch.optim.swa_utils.get_ema_multi_avg_fn
                torch._foreach_lerp_(mean, self.state, 1.0 - decay)
            else:
                copy_into(mean, self.state)
        self._averaged += 1
        self.steps += 1
        self._until_snapshot -= 1
        if self.recorder.averages:
            self.recorder.enter(self._until_snapshot)
        if self._until_snapshot == 0:
            self._until_snapshot = self.every
            self._record()

    def _record(self) -> None:
        try:
            self.window.push(self.recorder.snapshot())
        except ValueError as error:
            self._once.warn("snapshot", f"snapshot at step {self.steps} left out: {error}")
        # What is not finite would stay in an exponential average for ever.
        norms = [norm for mean in self.averages[:1] for norm in torch._foreach_norm(mean)]
        if norms and not bool(torch.isfinite(torch.stack(norms)).all()):
            self._averaged = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on with the same bits when loaded: tensors, numbers, strings."""
        return {
            "made": self._made(),
            "steps": self.steps,
            "averaged": self._averaged,
            "until_snapshot": self._until_snapshot,
            "state": [t.clone() for t in self.state],
            "buffers": [b.clone() for b in self.buffers],
            "averages": [[t.clone() for t in mean] for mean in self.averages],
            "recorder": self.recorder.state_dict(),
            "window": self.window.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of a follower made alike.

        Raises
        ------
        ValueError
            It was made otherwise; the message says in what.
        """
        for what, own in self._made().items():
            if state["made"].get(what) != own:
                raise ValueError(
                    f"the saved ForecastModel has {what} {state['made'].get(what)!r}, this one "
                    f"{own!r}; make both alike"
                )
        self.window.load_state_dict(state["window"])
        self.recorder.load_state_dict(state["recorder"])
        copy_into(self.state, state["state"])
        copy_into(self.buffers, state["buffers"])
        for mean, saved in zip(self.averages, state["averages"], strict=True):
            copy_into(mean, saved)
        self.steps, self._averaged = int(state["steps"]), int(state["averaged"])
        self._until_snapshot = int(state["until_snapshot"])

    def _made(self) -> dict[str, Any]:
        return {
            "names": list(self.layout.names),
            "shapes": [list(shape) for shape in self.layout.shapes],
            "every": self.every,
            "average": self._average,
            "averages": list(self.decays),
        }


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy; in float32 of half precision, in which an average would stand still."""
    dtype = torch.float32 if tensor.dtype in _HALF else tensor.dtype
    return tensor.detach().to(dtype, copy=True)
