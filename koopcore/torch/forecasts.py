"""From the Gram matrices of a window to forecasts of the weights.

A rule (`koopcore.rules`) gives every operator of a partition its coefficients on the snapshots. Of
several rules the one that best forecasts the window's own last snapshots from those before is
taken. Nothing here touches the weights but the one combination that a forecast is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from koopcore import StreamingDMD, WindowDMD, _core
from koopcore._problem import Fitted as FittedProblem
from koopcore._problem import Problem, fit
from koopcore.rules import Dynamics, Rule
from koopcore.torch._scheduled import ScheduledDynamics
from koopcore.torch.windows import Window

HELD_OUT = 3  # snapshots at the end of a window that cross-validation forecasts
KEPT_EIGENVALUES = 256  # of a partition's spectrum, in the history


class Forecast(Protocol):
    """A fit of one window: forecasts from its last snapshot."""

    rule: str

    def write(self, horizon: float, out: Sequence[torch.Tensor]) -> None:
        """Write the state `horizon` snapshots ahead into `out`."""

    def coefficients(self, horizon: float) -> NDArray[np.float64] | None:
        """Coefficients on the snapshots, (operators, snapshots); None where there are none."""

    def displacement(self, horizon: float) -> float:
        """Distance that a forecast goes, in units of the window's own; nan where not known."""

    def spectrum(self) -> NDArray[np.complex128]:
        """Eigenvalues of the fit, per snapshot; none for rules without any."""


class RuleForecast:
    """The forecast of one rule on one window."""

    def __init__(self, window: Window, grams: NDArray[Any], rows: NDArray[Any], rule: Rule) -> None:
        self._window, self._grams = window, grams
        self._coefficients = _fit(rule, grams, rows)
        self.rule = repr(rule)
        self.share = (getattr(rule, "last", None) or grams.shape[1]) / grams.shape[1]

    def coefficients(self, horizon: float) -> NDArray[np.float64]:
        """Coefficients on the snapshots, (operators, snapshots)."""
        return self._coefficients(horizon)

    def write(self, horizon: float, out: Sequence[torch.Tensor]) -> None:
        """Write the state `horizon` snapshots ahead into `out`."""
        self._window.combine(self.coefficients(horizon), out)

    def displacement(self, horizon: float) -> float:
        """Distance from the last snapshot to the forecast over that from the first to the last."""
        return _displacement(self.coefficients(horizon), self._grams)

    def spectrum(self) -> NDArray[np.complex128]:
        """Eigenvalues of the fit, of a fair sample of the operators where there are many."""
        values = getattr(self._coefficients, "eigenvalues", np.empty(0, np.complex128))
        step = -(-len(values) // KEPT_EIGENVALUES) or 1
        return values[::step]


class OperatorForecast:
    """The forecast of a WindowDMD or a StreamingDMD of the user's."""

    def __init__(self, operator: WindowDMD | StreamingDMD) -> None:
        self._operator = operator
        self.rule = type(operator).__name__

    def coefficients(self, horizon: float) -> None:
        """None: a stream has no snapshots to put coefficients on."""
        return

    def write(self, horizon: float, out: Sequence[torch.Tensor]) -> None:
        """Write the state `horizon` snapshots ahead into `out`."""
        with torch.no_grad():
            dense = [t.detach().contiguous() for t in out]
            self._operator.forecast(horizon, out=[t.view(-1).numpy() for t in dense])
            for given, written in zip(out, dense, strict=True):
                if written.data_ptr() != given.data_ptr():
                    given.copy_(written)

    def displacement(self, horizon: float) -> float:
        """As for rules; not known (nan) for a stream."""
        if isinstance(self._operator, StreamingDMD):
            return np.nan
        return _displacement(self._operator.coefficients(horizon)[None], self._operator.gram[None])

    def spectrum(self) -> NDArray[np.complex128]:
        """Eigenvalues of the fit."""
        return self._operator.eigenvalues


def _displacement(coefficients: NDArray[np.float64], grams: NDArray[np.float64]) -> float:
    change, span = np.array(coefficients), np.zeros_like(coefficients)
    change[:, -1] -= 1.0
    span[:, 0], span[:, -1] = -1.0, 1.0
    moved, travelled = (np.einsum("ki,kij,kj->", v, grams, v) for v in (change, span))
    return float(np.sqrt(max(moved, 0.0) / travelled)) if travelled > 0 else np.nan


class _Grouped:
    """Coefficients of many small operators, from their Gram matrices in one call."""

    def __init__(self, rule: Dynamics, grams: NDArray[Any], rows: NDArray[Any]) -> None:
        self._fit = _core.GroupedDmd.from_grams(grams, rows, **rule.options.of_core())

    def __call__(self, horizon: float) -> NDArray[np.float64]:
        return np.ascontiguousarray(self._fit.forecast([float(horizon)]).T)

    @property
    def eigenvalues(self) -> NDArray[np.complex128]:
        return np.concatenate(self._fit.eigenvalues)


class _Single:
    """Coefficients of one operator; every horizon shares one fit."""

    def __init__(self, rule: Dynamics, gram: NDArray[Any], rows: int) -> None:
        self._fit: FittedProblem = fit(Problem(gram, n_features=rows), rule.options)

    def __call__(self, horizon: float) -> NDArray[np.float64]:
        return self._fit.core.forecast(float(horizon))[None]

    @property
    def eigenvalues(self) -> NDArray[np.complex128]:
        return self._fit.core.eigenvalues


class _Each:
    """Coefficients of any rule, operator by operator."""

    def __init__(self, rule: Rule, grams: NDArray[Any]) -> None:
        self._rule, self._grams = rule, grams

    def __call__(self, horizon: float) -> NDArray[np.float64]:
        return np.stack([self._rule.coefficients(gram, float(horizon)) for gram in self._grams])

    @property
    def eigenvalues(self) -> NDArray[np.complex128]:
        spectrum = getattr(self._rule, "eigenvalues", None)
        found = [spectrum(gram) for gram in self._grams] if spectrum is not None else []
        return np.concatenate([np.empty(0, np.complex128), *found])


def _fit(rule: Rule, grams: NDArray[Any], rows: NDArray[Any]) -> Any:
    """Return the function from a horizon to coefficients."""
    if not isinstance(rule, Dynamics):
        return _Each(rule, grams)
    if len(grams) == 1:
        return _Single(rule, grams[0], int(rows[0]))
    return _Grouped(rule, grams, rows)


def _scheduled(rule: Rule, rates: Sequence[float], ahead: float) -> Rule:
    """Let learning rates enter a rule that can take them."""
    if not isinstance(rule, Dynamics):
        return rule
    return ScheduledDynamics(rates, ahead, rule.options.max_rank or None)


def validation_errors(
    rule: Rule, grams: NDArray[Any], rows: NDArray[Any], held_out: int = HELD_OUT
) -> NDArray[np.float64]:
    """Errors of a rule on the window's own last snapshots, from the Gram matrices alone.

    The window is cut after each of its last snapshots in turn; the rule, fitted to what is before
    the cut, forecasts all that is after it. ``|s - S c|^2 = e^T G e`` with ``e = c - unit(s)``, so
    that no snapshot is touched.

    Returns
    -------
    ndarray of shape (held_out,)
        Squared errors 1, 2, ... snapshots ahead, over those of staying at the cut; infinity
        where the rule cannot be fitted or nothing moved.
    """
    count = grams.shape[1]
    errors, stays = np.zeros(held_out), np.zeros(held_out)
    for cut in range(count - held_out, count):
        try:
            coefficients = _fit(rule, np.ascontiguousarray(grams[:, :cut, :cut]), rows)
            for ahead in range(1, count - cut + 1):
                e = np.zeros((len(grams), count))
                e[:, :cut] = coefficients(ahead)
                e[:, cut - 1 + ahead] -= 1.0
                stay = np.zeros(count)
                stay[cut - 1], stay[cut - 1 + ahead] = 1.0, -1.0
                errors[ahead - 1] += np.einsum("ki,kij,kj->", e, grams, e)
                stays[ahead - 1] += np.einsum("i,kij,j->", stay, grams, stay)
        except (ValueError, RuntimeError, np.linalg.LinAlgError):
            return np.full(held_out, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(stays > 0, np.maximum(errors, 0.0) / stays, np.inf)


class RuleForecaster:
    """A window with its rules.

    Parameters
    ----------
    window : Window
    rows : ndarray of shape (operators,)
        Numbers per operator.
    rules : sequence of Rule
        One, or several to choose from by cross-validation in every window.
    try_all : bool
        Leave the choice to trials.
    """

    def __init__(
        self, window: Window, rows: NDArray[Any], rules: Sequence[Rule], try_all: bool = False
    ) -> None:
        self.window, self._rows, self._rules = window, rows, tuple(rules)
        self._try_all = try_all

    def __len__(self) -> int:
        return len(self.window)

    def push(self, tensors: Sequence[torch.Tensor]) -> None:
        """Append a snapshot."""
        self.window.push(tensors)

    def clear(self) -> None:
        """Forget all snapshots."""
        self.window.clear()

    @property
    def nbytes(self) -> int:
        """Memory of the full window."""
        return self.window.nbytes

    def fit(self, rates: Sequence[float] = (), ahead: float = 0.0) -> list[RuleForecast]:
        """Fit the window.

        Parameters
        ----------
        rates : sequence of float
            Learning rates summed between successive snapshots, where they are to enter the fit of
            `koopcore.rules.Dynamics`; see `ScheduledDynamics`.
        ahead : float
            The same between snapshots to come.

        Returns
        -------
        list of RuleForecast
            One to try per rule or, where cross-validation chooses, that of the best rule; none if
            no rule forecasts the window's last snapshots better than staying.
        """
        grams = self.window.grams()
        if not np.isfinite(grams).all():
            raise ValueError("the Gram matrix of the window is not finite")
        rules = self._rules
        if len(rates):
            rules = tuple(_scheduled(rule, rates, ahead) for rule in rules)
        if len(rules) > 1 and not self._try_all:
            errors = [validation_errors(rule, grams, self._rows).mean() for rule in rules]
            best = int(np.argmin(errors))
            rules = (rules[best],) if errors[best] < 1.0 else ()
        return [RuleForecast(self.window, grams, self._rows, rule) for rule in rules]

    def errors(self) -> NDArray[np.float64]:
        """Cross-validation errors of the first rule on the window as it is."""
        return validation_errors(self._rules[0], self.window.grams(), self._rows)

    def state_dict(self) -> dict:
        """Return what goes on with the same bits when loaded."""
        return self.window.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Take up the snapshots of another forecaster made alike."""
        self.window.load_state_dict(state)


class OperatorForecaster:
    """A WindowDMD or StreamingDMD of the user's in the place of window and rule.

    Parameters
    ----------
    operator : WindowDMD or StreamingDMD
    """

    def __init__(self, operator: WindowDMD | StreamingDMD) -> None:
        self.operator, self._count = operator, 0

    def __len__(self) -> int:
        return self._count

    def push(self, tensors: Sequence[torch.Tensor]) -> None:
        """Append a snapshot."""
        self.operator.update([t.detach().contiguous().view(-1).numpy() for t in tensors])
        self._count += 1

    def clear(self) -> None:
        """Forget all snapshots."""
        self.operator.clear()
        self._count = 0

    @property
    def nbytes(self) -> int:
        """Not known before the first snapshot: 0."""
        return 0

    def fit(self) -> list[OperatorForecast]:
        """Return the operator's forecasts."""
        return [OperatorForecast(self.operator)]

    def state_dict(self) -> dict:
        """Return what goes on with the same bits when loaded."""
        state = {
            key: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
            for key, value in self.operator.state_dict().items()
        }
        return {"operator": state, "count": self._count}

    def load_state_dict(self, state: dict) -> None:
        """Take up the snapshots of another forecaster made alike."""
        self.operator.load_state_dict(
            {
                key: value.numpy() if isinstance(value, torch.Tensor) else value
                for key, value in state["operator"].items()
            }
        )
        self._count = int(state["count"])
