"""Forked children own nothing of their parent's handles and change nothing of them."""

from __future__ import annotations

import pytest

from tests.process.actors import Cast
from tests.process.forked import PARENT


def test_every_handle_refuses_in_a_forked_child(cast: Cast):
    """ForkedHandleError from each; the child's own closing, releasing and exit change nothing for the parent."""
    child = cast(
        PARENT
        + """
pid = os.fork()
if pid == 0:
    say([name for name, act in ACTS.items() if not refuses(act)])
    lease.release(); loan.discard(); del view, lease, loan
    sub.close(); pub.close(); slots.close(); reader.close()
    say(pages_written())
    sys.exit(0)
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
say(still_well())
"""
    )
    child.expect([])
    child.expect(0)
    child.expect(0)
    child.expect(True)


def test_a_forked_child_releases_nothing(cast: Cast):
    """Dropped, released, discarded in a child: nothing is written, not even to the child's own copy of the memory."""
    child = cast(
        PARENT
        + """
held = lambda: [pub.allocator.native.segment.held_by(0), reader.native.segment.held_by(0), pub.stats.discarded]
slots.commit(slots.reserve(), b"x")
untyped = reader.take()
before = held()
pid = os.fork()
if pid == 0:
    lease.release(); loan.discard(); untyped.release()
    del view, lease, loan, untyped
    os._exit(pages_written() > 0)
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
say(len(before[0]) + len(before[1]))
say(held() == before)
say(still_well())
"""
    )
    child.expect(0)
    child.expect(2)
    child.expect(True)
    child.expect(True)


@pytest.mark.parametrize(
    "end", ["sys.exit(0)", "os._exit(0)", "os.kill(os.getpid(), 9)", "os.execvp('true', ['true'])"]
)
def test_a_forked_child_that_ends_in_any_way_leaves_its_parents_handles_alone(cast: Cast, end: str):
    """Its copies of the handles end with it."""
    child = cast(
        PARENT
        + f"""
pid = os.fork()
if pid == 0:
    {end}
os.waitpid(pid, 0)
say(still_well())
"""
    )
    child.expect(True)


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(0)", "raise ZeroDivisionError"])
def test_a_forked_child_that_leaves_an_isolated_domain_removes_nothing(cast: Cast, end: str):
    """The domain, its publishers and what dead ones left are its parent's."""
    child = cast(
        f"""
import os
import zeroslot as zs
from tests.process.samples import Tick
from zeroslot.testing import abandon, isolated_domain

def leave_in_child():
    with isolated_domain():
        with zs.Publisher("t", Tick) as pub:
            abandon(zs.Publisher("dead", Tick))
            pub.publish(Tick(number=1))
            child = os.fork()
            if child == 0:
                {end}
                return None
            os.waitpid(child, 0)
            with zs.Subscriber("t", Tick, history=1) as sub:
                return sub.take().sample.number, len(zs.clean())

parent = os.getpid()
try:
    found = leave_in_child()
finally:
    if os.getpid() != parent:
        os._exit(0)
say(found)
"""
    )
    child.expect([1, 1])


def test_a_forked_child_can_open_handles_of_its_own(cast: Cast):
    """Both publish and both take, and each finds the other."""
    child = cast(
        PARENT
        + """
pid = os.fork()
if pid == 0:
    with zs.Subscriber("t", Tick) as own, zs.Publisher("t", Tick, name="child") as mine:
        mine.publish(Tick(number=100))
        while own.take(timeout=None).sample.number != 100:
            pass
        say(sorted(info.pid == os.getpid() for info in own.publishers))
    sys.exit(0)
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
say(still_well())
"""
    )
    child.expect([False, True])
    child.expect(0)
    child.expect(True)


def test_a_child_forked_beside_waiting_threads_does_not_wait_for_them(cast: Cast):
    """One thread iterates and one waits for room: in the child they do not exist."""
    child = cast(
        PARENT
        + """
import threading

sub.take().release(), lease.release(); del view, lease
loan.discard()
full = zs.Publisher("full", Tick, depth=1, max_loans=1, spare_slots=1, on_full="block")
behind = zs.Subscriber("full", Tick, reliable=True)
full.publish(Tick(number=1))
numbers, done = [], threading.Event()

def consume():
    for lease in sub:
        numbers.append(lease.sample.number)
        if lease.sample.number == 9:
            break

threads = [threading.Thread(target=consume), threading.Thread(target=lambda: full.publish(Tick(number=2), None))]
for thread in threads:
    thread.start()
while any(open(f"/proc/self/task/{t.native_id}/stat").read().rpartition(")")[2].split()[0] != "S" for t in threads):
    pass
pid = os.fork()
if pid == 0:
    say([refuses(act) for act in (sub.take, lambda: next(sub), full.loan, behind.take, lambda: sub.stats)])
    full.close(), behind.close(), sub.close(), pub.close(), slots.close()
    del full, behind, sub, pub, slots, reader, threads
    say(pages_written())
    sys.exit(0)
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert behind.take().sample.number == 1
pub.publish(Tick(number=9))
for thread in threads:
    thread.join()
say([numbers, behind.take().sample.number])
"""
    )
    child.expect([True] * 5)
    child.expect(0)
    child.expect(0)
    child.expect([[9], 2])
