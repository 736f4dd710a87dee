"""Arrays of numbers with fixed dims, and `Shape`, their bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
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
)
from zeroslot.types.nodes.bounds import Bound, list_validator, without_alias
from zeroslot.types.nodes.scalars import NUMPY_TYPES, SCALARS, Scalar


class Shape(Bound):
    """The dims of an inline array, `Annotated[NDArray[np.float32], Shape(480, 640)]`, or the length of a fixed list."""

    __slots__ = ()

    def __init__(self, *dims: int) -> None:
        if not 0 < len(dims) <= DIMS_LIMIT:
            raise DeclarationError(f"Shape takes 1 to {DIMS_LIMIT} dims, as in Shape(480, 640), not {len(dims)}.")
        super().__init__(*dims)

    @property
    def dims(self) -> tuple[int, ...]:
        """As they were given."""
        return self.limits

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        item = element_of(source)
        if item is not None:
            return array_validator(binding.ArrayOf(item.dtype, self.dims), Array(item, self.dims).json_value())
        if get_origin(source) is list and len(self.dims) == 1:
            return list_validator(source, handler, self.dims[0], self.dims[0])
        return handler(source)


def _elements_of(annotation: Any) -> Any:
    """The type of the elements of NDArray[…]; None where it is no such annotation, Any for a bare np.ndarray."""
    annotation = without_alias(annotation)
    if annotation is np.ndarray:
        return Any
    arguments = get_args(annotation)
    if get_origin(annotation) is not np.ndarray or len(arguments) != 2:
        return None
    return (get_args(arguments[1]) or (None,))[0]


def element_of(annotation: Any) -> Scalar | None:
    """The kind of the elements of NDArray[…]; None for anything else, and for elements without a kind."""
    return NUMPY_TYPES.get(_elements_of(annotation))


def is_open(annotation: Any) -> bool:
    """Whether it is an array that leaves its dtype open: np.ndarray or NDArray[Any]."""
    return _elements_of(annotation) in (Any, np.generic)


def array_validator(convert: Callable[[Any], NDArray[Any]], json_value: dict[str, Any]) -> CoreSchema:
    """How pydantic validates an array: with `convert`. `json_value` is the JSON schema of its values."""

    def json_schema(_schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return json_value

    return core_schema.no_info_plain_validator_function(
        convert,
        metadata={"pydantic_js_functions": [json_schema]},
        serialization=core_schema.plain_serializer_function_ser_schema(binding.nested_lists, when_used="json"),
    )


@dataclass(frozen=True)
class Array(Node):
    """A numpy array in C order."""

    written = "NDArray with Shape"

    item: Scalar
    dims: tuple[int, ...]

    @property
    def is_array_item(self) -> bool:
        return True

    @property
    def plain(self) -> bool:
        return True

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
        return f"{self.item.kind}[{','.join(map(str, self.dims))}]"

    @property
    def tag(self) -> str:
        return "_".join([self.item.kind, *map(str, self.dims)])

    @property
    def canonical(self) -> str:
        return f"array({','.join(map(str, self.dims))})[{self.item.canonical}]"

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Array | None:
        if np.ndarray not in (declared.base, declared.origin):
            return None
        item = element_of(declared.base)
        if item is None:
            declared.reject(
                f"{annotation_text(declared.base)} has no element type with a fixed size",
                "Write NDArray[np.float64], or another number or np.bool_.",
            )
        if not isinstance(declared.bound, Shape):
            declared.reject_bound("NDArray", "Annotated[NDArray[np.float64], Shape(3)]")
        return cls(item, declared.bound.dims)

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Array | None:
        if stored.kind not in SCALARS or "shape" not in stored.facts:
            return None
        return cls(SCALARS[stored.kind], stored.dims())

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        return Annotated[NDArray[self.item.dtype.type], Shape(*self.dims)]  # type: ignore[name-defined]  # at run time

    def json_schema(self) -> dict[str, Any]:
        return {**self.json_value(), "x-zeroslot": {"kind": self.item.kind, "shape": list(self.dims)}}

    def json_value(self) -> dict[str, Any]:
        """The JSON schema of nested lists of these dims."""
        schema = self.item.json_value()
        for dim in reversed(self.dims):
            schema = {"type": "array", "items": schema, "minItems": dim, "maxItems": dim}
        return schema

    def declare(self, writer: TypeWriter) -> Declarator:
        return self.item.declare(writer)._replace(dims=self.dims)

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        return binding.ArrayCodec(self.item.dtype, self.dims)
