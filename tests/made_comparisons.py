"""Comparisons made by hand, without any training."""

import math
from dataclasses import replace

import numpy as np

from koopcore.compare.results import Comparison, Record, Run, Score

MACHINE = {
    "python": "3",
    "packages": {"torch": "2"},
    "cpu": "x",
    "threads": 1,
    "jobs": 2,
    "thread_report": {"torch": 1, "openblas (libscipy_openblas)": 1},
}


def made_run(method, seed, steps, final=0.25, heldout=True, overfitted=False, target=0.5):
    curve = {
        "step": [0, 10, 20],
        "step_equivalents": [0.0, 10.0, 20.0],
        "seconds": [0.0, 1.0, 2.0],
        "train_loss": [4.0, 1.0, final],
    }
    scores = {"train@75": Score(1.0, 10.0, 1.0), "train@100": Score(target, steps, steps / 10)}
    if heldout:
        curve |= {"heldout_loss": [4.0, 2.0, 1.0], "heldout_accuracy": [0.1, 0.5, 0.9]}
        scores["heldout@75"] = Score(1.0 if overfitted else 2.0, 10.0, 1.0)
        scores["heldout@100"] = Score(1.0, steps, steps / 10)
    jumps = {name: [] for name in ("step", "horizon", "loss_before", "loss_after")}
    jumps["step_equivalents"] = [12.0] if method == "koopcore" else []
    jumped = (4, 1) if method == "koopcore" else (0, 0)
    return Run("digits", "sgd", method, seed, 0.1, 20, curve, jumps, *jumped, 9, 0.1, scores)


def made_comparison(methods, **changes):
    """Return a comparison from each method's steps to the target by seed; bare takes 20."""
    (n_seeds,) = {len(steps) for steps in methods.values()}
    records = []
    for seed in range(n_seeds):
        runs = [made_run("bare", seed, 20.0, 0.5, **changes)]
        for method, steps in methods.items():
            runs.append(made_run(method, seed, steps[seed], **changes))
        names = tuple(methods)
        records.append(Record("digits", "sgd", seed, 20, names, "Made", 10, MACHINE, runs))
    return Comparison(records)


def edited(comparison, change):
    """Return the comparison with ``change(run)`` in the place of every run."""
    return Comparison(
        [replace(r, runs=[change(run) for run in r.runs]) for r in comparison.records]
    )


# Relative speed of each method, and whether it jumps.
METHODS = {
    "bare": (1.0, False),
    "koopcore": (2.0, True),
    "forecast:100": (1.2, False),
    "ema:0.98": (1.05, False),
    "swa:0.5": (0.9, False),
    "lawa:10": (1.1, False),
    "lookahead:5": (1.05, False),
    "schedule-free:1": (1.3, False),
    "secant": (1.5, True),
    "anderson": (1.2, True),
    "rank-one": (1.1, True),
    "pdt:5": (1.0, True),
    "dogra-redman:node": (0.6, True),
    "dogra-redman:layer": (0.5, True),
    "null": (1.0, False),
    "identity": (0.8, False),
    "averaging-only": (1.05, False),
    "reset:50": (0.95, False),
    "rate:1.8": (1.4, False),
    "rate:3.2": (0.7, False),
}


def planted_comparison(
    workloads=("digits-64", "hamiltonian"),
    optimizers=("adam", "sgd"),
    n_seeds=3,
    n_points=60,
    methods=tuple(METHODS),
):
    """Return a comparison of noisy exponential losses, with jumps, spectra and held-out data."""
    rng = np.random.default_rng(0)
    records = []
    for workload in workloads:
        for optimizer in optimizers:
            for seed in range(n_seeds):
                runs, aims = [], {}
                for method in methods:
                    run = _planted(rng, workload, optimizer, method, seed, n_points)
                    aims = aims or _aims(run)
                    runs.append(replace(run, scores=_scores(run, aims)))
                names = methods[1:]
                title = f"Planted {workload}"
                records.append(
                    Record(workload, optimizer, seed, 600, names, title, 10, MACHINE, runs)
                )
    return Comparison(records)


def _planted(rng, workload, optimizer, method, seed, n_points):
    speed, jumps = METHODS[method]
    step = 600 * np.arange(n_points + 1) / n_points
    speed *= rng.lognormal(sigma=0.15)
    noise = rng.lognormal(sigma=0.15, size=n_points + 1)
    train = (2.3 * np.exp(-speed * step / 150) + 0.01 / speed) * noise
    curve = {
        "step": step.tolist(),
        "step_equivalents": step.tolist(),
        "seconds": (step / 500 * rng.lognormal(sigma=0.1)).tolist(),
        "train_loss": train.tolist(),
    }
    if workload.startswith("digits"):
        heldout = train + 0.2 + 0.1 * step / 600
        curve |= {
            "heldout_loss": heldout.tolist(),
            "heldout_accuracy": (1 / (1 + heldout)).tolist(),
        }
    at = np.arange(50, 600, 25.0) if jumps else np.empty(0)
    before = np.interp(at, step, train)
    taken = {
        "step": at.tolist(),
        "step_equivalents": at.tolist(),
        "horizon": rng.choice([10, 100, 1000], size=len(at)).tolist(),
        "loss_before": before.tolist(),
        "loss_after": (before * rng.uniform(0.5, 1, size=len(at))).tolist(),
    }
    spectra = {}
    if method.startswith(("koopcore", "pdt", "dogra")):
        values = rng.uniform(0.5, 1.02, (8, 6)) * np.exp(1j * rng.normal(0, 0.3, (8, 6)))
        spectra = {
            "step": list(range(50, 450, 50)),
            "real": values.real.tolist(),
            "imag": values.imag.tolist(),
        }
    counts = len(at), 3 if jumps else 0, 9
    return Run(
        *(workload, optimizer, method, seed, 0.1, 600, curve, taken, *counts, 0.1),
        spectra=spectra,
    )


def _aims(bare):
    columns = {"train": "train_loss", "heldout": "heldout_loss"}
    return {
        f"{kind}@{share}": min(bare.curve[column][: len(bare.curve["step"]) * share // 100])
        for kind, column in columns.items()
        if column in bare.curve
        for share in (75, 100)
    }


def _scores(run, aims):
    found = {}
    for name, aim in aims.items():
        losses = run.curve[f"{name.partition('@')[0]}_loss"]
        index = next((i for i, loss in enumerate(losses) if loss <= aim), None)
        reached = [run.curve[c][index] for c in ("step_equivalents", "seconds")] if index else ()
        found[name] = Score(aim, *(reached or (math.inf, math.inf)))
    return found
