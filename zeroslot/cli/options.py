"""What the commands share: options and arguments that mean the same everywhere, and how a command ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

import zeroslot as zs


def exit_with(status: int) -> None:
    """End the command with this exit status; 0 goes on to the end of the command, which is the same."""
    if status:
        raise typer.Exit(status)


def complete_topic(context: typer.Context, incomplete: str) -> Iterator[str]:
    """The topics that a shell offers after TAB: those of the command's domain that begin like what is typed."""
    try:
        found = zs.topics(context.params.get("domain"))
    except (zs.ZeroslotError, OSError):
        return  # a shell in the middle of a line has no place for an error
    yield from (topic.topic for topic in found if topic.topic.startswith(incomplete))


Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Domain = Annotated[str | None, typer.Option("--domain", "-d", help="The domain to look in.", show_default="default")]
Topic = Annotated[
    str, typer.Argument(metavar="TOPIC", help="The topic's name, such as robot/imu.", autocompletion=complete_topic)
]
