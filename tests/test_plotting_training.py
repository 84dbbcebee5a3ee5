"""Plots of a training run: they hold the records' numbers, and leave everything else alone."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402

from koopcore import plotting  # noqa: E402


@dataclass(frozen=True)
class Attempt:
    step: int
    horizon: int
    loss_before: float
    loss_after: float
    taken: bool
    eigenvalues: np.ndarray


def attempt(step, horizon, before, after, values=(0.9, 0.5j, -0.5j)):
    return Attempt(step, horizon, before, after, horizon > 0, np.array(values, complex))


ATTEMPTS = [
    attempt(50, 200, 1.0, 0.5),
    attempt(100, 0, 0.4, 0.45, [0.99, 2.5]),
    attempt(150, 0, float("nan"), float("nan"), []),
    attempt(200, 100, 0.3, 0.1),
]
STEPS, LOSSES = np.arange(10) * 25, 2.0 * 0.8 ** np.arange(10)


@pytest.fixture(autouse=True)
def _figures_and_settings():
    before = dict(matplotlib.rcParams)
    yield
    for number in pyplot.get_fignums():
        pyplot.figure(number).canvas.draw()  # what cannot be drawn fails here
    pyplot.close("all")
    assert dict(matplotlib.rcParams) == before


def texts(ax):
    return [text.get_text() for text in ax.texts]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("plot", [plotting.plot_training, plotting.plot_spectrum_over_time])
def test_axes_given_are_the_only_ones_touched(plot):
    other = pyplot.figure()
    figure = matplotlib.figure.Figure()
    ax = figure.add_subplot()
    assert plot(ATTEMPTS, ax=ax) is ax
    assert pyplot.gcf() is other
    assert other.axes == []
    figure.canvas.draw()
    assert plot(ATTEMPTS).figure is not other
    assert len(pyplot.get_fignums()) == 2


def test_plot_training_marks_jumps_and_refusals_on_the_losses():
    ax = plotting.plot_training(ATTEMPTS, STEPS, LOSSES)
    loss, ends, refused = ax.lines
    np.testing.assert_array_equal(loss.get_xydata(), np.column_stack([STEPS, LOSSES]))
    (jumps,) = ax.collections
    np.testing.assert_array_equal(
        jumps.get_segments(), [[[50, 1.0], [50, 0.5]], [[200, 0.3], [200, 0.1]]]
    )
    np.testing.assert_array_equal(ends.get_xydata(), [[50, 0.5], [200, 0.1]])
    np.testing.assert_array_equal(refused.get_xdata(), [100, 150])
    assert legend(ax) == ["loss", "2 jumps (300 steps ahead in all)", "2 refused"]
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("optimizer step", "loss")


def test_plot_training_of_losses_that_are_not_positive_is_linear():
    assert plotting.plot_training([], STEPS, LOSSES - 1.0).get_yscale() == "linear"
    diverged = plotting.plot_training([], STEPS[:3], [1.0, np.inf, np.nan])
    assert diverged.get_yscale() == "log"


def test_plot_training_of_nothing_and_of_refusals_alone():
    assert not plotting.plot_training([]).lines
    ax = plotting.plot_training(ATTEMPTS[1:3])
    assert legend(ax) == ["2 refused"]


@pytest.mark.parametrize(
    "arguments", [(STEPS, LOSSES[:-1]), (STEPS, None), (None, LOSSES), (1.0, 2.0)]
)
@pytest.mark.parametrize("plot", [plotting.plot_training, plotting.plot_run])
def test_steps_and_losses_of_different_lengths_are_refused(plot, arguments):
    with pytest.raises(ValueError, match="give both"):
        plot([], *arguments)
    assert not pyplot.get_fignums()


def test_plot_spectrum_over_time_draws_moduli_and_counts_those_far_outside():
    ax = plotting.plot_spectrum_over_time(ATTEMPTS)
    (points,) = ax.collections
    expected = [[50, 0.9], [50, 0.5], [50, 0.5], [100, 0.99], [200, 0.9], [200, 0.5], [200, 0.5]]
    np.testing.assert_allclose(points.get_offsets(), expected)
    assert texts(ax) == ["1 above 1.5"]
    assert ax.lines[0].get_ydata() == [1.0, 1.0]
    assert ax.get_ylim() == (0.0, 1.05)
    assert len(ax.figure.axes) == 1


def test_plot_spectrum_over_time_colours_by_share():
    fits = [
        SimpleNamespace(step=1, eigenvalues=np.array([0.9, 0.5]), sizes=np.array([3.0, 1.0])),
        SimpleNamespace(step=2, eigenvalues=np.array([0.8]), sizes=np.array([0.0])),
    ]
    ax = plotting.plot_spectrum_over_time(fits)
    (points,) = ax.collections
    np.testing.assert_allclose(points.get_offsets(), [[2, 0.8], [1, 0.5], [1, 0.9]])
    np.testing.assert_allclose(points.get_array(), [1e-3, 0.25, 0.75])
    (bar,) = set(ax.figure.axes) - {ax}
    assert bar.get_ylabel() == "share of the last change"


def test_plot_spectrum_over_time_without_eigenvalues_says_so():
    assert texts(plotting.plot_spectrum_over_time(ATTEMPTS[2:3])) == ["no fit has eigenvalues yet"]
    only_far = plotting.plot_spectrum_over_time([attempt(1, 0, 1.0, 1.0, [7.0])])
    assert texts(only_far) == ["1 above 1.5"]


def test_plot_run_has_both_over_the_same_steps():
    above, below = plotting.plot_run(ATTEMPTS, STEPS, LOSSES).axes
    assert (above.get_title(), below.get_title()) == ("training", "spectrum over time")
    assert above.get_xlim() == below.get_xlim()
    bare = SimpleNamespace(step=1, horizon=0, loss_before=1.0, loss_after=1.0, taken=False)
    assert texts(plotting.plot_run([bare]).axes[1]) == ["no fit has eigenvalues yet"]
