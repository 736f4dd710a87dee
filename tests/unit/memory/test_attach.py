"""Attaching to a segment: what is checked before anything in it is used."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import posix_ipc
import pytest

from tests.unit.control_bytes import SECTION_AT, SECTIONS, ControlBytes
from zeroslot import (
    CorruptSegmentError,
    FormatError,
    SlotAllocator,
    SlotReader,
    TopicNotFoundError,
)
from zeroslot.errors import ZeroslotError
from zeroslot.memory.attach import attach_control

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
    """What attaching gives when one number of the header is changed: the sample, or the error."""
    with SlotAllocator.create(path, 6, 64, depth=2) as slots:
        slots.commit(slots.reserve(), b"there")
        ControlBytes(path).write(*HEADER[name], value)
        try:
            with SlotReader.attach(path, history=1) as reader:
                return bytes(reader.take())
        except ZeroslotError as error:
            return error


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.row("SEG-4", "DEF-2")
@pytest.mark.parametrize("at", range(8))
def test_another_magic_is_a_format_error(path: Path, at: int) -> None:
    """Each of its bytes is compared."""
    with SlotAllocator.create(path, 4, 64):
        control = ControlBytes(path)
        control.write(at, "B", control.read(at, "B") ^ 0x20)
        with pytest.raises(FormatError, match="magic"):
            SlotReader.attach(path)


@pytest.mark.row("SEG-5", "DEF-2")
@pytest.mark.parametrize("version", [0, 2, 255, 2**32 - 1])
def test_another_format_is_a_format_error_with_both_numbers(path: Path, version: int) -> None:
    """The text holds the number found and the one expected."""
    error = attach_after(path, "format", version)
    assert isinstance(error, FormatError)
    assert f"format {version}" in str(error)
    assert "format 1" in str(error)


@pytest.mark.row("SEG-5", "DEF-2")
@pytest.mark.parametrize("bits", [(0,), (63,), (3, 17, 40)])
def test_an_incompatible_feature_is_a_format_error_that_names_its_bits(path: Path, bits: tuple[int, ...]) -> None:
    """A later version sets a bit for each feature that an older reader would read wrongly."""
    error = attach_after(path, "incompat", sum(1 << bit for bit in bits))
    assert isinstance(error, FormatError)
    assert f"incompatible bits {', '.join(map(str, bits))}. " in str(error)


@pytest.mark.row("SEG-6")
def test_a_compatible_feature_is_ignored(path: Path) -> None:
    """Readers that do not know its bit can read the segment all the same."""
    with SlotAllocator.create(path, 6, 64, depth=2) as slots:
        slots.commit(slots.reserve(), b"there")
        ControlBytes(path).write(120, "Q", 2**64 - 1)
        with SlotReader.attach(path, history=1) as reader:
            assert bytes(reader.take()) == b"there"


@pytest.mark.row("SEG-6", "DEF-2")
def test_a_longer_header_and_sections_further_apart_are_read(path: Path) -> None:
    """A later minor version may add fields and sections; the known ones are found by their offsets."""
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
        control.write_bytes(0, content[:384])  # so that the owner can close it


@pytest.mark.row("SEG-7", "DEF-1")
def test_a_segment_that_is_not_open_yet_is_not_found(path: Path) -> None:
    """Its state is 0, whatever else is written already."""
    error = attach_after(path, "state", 0)
    assert isinstance(error, TopicNotFoundError)


@pytest.mark.row("SEG-7", "SEG-15")
@pytest.mark.parametrize("state", [2, 3, 4, 2**32 - 1])
def test_an_ended_segment_is_not_joined(path: Path, state: int) -> None:
    """Sealed, dead, or an unknown state."""
    assert isinstance(attach_after(path, "state", state), TopicNotFoundError)


@pytest.mark.row("SEC-4", "SEC-5", "SEG-2", "DEF-3")
@pytest.mark.parametrize("name", [each for each in HEADER if each not in ("format", "state")])
@pytest.mark.parametrize("value", [0, 1, 7, 1024, 65536, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
def test_an_impossible_header_is_refused_or_reads_the_sample(path: Path, name: str, value: int) -> None:
    """No number in the header makes a reader read outside of the segment."""
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
    """In capacity, first slot, count or state."""
    with SlotAllocator.create(path, 6, 64):
        control = ControlBytes(path)
        control.write(control.at("pools") + offset, form, value)
        with pytest.raises(CorruptSegmentError):
            SlotReader.attach(path)


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("capacity", [64, 128, 384])
def test_a_pool_is_exactly_as_large_as_its_slots(path: Path, capacity: int) -> None:
    """With a smaller capacity, one slot would hold the halves of two samples."""
    with SlotAllocator.create(path, 6, 256):
        control = ControlBytes(path)
        control.write(control.at("pools"), "Q", capacity)
        with pytest.raises(CorruptSegmentError):
            SlotReader.attach(path)


@pytest.mark.row("SEC-4")
def test_the_tail_of_a_control_object_takes_no_memory(path: Path) -> None:
    """A file may be longer than its pages: only the size in the header is mapped."""
    with SlotAllocator.create(path, 4, 64):
        control = ControlBytes(path).path
        before = control.stat()
        os.truncate(control, 2**34)
        with SlotReader.attach(path) as reader:
            assert reader.native.segment.control.size == before.st_size
        assert control.stat().st_blocks == before.st_blocks
        os.truncate(control, before.st_size)


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("read_only", [True, False])
def test_a_control_object_with_holes_is_refused_and_takes_no_memory(path: Path, *, read_only: bool) -> None:
    """Its size is gigabytes, and it has no memory for them. Mapping the pages of a hole would allocate them."""
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
def test_a_pool_with_holes_is_refused_and_takes_no_memory(path: Path) -> None:
    """It has the right size, and no pages."""
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
    """Its size is checked with fstat before anything is mapped."""
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


@pytest.mark.row("SEG-2")
def test_an_object_under_another_name_is_refused(path: Path) -> None:
    """As a copy of another segment has: the id in the header differs from the name."""
    error = attach_after(path, "segment_id", 5)
    assert isinstance(error, FormatError)
    assert "another segment" in str(error)
