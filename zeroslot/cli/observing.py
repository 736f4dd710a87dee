"""The commands that look at live topics and take no part in them."""

from __future__ import annotations

from typing import Annotated

import typer

from zeroslot.cli.options import Domain, Json, Topic, exit_with


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list")(list_)
    app.command()(info)


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
