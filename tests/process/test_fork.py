"""Forked and started children own nothing of their parent's handles, and harm nothing of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Tick

PARENT = """
import os, sys
import zeroslot as zs
from tests.process.samples import Tick

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
    sys.exit(0)
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
say(still_well())
"""
    )
    child.expect([])
    child.expect(0)
    child.expect(True)


def test_a_forked_child_gives_nothing_back(cast: Cast):
    """Dropped, released, discarded in a child: the parent's lease keeps its bit, and its loan is not withdrawn."""
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
    os._exit(0)
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
def test_a_forked_child_that_ends_in_any_way_harms_nothing(cast: Cast, end: str):
    """Its copies of the handles go with it, and the parent's stay."""
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


def test_a_forked_child_opens_its_own(cast: Cast):
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


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_use_zeroslot_and_end_clean(cast: Cast, method: str):
    """They skip atexit; their handles are closed all the same: no dead publisher, no dead subscriber, nothing left."""
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
def test_handles_do_not_pickle_into_a_child(zeroslot_dir: object, method: str, handle: str):
    """TypeError in the parent that says what to send instead; no child is left half started."""
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


def test_a_copy_of_a_sample_travels_to_a_child(cast: Cast):
    """What the error advises works."""
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


def test_a_started_program_inherits_no_descriptor(cast: Cast):
    """With close_fds=False too: every descriptor of zeroslot is closed on exec, so the locks are nobody else's."""
    child = cast(
        PARENT
        + """
import subprocess
lister = (
    "import os, json; paths = [f'/proc/self/fd/{fd}' for fd in os.listdir('/proc/self/fd')];"
    "print(json.dumps([os.readlink(path) for path in paths if os.path.islink(path)]))"
)
listed = subprocess.run(
    [sys.executable, "-c", lister],
    close_fds=False, stdout=subprocess.PIPE, check=True,
)
say(listed.stdout.decode())
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
