"""The options of a segment: how much it keeps, for how many subscribers, and what happens when no slot is free.

Why `depth` is exact: every subscriber can always take the newest `depth` samples, whatever the others hold. The price
is the slots beyond them: `max_loans` that are written, `spare_slots` that are read.

Why all options are one record: an option is added to `Qos`, with its check and its field of the header, and to the
constructor that users see. Nothing between them names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import Any, Literal

from zeroslot._core.binding import COMPAT_CRC, METADATA_ROOM, SLOT_LIMIT, SUBSCRIBER_LIMIT, SegmentConfig

OnFull = Literal["evict", "block", "raise"]
ON_FULL: tuple[OnFull, ...] = ("evict", "block", "raise")

DEFAULT_SPARE = 32
LEAST_SPARE = 4
RESERVE_SLOTS = 4  # the default of a subscriber's max_leases
SPARE_BYTES = 16 * 1024 * 1024


def whole_number(name: str, value: int, low: int, high: int) -> int:
    """`value`, or ValueError or TypeError naming it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, and has to be from {low} to {high}")
    return value


def checked_seconds(name: str, value: Any) -> float | None:
    """A length of time above 0, or None; ValueError or TypeError naming it."""
    if value is None:
        return None
    seconds = _real(name, "seconds or None", value)
    if not 0 < seconds < 1e9:
        raise ValueError(f"{name} is {value}, and has to be above 0")
    return seconds


def checked_spin_us(value: Any) -> float:
    """A number of microseconds, 0 or more; infinity is one. ValueError or TypeError for anything else."""
    microseconds = _real("spin_us", "microseconds", value)
    if not microseconds >= 0:
        raise ValueError(f"spin_us is {value}, and has to be 0 or more")
    return microseconds


def _real(name: str, unit: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a number of {unit}, not {value!r}")
    try:
        return float(value)
    except OverflowError:  # beyond all floats
        return inf if str(value)[0] != "-" else -inf


def default_spare(slot_capacity: int) -> int:
    """Spare slots by default: 32, fewer so that they take at most 16 MiB, at least 4."""
    return max(LEAST_SPARE, min(DEFAULT_SPARE, SPARE_BYTES // max(slot_capacity, 1)))


@dataclass(frozen=True, slots=True)
class Qos:
    """The options of one segment. `evict_after` and `max_period` are in seconds. `crc` and `metadata`: each sample has
    a checksum, and may have metadata. `hugepages`: its pools get huge pages where the system has them.
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

    def __post_init__(self) -> None:
        checked_seconds("evict_after", self.evict_after)
        checked_seconds("max_period", self.max_period)
        whole_number("depth", self.depth, 1, SLOT_LIMIT - 1)
        whole_number("max_loans", self.max_loans, 1, SLOT_LIMIT - 1)
        whole_number("spare_slots", self.spare_slots, 0, SLOT_LIMIT - 1)
        whole_number("max_subscribers", self.max_subscribers, 1, SUBSCRIBER_LIMIT)
        if self.on_full not in ON_FULL:
            raise ValueError(f"on_full is {self.on_full!r}, and has to be one of {', '.join(map(repr, ON_FULL))}")
        whole_number("depth + max_loans + spare_slots + reserve", self.slot_count, 2, SLOT_LIMIT)
        if self.on_full != "evict" and self.depth < self.max_loans:
            raise ValueError(
                f"depth is {self.depth} and max_loans {self.max_loans}: with on_full={self.on_full!r} depth has to be "
                "at least max_loans, or loans that are out would push out what a reliable subscriber still needs"
            )

    @property
    def reserve_slots(self) -> int:
        """Slots that are used only in place of those that evicted subscribers still hold."""
        return max(RESERVE_SLOTS, self.max_loans) if self.evict_after is not None else 0

    @property
    def slot_count(self) -> int:
        """All slots of the segment."""
        return self.depth + self.max_loans + self.spare_slots + self.reserve_slots

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
            slot_limit=self.slot_count,
            max_subscribers=self.max_subscribers,
            policy=ON_FULL.index(self.on_full),
            compat=COMPAT_CRC if self.crc else 0,
            max_period_ns=int(float(self.max_period or 0) * 1e9),
        )
