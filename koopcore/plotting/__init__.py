"""Plots of a fitted estimator, and of a training run.

Every function takes ``ax=None`` and returns the Axes it drew on (`plot_summary` and `plot_run`
their Figure); nothing is shown or saved, and no setting is changed for other plots. Matplotlib is
imported by the functions, so that koopcore never needs it. The colours are Okabe and Ito's,
viridis, and a red-blue scale: all kinds of colour vision can tell them apart.
"""

from koopcore.plotting.spectrum import (
    plot_amplitudes,
    plot_eigenvalues,
    plot_rates,
    plot_singular_values,
)
from koopcore.plotting.states import plot_dynamics, plot_forecast, plot_mode
from koopcore.plotting.summary import plot_summary
from koopcore.plotting.training import plot_run, plot_spectrum_over_time, plot_training

__all__ = [
    "plot_amplitudes",
    "plot_dynamics",
    "plot_eigenvalues",
    "plot_forecast",
    "plot_mode",
    "plot_rates",
    "plot_run",
    "plot_singular_values",
    "plot_spectrum_over_time",
    "plot_summary",
    "plot_training",
]
