"""`SlotReader`: reads the bytes in a segment's slots, in place."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from zeroslot._core import binding
from zeroslot._core.binding import (
    COMPAT_CRC,
    OPEN,
    SLOT_LIMIT,
    Reader,
    ReaderEnd,
    SegmentInfo,
    SlotLease,
    Ticket,
    direct_methods,
)
from zeroslot.arguments import checked_flag, checked_name, whole_number
from zeroslot.endpoints import tickets
from zeroslot.endpoints.handle import close_at_exit
from zeroslot.errors import QosMismatchError, TopicNotFoundError
from zeroslot.memory import flink, liveness
from zeroslot.memory.peers import pools_of, register_reader
from zeroslot.memory.processes import identity
from zeroslot.qos import ON_FULL

if TYPE_CHECKING:
    from zeroslot.info import PoolInfo
    from zeroslot.memory.attach import AttachedControl

_LOOK_AGAIN_S = 0.01


@direct_methods
class SlotReader(ReaderEnd):
    """One reader of a segment: take samples in order, in place. Threads may share it. A context manager."""

    is_owner = False

    def __init__(self, reader: Reader, attached: AttachedControl) -> None:
        """Use `attach`, or the allocator's `reader`."""
        super().__init__(reader, attached.where)
        self._attached = attached
        close_at_exit(self)

    @classmethod
    def attach(
        cls,
        flink_path: str | os.PathLike[str],
        *,
        history: int = 0,
        max_leases: int | None = None,
        reliable: bool = False,
        name: str | None = None,
        timeout: float | None = 0,
    ) -> SlotReader:
        """Read the segment that a flink names, from now on, or from the newest `history` samples on.

        `max_leases` bounds how many samples are held at once (default: all slots). While the flink names no live
        segment, this waits up to `timeout` seconds (None: for ever), then raises TopicNotFoundError. Raises FormatError
        or CorruptSegmentError for what is no segment, TooManyPeersError when its peer table is full.
        """
        path = flink.checked_path(flink_path)
        attached = cls._find(path)
        deadline = binding.deadline_after(timeout)
        while attached is None and binding.now_ns() < deadline:
            binding.notice()
            binding.follow_all()
            time.sleep(_LOOK_AGAIN_S)  # a flink is a file anywhere: there is no word to wait on
            attached = cls._find(path)
        if attached is None:
            raise TopicNotFoundError(f"{path} names no live segment. Start its owner first", flink=str(path))
        return cls._join(attached, history=history, max_leases=max_leases, reliable=reliable, name=name)

    @staticmethod
    def redeem(ticket: Ticket, *, max_leases: int = 4) -> SlotLease:
        """Lease the sample that a ticket names as bytes, with or without a type; otherwise as `zeroslot.redeem`.

        Raises SampleGoneError, TooManyLeasesError, TooManyPeersError, EvictedError and PermissionError, as that does.
        """
        leases = whole_number("max_leases", max_leases, 1, SLOT_LIMIT)
        with tickets.lock:
            reader = tickets.reader_for(ticket, leases)
            lease = binding.redeem_slot(reader.native, ticket, leases)
            if lease is None:
                raise tickets.gone(ticket, reader)
            return lease

    @staticmethod
    def _find(path: Path) -> AttachedControl | None:
        attached = flink.attach(path, str(path))
        if attached is None or not attached.is_live():
            return None  # the owner is dead, and a cleaner will remove the segment
        return attached if attached.map_pools() else None

    @classmethod
    def _join(
        cls,
        attached: AttachedControl,
        *,
        history: int,
        max_leases: int | None,
        reliable: bool,
        name: str | None,
        after: int | None = None,
        announcement: int = 0,
        announced: bool = False,
    ) -> SlotReader:
        """Register with a segment whose pools are mapped, to read what follows the sequence `after`; None: the newest
        `history` samples and what follows them. `announced`: the announcement of this id was made before the segment
        could be found.
        """
        info = attached.segment.info
        checked_name(name)
        checked_flag("reliable", reliable)
        check_qos(attached.where, info, history, reliable)
        leases = info.slot_limit if max_leases is None else whole_number("max_leases", max_leases, 1, SLOT_LIMIT)
        process = identity(name)
        reader = None
        try:
            index = register_reader(attached)
            reader = Reader(
                attached.segment,
                attached.descriptor,
                index=index,
                max_leases=leases,
                reliable=reliable,
                pid=process.pid,
                start_time=process.start_time,
                name=process.name,
                history=history,
                after=after,
                time_namespace=process.time_namespace,
                map_pools=attached.map_pools,
                owned_by=attached.owned_by(),
                announcement=announcement,
                announced=announced,
            )
            return cls(reader, attached)
        except BaseException:  # free the entry now: a traceback may keep these objects alive
            if reader is not None:
                reader.close()
            attached.descriptor.close()
            raise

    @property
    def slot_count(self) -> int:
        """All slots of the segment."""
        return self.native.segment.slot_count

    @property
    def slot_capacity(self) -> int:
        """Bytes of payload that the largest slots take that are mapped."""
        return self.native.segment.slot_capacity

    @property
    def pools(self) -> list[PoolInfo]:
        """The segment's pools, in the order in which they were added, with what they were used for until now."""
        self.native.check_process()
        self._attached.check_not_truncated()
        return list(pools_of(self.native.segment))

    @property
    def lost(self) -> int:
        """Samples that were overwritten before they were taken."""
        return self.stats["lost"]

    @property
    def skipped(self) -> int:
        """Samples that `latest` jumped over."""
        return self.stats["skipped"]

    @property
    def stats(self) -> dict[str, int]:
        """taken, lost, skipped, leases."""
        self.native.check_process()
        return dict(zip(("taken", "lost", "skipped", "leases"), self.native.counts, strict=True))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.native.closed

    @property
    def owner_gone(self) -> bool:
        """Whether the owner has closed the segment or died: what is there can be taken, and no more will come.

        A death is noticed within 50 ms, by looking at this or by taking.
        """
        self.native.check_process()
        self._look_for_owner()
        return self.native.segment.state != OPEN

    def _probe(self) -> None:
        try:
            if self.native.segment.state == OPEN and not self._attached.owner_alive():
                liveness.mark_owner_dead(self.native.segment, self._attached.probe)
        except OSError:
            if not self.native.closed:  # at exit the interpreter closes it while a daemon thread still uses it
                raise

    def __repr__(self) -> str:
        return f"<SlotReader {self._attached.where} at {self.native.cursor}>"


def check_qos(where: str, info: SegmentInfo, history: int, reliable: bool, verify: bool = False) -> None:
    """QosMismatchError when a segment offers less than a reader requests."""
    offered = info.depth - info.max_loans if reliable else info.depth
    if reliable and ON_FULL[info.policy] == "evict":
        raise QosMismatchError(
            f"{where} has on_full={ON_FULL[info.policy]!r}: it goes on when a subscriber is behind, and cannot serve a "
            'reliable one. Create the publisher with on_full="block" or "raise", or subscribe with reliable=False',
            topic=where, setting="reliable", requested=True, offered=False,
        )  # fmt: skip  # the facts on one line
    if verify and not info.compat & COMPAT_CRC:
        raise QosMismatchError(
            f"{where} gives its samples no CRC, and verify=True compares them. Create the publisher with crc=True, or "
            "subscribe with verify=False",
            topic=where, setting="verify", requested=True, offered=False,
        )  # fmt: skip  # the facts on one line
    whole_number("history", history, 0, SLOT_LIMIT)
    if history > offered:
        raise QosMismatchError(
            f"{where} keeps {info.depth} samples, and offers a history of {offered}"
            f"{' to reliable subscribers' * reliable}; {history} are requested. Subscribe with less, or create "
            "the publisher with a larger depth",
            topic=where, setting="history", requested=history, offered=offered,
        )  # fmt: skip  # the facts on one line
