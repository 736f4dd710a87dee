"""`Subscriber`: reads a topic from all its publishers, in place, and follows them as they come and go.

Why mismatched publishers are reported and not fatal: a topic may have several publishers, and one that somebody started
with an old type must not take the others away. It is raised where it is all there is.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast, overload

from zeroslot import flink, segment
from zeroslot._core.binding import Plan, Segment, Source, SubscriberEnd, closed_error, now_ns
from zeroslot.bell import Bell
from zeroslot.closing import close_at_exit
from zeroslot.errors import (
    CorruptSegmentError,
    ForkedHandleError,
    MismatchError,
    TooManyPeersError,
    TypeMismatchError,
    ZeroslotError,
)
from zeroslot.qos import SLOT_LIMIT, checked_spin_us, whole_number
from zeroslot.reader import SlotReader, check_qos
from zeroslot.sample import Layout, Sample, layout_of, not_a_sample_type
from zeroslot.schema import mismatch, shared_members, unpack_schema
from zeroslot.view import not_by_name, reading_plan, sample_type_of, view_class_by_name, view_class_of
from zeroslot.waiting import wait_until

log = logging.getLogger("zeroslot")

S_co = TypeVar("S_co", bound=Sample, covariant=True)  # a Subscriber[Imu] is a Subscriber[Sample]
Match = Literal["exact", "by_name"]

DEFAULT_SPIN_US = 20.0  # about what a wake-up costs, so spinning at most doubles the cost of one


@dataclass(frozen=True, slots=True)
class SubscriberStats:
    """A subscriber's counters over all publishers, those that are gone included."""

    taken: int
    lost: int
    skipped: int
    leases: int
    publishers: int


@dataclass(frozen=True, slots=True)
class PublisherInfo:
    """One publisher, as a subscriber sees it.

    `max_period_s`: the longest time between two samples that it promises, None without a promise. `overdue`: whether it
    has broken that promise since its newest sample (or its creation).
    """

    publisher_id: str
    name: str
    pid: int
    depth: int
    max_period_s: float | None
    overdue: bool


class Subscriber(SubscriberEnd[S_co]):
    """Takes the samples of one topic. A topic needs no publisher to be subscribed to.

    Samples are leased in place: at most `max_leases` of each publisher at once, each until its lease and everything
    read from it are gone. `history`: how many older samples a publisher that is already there shall deliver first.
    `reliable`: publishers with on_full="block" or "raise" wait for this subscriber. `spin_us`: how long to spin before
    sleeping. `match`: "exact", or "by_name" to read the fields that both sides share, wherever they lie: a declared
    default stands in for a field that the publisher lacks, and a publisher that lacks a field without a default, or has
    one of another kind, is a mismatch. Without a `sample_type` the schema in the segment tells it.

    Iteration waits for samples and ends when the subscriber is closed. Threads may share a subscriber. A context
    manager.

    Raises TopicNameError; TypeMismatchError, QosMismatchError or TooManyPeersError when no publisher that is there can
    be read.

    >>> with Subscriber("robot/imu", Imu) as sub:
    ...     for lease in sub:
    ...         print(lease.sequence, lease.sample.accel)
    """

    sample_type: type[S_co] | None

    @overload
    def __init__(
        self,
        topic: str,
        sample_type: type[S_co],
        *,
        history: int = ...,
        reliable: bool = ...,
        max_leases: int = ...,
        spin_us: float | None = ...,
        match: Match = ...,
        domain: str | None = ...,
        name: str | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Subscriber[Any],
        topic: str,
        sample_type: None = None,
        *,
        history: int = ...,
        reliable: bool = ...,
        max_leases: int = ...,
        spin_us: float | None = ...,
        match: Match = ...,
        domain: str | None = ...,
        name: str | None = ...,
    ) -> None: ...

    def __init__(
        self,
        topic: str,
        sample_type: type[S_co] | None = None,
        *,
        history: int = 0,
        reliable: bool = False,
        max_leases: int = 4,
        spin_us: float | None = None,
        match: Match = "exact",
        domain: str | None = None,
        name: str | None = None,
    ) -> None:
        self.topic = flink.checked_topic(topic)
        self.domain = flink.checked_domain(domain)
        if match not in ("exact", "by_name"):
            raise ValueError(f'match is {match!r}, and has to be "exact" or "by_name"')
        if sample_type is not None and not isinstance(sample_type, type):
            raise not_a_sample_type(sample_type)
        spin = checked_spin_us(DEFAULT_SPIN_US if spin_us is None else spin_us)
        self.sample_type = sample_type
        if sample_type is not None:
            layout_of(sample_type)
        self._history = whole_number("history", history, 0, SLOT_LIMIT)
        self._max_leases = whole_number("max_leases", max_leases, 1, SLOT_LIMIT)
        self._reliable = reliable
        self._match = match
        self._name = name
        self._directory = flink.topic_directory(self.domain, self.topic)
        self._following = threading.RLock()
        self._readers: dict[str, SlotReader] = {}
        self._done: set[str] = set()  # publishers that have ended or cannot be read, while their flinks last
        self._missed_since: dict[str, int] = {}  # the cursors of claims that publishers have ended
        self._ended = [0, 0, 0]  # taken, lost, skipped of publishers that are gone
        self._began_ns = now_ns()
        self._released = False
        self._bell = Bell.join(self.domain)
        try:
            super().__init__(self._bell.word, spin)
            self._follow(joining=True)
        except BaseException:
            self._release_all()
            raise
        close_at_exit(self)

    # --- publishers come and go ---

    def _follow(self, *, joining: bool = False) -> None:
        """Attach to publishers that are new, let go of those that have ended and are drained."""
        with self._following:
            if self.closed:
                return  # by another thread, while this one waited
            refused: list[ZeroslotError] = []
            read_from = {source.publisher_id for source in self._sources()}
            for publisher_id in self._readers.keys() - read_from:
                self._readers.pop(publisher_id).close()  # a signal came between two lines of `_attach` or `_drop`
            paths = self._flinks(joining=joining)
            for publisher_id, reader in list(self._readers.items()):
                if reader.reader.broken or (reader.owner_gone and not reader.reader.ready):
                    self._drop(publisher_id, reader)
            self._done &= paths.keys()
            for publisher_id, path in paths.items():
                if publisher_id not in self._readers and publisher_id not in self._done:
                    try:
                        self._attach(publisher_id, path, joining=joining)
                    except (MismatchError, CorruptSegmentError, TooManyPeersError) as error:
                        self._done.add(publisher_id)
                        refused.append(error)
                    except PermissionError as error:
                        self._done.add(publisher_id)
                        log.warning("%s: %s", self.topic, error)
            if refused and not self._readers:
                raise refused[0]
            for reason in refused:
                log.warning("%s: this publisher is left out: %s", self.topic, reason)

    def _flinks(self, *, joining: bool) -> dict[str, Path]:
        """The topic's flinks, by publisher. None of them for a process that has dropped its rights since it joined."""
        try:
            return {path.stem: path for path in flink.list_flinks(self._directory)}
        except PermissionError as error:
            if joining:
                raise
            log.warning("%s: publishers that are new cannot be found any more: %s", self.topic, error)
            return {}

    def _attach(self, publisher_id: str, path: Path, *, joining: bool) -> None:
        attached = flink.attach(path, self.topic)
        if attached is None:
            return
        if attached.segment.state != segment.OPEN or not attached.owner_alive():
            self._done.add(publisher_id)
            return
        attached.look_again()
        facts = attached.segment.facts()
        if facts["payload_kind"] != segment.TYPED:
            raise TypeMismatchError(
                f"{self.topic} carries bytes without a type. Read it with SlotReader.attach({str(path)!r})",
                topic=self.topic,
                here_type=None if self.sample_type is None else self.sample_type.__name__,
            )
        plan = self._plan_for(attached.segment, facts)
        check_qos(self.topic, facts, self._history, self._reliable)
        if not attached.map_pools():
            return
        self._warn_of_leases(attached.segment, facts)
        # A publisher that came after us is read from its first sample.
        newer = not joining and facts["created_monotonic_ns"] >= self._began_ns
        reader = SlotReader.join(
            attached,
            history=self._history,
            max_leases=self._max_leases,
            reliable=self._reliable,
            name=self._name,
            from_first=newer,
        )
        source = Source(reader.reader, plan, publisher_id)
        missed_since = self._missed_since.pop(publisher_id, None)
        if missed_since is not None:
            self._ended[1] += reader.reader.cursor - missed_since
        self._readers[publisher_id] = reader
        self._set_sources([*self._sources(), source])
        log.debug("%s: reading from %s", self.topic, publisher_id)

    def _plan_for(self, mapped: Segment, facts: dict[str, Any]) -> Plan:
        """How to read this publisher's samples. Raises TypeMismatchError with the difference."""
        if self.sample_type is None:
            layout, _ = unpack_schema(mapped.schema(), Layout, self.topic)
            if layout.type_hash != facts["type_hash"]:
                raise self._contradiction(layout, facts)
            self.sample_type = cast("type[S_co]", sample_type_of(layout))  # whoever names no type has Subscriber[Any]
        here = layout_of(self.sample_type)
        if facts["type_hash"] == here.type_hash:
            return reading_plan(view_class_of(self.sample_type), here.size)
        theirs, _ = unpack_schema(mapped.schema(), Layout, self.topic)
        if theirs.type_hash != facts["type_hash"]:
            raise self._contradiction(theirs, facts)
        unreadable = not_by_name(self.sample_type, theirs)
        by_name = bool(shared_members(theirs, here)) and not unreadable
        if self._match == "exact" or not by_name:
            raise mismatch(self.topic, theirs, here, by_name=by_name, unreadable=unreadable)
        return reading_plan(view_class_by_name(self.sample_type, theirs), theirs.size)

    def _contradiction(self, layout: Layout, facts: dict[str, Any]) -> CorruptSegmentError:
        return CorruptSegmentError(
            f"{self.topic}: the schema and the type hash contradict each other",
            where=self.topic,
            topic=self.topic,
            found=facts["type_hash"],
            expected=layout.type_hash,
        )

    def _warn_of_leases(self, mapped: Segment, facts: dict[str, Any]) -> None:
        others = sum(mapped.peer(index)["max_leases"] for index in mapped.active_indexes())
        if others + self._max_leases > facts["spare_slots"]:
            log.warning(
                "%s: its subscribers may hold %d samples (this one %d), and the publisher has %d spare slots: loan() "
                "may fail because of them. Create it with spare_slots=%d, or subscribe with a smaller max_leases",
                self.topic,
                others + self._max_leases,
                self._max_leases,
                facts["spare_slots"],
                others + self._max_leases,
            )

    def _probe(self) -> None:
        """Mark publishers whose processes have died."""
        with self._following:
            for reader in self._readers.values():
                reader._probe()

    def _drop(self, publisher_id: str, reader: SlotReader) -> None:
        if self._readers.pop(publisher_id, None) is None:
            return  # a signal handler that used this subscriber was faster
        self._set_sources([source for source in self._sources() if source.publisher_id != publisher_id])
        if reader.reader.evicted:  # it may join again, and what it misses until then is lost
            self._missed_since[publisher_id] = reader.reader.cursor
        else:
            self._done.add(publisher_id)
        self._retire_counts(reader)
        reader.close()
        log.debug("%s: %s has ended", self.topic, publisher_id)

    def _retire_counts(self, reader: SlotReader) -> None:
        taken, lost, skipped, _ = reader.reader.counts
        self._ended = [self._ended[0] + taken, self._ended[1] + lost, self._ended[2] + skipped]

    # --- what is known ---

    @property
    def lost(self) -> int:
        """Samples that were gone before they could be taken, over all publishers; exact."""
        return self.stats.lost

    @property
    def skipped(self) -> int:
        """Samples that `latest` jumped over, over all publishers; exact."""
        return self.stats.skipped

    @property
    def stats(self) -> SubscriberStats:
        """Counters since creation."""
        with self._following:
            counts = [reader.reader.counts for reader in self._readers.values()]
            taken, lost, skipped = (self._ended[i] + sum(count[i] for count in counts) for i in range(3))
            return SubscriberStats(taken, lost, skipped, sum(count[3] for count in counts), len(counts))

    @property
    def publishers(self) -> tuple[PublisherInfo, ...]:
        """The publishers that are read from now."""
        self._check()
        self._catch_up()
        self._probe()
        with self._following:
            found = []
            for publisher_id, reader in self._readers.items():
                facts = reader.reader.segment.facts()
                if not reader.owner_gone:
                    found.append(_info(publisher_id, reader.reader.segment, facts))
            return tuple(found)

    def wait_for_publishers(self, n: int = 1, timeout: float | None = None) -> bool:
        """Sleep until at least `n` publishers are read from: True; False after `timeout` seconds (None: for ever)."""
        return wait_until(lambda: len(self.publishers) >= n, self._capture_bell, self._sleep_on_bell, timeout)

    def _check(self) -> None:
        if self._inherited:
            raise ForkedHandleError(
                f"this subscriber of {self.topic} belongs to the parent process. Create a new one in the child",
                topic=self.topic,
            )
        if self.closed:
            raise closed_error(f"this subscriber of {self.topic} is closed", self.topic)

    # --- the end ---

    def close(self) -> None:
        """Leave every publisher, and wake this subscriber's threads; iteration ends. Leases stay good.

        A call that was interrupted is finished by the next one, or when the handle or the interpreter ends. After that
        a call does nothing, and nor does one in a forked child.
        """
        if not self._inherited and not self._released:
            self._end()
            self._release_all()

    def _release_all(self) -> None:
        with self._following:
            for reader in self._readers.values():
                self._retire_counts(reader)
                reader.close()
            self._readers.clear()
            with suppress(AttributeError):
                self._set_sources([])
        self._bell.leave()
        self._released = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        of = self.sample_type.__name__ if self.sample_type else "whatever it carries"
        return f"<Subscriber {self.topic} of {of}, {'closed' if self.closed else f'{len(self._readers)} publishers'}>"


def _info(publisher_id: str, mapped: Segment, facts: dict[str, Any]) -> PublisherInfo:
    return PublisherInfo(
        publisher_id,
        facts["owner_name"],
        facts["owner_pid"],
        facts["depth"],
        *segment.promised_period(mapped),
    )
