"""Fit an operator to a travelling wave that decays, and forecast it beyond the data."""

import numpy as np

from koopcore import DMD

x = np.linspace(0.0, 1.0, 50_000)
t = 0.05 * np.arange(120)
wave = np.cos(12.0 * x[:, None] - 4.0 * t) * np.exp(-0.2 * t)
drift = np.outer(np.exp(-((x - 0.5) ** 2) / 0.02), np.exp(-0.05 * t))
states = (wave + drift).astype(np.float32)

known = states[:, :60]
model = DMD(rank=3, dt=0.05).fit(known)

print("eigenvalues   ", model.eigenvalues.round(4))
print("growth per time", model.growth_rate.round(3), "(-0.05 and -0.2 were put in)")
print("cycles per time", model.frequency.round(3), "(4 / 2 pi = 0.637 was put in)")

future = model.forecast(np.arange(1, 61))  # all 60 steps that follow, in one pass over the data
error = np.linalg.norm(future - states[:, 60:]) / np.linalg.norm(states[:, 60:])
print(f"60 steps ahead, relative error {error:.1e}, {future.dtype}")
