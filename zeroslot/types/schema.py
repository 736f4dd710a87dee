"""The schema of a sample in a segment: writing it, and building the layout from it again without the class.

The JSON is ordinary JSON Schema (draft 2020-12) of the sample's JSON form. Beside every property stands `x-zeroslot`,
which says where the bytes are and of which kind.

Why the reader trusts nothing: the text comes out of shared memory that any peer of the same user can write. It
rebuilds the layout from kinds and bounds alone and then compares every offset, size and the hash with what the text
says. Whatever does not fit is a FormatError, never a KeyError and never a deep recursion.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from zeroslot.errors import CorruptSegmentError, DeclarationError, FormatError
from zeroslot.types.layout import DIALECT, Layout
from zeroslot.types.nodes.base import SIZE_LIMIT, Node, StoredNode, reject_schema, shortened
from zeroslot.types.registry import NODES
from zeroslot.types.section import LENGTHS, TEXT_LIMIT, corrupt_section, texts_of

# --- JSON to layout ---


def from_json_schema(schema: dict[str, Any] | str | bytes) -> Layout:
    """The layout that `Layout.to_json_schema` described, with the same `type_hash`.

    Raises `FormatError` for anything else. Safe for any input.
    """
    if isinstance(schema, (str, bytes)):
        schema = _parsed(schema)
    if not isinstance(schema, dict) or schema.get("$schema") != DIALECT:
        reject_schema("the whole", "is not a JSON Schema of draft 2020-12")
    try:
        layout = Layout.from_schema(StoredNode.checked(schema, "the whole", 0, _node_of))
    except DeclarationError as error:
        raise FormatError(str(error), where="the schema") from error
    if layout is None:
        reject_schema("the whole", "is not a struct")
    return layout


def _parsed(text: str | bytes) -> Any:
    if len(text) > TEXT_LIMIT:
        reject_schema("the whole", f"is longer than {TEXT_LIMIT} bytes")
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_reject_constant)
    except FormatError:
        raise
    except (ValueError, RecursionError, MemoryError) as error:  # a UnicodeDecodeError is a ValueError
        raise FormatError(
            f"The schema is not JSON ({error}). The segment is damaged or of another version.", where="the schema"
        ) from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        reject_schema("an object", "has two members of one name")
    return result


def _reject_constant(name: str) -> NoReturn:
    reject_schema("the whole", f"holds {name}")


def _node_of(stored: StoredNode) -> Node:
    for kind in NODES:
        node = kind.from_schema(stored)
        if node is not None:
            break
    else:
        stored.reject(f"has the unknown kind {shortened(stored.facts.get('kind'))}")
    if stored.facts.get("size") != node.size or node.size > SIZE_LIMIT:
        stored.reject("has a size that does not follow from its kind")
    return node


# --- the schema section of a segment ---


def pack_schema(layout: Layout) -> bytes:
    """Type name, IDL and JSON as a segment keeps them: three u32 lengths in bytes, then the three texts in UTF-8.

    Raises `DeclarationError` for a type whose schema no reader would accept.
    """
    json_text = json.dumps(layout.to_json_schema(), separators=(",", ":"), ensure_ascii=False)
    texts = [text.encode() for text in (layout.name, layout.to_idl(), json_text)]
    if any(len(text) > TEXT_LIMIT for text in texts):
        raise DeclarationError(
            f"The schema of {layout.name} takes more than {TEXT_LIMIT} bytes. Split the type.", type_name=layout.name
        )
    return LENGTHS.pack(*map(len, texts)) + b"".join(texts)


def unpack_schema(data: bytes, topic: str | None = None) -> Layout:
    """The layout that `pack_schema` wrote. What follows in `data` must be zeros.

    Raises `CorruptSegmentError` where lengths or texts are damaged, `FormatError` where the schema is none of this
    format; both carry `topic`.
    """
    try:
        return _unpacked(data)
    except (CorruptSegmentError, FormatError) as error:
        error.topic = topic
        raise


def _unpacked(data: bytes) -> Layout:
    name, _, json_text = texts_of(data)
    layout = from_json_schema(json_text)
    if layout.name != name:
        raise corrupt_section(f"is named {name[:40]!r} and describes {layout.name[:40]!r}")
    return layout
