"""A record as a header for C11 and C++17."""

from __future__ import annotations

import hashlib
import re

from zeroslot.types.export.writer import Member, Scope, Writer, in_comment
from zeroslot.types.nodes.base import Declarator, Record, ScalarNames

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


def to_c(record: Record) -> str:
    """A header for C11 and C++17 with the record as a struct; it does not compile where an offset would differ.

    Bools are uint8_t (0 or 1), F16 is uint16_t (IEEE 754 binary16). C has no struct without members: those of a unit
    type are left out, and a unit type itself is only a comment.
    """
    document = Header()
    name = document.struct(record).type
    facts = f"{record.size} bytes, alignment {record.alignment}, type hash {record.type_hash.hex()}"
    guard = f"ZEROSLOT_{name.upper()}_{record.type_hash.hex()[:8].upper()}_H"
    return "\n".join(
        [
            f"/* {in_comment(record.tag)}: {facts} */",
            f"#ifndef {guard}",
            f"#define {guard}\n",
            "#include <assert.h>",
            "#include <stddef.h>",
            "#include <stdint.h>\n",
            *document.blocks,
            f"#endif /* {guard} */\n",
        ]
    )


class Header(Writer):
    """Writes a C header."""

    folds = False
    helper_prefix = "zs_"
    padding = Declarator("uint8_t")

    def scalar(self, scalar: ScalarNames) -> Declarator:
        """Its type."""
        return Declarator(scalar.c)

    def escaped(self, name: str) -> str:
        """`name`, with an underscore where it is a keyword."""
        return f"{name}_" if name in C_KEYWORDS or _C_RESERVED.fullmatch(name) else name

    def member_name(self, scope: Scope, wanted: str) -> str:
        """The name of a member."""
        return scope.pick(self.escaped(wanted))

    def write_struct(self, name: str, members: list[Member], size: int) -> None:
        """Append the definition of a struct."""
        present = [member for member in members if member.size]
        if not present:
            self.blocks.append(f"/* {name} has no members; it takes no bytes. */\n")
            return
        lines = [f"    {member.line}" for member in present]
        checks = [f'static_assert(sizeof({name}) == {size}, "size of {name}");\n']
        checks += [
            f'static_assert(offsetof({name}, {m.name}) == {m.offset}, "offset of {name}.{m.name}");\n' for m in present
        ]
        self.write_once(name, f"typedef struct {name} {{\n{''.join(lines)}}} {name};\n{''.join(checks)}")

    def write_enumeration(self, name: str, number: ScalarNames, members: tuple[tuple[str, int], ...]) -> None:
        """Append the definition of an enumeration."""
        named = [(self.scope.pick(f"{name}_{member}"), value) for member, value in members]
        if all(-(2**31) < value < 2**31 for _, value in named):
            constants = "enum {\n" + ",\n".join(f"    {each} = {value}" for each, value in named) + "\n};\n"
        else:  # an enumeration constant of C11 is an int
            constants = "".join(f"#define {each} {_number(value)}\n" for each, value in named)
        self.write_once(name, f"typedef {number.c} {name};\n{constants}")

    def write_once(self, name: str, text: str) -> None:
        """Two headers may define the same type. Equal ones are defined once; different ones of one name collide."""
        guard = f"ZEROSLOT_TYPE_{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.blocks.append(f"#ifndef {guard}\n#define {guard}\n{text}#endif\n")


def _number(value: int) -> str:
    if value == -(2**63):
        return "(-INT64_C(9223372036854775807) - 1)"
    return f"(-INT64_C({-value}))" if value < 0 else f"UINT64_C({value})" if value >= 2**63 else f"INT64_C({value})"
