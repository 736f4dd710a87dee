"""Samples as `echo` prints them and as `pub` reads them, and types as `schema` prints them."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot.cli.declaration import source_of
from zeroslot.cli.decoding import Form, cell, columns_of, lines_of_value, plain, text_of, value_at, whole_sample
from zeroslot.cli.encoding import TELLS_OF_UNKNOWN_FIELDS, Encoder, SampleError, array_of
from zeroslot.cli.schemas import dtype_source


class Mode(enum.IntEnum):
    OFF = 0
    ON = 1


class Point(zs.Sample):
    x: zs.F32 = 0.0
    y: zs.F64 = 0.0


class Rich(zs.Sample):
    """Every kind of field."""

    count: zs.U64
    ratio: float
    ready: bool
    mode: Mode
    narrow: Annotated[Mode, zs.U8]
    level: Literal[1, -2]
    at: Point
    few: Annotated[list[Point], zs.MaxLen(3)]
    three: Annotated[list[zs.U16], zs.Shape(3)]
    nested: Annotated[list[Annotated[list[zs.U8 | None], zs.MaxLen(2)]], zs.MaxLen(3)]
    path: list[Point]
    maybe: zs.U8 | None
    maybe_at: Point | None
    maybe_mode: Mode | None
    grid: Annotated[NDArray[np.float32], zs.Shape(2, 3)]
    cloud: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(5), 3)]
    records: Annotated[NDArray[np.void], zs.Shape(2, dtype=Point)]
    times: Annotated[NDArray[np.datetime64], zs.Shape(2, dtype="datetime64[ns]")]
    flags: Annotated[NDArray[np.bool_], zs.Shape(2)]
    waves: Annotated[NDArray[np.complex64], zs.Shape(2)]
    name: Annotated[str, zs.MaxBytes(8)]
    key: Annotated[bytes, zs.MaxBytes(8)]
    image: NDArray[np.uint8]
    anything: NDArray[Any]
    text: str
    blob: bytes


MADE = Rich(
    count=2**64 - 1,
    ratio=float("nan"),
    ready=True,
    mode=Mode.ON,
    narrow=Mode.OFF,
    level=-2,
    at=Point(x=0.1, y=-1.5),
    few=[Point(x=1.0)],
    three=[1, 2, 3],
    nested=[[1, None], []],
    path=[Point(x=1.0), Point(y=2.0)],
    maybe=None,
    maybe_at=Point(y=9.0),
    maybe_mode=Mode.ON,
    grid=np.array([[1, 2, np.inf], [0.1, -np.inf, 0]], np.float32),
    cloud=np.ones((2, 3), np.float32),
    records=np.array([(1, 2), (3, 4)], zs.layout_of(Point).dtype),
    times=np.array(["2020-01-01", "NaT"], "M8[ns]"),
    flags=np.array([True, False]),
    waves=np.array([1, 2j], np.complex64),
    name="hällo",
    key=b"\x00\xff",
    image=np.arange(6, dtype=np.uint8).reshape(2, 3),
    anything=np.array([1.5, 2.5]),
    text="a\n\x1b[31m",
    blob=b"\xfb\xff\xfe",
)


@pytest.fixture(scope="module")
def rich() -> Iterator[Any]:
    """The sample in place, read without its class."""
    with zs.Publisher("rich", Rich, grow=True) as publisher, zs.Subscriber("rich") as subscriber:
        publisher.publish(MADE)
        lease = subscriber.take()
        assert lease is not None
        yield lease.sample
        lease.release()


@pytest.fixture
def foreign() -> type[Any]:
    """The type as its schema tells it."""
    return zs.type_from_schema(zs.layout_of(Rich).to_json_schema())


def text(name: str, value: Any, **form: Any) -> str:
    return "\n".join(lines_of_value(name, value, Form(**form)))


# --- JSON


def test_its_json_is_that_of_the_library(rich: Any):
    """Of each kind of field; only that it can leave out arrays before it converts them."""
    assert plain(rich, Form()) == json.loads(rich.model_dump_json())


class Open(zs.Sample):
    array: NDArray[Any]


@pytest.mark.parametrize(
    "array",
    [
        np.array([b"\xff"]),
        np.array([b"a\0"], "V2"),
        np.array(1.5, np.longdouble),
        np.array([1j, np.nan], np.clongdouble),
        np.array([(b"\xff", np.inf)], [("a", "S1"), ("b", "g")]),
    ],
    ids=str,
)
def test_arrays_of_bytes_and_wide_numbers_have_the_json_of_the_library(array: np.ndarray[Any, Any]):
    """Bytes as base64, and numbers as f64, which is all that JSON has."""
    assert json.dumps(plain(array, Form())) == json.dumps(json.loads(Open(array=array).model_dump_json())["array"])


def test_what_echo_prints_is_what_pub_reads(rich: Any, foreign: type[Any]):
    """The same sample, through a text and a type without its class."""
    read = Encoder(foreign).sample(json.loads(json.dumps(plain(rich, Form()))))
    assert read.model_dump_json() == rich.model_dump_json()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.array([0.5, np.nan, -np.inf]),
        np.array([1, 2j], np.complex64),
        np.array(["2020-01-01", "NaT"], "M8[s]"),
        np.array([[(1, [2.0, 3.0])]], [("a", "u1"), ("b", "f4", (2,))]),
        np.array([(1, (2, 3))], [("a", "u1"), ("b", [("c", "i2"), ("d", "i2")])]),
        np.zeros((0, 3), np.float32),
        np.array(7, np.int16),
        np.array([b"\xfb\xff", b"a"]),
        np.array([b"a\0b"], "V3"),
        np.array(["hä", ""]),
        np.array([0.5, np.nan], np.longdouble),
        np.array([(b"a", b"\0b", 1 + 2j, 5)], [("a", "S2"), ("b", "V2"), ("c", "c16"), ("t", "M8[s]")]),
        np.array([([[b"a"], [b"b"]], [1j, 2])], [("a", "S1", (2, 1)), ("c", "c8", (2,))]),
    ],
    ids=str,
)
def test_a_whole_array_keeps_its_dtype(array: np.ndarray[Any, Any]):
    """An object with "dtype" and "data" in JSON."""
    given = json.loads(json.dumps(plain(whole_sample(array), Form())))
    read = Encoder(np.ndarray).sample(given)
    assert read.dtype == array.dtype
    assert np.array_equal(read.reshape(array.shape), array, equal_nan=array.dtype.kind in "fcM")


def test_records_with_gaps_or_overlaps_are_packed():
    """JSON has their fields, in order; numpy has no list for overlaps."""
    for offsets, itemsize in (([0, 8], 16), ([8, 0], 12), ([0, 2], 6)):
        dtype = np.dtype({"names": ["a", "b"], "formats": ["<u4", "<i4"], "offsets": offsets, "itemsize": itemsize})
        array = np.zeros(2, dtype)
        array["a"], array["b"] = 1, 2
        read = Encoder(np.ndarray).sample(json.loads(json.dumps(plain(whole_sample(array), Form()))))
        assert read.dtype == np.dtype([("a", "<u4"), ("b", "<i4")])
        assert (read["a"].tolist(), read["b"].tolist()) == (array["a"].tolist(), array["b"].tolist())


@pytest.mark.parametrize(
    "given",
    [
        {"dtype": "S3", "data": [3]},
        {"dtype": "S3", "data": ["***"]},
        {"dtype": [["a", "S3"]], "data": [{"b": "YQ=="}]},
        {"dtype": [["a", "c8"]], "data": [{"a": ["x", 1]}]},
        {"dtype": "O", "data": ["x"]},
        ["text"],
    ],
)
def test_what_is_no_array_says_so(given: Any):
    with pytest.raises(SampleError, match="this is no array"):
        Encoder(np.ndarray).sample(given)


def test_whole_bytes_are_base64():
    """As a text alone, too."""
    shown = plain(whole_sample(memoryview(b"\xfb\xff\xfe")), Form())
    assert shown == {"data": "-__-"}
    for given in (shown, "-__-", "+//+"):
        assert Encoder(bytes).sample(given) == b"\xfb\xff\xfe"


def test_without_arrays_only_their_sizes_are_left(rich: Any):
    """In JSON and in text; fields that are none stay."""
    shown = plain(rich, Form(arrays=False))
    assert (shown["grid"], shown["path"], shown["at"]["y"]) == ("<float32[2, 3]>", "<list[2]>", -1.5)
    assert text("grid", rich.grid, arrays=False) == "grid: <float32[2, 3]>"
    assert text("path", rich.path, arrays=False) == "path: <list[2]>"


def test_what_is_cut_says_so(rich: Any):
    """Arrays, lists, texts and bytes, in JSON and in text."""
    shown = plain(rich, Form(limit=2))
    assert (shown["image"], shown["three"], shown["name"], shown["blob"]) == ([0, 1, "…"], [1, 2, "…"], "hä…", "-_8=…")
    assert text("image", rich.image, limit=2) == "image: [0, 1, …] uint8[2, 3]"
    assert text("three", rich.three, limit=2) == "three: [1, 2, … 3 in all]"
    assert text("name", rich.name, limit=2) == 'name: "hä…"'
    assert text("blob", rich.blob, limit=2) == r"blob: b'\xfb\xff' … 3 bytes"
    assert text("path", rich.path, limit=1) == "path:\n  - x: 1.0\n    y: 0.0\n  … 2 in all"


# --- text


def test_its_text_is_for_people(rich: Any):
    """Names of enumerators, nested fields below each other, nothing that a terminal would take as a command."""
    assert text("at", rich.at) == "at:\n  x: 0.1\n  y: -1.5"
    assert text("path", rich.path) == "path:\n  - x: 1.0\n    y: 0.0\n  - x: 0.0\n    y: 2.0"
    assert text("mode", rich.mode) == "mode: ON (1)"
    assert text("maybe", rich.maybe) == "maybe: none"
    assert text("text", rich.text) == r'text: "a\n\u001b[31m"'
    assert text("grid", rich.grid) == "grid: [[1.0, 2.0, inf], [0.1, -inf, 0.0]] float32[2, 3]"
    assert text("nested", rich.nested) == "nested: [[1, none], []]"
    assert text_of(rich.at, Form()) == "{x: 0.1, y: -1.5}"
    assert text("empty", []) == "empty: []"


# --- CSV


def test_the_columns_of_csv_are_the_fields(rich: Any):
    """Nested ones by themselves, fixed small arrays by element, everything else as JSON."""
    columns = columns_of(rich, zs.layout_of(Rich).to_json_schema())
    found = {title: cell(value_at(rich, way), Form()) for title, way in columns}
    assert found["count"] == str(2**64 - 1)
    assert (found["at.x"], found["at.y"]) == ("0.10000000149011612", "-1.5")
    assert (found["grid[0,2]"], found["grid[1,0]"]) == ("Infinity", "0.10000000149011612")
    assert found["cloud"] == "[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]"
    assert found["three"] == "[1, 2, 3]"
    assert found["maybe"] == ""
    assert found["maybe_at"] == '{"x": 0.0, "y": 9.0}'
    assert found["ready"] == "true"
    assert found["name"] == "hällo"


# --- what is wrong


def test_an_enumerator_may_be_a_name(foreign: type[Any]):
    """Also in an optional; a wrong one names those that there are."""
    read = Encoder(foreign, fill=True).sample({"mode": "ON", "maybe_mode": "ON"})
    assert (read.mode, read.maybe_mode, read.level) == (1, 1, -2)
    with pytest.raises(SampleError, match="mode has no enumerator 'FAST'"):
        Encoder(foreign).sample({"mode": "FAST"})


def test_what_is_missing_is_shown_in_a_whole_sample(foreign: type[Any]):
    """Which can be published as it stands."""
    with pytest.raises(SampleError, match="count: Field required") as caught:
        Encoder(foreign).sample({})
    template = json.loads(str(caught.value).splitlines()[-1])
    assert Encoder(foreign).sample(template) == Encoder(foreign, fill=True).sample({})


@pytest.mark.parametrize(("given", "where"), [({"cuont": 1}, "cuont"), ({"at": {"x": 1, "w": 2}}, "at.w")])
def test_a_misspelt_field_is_refused(given: Any, where: str, foreign: type[Any]):
    """Zeros would be published in its place."""
    if not TELLS_OF_UNKNOWN_FIELDS:
        pytest.skip("pydantic tells of fields that a type does not have from 2.12 on")
    with pytest.raises(SampleError, match=f"{where}: there is no such field"):
        Encoder(foreign, fill=True).sample(given)


def test_fill_goes_into_nested_samples(foreign: type[Any]):
    """And into the items of lists."""
    read = Encoder(foreign, fill=True).sample({"at": {"y": 2}, "path": [{}], "maybe_at": {"x": 1}})
    assert (read.at.x, read.at.y, read.path[0].x, read.maybe_at.y) == (0, 2, 0, 0)


@pytest.mark.parametrize(
    ("sample_type", "given"),
    [
        (Point, 3),
        (Point, {"x": "much"}),
        (Point, {"z": [1], "x": None}),
        (np.ndarray, "text"),
        (np.ndarray, [[1], [2, 3]]),
        (np.ndarray, {"data": [1], "shape": [1]}),
        (np.ndarray, {"data": [1], "dtype": "nonsense"}),
        (np.ndarray, {"data": [1], "dtype": [[]]}),
        (np.ndarray, {"data": [300], "dtype": "u1"}),
        (bytes, 7),
        (bytes, "a"),
    ],
)
def test_what_is_no_sample_is_an_error_with_a_reason(sample_type: type[Any], given: Any):
    with pytest.raises(SampleError) as caught:
        Encoder(sample_type).sample(given)
    assert str(caught.value)


def test_an_array_of_numbers_needs_no_dtype():
    """numpy chooses one."""
    assert array_of([[1, 2], [3, 4]]).dtype == np.int64
    assert array_of([1, 2.5]).dtype == np.float64


# --- types


def as_module(source: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("declared")
    monkeypatch.setitem(sys.modules, "declared", module)
    exec(source, module.__dict__)  # it is what is tested
    return module


def test_the_python_class_is_the_same_type(foreign: type[Any], monkeypatch: pytest.MonkeyPatch):
    """It has the hash of the type, whatever the type is made of."""
    module = as_module(source_of(foreign), monkeypatch)
    assert zs.layout_of(module.Rich) == zs.layout_of(Rich)
    assert module.Mode.ON == 1


def test_a_class_with_arrays_of_any_shape_is_the_same_type(monkeypatch: pytest.MonkeyPatch):
    """Of one dtype, and of those of a family."""

    class Open(zs.Sample):
        moments: Annotated[NDArray[np.datetime64], zs.Shape(..., dtype="datetime64[us]")]
        dates: NDArray[np.datetime64]
        ranges: NDArray[np.floating]

    module = as_module(source_of(zs.type_from_schema(json.dumps(zs.layout_of(Open).to_json_schema()))), monkeypatch)
    assert zs.layout_of(module.Open) == zs.layout_of(Open)


def test_names_that_python_does_not_allow_are_kept(monkeypatch: pytest.MonkeyPatch):
    """Of fields, enumerators and classes."""
    schema = json.dumps(zs.layout_of(Rich).to_json_schema())
    for old, new in (('"count"', '"class"'), ('"ON"', '"mro"'), ('"Point"', '"Box[U8]"'), ('"Mode"', '"enum"')):
        schema = schema.replace(old, new)
    with pytest.raises(zs.FormatError) as caught:
        zs.type_from_schema(schema)
    assert "hash" in str(caught.value)

    class Odd(zs.Sample):
        __zs_renamed__ = {"class_": "class", "None_": "None"}  # noqa: RUF012  # as a schema makes it
        class_: zs.U8
        None_: zs.U8

    module = as_module(source_of(zs.type_from_schema(zs.layout_of(Odd).to_json_schema())), monkeypatch)
    assert zs.layout_of(module.Odd) == zs.layout_of(Odd)


def test_the_dtype_can_be_run():
    """With the offsets and sizes of the layout."""
    for sample_type in (Rich, Point):
        dtype = zs.layout_of(sample_type).dtype
        assert eval(dtype_source(dtype), {"np": np}) == dtype  # the same


@pytest.mark.parametrize("sample_type", [np.ndarray, bytes])
def test_a_whole_type_needs_no_class(sample_type: type[Any]):
    """The text says what to write."""
    assert f"zs.Publisher(topic, {'np.' if sample_type is np.ndarray else ''}{sample_type.__name__}" in source_of(
        sample_type
    )
