"""Peak memory of a fit above its input, in multiples of the input, in a process of its own."""

import subprocess
import sys

from conftest import M, N


def peak_memory(statement, module="koopcore"):
    """Peak resident memory of a statement in X above its input, in multiples of the input."""
    code = f"""
import warnings
warnings.simplefilter("ignore")
import numpy as np, {module}
def resident(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if field in line)
data = np.random.default_rng(0).standard_normal(({M}, {N}), dtype=np.float32).T
X = data[:1000]
{statement}
X = data
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew at what is held now
before = resident("VmHWM")
{statement}
print((resident("VmHWM") - before) * 1024 / X.nbytes)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return float(result.stdout)
