"""The commands that look at live topics and take no part in them."""

from __future__ import annotations

import typer

from zeroslot.cli.options import Domain, Json, Topic, exit_with


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list")(list_)
    app.command()(info)


def list_(domain: Domain = None, json: Json = False) -> None:
    """List the topics that have a publisher."""
    from zeroslot.cli.topics import list_topics

    exit_with(list_topics(domain, json_output=json))


def info(topic: Topic, domain: Domain = None, json: Json = False) -> None:
    """Show a topic's publishers, its subscribers, and what each has taken, lost and holds."""
    from zeroslot.cli.topics import show_topic

    exit_with(show_topic(topic, domain, json_output=json))
