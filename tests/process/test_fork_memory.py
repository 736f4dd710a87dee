"""What a forked child writes reaches memory of its own, and never a sample."""

from __future__ import annotations

from tests.process.actors import Cast

WRITING = """
import ctypes, os, re, sys
from typing import Annotated
import numpy as np
import zeroslot as zs
from tests.process.samples import Imu

class Pair(zs.Sample):
    numbers: Annotated[list[zs.U64], zs.MaxLen(4)]
    imu: Imu

OF_THE_PACKAGE = "/zs-|memfd:zeroslot|/[.]bell"
pub = zs.Publisher("t", Imu, depth=4)
pairs = zs.Publisher("pairs", Pair)
slots = zs.SlotAllocator.in_memory(4, 64)
reader = slots.reader()
sub = zs.Subscriber("t", Imu)
loan, pair, slot = pub.loan(), pairs.loan(), slots.reserve()
view, array, numbers, raw = loan.sample, loan.sample.accel, pair.sample.numbers, slot.array()
view.stamp_ns, array[:], raw[:] = 1, 1.0, 1
numbers.append(1)
memory = memoryview(slot)
down, up = os.pipe(), os.pipe()

def writable_mappings():
    \"\"\"Of shared memory that has a name here: zeroslot's objects, memfds and the bell.\"\"\"
    lines = [line.split(maxsplit=5) for line in open("/proc/self/maps")]
    return sorted(line[5].strip() for line in lines if line[1][1::2] == "ws" and re.search(OF_THE_PACKAGE, line[-1]))
"""


def test_what_a_forked_child_writes_changes_no_sample(cast: Cast):
    """An inherited loan: setters refuse; arrays, memoryviews and addresses reach the child's own memory."""
    child = cast(
        WRITING
        + """
pid = os.fork()
if pid == 0:
    os.read(down[0], 1)  # the parent has committed
    wrong = []
    for name, act in {
        "field": lambda: setattr(view, "stamp_ns", 9), "array field": lambda: setattr(view, "accel", np.ones(3)),
        "text": lambda: setattr(view, "frame", "child"), "nested": lambda: setattr(pair.sample, "imu", view),
        "append": lambda: numbers.append(9), "clear": numbers.clear, "item": lambda: numbers.__setitem__(0, 9),
        "write": lambda: slot.write(b"child"), "commit": loan.commit,
    }.items():
        try:
            act()
            wrong.append(name)
        except zs.ForkedHandleError:
            pass
    array[:] = 9.0
    raw[:] = 9
    memory[:] = bytes([9]) * len(memory)
    ctypes.memset(array.ctypes.data, 9, 8)
    if slot.array().flags.writeable or view.accel.flags.writeable or not memoryview(slot).readonly:
        wrong.append("new exports")
    if array.tolist()[1:] != [9.0, 9.0] or view.stamp_ns != 1:
        wrong.append("reading")
    say(wrong)
    say(writable_mappings())
    os._exit(0)
memory.release()
say(writable_mappings() != [])
loan.commit(), pair.commit(), slot.commit()
os.write(down[1], b"x")
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
lease, untyped = sub.take(), reader.take()
say([lease.sample.stamp_ns, lease.sample.accel.tolist(), lease.sample.frame, set(bytes(untyped)) == {1}])
"""
    )
    child.expect(True)
    child.expect([])
    child.expect([])
    child.expect(0)
    child.expect([1, [1.0, 1.0, 1.0], "imu", True])


def test_a_forked_child_has_no_descriptor_and_no_writable_shared_mapping(cast: Cast):
    """Nor has its own child: of segments with and without names, of what it reads, and of the bell."""
    child = cast(
        WRITING
        + """
def reachable():
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    links = [os.readlink(path) for path in paths if os.path.islink(path)]
    return [link for link in links if re.search(OF_THE_PACKAGE, link)] + writable_mappings()

pub.publish(Imu(stamp_ns=2, accel=np.ones(3)))
lease = sub.take()
sub.close()  # its mapping stays for the lease
slots.close()
say(len(reachable()) > 0)
pid = os.fork()
if pid == 0:
    say(reachable())
    pid = os.fork()
    if pid == 0:
        say(reachable())
        say([view.stamp_ns, lease.sample.stamp_ns, array.tolist()])
        del view, array, lease, memory, raw, slot, loan, pair, numbers
        say("unmapped")
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    child.expect(True)
    child.expect([])
    child.expect([])
    child.expect([1, 2, [1.0, 1.0, 1.0]])
    child.expect("unmapped")
    child.expect(0)


def test_a_child_without_memory_to_spare_can_still_read(cast: Cast):
    """Mappings that cannot become private are read-only there: nothing shared can be written, nothing crashes."""
    child = cast(
        WRITING
        + """
import resource

large = zs.SlotAllocator.in_memory(64, 1 << 20)
os.waitpid(os.fork() or os._exit(0), 0)  # the first fork imports the rest
used = int(re.search("VmData:[^0-9]*([0-9]+)", open("/proc/self/status").read())[1]) * 1024
unlimited = resource.getrlimit(resource.RLIMIT_DATA)
resource.setrlimit(resource.RLIMIT_DATA, (used + (8 << 20), unlimited[1]))  # `large` does not fit, all else does
pid = os.fork()
if pid == 0:
    resource.setrlimit(resource.RLIMIT_DATA, unlimited)  # what Python needs from here on
    lines = [line for line in open("/proc/self/maps") if re.search(OF_THE_PACKAGE, line)]
    say([any(" r--s " in line for line in lines), writable_mappings(), view.stamp_ns, array.tolist(), raw.tolist()[0]])
    loan.discard(), slot.discard()
    pub.close(), sub.close(), slots.close(), large.close()
    os._exit(0)
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    child.expect([True, [], 1, [1.0, 1.0, 1.0], 1])
    child.expect(0)
