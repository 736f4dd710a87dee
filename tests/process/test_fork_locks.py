"""No forked child and no started program keeps a lock of its parent, whatever the parent's threads do at the fork."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import zeroslot as zs
from tests.process.actors import Cast, need_strace
from tests.process.forked import PARENT
from tests.process.samples import Tick
from zeroslot._core.binding import Descriptor


def test_a_child_that_outlives_its_parent_keeps_none_of_its_locks(cast: Cast):
    """The parent is killed: its publisher counts as dead and its subscriber is gone, though a forked child lives on."""
    with zs.Publisher("foreign", Tick) as pub, zs.Subscriber("mine", Tick) as sub:
        child = cast(
            """
            import ctypes, os, signal
            import zeroslot as zs
            from tests.process.samples import Tick
            pub = zs.Publisher("mine", Tick)
            sub = zs.Subscriber("foreign", Tick)
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
            with zs.Publisher("mine", Tick) as successor:
                assert [info.publisher_id for info in sub.publishers] == [successor.publisher_id]
            assert Path(f"/proc/{grandchild}").exists()
        finally:
            os.kill(grandchild, signal.SIGKILL)


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
