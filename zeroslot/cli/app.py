"""The commands and their options. Each calls a module that does the work."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

import zeroslot as zs
from zeroslot.cli.processes import ChildError

app = typer.Typer(
    help="Zero-copy publish/subscribe between the processes of one host, over shared memory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Domain = Annotated[str | None, typer.Option("--domain", "-d", help="The domain to look in.", show_default="default")]


def run() -> int:
    """Run the command line on `sys.argv`: its exit status.

    An error of the library, of a child or of the system is printed as one line, without a traceback.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        app(prog_name="zeroslot")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (zs.ZeroslotError, ChildError, OSError) as error:
        print(f"zeroslot: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _end(status: int) -> None:
    if status:
        raise typer.Exit(status)


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


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(help="How long it runs; Ctrl-C ends it earlier.", min=0.1)] = 10.0,
    json: Json = False,
) -> None:
    """See it run: an IMU at 1 kHz and a 1080p camera at 60 Hz, each read by two processes.

    Ends with status 0 when every sample arrived whole at every subscriber.
    """
    from zeroslot.cli.demo import run_demo

    _end(run_demo(seconds, json_output=json))


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which measurements; all of them where none is named.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds: a look, not a figure to quote.")] = False,
    json: Json = False,
) -> None:
    """Measure this machine: latency, throughput, fan-out, the cost of each call, import and attach."""
    from zeroslot.cli.bench import MEASUREMENTS, run_bench

    unknown = [name for name in names or () if name not in MEASUREMENTS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(MEASUREMENTS)}", param_hint="names")
    _end(run_bench(names or list(MEASUREMENTS), quick=quick, json_output=json))


@app.command(name="list")
def list_(domain: Domain = None, json: Json = False) -> None:
    """List the topics that have a publisher."""
    from zeroslot.cli.topics import list_topics

    _end(list_topics(domain, json_output=json))


@app.command()
def info(
    topic: Annotated[str, typer.Argument(help="The topic's name.")], domain: Domain = None, json: Json = False
) -> None:
    """Show a topic's publishers, its subscribers, and what each has taken, lost and holds."""
    from zeroslot.cli.topics import show_topic

    _end(show_topic(topic, domain, json_output=json))


@app.command()
def gc(
    domain: Domain = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what there is, remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Remove what dead processes left in a domain, and segments without an owner.

    What live processes use is not touched. One line for each thing: "removed", "found" (with --dry-run) or "not
    removed", what it was, and where. With --json a list of objects with the same: "what" (a text), "where" (a path, or
    the name of a shared-memory object), "removed" (true or false), "owner_uid" and "size_bytes" (of objects that only
    another user or root can remove; else null and 0).

    Ends with status 0 when all that was found is removed, and after --dry-run; with 1 when something stays, such as
    another user's file.
    """
    from zeroslot.cli.topics import clean_domain

    _end(clean_domain(domain, dry_run=dry_run, json_output=json))
