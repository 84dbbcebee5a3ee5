"""Settings with a name: for full batches, for mini-batches, a control, the published method.

The figures behind them are those of ``koopcore compare``; they were chosen on seeds that no
comparison reports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from koopcore.rules import Polynomial, UniformAverage
from koopcore.torch import _arguments
from koopcore.torch._dogra_redman import partition_of

FULL_BATCH: dict[str, Any] = {
    "observe": "gradients",
    "window": 30,
    "every": 1,
    "rollback": True,
    "max_overhead": 1.0,
}
MINI_BATCH: dict[str, Any] = {
    "rule": (Polynomial(1), Polynomial(1, last=5)),
    "select": "trial",
    "window": 10,
    "every": 10,
    "average": 10,
    "growth": 0.5,
    "ema": 0.98,
    "max_overhead": 0.15,
}
AVERAGING_ONLY = MINI_BATCH | {
    "rule": (UniformAverage(), UniformAverage(last=5)),
    "horizons": (1,),
}


class Presets:
    """Class methods that make a `KoopmanAccelerator`."""

    if TYPE_CHECKING:

        def __init__(self, *args: Any, **options: Any) -> None: ...

        def _publish(self) -> None: ...

    @classmethod
    def full_batch(
        cls,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        trial_loss: Callable[[nn.Module], object],
        **options: Any,
    ) -> Self:
        """Return an accelerator for losses without noise: full batches, differential equations.

        Forecasts from gradients, tried every third step and undone if they did harm. It may cost
        as much as training itself (``max_overhead=1``), which its jumps repay. `trial_loss` should
        be the training loss itself. `options` of `KoopmanAccelerator` replace those of the preset.
        """
        return cls(model, optimizer, trial_loss=trial_loss, **FULL_BATCH | options)

    @classmethod
    def mini_batch(
        cls,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        trial_loss: Callable[[nn.Module], object],
        **options: Any,
    ) -> Self:
        """Return an accelerator for mini-batches.

        Snapshots are averages, the windows grow with the run, forecasts are lines through the whole
        window and through its second half, and an average that follows the jumps is kept for
        evaluation (`averaged`). `trial_loss` should be that of some 256 samples or more, always the
        same. `options` of `KoopmanAccelerator` replace those of the preset.
        """
        return cls(model, optimizer, trial_loss=trial_loss, **MINI_BATCH | options)

    @classmethod
    def averaging_only(
        cls,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        trial_loss: Callable[[nn.Module], object],
        **options: Any,
    ) -> Self:
        """Return an accelerator that jumps to averages of the past, never ahead.

        The control beside `mini_batch`: what of its gain is the averages' alone.
        """
        return cls(model, optimizer, trial_loss=trial_loss, **AVERAGING_ONLY | options)

    @classmethod
    def dogra_redman(
        cls,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        t1: int,
        t2: int,
        horizon: int,
        q: int | dict[str, int | None] | None = None,
        trial_loss: Callable[[nn.Module], object] | None = None,
        log_fn: Callable[[dict, int], object] | None = None,
    ) -> Self:
        """Return the published method, to test what it claims (Dogra and Redman, NeurIPS 2020).

        The raw weights after steps `t1` to `t2` are kept, one operator ``U = F' pinv(F)`` is fitted
        to each chunk of `q` of a unit's weights, and at step `t2` the weights are put `horizon`
        steps ahead by ``U^horizon``: once, untried, at whatever cost. Only a forecast that is not
        finite is refused.

        Parameters
        ----------
        model, optimizer, log_fn
            As for `KoopmanAccelerator`.
        t1, t2 : int
            Optimizer steps, counted from 1, of the first and the last snapshot.
        horizon : int
            Steps to jump at `t2`, the paper's T.
        q : int, dict or None
            Weights per operator: 1 for single-weight, more for quasi-node operators; None: whole
            nodes; a dict of regular expressions over parameter names to these.
        trial_loss : callable, optional
            Given one, the jump is taken only if it lowers this loss, which the paper does not ask.

        Examples
        --------
        >>> import torch
        >>> from koopcore.torch import KoopmanAccelerator
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = torch.optim.Adadelta(model.parameters())
        >>> with KoopmanAccelerator.dogra_redman(
        ...     model, optimizer, q=2, t1=5, t2=20, horizon=10
        ... ) as accelerator:
        ...     for _ in range(30):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(4, 3)).square().sum().backward()
        ...         optimizer.step()
        >>> [(jump.step, jump.horizon) for jump in accelerator.jumps]
        [(20, 10)]
        """
        t1 = _arguments.integer("t1", t1, at_least=1)
        t2 = _arguments.integer("t2", t2, at_least=t1 + 2)
        accelerator = cls(
            model,
            optimizer,
            trial_loss=trial_loss,
            partition=partition_of(q),
            window=t2 - t1 + 1,
            every=1,
            horizons=[horizon],
            start_step=t1 - 1,
            max_overhead=None,
            log_fn=log_fn,
        )
        accelerator._publish()
        return accelerator
