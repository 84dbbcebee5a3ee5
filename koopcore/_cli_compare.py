"""``koopcore compare`` and ``koopcore tune``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from koopcore import _cli_common as common
from koopcore.compare import baselines, registry, sizes, workloads

if TYPE_CHECKING:
    from koopcore.compare.plan import Plan
    from koopcore.compare.results import Comparison

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[WORKLOAD]...",
        help=f"One or more of: {', '.join(workloads.NAMES)}; with a factor on all widths, such as "
        "digits:0.5.",
    ),
]


Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        help=f"All kinds of methods on {', '.join(sizes.QUICK.names)}: minutes. What is named "
        "besides replaces its part.",
    ),
]
Full = Annotated[
    bool,
    typer.Option("--full", help="All workloads, optimizers and methods, ten seeds: a day or more."),
]
Optimizers = Annotated[
    str,
    typer.Option(
        help=f"Comma-separated, out of: {', '.join(baselines.NAMES)}. By default each workload's "
        "own."
    ),
]
Methods = Annotated[
    str,
    typer.Option(
        help=f"Comma-separated, out of: {', '.join(registry.NAMES)}; or all. Those with a value, "
        "such as ema:0.98, are tuned on seed 100 if it is not given. bare always runs first. By "
        "default bare,koopcore."
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(callback=common.at_least_one, help="Number of seeds: 0, 1, 2, ... By default 3."),
]
Folder = Annotated[
    Path, typer.Option(file_okay=False, help="Folder for results, tables, page and pictures.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from what an earlier run left in the folder.")
]
Against = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="Earlier results.jsonl: say what became slower or worse beyond noise. Without "
        "workloads, the results in the folder are compared with it. Of an earlier core.json of "
        "make bench: the core.json in the folder.",
    ),
]


def compare(
    names: Names = None,
    quick: Quick = False,
    full: Full = False,
    optimizers: Optimizers = "",
    methods: Methods = "",
    seeds: Seeds = None,
    steps: common.Steps = None,
    threads: common.Threads = 1,
    jobs: common.Jobs = 1,
    report: Folder = Path("koopcore-compare"),
    resume: Resume = False,
    against: Against = None,
) -> None:
    """Train WORKLOADs with bare optimizers and with methods; report time to the bare loss.

    The targets are the lowest losses that each bare optimizer comes to, on the training data and
    on held-out data. All of a method's work is charged.
    """
    size = _size(quick, full)
    path = report / "results.jsonl"
    if not names and size is None:
        if against is None:
            raise typer.BadParameter("name a WORKLOAD, or give --quick or --full")
        _say_changes(report, None, against)
        return
    plan = _plan(size, names, optimizers, methods, seeds, steps)
    for line in plan.left_out:
        typer.echo(f"koopcore: {line}", err=True)
    report.mkdir(parents=True, exist_ok=True)
    with common.recoverable(report):
        comparison = _run(plan, threads, jobs, path, resume)
        _write(comparison, report)
    if against is not None:
        _say_changes(report, comparison, against)


def tune(
    name: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help=f"One of: {', '.join(workloads.NAMES)}.")
    ],
    optimizers: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(baselines.NAMES),
    rates: Annotated[
        str, typer.Option(help="Comma-separated, for all. By default each optimizer's grid.")
    ] = "",
    steps: common.Steps = None,
    threads: common.Threads = 1,
) -> None:
    """Run the learning-rate grid of the bare optimizers on seed 100 and print the losses."""
    common.known_workloads([name])
    base = common.known(optimizers.split(","), baselines.NAMES, "optimizer")
    try:
        values = [float(rate) for rate in rates.split(",")] if rates else None
    except ValueError:
        raise typer.BadParameter(f"--rates: {rates!r} is not a list of numbers") from None
    common.require([("torch", "torch"), *common.packages_of([name])])
    common.require_data([name])

    from koopcore.compare.tuning import tune as run_grid

    for trial in run_grid(name, base, steps, threads, values):
        line = f"{name}  {trial.optimizer:<9} {trial.rate:<7g} {trial.train_loss:.3e}"
        held_out = trial.heldout_loss
        typer.echo(line if held_out is None else f"{line}  best held-out {held_out:.3e}")


def _size(quick: bool, full: bool) -> sizes.Size | None:
    if quick and full:
        raise typer.BadParameter("--quick and --full exclude each other")
    return sizes.QUICK if quick else sizes.FULL if full else None


def _plan(
    size: sizes.Size | None,
    names: list[str] | None,
    optimizers: str,
    methods: str,
    seeds: int | None,
    steps: int | None,
) -> Plan:
    """Return what to run, checked as far as it can be before anything has."""
    chosen = common.known_workloads(names or size.names)
    base = size.optimizers if size else None
    if optimizers:
        base = tuple(common.known(optimizers.split(","), baselines.NAMES, "optimizer"))
    wanted = size.methods if size else ("bare", "koopcore")
    if methods:
        asked = dict.fromkeys(method.strip() for method in methods.split(","))
        wanted = registry.ALL_METHODS if "all" in asked else tuple(asked)
    count = seeds or (size.seeds if size else 3)
    if count > baselines.TUNING_SEED:
        message = f"--seeds: {count} is too large; at most {baselines.TUNING_SEED}"
        raise typer.BadParameter(message)
    _check(chosen, base, wanted)
    extra = [("torch", "torch"), ("matplotlib", "matplotlib"), ("jinja2", "jinja2")]
    plain = [method.partition(":")[0] for method in wanted]
    tables = (baselines.REQUIRES, registry.REQUIRES)
    extra += [table[n] for table in tables for n in (*(base or ()), *plain) if n in table]
    common.require([*extra, *common.packages_of(chosen)])
    common.require_data(chosen)

    from koopcore.compare.plan import Plan

    return Plan(tuple(chosen), base, wanted, count, steps)


def _check(names: list[str], optimizers: tuple[str, ...] | None, methods: tuple[str, ...]) -> None:
    """Refuse what a comparison would refuse later."""
    try:
        for method in methods:
            registry.check(method)
        for name in names:
            for optimizer in optimizers or ():
                baselines.learning_rate(name, optimizer)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _run(plan: Plan, threads: int, jobs: int, path: Path, resume: bool) -> Comparison:
    from koopcore.compare.schedule import compare as run_comparison

    hours = plan.work / jobs / 3600
    if hours > 0.5:
        typer.echo(f"koopcore: this takes about {hours:.1f} hours on {jobs} cores", err=True)
    with common.progress_bar(plan.work) as bar, common.log_above_the_bar():

        def progress(label: str, done: float) -> None:
            bar.set_description_str(label, refresh=False)
            bar.update(done)

        return run_comparison(plan, threads, jobs, path, resume, progress)


def _write(comparison: Comparison, folder: Path) -> None:
    """Write tables, page and pictures; print the table and where they are."""
    from koopcore.compare import report

    command = shlex.join(["koopcore", *sys.argv[1:]])
    report.write(comparison, folder, command)
    typer.echo(report.terminal_table(comparison))
    typer.echo(f"\npage:    {folder / 'report.html'}\ntables:  {folder / 'tables.md'}")
    typer.echo(f"as data: {folder / 'tables.csv'}\nresults: {folder / 'results.jsonl'}")
    for path in sorted(folder.glob("*.png")):
        typer.echo(f"picture: {path}")


def _loaded(path: Path) -> Comparison:
    from koopcore.compare.results import load

    try:
        return load(path)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None


def _say_changes(folder: Path, comparison: Comparison | None, old: Path) -> None:
    """Print what changed since `old`; of benchmarks where that is a file of pytest-benchmark."""
    from koopcore.compare import against
    from koopcore.compare.against import benchmarks

    try:
        if benchmarks.recognised(old):
            typer.echo(against.benchmarks_text(folder / "core.json", old))
        else:
            new = comparison or _loaded(folder / "results.jsonl")
            typer.echo(against.text(new, _loaded(old)))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"--against: {error}") from None
