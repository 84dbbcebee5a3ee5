"""Hugging Face Accelerate: an accelerator on what `Accelerator.prepare` returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from koopcore.torch.accelerator import KoopmanAccelerator

try:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer
except ModuleNotFoundError as error:
    raise ImportError(
        "koopcore.torch.integrations.accelerate needs Accelerate, which is not installed; "
        'install it with: pip install "koopcore[accelerate]"'
    ) from error


def unwrap(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer that does the steps, inside of Accelerate's wrapper if there is one.

    The wrapper's own `step` may do nothing, while gradients accumulate, and calls no hooks.
    """
    while isinstance(optimizer, AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    return optimizer


def koopman_accelerator(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    make: Callable[..., KoopmanAccelerator] = KoopmanAccelerator,
    **options: Any,
) -> KoopmanAccelerator:
    """Return a KoopmanAccelerator for a model and an optimizer from ``accelerator.prepare``.

    Optimizer steps count; batches whose gradients accumulate do not, nor do steps that a gradient
    scaler skipped. It is registered with `accelerator`, so that ``save_state`` and ``load_state``
    carry its window; both belong inside the ``with`` statement, since detaching empties it.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
    model : torch.nn.Module
        As it was prepared; the trial loss sees the module inside of parallel and compiled wrappers.
    optimizer : torch.optim.Optimizer
        As it was prepared.
    make : callable, default KoopmanAccelerator
        The class, or one of its presets.
    **options
        Keyword arguments of `make`, such as `trial_loss`.

    Returns
    -------
    KoopmanAccelerator
        Not attached yet: use it in a ``with`` statement, or call `attach`.

    Examples
    --------
    >>> import torch
    >>> from accelerate import Accelerator
    >>> from koopcore.torch.integrations.accelerate import koopman_accelerator
    >>> accelerator = Accelerator(cpu=True)
    >>> x, y = torch.randn(64, 3), torch.randn(64, 1)
    >>> def loss(model):
    ...     return torch.nn.functional.mse_loss(model(x), y)
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> model, optimizer = accelerator.prepare(model, optimizer)
    >>> with koopman_accelerator(accelerator, model, optimizer, trial_loss=loss) as koopman:
    ...     for _ in range(50):
    ...         optimizer.zero_grad()
    ...         accelerator.backward(loss(model))
    ...         optimizer.step()
    >>> koopman.stats.steps
    50
    """
    koopman = make(model, unwrap(optimizer), **options)
    accelerator.register_for_checkpointing(koopman)
    return koopman
