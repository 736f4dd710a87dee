"""A record as OMG IDL 4.2, in two forms.

Why two forms: "image" says what lies in memory, padding included, so that plain little-endian CDR of it is the image;
"message" says what the type means (strings, sequences, optionals), which recorders and bridges emit. For a plain layout
the two carry the same bytes.

Why an enum is an IDL enum only where it is i32 without negative values: that is the one kind that every IDL compiler
encodes in four bytes. Others become a typedef of their integer with constants.

Why padding is `_pad0` in IDL too: its parsers read that as the escaped name pad0, which is a name like any other.
"""

from __future__ import annotations

from typing import Literal

from zeroslot.types.export.writer import Member, Scope, Writer, dims_text, in_comment
from zeroslot.types.nodes.base import Declarator, Node, Record, ScalarNames

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


def to_idl(record: Record, form: Literal["image", "message"] = "image") -> str:
    """OMG IDL 4.2 of a record: nested types first, the type itself last."""
    if form not in {"image", "message"}:
        raise ValueError(f'form is {form!r}, not "image" or "message"')
    document = Image() if form == "image" else Message()
    document.struct(record)
    bytes_text = f"{record.size} bytes, alignment {record.alignment}, " if form == "image" else ""
    head = f"// {in_comment(record.tag)}, {form} form: {bytes_text}type hash {record.type_hash.hex()}\n"
    return "\n".join([head, *document.blocks])


class Image(Writer):
    """Writes the image form."""

    folds = True
    padding = Declarator("octet")

    def scalar(self, scalar: ScalarNames) -> Declarator:
        """Its type."""
        return Declarator(scalar.idl, before=scalar.idl_note)

    def escaped(self, name: str) -> str:
        """`name`, with an underscore where it is a keyword."""
        return f"_{name}" if name.lower() in IDL_KEYWORDS else name

    def member_name(self, scope: Scope, wanted: str) -> str:
        """The name of a member."""
        return self.escaped(scope.pick(wanted))

    def write_struct(self, name: str, members: list[Member], size: int) -> None:  # noqa: ARG002  # C asserts it
        """Append the definition of a struct."""
        lines = [f"    {member.declared.before}{member.line}" for member in members]
        self.blocks.append(f"@final\nstruct {name} {{\n{''.join(lines)}}};\n")

    def write_enumeration(self, name: str, number: ScalarNames, members: tuple[tuple[str, int], ...]) -> None:
        """Append the definition of an enumeration."""
        if number.kind == "i32" and members[0][1] >= 0:
            lines = [f"    @value({value}) {self._enumerator(name, member)}" for member, value in members]
            self.blocks.append(f"enum {name} {{\n" + ",\n".join(lines) + "\n};\n")
        else:
            lines = [
                f"const {number.idl} {self.scope.pick(f'{name}_{member}')} = {value};\n" for member, value in members
            ]
            self.blocks.append(f"typedef {number.idl} {name};\n{''.join(lines)}")

    def _enumerator(self, name: str, member: str) -> str:
        # Enumerators live beside the types. The bare name is kept where it is free.
        bare = self.scope.key(member) not in self.scope.taken
        return self.escaped(self.scope.pick(member if bare else f"{name}_{member}"))


class Message(Image):
    """Writes the message form. IDL makes members optional, not items: those get a struct."""

    message = True

    def scalar(self, scalar: ScalarNames) -> Declarator:
        """Its type."""
        return Declarator(scalar.idl_message or scalar.idl)

    def item(self, node: Node) -> Declarator:
        """Declare an item of an array."""
        declared = node.declare(self)
        if not declared.before:
            return declared
        name, is_new = self.named((type(node), node), node.tag)
        if is_new:
            self.write_struct(name, [Member("value", declared, 0, node.size)], node.size)
        return Declarator(name)

    def element(self, node: Node) -> str:
        """Declare an element of a sequence, where IDL allows no dims either."""
        declared = self.item(node)
        if not declared.dims:
            return declared.type
        alias, is_new = self.named(("typedef", node), node.tag)
        if is_new:
            self.blocks.append(f"typedef {declared.type} {alias}{dims_text(declared.dims)};\n")
        return alias
