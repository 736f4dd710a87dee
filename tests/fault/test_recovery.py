"""What dead processes leave, and how owners, joiners and cleaners remove it, in any order and concurrently."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zeroslot as zs
from tests.process.actors import Cast, start_to
from tests.process.samples import Tick
from zeroslot.memory import cleanup


@pytest.mark.row("PEER-11", "SEG-16", "PEER-6", "DEF-10")
@pytest.mark.parametrize("waits", ["parked", "polling"])
def test_every_kind_of_wait_follows_an_owner_that_restarts(cast: Cast, waits: str):
    """Killed five times in a row: its samples are drained, and nothing counts as lost."""
    sub = cast.subscriber("t", spin_us=0)
    for round_ in range(5):
        pub = cast.publisher("t", name=f"p{round_}")
        assert sub.ask(["publishers"]) == [f"p{round_}"]
        if waits == "parked":
            start_to(sub, "take", 3)
            pub.ask(["publish", 3])
            pub.kill()
            assert [number for number, _, _ in sub.hear()] == [1, 2, 3]
        else:
            pub.ask(["publish", 3])
            pub.kill()
            assert [sub.ask(["poll"])[0] for _ in range(3)] == [1, 2, 3]
            assert sub.ask(["poll"]) is None
        assert sub.ask(["publishers"]) == []
    cleanup.clean()
    stats = sub.ask(["stats"])
    assert (stats["taken"], stats["lost"]) == (15, 0)


@pytest.mark.row("PEER-8", "PEER-9", "PEER-15", "DEF-9")
def test_a_killed_holder_of_every_slot_costs_its_publisher_one_probe(cast: Cast):
    """One loan without a timeout reaps it and gets a slot: no retry, no sleep. The time it took is printed."""
    delays = []
    with zs.Publisher("t", Tick, depth=1, max_loans=1, spare_slots=3) as pub:
        for round_ in range(1, 11):
            sub = cast.subscriber("t", max_leases=8)
            for number in range(4):
                pub.publish(Tick(number=number))
                sub.ask(["hold", 1])
            pub.publish(Tick(number=4))
            sub.kill()
            began = time.perf_counter_ns()
            loan = pub.loan(timeout=0)
            delays.append(time.perf_counter_ns() - began)
            loan.discard()
            assert pub.stats.reaped == round_
            assert (pub.stats.blocked, pub.stats.no_free_slot) == (0, 0)
    print(
        f"delay of the loan after the death: {sorted(delays)[5] / 1e3:.0f} us median, {max(delays) / 1e3:.0f} us worst"
    )


@pytest.mark.row("PEER-7", "NEW-6")
def test_a_zombie_counts_as_dead(cast: Cast):
    """Killed and not waited for: its pid still exists, its lock does not."""
    parent = cast(
        """
        import os, signal, sys
        import subprocess
        code = "import sys, zeroslot as zs; from tests.process.samples import Tick; "
        code += "s = zs.Subscriber('t', Tick); print('x', flush=True); "
        code += "l = s.take(timeout=None); print('y', flush=True); "
        code += "sys.stdin.read()"
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        zombie = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, env=env)
        zombie.stdout.readline()
        say("joined")
        zombie.stdout.readline()
        say(zombie.pid)
        hear()
        zombie.kill()
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        say("zombie")
        hear()
        zombie.communicate()
        """
    )
    with zs.Publisher("t", Tick) as pub:
        parent.expect("joined")
        pub.publish(Tick(number=1))
        pid = parent.hear()
        assert pub.subscriber_count == 1
        parent.tell("die")
        parent.expect("zombie")
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        assert pub.subscriber_count == 0
        assert pub.reap() == 1
        assert pub.allocator.free_count == pub.slot_count - 1
        parent.tell("go")
        parent.finish()


@pytest.mark.row("PEER-15", "NEW-6")
def test_a_forked_child_that_outlives_its_parent_keeps_none_of_its_handles_alive(cast: Cast):
    """The locks of publisher and subscriber fell with the parent, although the child has its mappings."""
    with zs.Publisher("u", Tick) as pub:
        parent = cast(
            """
            import os, signal, zeroslot as zs
            from tests.process.samples import Tick
            own, sub = zs.Publisher("t", Tick), zs.Subscriber("u", Tick)
            heard, told = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(told, b".")  # its fork handler has closed what it inherited
                signal.pause()
                os._exit(0)
            os.read(heard, 1)
            say(child)
            hear()
            """
        )
        child = parent.hear()
        try:
            assert pub.subscriber_count == 1
            parent.kill()
            assert Path(f"/proc/{child}").exists()
            assert pub.subscriber_count == 0
            assert pub.reap() == 1
            assert "a dead publisher of t" in [remains.what for remains in cleanup.clean()]
        finally:
            os.kill(child, 9)


@pytest.mark.row("SEG-13", "DEF-10")
def test_flinks_without_objects_are_ignored(cast: Cast, zeroslot_dir: Path):
    """As after a reboot with ZEROSLOT_DIR on disk: no publisher is found, and the next one removes them."""
    pub = cast.publisher("t")
    control = Path("/dev/shm" + next(zeroslot_dir.rglob("*.flink")).read_text())
    pub.kill()
    for path in [control, *control.parent.glob(f"{control.name}-p*")]:
        path.unlink()
    assert zs.topics() == ()
    with pytest.raises(zs.TopicNotFoundError):
        zs.inspect("t")
    with zs.Subscriber("t", Tick) as sub:
        assert sub.publishers == ()
        with zs.Publisher("t", Tick) as successor:
            assert list(zeroslot_dir.rglob("*.flink")) == [successor.flink]
            successor.publish(Tick(number=1))
            assert sub.take(timeout=None) is not None


def test_removing_the_files_of_a_topic_does_not_stop_attached_processes(cast: Cast, zeroslot_dir: Path):
    """Mappings stay; new subscribers find no publisher; one that is started again is found."""
    pub = cast.publisher("t")
    sub = cast.subscriber("t")
    control = Path("/dev/shm" + next(zeroslot_dir.rglob("*.flink")).read_text())
    for path in [control, *control.parent.glob(f"{control.name}-p*")]:
        path.unlink()
    shutil.rmtree(zeroslot_dir / "default")
    pub.ask(["publish", 3])
    assert [sub.ask(["poll"])[0] for _ in range(3)] == [1, 2, 3]
    with pytest.raises(zs.TopicNotFoundError):
        zs.inspect("t")
    pub.finish()
    with zs.Publisher("t", Tick) as successor, zs.Subscriber("t", Tick) as late:
        successor.publish(Tick(number=9))
        assert late.take(timeout=None) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_flink_of_another_user_is_neither_followed_nor_removed(cast: Cast, zeroslot_dir: Path):
    """The other publishers of the topic are read."""
    with zs.Publisher("t", Tick) as pub:
        foreign = pub.flink.with_name("f" * 16 + ".flink")
        foreign.write_text("/zs-" + "f" * 16)
        foreign.chmod(0o600)
        os.chown(foreign, 12345, 12345)
        with zs.Subscriber("t", Tick) as sub:
            pub.publish(Tick(number=1))
            assert sub.take(timeout=None) is not None
        assert [facts.topic for facts in zs.topics()] == ["t"]
        (left,) = (remains for remains in cleanup.clean() if str(zeroslot_dir) in remains.where)
        assert (left.removed, left.where) == (False, str(foreign))
        assert "12345" in left.what
        foreign.unlink()


@pytest.mark.row("SEG-13", "SEG-14")
def test_concurrent_cleaners_and_joiners_never_touch_the_living(cast: Cast, zeroslot_dir: Path):
    """Two processes clean all the time while publishers are killed and subscribers join."""
    script = """
        import zeroslot as zs
        from zeroslot.memory import cleanup
        say("ready")
        for order in orders():
            for _ in range(order):
                cleanup.clean()
            say("done")
    """
    cleaners = [cast(script) for _ in range(2)]
    for cleaner in cleaners:
        cleaner.expect("ready")
    with zs.Publisher("alive", Tick) as pub:
        for round_ in range(4):
            for cleaner in cleaners:
                cleaner.tell(30)
            victims = [cast.publisher("t", name=f"v{round_}"), cast.subscriber("alive")]
            with zs.Subscriber("alive", Tick) as sub, zs.Subscriber("t", Tick) as other:
                pub.publish(Tick(number=round_))
                lease = sub.take(timeout=None)
                assert lease is not None
                assert lease.sample.number == round_
                victims[0].ask(["publish", 1])
                for victim in victims:
                    victim.kill()
                assert other.lost == 0
            for cleaner in cleaners:
                cleaner.expect("done")
        pub.reap()
        cleanup.clean()
        assert list(zeroslot_dir.rglob("*.flink")) == [pub.flink]
        assert pub.subscriber_count == 0
        assert pub.allocator.free_count == pub.slot_count - 4


@pytest.mark.row("SEG-10")
def test_an_unlinked_segment_leaves_nothing_however_its_owner_ends(cast: Cast, tmp_path: Path):
    """Attached processes continue, no other can attach, and kill -9 leaves no file."""
    flink = tmp_path / "slots.flink"
    owner = cast(
        """
        import zeroslot as zs
        slots = zs.SlotAllocator.create(args[0], 4, 64)
        say("ready")
        for order in orders():
            if order == "unlink":
                slots.unlink()
                say("unlinked")
            else:
                slot = slots.reserve()
                memoryview(slot)[:5] = order.encode()
                say(slots.commit(slot, 5))
        """,
        str(flink),
    )
    owner.expect("ready")
    with zs.SlotReader.attach(flink) as reader:
        control = Path("/dev/shm" + flink.read_text())
        assert owner.ask("unlink") == "unlinked"
        assert not flink.exists()
        assert list(control.parent.glob(f"{control.name}*")) == []
        assert owner.ask("hello") == 1
        assert bytes(reader.take()) == b"hello"
        with pytest.raises(zs.TopicNotFoundError):
            zs.SlotReader.attach(flink)
        owner.kill()
        assert list(control.parent.glob(f"{control.name}*")) == []


@pytest.mark.row("SEG-21", "SEG-14")
def test_force_takes_a_flink_from_its_living_owner(tmp_path: Path):
    """Old readers go on with the old segment, new ones get the new; the old owner's close leaves the new flink."""
    flink = tmp_path / "slots.flink"
    with zs.SlotAllocator.create(flink, 4, 64) as old, zs.SlotReader.attach(flink) as reader:
        with pytest.raises(FileExistsError):
            zs.SlotAllocator.create(flink, 4, 64)
        with zs.SlotAllocator.create(flink, 4, 64, force=True) as new:
            with zs.SlotReader.attach(flink) as newer:
                for slots, text in ((old, b"old"), (new, b"new")):
                    slot = slots.reserve()
                    memoryview(slot)[:3] = text
                    slots.commit(slot, 3)
                assert bytes(reader.take()) == b"old"
                assert bytes(newer.take()) == b"new"
                assert (reader.take(), newer.take()) == (None, None)
            old.close()
            assert flink.exists()
            zs.SlotReader.attach(flink).close()
        assert not flink.exists()


@pytest.mark.row("DEF-3")
def test_a_segment_grows_where_it_may_and_never_else(tmp_path: Path):
    """A sample that does not fit is refused before a byte is written. With grow=True a pool is added; what was there
    stays as it is.
    """
    with zs.SlotAllocator.create(tmp_path / "s", 4, 128) as slots, zs.SlotReader.attach(tmp_path / "s") as reader:
        control = Path("/dev/shm" + (tmp_path / "s").read_text())
        objects = [control, Path(f"{control}-p0")]
        sizes = [path.stat().st_size for path in objects]
        for size in (129, 1 << 20):
            with pytest.raises(zs.SampleTooLargeError) as caught:
                slots.reserve(size)
            assert (caught.value.size, caught.value.capacity) == (size, 128)
        slot = slots.reserve()
        with pytest.raises(zs.SampleTooLargeError):
            slots.commit(slot, bytes(129))
        for number in range(1000):
            slots.commit(slots.reserve(), bytes([number % 256]) * 128)
        assert [path.stat().st_size for path in objects] == sizes
        assert sorted(path.name for path in control.parent.glob(f"{control.name}*")) == [each.name for each in objects]
        assert [bytes(lease)[0] for lease in iter(reader.take, None)] == [998 % 256, 999 % 256]
    with (
        zs.SlotAllocator.create(tmp_path / "s", 4, 128, grow=True) as slots,
        zs.SlotReader.attach(tmp_path / "s") as reader,
    ):
        control = Path("/dev/shm" + (tmp_path / "s").read_text())
        objects = [control, Path(f"{control}-p0")]
        sizes = [path.stat().st_size for path in objects]
        slots.commit(slots.reserve(1 << 20), bytes(1 << 20))
        assert [path.stat().st_size for path in objects] == sizes
        assert Path(f"{control}-p1").stat().st_size == slots.pools[1].size_bytes == 4 << 20
        assert len(reader.take()) == 1 << 20
    assert not list(control.parent.glob(f"{control.name}*"))
    # A topic: the next publisher has four times the slots, and its subscriber goes on there by itself.
    with zs.Subscriber("t", Tick) as sub:
        for depth in (2, 8):
            with zs.Publisher("t", Tick, depth=depth) as pub:
                for number in range(depth):
                    pub.publish(Tick(number=number))
                assert sub.publishers[0].depth == depth
                assert [lease.sample.number for lease in iter(sub.take, None)] == [*range(depth)]
        assert sub.lost == 0


@pytest.mark.row("DIS-10")
def test_an_attach_waits_for_an_owner_that_comes_later(cast: Cast, tmp_path: Path):
    """Until the timeout; then the error says what is missing."""
    flink = tmp_path / "slots.flink"
    with pytest.raises(zs.TopicNotFoundError):
        zs.SlotReader.attach(flink, timeout=0.05)
    child = cast(
        """
        import zeroslot as zs
        say("waiting")
        with zs.SlotReader.attach(args[0], timeout=None) as reader:
            say("attached")
        """,
        str(flink),
    )
    child.expect("waiting")
    child.wait_for_sleep()
    with zs.SlotAllocator.create(flink, 4, 64):
        child.expect("attached")
        child.finish()


# Runs in a pid namespace of its own, where it may say which pid the next process gets.
REUSE = """
import json, os, signal, subprocess, sys
from pathlib import Path
import zeroslot as zs
from tests.process.samples import Tick

def started(code):
    child = subprocess.Popen([sys.executable, "-c", "import sys, zeroslot as zs\\n"
        "from tests.process.samples import Tick\\n" + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    return child

def another_with_its_pid(child):
    child.kill()
    child.communicate()
    while True:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(child.pid - 1))
        impostor = subprocess.Popen(["sleep", "31536000"])
        if impostor.pid == child.pid:
            impostor.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, impostor.pid, os.WSTOPPED | os.WNOWAIT)
            return impostor
        impostor.kill()
        impostor.wait()

told = {}
with zs.Publisher("t", Tick) as pub:
    stories = []
    pub.on_subscriber_death(stories.append)
    pub.publish(Tick(number=1))
    sub = started("s = zs.Subscriber('t', Tick, name='dead', history=1); l = s.take(); print(1, flush=True); s.wait()")
    told["before"] = [pub.subscriber_count, zs.inspect("t").publishers[0].subscribers[0].pid == sub.pid]
    impostor = another_with_its_pid(sub)
    told["alive"] = [impostor.poll() is None, pub.subscriber_count, zs.inspect("t").publishers[0].subscribers]
    told["texts"] = [remains.what for remains in zs.clean(dry_run=True)]
    told["reaped"] = [pub.reap(), pub.slot_count - pub.allocator.free_count]
    told["stories"] = [[one.name, one.pid == sub.pid, one.command, one.stopped, one.slots] for one in stories]
    impostor.kill()
    impostor.wait()

owner = started("p = zs.Publisher('u', Tick); p.publish(Tick(number=1)); print(1, flush=True); sys.stdin.read()")
with zs.Subscriber("u", Tick, history=1) as sub:
    told["owner before"] = [info.pid == owner.pid for info in sub.publishers]
    impostor = another_with_its_pid(owner)
    drained = [lease.sequence for lease in iter(sub.take, None)]
    told["owner"] = [impostor.poll() is None, drained, sub.publishers, zs.topics()]
    with zs.Publisher("u", Tick) as successor:
        successor.publish(Tick(number=2))
        told["successor"] = [sub.take(timeout=None).sample.number, [info.pid == os.getpid() for info in sub.publishers]]
    impostor.kill()
    impostor.wait()
print(json.dumps(told))
"""


@pytest.mark.row("PEER-7", "NEW-6", "DEF-9", "DEF-10")
def test_a_reused_pid_revives_no_dead_process(tmp_path: Path):
    """Another process has the dead one's pid: the lock decides, and no text shows that process's command."""
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    probe = "echo 100 > /proc/sys/kernel/ns_last_pid"
    if os.geteuid() or subprocess.run([*apart, "sh", "-c", probe], capture_output=True).returncode:
        pytest.skip("no pid namespace can be made here in which pids are chosen")
    script = tmp_path / "reuse.py"
    script.write_text(REUSE)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([*apart, sys.executable, str(script)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["before"] == [1, True]
    assert told["alive"] == [True, 0, []]
    (text,) = told["texts"]
    assert "a dead subscriber: dead (pid" in text
    assert "sleep" not in text
    assert "stopped" not in text
    assert told["reaped"] == [1, 1]
    assert told["stories"] == [["dead", True, "", False, 1]]
    assert told["owner before"] == [True]
    assert told["owner"] == [True, [1], [], []]
    assert told["successor"] == [2, [True]]


@pytest.mark.row("NEW-6")
def test_liveness_is_known_across_pid_namespaces(cast: Cast):
    """One side's pids mean nothing to the other: a process counts as alive until it dies."""
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("no pid namespace can be made here")
    code = "import sys, zeroslot as zs; from tests.process.samples import Tick; s = zs.Subscriber('t', Tick); "
    code += "print('joined', flush=True); l = s.take(timeout=None); print('held', flush=True); sys.stdin.read()"
    with zs.Publisher("t", Tick) as pub:
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen(
            [*apart, sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        ) as sub:
            assert sub.stdout is not None
            assert sub.stdout.readline() == b"joined\n"
            pub.publish(Tick(number=1))
            assert sub.stdout.readline() == b"held\n"
            assert (pub.subscriber_count, pub.reap()) == (1, 0)
            (peer,) = zs.inspect("t").publishers[0].subscribers
            assert (peer.pid < 100, peer.held) == (True, 1)
            sub.kill()
            assert sub.stdout.read() == b""
        while pub.subscriber_count:
            os.sched_yield()
        assert pub.reap() == 1
        assert pub.allocator.free_count == pub.slot_count - 1
