"""Recordings for the tests of the arena, and the problem that they are of."""

import json

import numpy as np

from koopcore.compare import workloads
from koopcore.compare.arena.parameters import Parameters
from koopcore.compare.arena.recording import About, Recording, needed_steps

RATE, HORIZONS = 0.9, (1, 4, 16)
SMALL = {"every": 2, "window": 5, "horizons": (1, 3), "starts": 2, "steps": 30}


def oscillator():
    """The problem that all recordings here are of."""
    return workloads.load("hamiltonian").build(0)


def linear_recording(problem):
    """Weights that approach a fixed point, all at one rate: w_t = fixed + change * RATE**t."""
    parameters = Parameters(problem.model)
    starts, every, window = (24, 60), 2, 12
    about = About(
        "hamiltonian", "sgd", 0, 0.01, 100, every, window, HORIZONS, starts, parameters.shapes, {}
    )
    steps = np.array(needed_steps(about), np.int64)
    fixed, change = np.random.default_rng(0).standard_normal((2, 152))
    states = (fixed + np.outer(RATE ** (steps / every), change)).astype(np.float32)
    losses = []
    for state in states:
        parameters.write(state)
        losses.append(problem.evaluate(problem.model)["train_loss"])
    return Recording(about, states, steps, np.array(losses), np.full(len(steps), np.nan))


def changed(recording, **about):
    """A copy of a recording that says other things about itself."""
    document = json.loads(recording.about.to_json()) | about
    document["format"] = "koopcore-arena/1"
    return Recording(
        About.of_json(json.dumps(document)),
        *(getattr(recording, n).copy() for n in ("states", "steps", "train_loss", "heldout_loss")),
    )
