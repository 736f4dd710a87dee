"""What /proc says of a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.process.samples import Tick
from zeroslot import Publisher, Subscriber
from zeroslot.memory import processes


def test_processes_are_described_from_proc() -> None:
    """This process has a command and is not stopped. A process that does not exist has neither."""
    me = os.getpid()
    assert processes.command_of(me) != ""
    assert processes.command_of(me, processes.start_time_of(me)) == processes.command_of(me)
    assert processes.command_of(me, 1) == ""
    assert not processes.is_stopped(me)
    assert not processes.is_stopped(me, processes.start_time_of(me))
    for pid in (0, 2**31 - 1, 2**32 - 1):
        assert (processes.start_time_of(pid), processes.command_of(pid), processes.is_stopped(pid)) == (
            0,
            "",
            False,
        )


def test_a_command_is_one_line_without_commands_to_a_terminal() -> None:
    """It stands in texts of errors; `python -c` has a whole program there."""
    program = "print(flush=True)\ninput()  # \x1b[31m"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()  # else the kernel may not have its command line yet
        found = processes.command_of(child.pid)
        child.communicate(b"\n")
    assert found.endswith("-c print(flush=True) input() # \N{REPLACEMENT CHARACTER}[31m")


def test_a_program_name_that_is_not_utf8_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python keeps the bytes of argv[0] that are not UTF-8 as lone surrogates."""
    monkeypatch.setattr(sys, "argv", [os.fsdecode(b"/bin/n\xe9e.py")])
    with Publisher("named", Tick) as pub, Subscriber("named", Tick) as sub:
        assert sub.publishers[0].name == "n\\udce9e.py"
        assert pub.subscriber_count == 1
