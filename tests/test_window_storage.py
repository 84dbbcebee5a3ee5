"""Windows in bfloat16 and in files: what they cost in accuracy, what they survive and refuse."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from support import match, planted

import koopcore
from koopcore import WindowDMD

PAIR = (0.95 * np.exp(0.4j), 0.95 * np.exp(-0.4j))


def _fed(X, **options):
    model = WindowDMD(window=16, **options)
    for x in X.T:
        model.update(x)
    return model


def _same(a, b):
    np.testing.assert_array_equal(a.gram, b.gram)
    np.testing.assert_array_equal(a.forecast(7.5), b.forecast(7.5))
    np.testing.assert_array_equal(a.eigenvalues, b.eigenvalues)


@pytest.mark.parametrize("ask", [False, True])
@pytest.mark.parametrize(
    ("fixed_point", "options"), [(0.0, {"rank": 3}), (1.0, {"rank": 3, "affine": True})]
)
def test_bfloat16_keeps_eigenvalues_and_forecasts_of_float32_data(fixed_point, options, ask):
    # What docs/streams.md says: 46 snapshots of 5,000 numbers, the forecast is of 10 beyond.
    rates = (0.99, *PAIR)
    X = planted(rates, n=5000, m=46, dtype=np.float32, fixed_point=fixed_point)
    model = WindowDMD(window=16, storage="bfloat16", **options)
    for x in X[:, :36].T:
        model.update(x)
        if ask:
            _ = model.gram
    moved = np.linalg.norm(X[:, 35] - X[:, 20])
    assert match(model.eigenvalues, rates) < 2e-3
    assert np.linalg.norm(model.forecast(10) - X[:, 45]) < 0.03 * moved
    full = _fed(X[:, :36], **options)
    assert np.linalg.norm(model.forecast(0) - full.forecast(0)) < 2.0**-7 * moved


def test_bfloat16_is_the_float32_window_of_the_rounded_states():
    X = planted((0.9, *PAIR), m=16, dtype=np.float32, fixed_point=1.0)
    half = _fed(X, affine=True, storage="bfloat16")
    states = half._combine(np.eye(16))
    rounded = WindowDMD(window=16, affine=True)
    for x in states.T:
        rounded.update(x)
    centre = np.eye(16) - 1.0 / 16
    scale = np.abs(half.gram).max()
    np.testing.assert_allclose(
        centre @ half.gram @ centre, centre @ rounded.gram @ centre, atol=1e-5 * scale
    )


@pytest.mark.parametrize("storage", [None, "bfloat16"])
@pytest.mark.parametrize("sizes", [[200], [1, 3, 196]])
def test_a_mapped_window_equals_one_in_memory_to_the_bit(storage, sizes, tmp_path):
    X = planted((0.99, *PAIR), m=60, dtype=np.float32, fixed_point=5.0)
    options = {"affine": True, "rank": 3, "storage": storage}
    here, there = WindowDMD(16, **options), WindowDMD(16, memory_map=tmp_path, **options)
    for t, x in enumerate(X.T):
        for model in (here, there):
            model.update(np.split(x, np.cumsum(sizes)[:-1]))
        if t > 4 and t % 3 == 0:
            np.testing.assert_array_equal(here.gram, there.gram)
    for a, b in zip(here.forecast(9), there.forecast(9), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list(tmp_path.iterdir())  # the file has no name


@pytest.mark.parametrize("storage", [None, "bfloat16"])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("copied", ["state_dict", "save", "pickle", "deepcopy"])
def test_copies_go_on_with_the_same_bits(storage, mapped, copied, tmp_path):
    X = planted((0.99, *PAIR), m=40, dtype=np.float32, fixed_point=5.0)
    options = {"affine": True, "storage": storage, "memory_map": tmp_path if mapped else None}
    model = _fed(X[:, :25], **options)
    if copied == "state_dict":
        other = WindowDMD(window=16, **options)
        other.load_state_dict(model.state_dict())
    elif copied == "save":
        folder = tmp_path / "moved"
        folder.mkdir()
        koopcore.save(folder / "model.npz", model)
        other = koopcore.load(folder / "model.npz")
    else:
        other = pickle.loads(pickle.dumps(model)) if copied == "pickle" else copy.deepcopy(model)
    for x in X[:, 25:].T:
        model.update(x)
        other.update(x)
        _same(model, other)


def test_a_state_of_another_storage_is_refused():
    X = planted((0.99, *PAIR), m=20, dtype=np.float32)
    full, half = _fed(X), _fed(X, storage="bfloat16")
    before = half.gram
    with pytest.raises(ValueError, match="none of bfloat16: it is of a window with other storage"):
        half.load_state_dict(full.state_dict())
    np.testing.assert_array_equal(half.gram, before)


def test_storage_of_float64_states_is_refused_by_name():
    model = WindowDMD(storage="bfloat16")
    with pytest.raises(TypeError, match=r"storage='bfloat16' is for float32 states, got float64"):
        model.update(np.ones(3))
    model.update(np.ones(3, np.float32))  # it is as good as new
    assert model.n_snapshots == 1


def test_a_snapshot_too_large_for_bfloat16_is_refused_and_changes_nothing():
    X = planted((0.99, *PAIR), m=20, dtype=np.float32)
    model = _fed(X, storage="bfloat16")
    before, spoiled = model.gram, X[:, :3].copy()
    spoiled[7, 2] = 3.4e38
    assert np.isfinite(spoiled).all()
    with pytest.raises(ValueError, match="not finite"):
        model.update(spoiled[:, 2])
    with pytest.raises(ValueError, match="not finite"):
        model.partial_fit(spoiled)
    np.testing.assert_array_equal(model.gram, before)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"storage": "float16"}, ValueError, r"storage='float16' must be None or .bfloat16."),
        ({"memory_map": 3}, TypeError, "memory_map=3 must be None or the path of a folder"),
        ({"memory_map": "/no/such"}, FileNotFoundError, "memory_map='/no/such' must be a folder"),
        ({"memory_map": os.devnull}, NotADirectoryError, "memory_map='/dev/null' must be a folder"),
    ],
)
def test_bad_storage_is_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        WindowDMD(**options)


def test_a_full_disk_is_an_error_that_names_folder_and_bytes(tmp_path):
    model = WindowDMD(window=10**10, memory_map=tmp_path)
    with pytest.raises(OSError, match=rf"memory_map='{tmp_path}'.* of 640,000,000,064 bytes: No"):
        model.update(np.ones(3))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_has_gone_or_is_closed_is_named(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    model = WindowDMD(memory_map=folder)
    folder.rmdir()
    with pytest.raises(FileNotFoundError, match=r"memory_map=.*gone' must be a folder with room"):
        model.update(np.ones(3))
    if os.geteuid() != 0:  # root may write anywhere
        folder.mkdir(mode=0o500)
        with pytest.raises(PermissionError, match=r"memory_map=.*gone' must be a folder with room"):
            model.update(np.ones(3))


CHILD = """
import os, sys
import numpy as np
from koopcore import WindowDMD
model = WindowDMD(window=3, memory_map=sys.argv[1])
for k in (1.0, 2.0, 3.0):
    model.update(np.full(100, k))
before = model.forecast(0)
child = os.fork()
if child == 0:
    try:
        model.update(np.zeros(100))
    except ValueError as error:
        os._exit(0 if "which was forked" in str(error) else 1)
    os._exit(2)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(model.forecast(0), before)
model.update(np.full(100, 4.0))
assert np.allclose(model.forecast(0), 4.0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_leaves_its_parents_file_alone(tmp_path):
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], check=True, timeout=120)
