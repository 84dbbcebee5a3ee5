"""Blocks of a source one after the other, the next one read while one is worked on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from koopcore._arrays import as_numpy
from koopcore._sources import PartSource, Range, Source

Progress = bool | Callable[[int, int | None], None]
Where = tuple[Range, Range]  # features, snapshots

# Default bytes of a block: of columns, which is still in the cache when it is worked on; of columns
# that lie in pieces, one per feature; of rows, which may lie in pieces, one per snapshot.
MEMORY, STRIDED_MEMORY, ROW_MEMORY = 1 << 24, 1 << 28, 1 << 26


def range_within(names: str, first: int, stop: int | None, count: int) -> Range:
    last = count if stop is None else stop
    if not 0 <= first < last <= count:
        raise ValueError(f"{names}: {first} to {last} of {count} is not a range within them")
    return first, last


def part_of(source: Source, start: int, stop: int | None) -> Source:
    """Return the source, or what it holds of a range of snapshots."""
    first, last = range_within("start, stop", start, stop, source.n_snapshots)
    return source if (first, last) == (0, source.n_snapshots) else PartSource(source, first, last)


def of_iterable(
    source: Iterable[Any],
    start: int,
    stop: int | None,
    rows: Range | None,
    memory: int | None,
    time_axis: int,
    as_type: DTypeLike | None,
) -> Iterator[NDArray[Any]]:
    """Gather single snapshots to blocks; give blocks as they come."""
    seen, held = 0, 0
    buffer: NDArray[Any] | None = None
    for i, item in enumerate(source):
        block = as_numpy(item, f"item {i} of the iterable")
        if as_type is not None:
            block = block.astype(as_type, copy=False)
        single = block.ndim == 1
        if block.ndim not in (1, 2):
            raise ValueError(
                f"item {i} of the iterable has shape {block.shape}; expected 1-D or 2-D"
            )
        block = block[:, None] if single else block.T if time_axis == 0 else block
        width = block.shape[1]
        block = block[:, max(0, start - seen) : width if stop is None else max(0, stop - seen)]
        block = block if rows is None else block[slice(*range_within("rows", *rows, len(block)))]
        seen += width
        if buffer is not None and (held == buffer.shape[1] or not single) and held:
            yield buffer[:, :held]
            held = 0
        if not single:
            if block.shape[1]:
                yield block
        elif block.shape[1]:
            if buffer is None:
                columns = max(1, (memory or MEMORY) // max(1, block.nbytes))
                buffer = np.empty((columns, len(block)), block.dtype).T
            if block.dtype != buffer.dtype or len(block) != len(buffer):
                raise ValueError(
                    f"item {i} of the iterable has {len(block)} numbers of {block.dtype}, those "
                    f"before it {len(buffer)} of {buffer.dtype}"
                )
            buffer[:, held] = block[:, 0]
            held += 1
        if stop is not None and seen >= stop:
            break
    if buffer is not None and held:
        yield buffer[:, :held]


def enumerate_blocks(parts: Iterable[NDArray[Any]]) -> Iterator[tuple[Where, NDArray[Any]]]:
    """Yield blocks with the ranges they cover, counted from the first one."""
    first = 0
    for part in parts:
        yield ((0, part.shape[0]), (first, first + part.shape[1])), part
        first += part.shape[1]


def column_blocks(
    source: Source, start: int, stop: int | None, rows: Range | None, memory: int | None
) -> Iterator[tuple[Where, NDArray[Any]]]:
    first, last = range_within("start, stop", start, stop, source.n_snapshots)
    across = (
        (0, source.n_features) if rows is None else range_within("rows", *rows, source.n_features)
    )
    one = (across[1] - across[0]) * source.dtype.itemsize
    memory = memory or (MEMORY if source.time_first else STRIDED_MEMORY)
    cuts = _cuts(first, last, memory // one, source.chunk[1])
    return read_ahead(source, [(across, cut) for cut in cuts])


def row_blocks(source: Source, memory: int | None) -> Iterator[tuple[Where, NDArray[Any]]]:
    one = source.n_snapshots * source.dtype.itemsize
    cuts = _cuts(0, source.n_features, (memory or ROW_MEMORY) // one, source.chunk[0])
    return read_ahead(source, [(cut, (0, source.n_snapshots)) for cut in cuts])


def _cuts(first: int, last: int, width: int, chunk: int) -> list[Range]:
    """Cut a range into parts of at most `width`, of whole chunks where that is possible."""
    width = max(1, width)
    begin = first
    if width >= chunk:
        width, begin = width - width % chunk, first - first % chunk
    return list(itertools.pairwise([first, *range(begin + width, last, width), last]))


def read_ahead(source: Source, parts: list[Where]) -> Iterator[tuple[Where, NDArray[Any]]]:
    """Yield the parts of a source while a thread reads the next one; two are held in turn."""
    rows = max(b - a for (a, b), _ in parts)
    columns = max(b - a for _, (a, b) in parts)
    buffers = [source.empty(rows, columns) for _ in parts[:2]]

    def read(i: int) -> NDArray[Any]:
        across, along = parts[i]
        count, width = across[1] - across[0], along[1] - along[0]
        block = buffers[i % 2]
        if (count, width) != block.shape:  # the last one: in one piece as well
            block = source.empty(count, width)
        source.read(across, along, block)
        return block

    with ThreadPoolExecutor(1, "koopcore-read") as reader:
        pending = reader.submit(read, 0)
        for i, part in enumerate(parts):
            block = pending.result()
            if i + 1 < len(parts):
                pending = reader.submit(read, i + 1)
            yield part, block


def refuse_nonfinite(
    name: str,
    where: Where,
    block: NDArray[Any],
    first_of_all: int = 0,
    cause: Exception | None = None,
) -> None:
    """Say where the first value is that is not finite, if there is one."""
    bad = ~np.isfinite(block)
    if bad.any():
        column = int(np.flatnonzero(bad.any(axis=0))[0])
        row = int(np.flatnonzero(bad[:, column])[0])
        (row0, _), (first, stop) = where
        first, stop = first + first_of_all, stop + first_of_all
        value, at = block[row, column], first + column
        raise ValueError(
            f"{name!r}, block of snapshots {first} to {stop - 1}: snapshot {at} has the value "
            f"{value} at entry {row0 + row}, which is not finite. Repair it, or read only what is "
            f"before or after it (stop={at}, start={at + 1})"
        ) from cause


@contextmanager
def shown(progress: Progress, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Give a function to call with what has been done: a bar, the caller's, or nothing."""
    if progress is True:
        try:
            from tqdm import tqdm
        except ImportError as error:
            raise ImportError(
                'progress=True needs tqdm; install it with pip install "koopcore[cli]"'
            ) from error
        # disable=None: silent where the output is not a terminal
        with tqdm(total=total, unit=f" {unit}", unit_scale=True, disable=None) as bar:
            yield lambda count: bar.update(count)
        return
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if callable(progress):
            progress(done, total)

    yield tell
