"""Which entries of a stored state belong to one weight, node, layer or network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Partition = str | tuple[str, int]


class Parameters:
    """The parameters behind a flat state, for predictors with an operator per part of it.

    Parameters
    ----------
    model : torch.nn.Module
        Says which bias belongs to which weights.

    Attributes
    ----------
    shapes : dict of str to tuple
        Of the trained parameters by name, in the order of a state.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.shapes = {name: tuple(p.shape) for name, p in self._named.items()}
        self.groups = cache(self._groups)

    def require(self, shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
        """Refuse a recording of other parameters."""
        if list(shapes.items()) != list(self.shapes.items()):
            raise ValueError(
                f"{name} was recorded with the parameters {dict(shapes)}; the workload has "
                f"{self.shapes} now: record it again"
            )

    def write(self, state: NDArray[Any]) -> None:
        """Put a flat state into the model."""
        import torch

        flat = torch.from_numpy(np.ascontiguousarray(state))
        with torch.no_grad():
            for p, part in zip(
                self._named.values(),
                flat.split([p.numel() for p in self._named.values()]),
                strict=True,
            ):
                p.copy_(part.view(p.shape))

    def _groups(self, partition: Partition) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how to sort a state so that the entries of one operator follow each other.

        Parameters
        ----------
        partition : str or tuple
            ``"network"``, ``"layer"``, ``"node"``, ``("quasi-node", q)`` or ``"weight"``, as of
            `koopcore.torch.partition.Layout`.

        Returns
        -------
        order : ndarray of shape (n_weights,)
            ``state[order]`` is sorted.
        segments : ndarray of shape (n_operators, 2)
            Ranges of the sorted state.
        """
        import torch

        from koopcore.torch.partition import Layout

        layout = Layout(self._named, partition, self._model)
        sizes = [p.numel() for p in self._named.values()]
        places = torch.arange(sum(sizes)).split(sizes)
        order = torch.empty(sum(sizes), dtype=torch.int64)
        shaped = [part.view(p.shape) for part, p in zip(places, self._named.values(), strict=True)]
        layout.gather(shaped, order)
        return order.numpy(), layout.segments
