"""Who is there: locks that the kernel frees, and entries that are cleared for the dead."""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.samples import Tick
from tests.unit.control_bytes import READERS_AT, ControlBytes
from zeroslot import Publisher, SlotAllocator, SlotReader, Subscriber
from zeroslot._core.binding import Descriptor
from zeroslot.memory import liveness, peers, processes
from zeroslot.testing import abandon


@pytest.fixture
def path(zeroslot_dir: Path) -> Path:
    return zeroslot_dir / "slots.flink"


@pytest.fixture
def slots(path: Path) -> Iterator[SlotAllocator]:
    with SlotAllocator.create(path, 6, 64, depth=2, max_subscribers=4) as made:
        yield made


def asking(path: Path) -> Descriptor:
    """A description of the control object that holds no lock."""
    return Descriptor.open(str(ControlBytes(path).path), os.O_RDWR)


def die(reader: SlotReader) -> None:
    """What the kernel does to a reader that was killed: its lock falls, and nothing else happens."""
    reader._attached.descriptor.close()


@pytest.mark.row("NEW-6", "PEER-1", "PEER-4", "DEF-11")
def test_a_lock_is_the_registration(slots: SlotAllocator, path: Path) -> None:
    """The owner holds byte 0, reader r byte 64 + r, until they are closed."""
    probe = asking(path)
    assert probe.is_locked(0)
    assert not probe.is_locked(64)
    with SlotReader.attach(path) as one, SlotReader.attach(path) as two:
        assert [one.reader.index, two.reader.index] == [0, 1]
        assert [probe.is_locked(64 + r) for r in range(3)] == [True, True, False]
    assert [probe.is_locked(64 + r) for r in range(3)] == [False, False, False]
    slots.close()
    assert not probe.is_locked(0)
    probe.close()


@pytest.mark.row("NEW-6", "PEER-4")
def test_the_lock_stays_until_the_last_lease_is_gone(slots: SlotAllocator, path: Path) -> None:
    """Else a reaper would clear the bit under a live view."""
    probe = asking(path)
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
    """As it would free a lock that belongs to the process and not to the open file."""
    with SlotReader.attach(path):
        for _ in range(2):
            os.close(os.open(ControlBytes(path).path, os.O_RDWR))
            probe = asking(path)
            assert [probe.is_locked(byte) for byte in (0, 64)] == [True, True]
            probe.close()


@pytest.mark.row("NEW-6")
def test_mappings_keep_no_lock(slots: SlotAllocator, path: Path) -> None:
    """A mapping keeps its open file description: it must not be the one that has the lock."""
    reader = SlotReader.attach(path)
    die(reader)
    probe = asking(path)
    assert not probe.is_locked(64)
    abandon(slots)
    assert not probe.is_locked(0)
    probe.close()
    os.unlink(path)
    slots._owned.unlink()


@pytest.mark.row("PEER-8", "NEW-6", "DEF-9")
def test_a_dead_readers_slots_go_back_under_pressure(slots: SlotAllocator, path: Path) -> None:
    """Without anybody asking for it; the counter tells, the living keep theirs."""
    dead, alive = SlotReader.attach(path), SlotReader.attach(path)
    kept, leases = None, []
    for i in range(4):
        slots.commit(slots.reserve(), bytes([i]))
        leases.append(dead.take())
        kept = kept or alive.take()
    die(dead)
    for i in range(20):
        slots.commit(slots.reserve(), bytes([100 + i]))
    assert slots.stats["reaped"] == 1
    assert kept is not None
    assert bytes(kept) == b"\0"
    assert slots.subscriber_indexes() == [alive.reader.index]
    alive.close()


@pytest.mark.row("PEER-8", "PEER-2", "DEF-6")
def test_whoever_gets_the_lock_first_clears_the_predecessor(slots: SlotAllocator, path: Path) -> None:
    """A joiner does it by itself: bits, parked and active; and it has another epoch."""
    dead = SlotReader.attach(path)
    slots.commit(slots.reserve(), b"x")
    lease = dead.take()
    control = ControlBytes(path)
    slot = control.slot_of(1)
    control.write(control.at("parked"), "Q", 1)
    assert control.read(slot + READERS_AT, "Q") == 1
    die(dead)
    with SlotReader.attach(path) as heir:
        assert heir.reader.index == 0
        assert (control.read(slot + READERS_AT, "Q"), control.read(control.at("parked"), "Q")) == (0, 0)
        assert slots.owner.segment.peer(0)["epoch"] == 2
    del lease


@pytest.mark.row("PEER-8", "PUB-2")
def test_a_dead_reliable_reader_stops_nobody() -> None:
    """The blocked owner probes, clears and goes on."""
    with SlotAllocator.in_memory(6, 64, depth=2, on_full="block") as slots:
        reader = slots.reader(reliable=True)
        for _ in range(2):
            slots.commit(slots.reserve(), b"x")
        die(reader)
        slots.commit(slots.reserve(timeout=None), b"y")
        assert slots.stats["reaped"] == 1


@pytest.mark.row("NEW-6")
def test_reaping_finds_nothing_among_the_living(slots: SlotAllocator, path: Path) -> None:
    """However often, from however many threads."""
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
def test_the_dead_are_counted_once_by_threads_that_reap_together(slots: SlotAllocator, path: Path) -> None:
    """One of them gets the lock."""
    readers = [SlotReader.attach(path) for _ in range(4)]
    for reader in readers:
        die(reader)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(slots.reap())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 4
    assert slots.stats["reaped"] == 4
    assert slots.subscriber_indexes() == []


def test_a_lock_that_a_reaper_holds_for_a_moment_refuses_nobody(slots: SlotAllocator) -> None:
    """The table looks full once; the second look finds the index that was being cleared."""
    asked: list[int] = []

    class Busy:
        def try_lock(self, byte: int) -> bool:
            asked.append(byte)
            return len(asked) > 4

    assert liveness.register(slots.owner.segment, Busy()) == 0  # type: ignore[arg-type]  # as much as is asked of
    assert asked == [64, 65, 66, 67, 64]


@pytest.mark.row("NOT-4", "PEER-8", "PEER-12")
@pytest.mark.parametrize("how", ["reap", "evict", "leave", "join"])
def test_whoever_makes_room_moves_the_word_that_is_slept_on(slots: SlotAllocator, path: Path, how: str) -> None:
    """An owner that waits for space looks again at once: after a death was noticed, a claim ended, a leaving."""
    with SlotReader.attach(path) as reader:
        space = slots.owner.segment.space
        if how == "reap":
            die(reader)
            assert slots.reap() == 1
        elif how == "evict":
            slots.owner.evict(reader.reader.index)
        elif how == "leave":
            reader.close()
        else:
            SlotReader.attach(path)
        assert slots.owner.segment.space != space


@pytest.mark.row("NEW-6")
def test_an_owner_lives_for_readers_of_its_own_process() -> None:
    """They ask through descriptions of their own: one's own lock is not seen."""
    with SlotAllocator.in_memory(6, 64) as slots, slots.reader() as reader:
        assert reader._attached.owner_alive()
        reader._probe()
        assert not reader.owner_gone
        assert slots.subscriber_indexes() == [0]


@pytest.mark.row("SEG-16", "PEER-6", "NEW-6", "DEF-10")
def test_a_dead_owner_is_buried_once(slots: SlotAllocator, path: Path) -> None:
    """By whoever notices first; a live or a sealed one is not."""
    with SlotReader.attach(path) as reader:
        description = asking(path)
        assert not liveness.mark_owner_dead(reader.reader.segment, description)
        assert not reader.owner_gone
        abandon(slots)
        assert not liveness.is_owned(description)
        generation = reader.generation
        assert liveness.mark_owner_dead(reader.reader.segment, description)
        assert reader.owner_gone
        assert reader.generation != generation
        assert not liveness.mark_owner_dead(reader.reader.segment, description)
        assert not description.is_locked(0)
        description.close()
    os.unlink(path)
    slots._owned.unlink()


@pytest.mark.row("NOT-13", "SEG-16")
def test_a_sleeper_notices_that_its_owner_died(slots: SlotAllocator, path: Path) -> None:
    """No word moves when a process dies: the slices end, and a probe tells."""
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
def test_a_reader_that_is_closed_meanwhile_probes_nothing(slots: SlotAllocator, path: Path) -> None:
    """The interpreter's end closes readers under daemon threads that still look who is there."""
    reader = SlotReader.attach(path)
    reader.close()
    assert reader._attached.descriptor.fileno() == -1
    reader._probe()
    assert not reader.owner_gone


@pytest.mark.row("PEER-1", "PEER-7")
def test_an_entry_says_who_it_is(slots: SlotAllocator, path: Path) -> None:
    """Pid, start time, name, what it asked for; and what it did."""
    with SlotReader.attach(path, name="käfer", max_leases=3) as reader:
        for i in range(5):
            slots.commit(slots.reserve(), struct.pack("<I", i))
        lease = reader.take()
        entry = slots.owner.segment.peer(0)
        assert (entry["pid"], entry["start_time"]) == (os.getpid(), processes.start_time_of(os.getpid()))
        assert (entry["name"], entry["max_leases"], entry["reliable"]) == ("käfer", 3, False)
        assert (entry["cursor"], entry["taken"], entry["lost"], entry["leases"]) == (4, 1, 3, 1)
        assert "käfer (pid" in peers.describe(peers.subscriber_info(slots.owner.segment, 0))
        assert len(slots.owner.segment.held_by(0)) == 1
        lease.release()
        assert slots.owner.segment.held_by(0) == []


def test_processes_are_described_from_proc() -> None:
    """This one has a command and is not stopped; one that is not there has nothing."""
    me = os.getpid()
    assert processes.command_of(me) != ""
    assert processes.command_of(me, processes.start_time_of(me)) == processes.command_of(me)
    assert processes.command_of(me, 1) == ""
    assert not processes.is_stopped(me)
    assert not processes.is_stopped(me, processes.start_time_of(me))
    for pid in (0, 2**31 - 1, 2**32 - 1):
        assert (processes.start_time_of(pid), processes.command_of(pid), processes.is_stopped(pid)) == (
            0,
            "",
            False,
        )


def test_locks_are_seen_by_other_descriptions_only(tmp_path: Path) -> None:
    """Shared and exclusive ones, byte by byte; closing frees them."""
    file = tmp_path / "locks"
    file.write_bytes(b"")
    one, two = (Descriptor.open(str(file), os.O_RDWR) for _ in range(2))
    assert one.try_lock(5)
    assert not one.is_locked(5)
    assert two.is_locked(5)
    assert not two.is_locked(4)
    assert not two.try_lock(5)
    assert not two.try_lock(5, shared=True)
    one.unlock(5)
    assert two.try_lock(5, shared=True)
    assert one.try_lock(5, shared=True)
    assert one.is_locked(5)
    two.close()
    two.close()
    assert two.fileno() == -1
    assert one.try_lock(5)
    for use in (lambda: two.try_lock(5), lambda: two.is_locked(5), lambda: two.unlock(5)):
        with pytest.raises(OSError):
            use()
    one.close()


def test_descriptors_without_one_do_nothing() -> None:
    """One that was made by force closes no other file, and neither does one whose file could not be opened."""
    before = os.fstat(0)
    with pytest.raises(TypeError, match=r"Descriptor\.open"):
        Descriptor()
    made = Descriptor.__new__(Descriptor)
    assert made.fileno() == -1
    made.close()
    with pytest.raises(FileNotFoundError, match="/nowhere/at/all"):
        Descriptor.open("/nowhere/at/all", os.O_RDONLY)
    with pytest.raises(ValueError, match="null"):
        Descriptor.open("/dev/null\0", os.O_RDONLY)
    assert os.path.samestat(before, os.fstat(0))


def test_a_program_whose_name_is_not_utf8_is_named_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python keeps the bytes of argv[0] that are no UTF-8 as lone surrogates."""
    monkeypatch.setattr(sys, "argv", [os.fsdecode(b"/bin/n\xe9e.py")])
    with Publisher("named", Tick) as pub, Subscriber("named", Tick) as sub:
        assert sub.publishers[0].name == "n\\udce9e.py"
        assert pub.subscriber_count == 1
