"""The readers' untyped side: attach, take in order, count what is lost; and no byte of a broken peer crashes it."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.control_bytes import PEER_SIZE, READERS_AT, SECTIONS, SLOT_SIZE, ControlBytes
from zeroslot import (
    ClosedError,
    CorruptSegmentError,
    EvictedError,
    FormatError,
    NoFreeSlotError,
    QosMismatchError,
    SlotAllocator,
    SlotReader,
    TooManyLeasesError,
    TooManyPeersError,
    TopicNotFoundError,
    ZeroslotError,
)


@pytest.fixture
def slots(path: Path) -> Iterator[SlotAllocator]:
    with SlotAllocator.create(path, 8, 64, depth=3, max_loans=2, max_subscribers=4) as made:
        yield made


def publish(slots: SlotAllocator, *numbers: int) -> None:
    for number in numbers:
        slots.commit(slots.reserve(), struct.pack("<Q", number))


def taken(reader: SlotReader) -> list[int]:
    found = []
    while (lease := reader.take()) is not None:
        found.append(struct.unpack("<Q", bytes(lease))[0])
        lease.release()
    return found


# --- latency ---


@pytest.mark.parametrize("same_clock", [True, False])
def test_ages_are_counted_where_owner_and_reader_have_one_clock(
    slots: SlotAllocator, path: Path, same_clock: bool
) -> None:
    """Every 64th take enters a bucket, and the largest age is kept; times of another time namespace say nothing."""
    control = ControlBytes(path)
    if not same_clock:
        control.write(160, "Q", control.read(160, "Q") ^ 1)
    with SlotReader.attach(path) as reader:
        for number in range(200):
            publish(slots, number)
            assert taken(reader) == [number]
        peer = reader.native.segment.peer(reader.native.index)
        assert peer.time_namespace == Path("/proc/self/ns/time").stat().st_ino
        assert len(peer.latency) == 128
        assert sum(peer.latency) == (3 if same_clock else 0)
        last = max((bucket for bucket, count in enumerate(peer.latency) if count), default=0)
        begins = (4 + (last - 1) % 4) << ((last - 1) // 4 + 2) if last else 0
        assert peer.latency_max_ns >= begins
        assert bool(peer.latency_max_ns) is same_clock


# --- order, loss, history ---


@pytest.mark.row("SUB-2", "SUB-8", "SUB-11")
def test_every_reader_gets_every_sample_in_order(slots: SlotAllocator, path: Path) -> None:
    """Each at its own pace, with the sequence."""
    with SlotReader.attach(path) as one, SlotReader.attach(path) as two:
        publish(slots, 10, 11)
        assert taken(one) == [10, 11]
        publish(slots, 12)
        assert taken(two) == [10, 11, 12]
        assert taken(one) == [12]
        publish(slots, 13)
        assert one.take().sequence == two.take().sequence == 4
        assert (one.lost, two.lost) == (0, 0)


@pytest.mark.row("SUB-11", "PUB-3", "DEF-14")
def test_loss_is_counted_exactly(slots: SlotAllocator, path: Path) -> None:
    """Taken plus lost is published, after every burst."""
    with SlotReader.attach(path) as reader:
        count = 0
        for burst in (1, 3, 4, 7, 2, 20, 100, 3):
            publish(slots, *range(burst))
            got = len(taken(reader))
            count += burst
            assert got == min(burst, 3)
            assert reader.stats["taken"] + reader.lost == count
            assert reader.stats == {"taken": reader.stats["taken"], "lost": reader.lost, "skipped": 0, "leases": 0}


@pytest.mark.row("SUB-1", "SUB-11", "DEF-14")
def test_latest_skips_and_does_not_lose(slots: SlotAllocator, path: Path) -> None:
    """What it jumps over is skipped, what was gone before as well; a second look finds nothing."""
    with SlotReader.attach(path) as reader:
        publish(slots, *range(10))
        lease = reader.latest()
        assert (lease.sequence, reader.skipped, reader.lost) == (10, 9, 0)
        assert reader.latest() is None
        assert reader.take() is None
        publish(slots, 0, 0)
        assert reader.take().sequence == 11
        assert reader.latest().sequence == 12
        assert (reader.skipped, reader.lost) == (9, 0)


@pytest.mark.row("SUB-10")
@pytest.mark.parametrize("published", [0, 1, 3, 9])
@pytest.mark.parametrize("history", [0, 1, 3])
def test_history_decides_where_a_late_joiner_starts(
    slots: SlotAllocator, path: Path, published: int, history: int
) -> None:
    """From now, or from the newest `history` samples; what was before is not lost."""
    publish(slots, *range(published))
    with SlotReader.attach(path, history=history) as reader:
        assert taken(reader) == list(range(max(0, published - history), published))
        publish(slots, 77)
        assert taken(reader) == [77]
        assert reader.lost == 0


@pytest.mark.row("SUB-10")
def test_history_starts_at_the_first_sequence(path: Path) -> None:
    """A segment that begins at 1000 has nothing before it."""
    with SlotAllocator.create(path, 8, 64, depth=3, first_sequence=1000) as slots:
        with SlotReader.attach(path, history=3) as reader:
            assert reader.take() is None
            publish(slots, 5)
            assert reader.take().sequence == 1000
            assert reader.lost == 0


@pytest.mark.row("SUB-10", "PUB-2")
def test_more_than_the_owner_offers_is_a_qos_mismatch(slots: SlotAllocator, path: Path) -> None:
    """History beyond the depth, and reliability from an evicting owner; the error has both numbers."""
    with pytest.raises(QosMismatchError) as caught:
        SlotReader.attach(path, history=4)
    assert (caught.value.requested, caught.value.offered) == (4, 3)
    with pytest.raises(QosMismatchError, match="on_full"):
        SlotReader.attach(path, reliable=True)
    assert slots.subscriber_indexes() == []


@pytest.mark.row("SUB-11", "DEF-8")
def test_sequences_pass_the_width_of_a_ring_tag(path: Path) -> None:
    """A tag has 48 bits of the sequence; samples on both sides of 2**48 arrive in order."""
    first = 2**48 - 3
    with SlotAllocator.create(path, 8, 64, depth=3, first_sequence=first) as slots, SlotReader.attach(path) as reader:
        for i in range(8):
            publish(slots, i)
            lease = reader.take()
            assert (lease.sequence, bytes(lease)) == (first + i, struct.pack("<Q", i))
            del lease
        publish(slots, *range(10))
        assert taken(reader) == [7, 8, 9]
        assert reader.lost == 7


@pytest.mark.row("SUB-5")
def test_max_leases_is_a_limit_and_loses_nothing(slots: SlotAllocator, path: Path) -> None:
    """The sample that could not be taken is the next one."""
    with SlotReader.attach(path, max_leases=2) as reader:
        publish(slots, 0, 1, 2)
        held = [reader.take(), reader.take()]
        for take in (reader.take, reader.latest):
            with pytest.raises(TooManyLeasesError):
                take()
        held.pop().release()
        assert reader.take().sequence == 3


@pytest.mark.parametrize("options", [{"max_leases": 0}, {"history": -1}, {"max_leases": 2**40}, {"history": 2**40}])
def test_options_out_of_range_are_value_errors(slots: SlotAllocator, path: Path, options: dict[str, Any]) -> None:
    """Before an entry is taken."""
    with pytest.raises((ValueError, QosMismatchError)):
        SlotReader.attach(path, **options)
    assert slots.subscriber_indexes() == []


@pytest.mark.parametrize("name", ["", "n" * 300, "ä" * 40, "a\0b", "\ud800"])
def test_names_of_any_kind_fit_the_peer_table(slots: SlotAllocator, path: Path, name: str) -> None:
    """Cut to its 32 bytes; what no UTF-8 can say is a ValueError."""
    if name == "\ud800":
        with pytest.raises(ValueError):
            SlotReader.attach(path, name=name)
        return
    with SlotReader.attach(path, name=name) as reader:
        index = reader.native.index
        found = slots.native.segment.peer(index).name
        assert found.rstrip("\ufffd") == name.split("\0", maxsplit=1)[0].encode()[:32].decode(errors="ignore")


# --- attaching ---


@pytest.mark.row("SEG-2")
def test_attach_without_a_segment_raises_not_found(path: Path) -> None:
    """No file, no directory, a flink whose object is gone, a directory."""
    for wrong in (path, path / "below", path.parent / "no" / "x.flink"):
        with pytest.raises(TopicNotFoundError):
            SlotReader.attach(wrong)
    path.write_text("/zs-ffffffffffffffff")
    with pytest.raises(TopicNotFoundError):
        SlotReader.attach(path)
    path.unlink()
    with pytest.raises((FormatError, TopicNotFoundError)):
        SlotReader.attach(path.parent)


@pytest.mark.row("SEG-8", "SEG-2", "SEC-7")
def test_an_attacher_takes_the_owners_configuration(slots: SlotAllocator, path: Path) -> None:
    """Counts and capacity come from the segment; the payload is mapped without the right to write."""
    with SlotReader.attach(path) as reader:
        info = reader.native.segment.info
        assert (info.depth, info.max_loans, info.spare_slots, info.max_subscribers) == (3, 2, 3, 4)
        assert (reader.slot_count, reader.slot_capacity) == (8, 128)
        name = ControlBytes(path, pool=0).path.name
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(name)]
        assert sorted(line[1] for line in maps) == ["r--s", "rw-s"]  # the reader's and the owner's


@pytest.mark.row("PEER-1", "PEER-3", "PEER-4")
def test_a_full_peer_table_names_its_subscribers(slots: SlotAllocator, path: Path) -> None:
    """And a closed reader's entry is free, also while its handle is kept, once its leases are gone."""
    readers = [SlotReader.attach(path, name=f"reader{i}") for i in range(4)]
    assert slots.subscriber_indexes() == [0, 1, 2, 3]
    with pytest.raises(TooManyPeersError, match="reader2") as caught:
        SlotReader.attach(path)
    assert caught.value.max_subscribers == 4
    assert len(caught.value.peers) == 4
    publish(slots, 1)
    lease = readers[1].take()
    readers[1].close()
    assert slots.subscriber_indexes() == [0, 2, 3]
    with pytest.raises(TooManyPeersError):
        SlotReader.attach(path)
    lease.release()
    with SlotReader.attach(path) as again:
        assert again.native.index == 1
    for reader in readers:
        reader.close()


@pytest.mark.row("PEER-2", "DEF-7")
def test_each_registration_has_an_epoch_of_its_own(slots: SlotAllocator, path: Path) -> None:
    """So that an eviction of a predecessor does not evict the reader that uses the index after it."""
    epochs = []
    for _ in range(3):
        with SlotReader.attach(path) as reader:
            epochs.append(slots.native.segment.peer(reader.native.index).epoch)
    assert epochs == [1, 2, 3]


@pytest.mark.row("PEER-2", "SLOT-11")
def test_an_evicted_reader_can_take_no_more(slots: SlotAllocator, path: Path) -> None:
    """The owner wrote the epoch: what is held stays, the next take says so, and a new reader at the index can take."""
    with SlotReader.attach(path) as reader:
        publish(slots, 1)
        lease = reader.take()
        publish(slots, 2)
        control = ControlBytes(path)
        control.write(control.at("evicted") + 4 * reader.native.index, "I", 1)
        for take in (reader.take, reader.latest):
            with pytest.raises(EvictedError):
                take()
        assert bytes(lease) == struct.pack("<Q", 1)
        lease.release()
    with SlotReader.attach(path) as other:
        publish(slots, 3)
        assert taken(other) == [3]


def test_a_closed_reader_takes_no_more(slots: SlotAllocator, path: Path) -> None:
    """ClosedError from all; a second close does nothing; its leases stay."""
    reader = SlotReader.attach(path)
    publish(slots, 1, 2)
    lease = reader.take()
    reader.close()
    reader.close()
    assert reader.closed
    for use in (reader.take, reader.latest, lambda: reader.wait_for_change(0, 0)):
        with pytest.raises(ClosedError):
            use()
    assert bytes(lease) == struct.pack("<Q", 1)


# --- the generation word ---


@pytest.mark.row("NOT-1", "NOT-2", "DEF-13")
def test_wait_for_change_compares_with_what_was_captured(slots: SlotAllocator, path: Path) -> None:
    """True for any change since the capture, also one before the call; False when the time is over."""
    with SlotReader.attach(path) as reader:
        captured = reader.generation
        assert captured == slots.generation
        for timeout in (0, -1, 1e-6, -(10**400)):
            assert reader.wait_for_change(captured, timeout) is False
        publish(slots, 1)
        for timeout in (0, None, 1, 10**400):
            assert reader.wait_for_change(captured, timeout) is True
        assert reader.wait_for_change(reader.generation, 0) is False
        assert reader.generation != captured


@pytest.mark.row("NOT-1", "NOT-2", "NOT-13")
@pytest.mark.parametrize("event", ["commit", "close"])
def test_a_sleeper_is_woken(slots: SlotAllocator, path: Path, event: str) -> None:
    """By a commit and by the owner's end, once it has said that it may sleep."""
    with SlotReader.attach(path) as reader:
        captured, results = reader.generation, []
        thread = threading.Thread(target=lambda: results.append(reader.wait_for_change(captured)))
        thread.start()
        control = ControlBytes(path)
        control.wait_until_parked()
        publish(slots, 1) if event == "commit" else slots.close()
        thread.join()
        assert results == [True]


@pytest.mark.row("NOT-13")
def test_closing_a_reader_ends_its_waits(slots: SlotAllocator, path: Path) -> None:
    """ClosedError in the thread that slept, and the index is free afterwards."""
    reader = SlotReader.attach(path)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            reader.wait_for_change(reader.generation)
        except ClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    control = ControlBytes(path)
    control.wait_until_parked()
    reader.close()
    thread.join()
    assert len(errors) == 1
    assert control.read(control.at("parked"), "Q") == 0
    with SlotReader.attach(path) as again:
        assert again.native.index == 0


@pytest.mark.row("NOT-3", "NEW-10", "DEF-12")
def test_a_commit_wakes_only_where_a_reader_sleeps(slots: SlotAllocator, path: Path) -> None:
    """Without one no wake is counted; a bit that a dead sleeper left costs one wake and not one for ever."""
    with SlotReader.attach(path):
        publish(slots, *range(10))
        assert slots.stats["wakes"] == 0
        control = ControlBytes(path)
        control.write(control.at("parked"), "Q", 8)
        publish(slots, *range(10))
        assert slots.stats["wakes"] == 1
        assert control.read(control.at("parked"), "Q") == 0


@pytest.mark.row("NOT-3", "NOT-13")
def test_the_parked_bit_stays_until_the_last_sleeper_is_awake(slots: SlotAllocator, path: Path) -> None:
    """The bit stays for the thread that sleeps on: the next commit wakes it, and not the end of its slice."""
    with SlotReader.attach(path) as reader:
        seen = reader.generation
        thread = threading.Thread(target=lambda: reader.wait_for_change(seen))
        thread.start()
        ControlBytes(path).wait_until_parked()
        assert reader.wait_for_change(seen, 0.001) is False
        publish(slots, 1)
        assert slots.stats["wakes"] == 1
        thread.join()


@pytest.mark.parametrize("last", ["0", None, -1, 2**32, object()])
def test_a_generation_is_a_32_bit_number(slots: SlotAllocator, path: Path, last: Any) -> None:
    """Anything else is an exception, at once."""
    with SlotReader.attach(path) as reader, pytest.raises(ValueError, match="last is a generation"):
        reader.wait_for_change(last, 0)


@pytest.mark.parametrize("timeout", ["1", object(), float("nan"), 1j])
def test_timeouts_are_numbers(slots: SlotAllocator, path: Path, timeout: Any) -> None:
    """TypeError or ValueError."""
    with SlotReader.attach(path) as reader, pytest.raises((TypeError, ValueError)):
        reader.wait_for_change(reader.generation, timeout)


@pytest.mark.row("SUB-8")
def test_threads_share_a_reader(path: Path) -> None:
    """Each sample is taken once."""
    with SlotAllocator.create(path, 700, 64, depth=600, max_loans=1) as slots, SlotReader.attach(path) as reader:
        publish(slots, *range(600))
        found: list[int] = []
        gate = threading.Barrier(4)

        def work() -> None:
            gate.wait()
            found.extend(taken(reader))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(600))
        assert reader.stats == {"taken": 600, "lost": 0, "skipped": 0, "leases": 0}


# --- bytes that no peer writes ---


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("entry", [1 << 16 | 8, 1 << 16 | 0xFFFF, 2 << 16, 1 << 16 | 7, 99 << 16 | 1])
def test_an_impossible_ring_entry_is_corrupt(slots: SlotAllocator, path: Path, entry: int) -> None:
    """A slot that does not exist, another slot, a sequence that was not published."""
    with SlotReader.attach(path) as reader:
        publish(slots, 1)
        control = ControlBytes(path)
        control.write(control.ring_at(1), "Q", entry)
        with pytest.raises(CorruptSegmentError):
            reader.take()
        assert reader.stats["leases"] == 0


@pytest.mark.row("SEC-4")
def test_a_ring_entry_that_names_a_held_slot_is_corrupt(slots: SlotAllocator, path: Path) -> None:
    """Clearing the bit again would end the older lease."""
    with SlotReader.attach(path) as reader:
        publish(slots, 1)
        lease = reader.take()
        publish(slots, 2)
        control = ControlBytes(path)
        held = control.read(control.ring_at(1), "Q") & 0xFFFF
        control.write(control.ring_at(2), "Q", 2 << 16 | held)
        with pytest.raises(CorruptSegmentError):
            reader.take()
        for number in range(20):
            publish(slots, number)
        assert bytes(lease) == struct.pack("<Q", 1)


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("size", [129, 2**32, 2**63, 2**64 - 1])
def test_a_size_beyond_the_slot_is_corrupt(slots: SlotAllocator, path: Path, size: int) -> None:
    """Nothing is read, and the slot goes back."""
    with SlotReader.attach(path) as reader:
        publish(slots, 1)
        control = ControlBytes(path)
        control.write(control.slot_of(1) + 16, "Q", size)
        with pytest.raises(CorruptSegmentError, match="bytes"):
            reader.take()
        assert reader.stats["leases"] == 0
        publish(slots, 2, 3, 4)
        assert slots.free_count == 5


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("published", [0, 1, 2, 3, 2**48, 2**63, 2**64 - 1])
def test_a_wrong_published_word_is_corrupt_or_harmless(slots: SlotAllocator, path: Path, published: int) -> None:
    """Take goes by the ring; latest finds the contradiction; neither hangs."""
    with SlotReader.attach(path) as reader:
        publish(slots, 1, 2, 3, 4, 5)
        control = ControlBytes(path)
        control.write(control.at("published"), "Q", published)
        found = []
        for take in (reader.latest, reader.take, reader.latest, reader.take):
            try:
                lease = take()
                found.append(None if lease is None else bytes(lease))
            except CorruptSegmentError:
                found.append("corrupt")
        assert set(found) <= {None, "corrupt", *(struct.pack("<Q", number) for number in range(1, 6))}
        assert "corrupt" in found or published in (2, 3)


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("value", [0, 2, 2**63, 2**64 - 1])
def test_a_wrong_slot_sequence_is_corrupt(slots: SlotAllocator, path: Path, value: int) -> None:
    """The ring says that it is there, and it is not."""
    with SlotReader.attach(path) as reader:
        publish(slots, 1)
        control = ControlBytes(path)
        control.write(control.slot_of(1), "Q", value)
        for take in (reader.take, reader.latest):
            with pytest.raises(CorruptSegmentError):
                take()


@pytest.mark.row("SEC-4")
def test_reader_bits_without_a_reader_are_reaped(slots: SlotAllocator, path: Path) -> None:
    """As a dead reader's: the owner clears them when it needs a slot."""
    control = ControlBytes(path)
    for slot in range(8):
        control.write(control.at("slots") + SLOT_SIZE * slot + READERS_AT, "Q", 0b1110)
    publish(slots, *range(20))
    assert slots.stats["reaped"] == 3


@pytest.mark.row("SEC-4")
def test_bits_of_impossible_readers_are_ignored(slots: SlotAllocator, path: Path) -> None:
    """Bits beyond max_subscribers belong to no reader; those of unlocked indexes are cleared when no slot is free."""
    control = ControlBytes(path)
    for slot in range(8):
        control.write(control.at("slots") + SLOT_SIZE * slot + READERS_AT, "Q", 2**64 - 1)
    publish(slots, *range(20))
    assert slots.sequence == 20


@pytest.mark.row("SEC-4", "SEC-6", "DEF-3")
@pytest.mark.parametrize("section", [each for each in SECTIONS if each != "schema"])
@pytest.mark.parametrize("byte", [0x00, 0xFF, 0x7F, 0x01])
def test_no_byte_of_a_section_crashes_either_side(slots: SlotAllocator, path: Path, section: str, byte: int) -> None:
    """Everything behind the header overwritten, section by section: results or errors of the package, on both sides."""
    reader = SlotReader.attach(path)
    publish(slots, 1, 2)
    lease = reader.take()
    control = ControlBytes(path)
    following = SECTIONS.index(section) + 1
    begin, end = control.at(section), control.at(SECTIONS[following])
    control.write_bytes(begin, bytes([byte]) * (end - begin))
    segment = slots.native.segment
    attempts = [
        reader.take,
        reader.latest,
        lambda: publish(slots, 3),
        lambda: publish(slots, 4, 5, 6),
        reader.take,
        reader.latest,
        lambda: SlotReader.attach(path, history=3).close(),
        slots.reap,
        slots.subscriber_indexes,
        lambda: slots.free_count,
        lambda: reader.wait_for_change(reader.generation, 0),
        lambda: slots.reader().close(),
        lambda: bytes(lease),
        lambda: repr(reader),
        lambda: segment.peer(0),
        segment.indexes_in_use,
        lambda: segment.held_by(0),
        segment.counters,
        lambda: segment.pool(0),
    ]
    for attempt in attempts:
        with suppress(ZeroslotError):
            attempt()
    assert bytes(lease) == struct.pack("<Q", 1)
    lease.release()
    reader.close()


@pytest.mark.row("SEC-4", "PEER-7")
def test_a_peer_entry_of_garbage_is_described(slots: SlotAllocator, path: Path) -> None:
    """Names that are no UTF-8, pids that cannot be: the text of an error still names a process."""
    reader = SlotReader.attach(path)
    held = []
    for number in range(5):
        publish(slots, number)
        held.append(reader.take())
    publish(slots, 6, 7, 8)
    control = ControlBytes(path)
    control.write_bytes(control.at("peers"), b"\xff" * PEER_SIZE)
    with pytest.raises(NoFreeSlotError, match="pid 4294967295") as caught:
        slots.reserve()
    assert caught.value.holders[0].slots == 5
    held.clear()
    reader.close()


# --- after an eviction ---


def test_a_reader_rejoins_after_its_eviction(slots: SlotAllocator, path: Path) -> None:
    """At rejoin, behind the sample that it took last, once it holds none; its counts go on as well."""
    with SlotReader.attach(path) as reader:
        publish(slots, 0, 1)
        lease = reader.take()
        slots.evict(reader.native.index)
        publish(slots, 2, 3, 4)
        for take in (reader.take, reader.latest, reader.take):
            with pytest.raises(EvictedError, match="rejoin"):
                take()
        with pytest.raises(TooManyLeasesError):
            reader.rejoin()
        lease.release()
        reader.rejoin()
        assert taken(reader) == [2, 3, 4]
        assert reader.stats == {"taken": 4, "lost": 1, "skipped": 0, "leases": 0}
        peer = slots.native.segment.peer(reader.native.index)
        assert (peer.epoch, peer.taken, peer.lost) == (2, 4, 1)
        reader.rejoin()
        publish(slots, 5)
        assert taken(reader) == [5]
    with pytest.raises(ClosedError):
        reader.rejoin()


def test_attach_ignores_the_segment_of_a_dead_owner(path: Path) -> None:
    """It waits to be removed: its samples are the past, and the reader that came later wants the next owner's."""
    dead = SlotAllocator.create(path, 4, 64)
    publish(dead, 1)
    dead.abandon()
    with pytest.raises(TopicNotFoundError):
        SlotReader.attach(path, history=1)
    results: list[int] = []

    def attach() -> None:
        with SlotReader.attach(path, timeout=None) as reader:
            reader.wait_for_change(reader.generation)
            results.extend(taken(reader))

    thread = threading.Thread(target=attach)
    thread.start()
    with SlotAllocator.create(path, 4, 64) as again:
        while not again.subscriber_indexes():
            again.native.check_open()
        ControlBytes(path).wait_until_parked()
        publish(again, 2)
        thread.join()
    assert results == [2]
