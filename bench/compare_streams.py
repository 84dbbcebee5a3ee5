"""Shapes of a streaming DMD on planted streams: `python bench/compare_streams.py > table.md`.

Errors are the largest distance of a true eigenvalue to the nearest found one, median and worst of
SEEDS seeds; "batch" is koopcore.DMD on all snapshots, with the weights of the forgetting.
"""

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from stream_shapes import (
    SHAPES,
    GramBasis,
    Hemati,
    SketchedCovariances,
    batch,
    blocks,
    orthogonality,
    orthonormal,
    run,
)

N, RANK, SEEDS = 10_000, 10, 5
TYPES = (np.float64, np.float32)


@dataclass(frozen=True)
class Stream:
    """Snapshots in columns, the dynamics at their end and the forgetting factor to use."""

    snapshots: np.ndarray
    eigenvalues: np.ndarray
    modes: np.ndarray
    gamma: float = 1.0

    def error(self, found):
        """Largest distance of a true eigenvalue to the nearest found one."""
        if not len(found):
            return np.inf
        return np.abs(found[:, None] - self.eigenvalues).min(axis=0).max()

    def sine(self, span):
        """Sine of the largest angle from the true modes to the found span."""
        rest = orthonormal(self.modes)
        return np.linalg.norm(rest - span @ (span.T @ rest), 2)


def draw_spectrum(rng, lowest):
    """Four pairs and two real eigenvalues, every other modulus 1, the rest at least `lowest`."""
    moduli = np.where(np.arange(6) % 2, rng.uniform(lowest, 1.0, 6), min(1.0, lowest + 0.01))
    angles = np.append(np.linspace(0.3, 2.8, 4) + rng.uniform(-0.2, 0.2, 4), [0.0, np.pi])
    return moduli, angles


def block_diagonal(moduli, angles):
    """Real operator with these eigenvalues: rotations, and 1 x 1 blocks for the last two."""
    operator = np.zeros((RANK, RANK))
    for i, (modulus, angle) in enumerate(zip(moduli[:4], angles[:4], strict=True)):
        c, s = modulus * np.cos(angle), modulus * np.sin(angle)
        operator[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[c, -s], [s, c]]
    operator[8, 8], operator[9, 9] = moduli[4], -moduli[5]
    return operator


def trajectory(rng, operators, sizes):
    """Coordinates of a run through the operators; pairs begin with a random phase."""
    state = rng.standard_normal(RANK)
    pairs = state[:8].reshape(4, 2)
    pairs /= np.linalg.norm(pairs, axis=1, keepdims=True)
    state[8:] = np.sign(state[8:])
    states = [state * np.repeat(sizes, [2, 2, 2, 2, 1, 1])]
    for operator in operators:
        states.append(operator @ states[-1])
    return np.array(states).T


def planted(rng, operators, sizes, *, noise=0.0, gamma=1.0, n=N):
    """Random vectors as modes, white noise relative to the rms; the truth is the last operator."""
    modes = rng.standard_normal((n, RANK))
    x = modes @ trajectory(rng, operators, sizes)
    if noise:
        x += noise * np.sqrt(np.mean(x**2)) * rng.standard_normal(x.shape)
    return Stream(x, np.linalg.eigvals(operators[-1]), modes, gamma)


def steady(seed, *, count=256, lowest=0.99, sizes=None, noise=0.0, n=N):
    rng = np.random.default_rng(seed)
    operator = block_diagonal(*draw_spectrum(rng, lowest))
    sizes = 10.0 ** rng.uniform(0.0, 1.0, 6) if sizes is None else sizes
    return planted(rng, [operator] * (count - 1), sizes, noise=noise, n=n)


def decaying(seed, *, count=600, n=N):
    rng = np.random.default_rng(seed)
    operator = block_diagonal(np.full(6, 0.97), draw_spectrum(rng, 0.99)[1])
    return planted(rng, [operator] * (count - 1), np.ones(6), gamma=0.9, n=n)


def drifting(seed, *, count=256, turn=1e-4):
    """The angle of every pair grows by `turn` per snapshot."""
    rng = np.random.default_rng(seed)
    angles, step = draw_spectrum(rng, 0.99)[1], turn * np.array([1, 1, 1, 1, 0, 0])
    operators = [block_diagonal(np.ones(6), angles + t * step) for t in range(count - 1)]
    return planted(rng, operators, np.ones(6), noise=1e-3, gamma=0.98)


def changed(seed):
    """New eigenvalues and new modes at half time."""
    parts = [steady(2 * seed + i, count=200, lowest=0.999, noise=1e-3) for i in range(2)]
    x = np.hstack([part.snapshots for part in parts])
    return replace(parts[1], snapshots=x, gamma=0.95)


def repeated(seed):
    """64 equal snapshots, 64 of zeros, then the steady stream."""
    after = steady(seed, count=272, lowest=0.999)
    still = np.repeat(after.snapshots[:, :1], 64, axis=1)
    x = np.hstack([still, 0.0 * still, after.snapshots])
    return replace(after, snapshots=x, gamma=0.95)


def many(seed, *, count=256):
    """30 pairs on the unit circle, sizes .8^i, noise 1e-3; the truth is the RANK // 2 largest."""
    rng = np.random.default_rng(seed)
    angles = rng.permutation(np.linspace(0.2, 2.9, 30) + rng.uniform(-0.02, 0.02, 30))
    turns = 0.8 ** np.arange(30)[:, None] * np.exp(1j * np.outer(angles, np.arange(count)))
    real, imaginary = rng.standard_normal((2, N, 30))
    x = real @ turns.real + imaginary @ turns.imag
    x += 1e-3 * np.sqrt(np.mean(x**2)) * rng.standard_normal(x.shape)
    half = RANK // 2
    modes = np.hstack([real[:, :half], imaginary[:, :half]])
    return Stream(x, np.exp(1j * np.append(angles[:half], -angles[:half])), modes)


STREAMS: dict[str, Callable[[int], Stream]] = {
    "exact rank": steady,
    "mode sizes 1 and 1e-3": lambda seed: steady(seed, sizes=[1, 1e-3] * 3),
    "noise 1e-3": lambda seed: steady(seed, noise=1e-3),
    "noise 1e-2": lambda seed: steady(seed, noise=1e-2),
    "60 modes, rank 10, noise 1e-3": many,
    "decaying .97^t, forgetting .9": decaying,
    "drifting 1e-4, forgetting .98": drifting,
    "sudden change, forgetting .95": changed,
    "repeated, zeros, then steady": repeated,
}


EXACT = ("exact rank", "mode sizes 1 and 1e-3", "decaying .97^t, forgetting .9")


def worst(values):
    """Median and worst."""
    return f"{np.median(values):.0e} / {np.max(values):.0e}"


def table(title, header, rows):
    print(f"\n### {title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)


def fits(stream, dtype):
    """Error, difference to the batch fit and sine of every shape; C as total least squares too."""
    x = np.asfortranarray(stream.snapshots.astype(dtype))
    reference = batch(x, RANK, stream.gamma)
    for name, kind in SHAPES.items():
        shape = run(kind(len(x), RANK, gamma=stream.gamma, dtype=dtype), x)
        found = shape.eigenvalues(RANK)
        assert np.isfinite(found).all(), f"{name}: {found}"
        gap = replace(stream, eigenvalues=reference).error(found)
        yield name, stream.error(found), gap, stream.sine(shape.span(RANK))
        if kind is GramBasis:
            yield f"{name}, TLS", stream.error(shape.eigenvalues(RANK, tls=True)), gap, np.nan
    yield "batch", stream.error(reference), 0.0, np.nan


def accuracy(dtype, titles):
    """Three tables, a row per stream and a column per shape."""
    rows = {"error": [], "difference to batch": [], "sine of the modes": []}
    for title in titles:
        seeds = [list(fits(STREAMS[title](seed), dtype)) for seed in range(SEEDS)]
        names = [name for name, *_ in seeds[0]]
        for column, row in enumerate(rows.values(), 1):
            cells = [[fit[i][column] for fit in seeds] for i in range(len(names))]
            row.append((title, *map(worst, cells)))
    for what, cells in rows.items():
        keep = [i for i, cell in enumerate(names) if what == "error" or cell in SHAPES]
        header = ("stream", *(names[i] for i in keep))
        table(
            f"{what}, {dtype.__name__}", header, ((c[0], *(c[i + 1] for i in keep)) for c in cells)
        )


def sketch_rows(noise):
    """Error of A by rows of its sketch."""
    for rows in (2 * RANK + 1, 4 * RANK, 8 * RANK, 32 * RANK):
        found = []
        for seed in range(SEEDS):
            stream = steady(seed, noise=noise)
            shape = run(SketchedCovariances(N, RANK, rows=rows), stream.snapshots)
            found.append(stream.error(shape.eigenvalues(RANK)))
        yield noise, rows, worst(found)


def recovery(name):
    """Snapshots from the change of dynamics until the error stays below 1e-2."""
    found = []
    for seed in range(SEEDS):
        stream, wrong = changed(seed), 0
        x = np.asfortranarray(stream.snapshots, dtype=np.float32)
        shape = SHAPES[name](N, RANK, gamma=stream.gamma, dtype=np.float32)
        for end, block in enumerate(blocks(x, 8), 1):
            shape.update(block)
            if stream.error(shape.eigenvalues(RANK)) > 1e-2:
                wrong = end
        found.append(8 * (wrong + 1) - x.shape[1] // 2)
    return f"{np.median(found):.0f} / {max(found)}"


def long_row(name, dtype, count=10_000, n=1000):
    """Orthogonality after a long noisy stream, at a tenth of it and at its end."""
    stream = steady(0, count=count, lowest=1.0, noise=1e-3, n=n)
    x = np.asfortranarray(stream.snapshots.astype(dtype))
    shape, drift = SHAPES[name](n, RANK, dtype=dtype), []
    for part in (x[:, : count // 10], x[:, count // 10 :]):
        drift.append(orthogonality(run(shape, part)))
    assert not isinstance(shape, GramBasis) or drift[-1] < 1e-6, f"U'U - I has grown to {drift}"
    error = stream.error(shape.eigenvalues(RANK))
    return name, dtype.__name__, *(f"{d:.0e}" for d in drift), f"{error:.0e}"


def tiny_row(name, dtype, count=6000, n=500):
    """Decay until the numbers leave the type: .97^6000 is 1e-80."""
    stream = decaying(0, count=count, n=n)
    x = np.asfortranarray(stream.snapshots.astype(dtype))
    shape, error = SHAPES[name](n, RANK, gamma=stream.gamma, dtype=dtype), 0.0
    with np.errstate(all="ignore"):
        for i, block in enumerate(blocks(x)):
            shape.update(block)
            if i % 20 == 19 and np.abs(block).min(axis=0).max() > 1e3 * np.finfo(dtype).tiny:
                error = max(error, stream.error(shape.eigenvalues(RANK)))
        found = shape.eigenvalues(RANK)
    state = [v for v in vars(shape).values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    finite = all(np.isfinite(v).all() for v in state) and np.isfinite(found).all()
    assert finite, f"{name} is not finite after a stream that decays to zero"
    return name, dtype.__name__, f"{error:.0e}", len(found)


def speed_blocks(n, rank, count, width=16):
    """Float32 blocks of a planted stream with noise 1e-3, drawn cheaply."""
    rng = np.random.default_rng(0)
    modes = rng.standard_normal((n, rank), dtype=np.float32)
    angles = np.exp(1j * np.outer(np.linspace(0.2, 2.9, rank // 2), np.arange(count * width)))
    states = np.concatenate([angles.real, angles.imag]).astype(np.float32)
    noise = 1e-3 * rng.standard_normal((n + 64 * count * width,), dtype=np.float32)
    for i in range(0, count * width, width):
        block = np.asfortranarray(modes @ states[:, i : i + width])
        for j in range(width):
            start = 64 * (i + j)
            block[:, j] += noise[start : start + n]
        yield block


def speed_row(name, make, *, count, n=1_000_000, rank=20):
    """Median time per snapshot once the basis is full, and memory, held and at its peak."""
    shape, times, peak = make(n, rank, dtype=np.float32), [], 0
    for i, block in enumerate(speed_blocks(n, rank, count)):
        if i == count - 1:
            tracemalloc.start()
        begin, before = time.perf_counter(), tracemalloc.get_traced_memory()[0]
        shape.update(block)
        times.append((time.perf_counter() - begin) / block.shape[1])
        peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return name, f"{1e6 * np.median(times[2:]):,.0f}", shape.memory, round(peak / 4 / n)


def main():
    accuracy(np.float32, STREAMS)
    accuracy(np.float64, [title for title in STREAMS if title in EXACT])
    rows = (row for noise in (1e-3, 1e-2) for row in sketch_rows(noise))
    table("A by rows of its sketch", ("noise", "rows", "error"), rows)
    rows = ((name, recovery(name)) for name in SHAPES)
    table("Recovery from the sudden change, float32", ("shape", "snapshots"), rows)
    every = [(name, dtype) for dtype in TYPES for name in SHAPES]
    header = ("shape", "type", "U'U - I at 1,000", "at 10,000", "error")
    table("10,000 snapshots", header, (long_row(*case) for case in every))
    header = ("shape", "type", "largest error on the way", "eigenvalues at the end")
    table("Decay to zero", header, (tiny_row(*case) for case in every))
    makers = SHAPES | {"D, 10 directions of slack": partial(Hemati, slack=10)}
    header = ("shape", "microseconds per snapshot", "held / n", "more at the peak / n")
    rows = (speed_row(*case, count=3 if case[0][0] == "D" else 5) for case in makers.items())
    table("n = 1e6, rank 20, blocks of 16, float32", header, rows)


if __name__ == "__main__":
    main()
