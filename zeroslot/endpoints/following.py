"""How a subscriber follows its topic: it attaches to publishers that come, and leaves those that have ended.

Why a mismatched publisher is reported and not fatal: a topic may have several publishers, and one with an old type must
not make the others unreadable. The error is raised where no publisher can be read.

Why the state of all publishers is one table of records, which are replaced and never changed: following runs Python
code (logging, signal handlers, the collector), which may use the same subscriber, or raise, between any two steps. Each
change is decided from a record and made in one step at the end, together with the counts that follow from it, if that
record is still the one in the table. If it is not, the change is dropped.

Why the first look at the topic records the publishers that it finds: any other is newer than the subscription, and is
read from its first sample. Clocks could not decide that: a creator may be preempted between its header and its flink,
or have another clock (time namespaces).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from zeroslot._core.binding import OPEN, TYPED, Plan, Segment, SegmentInfo, Source, SubscriberEnd, now_ns
from zeroslot.endpoints.reader import SlotReader, check_qos
from zeroslot.endpoints.versions import published_layout, type_mismatch, untyped_publisher
from zeroslot.errors import (
    CorruptSegmentError,
    FormatError,
    MismatchError,
    QosMismatchError,
    TooManyPeersError,
    TypeMismatchError,
)
from zeroslot.info import Refusal, RefusedInfo
from zeroslot.memory import flink
from zeroslot.memory.announcement import Announcement, Request
from zeroslot.memory.objects import exists
from zeroslot.memory.peers import describe_publisher
from zeroslot.memory.processes import identity
from zeroslot.types import whole
from zeroslot.types.by_name import ByName, Match
from zeroslot.types.difference import difference
from zeroslot.types.layout import Layout
from zeroslot.types.sample import Sample

if TYPE_CHECKING:
    from zeroslot.memory.attach import AttachedControl

log = logging.getLogger("zeroslot")

# Covariant: a Subscriber[Imu] is a Subscriber[Sample].
S_co = TypeVar("S_co", bound="Sample | np.ndarray[Any, Any] | bytes", covariant=True)
Counts = tuple[int, int, int]  # taken, lost, skipped

MOST_MISSED = 2**46  # no publisher gets this far ahead; a flipped bit does
REFUSALS: tuple[tuple[type[Exception], Refusal], ...] = (
    (TypeMismatchError, "type"),
    (QosMismatchError, "policy"),
    (FormatError, "format"),
    (CorruptSegmentError, "corrupt"),
    (TooManyPeersError, "full"),
    (PermissionError, "permission"),
)
RETRY_NS = 100_000_000  # the time to the next try, where no word announces that it may succeed


@dataclass(frozen=True, slots=True, eq=False)
class Attached:
    """A publisher that is read from. `difference`: between its type and that of the subscriber, where it is read by
    name.
    """

    reader: SlotReader
    source: Source
    difference: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A publisher to attach to: it was seen, or an attach failed for a reason that can pass, or it has evicted this
    subscriber.

    `after`: the sequence to go on after. None: not known yet, and `history` decides at the join. `newer`: it started
    after this subscription was announced. `segment`: where it has been mapped; it shows when a place gets free and,
    once it has ended, what was missed. `reported`: the reasons that were logged or raised. `due_ns`: when to try again,
    CLOCK_MONOTONIC; 0: when the bell rings. `refused`: why the last try failed.
    """

    after: int | None
    newer: bool = False
    segment: Segment | None = None
    reported: frozenset[str] = frozenset()
    due_ns: int = 0
    refused: RefusedInfo | None = None

    def missed(self) -> Counts:
        """The counts of a publisher that ended before the subscriber could attach: all that it published is lost."""
        if self.segment is None or self.after is None:
            return 0, 0, 0
        first = int(self.segment.info.first_sequence)
        missed = self.segment.published - max(self.after, first - 1)
        return 0, missed if 0 <= missed < MOST_MISSED else 0, 0


@dataclass(frozen=True, slots=True, eq=False)
class Ignored:
    """A publisher that has ended, or cannot be read, while its flink lasts. `refused`: why it cannot be read."""

    refused: RefusedInfo | None = None


Record = Attached | Pending | Ignored
NEWER = Pending(after=0, newer=True)  # a publisher that the first look did not see: everything, from its first sample


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What is known of the publishers of a topic, by id.

    `ended`: the counts of those that are no longer read from. `retry_ns`: when to list the flinks again, where that
    failed; 0: when the bell rings.
    """

    publishers: dict[str, Record] = field(default_factory=dict)
    ended: Counts = (0, 0, 0)
    retry_ns: int = 0
    closed: bool = False

    def attached(self) -> dict[str, Attached]:
        """Those that are read from."""
        return {name: record for name, record in self.publishers.items() if isinstance(record, Attached)}


class Following(SubscriberEnd[S_co]):
    """The part of `Subscriber` that follows the topic. `Subscriber` sets the attributes before the first look."""

    topic: str
    _table: Table
    sample_type: type[S_co] | None
    _directory: Path
    _history: int
    _reliable: bool
    _verify: bool
    _max_leases: int
    _match: Match
    _ignore_missing: bool
    _name: str | None
    _announcement: Announcement
    _unannounced: bool
    _following: threading.RLock

    def _follow(self, *, joining: bool = False) -> None:
        """Attach to publishers that are new or due, leave those that have ended and are drained."""
        with self._following:
            if self.closed:
                return  # by another thread, while this one waited
            paths = self._list_flinks(joining=joining)
            for publisher_id, attached in self._table.attached().items():
                if attached.source.reader.over:
                    self._leave(publisher_id, attached)
            for publisher_id, record in self._table.publishers.items():
                if paths is not None and publisher_id not in paths and not isinstance(record, Attached):
                    self._forget(publisher_id, record)
            errors: list[BaseException] = []
            for publisher_id, path in (paths or {}).items():
                known = self._table.publishers.get(publisher_id)
                if known is None or isinstance(known, Pending):
                    self._attach(publisher_id, path, known, errors)
            if not self._announcement.id and not self._table.attached():
                self._announce()
            fatal = [] if self._table.attached() else [e for e in errors if not isinstance(e, PermissionError)]
            for error in errors:
                if error not in fatal[:1]:
                    self._say(log.warning, "%s: this publisher is left out: %s", self.topic, error)
            if fatal:
                raise fatal[0]

    def _announce(self) -> None:
        """Let publishers and `topics` see this subscription before it is attached."""
        type_hash = b"" if self.sample_type is None else whole.compiled_type(self.sample_type).layout.type_hash
        by_name = self._match == "by_name"
        request = Request(type_hash, self._reliable, by_name, self._verify, self._history, self._max_leases)
        try:
            self._announcement.publish(request, identity(self._name))
        except OSError as error:
            said = self._unannounced
            self._unannounced = True
            if self._reliable and not said:
                self._say(
                    log.warning,
                    "%s: this subscription cannot be announced, so publishers that start later do not wait for it "
                    "before it attaches: %s",
                    self.topic,
                    error,
                )
        if self.closed:  # meanwhile
            self._announcement.withdraw()

    def _flinks(self) -> dict[str, Path]:
        """The flinks of the topic, by publisher."""
        return {path.stem: path for path in flink.list_flinks(self._directory)}

    def _map(self, path: Path) -> AttachedControl | None:
        """Map the control object that a flink names. None: it does not exist."""
        return flink.attach(path, self.topic)

    def _has_flinks(self) -> bool:
        """Whether the topic has publishers, dead ones included, as far as can be told."""
        try:
            return bool(self._flinks())
        except OSError:
            return False

    def _list_flinks(self, *, joining: bool) -> dict[str, Path] | None:
        """The topic's flinks, by publisher. None: they cannot be listed for a moment, or not any more by a process that
        has dropped its rights since it joined.
        """
        table = self._table
        try:
            paths = self._flinks()
        except OSError as error:
            reported = table.retry_ns != 0
            self._exchange_table(table, table.publishers, retry_ns=now_ns() + RETRY_NS)
            if joining or not (reported or table.attached() or isinstance(error, PermissionError)):
                raise
            if not reported:
                self._say(log.warning, "%s: new publishers cannot be found: %s", self.topic, error)
            return None
        if (joining and paths) or table.retry_ns:
            self._exchange_table(table, table.publishers | dict.fromkeys(paths if joining else (), Pending(None)))
        return paths

    def _attach(self, publisher_id: str, path: Path, known: Pending | None, errors: list[BaseException]) -> None:
        """Read a publisher from where `known` says. An error that prevents it is appended to `errors`, unless it was
        reported before.
        """
        pending = known or NEWER
        after, segment = pending.after, pending.segment
        reader = attached = None
        try:
            attached = self._map(path)
            if attached is None or not attached.is_live():
                if attached is not None or segment is not None:
                    self._change(publisher_id, known, Ignored(), pending.missed())
                return
            attached.check_not_truncated()
            info = attached.segment.info
            if info.payload_kind != TYPED:
                advice = f"Read it with SlotReader.attach({str(path)!r})"
                raise untyped_publisher(self.topic, info, self.sample_type, advice)
            plan, differing = self._plan_for(attached.segment)
            check_qos(self.topic, info, self._history, self._reliable, self._verify)
            segment = attached.segment
            segment.note_space()
            if after is None:  # so that what is published from here on is counted, however long the join takes
                after = max(segment.published - self._history, info.first_sequence - 1)
            if not attached.map_pools():  # being closed, or removed for a moment
                self._change(
                    publisher_id, known, replace(pending, after=after, segment=segment, due_ns=now_ns() + RETRY_NS)
                )
                return
            others = sum(segment.peer(index).max_leases for index in segment.active_indexes())
            reader = SlotReader._join(
                attached,
                history=self._history,
                max_leases=self._max_leases,
                reliable=self._reliable,
                name=self._name,
                after=pending.after,
                announcement=self._announcement.id,
                announced=pending.newer and self._announcement.id != 0,
            )
            source = Source(reader.native, plan, publisher_id)
            if self._change(publisher_id, known, Attached(reader, source, differing)):
                self._warn_of_leases(others + self._max_leases, info)
                log.debug("%s: reading from %s", self.topic, publisher_id)
                if differing:
                    log.info("%s: reading by name from %s:\n%s", self.topic, describe_publisher(info), differing)
        except (MismatchError, CorruptSegmentError) as error:
            if self._change(publisher_id, known, Ignored(self._refuse(path, error, attached))):
                errors.append(error)
        except (OSError, MemoryError, TooManyPeersError) as error:
            reason = f"{type(error).__name__} {getattr(error, 'errno', None)}"
            again = replace(
                pending,
                after=after,
                segment=segment,
                reported=pending.reported | {reason},
                due_ns=now_ns() + RETRY_NS,
                refused=self._refuse(path, error, attached),
            )
            if self._change(publisher_id, known, again) and reason not in pending.reported:
                errors.append(error)
        finally:
            in_table = self._table.attached().get(publisher_id)
            if reader is not None and (in_table is None or in_table.reader is not reader):
                reader.close()

    def _refuse(self, path: Path, error: Exception, attached: AttachedControl | None) -> RefusedInfo:
        """Let the publisher know that it is not read, and say why."""
        self._announcement.refuse(int(path.stem, 16))
        info = attached.segment.info if attached is not None else None
        name, pid = (info.owner_name, info.owner_pid) if info is not None else ("", 0)
        return RefusedInfo(path.stem, path, name, pid, _refusal(error), str(error))

    def _leave(self, publisher_id: str, known: Attached) -> None:
        """Stop reading from a publisher: it has ended and is drained, is corrupt, or has evicted this subscriber."""
        known.reader.close()  # first: nothing is taken after this, so the counts are final
        native = known.source.reader
        taken, lost, skipped, _ = native.counts
        after = Pending(native.cursor, segment=native.segment, due_ns=1) if native.evicted else Ignored()
        if self._change(publisher_id, known, after, (taken, lost, skipped)):
            log.debug("%s: %s has ended", self.topic, publisher_id)

    def _forget(self, publisher_id: str, known: Pending | Ignored) -> None:
        """The flink was removed. What was missed of the publisher is counted once it publishes no more."""
        if isinstance(known, Ignored):
            self._change(publisher_id, known, None)
        elif known.segment is not None and known.segment.state == OPEN and _has_name(known.segment):
            again = replace(known, due_ns=now_ns() + RETRY_NS)
            self._change(publisher_id, known, again)
        else:
            self._change(publisher_id, known, None, known.missed())

    def _change(
        self, publisher_id: str, seen: Record | None, record: Record | None, counts: Counts = (0, 0, 0)
    ) -> bool:
        """Replace the record that was seen, and add what its publisher is to be counted for.

        False, and nothing has changed: another record is there by now, or the subscriber is closed.
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
        seen: Table,
        publishers: dict[str, Record],
        counts: Counts = (0, 0, 0),
        *,
        retry_ns: int = 0,
        closed: bool = False,
    ) -> bool:
        """Put a new table in place of the one that was seen. False: another one is there by now."""
        ended = (seen.ended[0] + counts[0], seen.ended[1] + counts[1], seen.ended[2] + counts[2])
        table = Table(publishers, ended, retry_ns, closed)
        pending = [record for record in publishers.values() if isinstance(record, Pending) and record.due_ns]
        due: list[int] = [record.due_ns for record in pending] + ([retry_ns] if retry_ns else [])
        return self._exchange(
            seen,
            table,
            [record.source for record in table.attached().values()],
            [record.segment for record in pending if record.segment is not None],
            min(due, default=0),
        )

    def _detach_all(self) -> None:
        """Leave every publisher, for good. An attach that runs meanwhile finds the table closed, and undoes itself."""
        while True:
            table = cast("Table | None", self._table)  # None: the constructor was interrupted
            if table is None or table.closed:
                return
            attached = table.attached()
            for record in attached.values():
                record.reader.close()
            counts = [record.source.reader.counts for record in attached.values()]
            taken, lost, skipped = (sum(count[i] for count in counts) for i in range(3))
            self._exchange_table(table, {}, (taken, lost, skipped), closed=True)

    def _probe(self) -> None:
        """Mark publishers whose processes have died."""
        for record in self._table.attached().values():
            record.reader._probe()

    def _plan_for(self, segment: Segment) -> tuple[Plan, str]:
        """How to read this publisher's samples, and where that is by name, what differs. Raises TypeMismatchError."""
        published = None
        if self.sample_type is None:
            published = published_layout(segment, self.topic)
            made = cast("type[S_co]", whole.type_of(published))  # without a type it is a Subscriber[Any]
            if self.sample_type is None:  # still: a signal handler may have met another publisher meanwhile
                self.sample_type = made
        return plan_for(self.topic, segment, self.sample_type, self._match, self._ignore_missing, published)

    def _warn_of_leases(self, leases: int, info: SegmentInfo) -> None:
        if leases > info.spare_slots:
            self._say(
                log.warning,
                "%s: its subscribers may hold %d samples (this one %d), and the publisher has %d spare slots: loan() "
                "may fail because of them. Create it with spare_slots=%d, or subscribe with a smaller max_leases",
                self.topic,
                leases,
                self._max_leases,
                info.spare_slots,
                leases,
            )


def plan_for(
    topic: str,
    segment: Segment,
    sample_type: type[Any],
    match: Match,
    ignore_missing: bool = False,
    published: Layout | None = None,
) -> tuple[Plan, str]:
    """How to read a publisher's samples as this type, and where that is by name, what differs. `published`: their
    layout, where it is known. Raises TypeMismatchError.
    """
    info = segment.info
    here = whole.compiled_type(sample_type)
    if info.type_hash == here.layout.type_hash:
        return here.reading_plan, ""
    published = published or published_layout(segment, topic)
    by_name = ByName(published, here.layout, ignore_missing=ignore_missing)
    if match == "exact" or not by_name.readable:
        raise type_mismatch(topic, info, published, here.layout, by_name, _advice(by_name))
    return here.reading_plan_by_name(by_name), difference(published, here.layout)


def _advice(by_name: ByName) -> str:
    """What to do about a publisher of another type."""
    if by_name.readable:
        return 'Subscribe with match="by_name" to read the fields that both share.'
    if not by_name.shares_names:
        return "They share no field: subscribe with the publisher's type, or to another topic."
    missing = [name for name in by_name.unreadable if name in by_name.missing]
    differing = [name for name in by_name.unreadable if name not in by_name.missing]
    what = [f'give {", ".join(missing)} a default or say missing="ignore"'] if missing else []
    what += [f"declare {', '.join(differing)} as the publisher does or not at all"] if differing else []
    return f'match="by_name" cannot read {", ".join(by_name.unreadable)}: {", and ".join(what)}.'


def _refusal(error: Exception) -> Refusal:
    for kind, refusal in REFUSALS:
        if isinstance(error, kind):
            return refusal
    return "system"


def _has_name(segment: Segment) -> bool:
    return exists(f"/zs-{segment.info.segment_id:016x}")
