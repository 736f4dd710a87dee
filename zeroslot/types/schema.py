"""The schema of a sample as JSON, as bytes of a segment, and the difference between two of them.

The JSON is ordinary JSON Schema (draft 2020-12) of the sample's JSON form. Beside every property stands `x-zeroslot`,
which says where the bytes are and of which kind; from these the layout is built again, so that a segment can be read
without the class.

Why the reader believes nothing: the text comes out of shared memory that any peer of the same user can write. It
rebuilds the layout from kinds and bounds alone and then compares every offset, size and the hash with what the text
claims. Whatever does not fit is a FormatError, never a KeyError and never a deep recursion.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, NoReturn

from zeroslot.errors import CorruptSegmentError, DeclarationError, FormatError, TypeMismatchError
from zeroslot.types.fields import (
    DIMS_LIMIT,
    DTYPES,
    INTEGER_RANGES,
    NESTING_LIMIT,
    SIZE_LIMIT,
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
    is_name,
    is_type_name,
    json_array,
    json_scalar,
)
from zeroslot.types.layout import TEXT_LIMIT, Field, L, StructLayout, build_layout, canonical_of, nested_layout

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_LENGTHS = struct.Struct("<3I")


# --- layout to JSON ---


def to_json_schema(layout: StructLayout) -> dict[str, Any]:
    """JSON Schema of the sample in JSON form, with enough in `x-zeroslot` to build the layout again."""
    return {"$schema": DIALECT, **_struct_schema(layout)}


def _struct_schema(layout: StructLayout) -> dict[str, Any]:
    return {
        "title": layout.name,
        "type": "object",
        "properties": {field.name: _schema_of(field.node, field.offset) for field in layout.members},
        "required": [field.name for field in layout.members if not isinstance(field.node, Optional)],
        "additionalProperties": False,
        "x-zeroslot": {
            "kind": "struct",
            "size": layout.size,
            "alignment": layout.alignment,
            "type_hash": layout.type_hash.hex(),
        },
    }


def _schema_of(node: Node, offset: int | None = None) -> dict[str, Any]:
    schema = _json_form(node)
    facts = schema.setdefault("x-zeroslot", {})
    facts["size"] = node.size
    if offset is not None:
        facts["offset"] = offset
    return schema


def _json_form(node: Node) -> dict[str, Any]:
    facts: dict[str, Any]
    match node:
        case Scalar(kind):
            return {**json_scalar(kind), "x-zeroslot": {"kind": kind}}
        case Array(item, shape):
            return {**json_array(item.kind, shape), "x-zeroslot": {"kind": item.kind, "shape": list(shape)}}
        case Enumeration(kind=kind, name=name, members=members):
            facts = {"kind": "enum", "base": kind, "name": name, "members": [list(member) for member in members]}
            return {"type": "integer", "enum": [value for _, value in members], "x-zeroslot": facts}
        case Text(max_bytes):
            return {"type": "string", "maxLength": max_bytes, "x-zeroslot": {"kind": "str", "max_bytes": max_bytes}}
        case Blob(max_bytes):
            longest = -(-max_bytes // 3) * 4  # four characters for every three bytes begun
            facts = {"kind": "bytes", "max_bytes": max_bytes}
            return {"type": "string", "contentEncoding": "base64url", "maxLength": longest, "x-zeroslot": facts}
        case Struct():
            return _struct_schema(nested_layout(node))
        case FixedList(item, length):
            facts = {"kind": "list", "shape": [length]}
            bounds = {"minItems": length, "maxItems": length}
            return {"type": "array", "items": _schema_of(item), **bounds, "x-zeroslot": facts}
        case BoundedList(item, max_len):
            facts = {"kind": "list", "max_len": max_len}
            return {"type": "array", "items": _schema_of(item), "maxItems": max_len, "x-zeroslot": facts}
        case Optional(item):
            return {"anyOf": [_schema_of(item), {"type": "null"}], "x-zeroslot": {"kind": "optional"}}


# --- JSON to layout ---


def from_json_schema(schema: dict[str, Any] | str | bytes, cls: type[L]) -> L:
    """The layout that `to_json_schema` described, with the same `type_hash`.

    Raises `FormatError` for anything else. Safe for hostile input.
    """
    if isinstance(schema, (str, bytes)):
        schema = _parsed(schema)
    if not isinstance(schema, dict) or schema.get("$schema") != DIALECT:
        _odd("the whole", "is not a JSON Schema of draft 2020-12")
    try:
        return _layout_of(schema, "the whole", 0, cls)
    except DeclarationError as error:
        raise FormatError(str(error), where="the schema") from error


def _parsed(text: str | bytes) -> Any:
    if len(text) > TEXT_LIMIT:
        _odd("the whole", f"is longer than {TEXT_LIMIT} bytes")
    try:
        return json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except FormatError:
        raise
    except (ValueError, RecursionError, MemoryError) as error:  # a UnicodeDecodeError is a ValueError
        raise FormatError(
            f"The schema is not JSON ({error}). The segment is damaged or of another version.", where="the schema"
        ) from error


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        _odd("an object", "has two members of one name")
    return result


def _no_constant(name: str) -> NoReturn:
    _odd("the whole", f"holds {name}")


def _odd(where: str, problem: str) -> NoReturn:
    raise FormatError(
        f"In the schema, {where} {problem}. The segment is damaged or was written by another version.",
        where=f"the schema: {where}",
    )


def _shown(value: Any) -> str:
    """A few characters of anything. Not repr(): the value may be deep, or an int with too many digits to print."""
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, int) and value.bit_length() <= 64:
        return str(value)
    return f"a value of type {type(value).__name__}"


def _integer(facts: dict[str, Any], key: str, where: str, low: int = 0, high: int = SIZE_LIMIT) -> int:
    return _checked_integer(facts.get(key), f"{where}: {key}", low, high)


def _checked_integer(value: Any, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        _odd(where, f"is {_shown(value)}, not a whole number from {low} to {high}")
    return value


def _name(value: Any, where: str) -> str:
    if type(value) is not str or not is_name(value):
        _odd(where, f"is no name ({_shown(value)})")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _odd(where, "is not an object")
    return value


def _facts(schema: dict[str, Any], where: str) -> dict[str, Any]:
    return _object(schema.get("x-zeroslot"), f"{where}: x-zeroslot")


def _layout_of(schema: dict[str, Any], where: str, depth: int, cls: type[L]) -> L:
    if depth > NESTING_LIMIT:
        _odd(where, f"is nested deeper than {NESTING_LIMIT}")
    facts = _facts(schema, where)
    title = schema.get("title")
    if type(title) is not str:
        _odd(where, "has no title")
    if facts.get("kind") != "struct":
        _odd(where, "is not a struct")
    members: list[tuple[str, Node]] = []
    offsets: list[int] = []
    for name, member in _object(schema.get("properties"), f"{where}: properties").items():
        inner = f"{title}.{_name(name, f'a field of {title}')}"
        node = _node_of(_object(member, inner), inner, depth + 1, cls)
        members.append((name, node))
        offsets.append(_integer(_facts(member, inner), "offset", inner))
    layout = build_layout(title, members, cls)
    if [field.offset for field in layout.members] != offsets:
        _odd(where, "has offsets that do not follow from its fields")
    claimed = facts.get("size"), facts.get("alignment"), facts.get("type_hash")
    if claimed != (layout.size, layout.alignment, layout.type_hash.hex()):
        _odd(where, "has a size, alignment or hash that does not follow from its fields")
    return layout


def _node_of(schema: dict[str, Any], where: str, depth: int, cls: type[L]) -> Node:
    if depth > NESTING_LIMIT:
        _odd(where, f"is nested deeper than {NESTING_LIMIT}")
    facts = _facts(schema, where)
    node = _bare_node(schema, facts, where, depth, cls)
    if facts.get("size") != node.size or node.size > SIZE_LIMIT:
        _odd(where, "has a size that does not follow from its kind")
    return node


def _bare_node(schema: dict[str, Any], facts: dict[str, Any], where: str, depth: int, cls: type[L]) -> Node:
    kind = facts.get("kind")
    match kind:
        case str() if kind in DTYPES:
            return Array(Scalar(kind), _dims(facts["shape"], where)) if "shape" in facts else Scalar(kind)
        case "enum":
            return _enumeration(facts, where)
        case "str":
            return Text(_integer(facts, "max_bytes", where, 1))
        case "bytes":
            return Blob(_integer(facts, "max_bytes", where, 1))
        case "struct":
            return Struct(_layout_of(schema, where, depth, cls))
        case "list":
            item = _node_of(_object(schema.get("items"), where), where, depth + 1, cls)
            if item.size == 0:
                _odd(where, "is a list of nothing")
            if "max_len" in facts:
                return BoundedList(item, _integer(facts, "max_len", where, 1))
            dims = _dims(facts.get("shape"), where)
            if len(dims) != 1:
                _odd(where, "is a list of several dims")
            return FixedList(item, dims[0])
        case "optional":
            choices = schema.get("anyOf")
            if not isinstance(choices, list) or len(choices) != 2:
                _odd(where, "is an optional without its item")
            item = _node_of(_object(choices[0], where), where, depth + 1, cls)
            if isinstance(item, Optional):
                _odd(where, "is an optional of an optional")
            return Optional(item)
        case _:
            _odd(where, f"has the unknown kind {_shown(kind)}")


def _dims(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= DIMS_LIMIT:
        _odd(where, "has no shape")
    return tuple(_checked_integer(dim, f"{where}: shape", 1, SIZE_LIMIT) for dim in value)


def _enumeration(facts: dict[str, Any], where: str) -> Enumeration:
    base, pairs = facts.get("base"), facts.get("members")
    if type(base) is not str or base not in INTEGER_RANGES or not isinstance(pairs, list) or not pairs:
        _odd(where, "is an enum without a width or without enumerators")
    members: list[tuple[str, int]] = []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            _odd(where, "has an enumerator that is not a name and a value")
        members.append((_name(pair[0], where), _checked_integer(pair[1], where, *INTEGER_RANGES[base])))
    values = [value for _, value in members]
    if sorted(set(values)) != values or len({name for name, _ in members}) != len(members):
        _odd(where, "has enumerators twice or out of order")
    name = facts.get("name")
    if type(name) is not str or not is_type_name(name):
        _odd(where, f"is an enum without a name ({_shown(name)})")
    return Enumeration(base, name, tuple(members))


# --- the schema section of a segment ---


def pack_schema(layout: StructLayout, idl_text: str) -> bytes:
    """Type name, IDL and JSON as a segment keeps them: three u32 lengths in bytes, then the three texts in UTF-8.

    Raises `DeclarationError` for a type whose schema no reader would accept.
    """
    json_text = json.dumps(to_json_schema(layout), separators=(",", ":"), ensure_ascii=False)
    texts = [text.encode() for text in (layout.name, idl_text, json_text)]
    if any(len(text) > TEXT_LIMIT for text in texts):
        raise DeclarationError(
            f"The schema of {layout.name} takes more than {TEXT_LIMIT} bytes. Split the type.", type_name=layout.name
        )
    return _LENGTHS.pack(*map(len, texts)) + b"".join(texts)


def unpack_schema(data: bytes, cls: type[L], topic: str | None = None) -> tuple[L, str]:
    """The layout and the IDL text that `pack_schema` wrote. What follows them in `data` must be zeros.

    Raises `CorruptSegmentError` where lengths or texts are damaged, `FormatError` where the schema is none of this
    format; both carry `topic`.
    """
    try:
        return _unpacked(data, cls)
    except (CorruptSegmentError, FormatError) as error:
        error.topic = topic
        raise


def _unpacked(data: bytes, cls: type[L]) -> tuple[L, str]:
    if len(data) < _LENGTHS.size:
        raise _corrupt(f"has {len(data)} bytes, fewer than its lengths take")
    lengths = _LENGTHS.unpack_from(data)
    end = _LENGTHS.size + sum(lengths)
    if end > len(data) or max(lengths) > TEXT_LIMIT:
        raise _corrupt(f"claims texts of {lengths} bytes in a section of {len(data)}")
    if any(data[end:]):
        raise _corrupt("has bytes behind its texts")
    try:
        name, idl_text, json_text = (part.decode() for part in _parts(data, lengths))
    except UnicodeDecodeError as error:
        raise _corrupt(f"is not UTF-8 ({error})") from error
    layout = from_json_schema(json_text, cls)
    if layout.name != name:
        raise _corrupt(f"is named {name[:40]!r} and describes {layout.name[:40]!r}")
    return layout, idl_text


def _parts(data: bytes, lengths: tuple[int, ...]) -> Iterator[bytes]:
    at = _LENGTHS.size
    for length in lengths:
        yield bytes(data[at : at + length])
        at += length


def _corrupt(problem: str) -> CorruptSegmentError:
    return CorruptSegmentError(
        f"The schema section {problem}. Close the segment; its publisher must create it anew.", where="the schema"
    )


# --- two layouts side by side ---


def shared_members(publisher: StructLayout, here: StructLayout) -> dict[str, tuple[Field, Field]]:
    """The fields that both sides have under one name with one meaning, wherever they lie: (publisher's, ours)."""
    ours = {field.name: field for field in here.members}
    return {
        field.name: (field, ours[field.name])
        for field in publisher.members
        if field.name in ours and field.node == ours[field.name].node
    }


def difference(publisher: StructLayout, here: StructLayout) -> str:
    """One line for every field that is not the same on both sides; empty when the layouts are equal.

    First what both have and differs, then what is missing here, then what is missing at the publisher.
    """
    rows = list(_difference_rows(publisher, here))
    name_width = max((len(name) for name, _, _ in rows), default=0)
    publisher_width = max((len(theirs) for _, theirs, _ in rows), default=0)
    return "\n".join(f"  {name:{name_width}}   {theirs:{publisher_width}}     {ours}" for name, theirs, ours in rows)


def _difference_rows(
    publisher: StructLayout, here: StructLayout, prefix: str = "", their_start: int = 0, our_start: int = 0
) -> Iterator[tuple[str, str, str]]:
    theirs = {field.name: field for field in publisher.members}
    ours = {field.name: field for field in here.members}
    for name, field in theirs.items():
        if name in ours and (field.node, field.offset) != (ours[name].node, ours[name].offset):
            yield from _changed(field, ours[name], prefix, their_start, our_start)
    for name, field in theirs.items():
        if name not in ours:
            yield prefix + name, f"publisher {field.text} at {their_start + field.offset}", "missing here"
    for name, field in ours.items():
        if name not in theirs:
            yield prefix + name, "missing at the publisher", f"here {field.text} at {our_start + field.offset}"


def _changed(
    theirs: Field, ours: Field, prefix: str, their_start: int, our_start: int
) -> Iterator[tuple[str, str, str]]:
    name = prefix + theirs.name
    their_at, our_at = their_start + theirs.offset, our_start + ours.offset
    their_text, our_text = theirs.text, ours.text
    if theirs.node != ours.node and their_text == our_text:  # one name for two things: say what is inside
        if isinstance(theirs.node, Struct) and isinstance(ours.node, Struct):
            inner = nested_layout(theirs.node), nested_layout(ours.node)
            yield from _difference_rows(*inner, f"{name}.", their_at, our_at)
            return
        their_text, our_text = canonical_of(theirs.node), canonical_of(ours.node)
    yield name, f"publisher {their_text} at {their_at}", f"here {our_text} at {our_at}"


def mismatch(
    topic: str, publisher: StructLayout, here: StructLayout, *, by_name: bool = True, unreadable: tuple[str, ...] = ()
) -> TypeMismatchError:
    """The error of a subscriber of type `here` that meets a publisher of another type; the caller raises it.

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
        f"{topic} carries {_described(publisher)}, not {_described(here)}:\n{lines}\n{advice}",
        topic=topic,
        publisher_type=publisher.name,
        publisher_hash=publisher.type_hash,
        here_type=here.name,
        here_hash=here.type_hash,
        difference=lines,
        unreadable=unreadable,
    )


def _described(layout: StructLayout) -> str:
    count = len(layout.members)
    return f"{layout.name} ({count} field{'s' * (count != 1)}, {layout.type_hash.hex()[:4]}…)"
