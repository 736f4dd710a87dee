"""A process that is stopped before each access to shared memory, and held before each system call.

A stopped process is alive. Other processes read what it has made so far, clean, join and leave; then it continues, and
must end as if it had not been stopped. The steps are those of test_steps.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import zeroslot as zs
from tests import shared_memory
from tests.fault import survivors
from tests.fault.parcels import Parcel, whole
from tests.fault.survivors import DEPTH, TOPIC, Launcher, PublisherHere, Victim, numbers_of
from tests.fault.victims import NEVER
from zeroslot._core.binding import OPEN, OWNER_BYTE
from zeroslot.memory.attach import attach_control
from zeroslot.memory.bell import bells_of
from zeroslot.memory.objects import open_for_cleaning
from zeroslot.types.schema import unpack_schema


class OtherParcel(zs.Sample):
    """Another type than the topic had."""

    number: int = 0


@contextmanager
def stopped_before(victim: Victim, at: int) -> Iterator[bool]:
    """Stopped within the block, unless it completes the operation before; afterwards the operation is completed."""
    stopped = victim.stop(at)
    try:
        yield stopped
    except BaseException as error:
        error.add_note(f"while it was stopped before step {at}")
        raise
    finally:
        raised = victim.go_on()
    assert raised == "", f"stopped before step {at}, it raised {raised}"


def locked_controls() -> set[str]:
    """The control objects with a living owner."""
    found = set()
    for name in shared_memory.objects():
        own = open_for_cleaning(f"/{name}") if len(name) == 19 else None
        if own is not None:
            if own.is_locked(OWNER_BYTE):
                found.add(name)
            own.close()
    return found


def look(root: Path) -> bool:
    """Everything that others can do while a creator is stopped. Whether they have seen its segment."""
    for name in shared_memory.objects():
        attached = attach_control(f"/{name}", name) if len(name) == 19 else None
        if attached is not None:  # not ready is None; whatever else there is has to be all there
            assert attached.segment.state == OPEN
            assert attached.map_pools()
            assert unpack_schema(attached.segment.schema()).name == "Parcel"
    published = [publisher.published for facts in zs.topics() for publisher in facts.publishers]
    assert published in ([], [0], [1])
    with zs.Subscriber(TOPIC, Parcel, history=DEPTH) as sub:
        assert len(sub.publishers) == len(published)
        numbers = numbers_of(sub)
        assert numbers in ([], [1])
        assert len(numbers) >= sum(published)  # the ring tells of a sample before the counter does
        assert sub.lost == 0
    with zs.Publisher(TOPIC, Parcel, depth=1) as other:  # which removes what dead processes left
        assert other.sequence == 0
    owned = locked_controls()
    flinks = {path for path in shared_memory.files(root) if path.suffix in {".flink", ".tmp"}}
    zs.clean()
    assert owned <= shared_memory.objects()
    assert flinks <= shared_memory.files(root)
    return bool(published)


@pytest.mark.row("DEF-1", "SEG-7", "SEG-14", "NEW-5")
@pytest.mark.parametrize("company", [True, False], ids=["in company", "alone"])
def test_a_creator_stopped_at_any_step_shows_no_segment_or_a_complete_one(
    launcher: Launcher, zeroslot_dir: Path, request: pytest.FixtureRequest, *, company: bool
):
    """No process sees half a segment, no cleaner removes it, and the creation succeeds in the end."""
    before = shared_memory.objects()
    seen = []
    other = zs.Subscriber("other", Parcel, domain=None if company else "another")  # in company the domain stays
    files = shared_memory.files(zeroslot_dir)
    for at in range(NEVER):
        victim = launcher.start("create", TOPIC, 1, depth=DEPTH)
        with stopped_before(victim, at) as stopped:
            seen.append(look(zeroslot_dir))
        with zs.Subscriber(TOPIC, Parcel, history=1) as sub:
            assert numbers_of(sub) == [1]
        victim.kill()
        zs.clean()
        assert shared_memory.objects() == before
        assert shared_memory.files(zeroslot_dir) == files
        if not stopped:
            break
    other.close()
    # Unseen for a while, seen from some step on.
    assert seen == sorted(seen)
    assert not seen[0]
    assert seen[-1]
    how = request.node.callspec.params["launcher"]
    survivors.say(
        request.config, f"creation stopped before {len(seen) - 1} {how}, seen from step {seen.index(True)} on"
    )


@dataclass
class Leaving:
    """A process that leaves the domain: its scenario and arguments."""

    scenario: str
    args: tuple[object, ...]


LEAVING = {"subscriber": Leaving("leave", (TOPIC, 0)), "publisher": Leaving("close", (TOPIC, 0))}


@pytest.mark.row("DIS-1", "DEF-11")
@pytest.mark.parametrize("name", LEAVING)
def test_a_process_stopped_while_it_leaves_keeps_no_other_out(
    tracing: Launcher, zeroslot_dir: Path, request: pytest.FixtureRequest, name: str
):
    """The last user of the bell, before each of its system calls: others join, notice publishers, and leave. When it
    continues it removes nothing that they use.
    """
    before = shared_memory.objects()
    several = 0
    for at in range(NEVER):
        leaver = tracing.start(LEAVING[name].scenario, *LEAVING[name].args)
        with stopped_before(leaver, at) as stopped:
            early = zs.Subscriber("heard", Parcel)
            heard = early._bell.word.value
            with zs.Publisher("heard", Parcel) as pub:
                assert early._bell.word.value != heard
                pub.publish({"number": 1})
                assert early.publishers[0].publisher_id == pub.publisher_id
            several += len(bells_of(zeroslot_dir / "default")) > 1
            heard = early._bell.word.value
        # It has left. The process that is there and one that comes now notice each other.
        with zs.Publisher("heard", Parcel) as pub:
            assert early._bell.word.value != heard
            late = zs.Subscriber("heard", Parcel)
            assert late.publishers[0].publisher_id == pub.publisher_id
            heard = late._bell.word.value
        assert late._bell.word.value != heard
        early.close()
        late.close()
        leaver.kill()
        assert shared_memory.objects() == before
        assert list(zeroslot_dir.iterdir()) == []
        if not stopped:
            break
    assert several > 0  # it was also stopped while it had the bell to itself
    survivors.say(
        request.config, f"a {name} that leaves stopped before {at} system calls, {several} with the bell locked"
    )


@pytest.mark.row("SEG-14", "TYP-4", "DEF-11")
def test_a_cleaner_stopped_at_any_step_leaves_the_dead_publisher_dead(launcher: Launcher, zeroslot_dir: Path):
    """At no step is the publisher listed or read, and at none does it refuse another type."""
    before = shared_memory.objects()
    for at in range(NEVER):
        launcher.start("loan", TOPIC, 1, depth=DEPTH).kill_before_start()
        cleaner = launcher.start("clean")
        with stopped_before(cleaner, at) as stopped:
            assert zs.topics() == ()
            with zs.Subscriber(TOPIC, Parcel) as sub:
                assert sub.publishers == ()
            with zs.Publisher(TOPIC, OtherParcel) as pub:
                pub.publish({"number": 1})
                assert [facts.publishers[0].type_name for facts in zs.topics()] == ["OtherParcel"]
        cleaner.kill()
        zs.clean()
        assert shared_memory.objects() == before
        assert shared_memory.files(zeroslot_dir) == set()
        if not stopped:
            break


@pytest.mark.row("PEER-10", "PEER-2", "DEF-6", "DEF-11")
def test_an_index_is_reused_only_when_its_dead_holder_is_cleared(launcher: Launcher):
    """A cleaner is stopped while it clears a dead subscriber; a subscriber that joins then keeps its own state."""
    world = PublisherHere()
    mapped = world.pub.allocator.native.segment
    indexes = set()
    for at in range(NEVER):
        launcher.start("take", TOPIC, 2, history=2).kill_before_start()
        assert len(mapped.held_by(1)) == 2
        epoch = mapped.peer(1).epoch
        cleaner = launcher.start("clean")
        with stopped_before(cleaner, at) as stopped:
            sub = zs.Subscriber(TOPIC, Parcel, history=1)
            (index,) = (record.source.reader.index for record in sub._table.attached().values())
            assert mapped.held_by(index) == []
            assert mapped.peer(1).epoch == epoch + (index == 1)
            indexes.add(index)
            lease = sub.take()
            assert lease is not None
            held = mapped.held_by(index)
            assert len(held) == 1
        assert mapped.held_by(index) == held
        assert index in world.pub.allocator.subscriber_indexes()
        for _ in range(2 * DEPTH):
            survivors.publish(world.pub, 1)
            assert len(numbers_of(world.sub)) == 1
        assert whole(lease.sample, lease.sequence)
        del lease
        sub.close()
        cleaner.kill()
        world.pub.reap()
        assert mapped.indexes_in_use() == [0]
        assert world.pub.allocator.free_count == world.pub.slot_count - DEPTH
        if not stopped:
            break
    # Index 1 was the dead subscriber's: while the cleaner has its lock, the joiner gets the next one.
    assert indexes == {1, 2}
    world.close()
