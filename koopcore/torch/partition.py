"""Which entries of which parameters follow one operator, and where they lie in one flat state.

A partition splits the trained parameters among linear operators: one for the network, for each
layer, for each unit, for a few weights of a unit, or for every single weight (Dogra and Redman
2020 compare them). `Layout` turns the user's choice into row ranges of a flat vector, and copies
tensors to it and back.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from koopcore.torch._units import (
    Block,
    Part,
    kinds_of,
    layer_blocks,
    network_block,
    owners_of,
    unit_blocks,
)

_SIZES_TOLD = 6  # so many sizes are told one by one


class Layout:
    """The flat state of a partition: its entries, operator after operator.

    The operator of kind "network", if any, comes first, then the others in the order of the
    parameters. Within an operator entries keep the order of their parameters, each in row-major
    order whatever its strides, so that a layout does not depend on memory formats.

    Parameters
    ----------
    parameters : mapping of str to torch.Tensor
        Parameters by name, in a fixed order; a tied weight once. Empty ones count as excluded.
    partition : str, tuple or mapping, default "network"
        - ``"network"``: one operator for all;
        - ``"layer"``: one per module, for the parameters that the module itself holds;
        - ``"node"``: one per unit: of linear and (transposed) convolutional modules the incoming
          weights and the bias of one output, of an embedding one row, of a normalisation the scale
          and the offset of one entry, of `torch.nn.MultiheadAttention` a row and an entry of its
          input projection; of everything else a row of dimension 0;
        - ``("quasi-node", q)``: one per `q` successive entries of a unit, the last ones fewer;
        - ``"weight"``: one per entry.

        A mapping of regular expressions to one of these or ``"exclude"`` decides by the name of the
        parameter: the first expression that `re.search` finds counts, ``"network"`` where none is
        found.
    model : torch.nn.Module, optional
        Whose parameters these are; without it no unit is known to have a bias.

    Raises
    ------
    TypeError
        A partition of the wrong type.
    ValueError
        An unknown partition, an expression that matches no parameter, or nothing left.

    Attributes
    ----------
    names, excluded : list of str
        Parameters that are part of the state, and those that are not.
    shapes : list of torch.Size
        Of the parameters in `names`.
    size : int
        Numbers per state.
    segments : ndarray of shape (K, 2), int64
        Row range (start, stop) of each operator; they cover ``range(size)``.

    Examples
    --------
    >>> import torch
    >>> from koopcore.torch.partition import Layout
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    >>> layout = Layout(dict(model.named_parameters()), "node", model)
    >>> print(layout)
    3 operators over 11 numbers: 2 of 4, 1 of 3
    >>> layout.labels
    ['0[0]', '0[1]', '1[0]']
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        partition: object = "network",
        model: nn.Module | None = None,
    ) -> None:
        kinds = kinds_of(parameters, partition)
        self.names = [name for name in parameters if kinds[name] is not None]
        self.excluded = [name for name in parameters if kinds[name] is None]
        if not self.names:
            raise ValueError(
                f"partition leaves nothing: all {len(self.excluded)} parameters are excluded or "
                "empty; at least one with entries is needed"
            )
        included = {name: parameters[name] for name in self.names}
        self.shapes = [tensor.shape for tensor in included.values()]
        owners = owners_of(included, model)
        chosen = {name: kinds[name] for name in self.names}
        self._blocks: list[Block] = [
            *network_block(included, chosen),
            *sorted(
                [
                    *layer_blocks(included, chosen, owners),
                    *unit_blocks(included, chosen, owners),
                ],
                key=lambda block: block.parts[0].index,
            ),
        ]
        self.size = sum(block.size for block in self._blocks)
        self.segments = self._segments()

    def _segments(self) -> NDArray[np.int64]:
        stops = [np.zeros(1, np.int64)]
        for block in self._blocks:
            within = np.append(np.arange(block.chunk, block.width, block.chunk), block.width)
            rows = np.arange(block.rows, dtype=np.int64) * block.width
            stops.append(stops[-1][-1] + (rows[:, None] + within).ravel())
        bounds = np.concatenate(stops)
        return np.stack([bounds[:-1], bounds[1:]], axis=1)

    @cached_property
    def labels(self) -> list[str]:
        """A name for each operator: "network", a layer, ``layer[unit]`` or ``layer[unit][chunk]``.

        Made when first asked for: with an operator per weight it is a long list.
        """
        return [label for block in self._blocks for label in block.labels()]

    @cached_property
    def fingerprint(self) -> str:
        """Equal for layouts that put entries of the same shapes in the same places."""
        facts = [(b.rows, b.width, b.chunk, b.parts) for b in self._blocks]
        return hashlib.sha1(repr((self.shapes, facts)).encode()).hexdigest()

    def describe(self) -> str:
        """Tell how many operators of which sizes there are."""
        sizes = Counter((self.segments[:, 1] - self.segments[:, 0]).tolist())
        if len(sizes) > _SIZES_TOLD:
            told = f"sizes {min(sizes)} to {max(sizes)}"
        else:
            told = ", ".join(f"{n:,} of {size:,}" for size, n in sorted(sizes.items())[::-1])
        n = len(self.segments)
        return f"{n:,} operator{'s' * (n != 1)} over {self.size:,} numbers: {told}"

    __str__ = describe

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return views of a flat state, one per parameter and in their order.

        The shape of a view is that of its parameter; where a transposed convolution has groups, its
        first dimension is split in two: see `sources`.
        """
        if flat.shape != (self.size,):
            raise ValueError(f"flat has shape {tuple(flat.shape)}; expected ({self.size},)")
        views: list[Tensor] = [flat] * len(self.names)
        start = 0
        for block in self._blocks:
            matrix = flat[start : start + block.size].view(block.rows, block.width)
            for part in block.parts:
                views[part.index] = _view_of(matrix, part)
            start += block.size
        return views

    def check(self, tensors: Sequence[Tensor]) -> None:
        """Raise ValueError unless these are tensors in the order and shapes of `names`."""
        if len(tensors) != len(self.names):
            raise ValueError(f"got {len(tensors)} tensors; the layout has {len(self.names)}")
        for name, shape, tensor in zip(self.names, self.shapes, tensors, strict=True):
            if tensor.shape != shape:
                raise ValueError(
                    f"{name!r} has shape {tuple(tensor.shape)}; it had {tuple(shape)} when the "
                    "layout was made: make a new one after resizing"
                )

    def sources(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return tensors in the order of `names` in the shapes of `views`, nothing copied."""
        self.check(tensors)
        sources = [tensor.detach() for tensor in tensors]
        for index, shape in self._split:
            sources[index] = sources[index].view(shape)
        return sources

    @cached_property
    def _split(self) -> list[tuple[int, tuple[int, ...]]]:
        parts = [part for block in self._blocks for part in block.parts if part.transposed]
        return [(part.index, _swapped(part.shape)) for part in parts]

    @torch.no_grad()
    def gather(self, tensors: Sequence[Tensor], out: Tensor) -> None:
        """Write the parameters, in the order of `names`, into the flat state `out`.

        Strides, devices and data types may be any: entries are converted to those of `out`.
        """
        torch._foreach_copy_(self.views(out), self.sources(tensors))

    @torch.no_grad()
    def scatter(self, flat: Tensor, tensors: Sequence[Tensor]) -> None:
        """Write a flat state into the parameters, in place: the inverse of `gather`."""
        torch._foreach_copy_(self.sources(tensors), self.views(flat))


def _view_of(matrix: Tensor, part: Part) -> Tensor:
    """View the columns of one parameter in a block of units as that parameter."""
    columns = matrix[:, part.first : part.last].view(part.shape)
    return columns.transpose(1, 2) if part.transposed else columns


def _swapped(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[2], shape[1], *shape[3:])
