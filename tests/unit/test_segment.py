"""Segments as objects in shared memory: what is checked before anything is believed, and what a full /dev/shm does."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import posix_ipc
import pytest

from tests.unit.control_bytes import SECTION_AT, SECTIONS, ControlBytes
from zeroslot import (
    U32,
    CorruptSegmentError,
    FormatError,
    OutOfSharedMemoryError,
    Publisher,
    Sample,
    SlotAllocator,
    SlotReader,
    TopicNotFoundError,
)
from zeroslot._core.binding import Descriptor, Region, Segment
from zeroslot.errors import ZeroslotError
from zeroslot.memory import create, flink, objects
from zeroslot.memory.attach import attach_control
from zeroslot.memory.processes import Identity
from zeroslot.memory.segment import OPEN
from zeroslot.qos import Qos


class Tick(Sample):
    n: U32


@pytest.fixture
def path(zeroslot_dir: Path) -> Path:
    return zeroslot_dir / "slots.flink"


HEADER = {
    "format": (8, "I"),
    "header_size": (12, "I"),
    "control_size": (16, "Q"),
    "segment_id": (24, "Q"),
    "depth": (48, "I"),
    "ring_capacity": (52, "I"),
    "slot_limit": (56, "I"),
    "pool_limit": (60, "I"),
    "max_subscribers": (64, "I"),
    "reader_words": (68, "I"),
    "spare_slots": (72, "I"),
    "max_loans": (76, "I"),
    "first_sequence": (80, "Q"),
    "schema_size": (88, "Q"),
    "peer_size": (96, "I"),
    "slot_size": (100, "I"),
    "readers_at": (104, "I"),
    "incompat": (112, "Q"),
    "policy": (132, "I"),
    "reserve_slots": (328, "I"),
    "state": (332, "I"),
}


def attach_after(path: Path, name: str, value: int) -> Any:
    """What a new reader meets when one number of the header is another."""
    with SlotAllocator.create(path, 6, 64, depth=2) as slots:
        slots.commit(slots.reserve(), b"there")
        ControlBytes(path).write(*HEADER[name], value)
        try:
            with SlotReader.attach(path, history=1) as reader:
                return bytes(reader.take())
        except ZeroslotError as error:
            return error


@pytest.mark.row("SEG-4", "DEF-2")
@pytest.mark.parametrize("at", range(8))
def test_another_magic_is_a_format_error(path: Path, at: int) -> None:
    """Each of its bytes counts."""
    with SlotAllocator.create(path, 4, 64):
        control = ControlBytes(path)
        control.write(at, "B", control.read(at, "B") ^ 0x20)
        with pytest.raises(FormatError, match="magic"):
            SlotReader.attach(path)


@pytest.mark.row("SEG-5", "DEF-2")
@pytest.mark.parametrize("version", [0, 2, 255, 2**32 - 1])
def test_another_format_is_a_format_error_with_both_numbers(path: Path, version: int) -> None:
    """Expected and found, in the text and as facts."""
    error = attach_after(path, "format", version)
    assert isinstance(error, FormatError)
    assert f"format {version}" in str(error)
    assert "format 1" in str(error)


@pytest.mark.row("SEG-5", "DEF-2")
@pytest.mark.parametrize("bits", [(0,), (63,), (3, 17, 40)])
def test_an_incompatible_feature_is_a_format_error_that_names_its_bits(path: Path, bits: tuple[int, ...]) -> None:
    """A later version says with a bit of the header what an older reader would read wrongly."""
    error = attach_after(path, "incompat", sum(1 << bit for bit in bits))
    assert isinstance(error, FormatError)
    assert f"incompatible bits {', '.join(map(str, bits))}. " in str(error)


@pytest.mark.row("SEG-6")
def test_a_compatible_feature_is_ignored(path: Path) -> None:
    """Its bits tell those who know them of something that others need not know."""
    with SlotAllocator.create(path, 6, 64, depth=2) as slots:
        slots.commit(slots.reserve(), b"there")
        ControlBytes(path).write(120, "Q", 2**64 - 1)
        with SlotReader.attach(path, history=1) as reader:
            assert bytes(reader.take()) == b"there"


@pytest.mark.row("SEG-8")
def test_the_header_tells_the_reserve_and_the_clock_of_its_owner() -> None:
    """The slots add up, and monotonic times can be compared where the time namespace is the same."""
    with Publisher("tick", Tick, depth=3, max_loans=2, spare_slots=4, on_full="block", evict_after=60) as pub:
        facts = pub.allocator.owner.segment.facts()
        assert facts["reserve_slots"] > 0
        assert facts["slot_limit"] == sum(facts[n] for n in ("depth", "max_loans", "spare_slots", "reserve_slots"))
        assert facts["time_namespace"] == Path("/proc/self/ns/time").stat().st_ino


@pytest.mark.row("SEG-6", "DEF-2")
def test_a_longer_header_and_sections_further_apart_are_read(path: Path) -> None:
    """A later minor version may add; what this one knows stays where the offsets say."""
    with SlotAllocator.create(path, 4, 64, depth=2) as slots:
        slots.commit(slots.reserve(), b"x")
        control = ControlBytes(path)
        content = control.path.read_bytes()
        header = bytearray(content[:384])
        shift = 256
        struct.pack_into("<I", header, 12, 384 + shift)
        struct.pack_into("<Q", header, 16, len(content) + shift)
        for i in range(len(SECTIONS)):
            at = SECTION_AT + 8 * i
            struct.pack_into("<Q", header, at, struct.unpack_from("<Q", header, at)[0] + shift)
        os.truncate(control.path, len(content) + shift)
        control.write_bytes(0, bytes(header) + b"\xaa" * shift + content[384:])
        with SlotReader.attach(path, history=1) as reader:
            assert bytes(reader.take()) == b"x"
        control.write_bytes(0, content[:384])  # the owner never looks; this is for its own end


@pytest.mark.row("SEG-7", "DEF-1")
def test_a_segment_that_is_not_open_yet_is_not_there(path: Path) -> None:
    """State 0, whatever else is written already."""
    error = attach_after(path, "state", 0)
    assert isinstance(error, TopicNotFoundError)


@pytest.mark.row("SEG-7", "SEG-15")
@pytest.mark.parametrize("state", [2, 3, 4, 2**32 - 1])
def test_an_ended_segment_is_not_joined(path: Path, state: int) -> None:
    """Sealed, dead, or what nobody writes."""
    assert isinstance(attach_after(path, "state", state), TopicNotFoundError)


@pytest.mark.row("SEC-4", "SEC-5", "SEG-2", "DEF-3")
@pytest.mark.parametrize("name", [each for each in HEADER if each not in ("format", "state")])
@pytest.mark.parametrize("value", [0, 1, 7, 1024, 65536, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
def test_a_header_that_cannot_be_is_refused_or_reads_the_sample(path: Path, name: str, value: int) -> None:
    """No number of the header makes an attacher read beside the segment."""
    found = attach_after(path, name, value % 2 ** (8 * struct.calcsize(HEADER[name][1])))
    assert found == b"there" or isinstance(found, (CorruptSegmentError, FormatError)) or "history" in str(found)


@pytest.mark.row("SEC-4", "DEF-3")
@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [0, 128, 383, 2**20, 2**40, 2**64 - 128, 2**64 - 1])
def test_sections_that_overlap_or_leave_the_object_are_refused(path: Path, section: str, value: int) -> None:
    """Each offset by itself."""
    with SlotAllocator.create(path, 4, 64):
        control = ControlBytes(path)
        control.write(SECTION_AT + 8 * SECTIONS.index(section), "Q", value)
        with pytest.raises(CorruptSegmentError):
            SlotReader.attach(path)


@pytest.mark.row("SEC-4", "DEF-3")
@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (0, "Q", 0),
        (0, "Q", 64),
        (0, "Q", 127),
        (0, "Q", 256),
        (0, "Q", 2**63),
        (8, "I", 1),
        (12, "I", 0),
        (12, "I", 7),
        (12, "I", 2**32 - 1),
        (16, "I", 0),
    ],
)
def test_a_pool_table_that_contradicts_the_pool_is_corrupt(path: Path, offset: int, form: str, value: int) -> None:
    """Capacity, first slot, count and state."""
    with SlotAllocator.create(path, 6, 64):
        control = ControlBytes(path)
        control.write(control.at("pools") + offset, form, value)
        with pytest.raises(CorruptSegmentError):
            SlotReader.attach(path)


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("capacity", [64, 128, 384])
def test_a_pool_is_exactly_as_large_as_its_slots(path: Path, capacity: int) -> None:
    """Slots that lie closer together than the table's would be halves of two samples each."""
    with SlotAllocator.create(path, 6, 256):
        control = ControlBytes(path)
        control.write(control.at("pools"), "Q", capacity)
        with pytest.raises(CorruptSegmentError):
            SlotReader.attach(path)


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("what", ["directory", "fifo", "symlink", "socket", "device"])
def test_what_is_no_object_is_refused_and_waited_for_by_nobody(path: Path, what: str, read_only: bool) -> None:
    """An error of ours that names it; for a cleaner it is as if nothing were there."""
    name = "/zs-00000000000000ab"
    place = Path(f"/dev/shm{name}")
    with SlotAllocator.create(path, 4, 64):
        if what == "directory":
            place.mkdir()
        elif what == "fifo":
            os.mkfifo(place)
        elif what == "symlink":
            place.symlink_to(ControlBytes(path).path)
        elif what == "device":
            try:
                os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            except PermissionError:
                pytest.skip("only root makes devices")
        else:
            bound = socket.socket(socket.AF_UNIX)
            bound.bind(str(place))
            bound.close()
        try:
            with pytest.raises((CorruptSegmentError, PermissionError), match=name):
                attach_control(name, "here", read_only=read_only)
            assert objects.open_for_cleaning(name) is None
        finally:
            place.rmdir() if what == "directory" else place.unlink()


@pytest.mark.row("SEC-4")
def test_an_object_with_a_tail_costs_no_memory(path: Path) -> None:
    """A file may be longer than it has pages: only what the header claims is mapped."""
    with SlotAllocator.create(path, 4, 64):
        control = ControlBytes(path).path
        before = control.stat()
        os.truncate(control, 2**34)
        with SlotReader.attach(path) as reader:
            assert reader.reader.segment.control.size == before.st_size
        assert control.stat().st_blocks == before.st_blocks
        os.truncate(control, before.st_size)


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("read_only", [True, False])
def test_a_control_object_with_holes_is_refused_and_costs_no_memory(path: Path, *, read_only: bool) -> None:
    """It claims gigabytes that it does not have: to map its pages would be to give it their memory."""
    with SlotAllocator.create(path, 4, 64):
        content = bytearray(ControlBytes(path).path.read_bytes())
        struct.pack_into("<Q", content, 16, 2**33)
        sparse = Path("/dev/shm/zs-00000000000000aa")
        sparse.write_bytes(content)
        sparse.chmod(0o600)
        try:
            os.truncate(sparse, 2**33)
            before = sparse.stat().st_blocks
            with pytest.raises(CorruptSegmentError, match=str(2**33)):
                attach_control(f"/{sparse.name}", "here", read_only=read_only)
            assert sparse.stat().st_blocks == before
        finally:
            sparse.unlink()


@pytest.mark.row("SEC-4")
def test_a_pool_with_holes_is_refused_and_costs_no_memory(path: Path) -> None:
    """Of the right size, and without the memory."""
    with SlotAllocator.create(path, 64, 65536):
        pool = ControlBytes(path, 0).path
        size = pool.stat().st_size
        os.truncate(pool, 0)
        os.truncate(pool, size)
        with pytest.raises(CorruptSegmentError, match=str(size)):
            SlotReader.attach(path)
        assert pool.stat().st_blocks == 0


@pytest.mark.row("SEC-4", "DEF-3")
@pytest.mark.parametrize("size", [0, 1, 383, 384, 4096])
def test_an_object_that_is_too_short_is_no_segment(path: Path, size: int) -> None:
    """Looked at with fstat before anything is mapped."""
    with SlotAllocator.create(path, 4, 64):
        content = ControlBytes(path).path.read_bytes()
        name = "/zs-00000000000000aa"
        made = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600, size=0)
        try:
            os.pwrite(made.fd, content[:size], 0)
            with pytest.raises(CorruptSegmentError) if size >= 384 else _nothing():
                assert attach_control(name, "here") is None
        finally:
            made.close_fd()
            made.unlink()


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.row("SEG-2")
def test_an_object_under_another_name_is_refused(path: Path) -> None:
    """A flink that names a copy: the segment says another id."""
    error = attach_after(path, "segment_id", 5)
    assert isinstance(error, FormatError)
    assert "another segment" in str(error)


@pytest.mark.row("NEW-9")
def test_a_full_shared_memory_is_an_error_with_the_numbers(path: Path) -> None:
    """Before a byte is written; nothing is left behind; and never a SIGBUS later."""
    with pytest.raises(OutOfSharedMemoryError) as caught:
        SlotAllocator.create(path, 65535, 2**36)
    error = caught.value
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert error.needed_bytes is not None
    assert error.free_bytes is not None
    assert error.needed_bytes > 65535 * 2**36 > error.free_bytes
    assert str(error.needed_bytes) in str(error)


@pytest.mark.row("NEW-9")
def test_memory_that_runs_out_under_way_is_the_same_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """posix_fallocate says so although there was room when it was looked at."""

    def full(fd: int, at: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutOfSharedMemoryError):
        SlotAllocator.create(path, 4, 64)
    assert not path.exists()


@pytest.mark.row("NEW-9")
def test_every_page_is_there_after_creation(path: Path) -> None:
    """Blocks are reserved in full, so that no write meets a full file system."""
    with SlotAllocator.create(path, 40, 4096):
        for each in (ControlBytes(path).path, ControlBytes(path, pool=0).path):
            info = each.stat()
            assert info.st_blocks * 512 >= info.st_size


@pytest.mark.row("SEG-14")
def test_a_name_that_vanishes_under_way_is_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleaner took the half-made object for a dead one's: the creator starts over."""
    real, names = create.create_object, []

    def cleaned(name: str) -> int | None:
        fd = real(name)
        names.append(name)
        if len(names) == 1:
            posix_ipc.unlink_shared_memory(name)
        return fd

    monkeypatch.setattr(create, "create_object", cleaned)
    with SlotAllocator.create(path, 4, 64):
        assert path.read_text() not in names[:1]
        assert len(names) == 3


@pytest.mark.row("SEG-14")
def test_a_name_that_vanishes_later_is_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the segment was complete already: nobody could find its objects, so they are no segment."""
    real, names = create._fill, []

    def cleaned(*arguments: Any) -> Segment:
        filled = real(*arguments)
        names.append(f"/zs-{filled.facts()['segment_id']:016x}")
        if len(names) == 1:
            posix_ipc.unlink_shared_memory(names[0])
        return filled

    monkeypatch.setattr(create, "_fill", cleaned)
    with SlotAllocator.create(path, 4, 64):
        assert [path.read_text()] == names[1:]


@pytest.mark.row("SEG-1")
def test_a_segment_is_opened_when_it_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last thing of all: whoever sees it open sees what is in it."""
    seen: list[tuple[int, Any]] = []

    class Watched:
        def __init__(self, made: Segment) -> None:
            self.made = made

        def __getattr__(self, name: str) -> Any:
            if name == "open":
                seen.append((self.made.state, self.made.pool_facts(0)))
            return getattr(self.made, name)

        @staticmethod
        def create(*arguments: Any, **named: Any) -> Watched:
            return Watched(Segment.create(*arguments, **named))

        control_size = staticmethod(Segment.control_size)

    monkeypatch.setattr(create, "Segment", Watched)
    qos = Qos(2, 1, 1, 4, "evict")
    made = create.create_in_memory(qos, 64, create.Contents(Identity(1, 1, "x")))
    assert seen == [(0, (128, 0, 4, 1, os.fstat(made.unnamed_pools[0].fileno()).st_ino))]
    assert made.segment.state == OPEN


@pytest.mark.row("SEG-1")
def test_a_flink_appears_when_its_segment_is_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows it finds a segment that is ready."""
    real, states = flink.publish_flink, []

    def looked_at(where: Path, control_name: str, *arguments: Any, **named: Any) -> None:
        attached = attach_control(control_name, "here")
        states.append(None if attached is None else attached.segment.state)
        real(where, control_name, *arguments, **named)

    monkeypatch.setattr(flink, "publish_flink", looked_at)
    with SlotAllocator.create(path, 4, 64):
        assert states == [OPEN]


@pytest.mark.row("SEG-13")
def test_objects_are_announced_before_they_are_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A creator that is killed at any moment leaves a trace to them."""
    real, announced = create.create_segment, []

    def looked_at(control_name: str, *arguments: Any, **named: Any) -> Any:
        announced.append((path, control_name) in flink.list_markers(path.parent))
        return real(control_name, *arguments, **named)

    monkeypatch.setattr(create, "create_segment", looked_at)
    with SlotAllocator.create(path, 4, 64):
        assert announced == [True]


@pytest.mark.row("NEW-9")
def test_what_cannot_fit_takes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before memory is reserved, which others would miss meanwhile."""
    reserved: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda fd, at, size: reserved.append(size))
    free = os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize
    with pytest.raises(OutOfSharedMemoryError):
        SlotAllocator.create(path, 4, free)
    assert reserved == []


def test_every_page_is_mapped_after_creation(path: Path) -> None:
    """So that no sample pays for a page fault: the owner has all of both objects in its page tables."""
    with SlotAllocator.create(path, 40, 4096):
        for each in (ControlBytes(path).path, ControlBytes(path, pool=0).path):
            entry = Path("/proc/self/smaps").read_text().partition(f"{each}\n")[2]
            facts = dict(line.split()[:2] for line in entry.splitlines()[:6])
            assert facts["Rss:"] == facts["Size:"]


def test_an_interrupted_creation_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two steps of reserving; the fixture looks."""

    def interrupted(region: Any, limit: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(create, "populate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SlotAllocator.create(path, 4, 64)
    assert not path.exists()


@pytest.mark.row("SEG-1", "SEC-5")
def test_counts_beyond_the_format_are_refused_by_the_core_too() -> None:
    """Whoever comes past Qos."""
    for counts in ({"depth": 0}, {"depth": 65536}, {"max_subscribers": 0}, {"max_subscribers": 1025}):
        given = {"depth": 2, "slot_limit": 4, "max_subscribers": 4, "schema_size": 0} | counts
        with pytest.raises(ValueError):
            Segment.control_size(**given)  # type: ignore[arg-type]  # numbers all of them
    assert create.control_size(Qos(2, 1, 1, 4, "evict"), 0) % 128 == 0


def test_segments_are_not_made_by_force() -> None:
    """One without a mapping would be NULL everywhere."""
    for arguments in ((), (None,), (object(),)):
        with pytest.raises(TypeError):
            Segment.__new__(Segment, *arguments)


def test_regions_refuse_what_lies_outside(tmp_path: Path) -> None:
    """Reads, writes and populates are checked against the mapping."""
    file = tmp_path / "file"
    file.write_bytes(bytes(4096))
    opened = Descriptor.open(str(file), os.O_RDWR)
    region, read_only = Region(opened, 4096, True), Region(opened, 4096, False)
    for at, count in ((4097, 0), (4096, 1), (0, 4097), (2**64 - 1, 2)):
        with pytest.raises(IndexError):
            region.read(at, count)
        with pytest.raises(IndexError):
            region.populate(at, count)
    with pytest.raises(IndexError):
        region.write(4090, b"1234567")
    with pytest.raises(ValueError, match="read-only"):
        read_only.write(0, b"x")
    region.write(4096, b"")
    region.write(0, b"x")
    assert read_only.read(0, 2) == b"x\0"
    with pytest.raises(ValueError):
        Region(opened, 0, True)
    opened.close()
    with pytest.raises(OSError):
        Region(opened, 4096, True)
