"""What a fit costs in every variant, as a Markdown table: python examples/costs.py [ROWS]."""

import resource
import sys
import time

import numpy as np

import koopcore
from koopcore import DMD

rows = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
rng = np.random.default_rng(0)
rates = np.array([0.99, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j), 0.5])
X = np.empty((rows, 64), dtype=np.float32)
for block in np.array_split(X, max(1, rows // 1000)):  # in parts: no large array besides X
    slow, real, imaginary, fast = rng.standard_normal((4, len(block)))
    modes = np.column_stack([slow, real + 1j * imaginary, real - 1j * imaginary, fast])
    block[:] = (modes @ np.vander(rates, 64, increasing=True)).real


def seconds(data, cases, rounds=5):
    """Best time of a fit at rank 4 with each of these options, all of them in turn."""
    best = [np.inf] * len(cases)
    for _ in range(rounds):
        for i, options in enumerate(cases):
            start = time.perf_counter()
            DMD(**{"rank": 4, **options}).fit(data)
            best[i] = min(best[i], time.perf_counter() - start)
    return best


CASES = [
    {},
    *({"variant": v} for v in ("tls", "forward-backward", "symmetric", "optimized")),
    *({"affine": True}, {"affine": "constant"}, {"delays": 2}, {"delays": 8}, {"ridge": 0.01}),
    *({"constraint": "stable"}, {"sparsity": 0.1}, {"rank": "svht"}, {"rank": "cv"}),
]
seconds(X[:100], CASES, rounds=1)  # whatever is set up once is set up now
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
times = seconds(X, CASES)
threads = koopcore.num_threads()
print(f"{rows} x 64, float32, {threads} thread(s): standard {1e3 * times[0]:.1f} ms\n")
print("| options | milliseconds | more than standard |\n| --- | --- | --- |")
for options, value in zip(CASES[1:], times[1:], strict=True):
    name = ", ".join(f"{k}={v!r}" for k, v in options.items())
    print(f"| {name} | {1e3 * value:.1f} | {1e3 * (value - times[0]):.1f} |")
extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / X.nbytes
print(f"\npeak memory of all these fits above the data: {extra:.1%} of the {X.nbytes / 1e6:.0f} MB")
gram, qr = seconds(X.astype(np.float64), [{"solver": "gram"}, {"solver": "qr"}])
print(f"float64: gram {1e3 * gram:.1f} ms, qr {1e3 * qr:.1f} ms ({qr / gram:.1f} times)")
