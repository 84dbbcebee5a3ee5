"""What a snapshot is: the trained parameters after an optimizer step that happened.

Raw, or averaged over steps: mini-batch noise biases a fit, and an average of the iterates has less
of it. Which parameters they are, and which steps do not count, is decided here too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside `torch.compile`'s, DataParallel's and DDP's wrappers.

    Names are then those of the user's own module, a trial synchronises nothing, and a forecast in
    place of the parameters compiles nothing anew.
    """
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while True:
        if isinstance(model, wrappers):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        else:
            return model


def is_shared(model: nn.Module) -> bool:
    """Tell whether several processes train this model, under any wrappers.

    Raises
    ------
    ValueError
        Only some of the processes train it.
    """
    inner = getattr(model, "_orig_mod", model)
    if not isinstance(inner, nn.parallel.DistributedDataParallel):
        return False
    here, all_of_them = inner.process_group.size(), distributed.get_world_size()
    if here != all_of_them:
        raise ValueError(
            f"model: DistributedDataParallel over {here} of {all_of_them} processes is not "
            "supported; over all of them it is"
        )
    return all_of_them > 1


def trained_parameters(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Return the tensors that form the state, by name, in a fixed order.

    These are the entries of ``model.named_parameters()`` that require a gradient and are held by
    `optimizer`; a tied weight appears once, under its first name. Where the optimizer holds
    float32 master copies instead (as many, of the same shapes, in the same order, and none of the
    model's own), the masters are the state.

    Raises
    ------
    TypeError
        A data type that is no floating-point type, or two data types in one model.
    ValueError
        Nothing to train, an optimizer of another model, sharded parameters, or several devices.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    lazy = [name for name, p in trainable.items() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ValueError(
            f"model: parameter {lazy[0]!r} has no shape yet; run one forward pass before "
            "creating the accelerator"
        )
    trainable = {name: p for name, p in trainable.items() if p.numel()}
    if not trainable:
        raise ValueError(
            "model has no trainable parameters; at least one non-empty parameter "
            "with requires_grad=True is needed"
        )
    held = [p for group in optimizer.param_groups for p in group["params"]]
    known = {id(p) for p in held}
    trained = {name: p for name, p in trainable.items() if id(p) in known}
    if not trained:
        trained = _masters(trainable, held)
    if not trained:
        raise ValueError(
            f"optimizer holds none of the model's {len(trainable)} trainable parameters; "
            "create it from model.parameters() of this very model"
        )
    _check_alike(trained)
    return trained


def _masters(trainable: dict[str, nn.Parameter], held: list) -> dict[str, torch.Tensor]:
    """Float32 masters of the model's half-precision parameters, or nothing."""
    half = all(p.dtype in (torch.bfloat16, torch.float16) for p in trainable.values())
    shapes = [p.shape for p in trainable.values()]
    if not half or [p.shape for p in held] != shapes:
        return {}
    if any(p.dtype != torch.float32 for p in held):
        return {}
    return dict(zip(trainable, held, strict=True))


def _check_alike(parameters: dict[str, torch.Tensor]) -> None:
    """Check that all parameters are of one supported data type on one device."""
    (first, reference), *others = parameters.items()
    for name, p in others:
        if p.device != reference.device:
            raise ValueError(
                f"model mixes devices: {first!r} is on {reference.device}, {name!r} is on "
                f"{p.device}; all trained parameters must be on one device"
            )
    for name, p in parameters.items():
        if isinstance(p, DTensor):
            raise ValueError(
                f"model: parameter {name!r} is sharded (a DTensor), which KoopmanAccelerator does "
                "not support; DistributedDataParallel and single-process models work"
            )
        if p.device.type == "meta":
            raise ValueError(f"model: parameter {name!r} is on meta: it has no values to record")
    for name, p in others:
        if p.dtype != reference.dtype:
            raise TypeError(
                f"model mixes data types: {first!r} is {reference.dtype}, {name!r} is {p.dtype}; "
                "all trained parameters must have one data type"
            )
    if reference.dtype not in _DTYPES:
        raise TypeError(
            f"model: parameter {first!r} is {reference.dtype}; must be float32, float64, bfloat16 "
            "or float16"
        )


def signature(parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> tuple:
    """Return what must not change within a window: parameters held, their shapes and places."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    return (
        tuple((id(p), p.requires_grad) for p in held),  # also what is still, or again, frozen
        tuple((p.shape, p.dtype, p.device, p.requires_grad) for p in parameters.values()),
    )


def step_happened(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether the optimizer step that just ended was a real one.

    The post-step hook also fires for a step that a gradient scaler cancelled inside a fused
    optimizer, and for the step with all learning rates 0 by which distributed checkpoints
    initialise the optimizer state. Neither is a snapshot.
    """
    found_inf = getattr(optimizer, "found_inf", None)
    if found_inf is not None and float(found_inf) > 0:
        return False
    return any(group.get("lr") != 0 for group in optimizer.param_groups)


class Recorder:
    """Turns the iterates into snapshots: each as it is, or averages of them.

    Parameters
    ----------
    parameters : sequence of torch.Tensor
        The state.
    every : int
        Steps between snapshots; may be set anew between windows.
    average : int
        A snapshot is the mean of this many iterates since the last snapshot, evenly spread; 1: the
        iterate itself.
    decay : float
        If positive, a snapshot is the exponential average of all iterates with this decay per
        entering iterate, corrected for its start, and `average` is not used.
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        every: int = 1,
        average: int = 1,
        decay: float = 0.0,
    ) -> None:
        self._parameters = list(parameters)
        self.every, self._average, self._decay = every, average, decay
        self._means = [torch.zeros_like(p) for p in self._current()] if self.averages else []
        self._entered = 0

    @property
    def averages(self) -> bool:
        """Whether snapshots are averages."""
        return self._average > 1 or self._decay > 0.0

    @property
    def nbytes(self) -> int:
        """Memory of the averages."""
        return sum(mean.nbytes for mean in self._means)

    def restart(self) -> None:
        """Forget what has entered an average over a stretch; exponential averages go on."""
        if not self._decay:
            self._entered = 0

    def forget(self) -> None:
        """Forget all that has entered, for instance since the weights have jumped."""
        self._entered = 0

    def enter(self, steps_to_snapshot: int) -> None:
        """Let the present iterate into the average, if it is one of those that count.

        Parameters
        ----------
        steps_to_snapshot : int
            Steps until the next snapshot is taken; 0: at this step.
        """
        if not self._decay:
            stride = max(1, self.every // self._average)
            if steps_to_snapshot % stride or steps_to_snapshot >= stride * self._average:
                return
        self._entered += 1
        if self._decay:
            weight = (1.0 - self._decay) / (1.0 - math.pow(self._decay, self._entered))
        else:
            weight = 1.0 / self._entered
        with torch.no_grad():
            if self._entered == 1:  # uninitialised memory may hold NaN, which no weight removes
                torch._foreach_copy_(self._means, self._current())
            else:
                torch._foreach_lerp_(self._means, self._current(), weight)

    def snapshot(self) -> list[torch.Tensor]:
        """Return the snapshot, one tensor per parameter; read it before the next step."""
        if not self.averages:
            return self._current()
        self.restart()
        return self._means

    def _current(self) -> list[torch.Tensor]:
        return [p.detach() for p in self._parameters]

    def state_dict(self) -> dict:
        """Return what goes on with the same bits when loaded."""
        return {"entered": self._entered, "means": [mean.clone() for mean in self._means]}

    def load_state_dict(self, state: dict) -> None:
        """Take up the averages of another recorder made alike."""
        if len(state["means"]) != len(self._means):
            raise ValueError(
                f"the saved recorder has {len(state['means'])} averages, this one "
                f"{len(self._means)}; make both with the same average and decay"
            )
        for mean, saved in zip(self._means, state["means"], strict=True):
            mean.copy_(saved)
        self._entered = int(state["entered"])
