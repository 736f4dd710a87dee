"""Two layouts side by side: what both have, what differs, and the error that says so.

"publisher" is the layout in the segment, "here" that of the subscriber or of a second publisher.
"""

from __future__ import annotations

from collections.abc import Iterator

from zeroslot.errors import TypeMismatchError
from zeroslot.types.layout import Layout
from zeroslot.types.nodes.base import Field, Record


def shared_members(publisher: Record, here: Record) -> dict[str, tuple[Field, Field]]:
    """The fields that both sides have under one name with one meaning, wherever they lie, as (publisher's, that of
    here).
    """
    fields = _by_name(here)
    return {
        field.name: (field, fields[field.name])
        for field in publisher.members
        if field.name in fields and field.node == fields[field.name].node
    }


def difference(publisher: Record, here: Record) -> str:
    """One line for every field that is not the same on both sides; empty when the layouts are equal.

    First what both have and differs, then what is missing here, then what is missing at the publisher.
    """
    rows = list(_rows(publisher, here, "", 0, 0))
    name_width = max((len(name) for name, _, _ in rows), default=0)
    middle_width = max((len(middle) for _, middle, _ in rows), default=0)
    return "\n".join(f"  {name:{name_width}}   {middle:{middle_width}}     {last}" for name, middle, last in rows)


def _by_name(record: Record) -> dict[str, Field]:
    return {field.name: field for field in record.members}


def _rows(
    publisher: Record, here: Record, prefix: str, publisher_offset: int, here_offset: int
) -> Iterator[tuple[str, str, str]]:
    """Name, publisher's side and this side of every difference. The offsets are those of the records."""
    publisher_fields, here_fields = _by_name(publisher), _by_name(here)
    for name, field in publisher_fields.items():
        other = here_fields.get(name)
        if other is not None and (field.node, field.offset) != (other.node, other.offset):
            yield from _changed(field, other, prefix, publisher_offset, here_offset)
    for name, field in publisher_fields.items():
        if name not in here_fields:
            yield prefix + name, f"publisher {field.text} at {publisher_offset + field.offset}", "missing here"
    for name, field in here_fields.items():
        if name not in publisher_fields:
            yield prefix + name, "missing at the publisher", f"here {field.text} at {here_offset + field.offset}"


def _changed(
    publisher: Field, here: Field, prefix: str, publisher_offset: int, here_offset: int
) -> Iterator[tuple[str, str, str]]:
    name = prefix + publisher.name
    publisher_at, here_at = publisher_offset + publisher.offset, here_offset + here.offset
    publisher_text, here_text = publisher.text, here.text
    if publisher.node != here.node and publisher_text == here_text:  # one name for two things: say what is inside
        if isinstance(publisher.node, Layout) and isinstance(here.node, Layout):
            yield from _rows(publisher.node, here.node, f"{name}.", publisher_at, here_at)
            return
        publisher_text, here_text = publisher.node.canonical, here.node.canonical
    yield name, f"publisher {publisher_text} at {publisher_at}", f"here {here_text} at {here_at}"


def mismatch(
    topic: str, publisher: Layout, here: Layout, *, by_name: bool = True, unreadable: tuple[str, ...] = ()
) -> TypeMismatchError:
    """The error for a topic whose publisher has another type than `here`; the caller raises it.

    `by_name`: whether a subscription by name would work; `unreadable`: the fields because of which it would not.
    """
    lines = difference(publisher, here)
    if not shared_members(publisher, here):
        advice = "They share no field: subscribe with the publisher's type, or to another topic."
    elif by_name:
        advice = 'Subscribe with match="by_name" to read the fields that both share.'
    else:
        advice = (
            f'match="by_name" cannot read {", ".join(unreadable)}: give fields that the publisher lacks a default, '
            "declare the others as the publisher does, or leave them out."
        )
    return TypeMismatchError(
        f"{topic} carries {_summary(publisher)}, not {_summary(here)}:\n{lines}\n{advice}",
        topic=topic,
        publisher_type=publisher.name,
        publisher_hash=publisher.type_hash,
        here_type=here.name,
        here_hash=here.type_hash,
        difference=lines,
        unreadable=unreadable,
    )


def _summary(layout: Layout) -> str:
    count = len(layout.members)
    return f"{layout.name} ({count} field{'s' * (count != 1)}, {layout.type_hash.hex()[:4]}…)"
