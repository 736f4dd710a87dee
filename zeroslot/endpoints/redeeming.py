"""`redeem`: lease the sample that a ticket names, in place, in any process of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from zeroslot._core import binding
from zeroslot._core.binding import SLOT_LIMIT, TYPED, Lease, Source, Ticket
from zeroslot.arguments import whole_number
from zeroslot.endpoints import tickets
from zeroslot.endpoints.following import plan_for
from zeroslot.endpoints.versions import published_layout, untyped_publisher
from zeroslot.types import whole
from zeroslot.types.by_name import Match, checked_match, checked_missing
from zeroslot.types.compiled import compiled, has_open_parameters
from zeroslot.types.from_schema import sample_type_of
from zeroslot.types.sample import Sample

if TYPE_CHECKING:
    from zeroslot.endpoints.tickets import TicketReader
    from zeroslot.types.layout import Layout

S = TypeVar("S", bound=Sample)

# Of one publisher. A program that declares its class again and again, as notebooks do, keeps no more than these.
MOST_TYPES = 8


@overload
def redeem(
    ticket: Ticket,
    sample_type: type[S],
    *,
    match: Match = ...,
    missing: Literal["error", "ignore"] = ...,
    max_leases: int = ...,
) -> Lease[S]: ...


@overload
def redeem(
    ticket: Ticket,
    sample_type: None = None,
    *,
    match: Match = ...,
    missing: Literal["error", "ignore"] = ...,
    max_leases: int = ...,
) -> Lease[Any]: ...


def redeem(
    ticket: Ticket,
    sample_type: type[Sample] | None = None,
    *,
    match: Match = "exact",
    missing: Literal["error", "ignore"] = "error",
    max_leases: int = 4,
) -> Lease[Any]:
    """Lease the sample that a ticket names, in place: in a worker, behind a queue, or in the process that made it.

    Without a `sample_type` the sample has the class of this process that the publisher's samples have, if one has been
    imported, and one made from the stored schema otherwise. `match` and `missing` are those of `Subscriber`.
    `max_leases`: how many samples of one publisher this process holds by tickets, at most; tickets of one sample share
    its lease. They are in addition to what subscribers hold, and keep slots from being reused: give the publisher
    `spare_slots` for them.

    The process takes a place among the publisher's `max_subscribers` while it redeems, and is no subscriber. It costs
    an attach at the first ticket of a publisher, and about what `take` costs after that.

    Raises SampleGoneError when the sample is neither among the newest `depth` nor held by the lease that made the
    ticket; TypeMismatchError, TooManyLeasesError, TooManyPeersError; EvictedError after an `evict_after`, until what is
    held is released; PermissionError where the publisher's memory is not this user's, or shared with one of its groups.

    >>> with lease:
    ...     queue.put(lease.ticket())
    >>> with redeem(queue.get(), Imu) as lease:  # in another process
    ...     print(lease.sample.accel)
    """
    ignore_missing = checked_missing(missing, checked_match(match))
    leases = whole_number("max_leases", max_leases, 1, SLOT_LIMIT)
    if sample_type is not None:
        whole.compiled_type(sample_type)  # raises for what is no sample type
    with tickets.lock:
        reader = tickets.reader_for(ticket, leases)
        lease = binding.redeem(_source_for(reader, ticket, sample_type, match, ignore_missing), ticket, leases)
        if lease is None:
            raise tickets.gone(ticket, reader)
        return lease


def _source_for(
    reader: TicketReader, ticket: Ticket, sample_type: type[Sample] | None, match: Match, ignore_missing: bool
) -> Source:
    source = reader.sources.get((sample_type, match, ignore_missing))
    if source is None:
        if len(reader.sources) >= MOST_TYPES:
            reader.sources.clear()
        segment = reader.native.segment
        where = ticket.topic or ticket.publisher_id
        reader.attached.check_not_truncated()
        if segment.info.payload_kind != TYPED:
            raise untyped_publisher(where, segment.info, sample_type, "Use SlotReader.redeem")
        here = sample_type
        if here is None:
            published = published_layout(segment, where)
            here = _class_of(published) or whole.type_of(published)
        plan, _ = plan_for(where, segment, here, match, ignore_missing)
        source = Source(reader.native, plan, ticket.publisher_id)
        reader.sources[sample_type, match, ignore_missing] = source
    return source


def _class_of(published: Layout) -> type[Sample] | None:
    """The class that this process declares with this name and these fields; of several, the last."""
    classes: list[type[Sample]] = [Sample]
    for each in classes:
        classes += each.__subclasses__()
    for each in reversed(classes[1:]):
        if each.__name__ != published.name or each.__module__ == sample_type_of.__module__:
            continue  # or made from a schema
        declared = each.__pydantic_fields_complete__ and not has_open_parameters(each)
        if declared and compiled(each).layout.type_hash == published.type_hash:
            return each
    return None
