"""Two layouts side by side: what differs.

"publisher" is the layout in the segment, "here" that of the subscriber or of a second publisher.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from zeroslot.types.layout import Layout
from zeroslot.types.nodes.base import Field, Node, Record
from zeroslot.types.nodes.lists import BoundedList, FixedList
from zeroslot.types.nodes.optional import Optional
from zeroslot.types.nodes.variable import VariableList


def difference(publisher: Record, here: Record) -> str:
    """One line for every field that is not the same on both sides; empty when the layouts are equal.

    First what both have and differs, then what is missing here, then what is missing at the publisher. In a list of
    variable size offsets are those in an item.
    """
    rows = list(_rows(publisher, here, "", 0, 0))
    name_width = max((len(name) for name, _, _ in rows), default=0)
    middle_width = max((len(middle) for _, middle, _ in rows), default=0)
    return "\n".join(f"  {name:{name_width}}   {middle:{middle_width}}     {last}" for name, middle, last in rows)


def _fields_of(record: Record) -> dict[str, Field]:
    return {field.name: field for field in record.members}


def _rows(
    publisher: Record, here: Record, prefix: str, publisher_offset: int, here_offset: int
) -> Iterator[tuple[str, str, str]]:
    """Name, publisher's side and this side of every difference. The offsets are those of the records."""
    publisher_fields, here_fields = _fields_of(publisher), _fields_of(here)
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
    """The rows of two fields of one name. Where samples in them differ, only what differs in these."""
    name = prefix + publisher.name
    publisher_at, here_at = publisher_offset + publisher.offset, here_offset + here.offset
    publisher_text, here_text = publisher.text, here.text
    if publisher.node != here.node:
        inside = _samples_inside(publisher.node, here.node)
        if inside is not None:
            if inside.has_place_of_its_own:
                publisher_at = here_at = 0
            yield from _rows(
                inside.publisher,
                inside.here,
                f"{name}{inside.suffix}.",
                publisher_at + inside.publisher_at,
                here_at + inside.here_at,
            )
            return
        if publisher_text == here_text:  # one name for two things
            publisher_text, here_text = publisher.node.canonical, here.node.canonical
    yield name, f"publisher {publisher_text} at {publisher_at}", f"here {here_text} at {here_at}"


class _Samples(NamedTuple):
    """Two samples in two nodes, and their offsets in these; of a list the first. Those of a list of variable size lie
    elsewhere: their offsets are counted from there.
    """

    publisher: Layout
    here: Layout
    suffix: str = ""
    publisher_at: int = 0
    here_at: int = 0
    has_place_of_its_own: bool = False


def _samples_inside(publisher: Node, here: Node) -> _Samples | None:
    """The samples that two nodes are made of. None: they are of other kinds, or differ in more than their samples."""
    if isinstance(publisher, Layout) and isinstance(here, Layout):
        return _Samples(publisher, here)
    if not isinstance(publisher, (Optional, FixedList, BoundedList, VariableList)) or type(here) is not type(publisher):
        return None
    inner = _samples_inside(publisher.item, here.item)
    if inner is None or replace(publisher, item=here.item) != here:  # another bound
        return None
    own = inner.has_place_of_its_own or isinstance(publisher, VariableList)
    return inner._replace(
        suffix=("" if isinstance(publisher, Optional) else "[]") + inner.suffix,
        publisher_at=inner.publisher_at + (0 if own else _item_at(publisher)),
        here_at=inner.here_at + (0 if own else _item_at(here)),
        has_place_of_its_own=own,
    )


def _item_at(node: Node) -> int:
    return node.members[1].offset if isinstance(node, Record) else 0
