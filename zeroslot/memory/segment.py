"""Segments as shared-memory objects: one control object that readers map writable, pools that they map read-only.

Creation, in this order: control object, lock on its byte 0, a look whether it still has its name; pools; contents;
`state`; the same look again. A cleaner that takes our half-made object for a dead one's removes the name, and the
caller starts over with another.

Why the memory is reserved and populated here: a full /dev/shm must be an error of the constructor and never a SIGBUS
later, and the first touch of a page costs fifty times a warm write.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import posix_ipc  # type: ignore[import-not-found]  # a C module without stubs

from zeroslot._core.binding import Descriptor, Region, Segment
from zeroslot.errors import CorruptSegmentError, FormatError, OutOfSharedMemoryError
from zeroslot.memory import access
from zeroslot.memory.access import Owner
from zeroslot.types.fields import round_up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zeroslot.qos import Qos

log = logging.getLogger("zeroslot")

STEP_BYTES = 16 * 1024 * 1024  # between two looks at signals
PREFAULT_BYTES = 64 * 1024 * 1024
SLOT_ALIGN = 128
HEADER_SIZE = 384
MAX_POOLS = 16
BYTES, TYPED = 0, 1
OPEN, SEALED, DEAD = 1, 2, 3
OWNER_BYTE = 0
CLEANER_BYTES = 2  # from the owner's byte on
_CONTROL_SIZE_AT = 16  # in the header
NO_REGULAR_FILE = (
    errno.ELOOP,
    errno.EISDIR,
    errno.ENXIO,
    errno.ENODEV,
)  # what is no regular file says so at the opening
_FIRST_PEER_BYTE = 64


def peer_byte(index: int) -> int:
    """The byte of the control object that the subscriber of this index locks."""
    return _FIRST_PEER_BYTE + index


def reopened(fd: int, flags: int) -> Descriptor:
    """Another description of the same file, which may have no name any more."""
    return Descriptor.open(f"/proc/self/fd/{fd}", flags)


def alive_among(probe: Descriptor, indexes: Iterable[int]) -> list[int]:
    """Those of the indexes whose subscriber lives: its byte is locked. `probe` is a description that never locks."""
    return [index for index in indexes if probe.is_locked(peer_byte(index))]


def dead_among(probe: Descriptor, indexes: Iterable[int]) -> list[int]:
    """Those of the indexes whose subscriber is dead."""
    return [index for index in indexes if not probe.is_locked(peer_byte(index))]


def is_owned(probe: Descriptor) -> bool:
    """Whether the segment's owner lives. `probe` holds no lock.

    An owner locks byte 0 alone. A cleaner locks bytes 0 and 1 in one call, which it cannot while the owner lives: a
    longer lock over byte 0 means that the owner is dead, also when the cleaner is stopped.
    """
    return probe.lock_length(OWNER_BYTE) == 1


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process says of itself in headers and in the peer table.

    `start_time` is in clock ticks since boot; `time_namespace` tells which processes have the same monotonic clock, 0
    where the system does not say.
    """

    pid: int
    start_time: int
    name: str
    time_namespace: int = 0


def pool_name(control_name: str, k: int) -> str:
    """The name of pool `k`."""
    return f"{control_name}-p{k}"


def segment_id_of(control_name: str) -> str:
    """The 16 hexadecimal digits of a control object's name."""
    return control_name.removeprefix("/zs-")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a new segment is for."""

    owner: Identity
    kind: int = BYTES
    type_hash: bytes = bytes(16)
    schema: bytes = b""
    first_sequence: int = 1


@dataclass(slots=True)
class OwnedSegment:
    """A segment that this process made. `fds` are the pools', kept only where the objects have no names.

    `lock` is the description that locks, `probe` the one that asks for locks, see zeroslot.memory.liveness.
    """

    segment: Segment
    lock: Descriptor
    probe: Descriptor
    control_name: str | None
    fds: list[Descriptor] = field(default_factory=list)

    def unlink(self) -> None:
        """Remove the objects' names, the control object's last."""
        if self.control_name is not None:
            for k in range(self.segment.pool_count):
                unlink(pool_name(self.control_name, k))
            unlink(self.control_name)


def unlink(name: str) -> None:
    """Remove a shared-memory object's name, if it is there. Raises PermissionError for another user's."""
    with suppress(FileNotFoundError):
        os.unlink(f"/dev/shm{name}")  # noqa: S108 (where POSIX shared memory is)


def pool_size(slot_count: int, slot_capacity: int) -> int:
    """Bytes of a pool; `slot_capacity` is rounded up to 128."""
    return slot_count * round_up(max(slot_capacity, 1), SLOT_ALIGN)


def control_size(qos: Qos, schema_size: int) -> int:
    """Bytes of a control object."""
    return Segment.control_size(
        depth=qos.depth, slot_limit=qos.slot_count, max_subscribers=qos.max_subscribers, schema_size=schema_size
    )


def new_name() -> str:
    """A name for a control object that nobody has."""
    return f"/zs-{os.urandom(8).hex()}"


def create(
    control_name: str, qos: Qos, slot_capacity: int, contents: Contents, *, mode: int = 0o600, group: int | None = None
) -> OwnedSegment | None:
    """Make a segment. It is open, and nobody knows it yet. None: somebody has removed the name; try another.

    Raises OutOfSharedMemoryError; nothing is left behind then.
    """
    lock = _new_object(control_name)
    if lock is None:
        return None
    pool_object = pool_name(control_name, 0)
    try:
        if not lock.try_lock(OWNER_BYTE) or not os.fstat(lock.fileno()).st_nlink:
            return None
        pool = _new_object(pool_object)
        if pool is None:
            unlink(control_name)
            return None
        probe = reopened(lock.fileno(), os.O_RDWR)
        segment_id = int(segment_id_of(control_name), 16)
        segment = _fill(probe, pool, qos, slot_capacity, contents, segment_id, mode, group)
        if not os.fstat(lock.fileno()).st_nlink:
            unlink(pool_object)
            return None
    except BaseException:
        unlink(pool_object)
        unlink(control_name)
        raise
    return OwnedSegment(segment, lock, probe, control_name)


def create_in_memory(qos: Qos, slot_capacity: int, contents: Contents) -> OwnedSegment:
    """Make a segment without names: for one process, and for its tests."""
    lock, pool = _opened_once(os.memfd_create("zeroslot")), _opened_once(os.memfd_create("zeroslot-p0"))
    probe = reopened(lock.fileno(), os.O_RDWR)
    lock.try_lock(OWNER_BYTE)
    segment = _fill(probe, pool, qos, slot_capacity, contents, int(os.urandom(8).hex(), 16), 0o600, None)
    return OwnedSegment(segment, lock, probe, None, [pool])


def _new_object(name: str) -> Descriptor | None:
    """Create an object. None: there is one of this name."""
    try:
        fd = int(posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600).fd)
    except posix_ipc.ExistentialError:
        return None
    except OSError as error:
        raise _numbered(error, name) from None
    try:
        return _opened_once(fd)
    except BaseException:
        unlink(name)
        raise


def _opened_once(fd: int) -> Descriptor:
    """A description of the file in the place of `fd`, which a child of another thread's fork may have by now."""
    try:
        os.fchmod(fd, 0o600)  # whatever the umask made of it
        return reopened(fd, os.O_RDWR)
    finally:
        os.close(fd)


def _numbered(error: OSError, name: str) -> OSError:
    """The error with its number and the object's name: posix_ipc says in words that descriptors have run out."""
    number = error.errno or (errno.EMFILE if "process" in str(error) else errno.ENFILE)
    return OSError(number, os.strerror(number), f"/dev/shm{name}")  # noqa: S108 (where POSIX shared memory is)


def _fill(
    control_through: Descriptor,
    pool_through: Descriptor,
    qos: Qos,
    slot_capacity: int,
    contents: Contents,
    segment_id: int,
    mode: int,
    group: int | None,
) -> Segment:
    capacity = round_up(max(slot_capacity, 1), SLOT_ALIGN)
    control_fd, pool_fd = control_through.fileno(), pool_through.fileno()
    sizes = {control_fd: control_size(qos, len(contents.schema)), pool_fd: pool_size(qos.slot_count, slot_capacity)}
    _check_room(control_fd, sum(sizes.values()))
    for fd, size in sizes.items():
        _reserve(fd, size, sum(sizes.values()))
        if group is not None:
            os.fchown(fd, -1, group)
        os.fchmod(fd, mode if fd == control_fd else mode & ~0o022)  # the umask has no say in this
    control = Region(control_through, sizes[control_fd], True)
    pool = Region(pool_through, sizes[pool_fd], True)
    for region in (control, pool):
        populate(region, region.size)
    who = contents.owner
    segment = Segment.create(
        control,
        segment_id=segment_id,
        type_hash=contents.type_hash,
        **qos.header(),
        first_sequence=contents.first_sequence,
        schema=contents.schema,
        owner_pid=who.pid,
        owner_start_time=who.start_time,
        created_realtime_ns=time.time_ns(),
        payload_kind=contents.kind,
        owner_name=who.name,
        time_namespace=who.time_namespace,
    )
    segment.add_pool(
        pool, first_slot=0, slot_capacity=capacity, slot_count=qos.slot_count, inode=os.fstat(pool_fd).st_ino
    )
    segment.open()
    return segment


def _check_room(fd: int, needed: int) -> None:
    free = _free_bytes(fd)
    if needed > free:
        raise _no_room(needed, free)


def _free_bytes(fd: int) -> int:
    info = os.fstatvfs(fd)
    # A tmpfs without a limit reports no blocks at all.
    return info.f_bavail * info.f_frsize if info.f_blocks else 2**63


def _no_room(needed: int, free: int) -> OutOfSharedMemoryError:
    return OutOfSharedMemoryError(
        f"this segment needs {needed} bytes of shared memory and {free} are free. Make depth, spare_slots or the "
        "sample smaller, remove what dead processes left (zeroslot gc), or enlarge /dev/shm (in a container: "
        "--shm-size)",
        needed_bytes=needed,
        free_bytes=free,
    )


def _reserve(fd: int, size: int, needed: int) -> None:
    """Give the object its size and its memory, in steps between which signals are noticed."""
    try:
        with access.naming(os.readlink(f"/proc/self/fd/{fd}")):
            for at in range(0, size, STEP_BYTES):
                os.posix_fallocate(fd, at, min(STEP_BYTES, size - at))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise _no_room(needed, _free_bytes(fd)) from None
        raise


def populate(region: Region, limit: int) -> None:
    """Map the first `limit` bytes now, in steps between which signals are noticed."""
    size = min(region.size, limit)
    for at in range(0, size, STEP_BYTES):
        region.populate(at, min(STEP_BYTES, size - at))


@dataclass(slots=True)
class AttachedControl:
    """The control object of a segment, mapped and checked. Its pools come with `map_pools`.

    `descriptor` is the description that locks, `probe` the one that asks for locks, see zeroslot.memory.liveness.
    """

    segment: Segment
    descriptor: Descriptor
    probe: Descriptor
    where: str
    control_name: str | None
    pool_fds: list[Descriptor] | None = None  # of a segment without names

    def owner_alive(self) -> bool:
        """Whether its owner's process lives."""
        return is_owned(self.probe)

    def look_again(self) -> None:
        """Raise CorruptSegmentError when the control object has been cut short. Called before it is read from, where
        system calls have gone by since the last look: what is missing is then an error and no SIGBUS.
        """
        _map_now(self.segment.control, self.probe.fileno(), self.segment.control.size, self.where)

    def map_pools(self) -> bool:
        """Map read-only, of the pools that the pool table names now, those that are not mapped yet. False: one has gone
        meanwhile.

        Another thread, or a signal handler, may do the same at the same time. Raises CorruptSegmentError when the pool
        table and the pools contradict each other.
        """
        self.look_again()
        for k in range(self.segment.pool_count, self.segment.facts()["pool_limit"]):
            capacity, first_slot, count, state, inode = self.segment.pool_facts(k)
            if state == 0:
                break
            pool = (
                reopened(self.pool_fds[k].fileno(), os.O_RDONLY)
                if self.pool_fds is not None
                else _open_object(pool_name(str(self.control_name), k), read_only=True)
            )
            if pool is None:
                return False
            try:
                self._map_pool(pool, k, capacity, first_slot, count, inode)
            finally:
                pool.close()
        if self.segment.pool_count == 0:
            raise CorruptSegmentError(f"{self.where} has no pool in its pool table", where=self.where)
        self.look_again()
        return True

    def _map_pool(self, pool: Descriptor, k: int, capacity: int, first_slot: int, count: int, inode: int) -> None:
        info = os.fstat(pool.fileno())
        size = info.st_size
        if self.control_name is not None:
            control = os.fstat(self.descriptor.fileno())
            access.check_object(pool_name(self.control_name, k), info, Owner(control.st_uid, control.st_gid))
        if inode not in (0, info.st_ino):
            raise CorruptSegmentError(
                f"{self.where}: another object has taken the name of its pool. Remove it",
                where=self.where,
                found=info.st_ino,
                expected=inode,
            )
        fits = capacity > 0 and capacity % SLOT_ALIGN == 0 and count > 0 and capacity * count == size
        if not fits or (self.segment.pool_count == k and first_slot != self.segment.slot_count):
            raise CorruptSegmentError(
                f"{self.where}: {count} slots of {capacity} bytes from slot {first_slot} on make no pool of "
                f"{size} bytes",
                where=self.where,
            )
        _check_memory(info, size, self.where)
        region = Region(pool, size, False)
        _map_now(region, pool.fileno(), PREFAULT_BYTES, self.where)
        try:
            self.segment.add_pool(region, first_slot=first_slot, slot_capacity=capacity, slot_count=count)
        except ValueError as error:
            raise CorruptSegmentError(f"{self.where}: {error}", where=self.where) from None


def attach_control(
    control_name: str, where: str, owner: Owner | None = None, *, read_only: bool = False
) -> AttachedControl | None:
    """Map a control object by name and check it. None: it is gone, or was never finished.

    `owner`: whom the objects have to belong to; None: this process's user. Raises FormatError, CorruptSegmentError, and
    PermissionError with the object, its owner and its mode.
    """
    descriptor = _open_object(control_name, read_only=read_only)
    if descriptor is None:
        return None
    info = os.fstat(descriptor.fileno())
    access.check_object(control_name, info, owner or Owner(os.geteuid(), info.st_gid))
    return _attached(descriptor, where, control_name, read_only)


def attach_unnamed(owned: OwnedSegment) -> AttachedControl:
    """Map the control object of a segment of this process through a description of its own."""
    attached = _attached(reopened(owned.probe.fileno(), os.O_RDWR), "this segment", owned.control_name, False)
    if attached is None:
        raise CorruptSegmentError("this segment is no longer open", where="this segment")
    if owned.control_name is None:
        attached.pool_fds = owned.fds
    return attached


def _attached(descriptor: Descriptor, where: str, control_name: str | None, read_only: bool) -> AttachedControl | None:
    fd = descriptor.fileno()
    info = os.fstat(fd)
    if info.st_size < HEADER_SIZE:
        return None
    claimed = int.from_bytes(os.pread(fd, 8, _CONTROL_SIZE_AT), "little")
    size = min(info.st_size, max(claimed, HEADER_SIZE))  # an object may be longer, and have holes there
    if claimed == 0 and info.st_blocks == 0:
        return None  # its creator has not reserved its memory yet
    _check_memory(info, size, where)
    probe = descriptor if read_only else reopened(fd, os.O_RDWR)
    region = Region(probe, size, not read_only)
    _map_now(region, fd, region.size, where)
    segment = Segment.attach(region, where)
    if segment is None:
        return None
    if control_name is not None and segment.facts()["segment_id"] != int(segment_id_of(control_name), 16):
        raise FormatError(
            f"{where} names {control_name}, which says that it is another segment. Remove the flink",
            where=where,
            found=segment.facts()["segment_id"],
            expected=int(segment_id_of(control_name), 16),
        )
    return AttachedControl(segment, descriptor, probe, where, control_name)


def _check_memory(info: os.stat_result, size: int, where: str) -> None:
    """Raise CorruptSegmentError for an object with holes: mapping its pages would give them memory, however much it
    claims. A creator reserves all of it.
    """
    if info.st_blocks * 512 < size:
        raise CorruptSegmentError(
            f"{where}: an object in /dev/shm claims {size} bytes and has {info.st_blocks * 512} in memory. Remove it "
            "and start its publisher again",
            where=where,
            found=info.st_blocks * 512,
            expected=size,
        )


def _map_now(region: Region, fd: int, limit: int, where: str) -> None:
    """Map the first `limit` bytes of an object that somebody else may cut short, before any of them is touched.

    Raises CorruptSegmentError where the object has fewer. The kernel tells while it maps (EFAULT instead of a SIGBUS);
    kernels before 5.14 do not, so the size is asked at the last moment as well.
    """
    if os.fstat(fd).st_size < region.size:
        raise _cut_short(where)
    try:
        populate(region, limit)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
        raise _cut_short(where) from None


def _cut_short(where: str) -> CorruptSegmentError:
    return CorruptSegmentError(
        f"{where} was cut short while it was attached: one of its objects in /dev/shm is smaller than it was. "
        "Start its publisher again",
        where=where,
    )


def _open_object(name: str, *, read_only: bool) -> Descriptor | None:
    """A description of an object that is there, or None.

    Why not posix_ipc: what lies under the name may be anything, and opening a pipe would wait for its other end.
    """
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = Descriptor.open(f"/dev/shm{name}", flags)  # noqa: S108 (where POSIX shared memory is)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise _denied(name) from None
    except OSError as error:
        if error.errno in NO_REGULAR_FILE:
            raise _no_object(name) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor.fileno()).st_mode):
        descriptor.close()
        raise _no_object(name)
    return descriptor


def _no_object(name: str) -> CorruptSegmentError:
    return CorruptSegmentError(
        f"{name} is no shared-memory object: something else has its name in /dev/shm. Remove it", where=name
    )


def _denied(name: str) -> PermissionError:
    try:
        info = os.stat(f"/dev/shm{name}")  # noqa: S108 (where POSIX shared memory is)
    except OSError:
        return PermissionError(f"the shared-memory object {name} may not be opened by uid {os.geteuid()}")
    return access.refusal(
        f"the shared-memory object {name}",
        info,
        "this process may not open it. Run both as one user, or share the topic with a group (mode=0o660)",
    )


def open_for_cleaning(control_name: str) -> Descriptor | None:
    """A description of a control object to lock; None: it is gone, or never was one. Its size and contents do not
    matter.
    """
    try:
        return _open_object(control_name, read_only=False)
    except CorruptSegmentError:
        return None


def exists(control_name: str) -> bool:
    """Whether a control object is there, or something else has its name."""
    return os.path.lexists(f"/dev/shm{control_name}")  # noqa: S108 (where POSIX shared memory is)


def objects_of(control_name: str) -> list[str]:
    """The names that objects of a segment may have, the control object's last."""
    return [*(pool_name(control_name, k) for k in range(MAX_POOLS)), control_name]


def unlink_all(control_name: str) -> bool:
    """Remove every object of a segment, the control object last. The caller has locked it as a cleaner does.

    False: they are another user's, and /dev/shm lets only that user and root remove them. They stay.
    """
    try:
        for name in objects_of(control_name):
            unlink(name)
    except PermissionError:
        return False
    return True
