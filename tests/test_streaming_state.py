"""States, files, merging, row blocks and threads of streams."""

import copy

import numpy as np
import pytest
from streams import CLOSE, EXACT, KINDS, RATES, Unchanged, relative, same_bits
from support import DTYPES, match, planted

import koopcore
from koopcore import StreamingDMD

X = planted(RATES, n=200, m=60)
OPTIONS = {
    "svd": [{}, {"center": True, "forgetting": 0.9}],
    "dmd": [{}, {"affine": True}, {"delays": 3, "forgetting": 0.9}, {"variant": "tls"}],
}
FORMS = [(kind, options) for kind, many in OPTIONS.items() for options in many]


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def size(state):
    return sum(np.asarray(state[key]).nbytes for key in ("columns", "numbers"))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_size_of_a_state_does_not_grow(form):
    name, options = form
    model = KINDS[name](4, **options)
    sizes = []
    for _ in range(10):
        model.partial_fit(np.tile(X, 8))
        sizes.append(size(model.state_dict()))
    assert len(set(sizes)) == 1
    assert model.n_snapshots == 4800


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("cut", [0, 7, 16, 37])
def test_saved_and_loaded_it_goes_on_with_the_same_bits(tmp_path, dtype, form, cut, suffix):
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    name, options = form
    data = X.astype(dtype)
    whole = KINDS[name](4, **options).partial_fit(data)
    first = KINDS[name](4, **options)
    for x in data[:, :cut].T:
        first.update(x)
    path = tmp_path / f"stream.{suffix}"
    koopcore.save(path, first)
    loaded = koopcore.load(path)
    assert type(loaded) is type(first)
    assert same_bits(loaded, first)
    assert same_bits(loaded.partial_fit(data[:, cut:]), whole)


def test_a_stream_of_lists_is_saved_with_its_shapes(tmp_path, dtype):
    model = StreamingDMD(4)
    for x in X[:24].astype(dtype).T:
        model.update([x[:4], x[4:].reshape(5, 4)])
    koopcore.save(tmp_path / "lists.npz", model)
    first, second = koopcore.load(tmp_path / "lists.npz").forecast(2)
    np.testing.assert_array_equal(first, model.forecast(2)[0])
    np.testing.assert_array_equal(second, model.forecast(2)[1])


def test_a_stream_with_reduce_is_not_saved(tmp_path):
    model = StreamingDMD(4, first_row=0, reduce=lambda x: x).partial_fit(X)
    with pytest.raises(ValueError, match=r"save its state_dict\(\)"):
        koopcore.save(tmp_path / "block.npz", model)


def test_an_empty_state_clears(kind):
    model = kind(4).partial_fit(X)
    model.load_state_dict(kind(4).state_dict())
    assert model.n_snapshots == 0
    assert model.state_dict() == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"columns": s["columns"]},
        lambda s: {**s, "numbers": s["numbers"][:-1]},
        lambda s: {**s, "numbers": np.append(s["numbers"], 0.0)},
        lambda s: {**s, "numbers": s["numbers"][:1]},
        lambda s: {**s, "numbers": np.full_like(s["numbers"], np.nan)},
        lambda s: {**s, "numbers": -s["numbers"] - 1.0},
        lambda s: {**s, "columns": s["columns"][:, :-1]},
        lambda s: {**s, "columns": s["columns"][:-1]},
        lambda s: {**s, "shapes": [[7]]},
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(kind, change):
    model = kind(4).partial_fit(X[:, :23])
    state = change(kind(4).partial_fit(X[:, :37]).state_dict())
    with Unchanged(model), pytest.raises(ValueError, match="state"):
        model.load_state_dict(state)


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 1e15, 0.5])
def test_counts_of_a_state_must_be_counts(kind, place, value):
    """Any one of the first numbers spoiled: refused, or harmless where every number is allowed."""
    model = kind(4).partial_fit(X[:, :23])
    state = kind(4).partial_fit(X[:, :37]).state_dict()
    state["numbers"][place] = value
    before = model.state_dict()
    try:
        model.load_state_dict(state)
    except ValueError:
        np.testing.assert_array_equal(model.state_dict()["numbers"], before["numbers"])
        return
    assert np.isfinite(value)
    model.partial_fit(X)
    assert np.isfinite(model.state_dict()["numbers"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(rank=3), "other was made with rank=3, this one with 4"),
        (dict(oversampling=3), "oversampling=3, this one with 10"),
        (dict(block=3), "block=3, this one with 16"),
        (dict(random_state=1), "random_state=1, this one with 0"),
        (dict(forgetting=0.9), r"forgetting=0\.9, this one with 1\.0"),
        (dict(tol=1e-3), r"tol=0\.001, this one with None"),
        (dict(first_row=0), "first_row=0, this one with None"),
    ],
)
def test_streams_made_otherwise_are_not_merged(kind, options, message):
    model, other = kind(4).partial_fit(X), kind(**{"rank": 4, **options}).partial_fit(X[:, :9])
    with Unchanged(model, other), pytest.raises(ValueError, match=message):
        model.merge(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(delays=2), "delays=2, this one with 1"),
        (dict(affine=True), "affine=True, this one with False"),
        (dict(n_inputs=1), "n_inputs=1, this one with 0"),
    ],
)
def test_streams_of_other_operators_are_not_merged(options, message):
    model, other = StreamingDMD(4).partial_fit(X), StreamingDMD(4, **options)
    with Unchanged(model), pytest.raises(ValueError, match=message):
        model.merge(other)


def test_states_of_another_kind_are_not_merged(kind):
    model = kind(4).partial_fit(X)
    others = {
        r"states of \[\(50,\)\] float64, this one of \[\(200,\)\]": kind(4).partial_fit(X[:50]),
        r"float32, this one of .* float64": kind(4).partial_fit(X.astype(np.float32)),
        r"states of \[\(50,\), \(150,\)\]": kind(4).update([X[:50, 0], X[50:, 0]]),
        "merged with itself": model,
    }
    for message, other in others.items():
        with Unchanged(model, other), pytest.raises(ValueError, match=message):
            model.merge(other)
    with Unchanged(model), pytest.raises(TypeError, match="other is a NoneType; expected a Str"):
        model.merge(None)


def test_row_blocks_do_not_merge_even_into_an_empty_one(kind):
    empty, block = kind(4, first_row=0), kind(4, first_row=0).partial_fit(X[:, :9])
    with Unchanged(empty, block), pytest.raises(ValueError, match="row blocks"):
        empty.merge(block)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_merging_with_an_empty_stream_keeps_the_other(form):
    name, options = form
    full = KINDS[name](4, **options).partial_fit(X)
    with Unchanged(full):
        full.merge(KINDS[name](4, **options))
    taken = KINDS[name](4, **options).merge(full)
    values = full.singular_values
    assert relative(taken.singular_values[:3], values[:3]) < CLOSE[np.float64]
    assert taken.n_snapshots == full.n_snapshots


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("m", [1, 2, 3])
def test_merging_a_few_snapshots_is_merging(form, m):
    """Also of a stream that has no pair, or no difference, yet."""
    name, options = form
    model = KINDS[name](4, **options).partial_fit(X)
    few = KINDS[name](4, **options).partial_fit(X[:, :m])
    with Unchanged(few):
        model.merge(few)
    assert model.n_snapshots == 60 + m
    if name == "dmd":
        assert match(model.eigenvalues, RATES) < EXACT[np.float64]


def test_a_merged_stream_goes_on_with_its_own_trajectory():
    other = planted(RATES, n=200, m=40, seed=5)
    model = StreamingDMD(8).partial_fit(X[:, :20])
    model.merge(StreamingDMD(8).partial_fit(other))
    assert relative(model.forecast(1), X[:, 20]) < 1e-7
    model.partial_fit(X[:, 20:])
    whole = StreamingDMD(8).partial_fit(other).start_trajectory().partial_fit(X)
    assert match(model.eigenvalues, whole.eigenvalues) < 1e-7
    assert relative(model.forecast(2), whole.forecast(2)) < 1e-7


@pytest.mark.parametrize("seen", [0, 1])
@pytest.mark.parametrize("copied", [np.copy, copy.deepcopy, np.asfortranarray])
def test_states_of_no_column_and_of_one_are_taken_whatever_their_strides(seen, copied):
    X = np.random.default_rng(0).standard_normal((20, 30))
    model = koopcore.StreamingSVD(3).partial_fit(X[:, :seen])
    resumed = koopcore.StreamingSVD(3)
    state = model.state_dict()
    resumed.load_state_dict({**state, "columns": copied(state["columns"])})
    for each in (model, resumed):
        each.partial_fit(X[:, seen:])
    np.testing.assert_array_equal(resumed.basis, model.basis)
