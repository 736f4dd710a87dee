"""The schema section of a segment: three texts, and what they state of the type without the layout being built.

Why apart from zeroslot.types.schema: what only looks at segments, such as a list of topics, need not wait for pydantic,
and does not use the bytes that a schema describes.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from zeroslot.errors import CorruptSegmentError, FormatError
from zeroslot.types.names import is_type_name

TEXT_LIMIT = 4 * 2**20  # bytes of one text of a schema
LENGTHS = struct.Struct("<3I")


def texts_of(section: bytes) -> tuple[str, str, str]:
    """The type's name, its IDL and its JSON schema. What follows them in the section must be zeros.

    Raises CorruptSegmentError for anything else.
    """
    if len(section) < LENGTHS.size:
        raise corrupt_section(f"has {len(section)} bytes, fewer than its lengths take")
    lengths = LENGTHS.unpack_from(section)
    end = LENGTHS.size + sum(lengths)
    if end > len(section) or max(lengths) > TEXT_LIMIT:
        raise corrupt_section(f"has lengths of {lengths} bytes in a section of {len(section)}")
    if any(section[end:]):
        raise corrupt_section("has bytes behind its texts")
    texts = []
    at = LENGTHS.size
    try:
        for length in lengths:
            texts.append(str(section[at : at + length], "utf-8"))
            at += length
    except UnicodeDecodeError as error:
        raise corrupt_section(f"is not UTF-8 ({error})") from error
    name, idl, json_text = texts
    return name, idl, json_text


def stated_type(section: bytes) -> tuple[str, int]:
    """The type's name, and the bytes of a sample without its variable part, as the section states them.

    Nothing else of the section is checked. Raises CorruptSegmentError or FormatError where it states none.
    """
    name, _, json_text = texts_of(section)
    try:
        schema: Any = json.loads(json_text)
        size = schema["x-zeroslot"]["size"]
    except (ValueError, RecursionError, MemoryError, LookupError, TypeError) as error:
        raise FormatError(
            f"The schema states no size ({error}). The segment is damaged or of another version.", where="the schema"
        ) from error
    if not is_type_name(name) or not isinstance(size, int) or not 0 <= size < 2**63:
        raise corrupt_section(f"is named {name[:40]!r} and states {str(size)[:20]} bytes")
    return name, size


def corrupt_section(problem: str) -> CorruptSegmentError:
    """The error of a schema section that has this problem."""
    return CorruptSegmentError(
        f"The schema section {problem}. Close the segment; its publisher must create it anew.", where="the schema"
    )
