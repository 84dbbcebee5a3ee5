"""Snapshots that memory does not hold: read in blocks, for streams and for batch fits.

`feed` gives a stream all snapshots of a file, an array, a dataset or an iterator; `fit` fits a
`koopcore.DMD` to a file by its rows; `write_modes` writes modes to a file. The next block is read
by a thread while one is worked on, and no more than two are held.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from koopcore._blocks import (
    Progress,
    Where,
    column_blocks,
    enumerate_blocks,
    of_iterable,
    part_of,
    range_within,
    refuse_nonfinite,
    shown,
)
from koopcore._modes import reordered, write_modes
from koopcore._opening import open_source
from koopcore._row_blocks import RowBlocks
from koopcore._solve import pose, require, solve
from koopcore._sources import Range, Source
from koopcore._stored import StoredSnapshots
from koopcore.dmd import DMD

__all__ = ["blocks", "feed", "fit", "reorder", "write_modes"]

Model = TypeVar("Model")


def blocks(
    source: Any,
    *,
    start: int = 0,
    stop: int | None = None,
    rows: Range | None = None,
    memory: int | None = None,
    dataset: str | None = None,
    dtype: DTypeLike | None = None,
    shape: Sequence[int] | None = None,
    offset: int = 0,
    time_axis: int = -1,
    as_type: DTypeLike | None = None,
) -> Iterator[NDArray[Any]]:
    """Yield the snapshots of a source in blocks of columns, oldest first.

    Parameters
    ----------
    source : path, array, dataset or iterable
        A `.npy` file; an HDF5 (`.h5`, `.hdf5`, `.hdf`, `.nc`) or zarr file, which need h5py and
        zarr; any other file, as raw binary; a (memory-mapped) array, an h5py or zarr dataset; an
        iterable of snapshots (n_features,), or of blocks of them.
    start, stop : int
        Snapshots to read, of an iterable counted from its next one.
    rows : (int, int), optional
        Features to read: first, and the one after the last. Default: all.
    memory : int, optional
        Bytes of a block (one snapshot, where that is more); two are held. Default: 16 MiB, which
        stays in the cache, or 256 MiB where a block is read in pieces (see the documentation).
    dataset : str, optional
        Name of the dataset in an HDF5 or zarr file. Default: the only one.
    dtype, shape, offset
        Of a raw binary file in C order; one side may be -1, for as many as there are. `offset`
        counts the bytes before the numbers.
    time_axis : {-1, 0}
        Axis that counts the snapshots. Further axes, all of them space, are taken as one.
    as_type : dtype, optional
        Convert the numbers while they are read: float32 or float64.

    Yields
    ------
    ndarray of shape (n_features, n_snapshots_of_the_block)
        Valid until the next one is asked for, when its memory is used again.

    Raises
    ------
    FileNotFoundError, ImportError
        If there is no such file, or the package that reads it is missing.
    TypeError, ValueError
        If the source does not hold snapshots of the kind described.
    """
    if _is_iterable(source):
        yield from of_iterable(source, start, stop, rows, memory, time_axis, as_type)
        return
    with open_source(
        source,
        dataset=dataset,
        dtype=dtype,
        shape=shape,
        offset=offset,
        time_axis=time_axis,
        as_type=as_type,
    ) as opened:
        for _, block in column_blocks(opened, start, stop, rows, memory):
            yield block


def feed(
    model: Model,
    source: Any,
    *,
    progress: Progress = False,
    start: int = 0,
    stop: int | None = None,
    rows: Range | None = None,
    memory: int | None = None,
    **how: Any,
) -> Model:
    """Give a stream all snapshots of a source, in blocks.

    Parameters
    ----------
    model : StreamingDMD, StreamingSVD, WindowDMD, RowBlocks, or whatever has partial_fit or update
        Of a `RowBlocks` every stream gets its own rows.
    source, start, stop, rows, memory, **how
        As in `blocks`. A stream that was saved goes on with ``start=model.n_snapshots``.
    progress : bool or callable
        Show a bar (needs tqdm; silent where the error output is no terminal), or call
        ``progress(snapshots done, snapshots in all or None)``.

    Returns
    -------
    The model.

    Raises
    ------
    As `blocks`; ValueError for a value that is not finite, with the place where it is. The blocks
    before it are then in the model.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from koopcore import StreamingDMD
    >>> from koopcore.outofcore import feed
    >>> X = np.outer([1.0, 2.0, 0.5], 0.9 ** np.arange(30))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/X.npy", X)
    ...     model = feed(StreamingDMD(rank=1), f"{folder}/X.npy")
    >>> print(model.eigenvalues.real.round(6), model.n_snapshots)
    [0.9] 30
    """
    if isinstance(model, DMD):
        raise TypeError("a DMD takes all snapshots at once: use koopcore.outofcore.fit")
    ranges: dict[str, Any] = {"start": start, "stop": stop, "rows": rows, "memory": memory}
    if _is_iterable(source):
        with shown(progress, None, "snapshots") as show:
            parts = enumerate_blocks(blocks(source, **ranges, **how))
            _push_all(model, parts, "the iterable", start, show)
        return model
    with open_source(source, **how) as opened:
        first, last = range_within("start, stop", start, stop, opened.n_snapshots)
        with shown(progress, last - first, "snapshots") as show:
            _push_all(model, column_blocks(opened, **ranges), opened.name, opened.first, show)
    return model


def _push_all(
    model: Any,
    parts: Iterable[tuple[Where, NDArray[Any]]],
    name: str,
    first: int,
    show: Callable[[int], None],
) -> None:
    for where, block in parts:
        try:
            _push(model, block)
        except ValueError as error:
            refuse_nonfinite(name, where, block, first, error)
            raise
        show(block.shape[1])


def _push(model: Any, block: NDArray[Any]) -> None:
    if isinstance(model, RowBlocks):
        cuts = [stream._core_options["first_row"] for stream in model.streams]
        cuts = [cut - cuts[0] for cut in cuts[1:]]
        model.partial_fit(np.split(block, cuts))
    elif hasattr(model, "partial_fit"):
        model.partial_fit(block)
    else:
        for column in block.T:
            model.update(np.ascontiguousarray(column))


def _is_iterable(source: Any) -> bool:
    known = isinstance(source, (str, os.PathLike, Source)) or hasattr(source, "shape")
    return not known and isinstance(source, Iterable)


def fit(
    model: DMD,
    source: Any,
    *,
    progress: Progress = False,
    start: int = 0,
    stop: int | None = None,
    memory: int | None = None,
    **how: Any,
) -> DMD:
    """Fit a DMD to snapshots that memory does not hold: their Gram matrix summed over row blocks.

    One pass over the source, and one more for whatever the model is asked that is as large as a
    state (`write_modes` does that in blocks as well). The source stays open until the model goes.
    Cheapest where the numbers of a feature lie together, or for few snapshots: the work is that
    of `koopcore.DMD`, quadratic in their number, and it needs some float64 matrices of
    (n_snapshots, n_snapshots).

    Parameters
    ----------
    model : DMD
        With any options.
    source, start, stop, memory, **how
        As in `blocks`, without the iterables.
    progress : bool or callable
        As in `feed`, of features.

    Returns
    -------
    DMD
        The same model, fitted.

    Raises
    ------
    As `blocks` and `koopcore.DMD.fit`.
    """
    opened = part_of(open_source(source, **how), start, stop)
    snapshots = StoredSnapshots(opened, memory, progress)
    require(snapshots, model._options, model.solver, pairs=False, timed=False)
    gram = snapshots.gram() if model.solver != "qr" else np.empty((0, 0))
    problem = pose(snapshots, gram, pairs=False, times=None, dt=model.dt)
    model._fit_to(snapshots, *solve(snapshots, problem, model._options, model.solver))
    snapshots.progress = False
    return model


def reorder(
    source: Any,
    path: str | os.PathLike[str],
    *,
    progress: Progress = False,
    memory: int | None = None,
    **how: Any,
) -> None:
    """Write snapshots to a `.npy` file in which the numbers of each lie together, as streams read.

    Worth its pass where `blocks` would read pieces of less than some kilobytes (``memory /
    n_features`` bytes): of an array in C order with many features and snapshots.

    Parameters
    ----------
    source, memory, **how
        As in `blocks`, without the iterables.
    path : str or path-like
        Ends in `.npy`; the array has the shape (n_features, n_snapshots), in Fortran order.
    progress : bool or callable
        As in `fit`.
    """
    if Path(path).suffix != ".npy":
        raise ValueError(f"path={os.fspath(path)!r} must end in .npy")
    with open_source(source, **how) as opened:
        reordered(Path(os.path.realpath(path)), opened, memory, progress)
