"""The commands that look at live topics and take no part in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import typer

from zeroslot.cli.options import Domain, Interval, Json, Once, SomeTopic, Times, Topic, exit_with

Sort = Literal["topic", "rate", "bandwidth", "lag", "lost", "p99"]

Language = Literal["idl", "c", "dtype", "json", "python"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list")(list_)
    app.command()(info)
    app.command()(schema)
    app.command("hz", help=HZ)(_rates("hz"))
    app.command("bw", help=BW)(_rates("bw"))
    app.command()(latency)
    app.command()(stat)
    app.command()(top)


def list_(
    domain: Domain = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="A line for each publisher and each subscriber.")
    ] = False,
    all_domains: Annotated[bool, typer.Option("--all", help="The topics of every domain.")] = False,
    json: Json = False,
) -> None:
    """List the topics that have a publisher, and what cannot be read.

    Topics that have only subscribers, which wait for a publisher, are in it. With --json a list of the records that
    `zeroslot.topics(waiting=True)` gives.

        zeroslot list -v --all

        zeroslot list --json | jq -r '.[].topic'
    """
    from zeroslot.cli.listing import list_topics

    exit_with(list_topics(domain, verbose=verbose, all_domains=all_domains, json_output=json))


def info(topic: Topic, domain: Domain = None, json: Json = False) -> None:
    """Show a topic's publishers, its subscribers, and what each has taken, lost and holds.

    With --json the record that `zeroslot.inspect(topic, waiting=True)` gives. Ends with status 1 when the topic has no
    publisher that can be read.

        zeroslot info robot/imu
    """
    from zeroslot.cli.topics import show_topic

    exit_with(show_topic(topic, domain, json_output=json))


def schema(
    topic: Topic,
    language: Annotated[Language, typer.Option("--as", help="The language in which the type is printed.")] = "idl",
    domain: Domain = None,
    json: Json = False,
) -> None:
    """Print the type of a topic's samples: as OMG IDL, a C header, a numpy dtype, JSON Schema or a Python class.

    It is read from the segment of a live publisher. What a publisher keeps for itself is not in it: defaults and
    constraints.

        zeroslot schema robot/imu --as python > imu.py

    With --json an object: "topic", "domain", "types", a list with "name", "type_hash", "size_bytes", "publisher_id",
    "as" and "schema" of each type that is published, and "problems". Ends with status 1 when no publisher can be read.
    """
    from zeroslot.cli.schemas import print_schema

    exit_with(print_schema(topic, domain, language, json_output=json))


HZ = """Show at what rate a topic is published, without subscribing.

    The rate is exact, however high: it comes from the numbers and the times of the newest samples at both ends of the
    interval. Single periods are known of the samples that were seen, as many as the column says. With --json an
    object a line; "between" has the two samples that a rate is of.

        zeroslot hz robot/imu --times 5

    Ends with status 1 when the topic has no publisher that can be read.
    """
BW = """Show how many bytes a second a topic carries, without subscribing.

    It is the exact rate times the mean size of the interval's samples; the smallest and the largest size are those of
    the samples that were seen. With --json an object a line, as from hz.

        zeroslot bw camera/left --interval 0.5

    Ends with status 1 when the topic has no publisher that can be read.
    """


def _rates(what: Literal["hz", "bw"]) -> Callable[..., None]:
    """The command for one of the two, which have the same options."""

    def report(
        topic: Topic,
        domain: Domain = None,
        interval: Interval = 1.0,
        times: Times = 0,
        once: Once = False,
        json: Json = False,
    ) -> None:
        from zeroslot.cli.measuring import report_rates

        count = 1 if once else times
        exit_with(report_rates(topic, domain, what=what, interval=interval, times=count, json_output=json))

    return report


def latency(
    topic: Topic,
    domain: Domain = None,
    interval: Annotated[
        float | None,
        typer.Option("--interval", "-i", help="Report every so many seconds what was counted since.", min=0.05),
    ] = None,
    times: Times = 0,
    json: Json = False,
) -> None:
    """Show how long samples waited for each subscriber: p50, p90, p99, p99.9 and the longest.

    Each subscriber counts one take in 64, in buckets a quarter wide or less, so a percentile is at most 13 % off, and
    the rarest waits are seen in the long run. Without --interval it is all that they have counted since they attached,
    with a histogram, once. "waiting" and "lag": how many samples wait now, and how long the oldest of them has. With
    --json an object: "subscribers" have "latency_ns", and "bucket_ns" with the ends of each percentile's bucket.

        zeroslot latency robot/imu --interval 5

    Ends with status 1 when the topic has no publisher that can be read.
    """
    from zeroslot.cli.latency import report_latencies

    exit_with(report_latencies(topic, domain, interval=interval, times=times, json_output=json))


def stat(topic: SomeTopic = None, domain: Domain = None, json: Json = False) -> None:
    """Show all counters: of publishers, their pools, and what each subscriber has taken, lost and holds.

    Of all topics where none is named. With --json the record that `zeroslot.Monitor().snapshot()` gives.

        zeroslot stat robot/imu --json | jq '.publishers[].subscribers[].lost'

    Ends with status 1 when the topic that is named has no publisher that can be read.
    """
    from zeroslot.cli.counters import print_counters

    exit_with(print_counters(topic, domain, json_output=json))


def top(
    domain: Domain = None,
    interval: Interval = 0.5,
    sort: Annotated[Sort, typer.Option("--sort", help="The column that is sorted by; keys change it.")] = "topic",
    once: Annotated[bool, typer.Option("--once", help="Print a table of one interval and end.")] = False,
    json: Json = False,
) -> None:
    """Watch all topics of a domain: rates and their history, and what each subscriber takes, loses and is behind.

    Keys sort and move; the last line names them. Nothing is subscribed to, and no publisher notices. A subscriber's
    "lag" is the age of the oldest sample that waits for it; its p50 and p99 are of the last ten seconds, at most 13 %
    off. With --json an object an interval, with --once one.

        zeroslot top --once --json | jq '.publishers[] | {topic, rate_hz}'

    Ends with status 0 after q, and with 1 where there is no terminal to show it on.
    """
    from zeroslot.cli.top import run_top

    exit_with(run_top(domain, interval=interval, sort=sort, once=once, json_output=json))
