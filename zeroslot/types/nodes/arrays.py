"""Arrays of numbers with fixed dims, and `Shape`, their bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import EllipsisType
from typing import Annotated, Any, get_args, get_origin

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from zeroslot._core import binding
from zeroslot.errors import DeclarationError
from zeroslot.types.nodes.base import (
    DIMS_LIMIT,
    Declaration,
    Declarator,
    Node,
    Record,
    StoredNode,
    TypeWriter,
    annotation_text,
    checked_object,
)
from zeroslot.types.nodes.bounds import Bound, SingleBound, list_validator, without_alias
from zeroslot.types.nodes.families import Family
from zeroslot.types.nodes.scalars import ELEMENT_TYPES, ELEMENTS, SCALARS, Scalar


class UpTo(SingleBound):
    """A dimension that has a bound in place of a length: `Shape(UpTo(200_000), 3)`."""

    __slots__ = ()


class Shape(Bound):
    """The dims of an inline array, `Annotated[NDArray[np.float32], Shape(480, 640)]`, or the length of a fixed list.

    `dtype` says what NDArray cannot: the unit of times and durations, as "datetime64[ns]", and the sample type of
    records, for NDArray[np.void]. `Shape(..., dtype=...)` says it of an array of any shape.
    """

    __slots__ = ("dtype",)
    dtype: Any

    def __init__(self, *dims: int | UpTo | EllipsisType, dtype: Any = None) -> None:
        if dims == (...,):
            dims = ()
        elif not 0 < len(dims) <= DIMS_LIMIT:
            raise DeclarationError(f"Shape takes 1 to {DIMS_LIMIT} dims, as in Shape(480, 640), not {len(dims)}.")
        super().__init__(*dims)
        self.dtype = dtype

    def _checked(self, limit: Any) -> Any:
        return limit if isinstance(limit, UpTo) else super()._checked(limit)

    @property
    def dims(self) -> tuple[Any, ...]:
        """As they were given: lengths, and UpTo."""
        return self.limits

    @property
    def is_open(self) -> bool:
        """Whether it leaves the shape open."""
        return not self.dims

    @property
    def has_bounds(self) -> bool:
        """Whether a dim is an UpTo."""
        return any(isinstance(dim, UpTo) for dim in self.dims)

    def __repr__(self) -> str:
        dtype = [] if self.dtype is None else [f"dtype={getattr(self.dtype, '__name__', repr(self.dtype))}"]
        return f"Shape({', '.join([*(map(repr, self.dims) if self.dims else ['...']), *dtype])})"

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and isinstance(other, Shape) and self.dtype == other.dtype

    __hash__ = Bound.__hash__

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        item = element_of(source, self.dtype)
        if item is not None and self.is_open:
            return open_array_validator(item)
        if item is not None:
            convert: Callable[[Any], NDArray[Any]] = binding.ArrayOf(item.dtype, self.dims)
            if self.has_bounds:
                dims = (-dim.limit if isinstance(dim, UpTo) else dim for dim in self.dims)
                convert = binding.BoundedArrayOf(item.dtype, tuple(dims))
            return array_validator(convert, nested_lists_of(item, self.dims))
        if get_origin(source) is list and len(self.dims) == 1 and not self.has_bounds:
            return list_validator(source, handler, self.dims[0], self.dims[0])
        return handler(source)


def elements_of(annotation: Any) -> Any:
    """The type of the elements of NDArray[…]; None where it is no such annotation, Any for a bare np.ndarray."""
    annotation = without_alias(annotation)
    if annotation is np.ndarray:
        return Any
    arguments = get_args(annotation)
    if get_origin(annotation) is not np.ndarray or len(arguments) != 2:
        return None
    if arguments[1] in (Any, np.dtype):
        return Any
    elements = (get_args(arguments[1]) or (None,))[0]
    return get_origin(elements) or elements  # np.floating of np.floating[Any]


def element_of(annotation: Any, dtype: Any = None) -> Node | None:
    """The kind of the elements of NDArray[…]; None for anything else, and for elements without a kind."""
    elements = elements_of(annotation)
    if dtype is None or elements is None:
        return ELEMENT_TYPES.get(elements)
    if hasattr(dtype, "__zs_layout__"):
        item: Node = dtype.__zs_layout__()
        is_element = item.plain and item.size > 0
    else:
        try:
            wanted = np.dtype(dtype)
        except TypeError:
            return None
        item = next((scalar for scalar in ELEMENTS.values() if scalar.dtype == wanted), SCALARS["u8"])
        is_element = item.dtype == wanted
    return item if is_element and (elements is Any or issubclass(item.dtype.type, elements)) else None


def declared_element(declared: Declaration) -> Node:
    """The kind of the elements of a declared array. Raises `DeclarationError`."""
    item = element_of(declared.base, declared.bound.dtype)
    if item is None and declared.bound.dtype is not None:
        declared.reject(
            f"{annotation_text(declared.base)} with {declared.bound!r} has no element type with a fixed size",
            'Write NDArray[np.datetime64] with dtype="datetime64[ns]", or NDArray[np.void] with a Sample of numbers, '
            "enums and arrays.",
        )
    if item is None:
        declared.reject(
            f"{annotation_text(declared.base)} has no element type with a fixed size",
            "Write NDArray[np.float64], or another number or np.bool_; or give the dtype: "
            'Shape(8, dtype="datetime64[ns]").',
        )
    return item


def stored_element(stored: StoredNode) -> Node | None:
    """The kind of the elements of a stored array; None where it is of another kind."""
    if stored.kind in ELEMENTS:
        return ELEMENTS[stored.kind]
    if stored.kind != "struct":
        return None
    items: Any = stored.schema
    for _ in stored.facts["shape"]:
        items = checked_object(items, stored.where).get("items")
    item = stored.inner(items).node()
    if item.kind != "struct" or not item.plain or item.size == 0:
        stored.reject("is an array of what has no place in an array")
    return item


def array_annotation(item: Node, dims: tuple[Any, ...], sample_type_of: Callable[[Record], type]) -> Any:
    """The annotation of an array; of one of any shape with `...` as the only dim."""
    dtype: Any = str(item.dtype) if item.dtype.kind in "mM" else None
    if isinstance(item, Record):
        dtype = sample_type_of(item)
    return Annotated[NDArray[item.dtype.type], Shape(*dims, dtype=dtype)]  # type: ignore[name-defined]  # at run time


def nested_lists_of(item: Node, dims: tuple[Any, ...]) -> dict[str, Any]:
    """The JSON schema of nested lists of these dims."""
    schema = item.json_value() if isinstance(item, Scalar) else item.sized_schema()
    for dim in reversed(dims):
        if isinstance(dim, UpTo):
            schema = {"type": "array", "items": schema, "maxItems": dim.limit}
        else:
            schema = {"type": "array", "items": schema, "minItems": dim, "maxItems": dim}
    return schema


def array_validator(convert: Callable[[Any], NDArray[Any]], json_value: dict[str, Any]) -> CoreSchema:
    """How pydantic validates an array: with `convert`. `json_value` is the JSON schema of its values."""

    def json_schema(_schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return json_value

    return core_schema.no_info_plain_validator_function(
        convert,
        metadata={"pydantic_js_functions": [json_schema]},
        serialization=core_schema.plain_serializer_function_ser_schema(binding.nested_lists, when_used="json"),
    )


def open_array_validator(item: Node | Family) -> CoreSchema:
    """How pydantic validates an array of any shape."""
    letters = item.letters if isinstance(item, Family) else None
    return array_validator(binding.OpenArray(item.dtype, letters), {"type": "array"})


@dataclass(frozen=True)
class Array(Node):
    """A numpy array in C order."""

    written = "NDArray"

    item: Node
    dims: tuple[int, ...]

    @property
    def is_array_item(self) -> bool:
        return True

    @property
    def plain(self) -> bool:
        return True

    @property
    def nesting(self) -> int:
        """A value, not a struct; its elements may be structs."""
        return self.item.nesting

    @property
    def kind(self) -> str:
        """That of its elements."""
        return self.item.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """The dims."""
        return self.dims

    @property
    def size(self) -> int:
        """All elements."""
        return self.item.size * math.prod(self.dims)

    @property
    def alignment(self) -> int:
        """That of its elements."""
        return self.item.alignment

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype((self.item.dtype, self.dims))

    @property
    def text(self) -> str:
        return f"{self.item.text}[{','.join(map(str, self.dims))}]"

    @property
    def tag(self) -> str:
        return "_".join([self.item.tag, *map(str, self.dims)])

    @property
    def canonical(self) -> str:
        return f"array({','.join(map(str, self.dims))})[{self.item.canonical}]"

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Array | None:
        if np.ndarray not in (declared.base, declared.origin):
            return None
        if not isinstance(declared.bound, Shape):
            declared.reject_bound("NDArray", "Annotated[NDArray[np.float64], Shape(3)]")
        return cls(declared_element(declared), declared.bound.dims)

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Array | None:
        item = stored_element(stored) if "shape" in stored.facts else None
        return cls(item, stored.dims()) if item is not None else None

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        return array_annotation(self.item, self.dims, sample_type_of)

    def json_schema(self) -> dict[str, Any]:
        facts = {"kind": self.item.kind, "shape": list(self.dims)}
        return {**nested_lists_of(self.item, self.dims), "x-zeroslot": facts}

    def declare(self, writer: TypeWriter) -> Declarator:
        item = writer.item(self.item)
        return item._replace(dims=(*self.dims, *item.dims))

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        return binding.ArrayCodec(self.item.dtype, self.dims)
