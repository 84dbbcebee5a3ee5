"""Who takes part in the arena by default, by name.

To add a rule, give an object of its class a name here: ``ARENA_RULES["mine"] = Mine()``. It needs
``coefficients(gram, horizon)`` (see `koopcore.rules.Rule`) or ``forecast(window, horizon,
parameters)`` (see `koopcore.compare.arena.Predictor`). Nothing here was tuned on the stored
trajectories: options are the defaults of `koopcore.rules`, or say what the name says.
"""

from __future__ import annotations

from koopcore.rules import (
    Anderson,
    Dynamics,
    ExponentialAverage,
    Polynomial,
    RankOneLinear,
    Rule,
    Secant,
    UniformAverage,
)

from .predictors import FromRule, Grouped, Pinv, Predictor

CONTROLS = ("stay", "secant")

ARENA_RULES: dict[str, Rule | Predictor] = {
    "stay": UniformAverage(last=1),  # what every forecast has to beat
    "secant": Secant(),
    "secant-window": Secant(over=None),
    "line": Polynomial(1),
    "parabola": Polynomial(2),
    "rank-1-line": RankOneLinear(),
    "mean": UniformAverage(),
    "ema-0.8": ExponentialAverage(0.8),
    "anderson": Anderson(),
    "dmd": Dynamics(),
    "dmd-1": Dynamics(rank=1),
    "dmd-2": Dynamics(rank=2),
    "dmd-2-tls": Dynamics(rank=2, variant="tls"),
    "dmd-2-delays": Dynamics(rank=2, delays=2),
    "dmd-node": Grouped("node"),
    "dmd-node-1": Grouped("node", rank=1),
    "pinv-weight": Pinv("weight"),
    "pinv-quasi-5": Pinv(("quasi-node", 5)),
    "pinv-node": Pinv("node"),
    "pinv-layer": Pinv("layer"),
    "pinv-network": Pinv("network"),
}


def predictors(names: tuple[str, ...] | None = None) -> dict[str, Predictor]:
    """Return predictors by name, the controls first.

    Parameters
    ----------
    names : tuple of str, optional
        Of `ARENA_RULES`. Default: all.

    Raises
    ------
    ValueError
        An unknown name; the message lists those there are.
    TypeError
        An entry that is neither a rule nor a predictor.
    """
    chosen = tuple(dict.fromkeys((*CONTROLS, *(ARENA_RULES if names is None else names))))
    found = {}
    for name in chosen:
        if name not in ARENA_RULES:
            raise ValueError(f"unknown rule {name!r}; known rules: {', '.join(ARENA_RULES)}")
        entry = ARENA_RULES[name]
        if not isinstance(entry, Predictor):
            if not hasattr(entry, "coefficients"):
                raise TypeError(
                    f"rule {name!r} is {entry!r}, which has neither coefficients(gram, horizon) "
                    "nor forecast(window, horizon, parameters)"
                )
            entry = FromRule(entry)
        found[name] = entry
    return found
