"""An accelerator's attempts in TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLog:
    """A ``log_fn`` that writes the numbers of each attempt as scalars.

    Each finite number of the fields goes to ``koopcore/<name>``, True and False as 1 and 0, and the
    largest modulus of the eigenvalues to ``koopcore/spectral_radius``; words and lists do not.

    Parameters
    ----------
    writer : torch.utils.tensorboard.SummaryWriter
        Yours to close.

    Raises
    ------
    TypeError
        If `writer` has no method ``add_scalar``.

    Examples
    --------
    >>> import tempfile
    >>> from torch.utils.tensorboard import SummaryWriter
    >>> with tempfile.TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
    ...     log_fn = TensorBoardLog(writer)  # KoopmanAccelerator(..., log_fn=log_fn)
    ...     log_fn({"horizon": 640, "taken": True}, 50)
    """

    def __init__(self, writer: SummaryWriter) -> None:
        if not callable(getattr(writer, "add_scalar", None)):
            raise TypeError(
                "writer must be a torch.utils.tensorboard.SummaryWriter, got "
                f"{type(writer).__name__}"
            )
        self._writer = writer

    def __call__(self, fields: Mapping[str, Any], step: int) -> None:
        """Write the fields of one attempt, made after optimizer step `step`."""
        for name, value in fields.items():
            if name == "eigenvalues" and np.size(value):
                name, value = "spectral_radius", float(np.abs(value).max())
            if isinstance(value, Real | np.bool_) and name != "step" and math.isfinite(value):
                self._writer.add_scalar(f"koopcore/{name}", float(value), step)
