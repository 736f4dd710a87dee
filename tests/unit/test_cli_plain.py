"""The command line without typer or rich: `list`, `info` and `gc` work, the others say what is missing."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

import zeroslot as zs
from tests.verbs import declared_verbs
from zeroslot.cli import plain
from zeroslot.testing import abandon

VERBS = ("list", "info", "gc")


class Tick(zs.Sample):
    number: int = 0


def zeroslot(*arguments: str, without: str | None = None) -> subprocess.CompletedProcess[str]:
    hidden = f"import sys; sys.modules[{without!r}] = None\n" if without else "import sys\n"
    program = f"{hidden}from zeroslot.cli import main\nsys.exit(main())"
    return subprocess.run([sys.executable, "-W", "error", "-c", program, *arguments], capture_output=True, text=True)


def outcome(*arguments: str, without: str | None = None) -> tuple[int, str]:
    done = zeroslot(*arguments, without=without)
    return done.returncode, done.stdout


@pytest.mark.row("SEG-23", "DIS-9")
@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_list_info_and_gc_need_no_extra(missing: str):
    """They print the same, as text and as JSON, and end with the same status."""
    with zs.Publisher("robot/imu", Tick) as pub, zs.Subscriber("robot/imu", Tick):
        pub.publish({"number": 1})
        for words in (["list"], ["info", "robot/imu"], ["info", "nothing"], ["list", "-d", "lab"], ["gc"]):
            for form in ([], ["--json"]):
                plain, whole = (outcome(*words, *form, without=each) for each in (missing, None))
                assert plain == whole
        assert zeroslot("info", "robot/imu", without=missing).stdout.count("\n  subscriber ") == 1
    abandon(zs.Publisher("robot/dead", Tick, domain="lab"))
    (found,) = json.loads(zeroslot("gc", "--all", "--dry-run", "--json", without=missing).stdout)
    assert (found["what"], found["removed"]) == ("a dead publisher of robot/dead", False)
    assert zeroslot("gc", "--domain", "lab", without=missing).stdout.startswith("removed: a dead publisher")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_any_other_command_names_the_missing_package(missing: str):
    """With what to install, and no traceback."""
    done = zeroslot("demo", without=missing)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"zeroslot demo needs {missing}, which is not installed: pip install 'zeroslot[cli]'\n"
    assert "pip install 'zeroslot[cli]'" in " ".join(zeroslot("--help", without=missing).stdout.split())


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], 2),
        (["--help"], 0),
        (["--version"], 0),
        (["list", "--nonsense"], 2),
        (["info"], 2),
        (["gc", "--all", "-d", "lab"], 2),
        (["list", "-d", "no/domain"], 1),
    ],
)
def test_its_statuses_are_those_of_the_whole_command_line(words: list[str], status: int):
    """Scripts need not know what is installed."""
    assert [zeroslot(*words, without=each).returncode for each in ("typer", None)] == [status, status]


def test_its_options_are_those_of_the_whole_command_line():
    """Each verb has the same options and arguments in both."""
    verbs = next(
        action.choices
        for action in plain.parser("typer")._actions
        if isinstance(action, argparse._SubParsersAction) and action.choices is not None
    )
    whole = declared_verbs()
    for verb in VERBS:
        here = {name for action in verbs[verb]._actions for name in action.option_strings or [action.dest]}
        there = {name for parameter in whole[verb].params for name in parameter.opts}
        assert here - {"-h", "--help"} == there
