"""koopcore's accelerator and its forecasts for evaluation, and rivals' rules in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import Idle, after_steps

if TYPE_CHECKING:
    import torch

    from koopcore.torch import KoopmanAccelerator

    from ..workloads import Problem

FITS, EIGENVALUES = 8, 64  # spectra kept per run, and eigenvalues of each, the largest


def koopcore_context(
    problem: Problem,
    optimizer: torch.optim.Optimizer,
    preset: str | None = None,
    **options: Any,
) -> AbstractContextManager[KoopmanAccelerator]:
    """Return the accelerator as a user of this kind of problem would make it.

    Parameters
    ----------
    problem : Problem
        Its `preset` names the accelerator's class method.
    optimizer : torch.optim.Optimizer
        With L-BFGS, whose last gradient is not that of the weights before its step, a preset that
        observes gradients gives way to snapshots of the weights.
    preset : str, optional
        Another class method than the problem's.
    **options
        Further arguments, such as ``rule``.
    """
    import torch

    from koopcore.torch import KoopmanAccelerator

    preset = preset or problem.preset
    make = getattr(KoopmanAccelerator, preset, KoopmanAccelerator)
    # Stated, not measured, so that a run decides alike whatever else the machine does.
    trial_cost = problem.trial_size / (3 * problem.batch_size)
    if preset == "full_batch" and isinstance(optimizer, torch.optim.LBFGS):
        options = _of_weights(optimizer) | options
    options = {"trial_loss": problem.trial_loss, "trial_cost": trial_cost, **options}
    return make(problem.model, optimizer, **options)


def _of_weights(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    import torch

    every = 1 if isinstance(optimizer, torch.optim.LBFGS) else 5  # a step of which is many
    return {"observe": "weights", "window": 10, "every": every}


def spectra_of(history: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the eigenvalues of some attempts, as `results.Run` keeps them.

    Parameters
    ----------
    history : sequence of koopcore.torch.Jump
        In time order; those without eigenvalues are left out, of the others up to 8 are taken,
        evenly spread from the first to the last.

    Returns
    -------
    dict of lists
        Columns ``step``, ``real`` and ``imag``: the (up to 64) largest eigenvalues of each. Empty
        if there are none.
    """
    fits = [j for j in history if len(j.eigenvalues) and np.isfinite(j.eigenvalues).all()]
    if not fits:
        return {}
    places = np.linspace(0, len(fits) - 1, min(FITS, len(fits))).round().astype(int)
    chosen = [fits[i] for i in places]
    values = [j.eigenvalues[np.argsort(-np.abs(j.eigenvalues))[:EIGENVALUES]] for j in chosen]
    return {
        "step": [j.step for j in chosen],
        "real": [v.real.tolist() for v in values],
        "imag": [v.imag.tolist() for v in values],
    }


class AcceleratorMeter:
    """Reads the counters of a KoopmanAccelerator."""

    optimizer = None

    def __init__(self, accelerator: KoopmanAccelerator) -> None:
        self._accelerator = accelerator
        # What the preset for mini-batches keeps for evaluation; the trained model without.
        averaged = accelerator.averaged
        self.evaluated = None if averaged is None else averaged.module

    @property
    def seconds(self) -> float:
        """Time spent in koopcore, trials included."""
        return self._accelerator.stats.seconds

    @property
    def jumps(self) -> Sequence[Any]:
        """All attempts."""
        return self._accelerator.history

    @property
    def spectra(self) -> dict[str, list[Any]]:
        """Eigenvalues of some attempts."""
        return spectra_of(self._accelerator.history)


class Koopcore:
    """The optimizer with `koopcore.torch.KoopmanAccelerator`, by the preset of the problem.

    Parameters
    ----------
    name : str
    preset : str, optional
        Another preset than the problem's.
    **options
        Arguments beyond the preset.
    """

    def __init__(self, name: str = "koopcore", preset: str | None = None, **options: Any) -> None:
        self.name = name
        self._preset, self._options = preset, options

    @contextmanager
    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> Iterator[AcceleratorMeter]:
        """Return a context in which the accelerator is hooked into the optimizer."""
        options = self._options | self._fitting(problem, optimizer)
        with koopcore_context(problem, optimizer, self._preset, **options) as accelerator:
            yield AcceleratorMeter(accelerator)

    def _fitting(self, problem: Problem, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return further options for this kind of problem and optimizer."""
        return {}


class Rule(Koopcore):
    """A rival's rule of `koopcore.rules` in the same machinery: window, ladder, trial, roll-back.

    Rules forecast trajectories of weights, so that a preset that observes gradients gives way to
    ten snapshots, five steps apart (of L-BFGS: one). All of them get more than their papers give
    them: the horizon is chosen by trial, and a jump that does not lower the trial loss is refused.
    The secant and Anderson's acceleration (regularised nonlinear acceleration, Scieur et al. 2016)
    are those of `koopcore.rules`; "rank-one" is that of RELEX (Wei et al. 2026), there fitted per
    tensor and from the base model's weights, here to all weights and from the window's first
    snapshot.
    """

    def __init__(self, name: str, rule: Any) -> None:
        super().__init__(name, rule=rule)

    def _fitting(self, problem: Problem, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return _of_weights(optimizer) if problem.preset == "full_batch" else {}


class Forecast:
    """The optimizer alone, and `koopcore.torch.ForecastModel` for evaluation.

    The choice is by the loss on kept samples, by the trial loss where there are none.

    Parameters
    ----------
    every : int
        Steps between choices; in between, the present weights are evaluated. Only choices at
        steps at which the harness evaluates can be seen.
    """

    def __init__(self, every: int) -> None:
        self.name = f"forecast:{every:d}"
        self._every = every

    @contextmanager
    def attach(self, problem: Problem, optimizer: torch.optim.Optimizer) -> Iterator[Idle]:
        """Return a context in which the forecasts follow the optimizer."""
        from koopcore.torch import ForecastModel

        best = ForecastModel(problem.model, problem.heldout_trial_loss or problem.trial_loss)

        def act() -> None:
            best.update_parameters(problem.model)
            if best.steps % self._every == 0:
                best.choose()

        with after_steps(optimizer, act):
            yield Idle(evaluated=best.module)


class Identity(Koopcore):
    """A control: all the work of the accelerator, and no change.

    Every trial is evaluated and then taken for 0, so that no forecast is better than what is. The
    average of the preset for mini-batches is kept, but it is the trained model that is evaluated.
    """

    def __init__(self) -> None:
        super().__init__("identity")

    @contextmanager
    def attach(
        self, problem: Problem, optimizer: torch.optim.Optimizer
    ) -> Iterator[AcceleratorMeter]:
        """Return a context in which the accelerator is hooked and refuses all it finds."""
        trial_loss = problem.trial_loss
        blind = replace(problem, trial_loss=lambda model: 0.0 * trial_loss(model))
        with super().attach(blind, optimizer) as meter:
            meter.evaluated = None
            yield meter
