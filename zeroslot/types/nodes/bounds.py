"""What the bounds that users write (`Shape`, `MaxBytes`, `MaxLen`) share.

Why a bound is an object inside `Annotated` and not a type of this package: type checkers see `str` and
`NDArray[np.float32]`, so samples are ordinary typed Python without a plugin. pydantic reads the same objects and
validates values with them.
"""

from __future__ import annotations

import operator
import sys
import types
from typing import Annotated, Any, Union, get_args, get_origin

import numpy as np
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from zeroslot._core import binding
from zeroslot.errors import DeclarationError
from zeroslot.types.nodes.base import SIZE_LIMIT
from zeroslot.types.nodes.scalars import PLAIN


class Bound:
    """Base of the bounds: equal by value, and shown as they are written."""

    __slots__ = ("limits",)
    limits: tuple[int, ...]

    def __init__(self, *limits: Any) -> None:
        self.limits = tuple(self._checked(limit) for limit in limits)

    def _checked(self, limit: Any) -> Any:
        """`limit` as an int from 1 on. Raises `DeclarationError`."""
        try:
            number = operator.index(limit)
        except TypeError:
            number = 0
        if isinstance(limit, (bool, np.bool_)) or not 0 < number <= SIZE_LIMIT:
            name = type(self).__name__
            raise DeclarationError(f"{name} takes whole numbers from 1 to {SIZE_LIMIT}, not {limit!r}.")
        return number

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.limits))})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.limits == other.limits

    def __hash__(self) -> int:
        return hash((type(self), self.limits))


class SingleBound(Bound):
    """A bound of one number."""

    __slots__ = ()

    def __init__(self, limit: int) -> None:
        super().__init__(limit)

    @property
    def limit(self) -> int:
        """The greatest length: of a dimension, in items or in bytes."""
        return self.limits[0]


def with_widths(annotation: Any) -> Any:
    """`annotation` with I64, F64 and Bool for plain int, float and bool: pydantic then refuses what memory cannot
    hold.
    """
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(with_widths(argument) for argument in get_args(annotation))]  # noqa: UP007  # built at run time
    if not isinstance(annotation, type) or annotation not in PLAIN:
        return annotation
    return Annotated[annotation, PLAIN[annotation]]


def list_validator(source: Any, handler: GetCoreSchemaHandler, shortest: int | None, longest: int | None) -> CoreSchema:
    """How pydantic validates `list[…]` of a bounded length, or of any. A list of samples may be a structured array,
    which stays one: to make a model of each record would cost a microsecond a field.
    """
    item = (get_args(source) or (Any,))[0]
    items = core_schema.list_schema(handler.generate_schema(with_widths(item)), min_length=shortest, max_length=longest)
    sample_type = without_alias(item)
    if not isinstance(sample_type, type) or not hasattr(sample_type, "__zs_layout__"):
        return core_schema.no_info_before_validator_function(binding.as_list, items)
    records = binding.RecordsOf(sample_type, shortest or 0, sys.maxsize if longest is None else longest)
    return core_schema.no_info_wrap_validator_function(
        records, items, serialization=core_schema.wrap_serializer_function_ser_schema(records.listed, schema=items)
    )


def without_alias(annotation: Any) -> Any:
    """What a type alias stands for, with its arguments filled in. From numpy 2.5 on NDArray is one."""
    origin = get_origin(annotation)
    if hasattr(origin, "__value__"):
        return origin.__value__[get_args(annotation)]
    return annotation.__value__ if origin is None and hasattr(annotation, "__value__") else annotation
