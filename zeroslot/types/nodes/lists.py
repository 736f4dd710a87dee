"""Lists of a fixed length (`Shape`) and with a bound (`MaxLen`).

Why lists of unit types are refused: they would be a count of nothing, which a damaged segment could set to four
thousand million.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, get_origin

import numpy as np
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema

from zeroslot._core import binding
from zeroslot.types.nodes.arrays import Shape
from zeroslot.types.nodes.base import (
    DIMS_LIMIT,
    Declaration,
    Declarator,
    Field,
    Inner,
    Node,
    Record,
    StoredNode,
    TypeWriter,
    place,
    repeated,
)
from zeroslot.types.nodes.bounds import SingleBound, list_validator
from zeroslot.types.nodes.scalars import SCALARS, Scalar


class MaxLen(SingleBound):
    """The room of an inline list with a count: at most 16 items in `Annotated[list[Point], MaxLen(16)]`."""

    __slots__ = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return list_validator(source, handler, None, self.limit) if get_origin(source) is list else handler(source)


def _item_of(declared: Declaration) -> Node:
    """The node of the items of a declared list."""
    if not isinstance(declared.bound, (Shape, MaxLen)):
        declared.reject_bound("list", "Annotated[list[…], MaxLen(16)] or Shape(16)")
    return declared.item()


def reading_of_item(published: Node, here: Node, inner: Inner) -> Node | None:
    """As `Inner`, for items. Numbers in a row are an array in place, whose kind cannot be another one."""
    same = published == here or not isinstance(here, Scalar)
    return inner(published, here, "[]") if same else None


def _list_codec(
    whole: Node,
    item: Node,
    at: int,
    capacity: int,
    codec_of_sample: Callable[[Record], binding.Codec],
    *,
    bounded: bool,
) -> binding.Codec:
    return binding.ListCodec(
        item.codec(codec_of_sample), at, item.size, capacity, bounded, whole.size, dtype_of_items(item)
    )


def dtype_of_items(item: Node) -> np.dtype[Any] | None:
    """The dtype of the items of a list that is an array in place."""
    if not item.is_array_item:
        return None
    try:
        dtype = item.dtype
    except ValueError:  # lists in lists have more dims than numpy has
        return None
    return dtype if len(dtype.shape) <= DIMS_LIMIT else None


@dataclass(frozen=True)
class FixedList(Node):
    """`length` items in a row. The size of every item is a multiple of its alignment, so there is nothing between
    them.
    """

    written = "list"

    item: Node
    length: int

    @property
    def kind(self) -> str:
        return "list"

    @property
    def shape(self) -> tuple[int, ...]:
        """Its length."""
        return (self.length,)

    @property
    def size(self) -> int:
        """All items."""
        return self.item.size * self.length

    @property
    def alignment(self) -> int:
        """That of its items."""
        return self.item.alignment

    @property
    def nesting(self) -> int:
        """One more than that of its items."""
        return self.item.nesting + 1

    @property
    def plain(self) -> bool:
        """As its items."""
        return self.item.plain

    @property
    def is_array_item(self) -> bool:
        """As its items."""
        return self.item.is_array_item

    @property
    def dtype(self) -> np.dtype[Any]:
        return repeated(self.item.dtype, self.length)

    @property
    def text(self) -> str:
        return f"list[{self.item.text}][{self.length}]"

    @property
    def tag(self) -> str:
        return f"{self.item.tag}_{self.length}"

    @cached_property
    def canonical(self) -> str:
        return f"list({self.length})[{self.item.canonical}]"

    @classmethod
    def from_annotation(cls, declared: Declaration) -> FixedList | None:
        if list not in (declared.base, declared.origin) or not isinstance(declared.bound, Shape):
            return None
        item = _item_of(declared)
        if declared.bound.is_open:
            declared.reject(f"{declared.bound!r} stands on a list", "Write list[…] for a list of any length.")
        if declared.bound.has_bounds:
            declared.reject(f"{declared.bound!r} stands on a list", "Write MaxLen for a list that may be shorter.")
        if len(declared.bound.dims) != 1:
            declared.reject(
                f"{declared.bound!r} has several dims on a list", "Use an NDArray, or a list of Annotated lists."
            )
        return cls(item, declared.bound.dims[0])

    @classmethod
    def from_schema(cls, stored: StoredNode) -> FixedList | None:
        if stored.kind != "list" or "max_len" in stored.facts:
            return None
        item = stored.item()
        dims = stored.dims()
        if len(dims) != 1:
            stored.reject("is a list of several dims")
        return cls(item, dims[0])

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        item = self.item.annotation(sample_type_of)
        return Annotated[list[item], Shape(self.length)]  # type: ignore[valid-type]  # made at run time

    def json_schema(self) -> dict[str, Any]:
        return {
            "type": "array",
            "items": self.item.sized_schema(),
            "minItems": self.length,
            "maxItems": self.length,
            "x-zeroslot": {"kind": self.kind, "shape": [self.length]},
        }

    def declare(self, writer: TypeWriter) -> Declarator:
        item = writer.item(self.item)
        return item._replace(dims=(self.length, *item.dims))

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        return _list_codec(self, self.item, 0, self.length, codec_of_sample, bounded=False)

    def reading(self, published: Node, inner: Inner) -> Node | None:
        """A list of the same length."""
        if not isinstance(published, FixedList) or published.length != self.length:
            return None
        item = reading_of_item(published.item, self.item, inner)
        return FixedList(item, self.length) if item is not None else None


@dataclass(frozen=True)
class BoundedList(Record):
    """A count as u32 at 0, and room for `max_len` items."""

    item: Node
    max_len: int

    @property
    def kind(self) -> str:
        return "list"

    @cached_property
    def members(self) -> tuple[Field, ...]:
        """Count and items."""
        return place([("count", SCALARS["u32"]), ("items", FixedList(self.item, self.max_len))])

    @property
    def nesting(self) -> int:
        """One more than that of its items."""
        return self.item.nesting + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The most that it holds."""
        return (self.max_len,)

    @property
    def text(self) -> str:
        return f"list[{self.item.text}]<={self.max_len}"

    @property
    def tag(self) -> str:
        return f"list_{self.item.tag}_{self.max_len}"

    @cached_property
    def canonical(self) -> str:
        return f"bounded({self.max_len})[{self.item.canonical}]"

    @classmethod
    def from_annotation(cls, declared: Declaration) -> BoundedList | None:
        if list not in (declared.base, declared.origin):
            return None
        return cls(_item_of(declared), declared.bound.limit)

    @classmethod
    def from_schema(cls, stored: StoredNode) -> BoundedList | None:
        if stored.kind != "list" or "max_len" not in stored.facts:
            return None
        return cls(stored.item(), stored.integer("max_len", 1))

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        item = self.item.annotation(sample_type_of)
        return Annotated[list[item], MaxLen(self.max_len)]  # type: ignore[valid-type]  # made at run time

    def json_schema(self) -> dict[str, Any]:
        return {
            "type": "array",
            "items": self.item.sized_schema(),
            "maxItems": self.max_len,
            "x-zeroslot": {"kind": self.kind, "max_len": self.max_len},
        }

    def declare(self, writer: TypeWriter) -> Declarator:
        if not writer.message:
            return writer.helper(self)
        return Declarator(f"sequence<{writer.element(self.item)}, {self.max_len}>")

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        return _list_codec(self, self.item, self.members[1].offset, self.max_len, codec_of_sample, bounded=True)

    def reading(self, published: Node, inner: Inner) -> Node | None:
        """A list of the same or a smaller bound."""
        if not isinstance(published, BoundedList) or published.max_len > self.max_len:
            return None
        item = reading_of_item(published.item, self.item, inner)
        return BoundedList(item, published.max_len) if item is not None else None
