"""`SlotAllocator`: the untyped owner. Bytes in slots, published by one, read in place by many.

Why the allocator has no lock of other processes' to take: one process owns the slots. What readers do to a slot is one
bit each.

Why a depth of half the slots where none is given: whoever asks for n slots wants to keep some, write some and have some
read.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zeroslot import errors
from zeroslot._core import binding
from zeroslot._core.binding import AllocatorEnd, Owner
from zeroslot.endpoints.handle import close_at_exit
from zeroslot.endpoints.reader import SlotReader
from zeroslot.errors import BackpressureError, MismatchError, NoFreeSlotError, OwnerGoneError
from zeroslot.memory import flink, liveness, segment
from zeroslot.memory.cleanup import sweep_flink
from zeroslot.qos import SLOT_LIMIT, OnFull, Qos, whole_number
from zeroslot.types.fields import round_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zeroslot.memory.segment import Contents, OwnedSegment

log = logging.getLogger("zeroslot")

PAYLOAD_LIMIT = 2**40
_TRIES = 100


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """The shared memory that a segment takes, in bytes."""

    control_bytes: int
    pool_bytes: int
    slot_capacity: int

    @property
    def total_bytes(self) -> int:
        """Both kinds of object together."""
        return self.control_bytes + self.pool_bytes


@dataclass(frozen=True, slots=True)
class StalledPeer:
    """A subscriber that an owner waits for or could not go on because of, as errors and callbacks tell of it.

    `slots`: how many it holds. `behind`: samples that it has not taken. `stalled_s`: seconds since the owner first
    found it holding a sample that it still holds, or, where it is reliable, behind at the sequence where it still is;
    0.0 the first time. An owner looks when it has no room, for `evict_stale`, and for errors and callbacks.
    """

    index: int
    name: str
    pid: int
    command: str
    stopped: bool
    slots: int
    behind: int
    stalled_s: float


def _qos(
    slot_count: int, depth: int | None, max_loans: int | None, max_subscribers: int, on_full: OnFull
) -> tuple[Qos, int]:
    """The counts of an untyped segment, and how many loans may be out: all slots, where nobody says less."""
    whole_number("slot_count", slot_count, 2, SLOT_LIMIT)
    depth = slot_count // 2 if depth is None else whole_number("depth", depth, 1, slot_count - 1)
    left = slot_count - depth
    kept = min(left, depth) if on_full != "evict" else left
    loans = kept if max_loans is None else whole_number("max_loans", max_loans, 1, left)
    limit = max_loans if max_loans is not None else (slot_count if on_full == "evict" else loans)
    return Qos(depth, loans, left - loans, max_subscribers, on_full), limit


class _Stalls:
    """Since when an owner has found its subscribers in the way.

    Why not the age of what is in the way: a subscriber may have taken a sample just now that was published long ago,
    and a joiner starts behind. When it took it could be told by a clock read in each take, which nothing else needs.
    """

    def __init__(self) -> None:
        self._since_ns: dict[int, dict[tuple[int, ...], int]] = {}

    def since_ns(self, index: int, reasons: Iterable[tuple[int, ...]]) -> int | None:
        """Note why the subscriber at `index` is in the way; when the oldest of these was first found. None: it is not.

        A reason that is not given any more is forgotten.
        """
        now = binding.now_ns()
        before = self._since_ns.get(index, {})
        found = {reason: before.get(reason, now) for reason in reasons}
        self._since_ns[index] = found
        return min(found.values(), default=None)


class SlotAllocator(AllocatorEnd):
    """The owner of a segment of equal slots: reserve one, fill it, commit it.

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
        super().__init__(Owner(owned.segment, owned.lock, max_loans, qos.reserve_slots))
        self._qos = qos
        self.flink = flink_path
        self._topic = topic
        self._owned = owned  # last: what has it can be closed
        self._stalls = _Stalls()
        self.evict_after: float | None = None
        self.on_subscriber_death: Callable[[StalledPeer], None] | None = None
        close_at_exit(self)

    @classmethod
    def create(
        cls,
        flink: str | os.PathLike[str],
        slot_count: int,
        slot_capacity: int,
        *,
        depth: int | None = None,
        max_loans: int | None = None,
        max_subscribers: int = 64,
        on_full: OnFull = "evict",
        mode: int = 0o600,
        name: str | None = None,
        first_sequence: int = 1,
        force: bool = False,
    ) -> SlotAllocator:
        """Create a segment that others find through the file `flink`.

        `slot_capacity` is in bytes and rounded up to 128. The newest `depth` samples (default: half the slots) can
        always be taken. What a dead owner left under this flink is removed first. Raises FileExistsError when a live
        one has it, unless `force` takes the flink away from it (who reads the old segment goes on reading it),
        OutOfSharedMemoryError when /dev/shm is too small.

        `mode` is 0o600, or 0o660 to share the segment with the group of the flink's directory, which has mode 2770;
        PermissionError where it is not shared.
        """
        path = Path(flink).absolute()
        qos, limit = _qos(slot_count, depth, max_loans, max_subscribers, on_full)
        whole_number("first_sequence", first_sequence, 1, 2**62 - 1)
        if sweep_flink(path) and not force:
            raise FileExistsError(f"{path} is the flink of a live segment. Close its owner, or use another path")
        contents = segment.Contents(liveness.identity(name), first_sequence=first_sequence)
        capacity = _capacity(slot_capacity)
        return cls._create(qos, limit, capacity, contents, lambda _: path, mode=mode, topic=str(path), force=force)

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
        """Announce, make, and let appear: `flink_of` gives the flink's path for the control object's name."""
        if not 0 <= mode <= 0o666 or mode & 0o600 != 0o600 or mode & 0o007:
            raise ValueError(
                f"mode {mode:04o}: the owner reads and writes, others get nothing; 0o600, or 0o660 for a group"
            )
        group = flink.group_to_share_with(flink_of(segment.new_name()).parent, mode)
        for _ in range(_TRIES):
            control_name = segment.new_name()
            path = flink_of(control_name)
            try:
                flink.announce(path, control_name, mode & 0o640, group)
                made = segment.create(control_name, qos, slot_capacity, contents, mode=mode, group=group)
                if made is not None:
                    flink.write_flink(path, control_name, mode & 0o640, group, replace=force)
                    return cls(made, qos, max_loans, path, topic)
            except BaseException:
                # By name: what was interrupted may be there without having been returned.
                flink.withdraw(path, control_name)
                segment.unlink_all(control_name)
                raise
            finally:
                flink.forget(path, control_name)
        raise OSError("the names of new segments vanish as often as they are created: is something cleaning /dev/shm?")

    @classmethod
    def create_or_attach(
        cls, flink: str | os.PathLike[str], slot_count: int, slot_capacity: int, **options: Any
    ) -> SlotAllocator | SlotReader:
        """Create the segment, or read the live one that is there. `is_owner` tells which.

        Raises MismatchError when the one that is there has other slots. `options` are those of `create`.
        """
        try:
            return cls.create(flink, slot_count, slot_capacity, **options)
        except FileExistsError:
            reader = SlotReader.attach(flink)
        capacity = round_up(_capacity(slot_capacity), segment.SLOT_ALIGN)
        if (reader.slot_count, reader.slot_capacity) != (slot_count, capacity):
            reader.close()
            raise MismatchError(
                f"{flink} has {reader.slot_count} slots of {reader.slot_capacity} bytes, not {slot_count} of "
                f"{slot_capacity}. Ask for the same, or use another path",
                topic=str(flink),
            )
        return reader

    @classmethod
    def in_memory(
        cls,
        slot_count: int,
        slot_capacity: int,
        *,
        depth: int | None = None,
        max_loans: int | None = None,
        max_subscribers: int = 64,
        on_full: OnFull = "evict",
        first_sequence: int = 1,
    ) -> SlotAllocator:
        """A segment without a name, for one process: the same code and the same protections, nothing to clean up."""
        qos, limit = _qos(slot_count, depth, max_loans, max_subscribers, on_full)
        whole_number("first_sequence", first_sequence, 1, 2**62 - 1)
        contents = segment.Contents(liveness.identity(None), first_sequence=first_sequence)
        made = segment.create_in_memory(qos, _capacity(slot_capacity), contents)
        return cls(made, qos, limit, None, "this segment")

    @staticmethod
    def size_of(
        slot_count: int, slot_capacity: int, *, depth: int | None = None, max_subscribers: int = 64
    ) -> SegmentSize:
        """What `create` with these counts would take, without creating anything."""
        qos, _ = _qos(slot_count, depth, None, max_subscribers, "evict")
        capacity = _capacity(slot_capacity)
        return SegmentSize(
            segment.control_size(qos, 0),
            segment.pool_size(slot_count, capacity),
            round_up(capacity, segment.SLOT_ALIGN),
        )

    @property
    def slot_count(self) -> int:
        """All slots: those that hold samples, are loaned, are read, or are free."""
        return self._qos.slot_count

    @property
    def slot_capacity(self) -> int:
        """Bytes of payload a slot takes."""
        return self.owner.segment.slot_capacity

    @property
    def depth(self) -> int:
        """How many of the newest samples can always be taken."""
        return self._qos.depth

    @property
    def free_count(self) -> int:
        """Slots that could be reserved now."""
        self.owner.check_process()
        return self.owner.free_count

    @property
    def loan_count(self) -> int:
        """Slots that are reserved now."""
        self.owner.check_process()
        return self.owner.loans_out

    @property
    def max_loans(self) -> int:
        """How many may be reserved at once."""
        return self.owner.max_loans

    @property
    def size(self) -> SegmentSize:
        """The shared memory this segment takes."""
        mapped = self.owner.segment
        return SegmentSize(mapped.control.size, self.slot_count * self.slot_capacity, self.slot_capacity)

    @property
    def stats(self) -> dict[str, int]:
        """The owner's counters since creation: samples, bytes, what failed, what was reaped."""
        self.owner.check_process()
        return self.owner.segment.counters()

    @property
    def closed(self) -> bool:
        """Whether `close` was called. One that was interrupted may not be finished yet."""
        return self.owner.closed

    def reader(
        self, *, history: int = 0, max_leases: int | None = None, reliable: bool = False, name: str | None = None
    ) -> SlotReader:
        """Read this segment in this process."""
        self._check()
        attached = segment.attach_unnamed(self._owned)
        if not attached.map_pools():
            raise OwnerGoneError(
                f"{self._topic} has lost its pools: something has removed them from /dev/shm",
                topic=self._topic,
                owner_pid=os.getpid(),
            )
        return SlotReader.join(attached, history=history, max_leases=max_leases, reliable=reliable, name=name)

    def subscriber_indexes(self) -> list[int]:
        """The indexes of the subscribers that are attached and alive."""
        self._check()
        try:
            return segment.alive_among(self._owned.probe, self.owner.segment.active_indexes())
        except OSError:
            self._check()  # another thread has closed it meanwhile
            raise

    def reap(self) -> int:
        """Clear what dead subscribers left; how many there were. `reserve` does this by itself under pressure.

        `on_subscriber_death`, where one is set, is called for each, in this thread.
        """
        self._check()
        told = self.on_subscriber_death
        try:
            dead = segment.dead_among(self._owned.probe, self.owner.segment.indexes_in_use())
            stories = [self._stalled(index) for index in dead] if told is not None else []
            count = liveness.reap(self.owner.segment, self._owned.lock, dead) if dead else 0
        except OSError:
            self._check()  # another thread has closed it under us
            raise
        if count:
            self.owner.segment.count_reaped(count)
            log.info("%s: cleared %d dead subscribers", self._topic, count)
        if told is not None:
            for story in stories:
                told(story)
        return count

    def evict_stale(self, max_age: float) -> int:
        """End the claim of every subscriber that has stalled for `max_age` seconds or longer; how many there were.

        A subscriber has stalled when it holds a sample that long, or is reliable and behind at the same sequence that
        long, counted from when this owner first found it so: it looks in this call and whenever it has no room. So the
        first call with a `max_age` above 0 ends none that was never in the way, and `evict_stale(0.0)` ends all that
        hold samples or are behind.

        An evicted subscriber can take no more until it joins again. What it holds is never given to another one: those
        slots come back when it lets go of them or dies.
        """
        self._check()
        used = self.owner.segment.indexes_in_use()
        stalled = [(index, since) for index in used if (since := self._stalled_since_ns(index)) is not None]
        return sum(self._end_claim(index) for index, since in stalled if (binding.now_ns() - since) / 1e9 >= max_age)

    def evict(self, index: int) -> bool:
        """End the claim of the subscriber at `index`, stalled or not, as `evict_stale` does. False: it was before.

        Raises IndexError for an index that nobody uses.
        """
        self._check()
        if index not in self.owner.segment.indexes_in_use():
            raise IndexError(f"{self._topic}: nobody is subscribed with index {index}")
        return self._end_claim(index)

    def _end_claim(self, index: int) -> bool:
        if self.owner.is_evicted(index):
            return False
        log.warning("%s: ends the claim of %s", self._topic, self._story(index))
        self.owner.evict(index)
        return True

    def _check(self) -> None:
        if self.owner.inherited:
            raise errors.ForkedHandleError(
                f"this owner of {self._topic} belongs to the parent process. Create a new one in the child",
                topic=self._topic,
            )
        if self.owner.closed:
            raise binding.closed_error(f"{self._topic} is closed", self._topic)

    def close(self) -> None:
        """Seal the segment and remove its names. Loans that are out can no longer be committed; what was read stays
        readable.

        One that was interrupted is finished by the next call, or when the handle or the interpreter ends. After that a
        call does nothing, and nor does one in a forked child. Raises PermissionError where this process may no longer
        remove the names: they are then left as a killed process leaves them.
        """
        if self.owner.inherited or self.owner.unlocked:
            return
        self.owner.refuse()
        self._owned.probe.close()  # to have a descriptor for what follows, also where there are no more
        try:
            self._remove_names(sealed=True)
        except PermissionError:
            self.owner.segment.end(segment.SEALED)
            self.owner.close()
            raise
        self.owner.close()

    def unlink(self) -> None:
        """Remove the flink and the objects' names now. Whoever is attached goes on; nobody else can attach any more.

        Then nothing is left to clean up, however this process ends.
        """
        self._check()
        self._remove_names(sealed=False)

    def _remove_names(self, *, sealed: bool) -> None:
        control_name = str(self._owned.control_name)
        if self.flink is not None:
            flink.withdraw(self.flink, control_name)
        if sealed:
            self.owner.segment.end(segment.SEALED)
        self._owned.unlink()
        if self.flink is not None:
            flink.forget(self.flink, control_name)

    def abandon(self) -> None:
        """Go as a killed process goes: the lock falls, nothing else happens. For tests."""
        self.owner.close()

    # What the native side calls under pressure.

    def _relieve(self) -> None:
        self.reap()
        if self.evict_after is not None:
            self.evict_stale(self.evict_after)
        else:
            for index in self.owner.segment.indexes_in_use():
                self._stalled_since_ns(index)  # noted for the error, should it come to one

    def _refusal(self) -> Exception:
        mapped = self.owner.segment
        if self.owner.loans_out >= self.owner.max_loans:
            return NoFreeSlotError(
                f"{self._topic}: as many loans are out as max_loans allows, {self.owner.max_loans}. "
                "Commit or discard one, or create it with a larger max_loans",
                topic=self._topic, slot_count=self.slot_count, loaned=self.owner.loans_out,
            )  # fmt: skip  # the facts on one line
        behind = self.owner.in_the_way()
        if behind is not None:
            return BackpressureError(
                f"{self._topic}: a reliable subscriber is in the way, {self._story(behind)}. It has to take them, or "
                "to be closed; a larger depth gives it more time, evict_after ends its claim",
                topic=self._topic, holders=(self._stalled(behind),),
            )  # fmt: skip  # the facts on one line
        holders = [index for index in mapped.indexes_in_use() if mapped.held_by(index)]
        kept = f"{self.owner.withheld} kept back until evict_after ends a claim, " if self.owner.withheld else ""
        return NoFreeSlotError(
            f"{self._topic}: none of {self.slot_count} slots is free: {self.depth} keep the newest samples, "
            f"{self.owner.loans_out} are loaned, {kept}the others are read: "
            f"{'; '.join(map(self._story, holders)) or 'by views in this process'}. "
            "Let subscribers release sooner, or create it with more spare_slots",
            topic=self._topic, slot_count=self.slot_count, loaned=self.owner.loans_out,
            leased=sum(len(mapped.held_by(index)) for index in holders),
            holders=tuple(map(self._stalled, holders)),
        )  # fmt: skip  # the facts on one line

    def _stalled(self, index: int) -> StalledPeer:
        peer = self.owner.segment.peer(index)
        held = self.owner.segment.held_by(index)
        behind = max(0, self.sequence - peer["cursor"]) if index in self.owner.segment.active_indexes() else 0
        since = self._stalled_since_ns(index)
        return StalledPeer(
            index=index,
            name=peer["name"],
            pid=peer["pid"],
            command=liveness.command_of(peer["pid"], peer["start_time"]),
            stopped=liveness.is_stopped(peer["pid"], peer["start_time"]),
            slots=len(held),
            behind=behind,
            stalled_s=(binding.now_ns() - since) / 1e9 if since is not None else 0.0,
        )

    def _stalled_since_ns(self, index: int) -> int | None:
        """When this owner first found what the subscriber at `index` holds, or where it is behind. None: neither."""
        peer = self.owner.segment.peer(index)
        # A slot and the time of its sample are one hold: a subscriber does not take the same sample twice.
        reasons: list[tuple[int, ...]] = [(peer["epoch"], *hold) for hold in self.owner.segment.held_by(index)]
        if peer["reliable"] and index in self.owner.segment.active_indexes() and peer["cursor"] < self.sequence:
            reasons.append((peer["epoch"], peer["cursor"]))
        return self._stalls.since_ns(index, reasons)

    def _story(self, index: int) -> str:
        peer = self._stalled(index)
        held = f"{peer.slots} slot{'s' * (peer.slots != 1)}"
        return (
            f"{liveness.described(self.owner.segment.peer(index))} holds {held} and is {peer.behind} "
            f"sample{'s' * (peer.behind != 1)} behind, for at least {peer.stalled_s:.3f} s"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SlotAllocator {self._topic}: {self.slot_count} slots of {self.slot_capacity} bytes>"


def _capacity(slot_capacity: int) -> int:
    return whole_number("slot_capacity", slot_capacity, 1, PAYLOAD_LIMIT)
