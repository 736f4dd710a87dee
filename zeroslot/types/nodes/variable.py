"""Fields without a bound: arrays, text, bytes and lists whose size each sample has for itself.

In the fixed part of a sample stands an extent, which says where behind that part the field's data lies. So a variable
field has a fixed place like any other, and a sample is read in place whatever it holds.

Why an array's extent has room for eight dimensions and a dtype, used or not: the fixed part of a type has one size.

Why lists of variable fields are refused: their extents would lie in data that is itself of variable size, and a
publisher could not give each a place before it writes the list.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema

from zeroslot._core import binding
from zeroslot.types.nodes.arrays import (
    Array,
    Shape,
    array_annotation,
    declared_element,
    element_of,
    elements_of,
    open_array_validator,
)
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
)
from zeroslot.types.nodes.bounded_arrays import BoundedArray
from zeroslot.types.nodes.bounds import list_validator, with_widths, without_alias
from zeroslot.types.nodes.families import FAMILIES, FAMILY_OF, Family
from zeroslot.types.nodes.lists import BoundedList, FixedList, dtype_of_items, reading_of_item
from zeroslot.types.nodes.scalars import ELEMENTS, SCALARS, Scalar
from zeroslot.types.nodes.text import Bytes, bytes_validator

DIMS = 8  # the most dimensions of a variable array


class Unbounded:
    """Inside `Annotated`: pydantic checks values of a variable field as those of a field with a bound."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if get_origin(source) is Annotated:  # of a field of another class, which has its own Unbounded
            return handler(source)
        if source in (str, bytes):
            return bytes_validator(source, handler, None)
        if get_origin(source) is list:
            return list_validator(source, handler, None, None)
        return open_array_validator(element_of(source) or FAMILY_OF[elements_of(source)])


def with_checks(annotation: Any) -> Any:
    """As `with_widths`, and with `Unbounded` on what has no bound."""
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(with_checks(argument) for argument in get_args(annotation))]  # noqa: UP007  # built at run time
    meant = without_alias(annotation)
    if meant in (str, bytes) or get_origin(meant) is list or np.ndarray in (meant, get_origin(meant)):
        return Annotated[annotation, Unbounded()]
    return with_widths(annotation)


@dataclass(frozen=True)
class Extent(Record):
    """Where the data of a text, bytes or list is: its offset from the start of the sample, and its size in bytes."""

    @property
    def kind(self) -> str:
        return "extent"

    @property
    def variable(self) -> bool:
        return True

    @cached_property
    def members(self) -> tuple[Field, ...]:
        """Offset and size."""
        return place([("offset", SCALARS["u64"]), ("size", SCALARS["u64"])])

    @property
    def nesting(self) -> int:
        """A value, not a struct."""
        return 0

    @property
    def text(self) -> str:
        return self.kind

    @property
    def tag(self) -> str:
        return self.kind

    @property
    def canonical(self) -> str:
        return self.kind

    # By itself it is no field; the kinds below are.

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Self | None:
        raise NotImplementedError

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Self | None:
        raise NotImplementedError

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        raise NotImplementedError

    def json_schema(self) -> dict[str, Any]:
        raise NotImplementedError

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        raise NotImplementedError

    def declare(self, writer: TypeWriter) -> Declarator:
        return writer.helper(self.extent)

    @property
    def extent(self) -> Extent:
        """The struct in the fixed part, by itself."""
        return Extent()

    def heads(self, offset: int) -> list[tuple[int, int]]:
        """All of it."""
        return [(offset, self.size)]


class VariableBytes(Extent):
    """What text and bytes of any length share."""

    name: ClassVar[str]
    python_type: ClassVar[type]
    idl_message: ClassVar[str]

    @property
    def kind(self) -> str:
        return self.name

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Self | None:
        return cls() if declared.base is cls.python_type and declared.bound is None else None

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Self | None:
        return cls() if stored.kind == cls.name and "max_bytes" not in stored.facts else None

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        return self.python_type

    def declare(self, writer: TypeWriter) -> Declarator:
        return Declarator(self.idl_message) if writer.message else writer.helper(self.extent)

    def reading(self, published: Node, inner: Inner) -> Node | None:
        """The same with any bound."""
        return published if isinstance(published, Bytes) and published.name == self.name else None

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        return binding.VariableBytesCodec(self.python_type is str)


class VariableText(VariableBytes):
    """A str in UTF-8."""

    name = "str"
    python_type = str
    idl_message = "string"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "x-zeroslot": {"kind": self.kind}}


class VariableBlob(VariableBytes):
    """A bytes."""

    name = "bytes"
    python_type = bytes
    idl_message = "sequence<octet>"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64url", "x-zeroslot": {"kind": self.kind}}


@dataclass(frozen=True)
class VariableList(Extent):
    """Items in a row, as many as the size has room for."""

    item: Node

    @property
    def kind(self) -> str:
        return "list"

    @property
    def nesting(self) -> int:
        """One more than that of its items."""
        return self.item.nesting + 1

    @property
    def text(self) -> str:
        return f"list[{self.item.text}]"

    @property
    def tag(self) -> str:
        return f"list_{self.item.tag}"

    @cached_property
    def canonical(self) -> str:
        return f"list[{self.item.canonical}]"

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Self | None:
        if list not in (declared.base, declared.origin) or declared.bound is not None:
            return None
        return cls(declared.item())

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Self | None:
        if stored.kind != "list" or "shape" in stored.facts or "max_len" in stored.facts:
            return None
        return cls(stored.item())

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        return list[self.item.annotation(sample_type_of)]  # type: ignore[misc]  # made at run time

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.sized_schema(), "x-zeroslot": {"kind": self.kind}}

    def declare(self, writer: TypeWriter) -> Declarator:
        if not writer.message:
            return writer.helper(self.extent)
        return Declarator(f"sequence<{writer.element(self.item)}>")

    def reading(self, published: Node, inner: Inner) -> Node | None:
        """A list of any length or bound."""
        if not isinstance(published, (VariableList, BoundedList, FixedList)):
            return None
        item = reading_of_item(published.item, self.item, inner)
        return replace(published, item=item) if item is not None else None

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        is_wiped = not isinstance(self.item, (Scalar, Array))
        return binding.VariableListCodec(self.item.codec(codec_of_sample), is_wiped, dtype_of_items(self.item))


@dataclass(frozen=True)
class ArrayExtent(Extent):
    """Where the data of an array is, and what it is: `ndim` dimensions of `shape`, `strides` in bytes, and the dtype as
    numpy spells it, such as `<f4`, with zeros behind it.
    """

    @property
    def kind(self) -> str:
        return "array_extent"

    @cached_property
    def members(self) -> tuple[Field, ...]:
        """An extent, and what the array is."""
        return place(
            [
                ("offset", SCALARS["u64"]),
                ("size", SCALARS["u64"]),
                ("ndim", SCALARS["u32"]),
                ("reserved", SCALARS["u32"]),
                ("dtype", Array(SCALARS["u8"], (16,))),
                ("shape", Array(SCALARS["u64"], (DIMS,))),
                ("strides", Array(SCALARS["i64"], (DIMS,))),
            ]
        )

    @property
    def extent(self) -> Extent:
        """The struct in the fixed part, by itself."""
        return ArrayExtent()


@dataclass(frozen=True)
class VariableArray(ArrayExtent):
    """A numpy array of any shape. `item` is a family where each sample has a dtype of its own."""

    item: Scalar | Family

    @property
    def kind(self) -> str:
        """That of its elements, or the name of the family."""
        return self.item.kind

    @property
    def text(self) -> str:
        return f"{self.kind}[...]"

    @property
    def tag(self) -> str:
        return f"array_{self.kind}"

    @property
    def canonical(self) -> str:
        return f"array[{self.kind}]"

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Self | None:
        if np.ndarray not in (declared.base, declared.origin):
            return None
        if isinstance(declared.bound, Shape) and declared.bound.is_open:
            item = declared_element(declared)
            if not isinstance(item, Scalar):
                declared.reject("records in an array of any shape", "Write list[…] of the sample type.")
            return cls(item)
        if declared.bound is not None:
            return None
        found = element_of(declared.base) or FAMILY_OF.get(elements_of(declared.base))
        if not isinstance(found, (Scalar, Family)):
            declared.reject(
                f"{annotation_text(declared.base)} has no element type that a declaration can name",
                "Write NDArray[np.float64], or another number or np.bool_; NDArray[np.floating] or "
                "NDArray[np.datetime64] for each dtype of a family, or NDArray[Any] for arrays of any dtype.",
            )
        return cls(found)

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Self | None:
        if stored.kind != "array":
            return None
        item = stored.facts.get("item")
        found = (FAMILIES.get(item) or ELEMENTS.get(item)) if isinstance(item, str) else None
        if found is None:
            stored.reject("is an array of an unknown kind")
        return cls(found)

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        if isinstance(self.item, Family):
            return NDArray[self.item.numpy_type]  # type: ignore[name-defined]  # made at run time
        return array_annotation(self.item, (...,), sample_type_of)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "x-zeroslot": {"kind": "array", "item": self.kind}}

    def declare(self, writer: TypeWriter) -> Declarator:
        if not writer.message:
            return writer.helper(self.extent)
        return writer.helper(ArrayMessage(None if isinstance(self.item, Family) else self.item))

    def reading(self, published: Node, inner: Inner) -> Node | None:
        """An array of the same kind, of any shape; of a kind of this family where this one leaves it open."""
        if not isinstance(published, (VariableArray, BoundedArray, Array)):
            return None
        if isinstance(self.item, Scalar):
            return published if self.item == published.item else None
        # The elements of fixed and bounded arrays may be samples, which are records of numpy as well.
        item = published.item if isinstance(published.item, (Scalar, Family)) else FAMILIES["void"]
        return published if self.item.includes(item) else None

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        if isinstance(self.item, Family):
            return binding.VariableArrayCodec(self.item.dtype, self.item.letters)
        return binding.VariableArrayCodec(self.item.dtype)


@dataclass(frozen=True)
class ArrayMessage(Extent):
    """An array of any shape in the message form of IDL: its shape, and its items in C order; of an array of any dtype
    the dtype, and the bytes of the items.
    """

    item: Node | None

    @property
    def tag(self) -> str:
        return f"array_{self.item.kind if self.item else 'any'}"

    @cached_property
    def members(self) -> tuple[Field, ...]:
        """The members of the struct in IDL. They lie nowhere in memory."""
        shape, data = ("shape", VariableList(SCALARS["u64"])), ("data", VariableList(self.item or SCALARS["u8"]))
        return place([shape, data] if self.item else [("dtype", VariableText()), shape, data])
