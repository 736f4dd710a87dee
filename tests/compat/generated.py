"""Declarations that follow from the tables of FORMAT.md: `make generated` writes them, and the vectors, again.

These are the structures, constants and sections of `segment.idl`, and the records in the stub of the binding. Their
files are written by hand around them. A test compares what is there with what would be written.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.compat import document, make_vectors
from tests.compat.document import Member

ROOT = Path(__file__).parents[2]
IDL = ROOT / "idl" / "zeroslot" / "segment.idl"
STUB = ROOT / "zeroslot" / "_core" / "binding.pyi"
IDL_TYPES = {"u8": "octet", "u16": "unsigned short", "u32": "unsigned long", "u64": "unsigned long long"}
DIMS = {"section_at": "SECTION_COUNT", "latency": "LATENCY_BUCKETS"}  # the others are numbers
RECORDS = {"SegmentInfo": "Header", "PeerInfo": "Peer", "PoolInfo": "Pool", "Counters": "Counters"}


def idl_member(member: Member) -> str:
    """One line of a struct of segment.idl."""
    dims = f"[{DIMS.get(member.name, member.count)}]" if member.is_array else ""
    declared = f"{IDL_TYPES[member.type]} {member.name}{dims};"
    return f"        {declared:51} // @{member.offset} size {member.size}\n"


def idl_constant(name: str, value: int) -> str:
    """One constant of segment.idl."""
    return f"    const unsigned long{' long' if value >= 2**32 else ''} {name} = {value};\n"


def idl() -> str:
    """segment.idl with its constants, sections and structures as FORMAT.md has them."""
    text = IDL.read_text("utf-8")
    constants = "".join(idl_constant(*each) for each in document.CONSTANTS.items())
    text = re.sub(r"(    const [^\n]*\n)+", lambda _: constants, text, count=1)
    sections = ",\n".join(f"        @value({i}) {name}" for i, name in enumerate(document.SECTIONS))
    text = re.sub(r"(?<=enum Section \{\n).*?(?=\n    \};)", lambda _: sections, text, flags=re.DOTALL)
    for structure in document.STRUCTURES:
        lines = "".join(idl_member(each) for each in document.members(structure).values())
        body = f"struct {structure} {{\n{lines}    }}; // {document.SIZES[structure]} bytes"
        text = re.sub(rf"struct {structure} \{{.*?\}}; // \d+ bytes", lambda _, body=body: body, text, flags=re.DOTALL)
    return text


def stub_type(member: Member) -> str:
    """The Python type of a member's value."""
    if member.type == "u8":
        return "str" if member.name.endswith("name") else "bytes"
    return "int" if member.count == 1 else "tuple[int, ...]"


def stub() -> str:
    """binding.pyi with its records as FORMAT.md has the structures. Those of a header have defaults."""
    text = STUB.read_text("utf-8")
    for record, structure in RECORDS.items():
        default = " = ..." if structure == "Header" else ""
        lines = "".join(
            f"    {each.name}: {stub_type(each)}{default}\n"
            for each in document.members(structure).values()
            if not each.name.startswith("reserved")
        )
        text = re.sub(rf"(?<=class {record}\(NamedTuple\):\n)(    \w+: [^\n]*\n)+", lambda _, lines=lines: lines, text)
    return text


def files() -> dict[Path, bytes]:
    """All generated files."""
    return {IDL: idl().encode(), STUB: stub().encode()}


def main() -> None:
    """Write them, and the vectors."""
    for path, content in files().items():
        path.write_bytes(content)
    make_vectors.main()


if __name__ == "__main__":
    main()
