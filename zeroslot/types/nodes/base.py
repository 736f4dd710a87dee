"""`Node`, the base of everything that a field can be, and `Record`, the base of those that are made of named parts.

A node says what its bytes mean. Each kind of node is one class in one file, and that class answers every question
about the kind: how large it is, how the hashed text, JSON, IDL and C call it, how it is read from an annotation and
from a stored schema, which codec reads it in place, and what a loan zeroes. Other modules know `Node` alone, so
a new kind is a new class and a line in `zeroslot.types.registry`.

Why the answers are cached properties: a class statement asks for few of them, and a node never changes.
"""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, NoReturn, Protocol, Self, get_args, get_origin

import numpy as np

from zeroslot._core.binding import Codec
from zeroslot.errors import DeclarationError, FormatError
from zeroslot.types.names import is_name

SIZE_LIMIT = 2**31 - 1
DIMS_LIMIT = 32
NESTING_LIMIT = 32  # structs, lists and optionals around a field or item
SMALL = 4096  # bytes; a loan zeroes what is not larger


def round_up(offset: int, alignment: int) -> int:
    """The first multiple of `alignment` that is not below `offset`."""
    return -(-offset // alignment) * alignment


class Node(ABC):
    """What the bytes of a field mean. Nodes are immutable, and equal when their bytes mean the same."""

    # What a kind is.

    written: ClassVar[str] = ""
    """How a declaration writes it, for an error text; "" of a kind that another one tells of."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes, a multiple of the alignment."""

    @property
    @abstractmethod
    def alignment(self) -> int:
        """That of the C type."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What `Field.kind` says, and `kind` in a stored schema."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The short text that differences and errors show, such as `f64[3]`."""

    @property
    @abstractmethod
    def tag(self) -> str:
        """The name in IDL and C of what the declaration leaves unnamed: `list_f64_3_4` for at most four lists of three
        f64.
        """

    @property
    @abstractmethod
    def canonical(self) -> str:
        """The part of the hashed text that stands for this node. Equal texts mean equal bytes with equal meaning."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype with exactly this node's size and inner offsets."""

    @property
    def shape(self) -> tuple[int, ...]:
        """What `Field.shape` says."""
        return ()

    @property
    def nesting(self) -> int:
        """How many structs, lists and optionals stand within each other in it."""
        return 0

    @property
    def plain(self) -> bool:
        """Whether the image is also, byte for byte, the XCDR1 encoding of the value."""
        return False

    @property
    def is_array_item(self) -> bool:
        """Whether a list of these is an array in place."""
        return False

    @property
    def variable(self) -> bool:
        """Whether samples have data of it behind their fixed part; `size` is that of the fixed part."""
        return False

    # How it is read, and what is made of it.

    @classmethod
    @abstractmethod
    def from_annotation(cls, declared: Declaration) -> Node | None:
        """The node of an annotation, or None when it is of another kind. Raises `DeclarationError`."""

    @classmethod
    @abstractmethod
    def from_schema(cls, stored: StoredNode) -> Node | None:
        """The node that `json_schema` described, or None when it is of another kind. Raises `FormatError`."""

    @abstractmethod
    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        """The annotation that means this node. `sample_type_of` gives the class of a nested sample."""

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """The JSON schema of the value. `x-zeroslot` in it holds what `from_schema` needs beyond size and offset."""

    def sized_schema(self, offset: int | None = None) -> dict[str, Any]:
        """`json_schema` with the size, and the offset of a field."""
        schema = self.json_schema()
        facts = schema["x-zeroslot"]
        facts["size"] = self.size
        if offset is not None:
            facts["offset"] = offset
        return schema

    @abstractmethod
    def declare(self, writer: TypeWriter) -> Declarator:
        """How IDL or C declares a member of this kind."""

    @abstractmethod
    def codec(self, codec_of_sample: Callable[[Record], Codec]) -> Codec:
        """The native codec. `codec_of_sample` gives that of a nested sample."""

    def reading(self, published: Node, inner: Inner) -> Node | None:
        """The node that reads as this kind what another declaration, `published`, has put into memory. It has the size
        and the alignment of `published`. None: not each value of `published` is a value of this node.

        Called where the two differ, and for anything but two samples. `inner` does the same for the nodes inside.
        """
        return None

    def spans_to_zero(self, offset: int) -> list[tuple[int, int]]:
        """What a loan zeroes of a field at `offset` without a default: all that is small, and of the rest what says
        how much of it there is.
        """
        return [(offset, self.size)] if self.size <= SMALL else self.heads(offset)

    def heads(self, offset: int) -> list[tuple[int, int]]:
        """The lengths, counts and presence bytes in a large node, as (offset, size)."""
        return []


class Inner(Protocol):
    """How a published node inside of another is read as the one of this side. `suffix` names it in error texts."""

    def __call__(self, published: Node, here: Node, suffix: str = "", /) -> Node | None: ...


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a record.

    `shape` is () for a single value, the dims of an array or a fixed list, (max_len,) of a bounded list.
    """

    name: str
    offset: int
    node: Node
    padding: bool = False

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.node.size

    @property
    def kind(self) -> str:
        """Of a number or array its scalar kind, such as `u8`; or enum, str, bytes, struct, list, optional."""
        return self.node.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """See above."""
        return self.node.shape

    @property
    def text(self) -> str:
        """The type as differences and errors show it, such as `f64[3]`."""
        return self.node.text


class Gap(NamedTuple):
    """Padding between the members of a record, or behind them."""

    offset: int
    size: int


class Record(Node):
    """A node that lies in memory as a C struct of its members: natural alignment, in order."""

    @property
    @abstractmethod
    def members(self) -> tuple[Field, ...]:
        """What it is made of, without padding."""

    @property
    def sample_type(self) -> type[Any] | None:
        """The class that it was made from, if it is a sample."""
        return None

    @cached_property
    def alignment(self) -> int:
        """That of the member with the largest."""
        return max((member.node.alignment for member in self.members), default=1)

    @cached_property
    def size(self) -> int:
        """Up to the end of the last member, and a multiple of the alignment."""
        end = self.members[-1].offset + self.members[-1].size if self.members else 0
        return round_up(end, self.alignment)

    def with_gaps(self) -> Iterator[Field | Gap]:
        """The members and all padding, in the order of memory."""
        end = 0
        for member in self.members:
            if member.offset > end:
                yield Gap(end, member.offset - end)
            yield member
            end = member.offset + member.size
        if self.size > end:
            yield Gap(end, self.size - end)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Offsets and item size of the memory; padding has no names."""
        return record_dtype([(each.name, each.offset, each.node.dtype) for each in self.members], self.size)

    @cached_property
    def nesting(self) -> int:
        """One more than that of its members."""
        return 1 + max((member.node.nesting for member in self.members), default=-1)

    @cached_property
    def type_hash(self) -> bytes:
        """The first 16 bytes of SHA-256 over `canonical`."""
        return hashlib.sha256(self.canonical.encode()).digest()[:16]

    def heads(self, offset: int) -> list[tuple[int, int]]:
        """The first member, which says how much of the others there is."""
        return [(offset + self.members[0].offset, self.members[0].size)]


def place(members: Iterable[tuple[str, Node]]) -> tuple[Field, ...]:
    """Give every member the offset that a C compiler gives it."""
    fields: list[Field] = []
    end = 0
    for name, node in members:
        offset = round_up(end, node.alignment)
        fields.append(Field(name, offset, node))
        end = offset + node.size
    return tuple(fields)


def record_dtype(members: list[tuple[str, int, np.dtype[Any]]], size: int) -> np.dtype[Any]:
    """A dtype with these names, offsets and dtypes, and with this item size."""
    names, offsets, formats = [m[0] for m in members], [m[1] for m in members], [m[2] for m in members]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def repeated(dtype: np.dtype[Any], count: int) -> np.dtype[Any]:
    """The dtype of `count` items in a row. Dims are joined, because numpy accepts an array of arrays with too many dims
    and fails where one is made of it.
    """
    return np.dtype((dtype.base, (count, *dtype.shape)))


# --- what a kind reads: an annotation ---


@dataclass(frozen=True, slots=True)
class Declaration:
    """An annotation, taken apart: the type `base` and the bound of this package that stood around it.

    `where` is `Class.field`, for the error text. `node_of` gives the node of an annotation inside this one.
    """

    where: str
    base: Any
    bound: Any
    node_of: Callable[[Any, str], Node]

    @property
    def origin(self) -> Any:
        """`list` of `list[int]`."""
        return get_origin(self.base)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """`(int,)` of `list[int]`."""
        return get_args(self.base)

    def inner(self, annotation: Any) -> Node:
        """The node of an annotation inside this one."""
        return self.node_of(annotation, self.where)

    def reject(self, problem: str, instead: str) -> NoReturn:
        """Raise the `DeclarationError` for this field."""
        reject_declaration(self.where, problem, instead)

    def item(self) -> Node:
        """The node of the items of a declared list."""
        if not self.arguments:
            self.reject("a bare list does not say what it holds", "Write list[…].")
        item = self.inner(self.arguments[0])
        if item.size == 0:
            self.reject("a list of a type without fields holds nothing", "Use a U32 to count.")
        if item.variable:
            self.reject(
                f"an item of the list ({item.text}) has a variable size",
                "Give what is in an item a bound: MaxBytes, Shape or MaxLen.",
            )
        return item

    def reject_bound(self, what: str, instead: str) -> NoReturn:
        """Raise the error for a bound that does not belong on `what`."""
        self.reject(f"{self.bound!r} does not belong on {what}", f"Write {instead}.")


def reject_declaration(where: str, problem: str, instead: str) -> NoReturn:
    """Raise the `DeclarationError` for the declaration at `where`, which is `Class` or `Class.field`."""
    type_name, _, name = where.partition(".")
    raise DeclarationError(f"{where}: {problem}. {instead}", type_name=type_name, field=name or None)


def annotation_text(annotation: Any) -> str:
    """An annotation as a user wrote it, for error texts."""
    if inspect.isclass(annotation) and not get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


# --- what a kind reads: a stored schema ---


@dataclass(frozen=True, slots=True)
class StoredNode:
    """One part of a stored schema, which is not to be trusted: every access checks what it finds.

    `facts` is its `x-zeroslot`. `node_of` gives the node of a part.
    """

    schema: dict[str, Any]
    facts: dict[str, Any]
    where: str
    depth: int
    node_of: Callable[[StoredNode], Node]

    @classmethod
    def checked(cls, value: Any, where: str, depth: int, node_of: Callable[[StoredNode], Node]) -> Self:
        """The part that `value` is, if it is one."""
        if depth > NESTING_LIMIT:
            reject_schema(where, f"is nested deeper than {NESTING_LIMIT}")
        schema = checked_object(value, where)
        return cls(schema, checked_object(schema.get("x-zeroslot"), f"{where}: x-zeroslot"), where, depth, node_of)

    @property
    def kind(self) -> str | None:
        """The kind that its facts name."""
        kind = self.facts.get("kind")
        return kind if isinstance(kind, str) else None

    def inner(self, value: Any, where: str | None = None) -> StoredNode:
        """The part that `value` is, inside this one."""
        return self.checked(value, where or self.where, self.depth + 1, self.node_of)

    def node(self) -> Node:
        """The node of this part."""
        return self.node_of(self)

    def item(self) -> Node:
        """The node of the items of a stored list."""
        item = self.inner(self.schema.get("items")).node()
        if item.size == 0:
            self.reject("is a list of nothing")
        if item.variable:
            self.reject("is a list of items of variable size")
        return item

    def integer(self, key: str, low: int = 0, high: int = SIZE_LIMIT) -> int:
        """The whole number under `key` of the facts."""
        return checked_integer(self.facts.get(key), f"{self.where}: {key}", low, high)

    def dims(self, shape: Any = None) -> tuple[int, ...]:
        """The shape, or another one that is checked as such."""
        value = self.facts.get("shape") if shape is None else shape
        if not isinstance(value, list) or not 0 < len(value) <= DIMS_LIMIT:
            self.reject("has no shape")
        return tuple(checked_integer(dim, f"{self.where}: shape", 1, SIZE_LIMIT) for dim in value)

    def reject(self, problem: str) -> NoReturn:
        """Raise the `FormatError` for this part."""
        reject_schema(self.where, problem)


def reject_schema(where: str, problem: str) -> NoReturn:
    """Raise the `FormatError` for a stored schema."""
    raise FormatError(
        f"In the schema, {where} {problem}. The segment is damaged or was written by another version.",
        where=f"the schema: {where}",
    )


def shortened(value: Any) -> str:
    """A few characters of anything. Not repr(): the value may be deep, or an int with too many digits to print."""
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, int) and value.bit_length() <= 64:
        return str(value)
    return f"a value of type {type(value).__name__}"


def checked_object(value: Any, where: str) -> dict[str, Any]:
    """`value`, if it is a JSON object."""
    if not isinstance(value, dict):
        reject_schema(where, "is not an object")
    return value


def checked_integer(value: Any, where: str, low: int, high: int) -> int:
    """`value`, if it is a whole number in this range."""
    if type(value) is not int or not low <= value <= high:
        reject_schema(where, f"is {shortened(value)}, not a whole number from {low} to {high}")
    return value


def checked_name(value: Any, where: str) -> str:
    """`value`, if a field or enumerator may be called this."""
    if type(value) is not str or not is_name(value):
        reject_schema(where, f"is no name ({shortened(value)})")
    return value


# --- what a kind writes: IDL and C ---


class Declarator(NamedTuple):
    """How IDL or C declares a member: `before type member[dims];`."""

    type: str
    dims: tuple[int, ...] = ()
    before: str = ""


class ScalarNames(Protocol):
    """What a writer reads of a scalar kind."""

    @property
    def kind(self) -> str: ...
    @property
    def idl(self) -> str: ...
    @property
    def idl_note(self) -> str: ...
    @property
    def idl_message(self) -> str: ...
    @property
    def c(self) -> str: ...


class TypeWriter(Protocol):
    """A document in IDL or C, to which nodes add the types that they need. See zeroslot.types.export.writer."""

    message: bool
    """Whether the document says what a value means (strings, sequences, optionals), and not what lies in memory."""

    @abstractmethod
    def scalar(self, scalar: ScalarNames) -> Declarator:
        """Declare a number or truth value."""

    @abstractmethod
    def struct(self, record: Record) -> Declarator:
        """Define a struct that the declaration names: `record.tag`."""

    @abstractmethod
    def helper(self, record: Record) -> Declarator:
        """Define a struct for what the declaration leaves unnamed."""

    @abstractmethod
    def enumeration(self, number: ScalarNames, name: str, members: tuple[tuple[str, int], ...]) -> Declarator:
        """Define an enumeration."""

    @abstractmethod
    def item(self, node: Node) -> Declarator:
        """Declare an item of an array, where IDL allows no annotations."""

    @abstractmethod
    def element(self, node: Node) -> str:
        """Declare an element of a sequence, where IDL allows no annotations and no dims."""
