"""Processes in different time namespaces: their monotonic clocks differ, and nothing compares them."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Tick

# Its clock is ten days ahead, or shows what this machine's showed shortly after its start.
ELSEWHERE = """
import ctypes, os, sys
if len(sys.argv) == 1:
    assert ctypes.CDLL(None).unshare(0x80) == 0  # CLONE_NEWTIME: for children, so it execs below a fork
    with open("/proc/self/timens_offsets", "w") as offsets:
        offsets.write(f"monotonic {args[0]} 0\\n")
    os.dup2(_out.fileno(), 1)
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
        os.execv(sys.executable, [sys.executable, sys.argv[0], "again"])
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
import zeroslot as zs
from tests.process.samples import Tick
"""


@pytest.fixture(params=["ahead", "behind"])
def offset(request: pytest.FixtureRequest) -> int:
    """Seconds. Skips where a process may not have a clock of its own."""
    probe = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x80) != 0)"
    if os.geteuid() != 0 or subprocess.run(["python3", "-c", probe], capture_output=True).returncode != 0:
        pytest.skip("needs the right to make a time namespace")
    with open("/proc/uptime") as uptime:
        passed = int(float(uptime.read().split()[0]))
    return 864000 if request.param == "ahead" else 1 - passed


def test_a_newer_publisher_is_read_from_its_first_sample_whatever_its_clock_says(cast: Cast, offset: int) -> None:
    """By a reliable subscriber: no clock decides which publisher is newer."""
    sub = cast(
        ELSEWHERE
        + """
sub = zs.Subscriber("t", Tick, reliable=True)
say("ready")
for order in orders():
    taken = [sub.take(timeout=None).sequence for _ in range(order)]
    say([taken, sub.lost])
""",
        offset,
    )
    sub.expect("ready")
    with zs.Publisher("t", Tick, on_full="block") as pub:
        for _ in range(3):
            pub.publish(Tick(number=1))
        assert sub.ask(3) == [[1, 2, 3], 0]


def test_ages_across_clocks_are_none_and_not_wrong(cast: Cast, offset: int) -> None:
    """`overdue` and `oldest_held_s` are None, and no latency is counted; within one namespace they are there."""
    with zs.Publisher("t", Tick, max_period=3600.0) as pub:
        sub = cast(
            ELSEWHERE
            + """
sub = zs.Subscriber("t", Tick)
assert sub.wait_for_publishers()
say("ready")
hear()
lease = sub.take(timeout=None)
for _ in range(127):
    sub.take(timeout=None)
facts = zs.inspect("t").publishers[0]
say([sub.publishers[0].overdue, facts.overdue, facts.subscribers[0].oldest_held_s, facts.max_period_s])
hear()
""",
            offset,
        )
        sub.expect("ready")
        sub.tell("go")
        while not (held := _holder()).taken:
            pub.publish(Tick(number=1))
            os.sched_yield()
        assert held.oldest_held_s is not None
        assert held.oldest_held_s >= 0
        while held.taken < 128:
            pub.publish(Tick(number=1))
            held = _holder()
        assert sub.hear() == [None, None, None, 3600.0]
        (index,) = pub.allocator.native.segment.active_indexes()
        assert sum(pub.allocator.native.segment.peer(index).latency) == 0
        assert zs.inspect("t").publishers[0].overdue is False


def _holder() -> Any:
    return zs.inspect("t").publishers[0].subscribers[0]
