"""Koopman operators from snapshots of a high-dimensional state.

The compiled core needs NumPy alone. ``koopcore.torch`` (imported on its own) puts it around a
training loop; ``koopcore compare`` on the command line measures what that gains.
"""

from koopcore._core import Error, __version__, num_threads, set_num_threads
from koopcore._row_blocks import RowBlocks
from koopcore._threads import make_known as _make_known
from koopcore.control import DMDc
from koopcore.dmd import DMD
from koopcore.grouped import GroupedDMD
from koopcore.io import load, save
from koopcore.select import Candidate, Selection, select
from koopcore.streaming import WindowDMD
from koopcore.streaming_dmd import StreamingDMD
from koopcore.streaming_svd import StreamingSVD

__all__ = [
    "DMD",
    "Candidate",
    "DMDc",
    "Error",
    "GroupedDMD",
    "RowBlocks",
    "Selection",
    "StreamingDMD",
    "StreamingSVD",
    "WindowDMD",
    "__version__",
    "load",
    "num_threads",
    "save",
    "select",
    "set_num_threads",
]

_make_known()
del _make_known
