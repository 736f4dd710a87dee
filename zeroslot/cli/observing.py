"""The commands that look at live topics and take no part in them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from zeroslot.cli.options import Domain, Json, Topic, exit_with

Language = Literal["idl", "c", "dtype", "json", "python"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list")(list_)
    app.command()(info)
    app.command()(schema)


def list_(
    domain: Domain = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="A line for each publisher and each subscriber.")
    ] = False,
    all_domains: Annotated[bool, typer.Option("--all", help="The topics of every domain.")] = False,
    json: Json = False,
) -> None:
    """List the topics that have a publisher, and what cannot be read.

    With --json a list of the records that `zeroslot.topics()` gives.
    """
    from zeroslot.cli.topics import list_topics

    exit_with(list_topics(domain, verbose=verbose, all_domains=all_domains, json_output=json))


def info(topic: Topic, domain: Domain = None, json: Json = False) -> None:
    """Show a topic's publishers, its subscribers, and what each has taken, lost and holds.

    Ends with status 1 when the topic has no publisher that can be read.
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
