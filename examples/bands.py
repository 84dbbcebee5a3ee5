"""How far to trust a forecast: residuals, consistency, bands, and the horizon they allow."""

import numpy as np

from koopcore import DMD

rng = np.random.default_rng(0)
rates = np.array([0.99, 0.97 * np.exp(0.3j), 0.97 * np.exp(-0.3j)])
real, imaginary, slow = rng.standard_normal((3, 400))
modes = np.column_stack([slow, real + 1j * imaginary, real - 1j * imaginary])
clean = (modes @ np.vander(rates, 100, increasing=True)).real
data = clean + 0.1 * rng.standard_normal(clean.shape)
known, future = data[:, :60], data[:, 60:]

model = DMD(rank=5).fit(known)  # two modes too many
print("eigenvalues", model.eigenvalues.round(3))
print("residuals  ", model.residuals().round(2), "(the last two modes are noise)")

model = DMD(rank=3).fit(known)
print(f"consistency index {model.consistency_index():.4f} (0 is perfect, 1 the worst)")
steps = np.array([1, 5, 20, 40])
lower, upper = model.forecast_interval(steps, level=0.9)
held = ((future[:, steps - 1] >= lower) & (future[:, steps - 1] <= upper)).mean(axis=0)
for step, share, width in zip(steps, held, (upper - lower).mean(axis=0) / 2, strict=True):
    print(f"step {step:2}: {share:.0%} of the features in the band, half width {width:.2f}")
print("steps with an expected error within 12 %:", model.horizon_of_trust(0.12, longest=1000))
