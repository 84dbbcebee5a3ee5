"""What a snapshot is: the trained parameters of a model after an optimizer step that happened."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

_DTYPES = (torch.float32, torch.float64)


def trained_parameters(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, nn.Parameter]:
    """Return the parameters that form the state, by name, in a fixed order.

    These are the entries of ``model.named_parameters()`` that require a gradient and are held by
    `optimizer`; a tied weight appears once, under its first name.

    Raises
    ------
    TypeError
        A data type other than float32 or float64, or two data types in one model.
    ValueError
        Nothing to train, an optimizer of another model, or parameters outside the CPU.
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
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    trained = {name: p for name, p in trainable.items() if id(p) in held}
    if not trained:
        raise ValueError(
            f"optimizer holds none of the model's {len(trainable)} trainable parameters; "
            "create it from model.parameters() of this very model"
        )
    _check_alike(trained)
    return trained


def _check_alike(parameters: dict[str, nn.Parameter]) -> None:
    """Check that all parameters are of one supported data type on the CPU."""
    (first, reference), *others = parameters.items()
    for name, p in others:
        if p.dtype != reference.dtype:
            raise TypeError(
                f"model mixes data types: {first!r} is {reference.dtype}, {name!r} is {p.dtype}; "
                "all trained parameters must have one data type"
            )
        if p.device != reference.device:
            raise ValueError(
                f"model mixes devices: {first!r} is on {reference.device}, {name!r} is on "
                f"{p.device}; all trained parameters must be on one device"
            )
    if reference.device.type != "cpu":
        raise ValueError(
            f"model: parameter {first!r} is on {reference.device}; "
            "KoopmanAccelerator works on CPU models only so far"
        )
    if reference.dtype not in _DTYPES:
        raise TypeError(
            f"model: parameter {first!r} is {reference.dtype}; must be float32 or float64"
        )


def memory_view(tensor: torch.Tensor) -> np.ndarray | None:
    """Return a flat NumPy view of `tensor` in memory order, or None where the memory has gaps.

    Nothing is copied. Permuted but dense layouts such as ``torch.channels_last`` have a view too:
    two tensors of equal strides list their entries in the same order.
    """
    tensor = tensor.detach()
    if not tensor.is_contiguous():
        order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
        tensor = tensor.permute(order)
        if not tensor.is_contiguous():
            return None
    return tensor.view(-1).numpy()


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
    """Hands out the trained parameters of a model as the segments of one state.

    Parameters
    ----------
    parameters : dict of str to torch.nn.Parameter
        What `trained_parameters` returned.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self._parameters = list(parameters.values())
        self._places: list[tuple | None] = [None] * len(self._parameters)
        self._views: list[np.ndarray | None] = [None] * len(self._parameters)
        self._dense_copies: dict[int, torch.Tensor] = {}

    def snapshot(self) -> list[np.ndarray]:
        """Return one flat array per parameter, each a view of the parameter's own memory.

        A view is kept until its parameter moves, as ``p.data = ...`` and ``model.to(...)`` make
        it do; holding the view keeps the old memory, so a new address is always noticed. A
        parameter whose memory has gaps is copied into a dense buffer each time.
        """
        for i, p in enumerate(self._parameters):
            place = (p.data_ptr(), p.shape, p.stride())
            if place != self._places[i]:
                self._places[i], self._views[i] = place, memory_view(p)
        return [self._dense_view(i) if view is None else view for i, view in enumerate(self._views)]

    def _dense_view(self, i: int) -> np.ndarray:
        p = self._parameters[i]
        if i not in self._dense_copies:
            self._dense_copies[i] = torch.empty_like(p, requires_grad=False)
        self._dense_copies[i].copy_(p.detach())
        return memory_view(self._dense_copies[i])
