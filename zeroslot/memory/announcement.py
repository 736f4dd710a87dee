"""Announcements: files by which subscriptions are known that have not met a publisher.

    <root>/<domain>/<topic>/.<16 hex>.sub    what a subscription asks for, then the segments that it has refused

Why: a publisher that waits for reliable subscribers can only wait for those that it knows, and a subscriber that is
busy while the publisher starts attaches too late. Order: a subscriber announces itself, and then looks for flinks; a
publisher publishes its flink, and then looks for announcements. So one of them finds the other, and a publisher waits
for every reliable subscription that was there before it.

Why a lock: it falls with the process, so an announcement of a killed one delays nothing. It belongs to a description
of its own, through which nothing is mapped, and which a forked child does not have.

Why there is no temporary name: an announcement counts when its content is complete, and the subscriber looks for flinks
after that. A cleaner may take a file that is not locked yet for a dead process's; the subscriber notices, and makes one
with another name, since the cleaner may still be about to remove the first.

Which subscriptions are announced: reliable ones always, because publishers wait for them; the others when they are
attached to no publisher, because then nothing else shows that they exist. A best-effort subscriber that finds its
publisher at once pays for no file.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from zeroslot._core.binding import Descriptor
from zeroslot.info import WaitingInfo
from zeroslot.memory import access
from zeroslot.memory.directories import names_in, open_directory, retry, sharing_group
from zeroslot.memory.processes import command_of, is_stopped

if TYPE_CHECKING:
    from pathlib import Path

    from zeroslot.memory.processes import Identity

_NAME = re.compile(r"\.[0-9a-f]{16}\.sub", re.ASCII)
_MAGIC = b"\x89ZSANN\r\n"
_FORMAT = 1
# As in FORMAT.md: magic, format, header_size, id, pid, flags, start_time, time_namespace, history, max_leases,
# type_hash, name, reserved.
_CONTENT = struct.Struct("<8sIIQIIQQII16s32s24x")
_RELIABLE, _BY_NAME, _VERIFY, _ANY_TYPE = 1, 2, 4, 8
_LOCK_BYTE = 0
_TO_CLEAN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
_TO_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_REFUSED_LIMIT = 512  # the newest ones count


class Request(NamedTuple):
    """What a subscription asks for. `type_hash`: empty for any type."""

    type_hash: bytes
    reliable: bool
    by_name: bool
    verify: bool
    history: int
    max_leases: int


@dataclass(frozen=True, slots=True)
class Announced:
    """An announcement of a living process. `refused`: the ids of the segments that this subscription does not read."""

    id: int
    path: Path
    request: Request
    pid: int
    start_time: int
    name: str
    refused: frozenset[int]


class Announcement:
    """The announcement of one subscriber of this process. `id` is 0 until it is published.

    Why an object before there is a file: if `publish` is interrupted, `withdraw` removes what it has made.

    Why the directories are not checked as for flinks: the subscriber uses the bell of the domain, for which the domain
    was checked. Below it only the user, or the group that shares the tree, can make anything.
    """

    def __init__(self, directory: Path, topic: str) -> None:
        """`directory`: that of the topic."""
        self.id = 0
        self._domain = str(directory).removesuffix(f"/{topic}")
        self._directory = directory
        self._path = ""
        self._pid = os.getpid()
        self._descriptor: Descriptor | None = None
        self._refused = 0

    def publish(self, request: Request, process: Identity) -> None:
        """Write the file, and create its directory if it is missing. Raises OSError; nothing is left then."""
        try:
            self._publish(request, process)
        except BaseException:
            self.withdraw()
            raise

    def _publish(self, request: Request, process: Identity) -> None:
        own_id = retry(self._create)
        content = _CONTENT.pack(
            _MAGIC,
            _FORMAT,
            _CONTENT.size,
            own_id,
            process.pid,
            _RELIABLE * request.reliable
            | _BY_NAME * request.by_name
            | _VERIFY * request.verify
            | _ANY_TYPE * (not request.type_hash),
            process.start_time,
            process.time_namespace,
            request.history,
            request.max_leases,
            request.type_hash,
            process.name.encode()[:32],
        )
        if self._descriptor is not None:  # a signal handler may have closed the subscriber
            os.pwrite(self._descriptor.fileno(), content, 0)
            self.id = own_id

    def _create(self) -> int:
        """Create the file and lock it; its id. FileNotFoundError: a cleaner was faster."""
        own_id = int.from_bytes(os.urandom(8), "little") or 1
        self._path = f"{self._directory}/.{own_id:016x}.sub"
        try:
            above = os.stat(self._directory)
        except FileNotFoundError:
            self._make_directory()
            above = os.stat(self._directory)
        try:
            descriptor = self._descriptor = _open_new(self._path)
        except PermissionError:
            raise access.permission_error(self._directory, above, "this process may not make a file in it") from None
        try:
            locked = descriptor.try_lock(_LOCK_BYTE)
            info = os.fstat(descriptor.fileno())
            if not locked or not info.st_nlink:
                raise FileNotFoundError(self._path)  # noqa: TRY301  # `retry` makes another one
            if access.is_shared(above):
                access.set_rights(descriptor.fileno(), info, 0o660, above.st_gid)
            else:
                access.set_rights(descriptor.fileno(), info, 0o600, None)
        except BaseException:
            descriptor.close()
            raise
        return own_id

    def _make_directory(self) -> None:
        """Create the topic's directory, and those between it and the domain's."""
        if access.is_shared(os.stat(self._domain)):
            open_directory(self._directory)  # which gives them the group's rights
            return
        missing = [str(self._directory)]
        while missing[-1] != self._domain:
            missing.append(os.path.dirname(missing[-1]))
        for path in reversed(missing[:-1]):
            with suppress(FileExistsError):
                os.mkdir(path, access.PRIVATE_DIRECTORY)
                os.chmod(path, access.PRIVATE_DIRECTORY)  # whatever the umask is

    def refuse(self, segment_id: int) -> None:
        """Say that this subscription does not read a segment, so that its publisher does not wait."""
        if self.id and self._descriptor is not None:
            at = _CONTENT.size + 8 * (self._refused % _REFUSED_LIMIT)
            with suppress(OSError):  # closed meanwhile, or a full /dev/shm
                os.pwrite(self._descriptor.fileno(), segment_id.to_bytes(8, "little"), at)
                self._refused += 1

    def withdraw(self) -> None:
        """Remove the file, and the directories above it that are empty then; again where `publish` has run meanwhile.
        In a forked child it does nothing.
        """
        if not self._path or self._pid != os.getpid():
            return
        with suppress(OSError):  # a process that may no longer remove it drops the lock, and a cleaner does the rest
            os.unlink(self._path)
        if self._descriptor is not None:
            self._descriptor.close()
        empty = str(self._directory)
        with suppress(OSError):  # not empty
            while empty != self._domain:
                with suppress(FileNotFoundError):
                    os.rmdir(empty)
                empty = os.path.dirname(empty)


def _open_new(path: str) -> Descriptor:
    return Descriptor.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)


def list_announcements(directory: Path) -> list[Path]:
    """The announcements of a topic, sorted, of the living and of the dead."""
    return sorted(directory / name for name in names_in(directory) if _NAME.fullmatch(name))


def is_announcement(name: str) -> bool:
    """Whether a file of a topic's directory is an announcement, by its name."""
    return _NAME.fullmatch(name) is not None


def announced_in(directory: Path) -> list[Announced]:
    """The living subscriptions that are announced for a topic."""
    return [found for found in map(read, list_announcements(directory)) if found is not None]


def read(path: Path) -> Announced | None:
    """An announcement of a living process. None: it does not exist, is not complete, its process is dead, or another
    user may have written it.
    """
    try:
        descriptor = Descriptor.open(str(path), _TO_READ)
    except OSError:
        return None
    with closing(descriptor):
        if not _is_sound(path, descriptor) or not descriptor.is_locked(_LOCK_BYTE):
            return None
        content = os.pread(descriptor.fileno(), _CONTENT.size + 8 * _REFUSED_LIMIT, 0)
    return _parse(path, content)


def _is_sound(path: Path, descriptor: Descriptor) -> bool:
    """Whether an announcement is a file of this user, or of the group that shares the tree."""
    info = os.fstat(descriptor.fileno())
    private = info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if stat.S_ISREG(info.st_mode) and private:
        return True
    try:
        access.check_file(path, info, sharing_group(path.parent))
    except OSError:
        return False
    return True


def _parse(path: Path, content: bytes) -> Announced | None:
    if len(content) < _CONTENT.size:
        return None
    magic, form, size, own_id, pid, flags, start_time, _, history, max_leases, type_hash, name = _CONTENT.unpack_from(
        content
    )
    if magic != _MAGIC or form != _FORMAT or not own_id or size < _CONTENT.size or path.name != f".{own_id:016x}.sub":
        return None
    request = Request(
        b"" if flags & _ANY_TYPE else type_hash,
        bool(flags & _RELIABLE),
        bool(flags & _BY_NAME),
        bool(flags & _VERIFY),
        history,
        max_leases,
    )
    refusals = content[size : size + max(len(content) - size, 0) // 8 * 8]
    refused = frozenset(each for (each,) in struct.iter_unpack("<Q", refusals))
    text = name.split(b"\0", 1)[0].decode("utf-8", "replace")
    return Announced(own_id, path, request, pid, start_time, text, refused)


def dead_in(directory: Path) -> list[Path]:
    """The announcements of dead processes. Nothing is changed."""
    dead = []
    for path in list_announcements(directory):
        with suppress(OSError), closing(Descriptor.open(str(path), _TO_READ)) as probe:
            if not probe.is_locked(_LOCK_BYTE):
                dead.append(path)
    return dead


def remove_dead(directory: Path) -> list[Path]:
    """Remove the announcements of dead processes; those that were removed."""
    removed: list[Path] = []
    for path in list_announcements(directory):
        # An error: it was withdrawn meanwhile, or belongs to another user.
        with suppress(OSError), closing(Descriptor.open(str(path), _TO_CLEAN)) as own:
            info = os.fstat(own.fileno())
            if own.try_lock(_LOCK_BYTE) and os.path.samestat(info, path.lstat()):
                path.unlink()
                removed.append(path)
    return removed


def waiting_info(each: Announced, stalled_s: float | None = None) -> WaitingInfo:
    """An announced subscription as a record."""
    return WaitingInfo(
        name=each.name,
        pid=each.pid,
        command=command_of(each.pid, each.start_time),
        stopped=is_stopped(each.pid, each.start_time),
        reliable=each.request.reliable,
        match="by_name" if each.request.by_name else "exact",
        history=each.request.history,
        max_leases=each.request.max_leases,
        type_hash=each.request.type_hash.hex(),
        refused=tuple(f"{segment_id:016x}" for segment_id in sorted(each.refused)),
        stalled_s=stalled_s,
    )
