"""`Subscriber`: reads a topic from all its publishers, in place, and follows them as they come and go.

Why mismatched publishers are reported and not fatal: a topic may have several publishers, and one with an old type must
not take the others away. It is raised where it is all there is.

Why what is known of publishers is one table of records, which are replaced and never changed: following runs Python
code (logging, signal handlers, the collector), which may use the same subscriber, or raise, between any two steps. Each
change is decided from a record and made in one step at the end, together with the counts that follow from it, if that
record is still the one in the table. What was begun from an older one is dropped.

Why the first look at the topic notes the publishers that it sees: a publisher that it does not see is newer than the
subscription, and is read from its first sample. Clocks could not tell: a creator may be preempted between its header
and its flink, or have another clock (time namespaces).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast, overload

from zeroslot._core.binding import Plan, Segment, Source, SubscriberEnd, closed_error, now_ns
from zeroslot.endpoints.handle import close_at_exit
from zeroslot.endpoints.reader import SlotReader, check_qos
from zeroslot.endpoints.waiting import wait_until
from zeroslot.errors import (
    CorruptSegmentError,
    ForkedHandleError,
    MismatchError,
    TooManyPeersError,
    TypeMismatchError,
)
from zeroslot.memory import flink, liveness, segment
from zeroslot.memory.bell import Bell
from zeroslot.qos import SLOT_LIMIT, checked_spin_us, whole_number
from zeroslot.types.sample import Layout, Sample, layout_of, not_a_sample_type
from zeroslot.types.schema import mismatch, shared_members, unpack_schema
from zeroslot.types.view import not_by_name, reading_plan, sample_type_of, view_class_by_name, view_class_of

log = logging.getLogger("zeroslot")

S_co = TypeVar("S_co", bound=Sample, covariant=True)  # a Subscriber[Imu] is a Subscriber[Sample]
Match = Literal["exact", "by_name"]

MOST_MISSED = 2**46  # no publisher gets this far ahead; a flipped bit does
RETRY_NS = 100_000_000  # what can pass is tried again after this, where nothing tells sooner
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
    has broken that promise since its newest sample (or its creation); None where its clock is another one, in another
    time namespace.
    """

    publisher_id: str
    name: str
    pid: int
    depth: int
    max_period_s: float | None
    overdue: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A publisher that is read from."""

    reader: SlotReader
    source: Source


@dataclass(frozen=True, slots=True, eq=False)
class _Awaited:
    """A publisher that is to be joined: it was seen, it could not be joined for a reason that can pass, or it has ended
    this subscriber's claim.

    `after`: the sequence to go on after. None: not known yet, and `history` decides at the join. `segment`: where it
    has been mapped; it tells when a place gets free and, once it has ended, what was missed. `told`: the reasons that
    were logged or raised. `due_ns`: when to try again, CLOCK_MONOTONIC; 0: when the bell rings.
    """

    after: int | None
    segment: Segment | None = None
    told: frozenset[str] = frozenset()
    due_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _LeftOut:
    """A publisher that has ended, or is refused for good, while its flink lasts."""


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """What is known of publishers, by id.

    `ended`: taken, lost, skipped of those that are no longer read from. `retry_ns`: when to list the flinks again,
    where that could not be done; 0: when the bell rings.
    """

    publishers: dict[str, _Read | _Awaited | _LeftOut] = field(default_factory=dict)
    ended: tuple[int, int, int] = (0, 0, 0)
    retry_ns: int = 0
    closed: bool = False

    def readings(self) -> dict[str, _Read]:
        """Those that are read from."""
        return {name: record for name, record in self.publishers.items() if isinstance(record, _Read)}


_NEWER = _Awaited(after=0)  # of a publisher that the first look did not see: everything, from its first sample


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
        self._released = False
        self._bell = Bell.join(self.domain)
        try:
            super().__init__(self._bell.word, spin, _Table())
            self._follow(joining=True)
        except BaseException:
            self._release_all()
            raise
        close_at_exit(self)

    # --- publishers come and go ---

    def _follow(self, *, joining: bool = False) -> None:
        """Attach to publishers that are new or tried again, let go of those that have ended and are drained."""
        with self._following:
            if self.closed:
                return  # by another thread, while this one waited
            paths = self._flinks(joining=joining)
            for publisher_id, reading in self._table.readings().items():
                if reading.reader.reader.over:
                    self._let_go(publisher_id, reading)
            for publisher_id, record in self._table.publishers.items():
                if paths is not None and publisher_id not in paths and not isinstance(record, _Read):
                    self._forget(publisher_id, record)
            refused: list[BaseException] = []
            for publisher_id, path in (paths or {}).items():
                known = self._table.publishers.get(publisher_id)
                if known is None or isinstance(known, _Awaited):
                    self._attach(publisher_id, path, known, refused)
            alone = [] if self._table.readings() else [e for e in refused if not isinstance(e, PermissionError)]
            for reason in refused:
                if reason not in alone[:1]:
                    log.warning("%s: this publisher is left out: %s", self.topic, reason)
            if alone:
                raise alone[0]

    def _flinks(self, *, joining: bool) -> dict[str, Path] | None:
        """The topic's flinks, by publisher. None: they cannot be listed for a moment, or not any more by a process that
        has dropped its rights since it joined.
        """
        table = self._table
        try:
            paths = {path.stem: path for path in flink.list_flinks(self._directory)}
        except OSError as error:
            told = table.retry_ns != 0
            self._exchange_table(table, table.publishers, retry_ns=now_ns() + RETRY_NS)
            if joining or not (told or table.readings() or isinstance(error, PermissionError)):
                raise
            if not told:
                log.warning("%s: publishers that are new cannot be found: %s", self.topic, error)
            return None
        if joining or table.retry_ns:
            self._exchange_table(table, table.publishers | dict.fromkeys(paths if joining else (), _Awaited(None)))
        return paths

    def _attach(self, publisher_id: str, path: Path, known: _Awaited | None, refused: list[BaseException]) -> None:
        """Read a publisher from where `known` says. What forbids it goes to `refused`, unless that was told before."""
        wanted = known or _NEWER
        after, mapped = wanted.after, wanted.segment
        reader = None
        try:
            attached = flink.attach(path, self.topic)
            if attached is None or attached.segment.state != segment.OPEN or not attached.owner_alive():
                if attached is not None or mapped is not None:
                    self._change(publisher_id, known, _LeftOut(), _missed(wanted))
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
            mapped = attached.segment
            mapped.note_space()
            if after is None:  # what it publishes from here on is not lost uncounted, however long the join takes
                after = max(mapped.published - self._history, facts["first_sequence"] - 1)
            if not attached.map_pools():  # being closed, or removed for a moment
                self._change(publisher_id, known, _Awaited(after, mapped, wanted.told, now_ns() + RETRY_NS))
                return
            others = sum(mapped.peer(index)["max_leases"] for index in mapped.active_indexes())
            reader = SlotReader.join(
                attached,
                history=self._history,
                max_leases=self._max_leases,
                reliable=self._reliable,
                name=self._name,
                after=wanted.after,
            )
            source = Source(reader.reader, plan, publisher_id)
            if self._change(publisher_id, known, _Read(reader, source)):
                self._warn_of_leases(others + self._max_leases, facts)
                log.debug("%s: reading from %s", self.topic, publisher_id)
        except (MismatchError, CorruptSegmentError) as error:
            if self._change(publisher_id, known, _LeftOut()):
                refused.append(error)
        except (OSError, MemoryError, TooManyPeersError) as error:
            reason = f"{type(error).__name__} {getattr(error, 'errno', None)}"
            again = _Awaited(after, mapped, wanted.told | {reason}, now_ns() + RETRY_NS)
            if self._change(publisher_id, known, again) and reason not in wanted.told:
                refused.append(error)
        finally:
            read_from = self._table.readings().get(publisher_id)
            if reader is not None and (read_from is None or read_from.reader is not reader):
                reader.close()

    def _let_go(self, publisher_id: str, known: _Read) -> None:
        """Read no more from a publisher: it has ended and is drained, is corrupt, or has ended this one's claim."""
        known.reader.close()  # first: nothing is taken after this, so the counts are final
        native = known.reader.reader
        taken, lost, skipped, _ = native.counts
        claimed = _Awaited(native.cursor, native.segment, due_ns=1) if native.evicted else _LeftOut()
        if self._change(publisher_id, known, claimed, (taken, lost, skipped)):
            log.debug("%s: %s has ended", self.topic, publisher_id)

    def _forget(self, publisher_id: str, known: _Awaited | _LeftOut) -> None:
        """The flink is gone. What was missed of the publisher is counted when it publishes no more."""
        mapped = known.segment if isinstance(known, _Awaited) else None
        if isinstance(known, _Awaited) and mapped is not None and mapped.state == segment.OPEN and _has_name(mapped):
            again = _Awaited(known.after, mapped, known.told, now_ns() + RETRY_NS)
            self._change(publisher_id, known, again)
        else:
            self._change(publisher_id, known, None, _missed(known) if isinstance(known, _Awaited) else (0, 0, 0))

    def _change(
        self,
        publisher_id: str,
        seen: _Read | _Awaited | _LeftOut | None,
        record: _Read | _Awaited | _LeftOut | None,
        counts: tuple[int, int, int] = (0, 0, 0),
    ) -> bool:
        """Put a record in place of the one that was seen, and add what its publisher has been counted for.

        False, and nothing has changed: another one is there by now, or the subscriber is closed.
        """
        while True:
            table = self._table
            if table.closed or table.publishers.get(publisher_id) is not seen:
                return False
            publishers = {name: each for name, each in table.publishers.items() if name != publisher_id}
            if record is not None:
                publishers[publisher_id] = record
            if self._exchange_table(table, publishers, counts, retry_ns=table.retry_ns):
                return True

    def _exchange_table(
        self,
        seen: _Table,
        publishers: dict[str, _Read | _Awaited | _LeftOut],
        counts: tuple[int, int, int] = (0, 0, 0),
        *,
        retry_ns: int = 0,
        closed: bool = False,
    ) -> bool:
        ended = (seen.ended[0] + counts[0], seen.ended[1] + counts[1], seen.ended[2] + counts[2])
        table = _Table(publishers, ended, retry_ns, closed)
        awaited = [record for record in publishers.values() if isinstance(record, _Awaited) and record.due_ns]
        due: list[int] = [record.due_ns for record in awaited] + ([retry_ns] if retry_ns else [])
        return self._exchange(
            seen,
            table,
            [record.source for record in table.readings().values()],
            [record.segment for record in awaited if record.segment is not None],
            min(due, default=0),
        )

    def _plan_for(self, mapped: Segment, facts: dict[str, Any]) -> Plan:
        """How to read this publisher's samples. Raises TypeMismatchError with the difference."""
        if self.sample_type is None:
            layout, _ = unpack_schema(mapped.schema(), Layout, self.topic)
            if layout.type_hash != facts["type_hash"]:
                raise self._contradiction(layout, facts)
            made = cast("type[S_co]", sample_type_of(layout))  # without a type it is a Subscriber[Any]
            if self.sample_type is None:  # asked again: a signal handler may have met another publisher
                self.sample_type = made
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

    def _warn_of_leases(self, leases: int, facts: dict[str, Any]) -> None:
        if leases > facts["spare_slots"]:
            log.warning(
                "%s: its subscribers may hold %d samples (this one %d), and the publisher has %d spare slots: loan() "
                "may fail because of them. Create it with spare_slots=%d, or subscribe with a smaller max_leases",
                self.topic,
                leases,
                self._max_leases,
                facts["spare_slots"],
                leases,
            )

    def _probe(self) -> None:
        """Mark publishers whose processes have died."""
        for record in self._table.readings().values():
            record.reader._probe()

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
    def _table(self) -> _Table:
        return cast("_Table", self.table)

    @property
    def stats(self) -> SubscriberStats:
        """Counters since creation."""
        self._check_process()
        table = self._table
        counts = [record.reader.reader.counts for record in table.readings().values()]
        taken, lost, skipped = (table.ended[i] + sum(count[i] for count in counts) for i in range(3))
        return SubscriberStats(taken, lost, skipped, sum(count[3] for count in counts), len(counts))

    @property
    def publishers(self) -> tuple[PublisherInfo, ...]:
        """The publishers that are read from now."""
        self._check()
        self._catch_up()
        self._probe()
        return tuple(
            _info(publisher_id, record.reader.reader.segment, record.reader.reader.segment.facts())
            for publisher_id, record in self._table.readings().items()
            if not record.reader.owner_gone
        )

    def wait_for_publishers(self, n: int = 1, timeout: float | None = None) -> bool:
        """Sleep until at least `n` publishers are read from: True; False after `timeout` seconds (None: for ever)."""
        return wait_until(lambda: len(self.publishers) >= n, self._capture_bell, self._sleep_on_bell, timeout)

    def _check_process(self) -> None:
        if self._inherited:
            raise ForkedHandleError(
                f"this subscriber of {self.topic} belongs to the parent process. Create a new one in the child",
                topic=self.topic,
            )

    def _check(self) -> None:
        self._check_process()
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
        """Leave every publisher. An attach that is not done yet finds the table closed, and leaves by itself."""
        while (table := self.table) is not None and not table.closed:
            readings = table.readings()
            for record in readings.values():
                record.reader.close()
            counts = [record.reader.reader.counts for record in readings.values()]
            taken, lost, skipped = (sum(count[i] for count in counts) for i in range(3))
            self._exchange_table(table, {}, (taken, lost, skipped), closed=True)
        self._bell.leave()
        self._released = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        of = self.sample_type.__name__ if self.sample_type else "whatever it carries"
        state = "closed" if self.closed else f"{len(self._table.readings())} publishers"
        return f"<Subscriber {self.topic} of {of}, {state}>"


def _info(publisher_id: str, mapped: Segment, facts: dict[str, Any]) -> PublisherInfo:
    return PublisherInfo(
        publisher_id,
        facts["owner_name"],
        facts["owner_pid"],
        facts["depth"],
        *liveness.promised_period(mapped),
    )


def _missed(known: _Awaited) -> tuple[int, int, int]:
    """Taken, lost and skipped of a publisher that could not be joined before it ended: what it published is lost."""
    if known.segment is None or known.after is None:
        return 0, 0, 0
    first = int(known.segment.facts()["first_sequence"])
    missed = known.segment.published - max(known.after, first - 1)
    return 0, missed if 0 <= missed < MOST_MISSED else 0, 0


def _has_name(mapped: Segment) -> bool:
    return segment.exists(f"/zs-{mapped.facts()['segment_id']:016x}")
