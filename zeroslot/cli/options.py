"""What the commands share: options and arguments that mean the same everywhere, and how a command ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

import zeroslot as zs

if TYPE_CHECKING:
    from zeroslot.cli.expression import Expression


def exit_with(status: int) -> None:
    """End the command with this exit status; 0 goes on to the end of the command, which is the same."""
    if status:
        raise typer.Exit(status)


def as_expression(text: str, option: str) -> Expression:
    """The expression that an option has; a wrong one is a wrong command line."""
    from zeroslot.cli.expression import Expression, ExpressionError

    try:
        return Expression(text)
    except ExpressionError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def complete_topic(context: typer.Context, incomplete: str) -> Iterator[str]:
    """The topics that a shell offers after TAB: those of the command's domain that begin like what is typed."""
    try:
        found = zs.topics(context.params.get("domain"), waiting=True)
    except (zs.ZeroslotError, OSError):
        return  # a shell in the middle of a line has no place for an error
    yield from (topic.topic for topic in found if topic.topic.startswith(incomplete))


Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Domain = Annotated[
    str | None,
    typer.Option("--domain", "-d", help="The domain: that of ZEROSLOT_DOMAIN, or else default.", show_default=False),
]
Topic = Annotated[
    str, typer.Argument(metavar="TOPIC", help="The topic's name, such as robot/imu.", autocompletion=complete_topic)
]
Interval = Annotated[float, typer.Option("--interval", "-i", help="Seconds from one report to the next.", min=0.05)]
Times = Annotated[
    int, typer.Option("--times", "-n", help="How many reports; 0: until Ctrl-C.", min=0, show_default=False)
]
Once = Annotated[bool, typer.Option("--once", help="One report, the same as --times 1.")]
SomeTopic = Annotated[
    str | None,
    typer.Argument(metavar="TOPIC", help="A topic's name; all topics without one.", autocompletion=complete_topic),
]
