"""``koopcore dmd``: the arguments; `koopcore._decompose` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from koopcore import _decompose
from koopcore._blocks import part_of
from koopcore._opening import open_source

SOURCE = {"rich_help_panel": "The file"}
FIT = {"rich_help_panel": "The fit"}


def dmd(
    file: Annotated[
        Path, typer.Argument(help="Snapshots: .npy, HDF5 (.h5, .nc), zarr, or raw binary.")
    ],
    rank: Annotated[
        str | None,
        typer.Option(
            help="Modes: a number, a share of the energy such as 0.999, svht, cv, or all.  "
            "[default: 10]",
            **FIT,
        ),
    ] = None,
    variant: Annotated[
        str,
        typer.Option(help="standard, tls, forward-backward, symmetric or optimized.", **FIT),
    ] = "standard",
    affine: Annotated[
        bool, typer.Option("--affine", help="Fit a fixed point as well, by differences.", **FIT)
    ] = False,
    delays: Annotated[
        int, typer.Option(help="Successive snapshots stacked into one state.", **FIT)
    ] = 1,
    forgetting: Annotated[
        float, typer.Option(help="Weight of a step per later step, up to 1.", **FIT)
    ] = 1.0,
    dt: Annotated[float, typer.Option(help="Time between two snapshots.", **FIT)] = 1.0,
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--batch", help="One pass, or the Gram matrix.  [default: auto]"),
    ] = None,
    time_axis: Annotated[
        int, typer.Option(help="Axis that counts the snapshots: 0, or -1 for the last.", **SOURCE)
    ] = -1,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the dataset in an HDF5 or zarr file.", **SOURCE)
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of a raw file, such as float32 or >f8.", **SOURCE)
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Of a raw file in C order, such as 1000,-1 (-1: as it has).", **SOURCE),
    ] = None,
    offset: Annotated[int, typer.Option(help="Bytes before the numbers of it.", **SOURCE)] = 0,
    as_type: Annotated[
        str | None, typer.Option(help="Convert the numbers: float32 or float64.", **SOURCE)
    ] = None,
    start: Annotated[int, typer.Option(help="First snapshot to use.", **SOURCE)] = 0,
    stop: Annotated[int | None, typer.Option(help="The one after the last.", **SOURCE)] = None,
    modes: Annotated[bool, typer.Option("--modes/--no-modes", help="Write the modes.")] = True,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the results.")] = Path(
        "koopcore-dmd"
    ),
) -> None:
    """Decompose the snapshots in FILE, of any size, into modes with their frequencies and rates.

    Writes eigenvalues.csv, modes.npy, model.npz and summary.png. Columns are snapshots unless
    --time-axis 0 says that rows are. Amplitudes are those of the first snapshot (batch) or of the
    newest one (stream).
    """
    way = "auto" if stream is None else "stream" if stream else "batch"
    try:
        options = _decompose.Options(
            _rank(rank), variant, affine, delays, forgetting, dt, way, modes
        )
        how: dict[str, Any] = {"time_axis": time_axis, "as_type": as_type, "offset": offset}
        with open_source(file, dataset=dataset, dtype=dtype, shape=_shape(shape), **how) as source:
            chosen = part_of(source, start, stop)
            _decompose.decompose(chosen, options, out, progress=True, say=typer.echo)
    except (ValueError, TypeError, OSError, ImportError) as error:
        typer.echo(f"koopcore: {error}", err=True)
        raise typer.Exit(1) from error


def _rank(given: str | None) -> Any:
    if given is None:
        return False
    if given in ("all", "svht", "cv"):
        return None if given == "all" else given
    try:
        return float(given) if "." in given else int(given)
    except ValueError:
        raise ValueError(
            f"rank={given!r} is neither a number, a share of the energy, svht, cv nor all"
        ) from None


def _shape(given: str | None) -> list[int] | None:
    if given is None:
        return None
    try:
        return [int(side) for side in given.replace("x", ",").split(",")]
    except ValueError:
        raise ValueError(f"shape={given!r} must be numbers, such as 1000,-1") from None
