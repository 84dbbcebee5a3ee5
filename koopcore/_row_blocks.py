"""RowBlocks: row blocks of one state in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from koopcore._stream import require_square


class RowBlocks:
    """Row blocks of one state, each a stream of its own, that go on together.

    For states that no single array holds: every block of rows is an object of its own (made with
    ``first_row=``), and all that passes between them are sums of small matrices. In several
    processes give each stream a ``reduce=`` instead, such as an all-reduce.

    Parameters
    ----------
    streams : sequence of StreamingDMD or StreamingSVD
        Made alike but for `first_row`, none of them with `reduce`.

    Examples
    --------
    >>> import numpy as np
    >>> from koopcore import RowBlocks, StreamingDMD
    >>> X = np.outer(np.arange(1.0, 201.0), 0.9 ** np.arange(30))
    >>> rows = RowBlocks([StreamingDMD(1, first_row=0), StreamingDMD(1, first_row=128)])
    >>> upper, lower = rows.partial_fit([X[:128], X[128:]]).streams
    >>> print(upper.eigenvalues.real.round(6), len(lower.modes))
    [0.9] 72
    """

    def __init__(self, streams: Sequence[Any]) -> None:
        self.streams = list(streams)
        if not self.streams:
            raise ValueError("streams is empty; give one for each block of rows")
        for i, stream in enumerate(self.streams):
            if not stream._core_options["sharded"] or stream._reduce is not None:
                raise ValueError(f"streams[{i}] must be made with first_row= and without reduce=")
            if type(stream) is not type(self.streams[0]):
                raise TypeError(
                    f"streams[{i}] is a {type(stream).__name__}, streams[0] a "
                    f"{type(self.streams[0]).__name__}"
                )
            self.streams[0]._require_alike(stream, f"streams[{i}]", "streams[0]", ("first_row",))

    def partial_fit(self, blocks: Sequence[Any]) -> RowBlocks:
        """Append snapshots: for each stream its rows of them, shape (rows, n_snapshots).

        Raises
        ------
        ValueError, TypeError
            As the streams raise them; blocks of unequal width.
        """
        arrays = self._checked(blocks)
        count = arrays[0].shape[1]
        first = 0
        while first < count:
            held = self.streams[0]._stream
            room = self.streams[0]._core_options["block"] if held is None else held.room
            stop = min(count, first + room)
            for stream, array in zip(self.streams, arrays, strict=True):
                stream.partial_fit(array[:, first:stop])
            self._sum()
            first = stop
        return self

    def _checked(self, blocks: Sequence[Any]) -> list[NDArray[Any]]:
        """View the blocks as arrays that every stream will take."""
        if len(blocks) != len(self.streams):
            raise ValueError(f"got {len(blocks)} blocks for {len(self.streams)} streams")
        arrays = [
            s._matrix(b, f"blocks[{i}]")
            for i, (s, b) in enumerate(zip(self.streams, blocks, strict=True))
        ]
        for i, (stream, array) in enumerate(zip(self.streams, arrays, strict=True)):
            shape = stream._shape
            rows = array.shape[0] if shape is None else shape.n_features
            dtype = arrays[0].dtype if shape is None else shape.dtype
            if array.shape != (rows, arrays[0].shape[1]) or rows == 0:
                raise ValueError(
                    f"blocks[{i}] has shape {array.shape}; expected {rows or 'at least 1'} rows "
                    f"and {arrays[0].shape[1]} snapshots, as blocks[0] has"
                )
            if array.dtype != dtype:
                raise TypeError(f"blocks[{i}] has dtype {array.dtype}; expected {dtype}")
            require_square(array, f"blocks[{i}]")
        return arrays

    def _sum(self) -> None:
        total = sum(stream._stream.partial() for stream in self.streams)
        for stream in self.streams:
            stream._stream.provide(total)
        # A block that was full has been absorbed: what follows needs the new basis' own sum.
        if self.streams[0]._stream.room == self.streams[0]._core_options["block"]:
            total = sum(stream._stream.partial() for stream in self.streams)
            for stream in self.streams:
                stream._stream.provide(total)
