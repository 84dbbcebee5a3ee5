"""The complexity of the fits, counted and measured.

Window m, size d of an operator, K operators, P parameters, batch B. By pseudo-inverse a fit takes
about ``K (6 m d^2 + 22 d^3)`` flops, from Gram matrices ``K m^2 d`` multiply-adds, and an optimizer
step about ``6 P B``. Each is timed with one of its letters varied and the others held, and the
exponent is the slope of a line through the logarithms.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from time import process_time
from typing import Any

import numpy as np
import torch

from koopcore import GroupedDMD

from .operators import Array, fit, fit_by_pinv

REPEATS = 5  # the fastest counts: the others had something beside them
SWEEPS: dict[str, tuple[dict[str, int], dict[str, Sequence[int]]]] = {
    "pinv": (
        {"K": 4, "d": 64, "m": 1000},
        {"K": (1, 2, 4, 8, 16), "d": (32, 64, 128, 256, 512), "m": (1000, 2000, 4000, 8000)},
    ),
    "products": (
        {"K": 4, "d": 64, "m": 4000},
        {"K": (1, 2, 4, 8, 16), "d": (64, 128, 256, 512), "m": (1000, 2000, 4000, 8000, 16000)},
    ),
    "GroupedDMD": (
        {"K": 16, "d": 4000, "m": 32},
        {"K": (4, 8, 16, 32, 64), "d": (1000, 4000, 16000, 64000), "m": (16, 32, 64, 128)},
    ),
}
STEPS: tuple[dict[str, int], dict[str, Sequence[int]]] = (
    {"width": 20, "B": 64},
    {"width": (20, 50, 100, 200, 400), "B": (16, 64, 256, 1024, 4096)},
)
QUICK = 3  # values of a sweep that a quick run keeps


def flops(route: str, K: int, d: int, m: int) -> float:
    """Return the flops that a route is said to take."""
    if route == "pinv":
        return K * (6.0 * m * d**2 + 22.0 * d**3)
    if route == "products":  # of two (d, m) by (m, d) products, and a solution
        return K * (4.0 * m * d**2 + 10.0 * d**3)
    return 2.0 * K * m**2 * d


def run(quick: bool = False) -> dict[str, Any]:
    """Measure all sweeps.

    Returns
    -------
    dict
        ``rows``, one per measurement, with seconds and flops, and ``exponents`` per route and
        letter.
    """
    rows: list[dict[str, Any]] = []
    for route, (base, sweeps) in SWEEPS.items():
        for letter, values in sweeps.items():
            for value in values[:QUICK] if quick else values:
                sizes = base | {letter: value}
                seconds = _fit_seconds(route, **sizes)
                rows.append(_row(route, letter, sizes, seconds, flops(route, **sizes)))
    base, sweeps = STEPS
    for letter, values in sweeps.items():
        for value in values[:QUICK] if quick else values:
            sizes = base | {letter: value}
            seconds, parameters = step_seconds(**sizes)
            sizes["P"] = parameters
            count = 6.0 * parameters * sizes["B"]
            rows.append(_row("step", "P" if letter == "width" else letter, sizes, seconds, count))
    return {"rows": rows, "exponents": exponents(rows)}


def exponents(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the slope of log seconds over log size, per route and letter varied."""
    found: dict[str, dict[str, float]] = {}
    for route, letter in dict.fromkeys((row["route"], row["varied"]) for row in rows):
        points = [row for row in rows if (row["route"], row["varied"]) == (route, letter)]
        sizes = np.log([row[letter] for row in points])
        slope = np.polyfit(sizes, np.log([row["seconds"] for row in points]), 1)[0]
        found.setdefault(route, {})[letter] = float(slope)
    return found


def share_of_training(m: int, d: int, batch: int, horizon: int) -> float:
    """Return ``m d / (B T)``: node fits pay where it is well below 1.

    With K units of d inputs ``P = K d``, so that the fit's ``6 K m d^2`` over the steps'
    ``6 P B T`` is this.
    """
    return m * d / (batch * horizon)


def step_seconds(width: int, B: int, repeats: int = 20) -> tuple[float, int]:
    """Return the least seconds of an Adadelta step of 784-w-w-w-10, and its parameters."""
    sizes = [784, width, width, width, 10]
    layers: list[torch.nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adadelta(model.parameters())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(B, 784, generator=generator)
    labels = torch.randint(10, (B,), generator=generator)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    step()
    seconds = min(_seconds(step) for _ in range(repeats))
    return seconds, sum(p.numel() for p in model.parameters())


def _fit_seconds(route: str, K: int, d: int, m: int) -> float:
    """Return the seconds of one fit of K operators, of a random walk: all directions are there."""
    steps = np.random.default_rng(0).standard_normal((K, d, m))
    states: Array = np.cumsum(steps, axis=2)
    if route == "GroupedDMD":
        flat = np.ascontiguousarray(states.reshape(K * d, m))
        model = GroupedDMD(affine=True, n_threads=1)
        work: Callable[[], Any] = lambda: model.fit(flat, block=d)  # noqa: E731
    else:
        work = (lambda: fit_by_pinv(states)) if route == "pinv" else (lambda: fit(states))
    return min(_seconds(work) for _ in range(REPEATS))


def _seconds(work: Callable[[], Any]) -> float:
    start = process_time()
    work()
    return process_time() - start


def _row(
    route: str, letter: str, sizes: dict[str, int], seconds: float, count: float
) -> dict[str, Any]:
    rate = count / seconds / 1e9
    return {"route": route, "varied": letter, **sizes, "seconds": seconds, "gflops": rate}
