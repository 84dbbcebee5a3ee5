"""Row blocks of one state, in one process and in several, and threads on one object."""

import sys
import threading
import time

import numpy as np
import pytest
from streams import CLOSE, EXACT, KINDS, RATES, Unchanged, relative, same_bits
from support import DTYPES, match, planted

from koopcore import RowBlocks, StreamingDMD, StreamingSVD

X = planted(RATES, n=200, m=60)
ROWS = (slice(0, 128), slice(128, 200))


@pytest.fixture(params=DTYPES, ids=lambda t: t.__name__)
def dtype(request):
    return request.param


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def row_blocks(kind, **options):
    return RowBlocks([kind(4, first_row=rows.start, **options) for rows in ROWS])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a, b: [a, b.astype(np.float32)], TypeError, r"blocks\[1\] has dtype float32"),
        (lambda a, b: [a, b[:-1]], ValueError, r"blocks\[1\] has shape \(71, 60\)"),
        (lambda a, b: [a, b[:, :-1]], ValueError, r"blocks\[1\] has shape \(72, 59\)"),
        (lambda a, b: [a, np.full_like(b, np.nan)], ValueError, r"blocks\[1\] has a value"),
        (lambda a, b: [a, 1e170 * b], ValueError, r"blocks\[1\] has a value .* could overflow"),
        (lambda a, b: [a, b[:, 0]], ValueError, r"blocks\[1\] has shape \(72,\)"),
        (lambda a, b: [a], ValueError, "got 1 blocks for 2 streams"),
    ],
)
def test_a_bad_row_block_changes_none_of_them(kind, change, error, message):
    rows = row_blocks(kind).partial_fit([X[r, :23] for r in ROWS])
    with Unchanged(*rows.streams), pytest.raises(error, match=message):
        rows.partial_fit(change(*(X[r] for r in ROWS)))
    fresh = row_blocks(kind)
    if "71" not in message:  # any number of rows is welcome at first
        with pytest.raises(error, match=message):
            fresh.partial_fit(change(*(X[r] for r in ROWS)))
        assert [stream.n_snapshots for stream in fresh.streams] == [0, 0]


@pytest.mark.parametrize(
    ("streams", "error", "message"),
    [
        ([], ValueError, "streams is empty"),
        ([StreamingDMD(4)], ValueError, r"streams\[0\] must be made with first_row="),
        (
            [StreamingDMD(4, first_row=0, reduce=lambda x: x)],
            ValueError,
            r"streams\[0\] must be made with first_row= and without reduce=",
        ),
        (
            [StreamingDMD(4, first_row=0), StreamingSVD(4, first_row=64)],
            TypeError,
            r"streams\[1\] is a StreamingSVD, streams\[0\] a StreamingDMD",
        ),
        (
            [StreamingDMD(4, first_row=0), StreamingDMD(3, first_row=64)],
            ValueError,
            r"streams\[1\] was made with rank=3, streams\[0\] with 4",
        ),
    ],
)
def test_row_blocks_are_made_alike(streams, error, message):
    with pytest.raises(error, match=message):
        RowBlocks(streams)


def test_a_row_block_alone_does_not_pretend_to_know_the_state():
    rows = row_blocks(StreamingDMD).partial_fit([X[r] for r in ROWS])
    with pytest.raises(ValueError, match="it needs reduce= for this"):
        rows.streams[0].predict(X[ROWS[0], 0])
    affine = row_blocks(StreamingDMD, affine=True).partial_fit([X[r] for r in ROWS])
    with pytest.raises(ValueError, match=r"whole states|needs reduce="):
        affine.streams[0].predict(X[ROWS[0], 0])
    basis = row_blocks(StreamingSVD).partial_fit([X[r] for r in ROWS])
    with pytest.raises(ValueError, match="it needs reduce= for this"):
        basis.streams[0].transform(X[ROWS[0], 0])


def test_a_full_row_block_waits_for_the_sum():
    alone = StreamingDMD(4, first_row=0, block=8).partial_fit(X[:128, :8])
    with Unchanged(alone), pytest.raises(ValueError, match="it holds 8 and 1 more came"):
        alone.update(X[:128, 8])
    with pytest.raises(ValueError, match=r"the sum of partial\(\)"):
        _ = alone.eigenvalues


class AllReduce:
    """Adds up an array over two threads, as processes would."""

    def __init__(self):
        self.barrier = threading.Barrier(2, timeout=30)
        self.given = {}

    def rank(self, rank):
        def reduce(part):
            self.given[rank] = part
            self.barrier.wait()
            total = self.given[0] + self.given[1]
            self.barrier.wait()
            return total

        return reduce


def in_two_threads(work):
    """Results of work(0) and work(1), run together."""
    results, errors = {}, []

    def run(rank):
        try:
            results[rank] = work(rank)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results[0], results[1]


@pytest.mark.parametrize("options", [{}, {"affine": True}, {"delays": 2, "block": 5}], ids=str)
def test_reduce_gives_the_whole(dtype, options):
    data = X.astype(dtype)
    both = AllReduce()

    def work(rank):
        rows = ROWS[rank]
        model = StreamingDMD(4, first_row=rows.start, reduce=both.rank(rank), **options)
        model.partial_fit(data[rows, :41])
        _ = model.eigenvalues
        for x in data[rows, 41:].T:
            model.update(x)
        model.start_trajectory().partial_fit(data[rows, :20])
        predicted = None if options else model.predict(data[rows, 3])
        return model.eigenvalues, model.forecast(1), predicted, model.state_dict()["numbers"]

    first, second = in_two_threads(work)
    whole = StreamingDMD(4, **options).partial_fit(data)
    whole.start_trajectory().partial_fit(data[:, :20])
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[3], second[3])
    assert match(first[0], whole.eigenvalues) < EXACT[dtype]
    states = np.concatenate([first[1], second[1]])
    assert relative(states, whole.forecast(1)) < 20 * CLOSE[dtype]
    if not options:
        predicted = np.concatenate([first[2], second[2]])
        assert relative(predicted, data[:, 4]) < 20 * CLOSE[dtype]


@pytest.mark.parametrize("block", [1, 5, 16])
def test_reduce_takes_pairs_at_any_place_of_a_block(block):
    both = AllReduce()

    def work(rank):
        rows = ROWS[rank]
        model = StreamingDMD(4, block=block, first_row=rows.start, reduce=both.rank(rank))
        model.update(X[rows, 0])
        return model.partial_fit(X[rows, :-1], X[rows, 1:]).eigenvalues

    first, second = in_two_threads(work)
    np.testing.assert_array_equal(first, second)
    assert match(first, RATES) < EXACT[np.float64]


def test_reduce_transforms_whole_states():
    both = AllReduce()
    data = X + 2.0

    def work(rank):
        rows = ROWS[rank]
        model = StreamingSVD(5, center=True, first_row=rows.start, reduce=both.rank(rank))
        return model.partial_fit(data[rows]).transform(data[rows]), model.singular_values

    first, second = in_two_threads(work)
    np.testing.assert_array_equal(first[0], second[0])
    whole = StreamingSVD(5, center=True).partial_fit(data)
    assert relative(first[1][:4], whole.singular_values[:4]) < CLOSE[np.float64]
    assert relative(np.abs(first[0][:4]), np.abs(whole.transform(data)[:4])) < 1e-8


def test_with_reduce_a_bad_value_late_in_a_wide_block_changes_nothing():
    model = StreamingDMD(4, first_row=0, block=4, reduce=lambda part: part)
    model.partial_fit(X[:, :9])
    bad = X.copy()
    bad[3, 57] = np.nan
    for refused in (lambda: model.partial_fit(bad), lambda: model.partial_fit(X, bad)):
        with Unchanged(model), pytest.raises(ValueError, match="not finite"):
            refused()


def test_two_threads_on_one_stream_lose_nothing(kind):
    """One appends, the other asks and copies the state all the while."""
    model, stop, seen = kind(4, block=4), threading.Event(), []
    model.partial_fit(X[:, :5])

    def ask():
        while not stop.is_set():
            if isinstance(model, StreamingSVD):
                seen.append(np.isfinite(model.basis).all())
            else:
                seen.append(np.isfinite(model.forecast(1)).all())
                seen.append(np.isfinite(model.modes).all())
            seen.append(np.isfinite(model.state_dict()["numbers"]).all())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(8):
            for x in X.T:
                model.update(x)
            model.partial_fit(X)
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 0
    assert all(seen)
    assert model.n_snapshots == 5 + 16 * 60
    alone = kind(4, block=4).partial_fit(X[:, :5])
    for _ in range(16):
        alone.partial_fit(X)
    assert same_bits(model, alone)


def test_two_threads_may_append_to_one_stream(kind):
    """In some order: nothing is lost, and constant snapshots look the same in any."""
    model = kind(2, block=3)
    ones = np.ones(50)

    def append(rank):
        for _ in range(300):
            model.update(ones)
            model.partial_fit(ones[:, None])

    in_two_threads(append)
    assert model.n_snapshots == 1200
    pairs = 1200 if kind is StreamingSVD else 1199
    assert model.singular_values[0] == pytest.approx(np.sqrt(50 * pairs))


def test_two_threads_may_merge_both_ways(kind):
    """Two locks in two orders must not wait for each other."""
    streams = [kind(4).partial_fit(X[:, :9]) for _ in range(2)]

    def merge(rank):
        for _ in range(5):
            streams[rank].merge(streams[1 - rank])
        return streams[rank].n_snapshots

    thread = threading.Thread(target=in_two_threads, args=(merge,), daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert all(np.isfinite(stream.singular_values).all() for stream in streams)


@pytest.mark.parametrize("call", ["push", "push_block"])
def test_appending_runs_without_the_interpreter_lock(kind, call):
    model = kind(2, block=4).update(np.ones(500_000))
    extra = () if kind is StreamingSVD or call == "push" else (np.empty((0, 0)),)
    given = [np.ones(500_000)] if call == "push" else np.ones((500_000, 4), order="F")
    append = getattr(model._stream, call)
    ticks, stop = [], threading.Event()

    def count():
        while not stop.is_set():
            ticks.append(None)
            time.sleep(0)  # gives the lock back at once

    interval = sys.getswitchinterval()
    sys.setswitchinterval(10.0)  # the other thread gets the lock only where it is given up
    thread = threading.Thread(target=count)
    try:
        thread.start()
        before = len(ticks)
        for _ in range(40):  # on a busy machine the other thread may miss a few turns
            append(given, *extra)
            after = len(ticks)
            if after > before:
                break
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert after > before


@pytest.mark.parametrize("scale", [0.0, 1e-160, 1e-310])
def test_a_row_block_may_be_dead_for_a_while(scale):
    """What counts as nothing is decided for the whole state, not for each block of rows."""
    data = X.copy()
    data[ROWS[0], 20:40] *= scale
    rows = row_blocks(StreamingDMD, block=5).partial_fit([data[r] for r in ROWS])
    whole = StreamingDMD(4, block=5).partial_fit(data)
    upper, lower = (stream.eigenvalues for stream in rows.streams)
    np.testing.assert_array_equal(upper, lower)
    assert match(upper, whole.eigenvalues) < 1e-7


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [StreamingDMD, StreamingSVD], ids=lambda kind: kind.__name__)
def test_the_number_of_threads_changes_no_bit(make, dtype):
    """A state of 100,000 numbers is summed up in slices, by however many threads."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100_000, 5)) @ rng.standard_normal((5, 40))
    X = (X + 0.01 * rng.standard_normal(X.shape)).astype(dtype)  # so that the basis turns
    models = [make(3, oversampling=4, n_threads=n).partial_fit(X) for n in (1, 2, 3)]
    first, *others = (model.state_dict() for model in models)
    for other in others:
        np.testing.assert_array_equal(other["columns"], first["columns"])
        np.testing.assert_array_equal(other["numbers"], first["numbers"])
    expected = np.linalg.svd(X if make is StreamingSVD else X[:, :-1], compute_uv=False)
    np.testing.assert_allclose(models[0].singular_values[:3], expected[:3], rtol=1e-4)
    assert models[0].merge(models[1]).n_snapshots == 80  # threads are no part of how it was made


def test_bad_number_of_threads_is_refused_by_name():
    with pytest.raises(ValueError, match="n_threads=0"):
        StreamingDMD(3, n_threads=0)
    with pytest.raises(TypeError, match=r"n_threads=1\.5"):
        StreamingSVD(3, n_threads=1.5)
