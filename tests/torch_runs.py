"""A model that moves at random, with its snapshots beside those of windows."""

import numpy as np
import torch
from torch import nn

from koopcore.torch.partition import Layout
from koopcore.torch.windows import make_window

PARTITIONS = ["network", "layer", "node", ("quasi-node", 3), "weight"]
DTYPES = [torch.float32, torch.float64]
CAPACITY = 4


def _model(dtype=torch.float32):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 2), nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Conv2d(6, 2, 3), nn.LayerNorm(4)
    )
    return model.to(dtype).to(memory_format=torch.channels_last)


class Run:
    """A model that moves at random, with its snapshots beside those of the windows."""

    def __init__(self, dtype=torch.float32, partition="network"):
        self.model = _model(dtype)
        self.layout = Layout(dict(self.model.named_parameters()), partition, self.model)
        self.tensors = list(self.model.parameters())
        self.snapshots = []

    def window(self, **options):
        return make_window(self.layout, CAPACITY, **{"like": self.tensors, **options})

    def move(self, *windows, scale=1e-2):
        with torch.no_grad():
            for p in self.tensors:
                p += scale * torch.randn_like(p)
        for window in windows:
            window.push(self.tensors)
        self.snapshots.append(self.flat(self.tensors))

    def flat(self, tensors):
        flat = torch.empty(self.layout.size, dtype=torch.float64)
        self.layout.gather(tensors, flat)
        return flat.numpy()

    def x(self, held):
        return np.stack(self.snapshots[-held:], axis=1)

    def grams(self, x):
        return np.stack([x[a:b].T @ x[a:b] for a, b in self.layout.segments])

    def combined(self, window, coefficients):
        out = [torch.full_like(p, torch.nan) for p in self.tensors]
        window.combine(coefficients, out)
        return self.flat(out)
