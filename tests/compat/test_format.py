"""FORMAT.md, segment.idl and zs_layout.h agree with each other, and with the bytes of a segment."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat import document, generated
from tests.compat.document import STRUCTURES, Member, section_of
from tests.compat.generated import IDL_TYPES

ROOT = Path(__file__).parents[2]
INCLUDE = ROOT / "zeroslot" / "_core" / "include" / "zeroslot"
GOLDEN = Path(__file__).with_name("golden.hex")
SIZES = {"Header": 384, "Counters": 128, "Peer": 768, "Slot": 64, "Pool": 64, "Metadata": 584, "Announcement": 128}
KINDS = {"uint8_t": "u8", "uint16_t": "u16", "uint32_t": "u32", "uint64_t": "u64"} | {
    idl: kind for kind, idl in IDL_TYPES.items()
}
FIRST = 2**48 - 1
LINES = [b"one", b"two", b"", b"the fourth sample"]


def header_text() -> str:
    return (INCLUDE / "zs_layout.h").read_text("utf-8")


def in_header(structure: str) -> list[Member]:
    """The members of an X-macro table of zs_layout.h."""
    text = header_text()
    body = re.search(rf"#define ZS_{structure.upper()}_FIELDS\(X\)(.*?)\n#define", text, re.DOTALL)[1]
    body = body.replace("ZS_SECTION_COUNT", "15").replace("ZS_LATENCY_BUCKETS", "128")
    return [
        Member(name, KINDS[kind], int(count or 1), int(at), int(size), bool(count))
        for kind, name, count, at, size in re.findall(r"X\((\w+), (\w+), (?:\[(\d+)\])?, (\d+), (\d+)\)", body)
    ]


def in_document(structure: str) -> list[Member]:
    """The members of a table of FORMAT.md."""
    return list(document.members(structure).values())


def idl_text() -> str:
    return (ROOT / "idl" / "zeroslot" / "segment.idl").read_text("utf-8")


def in_idl(structure: str) -> list[Member]:
    """The members of a struct of segment.idl."""
    text = idl_text().replace("SECTION_COUNT]", "15]").replace("LATENCY_BUCKETS]", "128]")
    body = re.search(rf"struct {structure} \{{(.*?)\}};", text, re.DOTALL)[1]
    return [
        Member(name, KINDS[kind], int(count or 1), int(at), int(size), bool(count))
        for kind, name, count, at, size in re.findall(
            r"^ +([a-z ]+?) (\w+)(?:\[(\d+)\])?; +// @(\d+) size (\d+)$", body, re.MULTILINE
        )
    ]


def test_declarations_are_those_that_the_document_generates():
    """The structures of segment.idl, and the records in the stub of the binding."""
    for path, content in generated.files().items():
        assert path.read_bytes() == content, f"{path.name}: make generated"


@pytest.mark.parametrize("structure", STRUCTURES)
def test_document_and_idl_and_header_have_the_same_members(structure):
    """Names, types, dimensions, offsets, sizes and order, member by member."""
    members = in_header(structure)
    assert in_document(structure) == members
    assert in_idl(structure) == members
    assert len(members) == len(
        re.findall(
            r"X\(", re.search(rf"#define ZS_{structure.upper()}_FIELDS\(X\)(.*?)\n#define", header_text(), re.DOTALL)[1]
        )
    )


@pytest.mark.parametrize("structure", STRUCTURES)
def test_members_add_up(structure):
    """No gap, no overlap, natural alignment, and the same size in all three."""
    end = 0
    for member in in_document(structure):
        width = int(member.type[1:]) // 8
        assert member.offset == end
        assert member.offset % width == 0
        assert member.size == width * member.count
        end += member.size
    assert end == SIZES[structure]
    assert f"#define ZS_{structure.upper()}_SIZE {end}u" in header_text()
    assert f"}}; // {end} bytes" in idl_text()
    assert f"{end} bytes" in section_of(structure)


def test_constants_are_the_same():
    """Limits and alignments are equal in all three."""
    constants = document.CONSTANTS
    idl = {name: int(value) for name, value in re.findall(r"const unsigned long(?: long)? (\w+) = (\d+);", idl_text())}
    header = {}
    for name, value in re.findall(r"^#define ZS_(\w+) (\(?[^\n]+)$", header_text(), re.MULTILINE):
        if name in constants:
            header[name] = eval(re.sub(r"UINT64_C\((\d+)\)", r"\1", value.rstrip("u")), {})
    assert constants == idl == header
    assert len(constants) == 10


@pytest.mark.parametrize("enum", ["State", "Policy", "Payload", "Section"])
def test_enumerations_are_the_same(enum):
    """Values and names of the enums; sections also in the order of the table of section 3."""
    idl = [
        (int(value), name)
        for value, name in re.findall(
            r"@value\((\d+)\) (\w+)", re.search(rf"enum {enum} \{{(.*?)\}};", idl_text(), re.DOTALL)[1]
        )
    ]
    body = re.search(rf"enum zs_{enum.lower()} \{{(.*?)\}};", header_text(), re.DOTALL)[1]
    names = [part.split("=")[0].strip() for part in body.split(",")]
    values = [int(part.split("=")[1]) if "=" in part else i for i, part in enumerate(body.split(","))]
    prefix = "ZS_AT_" if enum == "Section" else "ZS_"
    assert idl == [(value, name.removeprefix(prefix)) for value, name in zip(values, names, strict=True)]
    if enum == "Section":
        assert [name for _, name in idl] == document.SECTIONS
    else:
        field = {"State": "state", "Policy": "policy", "Payload": "payload_kind"}[enum]
        row = re.search(rf"\| {field} \| ([^|]*) \|", section_of("Header"))[1]
        assert [(int(value), name) for value, name in re.findall(r"\b(\d+) ([A-Z]+)\b", row)] == idl


def test_the_magic_is_the_same():
    """Eight bytes, in the document as in the header."""
    row = re.search(r"\| magic \| ([0-9A-F ]{23})", section_of("Header"))[1]
    header = re.search(r"zs_magic\[8\] = \{([^}]*)\}", header_text())[1]
    assert bytes.fromhex(row) == bytes(int(byte, 16) for byte in header.split(","))


# --- segments ---


@pytest.fixture(scope="session")
def golden_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/compat/golden.c, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    program = tmp_path_factory.mktemp("golden") / "golden"
    source = Path(__file__).with_name("golden.c")
    subprocess.run(
        [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{INCLUDE}", source, "-o", program], check=True
    )
    return program


@pytest.fixture
def golden(golden_program: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program with an open segment in tmp_path/control and tmp_path/pool."""
    command = [golden_program, tmp_path / "control", tmp_path / "pool"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()


def publish(process: subprocess.Popen[bytes], line: bytes) -> int:
    process.stdin.write(line + b"\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def hex_dump(content: bytes) -> str:
    """Lines of 32 bytes with their offset; runs of zeros are left out."""
    lines = [f"# {len(content)} bytes; what is not listed is zero"]
    for at in range(0, len(content), 32):
        row = content[at : at + 32]
        if any(row):
            lines.append(f"{at:06x}  {row.hex(' ', 8)}")
    return "\n".join(lines) + "\n"


@pytest.mark.row("SEG-4", "SEG-5", "SEG-7", "SEG-8")
def test_a_segment_has_the_golden_bytes(golden, tmp_path):
    """These bytes define format 1. Other bytes are another format."""
    assert [publish(golden, line) for line in LINES] == [FIRST + i for i in range(4)]
    golden.stdin.close()
    assert golden.wait() == 0
    assert hex_dump((tmp_path / "control").read_bytes()) == GOLDEN.read_text("ascii")


@pytest.mark.row("TYP-6")
def test_the_schema_section_is_packed_as_the_document_says():
    """Three lengths, and the three texts without gaps."""
    import zeroslot as zs
    from zeroslot.types import schema

    class Packed(zs.Sample):
        stamp_ns: zs.U64

    found = zs.layout_of(Packed)
    packed = schema.pack_schema(found)
    lengths = struct.unpack_from("<3I", packed)
    assert 12 + sum(lengths) == len(packed)
    assert packed[12 : 12 + lengths[0]] == b"Packed"
    assert packed[12 + lengths[0] :][: lengths[1]] == found.to_idl().encode()
    assert json.loads(packed[12 + lengths[0] + lengths[1] :]) == found.to_json_schema()
