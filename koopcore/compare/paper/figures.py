"""The pictures of the report, as PNG: no window is ever opened."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .tables import BEST, all_finite, middle, ranked

# Okabe and Ito's colours for all kinds of colour vision.
COLORS = {
    "true": ("#000000", "-"),
    "training": ("#000000", "-"),
    "stay": ("#999999", "--"),
    "mean": ("#009E73", "--"),
    "secant": ("#CC79A7", "--"),
    "node": ("#D55E00", "-"),
    "node, cut": ("#D55E00", ":"),
    "layer": ("#0072B2", "-"),
    "layer, cut": ("#0072B2", ":"),
    "network": ("#56B4E9", "-"),
    "koopcore, affine": ("#E69F00", "-"),
    "koopcore, averages": ("#E69F00", "-"),
}
MARK, OTHER = "#D55E00", "#56B4E9"
SMALLEST = 1e-12  # drawn instead of zero on logarithmic axes
Network = dict[str, Any]


def scatter(networks: Sequence[Network]) -> bytes:
    """Draw |error| against |growth| of every parameter, one panel per partition, all networks."""
    labels = list(networks[0]["partitions"])
    figure, axes = _panels(1, len(labels), 2.6, 2.9)
    best = {network["seed"] for network in ranked(networks)[:BEST]}
    for axis, label in zip(axes[0], labels, strict=True):
        for shown, color, name in ((False, OTHER, "the others"), (True, MARK, f"best {BEST}")):
            chosen = [n for n in networks if (n["seed"] in best) is shown]
            growth = [g for n in chosen for g in n["growth"]]
            errors = [e for n in chosen for e in n["partitions"][label]["errors"]]
            kept = [(g, e) for g, e in zip(growth, errors, strict=True) if e is not None]
            if kept:
                x, y = np.maximum(np.array(kept).T, SMALLEST)
                axis.plot(x, y, ".", ms=1.5, alpha=0.4, color=color, label=name)
        limits = [1e-5, 10.0]
        axis.plot(limits, limits, "k-", lw=0.8)
        axis.set(xscale="log", yscale="log", title=label, xlabel="|growth|", xlim=limits)
        axis.set_ylim(1e-7, 1e2)
    axes[0][0].set_ylabel("|error|")
    axes[0][0].legend(markerscale=6, fontsize=7, loc="lower right")
    return _png(figure)


def eigenvalues(networks: Sequence[Network], label: str) -> bytes:
    """Draw the eigenvalues of one partition, one panel per part, with the unit circle."""
    count = min(4, len(networks[0]["partitions"][label]["spectra"]))
    figure, axes = _panels(1, count, 3.0, 3.2)
    turn = np.linspace(0, 2 * np.pi, 300)
    for i, axis in enumerate(axes[0]):
        parts = [n["partitions"][label]["spectra"] for n in networks]
        points = [value for spectra in parts if i < len(spectra) for value in spectra[i]["values"]]
        axis.plot(np.cos(turn), np.sin(turn), color="#999999", lw=0.8)
        if points:
            real, imaginary = np.array(points).T
            axis.plot(real, imaginary, ".", ms=3, alpha=0.5, color="#0072B2")
        size = next((s[i]["size"] for s in parts if i < len(s)), 0)
        axis.set(aspect="equal", xlabel="real", title=f"part {i + 1}, operators of size {size}")
        axis.title.set_fontsize(9)
    axes[0][0].set_ylabel("imaginary")
    return _png(figure)


def ode_losses(networks: Sequence[Network]) -> bytes:
    """Draw the loss along the forecasts of experiment 1, medians over the networks."""
    horizons = networks[0]["horizons"]
    curves = {"true": [n["losses_true"] for n in networks]}
    for name in ("node", "layer", "network"):
        curves[name] = [n["partitions"][name]["losses"] for n in networks]
    for name in ("stay", "secant", "mean", "koopcore, affine"):
        curves[name] = [n["rules"][name]["losses"] for n in networks]
    figure, axes = _panels(1, 1, 6.0, 3.6)
    _draw(axes[0][0], horizons, curves, "loss")
    axes[0][0].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _png(figure)


def mnist_losses(networks: Sequence[Network]) -> bytes:
    """Draw losses and accuracy along the forecasts of experiment 2, medians over the networks."""
    figure, axes = _panels(1, 3, 4.0, 3.4)
    columns = {"loss": "test loss", "train_loss": "training loss", "accuracy": "test accuracy"}
    for axis, (column, title) in zip(axes[0], columns.items(), strict=True):
        curves = {
            name: [n[kind][name][column] for n in networks]
            for kind in ("rules", "partitions")
            for name in networks[0][kind]
            if name in COLORS and name != "koopcore, affine"
        }
        _draw(axis, networks[0]["horizons"], curves, title)
        if column == "accuracy":
            axis.set_yscale("linear")
        else:
            axis.set_ylim(top=1e1)
    axes[0][2].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _png(figure)


def cost(rows: Sequence[dict[str, Any]]) -> bytes:
    """Draw measured seconds against each letter of the complexity, one panel per letter."""
    letters = list(dict.fromkeys(row["varied"] for row in rows))
    figure, axes = _panels(1, len(letters), 2.6, 3.0)
    for axis, letter in zip(axes[0], letters, strict=True):
        for route in dict.fromkeys(row["route"] for row in rows):
            points = [r for r in rows if (r["route"], r["varied"]) == (route, letter)]
            if points:
                seconds = [r["seconds"] for r in points]
                axis.plot([r[letter] for r in points], seconds, "o-", ms=3, label=route)
        axis.set(xscale="log", yscale="log", xlabel=letter)
        axis.legend(fontsize=7)
    axes[0][0].set_ylabel("seconds")
    return _png(figure)


def _draw(
    axis: Any, horizons: Sequence[int], curves: dict[str, list[list[Any]]], title: str
) -> None:
    for name, lines in curves.items():
        values = [middle(column) for column in zip(*lines, strict=True)]
        points = [(h, v) for h, v in zip(horizons, values, strict=True) if all_finite([v])]
        color, dashes = COLORS[name]
        if points:
            axis.plot(*zip(*points, strict=True), dashes, marker=".", color=color, label=name)
    axis.set(xscale="log", yscale="log", xlabel="steps ahead", ylabel=title)


def _panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width * columns + 0.6, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()
