"""What becomes of the optimizer's state at a jump: kept, reset, or carried along.

"carry" records the state's tensors beside the weights and combines them with the coefficients of
the jump, as if momentum and second moments had been forecast like the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from koopcore.torch.partition import Layout
from koopcore.torch.windows import make_window


def reset_state(optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]) -> None:
    """Put the state of these parameters back to that before the first step.

    All of it: moments without their step count would make the next steps of Adam 1.8 times longer,
    which looks like a gain.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.state.clear()  # one history for all parameters
        return
    initial = {
        id(p): group.get("initial_accumulator_value", 0.0)
        for group in optimizer.param_groups
        for p in group["params"]
    }
    for p in parameters:
        state = optimizer.state.get(p)
        if state is None:
            continue
        if isinstance(optimizer, torch.optim.Adagrad):  # makes its state when it is made itself
            state["step"].zero_()
            state["sum"].fill_(initial[id(p)])
        else:
            del optimizer.state[p]
    for group in optimizer.param_groups:
        # Where optimizers outside torch count for the bias correction.
        if "step" in group and {id(p) for p in group["params"]} <= set(map(id, parameters)):
            group["step"] = 0


class Saved:
    """A copy of parameters and of their optimizer state, to go back to in place.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    parameters : sequence of torch.Tensor
    state : dict, optional
        What `state_dict` gave, in the place of a copy of what is there now.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[torch.Tensor],
        state: dict[str, Any] | None = None,
    ) -> None:
        self._optimizer, self._parameters = optimizer, list(parameters)
        if state is None:
            state = {
                "parameters": [p.detach().clone() for p in parameters],
                "states": [_copied(optimizer.state.get(p)) for p in parameters],
            }
        self._state = state

    @staticmethod
    def size(optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]) -> int:
        """Memory of such a copy, of the optimizer state as far as there is any yet."""
        states = (optimizer.state.get(p) or {} for p in parameters)
        tensors = [v for s in states for v in s.values() if isinstance(v, torch.Tensor)]
        return sum(t.nbytes for t in (*parameters, *tensors))

    def restore(self) -> None:
        """Write everything back; done twice, it does the same."""
        with torch.no_grad():
            torch._foreach_copy_(self._parameters, self._state["parameters"])
            for p, saved in zip(self._parameters, self._state["states"], strict=True):
                if not saved:
                    self._optimizer.state.pop(p, None)
                    continue
                state = self._optimizer.state[p]
                for key, value in saved.items():
                    if isinstance(value, torch.Tensor) and isinstance(state.get(key), torch.Tensor):
                        state[key].copy_(value)
                    else:
                        state[key] = copy.deepcopy(value)

    def state_dict(self) -> dict[str, Any]:
        """Return what a new object can be made with."""
        return self._state


def _copied(state: dict[str, Any] | None) -> dict[str, Any]:
    return {
        key: value.clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)
        for key, value in (state or {}).items()
    }


class StateCarrier:
    """Windows of the optimizer's state tensors that have the shapes of the parameters.

    Parameters
    ----------
    layout : Layout
        Of the parameters.
    capacity : int
    optimizer : torch.optim.Optimizer
    parameters : sequence of torch.Tensor
        In the order of the layout.
    """

    def __init__(
        self,
        layout: Layout,
        capacity: int,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[torch.Tensor],
    ) -> None:
        self._layout, self._capacity = layout, capacity
        self._optimizer, self._parameters = optimizer, list(parameters)
        self._windows: dict[str, Any] = {}

    def keys(self) -> list[str]:
        """Names of the state tensors that can be carried, such as exp_avg; all or no parameters."""
        states = [self._optimizer.state.get(p) or {} for p in self._parameters]
        return [
            key
            for key in states[0]
            if all(
                isinstance(s.get(key), torch.Tensor)
                and s[key].shape == p.shape
                and s[key].is_floating_point()
                for s, p in zip(states, self._parameters, strict=True)
            )
            and not (key == "step" and self._parameters[0].ndim == 0)
        ]

    def push(self) -> None:
        """Append a snapshot of the state."""
        for key in self.keys():
            self._window(key).push(self._tensors(key))

    def clear(self) -> None:
        """Forget all snapshots."""
        for window in self._windows.values():
            window.clear()

    def combine(
        self, coefficients: NDArray[np.float64]
    ) -> list[tuple[list[torch.Tensor], list[torch.Tensor]]]:
        """Return (state tensors, their forecast) for every key; nothing is written yet.

        What is nowhere negative, as second moments, stays so.
        """
        pairs = []
        for key, window in self._windows.items():
            tensors = self._tensors(key)
            ahead = [torch.empty_like(t) for t in tensors]
            window.combine(coefficients, ahead)
            for t, forecast in zip(tensors, ahead, strict=True):
                if bool((t >= 0).all()):
                    forecast.clamp_(min=0.0)
                if not bool(torch.isfinite(forecast).all()):
                    raise ValueError(f"the forecast of the optimizer state {key!r} is not finite")
            pairs.append((tensors, ahead))
        return pairs

    @property
    def nbytes(self) -> int:
        """Memory of the windows there are; the optimizer makes its state at its first step."""
        return sum(window.nbytes for window in self._windows.values())

    def state_dict(self) -> dict:
        """Return what goes on with the same bits when loaded."""
        return {key: self._window(key).state_dict() for key in self.keys()}

    def load_state_dict(self, state: dict) -> None:
        """Take up the snapshots of another carrier made alike.

        Raises
        ------
        ValueError
            The optimizer has no such state.
        """
        missing = set(state) - set(self.keys())
        if missing:
            raise ValueError(
                f"the saved state has snapshots of the optimizer's {sorted(missing)}, which this "
                "optimizer has not: load its own state_dict first"
            )
        for key, saved in state.items():
            self._window(key).load_state_dict(saved)

    def _window(self, key: str) -> Any:
        if key not in self._windows:
            like = self._tensors(key)
            self._windows[key] = make_window(self._layout, self._capacity, like=like)
        return self._windows[key]

    def _tensors(self, key: str) -> list[torch.Tensor]:
        return [self._optimizer.state[p][key] for p in self._parameters]
