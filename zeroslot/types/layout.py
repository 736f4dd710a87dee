"""Where every field of a sample type lies in memory.

A layout is the C struct of the declaration: natural alignment, order of declaration, and every gap named, so that the
sizes of the fields add up to the size of the whole. Nothing here creates or maps memory; asking for a layout costs no
segment. A nested sample is a field whose node is the layout of that sample.

Why padding is explicit: the image may then be read as plain little-endian CDR (XCDR1) with the octets spelled out,
compared byte for byte, and written to a file, without a word about any compiler.

Why the hash covers no class names and no defaults: two programs that declare the same bytes under other names can
talk to each other. It covers field names, because a sample whose `x` and `y` are exchanged is another sample.

Why a sample is smaller than 2 GiB: numpy keeps an item size in a C int. Larger data goes through variable-size fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from zeroslot._core.binding import Codec
from zeroslot.errors import DeclarationError
from zeroslot.types.export.c import to_c
from zeroslot.types.export.idl import to_idl
from zeroslot.types.names import TYPE_NAME_LIMIT, is_type_name
from zeroslot.types.nodes.arrays import Array
from zeroslot.types.nodes.base import (
    NESTING_LIMIT,
    SIZE_LIMIT,
    Declaration,
    Declarator,
    Field,
    Node,
    Record,
    StoredNode,
    TypeWriter,
    checked_name,
    checked_object,
    place,
)
from zeroslot.types.nodes.scalars import SCALARS
from zeroslot.types.section import TEXT_LIMIT

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, eq=False, repr=False)
class Layout(Record):
    """Where every field of a sample type lies, and the same in other languages. Two layouts are equal when their
    `type_hash` is.

    `fields` are in the order of memory, padding included; `members` are those that were declared. `canonical` is the
    text under the hash. `plain` says that the image is also, byte for byte, an XCDR1 message body of the type. `dtype`
    has the offsets and the item size of the image and leaves the padding unnamed. `sample_type` is the class it was
    made from; None for a layout that was read from a segment. `whole`: it is np.ndarray or bytes, and a sample is what
    its only field holds.
    """

    written = "a nested Sample"

    name: str
    declared: tuple[Field, ...]
    sample_type: type[Any] | None = None
    whole: bool = False

    @property
    def kind(self) -> str:
        """That of a nested sample."""
        return "whole" if self.whole else "struct"

    @property
    def members(self) -> tuple[Field, ...]:
        """The fields that were declared, without padding."""
        return self.declared

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The members, and a field for every gap before, between and behind them."""
        fields: list[Field] = []
        gap_count = 0
        for each in self.with_gaps():
            if isinstance(each, Field):
                fields.append(each)
            else:
                octets = Array(SCALARS["u8"], (each.size,))
                fields.append(Field(f"_pad{gap_count}", each.offset, octets, padding=True))
                gap_count += 1
        return tuple(fields)

    @cached_property
    def plain(self) -> bool:
        """Whether the image is also an XCDR1 message body."""
        return all(field.node.plain for field in self.members)

    @property
    def is_array_item(self) -> bool:
        """With records of its dtype."""
        return True

    @cached_property
    def variable(self) -> bool:
        """Whether samples have data behind the `size` bytes of their fixed part."""
        return any(field.node.variable for field in self.members)

    @cached_property
    def canonical(self) -> str:
        """The text under the hash."""
        body = ";".join(f"{field.name}@{field.offset}:{field.node.canonical}" for field in self.members)
        return f"{self.kind}({self.size},{self.alignment}){{{body}}}"

    @property
    def text(self) -> str:
        """The name."""
        return self.name

    @property
    def tag(self) -> str:
        """The name."""
        return self.name

    def __eq__(self, other: object) -> bool:
        return self.type_hash == other.type_hash if isinstance(other, Layout) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.type_hash)

    def __repr__(self) -> str:
        count = len(self.members)
        fields = f"{count} field{'s' * (count != 1)}"
        return f"<Layout {self.name}: {self.size} bytes, {fields}, {self.type_hash.hex()[:8]}>"

    def to_idl(self, form: Literal["image", "message"] = "image") -> str:
        """OMG IDL 4.2: "image" says what lies in memory, "message" what recorders and bridges emit."""
        return to_idl(self, form)

    def to_c(self) -> str:
        """A header for C11 and C++17 that asserts every offset."""
        return to_c(self)

    def to_json_schema(self) -> dict[str, Any]:
        """JSON Schema of the sample as JSON, with offsets and sizes beside it."""
        return {"$schema": DIALECT, **self.json_schema()}

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Layout | None:
        """The layout of a nested sample."""
        layout_of = getattr(declared.base, "__zs_layout__", None) if isinstance(declared.base, type) else None
        if layout_of is None:
            return None
        if declared.bound is not None:
            declared.reject(
                f"{declared.bound!r} does not belong on the sample type {declared.base.__name__}",
                "Take the bound away.",
            )
        layout: Layout = layout_of()
        return layout

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Layout | None:
        """The layout of a nested sample, or of the whole."""
        title = stored.schema.get("title")
        whole = stored.kind == "whole" and stored.depth == 0
        if stored.kind != "struct" and not whole:
            return None
        if type(title) is not str:
            stored.reject("has no title")
        members: list[tuple[str, Node]] = []
        offsets: list[int] = []
        for name, schema in checked_object(stored.schema.get("properties"), f"{stored.where}: properties").items():
            member = stored.inner(schema, f"{title}.{checked_name(name, f'a field of {title}')}")
            members.append((name, member.node()))
            offsets.append(member.integer("offset"))
        if whole and not (len(members) == 1 and members[0][1].variable):
            stored.reject("is a whole type, and not of one variable field")
        layout = build_layout(title, members, whole=whole)
        if [field.offset for field in layout.members] != offsets:
            stored.reject("has offsets that do not follow from its fields")
        stated = tuple(stored.facts.get(key) for key in ("size", "alignment", "type_hash"))
        if stated != (layout.size, layout.alignment, layout.type_hash.hex()):
            stored.reject("has a size, alignment or hash that does not follow from its fields")
        return layout

    def annotation(self, sample_type_of: Callable[[Record], type]) -> type:
        """A sample type."""
        return sample_type_of(self)

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of the sample as JSON."""
        return {
            "title": self.name,
            "type": "object",
            "properties": {field.name: field.node.sized_schema(field.offset) for field in self.members},
            "required": [field.name for field in self.members if field.kind != "optional"],
            "additionalProperties": False,
            "x-zeroslot": {
                "kind": self.kind,
                "size": self.size,
                "alignment": self.alignment,
                "type_hash": self.type_hash.hex(),
            },
        }

    def declare(self, writer: TypeWriter) -> Declarator:
        """A struct of this name."""
        return writer.struct(self)

    def codec(self, codec_of_sample: Callable[[Record], Codec]) -> Codec:
        """That of its view class."""
        return codec_of_sample(self)

    def heads(self, offset: int) -> list[tuple[int, int]]:
        """Those of all fields, and whatever is small."""
        return [span for field in self.fields for span in field.node.spans_to_zero(offset + field.offset)]


def build_layout(
    name: str, members: Iterable[tuple[str, Node]], sample_type: type[Any] | None = None, *, whole: bool = False
) -> Layout:
    """Lay `members` out in order as a C compiler would. No members make a struct of 0 bytes with alignment 1.

    Raises `DeclarationError` when the whole reaches 2 GiB, or is nested more deeply or described at greater length than
    readers of schemas accept.
    """
    if not is_type_name(name):
        raise DeclarationError(
            f"{name[:40]!r} is no type name: it must be printable and have at most {TYPE_NAME_LIMIT} characters.",
            type_name=name,
        )
    placed = place(members)
    for member in placed:
        if member.node.nesting >= NESTING_LIMIT:
            raise DeclarationError(
                f"{name}.{member.name} is nested {member.node.nesting + 1} structs, lists and optionals deep, and "
                f"{NESTING_LIMIT} are allowed. Nest fewer types.",
                type_name=name,
                field=member.name,
            )
    layout = Layout(name, placed, sample_type, whole)
    if layout.size > SIZE_LIMIT:
        raise DeclarationError(
            f"{name} takes {layout.size} bytes; a sample is at most {SIZE_LIMIT} bytes. "
            f"Make its arrays or bounds smaller.",
            type_name=name,
        )
    if len(layout.canonical) > TEXT_LIMIT:
        raise DeclarationError(
            f"The description of {name} takes more than {TEXT_LIMIT} bytes. Split the type.", type_name=name
        )
    return layout
