"""Gradient descent is a linear operator: read the spectrum of the Hessian off the weights.

Full-batch gradient descent on linear least squares goes w -> (I - eta H) w + b, so the eigenvalues
of its weights are 1 - eta * eig(H). The symmetric variant knows that H is symmetric.
"""

import numpy as np
import torch

from koopcore import WindowDMD

torch.manual_seed(0)
features, eta = 6, 0.1
inputs = torch.randn(400, features) * torch.linspace(0.6, 2.0, features)
targets = inputs @ torch.randn(features, 1)
model = torch.nn.Linear(features, 1, bias=False).double()
inputs, targets = inputs.double(), targets.double()
optimizer = torch.optim.SGD(model.parameters(), lr=eta)

window = WindowDMD(window=20, affine=True, variant="symmetric")  # affine: a minimum is not 0
for _ in range(20):
    window.update(model.weight.detach().numpy().ravel())
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()

hessian = 2.0 * inputs.T @ inputs / len(inputs)
expected = np.sort(1.0 - eta * torch.linalg.eigvalsh(hessian).numpy())[::-1]
found = np.sort(window.eigenvalues.real)[::-1]
print("1 - eta eig(H):", expected.round(4))
print("from 20 weights:", found.round(4))

limit = window.forecast(100_000)  # where training would end
with torch.no_grad():
    model.weight.copy_(torch.from_numpy(limit).reshape(1, -1))
    final = torch.nn.functional.mse_loss(model(inputs), targets)
print(f"loss after 20 steps {loss.item():.1e}, at the forecast limit {final.item():.1e}")
