"""Windows of snapshots against plain NumPy, for every partition, storage and data type."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch_runs import CAPACITY, DTYPES, PARTITIONS, Run  # noqa: E402

from koopcore import _core  # noqa: E402
from koopcore.torch import _grouped  # noqa: E402
from koopcore.torch._tensor_window import TensorWindow  # noqa: E402
from koopcore.torch.partition import Layout  # noqa: E402
from koopcore.torch.windows import CoreWindow, make_window  # noqa: E402


@pytest.fixture(params=[None, "bfloat16", "cpu", "file", "folder"])
def storage(request, tmp_path):
    if request.param == "folder":
        return tmp_path
    if request.param == "file":
        return tmp_path / "window"
    return torch.bfloat16 if request.param == "bfloat16" else request.param


def _eps(window_dtype, storage=None):
    if storage == torch.bfloat16:
        return 2.0**-8
    return torch.finfo(window_dtype).eps


def _gram_rounding(x, grams, dtype, storage=None):
    """Differences carry the rounding of the weights, and in bfloat16 their own."""
    size, peak = np.linalg.norm(x[:, -1]), np.abs(grams).max()
    own = _eps(dtype, storage) * peak if storage == torch.bfloat16 else 0.0
    return _eps(dtype) * size * np.sqrt(peak) + own


def _centred(grams):
    """Gram matrices of the snapshots minus their mean: whatever the reference was, these agree."""
    m = grams.shape[1]
    centre = np.eye(m) - 1.0 / m
    return centre @ grams @ centre


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_grams_are_those_of_the_differences_at_every_length(dtype, partition, storage):
    run = Run(dtype, partition)
    window = run.window(storage=storage)
    assert window.grams().shape == (len(run.layout.segments), 0, 0)
    for pushed in range(1, 2 * CAPACITY):
        run.move(window)
        held = min(pushed, CAPACITY)
        assert len(window) == held
        x, grams = run.x(held), window.grams()
        assert grams.shape == (len(run.layout.segments), held, held)
        assert grams.dtype == np.float64
        assert np.array_equal(grams, grams.transpose(0, 2, 1))
        expected = run.grams(x - x[:, :1])
        if pushed > CAPACITY and isinstance(window, CoreWindow):
            # The reference of the core has left the window.
            grams, expected = _centred(grams), _centred(expected)
        assert np.abs(grams - expected).max() <= 4 * _gram_rounding(x, expected, dtype, storage)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_raw_grams_are_those_of_the_snapshots(dtype, partition, storage):
    run = Run(dtype, partition)
    window = run.window(storage=storage, raw=True)
    for _ in range(CAPACITY + 2):
        run.move(window)
    expected = run.grams(run.x(CAPACITY))
    assert np.abs(window.grams() - expected).max() <= 10 * _eps(dtype, storage) * expected.max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_combine_is_exact_for_any_coefficients(dtype, partition, storage):
    run = Run(dtype, partition)
    window = run.window(storage=storage)
    rng = np.random.default_rng(1)
    for pushed in range(1, CAPACITY + 3):
        run.move(window)
        held = min(pushed, CAPACITY)
        coefficients = rng.normal(size=(len(run.layout.segments), held))
        segments = zip(run.layout.segments, coefficients, strict=True)
        expected = np.concatenate([run.x(held)[a:b] @ c for (a, b), c in segments])
        error = np.abs(run.combined(window, coefficients) - expected).max()
        # Beside rounding of the result bfloat16 loses digits of changes that are 1e-2 themselves.
        size = np.abs(coefficients).sum(1).max() * (0.1 if storage == torch.bfloat16 else 4)
        assert error <= _eps(dtype, storage) * size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_combine_of_the_newest_alone_gives_it_back(dtype, partition, storage):
    run = Run(dtype, partition)
    window = run.window(storage=storage)
    for _ in range(CAPACITY + 3):
        run.move(window)
    newest = np.zeros((len(run.layout.segments), CAPACITY))
    newest[:, -1] = 1.0
    combined = run.combined(window, newest)
    if isinstance(window, TensorWindow):
        assert np.array_equal(combined, run.snapshots[-1])
    else:
        assert np.allclose(combined, run.snapshots[-1], rtol=0, atol=_eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_entries_that_never_moved_stay_to_the_bit(dtype, partition, storage):
    run = Run(dtype, partition)
    window = run.window(storage=storage)
    for _ in range(CAPACITY + 1):
        run.move(window, scale=0.0)
    assert not window.grams().any()
    weights = np.random.default_rng(2).normal(size=(len(run.layout.segments), CAPACITY))
    weights *= 100.0
    weights[:, -1] += 1.0 - weights.sum(1)
    assert np.array_equal(run.combined(window, weights), run.snapshots[-1])


def test_untouched_rows_of_an_embedding_have_zero_grams_and_stay():
    table = nn.Embedding(6, 3)
    layout = Layout(dict(table.named_parameters()), "node", table)
    window = make_window(layout, 3, like=[table.weight])
    for _ in range(3):
        with torch.no_grad():
            table.weight[1:3] += 0.1
        window.push([table.weight])
    assert window.grams().any(axis=(1, 2)).tolist() == [False, True, True, False, False, False]
    out = torch.empty(6, 3)
    window.combine(np.tile([0.3, -4.9, 5.6], (6, 1)), [out])
    assert torch.equal(out[3:], table.weight[3:])
    assert torch.equal(out[0], table.weight[0])
    assert torch.allclose(out[1:3], table.weight[1:3] + 0.1 * (-2 * 0.3 + 4.9))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensor_window_agrees_with_the_core(dtype):
    run = Run(dtype)
    core = run.window()
    tensor = TensorWindow(run.layout, CAPACITY, like=run.tensors)
    assert isinstance(core, CoreWindow)
    rng = np.random.default_rng(3)
    for _ in range(3 * CAPACITY):
        run.move(core, tensor)
        g, h = _centred(core.grams()), _centred(tensor.grams())
        assert np.abs(g - h).max() <= 4 * _gram_rounding(run.x(len(core)), h, dtype)
        weights = rng.normal(size=(1, len(core)))
        difference = run.combined(core, weights) - run.combined(tensor, weights)
        assert np.abs(difference).max() <= 10 * _eps(dtype) * np.abs(weights).sum()


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("numbers", [1, 40, None])
def test_torch_operations_agree_with_the_compiled_ones(partition, numbers):
    layout = Run(partition=partition).layout
    rng = np.random.default_rng(4)
    x = torch.from_numpy(rng.normal(size=(5, layout.size)).astype(np.float32))
    expected = _core.grouped_grams(x.numpy().T, layout.segments)
    grams = _grouped.grouped_grams([x[:1], x[1:]], layout.segments, numbers)
    assert np.allclose(grams, expected, rtol=1e-12, atol=1e-12)
    weights = rng.normal(size=(len(layout.segments), 5))
    out, again = np.empty(layout.size, np.float32), torch.empty(layout.size)
    _core.grouped_combine(x.numpy().T, layout.segments, weights, out)
    _grouped.grouped_combine([x[:1], x[1:]], layout.segments, weights, again, numbers)
    assert np.allclose(again.numpy(), out, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("storage", [None, torch.bfloat16, "cpu"])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_window_of_a_gpu_agrees_with_that_of_the_cpu(partition, storage):
    run = Run(partition=partition)
    here = run.window(storage=storage)
    there = run.window(storage=storage, like=[p.cuda() for p in run.tensors])
    for _ in range(CAPACITY + 2):
        run.move(here)
        there.push([p.cuda() for p in run.tensors])
    g, h = _centred(here.grams()), _centred(there.grams())
    assert np.abs(g - h).max() <= 4 * _gram_rounding(run.x(CAPACITY), g, torch.float32)
    weights = np.random.default_rng(7).normal(size=here.grams().shape[:2])
    out = [torch.empty_like(p, device="cuda") for p in run.tensors]
    there.combine(weights, out)
    result = run.flat([p.cpu() for p in out])
    assert np.abs(result - run.combined(here, weights)).max() <= 1e-5


def test_compiled_functions_refuse_by_name():
    x, halves = np.ones((6, 2)), np.array([[0, 3], [3, 6]])
    with pytest.raises(ValueError, match=r"segments must have shape \(n_groups, 2\), got \(2,\)"):
        _core.grouped_grams(x, halves[0])
    with pytest.raises(TypeError, match="x has dtype int64; expected float64"):
        _core.grouped_grams(np.ones((6, 2), np.int64), halves)
    with pytest.raises(ValueError, match="x must have 2 dimensions"):
        _core.grouped_grams(x[0], halves)
    with pytest.raises(ValueError, match=r"coefficients are \(2, 3\); expected \(2, 2\)"):
        _core.grouped_combine(x, halves, np.ones((3, 2)), np.empty(6))
    with pytest.raises(ValueError, match=r"coefficients must have shape \(n_groups, m\)"):
        _core.grouped_combine(x, halves, np.ones(2), np.empty(6))
    with pytest.raises(ValueError, match="has 5 numbers"):
        _core.grouped_combine(x, halves, np.ones((2, 2)), np.empty(5))
    with pytest.raises(TypeError, match="dtype float32; expected float64"):
        _core.grouped_combine(x, halves, np.ones((2, 2)), np.empty(6, np.float32))
    with pytest.raises(ValueError, match=r"grams must have shape \(n_groups, m, m\)"):
        _core.GroupedDmd.from_grams(np.ones((2, 3)), [1, 1])
    with pytest.raises(ValueError, match=r"1 of \(4, 4\) are expected"):
        _core.GroupedDmd.from_grams(np.ones((2, 4, 4)), [1])


def test_fit_from_grams_is_the_fit_of_the_data():
    rng = np.random.default_rng(5)
    x, segments = rng.normal(size=(40, 9)), _core.equal_segments(40, 12)
    options = {"max_rank": 2, "affine": "differences", "variant": "tls"}
    of_data = _core.GroupedDmd(x, segments, **options)
    grams = _core.grouped_grams(x, segments)
    of_grams = _core.GroupedDmd.from_grams(grams, np.diff(segments)[:, 0].tolist(), **options)
    assert np.array_equal(of_data.ranks, of_grams.ranks)
    assert np.array_equal(of_data.forecast([3.0]), of_grams.forecast([3.0]))


def test_half_precision_parameters_are_held_in_float32():
    run = Run(torch.bfloat16, "node")
    window = run.window()
    for _ in range(CAPACITY + 1):
        run.move(window, scale=0.1)
    x = run.x(CAPACITY)
    expected = run.grams(x - x[:, :1])
    assert np.allclose(window.grams(), expected, rtol=1e-6, atol=1e-6 * expected.max())
    newest = np.eye(CAPACITY)[[-1] * len(run.layout.segments)]
    assert np.array_equal(run.combined(window, newest), run.snapshots[-1])


def test_small_changes_of_large_weights_keep_their_digits():
    weight = torch.full((1000,), 1.0)
    layout = Layout({"weight": weight}, ("quasi-node", 1))
    window = TensorWindow(layout, 3, like=[weight])
    step = 2.0**-20
    for _ in range(3):
        window.push([weight])
        weight += step
    expected = step**2 * np.outer(np.arange(3), np.arange(3))
    assert np.array_equal(window.grams(), np.broadcast_to(expected, (1000, 3, 3)))
