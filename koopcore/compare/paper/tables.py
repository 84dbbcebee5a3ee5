"""The tables of the report, and the medians in them. A number that is not finite is infinite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .cost import share_of_training
from .run import Results

BEST = 11  # networks that the published figure shows, of 25
Network = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Cells as text; the first row is the header."""

    title: str
    rows: list[list[str]]
    note: str = ""


def middle(values: Iterable[float | None]) -> float:
    """Return the median, what is not finite counted as infinite."""
    return median(math.inf if value is None else value for value in values)


def all_finite(values: Iterable[float]) -> bool:
    """Say whether all of the numbers are finite."""
    return all(map(math.isfinite, values))


def text(value: float | None, digits: int = 3) -> str:
    """Return a number as a cell."""
    if value is None or not math.isfinite(value):
        return "inf"
    return f"{value:.{digits}g}"


def ranked(networks: Sequence[Network]) -> list[Network]:
    """Return the networks by the error of their node operators, the best first."""
    return sorted(networks, key=lambda n: middle([n["partitions"]["node"]["error_to_growth"]]))


def tables(results: Results) -> list[Table]:
    """Return all tables of what was run."""
    found: list[Table] = []
    for optimizer in results.plan.optimizers:
        networks = results.of("ode", optimizer)
        if networks:
            found += [by_partition(networks, optimizer), by_network(networks, optimizer)]
            found += [early(networks, optimizer)]
    classifiers = results.of("mnist")
    if classifiers:
        found += [along_forecast(classifiers, "Experiment 2"), classifier_cost(classifiers)]
        after_epochs = [n["early"] for n in classifiers if "early" in n]
        if after_epochs:
            found.append(along_forecast(after_epochs, "Experiment 2, early window"))
    questions = results.of("questions")
    if questions:
        found += [decay(questions), jitter(questions)]
    for timings in results.of("cost"):
        found += [cost(timings), exponents(timings)]
    return found


def by_partition(networks: Sequence[Network], optimizer: str) -> Table:
    """Return medians over the networks of experiment 1, one row per partition and rule."""
    header = [
        "operators",
        "error / growth",
        f"best {BEST}",
        "below 1",
        "loss",
        "forecast / training",
    ]
    header += ["with fit", "one step, microseconds", "end to end", "largest modulus"]
    best = ranked(networks)[:BEST]
    rows = [header]
    for label in networks[0]["partitions"]:
        found = [n["partitions"][label] for n in networks]
        rows.append(
            [
                label,
                *_errors(networks, best, "partitions", label),
                *(text(middle(f[key] for f in found)) for key in ("loss", "forecast_to_training")),
                text(middle(f["with_fit_to_training"] for f in found)),
                text(middle(f["step_seconds"] for f in found) * 1e6),
                text(middle(f["end_to_end"] for f in found), 4),
                text(middle(largest_modulus(f) for f in found), 6),
            ]
        )
    rows[0][1] += " (median)"
    for label in networks[0]["rules"]:
        loss = text(middle(n["rules"][label]["loss"] for n in networks))
        rows.append([label, *_errors(networks, best, "rules", label), loss, *[""] * 5])
    rows.append(
        ["training", "0", "0", "", text(middle(n["loss_true"] for n in networks)), *[""] * 5]
    )
    count = len(networks)
    return Table(
        f"Experiment 1, {optimizer}: medians of {count} networks",
        rows,
        f"best {BEST}: the median of those with the least error of the node operators, which is "
        "how the published figure chose them out of 25. below 1: networks whose error is below the "
        "growth. end to end: time of all steps over that of window, fit and forecast; in steps it "
        f"is {networks[0]['end_to_end_at_most']:.4g} at most.",
    )


def by_network(networks: Sequence[Network], optimizer: str) -> Table:
    """Return the figures of every network of experiment 1."""
    header = [
        "network",
        "error / growth: node",
        "layer",
        "network",
        "forecast / training",
        "with fit",
    ]
    header += ["with pinv", "loss before", "true", "node", "layer", "network"]
    rows = [header]
    for network in networks:
        node, layer, whole = (network["partitions"][k] for k in ("node", "layer", "network"))
        cells = [found["error_to_growth"] for found in (node, layer, whole)]
        cells += [node["forecast_to_training"], node["with_fit_to_training"]]
        cells += [node["with_pinv_to_training"], network["loss_before"], network["loss_true"]]
        cells += [found["loss"] for found in (node, layer, whole)]
        rows.append([f"seed {network['seed']}", *map(text, cells)])
    return Table(f"Experiment 1, {optimizer}: every network", rows)


def early(networks: Sequence[Network], optimizer: str) -> Table:
    """Return what earlier windows give."""
    names = ["stay", "secant", "mean", "koopcore, affine"]
    header = ["window ends at", "step", "horizon", "error / growth: node", *names[1:]]
    header += ["loss: node", *names, "training"]
    rows = [header]
    for share, first in networks[0]["early"].items():
        found = [n["early"][share] for n in networks]
        cells = [middle(f["node"]["error_to_growth"] for f in found)]
        cells += [middle(f["rules"][n]["error_to_growth"] for f in found) for n in names[1:]]
        cells += [middle(f["node"]["loss"] for f in found)]
        cells += [middle(f["rules"][name]["loss"] for f in found) for name in names]
        cells += [middle(f["loss_true"] for f in found)]
        rows.append([share, str(first["last"]), str(first["horizon"]), *map(text, cells)])
    note = "The protocol shrunk to a share of all its steps, window and horizon alike."
    return Table(f"Earlier windows, {optimizer}: medians of {len(networks)} networks", rows, note)


def along_forecast(networks: Sequence[Network], title: str) -> Table:
    """Return losses, accuracy and error along the forecasts of experiment 2."""
    horizons = networks[0]["horizons"]
    header = ["forecast by", *(f"test loss +{h}" for h in horizons)]
    header += [f"accuracy +{h}" for h in horizons] + [f"training loss +{horizons[-1]}"]
    rows = [[*header, f"error / growth +{horizons[-1]}"]]
    for kind in ("rules", "partitions"):
        for name in networks[0][kind]:
            found = [n[kind][name] for n in networks]
            cells = [text(middle(f["loss"][i] for f in found)) for i in range(len(horizons))]
            cells += [text(middle(f["accuracy"][i] for f in found)) for i in range(len(horizons))]
            cells += [text(middle(f[key][-1] for f in found)) for key in ("train_loss",)]
            rows.append([name, *cells, text(middle(f["error_to_growth"][-1] for f in found))])
    epochs = networks[0]["epochs"]
    return Table(
        f"{title}: forecasts from iteration {networks[0]['protocol']['last']}",
        rows,
        f"{len(networks)} networks, medians; {epochs:.1f} epochs of the 3,744 images lie before. "
        "cut: singular values below the precision of float32 weights are cut, as "
        "torch.linalg.pinv does by itself.",
    )


def classifier_cost(networks: Sequence[Network]) -> Table:
    """Return the costs of experiment 2."""
    header = [
        "operators",
        "number",
        "route",
        "fit, s",
        "forecast, s",
        "fit and forecast / training",
    ]
    rows = [[*header, "one step / optimizer step", "end to end", "largest modulus"]]
    for label, first in networks[0]["partitions"].items():
        found = [n["partitions"][label] for n in networks]
        steps = [
            f["step_seconds"] / n["optimizer_step_seconds"]
            for f, n in zip(found, networks, strict=True)
        ]
        cells = [middle(f[key] for f in found) for key in ("fit_seconds", "forecast_seconds")]
        cells += [middle(f["with_fit_to_training"] for f in found), middle(steps)]
        cells += [middle(f["end_to_end"] for f in found)]
        cells += [middle(largest_modulus(f) for f in found)]
        rows.append([label, str(first["operators"]), first["route"], *map(text, cells)])
    one = middle(n["pinv"]["one"] for n in networks)
    step = middle(n["optimizer_step_seconds"] for n in networks)
    return Table(
        "Experiment 2: costs",
        rows,
        f"Training of the same {networks[0]['horizons'][-1]} steps: {step * 1e3:.2g} ms each. The "
        f"published route takes {one:.2g} s for one unit of the first layer, timed alone, and "
        f"{networks[0]['pinv']['times']} times that for all of them.",
    )


def largest_modulus(found: Network) -> float | None:
    """Return the largest modulus of all eigenvalues of one partition's operators."""
    radii = [part["radius"] for part in found["spectra"]]
    return None if None in radii else max(radii)


def decay(networks: Sequence[Network]) -> Table:
    """Return the forecasts under a decaying learning rate."""
    rows = [["window", "forecast by", "error / growth", "loss", "loss of training"]]
    for window, first in networks[0]["decay"].items():
        for name in first["rules"]:
            found = [n["decay"][window]["rules"][name] for n in networks]
            cells = [middle(f[key] for f in found) for key in ("error_to_growth", "loss")]
            true = middle(n["decay"][window]["loss_true"] for n in networks)
            rows.append([window, name, *map(text, cells), text(true)])
    return Table(
        f"Adadelta under a rate that falls linearly to zero: medians of {len(networks)} networks",
        rows,
        "half: the protocol shrunk to half of the steps. present rate: control='lr', the rate is "
        "taken to stay; rates to come: the same over as many steps at the present rate as the "
        "schedule's sum to.",
    )


def jitter(networks: Sequence[Network]) -> Table:
    """Return experiment 1 under perturbed collocation points."""
    table = by_partition([n["jitter"] for n in networks], "adadelta, perturbed points")
    return Table(table.title, table.rows, table.note)


def cost(timings: dict[str, Any]) -> Table:
    """Return all timings."""
    rows = [["route", "varied", "K", "d", "m", "P", "B", "ms", "Gflop/s by the formula"]]
    for row in timings["rows"]:
        sizes = [str(row.get(letter, "")) for letter in ("K", "d", "m", "P", "B")]
        rows.append(
            [row["route"], row["varied"], *sizes, text(row["seconds"] * 1e3), text(row["gflops"])]
        )
    return Table(
        "Cost: one letter varied, the others held",
        rows,
        "Formulas: pinv K (6 m d^2 + 22 d^3), products K (4 m d^2 + 10 d^3), GroupedDMD 2 K m^2 d, "
        "a step 6 P B.",
    )


def exponents(timings: dict[str, Any]) -> Table:
    """Return the fitted exponents beside those of the formulas."""
    formulas = {
        "pinv": {"K": "1", "d": "2 to 3", "m": "1"},
        "products": {"K": "1", "d": "2 to 3", "m": "1"},
        "GroupedDMD": {"K": "1", "d": "1", "m": "2"},
        "step": {"P": "1", "B": "1"},
    }
    rows = [["route", "letter", "measured exponent", "formula"]]
    for route, found in timings["exponents"].items():
        rows += [[route, k, text(value, 2), formulas[route][k]] for k, value in found.items()]
    one, two = share_of_training(10_000, 11, 200, 2_500), share_of_training(1_876, 785, 64, 938)
    note = (
        f"Node fits pay where m d is well below B T: m d / (B T) is {one:.2f} in experiment 1 and "
        f"{two:.1f} in experiment 2 over one epoch. GroupedDMD has an eigenproblem of size m per "
        "operator beside the Gram matrix: it goes with m^3 until d is much larger than m."
    )
    return Table("Cost: exponents", rows, note)


def _errors(
    networks: Sequence[Network], best: Sequence[Network], kind: str, label: str
) -> list[str]:
    def of(chosen: Sequence[Network]) -> list[float | None]:
        return [n[kind][label]["error_to_growth"] for n in chosen]

    below = sum(1 for value in of(networks) if value is not None and value < 1)
    return [text(middle(of(networks))), text(middle(of(best))), f"{below}/{len(networks)}"]
