"""Every command of `zeroslot`, run as a process against a live publisher: what it ends with, and how it ends early.

A new command gets a line in VERBS; what is promised for all of them is then tested for it as well.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.children import Child, Children
from tests.verbs import declared_verbs
from zeroslot.cli import STATUS

TOPIC = "robot/imu"
CAMERA = "camera/front"
SAMPLE = '{"stamp_ns": 7, "accel": [0, 0, 9.8]}'
# The arguments of each command, with which it ends by itself.
VERBS = {
    "bench": ["calls", "--quick"],
    "demo": ["--seconds", "0.1"],
    "doctor": [],
    "echo": [TOPIC, "--once", "--history", "1", "--timeout", "0"],
    "gc": ["--dry-run"],
    "graph": [],
    "hz": [TOPIC, "--once", "--interval", "0.1"],
    "bw": [TOPIC, "--times", "1", "-i", "0.1"],
    "info": [TOPIC],
    "latency": [TOPIC],
    "list": [],
    "metrics": ["--once"],
    "plot": [TOPIC, "accel", "--once", "--window", "0.1", "--history", "1"],
    "pub": [TOPIC, SAMPLE, "--wait", "0"],
    "schema": [TOPIC],
    "stat": [TOPIC],
    "top": ["--once"],
    "view": [CAMERA, "--once", "--timeout", "0"],
}
# Those that go on until Ctrl-C, with their arguments; each prints something when it has begun.
ENDLESS = {
    "bw": [TOPIC],
    "echo": [TOPIC, "--history", "1"],
    "hz": [TOPIC],
    "latency": [TOPIC, "--interval", "0.1"],
    "metrics": ["--port", "0"],
    "plot": [TOPIC, "accel", "--history", "1", "--json"],
    "pub": [TOPIC, SAMPLE, "--rate", "100", "--wait", "0"],
    "top": ["--json", "--interval", "0.1"],
    "view": [CAMERA, "--json"],
}
NEEDS = {"plot": "plotext"}  # packages of extras that tests may have to do without
SLOW = {"bench", "demo"}  # they measure for a while
WITHOUT_DOMAIN = {"bench", "demo"}  # they make topics of their own
QUICK = sorted(set(VERBS) - SLOW)


@pytest.fixture
def publisher(run_child: Children) -> Iterator[Child]:
    """A process that publishes on TOPIC, in the domain `default` and in `lab`, and an image on CAMERA."""

    def publish(topic: str, camera: str) -> None:
        import numpy as np

        import zeroslot as zs

        class Imu(zs.Sample):
            stamp_ns: zs.U64
            accel: list[float]

        options = {"name": "driver", "max_bytes": 1000}
        with zs.Publisher(topic, Imu, **options) as pub, zs.Publisher(topic, Imu, domain="lab", **options) as lab:
            for number in range(3):
                for each in (pub, lab):
                    each.publish(Imu(stamp_ns=number, accel=np.arange(3.0)))
            cameras = [zs.Publisher(camera, np.ndarray, max_bytes=1000, domain=domain) for domain in (None, "lab")]
            for each in cameras:
                each.publish(np.zeros((8, 8), np.uint8))
            say("ready")  # noqa: F821  # defined in the child
            hear()  # noqa: F821  # the same
            for each in cameras:
                each.close()

    child = run_child(publish, TOPIC, CAMERA)
    child.expect("ready")
    yield child
    child.finish()


def zeroslot(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as its own process, where a warning is an error."""
    if arguments[0] in NEEDS and "--help" not in arguments:
        pytest.importorskip(NEEDS[arguments[0]], reason=f"the extra zeroslot[{arguments[0]}] is not installed")
    command = [sys.executable, "-W", "error", "-m", "zeroslot", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def plain(text: str) -> str:
    """A help text without its frame, on one line."""
    return " ".join(re.sub(r"[│╭╮╰╯─]|\x1b\[[0-9;]*m", " ", text).split())


def test_every_command_is_tested_here():
    """A command without a line in VERBS is a gap."""
    assert sorted(declared_verbs()) == sorted(VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_it_works_with_a_live_publisher_and_warns_of_nothing(verb: str, publisher: Child):
    """Status 0, an answer, nothing on stderr; with --json the answer is JSON, as a whole or line by line."""
    done = zeroslot(verb, *VERBS[verb])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    done = zeroslot(verb, *VERBS[verb], "--json")
    assert (done.returncode, done.stderr) == (0, "")
    try:
        json.loads(done.stdout)
    except json.JSONDecodeError:
        assert [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_command_line_that_cannot_be_understood_is_status_2(verb: str):
    """An unknown option; stdout stays empty."""
    done = zeroslot(verb, *VERBS[verb], "--nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--nonsense" in done.stderr


@pytest.mark.parametrize("verb", QUICK)
def test_a_name_that_is_none_is_one_line_and_status_1(verb: str):
    """The library's error, without a traceback."""
    done = zeroslot(verb, *VERBS[verb], "--domain", "no/domain")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert done.stderr.startswith("zeroslot: domain 'no/domain'")


@pytest.mark.parametrize("verb", [verb for verb in QUICK if TOPIC in VERBS[verb]])
def test_a_topic_without_a_publisher_is_status_1(verb: str, publisher: Child):
    """With a line that names the topic, where the command does not wait for one."""
    done = zeroslot(verb, *[word if word != TOPIC else "robot/nothing" for word in VERBS[verb]])
    assert done.returncode == 1
    assert "robot/nothing" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", sorted(set(VERBS) - WITHOUT_DOMAIN))
def test_d_and_domain_choose_the_domain(verb: str, publisher: Child):
    """The same answer by both names, and as with ZEROSLOT_DOMAIN."""
    answers = [zeroslot(verb, *VERBS[verb], option, "lab") for option in ("-d", "--domain")]
    assert [(done.returncode, done.stderr) for done in answers] == [(0, ""), (0, "")]


@pytest.mark.parametrize("verb", QUICK)
def test_a_closed_pipe_ends_it_without_a_word(verb: str, publisher: Child):
    """As in `zeroslot list | head`: status 141, as of a program that SIGPIPE ends."""
    read, write = os.pipe()
    os.close(read)
    try:
        command = [sys.executable, "-W", "error", "-m", "zeroslot", verb, *VERBS[verb]]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("verb", sorted(ENDLESS))
def test_ctrl_c_ends_it_with_status_130(verb: str, publisher: Child):
    """Without a traceback."""
    command = [sys.executable, "-W", "error", "-m", "zeroslot", verb, *ENDLESS[verb]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert "Traceback" not in err
    assert (process.returncode, err) == (130, "")


@pytest.mark.parametrize("verb", ["list", "stat", "top", "echo"])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(verb: str, closed: str, publisher: Child):
    """As a daemon starts its children."""
    arguments = [sys.executable, "-W", "error", "-m", "zeroslot", verb, *VERBS[verb]]
    done = subprocess.run(["bash", "-c", f'"$@" {closed}', "bash", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == ("<&- >" not in closed and closed != ">&-")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_its_help_tells_what_it_does(verb: str):
    """By -h and --help; each command has --json."""
    texts = [zeroslot(verb, option) for option in ("-h", "--help")]
    assert [done.returncode for done in texts] == [0, 0]
    assert texts[0].stdout == texts[1].stdout
    assert "--json" in texts[0].stdout


def test_the_statuses_are_in_the_help():
    """In one place, for all commands."""
    assert STATUS in plain(zeroslot("--help").stdout)


# --- completion


@pytest.fixture
def completed(tmp_path: Path) -> Callable[[str], list[str]]:
    """What bash offers at the end of these words, by the script that `--install-completion` installs."""
    program = tmp_path / "zeroslot"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m zeroslot "$@"\n', "utf-8")
    program.chmod(0o700)

    def complete(words: str) -> list[str]:
        script = f"""
            source <(_ZEROSLOT_COMPLETE=source_bash {program})
            COMP_WORDS=({words})
            COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
            _zeroslot_completion {program}
            echo "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return complete


def test_a_shell_completes_topics_and_commands(publisher: Child, completed: Callable[[str], list[str]]):
    """Those of the domain that is chosen before; nothing where there are none."""
    assert completed("zeroslot info ro") == [TOPIC]
    for verb in ("doctor", "schema", "echo", "pub", "plot", "hz", "bw", "latency", "stat"):
        assert completed(f"zeroslot {verb} ro") == [TOPIC]
    assert completed("zeroslot info x") == []
    assert completed("zeroslot info -d lab ro") == [TOPIC]
    assert completed("zeroslot info -d nowhere ro") == []
    assert "gc" in completed("zeroslot g")


def test_completion_is_installed_for_a_shell(tmp_path: Path):
    """`zeroslot --install-completion` writes a script for the shell that it is called from."""
    env = os.environ | {"HOME": str(tmp_path)}
    command = f"{sys.executable} -m zeroslot --install-completion; exit $?"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert any("_ZEROSLOT_COMPLETE" in path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file())
