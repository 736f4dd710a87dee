"""Integers that have names: IntEnum, and Literal of ints."""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np

from zeroslot._core import binding
from zeroslot.types.names import TYPE_NAME_LIMIT, is_identifier, is_name, is_type_name, python_names
from zeroslot.types.nodes.base import (
    Declaration,
    Declarator,
    Inner,
    Node,
    Record,
    StoredNode,
    TypeWriter,
    annotation_text,
    checked_integer,
    checked_name,
    shortened,
)
from zeroslot.types.nodes.scalars import SCALARS, Scalar


@dataclass(frozen=True)
class Enumeration(Node):
    """An integer that has names, in the order of their values. `python_type` is the IntEnum, or None for a Literal and
    where only the schema is known.
    """

    written = "IntEnum"

    number: Scalar
    name: str = field(compare=False)
    members: tuple[tuple[str, int], ...]
    python_type: type[enum.IntEnum] | None = field(default=None, compare=False)

    @property
    def kind(self) -> str:
        return "enum"

    @property
    def is_array_item(self) -> bool:
        return True

    @property
    def plain(self) -> bool:
        return True

    @property
    def size(self) -> int:
        """That of its integer."""
        return self.number.size

    @property
    def alignment(self) -> int:
        """That of its integer."""
        return self.number.alignment

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.number.dtype

    @property
    def text(self) -> str:
        return self.name if self.number.kind == "i32" else f"{self.name}:{self.number.kind}"

    @property
    def tag(self) -> str:
        return self.name

    @cached_property
    def canonical(self) -> str:
        return f"enum({self.number.kind}){{{','.join(f'{name}={value}' for name, value in self.members)}}}"

    @classmethod
    def from_annotation(cls, declared: Declaration) -> Enumeration | None:
        base, bound = declared.base, declared.bound
        is_literal = declared.origin is Literal
        if not is_literal and not (isinstance(base, type) and issubclass(base, enum.Enum)):
            return None
        number = bound if isinstance(bound, Scalar) else SCALARS["i32"]
        if number.range is None or (bound is not None and number is not bound):
            declared.reject(f"{bound!r} cannot hold enumerators", "Choose an integer width, as in Annotated[Mode, U8].")
        python_type: type[Any] | None
        if is_literal:
            name, python_type, members = "Literal", None, _literal_members(declared)
        else:
            name, python_type, members = base.__name__, base, _enum_members(declared)
        if not members:
            declared.reject(f"{name} has no enumerators", "Give it at least one.")
        members.sort(key=operator.itemgetter(1))  # the order of declaration means nothing in memory
        low, high = number.range
        for member, value in members:
            if not is_name(member):
                declared.reject(
                    f"the enumerator {member!r} is not an ASCII identifier",
                    "Rename it; C and IDL must be able to say it.",
                )
            if not low <= value <= high:
                declared.reject(
                    f"{name}.{member} = {value} does not fit into {number.kind}",
                    "Choose a wider one, as in Annotated[Mode, I64].",
                )
        return cls(number, name, tuple(members), python_type)

    @classmethod
    def from_schema(cls, stored: StoredNode) -> Enumeration | None:
        if stored.kind != "enum":
            return None
        base, name, pairs = (stored.facts.get(key) for key in ("base", "name", "members"))
        number = SCALARS.get(base) if isinstance(base, str) else None
        if number is None or number.range is None or not isinstance(pairs, list) or not pairs:
            stored.reject("is an enum without a width or without enumerators")
        members: list[tuple[str, int]] = []
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2:
                stored.reject("has an enumerator that is not a name and a value")
            value = checked_integer(pair[1], stored.where, *number.range)
            members.append((checked_name(pair[0], stored.where), value))
        values = [value for _, value in members]
        if sorted(set(values)) != values or len(dict(members)) != len(members):
            stored.reject("has enumerators twice or out of order")
        if type(name) is not str or not is_type_name(name):
            stored.reject(f"is an enum without a name ({shortened(name)})")
        return cls(number, name, tuple(members))

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        values = [value for _, value in self.members]
        if self.name == "Literal" and list(self.members) == names_of_values(values):
            return Annotated[Literal[tuple(values)], self.number]
        return Annotated[self._make_enum(), self.number]

    def _make_enum(self) -> Any:
        names = python_names((name for name, _ in self.members), lambda each: is_identifier(each) and each != "mro")
        make: Any = enum.IntEnum  # mypy wants literals here
        made = make(self.name, [(names[name], value) for name, value in self.members])
        made.__zs_renamed__ = {new: old for old, new in names.items() if new != old}
        return made

    def json_schema(self) -> dict[str, Any]:
        facts = {
            "kind": "enum",
            "base": self.number.kind,
            "name": self.name,
            "members": [list(member) for member in self.members],
        }
        return {"type": "integer", "enum": [value for _, value in self.members], "x-zeroslot": facts}

    def declare(self, writer: TypeWriter) -> Declarator:
        return writer.enumeration(self.number, self.name, self.members)

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        values = {value: self.python_type(value) if self.python_type else value for _, value in self.members}
        return binding.EnumCodec(self.number.kind, self.name, values)

    def reading(self, published: Node, inner: Inner) -> Node | None:
        """An enum with no enumerator that this one lacks, of the same or a narrower integer."""
        if not isinstance(published, Enumeration) or not self.number.holds(published.number):
            return None
        if not set(published.members) <= set(self.members):
            return None
        return replace(published, name=self.name, python_type=self.python_type)


def names_of_values(values: Iterable[int]) -> list[tuple[str, int]]:
    """The enumerators that stand for the values of a Literal."""
    return [(f"VALUE_{value}" if value >= 0 else f"MINUS_{-value}", value) for value in values]


def _literal_members(declared: Declaration) -> list[tuple[str, int]]:
    if not all(type(value) is int for value in declared.arguments):
        declared.reject(
            f"{annotation_text(declared.base)} has values that are not ints",
            "Only a Literal of ints has a layout; for names use an IntEnum.",
        )
    return names_of_values(declared.arguments)


def _enum_members(declared: Declaration) -> list[tuple[str, int]]:
    base = declared.base
    if not issubclass(base, enum.IntEnum):
        declared.reject(f"{base.__name__} is not an IntEnum", "Derive it from enum.IntEnum; for flags use U32.")
    if not is_type_name(base.__name__):
        declared.reject(
            f"{base.__name__[:40]!r} is no name of a type",
            f"It must be printable and have at most {TYPE_NAME_LIMIT} characters.",
        )
    renamed = getattr(base, "__zs_renamed__", {})  # of an enum that was made from a schema
    return [(renamed.get(member.name, member.name), int(member)) for member in base]
