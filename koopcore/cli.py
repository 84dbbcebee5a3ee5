"""The command line: ``koopcore dmd``, ``compare``, ``tune``, ``arena`` and ``paper``.

Nothing here imports torch, scikit-learn or matplotlib before the arguments have been checked, so
that help and error messages come at once.
"""

from __future__ import annotations

import logging

try:
    import typer
except ModuleNotFoundError as error:  # the core needs numpy alone
    raise SystemExit(
        'koopcore: the command line needs typer; install it with pip install "koopcore[cli]"'
    ) from error

from koopcore._cli_arena import app as arena
from koopcore._cli_compare import compare, tune
from koopcore._cli_dmd import dmd
from koopcore._cli_paper import paper

app = typer.Typer(
    name="koopcore",
    help="Koopman operators: of files of snapshots, and of training, measured on your machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    logging.basicConfig(format="%(name)s: %(message)s")


for command in (dmd, compare, tune, paper):
    app.command()(command)
app.add_typer(arena, name="arena")


def main() -> None:
    """Run the command line."""
    app()
