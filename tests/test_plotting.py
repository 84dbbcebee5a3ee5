"""koopcore.plotting: the pictures hold the model's numbers, and leave everything else alone."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support import DTYPES, planted

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402
from matplotlib.colors import LogNorm  # noqa: E402

from koopcore import DMD, StreamingDMD, WindowDMD, plotting  # noqa: E402

PAIR = 0.9 * np.exp(0.4j)
RATES = (0.97, PAIR, PAIR.conjugate(), -0.6)
SINGLE = [
    plotting.plot_eigenvalues,
    plotting.plot_rates,
    plotting.plot_singular_values,
    plotting.plot_amplitudes,
    plotting.plot_dynamics,
    lambda model, ax=None: plotting.plot_mode(model, 0, ax=ax),
    lambda model, ax=None: plotting.plot_forecast(model, 3, ax=ax),
]


class Known(DMD):
    """A fit with everything that the plots look for."""

    def residuals(self):
        return np.array([1e-3, 1e-1, 1e-1, np.nan])[: len(self.eigenvalues)]

    def forecast_interval(self, horizon, level):
        return self.forecast(horizon) - level, self.forecast(horizon) + level


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def model(request):
    return Known(rank=4, dt=0.5).fit(planted(RATES, dtype=request.param))


def complex_model():
    values = np.array([0.9, 0.8j, -0.5 - 0.1j])
    powers = np.vander(values, 10, increasing=True)
    modes = np.eye(6, 3) * (1 + 1j)
    return SimpleNamespace(
        eigenvalues=values,
        singular_values=np.array([3.0, 2.0, 1.0, 0.0]),
        modes=modes,
        amplitudes=np.array([1.0, 5.0, 2.0]),
        dynamics=np.array([[1.0], [5.0], [2.0]]) * powers,
        frequency=np.angle(values) / (2 * np.pi),
        growth_rate=np.log(np.abs(values)),
        dt=1.0,
        snapshots=modes @ powers,
        forecast=lambda horizons: modes @ np.ones((3, len(horizons))),
    )


@pytest.fixture(autouse=True)
def _figures_and_settings():
    before = dict(matplotlib.rcParams)
    yield
    for number in pyplot.get_fignums():
        pyplot.figure(number).canvas.draw()  # what cannot be drawn fails here
    pyplot.close("all")
    assert dict(matplotlib.rcParams) == before


def offsets(collection):
    return collection.get_offsets() @ [1, 1j]


def labels(ax):
    return ax.get_xlabel(), ax.get_ylabel()


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("plot", SINGLE)
def test_axes_given_are_the_only_ones_touched(model, plot):
    other = pyplot.figure()
    current = other.add_subplot()
    figure = matplotlib.figure.Figure()
    ax = figure.add_subplot()
    assert plot(model, ax=ax) is ax
    assert pyplot.gcf() is other
    assert pyplot.gca() is current
    assert other.axes == [current]
    assert not current.has_data()
    figure.canvas.draw()


@pytest.mark.parametrize("plot", SINGLE)
def test_no_axes_given_make_one_new_figure(model, plot):
    before = pyplot.figure()
    ax = plot(model)
    assert len(pyplot.get_fignums()) == 2
    assert ax.figure is pyplot.gcf()
    assert ax.figure is not before
    assert all(labels(ax))
    assert ax.get_title()


def test_plot_eigenvalues_colours_by_residual(model):
    ax = plotting.plot_eigenvalues(model)
    known, unknown = ax.collections
    np.testing.assert_allclose(offsets(known), model.eigenvalues[:3])
    np.testing.assert_allclose(offsets(unknown), model.eigenvalues[3:])
    np.testing.assert_array_equal(known.get_array(), model.residuals()[:3])
    assert isinstance(known.norm, LogNorm)
    assert (known.norm.vmin, known.norm.vmax) == (1e-3, 1e-1)
    assert len(unknown.get_facecolor()) == 0  # hollow
    (bar,) = set(ax.figure.axes) - {ax}
    assert bar.get_ylabel() == "residual"
    assert bar.get_yscale() == "log"
    circle = ax.lines[0].get_xydata()
    np.testing.assert_allclose(np.hypot(*circle.T), 1.0)
    assert ax.get_aspect() == 1.0


@pytest.mark.parametrize("residuals", [[0.0, 0.0], [1e-3, 1e-3], [0.0, 1.0]])
def test_plot_eigenvalues_has_a_scale_for_any_residuals(residuals):
    model = complex_model()
    model.residuals = lambda: np.array([*residuals, np.nan])
    known, _ = plotting.plot_eigenvalues(model).collections
    assert 0.0 < known.norm.vmin < known.norm.vmax
    assert np.ma.count(known.norm(known.get_array())) == 2


@pytest.mark.parametrize("unknown", [None, np.full(3, np.nan)])
def test_plot_eigenvalues_without_residuals_is_plain(unknown):
    model = complex_model()
    if unknown is not None:
        model.residuals = lambda: unknown
    ax = plotting.plot_eigenvalues(model)
    drawn = [c for c in ax.collections if len(c.get_offsets())]
    np.testing.assert_allclose(offsets(drawn[0]), model.eigenvalues)
    assert ax.figure.axes == [ax]
    assert len(drawn[0].get_facecolor()) == 1


def test_plot_rates_leaves_out_eigenvalue_zero_and_says_so():
    model = complex_model()
    model.growth_rate[1] = -np.inf
    ax = plotting.plot_rates(model)
    (points,) = ax.collections
    np.testing.assert_allclose(offsets(points), (model.growth_rate + 1j * model.frequency)[[0, 2]])
    assert texts(ax) == ["eigenvalue 0 not shown: 1"]
    assert labels(ax) == ("growth rate (1 / snapshot)", "frequency (cycles / snapshot)")


def test_plot_singular_values_marks_the_rank(model):
    ax = plotting.plot_singular_values(model)
    kept, dropped, rank = ax.lines
    relative = model.singular_values / model.singular_values[0]
    np.testing.assert_allclose(kept.get_ydata(), relative[:4])
    positive = np.where(relative[4:] > 0, relative[4:], np.nan)
    np.testing.assert_allclose(dropped.get_ydata(), positive)
    np.testing.assert_array_equal(kept.get_xdata(), [1, 2, 3, 4])
    assert list(rank.get_xdata()) == [4.5, 4.5]
    assert ax.get_legend().get_title().get_text() == "rank 4"
    assert ax.get_yscale() == "log"


def test_a_window_is_drawn_like_a_batch_fit():
    window = WindowDMD(window=5, rank=1)
    for t in range(5):
        window.update(0.5**t * np.ones(3))
    assert plotting.plot_singular_values(window).lines[0].get_ydata()[0] == 1.0
    assert plotting.plot_eigenvalues(window).collections
    assert plotting.plot_forecast(window, 3).lines
    assert len(plotting.plot_summary(window).axes) == len(
        plotting.plot_summary(DMD(1).fit(np.outer(np.ones(3), 0.5 ** np.arange(5)))).axes
    )


def test_plot_amplitudes_merges_pairs_of_real_data(model):
    ax = plotting.plot_amplitudes(model)
    chosen = model.eigenvalues.imag >= 0
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(x, np.abs(model.frequency[chosen]))
    np.testing.assert_allclose(y, np.abs(model.amplitudes[chosen]))
    assert len(x) == 3
    assert np.isclose(x.max(), 1.0)  # the eigenvalue -0.6: half a cycle in dt = 0.5
    assert labels(ax)[0] == "frequency (cycles / time)"


def test_plot_amplitudes_keeps_all_frequencies_of_complex_data():
    model = complex_model()
    x, y = plotting.plot_amplitudes(model).lines[0].get_data()
    np.testing.assert_allclose(x, model.frequency)
    np.testing.assert_allclose(y, model.amplitudes)


def test_pairs_are_told_from_the_eigenvalues_where_there_are_no_snapshots():
    model = complex_model()
    del model.snapshots
    assert len(plotting.plot_amplitudes(model).lines[0].get_xdata()) == 3
    model.eigenvalues[1:] = [PAIR, PAIR.conjugate()]
    assert len(plotting.plot_amplitudes(model).lines[0].get_xdata()) == 2


def test_plot_dynamics_draws_the_largest_modes(model):
    ax = plotting.plot_dynamics(model, 2)
    chosen = np.flatnonzero(model.eigenvalues.imag >= 0)
    largest = chosen[np.argsort(-np.linalg.norm(model.dynamics[chosen], axis=1))]
    assert len(ax.lines) == 2
    for line, k in zip(ax.lines, largest, strict=False):
        np.testing.assert_allclose(line.get_xdata(), 0.5 * np.arange(16))
        np.testing.assert_allclose(line.get_ydata(), model.dynamics[k].real)
        assert line.get_label().startswith(f"mode {k}: ")
    assert len(plotting.plot_dynamics(model, 50).lines) == 3


def test_plot_mode_as_a_line_and_as_an_image(model):
    ax = plotting.plot_mode(model, -1)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), model.modes[:, -1].real)
    ax = plotting.plot_mode(model, 1, shape=(10, 20))
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array(), model.modes[:, 1].real.reshape(10, 20))
    low, high = image.get_clim()
    assert low == -high
    assert ax.get_title().startswith("mode 1: ")


def test_plot_forecast_draws_past_future_and_band(model):
    ax = plotting.plot_forecast(model, 4, [3, 7], level=0.8)
    past, future = ax.lines[0], ax.lines[1]
    np.testing.assert_allclose(past.get_xdata(), 0.5 * np.arange(-15, 1))
    np.testing.assert_array_equal(past.get_ydata(), model.snapshots[3])
    np.testing.assert_allclose(future.get_xdata(), 0.5 * np.arange(5))
    np.testing.assert_allclose(future.get_ydata(), model.forecast(np.arange(5))[3])
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), model.snapshots[7])
    first, _ = ax.collections
    y = first.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(y.max(), model.forecast(np.arange(5))[3].max() + 0.8, rtol=1e-6)
    np.testing.assert_allclose(y.min(), model.forecast(np.arange(5))[3].min() - 0.8, rtol=1e-6)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["entry 3", "entry 7"]
    assert ax.get_title() == "forecast with its 80 % band"


def test_plot_forecast_without_band_and_past():
    model = complex_model()
    del model.snapshots
    ax = plotting.plot_forecast(model, 2, 1)
    assert not ax.collections
    assert len(ax.lines) == 2  # the forecast, and where it begins
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["entry 1"]
    assert ax.get_title() == "forecast"


@pytest.mark.parametrize("shape", [None, (10, 20)])
def test_plot_summary_draws_everything(model, shape):
    figure = plotting.plot_summary(model, shape)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:4] == ["singular values", "eigenvalues", "continuous time", "amplitudes"]
    assert sum(title.startswith("mode ") for title in titles) == 3
    assert sum(len(ax.images) for ax in figure.axes) == (0 if shape is None else 3)
    rings = figure.axes[1].lines[3:]
    assert len(rings) == 4  # a real one, a negative one, and a pair
    found = np.sort_complex([ring.get_xydata()[0] @ [1, 1j] for ring in rings])
    np.testing.assert_allclose(found, np.sort_complex(model.eigenvalues), atol=1e-12)


def test_plot_summary_of_complex_data():
    figure = plotting.plot_summary(complex_model(), (2, 3))
    assert sum(len(ax.images) for ax in figure.axes) == 3
    assert len(figure.axes[1].lines[3:]) == 3


def test_plot_summary_of_one_mode():
    figure = plotting.plot_summary(DMD(rank=1).fit(np.outer(np.arange(5.0), 0.9 ** np.arange(9))))
    assert len(figure.axes) == 7  # with the colour bar of the residual


def test_zero_data_are_said_and_not_failed_on():
    model = Known().fit(np.zeros((50, 8)))
    for plot in SINGLE[:5]:
        assert texts(plot(model)) == ["no modes:\nthe data are zero"]
    figure = plotting.plot_summary(model)
    assert [len(ax.texts) for ax in figure.axes] == [1] * 6
    (past, future, _) = plotting.plot_forecast(model, 3).lines
    assert not past.get_ydata().any()
    assert not future.get_ydata().any()


def test_wrong_arguments_are_named(model):
    with pytest.raises(ValueError, match="modes=0 must be at least 1"):
        plotting.plot_dynamics(model, 0)
    with pytest.raises(TypeError):
        plotting.plot_dynamics(model, 1.5)
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"index={index}: the model has 4 modes"):
            plotting.plot_mode(model, index)
    for shape in ((3, 4), (200,), (2, 10, 10), (-10, -20)):
        with pytest.raises(ValueError, match=r"shape=.* must be \(rows, columns\) with 200"):
            plotting.plot_mode(model, 0, shape)
        with pytest.raises(ValueError, match="must be"):
            plotting.plot_summary(model, shape)
    with pytest.raises(ValueError, match="horizon=0 must be at least 1"):
        plotting.plot_forecast(model, 0)
    with pytest.raises(TypeError):
        plotting.plot_forecast(model, 2.5)
    with pytest.raises(IndexError):
        plotting.plot_forecast(model, 2, 200)
    assert not pyplot.get_fignums()  # nothing half-drawn is left


def test_import_of_plotting_does_not_import_matplotlib():
    code = "import sys, koopcore.plotting; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stream_is_drawn_from_its_newest_state_on():
    stream = StreamingDMD(rank=4, dt=0.5).partial_fit(planted(RATES))
    ax = plotting.plot_dynamics(stream, modes=1)
    largest = np.argmax(np.abs(stream.amplitudes) / (1.0 - np.abs(stream.eigenvalues) ** 2) ** 0.5)
    drawn = ax.lines[0].get_xydata()
    expected = stream.amplitudes[largest] * stream.eigenvalues[largest] ** np.arange(100)
    np.testing.assert_allclose(drawn[:, 0], 0.5 * np.arange(100))
    np.testing.assert_allclose(drawn[:, 1], expected.real, rtol=1e-9)
    assert ax.get_xlabel() == "time after the newest"
    figure = plotting.plot_summary(stream, (10, 20))
    assert len(figure.axes) == 4 + 6 + 3  # with the scales of three images


def test_summary_without_modes_forms_none(model, monkeypatch):
    monkeypatch.setattr(type(model), "modes", property(lambda self: pytest.fail("modes formed")))
    figure = plotting.plot_summary(model, modes=False)
    titles = [ax.get_title() for ax in figure.axes]
    assert sum(title.startswith("mode ") for title in titles) == 3
    assert not any(ax.get_ylabel() == "Re mode" for ax in figure.axes)
