"""Stored schemas that no publisher writes, where they are read: by a subscriber and a publisher of another version."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Annotated, Any

import pytest

import zeroslot as zs
from tests.unit.control_bytes import ControlBytes
from zeroslot._core.binding import TYPED
from zeroslot.memory.create import Contents
from zeroslot.memory.processes import identity
from zeroslot.qos import Qos
from zeroslot.types.layout import build_layout
from zeroslot.types.nodes.arrays import Array
from zeroslot.types.nodes.base import Node
from zeroslot.types.nodes.lists import BoundedList
from zeroslot.types.nodes.optional import Optional
from zeroslot.types.nodes.scalars import SCALARS
from zeroslot.types.nodes.text import Text
from zeroslot.types.schema import pack_schema

pytestmark = pytest.mark.usefixtures("zeroslot_dir")


class Point(zs.Sample):
    x: zs.F32
    y: zs.F32


class Old(zs.Sample):
    stamp: zs.U32
    points: Annotated[list[Point], zs.MaxLen(3)]
    maybe: Point | None
    name: Annotated[str, zs.MaxBytes(8)]


class Point3(zs.Sample):
    z: zs.F64 = 7
    x: zs.F64


class New(zs.Sample):
    name: Annotated[str, zs.MaxBytes(12)]
    points: Annotated[list[Point3], zs.MaxLen(5)]
    maybe: Point3 | None
    fresh: zs.U8 = 1
    stamp: zs.F64


VALUES = {"stamp": 5, "points": [{"x": 1, "y": 2}] * 2, "maybe": {"x": 3, "y": 4}, "name": "abc"}
RIGHT = {"name": "abc", "points": [{"z": 7.0, "x": 1.0}] * 2, "maybe": {"z": 7.0, "x": 3.0}, "fresh": 1, "stamp": 5.0}
ERRORS = (zs.CorruptSegmentError, zs.MismatchError)


def subscribed() -> Any:
    """What a subscriber of the new version gets: a sample as a dict, or an error."""
    try:
        with zs.Subscriber("t", New, match="by_name", history=1) as sub:
            lease = sub.take()
            assert lease is not None
            return lease.copy().model_dump()
    except ERRORS as error:
        return error


def published() -> Any:
    """What a publisher of the new version gets: nothing, or an error."""
    try:
        zs.Publisher("t", New, match="by_name").close()
    except ERRORS as error:
        return error
    return None


@pytest.mark.row("SEC-4", "TYP-6", "TYP-7")
def test_every_byte_of_a_stored_schema_may_be_wrong() -> None:
    """Each byte turned over: an error that names the topic, or the right sample; no name and no offset is believed."""
    outcomes: Counter[str] = Counter()
    with zs.Publisher("t", Old) as pub:
        pub.publish(VALUES)
        control = ControlBytes(pub.flink)
        at = control.at("schema")
        stored = pack_schema(zs.layout_of(Old))
        for i, byte in enumerate(stored):
            control.write_bytes(at + i, bytes([byte ^ (0x01, 0x20, 0x80)[i % 3]]))
            for newcomer in (subscribed, published)[: 2 if i % 10 == 0 else 1]:  # creating a segment takes longer
                outcome = newcomer()
                outcomes[type(outcome).__name__] += 1
                if isinstance(outcome, Exception):
                    assert outcome.topic == "t"  # type: ignore[attr-defined]  # one of ERRORS
                else:
                    assert outcome == (RIGHT if newcomer is subscribed else None)
            control.write_bytes(at + i, bytes([byte]))
        assert (subscribed(), published()) == (RIGHT, None)
    assert outcomes["CorruptSegmentError"] > 100
    assert outcomes["FormatError"] > 100


NUMBER = SCALARS["f32"]
POINT = build_layout("Point", [("x", NUMBER), ("y", NUMBER)])
LARGE = Array(NUMBER, (2**20,))
HOSTILE: dict[str, list[tuple[str, Node]]] = {
    "fields beyond the slot": [("pad", LARGE), ("stamp", NUMBER), ("name", Text(8))],
    "items beyond the slot": [("points", BoundedList(build_layout("Point", [("pad", LARGE), ("x", NUMBER)]), 3))],
    "a little beyond the slot": [("pad", Array(NUMBER, (30,))), ("points", BoundedList(POINT, 5))],
    "other kinds in the bytes": [("name", Text(1)), ("points", BoundedList(POINT, 1)), ("maybe", Optional(POINT))],
    "samples of no bytes": [("empty", build_layout("Empty", [])), ("stamp", SCALARS["u8"])],
}


class Anything(zs.Sample):
    """All has a default, so that each of the layouts is read by name."""

    name: Annotated[str, zs.MaxBytes(12)] = ""
    points: Annotated[list[Point3], zs.MaxLen(5)] = []  # noqa: RUF012  # pydantic copies it
    maybe: Point3 | None = None
    stamp: zs.F64 = 0


@pytest.mark.row("SEC-4", "TYP-7")
@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("byte", [0, 1, 0xFF])
def test_a_schema_that_lies_about_the_slots_gives_errors(members: list[tuple[str, Node]], byte: int) -> None:
    """It is the schema of the segment's hash, and the slots are smaller and hold anything: what is read lies in the
    sample, or is an error.
    """
    layout = build_layout("Old", members)
    contents = Contents(identity("liar"), TYPED, layout.type_hash, pack_schema(layout))
    with zs.Publisher("t", Old) as pub:
        directory = pub.flink.parent
    made = zs.SlotAllocator._create(
        Qos(2, 1, 2, 4, "evict"), 1, 128, contents, lambda name: directory / f"{name[4:]}.flink", mode=0o600, topic="t"
    )
    with made, zs.Subscriber("t", Anything, match="by_name") as sub:
        assert len(sub.differences) == 1
        for size in (128, min(layout.size, 128)):
            made.commit(made.reserve(), bytes([byte]) * size)
            try:
                lease = sub.take()
            except zs.CorruptSegmentError:
                continue
            assert lease is not None
            assert layout.size <= size
            for name in Anything.model_fields:
                with contextlib.suppress(zs.CorruptSegmentError):
                    str(getattr(lease.sample, name))
            with contextlib.suppress(zs.CorruptSegmentError):
                lease.copy()
