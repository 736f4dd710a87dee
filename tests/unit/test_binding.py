"""The native objects below the package: segments, regions, descriptors and their locks."""

from __future__ import annotations

import os
from pathlib import Path
from types import FunctionType, MethodDescriptorType
from typing import Any

import pytest

from zeroslot import Publisher, SlotAllocator, SlotReader, Subscriber
from zeroslot._core.binding import Descriptor, Members, PublisherEnd, Region, Segment, direct_methods


def test_a_segment_cannot_be_constructed_directly() -> None:
    """A segment without a mapping would be full of null pointers."""
    for arguments in ((), (None,), (object(),)):
        with pytest.raises(TypeError):
            Segment.__new__(Segment, *arguments)


def test_a_region_refuses_offsets_outside_of_it(tmp_path: Path) -> None:
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


def test_locks_are_seen_by_other_descriptions_only(tmp_path: Path) -> None:
    """Shared and exclusive locks, byte by byte. Closing frees them."""
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


def test_an_empty_descriptor_closes_nothing() -> None:
    """Neither one made by `__new__` alone, nor one whose file could not be opened, closes another file."""
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


def test_the_interpreter_finds_native_methods_in_the_public_classes() -> None:
    """It calls them without a detour then; a class that defines one itself keeps its own."""
    for handle, names in (
        (Publisher, "loan loan_uninit publish send loan_many"),
        (Subscriber, "take latest wait"),
        (SlotAllocator, "reserve reserve_uninit commit discard"),
        (SlotReader, "take latest"),
    ):
        for name in names.split():
            method = vars(handle)[name]
            assert type(method) is MethodDescriptorType
            assert method.__objclass__ is handle
            assert method.__doc__

    @direct_methods
    class Counting(PublisherEnd[Any]):
        def loan(self) -> Any:  # type: ignore[override]  # only whose it is matters
            raise NotImplementedError

    assert type(vars(Counting)["loan"]) is FunctionType
    assert type(vars(Counting)["send"]) is MethodDescriptorType


def test_members_may_come_and_go_while_they_are_read() -> None:
    """One that reads has the members of one moment, and keeps those alive alone that it has read."""

    class Member:
        pass

    members: Members[Member] = Members()
    kept = [Member(), Member()]
    for each in kept:
        members.add(each)
    read = iter(members)
    assert next(read) in kept
    members.add(new := Member())
    members.discard(kept[0])
    assert next(read) in kept
    assert list(read) == []
    del read, each
    assert set(members) == {kept[1], new}
    kept.clear()
    assert list(members) == [new]
    assert len(members) == 1
    members.discard(Member())
