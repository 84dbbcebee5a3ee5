"""Reading blocks of snapshots from a file by its layout: python bench/layouts.py [gigabytes].

One float32 file, taken as (n_features, n_snapshots) in C order for several n_features, so that a
block of 64 MB lies in n_features pieces of 64 MB / n_features; and as whole snapshots. Each time
from the disk (what the page cache holds of the file is dropped before) and again from the cache.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from outofcore import drop_cache

from koopcore.outofcore import blocks, reorder

MEMORY = 64_000_000


def seconds(path, shape, time_axis):
    """Time to read all blocks, touching one number of each snapshot."""
    start = time.perf_counter()
    how = {"dtype": "float32", "shape": shape, "time_axis": time_axis, "memory": MEMORY}
    count = sum(block[0].size for block in blocks(path, **how))
    assert count == shape[time_axis]
    return time.perf_counter() - start


def main(gigabytes):
    numbers = round(gigabytes * 1e9 / 4 / 2_000_000) * 2_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshots.bin"
        np.random.default_rng(0).standard_normal(numbers, dtype=np.float32).tofile(path)
        print("| pieces of | from the disk | from the page cache |\n| --- | --- | --- |")
        cases = [("whole snapshots", (numbers // 20_000, 20_000), 0)]
        for n in (2_000, 20_000, 100_000, 1_000_000):
            cases.append((f"{MEMORY // n:,} bytes", (n, numbers // n), -1))
        for name, shape, axis in cases:
            drop_cache(path)
            times = [seconds(path, shape, axis) for _ in range(2)]
            print(f"| {name} | {times[0]:.1f} | {times[1]:.1f} |", flush=True)
        drop_cache(path)
        start = time.perf_counter()
        shape = (100_000, numbers // 100_000)
        reorder(path, Path(folder) / "ordered.npy", dtype="float32", shape=shape)
        print(f"| `reorder` of 640 bytes, once | {time.perf_counter() - start:.1f} | |")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.8)
