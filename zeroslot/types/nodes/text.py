"""Text and bytes of a bounded length, and `MaxBytes`, their bound."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from zeroslot._core import binding
from zeroslot.types.nodes.arrays import Array
from zeroslot.types.nodes.base import Declaration, Declarator, Field, Inner, Node, Record, StoredNode, TypeWriter, place
from zeroslot.types.nodes.bounds import SingleBound
from zeroslot.types.nodes.scalars import SCALARS


class MaxBytes(SingleBound):
    """The room of an inline str (in UTF-8) or bytes: at most 32 bytes in `Annotated[str, MaxBytes(32)]`."""

    __slots__ = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return bytes_validator(source, handler, self.limit) if source in (str, bytes) else handler(source)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # For a str this is necessary and not sufficient: JSON Schema counts code points.
        return {**handler(schema), "maxLength": self.limit} if _is_text(schema) else handler(schema)


def bytes_validator(source: type, handler: GetCoreSchemaHandler, limit: int | None) -> CoreSchema:
    """How pydantic validates a str or bytes of at most `limit` bytes, or of any length."""
    inner = handler(source)
    if source is bytes:
        # In JSON a str stands for bytes, in base64. In Python it does not, where pydantic would decode it as well.
        strict = core_schema.bytes_schema(strict=True)
        python = core_schema.no_info_before_validator_function(binding.no_text, strict)
        inner = core_schema.json_or_python_schema(inner, python)
    return core_schema.no_info_after_validator_function(
        binding.SizeCheck(sys.maxsize if limit is None else limit), inner
    )


def _is_text(schema: Any) -> bool:
    while "schema" in schema:
        schema = schema["schema"]
    return bool(schema["type"] == "str")


@dataclass(frozen=True)
class Bytes(Record):
    """What text and bytes share: a length in bytes as u32 at 0, and room for them from 4."""

    max_bytes: int

    name: ClassVar[str]
    python_type: ClassVar[type]
    idl_message: ClassVar[str]

    @property
    def kind(self) -> str:
        return self.name

    @cached_property
    def members(self) -> tuple[Field, ...]:
        """Length and room."""
        return place([("length", SCALARS["u32"]), ("data", Array(SCALARS["u8"], (self.max_bytes,)))])

    @property
    def nesting(self) -> int:
        """A value, not a struct."""
        return 0

    @property
    def text(self) -> str:
        return f"{self.kind}<={self.max_bytes}"

    @property
    def tag(self) -> str:
        return f"{self.kind}_{self.max_bytes}"

    @property
    def canonical(self) -> str:
        return f"{self.kind}({self.max_bytes})"

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Self | None:
        if declared.base is not cls.python_type:
            return None
        if not isinstance(declared.bound, MaxBytes):
            declared.reject_bound(cls.name, f"Annotated[{cls.name}, MaxBytes(32)]")
        return cls(declared.bound.limit)

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Self | None:
        return cls(stored.integer("max_bytes", 1)) if stored.kind == cls.name else None

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        return Annotated[self.python_type, MaxBytes(self.max_bytes)]

    def declare(self, writer: TypeWriter) -> Declarator:
        return Declarator(self.idl_message.format(self.max_bytes)) if writer.message else writer.helper(self)

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        return binding.BytesCodec(self.max_bytes, self.python_type is str)

    def reading(self, published: Node, inner: Inner) -> Node | None:
        """The same with the same or a smaller bound."""
        return published if type(published) is type(self) and published.max_bytes <= self.max_bytes else None


class Text(Bytes):
    """A str in UTF-8."""

    written = "str or bytes"

    name = "str"
    python_type = str
    idl_message = "string<{}>"

    def json_schema(self) -> dict[str, Any]:
        facts = {"kind": self.kind, "max_bytes": self.max_bytes}
        return {"type": "string", "maxLength": self.max_bytes, "x-zeroslot": facts}


class Blob(Bytes):
    """A bytes."""

    name = "bytes"
    python_type = bytes
    idl_message = "sequence<octet, {}>"

    def json_schema(self) -> dict[str, Any]:
        longest = -(-self.max_bytes // 3) * 4  # four characters for every three bytes begun
        facts = {"kind": self.kind, "max_bytes": self.max_bytes}
        return {"type": "string", "contentEncoding": "base64url", "maxLength": longest, "x-zeroslot": facts}
