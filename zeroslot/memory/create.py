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
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zeroslot._core.binding import BYTES, OWNER_BYTE, Region, Segment
from zeroslot.arguments import whole_number
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

if TYPE_CHECKING:
    from zeroslot._core.binding import Descriptor
    from zeroslot.memory.processes import Identity
    from zeroslot.qos import Pool, Qos


@dataclass(frozen=True, slots=True)
class Contents:
    """What a new segment carries, and its owner."""

    owner: Identity
    kind: int = BYTES
    type_hash: bytes = bytes(16)
    schema: bytes = b""
    first_sequence: int = 1
    root: tuple[int, int] = (0, 0)  # see zeroslot.memory.directories.root_identity

    def __post_init__(self) -> None:
        whole_number("first_sequence", self.first_sequence, 1, 2**62 - 1)


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
            _unlink(self.control_name, self.segment.pool_count)


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
    pools = qos.pools_of(slot_capacity)
    try:
        if not lock.try_lock(OWNER_BYTE) or not os.fstat(lock.fileno()).st_nlink:
            return None
        pool_objects: list[Descriptor] = []
        for k in range(len(pools)):
            pool = create_object(pool_name(control_name, k))
            if pool is None:
                _unlink(control_name, k)
                return None
            pool_objects.append(pool)
        probe = reopen(lock.fileno(), os.O_RDWR)
        segment_id = int(segment_id_of(control_name), 16)
        segment = _fill(probe, pool_objects, qos, pools, contents, segment_id, mode, group)
        if not os.fstat(lock.fileno()).st_nlink:
            _unlink(control_name, len(pools))
            return None
    except BaseException:
        _unlink(control_name, len(pools))
        raise
    return OwnedSegment(segment, lock, probe, control_name)


def _unlink(control_name: str, pool_count: int) -> None:
    """Remove the names of a segment and of its first pools, the control object's last."""
    for k in range(pool_count):
        unlink(pool_name(control_name, k))
    unlink(control_name)


def create_in_memory(qos: Qos, slot_capacity: int, contents: Contents) -> OwnedSegment:
    """Create a segment without names: for one process, and for its tests."""
    lock = replace_descriptor(os.memfd_create("zeroslot"))
    pools = qos.pools_of(slot_capacity)
    objects = [replace_descriptor(os.memfd_create(f"zeroslot-p{k}")) for k in range(len(pools))]
    probe = reopen(lock.fileno(), os.O_RDWR)
    lock.try_lock(OWNER_BYTE)
    segment = _fill(probe, objects, qos, pools, contents, int(os.urandom(8).hex(), 16), 0o600, None)
    return OwnedSegment(segment, lock, probe, None, objects)


def _fill(
    control_object: Descriptor,
    pool_objects: list[Descriptor],
    qos: Qos,
    pools: tuple[Pool, ...],
    contents: Contents,
    segment_id: int,
    mode: int,
    group: int | None,
) -> Segment:
    """Reserve, map and write a segment's objects, and open it."""
    size = control_size(qos, len(contents.schema))
    needed = size + sum(pool.size_bytes for pool in pools)
    _check_room(control_object.fileno(), needed)
    control = _allocate(control_object, size, needed, mode, group)
    regions = [
        _allocate(pool_object, pool.size_bytes, needed, mode & ~0o022, group, huge=qos.hugepages)
        for pool_object, pool in zip(pool_objects, pools, strict=True)
    ]
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
        root_device=contents.root[0],
        root_inode=contents.root[1],
    )
    segment = Segment.create(control, config, contents.schema)
    for region, pool, pool_object in zip(regions, pools, pool_objects, strict=True):
        _describe(segment, region, pool, pool_object)
    segment.open()
    return segment


def _allocate(
    shared: Descriptor, size: int, needed: int, mode: int, group: int | None, *, huge: bool = False
) -> Region:
    """Give an object its size, its memory, its group and its mode, and map it. `needed`: all bytes, for the error."""
    if huge:
        hugepages.allocate(shared, size)
    _reserve(shared.fileno(), size, needed)
    if group is not None:
        os.fchown(shared.fileno(), -1, group)
    os.fchmod(shared.fileno(), mode)  # whatever the umask is
    region = Region(shared, size, True)
    populate(region, size)
    if huge:
        hugepages.collapse(region)
    return region


def _describe(segment: Segment, region: Region, pool: Pool, pool_object: Descriptor) -> None:
    """Add a pool to the pool table."""
    segment.add_pool(
        region,
        first_slot=segment.slot_count,
        slot_capacity=pool.slot_capacity,
        slot_count=pool.slot_count,
        inode=os.fstat(pool_object.fileno()).st_ino,
    )


def add_pool(owned: OwnedSegment, pool: Pool, *, huge: bool = False) -> None:
    """Create a pool for a segment that is in use, and add it to the pool table as the last step.

    A process that dies before that leaves an object that belongs to no pool: its name is one of the segment's, so a
    cleaner removes it. Raises OutOfSharedMemoryError with the bytes of all pools; nothing is left behind then.
    """
    segment, k = owned.segment, owned.segment.pool_count
    control = os.fstat(owned.probe.fileno())
    mode, group = stat.S_IMODE(control.st_mode) & ~0o022, control.st_gid
    needed = segment.control.size + sum(region.size for region in segment.pool_regions) + pool.size_bytes
    name = pool_name(str(owned.control_name), k) if owned.control_name is not None else None
    try:
        _check_room(owned.probe.fileno(), pool.size_bytes, needed)
        pool_object = _new_pool_object(name, k)
        region = _allocate(pool_object, pool.size_bytes, needed, mode, group, huge=huge)
        if name is None:
            owned.unnamed_pools[k:] = [pool_object]
        _describe(segment, region, pool, pool_object)
    except BaseException:
        if name is not None and segment.pool_count == k:  # else the interruption came after the pool was added
            unlink(name)
        raise


def _new_pool_object(name: str | None, k: int) -> Descriptor:
    if name is None:
        return replace_descriptor(os.memfd_create(f"zeroslot-p{k}"))
    made = create_object(name)
    if made is None:  # what an interrupted growth of this process left
        unlink(name)
        made = create_object(name)
    if made is None:
        raise FileExistsError(errno.EEXIST, "another process has taken the name of a new pool", name)
    return made


def _check_room(fd: int, missing: int, needed: int | None = None) -> None:
    """Raise OutOfSharedMemoryError when fewer than `missing` bytes are free. `needed`: those of the whole segment."""
    free = _free_bytes(fd)
    if missing > free:
        raise _no_room(missing if needed is None else needed, free)


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
