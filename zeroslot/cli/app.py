"""The command line: its groups of commands. zeroslot.cli says how it ends.

Each group has a module, which declares the options of its commands. A command imports the module that does its work
only when it runs, so that none waits for the packages of another.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

import zeroslot as zs
from zeroslot.cli import STATUS, exchanging, exporting, housekeeping, observing, picturing

app = typer.Typer(
    help="Zero-copy publish/subscribe between the processes of one host, over shared memory.",
    epilog=STATUS,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run() -> int:
    """Run the command line on `sys.argv`: its exit status. Raises BrokenPipeError."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    out, err = sys.stdout, sys.stderr
    try:
        app(prog_name="zeroslot")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer has ended with 1, and replaced both streams
            sys.stdout, sys.stderr = out, err
            raise BrokenPipeError from None
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        print(f"zeroslot {zs.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Zero-copy publish/subscribe between the processes of one host, over shared memory."""


for group in (observing, exchanging, picturing, exporting, housekeeping):
    group.register(app)
