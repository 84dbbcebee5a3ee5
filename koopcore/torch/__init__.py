"""Koopman forecasts inside a PyTorch training loop.

Reading order: ``recorder`` (what a snapshot is), ``partition`` and ``windows`` (which numbers share
an operator, and their last snapshots), ``forecasts`` (from Gram matrices to forecasts), ``trial``
(how a forecast is tried and a horizon chosen), ``policy`` (when, how far, at what cost),
``results`` (what is reported), ``accelerator`` (the optimizer hook that joins them),
``forecast_model`` (the same forecasts for evaluation, training untouched).
"""

try:
    import torch as _torch  # noqa: F401  (only to say clearly that it is missing)
except ModuleNotFoundError as error:
    raise ImportError(
        "koopcore.torch needs PyTorch, which is not installed; "
        'install it with: pip install "koopcore[torch]"'
    ) from error

from koopcore.torch.accelerator import KoopmanAccelerator
from koopcore.torch.forecast_model import ForecastModel, Selection
from koopcore.torch.results import AcceleratorStats, Jump
from koopcore.torch.tensorboard import TensorBoardLog
from koopcore.torch.trajectory import Trajectory, TrajectoryRecorder, load_trajectory

__all__ = [
    "AcceleratorStats",
    "ForecastModel",
    "Jump",
    "KoopmanAccelerator",
    "Selection",
    "TensorBoardLog",
    "Trajectory",
    "TrajectoryRecorder",
    "load_trajectory",
]
