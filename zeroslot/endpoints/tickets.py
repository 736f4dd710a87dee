"""How a process redeems tickets: one reader for each segment, which all its tickets and threads share.

Why one: it takes an entry of the peer table and the lock on it, and the bits of the samples that it holds are cleared
with it when the process dies. It has no cursor and is no subscriber.

Why it is kept: attaching costs a thousand times what redeeming costs. It is closed when its publisher has ended and
nothing of it is held, and when as many others as MOST_UNUSED have been used since; so a process that runs for months
holds a bounded number of descriptors and mappings.

Why the user and the group stand in the ticket: the name of a segment is visible in /dev/shm, and any user may make an
object under a name that has become free. What is opened has to belong to the user that the ticket names. For a user
other than this process's own, it also has to be shared with a group that this process is in.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zeroslot._core.binding import Reader, Ticket
from zeroslot.endpoints.handle import close_at_exit
from zeroslot.errors import SampleGoneError
from zeroslot.memory import access
from zeroslot.memory.attach import attach_control
from zeroslot.memory.peers import register_reader
from zeroslot.memory.processes import identity

if TYPE_CHECKING:
    from zeroslot._core.binding import Source
    from zeroslot.memory.attach import AttachedControl

MOST_UNUSED = 8


@dataclass(slots=True, eq=False, weakref_slot=True)
class TicketReader:
    """What redeems the tickets of one segment in this process. `sources`: how to read its samples as a type."""

    native: Reader
    attached: AttachedControl
    sources: dict[Any, Source] = field(default_factory=dict)

    def close(self) -> None:
        """Leave the segment. Leases stay valid."""
        self.native.close()

    def is_used(self) -> bool:
        """Whether it holds samples."""
        return self.native.counts[3] > 0

    def has_ended(self) -> bool:
        """Whether its publisher has."""
        return not self.attached.is_live()


# Reentrant: a signal handler may redeem while its thread does. The readers stand in the order of their last use.
lock = threading.RLock()
_readers: dict[str, TicketReader] = {}


def _forget_parent() -> None:
    # In a forked child: the readers are the parent's, and the thread that holds the lock does not exist here.
    global lock, _readers  # noqa: PLW0603 (one of each for the process)
    lock = threading.RLock()
    _readers = {}


os.register_at_fork(after_in_child=_forget_parent)


def reader_for(ticket: Ticket, max_leases: int) -> TicketReader:
    """The reader of the ticket's segment. Under `lock`.

    Raises TypeError for what is no ticket, SampleGoneError where the segment is gone, TooManyPeersError, and what
    attaching raises.
    """
    if not isinstance(ticket, Ticket):
        raise TypeError(f"redeem takes a Ticket, which lease.ticket() makes, not {type(ticket).__name__}")
    known = _readers.pop(ticket.publisher_id, None)
    if known is None or known.native.closed:
        _close_unused()
        known = _attach(ticket, max_leases)
    _readers[ticket.publisher_id] = known
    return known


def gone(ticket: Ticket, reader: TicketReader | None = None) -> SampleGoneError:
    """The error for a ticket whose sample can no longer be leased. No reader: its segment is gone."""
    where = ticket.topic or ticket.publisher_id
    if reader is None:
        return SampleGoneError(
            f"{where}: sample {ticket.sequence} is gone: its publisher has closed, or died and was removed. Redeem "
            "tickets while the publisher is there, or send a copy of the sample",
            topic=ticket.topic, publisher_id=ticket.publisher_id, sequence=ticket.sequence, owner_gone=True,
        )  # fmt: skip  # the facts on one line
    segment = reader.native.segment
    return SampleGoneError(
        f"{where}: sample {ticket.sequence} is gone: the newest is {segment.published}, the newest "
        f"{segment.info.depth} are kept, and the lease that made the ticket was released. Hold that lease until the "
        "ticket is redeemed, or create the publisher with a larger depth",
        topic=ticket.topic, publisher_id=ticket.publisher_id, sequence=ticket.sequence, newest=segment.published,
        owner_gone=reader.has_ended(),
    )  # fmt: skip  # the facts on one line


def _close_unused() -> None:
    unused = [(name, reader) for name, reader in _readers.items() if not reader.is_used()]
    for i, (name, reader) in enumerate(unused):
        if i + MOST_UNUSED <= len(unused) or reader.has_ended():
            _readers.pop(name, None)
            reader.close()


def _attach(ticket: Ticket, max_leases: int) -> TicketReader:
    attached = _map(ticket)
    if attached is None:
        raise gone(ticket)
    process = identity(None)
    try:
        native = Reader(
            attached.segment,
            attached.descriptor,
            index=register_reader(attached),
            max_leases=max_leases,
            reliable=False,
            pid=process.pid,
            start_time=process.start_time,
            name=process.name,
            history=0,
            time_namespace=process.time_namespace,
            map_pools=attached.map_pools,
            owned_by=attached.owned_by(),
            tickets=True,
            topic=ticket.topic,
        )
    except BaseException:  # free the entry now: a traceback may keep these objects alive
        attached.descriptor.close()
        raise
    reader = TicketReader(native, attached)
    close_at_exit(reader)
    return reader


def _map(ticket: Ticket) -> AttachedControl | None:
    """Map the ticket's segment. None: it is gone. Raises PermissionError for another user's that is not shared."""
    name = f"/zs-{ticket.publisher_id}"
    owner = access.Owner(ticket.uid, ticket.gid)
    attached = attach_control(name, ticket.topic or ticket.publisher_id, owner)
    if attached is None:
        return None
    info = os.fstat(attached.descriptor.fileno())
    if info.st_uid != os.geteuid() and not (info.st_mode & 0o060 == 0o060 and access.is_member(info.st_gid)):
        raise access.permission_error(
            name, info, "no group of this process shares it. Run both as one user, or share the topic (mode=0o660)"
        )
    return attached if attached.map_pools() else None
