"""`Subscriber`: reads a topic from all its publishers, in place, and follows them as they come and go."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Self, cast, overload

import numpy as np
from numpy.typing import NDArray

from zeroslot._core.binding import SLOT_LIMIT, Batch, Lease, direct_methods, take_batch
from zeroslot.arguments import checked_flag, checked_name, checked_spin_us, whole_number
from zeroslot.endpoints import loops, waker
from zeroslot.endpoints.callbacks import SampleCallback
from zeroslot.endpoints.following import Following, S_co, Table
from zeroslot.endpoints.handle import close_at_exit
from zeroslot.endpoints.reader import SlotReader
from zeroslot.errors import ClosedError, CorruptSegmentError, MismatchError
from zeroslot.info import PublisherInfo, RefusedInfo, SampleFacts
from zeroslot.memory.announcement import Announcement
from zeroslot.memory.bell import Bell
from zeroslot.memory.directories import checked_domain, checked_topic, topic_directory
from zeroslot.memory.peers import publisher_info
from zeroslot.types import whole
from zeroslot.types.by_name import Match, checked_match, checked_missing

DEFAULT_SPIN_US = 20.0  # about what a wake-up costs, so spinning at most doubles the cost of one
PROCESSORS = os.cpu_count()


def default_spin_us() -> float:
    """How long a subscriber spins that does not say it. On one processor the publisher could not run meanwhile."""
    return DEFAULT_SPIN_US if PROCESSORS != 1 else 0.0


@dataclass(frozen=True, slots=True)
class SubscriberStats:
    """A subscriber's counters over all publishers, those that have ended included. `corrupt`: how many of `taken` had
    another CRC than their publisher computed.
    """

    taken: int
    lost: int
    skipped: int
    leases: int
    publishers: int
    corrupt: int = 0


@direct_methods
class Subscriber(Following[S_co]):
    """Takes the samples of one topic. A topic needs no publisher to be subscribed to.

    Samples are leased in place: at most `max_leases` of each publisher at once, each until its lease and everything
    read from it have ended. `history`: how many older samples a publisher that is already there shall deliver first.
    `reliable`: publishers with on_full="block" or "raise" wait for this subscriber. `spin_us`: how long to spin before
    sleeping; None: 20 us while samples come as soon as that, on more than one processor, and not at all otherwise.
    Without a `sample_type` the type is made from the schema in the segment.

    `match`: "exact", or "by_name" to read publishers of another version of the type, in place: each field at the
    publisher's offset, in nested samples too. A declared default stands in for a field that the publisher lacks; a
    default factory is called once for each publisher. A publisher that lacks a field without a default, or has a field
    in a way that is not safe to read, is a mismatch. Safe is what holds every value of the publisher's: a wider number,
    a larger bound, more enumerators, `X | None` for X. `missing`: "error", or "ignore" to leave out fields that the
    publisher lacks and that have no default; to read one is an AttributeError.

    `verify`: compare each sample with its CRC before it is given out, and let no publisher without `crc=True` be read.
    A sample with another CRC raises CorruptSegmentError, which names its sequence; the next call goes on after it.

    Iteration waits for samples and ends when the subscriber is closed. Threads may share a subscriber. A context
    manager.

    Raises TopicNameError; TypeMismatchError, QosMismatchError or TooManyPeersError when no publisher that is there can
    be read.

    >>> with Subscriber("robot/imu", Imu) as sub:
    ...     for lease in sub:
    ...         print(lease.sequence, lease.sample.accel)
    """

    _released = True  # until the constructor opens something
    _doorbell: waker.DoorbellWake | None = None
    _at_once = 0  # samples that were there since other tasks had a turn

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
        missing: Literal["error", "ignore"] = ...,
        verify: bool = ...,
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
        missing: Literal["error", "ignore"] = ...,
        verify: bool = ...,
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
        missing: Literal["error", "ignore"] = "error",
        verify: bool = False,
        domain: str | None = None,
        name: str | None = None,
    ) -> None:
        self.topic = checked_topic(topic)
        self.domain = checked_domain(domain)
        self._match = checked_match(match)
        self._ignore_missing = checked_missing(missing, match)
        spin = checked_spin_us(default_spin_us() if spin_us is None else spin_us)
        self.sample_type = sample_type
        if sample_type is not None:
            whole.compiled_type(sample_type)  # raises for what is no sample type
        self._history = whole_number("history", history, 0, SLOT_LIMIT)
        self._max_leases = whole_number("max_leases", max_leases, 1, SLOT_LIMIT)
        self._reliable = checked_flag("reliable", reliable)
        self._verify = checked_flag("verify", verify)
        self._name = checked_name(name)
        self._directory = topic_directory(self.domain, self.topic)
        self._following = threading.RLock()
        self._announcement = Announcement(self._directory, self.topic)
        self._unannounced = False
        self._released = False
        self._bell = self._join_bell()
        try:
            super().__init__(self.topic, self._bell.word, spin, Table(), verify, spin_us is None)
            if self._reliable or not self._has_flinks():
                self._announce()  # before the first look: see zeroslot.memory.announcement
            self._follow(joining=True)
            self._begin_meeting()
        except BaseException:
            self._release_all()
            raise
        close_at_exit(self)

    def _join_bell(self) -> Bell:
        return Bell.join(self.domain)

    @property
    def lost(self) -> int:
        """Samples that were overwritten before they were taken, over all publishers; exact."""
        return self.stats.lost

    @property
    def skipped(self) -> int:
        """Samples that `latest` jumped over, over all publishers; exact."""
        return self.stats.skipped

    @property
    def stats(self) -> SubscriberStats:
        """Counters since creation."""
        self._check_process()
        table = self._table
        counts = [record.source.reader.counts for record in table.attached().values()]
        taken, lost, skipped = (table.ended[i] + sum(count[i] for count in counts) for i in range(3))
        leases = sum(count[3] for count in counts)
        return SubscriberStats(taken, lost, skipped, leases, len(counts), self._corrupt_count)

    @property
    def publishers(self) -> tuple[PublisherInfo, ...]:
        """The publishers that are read from now, as `inspect` shows them."""
        found = []
        for publisher_id, reader in self._live_readers().items():
            with suppress(MismatchError, CorruptSegmentError):  # what it takes from it will say so
                found.append(publisher_info(reader._attached, self._directory / f"{publisher_id}.flink"))
        return tuple(found)

    @property
    def refused(self) -> tuple[RefusedInfo, ...]:
        """The publishers of the topic that are not read from, and why: of another type, for example. Each is logged as
        a warning once, unless an exception told of it.
        """
        self._check()
        self._catch_up()
        return self._refused()

    def _refused(self) -> tuple[RefusedInfo, ...]:
        found = [getattr(record, "refused", None) for record in self._table.publishers.values()]
        return tuple(each for each in found if each is not None)

    @property
    def differences(self) -> dict[str, str]:
        """For each publisher that is read from, by its id: in what its type differs from `sample_type`, a line for each
        field, as a TypeMismatchError shows it; empty where it is the same. Not empty only with match="by_name".
        """
        self._live_readers()
        return {name: record.difference for name, record in self._table.attached().items()}

    def _live_readers(self) -> dict[str, SlotReader]:
        """The readers of the publishers that live, by the publisher's id."""
        self._check()
        self._catch_up()
        self._probe()
        readers = {name: record.reader for name, record in self._table.attached().items()}
        return {name: reader for name, reader in readers.items() if not reader.owner_gone}

    def wait_for_publishers(self, n: int = 1, timeout: float | None = None) -> bool:
        """Sleep until at least `n` publishers are read from: True; False after `timeout` seconds (None: for ever)."""
        whole_number("n", n, 0, SLOT_LIMIT)
        return self._wait_for_bell(lambda: len(self._live_readers()) >= n, timeout)

    def take_many(
        self,
        max: int | None = None,  # noqa: A002  # what it is
        out: NDArray[Any] | None = None,
        timeout: float | None = 0,
    ) -> Batch:
        """Copy the samples that are there, up to `max` of them, into one array; waits as `take` does while there are
        none.

        The batch's `samples` is a new structured array with the dtype of the sample type, or the part of `out` that was
        filled: an array of one dimension with this dtype. The samples are those that as many calls of `take` would have
        given; each is leased only while it is copied, so one free lease of `max_leases` is enough. The batch ends with
        what was published when it began, and is empty where that is nothing.

        Raises what `take` raises, before anything is copied: a sample that cannot be taken ends the batch before it,
        and the next call raises.
        """
        return take_batch(self, max, out, timeout)

    def peek(self) -> SampleFacts | None:
        """The facts of the sample that `take` would give next, which stays where it is; None where there is none."""
        found = self._next_facts()
        return None if found is None else SampleFacts._make(found)

    def fileno(self) -> int:
        """A descriptor for select, poll, epoll and `loop.add_reader`: it is readable while there may be something.

        It stays readable until `take`, `latest` or `take_many` has found nothing, so one call for each wake-up misses
        nothing, and the last one of a row gives None. With edge-triggered epoll call `take` until it gives None. After
        `close` it is readable for good, and `take` raises ClosedError. It is closed when the subscriber is dropped.

        From the first call on a thread of the process rings the descriptor; see `WaitSet` for a wait without one.
        """
        self._check()
        if self._doorbell is None:
            doorbell = waker.DoorbellWake(self)
            if self._doorbell is None:
                self._doorbell = doorbell
                self._call_when_empty(doorbell.rearm)
        self._doorbell.begin()
        return self._doorbell.doorbell.fileno()

    async def take_async(self, timeout: float | None = None) -> Lease[S_co] | None:
        """`take` for asyncio and trio: the next sample in order, or None after `timeout` seconds (None: for ever).

        Tasks and loops may share a subscriber. A wait that is cancelled has taken nothing. After 32 samples that were
        there at once the other tasks of the loop get a turn.
        """
        return await loops.first(self, self.take, timeout, give_way=self._has_turn_to_give())

    async def latest_async(self, timeout: float | None = None) -> Lease[S_co] | None:
        """`latest` for asyncio and trio, as `take_async`."""
        return await loops.first(self, self.latest, timeout, give_way=self._has_turn_to_give())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Lease[S_co]:
        try:
            # Without a timeout it gives a sample, or raises.
            return cast("Lease[S_co]", await self.take_async())
        except ClosedError:
            if self.closed:
                raise StopAsyncIteration from None
            raise

    def _has_turn_to_give(self) -> bool:
        self._at_once = (self._at_once + 1) % loops.TAKES_AT_ONCE
        return self._at_once == 0

    def on_sample(self, function: Callable[[Lease[S_co]], object], *, latest: bool = False) -> SampleCallback:
        """Call `function(lease)` with each sample, in a thread of its own; with `latest` with the newest one each time.

        Returns a handle with `stop()`, which the function may call itself. The lease ends when the function has
        returned, unless it keeps it. What it raises is reported by `threading.excepthook`, which prints it, and the
        next sample is taken; so is what `take` raises. The thread keeps the subscriber, and ends when that is closed
        or the program ends.
        """
        if not callable(function):
            raise TypeError(f"on_sample() takes a function, not {type(function).__name__}")
        self._check()
        return SampleCallback(self, function, checked_flag("latest", latest))

    def _dtype(self) -> np.dtype[Any]:
        """That of arrays of samples, as far as it is known."""
        return np.dtype([]) if self.sample_type is None else whole.compiled_type(self.sample_type).record_dtype

    def close(self) -> None:
        """Leave every publisher, and wake this subscriber's threads; iteration ends. Leases stay good.

        A call that was interrupted is finished by the next one, or when the handle or the interpreter ends. After that
        a call does nothing, and nor does one in a forked child.
        """
        if not self._inherited and not self._released:
            self._end()
            self._release_all()

    def _release_all(self) -> None:
        """Each step may run twice, since an interruption may come between any two."""
        if self._doorbell is not None:
            self._doorbell.doorbell.ring()
        self._end_meeting()
        self._detach_all()
        self._announcement.withdraw()
        self._bell.leave()
        self._released = True

    def __repr__(self) -> str:
        of = self.sample_type.__name__ if self.sample_type else "any type"
        state = "closed" if self.closed else f"{len(self._table.attached())} publishers"
        refused = self._refused()
        if refused and not self.closed:
            state += f", {len(refused)} left out ({', '.join(sorted({each.why for each in refused}))})"
        return f"<Subscriber {self.topic} of {of}, {state}>"
