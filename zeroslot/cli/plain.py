"""`zeroslot list`, `info` and `gc` without typer and rich: the same options, output for programs, and exit statuses.

Why they are declared twice: typer takes its declarations from functions whose module needs typer. A test compares the
two.

Why they run by this declaration also where typer is installed: importing it takes as long as all else that `list` does.
Help, completion and what is wrong in a command line stay typer's.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout

import zeroslot as zs
from zeroslot.cli import STATUS

VERBS = ("list", "info", "gc")
EXTRA = "pip install 'zeroslot[cli]'"


def parser(missing: str) -> argparse.ArgumentParser:
    """The command line. `missing`: the package that the other commands need."""
    made = argparse.ArgumentParser(
        prog="zeroslot",
        description="Zero-copy publish/subscribe between the processes of one host, over shared memory.",
        epilog=f"{STATUS} All other commands need {missing}, which is not installed: {EXTRA}",
    )
    made.add_argument("--version", action="version", version=f"zeroslot {zs.__version__}")
    verbs = made.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    listing = _add(verbs, "list", _list, "List the topics that have a publisher, and what cannot be read.")
    listing.add_argument("-v", "--verbose", action="store_true", help="A line for each publisher and each subscriber.")
    listing.add_argument("--all", dest="all_domains", action="store_true", help="The topics of every domain.")
    info = _add(verbs, "info", _info, "Show a topic's publishers, its subscribers, and what each has taken.")
    info.add_argument("topic", metavar="TOPIC", help="The topic's name, such as robot/imu.")
    gc = _add(verbs, "gc", _gc, "Remove what dead processes left in a domain, and segments without an owner.")
    gc.add_argument(
        "--all",
        dest="everything",
        action="store_true",
        help="All domains, and segments without an owner of every ZEROSLOT_DIR.",
    )
    gc.add_argument("--dry-run", action="store_true", help="List what there is, remove nothing.")
    return made


def _add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.ArgumentParser, argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=text, epilog=STATUS, allow_abbrev=False)
    verb.add_argument("-d", "--domain", metavar="TEXT", help="The domain: that of ZEROSLOT_DOMAIN, or else default.")
    verb.add_argument("--json", action="store_true", help="Print JSON and nothing else.")
    verb.set_defaults(run=run, verb_parser=verb)
    return verb


def _list(_: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    from zeroslot.cli.listing import list_topics

    return list_topics(given.domain, verbose=given.verbose, all_domains=given.all_domains, json_output=given.json)


def _info(_: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    from zeroslot.cli.topics import show_topic

    return show_topic(given.topic, given.domain, json_output=given.json)


def _gc(verb: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    from zeroslot.cli.cleaning import clean_domain

    if given.everything and given.domain is not None:
        verb.error("--all is for all domains: give no --domain with it")
    return clean_domain(given.domain, everything=given.everything, dry_run=given.dry_run, json_output=given.json)


def understood(words: Sequence[str]) -> Callable[[], int] | None:
    """What these words ask for, where it needs neither help nor an error text. None: leave it to the whole one."""
    if not words or words[0] not in VERBS or "_ZEROSLOT_COMPLETE" in os.environ:
        return None
    made = parser("")
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            given = made.parse_args(words)
    except SystemExit:
        return None
    if words[0] == "gc" and given.everything and given.domain is not None:
        return None
    return lambda: int(given.run(given.verb_parser, given))


def run(missing: str) -> int:
    """Run the command line on `sys.argv` without `missing`, one of the packages of the extra: its exit status."""
    made = parser(missing)
    words = sys.argv[1:]
    if not words:
        made.print_help()
        return 2
    if not words[0].startswith("-") and words[0] not in VERBS:
        print(f"zeroslot {words[0]} needs {missing}, which is not installed: {EXTRA}", file=sys.stderr)
        return 1
    try:
        given = made.parse_args(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    status: int = given.run(given.verb_parser, given)
    return status
