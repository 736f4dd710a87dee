"""The options of a segment: how much it keeps, for how many subscribers, and what happens when no slot is free.

Why `depth` is exact: every subscriber can always take the newest `depth` samples, whatever the others hold. The price
is the slots beyond them: `max_loans` that are written, `spare_slots` that are read.

Why every size class has as many slots as a segment of one size has: all samples that are kept, loaned and read at one
moment may be of one size. So `loan` of any size succeeds while the subscribers' leases are within `spare_slots`,
whatever the sizes before it were.

Why the counts in `pools` are exact: they decide how much memory is taken. What a class has beyond depth + max_loans are
its spare slots. `spare_slots`, where it is given too, adds as many to every class, and so do the reserve slots of
`evict_after`. The header, and the warning for too many leases, have the spare slots of the class with the fewest.

Why growth adds larger classes, and no slots to a class: a class has enough slots from the start. What cannot be known
at the start is how large a sample gets. The slot table has room for all slots from the start, since it cannot move.

Why all options are one record: an option is added to `Qos`, with its check and its field of the header, and to the
constructor that users see. Nothing between them names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from zeroslot._core.binding import (
    COMPAT_CRC,
    MAX_POOLS,
    METADATA_ROOM,
    POLICIES,
    SLOT_ALIGN,
    SLOT_LIMIT,
    SUBSCRIBER_LIMIT,
    SegmentConfig,
)
from zeroslot.arguments import checked_choice, checked_flags, checked_seconds, whole_number

OnFull = Literal["evict", "block", "raise"]
ON_FULL: tuple[OnFull, ...] = POLICIES

DEFAULT_SPARE = 32
LEAST_SPARE = 4
RESERVE_SLOTS = 4  # the default of a subscriber's max_leases
SPARE_BYTES = 16 * 1024 * 1024
PAYLOAD_LIMIT = 2**40


def default_spare(slot_capacity: int) -> int:
    """Spare slots by default: 32, fewer so that they take at most 16 MiB, at least 4."""
    return max(LEAST_SPARE, min(DEFAULT_SPARE, SPARE_BYTES // max(slot_capacity, 1)))


class Pool(NamedTuple):
    """The slots of one pool: bytes of each, which are a multiple of 128, and their number."""

    slot_capacity: int
    slot_count: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the pool."""
        return self.slot_capacity * self.slot_count


def checked_capacity(name: str, capacity: int) -> int:
    """A slot's capacity in bytes, rounded up to a multiple of 128. ValueError or TypeError naming it."""
    return -(-whole_number(name, capacity, 1, PAYLOAD_LIMIT) // SLOT_ALIGN) * SLOT_ALIGN


def pool_pairs(pools: Any) -> Iterator[tuple[int, int]]:
    """The pairs in `pools`, or TypeError."""
    for pool in pools if isinstance(pools, Iterable) else (pools,):
        if not isinstance(pool, Sequence) or isinstance(pool, str) or len(pool) != 2:
            raise TypeError(
                f"pools has pairs of (slot capacity in bytes, slot count), not {pool!r}: write pools=[(4096, 64)]"
            )
        yield pool[0], pool[1]


def checked_pools(
    pools: Iterable[tuple[int, int]],
    depth: int,
    max_loans: int,
    spare_slots: int = 0,
    least_bytes: int = 1,
    more_bytes: int = 0,
) -> tuple[Pool, ...]:
    """The size classes that `pools` asks for, from the smallest to the largest slots: each (bytes of a slot, slots).

    Each gets `spare_slots` more slots, and each slot `more_bytes` behind the payload. Raises ValueError for a class
    with fewer than depth + max_loans slots, slots of fewer than `least_bytes`, two classes of one capacity, and more
    than 16.
    """
    found: dict[int, int] = {}
    for pool in pool_pairs(pools):
        capacity = checked_capacity("a slot capacity in pools", pool[0])
        if pool[0] < least_bytes:
            raise ValueError(f"the pool of {pool[0]} bytes is too small: each sample has at least {least_bytes}")
        count = whole_number(f"the slot count of the pool of {pool[0]} bytes", pool[1], 1, SLOT_LIMIT)
        if capacity in found:
            raise ValueError(f"pools has two pools with slots of {capacity} bytes. Give one, with the sum of both")
        if count < depth + max_loans:
            raise ValueError(
                f"the pool of {pool[0]} bytes has {count} slots, and needs at least {depth + max_loans}: depth is "
                f"{depth} and max_loans {max_loans}, and all samples that are kept and loaned may be of that size"
            )
        found[capacity] = count + spare_slots
    if not 1 <= len(found) <= MAX_POOLS:
        raise ValueError(f"pools has {len(found)} pools, and has to have from 1 to {MAX_POOLS}")
    return tuple(
        Pool(-(-(capacity + more_bytes) // SLOT_ALIGN) * SLOT_ALIGN, count) for capacity, count in sorted(found.items())
    )


def least_spare(pools: tuple[Pool, ...], depth: int, max_loans: int) -> int:
    """The spare slots of the class with the fewest."""
    return min(pool.slot_count for pool in pools) - depth - max_loans


@dataclass(frozen=True, slots=True)
class Qos:
    """The options of one segment. `evict_after` and `max_period` are in seconds. `crc` and `metadata`: each sample has
    a checksum, and may have metadata. `hugepages`: its pools get huge pages where the system has them. `pools`: its
    size classes without reserve slots; none: one. `grow`: larger classes may be added.
    """

    depth: int
    max_loans: int
    spare_slots: int
    max_subscribers: int
    on_full: OnFull
    evict_after: float | None = None
    max_period: float | None = None
    crc: bool = False
    metadata: bool = False
    hugepages: bool = False
    pools: tuple[Pool, ...] = ()
    grow: bool = False

    def __post_init__(self) -> None:
        checked_flags(crc=self.crc, metadata=self.metadata, hugepages=self.hugepages, grow=self.grow)
        checked_seconds("evict_after", self.evict_after)
        checked_seconds("max_period", self.max_period)
        whole_number("depth", self.depth, 1, SLOT_LIMIT - 1)
        whole_number("max_loans", self.max_loans, 1, SLOT_LIMIT - 1)
        whole_number("spare_slots", self.spare_slots, 0, SLOT_LIMIT - 1)
        whole_number("max_subscribers", self.max_subscribers, 1, SUBSCRIBER_LIMIT)
        checked_choice("on_full", self.on_full, *ON_FULL)
        what = "the number of slots of all pools" if self.pools else "depth + max_loans + spare_slots + reserve"
        whole_number(what, self.slot_count, 2, SLOT_LIMIT)
        if self.on_full != "evict" and self.depth < self.max_loans:
            raise ValueError(
                f"depth is {self.depth} and max_loans {self.max_loans}: with on_full={self.on_full!r} depth has to be "
                "at least max_loans, or loans that are out would push out what a reliable subscriber still needs"
            )

    @property
    def reserve_slots(self) -> int:
        """Slots of each class that are used only in place of those that evicted subscribers still hold."""
        return max(RESERVE_SLOTS, self.max_loans) if self.evict_after is not None else 0

    @property
    def slot_count(self) -> int:
        """All slots that the segment begins with."""
        return sum(pool.slot_count for pool in self.pools_of(SLOT_ALIGN))

    @property
    def class_slots(self) -> int:
        """The slots that a class needs."""
        return self.depth + self.max_loans + self.spare_slots + self.reserve_slots

    def pools_of(self, slot_capacity: int) -> tuple[Pool, ...]:
        """The pools that the segment begins with; where there is one size class only, its slots have `slot_capacity`
        bytes.
        """
        if not self.pools:
            return (Pool(checked_capacity("slot_capacity", slot_capacity), self.class_slots),)
        return tuple(Pool(pool.slot_capacity, pool.slot_count + self.reserve_slots) for pool in self.pools)

    @property
    def slot_limit(self) -> int:
        """All slots that the segment can have: where it may grow, one class in each pool that is left."""
        more = (MAX_POOLS - max(1, len(self.pools))) * self.class_slots if self.grow else 0
        return min(self.slot_count + more, SLOT_LIMIT)

    @property
    def metadata_bytes(self) -> int:
        """What each slot has behind its payload."""
        return METADATA_ROOM if self.metadata else 0

    def config(self) -> SegmentConfig:
        """The fields of the header that follow from the options; a creator adds its own."""
        return SegmentConfig(
            depth=self.depth,
            max_loans=self.max_loans,
            spare_slots=self.spare_slots,
            reserve_slots=self.reserve_slots,
            slot_limit=self.slot_limit,
            pool_limit=MAX_POOLS if self.grow else max(1, len(self.pools)),
            max_subscribers=self.max_subscribers,
            policy=ON_FULL.index(self.on_full),
            compat=COMPAT_CRC if self.crc else 0,
            max_period_ns=int(float(self.max_period or 0) * 1e9),
        )
