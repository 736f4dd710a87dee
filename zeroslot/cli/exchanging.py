"""The commands that publish and take samples: by hand, as a demonstration, or to measure."""

from __future__ import annotations

from typing import Annotated

import typer

from zeroslot.cli.options import Domain, Json, Topic, as_expression, exit_with


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(echo)
    app.command()(pub)
    app.command()(demo)
    app.command()(bench)


def echo(
    topic: Topic,
    domain: Domain = None,
    once: Annotated[bool, typer.Option("--once", help="End after one sample.")] = False,
    times: Annotated[int | None, typer.Option("--times", "-n", help="End after so many samples.", min=1)] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="The newest sample each time; those before it are skipped.")
    ] = False,
    history: Annotated[
        int, typer.Option(help="How many older samples to begin with, as far as they are kept.", min=0)
    ] = 0,
    timeout: Annotated[
        float | None, typer.Option(help="End after so many seconds without a sample.", min=0, show_default="never")
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", help="Print this field or expression alone; may be given several times."),
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="EXPR", help="Print only samples of which this is true.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, with a line of titles.")] = False,
    no_arr: Annotated[bool, typer.Option("--no-arr", help="Of arrays and lists print the size alone.")] = False,
    truncate_length: Annotated[
        int | None,
        typer.Option(
            help="The most items of an array or list, and characters of a text.",
            min=0,
            show_default="64 in text, else all",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Print the samples of a topic. Their type is read from the publisher: no class is needed.

    It reads as a best-effort subscriber, so no publisher waits for it, and goes on until Ctrl-C.

        zeroslot echo robot/imu

        zeroslot echo robot/imu --once --history 1

        zeroslot echo robot/imu --field accel --field "norm(accel)"

        zeroslot echo robot/imu --filter "accel[2] > 9" --csv > imu.csv

        zeroslot echo robot/imu -n 100 --json > imu.jsonl

    An expression has fields, numbers, texts, comparisons, arithmetic, and, or, not, indexes, slices, and the functions
    abs, all, any, len, max, mean, min, norm and sum. A sample of an array or of bytes is called data.

    With --json an object on a line for each sample: "topic", "publisher_id", "sequence", "published_ns" (the monotonic
    clock), "lost" (of this reader, so far) and "sample", as `zeroslot pub` reads it. What --truncate-length cuts ends
    with "…". Ends with status 1 when --timeout is over and a sample that was asked for is missing.
    """
    from zeroslot.cli.echo import print_samples
    from zeroslot.cli.reading import Source

    if csv and json:
        raise typer.BadParameter("give one of --csv and --json", param_hint="--csv")
    wanted = 1 if once else times
    exit_with(
        print_samples(
            Source(topic, domain, max(history, int(latest)), latest, wanted, timeout),
            [as_expression(each, "--field") for each in field or ()],
            as_expression(filter_, "--filter") if filter_ is not None else None,
            output="csv" if csv else "json" if json else "text",
            arrays=not no_arr,
            limit=truncate_length,
        )
    )


def pub(
    topic: Topic,
    sample: Annotated[str, typer.Argument(metavar="JSON", help="The sample, or - for one on each line of stdin.")],
    domain: Domain = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Samples a second, until Ctrl-C or --times.", min=0.001, show_default="back to back"),
    ] = None,
    times: Annotated[
        int | None,
        typer.Option("--times", "-n", help="How many samples.", min=1, show_default="1; without end with --rate"),
    ] = None,
    type_: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="FILE:Class",
            help="The type, where no publisher has it: robot.py:Imu, a schema (FILE.json), ndarray or bytes.",
        ),
    ] = None,
    fill: Annotated[bool, typer.Option("--fill", help="Fields that are not given are zero or empty.")] = False,
    wait: Annotated[int, typer.Option(help="Wait for so many subscribers first.", min=0)] = 1,
    timeout: Annotated[
        float | None, typer.Option(help="Wait for them no longer than so many seconds.", min=0, show_default="for ever")
    ] = None,
    linger: Annotated[
        float,
        typer.Option(
            help="Seconds to wait for subscribers that are there: to attach first, unless --wait is 0, and at the end "
            "to take everything.",
            min=0,
        ),
    ] = 1.0,
    json: Json = False,
) -> None:
    """Publish a sample that is given as JSON, once, several times, or at a rate.

    The type is that of a live publisher of the topic, or what --type says. FILE is run as a module. Reliable
    subscribers get every sample: it waits for them.

        zeroslot pub robot/imu '{"stamp_ns": 7, "accel": [0, 0, 9.8]}'

        zeroslot pub robot/imu '{"stamp_ns": 7}' --fill --rate 10 --times 20

        zeroslot pub robot/log '{"text": "started"}' --type log.py:Log --wait 0

        jq -c .sample imu.jsonl | zeroslot pub robot/imu - --wait 0

    Enumerators are numbers or names, bytes are base64, and an optional may be null. An array sample is nested lists, or
    {"dtype": "uint8", "data": nested lists}. With --json an object at the end: "topic", "type", "published" and
    "subscribers". Ends with status 1 when the sample does not fit the type, or --timeout is over.
    """
    from zeroslot.cli.publish import Plan, publish_samples
    from zeroslot.cli.types import named_type, published_type

    if sample == "-" and times is not None:
        raise typer.BadParameter("each line of stdin is published once", param_hint="--times")
    ends = sample == "-" or rate is not None
    plan = Plan(topic, sample, domain, rate, times or (None if ends else 1), wait, timeout, linger)
    sample_type = named_type(type_) if type_ is not None else published_type(topic, domain)
    exit_with(publish_samples(plan, sample_type, fill=fill, json_output=json))


def demo(
    seconds: Annotated[float, typer.Option(help="How long it runs; Ctrl-C ends it earlier.", min=0.1)] = 10.0,
    json: Json = False,
) -> None:
    """See it run: an IMU at 1 kHz and a 1080p camera at 60 Hz, each read by two processes.

    Ends with status 0 when every sample arrived whole at every subscriber.

        zeroslot demo --seconds 3
    """
    from zeroslot.cli.demo import run_demo

    exit_with(run_demo(seconds, json_output=json))


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="latency, handover, throughput, fanout, calls, import or attach; all of them where none is named.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds: a look, not a figure to quote.")] = False,
    json: Json = False,
) -> None:
    """Measure this machine: latency, throughput, fan-out, the cost of each call, import and attach.

    Stop other programs meanwhile: the figures are of what they leave of the machine. With --json an object with
    "machine" and "rows".

        zeroslot bench calls attach --quick
    """
    from zeroslot.cli.bench import MEASUREMENTS, run_bench

    unknown = [name for name in names or () if name not in MEASUREMENTS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(MEASUREMENTS)}", param_hint="NAME")
    exit_with(run_bench(names or list(MEASUREMENTS), quick=quick, json_output=json))
