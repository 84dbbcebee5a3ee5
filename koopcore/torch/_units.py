"""What `partition` needs of a model: which entries of its parameters form a unit, a layer."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

# A unit owns row i of the weight and entry i of the bias.
_ROWWISE = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, _ConvNd)
# A unit owns entry i of both, whatever their shape.
_ENTRYWISE = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase)
_NAMES = ("network", "layer", "node", "weight")
_EXPECTED = '"network", "layer", "node", "weight" or ("quasi-node", q)'

# The kind of a partition: its name, and the entries per operator within a unit (0: all).
Kind = tuple[str, int]


@dataclass(frozen=True)
class Part:
    """Parameter number `index` in the columns ``first:last`` of a block.

    `shape` views these columns as the parameter; with `transposed` its axes 1 and 2 are exchanged
    (the input and output channels of a group of a transposed convolution).
    """

    index: int
    first: int
    last: int
    shape: tuple[int, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Block:
    """`rows` units of `width` entries each, `chunk` of which follow one operator."""

    label: str
    rows: int
    width: int
    chunk: int
    parts: list[Part]
    whole: bool = False  # its one row is all of a layer or of the network

    @property
    def size(self) -> int:
        return self.rows * self.width

    def labels(self) -> Iterator[str]:
        chunks = -(-self.width // self.chunk)
        for row in range(self.rows):
            for chunk in range(chunks):
                unit = self.label if self.whole else f"{self.label}[{row}]"
                yield unit if self.chunk == self.width else f"{unit}[{chunk}]"


@dataclass(frozen=True)
class Owner:
    """The module that holds a parameter: its path in the model, and the parameter's name there."""

    path: str
    module: nn.Module | None
    attribute: str
    root: str  # how the model itself is called

    @property
    def layer(self) -> str:
        """Path of the layer; the originals of a parametrised weight belong to it, too."""
        return re.split(r"(?:^|\.)parametrizations\.", self.path)[0] or self.root


def kinds_of(parameters: Mapping[str, Tensor], partition: object) -> dict[str, Kind | None]:
    """Return the kind of every parameter; None for what is excluded or has no entries."""
    kinds: dict[str, Kind | None]
    if isinstance(partition, Mapping):
        kinds = _kinds_by_name(parameters, partition)
    else:
        kinds = dict.fromkeys(parameters, _checked_kind(partition, "partition"))
    return {name: kinds[name] if p.numel() else None for name, p in parameters.items()}


def _kinds_by_name(
    parameters: Mapping[str, Tensor], partition: Mapping[object, object]
) -> dict[str, Kind | None]:
    kinds: dict[str, Kind | None] = {}
    for expression, choice in partition.items():
        where = f"partition[{expression!r}]"
        kind = None if choice == "exclude" else _checked_kind(choice, where, ' or "exclude"')
        try:
            pattern = re.compile(expression)  # type: ignore[call-overload]
        except (TypeError, re.error) as error:
            raise ValueError(f"{where}: {expression!r} is no regular expression: {error}") from None
        found = [name for name in parameters if pattern.search(name)]
        if not found:
            raise ValueError(
                f"{where}: the expression matches none of the {len(parameters)} parameters, such "
                f"as {next(iter(parameters), 'none')!r}"
            )
        for name in found:
            kinds.setdefault(name, kind)
    return {name: kinds.get(name, ("network", 0)) for name in parameters}


def _checked_kind(choice: object, where: str, more: str = "") -> Kind:
    if isinstance(choice, str):
        if choice in _NAMES:
            return ("node", 1) if choice == "weight" else (choice, 0)
        raise ValueError(f"{where}={choice!r} is not known; expected {_EXPECTED}{more}")
    if not (isinstance(choice, tuple | list) and len(choice) == 2 and choice[0] == "quasi-node"):
        refusal = ValueError if isinstance(choice, tuple | list) else TypeError
        raise refusal(f"{where}={choice!r} is no partition; expected {_EXPECTED}{more}")
    try:
        q = 0 if isinstance(choice[1], bool) else operator.index(choice[1])
    except TypeError:
        raise TypeError(f"{where}={choice!r}: q must be an int, a number of entries") from None
    if q < 1:
        raise ValueError(f"{where}={choice!r}: q must be at least 1 entry")
    return ("node", q)


def owners_of(parameters: Mapping[str, Tensor], model: nn.Module | None) -> dict[str, Owner]:
    """Find the module that holds each parameter: by name, or else by identity."""
    modules = {} if model is None else dict(model.named_modules(remove_duplicate=False))
    root = "model" if model is None else type(model).__name__
    by_identity = {
        id(p): (path, attribute)
        for path, module in modules.items()
        for attribute, p in module._parameters.items()
    }
    owners = {}
    for name, p in parameters.items():
        path, _, attribute = name.rpartition(".")
        if attribute not in getattr(modules.get(path), "_parameters", ()):
            path, attribute = by_identity.get(id(p), (path, attribute))
        owners[name] = Owner(path, modules.get(path), attribute, root)
    return owners


def network_block(parameters: Mapping[str, Tensor], kinds: Mapping[str, Kind]) -> list[Block]:
    """One block with all parameters of kind "network", or none."""
    names = [name for name in parameters if kinds[name][0] == "network"]
    return [_joined("network", names, parameters)] if names else []


def layer_blocks(
    parameters: Mapping[str, Tensor], kinds: Mapping[str, Kind], owners: Mapping[str, Owner]
) -> list[Block]:
    """One block per layer."""
    layers: dict[str, list[str]] = {}
    for name in parameters:
        if kinds[name][0] == "layer":
            layers.setdefault(owners[name].layer, []).append(name)
    return [_joined(layer, names, parameters) for layer, names in layers.items()]


def _joined(label: str, names: list[str], parameters: Mapping[str, Tensor]) -> Block:
    order = {name: index for index, name in enumerate(parameters)}
    parts, width = [], 0
    for name in names:
        size = parameters[name].numel()
        parts.append(Part(order[name], width, width + size, tuple(parameters[name].shape)))
        width += size
    return Block(label, 1, width, width, parts, whole=True)


def unit_blocks(
    parameters: Mapping[str, Tensor], kinds: Mapping[str, Kind], owners: Mapping[str, Owner]
) -> list[Block]:
    """Blocks with a row per unit; parameters that share their units share a block."""
    together: dict[tuple[object, ...], list[str]] = {}
    for name, p in parameters.items():
        if kinds[name][0] == "node":
            owner = owners[name]
            key = (kinds[name], _rows(p, owner), owner.path, _family(owner) or name)
            together.setdefault(key, []).append(name)
    held: dict[str, int] = {}
    for name in parameters:
        held[owners[name].path] = held.get(owners[name].path, 0) + 1
    order = {name: index for index, name in enumerate(parameters)}
    blocks = []
    for names in together.values():
        owner, rows = owners[names[0]], _rows(parameters[names[0]], owners[names[0]])
        parts, width = [], 0
        for name in names:
            p, last = parameters[name], width + parameters[name].numel() // rows
            shape, transposed = _shape_by_units(p, owners[name])
            parts.append(Part(order[name], width, last, shape, transposed))
            width = last
        alone = held[owner.path] == len(names)
        chunk = min(kinds[names[0]][1] or width, width)
        label = (owner.path or owner.root) if alone else names[0]
        blocks.append(Block(label, rows, width, chunk, parts))
    return blocks


def _family(owner: Owner) -> str:
    """Name what a parameter shares its units with; empty where that is not known."""
    if owner.attribute in ("weight", "bias") and isinstance(owner.module, _ROWWISE + _ENTRYWISE):
        return "weight and bias"
    if owner.attribute in ("in_proj_weight", "in_proj_bias") and isinstance(
        owner.module, nn.MultiheadAttention
    ):
        return "in_proj"
    return ""


def _transposed(p: Tensor, owner: Owner) -> bool:
    return p.ndim > 1 and owner.attribute == "weight" and isinstance(owner.module, _ConvTransposeNd)


def _rows(p: Tensor, owner: Owner) -> int:
    """Count the units of a parameter."""
    if isinstance(owner.module, _ENTRYWISE):
        return p.numel()
    if _transposed(p, owner):
        return p.shape[1] * owner.module.groups
    return p.shape[0] if p.ndim else 1


def _shape_by_units(p: Tensor, owner: Owner) -> tuple[tuple[int, ...], bool]:
    """Shape that views rows of units as the parameter, and whether its axes 1 and 2 change places.

    The weight of a transposed convolution is (inputs, outputs / groups, ...); by units it is
    (groups, outputs / groups, inputs / groups, ...).
    """
    if not _transposed(p, owner):
        return tuple(p.shape), False
    groups = owner.module.groups
    inputs, outputs = p.shape[0] // groups, p.shape[1]
    return (groups, outputs, inputs, *p.shape[2:]), True
