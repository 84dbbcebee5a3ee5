"""The offline arena: rules of forecasting scored on the same stored weight trajectories.

Reading order: ``recording`` (what a file holds), ``record`` (how one is made), ``predictors`` (what
forecasts, and how a rule joins), ``entrants`` (those that take part by default), ``parameters``
(which weights form a node or a layer), ``score`` (the errors and the losses), ``summary`` (medians
and intervals), ``tables`` and ``picture`` (how they are shown). None of them imports torch before a
workload is built. The command line is in ``koopcore._cli_arena``.
"""

from __future__ import annotations

from .entrants import ARENA_RULES
from .predictors import FromRule, Predictor
from .recording import Recording, load, shipped

__all__ = ["ARENA_RULES", "FromRule", "Predictor", "Recording", "load", "shipped"]
