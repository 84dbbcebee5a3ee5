"""Time to start Python and import koopcore, beside NumPy alone."""

import subprocess
import sys

import pytest
from measure import Problem, Row, measure

PROBLEM = Problem(None, None, "", name="in a process of its own")


@pytest.mark.parametrize("module", ["sys", "numpy", "koopcore"])
def test_import(benchmark, module):
    command = [sys.executable, "-c", f"import {module}"]
    row = Row("import", PROBLEM, {"sys": "Python alone", "numpy": "NumPy"}.get(module, module), 1)
    result = measure(benchmark, row, subprocess.run, command, rounds=7)
    assert result.returncode == 0
