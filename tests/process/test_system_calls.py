"""Publishing and taking make no system call if no subscriber sleeps: counted by strace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.actors import TRACED, Cast, need_strace, start_to, traced_calls

PUBLISH = """
import gc
import zeroslot as zs
from tests.process.samples import Imu, Tick

def publish(pub, count):
    for number in range(count):
        with pub.loan() as tick:
            tick.number = number

with zs.Publisher("t", Tick, spare_slots=256) as pub:
    say("ready")
    hear()
    publish(pub, 1000)
    gc.collect()
    mark("begin")
    publish(pub, int(args[1]))
    mark("end")
    say(pub.stats.wakes)
"""


@pytest.fixture(autouse=True)
def _strace():
    need_strace()


@pytest.mark.row("NEW-10", "NOT-3", "DEF-12")
@pytest.mark.parametrize("subscribers", [0, 1, 32])
def test_publishing_makes_no_system_call(cast: Cast, tmp_path: Path, subscribers: int):
    """With no, one, or 32 subscribers attached in another process, none of them asleep."""
    log = tmp_path / "trace"
    pub = cast(TRACED + PUBLISH, str(log), 2000)
    pub.expect("ready")
    readers = cast(
        """
        import zeroslot as zs
        from tests.process.samples import Tick
        subs = [zs.Subscriber("t", Tick) for _ in range(args[0])]
        say(sum(sub.wait_for_publishers() for sub in subs))
        hear()
        say([(sub.stats.taken, sub.take().sequence, sub.lost) for sub in subs])
        for sub in subs:
            sub.close()
        """,
        subscribers,
    )
    readers.expect(subscribers)
    assert pub.ask("go") == 0
    assert traced_calls(log, "begin", "end") == []
    assert readers.ask("go") == [[0, 2993, 2992]] * subscribers


@pytest.mark.row("NEW-10", "DEF-12")
def test_taking_makes_no_system_call(cast: Cast, tmp_path: Path):
    """loan, commit, take, read, release: a thousand times without a system call."""
    log = tmp_path / "trace"
    child = cast(
        TRACED
        + """
import gc
import numpy as np
import zeroslot as zs
from tests.process.samples import Imu

def turn(pub, sub, count):
    for number in range(count):
        with pub.loan() as imu:
            imu.stamp_ns = number
            imu.accel[:] = number
        with sub.take() as lease:
            assert lease.sample.accel[2] == number
        pub.publish(Imu(stamp_ns=1, accel=np.zeros(3)))
        sub.latest().release()

with zs.Publisher("t", Imu) as pub, zs.Subscriber("t", Imu) as sub:
    turn(pub, sub, 200)
    gc.collect()
    gc.disable()
    mark("begin")
    turn(pub, sub, 1000)
    mark("end")
    gc.enable()
say("done")
""".replace("with sub.take() as lease:", "lease = sub.take()\n        if lease is not None:"),
        str(log),
    )
    child.expect("done")
    child.finish()
    assert traced_calls(log, "begin", "end") == []


@pytest.mark.row("NEW-10", "NEW-12", "DEF-12")
def test_sending_fields_and_batches_makes_no_system_call(cast: Cast, tmp_path: Path):
    """send, a take that may wait, publish_many and take_many: a thousand times without a system call."""
    log = tmp_path / "trace"
    child = cast(
        TRACED
        + """
import gc
import numpy as np
import zeroslot as zs
from tests.process.samples import Tick

def turn(pub, sub, batch, out, count):
    for number in range(count):
        pub.send(number=number)
        lease = sub.take(None)
        assert lease.sample.number == number
        lease.release()
        pub.publish_many(batch)
        assert len(sub.take_many(out=out)) == len(batch)

batch, out = (np.zeros(16, zs.layout_of(Tick).dtype) for _ in range(2))
with zs.Publisher("t", Tick, depth=32) as pub, zs.Subscriber("t", Tick) as sub:
    turn(pub, sub, batch, out, 200)
    gc.collect()
    gc.disable()
    mark("begin")
    turn(pub, sub, batch, out, 1000)
    mark("end")
    gc.enable()
say("done")
""",
        str(log),
    )
    child.expect("done")
    child.finish()
    assert traced_calls(log, "begin", "end") == []


@pytest.mark.row("NEW-10")
def test_the_untyped_layer_makes_no_system_call(cast: Cast, tmp_path: Path):
    """reserve, commit, take, release on bytes."""
    log = tmp_path / "trace"
    child = cast(
        TRACED
        + """
import os
import zeroslot as zs

def turn(slots, reader, count):
    for number in range(count):
        slot = slots.reserve()
        slot.write(b"hello")
        slots.commit(slot, 5)
        lease = reader.take()
        assert bytes(lease) == b"hello"
        lease.release()

flink = os.path.join(os.environ["ZEROSLOT_DIR"], "slots")
with zs.SlotAllocator.create(flink, 4, 64) as slots, zs.SlotReader.attach(flink) as reader:
    turn(slots, reader, 200)
    mark("begin")
    turn(slots, reader, 1000)
    mark("end")
say("done")
""",
        str(log),
    )
    child.expect("done")
    child.finish()
    assert traced_calls(log, "begin", "end") == []


@pytest.mark.row("NOT-3", "DEF-12")
def test_a_sleeper_costs_one_wake_call_also_when_it_is_dead(cast: Cast, tmp_path: Path):
    """The commit that wakes makes one futex call; the waker takes the bit, so a dead sleeper is woken once."""
    log = tmp_path / "trace"
    pub = cast(TRACED + PUBLISH.replace("    publish(pub, 1000)\n", "    publish(pub, 1)\n"), str(log), 100)
    pub.expect("ready")
    dead = cast.subscriber("t", spin_us=0)
    start_to(dead, "wait_for_publishers", 1)
    assert dead.hear() is True
    alive = cast.subscriber("t", spin_us=0)
    for sub in (dead, alive):
        start_to(sub, "take", 1)
    dead.kill()
    # The one sample before the measured ones wakes `alive`, which then sleeps no more.
    assert pub.ask("go") == 1
    assert alive.hear()[0][0] == 1
    assert traced_calls(log, "begin", "end") == []


@pytest.mark.row("BUF-8", "DEF-12")
def test_redeeming_a_second_ticket_of_a_publisher_makes_no_system_call(cast: Cast, tmp_path: Path):
    """The mappings of a publisher are kept from its first ticket on, of several publishers beside each other."""
    log = tmp_path / "trace"
    child = cast(
        TRACED
        + """
import gc
import zeroslot as zs
from tests.process.samples import Tick

def turn(pubs, subs, count):
    for number in range(count):
        for pub, sub in zip(pubs, subs):
            pub.send(number=number)
            lease = sub.take()
            again = zs.redeem(lease.ticket(), Tick)
            assert again.sample.number == number
            again.release()
            lease.release()

pubs = [zs.Publisher(f"t/{i}", Tick) for i in range(3)]
subs = [zs.Subscriber(f"t/{i}", Tick) for i in range(3)]
turn(pubs, subs, 200)
gc.collect()
gc.disable()
mark("begin")
turn(pubs, subs, 300)
mark("end")
gc.enable()
say("done")
""",
        str(log),
    )
    child.expect("done")
    child.finish()
    assert traced_calls(log, "begin", "end") == []
