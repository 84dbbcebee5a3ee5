"""A file larger than memory is decomposed: python bench/outofcore.py [--gigabytes G] [options].

Writes a float32 file of planted modes and noise, one snapshot after the other, reads it once with
plain `readinto`, decomposes it with `StreamingDMD` (in a process of its own, whose peak memory is
taken), and does both again, each time from the disk: what the page cache holds of the file is
dropped before. Prints seconds, their ratio, and the peak resident size. The file is deleted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RATES = np.exp(np.array([-1e-5, -2e-5 + 0.1j, -3e-5 + 0.37j, -4e-5 + 0.9j, -5e-5 + 1.7j]))
FIT = """
import sys, time
import numpy as np
from koopcore import StreamingDMD, outofcore
path, n, rank = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
start = time.perf_counter()
how = {"dtype": "float32", "shape": (-1, n), "time_axis": 0}
model = outofcore.feed(StreamingDMD(rank, n_threads=int(sys.argv[4])), path, **how)
values = model.eigenvalues
seconds = time.perf_counter() - start
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line)
own = time.process_time()
print(seconds, own, peak * 1024, *(f"{v:.9f}" for v in values))
"""


def write(path, n, count):
    """Write the file; memory holds the modes and one snapshot."""
    rng = np.random.default_rng(0)
    modes = rng.standard_normal((9, n), dtype=np.float32)
    noise = np.float32(1e-3) * rng.standard_normal(2 * n, dtype=np.float32)
    with open(path, "wb", buffering=0) as file:
        for t in range(count):
            powers = RATES**t
            weights = np.concatenate([powers.real, powers[1:].imag]).astype(np.float32)
            shift = int(rng.integers(0, n))
            state = weights @ modes + noise[shift : shift + n]
            file.write(state.data)
            if t % 256 == 0:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def drop_cache(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_once(path):
    """Seconds to read the file into one buffer of 64 MB."""
    buffer = bytearray(1 << 26)
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - start


def decompose(path, n, rank, threads):
    """Return seconds, seconds of processor, peak bytes and eigenvalues of a process of its own."""
    command = [sys.executable, "-c", FIT, str(path), str(n), str(rank), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return (*map(float, done[:3]), np.array([complex(value) for value in done[3:]]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--features", type=int, default=1_000_000)
    parser.add_argument("--rank", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    given = parser.parse_args()
    n, count = given.features, round(given.gigabytes * 1e9 / 4 / given.features)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "snapshots.bin"
        write(path, n, count)
        reads, fits, processor, peaks = [], [], [], []
        for _ in range(given.repeats):
            drop_cache(path)
            reads.append(read_once(path))
            drop_cache(path)
            seconds, own, peak, values = decompose(path, n, given.rank, given.threads)
            fits.append(seconds), processor.append(own), peaks.append(peak)
        size = path.stat().st_size
        cached = read_once(path)
    planted = np.concatenate([RATES, RATES[1:].conj()])
    worst = np.abs(values[:, None] - planted[None, :]).min(axis=0).max()
    assert worst < 1e-3, values
    read, fit = statistics.median(reads), statistics.median(fits)
    print(f"{size / 1e9:.1f} GB: {count} snapshots of {n} float32, rank {given.rank}")
    print(f"read once from the disk   {read:8.2f} s  {size / 1e9 / read:6.2f} GB/s")
    print(f"the same, after the fit   {cached:8.2f} s  (what fits is in the page cache)")
    print(f"decomposed                {fit:8.2f} s  {size / 1e9 / fit:6.2f} GB/s")
    print(f"  processor time          {statistics.median(processor):8.2f} s")
    print(f"ratio                     {fit / read:8.2f}    <= 1.5")
    print(f"peak resident             {max(peaks) / 1e9:8.2f} GB <= 1")
    print(f"largest error of the planted eigenvalues: {worst:.1e}")


if __name__ == "__main__":
    main()
