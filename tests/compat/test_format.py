"""FORMAT.md, segment.idl and zs_layout.h say the same, and a segment is what they say."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.compat import stranger

ROOT = Path(__file__).parents[2]
CORE = ROOT / "zeroslot" / "_core"
GOLDEN = Path(__file__).with_name("golden.hex")
STRUCTURES = ["Header", "Counters", "Peer", "Slot", "Pool"]
SIZES = {"Header": 384, "Counters": 128, "Peer": 768, "Slot": 64, "Pool": 64}
FIRST = 2**48 - 1
LINES = [b"one", b"two", b"", b"the fourth sample"]


class Member(NamedTuple):
    name: str
    type: str
    count: int
    offset: int
    size: int


def header_text() -> str:
    return (CORE / "zs_layout.h").read_text("utf-8")


def in_header(structure: str) -> list[Member]:
    """The members of an X-macro table of zs_layout.h."""
    text = header_text()
    body = re.search(rf"#define ZS_{structure.upper()}_FIELDS\(X\)(.*?)\n#define", text, re.DOTALL)[1]
    body = body.replace("ZS_SECTION_COUNT", "15").replace("ZS_LATENCY_BUCKETS", "128")
    return [
        Member(name, {"uint8_t": "u8", "uint32_t": "u32", "uint64_t": "u64"}[kind], int(count or 1), int(at), int(size))
        for kind, name, count, at, size in re.findall(r"X\((\w+), (\w+), (?:\[(\d+)\])?, (\d+), (\d+)\)", body)
    ]


def section_of(title: str) -> str:
    text = (ROOT / "idl" / "FORMAT.md").read_text("utf-8")
    return re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)[1]


def in_document(structure: str) -> list[Member]:
    """The members of a table of FORMAT.md."""
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (u\d+)(?:\[(\d+)\])? \| (\w+) \|", section_of(structure), re.MULTILINE)
    return [Member(name, kind, int(count or 1), int(at), int(size)) for at, size, kind, count, name in rows]


def idl_text() -> str:
    return (ROOT / "idl" / "zeroslot" / "segment.idl").read_text("utf-8")


def in_idl(structure: str) -> list[Member]:
    """The members of a struct of segment.idl."""
    text = idl_text().replace("SECTION_COUNT]", "15]").replace("LATENCY_BUCKETS]", "128]")
    body = re.search(rf"struct {structure} \{{(.*?)\}};", text, re.DOTALL)[1]
    kinds = {"octet": "u8", "unsigned long": "u32", "unsigned long long": "u64"}
    return [
        Member(name, kinds[kind], int(count or 1), int(at), int(size))
        for kind, name, count, at, size in re.findall(
            r"^ +([a-z ]+?) (\w+)(?:\[(\d+)\])?; +// @(\d+) size (\d+)$", body, re.MULTILINE
        )
    ]


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
    """No gap, no overlap, natural alignment, and the size that all three name."""
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
    """Limits and alignments of all three."""
    document = {
        name: int(value)
        for name, value in re.findall(r"^\| ([A-Z_]+) \| (\d+) \|$", section_of("Constants"), re.MULTILINE)
    }
    idl = {name: int(value) for name, value in re.findall(r"const unsigned long(?: long)? (\w+) = (\d+);", idl_text())}
    header = {}
    for name, value in re.findall(r"^#define ZS_(\w+) (\(?[^\n]+)$", header_text(), re.MULTILINE):
        if name in document:
            header[name] = eval(re.sub(r"UINT64_C\((\d+)\)", r"\1", value.rstrip("u")), {})
    assert document == idl == header
    assert len(document) == 10


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
    document = (ROOT / "idl" / "FORMAT.md").read_text("utf-8")
    if enum == "Section":
        table = re.search(r"^## 3\. .*?(?=^## 4)", document, re.DOTALL | re.MULTILINE)[0]
        assert [(int(i), name) for i, name in re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", table, re.MULTILINE)] == idl
    else:
        field = {"State": "state", "Policy": "policy", "Payload": "payload_kind"}[enum]
        row = re.search(rf"\| {field} \| ([^|]*) \|", section_of("Header"))[1]
        assert [(int(value), name) for value, name in re.findall(r"\b(\d+) ([A-Z]+)\b", row)] == idl


def test_the_magic_is_the_same():
    """Eight bytes, in the document as in the header and in the stranger."""
    row = re.search(r"\| magic \| ([0-9A-F ]{23})", section_of("Header"))[1]
    header = re.search(r"zs_magic\[8\] = \{([^}]*)\}", header_text())[1]
    assert bytes.fromhex(row) == bytes(int(byte, 16) for byte in header.split(",")) == stranger.MAGIC


# --- segments ---


@pytest.fixture(scope="session")
def golden_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/compat/golden.c, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    program = tmp_path_factory.mktemp("golden") / "golden"
    source = Path(__file__).with_name("golden.c")
    subprocess.run(
        [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{CORE}", source, "-o", program], check=True
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
    """Format 1 is these bytes. Whoever changes them makes another format."""
    assert [publish(golden, line) for line in LINES] == [FIRST + i for i in range(4)]
    golden.stdin.close()
    assert golden.wait() == 0
    assert hex_dump((tmp_path / "control").read_bytes()) == GOLDEN.read_text("ascii")


@pytest.mark.row("SEG-2", "SEG-8", "TYP-6")
def test_a_stranger_reads_a_live_segment(golden, tmp_path):
    """FORMAT.md is enough to read with: header, schema, order, loss and the end, also across the wrap of the tags."""
    reader = stranger.Stranger(tmp_path / "control", [tmp_path / "pool"])
    assert reader.header["segment_id"] == 0x0123456789ABCDEF
    assert reader.schema() == ["Golden", "struct Golden { octet data[40]; };", '{"title": "Golden"}']
    assert reader.join() == 0
    assert reader.take() is None
    for i, line in enumerate(LINES):
        assert publish(golden, line) == FIRST + i
        sample = reader.take()
        assert (sample.sequence, sample.payload) == (FIRST + i, line)
        assert sample.published_ns == 3_000_000_000 + FIRST - 1 + i
        assert reader.take() is None
    for i in range(5):
        publish(golden, b"%d" % i)
    assert [reader.take().payload for _ in range(2)] == [b"3", b"4"]
    assert reader.lost == 3
    assert reader.state == stranger.OPEN
    golden.stdin.close()
    golden.wait()
    assert reader.state == stranger.SEALED
    assert reader.take() is None
    reader.leave()


def test_a_stranger_gets_the_history_that_it_asks_for(golden, tmp_path):
    """A late joiner begins as far back as section 7 says."""
    for line in LINES:
        publish(golden, line)
    for history, expected in [(0, []), (1, LINES[3:]), (2, LINES[2:])]:
        reader = stranger.Stranger(tmp_path / "control", [tmp_path / "pool"])
        reader.join(history)
        got = []
        while (sample := reader.take()) is not None:
            got.append(sample.payload)
        assert got == expected
        reader.leave()


@pytest.mark.row("SEG-4", "SEG-5", "SEG-6", "SEG-7", "SEC-4")
def test_the_document_rejects_what_the_core_rejects(golden, tmp_path):
    """Magic, format, header_size, state and sizes are told as FORMAT.md says."""
    original = (tmp_path / "control").read_bytes()
    size = len(original)
    stranger.check(original, size)
    members = {member.name: member for member in in_document("Header")}

    def changed(name: str, value: int) -> bytes:
        member = members[name]
        content = bytearray(original)
        struct.pack_into({"u8": "<B", "u32": "<I", "u64": "<Q"}[member.type], content, member.offset, value)
        return bytes(content)

    for name, value in [
        ("magic", 0),
        ("format", 2),
        ("header_size", 256),
        ("header_size", 385),
        ("control_size", size + 1),
        ("depth", 0),
        ("depth", 3),
        ("ring_capacity", 3),
        ("slot_limit", 65536),
        ("pool_limit", 17),
        ("max_subscribers", 0),
        ("reader_words", 1),
        ("first_sequence", 0),
        ("section_at", 0),
        ("schema_size", 2**32),
        ("slot_size", 64),
        ("slot_size", 144),
        ("peer_size", 640),
        ("readers_at", 48),
        ("readers_at", 120),
        ("incompat", 1),
        ("policy", 3),
    ]:
        with pytest.raises(stranger.NotASegmentError):
            stranger.check(changed(name, value), size)
    with pytest.raises(stranger.NotASegmentError):
        stranger.check(original, size - 128)
    (tmp_path / "unfinished").write_bytes(changed("state", stranger.CREATING))
    with pytest.raises(stranger.NotASegmentError):
        stranger.Stranger(tmp_path / "unfinished", [tmp_path / "pool"])


@pytest.mark.row("SEG-1", "SEG-2", "SEG-11", "DIS-1")
def test_a_stranger_reads_what_zeroslot_publishes(tmp_path):
    """The library writes the format that the document describes, found through its flink."""
    import zeroslot as zs

    flink = tmp_path / "link.flink"
    with zs.SlotAllocator.create(flink, 6, 100) as allocator:
        control = stranger.control_path(flink)
        reader = stranger.Stranger(control, [control.with_name(control.name + "-p0")])
        assert f"{reader.header['segment_id']:016x}" == control.name.removeprefix("zs-")
        reader.join()
        for text in [b"one", b"", b"x" * 100]:
            slot = allocator.reserve()
            sequence = allocator.commit(slot, text)
            sample = reader.take()
            assert (sample.sequence, sample.payload) == (sequence, text)
        assert allocator.commit(allocator.reserve(7)) == reader.published
        reader.leave()
    assert not flink.exists()
    assert not control.exists()


@pytest.mark.row("TYP-6")
def test_a_stranger_reads_the_schema_that_zeroslot_writes():
    """The schema section is packed as section 8 says, and the hash is that of the canonical text."""
    import zeroslot as zs
    from zeroslot import schema

    class Stranger(zs.Sample):
        stamp_ns: zs.U64

    found = zs.layout_of(Stranger)
    packed = schema.pack_schema(found, "the IDL")
    lengths = struct.unpack_from("<3I", packed)
    assert 12 + sum(lengths) == len(packed)
    assert packed[12 : 12 + lengths[0]] == b"Stranger"
    assert packed[12 + lengths[0] :][: lengths[1]] == b"the IDL"
    assert found.type_hash == hashlib.sha256(b"struct(8,8){stamp_ns@0:u64}").digest()[:16]
