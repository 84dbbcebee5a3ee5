"""The command line: ``koopcore dmd``, ``koopcore compare`` and ``koopcore tune``.

Nothing here imports torch, scikit-learn or matplotlib before the arguments have been checked, so
that help and error messages come at once.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Annotated

try:
    import typer
except ModuleNotFoundError as error:  # the core needs numpy alone
    raise SystemExit(
        'koopcore: the command line needs typer; install it with pip install "koopcore[cli]"'
    ) from error

from koopcore._cli_dmd import dmd
from koopcore.compare import baselines, workloads

app = typer.Typer(
    name="koopcore",
    help="Koopman operators: of files of snapshots, and of training, measured on your machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _at_least_one(value: int | None) -> int | None:
    """Refuse zero and less; typer's own range check does not say which value it was given."""
    if value is not None and value < 1:
        raise typer.BadParameter(f"{value} is too small; at least 1 is needed")
    return value


Steps = Annotated[
    int | None,
    typer.Option(
        callback=_at_least_one,
        help="Budget in step-equivalents.  [default: each workload's own]",
    ),
]
Threads = Annotated[
    int,
    typer.Option(callback=_at_least_one, help="Torch threads per run."),
]
DEFAULT_OPTIMIZERS = "adam,adadelta,adagrad,sgd"


@app.callback()
def _root() -> None:
    logging.basicConfig(format="%(name)s: %(message)s")


app.command()(dmd)


@app.command()
def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="WORKLOAD...", help=f"One or more of: {', '.join(workloads.NAMES)}."
        ),
    ],
    optimizers: Annotated[
        str, typer.Option(help=f"Comma-separated, out of: {', '.join(baselines.NAMES)}.")
    ] = DEFAULT_OPTIMIZERS,
    seeds: Annotated[
        int, typer.Option(callback=_at_least_one, help="Number of seeds: 0, 1, 2, ...")
    ] = 3,
    steps: Steps = None,
    threads: Threads = 1,
    jobs: Annotated[
        int,
        typer.Option(callback=_at_least_one, help="Processes side by side; one per core at most."),
    ] = 1,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder for results.json, table.md, curves.png.")
    ] = Path("koopcore-compare"),
) -> None:
    """Train WORKLOADs with bare optimizers and with koopcore; report time to the bare loss.

    The target is each bare optimizer's own final training loss. All of koopcore's work is charged.
    """
    chosen = _known(names, workloads.NAMES, "workload")
    base = _known(optimizers.split(","), baselines.NAMES, "optimizer")
    _require([("torch", "torch"), ("matplotlib", "matplotlib"), *_extra_packages(chosen)])
    out.mkdir(parents=True, exist_ok=True)

    from koopcore.compare.schedule import compare as run_comparison

    loaded = [workloads.load(name) for name in chosen]
    total = sum(2 * (steps or workload.steps) for workload in loaded) * len(base) * seeds
    with _progress_bar(total) as bar, _log_above_the_bar():

        def progress(label: str, done: float) -> None:
            bar.set_description_str(label, refresh=False)
            bar.update(done)

        comparison = run_comparison(chosen, base, seeds, steps, threads, jobs, progress)
    _write(comparison, out)


@app.command()
def tune(
    name: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help=f"One of: {', '.join(workloads.NAMES)}.")
    ],
    optimizers: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(baselines.NAMES),
    steps: Steps = None,
    threads: Threads = 1,
) -> None:
    """Run the learning-rate grid of the bare optimizers on seed 100 and print the final losses."""
    _known([name], workloads.NAMES, "workload")
    base = _known(optimizers.split(","), baselines.NAMES, "optimizer")
    _require([("torch", "torch"), *_extra_packages([name])])

    from koopcore.compare.tuning import tune as run_grid

    for optimizer, rate, loss in run_grid(name, base, steps, threads):
        typer.echo(f"{name}  {optimizer:<9} {rate:<7g} {loss:.3e}")


def _known(names: list[str], known: tuple[str, ...], kind: str) -> list[str]:
    """Return the names, stripped and without repeats; refuse one that is not known."""
    cleaned = list(dict.fromkeys(name.strip() for name in names))
    for name in cleaned:
        if name not in known:
            message = f"unknown {kind} {name!r}; known {kind}s: {', '.join(known)}"
            raise typer.BadParameter(message)
    return cleaned


def _extra_packages(names: list[str]) -> list[tuple[str, str]]:
    return [workloads.REQUIRES[name] for name in names if name in workloads.REQUIRES]


def _require(packages: list[tuple[str, str]]) -> None:
    """Stop with the way to install them if packages are missing, before any run has begun."""
    needed = dict(packages)
    missing = [label for module, label in needed.items() if not importlib.util.find_spec(module)]
    if missing:
        typer.echo(
            f"koopcore: this needs {' and '.join(missing)}, not installed here; "
            'install with pip install "koopcore[compare]"',
            err=True,
        )
        raise typer.Exit(1)


def _progress_bar(total: float):
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    # disable=None: silent when the output is not a terminal
    return tqdm(total=total, disable=None, bar_format=layout, smoothing=0.05)


def _log_above_the_bar():
    from tqdm.contrib.logging import logging_redirect_tqdm

    return logging_redirect_tqdm()


def _write(comparison, out: Path) -> None:
    """Write the three files and print the table and where they are."""
    from koopcore.compare import figure, report, results

    results.save(comparison, out / "results.json")
    results.write_atomically(out / "table.md", report.markdown_table(comparison))
    figure.save_curves(comparison, out / "curves.png")
    typer.echo(report.terminal_table(comparison))
    typer.echo(f"\nresults: {out / 'results.json'}\ntable:   {out / 'table.md'}")
    typer.echo(f"picture: {out / 'curves.png'}")


def main() -> None:
    """Run the command line."""
    app()
