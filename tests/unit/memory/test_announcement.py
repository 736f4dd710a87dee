"""Announcements: their bytes, and what is not taken for one."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from tests.compat import document
from zeroslot._core.binding import Descriptor
from zeroslot.memory import announcement
from zeroslot.memory.announcement import Announcement, Request
from zeroslot.memory.bell import Bell
from zeroslot.memory.directories import topic_directory
from zeroslot.memory.processes import identity

REQUEST = Request(bytes(range(16)), reliable=True, by_name=False, verify=True, history=3, max_leases=4)


@pytest.fixture
def directory():
    """That of a topic whose domain is in use."""
    bell = Bell.join("default")
    yield topic_directory("default", "a/b")
    bell.leave()


def published(directory: Path, request: Request = REQUEST) -> Announcement:
    made = Announcement(directory, "a/b")
    made.publish(request, identity("me"))
    return made


def test_it_has_the_bytes_of_the_document(directory: Path) -> None:
    """Each member is where FORMAT.md says."""
    made = published(directory)
    made.refuse(0x1234)
    (path,) = announcement.list_announcements(directory)
    content = path.read_bytes()
    assert len(content) == 128 + 8
    assert path.stat().st_mode & 0o777 == 0o600

    def member(name: str) -> bytes:
        found = document.members("Announcement")[name]
        return content[found.offset : found.offset + found.size]

    row = document.section_of("Announcement")
    assert member("magic").hex(" ").upper() in row
    numbers = {
        "format": 1,
        "header_size": 128,
        "id": made.id,
        "pid": os.getpid(),
        "flags": 0b0101,
        "start_time": identity("").start_time,
        "time_namespace": identity("").time_namespace,
        "history": 3,
        "max_leases": 4,
    }
    assert {name: int.from_bytes(member(name), "little") for name in numbers} == numbers
    assert member("type_hash") == bytes(range(16))
    assert member("name").rstrip(b"\0") == b"me"
    assert content[128:] == (0x1234).to_bytes(8, "little")
    assert set(document.members("Announcement")) == {*numbers, "magic", "type_hash", "name", "reserved"}
    made.withdraw()


@pytest.mark.parametrize(
    "request_",
    [REQUEST, Request(b"", reliable=False, by_name=True, verify=False, history=0, max_leases=1)],
    ids=["exact", "any type"],
)
def test_what_is_written_is_read(directory: Path, request_: Request) -> None:
    """By this process as by others: the lock is seen through another description."""
    made = published(directory, request_)
    made.refuse(7)
    (found,) = announcement.announced_in(directory)
    assert found.request == request_
    assert (found.id, found.pid, found.name, found.refused) == (made.id, os.getpid(), "me", {7})
    made.withdraw()
    assert announcement.announced_in(directory) == []
    assert not directory.parent.exists()
    made.withdraw()


def test_one_that_is_not_locked_is_of_a_dead_process(directory: Path) -> None:
    """It is not read, and a cleaner removes it; not one that is locked, complete or not."""
    made, beginning = published(directory), directory / ".00000000000000aa.sub"
    with closing(Descriptor.open(str(beginning), os.O_RDWR | os.O_CREAT)) as lock:
        assert lock.try_lock(0)
        dead = directory / ".00000000000000bb.sub"
        dead.write_bytes((directory / f".{made.id:016x}.sub").read_bytes())
        assert [found.id for found in announcement.announced_in(directory)] == [made.id]
        assert announcement.dead_in(directory) == [dead]
        assert announcement.remove_dead(directory) == [dead]
        assert announcement.remove_dead(directory) == []
    assert announcement.remove_dead(directory) == [beginning]
    made.withdraw()


@pytest.mark.parametrize("at", [0, 8, 12, 16], ids=["magic", "format", "header_size", "id"])
def test_other_bytes_are_no_announcement(directory: Path, at: int) -> None:
    """It is ignored: a publisher that started would otherwise wait for nothing."""
    made = published(directory)
    (path,) = announcement.list_announcements(directory)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\0")
        file.flush()
        assert announcement.read(path) is None
    made.withdraw()


def test_one_that_others_may_write_is_ignored(directory: Path) -> None:
    """In a private tree, also one that a group may write."""
    made = published(directory)
    (path,) = announcement.list_announcements(directory)
    for mode in (0o602, 0o620):
        path.chmod(mode)
        assert announcement.read(path) is None
    path.chmod(0o600)
    assert announcement.read(path) is not None
    made.withdraw()


def test_a_cleaner_that_was_faster_is_noticed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has locked or removed the file before the subscriber locked it: there is another one, with another name."""
    open_new, made = announcement._open_new, []

    def slow(path: str) -> Descriptor:
        descriptor = open_new(path)
        made.append(path)
        if len(made) == 1:
            os.unlink(path)
        elif len(made) == 2:
            assert cleaner.append(Descriptor.open(path, os.O_RDWR)) is None
            assert cleaner[0].try_lock(0)
        return descriptor

    cleaner: list[Descriptor] = []
    directory.mkdir(parents=True)
    monkeypatch.setattr(announcement, "_open_new", slow)
    own = published(directory)
    assert len(set(made)) == 3
    cleaner[0].close()
    assert announcement.remove_dead(directory) == [Path(made[1])]
    assert made[2].endswith(f".{own.id:016x}.sub")
    own.withdraw()


def test_whatever_the_umask_is_its_user_has_all_rights(directory: Path) -> None:
    """On the file and on its directories."""
    before = os.umask(0o777)
    try:
        made = published(directory)
    finally:
        os.umask(before)
    (path,) = announcement.list_announcements(directory)
    assert path.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == directory.parent.stat().st_mode & 0o777 == 0o700
    made.withdraw()


def test_a_failed_write_leaves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as in a full /dev/shm; a later try makes another one."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    made = Announcement(directory, "a/b")
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            made.publish(REQUEST, identity("me"))
    assert made.id == 0
    assert not directory.parent.exists()
    made.publish(REQUEST, identity("me"))
    assert [found.id for found in announcement.announced_in(directory)] == [made.id]
    made.withdraw()
