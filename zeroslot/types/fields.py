"""What may stand in a sample type: the annotations that users write, and the nodes that they mean.

An annotation (`U8`, `Shape(3)`, `MaxBytes(16)`) is read twice: by pydantic, which validates values with it, and by
`node_of`, which turns it into a node with a size and an alignment. Everything behind this module knows nodes only,
never annotations.

Why a bound is an object inside `Annotated` and not a type of ours: type checkers see `int`, `str` and
`NDArray[np.float32]`, so samples are ordinary typed Python without a plugin.

Why F16 and F32 values are rounded when they are validated: a model then equals what a subscriber reads.

Why lists of unit types are refused: they would be a count of nothing, which a hostile segment could set to four
thousand million.
"""

from __future__ import annotations

import enum
import keyword
import math
import operator
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NoReturn, TypeAlias, Union, get_args, get_origin

import numpy as np
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from zeroslot._core import binding
from zeroslot.errors import DeclarationError

SIZE_LIMIT = 2**31 - 1
NAME_LIMIT = 255  # characters of the name of a field or an enumerator
DIMS_LIMIT = 32  # numpy 1 keeps at most this many
NESTING_LIMIT = 32  # structs, lists and optionals around a field or item
TYPE_NAME_LIMIT = 1000

_DTYPES = {
    "u8": "<u1", "u16": "<u2", "u32": "<u4", "u64": "<u8",
    "i8": "<i1", "i16": "<i2", "i32": "<i4", "i64": "<i8",
    "f16": "<f2", "f32": "<f4", "f64": "<f8", "bool": "?",
}  # fmt: skip  # a table
DTYPES: dict[str, np.dtype[Any]] = {kind: np.dtype(code) for kind, code in _DTYPES.items()}
INTEGER_RANGES: dict[str, tuple[int, int]] = {
    kind: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) for kind, dtype in DTYPES.items() if dtype.kind in "iu"
}


def round_up(offset: int, alignment: int) -> int:
    """The first multiple of `alignment` that is not below `offset`."""
    return -(-offset // alignment) * alignment


def kind_of_dtype(dtype: np.dtype[Any]) -> str | None:
    """The scalar kind of a numpy dtype of any byte order, or None where there is none (complex, object, str,
    structured, …).
    """
    return next(
        (kind for kind, ours in DTYPES.items() if (ours.kind, ours.itemsize) == (dtype.kind, dtype.itemsize)), None
    )


# --- annotations ---


@dataclass(frozen=True, slots=True)
class ScalarKind:
    """The width of one number in memory, as `U8` and its siblings carry it."""

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if source is int and self.kind in INTEGER_RANGES:
            low, high = INTEGER_RANGES[self.kind]
            number = core_schema.int_schema(ge=low, le=high)
            return core_schema.no_info_before_validator_function(binding.exact_integer, number)
        if source is float and self.kind in _ROUNDING:
            return core_schema.no_info_after_validator_function(_ROUNDING[self.kind], core_schema.float_schema())
        return handler(source)


_ROUNDING: dict[str, Callable[[float], float]] = {"f16": binding.rounded_f16, "f32": binding.rounded_f32}

U8 = Annotated[int, ScalarKind("u8")]
U16 = Annotated[int, ScalarKind("u16")]
U32 = Annotated[int, ScalarKind("u32")]
U64 = Annotated[int, ScalarKind("u64")]
I8 = Annotated[int, ScalarKind("i8")]
I16 = Annotated[int, ScalarKind("i16")]
I32 = Annotated[int, ScalarKind("i32")]
I64 = Annotated[int, ScalarKind("i64")]
F16 = Annotated[float, ScalarKind("f16")]
F32 = Annotated[float, ScalarKind("f32")]
F64 = Annotated[float, ScalarKind("f64")]
Bool = Annotated[bool, ScalarKind("bool")]

_PLAIN: dict[Any, Any] = {int: I64, float: F64, bool: Bool}


def with_widths(annotation: Any) -> Any:
    """`annotation` with I64, F64 and Bool for plain int, float and bool: pydantic then refuses what memory cannot
    hold.
    """
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(with_widths(argument) for argument in get_args(annotation))]  # noqa: UP007  # built at run time
    return _PLAIN.get(annotation, annotation) if isinstance(annotation, type) else annotation


def _bound(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, (bool, np.bool_)) or not 0 < number <= SIZE_LIMIT:
        raise DeclarationError(f"{name} takes whole numbers from 1 to {SIZE_LIMIT}, not {value!r}.")
    return number


class Shape:
    """The dims of an inline array, `Annotated[NDArray[np.float32], Shape(480, 640)]`, or the length of a fixed list."""

    __slots__ = ("dims",)
    dims: tuple[int, ...]

    def __init__(self, *dims: int) -> None:
        if not 0 < len(dims) <= DIMS_LIMIT:
            raise DeclarationError(f"Shape takes 1 to {DIMS_LIMIT} dims, as in Shape(480, 640), not {len(dims)}.")
        self.dims = tuple(_bound("Shape", dim) for dim in dims)

    def __repr__(self) -> str:
        return f"Shape({', '.join(map(str, self.dims))})"

    def __eq__(self, other: object) -> bool:
        return self.dims == other.dims if isinstance(other, Shape) else NotImplemented

    def __hash__(self) -> int:
        return hash((Shape, self.dims))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kind = _array_kind(source)
        if kind is not None:
            return _array_schema(kind, self.dims)
        if get_origin(source) is list and len(self.dims) == 1:
            return _list_schema(source, handler, self.dims[0], self.dims[0])
        return handler(source)


class MaxBytes:
    """The room of an inline str (in UTF-8) or bytes: `Annotated[str, MaxBytes(32)]`."""

    __slots__ = ("limit",)
    limit: int

    def __init__(self, limit: int) -> None:
        self.limit = _bound("MaxBytes", limit)

    def __repr__(self) -> str:
        return f"MaxBytes({self.limit})"

    def __eq__(self, other: object) -> bool:
        return self.limit == other.limit if isinstance(other, MaxBytes) else NotImplemented

    def __hash__(self) -> int:
        return hash((MaxBytes, self.limit))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler(source)
        if source is bytes:
            # In JSON a str stands for bytes, in base64. In Python it does not, where pydantic would decode it as well.
            strict = core_schema.bytes_schema(strict=True)
            python = core_schema.no_info_before_validator_function(binding.no_text, strict)
            inner = core_schema.json_or_python_schema(inner, python)
        if source in (str, bytes):
            return core_schema.no_info_after_validator_function(binding.SizeCheck(self.limit), inner)
        return inner

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # For a str this is necessary and not sufficient: JSON Schema counts code points.
        return {**handler(schema), "maxLength": self.limit} if _is_text(schema) else handler(schema)


class MaxLen:
    """The room of an inline list with a count: `Annotated[list[Point], MaxLen(16)]`."""

    __slots__ = ("limit",)
    limit: int

    def __init__(self, limit: int) -> None:
        self.limit = _bound("MaxLen", limit)

    def __repr__(self) -> str:
        return f"MaxLen({self.limit})"

    def __eq__(self, other: object) -> bool:
        return self.limit == other.limit if isinstance(other, MaxLen) else NotImplemented

    def __hash__(self) -> int:
        return hash((MaxLen, self.limit))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _list_schema(source, handler, None, self.limit) if get_origin(source) is list else handler(source)


def _is_text(schema: Any) -> bool:
    while "schema" in schema:
        schema = schema["schema"]
    return bool(schema["type"] == "str")


def _list_schema(source: Any, handler: GetCoreSchemaHandler, shortest: int | None, longest: int) -> CoreSchema:
    item = (get_args(source) or (Any,))[0]
    items = core_schema.list_schema(handler.generate_schema(with_widths(item)), min_length=shortest, max_length=longest)
    return core_schema.no_info_before_validator_function(binding.as_list, items)


def _array_schema(kind: str, dims: tuple[int, ...]) -> CoreSchema:
    def json_schema(_schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return json_array(kind, dims)

    return core_schema.no_info_plain_validator_function(
        binding.ArrayOf(DTYPES[kind], dims),
        metadata={"pydantic_js_functions": [json_schema]},
        serialization=core_schema.plain_serializer_function_ser_schema(binding.nested_lists, when_used="json"),
    )


def json_array(kind: str, dims: tuple[int, ...]) -> dict[str, Any]:
    """The JSON schema of nested lists of these dims."""
    schema = json_scalar(kind)
    for dim in reversed(dims):
        schema = {"type": "array", "items": schema, "minItems": dim, "maxItems": dim}
    return schema


def json_scalar(kind: str) -> dict[str, Any]:
    """The JSON schema of one number or truth value of this kind."""
    if kind == "bool":
        return {"type": "boolean"}
    if kind in INTEGER_RANGES:
        low, high = INTEGER_RANGES[kind]
        return {"type": "integer", "minimum": low, "maximum": high}
    return {"type": "number"}


# --- nodes ---


@dataclass(frozen=True, slots=True)
class NodeBase:
    """What every node has: its bytes, their alignment, the short text that differences and errors show, and how many
    structs, lists and optionals stand within each other in it.
    """

    size: int = field(init=False, compare=False, repr=False)
    alignment: int = field(init=False, compare=False, repr=False)
    text: str = field(init=False, compare=False, repr=False)
    nesting: int = field(init=False, compare=False, repr=False)


def _settle(node: NodeBase, size: int, alignment: int, text: str, nesting: int = 0) -> None:
    # The class is frozen, and its measures follow from its members.
    object.__setattr__(node, "size", round_up(size, alignment))
    object.__setattr__(node, "alignment", alignment)
    object.__setattr__(node, "text", text)
    object.__setattr__(node, "nesting", nesting)


@dataclass(frozen=True, slots=True)
class Scalar(NodeBase):
    """One number or truth value."""

    kind: str

    def __post_init__(self) -> None:
        width = DTYPES[self.kind].itemsize
        _settle(self, width, width, self.kind)


@dataclass(frozen=True, slots=True)
class Enumeration(NodeBase):
    """An integer that has names. `python_type` is the IntEnum, or None for a Literal and where only the schema is
    known.
    """

    kind: str
    name: str = field(compare=False)
    members: tuple[tuple[str, int], ...]
    python_type: type[enum.IntEnum] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        width = DTYPES[self.kind].itemsize
        _settle(self, width, width, self.name if self.kind == "i32" else f"{self.name}:{self.kind}")


@dataclass(frozen=True, slots=True)
class Text(NodeBase):
    """A str: its length in bytes as u32 at 0, UTF-8 from 4."""

    max_bytes: int

    def __post_init__(self) -> None:
        _settle(self, 4 + self.max_bytes, 4, f"str<={self.max_bytes}")


@dataclass(frozen=True, slots=True)
class Blob(NodeBase):
    """A bytes: its length as u32 at 0, the bytes from 4."""

    max_bytes: int

    def __post_init__(self) -> None:
        _settle(self, 4 + self.max_bytes, 4, f"bytes<={self.max_bytes}")


@dataclass(frozen=True, slots=True, eq=False)
class Struct(NodeBase):
    """A nested sample; `layout` is the StructLayout of it. Equal when the bytes mean the same, whatever the classes
    are called.
    """

    layout: Any  # the StructLayout, which is defined one module later

    def __post_init__(self) -> None:
        _settle(self, self.layout.size, self.layout.alignment, self.layout.name, self.layout.nesting)

    def __eq__(self, other: object) -> bool:
        return bool(self.layout.type_hash == other.layout.type_hash) if isinstance(other, Struct) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.layout.type_hash)


@dataclass(frozen=True, slots=True)
class Array(NodeBase):
    """A numpy array in C order."""

    item: Scalar
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        text = f"{self.item.kind}[{','.join(map(str, self.shape))}]"
        _settle(self, self.item.size * math.prod(self.shape), self.item.alignment, text)


@dataclass(frozen=True, slots=True)
class FixedList(NodeBase):
    """`length` items in a row. The size of every item is a multiple of its alignment, so there is nothing between
    them.
    """

    item: Node
    length: int

    def __post_init__(self) -> None:
        text = f"list[{self.item.text}][{self.length}]"
        _settle(self, self.item.size * self.length, self.item.alignment, text, self.item.nesting + 1)


@dataclass(frozen=True, slots=True)
class BoundedList(NodeBase):
    """A count as u32 at 0, room for `max_len` items from `items_at`."""

    item: Node
    max_len: int
    items_at: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        alignment = max(4, self.item.alignment)
        object.__setattr__(self, "items_at", round_up(4, self.item.alignment))
        text = f"list[{self.item.text}]<={self.max_len}"
        _settle(self, self.items_at + self.item.size * self.max_len, alignment, text, self.item.nesting + 1)


@dataclass(frozen=True, slots=True)
class Optional(NodeBase):
    """A presence byte, 0 or 1, and room for the item from `item_at`."""

    item: Node
    item_at: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "item_at", round_up(1, self.item.alignment))
        size = self.item_at + self.item.size
        _settle(self, size, self.item.alignment, f"{self.item.text}?", self.item.nesting + 1)


Node: TypeAlias = Scalar | Enumeration | Text | Blob | Struct | Array | FixedList | BoundedList | Optional


# --- from annotation to node ---


def refuse(where: str, problem: str, instead: str) -> NoReturn:
    """Raise DeclarationError for the field `where`, which is written Class.field."""
    type_name, _, name = where.partition(".")
    raise DeclarationError(f"{where}: {problem}. {instead}", type_name=type_name, field=name or None)


def node_of(annotation: Any, *, where: str) -> Node:
    """The node that an annotation means. `where` is `Class.field`, for the error text.

    Raises `DeclarationError` for whatever has no fixed place in memory, and says what to write instead.
    """
    base, bounds = _unwrapped(annotation)
    if len(bounds) > 1:
        refuse(where, f"{' and '.join(map(repr, bounds))} exclude each other", "Keep one bound.")
    bound = bounds[0] if bounds else None
    origin = get_origin(base)
    if origin in (Union, types.UnionType):
        return _union_node(base, bound, where)
    if origin is Literal or (isinstance(base, type) and issubclass(base, enum.Enum)):
        return _enumeration_node(base, bound, where)
    if isinstance(bound, ScalarKind):
        if base is not _python_type(bound.kind):
            refuse(
                where,
                f"{_shown(base)} cannot be {bound.kind}",
                "Write the alias alone, such as U32, or put it on an IntEnum.",
            )
        return Scalar(bound.kind)
    if base in (int, float, bool):
        if bound is not None:
            refuse(
                where,
                f"{bound!r} does not belong on {base.__name__}",
                "A number has no bound; choose its width with U8 … F64.",
            )
        return Scalar({int: "i64", float: "f64", bool: "bool"}[base])
    if base in (str, bytes):
        return _text_node(base, bound, where)
    if base is np.ndarray or origin is np.ndarray:
        return _array_node(base, bound, where)
    if base is list or origin is list:
        return _list_node(base, bound, where)
    nested = getattr(base, "__zs_layout__", None) if isinstance(base, type) else None
    if nested is not None:
        if bound is not None:
            refuse(where, f"{bound!r} does not belong on the sample type {base.__name__}", "Take the bound away.")
        return Struct(nested())
    return _refuse_type(base, where)


def _unwrapped(annotation: Any) -> tuple[Any, list[Any]]:
    """The type inside Annotated, type aliases and NewType, and the bounds of ours that stood around it."""
    bounds: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *metadata = get_args(annotation)
            for item in metadata:
                if isinstance(item, (ScalarKind, Shape, MaxBytes, MaxLen)):
                    bounds.append(item)
                elif get_origin(item) is Annotated:  # Annotated[Mode, U8]: the alias itself is the metadata
                    bounds += [inner for inner in get_args(item)[1:] if isinstance(inner, ScalarKind)]
        elif (meant := _without_alias(annotation)) is not annotation:
            annotation = meant
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        else:
            return annotation, bounds


def _union_node(base: Any, bound: Any, where: str) -> Node:
    inner = [argument for argument in get_args(base) if argument is not type(None)]
    if bound is not None:
        refuse(where, f"{bound!r} stands around a union", f"Put it inside: Annotated[…, {bound!r}] | None.")
    if len(inner) != 1 or len(inner) == len(get_args(base)):
        refuse(
            where,
            f"the union {_shown(base)} has no one layout",
            "Only X | None works; use a field for each case, each of them | None.",
        )
    item = node_of(inner[0], where=where)
    if isinstance(item, Optional):
        refuse(where, "an optional of an optional has one presence byte too many", "Write | None once.")
    return Optional(item)


def _enumeration_node(base: Any, bound: Any, where: str) -> Enumeration:
    kind = bound.kind if isinstance(bound, ScalarKind) else "i32"
    if bound is not None and kind not in INTEGER_RANGES:
        refuse(where, f"{bound!r} cannot hold enumerators", "Choose an integer width, as in Annotated[Mode, U8].")
    if get_origin(base) is Literal:
        values = get_args(base)
        if not all(type(value) is int for value in values):
            refuse(
                where,
                f"{_shown(base)} has values that are not ints",
                "Only a Literal of ints has a layout; for names use an IntEnum.",
            )
        name, python_type = "Literal", None
        members = literal_members(values)
    else:
        if not issubclass(base, enum.IntEnum):
            refuse(where, f"{base.__name__} is not an IntEnum", "Derive it from enum.IntEnum; for flags use U32.")
        name, python_type = base.__name__, base
        if not is_type_name(name):
            refuse(
                where,
                f"{name[:40]!r} is no name of a type",
                f"It must be printable and have at most {TYPE_NAME_LIMIT} characters.",
            )
        renamed = getattr(base, "__zs_renamed__", {})  # of an enum that was made from a schema
        members = [(renamed.get(member.name, member.name), int(member)) for member in base]
    if not members:
        refuse(where, f"{name} has no enumerators", "Give it at least one.")
    members.sort(key=operator.itemgetter(1))  # the order of declaration means nothing in memory
    low, high = INTEGER_RANGES[kind]
    for member, value in members:
        if not is_name(member):
            refuse(
                where,
                f"the enumerator {member!r} is not an ASCII identifier",
                "Rename it; C and IDL must be able to say it.",
            )
        if not low <= value <= high:
            refuse(
                where,
                f"{name}.{member} = {value} does not fit into {kind}",
                "Choose a wider one, as in Annotated[Mode, I64].",
            )
    return Enumeration(kind, name, tuple(members), python_type)


def _text_node(base: Any, bound: Any, where: str) -> Text | Blob:
    if not isinstance(bound, MaxBytes):
        _refuse_unbounded(where, base.__name__, bound, f"Annotated[{base.__name__}, MaxBytes(32)]")
    return Text(bound.limit) if base is str else Blob(bound.limit)


def _array_node(base: Any, bound: Any, where: str) -> Array:
    kind = _array_kind(base)
    if kind is None:
        refuse(
            where,
            f"{_shown(base)} has no element type with a fixed size",
            "Write NDArray[np.float64], or another number or np.bool_.",
        )
    if not isinstance(bound, Shape):
        _refuse_unbounded(where, "NDArray", bound, "Annotated[NDArray[np.float64], Shape(3)]")
    return Array(Scalar(kind), bound.dims)


def _list_node(base: Any, bound: Any, where: str) -> FixedList | BoundedList:
    if not isinstance(bound, (Shape, MaxLen)):
        _refuse_unbounded(where, "list", bound, "Annotated[list[…], MaxLen(16)] or Shape(16)")
    if not get_args(base):
        refuse(where, "a bare list does not say what it holds", "Write list[…].")
    item = node_of(get_args(base)[0], where=where)
    if item.size == 0:
        refuse(where, "a list of a type without fields holds nothing", "Use a U32 to count.")
    if isinstance(bound, MaxLen):
        return BoundedList(item, bound.limit)
    if len(bound.dims) != 1:
        refuse(where, f"{bound!r} has several dims on a list", "Use an NDArray, or a list of Annotated lists.")
    return FixedList(item, bound.dims[0])


def _refuse_unbounded(where: str, what: str, bound: Any, instead: str) -> NoReturn:
    if bound is not None:
        refuse(where, f"{bound!r} does not belong on {what}", f"Write {instead}.")
    refuse(where, f"{what} without a bound has a variable size, which is not supported yet", f"Write {instead}.")


def _refuse_type(base: Any, where: str) -> NoReturn:
    if isinstance(base, type) and issubclass(base, np.generic):
        kind = kind_of_dtype(np.dtype(base)) if base in _SCALAR_TYPES else None
        refuse(
            where, f"{_shown(base)} is not a field type", f"Write {kind.capitalize() if kind else 'one of U8 … F64'}."
        )
    if base is tuple or get_origin(base) is tuple:
        refuse(where, f"{_shown(base)} has no layout", "Write Annotated[list[…], Shape(n)] or a nested Sample.")
    if isinstance(base, str) or hasattr(base, "__forward_arg__"):
        refuse(
            where,
            f"the name {_shown(base)} is not resolved",
            "Define that class first, or call model_rebuild() once it is.",
        )
    refuse(
        where,
        f"{_shown(base)} has no fixed place in memory",
        "Use numbers, IntEnum, str or bytes with MaxBytes, NDArray with Shape, list with Shape or MaxLen, "
        "a nested Sample, or X | None of these.",
    )


# np.longlong is another type than np.int64 of the same bytes, hence the character codes.
_SCALAR_TYPES = {np.dtype(code).type for code in "?bBhHiIlLqQefd"}


def _without_alias(annotation: Any) -> Any:
    """What a type alias stands for, with its arguments filled in. From numpy 2.5 on NDArray is one."""
    origin = get_origin(annotation)
    if hasattr(origin, "__value__"):
        return origin.__value__[get_args(annotation)]
    return annotation.__value__ if origin is None and hasattr(annotation, "__value__") else annotation


def _array_kind(source: Any) -> str | None:
    """The scalar kind of NDArray[…], or None where `source` is no array or its elements have no kind."""
    source = _without_alias(source)
    arguments = get_args(source)
    if get_origin(source) is not np.ndarray or len(arguments) != 2:
        return None
    element = (get_args(arguments[1]) or (None,))[0]
    if element in _SCALAR_TYPES:
        return kind_of_dtype(np.dtype(element))
    return None


def _python_type(kind: str) -> type:
    return bool if kind == "bool" else int if kind in INTEGER_RANGES else float


def literal_members(values: Iterable[int]) -> list[tuple[str, int]]:
    """The enumerators that stand for the values of a Literal."""
    return [(f"VALUE_{value}" if value >= 0 else f"MINUS_{-value}", value) for value in values]


def is_name(name: str) -> bool:
    """Whether a field or enumerator may have this name in memory: C and IDL can say it, each escaping its keywords.
    Padding has the leading underscore.
    """
    return name.isascii() and name.isidentifier() and len(name) <= NAME_LIMIT and not name.startswith("_")


def is_identifier(name: str) -> bool:
    """Whether Python can say this name, too."""
    return is_name(name) and not keyword.iskeyword(name)


def is_type_name(name: str) -> bool:
    """Whether a sample type or an enum may be called this. It means nothing in memory."""
    return name.isprintable() and 0 < len(name) <= TYPE_NAME_LIMIT


def python_names(names: Iterable[str], sayable: Callable[[str], bool]) -> dict[str, str]:
    """What Python calls each of these names of a foreign declaration: the same where it can say it, otherwise with
    underscores behind it until it is another one.
    """
    wanted = list(names)
    taken = {name for name in wanted if sayable(name)}
    found: dict[str, str] = {}
    for name in wanted:
        new = name
        while not sayable(new) or (new != name and new in taken):
            new += "_"
        taken.add(new)
        found[name] = new
    return found


def _shown(annotation: Any) -> str:
    return (
        annotation.__qualname__
        if isinstance(annotation, type) and not get_args(annotation)
        else str(annotation).replace("typing.", "")
    )
