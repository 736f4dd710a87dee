"""Corrupt bytes in the entry of a pool that was added: an error or the right sample, never memory from elsewhere."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import zeroslot as zs
from tests.unit.control_bytes import SECTION_AT, SECTIONS

ENTRY = 64
HARMLESS = {*range(20, 24), *range(32, 64)}  # reserved bytes and counters
# `state` is 1, and any other number but 0 means the same: its other bytes may be anything.
STATE = range(16, 20)


@contextmanager
def changed(control: Path, at: int, content: bytes) -> Iterator[None]:
    """These bytes in the control object, and afterwards those that were there."""
    fd = os.open(control, os.O_RDWR)
    try:
        before = os.pread(fd, len(content), at)
        os.pwrite(fd, content, at)
        yield
        os.pwrite(fd, before, at)
    finally:
        os.close(fd)


@pytest.fixture
def grown(tmp_path: Path) -> Iterator[tuple[zs.SlotAllocator, Path, int]]:
    """A segment with two samples, the second in a pool that was added; its control object, and where the entry is."""
    with zs.SlotAllocator.create(tmp_path / "s", 8, 128, depth=4, grow=True) as slots:
        slots.commit(slots.reserve(5), b"small")
        slots.commit(slots.reserve(1000), b"x" * 1000)
        control = Path("/dev/shm" + (tmp_path / "s").read_text())
        pools = struct.unpack_from("<Q", control.read_bytes(), SECTION_AT + 8 * SECTIONS.index("pools"))[0]
        yield slots, control, pools + ENTRY


@pytest.mark.row("DEF-3", "VAR-8")
def test_a_flipped_byte_of_an_added_pool_s_entry_is_an_error_or_changes_nothing(grown, tmp_path: Path):
    """Each byte, before a reader maps the pool; with the right bytes again, the sample is there."""
    _, control, entry = grown
    good = control.read_bytes()[entry : entry + ENTRY]
    for at in range(ENTRY):
        for mask in (0x01, 0x80, 0xFF):
            spoiled = bytes([good[at] ^ mask])
            reader = None
            with changed(control, entry + at, spoiled):
                try:
                    reader = zs.SlotReader.attach(tmp_path / "s", history=2)
                    found = [bytes(lease) for lease in iter(reader.take, None)]
                except zs.CorruptSegmentError:
                    assert at not in HARMLESS
                else:
                    assert at in HARMLESS or at in STATE
                    assert found == [b"small", b"x" * 1000]
            if reader is not None:
                reader.close()
    with zs.SlotReader.attach(tmp_path / "s", history=2) as reader:
        assert [bytes(lease) for lease in iter(reader.take, None)] == [b"small", b"x" * 1000]


@pytest.mark.row("DEF-3", "VAR-8")
@pytest.mark.parametrize(
    ("at", "content"),
    [
        (0, struct.pack("<Q", 0)),
        (0, struct.pack("<Q", 2**63)),
        (0, struct.pack("<Q", 1000)),
        (8, struct.pack("<I", 0)),
        (8, struct.pack("<I", 9)),
        (12, struct.pack("<I", 0)),
        (12, struct.pack("<I", 2**32 - 1)),
        (16, struct.pack("<I", 0)),
        (24, struct.pack("<Q", 1)),
    ],
)
def test_a_reader_that_meets_a_bad_entry_of_an_added_pool_gets_an_error(tmp_path: Path, at: int, content: bytes):
    """It has taken from the first pool; its leases stay good, and nothing is counted as taken."""
    with zs.SlotAllocator.create(tmp_path / "s", 8, 128, depth=4, grow=True) as slots:
        reader = zs.SlotReader.attach(tmp_path / "s")
        slots.commit(slots.reserve(5), b"small")
        slots.commit(slots.reserve(1000), b"x" * 1000)
        control = Path("/dev/shm" + (tmp_path / "s").read_text())
        pools = struct.unpack_from("<Q", control.read_bytes(), SECTION_AT + 8 * SECTIONS.index("pools"))[0]
        held = reader.take()
        with changed(control, pools + ENTRY + at, content):
            with pytest.raises(zs.CorruptSegmentError):
                reader.take()
            assert (reader.stats["taken"], reader.lost, bytes(held)) == (1, 0, b"small")
            # The owner looks at its own copies only.
            slots.commit(slots.reserve(1000), b"y" * 1000)
            assert slots.slot_capacity == 1024
        del held
        reader.close()
