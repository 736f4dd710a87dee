"""`Publisher`: owns a segment, writes typed samples into its slots. Subscribers find it by its topic."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from zeroslot._core.binding import (
    METADATA_ROOM,
    SUBSCRIBER_LIMIT,
    TYPED,
    Metadata,
    PublisherEnd,
    direct_methods,
    publish_array,
    publish_each,
    record_of,
)
from zeroslot.arguments import PRIVATE, checked_flag, checked_mode, checked_name, whole_number
from zeroslot.endpoints.allocator import SlotAllocator
from zeroslot.endpoints.awaiting import announced_to
from zeroslot.endpoints.handle import close_at_exit
from zeroslot.endpoints.versions import published_layout, type_mismatch, untyped_publisher
from zeroslot.info import PoolInfo, SubscriberInfo
from zeroslot.memory import announcement, flink
from zeroslot.memory.bell import Bell
from zeroslot.memory.cleanup import sweep_topic
from zeroslot.memory.create import Contents
from zeroslot.memory.directories import checked_domain, checked_topic, root_identity, topic_directory
from zeroslot.memory.objects import segment_id_of
from zeroslot.memory.processes import identity
from zeroslot.qos import (
    LEAST_SPARE,
    PAYLOAD_LIMIT,
    OnFull,
    Pool,
    Qos,
    checked_pools,
    default_spare,
    least_spare,
)
from zeroslot.types import whole
from zeroslot.types.by_name import ByName, Match, checked_match
from zeroslot.types.compiled import prepared
from zeroslot.types.layout import Layout
from zeroslot.types.sample import Sample
from zeroslot.types.schema import pack_schema

if TYPE_CHECKING:
    from zeroslot._core.binding import Loan

log = logging.getLogger("zeroslot")

S = TypeVar("S", bound="Sample | np.ndarray[Any, Any] | bytes")

FIRST_BYTES = 4096  # of a slot, where a segment that grows begins


def _first_capacity(layout: Layout, largest: int | None, *, grow: bool) -> int:
    """Bytes of a slot of the first pool, where there are no `pools`."""
    if grow and layout.variable:
        return min(max(layout.size, FIRST_BYTES), PAYLOAD_LIMIT if largest is None else largest)
    return max(layout.size if largest is None else largest, 1)  # a sample may have no fields


def _largest_sample(layout: Layout, max_bytes: int | None, pools: tuple[Pool, ...], *, grow: bool) -> int | None:
    """Bytes that the largest sample takes; None where there is no limit but the memory. Raises ValueError where
    `max_bytes` is missing, or makes no sense.
    """
    if not layout.variable:
        if max_bytes is not None:
            raise ValueError(f"max_bytes is for types with variable fields; a {layout.name} has {layout.size} bytes")
        return layout.size
    if max_bytes is not None:
        room = whole.HEAD_ROOM if layout.whole else 0
        least = 0 if layout.whole else layout.size
        largest = whole_number("max_bytes", max_bytes, least, PAYLOAD_LIMIT - room) + room
        if pools and not grow and largest > pools[-1].slot_capacity:
            needed = f", which takes slots of {largest} bytes" if room else ""
            raise ValueError(
                f"max_bytes is {max_bytes}{needed}, and the largest slots in pools have {pools[-1].slot_capacity} "
                "bytes. Add a pool of larger slots, or give grow=True"
            )
        return largest
    if not pools and not grow and layout.whole:
        raise ValueError(
            f"samples of {layout.name} have any size: give max_bytes, that of the largest, or pools, or grow=True"
        )
    if not pools and not grow:
        names = ", ".join(field.name for field in layout.members if field.node.variable)
        raise ValueError(
            f"{layout.name} has variable fields ({names}): give max_bytes, the size of its largest sample in bytes, "
            f"of which {layout.size} are its fixed part, or pools, or grow=True"
        )
    return None


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """A publisher's counters since its creation, and its shared memory: all of it, and how much is mapped as huge
    pages.
    """

    published: int
    bytes: int
    discarded: int
    no_free_slot: int
    wakes: int
    reaped: int
    evicted: int
    blocked: int
    blocked_ns: int
    memory_bytes: int = 0
    huge_bytes: int = 0
    pools: tuple[PoolInfo, ...] = ()


class SegmentRequest(NamedTuple):
    """The segment that a publisher wants. `slot_capacity` is in bytes, and counts where `qos` has no pools."""

    qos: Qos
    max_loans: int
    slot_capacity: int
    contents: Contents
    mode: int


@direct_methods
class Publisher(PublisherEnd[S]):
    """Publishes samples of one type on one topic.

    Any number of processes may publish the same topic; each has a segment of its own. Threads may share a publisher. A
    context manager.

    `depth`: how many of the newest samples can always be taken. `max_loans`: how many may be written at once.
    `spare_slots`: slots that subscribers may hold beyond those (default: 32, fewer if they would take more than 16 MiB,
    at least 4). While the sum of the subscribers' `max_leases` is within it, `loan` cannot fail because of them.
    `on_full`: what happens when a reliable subscriber has not taken what the next sample would push out: "evict" serves
    no reliable subscribers, "block" waits, "raise" raises. `mode`: 0o600, or 0o660 to share the topic with the group of
    the directory in $ZEROSLOT_DIR, which has mode 2770.

    `evict_after`: seconds after which a subscriber that stalls is evicted when no slot is free, counted from when this
    publisher first found it holding the same sample, or behind at the same sequence; it gets an EvictedError and may
    join again. The slots that it still holds are replaced from a reserve, of max_loans slots and at least 4.
    `max_period`: the longest time between two samples, in seconds, that the publisher promises.

    `match`: "exact", or "by_name" to publish beside live publishers of another version of the type: one of the two
    versions has to be readable as the other by name, where the older one counts as if it had no defaults. Subscribers
    with match="by_name" read both, the others those of their own type.

    `metadata`: each sample may carry a `Metadata`, for which each slot gets 592 bytes more. `crc`: each sample carries
    the CRC-32C of its bytes, computed at the commit, which subscribers with `verify=True` compare.
    `hugepages`: pages of 2 MiB for the slots, where the system has them: for samples of megabytes. `stats.huge_bytes`
    tells how many bytes have them; where some do not, a warning is logged, once a process.

    `max_bytes`: for a type with variable fields, the size of its largest sample in bytes: `layout_of(sample_type).size`
    and the data behind it, of which each array begins at a multiple of 64 and everything else at one of 8. All slots
    have this size, so the publisher takes its whole memory at the start and no publish has to wait for more. Where few
    samples are that large, `pools` or `grow` take less.

    `pools`: size classes, pairs of (slot capacity in bytes, slot count), in place of slots of one size. A sample gets
    a slot of the smallest class that it fits, or of the next larger one where that has none free. Each class needs at
    least depth + max_loans slots, and what it has beyond them are its spare slots; `spare_slots` adds as many to each.
    What is said of `loan` holds for each class. `stats.pools` has the counters of each.

    `grow`: begin with slots of 4 KiB, or with `pools`, and add a class of larger slots when a sample fits none, while
    everyone is attached: of at least twice the size of the largest ones, up to 16 classes, and for samples of up to
    `max_bytes` where it is given. That publish takes the time to get the memory; subscribers miss nothing.

    Raises TopicNameError, DeclarationError, OutOfSharedMemoryError, TypeMismatchError when a live publisher of the
    topic has another type, and PermissionError when another user controls the directory or what lies in it.

    >>> with Publisher("robot/imu", Imu) as pub:
    ...     with pub.loan() as imu:
    ...         imu.stamp_ns = 7
    """

    allocator: SlotAllocator
    sample_type: type[S]
    _ended = True  # until the constructor opens something

    def __init__(
        self,
        topic: str,
        sample_type: type[S],
        *,
        depth: int = 8,
        max_loans: int = 2,
        spare_slots: int | None = None,
        max_subscribers: int = 64,
        on_full: OnFull = "evict",
        domain: str | None = None,
        name: str | None = None,
        mode: int = PRIVATE,
        evict_after: float | None = None,
        max_period: float | None = None,
        match: Match = "exact",
        metadata: bool = False,
        crc: bool = False,
        hugepages: bool = False,
        max_bytes: int | None = None,
        pools: Iterable[tuple[int, int]] | None = None,
        grow: bool = False,
    ) -> None:
        self.topic = checked_topic(topic)
        self.domain = checked_domain(domain)
        checked_match(match)
        checked_mode(mode)
        name = checked_name(name)
        record = whole.compiled_type(sample_type)
        self._is_whole = record.layout.whole
        layout, plan = record.layout, record.writing_plan
        self.sample_type = sample_type
        classes: tuple[Pool, ...] = ()
        if pools is not None:
            room = METADATA_ROOM if metadata else 0
            classes = checked_pools(pools, depth, max_loans, spare_slots or 0, layout.size, room)
        largest = _largest_sample(layout, max_bytes, classes, grow=grow)
        if classes:
            spare = least_spare(classes, depth, max_loans)
        elif spare_slots is None:
            spare = LEAST_SPARE if largest is None else default_spare(largest)
        else:
            spare = spare_slots
        qos = Qos(
            depth=depth,
            max_loans=max_loans,
            spare_slots=spare,
            max_subscribers=max_subscribers,
            on_full=on_full,
            evict_after=evict_after,
            max_period=max_period,
            crc=crc,
            metadata=metadata,
            hugepages=hugepages,
            pools=classes,
            grow=grow,
        )
        self._directory = topic_directory(self.domain, self.topic)
        self._ended = False
        self._bell = self._join_bell()
        try:
            capacity = max(1, _first_capacity(layout, largest, grow=grow) + qos.metadata_bytes)  # a type may be empty
            contents = Contents(identity(name), TYPED, layout.type_hash, pack_schema(layout), root=root_identity())
            allocator = self._create(layout, match, SegmentRequest(qos, max_loans, capacity, contents, mode))
            allocator._max_bytes = largest if layout.variable else None
            super().__init__(allocator, plan, None if on_full == "block" else 0, max_bytes)
            self._meet_topic(layout, match)
            close_at_exit(self)
            self._bell.ring()
        except BaseException:
            self._end()
            raise

    def _join_bell(self) -> Bell:
        return Bell.join(self.domain)

    def _create(self, layout: Layout, match: Match, request: SegmentRequest) -> SlotAllocator:
        """The segment, which subscribers can find."""
        directory = self._directory
        sweep_topic(directory)
        self._refuse_other_types(layout, match)
        return SlotAllocator._create(
            request.qos,
            request.max_loans,
            request.slot_capacity,
            request.contents,
            lambda control_name: directory / f"{segment_id_of(control_name)}.flink",
            mode=request.mode,
            topic=self.topic,
        )

    def _meet_topic(self, layout: Layout, match: Match) -> None:
        """Look at the topic again, now that others can find this publisher: of two publishers that start at the same
        moment, at least the one that looks later finds the other. If both do, both withdraw.
        """
        self._refuse_other_types(layout, match, own=self.flink)
        self.allocator._wait_for_announced(self._directory)

    def _refuse_other_types(self, layout: Layout, match: Match, own: Path | None = None) -> None:
        """Raise TypeMismatchError when a live publisher of the topic has another type, which `match` does not allow.
        `own`: the flink to skip.
        """
        for path in flink.list_flinks(self._directory):
            attached = flink.attach(path, str(path)) if path != own else None
            if attached is None or not attached.is_live():
                continue
            info = attached.segment.info
            if info.payload_kind != TYPED:
                raise untyped_publisher(self.topic, info, self.sample_type, "Publish under another topic")
            if info.type_hash != layout.type_hash:
                other = published_layout(attached.segment, self.topic)
                by_name = ByName(other, layout)
                related = by_name.readable or ByName(layout, other).readable
                if match == "exact" or not related:
                    raise type_mismatch(self.topic, info, other, layout, by_name, _advice(by_name, related=related))

    def _written(
        self,
        sample: S | Mapping[str, Any] | np.void | NDArray[Any],
        timeout: float | EllipsisType | None,
        metadata: Metadata | Mapping[str, str | bytes] | None,
    ) -> Loan[S]:
        if self._is_whole:
            ready = whole.wrapped(sample, self.sample_type)
        else:
            ready = prepared(sample, self.sample_type)
        loan = self._loan_for(ready, timeout)  # `_write` sets every field
        try:
            self._write(loan, ready)
            if metadata is not None:
                loan.metadata = metadata
        except BaseException:
            loan.discard()
            raise
        return loan

    def publish_many(
        self,
        samples: NDArray[Any] | Iterable[S | Mapping[str, Any] | np.void | NDArray[Any]],
        timeout: float | EllipsisType | None = ...,
    ) -> int:
        """Copy many samples into slots and publish them, in order. Returns the sequence of the last one.

        A structured array of one dimension with `layout_of(sample_type).dtype` is the fast form, for tens of millions
        of small samples a second; one with the same fields in another order or as other numbers is converted first.
        Anything else is iterated over, and each item published as `publish` does. Subscribers get the same samples as
        from as many calls of `publish`; those of other threads may come between them.

        Raises what `publish` raises, where it has to wait for `timeout` seconds in all. The exception, whatever it is,
        has the attribute `published`: how many samples were.
        """
        is_records = isinstance(samples, np.ndarray) and samples.ndim > 0 and not samples.dtype.hasobject
        items: NDArray[Any] | Iterator[Any]
        try:
            if is_records and not self._is_whole:
                items = record_of(samples, whole.compiled_type(self.sample_type).record_dtype)
            else:
                items = _iterated(samples)
        except BaseException as error:
            with suppress(AttributeError):  # of a frozen one
                error.published = 0  # type: ignore[attr-defined]  # of any exception
            raise
        if isinstance(items, np.ndarray):
            return publish_array(self, items, timeout)
        return publish_each(self, items, timeout)

    @property
    def flink(self) -> Path:
        """The file by which subscribers find this publisher."""
        return cast("Path", self.allocator.flink)  # only segments in memory have none

    @property
    def publisher_id(self) -> str:
        """16 hexadecimal digits: the name of the flink, and `lease.publisher_id` at subscribers."""
        return self.flink.stem

    @property
    def subscriber_count(self) -> int:
        """Attached subscribers whose processes live."""
        return len(self.allocator.subscriber_indexes())

    @property
    def stats(self) -> PublisherStats:
        """Counters since creation."""
        memory = self.allocator.size.total_bytes
        return PublisherStats(
            **self.allocator.stats,
            memory_bytes=memory,
            huge_bytes=self.allocator.huge_bytes,
            pools=tuple(self.allocator.pools),
        )

    @property
    def slot_count(self) -> int:
        """All slots of the segment."""
        return self.allocator.slot_count

    @property
    def depth(self) -> int:
        """How many of the newest samples can always be taken."""
        return self.allocator.depth

    @property
    def closed(self) -> bool:
        """Whether `close` was called. One that was interrupted may not be finished yet."""
        return bool(self.allocator.closed)

    def on_subscriber_death(self, callback: Callable[[SubscriberInfo], None] | None) -> None:
        """Call `callback` for every subscriber that is found dead, in the thread that finds it: one that waits for a
        free slot, or calls `reap`. None: call nothing.
        """
        self.allocator.on_subscriber_death = callback

    def reap(self) -> int:
        """Clear what dead subscribers left; returns how many. `loan` does it by itself when no slot is free."""
        return self.allocator.reap()

    def wait_for_subscribers(self, n: int = 1, timeout: float | None = None, *, announced: bool = False) -> bool:
        """Sleep until at least `n` subscribers are attached: True; False after `timeout` seconds (None: for ever).

        A subscriber attaches in calls of its process: in its own, and in any wait of that process. One whose process is
        busy with something else is not attached yet. `announced`: count it as well, if it fits this publisher. This
        is enough for reliable subscribers with on_full="block" or "raise", which then miss nothing. It is noticed
        within 50 ms. Best-effort subscribers are announced while they are attached to no publisher.
        """
        whole_number("n", n, 0, SUBSCRIBER_LIMIT)
        if checked_flag("announced", announced):
            return self.allocator._wait_for_space(lambda: self._known_count() >= n, timeout)
        return self.allocator._wait_for_space(lambda: self.subscriber_count >= n, timeout)

    def _known_count(self) -> int:
        """Subscribers that are attached, and those that are announced and not attached."""
        count = self.subscriber_count  # first: one that attaches now is counted at the next look, and not twice
        return count + len(announced_to(self.allocator.native.segment, self.flink.parent))

    def flush(self, timeout: float | None = None) -> bool:
        """Sleep until reliable subscribers have taken all: True; False after `timeout` seconds (None: for ever)."""
        return self.allocator._wait_until_taken(timeout)

    def close(self) -> None:
        """Seal the segment and remove its names: subscribers take what is there, and then follow the topic to others.

        Loans that are out can no longer be committed; views stay readable. A call that was interrupted is finished by
        the next one, or when the handle or the interpreter ends. After that a call does nothing, and nor does one in a
        forked child.
        """
        if not self._ended and not self._inherited:
            self._end()

    def _end(self) -> None:
        """Each step may run twice, since an interruption may come between any two."""
        allocator: SlotAllocator | None = self.allocator  # None: the constructor was interrupted before it was made
        if allocator is not None:
            with suppress(OSError):  # so that the directory can be removed, unless others need it
                announcement.remove_dead(self._directory)
            allocator.close()
            self._bell.ring()
        self._bell.leave()
        self._ended = True

    def _abandon(self) -> None:
        self.allocator.abandon()
        self._bell.leave()
        self._ended = True

    def __repr__(self) -> str:
        state = "closed" if self.closed else "of the parent process" if self._inherited else f"at {self.sequence}"
        return f"<Publisher {self.topic} of {self.sample_type.__name__}, {state}>"


def _iterated(samples: Any) -> Iterator[Any]:
    if isinstance(samples, (Sample, Mapping, np.void)):
        raise TypeError(f"publish_many() takes many samples, and this is one ({type(samples).__name__}): use publish()")
    try:
        return iter(samples)
    except TypeError:
        raise TypeError(
            f"publish_many() takes an array or an iterable of samples, not {type(samples).__name__}"
        ) from None


def _advice(by_name: ByName, *, related: bool) -> str:
    """What to do about a publisher of another type."""
    if related:
        return (
            'Create it with match="by_name" to publish both versions: subscribers with match="by_name" read both, the '
            "others that of their own type."
        )
    if not by_name.shares_names:
        return "They share no field: publish under another topic."
    return (
        f"Neither can be read as the other by name ({', '.join(by_name.unreadable)}): publish under another topic, or "
        "stop the other publisher first."
    )
