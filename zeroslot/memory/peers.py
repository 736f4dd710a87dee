"""What a segment shows of its publisher and of its subscribers, as records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zeroslot._core.binding import TYPED, now_ns
from zeroslot.errors import TooManyPeersError
from zeroslot.info import PoolInfo, PublisherInfo, SubscriberInfo, WaitingInfo
from zeroslot.memory import liveness
from zeroslot.memory.clocks import promised_period, shares_clock
from zeroslot.memory.objects import segment_id_of
from zeroslot.memory.processes import command_of, identity, is_stopped
from zeroslot.qos import ON_FULL
from zeroslot.types.section import stated_type

if TYPE_CHECKING:
    from zeroslot._core.binding import Segment, SegmentInfo
    from zeroslot.memory.attach import AttachedControl


def subscriber_info(segment: Segment, index: int, stalled_s: float | None = None) -> SubscriberInfo:
    """The subscriber at `index`, dead or alive. One that has left is not behind."""
    published = segment.published
    peer = segment.peer(index)
    held = segment.held_by(index)
    oldest = min((published_ns for _, published_ns in held), default=None)
    return SubscriberInfo(
        index=index,
        name=peer.name,
        pid=peer.pid,
        command=command_of(peer.pid, peer.start_time),
        stopped=is_stopped(peer.pid, peer.start_time),
        reliable=peer.reliable,
        max_leases=peer.max_leases,
        taken=peer.taken,
        lost=peer.lost,
        skipped=peer.skipped,
        held=len(held),
        oldest_held_s=(now_ns() - oldest) / 1e9 if oldest is not None and shares_clock(segment) else None,
        behind=max(0, published - peer.cursor) if index in segment.active_indexes() else 0,
        stalled_s=stalled_s,
        by_ticket=peer.by_ticket,
    )


def announcements_joined(segment: Segment) -> set[int]:
    """The ids of the announcements whose subscriptions are attached; 0 for subscriptions without an announcement."""
    # SYNC join: an id stands in its entry before the entry is active.
    return {segment.peer(index).announcement for index in segment.active_indexes()}


def describe(peer: SubscriberInfo | WaitingInfo) -> str:
    """A subscriber as error texts name it."""
    stopped = ", stopped" if peer.stopped else ""
    by_ticket = ", by tickets" if isinstance(peer, SubscriberInfo) and peer.by_ticket else ""
    return f"{peer.name} (pid {peer.pid}{stopped}{by_ticket}{': ' + peer.command[:80] if peer.command else ''})"


def describe_publisher(info: SegmentInfo) -> str:
    """The publisher of a segment as error texts name it."""
    here = identity("")
    if (info.owner_pid, info.owner_start_time) == (here.pid, here.start_time):
        return f"{info.owner_name} (this process)"
    command = command_of(info.owner_pid, info.owner_start_time)[:80]
    return f"{info.owner_name} (pid {info.owner_pid}{': ' + command if command else ''})"


def pools_of(segment: Segment) -> tuple[PoolInfo, ...]:
    """The pools of the pool table."""
    found = []
    for k in range(segment.info.pool_limit):
        entry = segment.pool(k)
        if entry.state == 0:
            break
        counts = (entry.committed, entry.discarded, entry.passed_on, entry.no_free_slot)
        found.append(PoolInfo(entry.slot_capacity, entry.slot_count, *counts))
    return tuple(found)


def register_reader(attached: AttachedControl) -> int:
    """Take an index of the peer table. TooManyPeersError when there is none."""
    segment = attached.segment
    index = liveness.register(segment, attached.descriptor)
    if index is not None:
        return index
    count = segment.info.max_subscribers
    peers = tuple(subscriber_info(segment, index) for index in liveness.registered_peers(segment, attached.probe))
    raise TooManyPeersError(
        f"{attached.where} has room for {count} subscribers and processes that redeem its tickets, and has as many: "
        f"{'; '.join(map(describe, peers))}. Close one, or create the publisher with a larger max_subscribers",
        topic=attached.where,
        max_subscribers=count,
        peers=peers,
    )


def type_of(attached: AttachedControl) -> tuple[str, int]:
    """The name of a segment's sample type, and the bytes of a sample without its variable part, as the segment states
    them; "bytes" and 0 for untyped slots. Raises CorruptSegmentError or FormatError where it states none.
    """
    if attached.segment.info.payload_kind != TYPED:
        return "bytes", 0
    return stated_type(attached.segment.schema())


def publisher_info(attached: AttachedControl, flink: Path) -> PublisherInfo:
    """The publisher of a segment, and its living subscribers.

    Raises CorruptSegmentError or FormatError where the segment is cut short, or does not state its type.
    """
    segment = attached.segment
    info = segment.info
    attached.check_not_truncated()
    type_name, sample_bytes = type_of(attached)
    published = segment.published
    pools = pools_of(segment)
    max_period_s, overdue = promised_period(segment)
    alive = liveness.live_peers(segment, attached.probe)
    return PublisherInfo(
        publisher_id=segment_id_of(attached.control_name) if attached.control_name else f"{info.segment_id:016x}",
        flink=flink,
        name=info.owner_name,
        pid=info.owner_pid,
        command=command_of(info.owner_pid, info.owner_start_time),
        type_name=type_name,
        type_hash=info.type_hash.hex(),
        sample_bytes=sample_bytes,
        depth=info.depth,
        slot_count=sum(pool.slot_count for pool in pools),
        slot_capacity=max((pool.slot_capacity for pool in pools), default=0),
        on_full=ON_FULL[info.policy],
        created_realtime_ns=info.created_realtime_ns,
        published=published,
        max_period_s=max_period_s,
        overdue=overdue,
        counters=segment.counters()._asdict(),
        subscribers=tuple(subscriber_info(segment, index) for index in alive),
        pools=pools,
    )
