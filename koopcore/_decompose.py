"""What ``koopcore dmd FILE`` does: choose stream or batch, fit, write the results."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopcore import _blocks, outofcore
from koopcore._base import FitOptions, Rank
from koopcore._opening import open_source
from koopcore._sources import Source
from koopcore.dmd import DMD
from koopcore.io import _replace, save
from koopcore.streaming_dmd import StreamingDMD

RANK = 10  # where none is given
FEW = 256  # snapshots up to which the Gram matrix costs less than a stream
CHEAP = 2e10  # multiply-adds of a Gram matrix, and cubes, that take about a second
MANY = 4096  # snapshots up to which it is still no burden
PIECE = 4096  # bytes below which reading a file in pieces takes longer than putting it in order
SAVED = 1 << 26  # bytes of snapshots up to which a batch model, which holds them, is saved
DRAWN_ROWS, DRAWN_PIXELS = 1 << 20, 1 << 22  # of a mode
SHOWN = 12  # modes printed

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What the user asked for; ranges are checked by the models."""

    rank: Rank | bool = False  # False: none was given
    variant: str = "standard"
    affine: bool = False
    delays: int = 1
    forgetting: float = 1.0
    dt: float = 1.0
    way: str = "auto"  # or "stream", "batch"
    modes: bool = True

    @property
    def batch_only(self) -> str:
        """Why a stream cannot do this, or nothing."""
        if self.variant == "optimized":
            return "variant='optimized' fits all snapshots at once"
        if not (self.rank is False or isinstance(self.rank, int)):
            return f"rank={self.rank!r} is chosen from all snapshots at once"
        return ""


def choose(source: Source, options: Options) -> tuple[str, str]:
    """Return "batch" or "stream", and why.

    Raises
    ------
    ValueError
        If no way, or not the one that was asked for, can do all that was asked for.
    """
    fixed = options.batch_only
    if source.dtype.kind == "c":
        fixed = fixed or "complex snapshots are fitted all at once"
    if options.forgetting != 1.0:
        if fixed or options.way == "batch":
            raise ValueError(
                f"forgetting={options.forgetting!r} takes a stream, but "
                f"{fixed or 'a batch fit is asked for'}"
            )
        return "stream", f"forgetting={options.forgetting!r}"
    if options.way == "stream" and fixed:
        raise ValueError(f"a stream is asked for, but {fixed}")
    if options.way != "auto" or fixed:
        return ("batch" if fixed else options.way), fixed or "as asked for"
    count = source.n_snapshots
    if count <= FEW or max(source.n_features, count) * count**2 <= CHEAP:
        return "batch", "exact and cheap, from the Gram matrix of all snapshots"
    if count <= MANY and _piece(source) < PIECE:
        return "batch", "the numbers of a feature lie together: from the Gram matrix, row by row"
    states = (RANK if options.rank is False else int(options.rank or 0)) + 26
    needed = states * source.n_features * source.dtype.itemsize
    if count <= MANY and needed > 0.5 * _physical_memory():
        return "batch", f"a stream would hold {states} states, {_size(needed)}"
    return "stream", f"{count} snapshots in one pass"


def _piece(source: Source) -> float:
    """Bytes that lie together in a block of columns; infinite where whole states do."""
    return float("inf") if source.time_first else _blocks.STRIDED_MEMORY / source.n_features


def _physical_memory() -> float:
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def decompose(
    source: Source,
    options: Options,
    out: Path,
    *,
    progress: bool = False,
    say: Say = print,
) -> DMD | StreamingDMD:
    """Fit the snapshots of a source and write the results into a folder."""
    way, why = choose(source, options)
    say(
        f"{source.name}: {source.n_features} features, {source.n_snapshots} snapshots of "
        f"{source.dtype} ({_size(_bytes(source))})"
    )
    say(f"{way}: {why}")
    out.mkdir(parents=True, exist_ok=True)
    begun = perf_counter()
    model: DMD | StreamingDMD
    if way == "batch":
        model = _batch(source, options, progress)
    else:
        model = _stream(source, options, out, progress, say)
    model.eigenvalues  # noqa: B018  a stream is fitted when it is asked
    say(f"fitted in {perf_counter() - begun:.1f} s: rank {len(model.eigenvalues)}")
    _print_table(model, say)
    _write(source, model, options, out, progress, say)
    return model


def _batch(source: Source, options: Options, progress: bool) -> DMD:
    given: dict[str, Any] = {"variant": options.variant, "affine": options.affine}
    given["delays"] = options.delays
    rank: Any = options.rank
    if rank is False:  # no more than there are pairs of snapshots
        least = FitOptions.checked(**given).least_snapshots
        rank = max(1, min(RANK, source.n_snapshots - least + 1))
    model = DMD(rank=rank, dt=options.dt, **given)
    return outofcore.fit(model, source, progress=progress)


def _stream(source: Source, options: Options, out: Path, progress: bool, say: Say) -> StreamingDMD:
    model = StreamingDMD(
        rank=RANK if options.rank is False else int(options.rank or 0),
        variant=options.variant,
        affine=options.affine,
        delays=options.delays,
        forgetting=options.forgetting,
        dt=options.dt,
    )
    if _piece(source) >= PIECE:
        return outofcore.feed(model, source, progress=progress)
    ordered = out / "snapshots-in-order.npy"
    free, needed = shutil.disk_usage(out).free, _bytes(source)
    if free < 1.05 * needed:
        raise ValueError(
            f"the numbers of a feature lie together in {source.name!r}; a stream would have it "
            f"written in another order to {str(out)!r}, which has {_size(free)} left of the "
            f"{_size(needed)} that this takes: give another folder, or ask for a batch fit"
        )
    say(f"putting the snapshots in order, into {ordered} for the time being")
    try:
        outofcore.reorder(source, ordered, memory=_blocks.STRIDED_MEMORY, progress=progress)
        with open_source(ordered) as turned:
            turned.name, turned.first = source.name, source.first  # for messages
            return outofcore.feed(model, turned, progress=progress)
    finally:
        ordered.unlink(missing_ok=True)


def _bytes(source: Source) -> int:
    return source.n_features * source.n_snapshots * source.dtype.itemsize


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000.0:
            return f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:.3g} TB"


def _print_table(model: DMD | StreamingDMD, say: Say) -> None:
    values, amplitudes = model.eigenvalues, np.abs(model.amplitudes)
    if not len(values):
        say("the snapshots are zero: there are no modes")
        return
    say(
        f"{'eigenvalue':>22} {'modulus':>10} {'frequency':>11} {'growth rate':>12} "
        f"{'amplitude':>11}"
    )
    for k, value in enumerate(values[:SHOWN]):
        said = f"{value.real:.6f}{value.imag:+.6f}j"
        say(
            f"{said:>22} {abs(value):10.6f} {model.frequency[k]:11.4g} "
            f"{model.growth_rate[k]:12.4g} {amplitudes[k]:11.4g}"
        )
    if len(values) > SHOWN:
        say(f"{'... and ' + str(len(values) - SHOWN) + ' more':>22}")


def _write(
    source: Source,
    model: DMD | StreamingDMD,
    options: Options,
    out: Path,
    progress: bool,
    say: Say,
) -> None:
    _write_eigenvalues(out / "eigenvalues.csv", model)
    say(f"eigenvalues: {out / 'eigenvalues.csv'}")
    modes: NDArray[Any] | None = None
    image = len(source.grid) == 2 and source.n_features <= DRAWN_PIXELS
    every = 1 if image else max(1, -(-source.n_features // DRAWN_ROWS))
    if options.modes:
        modes = outofcore.write_modes(out / "modes.npy", model, every=every, progress=progress)
        say(f"modes:       {out / 'modes.npy'}")
    else:
        (out / "modes.npy").unlink(missing_ok=True)  # older ones would be of another fit
    if isinstance(model, StreamingDMD) or _bytes(source) <= SAVED:
        save(out / "model.npz", model)
        say(f"model:       {out / 'model.npz'}")
    else:
        (out / "model.npz").unlink(missing_ok=True)
        say("model:       not saved, since a batch model holds all its snapshots")
    if importlib.util.find_spec("matplotlib") is None:
        say('picture:     not drawn; it needs matplotlib: pip install "koopcore[plot]"')
        return
    _draw(out / "summary.png", model, modes, source.grid if image else None, every)
    say(f"picture:     {out / 'summary.png'}")


def _write_eigenvalues(path: Path, model: DMD | StreamingDMD) -> None:
    """Write one row per mode; numbers read back as they were."""
    values, omega, amplitudes = model.eigenvalues, model.omega, model.amplitudes
    columns = {
        "eigenvalue_real": values.real,
        "eigenvalue_imag": values.imag,
        "omega_real": omega.real,
        "omega_imag": omega.imag,
        "frequency": model.frequency,
        "growth_rate": model.growth_rate,
        "amplitude": np.abs(amplitudes),
        "amplitude_real": amplitudes.real,
        "amplitude_imag": amplitudes.imag,
    }

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(columns)
            rows.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))

    _replace(Path(os.path.realpath(path)), write)


class Drawn:
    """A model with modes that are few enough to draw, and without its snapshots."""

    snapshots = None

    def __init__(self, model: DMD | StreamingDMD, modes: NDArray[Any] | None) -> None:
        self._model, self.modes = model, modes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _draw(
    path: Path,
    model: DMD | StreamingDMD,
    modes: NDArray[Any] | None,
    grid: tuple[int, ...] | None,
    every: int,
) -> None:
    from matplotlib import pyplot

    from koopcore.plotting import plot_summary

    pyplot.switch_backend("agg")
    shape = None if grid is None else (grid[0], grid[1])
    figure = plot_summary(Drawn(model, modes), shape, modes=modes is not None)
    for ax in figure.axes if every > 1 else []:
        if ax.get_xlabel() == "entry of the state":
            ax.set_xlabel(f"entry of the state / {every}")
    _replace(
        Path(os.path.realpath(path)), lambda temporary: figure.savefig(temporary, format="png")
    )
    pyplot.close(figure)
