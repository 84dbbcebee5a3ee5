"""What goes in and what comes back: torch, xarray, memory maps, lists of trajectories, pairs."""

import tracemalloc

import numpy as np
import pytest
import torch
import xarray
from support import match, planted

from koopcore import DMD, DMDc, WindowDMD, select

RATES = (0.97, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j), -0.6)


def results(model, state):
    """Everything that has n rows."""
    return {
        "modes": model.modes,
        "forecast": model.forecast([1, 2]),
        "one": model.forecast(3),
        "predict": model.predict(state),
        "reconstruct": model.reconstruct(),
        "snapshots": model.snapshots,
        "band": model.forecast_interval([1, 2])[0],
    }


def test_torch_tensors_are_read_in_place_and_answered_in_kind():
    X = torch.from_numpy(planted(RATES))
    plain = results(DMD(rank=4).fit(X.numpy()), X.numpy()[:, 3])
    for tensor in (X, X.clone().requires_grad_()):
        given = results(DMD(rank=4).fit(tensor), tensor[:, 3])
        for key, value in given.items():
            assert isinstance(value, torch.Tensor), key
            np.testing.assert_array_equal(value.numpy(), plain[key])
    assert given["snapshots"].data_ptr() == tensor.data_ptr()


def test_tensors_elsewhere_or_of_other_types_are_refused_by_name():
    with pytest.raises(TypeError, match=r"X .*device meta.*tensor\.cpu"):
        DMD().fit(torch.empty(3, 4, device="meta"))
    with pytest.raises(TypeError, match=r"X .*bfloat16"):
        DMD().fit(torch.ones(3, 4, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match="X has dtype int64"):
        DMD().fit(torch.ones(3, 4, dtype=torch.int64))


class DLPackOnly:
    """An array that offers DLPack and the array API's namespace, and nothing else."""

    def __init__(self, array):
        self.array = array
        self.ndim = array.ndim

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __array_namespace__(self):
        return self

    @classmethod
    def from_dlpack(cls, array):
        return cls(np.from_dlpack(array))


def test_any_dlpack_array_is_taken_and_answered_in_kind():
    X = planted(RATES)
    model = DMD(rank=4).fit(DLPackOnly(X))
    assert np.shares_memory(model._snapshots.parts[0], X)
    forecast = model.forecast(3)
    assert isinstance(forecast, DLPackOnly)
    np.testing.assert_array_equal(forecast.array, DMD(rank=4).fit(X).forecast(3))


def test_xarray_keeps_the_labels_of_the_features():
    X = planted(RATES)
    labels = {"cell": np.arange(200) * 10, "time": np.arange(16)}
    array = xarray.DataArray(X, dims=("cell", "time"), coords=labels)
    given = results(DMD(rank=4).fit(array), array[:, 3])
    plain = results(DMD(rank=4).fit(X), X[:, 3])
    for key, value in given.items():
        assert isinstance(value, xarray.DataArray), key
        np.testing.assert_array_equal(value["cell"], labels["cell"])
        np.testing.assert_array_equal(value.values, plain[key])
    assert given["modes"].dims == ("cell", "mode")
    assert given["forecast"].dims == ("cell", "time")
    assert given["one"].dims == ("cell",)
    assert xarray.DataArray(X, dims=("a", "b")).equals(
        DMD(rank=4).fit(xarray.DataArray(X, dims=("a", "b"))).snapshots
    )


def test_a_memory_map_is_read_in_place_and_in_blocks(tmp_path):
    rng = np.random.default_rng(0)
    X = np.memmap(tmp_path / "X.bin", np.float32, "w+", shape=(200_000, 16))
    X[:] = rng.standard_normal((200_000, 2)) @ np.vander([0.9, 0.5], 16, increasing=True)
    mapped = np.memmap(tmp_path / "X.bin", np.float32, "r", shape=(200_000, 16))
    tracemalloc.start()
    model = DMD(rank=2).fit(mapped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * X.nbytes
    assert match(model.eigenvalues, (0.9, 0.5)) < 1e-5
    assert np.shares_memory(model._snapshots.parts[0], mapped)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"delays": 2},
        {"affine": True},
        {"affine": True, "delays": 2},
        {"affine": "constant", "rank": 5},
        {"variant": "tls"},
        {"variant": "forward-backward"},
        {"solver": "qr"},
    ],
    ids=str,
)
def test_trajectories_are_fitted_together_and_answered_as_a_list(options):
    fixed_point = 2.0 if options.get("affine") else 0.0
    full = planted(RATES, m=40, fixed_point=fixed_point)
    parts = [full[:, :9], np.asfortranarray(full[:, 3:12]), full[:, 20:28]]
    options = {"rank": 4, **options}
    model = DMD(opt=True, **options).fit(parts)
    expected = (*RATES, 1.0) if options["rank"] == 5 else RATES
    assert match(model.eigenvalues, expected) < 1e-9
    for part, rebuilt in zip(parts, model.reconstruct(), strict=True):
        np.testing.assert_allclose(rebuilt, part, atol=1e-8)
    np.testing.assert_allclose(model.forecast(5), full[:, 32], atol=1e-8)  # after the last one
    assert model.amplitudes.shape == (len(expected), 3)
    assert [series.shape[0] for series in model.dynamics] == [len(expected)] * 3
    assert np.isfinite(model.forecast_interval(3)[0]).all()


def test_one_trajectory_cut_in_two_misses_only_the_pair_at_the_cut():
    X = planted(RATES, m=20) + 1e-2 * np.random.default_rng(0).standard_normal((200, 20))
    together = DMD(rank=4).fit([X[:, :9], X[:, 9:]])
    by_pairs = DMD(rank=4).fit(np.delete(X[:, :-1], 8, axis=1), np.delete(X[:, 1:], 8, axis=1))
    assert match(together.eigenvalues, by_pairs.eigenvalues) < 1e-10


def test_trajectories_that_do_not_fit_together_are_refused_by_name():
    X = planted((0.9, 0.5), n=5)
    with pytest.raises(ValueError, match=r"X\[1\] 4 \(shape \(4, 16\)\)"):
        DMD().fit([X, X[:4]])
    with pytest.raises(TypeError, match=r"X\[1\] float32"):
        DMD().fit([X, X.astype(np.float32)])
    with pytest.raises(ValueError, match=r"X\[1\] has 2 snapshots; a trajectory needs at least 3"):
        DMD(delays=2).fit([X, X[:, :2]])
    with pytest.raises(ValueError, match="not with a list of trajectories"):
        DMD().fit([X, X], X)
    with pytest.raises(ValueError, match="several trajectories"):
        DMD(variant="optimized").fit([X, X])
    with pytest.raises(ValueError, match="one time series"):
        DMD(sparsity=0.1).fit([X, X])
    assert match(DMD(rank=2).fit([X, X[:, 3:9]]).eigenvalues, (0.9, 0.5)) < 1e-10  # mixed lengths


def test_histories_are_advanced_with_delays():
    full = planted(RATES, m=30)
    model = DMD(rank=4, delays=3).fit(full[:, :16])
    one = model.predict(full[:, 4:7], 2)
    np.testing.assert_allclose(one, full[:, 8], atol=1e-9)
    many = np.stack([full[:, k : k + 3] for k in (4, 10, 20)], axis=2)
    np.testing.assert_allclose(model.predict(many, 2), full[:, [8, 14, 24]], atol=1e-9)
    with pytest.raises(ValueError, match=r"expected \(200, 3\) or \(200, 3, 'n_states'\)"):
        model.predict(full[:, 0])


def test_complex_pairs_and_windows():
    X = planted(RATES) * (1 + 2j)
    assert match(DMD(rank=4).fit(X[:, :-1], X[:, 1:]).eigenvalues, RATES) < 1e-9
    with pytest.raises(ValueError, match="complex ones have no order"):
        DMD(rank=4).fit(X).forecast_interval(2)
    with pytest.raises(TypeError, match="x has dtype complex128"):
        WindowDMD(window=4).update(X[:, 0])
    assert select(X, ranks=[4]).best.rank == 4


def test_control_answers_in_kind():
    rng = np.random.default_rng(0)
    U = rng.standard_normal((1, 15))
    X = planted((0.9, 0.5))
    X[:, 1:] += np.cumsum(U, axis=1)
    tensor = DMDc(rank=3).fit(torch.from_numpy(X), U)
    plain = DMDc(rank=3).fit(X, U)
    for key in ("modes", "B"):
        assert isinstance(getattr(tensor, key), torch.Tensor)
        np.testing.assert_array_equal(getattr(tensor, key).numpy(), getattr(plain, key))
    assert isinstance(tensor.predict(torch.from_numpy(X)[:, 0], U[:, 0]), torch.Tensor)
    labelled = DMDc(rank=3).fit(xarray.DataArray(X, dims=("cell", "time")), U)
    assert labelled.B.dims == ("cell", "input")
    assert labelled.forecast(U[:, :4]).dims == ("cell", "time")
