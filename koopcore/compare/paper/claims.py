"""What the paper claims, and what the measurements say: holds, does not, or where."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .cost import share_of_training
from .run import Results
from .tables import BEST, Network, middle, ranked, text

YES, NO, PARTLY, UNKNOWN = "yes", "no", "in part", "not run"
MUCH = 1.5  # times faster end to end, for "much faster"
TENFOLD = 0.1  # forecast over training time, for "more than ten times faster"


@dataclass(frozen=True)
class Claim:
    """A sentence that can be true or false, the verdict, when, and by which figure."""

    claim: str
    holds: str
    condition: str
    figure: str


def claims(results: Results) -> list[Claim]:
    """Return the verdicts on all claims and questions, from what was run."""
    found: list[Claim] = []
    for optimizer in results.plan.optimizers:
        networks = results.of("ode", optimizer)
        if networks:
            few = len(networks) <= BEST  # then the best are all
            found += [j(networks, optimizer) for j in ODE if not (few and j is selected)]
    classifiers, questions = results.of("mnist"), results.of("questions")
    if classifiers:
        found += [judge(classifiers) for judge in MNIST]
    if questions:
        found += [judge(questions) for judge in QUESTIONS]
    return found + [of_cost(timings) for timings in results.of("cost")]


def verdict(holding: int, count: int) -> str:
    """Return whether something holds in all, none or some networks."""
    return YES if holding == count else NO if holding == 0 else PARTLY


def faster(networks: Sequence[Network], optimizer: str) -> Claim:
    """Judge the speed inside the forecast window, with the published fit charged."""
    ratios = [n["partitions"]["node"]["with_pinv_to_training"] for n in networks]
    holding = sum(ratio < TENFOLD for ratio in ratios)
    return Claim(
        f"{optimizer}: forecasting T steps is more than ten times faster than training them",
        verdict(holding, len(ratios)),
        "node operators, the fit by pseudo-inverse charged",
        f"{text(1 / middle(ratios))} times (median); in {holding} of {len(ratios)} networks",
    )


def follows(networks: Sequence[Network], optimizer: str) -> Claim:
    """Judge the error of the published partition over all networks."""
    errors = [_or_inf(n["partitions"]["node"]["error_to_growth"]) for n in networks]
    holding = sum(error < 1 for error in errors)
    return Claim(
        f"{optimizer}: node operators follow the weights (error below growth)",
        verdict(holding, len(errors)),
        "all networks; 1 is no better than leaving the weights alone",
        f"error / growth {text(middle(errors))} (median), {holding} of {len(errors)} below 1",
    )


def selected(networks: Sequence[Network], optimizer: str) -> Claim:
    """Judge the same on the networks that the published figure would show."""
    best = ranked(networks)[:BEST]
    errors = [_or_inf(n["partitions"]["node"]["error_to_growth"]) for n in best]
    return Claim(
        f"{optimizer}: so do those of the best {BEST} networks",
        verdict(sum(error < 1 for error in errors), len(errors)),
        f"ranked by this very error, out of {len(networks)}",
        f"error / growth {text(middle(errors))} (median)",
    )


def layers(networks: Sequence[Network], optimizer: str) -> Claim:
    """Judge one operator per layer, which the paper draws and does not measure."""
    return _wide(networks, optimizer, "layer")


def whole(networks: Sequence[Network], optimizer: str) -> Claim:
    """Judge one operator of all weights, which the paper draws and does not measure."""
    return _wide(networks, optimizer, "network")


def trains(networks: Sequence[Network], optimizer: str) -> Claim:
    """Judge the loss at the forecast."""
    node = [_or_inf(n["partitions"]["node"]["loss"]) for n in networks]
    before = [n["loss_before"] for n in networks]
    holding = sum(after < was for after, was in zip(node, before, strict=True))
    true = middle(n["loss_true"] for n in networks)
    return Claim(
        f"{optimizer}: the forecast of the node operators lowers the loss",
        verdict(holding, len(networks)),
        "against the loss at the last snapshot",
        f"{text(middle(before))} before, {text(middle(node))} at the forecast, {text(true)} by "
        "training",
    )


def end_to_end(networks: Sequence[Network], optimizer: str) -> Claim:
    """Judge the time of a whole training."""
    most = networks[0]["end_to_end_at_most"]
    ratios = [n["partitions"]["node"]["end_to_end_pinv"] for n in networks]
    return Claim(
        f"{optimizer}: a training as a whole becomes much faster ({MUCH} times)",
        verdict(sum(ratio > MUCH for ratio in ratios), len(ratios)),
        "burn-in and window have to be trained",
        f"{text(middle(ratios), 4)} times, fit charged; {text(most, 4)} at most by counting steps",
    )


def beats(networks: Sequence[Network], optimizer: str) -> Claim:
    """Judge every partition against secant and average, by the loss."""
    holding, lines = 0, []
    plain = [min(n["rules"][r]["loss"] for r in ("secant", "mean", "stay")) for n in networks]
    for label in ("node", "layer", "network"):
        losses = [_or_inf(n["partitions"][label]["loss"]) for n in networks]
        wins = sum(a < b for a, b in zip(losses, plain, strict=True))
        holding += wins
        lines.append(f"{label} {wins}/{len(networks)}")
    mean = middle(n["rules"]["mean"]["loss"] for n in networks)
    return Claim(
        f"{optimizer}: it beats plain extrapolation, averaging and staying",
        verdict(holding, 3 * len(networks)),
        "by the loss; the best of the three plain ones in every network",
        f"wins: {', '.join(lines)}; loss of the window's average {text(mean)}",
    )


def late_only(networks: Sequence[Network], optimizer: str) -> Claim:
    """Judge forecasts from early windows."""
    found = {
        share: [_or_inf(n["early"][share]["node"]["error_to_growth"]) for n in networks]
        for share in networks[0]["early"]
    }
    holding = sum(error < 1 for errors in found.values() for error in errors)
    return Claim(
        f"{optimizer}: it works from early windows, too",
        verdict(holding, sum(map(len, found.values()))),
        "node operators; windows and horizons shrunk alike; error below growth",
        "; ".join(f"{share}: {text(middle(errors))}" for share, errors in found.items()),
    )


def observables(networks: Sequence[Network], optimizer: str) -> Claim:
    """Judge observables beyond the weights themselves."""
    names = [name for name in networks[0]["rules"] if name.startswith("koopcore, ")]
    errors = {n: [_or_inf(k["rules"][n]["error_to_growth"]) for k in networks] for n in names}
    base = errors.pop("koopcore, identity")
    better = sum(a < b for e in errors.values() for a, b in zip(e, base, strict=True))
    lines = [f"{n.removeprefix('koopcore, ')} {text(middle(e))}" for n, e in errors.items()]
    return Claim(
        f"{optimizer}: other observables than the weights help",
        verdict(better, sum(map(len, errors.values()))),
        "koopcore's node operators on 100 of the snapshots: a constant, delays",
        f"error / growth: identity {text(middle(base))}, {', '.join(lines)}",
    )


def classifier_trains(networks: Sequence[Network]) -> Claim:
    """Judge the test loss along the forecast of experiment 2."""
    return _classifier(networks, "node", "as published: singular values down to 1e-15 are kept")


def classifier_cut(networks: Sequence[Network]) -> Claim:
    """Judge the same with the noise of float32 cut."""
    return _classifier(networks, "node, cut", "singular values below float32's precision are cut")


def classifier_early(networks: Sequence[Network]) -> Claim:
    """Judge the window after as many epochs as were published."""
    early = [n["early"] for n in networks if "early" in n]
    if not early:
        return Claim("MNIST: the same after 5 epochs", UNKNOWN, "needs the full protocol", "")
    return _classifier(early, "node", f"after {early[0]['epochs']:.0f} epochs")


def classifier_faster(networks: Sequence[Network]) -> Claim:
    """Judge the time of experiment 2."""
    ratios = [n["partitions"]["node"]["with_fit_to_training"] for n in networks]
    steps = [
        n["partitions"]["node"]["step_seconds"] / n["optimizer_step_seconds"] for n in networks
    ]
    return Claim(
        "MNIST: forecasting is faster than training",
        verdict(sum(ratio < 1 for ratio in ratios), len(ratios)),
        "node operators, fit charged, over the longest forecast",
        f"{text(middle(ratios))} of the training time; one step takes {text(middle(steps))} "
        "optimizer steps",
    )


def classifier_beats(networks: Sequence[Network]) -> Claim:
    """Judge all operators of experiment 2 against the average of the window."""
    best = {
        name: middle(min(map(_or_inf, n["partitions"][name]["loss"])) for n in networks)
        for name in networks[0]["partitions"]
    }
    mean = middle(n["rules"]["mean"]["loss"][0] for n in networks)
    name = min(best, key=lambda label: best[label])
    return Claim(
        "MNIST: it beats the average of the window",
        verdict(sum(value < mean for value in best.values()), len(best)),
        "test loss, every operator at its best horizon",
        f"average {text(mean)}; best operators: {name}, {text(best[name])}",
    )


def stochastic(networks: Sequence[Network]) -> Claim:
    """Judge node operators under noise."""
    errors = [_or_inf(n["jitter"]["partitions"]["node"]["error_to_growth"]) for n in networks]
    return Claim(
        "noise in training (perturbed points) leaves the forecasts useful",
        verdict(sum(error < 1 for error in errors), len(errors)),
        "node operators, deviation of 0.03 of the spacing; error below growth",
        f"error / growth {text(middle(errors))}",
    )


def rates(networks: Sequence[Network]) -> Claim:
    """Judge the published operators while the learning rate falls."""
    found: dict[str, list[float]] = {}
    for network in networks:
        for name, rule in network["decay"]["end"]["rules"].items():
            found.setdefault(name, []).append(_or_inf(rule["error_to_growth"]))
    errors = found["published"]
    known = found["koopcore, rates to come"]
    return Claim(
        "the published operators forecast under a falling learning rate",
        verdict(sum(error < 1 for error in errors), len(errors)),
        "the last window, rate falling linearly to zero",
        f"error / growth {text(middle(errors))}; the rate as a known input, those to come "
        f"included: {text(middle(known))}",
    )


def of_cost(timings: dict[str, Any]) -> Claim:
    """Judge the complexity analysis by the fitted exponents."""
    found = timings["exponents"]["pinv"]
    near = [abs(found["K"] - 1) < 0.3, abs(found["m"] - 1) < 0.3, 1.7 < found["d"] < 3.3]
    one, two = share_of_training(10_000, 11, 200, 2_500), share_of_training(1_876, 785, 64, 938)
    return Claim(
        "the fit costs about K (6 m d^2 + 22 d^3)",
        verdict(sum(near), len(near)),
        f"it pays where m d is well below B T: {one:.2f} in experiment 1, {two:.1f} in 2",
        f"exponents of the pseudo-inverse: K {found['K']:.2f}, m {found['m']:.2f}, "
        f"d {found['d']:.2f}",
    )


def _wide(networks: Sequence[Network], optimizer: str, label: str) -> Claim:
    errors = [_or_inf(n["partitions"][label]["error_to_growth"]) for n in networks]
    holding = sum(error < 1 for error in errors)
    loss = middle(n["partitions"][label]["loss"] for n in networks)
    return Claim(
        f"{optimizer}: {label} operators follow the weights",
        verdict(holding, len(networks)),
        "the same data, more weights in one operator",
        f"error / growth {text(middle(errors))} (median), {holding} of {len(errors)} below 1; "
        f"loss {text(loss)}",
    )


def _classifier(networks: Sequence[Network], label: str, condition: str) -> Claim:
    horizons, stay = networks[0]["horizons"], [n["rules"]["stay"]["loss"][0] for n in networks]
    losses = [[_or_inf(v) for v in n["partitions"][label]["loss"]] for n in networks]
    better = sum(v < was for row, was in zip(losses, stay, strict=True) for v in row)
    lines = [
        f"+{h}: {text(middle(column))}"
        for h, column in zip(horizons, zip(*losses, strict=True), strict=True)
    ]
    return Claim(
        f"MNIST: the forecast of the {label} operators lowers the test loss",
        verdict(better, len(networks) * len(horizons)),
        condition,
        f"staying {text(middle(stay))}; {', '.join(lines)}",
    )


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else value


ODE: list[Callable[[Sequence[Network], str], Claim]] = [
    faster,
    follows,
    selected,
    layers,
    whole,
    trains,
    end_to_end,
    beats,
    late_only,
    observables,
]
MNIST = [classifier_trains, classifier_cut, classifier_early, classifier_faster, classifier_beats]
QUESTIONS = [stochastic, rates]
