"""Time to start Python and import koopcore, beside NumPy alone."""

import subprocess
import sys

import pytest


@pytest.mark.benchmark(group="import")
@pytest.mark.parametrize("module", ["sys", "numpy", "koopcore"])
def test_import(benchmark, module):
    command = [sys.executable, "-c", f"import {module}"]
    result = benchmark.pedantic(subprocess.run, (command,), rounds=7, warmup_rounds=1)
    assert result.returncode == 0
