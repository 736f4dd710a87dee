"""Schemas: a layout through JSON and back, invalid JSON, and the difference between two layouts."""

from __future__ import annotations

import contextlib
import copy
import enum
import json
import random
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot.types.schema
from zeroslot.errors import CorruptSegmentError, DeclarationError, FormatError
from zeroslot.types.difference import difference
from zeroslot.types.layout import build_layout
from zeroslot.types.nodes.arrays import Array, Shape
from zeroslot.types.nodes.lists import BoundedList, FixedList, MaxLen
from zeroslot.types.nodes.optional import Optional
from zeroslot.types.nodes.scalars import F32, SCALARS, U8, U16, U32, U64
from zeroslot.types.nodes.text import MaxBytes
from zeroslot.types.nodes.variable import VariableList
from zeroslot.types.sample import Sample, layout_of
from zeroslot.types.schema import from_json_schema, pack_schema, unpack_schema


class Mode(enum.IntEnum):
    IDLE = 0
    RUN = 3


class Point(Sample):
    x: float
    y: F32


class Everything(Sample):
    stamp_ns: U64
    accel: Annotated[NDArray[np.float32], Shape(2, 3)]
    frame: Annotated[str, MaxBytes(5)]
    raw: Annotated[bytes, MaxBytes(5)]
    mode: Annotated[Mode, U8]
    flag: bool
    points: Annotated[list[Point], MaxLen(3)]
    pair: Annotated[list[Annotated[list[U16], Shape(2)]], Shape(2)]
    maybe: Point | None
    point: Point


class Unit(Sample):
    pass


@pytest.mark.row("TYP-6")
@pytest.mark.row("NEW-2")
@pytest.mark.parametrize("sample_type", [Everything, Unit, Point])
def test_layout_survives_json(sample_type):
    """A layout rebuilt from its JSON schema has the same hash, the same fields and the same class."""
    layout = layout_of(sample_type)
    for source in (
        layout.to_json_schema(),
        json.dumps(layout.to_json_schema()),
        json.dumps(layout.to_json_schema()).encode(),
    ):
        again = from_json_schema(source)
        assert again == layout
        assert again.fields == layout.fields
        assert (again.name, again.size, again.dtype) == (layout.name, layout.size, layout.dtype)


@pytest.mark.row("TYP-6")
def test_schema_survives_a_segment():
    """Name, IDL and layout come back out of the schema section, whatever zeros follow them."""
    layout = layout_of(Everything)
    data = pack_schema(layout)
    assert layout.to_idl().encode() in data
    for section in (data, data + bytes(100), memoryview(data)):
        again = unpack_schema(section)
        assert again == layout
        assert again.name == "Everything"
        assert again.to_idl() == layout.to_idl()


def test_schema_that_no_reader_takes_is_not_written(monkeypatch):
    """A publisher does not create a segment that its subscribers would call corrupt."""
    monkeypatch.setattr(zeroslot.types.schema, "TEXT_LIMIT", 200)
    with pytest.raises(DeclarationError, match="Split the type"):
        pack_schema(layout_of(Point))


def test_json_of_a_model_is_what_the_schema_describes():
    """The properties, the required ones and the bounds are those of the model's own JSON."""
    stored, model = layout_of(Everything).to_json_schema(), Everything.model_json_schema()
    assert list(stored["properties"]) == list(model["properties"])
    assert set(stored["required"]) == set(model["required"]) - {"maybe"}
    for name in ("stamp_ns", "accel", "mode"):
        bounds = {key: value for key, value in stored["properties"][name].items() if key != "x-zeroslot"}
        expected = model["properties"][name]
        assert bounds.items() <= expected.items() or expected.get("$ref") == "#/$defs/Mode"


def paths(value: Any, path: tuple[Any, ...] = ()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield (*path, index)
            yield from paths(inner, (*path, index))


def changed(schema: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    schema = copy.deepcopy(schema)
    inner: Any = schema
    for key in path[:-1]:
        inner = inner[key]
    if value is Ellipsis:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return schema


ODD_VALUES = [
    ..., None, True, -1, 0, 1, 7, 2**31, 2**64, 10**5000, 1.5, "", "u8", "struct", "list", "x" * 3000, "a\ud800",
    [], [0], [2**31, 2**31, 2**31], [[]], [1] * 100, {}, {"kind": "u8"},
]  # fmt: skip  # a table


def test_an_unexpected_value_anywhere_raises_at_most_a_format_error():
    """Whatever value stands anywhere in a schema, the answer is FormatError or a layout that is true to itself."""
    schema = layout_of(Everything).to_json_schema()
    refused = 0
    for path in paths(schema):
        for value in ODD_VALUES:
            try:
                layout = from_json_schema(changed(schema, path, value))
            except FormatError:
                refused += 1
            else:
                assert sum(field.size for field in layout.fields) == layout.size
                assert from_json_schema(layout.to_json_schema()) == layout
    assert refused > 1000


@pytest.mark.parametrize(
    "path", [p for p in paths(layout_of(Everything).to_json_schema()) if p[-1] in {"offset", "size", "type_hash"}]
)
def test_every_offset_size_and_hash_is_checked(path):
    """One number that does not follow from the rest is enough to refuse the whole."""
    schema = layout_of(Everything).to_json_schema()
    inner: Any = schema
    for key in path:
        inner = inner[key]
    with pytest.raises(FormatError):
        from_json_schema(changed(schema, path, inner[::-1] if isinstance(inner, str) else inner + 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        b"\xff",
        "[" * 200_000,
        '{"a":' * 200_000,
        "9" * 5000,
        '{"$schema": NaN}',
        '{"a": 1, "a": 2}',
        " " * 5_000_000,
    ],
)
def test_text_that_is_no_schema_is_a_format_error(text):
    """Broken, deep, doubled and endless JSON is refused, not followed."""
    with pytest.raises(FormatError):
        from_json_schema(text)


def test_deep_nesting_ends_before_the_stack_does():
    """A chain of ten thousand optionals or lists is refused."""
    schema = layout_of(Point).to_json_schema()
    for wrap in (
        lambda inner: {"items": inner, "x-zeroslot": {"kind": "list", "max_len": 1, "size": 8}},
        lambda inner: {**schema, "properties": {"x": inner}},
    ):
        member: Any = schema["properties"]["x"]
        for _ in range(10_000):
            member = wrap(member)
        with pytest.raises(FormatError, match="deeper"):
            from_json_schema(changed(schema, ("properties", "x"), member))


def test_damaged_section_is_an_error_of_the_package():
    """Any cut and any flipped byte of a schema section raises one of two errors or gives a layout."""
    data = pack_schema(layout_of(Everything))
    for end in range(len(data)):
        with pytest.raises((CorruptSegmentError, FormatError)):
            unpack_schema(data[:end])
    chance = random.Random(1)
    for _ in range(2000):
        broken = bytearray(data)
        broken[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(CorruptSegmentError, FormatError):
            unpack_schema(bytes(broken))


@pytest.mark.parametrize("lengths", [(2**32 - 1,) * 3, (0, 0, 0), (3, 0, 2**31)])
def test_lengths_beyond_the_section_are_corrupt(lengths):
    """Lengths are added up without overflow and compared with what is there."""
    data = b"".join(length.to_bytes(4, "little") for length in lengths)
    with pytest.raises((CorruptSegmentError, FormatError)):
        unpack_schema(data + b"abc")


def test_bytes_behind_the_texts_are_corrupt():
    """Reserved bytes are zero."""
    with pytest.raises(CorruptSegmentError, match="behind"):
        unpack_schema(pack_schema(layout_of(Point)) + b"\1")


def imu(*members):
    return build_layout("Imu", members)


F32_3, F64_4 = Array(SCALARS["f32"], (3,)), Array(SCALARS["f64"], (4,))


@pytest.mark.row("NEW-3")
def test_difference_shows_what_the_publisher_lacks():
    """A field that only the subscriber has is a line of its own."""
    assert difference(imu(("same", F64_4)), imu(("same", F64_4), ("seq", SCALARS["u64"]))) == (
        "  seq   missing at the publisher     here u64 at 32"
    )


@pytest.mark.row("NEW-3")
def test_difference_looks_into_nested_samples():
    """Where both sides call it Pose, the line names the field inside, with its offset in the sample."""

    class Pose(Sample):
        x: U64
        y: F32

    class Robot(Sample):
        stamp: U64
        pose: Pose

    one = layout_of(Robot)

    class Pose(Sample):  # noqa: F811  # the same name for another type
        x: U64
        y: U32

    class Robot(Sample):
        stamp: U64
        pose: Pose

    assert difference(one, layout_of(Robot)) == "  pose.y   publisher f32 at 16     here u32 at 16"


@pytest.mark.row("NEW-3")
def test_difference_tells_apart_what_has_one_name():
    """Two enums of one name are shown with their enumerators."""

    class Drive(Sample):
        mode: Mode

    one = layout_of(Drive)

    class Drive(Sample):
        mode: enum.IntEnum("Mode", {"IDLE": 0, "RUN": 4})

    assert difference(one, layout_of(Drive)) == (
        "  mode   publisher enum(i32){IDLE=0,RUN=3} at 0     here enum(i32){IDLE=0,RUN=4} at 0"
    )


@pytest.mark.row("NEW-3")
def test_difference_looks_into_lists_and_optionals_of_samples():
    """The lines name the field of the items, with its offset in the first; a list of another bound is one line."""
    one = build_layout("Point", [("x", SCALARS["u64"]), ("y", SCALARS["f32"])])
    other = build_layout("Other", [("y", SCALARS["f64"]), ("x", SCALARS["u64"])])

    def several(point, bound):
        return imu(
            ("row", FixedList(point, 2)), ("points", BoundedList(Optional(point), bound)), ("maybe", Optional(point))
        )

    assert difference(several(one, 3), several(other, 3)).splitlines() == [
        "  row[].x      publisher u64 at 0       here u64 at 8",
        "  row[].y      publisher f32 at 8       here f64 at 0",
        "  points[].x   publisher u64 at 48      here u64 at 56",
        "  points[].y   publisher f32 at 56      here f64 at 48",
        "  maybe.x      publisher u64 at 120     here u64 at 128",
        "  maybe.y      publisher f32 at 128     here f64 at 120",
    ]
    texts = " ".join(difference(several(one, 3), several(other, 4)).split())
    assert "points publisher list[Point?]<=3 at 32 here list[Other?]<=4 at 32 maybe.x" in texts


@pytest.mark.row("NEW-3")
def test_difference_looks_into_lists_of_variable_size():
    """With offsets in an item, also where the list may be absent; one of other items is one line."""
    one = build_layout("Point", [("x", SCALARS["u64"]), ("y", SCALARS["f32"])])
    other = build_layout("Other", [("y", SCALARS["f64"]), ("x", SCALARS["u64"])])

    def several(point):
        return imu(("points", VariableList(point)), ("more", Optional(VariableList(point))))

    assert difference(several(one), several(other)).splitlines() == [
        "  points[].x   publisher u64 at 0     here u64 at 8",
        "  points[].y   publisher f32 at 8     here f64 at 0",
        "  more[].x     publisher u64 at 0     here u64 at 8",
        "  more[].y     publisher f32 at 8     here f64 at 0",
    ]
    one_line = difference(imu(("points", VariableList(one))), imu(("points", VariableList(SCALARS["u8"]))))
    assert " ".join(one_line.split()) == "points publisher list[Point] at 0 here list[u8] at 0"


def test_equal_layouts_differ_in_nothing():
    """No difference is the empty text."""
    assert difference(layout_of(Everything), layout_of(Everything)) == ""
