"""Locks that the kernel frees when a process dies, and entries that are cleared for the dead."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.unit.control_bytes import READERS_AT, ControlBytes
from tests.unit.memory.locks import drop_lock, open_probe
from zeroslot import SlotAllocator, SlotReader
from zeroslot.memory import liveness
from zeroslot.testing import abandon


@pytest.mark.row("NEW-6", "PEER-1", "PEER-4", "DEF-11")
def test_registration_is_a_lock_on_one_byte(slots: SlotAllocator, path: Path) -> None:
    """The owner holds byte 0, reader r byte 64 + r, until they are closed."""
    probe = open_probe(path)
    assert probe.is_locked(0)
    assert not probe.is_locked(64)
    with SlotReader.attach(path) as one, SlotReader.attach(path) as two:
        assert [one.native.index, two.native.index] == [0, 1]
        assert [probe.is_locked(64 + r) for r in range(3)] == [True, True, False]
    assert [probe.is_locked(64 + r) for r in range(3)] == [False, False, False]
    slots.close()
    assert not probe.is_locked(0)
    probe.close()


@pytest.mark.row("NEW-6", "PEER-4")
def test_the_lock_is_held_until_the_last_lease_is_gone(slots: SlotAllocator, path: Path) -> None:
    """Otherwise a reaper would clear the reader's bit while a view is in use."""
    probe = open_probe(path)
    reader = SlotReader.attach(path)
    slots.commit(slots.reserve(), b"held")
    lease = reader.take()
    view = memoryview(lease)
    reader.close()
    lease.release()
    assert probe.is_locked(64)
    assert slots.reap() == 0
    for i in range(9):
        slots.commit(slots.reserve(), bytes([i]))
    assert bytes(view) == b"held"
    view.release()
    del view
    assert not probe.is_locked(64)
    probe.close()


@pytest.mark.row("NEW-6", "PEER-15")
def test_closing_another_descriptor_of_the_object_frees_no_lock(slots: SlotAllocator, path: Path) -> None:
    """Locks that belong to a process would be freed; these belong to an open file description."""
    with SlotReader.attach(path):
        for _ in range(2):
            os.close(os.open(ControlBytes(path).path, os.O_RDWR))
            probe = open_probe(path)
            assert [probe.is_locked(byte) for byte in (0, 64)] == [True, True]
            probe.close()


@pytest.mark.row("NEW-6")
def test_mappings_keep_no_lock(slots: SlotAllocator, path: Path) -> None:
    """A mapping keeps the open file description that it was made through, so that one must not hold the lock."""
    reader = SlotReader.attach(path)
    drop_lock(reader)
    probe = open_probe(path)
    assert not probe.is_locked(64)
    abandon(slots)
    assert not probe.is_locked(0)
    probe.close()
    os.unlink(path)
    slots._owned.unlink()


@pytest.mark.row("PEER-8", "NEW-6", "DEF-9")
def test_slots_of_a_dead_reader_are_reused_under_pressure(slots: SlotAllocator, path: Path) -> None:
    """`reserve` reaps by itself and counts it. Live readers keep their slots."""
    dead, alive = SlotReader.attach(path), SlotReader.attach(path)
    kept, leases = None, []
    for i in range(4):
        slots.commit(slots.reserve(), bytes([i]))
        leases.append(dead.take())
        kept = kept or alive.take()
    drop_lock(dead)
    for i in range(20):
        slots.commit(slots.reserve(), bytes([100 + i]))
    assert slots.stats["reaped"] == 1
    assert kept is not None
    assert bytes(kept) == b"\0"
    assert slots.subscriber_indexes() == [alive.native.index]
    alive.close()


@pytest.mark.row("PEER-8", "PEER-2", "DEF-6")
def test_a_joiner_clears_what_its_dead_predecessor_left(slots: SlotAllocator, path: Path) -> None:
    """Its reader bits, its parked and its active bit. The entry gets a new epoch."""
    dead = SlotReader.attach(path)
    slots.commit(slots.reserve(), b"x")
    lease = dead.take()
    control = ControlBytes(path)
    slot = control.slot_of(1)
    control.write(control.at("parked"), "Q", 1)
    assert control.read(slot + READERS_AT, "Q") == 1
    drop_lock(dead)
    with SlotReader.attach(path) as heir:
        assert heir.native.index == 0
        assert (control.read(slot + READERS_AT, "Q"), control.read(control.at("parked"), "Q")) == (0, 0)
        assert slots.native.segment.peer(0).epoch == 2
    del lease


@pytest.mark.row("PEER-8", "PUB-2")
def test_a_dead_reliable_reader_blocks_no_owner() -> None:
    """A blocked owner probes it, clears its entry and continues."""
    with SlotAllocator.in_memory(6, 64, depth=2, on_full="block") as slots:
        reader = slots.reader(reliable=True)
        for _ in range(2):
            slots.commit(slots.reserve(), b"x")
        drop_lock(reader)
        slots.commit(slots.reserve(timeout=None), b"y")
        assert slots.stats["reaped"] == 1


@pytest.mark.row("NEW-6")
def test_reaping_leaves_live_readers_alone(slots: SlotAllocator, path: Path) -> None:
    """From several threads at once."""
    readers = [SlotReader.attach(path) for _ in range(4)]
    slots.commit(slots.reserve(), b"x")
    leases = [reader.take() for reader in readers]
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(slots.reap())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [0] * 8
    assert ControlBytes(path).read(ControlBytes(path).slot_of(1) + READERS_AT, "Q") == 0b1111
    assert all(bytes(lease) == b"x" for lease in leases)
    for reader in readers:
        reader.close()


@pytest.mark.row("PEER-8")
def test_threads_that_reap_together_count_each_dead_reader_once(slots: SlotAllocator, path: Path) -> None:
    """Only one thread gets the lock of an entry."""
    readers = [SlotReader.attach(path) for _ in range(4)]
    for reader in readers:
        drop_lock(reader)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(slots.reap())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 4
    assert slots.stats["reaped"] == 4
    assert slots.subscriber_indexes() == []


def test_a_table_that_seems_full_is_searched_twice(slots: SlotAllocator) -> None:
    """A reaper may hold a lock for a moment; the second search finds that index."""
    asked: list[int] = []

    class Busy:
        def try_lock(self, byte: int) -> bool:
            asked.append(byte)
            return len(asked) > 4

    assert liveness.register(slots.native.segment, Busy()) == 0  # type: ignore[arg-type]  # the part that register uses
    assert asked == [64, 65, 66, 67, 64]


@pytest.mark.row("NOT-4", "PEER-8", "PEER-12")
@pytest.mark.parametrize("how", ["reap", "evict", "leave", "join"])
def test_making_room_changes_the_space_word(slots: SlotAllocator, path: Path, how: str) -> None:
    """An owner that waits for space wakes when a reader is reaped or evicted, leaves or joins."""
    with SlotReader.attach(path) as reader:
        space = slots.native.segment.space
        if how == "reap":
            drop_lock(reader)
            assert slots.reap() == 1
        elif how == "evict":
            slots.native.evict(reader.native.index)
        elif how == "leave":
            reader.close()
        else:
            SlotReader.attach(path)
        assert slots.native.segment.space != space


@pytest.mark.row("NEW-6")
def test_readers_in_its_own_process_see_the_owner_alive() -> None:
    """They probe through descriptions of their own, since a description does not see its own locks."""
    with SlotAllocator.in_memory(6, 64) as slots, slots.reader() as reader:
        assert reader._attached.owner_alive()
        reader._probe()
        assert not reader.owner_gone
        assert slots.subscriber_indexes() == [0]


@pytest.mark.row("SEG-16", "PEER-6", "NEW-6", "DEF-10")
def test_a_dead_owner_is_marked_once(slots: SlotAllocator, path: Path) -> None:
    """The second call changes nothing. A live owner is not marked."""
    with SlotReader.attach(path) as reader:
        description = open_probe(path)
        assert not liveness.mark_owner_dead(reader.native.segment, description)
        assert not reader.owner_gone
        abandon(slots)
        assert not liveness.is_owned(description)
        generation = reader.generation
        assert liveness.mark_owner_dead(reader.native.segment, description)
        assert reader.owner_gone
        assert reader.generation != generation
        assert not liveness.mark_owner_dead(reader.native.segment, description)
        assert not description.is_locked(0)
        description.close()
    os.unlink(path)
    slots._owned.unlink()


@pytest.mark.row("NOT-13", "SEG-16")
def test_a_sleeping_reader_notices_the_death_of_its_owner(slots: SlotAllocator, path: Path) -> None:
    """No word changes when a process dies: the sleep ends after a slice, and a probe finds the death."""
    with SlotReader.attach(path) as reader:
        results: list[bool] = []
        thread = threading.Thread(target=lambda: results.append(reader.wait_for_change(reader.generation)))
        thread.start()
        ControlBytes(path).wait_until_parked()
        abandon(slots)
        thread.join()
        assert results == [True]
        assert reader.owner_gone
    os.unlink(path)
    slots._owned.unlink()


@pytest.mark.row("NOT-13")
def test_a_closed_reader_probes_nothing(slots: SlotAllocator, path: Path) -> None:
    """At exit the interpreter closes readers while daemon threads still probe."""
    reader = SlotReader.attach(path)
    reader.close()
    assert reader._attached.descriptor.fileno() == -1
    reader._probe()
    assert not reader.owner_gone
