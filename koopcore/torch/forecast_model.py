"""ForecastModel: follows a training run and offers the weights that are best for evaluation.

Modelled on `torch.optim.swa_utils.AveragedModel`. Training is never touched, so that nothing can be
lost by it; what the forecasts of `KoopmanAccelerator` would risk, a trial decides here.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import distributed, nn

from koopcore.rules import Dynamics, Polynomial, Rule, UniformAverage
from koopcore.torch import _arguments
from koopcore.torch._candidates import Contest, Selection, Stage
from koopcore.torch._follower import Follower, Once, copy_into, signature
from koopcore.torch.recorder import unwrapped
from koopcore.torch.trial import RefusedJump, default_horizons

FORMAT = 1
CHOSEN = "lowest trial loss, and better than the present weights"
STAYED = "nothing beats the present weights"


class ForecastModel(nn.Module):
    """The best of present, averaged and forecast weights, by a trial on data kept aside.

    Call `update_parameters` after every optimizer step, and `choose` before an evaluation:
    `module`, a copy of the model that follows the training, then holds the winner among

    - ``"current"``, the present weights, to which ties go;
    - the `averages`: running exponential ones of all iterates, and those of the window;
    - the forecasts of each rule over the ladder of `horizons`;
    - with a `fit_loss`, the point in the span of the window's snapshots that minimises it,

    until the next `update_parameters`. The last two, and averages of the window, take part once
    `window` snapshots have been taken. Of the model in training nothing is ever written: weights,
    buffers, optimizer state and torch's random numbers are to the bit what they would be without.

    Parameters
    ----------
    model : torch.nn.Module
        Parameters of one floating-point type on one device; copied. Wrappers of `torch.compile` and
        DistributedDataParallel are looked through. Under the latter, every process chooses alike,
        by losses averaged over all.
    trial_loss : callable
        ``trial_loss(model)`` returns the loss to choose by, on data kept aside for it, as a real
        scalar; or a vector of the losses of several batches or samples, whose mean must then fall
        by two standard errors of the paired differences. See `KoopmanAccelerator`: buffers,
        training flags and random numbers are put back after it. Data that it has chosen by can no
        longer measure how good the choice is.
    every : int, default 30
        Steps (calls of `update_parameters`) between snapshots.
    window : int, default 10
        Snapshots in the window, at least 3.
    average : int, optional
        Of the iterates between two snapshots, how many (evenly spread) a snapshot is the mean of;
        1: the snapshot is the iterate itself. Default: all of them, which is best under the noise
        of mini-batches and does no harm without it.
    rule : rule or sequence of rules, optional
        Of `koopcore.rules`, for forecasts; default ``Polynomial(1)`` and ``Dynamics(rank=2)``. Each
        is tried.
    horizons : sequence of int, optional
        Increasing numbers of steps beyond the last snapshot; the climb ends when the loss has risen
        twice in a row. By default half the span of the window, doubled until 25,600 steps are
        reached.
    averages : sequence of float or rule
        A number is the decay per step of an exponential average of all iterates, the same as that
        of ``AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))``, and takes the memory
        of the model. A rule is one that knows no horizon (`koopcore.rules.UniformAverage`,
        `ExponentialAverage`, `Anderson`), on the window.
    fit_loss : callable, optional
        Like `trial_loss` but differentiable, on *other* data: fitted on those that it is judged
        by, a candidate would be favoured. A vector counts by its mean.
    fitted_steps : int, default 10
        Iterations of L-BFGS for it, of one to two gradients each.
    partition : str, tuple or dict, default "network"
        Which parameters share an operator, as for `KoopmanAccelerator`.
    storage : torch.dtype or str, optional
        Where the window lies: ``torch.bfloat16``, "cpu", or the path of a file or folder, as for
        `KoopmanAccelerator`.
    use_buffers : bool, default False
        As for `AveragedModel`: False, buffers are those of the model at the last update; True,
        floating-point buffers are averaged (and forecast) like parameters. With BatchNorm, either
        set it, or let `trial_loss` compute the running statistics anew
        (``torch.optim.swa_utils.update_bn(some_batches, model)``), and do that to this model too
        after `choose`.

    Attributes
    ----------
    module : torch.nn.Module
        The choice, or before any the present weights.

    Raises
    ------
    TypeError, ValueError
        For arguments that cannot work; the message names the argument and its value.

    Examples
    --------
    >>> import torch
    >>> from koopcore.torch import ForecastModel
    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(300, 3)
    >>> y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    >>> def loss(model, part=slice(0, 200)):
    ...     return torch.nn.functional.mse_loss(model(x[part]), y[part])
    >>> best = ForecastModel(model, lambda m: loss(m, slice(200, 300)), every=5)
    >>> for _ in range(50):
    ...     optimizer.zero_grad()
    ...     loss(model).backward()
    ...     optimizer.step()
    ...     best.update_parameters(model)
    >>> selection = best.choose()
    >>> selection.loss < 0.1 * selection.loss_current
    True
    """

    def __init__(
        self,
        model: nn.Module,
        trial_loss: Callable[[nn.Module], object],
        *,
        every: int = 30,
        window: int = 10,
        average: int | None = None,
        rule: Rule | Sequence[Rule] | None = None,
        horizons: Sequence[int] | None = None,
        averages: Sequence[float | Rule] = (0.9, 0.98, UniformAverage()),
        fit_loss: Callable[[nn.Module], object] | None = None,
        fitted_steps: int = 10,
        partition: Any = "network",
        storage: torch.dtype | str | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        # In a tuple, a loss that is itself a module does not become a submodule.
        self._losses = (
            _function("trial_loss", trial_loss),
            None if fit_loss is None else _function("fit_loss", fit_loss),
        )
        window = _arguments.integer("window", window, at_least=3)
        every = _arguments.integer("every", every, at_least=1)
        average = every if average is None else average
        decays, self._window_averages = _averages(averages)
        self._rules = (Polynomial(1), Dynamics(rank=2)) if rule is None else _arguments.rules(rule)
        self._horizons = (
            default_horizons(window // 2, every)
            if horizons is None
            else _arguments.ladder(horizons)
        )
        self._fitted_steps = _arguments.integer("fitted_steps", fitted_steps, at_least=1)
        self._once = Once()
        self._options = {
            "partition": partition,
            "window": window,
            "every": every,
            "average": _arguments.averaging(average, 0.0, every)["average"],
            "decays": decays,
            "storage": storage,
            "use_buffers": bool(use_buffers),
            "once": self._once,
        }
        self._shared = (
            isinstance(model, nn.parallel.DistributedDataParallel)
            and distributed.get_world_size() > 1
        )
        self._begin(unwrapped(model))

    def _begin(self, model: nn.Module) -> None:
        self._follower = Follower(model, **self._options)
        self.module = copy.deepcopy(model)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run `module`."""
        return self.module(*args, **kwargs)

    @property
    def steps(self) -> int:
        """Calls of `update_parameters`."""
        return self._follower.steps

    @property
    def nbytes(self) -> int:
        """Memory in bytes held once the window is full; `choose` takes that of the model more.

        With a `fit_loss`, `choose` takes in addition once the parameters per snapshot.
        """
        own = [*self.module.parameters(), *self.module.buffers()]
        return sum(t.nbytes for t in own) + self._follower.nbytes

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take note of the model after an optimizer step; `module` becomes what it is now.

        Parameters
        ----------
        model : torch.nn.Module
            The model in training, as given at the beginning. Where other parameters are trained
            than before, or they have other shapes, types or places, everything starts afresh,
            with one message.
        """
        model = unwrapped(model)
        if not self._follower.fits(model):
            self._once.warn(
                "parameters",
                f"ForecastModel, step {self.steps}: the model has other parameters than before, "
                "or trains others; averages and window start afresh",
            )
            self._begin(model)
        copy_into(list(self.module.parameters()), list(model.parameters()))
        copy_into(list(self.module.buffers()), list(model.buffers()))
        self._follower.update(model)

    def choose(self, trial_loss: Callable[[nn.Module], object] | None = None) -> Selection:
        """Try all candidates and make the best one `module`.

        Parameters
        ----------
        trial_loss : callable, optional
            In the place of that given at the beginning.

        Returns
        -------
        Selection
            The choice, and the table of all candidates with their losses. Candidates whose trial
            fails do not win; if that of the present weights fails, `module` stays as it was.
            Either is logged once.

        Raises
        ------
        RuntimeError
            The module has been moved or converted since the last update.
        """
        start = time.perf_counter()
        loss = self._losses[0] if trial_loss is None else _function("trial_loss", trial_loss)
        if signature(self.module) != self._follower.signature:
            raise RuntimeError(
                "the parameters of ForecastModel have been moved or converted since the last "
                "update; do that to the model in training, and call update_parameters"
            )
        stage = Stage(self.module, self._follower, loss, self._shared)
        contest = Contest(stage, self._once)
        try:
            self._hold(contest)
            contest.settle()
        except RefusedJump as refusal:
            stage.undo()
            self._once.warn(
                refusal.kind,
                f"nothing chosen at step {self.steps}: {refusal.reason}",
                refusal.__cause__,
            )
            return self._selection(contest, start, refusal.reason)
        except BaseException:
            stage.undo()
            raise
        return self._selection(contest, start)

    def _hold(self, contest: Contest) -> None:
        """Let all candidates compete."""
        follower, fit_loss = self._follower, self._losses[1]
        contest.enter_current()
        for decay, mean in zip(follower.decays, follower.averages, strict=True):
            if follower.averaging:
                contest.enter(f"EMA {decay:g}", lambda mean=mean: contest.stage.put(mean))
        if not follower.ready:
            return
        for average in self._window_averages:
            contest.enter_average(average)
        for rule in self._rules:
            contest.enter_rule(rule, self._horizons)
        if fit_loss is not None:
            contest.enter_fitted(fit_loss, self._fitted_steps, self._shared)

    def _selection(self, contest: Contest, start: float, refused: str = "") -> Selection:
        best = contest.best
        chosen = STAYED if best.name == "current" else CHOSEN
        return Selection(
            step=self.steps,
            name="" if refused else best.name,
            horizon=best.horizon,
            loss=math.nan if refused else best.loss,
            loss_current=contest.table[0].loss if contest.table else math.nan,
            table=tuple(contest.table),
            reason=refused or chosen,
            trials=contest.stage.trial.evaluations,
            fit_evaluations=contest.fit_evaluations,
            seconds=time.perf_counter() - start,
        )

    def get_extra_state(self) -> dict[str, Any]:
        """All but `module`, for `state_dict`: tensors, numbers, strings, lists and dicts."""
        return {
            "format": FORMAT,
            "follower": self._follower.state_dict(),
            "logged": sorted(self._once.kinds),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_extra_state` gave, to go on with the same bits.

        Raises
        ------
        ValueError
            It is of another version, or of a ForecastModel made otherwise.
        """
        if state.get("format") != FORMAT:
            raise ValueError(
                f"state has format {state.get('format')!r}; this version reads {FORMAT!r}"
            )
        self._follower.load_state_dict(state["follower"])
        self._once.kinds = set(state["logged"])


def _function(name: str, given: object) -> Callable:
    if not callable(given):
        raise TypeError(f"{name} must be a function of the model, got {type(given).__name__}")
    return given


def _averages(given: object) -> tuple[tuple[float, ...], tuple[Rule, ...]]:
    """Part decays from rules."""
    if not isinstance(given, list | tuple):
        raise TypeError(f"averages must be a sequence of decays and rules, got {given!r}")
    rules = [one for one in given if callable(getattr(one, "coefficients", None))]
    decays = [_arguments.number("averages", one, 0.0, 1.0) for one in given if one not in rules]
    return tuple(decays), tuple(rules)
