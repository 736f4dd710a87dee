"""`X | None` of an X with a fixed place in memory."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Union

import numpy as np

from zeroslot._core import binding
from zeroslot.types.nodes.base import (
    Declaration,
    Declarator,
    Field,
    Inner,
    Node,
    Record,
    StoredNode,
    TypeWriter,
    annotation_text,
    place,
    record_dtype,
)
from zeroslot.types.nodes.scalars import SCALARS


@dataclass(frozen=True)
class Optional(Record):
    """A presence byte, 0 or 1, and room for the item."""

    item: Node

    @property
    def kind(self) -> str:
        return "optional"

    @property
    def variable(self) -> bool:
        """As its item."""
        return self.item.variable

    @cached_property
    def members(self) -> tuple[Field, ...]:
        """Presence and item."""
        return place([("present", SCALARS["bool"]), ("value", self.item)])

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """As of every record, with the presence as a number."""
        return record_dtype(
            [("present", 0, np.dtype("u1")), ("value", self.members[1].offset, self.item.dtype)], self.size
        )

    @property
    def text(self) -> str:
        return f"{self.item.text}?"

    @property
    def tag(self) -> str:
        return f"optional_{self.item.tag}"

    @cached_property
    def canonical(self) -> str:
        return f"optional[{self.item.canonical}]"

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Optional | None:
        if declared.origin not in (Union, types.UnionType):
            return None
        inner = [argument for argument in declared.arguments if argument is not type(None)]
        if declared.bound is not None:
            declared.reject(
                f"{declared.bound!r} stands around a union",
                f"Put it inside: Annotated[…, {declared.bound!r}] | None.",
            )
        if len(inner) != 1 or len(inner) == len(declared.arguments):
            declared.reject(
                f"the union {annotation_text(declared.base)} has no one layout",
                "Only X | None works; use a field for each case, each of them | None.",
            )
        item = declared.inner(inner[0])
        if isinstance(item, Optional):
            declared.reject("an optional of an optional has one presence byte too many", "Write | None once.")
        return cls(item)

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Optional | None:
        if stored.kind != "optional":
            return None
        choices = stored.schema.get("anyOf")
        if not isinstance(choices, list) or len(choices) != 2:
            stored.reject("is an optional without its item")
        item = stored.inner(choices[0]).node()
        if isinstance(item, Optional):
            stored.reject("is an optional of an optional")
        return cls(item)

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        return self.item.annotation(sample_type_of) | None

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [self.item.sized_schema(), {"type": "null"}], "x-zeroslot": {"kind": self.kind}}

    def declare(self, writer: TypeWriter) -> Declarator:
        return self.item.declare(writer)._replace(before="@optional ") if writer.message else writer.helper(self)

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        return binding.OptionalCodec(self.item.codec(codec_of_sample), self.members[1].offset, self.size)

    def reading(self, published: Node, inner: Inner) -> Node | None:
        """An optional, or a value that is always there."""
        if not isinstance(published, Optional):
            return inner(published, self.item)
        item = inner(published.item, self.item)
        return Optional(item) if item is not None else None
