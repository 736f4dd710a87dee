"""Huge pages: counted where there are some, reported where there are none, and never required."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot._core.binding import HUGE_PAGE, Descriptor, Region
from zeroslot.memory import hugepages
from zeroslot.memory.objects import reopen


class Large(zs.Sample):
    pixels: Annotated[NDArray[np.uint8], zs.Shape(1024, 3000)]


def memory(size: int) -> Descriptor:
    """A new object without a name."""
    fd = os.memfd_create("test")
    try:
        os.truncate(fd, size)
        return reopen(fd, os.O_RDWR)
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [HUGE_PAGE, HUGE_PAGE + 1, 3 * HUGE_PAGE - 4097, 4 * HUGE_PAGE])
@pytest.mark.parametrize("writable", [False, True])
def test_a_large_mapping_begins_at_a_huge_page_and_takes_no_more_addresses(size: int, writable: bool) -> None:
    """What was reserved around it is free again, and goes with it."""
    before = set(Path("/proc/self/maps").read_text().splitlines())
    region = Region(memory(size), size, writable)
    assert region.address % HUGE_PAGE == 0
    mine = [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:test" in line]
    assert len(mine) == 1
    low, high = (int(each, 16) for each in mine[0].split()[0].split("-"))
    assert (low, high) == (region.address, region.address + -(-size // 4096) * 4096)
    del region
    assert {
        line for line in set(Path("/proc/self/maps").read_text().splitlines()) - before if "memfd:test" in line
    } == set()


def test_a_mapping_that_fails_leaves_no_addresses() -> None:
    """mmap of a file that was opened only for writing is refused, also after addresses were reserved."""
    fd = os.memfd_create("test")
    try:
        os.truncate(fd, HUGE_PAGE)
        only_write = Descriptor.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
        before = Path("/proc/self/statm").read_text().split()[0]
        for _ in range(3):
            with pytest.raises(OSError, match="mmap"):
                Region(only_write, HUGE_PAGE, False)
        assert Path("/proc/self/statm").read_text().split()[0] == before
    finally:
        os.close(fd)


@pytest.mark.row("NEW-9")
def test_stats_tell_the_memory_and_its_huge_pages(caplog: pytest.LogCaptureFixture) -> None:
    """All of the segment's bytes; with huge pages each whole one counts, or a warning was logged."""
    with zs.Publisher("large", Large, depth=2, spare_slots=4, hugepages=True) as pub:
        stats = pub.stats
        assert stats.memory_bytes == pub.allocator.size.total_bytes > 8 * zs.layout_of(Large).size
        whole = pub.allocator.size.pool_bytes // HUGE_PAGE * HUGE_PAGE
        assert stats.huge_bytes == whole or (stats.huge_bytes < whole and "huge pages" in caplog.text)
    with zs.Publisher("large", Large, depth=2, spare_slots=4) as pub:
        assert pub.stats.huge_bytes == 0
    with zs.SlotAllocator.in_memory(4, HUGE_PAGE, hugepages=True) as slots:
        assert slots.huge_bytes in range(0, 4 * HUGE_PAGE + 1, HUGE_PAGE)
    with zs.SlotAllocator.in_memory(4, HUGE_PAGE) as slots:
        assert slots.huge_bytes == 0


def test_a_system_without_huge_pages_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """One warning a process, with the numbers and what to do; the publisher works."""
    monkeypatch.setattr(hugepages, "huge_bytes", lambda regions: 0)
    monkeypatch.setattr(hugepages, "_reported", threading.Event())
    monkeypatch.setattr(hugepages, "ENABLED", tmp_path / "missing")
    with caplog.at_level(logging.WARNING, "zeroslot"):
        for _ in range(2):
            with zs.SlotAllocator.in_memory(4, HUGE_PAGE, hugepages=True) as slots, slots.reader() as reader:
                slots.commit(slots.reserve(), b"content")
                lease: Any = reader.take()
                assert bytes(lease) == b"content"
    messages = [record.getMessage() for record in caplog.records if "huge pages" in record.getMessage()]
    assert len(messages) == 1
    assert f"0 of {4 * HUGE_PAGE} bytes" in messages[0]
    assert "mount /dev/shm with huge=advise" in messages[0]


@pytest.mark.parametrize(
    "reordered",
    [
        np.asfortranarray,
        lambda a: a[:, ::-1],
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a.T.copy().T,
        lambda a: a,
    ],
    ids=["fortran", "reversed", "every second row", "transposed", "in order"],
)
@pytest.mark.parametrize("in_place", [False, True])
def test_arrays_in_any_order_of_memory_arrive_as_they_are(reordered: Any, in_place: bool) -> None:
    """Large ones and their values; no step of the source is taken for another."""
    source = np.arange(1024 * 3000, dtype="u4").astype("u1").reshape(1024, 3000)
    source[:, 0] = np.arange(1024)
    given = reordered(source)
    with (
        zs.Publisher("large", Large, depth=2, spare_slots=4, max_loans=1) as pub,
        zs.Subscriber("large", Large) as sub,
    ):
        if in_place:
            with pub.loan() as view:
                view.pixels = given
        else:
            pub.publish(Large(pixels=given))
        lease = sub.take()
        assert lease is not None
        assert np.array_equal(lease.sample.pixels, given)


def test_a_field_can_be_assigned_from_an_array_over_itself() -> None:
    """A view of the same memory in another order is read before it is overwritten."""
    with zs.Publisher("large", Large, depth=2, spare_slots=4) as pub, zs.Subscriber("large", Large) as sub:
        with pub.loan() as view:
            view.pixels[:] = np.arange(3000, dtype="u4").astype("u1")
            view.pixels[:, 1] = 0
            expected = view.pixels[:, ::-1].copy()
            view.pixels = view.pixels[:, ::-1]
        lease = sub.take()
        assert lease is not None
        assert np.array_equal(lease.sample.pixels, expected)
