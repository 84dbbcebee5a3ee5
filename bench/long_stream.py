"""A stream of 1e6 snapshots of 1e4 numbers: python bench/long_stream.py [snapshots].

Prints, for every tenth of it, throughput, resident memory, distance of the basis from orthonormal
(as it is stored, to be measured anew with the next block, and as StreamingSVD gives it) and error
of the leading eigenvalues. Nothing of it may depend on the length.
"""

import sys
import time

import numpy as np

from koopcore import StreamingDMD, StreamingSVD

N, RANK, WIDTH = 10_000, 10, 1_000


def resident_megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def main(count):
    rng = np.random.default_rng(0)
    rates = np.exp(1j * np.linspace(0.1, 1.5, RANK // 2))
    modes = rng.standard_normal((N, RANK)).astype(np.float32)
    noise = np.float32(1e-3) * rng.standard_normal((N, 4 * WIDTH)).astype(np.float32)
    model, svd = StreamingDMD(RANK, forgetting=0.9999), StreamingSVD(RANK, forgetting=0.9999)
    print("| snapshots | per second | resident MB | stored U'U - 1 | given U'U - 1 | error |")
    print("| --- | --- | --- | --- | --- | --- |")
    seen = 0
    for _tenth in range(10):
        seconds = 0.0
        for _ in range(count // 10 // WIDTH):
            turn = rates[:, None] ** np.arange(seen, seen + WIDTH)
            shift = int(rng.integers(0, 3 * WIDTH))
            block = modes @ np.vstack([turn.real, turn.imag]).astype(np.float32)
            block += noise[:, shift : shift + WIDTH]
            start = time.perf_counter()
            model.partial_fit(block)
            seconds += time.perf_counter() - start
            svd.partial_fit(block)
            seen += WIDTH
        stored, given = model.state_dict()["columns"][:, : RANK + 10], svd.basis
        drift = [np.abs(u.T.astype(float) @ u - np.eye(u.shape[1])).max() for u in (stored, given)]
        gaps = np.abs(model.eigenvalues[:, None] - np.concatenate([rates, rates.conj()]))
        assert drift[1] < 1e-6
        print(
            f"| {seen:,} | {count // 10 / seconds:,.0f} | {resident_megabytes():.0f} "
            f"| {drift[0]:.1e} | {drift[1]:.1e} | {gaps.min(axis=0).max():.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
