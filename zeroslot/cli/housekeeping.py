"""The commands that keep a machine in order: what is left of dead processes, and what is wrong."""

from __future__ import annotations

from typing import Annotated

import typer

from zeroslot.cli.options import Domain, Json, complete_topic, exit_with


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(gc)
    app.command()(doctor)


def gc(
    domain: Domain = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All domains, and segments without an owner of every ZEROSLOT_DIR.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what there is, remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Remove what dead processes left in a domain, and segments without an owner.

    What live processes use is not touched, and nothing of another root (ZEROSLOT_DIR) without --all. One line for each
    thing: "removed", "found" (with --dry-run), "not removed", or "left alone" (what cannot be read, such as a file of
    another version); what it was, and where. With --json a list of objects with the same: "what" (a text), "where" (a
    path, or the name of a shared-memory object), "removed" (true or false), "owner_uid" and "size_bytes" (of objects
    that only another user or root can remove; else null and 0).

        zeroslot gc --dry-run

    Ends with status 0 when all that was found is removed, and after --dry-run; with 1 when something stays, such as
    another user's file.
    """
    from zeroslot.cli.cleaning import clean_domain

    if everything and domain is not None:
        raise typer.BadParameter("it is for all domains: give no --domain with it", param_hint="--all")
    exit_with(clean_domain(domain, everything=everything, dry_run=dry_run, json_output=json))


def doctor(
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="TOPIC", help="A topic that stays silent, such as robot/imu.", autocompletion=complete_topic
        ),
    ] = None,
    domain: Domain = None,
    json: Json = False,
) -> None:
    """Look for what is wrong: with this machine, with the domain, and with a topic that stays silent.

    Of the machine: kernel, shared memory, limits, systemd's RemoveIPC, huge pages, cores. Of the domain: permissions,
    and what dead processes left. Of a topic: its publishers and subscribers, and where it has no publisher, similar
    names, other domains, and other users. Nothing is changed. With --json a list of objects: "check", "verdict" ("ok",
    "note" or "wrong"), "what" and "advice".

        zeroslot doctor

        zeroslot doctor robot/imu || echo "something is wrong"

    Ends with status 1 when something is wrong; notes are no error.
    """
    from zeroslot.cli.diagnosis import examine

    exit_with(examine(topic, domain, json_output=json))
