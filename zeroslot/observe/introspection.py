"""Facts of live segments, read without taking a subscriber entry: `topics` and `inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroslot._core.binding import now_ns
from zeroslot.errors import CorruptSegmentError, MismatchError, TopicNotFoundError
from zeroslot.memory import flink, liveness, segment
from zeroslot.qos import ON_FULL
from zeroslot.types.sample import Layout
from zeroslot.types.schema import unpack_schema


@dataclass(frozen=True, slots=True)
class SubscriberFacts:
    """One attached subscriber.

    `oldest_held_s`: the age of the oldest sample that it holds. None: it holds none, or the publisher is in another
    time namespace, and its times are of another clock.
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


@dataclass(frozen=True, slots=True)
class PublisherFacts:
    """One live publisher and its subscribers. `counters` are the owner's, exact at the moment of reading.

    `max_period_s`: the longest time between two samples that it promises, None without a promise. `overdue`: whether it
    has broken that promise since its newest sample (or its creation); None where its clock is another one, in another
    time namespace.
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
    on_full: str
    created_realtime_ns: int
    published: int
    max_period_s: float | None
    overdue: bool | None
    counters: dict[str, int]
    subscribers: tuple[SubscriberFacts, ...]


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """One topic and its live publishers."""

    topic: str
    domain: str
    publishers: tuple[PublisherFacts, ...]


def topics(domain: str | None = None) -> tuple[TopicFacts, ...]:
    """Every topic of a domain that has a live publisher."""
    checked = flink.checked_domain(domain)
    found = (_facts_of(topic, checked) for topic in flink.list_topics(checked))
    return tuple(facts for facts in found if facts.publishers)


def inspect(topic: str, domain: str | None = None) -> TopicFacts:
    """What is known of one topic. Raises TopicNotFoundError when it has no live publisher."""
    facts = _facts_of(flink.checked_topic(topic), flink.checked_domain(domain))
    if not facts.publishers:
        raise TopicNotFoundError(
            f"nobody publishes {topic} in domain {facts.domain}. Start a publisher, or look with topics()",
            topic=topic,
            domain=facts.domain,
        )
    return facts


def schema_of(topic: str, domain: str | None = None) -> Layout:
    """The layout of a topic's samples, from the segment of its first live publisher. Raises TopicNotFoundError."""
    checked, place = flink.checked_topic(topic), flink.checked_domain(domain)
    for path in flink.list_flinks(flink.topic_directory(place, checked)):
        attached = _attach(path)
        if attached is not None and attached.segment.facts()["payload_kind"] == segment.TYPED:
            return unpack_schema(attached.segment.schema(), Layout, topic)[0]
    raise TopicNotFoundError(f"nobody publishes typed samples on {topic} in domain {place}", topic=topic, domain=place)


def _facts_of(topic: str, domain: str) -> TopicFacts:
    found = (_publisher(path) for path in flink.list_flinks(flink.topic_directory(domain, topic)))
    return TopicFacts(topic, domain, tuple(facts for facts in found if facts is not None))


def _attach(path: Path) -> segment.AttachedControl | None:
    """The control object under a flink, or None when it is gone, dead, or not to be read."""
    try:
        attached = flink.attach(path, str(path), read_only=True)
        if attached is None or attached.segment.state != segment.OPEN or not attached.owner_alive():
            return None
        attached.look_again()
    except (ValueError, PermissionError, MismatchError, CorruptSegmentError):
        return None
    return attached


def _publisher(path: Path) -> PublisherFacts | None:
    attached = _attach(path)
    if attached is None:
        return None
    mapped = attached.segment
    facts = mapped.facts()
    type_name, sample_bytes = "bytes", 0
    if facts["payload_kind"] == segment.TYPED:
        try:
            layout, _ = unpack_schema(mapped.schema(), Layout)
        except (MismatchError, CorruptSegmentError):
            return None
        type_name, sample_bytes = layout.name, layout.size
    published = mapped.published
    period_s, overdue = liveness.promised_period(mapped)
    alive = segment.alive_among(attached.probe, mapped.active_indexes())
    return PublisherFacts(
        publisher_id=segment.segment_id_of(str(attached.control_name)),
        flink=path,
        name=facts["owner_name"],
        pid=facts["owner_pid"],
        command=liveness.command_of(facts["owner_pid"], facts["owner_start_time"]),
        type_name=type_name,
        type_hash=facts["type_hash"].hex(),
        sample_bytes=sample_bytes,
        depth=facts["depth"],
        slot_count=facts["slot_limit"],
        slot_capacity=mapped.pool_facts(0)[0],
        on_full=ON_FULL[facts["policy"]],
        created_realtime_ns=facts["created_realtime_ns"],
        published=published,
        max_period_s=period_s,
        overdue=overdue,
        counters=mapped.counters(),
        subscribers=tuple(_subscriber(mapped, index, published) for index in alive),
    )


def _subscriber(mapped: Any, index: int, published: int) -> SubscriberFacts:
    peer = mapped.peer(index)
    held = mapped.held_by(index)
    oldest = min((published_ns for _, published_ns in held), default=None)
    return SubscriberFacts(
        index=index,
        name=peer["name"],
        pid=peer["pid"],
        command=liveness.command_of(peer["pid"], peer["start_time"]),
        stopped=liveness.is_stopped(peer["pid"], peer["start_time"]),
        reliable=peer["reliable"],
        max_leases=peer["max_leases"],
        taken=peer["taken"],
        lost=peer["lost"],
        skipped=peer["skipped"],
        held=len(held),
        oldest_held_s=(now_ns() - oldest) / 1e9 if oldest is not None and liveness.has_our_clock(mapped) else None,
        behind=max(0, published - peer["cursor"]),
    )
