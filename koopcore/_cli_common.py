"""What the commands share: checks of their arguments, and a progress bar. Nothing heavy."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from koopcore.compare import workloads


def at_least_one(value: int | None) -> int | None:
    """Refuse zero and less; typer's own range check does not say which value it was given."""
    if value is not None and value < 1:
        raise typer.BadParameter(f"{value} is too small; at least 1 is needed")
    return value


Steps = Annotated[
    int | None,
    typer.Option(
        callback=at_least_one,
        help="Budget in step-equivalents. By default each workload's own.",
    ),
]
Threads = Annotated[
    int,
    typer.Option(callback=at_least_one, help="Torch threads per run."),
]
Jobs = Annotated[
    int,
    typer.Option(callback=at_least_one, help="Processes side by side; one per core at most."),
]


def known(names: Sequence[str], all_names: Sequence[str], kind: str) -> list[str]:
    """Return the names, stripped and without repeats; refuse one that is not known."""
    cleaned = list(dict.fromkeys(name.strip() for name in names))
    for name in cleaned:
        if name not in all_names:
            message = f"unknown {kind} {name!r}; known {kind}s: {', '.join(all_names)}"
            raise typer.BadParameter(message)
    return cleaned


def known_workloads(names: Sequence[str]) -> list[str]:
    """Return the workloads, without repeats; refuse one that is not known."""
    cleaned = list(dict.fromkeys(name.strip() for name in names))
    try:
        for name in cleaned:
            workloads.parse(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return cleaned


def require(packages: Sequence[tuple[str, str]]) -> None:
    """Stop with the way to install them if packages are missing, before any run has begun."""
    missing = [label for module, label in dict(packages).items() if not _found(module)]
    if missing:
        fail(
            f"this needs {' and '.join(missing)}, not installed here; "
            'install with pip install "koopcore[compare]"'
        )


def _found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def packages_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the packages beyond torch that the workloads import, with their names on PyPI."""
    return [package for package in map(workloads.required_package, names) if package]


def require_data(names: Sequence[str]) -> None:
    """Stop with the way to get them if data are missing, before any run has begun."""
    for message in filter(None, map(workloads.missing_data, names)):
        fail(message)


def fail(message: str, code: int = 1) -> None:
    """Say what is wrong and end the program."""
    typer.echo(f"koopcore: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def recoverable(folder: Path) -> Iterator[None]:
    """Turn what can end a long run into a message that says how to go on."""
    from concurrent.futures.process import BrokenProcessPool

    from koopcore.compare.results import WrongResultsError

    try:
        yield
    except KeyboardInterrupt:
        fail(f"interrupted; finished runs are in {folder}, go on with --resume", 130)
    except BrokenProcessPool:
        fail(
            f"a process died, as happens when memory runs out; finished runs are in {folder}, go "
            "on with --resume, or with fewer --jobs"
        )
    except OSError as error:
        fail(f"{error}; finished runs are in {folder}, go on with --resume")
    except WrongResultsError as error:
        fail(str(error))


def progress_bar(total: float) -> Any:
    """Return a bar with the time left; silent when the output is not a terminal."""
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    return tqdm(total=total, disable=None, bar_format=layout, smoothing=0.05)


def log_above_the_bar() -> Any:
    """Return a context in which log messages do not break the bar."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    return logging_redirect_tqdm()
