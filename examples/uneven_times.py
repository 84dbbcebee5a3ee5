"""Snapshots at uneven times: the optimized variant fits exponentials to all of them at once."""

import numpy as np

from koopcore import DMD

rng = np.random.default_rng(0)
omega = np.array([-0.05 + 2.0j, -0.05 - 2.0j, -0.2])  # per unit of time
real, imaginary, slow = rng.standard_normal((3, 5_000))
modes = np.column_stack([real + 1j * imaginary, real - 1j * imaginary, slow])


def state(times):
    """Noise-free states at these times, in columns."""
    return (modes @ np.exp(np.outer(omega, times))).real


times = np.sort(rng.uniform(0.0, 20.0, 60))  # gaps between 0.001 and 1.4
X = state(times) + 0.1 * rng.standard_normal((5_000, 60))

model = DMD(rank=3, variant="optimized").fit(X, times=times)  # dt=1: forecasts count units of time
pretend = DMD(rank=3, dt=np.diff(times).mean()).fit(X)  # takes the snapshots as evenly spaced
print("put in    ", omega)
print("optimized ", model.omega.round(4))
print("as if even", pretend.omega.round(4))

ahead = np.array([0.5, 1.0, 5.0])
truth = state(times[-1] + ahead)
error = np.linalg.norm(model.forecast(ahead) - truth, axis=0) / np.linalg.norm(truth, axis=0)
print("relative error 0.5, 1 and 5 units after the last snapshot", error.round(4))
