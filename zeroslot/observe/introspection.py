"""What live segments show, read without taking a subscriber entry: `topics` and `inspect`."""

from __future__ import annotations

from pathlib import Path

from zeroslot._core.binding import TYPED
from zeroslot.errors import CorruptSegmentError, MismatchError, TopicNotFoundError
from zeroslot.info import PublisherInfo, TopicInfo
from zeroslot.memory import flink
from zeroslot.memory.attach import AttachedControl
from zeroslot.memory.directories import checked_domain, checked_topic, topic_directory
from zeroslot.memory.peers import publisher_info
from zeroslot.types.layout import Layout
from zeroslot.types.schema import unpack_schema


def topics(domain: str | None = None) -> tuple[TopicInfo, ...]:
    """Every topic of a domain that has a live publisher."""
    checked = checked_domain(domain)
    found = (_topic_info(topic, checked) for topic in flink.list_topics(checked))
    return tuple(info for info in found if info.publishers)


def inspect(topic: str, domain: str | None = None) -> TopicInfo:
    """What is known of one topic. Raises TopicNotFoundError when it has no live publisher."""
    info = _topic_info(checked_topic(topic), checked_domain(domain))
    if not info.publishers:
        raise TopicNotFoundError(
            f"{topic} has no publisher in domain {info.domain}. Start one, or list the topics with topics()",
            topic=topic,
            domain=info.domain,
        )
    return info


def schema_of(topic: str, domain: str | None = None) -> Layout:
    """The layout of a topic's samples, from the segment of its first live publisher. Raises TopicNotFoundError."""
    checked, place = checked_topic(topic), checked_domain(domain)
    for path in flink.list_flinks(topic_directory(place, checked)):
        attached = _attach(path)
        if attached is not None and attached.segment.info.payload_kind == TYPED:
            return unpack_schema(attached.segment.schema(), topic)
    raise TopicNotFoundError(f"{topic} has no publisher of typed samples in domain {place}", topic=topic, domain=place)


def _topic_info(topic: str, domain: str) -> TopicInfo:
    found = (_publisher_info(path) for path in flink.list_flinks(topic_directory(domain, topic)))
    return TopicInfo(topic, domain, tuple(info for info in found if info is not None))


def _attach(path: Path) -> AttachedControl | None:
    """The control object under a flink, or None when it was removed, dead, or not to be read."""
    try:
        attached = flink.attach(path, str(path), read_only=True)
        if attached is None or not attached.is_live():
            return None
        attached.check_not_truncated()
    except (ValueError, PermissionError, MismatchError, CorruptSegmentError):
        return None
    return attached


def _publisher_info(path: Path) -> PublisherInfo | None:
    attached = _attach(path)
    return publisher_info(attached, path) if attached is not None else None
