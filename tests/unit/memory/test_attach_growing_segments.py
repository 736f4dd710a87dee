"""Segments that grow: a reader maps the pools that its owner adds while it reads, each with slots of its own size."""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.control_bytes import SECTION_AT, SECTIONS
from zeroslot import CorruptSegmentError, SlotReader
from zeroslot._core.binding import BYTES, OWNER_BYTE, AllocatorEnd, Owner, Region, Segment, SegmentConfig
from zeroslot.memory import attach, objects

POOLS = [(3, 128), (5, 384)]  # (slots, bytes of each)
DEPTH = 4


class GrowingSegment:
    """An owner that has slots in two pools, of which the pool table names the second one only after `grow`.

    The first three samples are as large as a slot of the first pool, the others as one of the second.
    """

    def __init__(self) -> None:
        self.name = objects.new_name()
        lock = objects.create_object(self.name)
        assert lock is not None
        assert lock.try_lock(OWNER_BYTE)
        config = SegmentConfig(
            segment_id=int(objects.segment_id_of(self.name), 16), depth=DEPTH, slot_limit=8, max_subscribers=4,
            pool_limit=2, spare_slots=3, max_loans=1, owner_pid=os.getpid(), owner_name="growing", payload_kind=BYTES,
        )  # fmt: skip  # one list
        size = Segment.control_size(config, 0)
        self.control = Region(objects.reopen(lock.fileno(), os.O_RDWR), _sized(lock.fileno(), size), True)
        self.segment = Segment.create(self.control, config, b"")
        first = 0
        for k, (count, capacity) in enumerate(POOLS):
            pool = objects.create_object(objects.pool_name(self.name, k))
            assert pool is not None
            region = Region(pool, _sized(pool.fileno(), count * capacity), True)
            self.segment.add_pool(region, first_slot=first, slot_capacity=capacity, slot_count=count)
            first += count
        at = self.control.read(SECTION_AT + 8 * SECTIONS.index("pools"), 8)
        self._state_of_second = struct.unpack("<Q", at)[0] + 64 + 16
        self.control.write(self._state_of_second, struct.pack("<I", 0))
        self.segment.open()
        self.owner = Owner(self.segment, lock, 1)
        self.end = AllocatorEnd(self.owner)

    def grow(self) -> None:
        """Name the second pool in the table."""
        self.control.write(self._state_of_second, struct.pack("<I", 1))

    def publish(self, *numbers: int) -> None:
        """A sample for each, as long as its slot."""
        for number in numbers:
            slot = self.end.reserve(POOLS[self.end.sequence >= POOLS[0][0]][1])
            slot.array("<u8")[:] = number
            slot.commit()

    def reader(self) -> SlotReader:
        """A reader that has mapped the pools of the table."""
        attached = attach.attach_control(self.name, "the growing segment")
        assert attached is not None
        assert attached.map_pools()
        return SlotReader._join(attached, history=0, max_leases=None, reliable=False, name="reader")

    def remove(self) -> None:
        """End, and remove the objects."""
        self.owner.close()
        for k in range(len(POOLS)):
            objects.unlink(objects.pool_name(self.name, k))
        objects.unlink(self.name)


def _sized(fd: int, size: int) -> int:
    os.posix_fallocate(fd, 0, size)
    return size


@pytest.fixture
def growing() -> Iterator[GrowingSegment]:
    made = GrowingSegment()
    yield made
    made.remove()


def checked(lease: Any) -> tuple[int, int]:
    """(number, bytes) of a sample, all of which has to be that number."""
    numbers = set(lease.array("<u8").tolist())
    assert len(numbers) == 1
    return numbers.pop(), lease.size


def test_a_reader_goes_on_without_loss_when_its_segment_grows(growing: GrowingSegment) -> None:
    """Samples in the new pool are taken as others are, and leases that were held before stay good."""
    with growing.reader() as reader:
        assert reader.slot_count == 3
        growing.publish(1, 2, 3)
        held = [reader.take() for _ in range(3)]
        growing.grow()
        growing.publish(4, 5, 6, 7)
        later = [reader.take() for _ in range(4)]
        assert reader.slot_count == 8
        assert [checked(lease) for lease in held + later] == [
            *((number, 128) for number in (1, 2, 3)),
            *((number, 384) for number in (4, 5, 6, 7)),
        ]
        assert reader.take() is None
        assert (reader.lost, reader.skipped) == (0, 0)


def test_the_newest_sample_may_lie_in_a_new_pool(growing: GrowingSegment) -> None:
    """`latest` maps it as `take` does."""
    with growing.reader() as reader:
        growing.grow()
        growing.publish(1, 2, 3, 4)
        assert checked(reader.latest()) == (4, 384)
        assert (reader.lost, reader.skipped) == (0, 3)


def test_a_slot_that_is_in_no_pool_is_corrupt(growing: GrowingSegment) -> None:
    """The pool table is read again before the error, and no sample is counted as lost."""
    with growing.reader() as reader:
        growing.publish(1, 2, 3, 4)
        for number in (1, 2, 3):
            assert checked(reader.take()) == (number, 128)
        with pytest.raises(CorruptSegmentError):
            reader.take()
        assert reader.lost == 0
        assert reader.native.cursor == 3


def test_a_pool_that_cannot_be_mapped_now_is_mapped_by_the_next_call(growing: GrowingSegment) -> None:
    """Descriptors have run out: the sample can still be taken later."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with growing.reader() as reader:
        growing.grow()
        growing.publish(1, 2, 3, 4)
        for _ in range(3):
            reader.take()
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            for _ in range(2):
                with pytest.raises(OSError, match="Too many open files"):
                    reader.take()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert checked(reader.take()) == (4, 384)
        assert reader.lost == 0


def test_samples_of_a_pool_that_is_gone_are_lost_and_counted(growing: GrowingSegment) -> None:
    """The owner has ended and removed the pool before this reader needed it."""
    with growing.reader() as reader:
        growing.grow()
        growing.publish(1, 2, 3, 4, 5)
        objects.unlink(objects.pool_name(growing.name, 1))
        assert [checked(reader.take()) for _ in range(2)] == [(2, 128), (3, 128)]
        assert reader.take() is None
        assert reader.lost == 3


def test_a_handler_that_takes_while_a_pool_is_mapped_takes_each_sample_once(
    growing: GrowingSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mapping runs Python code, so a signal handler may be in the middle of it and map the same pool."""
    real, taken = attach.open_object, []

    def interrupted(name: str, *, read_only: bool) -> Any:
        monkeypatch.setattr(attach, "open_object", real)
        opened = real(name, read_only=read_only)
        taken.append(checked(reader.take())[0])
        return opened

    with growing.reader() as reader:
        growing.grow()
        growing.publish(1, 2, 3, 4, 5)
        taken += [checked(reader.take())[0] for _ in range(2)]
        monkeypatch.setattr(attach, "open_object", interrupted)
        taken.append(checked(reader.take())[0])
        assert taken == [2, 3, 4, 5]
        assert reader.lost == 1
        assert reader.native.segment.pool_count == 2
