"""Coefficients fitted directly: the point with the least loss in the span of the snapshots.

The points ``w_last + sum_j z_j d_j`` are all affine combinations of the window's snapshots, where
the directions d_j are the principal ones of the differences to the last snapshot, each as long as
the window extends along it: L-BFGS then sees a problem of like scales, with as many unknowns as
there are snapshots but one. The gradient with respect to z is that of the loss with respect to the
parameters, multiplied with the directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from koopcore.torch.trial import RefusedJump, Trial, _agreed
from koopcore.torch.windows import Window

RESOLVED = 1e-12  # squared lengths below this share of the longest are rounding


class Span:
    """Affine combinations of the snapshots of a window, and a gradient on them.

    Parameters
    ----------
    window : Window
        Of two snapshots at least.
    like : sequence of torch.Tensor
        A state.

    Attributes
    ----------
    directions : ndarray of shape (r, m)
        Coefficients of the directions d_j on the snapshots; each row sums to 0.
    """

    def __init__(self, window: Window, like: Sequence[torch.Tensor]) -> None:
        self._window = window
        grams = window.grams()
        self._operators, count = len(grams), grams.shape[1]
        from_last = np.eye(count)[:-1]
        from_last[:, -1] = -1.0
        lengths, vectors = np.linalg.eigh(from_last @ grams.sum(0) @ from_last.T)
        kept = lengths > RESOLVED * max(lengths[-1], 0.0)
        self.directions = vectors[:, kept].T @ from_last
        self._basis = [t.new_empty((len(self.directions), *t.shape)) for t in like]
        for j, direction in enumerate(self.directions):
            window.combine(self._tiled(direction), [b[j] for b in self._basis])

    def coefficients(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients on the snapshots of the point z, shape (operators, m)."""
        last = np.eye(self.directions.shape[1])[-1]
        return self._tiled(last + z @ self.directions)

    def on_directions(self, gradients: Sequence[torch.Tensor | None]) -> NDArray[np.float64]:
        """Products of a gradient (None: zero), of the first tensors of a state, and the d_j."""
        products = np.zeros(len(self.directions))
        for basis, gradient in zip(self._basis, gradients, strict=False):
            if gradient is not None:
                product = basis.flatten(1) @ gradient.to(basis.dtype).flatten()
                products += product.cpu().double().numpy()
        return products

    def _tiled(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.tile(coefficients, (self._operators, 1))


def fit_in_span(
    window: Window,
    like: Sequence[torch.Tensor],
    trial: Trial,
    steps: int,
    shared: bool,
) -> NDArray[np.float64]:
    """Minimise a loss over the affine combinations of the snapshots, by L-BFGS from the last one.

    Parameters
    ----------
    window : Window
    like : sequence of torch.Tensor
        A state; the trial's parameters are its first tensors.
    trial : Trial
        Of the loss to minimise; its mean where it is a vector.
    steps : int
        Iterations, of one or two evaluations with gradient each.
    shared : bool
        Average losses and gradients over all processes of `torch.distributed`.

    Returns
    -------
    ndarray of shape (operators, m)
        Coefficients on the snapshots, the same for all operators.

    Raises
    ------
    RefusedJump
        The loss raised, or does not depend on the parameters.
    """
    span = Span(window, like)
    point = [*trial.tensors, *(torch.empty_like(t) for t in like[len(trial.tensors) :])]
    for tensor in trial.tensors:
        tensor.requires_grad_(True)
    z = torch.zeros(len(span.directions), dtype=torch.float64)
    z.requires_grad_(True)

    scale = 0.0

    def closure() -> float:
        nonlocal scale
        window.combine(span.coefficients(z.detach().numpy()), point)
        try:
            loss, gradients = _differentiated(trial)
        except RefusedJump:
            _agreed(None, shared, point[0].device)
            raise
        both = np.concatenate([[loss], span.on_directions(gradients)])
        both = _agreed(both, shared, point[0].device)
        # So scaled, the first step is as long as the window, and tolerances are relative.
        scale = scale or float(np.abs(both[1:]).sum()) or 1.0
        z.grad = torch.from_numpy(both[1:] / scale)
        return float(both[0]) / scale

    minimiser = torch.optim.LBFGS(
        [z], max_iter=steps, max_eval=2 * steps, line_search_fn="strong_wolfe"
    )
    if len(z):
        minimiser.step(closure)
    return span.coefficients(z.detach().numpy())


def _differentiated(trial: Trial) -> tuple[float, Sequence[torch.Tensor | None]]:
    """Loss of what the trial holds, and its gradient."""
    trial.evaluations += 1
    try:
        value = trial._evaluate()
    except RefusedJump as refusal:
        kind, reason = (
            text.replace("trial_loss", "fit_loss", 1) for text in (refusal.kind, refusal.reason)
        )
        raise RefusedJump(kind, reason) from refusal.__cause__
    if not (isinstance(value, torch.Tensor) and value.requires_grad):
        raise RefusedJump(
            "fit_loss without gradient",
            f"fit_loss must return a tensor that depends on the parameters, got {value!r}; it may "
            "not call detach() or item(), nor run under no_grad()",
        )
    mean = value.mean()
    return float(mean.detach()), torch.autograd.grad(mean, trial.tensors, allow_unused=True)
