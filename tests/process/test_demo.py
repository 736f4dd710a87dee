"""The demo, run for real: its summary is right, and however it ends nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "zeroslot", "demo"]


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demo that is killed, by its id, should the test end before it does."""
    pipe = subprocess.PIPE
    demo = subprocess.Popen([*COMMAND, *arguments], stdout=pipe, stderr=pipe, text=True, process_group=0)
    try:
        yield demo
    finally:
        demo.kill()
        demo.communicate()


def children_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_demo_loses_no_sample_and_tears_none():
    """Every sample of both topics arrives whole at both subscribers, and the summary says so."""
    done = subprocess.run([*COMMAND, "--seconds", "2", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    summary = json.loads(done.stdout)
    assert (summary["torn"], summary["lost"], summary["missing"], summary["good"]) == (0, 0, 0, True)
    assert [topic["type"] for topic in summary["topics"]] == ["Imu", "Frame"]
    for topic in summary["topics"]:
        assert topic["published"] > 0
        assert len(topic["subscribers"]) == 2
        for subscriber in topic["subscribers"]:
            assert subscriber["taken"] == topic["published"]
            assert 0 < subscriber["latency_ns"]["p50"] <= subscriber["latency_ns"]["p99"]


def test_two_demos_run_side_by_side():
    """Each has a domain of its own."""
    with running("--seconds", "1", "--json") as one, running("--seconds", "1", "--json") as other:
        summaries = [json.loads(demo.communicate()[0]) for demo in (one, other)]
        assert (one.returncode, other.returncode) == (0, 0)
    assert all(summary["good"] for summary in summaries)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_prints_its_summary_and_ends_its_children(number):
    """Ctrl-C is the normal end: a summary, status 0, no traceback, no process and no memory left."""
    with running("--seconds", "600") as demo:
        assert demo.stdout is not None
        assert "starting" in demo.stdout.readline()
        line = demo.stdout.readline()  # it is under way
        assert "lost 0" in line
        children = children_of(demo.pid)
        assert len(children) == 6
        demo.send_signal(number)
        out, err = demo.communicate()
    assert (demo.returncode, err) == (0, "")
    assert "none torn, none lost" in out
    assert not any(alive(child) for child in children)


def test_ctrl_c_before_the_first_sample_leaves_nothing():
    """The children are still starting when it arrives."""
    with running("--seconds", "600") as demo:
        assert demo.stdout is not None
        assert "starting" in demo.stdout.readline()
        children = children_of(demo.pid)
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate()
    assert (demo.returncode, out, err) == (130, "", "")
    assert not any(alive(child) for child in children)


def test_the_children_of_a_killed_demo_end():
    """No child keeps spinning for a parent that is gone, and they remove what they shared."""
    with running("--seconds", "600") as demo:
        assert demo.stdout is not None
        demo.stdout.readline()
        demo.stdout.readline()
        children = [os.pidfd_open(child) for child in children_of(demo.pid)]
        demo.kill()
        demo.wait()
    for child in children:
        with open(child, "rb", buffering=0) as descriptor:
            wait_for_end(descriptor.fileno())


def wait_for_end(descriptor: int) -> None:
    """A pidfd turns readable when the process has ended."""
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll()
