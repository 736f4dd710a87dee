"""What documents in IDL and C have in common: types that are defined before they are used, and names that are free.

Why names change: C, C++ and IDL have keywords that Python lets a field have. IDL has its own escape, a leading
underscore; C gets a trailing one. IDL also holds two names for one when only their case differs, so the second of
them gets a trailing underscore.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from zeroslot.types.nodes.base import Declarator, Field, Node, Record, ScalarNames


@dataclass(slots=True)
class Member:
    """One line of a struct: `before type name[dims]`."""

    name: str
    declared: Declarator
    offset: int
    size: int

    @property
    def line(self) -> str:
        """The declaration, without what stands before it."""
        return f"{self.declared.type} {self.name}{dims_text(self.declared.dims)};\n"


def dims_text(dims: tuple[int, ...]) -> str:
    """`[2][3]`."""
    return "".join(f"[{dim}]" for dim in dims)


def in_comment(name: str) -> str:
    """The name of a type without the characters that could end a comment; it may hold anything printable."""
    return re.sub(r"[*/\\]", "?", name)


@dataclass
class Scope:
    """Names that are taken. `folds` where two names that differ in case only are one."""

    folds: bool
    taken: set[str] = field(default_factory=set)

    def pick(self, wanted: str, *, meaning: str | None = None) -> str:
        """`wanted`, with underscores appended until the name is free. `meaning` is what the language reads for it."""
        underscores = ""
        while (key := self.key((meaning or wanted) + underscores)) in self.taken:
            underscores += "_"
        self.taken.add(key)
        return wanted + underscores

    def key(self, name: str) -> str:
        """What is compared."""
        return name.lower() if self.folds else name


class Writer(ABC):
    """Writes the types that a record needs, nested ones first. `blocks` are the finished definitions."""

    message = False
    folds: bool
    helper_prefix = ""
    padding: Declarator
    """An octet of padding."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.names: dict[object, str] = {}
        self.scope = Scope(self.folds)

    # What each language says differently.

    @abstractmethod
    def scalar(self, scalar: ScalarNames) -> Declarator:
        """Declare a number or truth value."""

    @abstractmethod
    def escaped(self, name: str) -> str:
        """`name`, with an underscore where it is a keyword."""

    @abstractmethod
    def member_name(self, scope: Scope, wanted: str) -> str:
        """The name of a member."""

    @abstractmethod
    def write_struct(self, name: str, members: list[Member], size: int) -> None:
        """Append the definition of a struct."""

    @abstractmethod
    def write_enumeration(self, name: str, number: ScalarNames, members: tuple[tuple[str, int], ...]) -> None:
        """Append the definition of an enumeration."""

    # What they say alike.

    def named(self, key: object, wanted: str) -> tuple[str, bool]:
        """The name under which `key` is or will be defined, and whether it is new."""
        if key in self.names:
            return self.names[key], False
        name = self.escaped(re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_") or "Type")
        name = self.scope.pick(f"T{name}" if name[0].isdigit() else name)
        self.names[key] = name
        return name, True

    def struct(self, record: Record) -> Declarator:
        """Define a struct that the declaration names: `record.tag`."""
        name, is_new = self.named((record.tag, record.type_hash), record.tag)
        if is_new:
            self.define(name, record)
        return Declarator(name)

    def helper(self, record: Record) -> Declarator:
        """Define a struct for what the declaration leaves unnamed."""
        name, is_new = self.named((type(record), record), self.helper_prefix + record.tag)
        if is_new:
            self.define(name, record)
        return Declarator(name)

    def enumeration(self, number: ScalarNames, name: str, members: tuple[tuple[str, int], ...]) -> Declarator:
        """Define an enumeration."""
        name, is_new = self.named((name, number.kind, members), name)
        if is_new:
            self.write_enumeration(name, number, members)
        return Declarator(name)

    def item(self, node: Node) -> Declarator:
        """Declare an item of an array."""
        return node.declare(self)

    def element(self, node: Node) -> str:
        """Declare an element of a sequence, which the image form does not have."""
        raise NotImplementedError

    def define(self, name: str, record: Record) -> None:
        """Append the definition of a struct with the record's members, after that of their types."""
        declared = {member.name: member.node.declare(self) for member in record.members}
        scope = Scope(self.folds)
        scope.taken.update(self.names.values() if not self.folds else ())
        names = {member.name: self.member_name(scope, member.name) for member in record.members}
        members: list[Member] = []
        gap_count = 0
        for each in record.with_gaps():
            if isinstance(each, Field):
                members.append(Member(names[each.name], declared[each.name], each.offset, each.size))
            elif not self.message:
                meaning = f"pad{gap_count}" if self.folds else f"_pad{gap_count}"
                pad = scope.pick(f"_pad{gap_count}", meaning=meaning)
                members.append(Member(pad, self.padding._replace(dims=(each.size,)), each.offset, each.size))
                gap_count += 1
        self.write_struct(name, members, record.size)
