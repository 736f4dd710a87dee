"""Forked and started children own nothing of their parent's handles, and harm nothing of it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import zeroslot as zs
from tests.process.actors import Cast, need_strace
from tests.process.samples import Tick
from zeroslot._core.binding import Descriptor

PARENT = """
import os, re, sys
import zeroslot as zs
from tests.process.samples import Tick

def pages_written():
    \"\"\"Kilobytes of zeroslot's mappings that a child has written, and so has in memory of its own.\"\"\"
    written, ours = 0, False
    for line in open("/proc/self/smaps"):
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            ours = re.search("/zs-|memfd:zeroslot|/[.]bell", line) is not None
        elif ours and line.startswith("Anonymous:"):
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
    "loan": lambda: pub.loan(), "publish": lambda: pub.publish(Tick(number=9)), "commit": loan.commit,
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
held = lambda: [pub.allocator.owner.segment.held_by(0), reader.reader.segment.held_by(0), pub.stats.discarded]
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


def test_a_child_that_outlives_its_parent_keeps_none_of_its_locks(cast: Cast):
    """The parent is killed: its publisher counts as dead and its subscriber is gone, though a forked child lives on."""
    with zs.Publisher("theirs", Tick) as pub, zs.Subscriber("mine", Tick) as sub:
        child = cast(
            """
            import ctypes, os, signal
            import zeroslot as zs
            from tests.process.samples import Tick
            pub = zs.Publisher("mine", Tick)
            sub = zs.Subscriber("theirs", Tick)
            pid = os.fork()
            if pid == 0:
                ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # outlives its parent
                say(os.getpid())
                signal.pause()
            hear()
            """
        )
        grandchild = child.hear()
        try:
            assert pub.subscriber_count == 1
            assert [info.pid for info in sub.publishers] == [child.pid]
            child.kill()
            assert Path(f"/proc/{grandchild}").exists()
            assert pub.subscriber_count == 0
            assert sub.publishers == ()
            with zs.Publisher("mine", Tick) as heir:
                assert [info.publisher_id for info in sub.publishers] == [heir.publisher_id]
            assert Path(f"/proc/{grandchild}").exists()
        finally:
            os.kill(grandchild, signal.SIGKILL)


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


def test_handles_that_a_child_of_multiprocessing_inherits_refuse(cast: Cast):
    """With the start method fork arguments are not pickled; the child is told, and ends well."""
    child = cast(
        PARENT
        + """
import multiprocessing

def work(pub, sub, loan, lease, queue):
    queue.put([refuses(pub.loan), refuses(sub.take), refuses(loan.commit), lease.sample.number])

context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
process = context.Process(target=work, args=(pub, sub, loan, lease, queue))
process.start()
say(queue.get())
process.join()
say(process.exitcode)
say(still_well())
"""
    )
    child.expect([True, True, True, 1])
    child.expect(0)
    child.expect(True)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_close_their_handles(cast: Cast, method: str):
    """They skip atexit; still no dead publisher, no dead subscriber and no file is left."""
    child = cast(
        """
        import multiprocessing, sys
        import zeroslot as zs
        from tests.process.samples import Tick

        def work(number):
            pub = zs.Publisher("from/child", Tick, max_loans=3)
            sub = zs.Subscriber("to/child", Tick, history=1)
            sub.take(timeout=None)
            globals()["kept"] = pub, sub, pub.loan(), pub.loan()
            pub.publish(Tick(number=number))

        if __name__ == "__main__":
            context = multiprocessing.get_context(args[0])
            pub = zs.Publisher("to/child", Tick)
            pub.publish(Tick(number=1))
            sub = zs.Subscriber("from/child", Tick)
            children = [context.Process(target=work, args=(number,)) for number in (1, 2)]
            for process in children:
                process.start()
            for process in children:
                process.join()
            say([process.exitcode for process in children])
            say([len(topic.publishers) for topic in zs.topics()])
            say(pub.stats.reaped)
            say(pub.subscriber_count)
            pub.allocator.reap()
            say(pub.stats.reaped)
        """,
        method,
    )
    child.expect([0, 0])
    child.expect([1])
    child.expect(0)
    child.expect(0)
    child.expect(0)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("handle", ["pub", "sub", "loan", "lease", "view", "slots", "reader"])
def test_handles_do_not_pickle(zeroslot_dir: object, method: str, handle: str):
    """TypeError in the parent that says what to send instead; no half-started child is left."""
    import multiprocessing.reduction
    import pickle

    with zs.Publisher("t", Tick) as pub, zs.Subscriber("t", Tick) as sub, zs.SlotAllocator.in_memory(4, 64) as slots:
        pub.publish(Tick(number=1))
        reader, lease, loan = slots.reader(), sub.take(), pub.loan()
        assert lease is not None
        things = {
            "pub": pub, "sub": sub, "loan": loan, "lease": lease, "view": lease.sample, "slots": slots, "reader": reader
        }  # fmt: skip  # a table
        with pytest.raises(TypeError, match="cannot be pickled"):
            multiprocessing.reduction.ForkingPickler.dumps(things[handle])
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(things[handle], protocol)


def test_a_copied_sample_can_be_sent_to_a_child(cast: Cast):
    """The advice of the error works."""
    child = cast(
        """
        import multiprocessing
        import zeroslot as zs
        from tests.process.samples import Tick

        def work(sample, queue):
            queue.put(sample.number)

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            with zs.Publisher("t", Tick) as pub, zs.Subscriber("t", Tick) as sub:
                pub.publish(Tick(number=5))
                queue = context.SimpleQueue()
                process = context.Process(target=work, args=(sub.take().copy(), queue))
                process.start()
                say(queue.get())
                process.join()
        """
    )
    child.expect(5)


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.run(command, close_fds=False, stdout=up, check=True)",
        "os.waitpid(os.posix_spawn(sys.executable, command, {}, file_actions=[(os.POSIX_SPAWN_DUP2, up, 1)]), 0)",
        "os.waitpid(os.fork() or [os.dup2(up, 1), os.execv(sys.executable, command)], 0)",
    ],
    ids=["subprocess", "posix_spawn", "fork and exec"],
)
def test_a_started_program_inherits_no_descriptor(cast: Cast, start: str):
    """Every descriptor of zeroslot is closed on exec, so no started program keeps the locks."""
    child = cast(
        PARENT
        + f"""
import subprocess
down, up = os.pipe()
lister = (
    "import os, json; paths = ['/proc/self/fd/' + fd for fd in os.listdir('/proc/self/fd')];"
    "print(json.dumps([os.readlink(path) for path in paths if os.path.islink(path)]))"
)
command = [sys.executable, '-c', lister]
{start}
say(os.read(down, 100000).decode())
say(still_well())
"""
    )
    inherited = child.hear()
    assert "pipe:" in inherited
    assert "zs-" not in inherited
    assert "zeroslot" not in inherited
    child.expect(True)


def test_forking_while_threads_join_and_leave_never_hangs(cast: Cast):
    """Whatever lock a thread held at the moment of the fork, the child can open and close handles of its own."""
    child = cast(
        """
        import os, threading, warnings
        import zeroslot as zs
        from tests.process.samples import Tick
        warnings.simplefilter("ignore")  # threads and fork, which is what is tested

        pub = zs.Publisher("t", Tick, max_subscribers=200)
        done = threading.Event()

        def churn():
            while not done.is_set():
                with zs.Subscriber("t", Tick), zs.Publisher("u", Tick):
                    pub.allocator.reap()

        threads = [threading.Thread(target=churn) for _ in range(2)]
        for thread in threads:
            thread.start()
        statuses = set()
        for _ in range(60):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    with zs.Publisher("v", Tick, depth=1) as mine, zs.Subscriber("v", Tick) as sub:
                        mine.publish(Tick(number=1))
                        code = 0 if sub.take().sample.number == 1 else 2
                        mine.allocator.reap()
                finally:
                    os._exit(code)
            statuses.add(os.waitpid(pid, 0)[1])
        done.set()
        for thread in threads:
            thread.join()
        say(sorted(statuses))
        pub.close()
        """
    )
    child.expect([0])


WRITING = """
import ctypes, os, re, sys
from typing import Annotated
import numpy as np
import zeroslot as zs
from tests.process.samples import Imu

class Pair(zs.Sample):
    numbers: Annotated[list[zs.U64], zs.MaxLen(4)]
    imu: Imu

OURS = "/zs-|memfd:zeroslot|/[.]bell"
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
    return sorted(line[5].strip() for line in lines if line[1][1::2] == "ws" and re.search(OURS, line[-1]))
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
    return [link for link in links if re.search(OURS, link)] + writable_mappings()

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
resource.setrlimit(resource.RLIMIT_DATA, (used + (1 << 20), used + (1 << 20)))
pid = os.fork()
if pid == 0:
    lines = [line for line in open("/proc/self/maps") if re.search(OURS, line)]
    say([any(" r--s " in line for line in lines), writable_mappings(), view.stamp_ns, array.tolist(), raw.tolist()[0]])
    loan.discard(), slot.discard()
    pub.close(), sub.close(), slots.close(), large.close()
    os._exit(0)
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    child.expect([True, [], 1, [1.0, 1.0, 1.0], 1])
    child.expect(0)


def test_a_child_forked_while_another_thread_attached_keeps_no_lock(cast: Cast):
    """Subscribers and publishers of a killed process count as dead, whatever its threads did when it forked."""
    with zs.SlotAllocator.create(Path(os.environ["ZEROSLOT_DIR"]) / "slots", 8, 64, max_subscribers=1024) as slots:
        parent = cast(
            """
            import ctypes, os, signal, sys, threading
            import zeroslot as zs
            readers, forked, (there, is_there) = [], threading.Event(), os.pipe()

            def attach():
                while not forked.is_set() and len(readers) < 1000:
                    readers.append(zs.SlotReader.attach(args[0]))

            thread = threading.Thread(target=attach)
            thread.start()
            children = []
            while len(children) < 100 and thread.is_alive():
                pid = os.fork()
                if pid == 0:
                    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # outlives its parent
                    os.write(is_there, b"x")
                    while True:
                        signal.pause()
                children.append(pid)
            forked.set()
            thread.join()
            for _ in children:
                os.read(there, 1)
            say([len(readers), children])
            hear()
            """,
            str(slots.flink),
        )
        attached, children = parent.hear()
        try:
            assert len(slots.subscriber_indexes()) == attached > 1
            parent.kill()
            assert all(Path(f"/proc/{pid}").exists() for pid in children)
            assert slots.subscriber_indexes() == []
            assert slots.reap() == attached
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)


def test_a_child_forked_in_the_middle_of_an_attach_keeps_nothing(cast: Cast, zeroslot_dir: Path):
    """The kernel opens and maps a control object and takes its time to say so. Children that were forked meanwhile keep
    no lock alive, and could write nothing.
    """
    need_strace()
    with zs.SlotAllocator.create(zeroslot_dir / "slots", 8, 64) as slots:
        control = f"/dev/shm{(zeroslot_dir / 'slots').read_text()}"
        parent = cast(
            """
            import os, signal, sys, threading
            if len(sys.argv) == 1:
                slowly = ["-P", args[1], "-e", "inject=openat,mmap:delay_exit=200000"]
                os.dup2(_out.fileno(), 1)
                os.execvp("strace", ["strace", "-fqqo", os.devnull, *slowly, sys.executable, sys.argv[0], "again"])
            import zeroslot as zs

            zs.SlotReader
            os.waitpid(os.fork() or os._exit(0), 0)  # the first fork imports the rest, which takes long
            thread = threading.Thread(target=lambda: setattr(thread, "reader", zs.SlotReader.attach(args[0])))
            thread.start()
            children, (there, is_there) = [], os.pipe()
            while thread.is_alive():
                pid = os.fork()
                if pid == 0:
                    os.write(is_there, b"x")
                    while True:
                        signal.pause()
                children.append(pid)
            for _ in children:
                os.read(there, 1)
            say([os.getpid(), children])
            hear()
            os._exit(0)
            """,
            str(slots.flink),
            control,
        )
        pid, children = parent.hear()
        try:
            assert slots.subscriber_indexes() == [0]
            maps = "".join(Path(f"/proc/{child}/maps").read_text() for child in children)
            assert not [line for line in maps.splitlines() if control in line and "rw-s" in line]
            parent.tell("end")
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.001)
            assert slots.subscriber_indexes() == []
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


def test_closing_frees_a_lock_that_another_process_has_a_copy_of(zeroslot_dir: Path):
    """A process between fork and exec has one: a closed handle is still gone."""
    flink = zeroslot_dir / "slots"
    with zs.SlotAllocator.create(flink, 8, 64) as slots:
        probe = Descriptor.open(f"/dev/shm{flink.read_text()}", os.O_RDONLY)
        reader = zs.SlotReader.attach(flink)
        strays = [os.dup(lock.fileno()) for lock in (slots._owned.lock, reader._attached.descriptor)]
        assert [probe.is_locked(byte) for byte in (0, 64)] == [True, True]
        reader.close()
        slots.close()
        assert [probe.is_locked(byte) for byte in (0, 64)] == [False, False]
        for fd in strays:
            os.close(fd)
        probe.close()
