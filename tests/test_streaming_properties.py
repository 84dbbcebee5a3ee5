"""Properties of streams for any data: what must change no bit, and what must change in step."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import EXACT, KINDS, PAIR, Unchanged, parts, relative, same_bits
from support import match, planted

from koopcore import RowBlocks, StreamingDMD, StreamingSVD

seeds = st.integers(0, 2**31)
dtypes = st.sampled_from([np.float32, np.float64])
cuts = st.lists(st.integers(0, 40), max_size=8)
layouts = st.lists(st.sampled_from(["update", "F", "C", "strided"]), min_size=9, max_size=9)
quick = settings(max_examples=60, deadline=None)

FORMS = st.sampled_from(
    [
        ("svd", {}),
        ("svd", {"center": True}),
        ("svd", {"center": True, "forgetting": 0.9}),
        ("svd", {"forgetting": 0.8, "block": 3, "oversampling": 0}),
        ("dmd", {}),
        ("dmd", {"variant": "tls", "forgetting": 0.9}),
        ("dmd", {"affine": True}),
        ("dmd", {"affine": True, "delays": 2, "block": 5}),
        ("dmd", {"delays": 3, "forgetting": 0.7}),
        ("dmd", {"block": 1, "oversampling": 1}),
        ("dmd", {"n_inputs": 2}),
        ("dmd", {"n_inputs": 1, "delays": 2, "block": 7}),
    ]
)


def make(form, **more):
    kind, options = form
    return KINDS[kind](3, **options, **more)


def data(seed, n=30, m=40, rank=5, dtype=np.float64):
    """Some directions, noise in all of them, and a stretch of zeros."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, m))
    X += 1e-3 * rng.standard_normal((n, m))
    X[:, m // 2 : m // 2 + seed % 4] = 0.0
    return X.astype(dtype)


def feed(model, X, layout="F", inputs=None):
    """Append columns in some layout."""
    U = {} if inputs is None else {"U": inputs}
    if layout == "update":
        for j in range(X.shape[1]):
            model.update(X[:, j], *([] if inputs is None else [inputs[:, j]]))
        return
    forms = {
        "F": np.asfortranarray,
        "C": np.ascontiguousarray,
        "strided": lambda a: np.repeat(np.repeat(a, 2, axis=0), 2, axis=1)[::2, ::2],
    }
    model.partial_fit(forms[layout](X), **U)


def pieces(cut, m=40):
    edges = [0, *sorted(cut), m]
    return [slice(a, b) for a, b in pairwise(edges)]


def inputs_of(form, seed, m=40):
    count = form[1].get("n_inputs", 0)
    return np.random.default_rng(seed + 1).standard_normal((count, m)) if count else None


def part(u, piece):
    return None if u is None else u[:, piece]


def ask(model):
    if isinstance(model, StreamingSVD):
        return model.singular_values, model.basis, model.mean, model.error
    try:
        return model.eigenvalues, model.modes
    except ValueError as error:  # too few states so far
        if "successive states" not in str(error):
            raise
        return ()


@quick
@given(FORMS, seeds, dtypes, cuts, layouts)
def test_how_a_stream_is_split_and_laid_out_changes_no_bit(form, seed, dtype, cut, layout):
    X, u = data(seed, dtype=dtype), inputs_of(form, seed)
    whole, split = make(form), make(form)
    feed(whole, X, inputs=u)
    for piece, how in zip(pieces(cut), layout, strict=False):
        feed(split, X[:, piece], how, part(u, piece))
    assert same_bits(whole, split)
    for one, other in zip(ask(whole), ask(split), strict=True):
        np.testing.assert_array_equal(one, other)


@quick
@given(FORMS, seeds, dtypes, cuts)
def test_questions_in_between_change_no_bit(form, seed, dtype, cut):
    X, u = data(seed, dtype=dtype), inputs_of(form, seed)
    silent, asked = make(form), make(form)
    for piece in pieces(cut):
        feed(silent, X[:, piece], inputs=part(u, piece))
        feed(asked, X[:, piece], inputs=part(u, piece))
        if asked.n_snapshots:
            with Unchanged(asked):
                ask(asked)
    assert same_bits(silent, asked)


@quick
@given(FORMS, seeds, dtypes, st.integers(0, 40))
def test_going_on_from_a_state_gives_the_same_bits(form, seed, dtype, cut):
    X, u = data(seed, dtype=dtype), inputs_of(form, seed)
    whole, first, second = make(form), make(form), make(form)
    feed(whole, X, inputs=u)
    feed(first, X[:, :cut], inputs=part(u, slice(0, cut)))
    second.load_state_dict(first.state_dict())
    assert same_bits(first, second)
    if cut:
        for one, other in zip(ask(first), ask(second), strict=True):
            np.testing.assert_array_equal(one, other)
    feed(second, X[:, cut:], inputs=part(u, slice(cut, 40)))
    assert same_bits(whole, second)


@quick
@given(FORMS, seeds, dtypes, st.integers(-20, 20))
def test_a_power_of_two_scales_results_and_nothing_else(form, seed, dtype, power):
    """To the last bit: no absolute threshold is near, and the unit is a power of two."""
    X, u = data(seed, dtype=dtype), inputs_of(form, seed)
    scale = dtype(2.0**power)
    one, other = make(form), make(form)
    feed(one, X, inputs=u)
    feed(other, scale * X, inputs=u)
    if form[0] == "svd":
        assert relative(other.singular_values, float(scale) * one.singular_values) < 1e-9
        assert relative(other.basis, one.basis) < 1e-3
    elif not form[1].get("n_inputs"):
        np.testing.assert_array_equal(other.eigenvalues, one.eigenvalues)
        np.testing.assert_array_equal(other.forecast(2), scale * one.forecast(2))
    else:
        assert match(other.eigenvalues, one.eigenvalues) < 1e-6


@quick
@given(FORMS, seeds)
def test_row_order_and_zero_rows_do_not_matter(form, seed):
    X, u = data(seed, n=30), inputs_of(form, seed)
    order = np.random.default_rng(seed).permutation(30)
    moved = np.vstack([X[order], np.zeros((9, 40))])
    one, other = make(form), make(form)
    feed(one, X, inputs=u)
    feed(other, moved, inputs=u)
    if form[0] == "svd":
        assert relative(other.singular_values, one.singular_values) < 1e-9
        return
    assert match(other.eigenvalues, one.eigenvalues) < 1e-6
    assert not np.any(other.modes[30:])
    if not form[1].get("n_inputs"):
        assert relative(other.forecast(2)[np.argsort(order)], one.forecast(2)) < 1e-6


MERGED = st.sampled_from(
    [
        ("svd", {}),
        ("svd", {"center": True}),
        ("svd", {"block": 3}),
        ("dmd", {}),
        ("dmd", {"delays": 2}),
        ("dmd", {"affine": True}),
        ("dmd", {"variant": "tls"}),
        ("dmd", {"n_inputs": 1, "block": 5}),
    ]
)
SHARDED = st.sampled_from(
    [
        ("svd", {}),
        ("svd", {"center": True}),
        ("svd", {"forgetting": 0.9, "block": 5}),
        ("dmd", {}),
        ("dmd", {"affine": True}),
        ("dmd", {"delays": 2, "block": 7}),
    ]
)


@quick
@given(MERGED, seeds, dtypes, st.lists(st.integers(6, 34), min_size=1, max_size=3, unique=True))
def test_merged_streams_are_one_stream_of_all_trajectories(form, seed, dtype, cut):
    """Data of exact rank: 3 directions, all of them kept."""
    rates = (0.97, PAIR, PAIR.conjugate())
    X = planted(rates, n=30, m=40, dtype=dtype, seed=seed)
    u = inputs_of(form, seed)
    whole, merged = make(form), make(form)
    for piece in pieces(cut):
        shard = make(form)
        feed(shard, X[:, piece], inputs=part(u, piece))
        if form[0] == "dmd":
            whole.start_trajectory()
        feed(whole, X[:, piece], inputs=part(u, piece))
        with Unchanged(shard):
            assert merged.merge(shard) is merged
    assert merged.n_snapshots == 40
    eps = np.finfo(dtype).eps
    if form[0] == "svd":
        values = whole.singular_values
        assert relative(merged.singular_values[:2], values[:2]) < 1e3 * eps
        assert relative(merged.mean, whole.mean) < 1e3 * eps
        assert abs(merged.energy / whole.energy - 1.0) < 1e3 * eps
        assert merged.weight == whole.weight
        return
    assert match(merged.eigenvalues, rates) < 10 * EXACT[dtype]
    assert match(merged.eigenvalues, whole.eigenvalues) < 10 * EXACT[dtype]


@quick
@given(
    SHARDED,
    seeds,
    dtypes,
    st.lists(st.sampled_from([64, 128, 192]), max_size=3, unique=True),
    cuts,
)
def test_row_blocks_are_the_whole(form, seed, dtype, rows, cut):
    X = data(seed, n=200, dtype=dtype)
    edges = [0, *sorted(rows), 200]
    shards = [slice(a, b) for a, b in pairwise(edges)]
    whole = make(form)
    blocks = RowBlocks([make(form, first_row=rows.start) for rows in shards])
    for piece in pieces(cut):
        feed(whole, X[:, piece])
        blocks.partial_fit([X[rows, piece] for rows in shards])
    first = blocks.streams[0]
    eps = 1e3 * np.finfo(dtype).eps
    limit = 1e-8 if dtype == np.float64 else 2e-3  # truncation makes more of a rounding
    if form[0] == "svd":
        assert relative(first.singular_values, whole.singular_values) < eps
        basis = np.vstack([s.basis for s in blocks.streams])
        assert relative(np.abs(np.sum(basis * whole.basis, axis=0)), np.ones(3)) < 100 * eps
        assert abs(first.error / whole.error - 1.0) < 1e-3
    else:
        assert match(first.eigenvalues, whole.eigenvalues) < limit
        states = np.concatenate([s.forecast(1) for s in blocks.streams])
        assert relative(states, whole.forecast(1)) < limit
    assert all(s.n_snapshots == 40 for s in blocks.streams)


@quick
@given(FORMS, seeds, dtypes, st.integers(0, 39), st.integers(0, 29), st.integers(0, 39))
def test_a_block_with_one_bad_value_changes_no_bit(form, seed, dtype, column, row, seen):
    X, u = data(seed, dtype=dtype), inputs_of(form, seed)
    model, clean = make(form), make(form)
    feed(model, X[:, :seen], inputs=part(u, slice(0, seen)))
    feed(clean, X[:, :seen], inputs=part(u, slice(0, seen)))
    bad = X.copy()
    bad[row, column] = [np.nan, np.inf, -np.inf][seed % 3]
    before = parts(model.state_dict())
    with pytest.raises(ValueError, match="finite"):
        feed(model, bad, inputs=u)
    assert parts(model.state_dict()) == before
    feed(model, X, inputs=u)
    feed(clean, X, inputs=u)
    assert same_bits(model, clean)


@quick
@given(seeds, st.sampled_from(["standard", "tls", "forward-backward"]), st.integers(2, 6))
def test_complex_pairs_are_exact_and_forecasts_real(seed, variant, rank):
    model = StreamingDMD(rank, variant=variant).partial_fit(data(seed, n=8))
    values = model.eigenvalues
    for k in np.flatnonzero(values.imag):
        (partner,) = np.flatnonzero(values == values[k].conj())
        np.testing.assert_array_equal(model.modes[:, partner], model.modes[:, k].conj())
    assert model.forecast([1, 2.5]).dtype == np.float64
    assert np.isfinite(model.forecast([1, 100.0])).all()
