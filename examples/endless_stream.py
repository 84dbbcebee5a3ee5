"""A stream without end whose dynamics change: python examples/endless_stream.py [snapshots]."""

import sys

import numpy as np

from koopcore import StreamingDMD

count = int(sys.argv[1]) if len(sys.argv) > 1 else 4_000
rng = np.random.default_rng(0)
patterns = rng.standard_normal((2_000, 2)).astype(np.float32)

model = StreamingDMD(rank=2, variant="tls", forgetting=0.98)  # remembers about 50 steps
state, found = np.array([1.0, 0.0]), []
for t in range(count):
    angle = 0.2 if t < count // 2 else 0.5  # it turns faster from half time on
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    state = turn @ state
    model.update(
        patterns @ state.astype(np.float32) + 0.01 * rng.standard_normal(2_000, np.float32)
    )
    if t % (count // 8) == count // 8 - 1:
        found.append(abs(np.angle(model.eigenvalues[0])))
        print(f"{t + 1:6d} snapshots: turns by {found[-1]:.5f}, wanted {angle}")

kept = sum(np.size(value) for value in model.state_dict().values())
print(f"held at the end: {kept / 2_000:.0f} numbers per feature, at any length")
assert np.allclose(found[:4], 0.2, atol=1e-3)
assert np.allclose(found[4:], 0.5, atol=1e-3)
