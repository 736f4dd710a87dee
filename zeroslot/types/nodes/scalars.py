"""The scalar kinds, in one table: what each is called in Python, numpy, IDL and C. All else about them follows from it.

Why a kind stands inside `Annotated`: type checkers see `int` and `float`, so samples are ordinary typed Python without
a plugin. pydantic reads the same object and validates values with it.

Why floats are rounded to their kind when they are validated: a model then equals what a subscriber reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from zeroslot._core import binding
from zeroslot.types.nodes.base import (
    Declaration,
    Declarator,
    Inner,
    Node,
    Record,
    StoredNode,
    TypeWriter,
    annotation_text,
)


@dataclass(frozen=True, repr=False)
class Scalar(Node):
    """One number or truth value. Inside `Annotated` it says how wide an int, float or IntEnum is in memory."""

    written = "numbers"

    name: str
    code: str  # of numpy
    python_type: type
    idl: str
    c: str
    idl_note: str = ""  # stands before the type in the image form
    idl_message: str = ""  # the type in the message form, where it is another one

    @property
    def is_array_item(self) -> bool:
        return True

    @property
    def plain(self) -> bool:
        return True

    def __repr__(self) -> str:
        return self.name.capitalize()

    def __hash__(self) -> int:
        return hash(self.name)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if source is int and self.range is not None:
            low, high = self.range
            number = core_schema.int_schema(ge=low, le=high)
            return core_schema.no_info_before_validator_function(binding.exact_integer, number)
        if source is float and self.name != "f64":
            return core_schema.no_info_after_validator_function(binding.Stored(self.name), core_schema.float_schema())
        return handler(source)

    @cached_property
    def range(self) -> tuple[int, int] | None:
        """The least and the greatest value of an integer kind; None of the others."""
        if self.dtype.kind not in "iu":
            return None
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    @property
    def kind(self) -> str:
        return self.name

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.code)

    @property
    def size(self) -> int:
        """Its width."""
        return self.dtype.itemsize

    @property
    def alignment(self) -> int:
        """Natural: its width, or that of the parts of a complex number."""
        return self.dtype.alignment

    @property
    def text(self) -> str:
        return self.name

    @property
    def tag(self) -> str:
        return self.name

    @property
    def canonical(self) -> str:
        return self.name

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Scalar | None:
        base, bound = declared.base, declared.bound
        if isinstance(bound, Scalar):
            if base is not bound.python_type:
                declared.reject(
                    f"{annotation_text(base)} cannot be {bound.kind}",
                    "Write the alias alone, such as U32, or put it on an IntEnum.",
                )
            return bound
        if base not in PLAIN:
            return None
        if bound is not None:
            declared.reject(
                f"{bound!r} does not belong on {base.__name__}",
                "A number has no bound; choose its width with U8 … F64.",
            )
        return PLAIN[base]

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Scalar | None:
        return SCALARS.get(stored.kind or "") if "shape" not in stored.facts else None

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        return Annotated[self.python_type, self]

    def json_schema(self) -> dict[str, Any]:
        return {**self.json_value(), "x-zeroslot": {"kind": self.name}}

    def json_value(self) -> dict[str, Any]:
        """The JSON schema of one value."""
        if self.range is not None:
            return {"type": "integer", "minimum": self.range[0], "maximum": self.range[1]}
        if self.python_type is complex:
            return {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
        return {"type": {bool: "boolean", int: "integer"}.get(self.python_type, "number")}

    def declare(self, writer: TypeWriter) -> Declarator:
        declared = writer.scalar(self)
        return declared._replace(dims=(2,)) if self.python_type is complex else declared

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        return binding.ScalarCodec(self.name)

    def holds(self, other: Scalar) -> bool:
        """Whether each value of another kind is exactly a value of this one. Truth values are no numbers."""
        if bool in (self.python_type, other.python_type):
            return self.name == other.name
        if other.range is None:
            return self.range is None and self.size >= other.size
        exact = 0 if self.range is not None else 2 ** (np.finfo(self.dtype).nmant + 1)
        low, high = self.range or (-exact, exact)
        return low <= other.range[0] and other.range[1] <= high

    def reading(self, published: Node, inner: Inner) -> Node | None:
        if not isinstance(published, Scalar) or not self.holds(published):
            return None
        return published if published.python_type is self.python_type else IntegerAsFloat(published)


class IntegerAsFloat(Scalar):
    """An integer that is read as a float."""

    def __init__(self, number: Scalar) -> None:
        super().__init__(number.name, number.code, float, number.idl, number.c)

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        return binding.FloatCodec(binding.ScalarCodec(self.name))


_TABLE = (
    Scalar("u8", "<u1", int, idl="octet", c="uint8_t"),
    Scalar("u16", "<u2", int, idl="unsigned short", c="uint16_t"),
    Scalar("u32", "<u4", int, idl="unsigned long", c="uint32_t"),
    Scalar("u64", "<u8", int, idl="unsigned long long", c="uint64_t"),
    Scalar("i8", "<i1", int, idl="int8", c="int8_t"),
    Scalar("i16", "<i2", int, idl="short", c="int16_t"),
    Scalar("i32", "<i4", int, idl="long", c="int32_t"),
    Scalar("i64", "<i8", int, idl="long long", c="int64_t"),
    Scalar("f16", "<f2", float, idl="unsigned short", c="uint16_t", idl_note="@float16 ", idl_message="float"),
    Scalar("f32", "<f4", float, idl="float", c="float"),
    Scalar("f64", "<f8", float, idl="double", c="double"),
    Scalar("bool", "?", bool, idl="boolean", c="uint8_t"),
)
SCALARS: dict[str, Scalar] = {scalar.name: scalar for scalar in _TABLE}

U8 = Annotated[int, SCALARS["u8"]]
U16 = Annotated[int, SCALARS["u16"]]
U32 = Annotated[int, SCALARS["u32"]]
U64 = Annotated[int, SCALARS["u64"]]
I8 = Annotated[int, SCALARS["i8"]]
I16 = Annotated[int, SCALARS["i16"]]
I32 = Annotated[int, SCALARS["i32"]]
I64 = Annotated[int, SCALARS["i64"]]
F16 = Annotated[float, SCALARS["f16"]]
F32 = Annotated[float, SCALARS["f32"]]
F64 = Annotated[float, SCALARS["f64"]]
Bool = Annotated[bool, SCALARS["bool"]]

PLAIN: dict[Any, Scalar] = {int: SCALARS["i64"], float: SCALARS["f64"], bool: SCALARS["bool"]}

# Kinds that are elements of arrays alone. IDL and C have no complex numbers that C++ shares: they are pairs.
_UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")
ELEMENTS: dict[str, Scalar] = {
    **SCALARS,
    "c64": Scalar("c64", "<c8", complex, idl="float", c="float"),
    "c128": Scalar("c128", "<c16", complex, idl="double", c="double"),
    **{
        f"{name}_{unit}": Scalar(
            f"{name}_{unit}", f"<{code}8[{unit}]", int, idl="long long", c="int64_t", idl_note=f'@unit("{unit}") '
        )
        for name, code in (("datetime64", "M"), ("timedelta64", "m"))
        for unit in _UNITS
    },
}

# numpy has several types for some kinds: np.longlong is another type than np.int64 of the same bytes. Where several
# kinds have one dtype, arrays of it are of the first.
NUMPY_TYPES: dict[type, Scalar] = {
    np.dtype(code).type: scalar
    for code in "?bBhHiIlLqQefd"
    for scalar in reversed(_TABLE)
    if np.dtype(code) == scalar.dtype
}
ELEMENT_TYPES: dict[Any, Scalar] = {
    **NUMPY_TYPES,
    np.complex64: ELEMENTS["c64"],
    np.complex128: ELEMENTS["c128"],
}
