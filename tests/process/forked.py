"""The program of a parent with one handle of each kind, which tests of fork continue."""

from __future__ import annotations

PARENT = """
import os, re, sys
import zeroslot as zs
from tests.process.samples import Tick

def pages_written():
    \"\"\"Kilobytes of zeroslot's mappings that a child has written, and so has in memory of its own.\"\"\"
    written, counted = 0, False
    for line in open("/proc/self/smaps"):
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            counted = re.search("/zs-|memfd:zeroslot|/[.]bell", line) is not None
        elif counted and line.startswith("Anonymous:"):
            written += int(line.split()[1])
    return written

pub = zs.Publisher("t", Tick, depth=4)
sub = zs.Subscriber("t", Tick)
slots = zs.SlotAllocator.in_memory(4, 64)
reader = slots.reader()
pub.publish(Tick(number=1))
pub.publish(Tick(number=2))
loan = pub.loan()
loan.sample.number = 3
lease = sub.take()
view = lease.sample

def refuses(act):
    try:
        act()
    except zs.ForkedHandleError:
        return True
    return False

ACTS = {
    "loan": lambda: pub.loan(), "publish": lambda: pub.publish(Tick(number=9)),
    "send": lambda: pub.send(number=9), "commit": loan.commit,
    "count": lambda: pub.subscriber_count, "take": sub.take, "latest": sub.latest, "wait": lambda: sub.wait(timeout=0),
    "publishers": lambda: sub.publishers, "iterate": lambda: next(iter(sub)),
    "reserve": slots.reserve, "read": reader.take,
    "wait for subscribers": lambda: pub.wait_for_subscribers(timeout=0),
    "wait for publishers": lambda: sub.wait_for_publishers(timeout=0),
    "wait for change": lambda: reader.wait_for_change(reader.generation, 0),
    "flush": lambda: pub.flush(timeout=0), "new reader": slots.reader,
}

def still_well():
    assert view.number == 1
    loan.commit()
    numbers = [lease.sample.number for lease in iter(sub.take, None)]
    assert numbers == [2, 3], numbers
    assert pub.subscriber_count == 1
    with zs.Subscriber("t", Tick, history=1) as other:
        assert other.take().sample.number == 3
        assert pub.subscriber_count == 2
    pub.publish(Tick(number=4))
    assert sub.take(timeout=None).sample.number == 4
    return True
"""
