"""Creating a segment: one control object that readers map writable, and pools that they map read-only.

Order: the control object, a lock on its byte 0, a check that it still has its name; the pools; the contents; `state`;
the same check again. A cleaner may unlink a segment that is still being created; the caller then retries with another
name.

Why the memory is reserved and populated here: a full /dev/shm must be an error of the constructor and never a SIGBUS
later, and the first touch of a page costs fifty times a warm write.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zeroslot._core.binding import BYTES, OWNER_BYTE, SLOT_ALIGN, Region, Segment
from zeroslot.errors import OutOfSharedMemoryError
from zeroslot.memory import access, hugepages
from zeroslot.memory.objects import (
    STEP_BYTES,
    create_object,
    pool_name,
    populate,
    reopen,
    replace_descriptor,
    segment_id_of,
    unlink,
)
from zeroslot.types.nodes.base import round_up

if TYPE_CHECKING:
    from zeroslot._core.binding import Descriptor
    from zeroslot.memory.processes import Identity
    from zeroslot.qos import Qos


@dataclass(frozen=True, slots=True)
class Contents:
    """What a new segment carries, and its owner."""

    owner: Identity
    kind: int = BYTES
    type_hash: bytes = bytes(16)
    schema: bytes = b""
    first_sequence: int = 1


@dataclass(slots=True)
class OwnedSegment:
    """A segment that this process created.

    `lock` is the description that holds the locks, `probe` the one that probes them, see zeroslot.memory.liveness.
    `unnamed_pools` are the pools of a segment without names.
    """

    segment: Segment
    lock: Descriptor
    probe: Descriptor
    control_name: str | None
    unnamed_pools: list[Descriptor] = field(default_factory=list)

    def unlink(self) -> None:
        """Remove the objects' names, the control object's last."""
        if self.control_name is not None:
            for k in range(self.segment.pool_count):
                unlink(pool_name(self.control_name, k))
            unlink(self.control_name)


def pool_size(slot_count: int, slot_capacity: int) -> int:
    """Bytes of a pool; `slot_capacity` is rounded up to 128."""
    return slot_count * round_up(max(slot_capacity, 1), SLOT_ALIGN)


def control_size(qos: Qos, schema_size: int) -> int:
    """Bytes of a control object."""
    return Segment.control_size(qos.config(), schema_size)


def create_segment(
    control_name: str, qos: Qos, slot_capacity: int, contents: Contents, *, mode: int = 0o600, group: int | None = None
) -> OwnedSegment | None:
    """Create a segment, which is open and has no flink yet. None: its name is taken or was removed; try another.

    Raises OutOfSharedMemoryError; nothing is left behind then.
    """
    lock = create_object(control_name)
    if lock is None:
        return None
    pool_object = pool_name(control_name, 0)
    try:
        if not lock.try_lock(OWNER_BYTE) or not os.fstat(lock.fileno()).st_nlink:
            return None
        pool = create_object(pool_object)
        if pool is None:
            unlink(control_name)
            return None
        probe = reopen(lock.fileno(), os.O_RDWR)
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
    """Create a segment without names: for one process, and for its tests."""
    lock = replace_descriptor(os.memfd_create("zeroslot"))
    pool = replace_descriptor(os.memfd_create("zeroslot-p0"))
    probe = reopen(lock.fileno(), os.O_RDWR)
    lock.try_lock(OWNER_BYTE)
    segment = _fill(probe, pool, qos, slot_capacity, contents, int(os.urandom(8).hex(), 16), 0o600, None)
    return OwnedSegment(segment, lock, probe, None, [pool])


def _fill(
    control_object: Descriptor,
    pool_object: Descriptor,
    qos: Qos,
    slot_capacity: int,
    contents: Contents,
    segment_id: int,
    mode: int,
    group: int | None,
) -> Segment:
    """Reserve, map and write a segment's objects, and open it."""
    capacity = round_up(max(slot_capacity, 1), SLOT_ALIGN)
    control_fd, pool_fd = control_object.fileno(), pool_object.fileno()
    sizes = {control_fd: control_size(qos, len(contents.schema)), pool_fd: pool_size(qos.slot_count, slot_capacity)}
    _check_room(control_fd, sum(sizes.values()))
    if qos.hugepages:
        hugepages.allocate(pool_object, sizes[pool_fd])
    for fd, size in sizes.items():
        _reserve(fd, size, sum(sizes.values()))
        if group is not None:
            os.fchown(fd, -1, group)
        os.fchmod(fd, mode if fd == control_fd else mode & ~0o022)  # whatever the umask is
    control = Region(control_object, sizes[control_fd], True)
    pool = Region(pool_object, sizes[pool_fd], True)
    for region in (control, pool):
        populate(region, region.size)
    if qos.hugepages:
        hugepages.collapse(pool)
    owner = contents.owner
    config = qos.config()._replace(
        segment_id=segment_id,
        type_hash=contents.type_hash,
        first_sequence=contents.first_sequence,
        owner_pid=owner.pid,
        owner_start_time=owner.start_time,
        owner_name=owner.name,
        created_realtime_ns=time.time_ns(),
        payload_kind=contents.kind,
        time_namespace=owner.time_namespace,
    )
    segment = Segment.create(control, config, contents.schema)
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
    """Give an object its size and its memory, in steps between which signals are handled."""
    try:
        with access.naming_file(os.readlink(f"/proc/self/fd/{fd}")):
            for at in range(0, size, STEP_BYTES):
                os.posix_fallocate(fd, at, min(STEP_BYTES, size - at))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise _no_room(needed, _free_bytes(fd)) from None
        raise
