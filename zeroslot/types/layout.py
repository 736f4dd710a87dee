"""Where every field of a sample type lies in memory.

A layout is the C struct of the declaration: natural alignment, order of declaration, and every gap named, so that the
sizes of the fields add up to the size of the whole. Nothing here creates or maps memory; asking for a layout costs no
segment.

Why padding is explicit: the image may then be read as plain little-endian CDR (XCDR1) with the octets spelled out,
compared byte for byte, and written to a file, without a word about any compiler.

Why the hash covers no class names and no defaults: two programs that declare the same bytes under other names can
talk to each other. It covers field names, because a sample whose `x` and `y` are exchanged is another sample.

Why a sample is smaller than 2 GiB: numpy keeps an item size in a C int. Larger data goes through variable-size fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from zeroslot.errors import DeclarationError
from zeroslot.types.fields import (
    DTYPES,
    NESTING_LIMIT,
    SIZE_LIMIT,
    TYPE_NAME_LIMIT,
    Array,
    Blob,
    BoundedList,
    Enumeration,
    FixedList,
    Node,
    Optional,
    Scalar,
    Struct,
    Text,
    is_type_name,
    round_up,
)

TEXT_LIMIT = 4 * 2**20  # bytes of one text of a schema

L = TypeVar("L", bound="StructLayout")


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a layout.

    `shape` is () for a single value, the dims of an array or a fixed list, (max_len,) of a bounded list.
    """

    name: str
    offset: int
    size: int
    kind: str
    shape: tuple[int, ...]
    node: Node
    padding: bool = False

    @property
    def text(self) -> str:
        """The type as differences and errors show it, such as `f64[3]`."""
        return self.node.text


@dataclass(frozen=True, eq=False)
class StructLayout:
    """Size, alignment and fields of one sample type. Two layouts are equal when their `type_hash` is.

    `canonical` is the text under the hash. `plain` says that the image is also, byte for byte, an XCDR1 message body
    of the type. `dtype` has the offsets and the item size of the image and leaves the padding unnamed.
    """

    name: str
    size: int
    alignment: int
    fields: tuple[Field, ...]
    canonical: str
    type_hash: bytes
    dtype: np.dtype[Any]
    plain: bool

    @cached_property
    def nesting(self) -> int:
        """How many structs, lists and optionals stand within each other, this one included."""
        return 1 + max((field.node.nesting for field in self.members), default=-1)

    @cached_property
    def members(self) -> tuple[Field, ...]:
        """The fields that were declared, without padding."""
        return tuple(field for field in self.fields if not field.padding)

    def __eq__(self, other: object) -> bool:
        return self.type_hash == other.type_hash if isinstance(other, StructLayout) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.type_hash)

    def __repr__(self) -> str:
        count = len(self.members)
        fields = f"{count} field{'s' * (count != 1)}"
        return f"<{type(self).__name__} {self.name}: {self.size} bytes, {fields}, {self.type_hash.hex()[:8]}>"


def build_layout(name: str, members: Iterable[tuple[str, Node]], cls: type[L]) -> L:
    """Lay `members` out in order as a C compiler would. No members make a struct of 0 bytes with alignment 1.

    Raises `DeclarationError` when the whole reaches 2 GiB, or is nested more deeply or described at greater length than
    readers of schemas accept.
    """
    if not is_type_name(name):
        raise DeclarationError(
            f"{name[:40]!r} is no type name: it must be printable and have at most {TYPE_NAME_LIMIT} characters.",
            type_name=name,
        )
    members = list(members)
    for member_name, node in members:
        if node.nesting >= NESTING_LIMIT:
            raise DeclarationError(
                f"{name}.{member_name} is nested {node.nesting + 1} structs, lists and optionals deep, and "
                f"{NESTING_LIMIT} are allowed. Nest fewer types.",
                type_name=name,
                field=member_name,
            )
    fields: list[Field] = []
    end, alignment, padding_count = 0, 1, 0

    def pad_to(offset: int) -> None:
        nonlocal padding_count
        if offset > end:
            gap = Array(Scalar("u8"), (offset - end,))
            fields.append(Field(f"_pad{padding_count}", end, offset - end, "u8", gap.shape, gap, padding=True))
            padding_count += 1

    for member_name, node in members:
        offset = round_up(end, node.alignment)
        pad_to(offset)
        fields.append(Field(member_name, offset, node.size, *_kind_and_shape(node), node))
        end = offset + node.size
        alignment = max(alignment, node.alignment)
    size = round_up(end, alignment)
    pad_to(size)
    if size > SIZE_LIMIT:
        raise DeclarationError(
            f"{name} takes {size} bytes; a sample is at most {SIZE_LIMIT} bytes. Make its arrays or bounds smaller.",
            type_name=name,
        )
    declared = [field for field in fields if not field.padding]
    body = ";".join(f"{field.name}@{field.offset}:{canonical_of(field.node)}" for field in declared)
    canonical = f"struct({size},{alignment}){{{body}}}"
    if len(canonical) > TEXT_LIMIT:
        raise DeclarationError(
            f"The description of {name} takes more than {TEXT_LIMIT} bytes. Split the type.", type_name=name
        )
    # numpy has 64 dims, more than an array within so many lists.
    dtype = _record([(field.name, field.offset, dtype_of(field.node)) for field in declared], size)
    return cls(
        name=name,
        size=size,
        alignment=alignment,
        fields=tuple(fields),
        canonical=canonical,
        type_hash=hashlib.sha256(canonical.encode()).digest()[:16],
        dtype=dtype,
        plain=all(_is_plain(field.node) for field in declared),
    )


def nested_layout(node: Struct) -> StructLayout:
    """The layout of a nested sample. The node itself cannot name the type, which is defined here."""
    layout: StructLayout = node.layout
    return layout


def canonical_of(node: Node) -> str:
    """The part of the hashed text that stands for one node. Equal texts mean equal bytes with equal meaning."""
    match node:
        case Scalar(kind):
            return kind
        case Enumeration(kind=kind, members=members):
            return f"enum({kind}){{{','.join(f'{name}={value}' for name, value in members)}}}"
        case Text(max_bytes):
            return f"str({max_bytes})"
        case Blob(max_bytes):
            return f"bytes({max_bytes})"
        case Struct():
            return nested_layout(node).canonical
        case Array(item, shape):
            return f"array({','.join(map(str, shape))})[{canonical_of(item)}]"
        case FixedList(item, length):
            return f"list({length})[{canonical_of(item)}]"
        case BoundedList(item, max_len):
            return f"bounded({max_len})[{canonical_of(item)}]"
        case Optional(item):
            return f"optional[{canonical_of(item)}]"


def dtype_of(node: Node) -> np.dtype[Any]:
    """The numpy dtype with exactly this node's size and inner offsets."""
    match node:
        case Scalar() | Enumeration():
            return DTYPES[node.kind]
        case Text(max_bytes) | Blob(max_bytes):
            return _record([("length", 0, np.dtype("<u4")), ("data", 4, np.dtype(("u1", (max_bytes,))))], node.size)
        case Struct():
            return nested_layout(node).dtype
        case Array(item, shape):
            return np.dtype((DTYPES[item.kind], shape))
        case FixedList(item, length):
            return _repeated(dtype_of(item), length)
        case BoundedList(item, max_len):
            items = _repeated(dtype_of(item), max_len)
            return _record([("count", 0, np.dtype("<u4")), ("items", node.items_at, items)], node.size)
        case Optional(item):
            return _record([("present", 0, np.dtype("u1")), ("value", node.item_at, dtype_of(item))], node.size)


def _repeated(dtype: np.dtype[Any], count: int) -> np.dtype[Any]:
    # Dims are joined, because numpy accepts an array of arrays with too many dims and fails where one is made of it.
    return np.dtype((dtype.base, (count, *dtype.shape)))


def _record(members: list[tuple[str, int, np.dtype[Any]]], size: int) -> np.dtype[Any]:
    names, offsets, formats = [m[0] for m in members], [m[1] for m in members], [m[2] for m in members]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def _kind_and_shape(node: Node) -> tuple[str, tuple[int, ...]]:
    match node:
        case Scalar(kind):
            return kind, ()
        case Array(item, shape):
            return item.kind, shape
        case Enumeration():
            return "enum", ()
        case Text():
            return "str", ()
        case Blob():
            return "bytes", ()
        case Struct():
            return "struct", ()
        case FixedList(_, count) | BoundedList(_, count):
            return "list", (count,)
        case Optional():
            return "optional", ()


def _is_plain(node: Node) -> bool:
    match node:
        case Scalar() | Enumeration() | Array():
            return True
        case FixedList(item, _):
            return _is_plain(item)
        case Struct():
            return nested_layout(node).plain
        case _:
            return False
