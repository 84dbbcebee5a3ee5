"""KoopmanAccelerator: hooks an optimizer, records, forecasts, tries, commits or refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from koopcore import StreamingDMD, WindowDMD
from koopcore.torch import _arguments
from koopcore.torch._evaluation import evaluation_of
from koopcore.torch._loop import AttemptLoop
from koopcore.torch._options import Options
from koopcore.torch._presets import Presets
from koopcore.torch.policy import PATIENCE, Ledger, TrustRegion
from koopcore.torch.recorder import unwrapped
from koopcore.torch.results import AcceleratorStats, Jump

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class KoopmanAccelerator(Presets, AttemptLoop):
    """Jump ahead along the forecast of the weights, whenever a trial says that it helps.

    Every `every` steps of `optimizer` the trained parameters are recorded. A full window gives
    linear operators, one for the whole network or one for each part of a `partition`, fitted to the
    differences of successive snapshots (so that the weights may converge to any point), and with
    them forecasts at all `horizons`. They are tried in turn; the best one becomes the weights if
    its trial loss is below that of the present weights. Otherwise weights, buffers, optimizer
    state and torch's random numbers stay identical to the bit. Either way the window starts
    afresh. Attempts that are refused again and again become rarer without end, a jump that
    turns out to have done harm shortens the next ones, and the whole cost stays below
    `max_overhead`.

    Parameters
    ----------
    model : torch.nn.Module
        Parameters of one floating-point type on one device. Wrappers of `torch.compile` and
        DistributedDataParallel are looked through: trials run the module inside.
    optimizer : torch.optim.Optimizer
        Any optimizer over parameters of `model`; those it does not hold are left alone.
    trial_loss : callable, optional
        ``trial_loss(model)`` returns the loss to be lowered, for instance on a fixed subset of
        the training samples, as a real scalar; or a vector of the losses of several batches or
        samples, whose mean must then fall by two standard errors of the paired differences. It
        sees the model with a forecast's parameters in place and copies of all buffers; the real
        tensors are out of its reach. Gradients are enabled, so that it can differentiate with
        respect to *inputs*, but the parameters do not require any, so a plain forward pass
        records no graph. It may call ``model.eval()`` (the flags are put back) and draw random
        numbers (each trial draws the same ones). It should give the same loss for the same
        weights: a new batch at each call would compare batches. Every failure of it is a refused
        jump, logged once; training goes on. Without one, jumps go no further than the window's
        own cross-validation reaches, three snapshots, and only where it finds the forecast's
        squared error below a quarter of that of staying.
    mode : {"jump", "evaluate", "auto"}
        What becomes of a forecast that a trial prefers: the weights jump to it; or training is left
        alone and only the weights for evaluation move, `averaged`, if it is better than they are;
        or the first, until two more jumps have done harm than have not, and then the second.
    ema : float, optional
        Decay per step of an exponential average of the weights for evaluation, `averaged`, which
        starts anew at a jump; 0.98 where a mode needs it.
    observe : {"weights", "gradients"}
        "weights": forecasts from the trajectory of the weights. "gradients": from pairs of weights
        and the gradients there, which the steps leave behind; the operator is then that of the
        gradient flow, horizons are in time constants of its steepest direction, pairs outlive a
        jump, and attempts come every tenth of a window. For losses without noise, that is full
        batches; takes twice the memory, and no partition, average, control or storage.
    partition : str, tuple or dict, default "network"
        Which parameters share an operator: "network", "layer", "node" (the incoming weights and
        the bias of one unit), ``("quasi-node", q)`` (q of them at a time), "weight", or a dict of
        regular expressions over parameter names to one of these or to "exclude".
    rule : rule or sequence of rules, optional
        Of `koopcore.rules`; default ``Dynamics()``.
    select : {"validation", "trial"}
        How one of several rules is chosen in each window: by its own forecasts of the last three
        snapshots from those before, with no jump where none is better than staying; or by trying
        all of them, at that many times the trials.
    window : int, default 10
        Number of snapshots in a window, at least 3.
    every : int, default 5
        Optimizer steps between snapshots.
    average : int, default 1
        A snapshot is the mean of this many iterates since the one before, evenly spread over the
        `every` steps; 1: the iterate itself. Averages are what to record under mini-batch noise.
    decay : float, default 0
        If positive, snapshots are exponential averages with this decay per step instead.
    growth : float, default 0
        Windows grow with the run: each covers at least this share of the steps before it, by
        snapshots that lie further apart. Attempts then come at a geometric pace, and cost less and
        less of the run.
    horizons : sequence of int, optional
        Increasing numbers of optimizer steps. By default the span of the window,
        doubled until 25,600 steps are reached.
    start_step : int, default 0
        Steps to leave alone at the beginning.
    acceptance : {"network", "layer"}
        "layer": each layer of a forecast is also tried without its jump, and stays where it is if
        that is better; a trial per layer.
    state : {"keep", "reset", "carry"}
        What becomes of the optimizer's state at a jump: it stays; all of it, moments and step
        counts, starts anew; or its tensors are forecast with the coefficients of the weights
        (which takes a window for each). That of `torch.optim.LBFGS` is always reset, since its
        history does not survive a jump.
    rollback : bool, default False
        Keep a copy of weights and optimizer state at every jump, and go back to it if the trial
        loss at the next attempt is more than half above the one before the jump.
    control : "lr", optional
        Let the learning rate (of the optimizer's first parameter group) enter the fit of
        `koopcore.rules.Dynamics` as a known input, for runs with a schedule: it is the change per
        unit of learning rate that then follows one law, and forecasts are at the present rate.
        Without, a schedule bends the trajectory, and forecasts go on with the bend.
    max_overhead : float or None, default 0.03
        Largest cost of koopcore as a share of that of training, kept by spacing attempts out;
        None: no bound. It holds from the first trials on, whose cost nobody can know before.
    trial_cost : float, optional
        Cost of one trial in optimizer steps (a forward pass on as many samples as a batch has:
        1/3). Then it is trials that are counted against `max_overhead` and nothing is measured,
        so that two runs decide alike. By default all time is measured.
    max_displacement : float, optional
        Longest jump, in units of the distance from the window's first snapshot to its last.
    storage : torch.dtype or str, optional
        Where the window lies: ``torch.bfloat16`` keeps differences in half the memory, "cpu" in
        the host's, any other string is the path of a memory-mapped file, or of a folder where it
        is made without a name and goes with the window. Default: as the model.
    bn_loader : iterable, optional
        Batches to refresh the running statistics of BatchNorm with after a jump
        (`torch.optim.swa_utils.update_bn`). Without, one warning.
    log_fn : callable, optional
        ``log_fn(fields, step)`` is called once per attempt with the fields of `Jump` as a dict.
    operator : WindowDMD or StreamingDMD, optional
        An empty one with ``affine=True`` in the place of window and rule, for the whole network,
        to choose its rank, variant or treatment of unstable eigenvalues. `window` is then the
        number of snapshots between attempts, which a `koopcore.WindowDMD` may not exceed. It is
        cleared before every start and after every attempt.

    Attributes
    ----------
    history : list of Jump
        Every attempt: spectrum, rule, horizons tried and taken, losses, cost.

    Raises
    ------
    TypeError, ValueError
        For arguments that cannot work; the message names the argument, its value and what would
        be right.

    Notes
    -----
    The fit is dynamic mode decomposition of the window's Gram matrix; eigenvalues outside the unit
    circle are put on it in forecasts. Training by Koopman forecasts is due to Dogra and Redman
    (NeurIPS 2020), see `dogra_redman`; the trial is ours.

    Examples
    --------
    >>> import torch
    >>> from koopcore.torch import KoopmanAccelerator
    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(64, 3)
    >>> y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    >>> def loss(model):
    ...     return torch.nn.functional.mse_loss(model(x), y)
    >>> with KoopmanAccelerator(
    ...     model, optimizer, trial_loss=loss, max_overhead=None
    ... ) as accelerator:
    ...     for _ in range(100):
    ...         optimizer.zero_grad()
    ...         loss(model).backward()
    ...         optimizer.step()
    >>> accelerator.stats.attempts
    2
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        trial_loss: Callable[[nn.Module], object] | None = None,
        mode: str = "jump",
        ema: float | None = None,
        observe: str = "weights",
        partition: Any = "network",
        rule: Any = None,
        select: str = "validation",
        window: int = 10,
        every: int = 5,
        average: int = 1,
        decay: float = 0.0,
        growth: float = 0.0,
        horizons: Sequence[int] | None = None,
        start_step: int = 0,
        acceptance: str = "network",
        state: str = "keep",
        rollback: bool = False,
        control: str | None = None,
        max_overhead: float | None = 0.03,
        trial_cost: float | None = None,
        max_displacement: float | None = None,
        storage: torch.dtype | str | None = None,
        bn_loader: Any = None,
        log_fn: Callable[[dict, int], object] | None = None,
        operator: WindowDMD | StreamingDMD | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in Options.ARGUMENTS}
        _arguments.check_types(model, optimizer, trial_loss, log_fn)
        ledger = Ledger(
            _arguments.number("max_overhead", max_overhead, 0.0, math.inf, optional=True),
            _arguments.number("trial_cost", trial_cost, 0.0, math.inf, optional=True),
        )
        cap = _arguments.number("max_displacement", max_displacement, 0.0, math.inf, optional=True)
        super().__init__(
            model,
            optimizer,
            Options.checked(**given, trial=trial_loss is not None),
            ledger,
            TrustRegion(cap, PATIENCE if rollback else 0.0),
            trial_loss,
            bn_loader,
            log_fn,
            evaluation_of(unwrapped(model), mode, ema, trial_loss is not None),
        )

    @property
    def jumps(self) -> list[Jump]:
        """The attempts that were taken."""
        return [jump for jump in self.history if jump.taken]

    @property
    def nbytes(self) -> int:
        """Memory in bytes that koopcore holds once the window is full, known before training."""
        averaged = self._evaluation.nbytes if self._evaluation is not None else 0
        return self._engine.nbytes + averaged

    @property
    def averaged(self) -> nn.Module | None:
        """The model for evaluation, a `torch.optim.swa_utils.AveragedModel`; None without `ema`."""
        return self._evaluation.average if self._evaluation is not None else None

    def plot(self, steps: Any = None, losses: Any = None) -> Figure:
        """Plot the losses with the jumps in them, and the spectrum over time.

        Parameters
        ----------
        steps, losses : array of shape (k,), optional
            Losses of your own, such as validation losses, after these optimizer steps.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from koopcore.plotting.training import plot_run

        return plot_run(self.history, steps, losses)

    @property
    def stats(self) -> AcceleratorStats:
        """Counts and time up to now, as an `AcceleratorStats`."""
        taken = len(self.jumps)
        return AcceleratorStats(
            steps=self._ledger.steps,
            snapshots=self._snapshots,
            attempts=len(self.history),
            taken=taken,
            refused=len(self.history) - taken,
            trials=self._engine.trial.evaluations,
            seconds=self._ledger.own_seconds,
            overhead=self._ledger.overhead,
        )
