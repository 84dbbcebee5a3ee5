"""Problems and helpers of the tests of ForecastModel."""

import torch
from torch import nn


def regression(dtype=torch.float64):
    """Full-batch linear regression, and its exact solution."""
    torch.manual_seed(1)
    x = torch.randn(40, 4, dtype=dtype) * torch.tensor([1.0, 0.8, 0.6, 0.4], dtype=dtype)
    y = torch.randn(40, 1, dtype=dtype)
    model = nn.Linear(4, 1, bias=False).to(dtype)
    return model, lambda m: nn.functional.mse_loss(m(x), y), torch.linalg.lstsq(x, y)[0].T


def noisy_problem():
    """A model with BatchNorm and dropout, a batch loss that draws, and data kept aside."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 1)
    )
    x = torch.randn(128, 4)
    y = x.sum(1, keepdim=True) + 0.3 * torch.randn(128, 1)

    def loss(m):
        i = torch.randint(64, (16,))
        return nn.functional.mse_loss(m(x[i]), y[i])

    def kept_aside(m):
        m.eval()
        return (m(x[64:]) - y[64:]).square().flatten()

    return model, loss, kept_aside, x


def train(model, optimizer, loss, steps, *followers):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
        for follower in followers:
            follower.update_parameters(model)


def sgd(model, lr=0.05):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5)


def identical(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    return a == b or (a != a and b != b)


def away_from(weights):
    """A loss that any weights but these lower."""
    weights = weights.detach().clone()
    return lambda m: -(weights_of(m) - weights).square().sum()


def weights_of(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])
