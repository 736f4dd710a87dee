"""The commands that publish and take samples: by hand, as a demonstration, or to measure."""

from __future__ import annotations

from typing import Annotated

import typer

from zeroslot.cli.options import Json, exit_with


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(demo)
    app.command()(bench)


def demo(
    seconds: Annotated[float, typer.Option(help="How long it runs; Ctrl-C ends it earlier.", min=0.1)] = 10.0,
    json: Json = False,
) -> None:
    """See it run: an IMU at 1 kHz and a 1080p camera at 60 Hz, each read by two processes.

    Ends with status 0 when every sample arrived whole at every subscriber.
    """
    from zeroslot.cli.demo import run_demo

    exit_with(run_demo(seconds, json_output=json))


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
    exit_with(run_bench(names or list(MEASUREMENTS), quick=quick, json_output=json))
