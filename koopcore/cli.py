"""The command line: ``koopcore dmd``, ``compare``, ``tune`` and ``paper``.

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
from koopcore.compare import baselines, registry, workloads

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
    methods: Annotated[
        str,
        typer.Option(
            help=f"Comma-separated, out of: {', '.join(registry.NAMES)}; those with a value, such "
            "as ema:0.98, are tuned on seed 100 if it is not given. bare always runs first."
        ),
    ] = "bare,koopcore",
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
        Path, typer.Option(file_okay=False, help="Folder for the results, tables and pictures.")
    ] = Path("koopcore-compare"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what an earlier run left in the folder.")
    ] = False,
) -> None:
    """Train WORKLOADs with bare optimizers and with methods; report time to the bare loss.

    The targets are the lowest losses that each bare optimizer comes to, on the training data and
    on held-out data. All of a method's work is charged.
    """
    chosen = _known(names, workloads.NAMES, "workload")
    base = _known(optimizers.split(","), baselines.NAMES, "optimizer")
    wanted = _checked_methods(methods, chosen, base, seeds)
    _require([("torch", "torch"), ("matplotlib", "matplotlib"), *_extra_packages(chosen)])
    _require_data(chosen)
    out.mkdir(parents=True, exist_ok=True)

    from koopcore.compare.schedule import Plan
    from koopcore.compare.schedule import compare as run_comparison

    plan = Plan(tuple(chosen), tuple(base), wanted, seeds, steps)
    with _progress_bar(plan.total_steps) as bar, _log_above_the_bar():

        def progress(label: str, done: float) -> None:
            bar.set_description_str(label, refresh=False)
            bar.update(done)

        path = out / "results.jsonl"
        comparison = run_comparison(plan, threads, jobs, path, resume, progress)
    _write(comparison, out)


@app.command()
def tune(
    name: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help=f"One of: {', '.join(workloads.NAMES)}.")
    ],
    optimizers: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(baselines.NAMES),
    rates: Annotated[
        str, typer.Option(help="Comma-separated, for all.  [default: each optimizer's grid]")
    ] = "",
    steps: Steps = None,
    threads: Threads = 1,
) -> None:
    """Run the learning-rate grid of the bare optimizers on seed 100 and print the losses."""
    _known([name], workloads.NAMES, "workload")
    base = _known(optimizers.split(","), baselines.NAMES, "optimizer")
    try:
        values = [float(rate) for rate in rates.split(",")] if rates else None
    except ValueError:
        raise typer.BadParameter(f"--rates: {rates!r} is not a list of numbers") from None
    _require([("torch", "torch"), *_extra_packages([name])])
    _require_data([name])

    from koopcore.compare.tuning import tune as run_grid

    for trial in run_grid(name, base, steps, threads, values):
        line = f"{name}  {trial.optimizer:<9} {trial.rate:<7g} {trial.train_loss:.3e}"
        held_out = trial.heldout_loss
        typer.echo(line if held_out is None else f"{line}  best held-out {held_out:.3e}")


@app.command()
def paper(
    seeds: Annotated[
        int, typer.Option(callback=_at_least_one, help="Number of networks: seeds 0, 1, 2, ...")
    ] = 25,
    jitter: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Perturb the collocation points at every step, by this deviation in units of "
            "their spacing; the original solver has 0.03.",
        ),
    ] = 0.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A fiftieth of the steps, to see it work.")
    ] = False,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder for paper.json and paper.md.")
    ] = Path("koopcore-paper"),
) -> None:
    """Repeat the differential-equation experiment of Dogra and Redman (NeurIPS 2020).

    Networks 1-10-10-2 trained by Adadelta; one forecast over 2,500 steps from 10,000 snapshots.
    """
    _require([("torch", "torch")])
    out.mkdir(parents=True, exist_ok=True)

    from koopcore.compare import paper as experiment
    from koopcore.compare.results import write_atomically

    protocol = experiment.QUICK if quick else experiment.FULL
    networks = []
    with _progress_bar(seeds * protocol.steps) as bar:
        for seed in range(seeds):
            networks.append(experiment.run_network(seed, protocol, jitter, bar.update))
            document = experiment.to_json(protocol, jitter, networks)
            write_atomically(out / "paper.json", document)  # a kill leaves the networks so far
    text = experiment.table(protocol, jitter, networks)
    write_atomically(out / "paper.md", text)
    typer.echo(f"{text}\nresults: {out / 'paper.json'}\ntable:   {out / 'paper.md'}")


def _known(names: list[str], known: tuple[str, ...], kind: str) -> list[str]:
    """Return the names, stripped and without repeats; refuse one that is not known."""
    cleaned = list(dict.fromkeys(name.strip() for name in names))
    for name in cleaned:
        if name not in known:
            message = f"unknown {kind} {name!r}; known {kind}s: {', '.join(known)}"
            raise typer.BadParameter(message)
    return cleaned


def _checked_methods(
    methods: str, names: list[str], optimizers: list[str], seeds: int
) -> tuple[str, ...]:
    """Return the methods without repeats; refuse what a comparison would refuse later."""
    wanted = tuple(dict.fromkeys(method.strip() for method in methods.split(",")))
    try:
        for method in wanted:
            registry.check(method)
        for name in names:
            for optimizer in optimizers:
                baselines.learning_rate(name, optimizer)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if seeds > baselines.TUNING_SEED:
        message = f"--seeds: {seeds} is too large; at most {baselines.TUNING_SEED}"
        raise typer.BadParameter(message)
    return wanted


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


def _require_data(names: list[str]) -> None:
    """Stop with the way to get them if data are missing, before any run has begun."""
    for message in filter(None, map(workloads.missing_data, names)):
        typer.echo(f"koopcore: {message}", err=True)
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
    """Write tables and pictures and print the table and where they are."""
    from koopcore.compare import figure, report
    from koopcore.compare.results import write_atomically

    write_atomically(out / "table.md", report.markdown_table(comparison))
    typer.echo(report.terminal_table(comparison))
    typer.echo(f"\nresults: {out / 'results.jsonl'}\ntables:  {out / 'table.md'}")
    columns = [figure.TRAIN]
    if any(figure.HELDOUT in run.curve for run in comparison.runs):
        columns.append(figure.HELDOUT)
    for column in columns:
        path = out / ("curves.png" if column == figure.TRAIN else "heldout.png")
        figure.save_curves(comparison, path, column)
        typer.echo(f"picture: {path}")


def main() -> None:
    """Run the command line."""
    app()
