"""How often the bands of `forecast_interval` hold the future: python bench/coverage.py [SEEDS].

Planted systems of 100 features with four eigenvalues and white noise; bands of level 0.9 fitted to
the first snapshots are compared with the noisy snapshots that follow. Prints a Markdown table.
"""

import sys
import time

import numpy as np

from koopcore import DMD

RATES = np.array([0.99, 0.97 * np.exp(0.4j), 0.97 * np.exp(-0.4j), 0.8])
HORIZONS = np.array([1, 3, 10, 30])
LEVEL, FEATURES = 0.9, 100
# noise, snapshots, options, fixed point, noise that differs between the features
CASES = [
    (0.01, 20, {"rank": 4}, 0.0, False),
    (0.01, 60, {"rank": 4}, 0.0, False),
    (0.1, 20, {"rank": 4}, 0.0, False),
    (0.1, 60, {"rank": 4}, 0.0, False),
    (0.5, 20, {"rank": 4}, 0.0, False),
    (0.5, 60, {"rank": 4}, 0.0, False),
    (0.1, 40, {"rank": 4}, 0.0, True),
    (0.1, 40, {"rank": "cv"}, 0.0, False),
    (0.1, 40, {"rank": 8}, 0.0, False),
    (0.1, 40, {"rank": 4, "variant": "tls"}, 0.0, False),
    (0.1, 40, {"rank": 4, "variant": "forward-backward"}, 0.0, False),
    (0.1, 40, {"rank": 4, "variant": "optimized"}, 0.0, False),
    (0.1, 40, {"rank": 4, "delays": 2}, 0.0, False),
    (0.1, 40, {"rank": 4, "affine": True}, 3.0, False),
    (0.1, 40, {"rank": 5, "affine": "constant"}, 3.0, False),
]


def planted(seed, count, fixed_point):
    """Noise-free snapshots of a random system with these eigenvalues."""
    rng = np.random.default_rng(seed)
    real = rng.standard_normal((FEATURES, 4))
    modes = real[:, [0, 1, 1, 3]] + 1j * real[:, [2, 2, 2, 2]] * [0, 1, -1, 0]
    return (modes @ np.vander(RATES, count, increasing=True)).real + fixed_point


def coverage(noise, count, options, fixed_point, uneven, seeds):
    """Share of future numbers inside the band per horizon, and half its width over the noise."""
    inside, widths = [], []
    for seed in range(seeds):
        rng = np.random.default_rng(10_000 + seed)
        clean = planted(seed, count + HORIZONS[-1], fixed_point)
        scale = noise * (np.exp(rng.standard_normal((FEATURES, 1))) if uneven else 1.0)
        data = clean + scale * rng.standard_normal(clean.shape)
        lower, upper = DMD(**options).fit(data[:, :count]).forecast_interval(HORIZONS, LEVEL)
        future = data[:, count - 1 + HORIZONS]
        inside.append(((future >= lower) & (future <= upper)).mean(axis=0))
        widths.append(np.median((upper - lower) / 2 / scale, axis=0))
    return np.mean(inside, axis=0), np.median(widths, axis=0)


def main(seeds):
    print(f"Bands of level {LEVEL}, {seeds} seeds; horizons {', '.join(map(str, HORIZONS))}.\n")
    print("| noise | snapshots | options | inside the band | half width / noise |")
    print("| --- | --- | --- | --- | --- |")
    for noise, count, options, fixed_point, uneven in CASES:
        share, width = coverage(noise, count, options, fixed_point, uneven, seeds)
        text = ", ".join(f"{key}={value!r}" for key, value in options.items())
        text += ", uneven noise" if uneven else ""
        shares = " ".join(f"{value:.2f}" for value in share)
        print(f"| {noise} | {count} | {text} | {shares} | {' '.join(f'{w:.1f}' for w in width)} |",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    start = time.perf_counter()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    print(f"\n{time.perf_counter() - start:.0f} s", file=sys.stderr)
