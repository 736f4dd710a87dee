"""Records of topics, publishers and subscribers, as other processes see them.

Why they stand beside the errors: `topics`, `inspect`, `Subscriber.publishers`, callbacks and errors all give the same
records.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zeroslot.qos import OnFull


@dataclass(frozen=True, slots=True)
class SubscriberInfo:
    """One subscriber of one publisher.

    `held`: samples that it holds. `behind`: samples that it has not taken. `oldest_held_s`: the age of the oldest
    sample that it holds. None: it holds none, or the publisher is in another time namespace, and its times are of
    another clock.

    `stalled_s`: seconds since the publisher first found it holding a sample that it still holds, or, where it is
    reliable, behind at the sequence where it still is; 0.0 the first time. The publisher looks when it has no free
    slot, for `evict_stale`, and for errors and callbacks. None: the record does not come from the publisher.
    """

    index: int
    name: str
    pid: int
    command: str
    stopped: bool
    reliable: bool
    max_leases: int
    taken: int
    lost: int
    skipped: int
    held: int
    oldest_held_s: float | None
    behind: int
    stalled_s: float | None = None

    @property
    def slots(self) -> int:
        """The same as `held`: each sample that is held keeps one slot."""
        return self.held


@dataclass(frozen=True, slots=True)
class PublisherInfo:
    """One live publisher and its subscribers.

    `counters` are the publisher's, exact at the moment of reading. `max_period_s`: the longest time between two samples
    that it promises, None without a promise. `overdue`: whether it has broken that promise since its newest sample (or
    its creation); None where its clock is another one, in another time namespace.
    """

    publisher_id: str
    flink: Path
    name: str
    pid: int
    command: str
    type_name: str
    type_hash: str
    sample_bytes: int
    depth: int
    slot_count: int
    slot_capacity: int
    on_full: OnFull
    created_realtime_ns: int
    published: int
    max_period_s: float | None
    overdue: bool | None
    counters: dict[str, int]
    subscribers: tuple[SubscriberInfo, ...]


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One topic and its live publishers."""

    topic: str
    domain: str
    publishers: tuple[PublisherInfo, ...]
