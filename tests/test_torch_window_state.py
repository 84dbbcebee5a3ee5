"""What a window survives and what it refuses: resume, non-finite snapshots, wrong arguments."""

import copy
import io
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch_runs import CAPACITY, DTYPES, Run  # noqa: E402

from koopcore import _core  # noqa: E402
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


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("partition", ["network", "node"])
def test_snapshot_that_is_not_finite_is_refused_and_leaves_the_window(bad, partition, storage):
    run = Run(partition=partition)
    window = run.window(storage=storage)
    spoiled = [p.detach().clone() for p in run.tensors]
    spoiled[2][0, 0, 0, 1] = bad
    for pushed in range(CAPACITY + 2):
        before, state = window.grams(), window.state_dict()
        with pytest.raises(ValueError, match=r"'1.weight' has 1 of 108 entries that"):
            window.push(spoiled)
        assert len(window) == min(pushed, CAPACITY)
        assert np.array_equal(window.grams(), before)
        if isinstance(window, TensorWindow) and pushed:
            assert all(_same(state[key], value) for key, value in window.state_dict().items())
        run.move(window)
    assert np.isfinite(window.grams()).all()


@pytest.mark.parametrize("partition", ["network", "node"])
def test_snapshot_whose_differences_overflow_is_refused(partition):
    run = Run(partition=partition)
    window = run.window()
    huge = [torch.full_like(p, 3e38) for p in run.tensors]
    if partition == "network":
        window.push([-p for p in huge])
    held = len(window)
    with pytest.raises(ValueError, match=r"'0.weight' has an entry of size 3e\+38"):
        window.push(huge)
    assert len(window) == held


def _same(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("partition", ["network", "node"])
@pytest.mark.parametrize("pushed", [0, 1, CAPACITY, CAPACITY + 2])
def test_window_resumes_with_the_same_bits(dtype, partition, storage, pushed, tmp_path):
    run = Run(dtype, partition)
    window = run.window(storage=storage)
    for _ in range(pushed):
        run.move(window)
    file = io.BytesIO()
    torch.save(window.state_dict(), file)
    file.seek(0)
    other = tmp_path / "other" if storage == tmp_path / "window" else storage
    resumed = run.window(storage=other)
    resumed.push([torch.ones_like(p) for p in run.tensors])
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(CAPACITY + 1):
        assert len(resumed) == len(window)
        assert np.array_equal(resumed.grams(), window.grams())
        if len(window):
            weights = np.random.default_rng(6).normal(size=window.grams().shape[:2])
            combined = run.combined(window, weights)
            assert np.array_equal(run.combined(resumed, weights), combined)
        run.move(window, resumed)


@pytest.mark.parametrize("partition", ["network", "node"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))])
def test_copy_goes_on_by_itself(copied, partition, storage):
    run = Run(partition=partition)
    window = run.window(storage=storage)
    for _ in range(CAPACITY + 1):
        run.move(window)
    before = window.grams()  # in the core rounding depends on when one asks
    other = copied(window)
    run.move(other)
    assert np.array_equal(window.grams(), before)
    window.push(run.tensors)
    assert np.array_equal(window.grams(), other.grams())
    weights = np.ones(before.shape[:2])
    assert np.array_equal(run.combined(window, weights), run.combined(other, weights))


def test_state_of_another_window_is_refused():
    run = Run(partition="node")
    window = run.window()
    run.move(window)
    before, state = window.grams(), window.state_dict()
    half = run.window(storage=torch.bfloat16)
    run.move(half)
    with pytest.raises(ValueError, match="kind='TensorWindow', this window 'CoreWindow'"):
        Run().window().load_state_dict(state)
    with pytest.raises(ValueError, match="has layout="):
        Run(partition="layer").window().load_state_dict(state)
    with pytest.raises(ValueError, match="has capacity=9, this window 4"):
        window.load_state_dict({**state, "capacity": 9})
    with pytest.raises(ValueError, match=r"changes is torch.bfloat16; this window holds torch.flo"):
        window.load_state_dict(half.state_dict())
    with pytest.raises(ValueError, match="state lacks newest, start"):
        window.load_state_dict({k: v for k, v in state.items() if k not in ("newest", "start")})
    with pytest.raises(ValueError, match=r"columns is torch.float64; this window holds torch.flo"):
        Run().window().load_state_dict(Run(torch.float64).window().state_dict())
    assert np.array_equal(window.grams(), before)


def test_clear_begins_anew(storage):
    run = Run(partition="node")
    window, fresh = run.window(storage=storage), run.window(storage="cpu")
    for _ in range(CAPACITY + 1):
        run.move(window)
    window.clear()
    assert len(window) == 0
    for _ in range(CAPACITY):
        run.move(window, fresh)
        if storage != torch.bfloat16:
            assert np.array_equal(window.grams(), fresh.grams())
        assert not window.grams()[:, 0].any()


def test_kind_of_window_and_its_memory(tmp_path):
    run = Run()
    size = run.layout.size
    assert isinstance(run.window(), CoreWindow)
    assert run.window().nbytes == (CAPACITY + 2) * size * 4
    tensor = run.window(storage="cpu")
    assert isinstance(tensor, TensorWindow)
    assert tensor.nbytes == (CAPACITY + 1) * size * 4
    half = run.window(storage=torch.bfloat16)
    assert half.nbytes == (CAPACITY - 1) * size * 2 + 2 * size * 4
    mapped = run.window(storage=str(tmp_path / "window"))
    assert mapped.nbytes == size * 4
    assert (tmp_path / "window").stat().st_size == CAPACITY * size * 4
    folder = tmp_path / "folder"
    folder.mkdir()
    unnamed = run.window(storage=folder)
    assert isinstance(unnamed, CoreWindow)
    assert unnamed.nbytes == size * 4
    assert Run(partition="layer").window(storage=str(folder)).nbytes == size * 4
    assert not list(folder.iterdir())
    assert isinstance(Run(partition="layer").window(), TensorWindow)
    mixed = [p.double() if i else p for i, p in enumerate(run.tensors)]
    window = make_window(run.layout, CAPACITY, like=mixed)
    assert isinstance(window, TensorWindow)
    assert window.nbytes == (CAPACITY + 1) * size * 8


@pytest.mark.parametrize("partition", ["network", "layer"])
def test_file_that_cannot_be_made_is_named_with_its_size(partition, tmp_path):
    run = Run(partition=partition)
    with pytest.raises(FileNotFoundError, match=r"missing/window' must be a folder or a file with"):
        run.window(storage=tmp_path / "missing" / "window")
    with pytest.raises(OSError, match=r"storage='.*' must be .* room for [\d,]{15,} bytes: No sp"):
        make_window(run.layout, 10**10, like=run.tensors, storage=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("torchs", "koopcores"), [(1, 4), (4, 1), (3, 3)])
def test_windows_take_no_more_threads_than_torch_and_koopcore(monkeypatch, torchs, koopcores):
    asked = []
    for name in ("grouped_grams", "grouped_combine"):
        real = getattr(_core, name)

        def noted(*arguments, real=real):
            asked.append(arguments[-1])
            return real(*arguments)

        monkeypatch.setattr(_core, name, noted)
    before = torch.get_num_threads()
    torch.set_num_threads(torchs)
    _core.set_num_threads(koopcores)
    try:
        run = Run(partition="layer")
        window = run.window()
        for _ in range(CAPACITY):
            run.move(window)
        run.combined(window, np.ones(window.grams().shape[:2]))
    finally:
        torch.set_num_threads(before)
        _core.set_num_threads(0)
    assert asked == 2 * [min(torchs, koopcores)]


def test_file_of_another_size_is_not_overwritten(tmp_path):
    path = tmp_path / "notes"
    path.write_bytes(b"mine")
    with pytest.raises(ValueError, match="exists with 4 bytes; this window takes"):
        Run().window(storage=path)
    assert path.read_bytes() == b"mine"
    used = tmp_path / "used"
    run = Run()
    run.move(run.window(storage=used))
    assert len(run.window(storage=used)) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"capacity": 1}, ValueError, "capacity=1 must be at least 2"),
        ({"capacity": 2.5}, TypeError, "capacity=2.5 must be an int"),
        ({"storage": torch.float16}, ValueError, "storage=torch.float16 is not offered"),
        ({"storage": 3}, TypeError, "storage=3 must be None, torch.bfloat16"),
        ({"like": []}, ValueError, "got 0 tensors"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    run = Run()
    with pytest.raises(error, match=message):
        make_window(run.layout, **{"capacity": 3, "like": run.tensors, **options})


def test_complex_parameter_is_refused_by_name():
    weight = torch.zeros(3, dtype=torch.complex64)
    with pytest.raises(TypeError, match=r"'spectrum' is torch.complex64"):
        make_window(Layout({"spectrum": weight}), 3, like=[weight])


@pytest.mark.parametrize("partition", ["network", "node"])
def test_wrong_coefficients_and_tensors_are_named(partition):
    run = Run(partition=partition)
    window, operators = run.window(), len(run.layout.segments)
    with pytest.raises(ValueError, match="of which there must be one at least"):
        window.combine(np.ones((operators, 0)), run.tensors)
    run.move(window)
    for shape in [(operators, 2), (operators + 1, 1), (operators,)]:
        with pytest.raises(ValueError, match=rf"expected \({operators}, 1\)"):
            window.combine(np.ones(shape), run.tensors)
    with pytest.raises(ValueError, match="got 1 tensors; the layout has"):
        window.push(run.tensors[:1])
    with pytest.raises(ValueError, match=r"'0.weight' has shape \(1,\)"):
        window.push([torch.zeros(1), *run.tensors[1:]])
    with pytest.raises(ValueError, match=r"'0.bias' has shape \(5,\)"):
        window.combine(np.ones((operators, 1)), [run.tensors[0], torch.zeros(5), *run.tensors[2:]])
