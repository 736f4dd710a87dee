"""Generates idl/vectors from the library: `make generated` writes the files.

`test_vectors.py` generates them in memory and compares, so every change of the format is noticed. Times, random numbers
and process ids are replaced by fixed values, so the result is the same on every machine.
"""

from __future__ import annotations

import enum
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs
from tests.compat import document
from zeroslot.types.nodes.scalars import SCALARS

VECTORS = Path(__file__).parents[2] / "idl" / "vectors"

# At least one declaration for each kind; `make` is a value of the type.
TYPES = {
    "Unit": """
        class Unit(zs.Sample):
            pass

        make = Unit()
    """,
    "Numbers": """
        class Numbers(zs.Sample):
            u8: zs.U8
            u16: zs.U16
            u32: zs.U32
            u64: zs.U64
            i8: zs.I8
            i16: zs.I16
            i32: zs.I32
            i64: zs.I64
            f16: zs.F16
            f32: zs.F32
            f64: zs.F64
            flag: zs.Bool

        make = Numbers(u8=1, u16=2, u32=3, u64=4, i8=-1, i16=-2, i32=-3, i64=-4, f16=0.5, f32=1.5, f64=-2.5, flag=True)
    """,
    "Enums": """
        class Mode(enum.IntEnum):
            RUN = 7
            STOP = -1

        class Enums(zs.Sample):
            mode: Mode
            small: Annotated[Mode, zs.I8]
            choice: Literal[3, 1]

        make = Enums(mode=Mode.RUN, small=Mode.STOP, choice=3)
    """,
    "Texts": """
        class Texts(zs.Sample):
            text: Annotated[str, zs.MaxBytes(5)]
            blob: Annotated[bytes, zs.MaxBytes(2)]

        make = Texts(text="a\\u00e9", blob=b"\\xff")
    """,
    "Arrays": """
        class Arrays(zs.Sample):
            grid: Annotated[NDArray[np.int16], zs.Shape(2, 3)]
            flags: Annotated[NDArray[np.bool_], zs.Shape(3)]
            half: Annotated[NDArray[np.float16], zs.Shape(1)]

        make = Arrays(
            grid=np.array([[1, 2, 3], [4, 5, 6]], np.int16),
            flags=np.array([True, False, True]),
            half=np.array([1.0], np.float16),
        )
    """,
    "BoundedArrays": """
        class BoundedArrays(zs.Sample):
            cloud: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(4), 3)]
            image: Annotated[NDArray[np.uint8], zs.Shape(zs.UpTo(2), zs.UpTo(3), 2)]
            line: Annotated[NDArray[np.float64], zs.Shape(zs.UpTo(2))]

        make = BoundedArrays(
            cloud=np.array([[1, 2, 3], [4, 5, 6]], np.float32),
            image=np.arange(4, dtype=np.uint8).reshape(2, 1, 2),
            line=np.zeros(0),
        )
    """,
    "Elements": """
        class Point(zs.Sample):
            x: zs.F32
            n: zs.U8

        class Elements(zs.Sample):
            signal: Annotated[NDArray[np.complex64], zs.Shape(2)]
            spectrum: Annotated[NDArray[np.complex128], zs.Shape(zs.UpTo(2))]
            times: Annotated[NDArray[np.datetime64], zs.Shape(2, dtype="datetime64[ns]")]
            waits: Annotated[NDArray[np.timedelta64], zs.Shape(zs.UpTo(2), dtype="timedelta64[ms]")]
            points: Annotated[NDArray[np.void], zs.Shape(2, dtype=Point)]
            some: Annotated[NDArray[np.void], zs.Shape(zs.UpTo(2), dtype=Point)]

        make = Elements(
            signal=np.array([1 + 2j, 3], np.complex64),
            spectrum=np.array([0.5j]),
            times=np.array(["2024-01-01", "NaT"], "datetime64[ns]"),
            waits=np.array([250], "timedelta64[ms]"),
            points=[{"x": 1, "n": 2}, {"x": 3, "n": 4}],
            some=[{"x": 5, "n": 6}],
        )
    """,
    "Lists": """
        class Lists(zs.Sample):
            fixed: Annotated[list[zs.U16], zs.Shape(3)]
            bounded: Annotated[list[zs.F64], zs.MaxLen(2)]
            tiny: Annotated[list[zs.U8], zs.MaxLen(3)]

        make = Lists(fixed=[1, 2, 3], bounded=[0.5], tiny=[9, 8])
    """,
    "Optionals": """
        class Optionals(zs.Sample):
            number: zs.U32 | None
            text: Annotated[str, zs.MaxBytes(3)] | None
            absent: zs.U64 | None

        make = Optionals(number=1, text="x", absent=None)
    """,
    "Nested": """
        class Point(zs.Sample):
            x: zs.F32
            y: zs.F32

        class Shape(zs.Sample):
            name: Annotated[str, zs.MaxBytes(4)]
            origin: Point
            corners: Annotated[list[Point], zs.MaxLen(2)]

        class Nested(zs.Sample):
            stamp_ns: zs.U64
            shapes: Annotated[list[Shape], zs.Shape(2)]
            last: Shape | None
            rows: Annotated[list[Annotated[list[zs.U8], zs.MaxLen(2)]], zs.MaxLen(2)]

        make = Nested(
            stamp_ns=5,
            shapes=[
                Shape(name="a", origin=Point(x=1, y=2), corners=[]),
                Shape(name="bc", origin=Point(x=3, y=4), corners=[Point(x=5, y=6)]),
            ],
            last=None,
            rows=[[1], [2, 3]],
        )
    """,
}

TYPES["Variables"] = """
        class Point(zs.Sample):
            x: zs.F32
            y: zs.F32

        class Inner(zs.Sample):
            name: str

        class Variables(zs.Sample):
            number: zs.U8
            image: NDArray[np.uint16]
            anything: NDArray[Any]
            text: str
            blob: bytes
            points: list[Point]
            inner: Inner
            maybe: NDArray[np.float64] | None
            absent: str | None

        make = Variables(
            number=1,
            image=np.array([[1, 2, 3], [4, 5, 6]], np.uint16),
            anything=np.array([1, -1], ">i4"),
            text="a\\u00e9",
            blob=b"",
            points=[Point(x=1, y=2), Point(x=3, y=4)],
            inner=Inner(name="in"),
            maybe=np.array(0.5),
            absent=None,
        )
"""

TYPES["Families"] = """
        class Families(zs.Sample):
            times: NDArray[np.datetime64]
            waits: Annotated[NDArray[np.timedelta64], zs.Shape(..., dtype="timedelta64[ms]")]
            values: NDArray[np.floating]
            records: NDArray[np.void]

        make = Families(
            times=np.array(["2024-01-01", "NaT"], "datetime64[s]"),
            waits=np.array([250], "timedelta64[ms]"),
            values=np.array([[0.5]], np.float16),
            records=np.array([(1, 2)], [("a", "<u1"), ("b", "<i4")]),
        )
"""

# A number that no declaration above has gets one of its own.
for _number in SCALARS.values():
    if f"zs.{_number}" not in "".join(TYPES.values()):
        TYPES[f"Of{_number}"] = f"""
        class Of{_number}(zs.Sample):
            value: zs.{_number}

        make = Of{_number}(value=1)
    """


def declared(name: str) -> tuple[type[zs.Sample], zs.Sample, list[str]]:
    """A type of TYPES, a value of it, and the lines of the declaration."""
    lines = [line[8:] for line in TYPES[name].strip("\n").splitlines()]
    scope: dict[str, Any] = {
        "zs": zs, "np": np, "enum": enum, "Annotated": Annotated, "Literal": Literal, "NDArray": NDArray,
        "Any": Any,
        "__name__": __name__,
    }  # fmt: skip  # the names that a declaration may use
    exec("\n".join(lines), scope)
    value = scope["make"]
    lines = lines[: next(i for i, line in enumerate(lines) if line.startswith("make ="))]
    while not lines[-1].strip():
        lines.pop()
    return type(value), value, lines


def image_of(value: zs.Sample) -> bytes:
    """The bytes of a sample as a publisher writes them."""
    max_bytes = 1 << 16 if zs.layout_of(type(value)).variable else None
    with zs.Publisher("vector", type(value), max_bytes=max_bytes) as pub, zs.Subscriber("vector", type(value)) as sub:
        pub.publish(value)
        lease = sub.take()
        assert lease is not None
        return bytes(lease)


def types() -> list[dict[str, Any]]:
    """types.json: how a declaration becomes bytes, a canonical text, a hash and a JSON Schema."""
    found = []
    for name in TYPES:
        cls, value, lines = declared(name)
        layout = zs.layout_of(cls)
        found.append(
            {
                "name": name,
                "declaration": lines,
                "size": layout.size,
                "alignment": layout.alignment,
                "canonical": layout.canonical,
                "type_hash": layout.type_hash.hex(),
                "schema": layout.to_json_schema(),
                "value": value.model_dump(mode="json"),
                "image": image_of(value).hex(),
            }
        )
    return found


# --- a segment ---

SEGMENT_ID = 0x0123456789ABCDEF
# Fixed values for times, process ids and inode numbers.
FIXED = {
    "Header": {
        "segment_id": SEGMENT_ID, "owner_pid": 1234, "owner_start_time": 5678, "time_namespace": 4026531834,
        "created_realtime_ns": 1_700_000_000_000_000_000, "created_monotonic_ns": 1_000_000_000,
        "root_device": 26, "root_inode": 4242,
    },
    "Peer": {"pid": 4711, "start_time": 99, "attached_ns": 2_000_000_000, "time_namespace": 4026531834},
    "Pool": {"inode": 0},
}  # fmt: skip  # a table


class Vector(zs.Sample):
    """The type of the segment."""

    number: zs.U32
    text: Annotated[str, zs.MaxBytes(3)]


def live_segment() -> tuple[bytes, bytes]:
    """A control object and its pool, of a publisher with two samples and a subscriber that has leased the first."""
    qos = {"depth": 1, "max_loans": 1, "spare_slots": 1, "max_subscribers": 1}
    with (
        zs.Publisher("vector", Vector, name="owner", **qos) as pub,
        zs.Subscriber("vector", Vector, name="reader", max_leases=1) as sub,
    ):
        pub.publish(Vector(number=7, text="one"))
        lease = sub.take()
        pub.publish(Vector(number=8, text="no"))
        control = Path("/dev/shm", f"zs-{pub.publisher_id}")
        found = control.read_bytes(), control.with_name(f"{control.name}-p0").read_bytes()
        assert lease is not None
        return found


class Control:
    """The bytes of a control object, with access to the members that FORMAT.md names."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)

    def at(self, section: str, structure: str = "", member: str = "", index: int = 0) -> int:
        """The offset of a member of an entry, or of a section."""
        if section == "HEADER":
            return document.members(structure)[member].offset
        base = self.section_at(document.SECTIONS.index(section))
        stride = {"Peer": "peer_size", "Slot": "slot_size"}.get(structure)
        size = self.header(stride) if stride else document.SIZES.get(structure, 0)
        return base + index * size + (document.members(structure)[member].offset if member else 0)

    def section_at(self, i: int) -> int:
        return self.number(document.members("Header")["section_at"].offset + 8 * i, 8)

    def number(self, at: int, width: int) -> int:
        return int.from_bytes(self.content[at : at + width], "little")

    def put(self, at: int, width: int, value: int) -> None:
        self.content[at : at + width] = value.to_bytes(width, "little")

    def header(self, name: str) -> int:
        member = document.members("Header")[name]
        return self.number(member.offset, member.width)

    def entries(self, structure: str) -> range:
        count = {"Peer": "max_subscribers", "Slot": "slot_limit", "Pool": "pool_limit"}[structure]
        return range(self.header(count))

    def fix(self) -> None:
        """Replace the values that differ between runs by fixed ones."""
        for name, value in FIXED["Header"].items():
            member = document.members("Header")[name]
            self.put(member.offset, member.width, value)
        for section, structure in (("PEERS", "Peer"), ("POOLS", "Pool")):
            for index in self.entries(structure):
                for name, value in FIXED[structure].items():
                    self.put(self.at(section, structure, name, index), document.members(structure)[name].width, value)
        for index in self.entries("Slot"):
            at = self.at("SLOTS", "Slot", "published_ns", index)
            if self.number(at, 8):
                self.put(at, 8, 3_000_000_000 + index)


def segment() -> tuple[Control, bytes]:
    """The segment of the vectors: the same bytes at every run."""
    content, pool = live_segment()
    control = Control(content)
    control.fix()
    return control, pool


# --- the segment with its bytes explained ---


def annotated(control: Control, pool: bytes) -> str:
    """Every byte that is not zero, with the name and the value of its member."""
    lines = ["# The control object. What is not listed is zero."]
    lines += _structure(control, "Header", 0, "header")
    words = {"PUBLISHED": 8, "RING": 8, "ACTIVE": 8, "RELIABLE": 8, "PARKED": 8, "EVICTED": 4}
    structures = {"PEERS": "Peer", "SLOTS": "Slot", "POOLS": "Pool", "COUNTERS": "Counters"}
    for i, section in enumerate(document.SECTIONS):
        at = control.section_at(i)
        end = control.section_at(i + 1) if i + 1 < len(document.SECTIONS) else len(control.content)
        lines += ["", f"# {section}"]
        if section == "SCHEMA":
            lines += _schema(control, at, end)
        elif section == "COUNTERS":
            lines += _structure(control, "Counters", at, "counters")
        elif section in structures:
            structure = structures[section]
            for index in control.entries(structure):
                name = f"{section.lower()}[{index}]"
                lines += _structure(control, structure, control.at(section, structure, "", index), name)
        else:
            width = words.get(section, 4)
            for k, offset in enumerate(range(at, end, width)):
                value = control.number(offset, width)
                text = f"{value}" if section != "RING" else f"sequence {value >> 16}, slot {value & 0xFFFF}"
                lines += _line(control.content, offset, width, f"{section.lower()}[{k}] = {text}")
    lines += ["", "# The pool. What is not listed is zero."]
    capacity = control.number(control.at("POOLS", "Pool", "slot_capacity"), 8)
    for slot, at in enumerate(range(0, len(pool), capacity)):
        size = control.number(control.at("SLOTS", "Slot", "size", slot), 8)
        for offset in range(at, at + size, 16):
            lines += _line(pool, offset, min(16, at + size - offset), f"slot {slot}, byte {offset - at}")
    return "\n".join(lines) + "\n"


def _line(content: bytes | bytearray, at: int, width: int, text: str) -> list[str]:
    part = bytes(content[at : at + width])
    return [f"{at:06x}  {part.hex(' '):47}  {text}".rstrip()] if any(part) else []


def _structure(control: Control, structure: str, at: int, name: str) -> list[str]:
    lines = []
    for member in document.members(structure).values():
        for k in range(member.count if member.width > 1 else 1):
            width = member.width if member.width > 1 else member.size
            offset = at + member.offset + k * width
            text = bytes(control.content[offset : offset + width])
            value = control.number(offset, width) if member.width > 1 else text.rstrip(b"\0").decode("ascii", "replace")
            index = f"[{k}]" if member.count > 1 and member.width > 1 else ""
            shown = "" if member.name in ("magic", "type_hash") else f" = {value}"
            if member.name == "section_at":
                index = f"[{document.SECTIONS[k]}]"
            for first in range(0, width, 16):
                more = f"{name}.{member.name}{index}{shown}" if first == 0 else ""
                lines += _line(control.content, offset + first, min(16, width - first), more)
    return lines


def _schema(control: Control, at: int, end: int) -> list[str]:
    lines = []
    start = at + 12
    for k, what in enumerate(("name", "IDL text", "JSON text")):
        lines += _line(control.content, at + 4 * k, 4, f"bytes of the {what} = {control.number(at + 4 * k, 4)}")
    for k, what in enumerate(("name", "IDL text", "JSON text")):
        length = control.number(at + 4 * k, 4)
        for offset in range(start, start + length, 16):
            part = bytes(control.content[offset : min(offset + 16, start + length)])
            shown = part.decode("ascii").replace("\n", " ")
            lines += _line(control.content, offset, len(part), f"{what}: {shown}")
        start += length
    return lines


# --- valid and invalid control objects ---


def objects(base: Control, pool: bytes) -> list[dict[str, Any]]:
    """Cases for the check of section 5: changes to the segment above, and the verdict."""
    header = document.members("Header")
    found: list[dict[str, Any]] = []

    def case(name: str, verdict: str, *patches: tuple[int, int, int], **sizes: int) -> None:
        changes = [[at, value.to_bytes(width, "little").hex()] for at, width, value in patches]
        found.append({"name": name, "verdict": verdict, "patches": changes, **sizes})

    def field(name: str, value: int, index: int = 0) -> tuple[int, int, int]:
        return header[name].offset + index * header[name].width, header[name].width, value

    def pool_field(name: str, value: int) -> tuple[int, int, int]:
        return base.at("POOLS", "Pool", name), document.members("Pool")[name].width, value

    size = len(base.content)
    case("as it is", "ok")
    case("sealed", "ok", field("state", 2))
    case("the owner is dead", "ok", field("state", 3))
    case("longer than control_size", "ok", control_bytes=size + 4096)
    case("reserved bytes that a later version uses", "ok", field("reserved", 0xFF), field("compat", 1))
    later = with_later_layout(base)
    found.append(
        {
            "name": "a longer header, longer entries, `readers` further behind, and gaps",
            "verdict": "ok",
            "patches": differences(base.content, later.content),
            "control_bytes": len(later.content),
        }
    )
    case("still being created", "unfinished", field("state", 0))
    case("shorter than a header", "unfinished", control_bytes=383)
    case("an empty object", "unfinished", control_bytes=0)
    case("another magic", "not a segment", (header["magic"].offset, 1, 0x88))
    case("a later format", "other format", field("format", 2))
    case("format 0", "other format", field("format", 0))
    case("another format whose header means something else", "other format", field("format", 2), field("depth", 0))
    for bit in (0, 63):
        case(f"bit {bit} of incompat", "unknown incompat bits", field("incompat", 1 << bit))
    case("the id of another segment", "other id", field("segment_id", SEGMENT_ID + 1))
    case("cut short", "corrupt", control_bytes=size - 128)
    case("a header that is too short", "corrupt", field("header_size", 256))
    case("a header of an odd size", "corrupt", field("header_size", 385))
    case("a header beyond the object", "corrupt", field("header_size", size + 128))
    case("a control object larger than the limit", "corrupt", field("control_size", 2**32 + 128), control_bytes=size)
    for name, values in {
        "depth": [0, base.header("slot_limit") + 1],
        "ring_capacity": [0, 1, 3, 2**20],
        "slot_limit": [0, 65536],
        "pool_limit": [0, 17],
        "max_subscribers": [0, 1025],
        "reader_words": [0, 2],
        "peer_size": [0, 704, 769],
        "slot_size": [0, 63, 65],
        "readers_at": [0, 48, 57, 2**32 - 8],
        "spare_slots": [65536],
        "max_loans": [65536],
        "reserve_slots": [65536],
        "first_sequence": [0, 2**62],
        "schema_size": [2**32, 2**64 - 1],
        "policy": [3],
    }.items():
        for value in values:
            case(f"{name} = {value}", "corrupt", field(name, value))
    case("a ring that holds the depth once", "corrupt", field("depth", 2), field("ring_capacity", 2))
    first, second = base.section_at(0), base.section_at(1)
    for name, value in [
        ("in the header", 256), ("not at a multiple of 128", first + 8), ("behind the one that follows", second + 128),
        ("beyond the object", size), ("at an offset that overflows", 2**64 - 128),
    ]:  # fmt: skip  # a table
        case(f"a section {name}", "corrupt", field("section_at", value))
    count, capacity = len(list(base.entries("Slot"))), len(pool) // len(list(base.entries("Slot")))
    case("no pool", "corrupt", pool_field("state", 0))
    case("slots without bytes", "corrupt", pool_field("slot_capacity", 0))
    case("slots of an odd size", "corrupt", pool_field("slot_capacity", capacity + 1))
    case("a pool without slots", "corrupt", pool_field("slot_count", 0))
    case("a pool of more slots than there are", "corrupt", pool_field("slot_count", count + 1))
    case("a pool that begins at another slot", "corrupt", pool_field("first_slot", 1))
    case("another pool object under the name", "corrupt", pool_field("inode", 1))
    case("a product that overflows", "corrupt", pool_field("slot_capacity", 2**63))
    case("a pool that was cut short", "corrupt", pool_bytes=len(pool) - 64)
    case("a pool that is too long", "corrupt", pool_bytes=len(pool) + 64)
    return found


def with_later_layout(base: Control) -> Control:
    """The same segment in a layout that a later version may write, and that readers of this version accept."""
    strides = {"Peer": 896, "Slot": 256}
    readers_at = 64
    structures = {"PEERS": "Peer", "SLOTS": "Slot"}
    header_size = 512
    content = bytearray(base.content[: document.SIZES["Header"]].ljust(header_size, b"\0"))
    places = []
    for i, section in enumerate(document.SECTIONS):
        content += bytes(128)  # a gap
        places.append(len(content))
        end = base.section_at(i + 1) if i + 1 < len(document.SECTIONS) else len(base.content)
        structure = structures.get(section)
        if structure is None:
            content += base.content[base.section_at(i) : end]
            continue
        for index in base.entries(structure):
            at = base.at(section, structure, "", index)
            entry = bytearray(base.content[at : at + document.SIZES[structure]])
            if structure == "Slot":
                old = document.members("Slot")["readers"].offset
                entry[old:] = bytes(readers_at - old) + entry[old:]
            content += entry.ljust(strides[structure], b"\0")
    result = Control(bytes(content))
    header = document.members("Header")
    for name, value in {
        "header_size": header_size, "control_size": len(content), "peer_size": strides["Peer"],
        "slot_size": strides["Slot"], "readers_at": readers_at,
    }.items():  # fmt: skip  # a table
        result.put(header[name].offset, header[name].width, value)
    for i, place in enumerate(places):
        result.put(header["section_at"].offset + 8 * i, 8, place)
    return result


def differences(old: bytes | bytearray, new: bytes | bytearray) -> list[list[Any]]:
    """Patches that turn `old`, padded with zeros, into `new`."""
    padded = bytes(old).ljust(len(new), b"\0")
    patches: list[list[Any]] = []
    at = 0
    while at < len(new):
        if padded[at] == new[at]:
            at += 1
            continue
        end = at + 1
        while end < len(new) and padded[end : end + 8] != new[end : end + 8]:
            end += 1
        patches.append([at, bytes(new[at:end]).hex()])
        at = end
    return patches


def patched(base: bytes, vector: dict[str, Any]) -> bytes:
    """The control object of one case."""
    size = vector.get("control_bytes", len(base))
    content = bytearray(base.ljust(size, b"\0"))
    for at, change in vector["patches"]:
        content[at : at + len(change) // 2] = bytes.fromhex(change)
    return bytes(content[:size])


def files() -> dict[str, bytes]:
    """The files of idl/vectors by name."""
    control, pool = segment()
    name = f"zs-{SEGMENT_ID:016x}"
    return {
        "types.json": as_json(types()),
        name: bytes(control.content),
        f"{name}-p0": pool,
        "segment.txt": annotated(control, pool).encode(),
        "objects.json": one_a_line(objects(control, pool)),
    }


def as_json(content: object) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def one_a_line(cases: list[dict[str, Any]]) -> bytes:
    return ("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n").encode()


def main() -> None:
    """Write idl/vectors; the publishers use a temporary discovery root."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        os.environ["ZEROSLOT_DIR"] = root
        VECTORS.mkdir(exist_ok=True)
        for name, content in files().items():
            (VECTORS / name).write_bytes(content)
