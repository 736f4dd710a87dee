"""What live segments show, read without taking a subscriber entry: `domains`, `topics` and `inspect`.

Why what cannot be read is part of the answer: a publisher of another format, or a directory of another user, is often
the reason for the question. Only a directory without which there is no answer at all is an error.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from zeroslot._core.binding import TYPED
from zeroslot.errors import CorruptSegmentError, MismatchError, TopicNotFoundError
from zeroslot.info import Problem, PublisherInfo, TopicInfo, WaitingInfo
from zeroslot.memory import announcement, flink
from zeroslot.memory.attach import AttachedControl
from zeroslot.memory.directories import checked_domain, checked_topic, topic_directory
from zeroslot.memory.peers import announcements_joined, publisher_info

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zeroslot.types.layout import Layout

UNREADABLE = (ValueError, OSError, MismatchError, CorruptSegmentError)  # what may come of a flink and its segment

log = logging.getLogger("zeroslot")


def domains() -> tuple[str, ...]:
    """Every domain that has a directory, sorted. Raises PermissionError when the root may not be read,
    NotADirectoryError when it is a file.
    """
    return tuple(flink.list_domains())


def topics(domain: str | None = None, *, waiting: bool = False) -> tuple[TopicInfo, ...]:
    """Every topic of a domain that has a live publisher, or something that cannot be read; see `TopicInfo`. `waiting`:
    also those that have only subscribers, which wait for a publisher.

    Raises PermissionError when the domain's directory may not be read.
    """
    checked = checked_domain(domain)
    flinks, unreadable = flink.list_domain(checked, waiting=waiting)
    found = [_topic_info(topic, checked, paths) for topic, paths in flinks.items()]
    for topic, error in unreadable.items():
        problem = problem_of(topic_directory(checked, topic), error)
        found.append(TopicInfo(topic, checked, (), problems=(problem,)))
    told = (info for info in found if _is_something(info, waiting))
    return tuple(sorted(told, key=lambda info: info.topic))


def inspect(topic: str, domain: str | None = None, *, waiting: bool = False) -> TopicInfo:
    """What is known of one topic.

    Raises TopicNotFoundError when it has neither a live publisher nor a problem, and with `waiting` no subscriber that
    waits for one either.
    """
    checked, place = checked_topic(topic), checked_domain(domain)
    directory = topic_directory(place, checked)
    try:
        info = _topic_info(checked, place, flink.list_flinks(directory), with_schema=True)
    except (PermissionError, NotADirectoryError) as error:
        info = TopicInfo(checked, place, (), problems=(problem_of(directory, error),))
    if not _is_something(info, waiting):
        raise TopicNotFoundError(
            f"{topic} has no publisher in domain {info.domain}. Start one; `zeroslot list` or topics() shows all",
            topic=topic,
            domain=info.domain,
        )
    return info


def waiting_subscribers(*, domain: str | None = None) -> dict[str, tuple[WaitingInfo, ...]]:
    """By topic, the subscribers of a domain that are attached to no publisher. Topics without such are left out; so are
    those whose directories cannot be read, each with a warning in the log.

    Raises PermissionError when the domain's directory may not be read.
    """
    checked = checked_domain(domain)
    found: dict[str, tuple[WaitingInfo, ...]] = {}
    listed, unreadable = flink.list_domain(checked, waiting=True)
    for topic, error in unreadable.items():
        log.warning("%s: its subscribers cannot be told: %s", topic, error)
    for topic, paths in listed.items():
        waiting = waiting_in(topic_directory(checked, topic), map(attach_live, paths))
        if waiting:
            found[topic] = waiting
    return found


def schema_of(topic: str, domain: str | None = None, *, publisher_id: str | None = None) -> Layout:
    """The layout of a topic's samples, from the segment of its first live publisher, or of the one with this id.

    Raises TopicNotFoundError; where there is no such publisher and something that cannot be read, what Subscriber
    raises for that: FormatError, CorruptSegmentError, PermissionError.
    """
    from zeroslot.types.schema import unpack_schema

    checked, place = checked_topic(topic), checked_domain(domain)
    unread: Exception | None = None
    for path in flink.list_flinks(topic_directory(place, checked)):
        try:
            attached = _attached(path) if publisher_id in (None, path.stem) else None
            if attached is not None and attached.segment.info.payload_kind == TYPED:
                return unpack_schema(attached.segment.schema(), topic)
        except UNREADABLE as error:
            unread = unread or error
    if unread is not None:
        raise unread
    raise TopicNotFoundError(f"{topic} has no publisher of typed samples in domain {place}", topic=topic, domain=place)


def attach_live(path: Path) -> AttachedControl | Problem | None:
    """The control object under a flink, mapped read-only, if its owner lives. None: it was removed, is not complete, or
    its owner is dead. A problem: it cannot be read.
    """
    try:
        return _attached(path)
    except UNREADABLE as error:
        return problem_of(path, error)


def _attached(path: Path) -> AttachedControl | None:
    """As `attach_live`, but what cannot be read is an exception, one of UNREADABLE."""
    attached = flink.attach(path, str(path), read_only=True)
    if attached is None or not attached.is_live():
        return None
    attached.check_not_truncated()
    return attached


def problem_of(where: Path, error: Exception) -> Problem:
    """An error that was raised while something was read, as a fact."""
    if isinstance(error, OSError):
        return Problem("unreadable", where, str(error))
    return Problem("foreign" if isinstance(error, MismatchError) else "corrupt", where, str(error))


def _topic_info(topic: str, domain: str, flinks: list[Path], *, with_schema: bool = False) -> TopicInfo:
    """A topic's publishers, problems and subscribers that wait. `with_schema`: check the schemas as well, which takes
    longer.
    """
    readable: list[AttachedControl] = []
    publishers: list[PublisherInfo] = []
    problems: list[Problem] = []
    for path in flinks:
        attached = attach_live(path)
        if isinstance(attached, Problem):
            problems.append(attached)
        if not isinstance(attached, AttachedControl):
            continue
        try:
            publishers.append(publisher_info(attached, path))
            readable.append(attached)
            if with_schema:
                _check_schema(attached, topic)
        except (MismatchError, CorruptSegmentError) as error:
            problems.append(problem_of(path, error))
    waiting = waiting_in(topic_directory(domain, topic), readable)
    return TopicInfo(topic, domain, tuple(publishers), problems=tuple(problems), waiting=waiting)


def waiting_in(directory: Path, publishers: Iterable[AttachedControl | Problem | None]) -> tuple[WaitingInfo, ...]:
    """The subscriptions that are announced in a topic's directory and attached to none of its publishers.

    The announcements are read first: one that is attached meanwhile does not wait.
    """
    announced = announcement.announced_in(directory)
    attached_ids: set[int] = set()
    for each in publishers if announced else ():
        if isinstance(each, AttachedControl):
            attached_ids |= announcements_joined(each.segment)
    return tuple(announcement.waiting_info(each) for each in announced if each.id not in attached_ids)


def _is_something(info: TopicInfo, waiting: bool) -> bool:
    return bool(info.publishers or info.problems or (waiting and info.waiting))


def _check_schema(attached: AttachedControl, topic: str) -> None:
    if attached.segment.info.payload_kind == TYPED:
        from zeroslot.types.schema import unpack_schema

        unpack_schema(attached.segment.schema(), topic)
