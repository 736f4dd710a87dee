"""`Monitor`: watches the counters of live publishers and of their subscribers, and takes no part.

It maps the control objects read-only and takes no entry of a peer table, so nothing of what it reads can change because
of it, and a publisher cannot notice it. Pools are not mapped: samples are not read, only when they were published.

Why the mappings are kept: attaching costs a hundred times as much as reading the counters again.

Why a snapshot is not of one instant: each counter is loaded by itself while the publisher goes on. The sequence and the
time of the newest sample belong together, however; rates come from two such pairs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from zeroslot._core.binding import now_ns
from zeroslot.errors import ClosedError, CorruptSegmentError, MismatchError
from zeroslot.info import PoolInfo, Problem, SampleFacts, WaitingInfo
from zeroslot.memory import flink, liveness
from zeroslot.memory.attach import AttachedControl
from zeroslot.memory.clocks import shares_clock
from zeroslot.memory.directories import checked_domain, checked_topic, topic_directory
from zeroslot.memory.objects import segment_id_of
from zeroslot.memory.peers import pools_of, type_of
from zeroslot.observe.histogram import LatencyHistogram
from zeroslot.observe.introspection import attach_live, problem_of, waiting_in
from zeroslot.qos import ON_FULL, OnFull

_TRIES = 16  # to read the newest sample of a publisher that publishes meanwhile


@dataclass(frozen=True, slots=True)
class SubscriberSnapshot:
    """The counters of one live subscriber of one publisher.

    `epoch` changes when another subscriber gets the same `index`. `behind`: samples that it has not taken, of those
    that it could take or has lost. `lag_s`: the age of the oldest sample that it could take; 0.0 where there is none.
    None: the publisher is in another time namespace. `latency`: how long samples waited for it.
    """

    index: int
    epoch: int
    name: str
    pid: int
    reliable: bool
    max_leases: int
    taken: int
    lost: int
    skipped: int
    held: int
    behind: int
    lag_s: float | None
    latency: LatencyHistogram


@dataclass(frozen=True, slots=True)
class PublisherSnapshot:
    """The counters of one live publisher, and of its live subscribers.

    `published` and `bytes` count all of its samples. `sequence` and `newest_ns` belong to one sample, the newest one:
    its number and when it was published (CLOCK_MONOTONIC); 0 before any. `age_s`: how long ago that was; None: there
    is none, or the publisher is in another time namespace. `counters` are the publisher's, by name.
    """

    topic: str
    publisher_id: str
    flink: Path
    name: str
    pid: int
    type_name: str
    sample_bytes: int
    depth: int
    on_full: OnFull
    max_period_s: float | None
    published: int
    bytes: int
    sequence: int
    newest_ns: int
    age_s: float | None
    counters: dict[str, int]
    pools: tuple[PoolInfo, ...]
    subscribers: tuple[SubscriberSnapshot, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a monitor saw: the live publishers by topic, and what it could not read. `read_ns`: when it looked
    (CLOCK_MONOTONIC). `waiting`: by topic, the subscribers that are attached to no publisher; none where they
    were not asked for.
    """

    domain: str
    read_ns: int
    publishers: tuple[PublisherSnapshot, ...]
    problems: tuple[Problem, ...]
    waiting: dict[str, tuple[WaitingInfo, ...]] = field(default_factory=dict)


class Monitor:
    """Watches the live publishers of a domain, or of one topic, without taking part.

    Publishers that come and go are noticed at the next snapshot. One file descriptor and one mapping is kept open for
    each publisher. Threads may share a monitor. It works in forked children. A context manager.
    """

    def __init__(self, topic: str | None = None, *, domain: str | None = None) -> None:
        self.topic = None if topic is None else checked_topic(topic)
        self.domain = checked_domain(domain)
        self._watched: dict[Path, _Watched] | None = {}
        self._pid = os.getpid()

    def snapshot(self, *, waiting: bool = False) -> Snapshot:
        """The publishers that live now, and their counters. `waiting`: also the subscribers that wait for a publisher.

        Raises PermissionError when the domain's directory may not be read, ClosedError after `close`.
        """
        topics, problems = self._look(waiting=waiting)
        read_ns = now_ns()
        publishers: list[PublisherSnapshot] = []
        waiters: dict[str, tuple[WaitingInfo, ...]] = {}
        for topic, watched in topics.items():
            live: list[AttachedControl] = []
            for each in watched:
                try:
                    if each.attached.is_live():
                        publishers.append(each.snapshot())
                        live.append(each.attached)
                except (MismatchError, CorruptSegmentError, OSError) as error:
                    problems.append(problem_of(each.path, error))
            if waiting and (found := waiting_in(topic_directory(self.domain, topic), live)):
                waiters[topic] = found
        publishers.sort(key=lambda publisher: publisher.topic)
        return Snapshot(self.domain, read_ns, tuple(publishers), tuple(problems), waiters)

    def samples_after(self, publisher_id: str, sequence: int = 0, limit: int = 65535) -> list[SampleFacts]:
        """The newest samples of a publisher after `sequence` that can still be taken, at most `limit`, oldest first.

        The publisher is one of the last snapshot; of another one there are no samples. Raises CorruptSegmentError when
        its segment has been cut short, ClosedError after `close`.
        """
        for each in self._current().values():
            if each.publisher_id == publisher_id:
                each.attached.check_not_truncated()
                return list(map(SampleFacts._make, each.attached.segment.samples_after(sequence, limit)))
        return []

    def close(self) -> None:
        """Let go of all mappings. A second call does nothing."""
        self._watched = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _current(self) -> dict[Path, _Watched]:
        if self._watched is None:
            raise ClosedError("this monitor is closed. Make another one")
        if self._pid != os.getpid():  # a forked child: the descriptors are closed here
            self._watched, self._pid = {}, os.getpid()
        return self._watched

    def _look(self, *, waiting: bool) -> tuple[dict[str, list[_Watched]], list[Problem]]:
        """Map the publishers that have come, forget those that have gone; by topic. `waiting`: also topics with nothing
        but announcements.
        """
        known = self._current()
        topics: dict[str, list[_Watched]] = {}
        flinks, problems = self._flinks(waiting=waiting)
        for topic, paths in flinks.items():
            watched = topics[topic] = []
            for path in paths:
                found = known.get(path) or _watch(topic, path)
                if isinstance(found, Problem):
                    problems.append(found)
                elif found is not None:
                    watched.append(found)
        if self._watched is not None:  # else another thread has closed it meanwhile
            self._watched = {each.path: each for watched in topics.values() for each in watched}
        return topics, problems

    def _flinks(self, *, waiting: bool) -> tuple[dict[str, list[Path]], list[Problem]]:
        if self.topic is None:
            flinks, unreadable = flink.list_domain(self.domain, waiting=waiting)
            problems = [problem_of(topic_directory(self.domain, topic), error) for topic, error in unreadable.items()]
            return flinks, problems
        directory = topic_directory(self.domain, self.topic)
        try:
            return {self.topic: flink.list_flinks(directory)}, []
        except (PermissionError, NotADirectoryError) as error:
            return {}, [problem_of(directory, error)]


def _watch(topic: str, path: Path) -> _Watched | Problem | None:
    attached = attach_live(path)
    if not isinstance(attached, AttachedControl):
        return attached
    try:
        return _Watched(topic, path, attached)
    except (MismatchError, CorruptSegmentError) as error:
        return problem_of(path, error)


class _Watched:
    """A control object that is kept mapped, and what of it does not change."""

    def __init__(self, topic: str, path: Path, attached: AttachedControl) -> None:
        self.topic = topic
        self.path = path
        self.attached = attached
        self.publisher_id = segment_id_of(str(attached.control_name))
        self.type_name, self.sample_bytes = type_of(attached)
        self.one_clock = shares_clock(attached.segment)

    def snapshot(self) -> PublisherSnapshot:
        """Its counters now."""
        self.attached.check_not_truncated()
        segment, info = self.attached.segment, self.attached.segment.info
        counters = segment.counters()
        newest = self._newest()
        sequence, newest_ns = (newest.sequence, newest.published_ns) if newest is not None else (0, 0)
        age_s = max(0, now_ns() - newest_ns) / 1e9 if newest_ns and self.one_clock else None
        return PublisherSnapshot(
            topic=self.topic,
            publisher_id=self.publisher_id,
            flink=self.path,
            name=info.owner_name,
            pid=info.owner_pid,
            type_name=self.type_name,
            sample_bytes=self.sample_bytes,
            depth=info.depth,
            on_full=ON_FULL[info.policy],
            max_period_s=info.max_period_ns / 1e9 if info.max_period_ns else None,
            published=counters.published,
            bytes=counters.bytes,
            sequence=sequence,
            newest_ns=newest_ns,
            age_s=age_s,
            counters=counters._asdict(),
            pools=pools_of(segment),
            subscribers=tuple(map(self._subscriber, liveness.live_peers(segment, self.attached.probe))),
        )

    def _newest(self) -> SampleFacts | None:
        """The newest sample; one that was published while this looked, where it can be read no other way."""
        segment = self.attached.segment
        for _ in range(_TRIES):
            found = segment.samples_after(0, 1)
            if found:
                return SampleFacts._make(found[0])
            if segment.published < segment.info.first_sequence:
                break
        return None

    def _subscriber(self, index: int) -> SubscriberSnapshot:
        segment = self.attached.segment
        peer = segment.peer(index)
        return SubscriberSnapshot(
            index=index,
            epoch=peer.epoch,
            name=peer.name,
            pid=peer.pid,
            reliable=peer.reliable,
            max_leases=peer.max_leases,
            taken=peer.taken,
            lost=peer.lost,
            skipped=peer.skipped,
            held=peer.leases,
            behind=max(0, segment.published - peer.cursor),
            lag_s=self._lag_s(peer.cursor) if self.one_clock else None,
            latency=LatencyHistogram(peer.latency, peer.latency_max_ns),
        )

    def _lag_s(self, cursor: int) -> float:
        """The age of the oldest sample after `cursor` that can be taken; 0.0 where there is none."""
        segment = self.attached.segment
        for _ in range(_TRIES):
            published = segment.published
            if cursor >= published:
                break
            oldest = segment.sample(max(cursor + 1, published - segment.info.depth + 1))
            if oldest is not None:
                return max(0, now_ns() - oldest[1]) / 1e9
        return 0.0
