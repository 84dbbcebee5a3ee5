"""The machine and the versions behind a set of measurements."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any


def describe(threads: int) -> dict[str, Any]:
    """Return versions, processor and thread count as a plain dict."""
    packages = ("koopcore", "torch", "numpy", "scikit-learn", "mlxtend")
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "threads": threads,
    }


def _version(package: str) -> str:
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
