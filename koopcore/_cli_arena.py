"""``koopcore arena record`` and ``koopcore arena score``: the arguments, and what is written.

Torch is imported only once the arguments have been checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from koopcore._cli_common import packages_of, progress_bar, require, require_data
from koopcore.compare import baselines, workloads
from koopcore.compare.arena import ARENA_RULES
from koopcore.compare.arena.entrants import predictors
from koopcore.compare.arena.recording import load, save, shipped

if TYPE_CHECKING:
    from koopcore.compare.arena.summary import Row

app = typer.Typer(
    name="arena",
    help="Score rules of forecasting on stored weight trajectories.",
    no_args_is_help=True,
)


@app.command()
def record(
    workload: Annotated[str, typer.Argument(help="A workload of koopcore compare.")],
    optimizer: Annotated[str, typer.Argument(help=f"One of: {', '.join(baselines.NAMES)}.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The file to write, .npz.")],
    seed: Annotated[int, typer.Option(min=0, help="Of weights, split and batches.")] = 0,
    every: Annotated[int, typer.Option(help="Optimizer steps between two snapshots.")] = 1,
    window: Annotated[int, typer.Option(help="Snapshots kept up to each start.")] = 20,
    horizons: Annotated[
        str, typer.Option(help="Kept after each start, in snapshots.")
    ] = "1,4,16,64,256",
    starts: Annotated[int, typer.Option(help="Windows to forecast from.")] = 12,
    steps: Annotated[
        int | None, typer.Option(help="Of the run. By default the workload's budget.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate. By default the stated one.")
    ] = None,
) -> None:
    """Train WORKLOAD with the bare OPTIMIZER and store the weights that forecasts are scored on."""
    with _refusing():
        ahead = _numbers(horizons)
        _require([workload])
        from koopcore.compare.arena.record import record as run

        steps = workloads.load(workload).steps if steps is None else steps
        with progress_bar(steps) as bar:
            recording = run(
                workload,
                optimizer,
                seed,
                every=every,
                window=window,
                horizons=ahead or (),
                starts=starts,
                steps=steps,
                rate=rate,
                progress=bar.update,
            )
        save(out, recording)
    n_snapshots, n_weights = recording.states.shape
    typer.echo(
        f"{recording.about.name}: {n_snapshots} snapshots of {n_weights} weights, "
        f"{out.stat().st_size / 1000:.0f} kB: {out}"
    )


@app.command()
def score(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of arena record. By default the package's own."),
    ] = None,
    rules: Annotated[
        str,
        typer.Option(help=f"Comma-separated, out of: {', '.join(ARENA_RULES)}. By default all."),
    ] = "",
    window: Annotated[int, typer.Option(help="Snapshots that a rule is given.")] = 10,
    horizons: Annotated[
        str, typer.Option(help="Comma-separated, in snapshots. By default all that a file has.")
    ] = "",
    report: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for arena.md, arena.csv and arena.png."),
    ] = None,
) -> None:
    """Forecast from every start of the FILES by every rule, and show errors and losses."""
    with _refusing():
        names = tuple(name.strip() for name in rules.split(",")) if rules else None
        predictors(names)  # an unknown name is told before anything is read
        ahead = _numbers(horizons)
        recordings = [load(file) for file in files] if files else shipped()
        _require([recording.about.workload for recording in recordings])
        require([("matplotlib", "matplotlib")] if report else [])
        from koopcore.compare.arena import score as arena
        from koopcore.compare.arena import tables

        starts = sum(len(recording.about.starts) for recording in recordings)
        with progress_bar(starts) as bar:
            outcomes = arena.score(
                recordings, names, window=window, horizons=ahead, progress=bar.update
            )
        rows = tables.summarize(outcomes)
        typer.echo(tables.terminal(rows, window))
        if report is not None:
            _write(rows, window, report, _command(files, rules, window, horizons))


def _write(rows: list[Row], window: int, folder: Path, command: str) -> None:
    from koopcore.compare.arena import picture, tables
    from koopcore.compare.results import write_atomically

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "arena.md", tables.markdown(rows, window, command))
    write_atomically(folder / "arena.csv", tables.csv_table(rows))
    picture.save_picture(rows, folder / "arena.png")
    typer.echo("")
    for name in ("arena.md", "arena.csv", "arena.png"):
        typer.echo(f"written: {folder / name}")


def _command(files: list[Path] | None, rules: str, window: int, horizons: str) -> str:
    words = ["koopcore arena score", *map(str, files or ())]
    words += [f"--rules {rules}"] if rules else []
    words += [f"--window {window}"]
    words += [f"--horizons {horizons}"] if horizons else []
    return " ".join(words)


def _numbers(text: str) -> tuple[int, ...] | None:
    """Return the numbers of a list, None for an empty one."""
    if not text:
        return None
    try:
        return tuple(sorted({int(number) for number in text.split(",")}))
    except ValueError:
        raise ValueError(
            f"--horizons: {text!r} is not a list of whole numbers, such as 1,4,16"
        ) from None


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what cannot be into one line and exit status 1."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        typer.echo(f"koopcore: {error}", err=True)
        raise typer.Exit(1) from error


def _require(names: list[str]) -> None:
    """Refuse workloads whose packages or data are not there, before any run has begun."""
    require([("torch", "torch"), *packages_of(names)])
    require_data(names)
