"""Small training runs for the tests of koopcore.torch."""

import copy

import torch
from torch import nn


def regression(dtype=torch.float32, hidden=0, seed=1):
    """A model and the loss of its full batch; without hidden units it is a linear problem."""
    torch.manual_seed(seed)
    x = torch.randn(40, 4, dtype=dtype) * torch.tensor([1.0, 0.8, 0.6, 0.4], dtype=dtype)
    y = torch.sin(x.sum(1, keepdim=True))
    model = nn.Linear(4, 1)
    if hidden:
        model = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    return model.to(dtype), lambda m: nn.functional.mse_loss(m(x), y)


def train(model, optimizer, loss, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def everything(model, optimizer):
    """A copy of all that a refused jump must not touch."""
    return (
        copy.deepcopy(model.state_dict()),
        copy.deepcopy(optimizer.state_dict()),
        torch.get_rng_state(),
    )


def differs(a, b):
    """Whether two nested states differ in a bit, or in type."""
    if type(a) is not type(b):
        return True
    if isinstance(a, torch.Tensor):
        return a.dtype != b.dtype or not torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() != b.keys() or any(differs(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) != len(b) or any(map(differs, a, b))
    return a != b and not (a != a and b != b)
