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

File = Annotated[
    Path, typer.Argument(help="Snapshots: .npy, HDF5 (.h5, .nc), zarr, or raw binary.")
]
TimeAxis = Annotated[
    int, typer.Option(help="Axis that counts the snapshots: 0, or -1 for the last.", **SOURCE)
]
Dataset = Annotated[
    str | None, typer.Option(help="Name of the dataset in an HDF5 or zarr file.", **SOURCE)
]
Dtype = Annotated[str | None, typer.Option(help="Of a raw file, such as float32 or >f8.", **SOURCE)]
Shape = Annotated[
    str | None,
    typer.Option(help="Of a raw file in C order, such as 1000,-1 (-1: as many as are).", **SOURCE),
]
Offset = Annotated[int, typer.Option(help="Bytes before the numbers of a raw file.", **SOURCE)]
AsType = Annotated[
    str | None, typer.Option(help="Convert the numbers: float32 or float64.", **SOURCE)
]
Start = Annotated[int, typer.Option(help="First snapshot to use.", **SOURCE)]
Stop = Annotated[int | None, typer.Option(help="The one after the last to use.", **SOURCE)]
Rank = Annotated[
    str | None,
    typer.Option(
        help="Modes: a number, a share of the energy such as 0.999, svht, cv, or all. By "
        "default 10 at most.",
        **FIT,
    ),
]
Variant = Annotated[
    str, typer.Option(help="standard, tls, forward-backward, symmetric or optimized.", **FIT)
]
Affine = Annotated[
    bool, typer.Option("--affine", help="Fit a fixed point as well, by differences.", **FIT)
]
Delays = Annotated[int, typer.Option(help="Successive snapshots stacked into one state.", **FIT)]
Forgetting = Annotated[float, typer.Option(help="Weight of a step per later step, up to 1.", **FIT)]
Dt = Annotated[float, typer.Option(help="Time between two snapshots.", **FIT)]
Way = Annotated[
    bool | None,
    typer.Option(
        "--stream/--batch", help="One pass, or the Gram matrix; by default as it fits.", **FIT
    ),
]
Modes = Annotated[bool, typer.Option("--modes/--no-modes", help="Write the modes.")]
Out = Annotated[Path, typer.Option(file_okay=False, help="Folder for the results.")]


def dmd(
    file: File,
    time_axis: TimeAxis = -1,
    dataset: Dataset = None,
    dtype: Dtype = None,
    shape: Shape = None,
    offset: Offset = 0,
    as_type: AsType = None,
    start: Start = 0,
    stop: Stop = None,
    rank: Rank = None,
    variant: Variant = "standard",
    affine: Affine = False,
    delays: Delays = 1,
    forgetting: Forgetting = 1.0,
    dt: Dt = 1.0,
    stream: Way = None,
    modes: Modes = True,
    out: Out = Path("koopcore-dmd"),
) -> None:
    """Decompose the snapshots in FILE, of any size, into modes with their frequencies and rates.

    Writes eigenvalues.csv, modes.npy, model.npz and summary.png. Columns are snapshots, or with
    --time-axis 0 rows. Amplitudes belong to the first snapshot (batch) or the newest (stream).
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
