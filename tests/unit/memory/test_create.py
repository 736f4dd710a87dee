"""Creating segments: the order of the steps, and what a full /dev/shm does."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import posix_ipc
import pytest

from tests.unit.control_bytes import ControlBytes
from zeroslot import (
    U32,
    OutOfSharedMemoryError,
    Publisher,
    Sample,
    SlotAllocator,
)
from zeroslot._core.binding import OPEN, Segment, SegmentConfig
from zeroslot.memory import create, flink
from zeroslot.memory.attach import attach_control
from zeroslot.memory.processes import Identity
from zeroslot.qos import Qos


class Tick(Sample):
    n: U32


@pytest.mark.row("SEG-8")
def test_the_header_holds_the_reserve_and_the_clock_of_its_owner() -> None:
    """The slots add up, and monotonic times can be compared where the time namespace is the same."""
    with Publisher("tick", Tick, depth=3, max_loans=2, spare_slots=4, on_full="block", evict_after=60) as pub:
        info = pub.allocator.native.segment.info
        assert info.reserve_slots > 0
        assert info.slot_limit == sum(getattr(info, n) for n in ("depth", "max_loans", "spare_slots", "reserve_slots"))
        assert info.time_namespace == Path("/proc/self/ns/time").stat().st_ino


@pytest.mark.row("NEW-9")
def test_a_full_shared_memory_is_an_error_with_the_numbers(path: Path) -> None:
    """It is raised before memory is touched, so that a SIGBUS cannot come later, and nothing is left behind."""
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
def test_memory_that_runs_out_while_it_is_reserved_is_the_same_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """posix_fallocate fails although there was room before."""

    def full(fd: int, at: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutOfSharedMemoryError):
        SlotAllocator.create(path, 4, 64)
    assert not path.exists()


@pytest.mark.row("NEW-9")
def test_creation_reserves_every_page(path: Path) -> None:
    """So that no write can fail on a full file system."""
    with SlotAllocator.create(path, 40, 4096):
        for each in (ControlBytes(path).path, ControlBytes(path, pool=0).path):
            info = each.stat()
            assert info.st_blocks * 512 >= info.st_size


@pytest.mark.row("SEG-14")
def test_a_creator_retries_when_its_control_object_is_unlinked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleaner may unlink an object before its creator has locked it."""
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
def test_a_creator_retries_when_its_complete_segment_is_unlinked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without names its objects could not be found."""
    real, names = create._fill, []

    def cleaned(*arguments: Any) -> Segment:
        filled = real(*arguments)
        names.append(f"/zs-{filled.info.segment_id:016x}")
        if len(names) == 1:
            posix_ipc.unlink_shared_memory(names[0])
        return filled

    monkeypatch.setattr(create, "_fill", cleaned)
    with SlotAllocator.create(path, 4, 64):
        assert [path.read_text()] == names[1:]


@pytest.mark.row("SEG-1")
def test_a_segment_is_opened_when_it_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """`state` is written last: a process that finds the segment open finds its contents."""
    seen: list[tuple[int, Any]] = []

    class Watched:
        def __init__(self, made: Segment) -> None:
            self.made = made

        def __getattr__(self, name: str) -> Any:
            if name == "open":
                seen.append((self.made.state, self.made.pool(0)))
            return getattr(self.made, name)

        @staticmethod
        def create(*arguments: Any, **named: Any) -> Watched:
            return Watched(Segment.create(*arguments, **named))

        control_size = staticmethod(Segment.control_size)

    monkeypatch.setattr(create, "Segment", Watched)
    qos = Qos(2, 1, 1, 4, "evict")
    made = create.create_in_memory(qos, 64, create.Contents(Identity(1, 1, "x")))
    inode = os.fstat(made.unnamed_pools[0].fileno()).st_ino
    assert [(state, pool[:5]) for state, pool in seen] == [(0, (128, 0, 4, 1, inode))]
    assert made.segment.state == OPEN


@pytest.mark.row("SEG-1")
def test_a_flink_is_published_when_its_segment_is_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that reads the flink finds a complete segment."""
    real, states = flink.publish_flink, []

    def looked_at(where: Path, control_name: str, *arguments: Any, **named: Any) -> None:
        attached = attach_control(control_name, "here")
        states.append(None if attached is None else attached.segment.state)
        real(where, control_name, *arguments, **named)

    monkeypatch.setattr(flink, "publish_flink", looked_at)
    with SlotAllocator.create(path, 4, 64):
        assert states == [OPEN]


@pytest.mark.row("SEG-13")
def test_the_marker_is_written_before_the_first_object(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a creator that is killed leaves a trace to its objects."""
    real, announced = create.create_segment, []

    def looked_at(control_name: str, *arguments: Any, **named: Any) -> Any:
        announced.append((path, control_name) in flink.list_markers(path.parent))
        return real(control_name, *arguments, **named)

    monkeypatch.setattr(create, "create_segment", looked_at)
    with SlotAllocator.create(path, 4, 64):
        assert announced == [True]


@pytest.mark.row("NEW-9")
def test_a_segment_that_cannot_fit_reserves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before memory is reserved, which other processes may need."""
    reserved: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda fd, at, size: reserved.append(size))
    free = os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize
    with pytest.raises(OutOfSharedMemoryError):
        SlotAllocator.create(path, 4, free)
    assert reserved == []


def test_creation_maps_every_page(path: Path) -> None:
    """So that no sample pays for a page fault: all of both objects is in the owner's page tables."""
    with SlotAllocator.create(path, 40, 4096):
        for each in (ControlBytes(path).path, ControlBytes(path, pool=0).path):
            entry = Path("/proc/self/smaps").read_text().partition(f"{each}\n")[2]
            facts = dict(line.split()[:2] for line in entry.splitlines()[:6])
            assert facts["Rss:"] == facts["Size:"]


def test_an_interrupted_creation_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two steps; the fixture checks /dev/shm."""

    def interrupted(region: Any, limit: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(create, "populate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SlotAllocator.create(path, 4, 64)
    assert not path.exists()


@pytest.mark.row("SEG-1", "SEC-5")
def test_counts_beyond_the_format_are_refused_by_the_core_too() -> None:
    """The core checks what Qos checks."""
    for counts in ({"depth": 0}, {"depth": 65536}, {"max_subscribers": 0}, {"max_subscribers": 1025}):
        given = {"depth": 2, "slot_limit": 4, "max_subscribers": 4} | counts
        with pytest.raises(ValueError):
            Segment.control_size(SegmentConfig()._replace(**given), 0)
    assert create.control_size(Qos(2, 1, 1, 4, "evict"), 0) % 128 == 0
