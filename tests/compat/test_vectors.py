"""idl/vectors agrees with the library, with FORMAT.md, and with the C reader."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests.compat import document, make_vectors
from tests.compat.make_vectors import SEGMENT_ID, VECTORS, Control, Vector, patched
from zeroslot._core.binding import Descriptor
from zeroslot.errors import CorruptSegmentError, FormatError
from zeroslot.memory.attach import attach_control
from zeroslot.types.nodes.scalars import SCALARS
from zeroslot.types.schema import from_json_schema

DOCUMENT = document.TEXT
NAME = f"zs-{SEGMENT_ID:016x}"
CONTROL = (VECTORS / NAME).read_bytes()
POOL = (VECTORS / f"{NAME}-p0").read_bytes()
OBJECTS = json.loads((VECTORS / "objects.json").read_text("utf-8"))
TYPES = json.loads((VECTORS / "types.json").read_text("utf-8"))


def by_name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def test_the_vectors_are_what_the_library_makes():
    """These bytes and texts define format 1: a change is another format, or a mistake."""
    for name, text in make_vectors.files().items():
        assert (VECTORS / name).read_bytes() == text, f"idl/vectors/{name}: make generated"
    assert {path.name for path in VECTORS.iterdir()} == set(make_vectors.files())


@pytest.mark.parametrize("vector", TYPES, ids=by_name)
def test_the_hash_is_that_of_the_canonical_text(vector):
    """The first 16 bytes of SHA-256 over ASCII; the text has only the characters of section 8."""
    text = vector["canonical"]
    assert hashlib.sha256(text.encode("ascii")).hexdigest()[:32] == vector["type_hash"]
    assert re.fullmatch(r"struct\(\d+,\d+\)\{.*\}", text)
    assert ";}" not in text
    assert " " not in text


GRAMMAR = re.search(r"^    KIND .*?\n\n", DOCUMENT, re.DOTALL | re.MULTILINE)[0]
NUMBERS = GRAMMAR.splitlines()[0].split()[1:]
KINDS = [*NUMBERS, *re.findall(r"\b([a-z]+)[(\[]", GRAMMAR), "c64", "c128", "datetime64_ns", "timedelta64_ms"]


def test_the_document_has_every_number():
    """The kinds of numbers in section 8's grammar are those of the library."""
    assert list(SCALARS) == NUMBERS


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_vector(kind):
    """Each kind of section 8's grammar is in one of the canonical texts."""
    assert any(re.search(rf"[:\[({{]?{kind}(?![a-z0-9@])", vector["canonical"]) for vector in TYPES)


def schema_objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """This object and those of its fields, items and values; an array's dimensions are for JSON only."""
    yield schema
    for member in schema.get("properties", {}).values():
        yield from schema_objects(member)
    if schema["x-zeroslot"]["kind"] == "list":
        yield from schema_objects(schema["items"])
    if schema["x-zeroslot"]["kind"] == "optional":
        yield from schema_objects(schema["anyOf"][0])


def document_keys() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Keys of each row of the table of objects: those that a reader needs, and all."""
    table = re.search(r"^\| object \| keys \|\n(.*?)\n\n", DOCUMENT, re.DOTALL | re.MULTILINE)[1]
    needed, known = {}, {}
    for row in table.splitlines()[1:]:
        name, keys = re.match(r"\| (.*?) \| (.*) \|", row).groups()
        needed[name] = set(re.findall(r"\*\*`(.*?)`\*\*", keys))
        known[name] = {key for part in keys.split(";") for key in re.findall(r"`([^`\"]*?)`", part.split(": ")[0])}
    return needed, known


def row_of(schema: dict[str, Any]) -> str:
    facts = schema["x-zeroslot"]
    kind = facts["kind"]
    if kind == "list":
        return "list of exactly N" if "shape" in facts else "list of at most N"
    if "shape" in facts:
        return "array of structs" if kind == "struct" else "array"
    return kind if kind in ("struct", "enum", "str", "bytes", "optional") else "number, bool"


@pytest.mark.parametrize("vector", TYPES, ids=by_name)
def test_the_document_names_every_key_of_a_schema(vector):
    """The library writes no key that the table of section 8 does not have."""
    _, known = document_keys()
    for schema in schema_objects(vector["schema"]):
        assert set(schema) - {"$schema"} <= known[row_of(schema)]


@pytest.mark.parametrize("vector", TYPES, ids=by_name)
def test_the_keys_in_bold_are_enough_and_each_is_needed(vector):
    """A schema of nothing but those gives the same type; without any one of them, or of x-zeroslot, it gives none."""
    needed, _ = document_keys()
    bare = copy.deepcopy(vector["schema"])
    for schema in list(schema_objects(bare)):
        for key in set(schema) - needed[row_of(schema)] - {"$schema"}:
            del schema[key]
    assert from_json_schema(bare).type_hash.hex() == vector["type_hash"]
    assert from_json_schema(bare).canonical == vector["canonical"]
    for index, schema in enumerate(schema_objects(bare)):
        for key in [*schema, *((fact,) for fact in schema["x-zeroslot"])]:
            broken = copy.deepcopy(bare)
            there = list(schema_objects(broken))[index]
            if isinstance(key, str):
                del there[key]
            else:
                del there["x-zeroslot"][key[0]]
            with pytest.raises(FormatError):
                from_json_schema(broken)


@pytest.mark.parametrize("vector", TYPES, ids=by_name)
def test_a_schema_without_the_library_gives_the_same_text(vector):
    """Section 8 alone leads from the schema to the canonical text, the sizes and the hash."""
    assert canonical_of(vector["schema"])[0] == vector["canonical"]


WIDTHS = {kind: 1 if kind == "bool" else int(kind.lstrip("abcdefghijklmnopqrstuvwxyz")) // 8 for kind in NUMBERS}


def element_of(kind: str) -> tuple[int, int]:
    """(size, alignment) of the element of an array."""
    if kind in ("c64", "c128"):
        return (8, 4) if kind == "c64" else (16, 8)
    width = 8 if kind.startswith(("datetime64_", "timedelta64_")) else WIDTHS.get(kind, 0)
    return width, width


def rounded(n: int, a: int) -> int:
    return -(-n // a) * a


def canonical_of(schema: dict[str, Any]) -> tuple[str, int, int]:
    """(text, size, alignment) by the tables of section 8."""
    facts = schema["x-zeroslot"]
    kind = facts["kind"]
    if "shape" in facts and kind != "list":
        text, size, widest = kind, *element_of(kind)
        if kind == "struct":
            for _ in facts["shape"]:
                schema = schema["items"]
            text, size, widest = canonical_of(schema)
        bounds = [dim["up_to"] for dim in facts["shape"] if isinstance(dim, dict)]
        for dim in facts["shape"]:
            size *= dim["up_to"] if isinstance(dim, dict) else dim
        if bounds:
            size += rounded(4 * len(bounds), widest)
            widest = max(4, widest)
        dims = ",".join(f"<={dim['up_to']}" if isinstance(dim, dict) else str(dim) for dim in facts["shape"])
        return f"array({dims})[{text}]", rounded(size, widest), widest
    if kind == "struct":
        end, widest, fields = 0, 1, []
        for name, member in schema["properties"].items():
            text, size, alignment = canonical_of(member)
            at = rounded(end, alignment)
            fields.append(f"{name}@{at}:{text}")
            end, widest = at + size, max(widest, alignment)
        size = rounded(end, widest)
        return f"struct({size},{widest}){{{';'.join(fields)}}}", size, widest
    if kind == "enum":
        members = ",".join(f"{name}={value}" for name, value in sorted(facts["members"], key=lambda member: member[1]))
        width = WIDTHS[facts["base"]]
        return f"enum({facts['base']}){{{members}}}", width, width
    if kind == "array":
        return f"array[{facts['item']}]", 168, 8
    if kind in ("str", "bytes", "list") and not facts.keys() & {"max_bytes", "max_len", "shape"}:
        return f"list[{canonical_of(schema['items'])[0]}]" if kind == "list" else kind, 16, 8
    if kind in ("str", "bytes"):
        return f"{kind}({facts['max_bytes']})", rounded(4 + facts["max_bytes"], 4), 4
    if kind == "list":
        text, size, alignment = canonical_of(schema["items"])
        if "shape" in facts:
            (n,) = facts["shape"]
            return f"list({n})[{text}]", n * size, alignment
        n, at, widest = facts["max_len"], rounded(4, alignment), max(4, alignment)
        return f"bounded({n})[{text}]", rounded(at + n * size, widest), widest
    if kind == "optional":
        text, size, alignment = canonical_of(schema["anyOf"][0])
        return f"optional[{text}]", rounded(rounded(1, alignment) + size, alignment), alignment
    return kind, WIDTHS[kind], WIDTHS[kind]


# --- the segment ---


@pytest.fixture
def placed() -> Iterator[Callable[..., str]]:
    """Put the segment of the vectors into shared memory, changed as a case says; the control object's name.

    It gets another id, so that two runs of this test on one machine do not meet; a case that changes the id keeps that.
    """
    name = f"zs-{secrets.token_hex(8)}"
    paths = [Path("/dev/shm", name), Path("/dev/shm", f"{name}-p0")]

    def place(vector: dict[str, Any]) -> str:
        for path in paths:
            path.touch(0o600)
        control = Control(CONTROL)
        control.put(document.members("Header")["segment_id"].offset, 8, int(name[3:], 16))
        paths[0].write_bytes(patched(bytes(control.content), vector))
        paths[1].write_bytes(POOL.ljust(vector.get("pool_bytes", 0), b"\0")[: vector.get("pool_bytes", len(POOL))])
        for path in paths:
            path.chmod(0o600)
        return f"/{name}"

    yield place
    for path in paths:
        path.unlink(missing_ok=True)


def verdict_of(name: str) -> str:
    """What the library says of a segment, in the words of the vectors."""
    try:
        attached = attach_control(name, "the vector")
        if attached is None:
            return "unfinished"
        attached.map_pools()
    except CorruptSegmentError:
        return "corrupt"
    except FormatError as error:
        text = str(error)
        return next(verdict for words, verdict in REASONS.items() if words in text)
    return "ok"


REASONS = {
    "another magic number": "not a segment",
    "has format": "other format",
    "incompat": "unknown incompat bits",
    "another segment": "other id",
}


@pytest.mark.row("SEG-4", "SEG-5", "SEG-6", "SEG-7", "SEC-4")
@pytest.mark.parametrize("vector", OBJECTS, ids=by_name)
def test_library_gives_the_verdicts_of_the_vectors(vector, placed):
    """Valid and invalid control objects and pools."""
    assert verdict_of(placed(vector)) == vector["verdict"]


@pytest.mark.parametrize("vector", OBJECTS, ids=by_name)
def test_c_reader_gives_the_verdicts_of_the_vectors(vector, placed, programs):
    """The checks of FORMAT.md, section 5."""
    done = subprocess.run([programs / "reader", "check", placed(vector)], capture_output=True, check=True)
    assert json.loads(done.stdout) == vector["verdict"]


@pytest.fixture
def owned(placed: Callable[..., str], tmp_path: Path) -> Iterator[Path]:
    """The flink of the segment of the vectors, with the owner's lock held."""
    name = placed({"patches": []})
    lock = Descriptor.open(f"/dev/shm{name}", os.O_RDWR)
    assert lock.try_lock(0)
    flink = tmp_path / "vector.flink"
    flink.write_text(name)
    yield flink
    lock.close()


def test_library_reads_the_segment_of_the_vectors(owned):
    """A reader that joins with a history of one takes the newest sample, and replaces the dead reader."""
    with zs.SlotReader.attach(owned, history=1) as reader:
        assert (reader.native.index, reader.native.segment.peer(0).epoch) == (0, 2)
        lease = reader.take()
        assert (lease.sequence, lease.published_ns) == (2, 3_000_000_001)
        assert bytes(lease) == image_of_vector(8, b"no")
        assert reader.take() is None


def test_c_reader_reads_the_segment_of_the_vectors(owned, run_child, programs):
    """The same with the C reader."""
    child = run_child.program(programs / "reader", str(owned), "history", "1")
    child.expect("ready")
    assert child.ask("join") == {"index": 0, "epoch": 2, "cursor": 1}
    assert child.ask("schema") == Vector.__name__
    assert child.ask("take") == {"sequence": 2, "payload": image_of_vector(8, b"no").hex()}
    assert child.ask("take") is None
    child.finish()


def image_of_vector(number: int, text: bytes) -> bytes:
    return number.to_bytes(4, "little") + len(text).to_bytes(4, "little") + text.ljust(4, b"\0")


def test_annotated_bytes_equal_those_of_the_segment():
    """segment.txt has every byte of both objects that is not zero, at its offset."""
    text = (VECTORS / "segment.txt").read_text("ascii")
    control, pool = text.split("# The pool.")
    for content, part in ((CONTROL, control), (POOL, pool)):
        found = bytearray(len(content))
        for at, row in re.findall(r"^([0-9a-f]{6})  ((?:[0-9a-f]{2} )*[0-9a-f]{2})", part, re.MULTILINE):
            row_bytes = bytes.fromhex(row)
            found[int(at, 16) : int(at, 16) + len(row_bytes)] = row_bytes
        assert bytes(found) == content
