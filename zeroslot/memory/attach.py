"""Attaching to a segment: its objects are mapped and checked before anything in them is used.

Any process may have written them, and may cut them short at any time. Sizes are compared with fstat, every page is
mapped before it is touched, and what remains wrong is an error and never a SIGBUS.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zeroslot._core.binding import CONTROL_SIZE_AT, HEADER_SIZE, OPEN, SLOT_ALIGN, Region, Segment
from zeroslot.errors import CorruptSegmentError, FormatError
from zeroslot.memory import access
from zeroslot.memory.access import Owner
from zeroslot.memory.liveness import is_owned
from zeroslot.memory.objects import open_object, pool_name, populate, reopen, segment_id_of

if TYPE_CHECKING:
    from zeroslot._core.binding import Descriptor, PoolInfo
    from zeroslot.memory.create import OwnedSegment

PREFAULT_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class AttachedControl:
    """The control object of a segment, mapped and checked. `map_pools` maps its pools.

    `descriptor` is the description that holds the locks, `probe` the one that probes them, see
    zeroslot.memory.liveness. `where` names the segment in error texts.
    """

    segment: Segment
    descriptor: Descriptor
    probe: Descriptor
    where: str
    control_name: str | None
    unnamed_pools: list[Descriptor] | None = None  # of a segment without names

    def owner_alive(self) -> bool:
        """Whether the owner's process is alive."""
        return is_owned(self.probe)

    def is_live(self) -> bool:
        """Whether samples may still come: the segment is open and its owner alive."""
        return self.segment.state == OPEN and self.owner_alive()

    def owned_by(self) -> tuple[int, int] | None:
        """The user and the group of the control object. None: it has no name."""
        if self.control_name is None:
            return None
        info = os.fstat(self.descriptor.fileno())
        return info.st_uid, info.st_gid

    def check_not_truncated(self) -> None:
        """Raise CorruptSegmentError when the control object has been cut short.

        Called before it is read, where system calls have run since the last check: missing pages are then an error
        and no SIGBUS.
        """
        _map_now(self.segment.control, self.probe.fileno(), self.segment.control.size, self.where)

    def map_pools(self) -> bool:
        """Map, read-only, the pools of the pool table that are not mapped yet. False: one of them no longer exists.

        Another thread, or a signal handler, may do the same at the same time. Raises CorruptSegmentError when the pool
        table and the pools contradict each other.
        """
        self.check_not_truncated()
        for k in range(self.segment.pool_count, self.segment.info.pool_limit):
            entry = self.segment.pool(k)
            if entry.state == 0:
                break
            pool = (
                reopen(self.unnamed_pools[k].fileno(), os.O_RDONLY)
                if self.unnamed_pools is not None
                else open_object(pool_name(str(self.control_name), k), read_only=True)
            )
            if pool is None:
                return False
            try:
                self._map_pool(pool, k, entry)
            finally:
                pool.close()
        if self.segment.pool_count == 0:
            raise CorruptSegmentError(f"{self.where} has no pool in its pool table", where=self.where)
        self.check_not_truncated()
        return True

    def _map_pool(self, pool: Descriptor, k: int, entry: PoolInfo) -> None:
        capacity, first_slot, count = entry.slot_capacity, entry.first_slot, entry.slot_count
        info = os.fstat(pool.fileno())
        size = info.st_size
        if self.control_name is not None:
            control = os.fstat(self.descriptor.fileno())
            access.check_object(pool_name(self.control_name, k), info, Owner(control.st_uid, control.st_gid))
        if entry.inode not in (0, info.st_ino):
            raise CorruptSegmentError(
                f"{self.where}: another object has taken the name of its pool. Remove it",
                where=self.where,
                found=info.st_ino,
                expected=entry.inode,
            )
        fits = capacity > 0 and capacity % SLOT_ALIGN == 0 and count > 0 and capacity * count == size
        if not fits or (self.segment.pool_count == k and first_slot != self.segment.slot_count):
            raise CorruptSegmentError(
                f"{self.where}: {count} slots of {capacity} bytes from slot {first_slot} on make no pool of "
                f"{size} bytes",
                where=self.where,
            )
        _check_no_holes(info, size, self.where)
        region = Region(pool, size, False)
        _map_now(region, pool.fileno(), PREFAULT_BYTES, self.where)
        try:
            self.segment.add_pool(region, first_slot=first_slot, slot_capacity=capacity, slot_count=count)
        except ValueError as error:
            raise CorruptSegmentError(f"{self.where}: {error}", where=self.where) from None


def attach_control(
    control_name: str, where: str, owner: Owner | None = None, *, read_only: bool = False
) -> AttachedControl | None:
    """Map a control object by name and check it. None: it does not exist, or was never completed.

    `owner`: the user and group that the objects must belong to; None: this process's user. Raises FormatError,
    CorruptSegmentError, and PermissionError with the object, its owner and its mode.
    """
    descriptor = open_object(control_name, read_only=read_only)
    if descriptor is None:
        return None
    info = os.fstat(descriptor.fileno())
    access.check_object(control_name, info, owner or Owner(os.geteuid(), info.st_gid))
    return _map_control(descriptor, where, control_name, read_only)


def attach_own(owned: OwnedSegment) -> AttachedControl:
    """Map the control object of a segment that this process created, through a description of its own."""
    attached = _map_control(reopen(owned.probe.fileno(), os.O_RDWR), "this segment", owned.control_name, False)
    if attached is None:
        raise CorruptSegmentError("this segment is no longer open", where="this segment")
    if owned.control_name is None:
        attached.unnamed_pools = owned.unnamed_pools
    return attached


def _map_control(
    descriptor: Descriptor, where: str, control_name: str | None, read_only: bool
) -> AttachedControl | None:
    fd = descriptor.fileno()
    info = os.fstat(fd)
    if info.st_size < HEADER_SIZE:
        return None
    stated = int.from_bytes(os.pread(fd, 8, CONTROL_SIZE_AT), "little")
    size = min(info.st_size, max(stated, HEADER_SIZE))  # an object may be longer, and have holes there
    if stated == 0 and info.st_blocks == 0:
        return None  # its creator has not reserved its memory yet
    _check_no_holes(info, size, where)
    probe = descriptor if read_only else reopen(fd, os.O_RDWR)
    region = Region(probe, size, not read_only)
    _map_now(region, fd, region.size, where)
    segment = Segment.attach(region, where)
    if segment is None:
        return None
    if control_name is not None and segment.info.segment_id != int(segment_id_of(control_name), 16):
        raise FormatError(
            f"{where} names {control_name}, which says that it is another segment. Remove the flink",
            where=where,
            found=segment.info.segment_id,
            expected=int(segment_id_of(control_name), 16),
        )
    return AttachedControl(segment, descriptor, probe, where, control_name)


def _check_no_holes(info: os.stat_result, size: int, where: str) -> None:
    """Raise CorruptSegmentError for an object with holes.

    A creator reserves all of an object. Mapping the pages of a hole would allocate them, however large it is.
    """
    if info.st_blocks * 512 < size:
        raise CorruptSegmentError(
            f"{where}: an object in /dev/shm has {size} bytes, and only {info.st_blocks * 512} of them in memory. "
            "Remove it and start its publisher again",
            where=where,
            found=info.st_blocks * 512,
            expected=size,
        )


def _map_now(region: Region, fd: int, limit: int, where: str) -> None:
    """Map the first `limit` bytes of an object, which another process may cut short, before any of them is touched.

    Raises CorruptSegmentError where the object has fewer. The kernel reports that while it maps (EFAULT instead of a
    SIGBUS); kernels before 5.14 do not, so the size is checked at the last moment as well.
    """
    if os.fstat(fd).st_size < region.size:
        raise _truncated(where)
    try:
        populate(region, limit)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
        raise _truncated(where) from None


def _truncated(where: str) -> CorruptSegmentError:
    return CorruptSegmentError(
        f"{where} was cut short while it was attached: one of its objects in /dev/shm is smaller than it was. "
        "Start its publisher again",
        where=where,
    )
