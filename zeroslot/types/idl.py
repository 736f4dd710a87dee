"""A layout as OMG IDL 4.2 and as a C header.

Why IDL has two forms: "image" says what lies in memory, padding included, so that plain little-endian CDR of it is
the image; "message" says what the type means (strings, sequences, optionals), which recorders and bridges emit. For a
plain layout the two carry the same bytes.

Why names change: C, C++ and IDL have keywords that Python lets a field have. IDL has its own escape, a leading
underscore; C gets a trailing one. IDL also holds two names for one when only their case differs, so the second of
them gets a trailing underscore.

Why an enum is an IDL enum only where it is i32 without negative values: that is the one kind that every IDL compiler
encodes in four bytes. Others become a typedef of their integer with constants.

Why padding is `_pad0` in IDL too: its parsers read that as the escaped name pad0, which is a name like any other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from zeroslot.types.fields import (
    Array,
    Blob,
    BoundedList,
    Enumeration,
    FixedList,
    Node,
    Optional,
    Scalar,
    Struct,
    Text,
)
from zeroslot.types.layout import StructLayout, nested_layout

IDL_TYPES = {
    "u8": "octet", "u16": "unsigned short", "u32": "unsigned long", "u64": "unsigned long long",
    "i8": "int8", "i16": "short", "i32": "long", "i64": "long long",
    "f16": "unsigned short", "f32": "float", "f64": "double", "bool": "boolean",
}  # fmt: skip  # a table
MESSAGE_TYPES = {**IDL_TYPES, "f16": "float"}
C_TYPES = {
    "u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t",
    "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t",
    "f16": "uint16_t", "f32": "float", "f64": "double", "bool": "uint8_t",
}  # fmt: skip  # a table

# OMG IDL 4.2, table 7-6. The language compares them without case.
_IDL_KEYWORDS_TEXT = """
abstract any alias attribute bitfield bitmask bitset boolean case char component connector const consumes context
custom default double emits enum eventtype exception factory false finder fixed float getraises home import in inout
int8 int16 int32 int64 interface local long manages map mirrorport module multiple native object octet oneway out
port porttype primarykey private provides public publishes raises readonly sequence setraises short string struct
supports switch true truncatable typedef typeid typename typeprefix uint8 uint16 uint32 uint64 union unsigned uses
valuebase valuetype void wchar wstring
"""
IDL_KEYWORDS = frozenset(_IDL_KEYWORDS_TEXT.split())

# C11 to C23, C++17 to C++20, and what compilers and the included headers define as macros or types.
_C_KEYWORDS_TEXT = """
alignas alignof and and_eq asm assert auto bitand bitor bool break case catch char char8_t char16_t char32_t
class co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype
default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int
long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast struct switch
template this thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned using virtual
void volatile wchar_t while xor xor_eq linux unix i386 NULL NDEBUG offsetof size_t ptrdiff_t max_align_t nullptr_t
errno
"""
C_KEYWORDS = frozenset(_C_KEYWORDS_TEXT.split())
_C_RESERVED = re.compile(r"u?int\w*_t|(U?INT|SIZE|PTRDIFF|WCHAR|WINT|SIG_ATOMIC)\w*_(MIN|MAX|C|WIDTH)")


def to_idl(layout: StructLayout, form: Literal["image", "message"] = "image") -> str:
    """OMG IDL 4.2 of the layout: nested types first, the type itself last."""
    if form not in {"image", "message"}:
        raise ValueError(f'form is {form!r}, not "image" or "message"')
    document = _Image() if form == "image" else _Message()
    document.struct_of(layout)
    bytes_text = f"{layout.size} bytes, alignment {layout.alignment}, " if form == "image" else ""
    head = f"// {_in_comment(layout.name)}, {form} form: {bytes_text}type hash {layout.type_hash.hex()}\n"
    return "\n".join([head, *document.blocks])


def to_c(layout: StructLayout) -> str:
    """A header for C11 and C++17 with the layout as a struct; it does not compile where an offset would differ.

    Bools are uint8_t (0 or 1), F16 is uint16_t (IEEE 754 binary16). C has no struct without members: those of a unit
    type are left out, and a unit type itself is only a comment.
    """
    document = _C()
    name = document.struct_of(layout)
    facts = f"{layout.size} bytes, alignment {layout.alignment}, type hash {layout.type_hash.hex()}"
    guard = f"ZEROSLOT_{name.upper()}_{layout.type_hash.hex()[:8].upper()}_H"
    return "\n".join(
        [
            f"/* {_in_comment(layout.name)}: {facts} */",
            f"#ifndef {guard}",
            f"#define {guard}\n",
            "#include <assert.h>",
            "#include <stddef.h>",
            "#include <stdint.h>\n",
            *document.blocks,
            f"#endif /* {guard} */\n",
        ]
    )


def _in_comment(name: str) -> str:
    # The name of a type may hold anything printable, such as the end of a comment.
    return re.sub(r"[*/\\]", "?", name)


@dataclass(slots=True)
class _Member:
    """One line of a struct: `before type name[dims]`."""

    name: str
    type: str
    dims: tuple[int, ...]
    offset: int
    size: int
    before: str = ""
    padding: bool = False


@dataclass
class _Scope:
    """Names that are taken. `folds` where two names that differ in case only are one."""

    folds: bool
    taken: set[str] = field(default_factory=set)

    def pick(self, wanted: str, *, meaning: str | None = None) -> str:
        """`wanted`, with underscores appended until nobody has it. `meaning` is what the language reads for it."""
        spare = ""
        while (key := self._key((meaning or wanted) + spare)) in self.taken:
            spare += "_"
        self.taken.add(key)
        return wanted + spare

    def _key(self, name: str) -> str:
        return name.lower() if self.folds else name


class _Image:
    """Writes the image form in IDL. A C header is the same document in other words."""

    types = IDL_TYPES
    folds = True
    helper_prefix = ""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.names: dict[object, str] = {}
        self.scope = _Scope(self.folds)

    # What the languages say differently.

    def escaped(self, name: str) -> str:
        return f"_{name}" if name.lower() in IDL_KEYWORDS else name

    def write_struct(self, name: str, members: list[_Member], size: int) -> None:  # noqa: ARG002  # C asserts it
        lines = [f"    {m.before}{m.type} {m.name}{''.join(f'[{dim}]' for dim in m.dims)};\n" for m in members]
        self.blocks.append(f"@final\nstruct {name} {{\n{''.join(lines)}}};\n")

    def write_enumeration(self, name: str, node: Enumeration) -> None:
        values = [value for _, value in node.members]
        if node.kind == "i32" and values[0] >= 0:
            names = [self._enumerator(name, member) for member, _ in node.members]
            lines = [f"    @value({value}) {each}" for each, value in zip(names, values, strict=True)]
            self.blocks.append(f"enum {name} {{\n" + ",\n".join(lines) + "\n};\n")
        else:
            lines = [
                f"const {self.types[node.kind]} {self.scope.pick(f'{name}_{member}')} = {value};\n"
                for member, value in node.members
            ]
            self.blocks.append(f"typedef {self.types[node.kind]} {name};\n{''.join(lines)}")

    def _enumerator(self, name: str, member: str) -> str:
        # Enumerators live beside the types. The bare name is kept where it is free.
        bare = member.lower() not in self.scope.taken
        return self.escaped(self.scope.pick(member if bare else f"{name}_{member}"))

    # What they say alike.

    def named(self, key: object, wanted: str) -> tuple[str, bool]:
        """The name under which `key` is or will be defined, and whether it is new."""
        if key in self.names:
            return self.names[key], False
        name = self.escaped(re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_") or "Type")
        name = self.scope.pick(f"T{name}" if name[0].isdigit() else name)
        self.names[key] = name
        return name, True

    def struct_of(self, layout: StructLayout) -> str:
        name, is_new = self.named((layout.name, layout.type_hash), layout.name)
        if is_new:
            self.struct(name, [(each.name, each.offset, each.node) for each in layout.members], layout.size)
        return name

    def helper(self, wanted: str, members: list[tuple[str, int, Node]], size: int, key: object) -> str:
        name, is_new = self.named(key, self.helper_prefix + wanted)
        if is_new:
            self.struct(name, members, size)
        return name

    def struct(self, name: str, declared: Iterable[tuple[str, int, Node]], size: int) -> None:
        declared = list(declared)
        typed = [self.type_of(node) for _, _, node in declared]  # defines the nested types first
        scope = _Scope(self.folds)
        scope.taken.update(self.names.values() if not self.folds else ())
        members = []
        for (wanted, offset, node), (before, type_name, dims) in zip(declared, typed, strict=True):
            member_name = self.member_name(scope, wanted)
            members.append(_Member(member_name, type_name, dims, offset, node.size, before))
        self.write_struct(name, self.padded(members, size, scope), size)

    def member_name(self, scope: _Scope, wanted: str) -> str:
        return self.escaped(scope.pick(wanted))

    def padded(self, members: list[_Member], size: int, scope: _Scope) -> list[_Member]:
        result: list[_Member] = []
        end = count = 0
        for member in [*members, None]:
            start = size if member is None else member.offset
            if start > end:
                meaning = f"pad{count}" if self.folds else f"_pad{count}"
                pad = scope.pick(f"_pad{count}", meaning=meaning)
                result.append(_Member(pad, self.types["u8"], (start - end,), end, start - end, padding=True))
                count += 1
            if member is not None:
                result.append(member)
                end = member.offset + member.size
        return result

    def type_of(self, node: Node) -> tuple[str, str, tuple[int, ...]]:
        """(what stands before, the type, the dims) of a member of this kind."""
        match node:
            case Scalar("f16"):
                return self.f16_note, self.types["f16"], ()
            case Scalar(kind):
                return "", self.types[kind], ()
            case Array(item, shape):
                before, name, _ = self.type_of(item)
                return before, name, shape
            case Enumeration(name=wanted):
                name, is_new = self.named((wanted, node), wanted)
                if is_new:
                    self.write_enumeration(name, node)
                return "", name, ()
            case Struct():
                return "", self.struct_of(nested_layout(node)), ()
            case FixedList(item, length):
                before, name, dims = self.type_of(item)
                return before, name, (length, *dims)
            case _:
                return self.variable_type_of(node)

    f16_note = "@float16 "

    def variable_type_of(self, node: Text | Blob | BoundedList | Optional) -> tuple[str, str, tuple[int, ...]]:
        u32 = Scalar("u32")
        members: list[tuple[str, int, Node]] = []
        match node:
            case Text(max_bytes) | Blob(max_bytes):
                members += [("length", 0, u32), ("data", 4, Array(Scalar("u8"), (max_bytes,)))]
            case BoundedList(item, max_len):
                members += [("count", 0, u32), ("items", node.items_at, FixedList(item, max_len))]
            case Optional(item):
                members += [("present", 0, Scalar("bool")), ("value", node.item_at, item)]
        return "", self.helper(_tag(node), members, node.size, (type(node), node)), ()


class _Message(_Image):
    """Writes the message form in IDL."""

    types = MESSAGE_TYPES
    f16_note = ""

    def padded(self, members: list[_Member], size: int, scope: _Scope) -> list[_Member]:  # noqa: ARG002  # as above
        return members

    def variable_type_of(self, node: Text | Blob | BoundedList | Optional) -> tuple[str, str, tuple[int, ...]]:
        match node:
            case Text(max_bytes):
                return "", f"string<{max_bytes}>", ()
            case Blob(max_bytes):
                return "", f"sequence<octet, {max_bytes}>", ()
            case BoundedList(item, max_len):
                return "", f"sequence<{self.element_of(item)}, {max_len}>", ()
            case Optional(item):
                _, name, dims = self.type_of(item)
                return "@optional ", name, dims

    def type_of(self, node: Node) -> tuple[str, str, tuple[int, ...]]:
        if isinstance(node, FixedList):
            name, dims = self.item_of(node.item)
            return "", name, (node.length, *dims)
        return super().type_of(node)

    def item_of(self, item: Node) -> tuple[str, tuple[int, ...]]:
        """The type and dims of one item of an array or sequence. IDL makes members optional, not items: those get a
        struct.
        """
        before, name, dims = self.type_of(item)
        if before:
            return self.helper(_tag(item), [("value", 0, item)], item.size, (type(item), item)), ()
        return name, dims

    def element_of(self, item: Node) -> str:
        """A type name for one element of a sequence, where IDL allows no dims either."""
        name, dims = self.item_of(item)
        if not dims:
            return name
        alias, is_new = self.named(("typedef", item), _tag(item))
        if is_new:
            self.blocks.append(f"typedef {name} {alias}{''.join(f'[{dim}]' for dim in dims)};\n")
        return alias


class _C(_Image):
    """Writes a C header."""

    types = C_TYPES
    folds = False
    helper_prefix = "zs_"
    f16_note = ""

    def escaped(self, name: str) -> str:
        return f"{name}_" if name in C_KEYWORDS or _C_RESERVED.fullmatch(name) else name

    def member_name(self, scope: _Scope, wanted: str) -> str:
        return scope.pick(self.escaped(wanted))

    def write_struct(self, name: str, members: list[_Member], size: int) -> None:
        present = [member for member in members if member.size]
        if not present:
            self.blocks.append(f"/* {name} has no members; it takes no bytes. */\n")
            return
        lines = [f"    {m.type} {m.name}{''.join(f'[{dim}]' for dim in m.dims)};\n" for m in present]
        checks = [f'static_assert(sizeof({name}) == {size}, "size of {name}");\n']
        checks += [
            f'static_assert(offsetof({name}, {m.name}) == {m.offset}, "offset of {name}.{m.name}");\n' for m in present
        ]
        self.write_once(name, f"typedef struct {name} {{\n{''.join(lines)}}} {name};\n{''.join(checks)}")

    def write_enumeration(self, name: str, node: Enumeration) -> None:
        named = [(self.scope.pick(f"{name}_{member}"), value) for member, value in node.members]
        if all(-(2**31) < value < 2**31 for _, value in named):
            constants = "enum {\n" + ",\n".join(f"    {each} = {value}" for each, value in named) + "\n};\n"
        else:  # an enumeration constant of C11 is an int
            constants = "".join(f"#define {each} {_c_number(value)}\n" for each, value in named)
        self.write_once(name, f"typedef {self.types[node.kind]} {name};\n{constants}")

    def write_once(self, name: str, text: str) -> None:
        """Two headers may define the same type. Equal ones are defined once; different ones of one name collide."""
        guard = f"ZEROSLOT_TYPE_{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.blocks.append(f"#ifndef {guard}\n#define {guard}\n{text}#endif\n")


def _c_number(value: int) -> str:
    if value == -(2**63):
        return "(-INT64_C(9223372036854775807) - 1)"
    return f"(-INT64_C({-value}))" if value < 0 else f"UINT64_C({value})" if value >= 2**63 else f"INT64_C({value})"


def _tag(node: Node) -> str:
    """A name for what has none in the declaration, such as `list_f64_3_4` for at most four lists of three f64."""
    match node:
        case Scalar(kind):
            return kind
        case Enumeration(name=name):
            return name
        case Struct():
            return nested_layout(node).name
        case Text(max_bytes):
            return f"str_{max_bytes}"
        case Blob(max_bytes):
            return f"bytes_{max_bytes}"
        case Array(item, shape):
            return "_".join([item.kind, *map(str, shape)])
        case FixedList(item, length):
            return f"{_tag(item)}_{length}"
        case BoundedList(item, max_len):
            return f"list_{_tag(item)}_{max_len}"
        case Optional(item):
            return f"optional_{_tag(item)}"
