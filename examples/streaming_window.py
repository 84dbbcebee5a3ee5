"""Follow a stream whose dynamics change: a window of the last 24 snapshots sees the change."""

import numpy as np

from koopcore import WindowDMD

rng = np.random.default_rng(0)
lift = rng.standard_normal((20_000, 2)).astype(np.float32)  # two directions of 20,000 features

window = WindowDMD(window=24, rank=2)
angle, expected = 0.0, np.zeros(20_000)
for step in range(160):
    angle += 0.2 if step < 80 else 0.5  # the frequency jumps at step 80
    state = lift @ np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    state += 1e-3 * rng.standard_normal(20_000).astype(np.float32)
    if step % 20 == 19:
        error = np.linalg.norm(expected - state) / np.linalg.norm(state)
        print(f"step {step:3}: the forecast of 5 steps ago is off by {error:.1e}")
    window.update(state)
    if step % 20 == 14:
        expected = window.forecast(5)
        turn = abs(np.angle(window.eigenvalues[0]))
        print(f"step {step:3}: angle per step {turn:.4f} from {window.n_snapshots} snapshots")
