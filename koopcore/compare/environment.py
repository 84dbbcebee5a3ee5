"""The machine, the versions and the threads behind a set of measurements, and how to pin those."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "koopcore",
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "mlxtend",
    "mnist1d",
    "pytorch_optimizer",
    "schedulefree",
)


def pin(threads: int, cores: Sequence[int] = ()) -> None:
    """Give this process so many threads, in torch, in every BLAS, in koopcore, and its own cores.

    Parameters
    ----------
    threads : int
    cores : sequence of int
        Cores to run on; none: wherever the system puts it.
    """
    import threadpoolctl
    import torch

    import koopcore

    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)  # for what is loaded later
    torch.set_num_threads(threads)
    koopcore.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads)


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Give this process so many threads, and those it had when the context is left."""
    import threadpoolctl
    import torch

    import koopcore

    before = torch.get_num_threads(), koopcore.num_threads()
    torch.set_num_threads(threads)
    koopcore.set_num_threads(threads)
    try:
        with threadpoolctl.threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before[0])
        koopcore.set_num_threads(before[1])


def cores_of(jobs: int, threads: int) -> list[tuple[int, ...]]:
    """Return disjoint cores for each of `jobs` processes; none where there are too few for all."""
    if not hasattr(os, "sched_getaffinity"):
        return [()] * jobs
    free = sorted(os.sched_getaffinity(0))
    if len(free) < jobs * threads:
        return [()] * jobs
    return [tuple(free[i * threads : (i + 1) * threads]) for i in range(jobs)]


def describe(threads: int) -> dict[str, Any]:
    """Return versions, processor, and the threads there were, as a plain dict."""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "thread_report": _thread_report(),
    }


def _thread_report() -> dict[str, int]:
    """Return the threads of everything that starts its own."""
    import threadpoolctl
    import torch

    import koopcore

    report = {"torch": torch.get_num_threads(), "koopcore": koopcore.num_threads()}
    for pool in threadpoolctl.threadpool_info():
        name = f"{pool['internal_api']} ({Path(pool['filepath']).name.split('.so')[0]})"
        report[name] = pool["num_threads"]
    if hasattr(os, "sched_getaffinity"):
        report["cores allowed"] = len(os.sched_getaffinity(0))
    return report


def version(package: str) -> str:
    """Return the version of an installed or already imported package, or 'not installed'."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return getattr(sys.modules.get(package), "__version__", "not installed")


def _cpu_name() -> str:
    """Return the processor's marketing name on Linux, else what the platform module knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
