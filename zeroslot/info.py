"""Records of topics, publishers and subscribers, as other processes see them.

Why they stand beside the errors: `topics`, `inspect`, `Subscriber.publishers`, callbacks and errors all give the same
records.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from zeroslot.qos import OnFull

Refusal = Literal["type", "policy", "full", "permission", "corrupt", "format", "system"]
ProblemKind = Literal["unreadable", "foreign", "corrupt"]
Verdict = Literal["ok", "note", "wrong"]


class SampleFacts(NamedTuple):
    """A sample that can still be taken: when it was published (CLOCK_MONOTONIC of the publisher), and its bytes."""

    sequence: int
    published_ns: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check of `diagnose` found.

    `verdict`: "ok"; "note": it works, and may surprise; "wrong": something does not work because of it. `check`: what
    was looked at, such as "shared memory". `what`: what was found. `advice`: what to do; empty where it is ok.
    """

    check: str
    verdict: Verdict
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a domain's directory that should be a topic or a publisher, and cannot be read as one.

    `kind`: "unreadable": this process may not read it, or the system refuses; "foreign": it is of another format or
    version, or is no flink; "corrupt": a segment that contradicts itself, or has been cut short. `where`: its path.
    `text`: what is wrong, and what to do.
    """

    kind: ProblemKind
    where: Path
    text: str


@dataclass(frozen=True, slots=True)
class SubscriberInfo:
    """One subscriber of one publisher.

    `held`: samples that it holds. `behind`: samples that it has not taken. `oldest_held_s`: the age of the oldest
    sample that it holds. None: it holds none, or the publisher is in another time namespace, and its times are of
    another clock.

    `stalled_s`: seconds since the publisher first found it holding a sample that it still holds, or, where it is
    reliable, behind at the sequence where it still is; 0.0 the first time. The publisher looks when it has no free
    slot, for `evict_stale`, and for errors and callbacks. None: the record does not come from the publisher.

    `by_ticket`: it is no subscriber, but a process that redeems tickets.
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
    by_ticket: bool = False

    @property
    def slots(self) -> int:
        """The same as `held`: each sample that is held keeps one slot."""
        return self.held


@dataclass(frozen=True, slots=True)
class WaitingInfo:
    """A subscription that is announced, and is attached to no publisher of its topic; in an error of a publisher, not
    to that one.

    `type_hash`: 32 hexadecimal digits; empty where it reads any type. `refused`: the ids of publishers that it leaves
    out, among them some that have ended. `stalled_s`: seconds since the publisher that waits for it first found it in
    its way. None: the record does not come from a publisher.
    """

    name: str
    pid: int
    command: str
    stopped: bool
    reliable: bool
    match: Literal["exact", "by_name"]
    history: int
    max_leases: int
    type_hash: str
    refused: tuple[str, ...] = ()
    stalled_s: float | None = None


@dataclass(frozen=True, slots=True)
class RefusedInfo:
    """A publisher that a subscriber does not read.

    `why`: "type": its samples are of another type. "policy": it offers less than the subscriber asks for. "full": it
    has no room for another subscriber. "permission": this process may not open it. "corrupt", "format": its segment
    contradicts itself, or is of another version. "system": the system refuses, such as more descriptors. Of these,
    "full", "permission" and "system" are tried again. `text`: what is wrong, and what to do. `name` and `pid`: of the
    publisher; empty and 0 where its segment could not be read.
    """

    publisher_id: str
    flink: Path
    name: str
    pid: int
    why: Refusal
    text: str


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """One pool of a segment: slots of one capacity.

    `committed`: samples published in its slots. `discarded`: loans of its slots that ended without a sample.
    `passed_on`: loans that were small enough for it, found none of its slots free, and got a larger slot.
    `no_free_slot`: loans that were small enough for it, and found neither one of its slots free nor a larger one.
    """

    slot_capacity: int
    slot_count: int
    committed: int = 0
    discarded: int = 0
    passed_on: int = 0
    no_free_slot: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of the pool."""
        return self.slot_capacity * self.slot_count

    @property
    def loans(self) -> int:
        """Loans of its slots that have ended."""
        return self.committed + self.discarded


@dataclass(frozen=True, slots=True)
class PublisherInfo:
    """One live publisher and its subscribers.

    `slot_count`: all slots. `slot_capacity`: that of the largest ones. `counters` are the publisher's, exact at the
    moment of reading. `max_period_s`: the longest time between two samples that it promises, None without a promise.
    `overdue`: whether it has broken that promise since its newest sample (or its creation); None where its clock is
    another one, in another time namespace.
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
    pools: tuple[PoolInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One topic and its live publishers.

    `problems`: what lies in the topic's directory and cannot be read. `waiting`: subscribers that are attached to none
    of the publishers. A topic may have problems or subscribers that wait, and no publisher.
    """

    topic: str
    domain: str
    publishers: tuple[PublisherInfo, ...]
    problems: tuple[Problem, ...] = ()
    waiting: tuple[WaitingInfo, ...] = ()
