"""The owner's untyped side: slots are reserved, filled, committed; and what is wrong is an exception."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.control_bytes import ControlBytes
from zeroslot import (
    BackpressureError,
    ClosedError,
    EvictedError,
    FormatError,
    MismatchError,
    NoFreeSlotError,
    OutOfSharedMemoryError,
    SampleTooLargeError,
    Slot,
    SlotAllocator,
    SlotReader,
    TopicNotFoundError,
)
from zeroslot._core.binding import now_ns
from zeroslot.testing import abandon


class Liar(int):
    """A number that compares as smaller than everything, and still is what it is."""

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return False

    def __int__(self) -> int:
        return 1


def memory(slot_count: int = 6, slot_capacity: int = 64, **options: Any) -> SlotAllocator:
    return SlotAllocator.in_memory(slot_count, slot_capacity, **options)


def publish(slots: SlotAllocator, data: bytes) -> int:
    return slots.commit(slots.reserve(), data)


# --- creating ---


@pytest.mark.row("SEG-1", "SEG-8", "SLOT-6", "SLOT-7")
def test_a_segment_has_the_sizes_that_were_asked_for(path: Path) -> None:
    """Slots are rounded up to 128 bytes, the objects are exactly as large as the header says, and attachers take the
    same.
    """
    with SlotAllocator.create(path, 5, 100, depth=2, max_subscribers=3) as slots, SlotReader.attach(path) as reader:
        assert (slots.slot_count, slots.slot_capacity, slots.depth) == (5, 128, 2)
        assert (reader.slot_count, reader.slot_capacity) == (5, 128)
        control, pool = ControlBytes(path), ControlBytes(path, pool=0)
        assert control.path.stat().st_size == control.read(16, "Q") == slots.size.control_bytes
        assert pool.path.stat().st_size == 5 * 128 == slots.size.pool_bytes
        assert control.read(64, "I") == 3
        assert slots.size.total_bytes == slots.size.control_bytes + slots.size.pool_bytes


@pytest.mark.row("SEG-22", "SLOT-7")
@pytest.mark.parametrize(("slot_count", "capacity", "depth"), [(2, 1, None), (9, 65, 3), (200, 4096, 199)])
def test_the_size_is_known_without_creating(path: Path, slot_count: int, capacity: int, depth: int | None) -> None:
    """size_of says what create will take, to the byte."""
    size = SlotAllocator.size_of(slot_count, capacity, depth=depth)
    with SlotAllocator.create(path, slot_count, capacity, depth=depth) as slots:
        assert slots.size == size


@pytest.mark.row("SEG-1")
@pytest.mark.parametrize(
    ("slot_count", "capacity", "error"),
    [
        (0, 64, ValueError),
        (1, 64, ValueError),
        (-1, 64, ValueError),
        (65536, 64, ValueError),
        (10**30, 64, ValueError),
        (4, 0, ValueError),
        (4, -64, ValueError),
        (4, 2**63, ValueError),
        (4, 10**30, ValueError),
        ("4", 64, TypeError),
        (4.0, 64, TypeError),
        (None, 64, TypeError),
        (True, 64, TypeError),
        (4, "x", TypeError),
        (4, 64.0, TypeError),
        (4, None, TypeError),
        (65535, 2**40, OutOfSharedMemoryError),
    ],
)
def test_impossible_counts_are_errors_and_leave_nothing(
    path: Path, slot_count: Any, capacity: Any, error: type
) -> None:
    """Zero, overflow and other types; the fixture looks for what was left."""
    with pytest.raises(error):
        SlotAllocator.create(path, slot_count, capacity)
    assert not path.exists()
    if error is not OutOfSharedMemoryError:
        with pytest.raises(error):
            SlotAllocator.size_of(slot_count, capacity)
        with pytest.raises(error):
            memory(slot_count, capacity)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 0},
        {"depth": 6},
        {"max_loans": 0},
        {"max_loans": 4},
        {"max_subscribers": 0},
        {"max_subscribers": 1025},
        {"first_sequence": 0},
        {"first_sequence": 2**62},
        {"on_full": "x"},
    ],
)
def test_options_out_of_range_are_value_errors(options: dict[str, Any]) -> None:
    """All of them are checked before anything is created."""
    with pytest.raises(ValueError):
        memory(**options)


@pytest.mark.row("SEG-1", "SEG-2")
def test_creation_is_exclusive(path: Path) -> None:
    """A live owner's flink is not taken over, and its segment goes on."""
    with SlotAllocator.create(path, 4, 64) as slots, SlotReader.attach(path) as reader:
        before = path.read_bytes()
        with pytest.raises(FileExistsError, match="live"):
            SlotAllocator.create(path, 4, 64)
        assert path.read_bytes() == before
        publish(slots, b"still mine")
        assert bytes(reader.take()) == b"still mine"
        assert slots.is_owner
        assert not reader.is_owner


@pytest.mark.row("SEG-13", "DEF-10")
def test_a_dead_owners_segment_is_removed_by_the_next(path: Path) -> None:
    """Its flink, its pools and its control object; a process that still reads keeps its leases."""
    first = SlotAllocator.create(path, 4, 64)
    reader = SlotReader.attach(path)
    publish(first, b"last words")
    lease = reader.take()
    old = ControlBytes(path).path
    abandon(first)
    with SlotAllocator.create(path, 4, 64) as second:
        assert not old.exists()
        assert ControlBytes(path).path != old
        publish(second, b"new")
        assert bytes(lease) == b"last words"
        assert reader.take() is None
    reader.close()


def test_a_flink_whose_objects_are_gone_is_replaced(path: Path) -> None:
    """As after /dev/shm was cleaned by hand."""
    path.write_text("/zs-0123456789abcdef")
    path.chmod(0o600)
    with SlotAllocator.create(path, 4, 64) as slots:
        assert path.read_text() != "/zs-0123456789abcdef"
        assert slots.sequence == 0


@pytest.mark.parametrize(
    "content", [b"", b"/zs-0123456789abcdeX", b"/zs-0123456789abcdef\n", b"/etc/passwd", b"\0" * 20]
)
def test_a_file_that_is_no_flink_is_left_alone(path: Path, content: bytes) -> None:
    """Neither overwritten nor removed: it may belong to another program."""
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(FileExistsError):
        SlotAllocator.create(path, 4, 64)
    with pytest.raises(FormatError):
        SlotReader.attach(path)
    assert path.read_bytes() == content
    path.unlink()


@pytest.mark.row("SEG-3")
def test_create_or_attach_creates_once_and_then_attaches(path: Path) -> None:
    """The second one reads what the first one writes, and `is_owner` tells which is which."""
    owner = SlotAllocator.create_or_attach(path, 4, 100)
    other = SlotAllocator.create_or_attach(path, 4, 100)
    assert (owner.is_owner, other.is_owner) == (True, False)
    publish(owner, b"x")  # type: ignore[arg-type]  # the owner is an allocator
    assert bytes(other.take()) == b"x"  # type: ignore[union-attr]  # the other is a reader
    other.close()
    owner.close()


@pytest.mark.row("SEG-3")
@pytest.mark.parametrize(("slot_count", "capacity"), [(5, 200), (4, 257), (4, 64)])
def test_create_or_attach_compares_the_counts(path: Path, slot_count: int, capacity: int) -> None:
    """Other slots than there are: an error that names both, and no subscriber is left behind."""
    with SlotAllocator.create(path, 4, 200) as slots:
        with pytest.raises(MismatchError, match="4 slots of 256"):
            SlotAllocator.create_or_attach(path, slot_count, capacity)
        assert slots.subscriber_indexes() == []


@pytest.mark.row("SEG-11", "SEG-15")
def test_close_removes_every_name_and_readers_drain(path: Path) -> None:
    """Flink, pools and control go; what was committed can still be taken, and then the end is known."""
    slots = SlotAllocator.create(path, 4, 64)
    control, pool = ControlBytes(path), ControlBytes(path, pool=0)
    reader = SlotReader.attach(path)
    publish(slots, b"one")
    publish(slots, b"two")
    slots.close()
    assert not path.exists()
    assert not control.path.exists()
    assert not pool.path.exists()
    assert reader.owner_gone
    assert [bytes(reader.take()), bytes(reader.take()), reader.take()] == [b"one", b"two", None]
    with pytest.raises(TopicNotFoundError):
        SlotReader.attach(path)
    reader.close()


@pytest.mark.row("SEG-11")
def test_dropping_the_owner_closes_it(path: Path) -> None:
    """Without a call to close, in no cycle: the names are gone with the last reference."""
    slots = SlotAllocator.create(path, 4, 64)
    assert path.exists()
    del slots
    gc.collect()
    assert not path.exists()


@pytest.mark.row("SEG-11")
def test_a_second_close_does_nothing(path: Path) -> None:
    """Also when another owner has the flink meanwhile."""
    slots = SlotAllocator.create(path, 4, 64)
    slots.close()
    with SlotAllocator.create(path, 4, 64):
        slots.close()
        assert path.exists()


@pytest.mark.row("SEG-19")
def test_in_memory_is_the_same_without_names(zeroslot_dir: Path) -> None:
    """Same protections, nothing in the file system."""
    with memory() as slots:
        links = [os.readlink(f"/proc/self/fd/{fd.fileno()}") for fd in (slots._owned.lock, *slots._owned.unnamed_pools)]
        assert [link.split(" ")[0] for link in links] == ["/memfd:zeroslot", "/memfd:zeroslot-p0"]
        assert slots.flink is None
        reader = slots.reader()
        publish(slots, b"hello")
        lease = reader.take()
        assert bytes(lease) == b"hello"
        with pytest.raises(TypeError):
            memoryview(lease)[0] = 1
        reader.close()
    assert list(zeroslot_dir.iterdir()) == []


@pytest.mark.row("SEC-1", "DEF-18")
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
@pytest.mark.parametrize(
    ("mode", "control", "pool", "flink"), [(0o600, 0o600, 0o600, 0o600), (0o660, 0o660, 0o640, 0o640)]
)
def test_the_mode_does_not_depend_on_the_umask(
    path: Path, umask: int, mode: int, control: int, pool: int, flink: int
) -> None:
    """Modes are what was asked for; group members never write pools or flinks."""
    path.parent.chmod(0o2770 if mode & 0o070 else 0o700)
    before = os.umask(umask)
    try:
        slots = SlotAllocator.create(path, 4, 64, mode=mode)
    finally:
        os.umask(before)
    found = [each.stat().st_mode & 0o7777 for each in (ControlBytes(path).path, ControlBytes(path, pool=0).path, path)]
    slots.close()
    assert found == [control, pool, flink]


@pytest.mark.row("SEC-1")
@pytest.mark.parametrize("mode", [0o666, 0o604, 0o400, 0o000, 0o060, -1, 0o10600, 0o700])
def test_modes_that_give_others_access_are_refused(path: Path, mode: int) -> None:
    """As are those that shut its owner out."""
    with pytest.raises(ValueError, match="mode"):
        SlotAllocator.create(path, 4, 64, mode=mode)


# --- reserve, commit, discard ---


@pytest.mark.row("SLOT-1", "SLOT-2")
def test_commit_copies_bytes_and_counts_up() -> None:
    """The sequence is returned and starts at first_sequence."""
    with memory(first_sequence=41) as slots, slots.reader() as reader:
        assert slots.sequence == 40
        assert [publish(slots, b"a"), publish(slots, b"")] == [41, 42]
        first, second = reader.take(), reader.take()
        assert (bytes(first), first.sequence, first.size, len(first)) == (b"a", 41, 1, 1)
        assert (bytes(second), second.sequence) == (b"", 42)
        assert slots.sequence == 42


@pytest.mark.row("SLOT-2", "TYP-11")
@pytest.mark.parametrize("data", [bytearray(b"abcd"), memoryview(b"abcd"), np.frombuffer(b"abcd", "u1")])
def test_commit_takes_any_bytes(data: Any) -> None:
    """What has a contiguous buffer of bytes."""
    with memory() as slots, slots.reader() as reader:
        slots.commit(slots.reserve(), data)
        assert bytes(reader.take()) == b"abcd"


@pytest.mark.row("SLOT-2")
def test_the_size_is_checked_before_anything_is_copied() -> None:
    """A sample that does not fit leaves the slot as it was, still loaned."""
    with memory() as slots, slots.reader() as reader:
        slot = slots.reserve()
        slot.write(b"kept")
        with pytest.raises(SampleTooLargeError) as caught:
            slots.commit(slot, b"x" * 129)
        assert (caught.value.size, caught.value.capacity) == (129, 128)
        assert slots.commit(slot, 4) == 1
        assert bytes(reader.take()) == b"kept"


@pytest.mark.row("SLOT-3")
def test_commit_in_place_publishes_what_was_written() -> None:
    """Through the slot, a memoryview, an array: the same memory, and nothing is copied."""
    with memory() as slots, slots.reader() as reader:
        slot = slots.reserve(16)
        assert (len(slot), slot.capacity) == (16, 16)
        slot.array("<u4")[:] = [1, 2, 3, 4]
        with memoryview(slot) as view:
            view[4:8] = b"\xff\xff\xff\xff"
        slots.commit(slot)
        lease = reader.take()
        assert lease.array("<u4").tolist() == [1, 2**32 - 1, 3, 4]


@pytest.mark.row("SLOT-3", "SLOT-5")
@pytest.mark.parametrize("size", [-1, -(10**30)])
def test_negative_sizes_are_refused(size: int) -> None:
    """In reserve and in commit, and the slot stays."""
    with memory() as slots:
        with pytest.raises(ValueError):
            slots.reserve(size)
        slot = slots.reserve()
        with pytest.raises(ValueError):
            slot.commit(size)
        assert slot.live_hold


@pytest.mark.row("SLOT-1", "SEC-4")
@pytest.mark.parametrize("size", [129, 2**63, 10**30, Liar(129), Liar(10**9), np.int64(129)])
def test_sizes_beyond_the_slot_are_refused(size: int) -> None:
    """A number that lies about how it compares would else be a write over the end of the pool."""
    with memory() as slots:
        with pytest.raises(SampleTooLargeError):
            slots.reserve(size)
        slot = slots.reserve()
        with pytest.raises(SampleTooLargeError):
            slot.commit(size)
        with pytest.raises(SampleTooLargeError):
            slots.commit(slot, size if isinstance(size, int) else int(size))
        assert slots.loan_count == 1


@pytest.mark.parametrize("size", ["5", 5.0, float("nan"), [], object()])
def test_sizes_are_numbers(size: Any) -> None:
    """Anything else is a TypeError and no loan."""
    with memory() as slots:
        with pytest.raises(TypeError):
            slots.reserve(size)
        slot = slots.reserve()
        with pytest.raises(TypeError):
            slot.commit(size)
        if not isinstance(size, list):
            with pytest.raises(TypeError):
                slots.commit(slot, size)


@pytest.mark.row("SLOT-5", "SLOT-13", "DEF-7")
@pytest.mark.parametrize("ending", ["commit", "discard"])
def test_a_slot_is_committed_or_discarded_once(ending: str) -> None:
    """After commit or discard every use is a ClosedError, and nothing is published or freed twice."""
    with memory() as slots:
        slot = slots.reserve()
        getattr(slots, ending)(slot)
        free, sequence = slots.free_count, slots.sequence
        uses: list[Callable[[], Any]] = [
            slot.commit,
            lambda: slots.commit(slot),
            lambda: slots.commit(slot, b"x"),
            lambda: slots.discard(slot),
            lambda: memoryview(slot),
            lambda: len(slot),
            lambda: slot.capacity,
            slot.array,
            lambda: slot.write(b"x"),
            lambda: bytes(slot),
        ]
        for use in uses:
            with pytest.raises(ClosedError):
                use()
        slot.discard()  # a second one does nothing
        assert not slot.live_hold
        assert (slots.free_count, slots.sequence, slots.loan_count) == (free, sequence, 0)
        assert "given back" in repr(slot)


@pytest.mark.row("SLOT-5")
def test_another_allocators_slot_is_refused() -> None:
    """Commit and discard, and it stays loaned where it belongs."""
    with memory() as one, memory() as two:
        slot = one.reserve()
        for use in (two.commit, two.discard):
            with pytest.raises(ClosedError, match="another"):
                use(slot)
        assert one.loan_count == 1
        assert one.commit(slot) == 1


@pytest.mark.parametrize("slot", [None, 5, "slot", b"x", object()])
def test_commit_and_discard_accept_slots_alone(slot: Any) -> None:
    """TypeError from both."""
    with memory() as slots:
        for use in (slots.commit, slots.discard):
            with pytest.raises(TypeError):
                use(slot)
        lease_like = slots.reader()
        with pytest.raises(TypeError):
            slots.commit(lease_like)  # type: ignore[arg-type]  # on purpose
        lease_like.close()


@pytest.mark.row("SLOT-4")
def test_dropped_discarded_and_failed_slots_go_back() -> None:
    """By del, discard, leaving a with block, and an exception; none is published."""
    with memory() as slots, slots.reader() as reader:
        free = slots.free_count
        slot = slots.reserve()
        assert (slots.free_count, slots.loan_count) == (free - 1, 1)
        del slot
        slots.reserve().discard()
        slots.discard(slots.reserve())
        with slots.reserve() as slot:
            slot.discard()
        with pytest.raises(KeyError), slots.reserve():
            raise KeyError
        assert (slots.free_count, slots.loan_count, slots.sequence) == (free, 0, 0)
        assert reader.take() is None
        assert slots.stats["discarded"] == 5


def test_a_slot_as_a_context_manager_is_committed_at_the_end() -> None:
    """As a loan is: what was reserved, unless it was committed or discarded inside, or an exception leaves it."""
    with memory() as slots, slots.reader() as reader:
        with slots.reserve(5) as slot:
            memoryview(slot)[:2] = b"ab"
        lease = reader.take()
        assert lease is not None
        assert bytes(lease) == b"ab\0\0\0"
        with slots.reserve(5) as slot:
            assert slot.commit(3) == 2
        assert slots.sequence == 2
        with pytest.raises(KeyError), slots.reserve(5):
            raise KeyError
        with slots.reserve(5) as slot:
            slot.discard()
        assert slots.sequence == 2


FILLED = b"\xff" * 128
WAYS: dict[str, tuple[Callable[[SlotAllocator], object], bytes]] = {
    "commit without a size": (lambda slots: slots.reserve().commit(), bytes(128)),
    "commit of a size": (lambda slots: slots.reserve().commit(3), bytes(3)),
    "by the allocator": (lambda slots: slots.commit(slots.reserve()), bytes(128)),
    "of data": (lambda slots: slots.commit(slots.reserve(), b"abc"), b"abc"),
    "write and commit": (lambda slots: written(slots.reserve(), b"abc").commit(), b"abc" + bytes(125)),
    "a context manager": (lambda slots: slots.reserve(7).__exit__(None, None, None), bytes(7)),
    "a memoryview": (lambda slots: viewed(slots.reserve()).commit(), b"\1" + bytes(127)),
    "an array": (lambda slots: filled(slots.reserve()).commit(), b"\1" + bytes(127)),
    "uninitialized": (lambda slots: slots.reserve_uninit().commit(), FILLED),
    "uninitialized, of a size": (lambda slots: slots.reserve_uninit(3).commit(), FILLED[:3]),
}


def written(slot: Slot, data: bytes) -> Slot:
    slot.write(data)
    return slot


def viewed(slot: Slot) -> Slot:
    assert bytes(slot) == bytes(slot.capacity)
    with memoryview(slot) as view:
        view[0] = 1
    assert bytes(slot)[0] == 1  # and it is not wiped again
    return slot


def filled(slot: Slot) -> Slot:
    slot.array()[0] = 1
    assert slot.array()[0] == 1
    return slot


@pytest.mark.parametrize("way", WAYS)
def test_a_reserved_slot_is_zeroed(way: str) -> None:
    """It is zeros until it is written, to its owner and to readers; only reserve_uninit leaves what was there."""
    act, expected = WAYS[way]
    with memory(slot_count=2, slot_capacity=128, depth=1) as slots, slots.reader() as reader:
        for _ in range(2):
            slots.commit(slots.reserve(), FILLED)
            reader.take()
        act(slots)
        lease = reader.take()
        assert lease is not None
        assert bytes(lease) == expected


def test_reserve_waits_while_another_thread_has_the_loans() -> None:
    """It fails at once only where this thread has borrowed them all: nothing else could end that wait."""
    with memory(max_loans=1) as slots:
        held: list[Slot] = []
        thread = threading.Thread(target=lambda: held.append(slots.reserve()))
        thread.start()
        thread.join()
        with pytest.raises(NoFreeSlotError):
            slots.reserve()  # notes nothing: it got no slot

        def give_back() -> None:
            while slots.stats["blocked"] == 0:
                time.sleep(0)
            held.pop().discard()

        thread = threading.Thread(target=give_back, daemon=True)  # which waits for ever where reserve does not wait
        thread.start()
        slot = slots.reserve(timeout=None)
        thread.join()
        blocked = slots.stats["blocked"]
        with pytest.raises(NoFreeSlotError):
            slots.reserve(timeout=None)
        assert slots.stats["blocked"] == blocked
        slot.discard()


class Clock:
    """The owner's clock, an hour ahead of the samples' and moved by hand."""

    def __init__(self) -> None:
        self.now = now_ns() + 3600 * 10**9

    def __call__(self) -> int:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("zeroslot._core.binding.now_ns", made)
    return made


def test_a_stall_starts_when_the_owner_finds_the_hold(clock: Clock) -> None:
    """An hour-old sample that was taken just now is no stall; each hold counts for itself, and is forgotten."""
    with memory() as slots, slots.reader(history=3) as reader:
        for number in range(3):
            publish(slots, bytes([number]))
        lease = reader.take()
        assert slots.evict_stale(10) == 0
        clock.pass_by(9)
        assert slots.evict_stale(10) == 0
        lease = reader.take()  # the other one goes
        clock.pass_by(9)
        assert slots.evict_stale(10) == 0
        clock.pass_by(9.5)
        other = reader.take()
        assert slots.evict_stale(10) == 0
        clock.pass_by(1)
        assert slots.evict_stale(10) == 1
        assert slots.evict_stale(10) == 0
        assert (lease, other) != (None, None)


def test_a_stall_starts_when_the_owner_finds_the_cursor_behind(clock: Clock) -> None:
    """A reliable subscriber that takes is not stalled, however old what it takes is; nor is a joiner at its place."""
    with memory(on_full="block", depth=4) as slots:
        reader = slots.reader(reliable=True, history=1)
        for number in range(3):
            publish(slots, bytes([number]))
        for _ in range(2):
            assert slots.evict_stale(10) == 0
            clock.pass_by(9)
            reader.take()
        index = slots.subscriber_indexes()[0]
        reader.close()
        with slots.reader(reliable=True, history=1) as joiner:
            assert slots.subscriber_indexes() == [index]
            clock.pass_by(9)
            assert slots.evict_stale(10) == 0
            clock.pass_by(10)
            assert slots.evict_stale(10) == 1
            with pytest.raises(EvictedError):
                joiner.take()


def test_evict_after_counts_from_when_the_stall_was_found(clock: Clock) -> None:
    """`evict_after` spares a subscriber that has just joined or taken; the error tells since when it is in the way."""
    with memory(slot_count=6, depth=1, max_loans=1) as slots, slots.reader() as reader:
        slots.evict_after = 10.0
        held = []
        while slots.free_count:
            publish(slots, b"x")
            held.append(reader.take())
        with pytest.raises(NoFreeSlotError) as refused:
            slots.reserve()
        assert refused.value.holders[0].stalled_s == 0.0
        assert slots.stats["evicted"] == 0
        clock.pass_by(9)
        with pytest.raises(NoFreeSlotError) as refused:
            slots.reserve()
        assert refused.value.holders[0].stalled_s == 9.0
        clock.pass_by(1)
        with pytest.raises(NoFreeSlotError):
            slots.reserve()
        assert slots.stats["evicted"] == 1


@pytest.mark.row("SLOT-10", "SLOT-1")
def test_all_slots_can_be_loaned_at_once() -> None:
    """Up to all slots that are not published; then an error that says what is out."""
    with memory(6, 64, depth=2) as slots:
        loans = [slots.reserve() for _ in range(6)]
        with pytest.raises(NoFreeSlotError) as caught:
            slots.reserve()
        assert caught.value.slot_count == 6
        assert caught.value.loaned == 6
        first = np.array([loan.array()[0:0].__array_interface__["data"][0] for loan in loans])
        assert len(set(first.tolist())) == 6
        for loan in reversed(loans):
            loan.discard()
        assert slots.free_count == 6


@pytest.mark.row("SLOT-10")
def test_max_loans_limits_the_loans() -> None:
    """The text names the setting."""
    with memory(6, 64, max_loans=2) as slots:
        loans = [slots.reserve(), slots.reserve()]
        with pytest.raises(NoFreeSlotError, match="max_loans allows, 2"):
            slots.reserve()
        loans.pop().discard()
        slots.reserve().discard()


@pytest.mark.row("SLOT-10")
def test_loans_are_published_in_the_order_of_their_commits() -> None:
    """Not of their reservation."""
    with memory() as slots, slots.reader() as reader:
        one, two = slots.reserve(), slots.reserve()
        two.write(b"2")
        one.write(b"1")
        two.commit(1)
        one.commit(1)
        assert [bytes(reader.take()), bytes(reader.take())] == [b"2", b"1"]


@pytest.mark.row("SLOT-8", "SLOT-9")
def test_a_held_slot_is_not_reused_and_a_released_one_is() -> None:
    """The owner goes around every other slot, and the held bytes stay; after the release all are free again."""
    with memory(4, 64, depth=1, max_subscribers=130) as slots:
        readers = [slots.reader() for _ in range(130)]
        publish(slots, b"held")
        leases = [reader.take() for reader in readers]
        del leases[:-1]  # the last one's bit is in the third word
        for i in range(50):
            publish(slots, bytes([i]) * 64)
        assert bytes(leases[0]) == b"held"
        assert slots.free_count == 2
        leases[0].release()
        assert slots.free_count == 3
        for reader in readers:
            reader.close()


@pytest.mark.row("SLOT-8", "SLOT-18", "NEW-7")
def test_no_free_slot_error_names_the_holders() -> None:
    """Which process, how many slots, and that no count is wrong."""
    with memory(4, 64, depth=1) as slots:
        reader = slots.reader(name="hoarder")
        held = []
        for i in range(3):
            publish(slots, bytes([i]))
            held.append(reader.take())
        publish(slots, b"newest")
        with pytest.raises(NoFreeSlotError, match="hoarder") as caught:
            slots.reserve()
        holder = caught.value.holders[0]
        assert (holder.name, holder.pid, holder.slots, holder.stopped) == ("hoarder", os.getpid(), 3, False)
        assert caught.value.leased == 3
        assert slots.stats["no_free_slot"] == 1
        assert [bytes(lease) for lease in held] == [b"\0", b"\1", b"\2"]
        del held[0]
        slots.reserve().discard()
        reader.close()


@pytest.mark.row("SLOT-17", "SLOT-4", "NOT-4", "NOT-3")
@pytest.mark.parametrize("ending", ["release", "drop", "view"])
def test_a_blocked_reserve_is_woken_by_a_release(path: Path, ending: str) -> None:
    """By release, by the last reference, and by the last memoryview."""
    with SlotAllocator.create(path, 2, 64, depth=1) as slots, SlotReader.attach(path) as reader:
        publish(slots, b"a")
        held: list[Any] = [reader.take()]
        publish(slots, b"b")
        if ending == "view":
            held[0] = memoryview(held[0])
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(slots.reserve(timeout=None)))
        thread.start()
        ControlBytes(path).wait_until_blocked()
        assert got == []
        held[0].release() if ending == "release" else held.clear()
        thread.join()
        assert got[0].live_hold
        assert ControlBytes(path).read(ControlBytes(path).at("waiting"), "I") == 0
        assert slots.stats["blocked"] == 1
        got[0].discard()


@pytest.mark.row("NOT-4")
@pytest.mark.parametrize("ending", ["commit", "discard", "view"])
def test_the_end_of_a_loan_moves_the_space_word(path: Path, ending: str) -> None:
    """A thread that waits for max_loans, or for the last view of a published slot, looks again at once."""
    with SlotAllocator.create(path, 2, 64, depth=1, max_loans=1) as slots:
        slot = slots.reserve()
        view = slot.array()
        if ending == "view":
            slots.commit(slot, 1)
            publish(slots, b"b")  # which retires the slot of the view
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(slots.reserve(timeout=None)))
        thread.start()
        ControlBytes(path).wait_until_blocked()
        space = slots.native.segment.space
        if ending == "commit":
            slots.commit(slot, 1)
        elif ending == "discard":
            slot.discard()
        else:
            del view
        moved = slots.native.segment.space != space
        thread.join()
        assert moved
        got[0].discard()


@pytest.mark.row("SLOT-17", "NOT-4")
def test_a_blocked_reserve_is_woken_by_a_discarded_loan() -> None:
    """Loans of other threads come back as well."""
    with memory(2, 64, depth=1, max_loans=1) as slots:
        publish(slots, b"a")
        slot = slots.reserve()
        with pytest.raises(NoFreeSlotError):
            slots.reserve(timeout=1e-9)
        slot.discard()
        slots.reserve(timeout=None).discard()


@pytest.mark.row("SLOT-17")
@pytest.mark.parametrize("timeout", [0, -1, -(10**400), 1e-6])
def test_a_reserve_that_may_not_wait_raises(timeout: float) -> None:
    """NoFreeSlotError is not a TimeoutError by accident: its facts say what is out."""
    with memory(2, 64, depth=1) as slots, slots.reader() as reader:
        publish(slots, b"a")
        lease = reader.take()
        publish(slots, b"b")
        with pytest.raises(NoFreeSlotError):
            slots.reserve(timeout=timeout)
        assert bytes(lease) == b"a"


@pytest.mark.parametrize("timeout", ["1", object(), [], float("nan")])
def test_invalid_timeouts_are_refused(timeout: Any) -> None:
    """TypeError, and ValueError for NaN, when there is something to wait for."""
    with memory(2, 64, depth=1) as slots, slots.reader() as reader:
        publish(slots, b"a")
        lease = reader.take()
        publish(slots, b"b")
        with pytest.raises((TypeError, ValueError)):
            slots.reserve(timeout=timeout)
        assert slots.loan_count == 0
        lease.release()


@pytest.mark.row("SLOT-18")
def test_counters_are_exact() -> None:
    """Samples, bytes, discards and failures."""
    with memory(4, 64, depth=2, max_loans=1) as slots:
        publish(slots, b"abc")
        publish(slots, b"de")
        slots.reserve().discard()
        slot = slots.reserve()
        with pytest.raises(NoFreeSlotError):
            slots.reserve()
        slot.discard()
        stats = slots.stats
        assert {
            name: stats[name] for name in ("published", "bytes", "discarded", "no_free_slot", "wakes", "reaped")
        } == {
            "published": 2,
            "bytes": 5,
            "discarded": 2,
            "no_free_slot": 1,
            "wakes": 0,
            "reaped": 0,
        }
        assert (slots.free_count, slots.loan_count, slots.max_loans) == (2, 0, 1)


@pytest.mark.row("PUB-3")
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_exactly_depth_samples_are_kept(depth: int) -> None:
    """Neither fewer nor more, for a late joiner that requests all."""
    with memory(8, 64, depth=depth) as slots:
        for i in range(20):
            publish(slots, bytes([i]))
            with slots.reader(history=depth) as reader:
                kept = []
                while (lease := reader.take()) is not None:
                    kept.append(bytes(lease)[0])
                    del lease
                assert kept == list(range(max(0, i + 1 - depth), i + 1))


@pytest.mark.row("PUB-2")
@pytest.mark.parametrize("on_full", ["block", "raise"])
def test_a_reliable_reader_blocks_the_owner(on_full: Any) -> None:
    """The window is the depth: one more is refused until the reader has taken one."""
    with memory(6, 64, depth=2, on_full=on_full) as slots, slots.reader(reliable=True, name="slow") as reader:
        publish(slots, b"1")
        publish(slots, b"2")
        with pytest.raises(BackpressureError, match="slow") as caught:
            slots.reserve()
        assert caught.value.holders[0].behind == 2
        assert bytes(reader.take()) == b"1"
        publish(slots, b"3")
        assert [bytes(reader.take()), bytes(reader.take()), reader.lost] == [b"2", b"3", 0]


# --- after the end, and with wrong arguments ---


def test_after_close_nothing_more_is_published() -> None:
    """Reserve, commit and reader are ClosedErrors; a loan that is out can be dropped."""
    slots = memory()
    slot = slots.reserve()
    slots.close()
    assert slots.closed
    for use in (slots.reserve, slot.commit, slots.reader, slots.reap, slots.subscriber_indexes):
        with pytest.raises(ClosedError):
            use()
    slot.discard()
    with pytest.raises(ClosedError):
        slots.commit(slot)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_handles_cannot_be_pickled_or_copied(duplicate: Callable[[Any], Any]) -> None:
    """They stand for memory of this process; the text says what to send instead."""
    with memory() as slots, slots.reader() as reader:
        publish(slots, b"x")
        lease = reader.take()
        for handle in (slots, reader, slots.reserve(), lease, memoryview(lease).obj):
            with pytest.raises(TypeError, match="pickled"):
                duplicate(handle)


def test_slots_come_from_reserve_alone() -> None:
    """The class says so, and one that was made by force is a closed one."""
    with memory() as slots:
        slot = slots.reserve()
        kind = type(slot)
        with pytest.raises(TypeError, match="reserve"):
            kind()
        empty = kind.__new__(kind)
        for use in (empty.commit, lambda: memoryview(empty), lambda: slots.commit(empty), lambda: slots.discard(empty)):
            with pytest.raises(ClosedError):
                use()
        empty.discard()
        slot.discard()


@pytest.mark.parametrize("kind", [SlotAllocator, SlotReader])
def test_a_half_constructed_allocator_raises(kind: type) -> None:
    """`__new__` without `__init__`: every use raises but `close`, which has nothing to do; none ends the process."""
    empty = kind.__new__(kind)
    for name in (
        "reserve",
        "take",
        "latest",
        "sequence",
        "generation",
        "stats",
        "free_count",
        "slot_capacity",
        "reap",
    ):
        if hasattr(kind, name):
            with pytest.raises((AttributeError, ClosedError)):
                getattr(empty, name)()
    empty.close()
    if kind is SlotReader:
        with pytest.raises(AttributeError):
            empty.wait_for_change(0, 0)


@pytest.mark.parametrize(
    ("dtype", "shape", "error"),
    [
        (object, None, TypeError),
        ("O", 1, TypeError),
        ("S", 10**8, TypeError),
        ("U", None, TypeError),
        ("V", 5, TypeError),
        ([("a", "O")], 1, TypeError),
        ("nonsense", None, TypeError),
        ("u1", 129, ValueError),
        ("f8", 17, ValueError),
        ("u1", -1, ValueError),
        ("u1", (2, -1), ValueError),
        ("u1", (1,) * 9, ValueError),
        ("u1", (2**62, 4), ValueError),
        ("u1", (10**30,), ValueError),
        ("u1", "3", TypeError),
        ("u1", (None,), TypeError),
        ("u1", 2.0, TypeError),
        ("u1", (Liar(10**9),), ValueError),
        ("u1", Liar(129), ValueError),
    ],
)
def test_arrays_do_not_leave_their_slot(dtype: Any, shape: Any, error: type) -> None:
    """Whatever is asked for, the array lies within the slot, or there is none."""
    with memory() as slots:
        slot = slots.reserve()
        with pytest.raises(error):
            slot.array(dtype, shape)


def test_the_length_of_a_shape_is_checked() -> None:
    """More dims than there is room for would be a write over the end of a C array."""

    class Short(tuple[int, ...]):
        __slots__ = ()

        def __len__(self) -> int:
            return 0

    with memory() as slots:
        with pytest.raises(ValueError, match="8 dimensions"):
            slots.reserve().array("u1", Short([1] * 100))


def test_arrays_have_the_dtype_and_shape_that_were_asked_for() -> None:
    """Also big-endian, structured and empty ones."""
    with memory() as slots:
        slot = slots.reserve()
        assert slot.array().shape == (128,)
        assert slot.array(">u2", (4, 8)).shape == (4, 8)
        assert slot.array([("a", "u1"), ("b", "f8")], 2).dtype.names == ("a", "b")
        assert slot.array("f8", (0, 2**40)).size == 0
        assert slot.array("f8", ()).shape == ()


@pytest.mark.row("SEG-19")
def test_threads_share_an_allocator() -> None:
    """Every commit has a sequence of its own, and none is lost."""
    with memory(40, 64, depth=8) as slots:
        sequences: list[int] = []
        gate = threading.Barrier(4)

        def work() -> None:
            gate.wait()
            for i in range(500):
                slot = slots.reserve(timeout=None)
                if i % 5:
                    sequences.append(slots.commit(slot, b"x"))
                else:
                    slot.discard()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(sequences) == list(range(1, 1601))
        assert (slots.loan_count, slots.free_count) == (0, 32)


@pytest.mark.row("SLOT-5")
def test_threads_that_race_for_one_commit_publish_it_once() -> None:
    """All but one get ClosedError."""
    with memory(4, 64) as slots:
        for _ in range(200):
            slot = slots.reserve()
            results: list[Any] = []
            gate = threading.Barrier(3)

            def end(slot: Any = slot, results: list[Any] = results, gate: threading.Barrier = gate) -> None:
                gate.wait()
                try:
                    results.append(slot.commit(1))
                except ClosedError:
                    results.append(None)

            threads = [threading.Thread(target=end) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sum(result is not None for result in results) == 1
        assert slots.sequence == 200


@pytest.mark.row("SLOT-5")
def test_a_writable_memoryview_prevents_the_commit() -> None:
    """Also one of a part, and one of another item type; once it is released, the same commit goes through."""
    with memory(4, 1 << 20) as slots, slots.reader() as reader:
        slot = slots.reserve()
        with memoryview(slot) as whole, whole[8:16] as part, part.cast("Q") as number:
            number[0] = 1
            with pytest.raises(BufferError, match="memoryview"):
                slots.commit(slot, b"x" * 100000)
            assert slots.sequence == 0
        slots.commit(slot, b"y" * 100000)
        assert bytes(reader.take()) == b"y" * 100000


@pytest.mark.row("PEER-12", "SLOT-11")
def test_evict_ends_one_registration() -> None:
    """The subscriber's next take says so, what it holds stays, the others are not touched."""
    with SlotAllocator.in_memory(8, 64) as slots, slots.reader() as one, slots.reader() as other:
        slots.commit(slots.reserve(), b"first")
        lease = one.take()
        assert lease is not None
        assert slots.evict(one.native.index)
        assert not slots.evict(one.native.index)
        for text in (b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"):
            slots.commit(slots.reserve(), text)
        assert bytes(lease) == b"first"
        with pytest.raises(EvictedError):
            one.take()
        newest = other.latest()
        assert newest is not None
        assert bytes(newest) == b"9"
        del lease
        one.close()
        for unused in (one.native.index, 64, -1):
            with pytest.raises(IndexError):
                slots.evict(unused)
