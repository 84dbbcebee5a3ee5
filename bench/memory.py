"""Peak memory of a statement above what was there before, in a process of its own."""

import subprocess
import sys

from conftest import HEADLINE

CODE = """
import warnings
warnings.simplefilter("ignore")
import numpy as np
def resident(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if field in line)
{setup}
data = np.random.default_rng(0).standard_normal({shape}, dtype=np.float32).T
X = data[:1000]
{warm_up}
X = data
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew at what is held now
before = resident("VmHWM")
{statement}
print((resident("VmHWM") - before) * 1024)
"""


def peak_bytes(setup, statement, shape, warm_up="pass"):
    """Peak resident bytes of a statement in X (shape, column-major) above its input."""
    code = CODE.format(setup=setup, statement=statement, shape=shape[::-1], warm_up=warm_up)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return float(result.stdout)


def peak_memory(statement, module="koopcore"):
    """Peak memory of a fit of the problem table's data, in multiples of the input."""
    shape = (HEADLINE.n, HEADLINE.m)
    return peak_bytes(f"import {module}", statement, shape, statement) / HEADLINE.bytes


def peak_of(setup, statement, shape):
    """Peak memory in float32 numbers per feature."""
    return peak_bytes(setup, statement, shape) / (4 * shape[0])
