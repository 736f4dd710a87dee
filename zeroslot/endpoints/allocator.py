"""`SlotAllocator`: the untyped owner of a segment. It publishes bytes in slots; readers read them in place.

Why no lock is shared with other processes: the slots belong to one process, and a reader changes one bit of a slot.

Why the default depth is half the slots: of n slots some keep samples, some are written, some are read.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zeroslot._core.binding import SEALED, SLOT_LIMIT, AllocatorEnd, Owner, direct_methods
from zeroslot.arguments import PRIVATE, checked_mode, checked_name, whole_number
from zeroslot.endpoints.awaiting import Awaiting
from zeroslot.endpoints.handle import close_at_exit
from zeroslot.endpoints.pressure import Pressure
from zeroslot.endpoints.reader import SlotReader
from zeroslot.errors import ClosedError, MismatchError, OutOfSharedMemoryError, OwnerGoneError
from zeroslot.info import PoolInfo
from zeroslot.memory import create, flink, hugepages, liveness, objects
from zeroslot.memory.attach import attach_own
from zeroslot.memory.cleanup import sweep_flink
from zeroslot.memory.create import Contents
from zeroslot.memory.directories import group_to_share_with, root_identity
from zeroslot.memory.flink import checked_path
from zeroslot.memory.peers import pools_of
from zeroslot.memory.processes import identity
from zeroslot.qos import PAYLOAD_LIMIT, OnFull, Pool, Qos, checked_capacity, checked_pools, pool_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from zeroslot.info import SubscriberInfo
    from zeroslot.memory.create import OwnedSegment

log = logging.getLogger("zeroslot")

_TRIES = 100


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """The shared memory that a segment takes, in bytes. `slot_capacity` is that of the largest slots."""

    control_bytes: int
    pool_bytes: int
    slot_capacity: int
    pools: tuple[PoolInfo, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Both kinds of object together."""
        return self.control_bytes + self.pool_bytes


def _size(control_bytes: int, pools: tuple[PoolInfo, ...]) -> SegmentSize:
    total = sum(pool.size_bytes for pool in pools)
    return SegmentSize(control_bytes, total, max((pool.slot_capacity for pool in pools), default=0), pools)


class _Slots(NamedTuple):
    """What an untyped segment is asked to have: `slot_count` slots of `slot_capacity` bytes, or `pools`."""

    slot_count: int | None
    slot_capacity: int | None
    pools: Iterable[tuple[int, int]] | None = None
    depth: int | None = None
    max_loans: int | None = None

    def qos(
        self, max_subscribers: int, on_full: OnFull, *, hugepages: bool = False, grow: bool = False
    ) -> tuple[Qos, int, int]:
        """The options, how many loans may be out (by default all slots), and the capacity where there are no pools."""
        capacity, depth, max_loans = 1, self.depth, self.max_loans
        pools: tuple[Pool, ...] = ()
        asked = list(pool_pairs(self.pools)) if self.pools is not None else None
        if asked is None:
            slot_count = whole_number("slot_count", _given("slot_count", self.slot_count), 2, SLOT_LIMIT)
            capacity = checked_capacity("slot_capacity", _given("slot_capacity", self.slot_capacity))
            depth = slot_count // 2 if depth is None else whole_number("depth", depth, 1, slot_count - 1)
        elif self.slot_count is not None or self.slot_capacity is not None:
            raise TypeError("give slot_count and slot_capacity, or pools in their place")
        else:
            slot_count = min(pool.slot_count for pool in checked_pools(asked, 1, 1))
            depth = slot_count // 2 if depth is None else whole_number("depth", depth, 1, SLOT_LIMIT - 1)
            pools = checked_pools(asked, depth, 1 if max_loans is None else max_loans)
        left = slot_count - depth
        kept = min(left, depth) if on_full != "evict" else left
        loans = kept if max_loans is None else whole_number("max_loans", max_loans, 1, left)
        qos = Qos(depth, loans, left - loans, max_subscribers, on_full, hugepages=hugepages, pools=pools, grow=grow)
        unbounded = SLOT_LIMIT if grow else qos.slot_count
        return qos, max_loans if max_loans is not None else (unbounded if on_full == "evict" else loans), capacity


def _given(name: str, value: int | None) -> int:
    if value is None:
        raise TypeError(f"{name} is missing: give slot_count and slot_capacity, or pools in their place")
    return value


@direct_methods
class SlotAllocator(AllocatorEnd):
    """The owner of a segment of slots: reserve one, fill it, commit it.

    Threads may share it. A context manager; `close` seals the segment, so readers take what is there and know that no
    more comes.

    >>> with SlotAllocator.in_memory(slot_count=8, slot_capacity=1024) as slots:
    ...     reader = slots.reader()
    ...     slot = slots.reserve()
    ...     memoryview(slot)[:5] = b"hello"
    ...     sequence = slots.commit(slot, 5)
    ...     bytes(reader.take())
    b'hello'
    """

    is_owner = True

    def __init__(self, owned: OwnedSegment, qos: Qos, max_loans: int, flink_path: Path | None, topic: str) -> None:
        """Use `create` or `in_memory`."""
        native = Owner(owned.segment, owned.lock, max_loans, qos.reserve_slots, qos.crc, qos.metadata)
        super().__init__(native, topic)
        self._qos = qos
        self.flink = flink_path
        self._topic = topic
        self._pressure = Pressure(self.native, topic)
        self.evict_after = qos.evict_after
        self.on_subscriber_death: Callable[[SubscriberInfo], None] | None = None
        self._max_bytes: int | None = None
        self._growing = threading.RLock()
        self._owned = owned  # last: `close` does nothing before this is set
        close_at_exit(self)

    @classmethod
    def create(
        cls,
        flink: str | os.PathLike[str],
        slot_count: int | None = None,
        slot_capacity: int | None = None,
        *,
        pools: Iterable[tuple[int, int]] | None = None,
        depth: int | None = None,
        max_loans: int | None = None,
        max_subscribers: int = 64,
        on_full: OnFull = "evict",
        mode: int = PRIVATE,
        name: str | None = None,
        first_sequence: int = 1,
        force: bool = False,
        hugepages: bool = False,
        grow: bool = False,
        max_bytes: int | None = None,
    ) -> SlotAllocator:
        """Create a segment that readers find through the file `flink`.

        `slot_capacity` is in bytes and rounded up to 128. In place of `slot_count` and `slot_capacity`, `pools` gives
        size classes: pairs of (slot capacity, slot count). A sample gets a slot of the smallest class that it fits, or
        of the next larger one where that has none free. Each class needs depth + max_loans slots. The newest
        `depth` samples (default: half the slots) can always be taken. What a dead owner left under this flink is
        removed first. Raises FileExistsError when a live owner has it, unless `force` takes the flink away from it
        (readers of the old segment go on reading it), OutOfSharedMemoryError when /dev/shm is too small.

        `mode` is 0o600, or 0o660 to share the segment with the group of the flink's directory, which has mode 2770;
        PermissionError where it is not shared. `hugepages`: pages of 2 MiB for the slots, see `huge_bytes`.

        `grow`: `reserve` adds a pool of larger slots for a size that fits none, up to `max_bytes` where it is given,
        and `add_pool` works. There is room for 16 pools.
        """
        path = checked_path(flink)
        slots = _Slots(slot_count, slot_capacity, pools, depth, max_loans)
        name = checked_name(name)
        qos, limit, capacity = slots.qos(max_subscribers, on_full, hugepages=hugepages, grow=grow)
        bound = checked_max_bytes(max_bytes, grow=grow)
        contents = Contents(identity(name), first_sequence=first_sequence, root=root_identity())
        if sweep_flink(path) and not force:
            raise FileExistsError(f"{path} is the flink of a live segment. Close its owner, or use another path")
        made = cls._create(qos, limit, capacity, contents, lambda _: path, mode=mode, topic=str(path), force=force)
        made._max_bytes = bound
        return made

    @classmethod
    def _create(
        cls,
        qos: Qos,
        max_loans: int,
        slot_capacity: int,
        contents: Contents,
        flink_of: Callable[[str], Path],
        *,
        mode: int,
        topic: str,
        force: bool = False,
    ) -> SlotAllocator:
        """Announce the flink, create the segment, then publish the flink.

        `flink_of` gives the flink's path for the name of the control object.
        """
        checked_mode(mode)
        group = group_to_share_with(flink_of(objects.new_name()).parent, mode)
        for _ in range(_TRIES):
            control_name = objects.new_name()
            path = flink_of(control_name)
            try:
                flink.create_marker(path, control_name, mode & 0o640, group)
                made = create.create_segment(control_name, qos, slot_capacity, contents, mode=mode, group=group)
                if made is not None:
                    flink.publish_flink(path, control_name, mode & 0o640, group, replace=force)
                    return cls(made, qos, max_loans, path, topic)
            except BaseException:
                # By name: the call that was interrupted may have created the objects without returning them.
                flink.withdraw_flink(path, control_name)
                objects.unlink_all(control_name)
                raise
            finally:
                flink.remove_marker(path, control_name)
        raise OSError("the names of new segments vanish as often as they are created: is something cleaning /dev/shm?")

    @classmethod
    def create_or_attach(
        cls,
        flink: str | os.PathLike[str],
        slot_count: int | None = None,
        slot_capacity: int | None = None,
        **options: Any,
    ) -> SlotAllocator | SlotReader:
        """Create the segment, or read the live one that is there. `is_owner` says which.

        Raises MismatchError when the live one has other slots. `options` are those of `create`.
        """
        try:
            return cls.create(flink, slot_count, slot_capacity, **options)
        except FileExistsError:
            reader = SlotReader.attach(flink)
        counts = {name: options.get(name) for name in ("pools", "depth", "max_loans")}
        qos, _, capacity = _Slots(slot_count, slot_capacity, **counts).qos(64, "evict")
        wanted = qos.pools_of(capacity)
        found = [(pool.slot_capacity, pool.slot_count) for pool in reader.pools[: len(wanted)]]
        if found != list(wanted) or (len(reader.pools) > len(wanted) and not options.get("grow")):
            reader.close()
            raise MismatchError(
                f"{flink} has {_describe(reader.pools)}, not {_describe(wanted)}. Give the same, or use another path",
                topic=str(flink),
            )
        return reader

    @classmethod
    def in_memory(
        cls,
        slot_count: int | None = None,
        slot_capacity: int | None = None,
        *,
        pools: Iterable[tuple[int, int]] | None = None,
        depth: int | None = None,
        max_loans: int | None = None,
        max_subscribers: int = 64,
        on_full: OnFull = "evict",
        first_sequence: int = 1,
        hugepages: bool = False,
        grow: bool = False,
        max_bytes: int | None = None,
    ) -> SlotAllocator:
        """A segment without a name, for one process: the same code and the same protections, nothing to clean up."""
        slots = _Slots(slot_count, slot_capacity, pools, depth, max_loans)
        qos, limit, capacity = slots.qos(max_subscribers, on_full, hugepages=hugepages, grow=grow)
        bound = checked_max_bytes(max_bytes, grow=grow)
        contents = Contents(identity(None), first_sequence=first_sequence)
        made = cls(create.create_in_memory(qos, capacity, contents), qos, limit, None, "this segment")
        made._max_bytes = bound
        return made

    @staticmethod
    def size_of(
        slot_count: int | None = None,
        slot_capacity: int | None = None,
        *,
        pools: Iterable[tuple[int, int]] | None = None,
        depth: int | None = None,
        max_subscribers: int = 64,
        grow: bool = False,
    ) -> SegmentSize:
        """What `create` with these counts would take, without creating anything. With `grow`: before it grows."""
        qos, _, capacity = _Slots(slot_count, slot_capacity, pools, depth).qos(max_subscribers, "evict", grow=grow)
        classes = tuple(PoolInfo(*pool) for pool in qos.pools_of(capacity))
        return _size(create.control_size(qos, 0), classes)

    @property
    def slot_count(self) -> int:
        """All slots: those that hold samples, are loaned, are read, or are free."""
        return self.native.segment.slot_count

    @property
    def slot_capacity(self) -> int:
        """Bytes of payload that the largest slots take."""
        return self.native.segment.slot_capacity

    @property
    def pools(self) -> list[PoolInfo]:
        """The pools, in the order in which they were added, with what they were used for until now."""
        self.native.check_process()
        return list(pools_of(self.native.segment))

    def add_pool(self, slot_capacity: int, slot_count: int | None = None) -> None:
        """Add a pool of slots of `slot_capacity` bytes, rounded up to 128, while readers and subscribers are attached.

        `slot_count`: by default as many as the smallest class has, and at least depth + max_loans where no other pool
        has slots of that capacity. A reader maps the pool when it meets a sample in it; what was taken before stays
        where it is.

        Raises ValueError for counts that do not fit and for a segment without `grow=True`, OutOfSharedMemoryError when
        /dev/shm is too small, both with the bytes of the whole segment, and ClosedError after `unlink`.
        """
        self.native.check_open()
        with self._growing:
            self._add_pool(slot_capacity, self._qos.class_slots if slot_count is None else slot_count)

    def _add_pool(self, slot_capacity: int, slot_count: int) -> None:
        self.native.use_pools()  # one that an interrupted call has added
        segment, qos = self.native.segment, self._qos
        pool = Pool(
            checked_capacity("slot_capacity", slot_capacity), whole_number("slot_count", slot_count, 1, SLOT_LIMIT)
        )
        known = {capacity + qos.metadata_bytes for capacity in self.native.capacities}  # of private memory
        least = qos.depth + qos.max_loans
        if pool.slot_capacity not in known and pool.slot_count < least:
            raise ValueError(
                f"a pool of {pool.slot_capacity} bytes with {pool.slot_count} slots: it needs at least {least}, "
                f"because depth is {qos.depth} and max_loans {qos.max_loans}, and no other pool has slots of that size"
            )
        left = segment.info.slot_limit - segment.slot_count
        if segment.pool_count >= segment.info.pool_limit or pool.slot_count > left:
            hint = "" if qos.grow else ". Create it with grow=True"
            raise ValueError(
                f"{self._topic}: no room for another pool of {pool.slot_count} slots: {segment.pool_count} of "
                f"{segment.info.pool_limit} pools and {segment.slot_count} of {segment.info.slot_limit} slots are "
                f"there, {self.size.total_bytes} bytes in total{hint}"
            )
        if os.fstat(self._owned.lock.fileno()).st_nlink == 0 and self.flink is not None:
            raise ClosedError(f"{self._topic}: its names have been removed, so readers would not find another pool")
        create.add_pool(self._owned, pool, huge=qos.hugepages)
        self.native.use_pools()
        log.info("%s: added a pool of %d slots of %d bytes", self._topic, pool.slot_count, pool.slot_capacity)

    def _add_pool_for(self, size: int) -> None:
        """Add a pool with slots for `size` bytes, which fit no slot. Raises SampleTooLargeError.

        Why slots of twice the size of the largest ones: 16 pools have to suffice.
        """
        with self._growing:
            self.native.use_pools()
            segment, qos = self.native.segment, self._qos
            largest = segment.slot_capacity - qos.metadata_bytes
            if size <= largest:
                return  # another thread was faster
            total = self.size.total_bytes
            if not qos.grow:
                raise self.native.too_large(size, "Create the segment with larger slots", total)
            bound = PAYLOAD_LIMIT if self._max_bytes is None else self._max_bytes
            if size > bound:
                raise self.native.too_large(size, f"It may grow for samples of up to max_bytes={bound}", total)
            left = segment.info.pool_limit - segment.pool_count
            if left == 0 or segment.info.slot_limit - segment.slot_count < qos.class_slots:
                raise self.native.too_large(size, "It has as many pools or slots as it can have", total)
            wanted = bound if left == 1 and self._max_bytes is not None else max(_power_of_two(size), 2 * largest)
            try:
                self._add_pool(min(wanted, bound) + qos.metadata_bytes, qos.class_slots)
            except OutOfSharedMemoryError:
                if wanted <= size:
                    raise
                self._add_pool(size + qos.metadata_bytes, qos.class_slots)

    def _beyond_max_bytes(self, size: int, max_bytes: int) -> Exception:
        advice = "Create the publisher with a larger max_bytes"
        return self.native.too_large(size, advice, self.size.total_bytes, max_bytes)

    @property
    def depth(self) -> int:
        """How many of the newest samples can always be taken."""
        return self._qos.depth

    @property
    def free_count(self) -> int:
        """Slots that could be reserved now."""
        self.native.check_process()
        return self.native.free_count

    @property
    def loan_count(self) -> int:
        """Slots that are reserved now."""
        self.native.check_process()
        return self.native.loans_out

    @property
    def max_loans(self) -> int:
        """How many may be reserved at once."""
        return self.native.max_loans

    @property
    def size(self) -> SegmentSize:
        """The shared memory this segment takes."""
        segment = self.native.segment
        return _size(segment.control.size, pools_of(segment))

    @property
    def huge_bytes(self) -> int:
        """How many bytes of the slots this process has mapped as huge pages. 0 without `hugepages=True`, and where the
        system has none: a warning is logged then, once a process.
        """
        return hugepages.huge_bytes(self.native.segment.pool_regions) if self._qos.hugepages else 0

    @property
    def stats(self) -> dict[str, int]:
        """The owner's counters since creation: samples, bytes, what failed, what was reaped."""
        self.native.check_process()
        return self.native.segment.counters()._asdict()

    @property
    def closed(self) -> bool:
        """Whether `close` was called. One that was interrupted may not be finished yet."""
        return self.native.closed

    def reader(
        self, *, history: int = 0, max_leases: int | None = None, reliable: bool = False, name: str | None = None
    ) -> SlotReader:
        """Read this segment in this process."""
        self.native.check_open()
        attached = attach_own(self._owned)
        if not attached.map_pools():
            raise OwnerGoneError(
                f"{self._topic} has lost its pools: something has removed them from /dev/shm",
                topic=self._topic,
                owner_pid=os.getpid(),
            )
        return SlotReader._join(attached, history=history, max_leases=max_leases, reliable=reliable, name=name)

    def subscriber_indexes(self) -> list[int]:
        """The indexes of the subscribers that are attached and alive."""
        self.native.check_open()
        try:
            return liveness.live_peers(self.native.segment, self._owned.probe)
        except OSError:
            self.native.check_open()  # another thread has closed the allocator meanwhile
            raise

    def _wait_for_announced(self, directory: Path) -> None:
        """Wait for the reliable subscriptions that are announced in a topic's directory as for subscribers that have
        taken nothing. The flink exists, and nothing is published yet.
        """
        awaiting = Awaiting(self.native, self._topic, directory)
        awaiting.begin()
        self._pressure.awaiting = awaiting

    def reap(self) -> int:
        """Clear what dead subscribers left; returns how many. `reserve` does this by itself when no slot is free.

        `on_subscriber_death`, where one is set, is called for each, in this thread.
        """
        self.native.check_open()
        callback = self.on_subscriber_death
        try:
            dead = liveness.dead_peers(self.native.segment, self._owned.probe)
            records = [self._pressure.subscriber(index) for index in dead] if callback is not None else []
            count = liveness.reap(self.native.segment, self._owned.lock, dead) if dead else 0
        except OSError:
            self.native.check_open()  # another thread has closed the allocator meanwhile
            raise
        if count:
            self.native.segment.count_reaped(count)
            log.info("%s: cleared %d dead subscribers", self._topic, count)
        if callback is not None:
            for record in records:
                callback(record)
        return count

    def evict_stale(self, max_age: float) -> int:
        """Evict every subscriber that has stalled for `max_age` seconds or longer; returns how many.

        A subscriber has stalled when it holds a sample that long, or is reliable and behind at the same sequence that
        long, counted from when this owner first found it so: it looks in this call, and whenever no slot is free. So
        the first call with a `max_age` above 0 evicts no subscriber that was not found stalled before, and
        `evict_stale(0.0)` evicts all that hold samples or are behind.

        An evicted subscriber can take no more until it joins again. The slots that it holds are not reused: they come
        back when it releases them or dies.
        """
        self.native.check_open()
        stalled_s = {index: self._pressure.stalled_s(index) for index in self.native.segment.indexes_in_use()}
        announced = self._pressure.awaiting.evict_stale(max_age) if self._pressure.awaiting is not None else 0
        return announced + sum(
            self._evict(index) for index, age in stalled_s.items() if age is not None and age >= max_age
        )

    def evict(self, index: int) -> bool:
        """Evict the subscriber at `index`, stalled or not, as `evict_stale` does. False: it is evicted already.

        Raises IndexError for an index that no subscriber uses.
        """
        self.native.check_open()
        if index not in self.native.segment.indexes_in_use():
            raise IndexError(f"{self._topic}: no subscriber has the index {index}")
        return self._evict(index)

    def _evict(self, index: int) -> bool:
        if self.native.is_evicted(index):
            return False
        log.warning("%s: evicts a subscriber: %s", self._topic, self._pressure.describe(index))
        self.native.evict(index)
        return True

    def close(self) -> None:
        """Seal the segment and remove its names. Loans that are out can no longer be committed; what was read stays
        readable.

        One that was interrupted is finished by the next call, or when the handle or the interpreter ends. After that a
        call does nothing, and nor does one in a forked child. Raises PermissionError where this process may no longer
        remove the names: they are then left as a killed process leaves them.
        """
        # No builtins and no globals before the return: the interpreter's last collection has cleared them.
        native: Owner | None = self.native  # None: there is no segment yet
        if native is None or self._inherited or native.unlocked:
            return
        self.native.mark_closed()
        self._owned.probe.close()  # so that a descriptor is free for what follows, even at the limit
        try:
            self._remove_names(sealed=True)
        except PermissionError:
            self.native.segment.end(SEALED)
            self.native.close()
            raise
        self.native.close()

    def unlink(self) -> None:
        """Remove the flink and the objects' names now. Readers that are attached go on; no other can attach.

        After this nothing is left to clean up, however this process ends.
        """
        self.native.check_open()
        self._remove_names(sealed=False)

    def _remove_names(self, *, sealed: bool) -> None:
        control_name = str(self._owned.control_name)
        if self.flink is not None:
            flink.withdraw_flink(self.flink, control_name)
        if sealed:
            self.native.segment.end(SEALED)
        self._owned.unlink()
        if self.flink is not None:
            flink.remove_marker(self.flink, control_name)

    def abandon(self) -> None:
        """Drop the lock and do nothing else, as the kernel does when this process is killed. For tests."""
        self.native.close()

    # --- what the core calls when no slot is free ---

    def _meet_announced(self) -> None:
        if self._pressure.awaiting is not None:
            self._pressure.awaiting.meet()

    def _reclaim_slots(self) -> None:
        self.reap()
        if self.evict_after is not None:
            self.evict_stale(self.evict_after)
        else:
            self._pressure.look()

    def _no_slot_error(self, size: int, count: int = 1) -> Exception:
        return self._pressure.no_slot_error(size, count)

    def __repr__(self) -> str:
        return f"<SlotAllocator {self._topic}: {_describe(pools_of(self.native.segment))}>"


def _describe(pools: Iterable[PoolInfo | Pool]) -> str:
    """Pools in the words of an error text."""
    return ", ".join(f"{pool.slot_count} slots of {pool.slot_capacity} bytes" for pool in pools)


def _power_of_two(size: int) -> int:
    """The smallest power of two that is at least `size`."""
    return 1 << (size - 1).bit_length()


def checked_max_bytes(max_bytes: int | None, *, grow: bool) -> int | None:
    """The largest sample for which a segment may grow. ValueError without `grow`."""
    if max_bytes is None:
        return None
    if not grow:
        raise ValueError("max_bytes says how far a segment grows: give grow=True too, or larger slots")
    return whole_number("max_bytes", max_bytes, 1, PAYLOAD_LIMIT)
