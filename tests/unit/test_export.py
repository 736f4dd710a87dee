"""IDL in two forms and C: what each declaration becomes, and that compilers take it."""

from __future__ import annotations

import enum
import re
import shutil
import subprocess
from typing import Annotated, Generic, Literal, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from zeroslot.types.export.c import C_KEYWORDS
from zeroslot.types.export.idl import IDL_KEYWORDS
from zeroslot.types.layout import build_layout
from zeroslot.types.names import is_identifier
from zeroslot.types.nodes.arrays import Shape
from zeroslot.types.nodes.lists import MaxLen
from zeroslot.types.nodes.scalars import F16, I64, SCALARS, U8, U32, U64
from zeroslot.types.nodes.text import MaxBytes
from zeroslot.types.sample import Sample, layout_of

T = TypeVar("T")


class Mode(enum.IntEnum):
    IDLE = 0
    DEFAULT = 3


class Wide(enum.IntEnum):
    LOWEST = -(2**63)
    BIG = 2**40


class Point(Sample):
    x: float
    e: U8


class Unit(Sample):
    pass


class Imu(Sample):
    stamp_ns: U64
    accel: Annotated[NDArray[np.float64], Shape(2, 3)]
    frame: Annotated[str, MaxBytes(5)]
    mode: Mode
    small: Annotated[Mode, U8]
    half: F16
    wide: Annotated[Wide, I64]
    maybe: Point | None
    maybe_list: Annotated[list[U32 | None], Shape(2)]
    points: Annotated[list[Point], MaxLen(3)]
    rows: Annotated[list[Annotated[NDArray[np.float32], Shape(4)]], MaxLen(2)]
    unit: Unit
    choice: Literal[1, 2]


def body(text: str, name: str) -> list[str]:
    """The member lines of one struct."""
    found = re.search(rf"struct {name} \{{\n(.*?)\}}", text, re.DOTALL)
    assert found is not None, text
    return [line.strip() for line in found[1].splitlines()]


@pytest.mark.row("TYP-10")
def test_image_form_says_what_lies_in_memory():
    """Text is a length and octets, lists a count and items, optionals a boolean and a value, padding is there."""
    text = layout_of(Imu).to_idl()
    assert body(text, "Imu") == [
        "unsigned long long stamp_ns;",
        "double accel[2][3];",
        "str_5 frame;",
        "Mode mode;",
        "Mode_ small;",
        "octet _pad0[1];",
        "@float16 unsigned short half;",
        "octet _pad1[4];",
        "Wide wide;",
        "optional_Point maybe;",
        "optional_u32 maybe_list[2];",
        "list_Point_3 points;",
        "list_f32_4_2 rows;",
        "Unit unit;",
        "Literal choice;",
    ]
    assert body(text, "str_5") == ["unsigned long length;", "octet data[5];", "octet _pad0[3];"]
    assert body(text, "list_Point_3") == ["unsigned long count;", "octet _pad0[4];", "Point items[3];"]
    assert body(text, "optional_Point") == ["boolean present;", "octet _pad0[7];", "Point value;"]
    assert body(text, "Point") == ["double x;", "octet e;", "octet _pad0[7];"]
    assert body(text, "Unit") == []


@pytest.mark.row("TYP-10")
def test_message_form_says_what_the_type_means():
    """Strings, sequences and optionals are IDL's own, there is no padding, and F16 is a float."""
    text = layout_of(Imu).to_idl(form="message")
    assert body(text, "Imu") == [
        "unsigned long long stamp_ns;",
        "double accel[2][3];",
        "string<5> frame;",
        "Mode mode;",
        "Mode_ small;",
        "float half;",
        "Wide wide;",
        "@optional Point maybe;",
        "optional_u32 maybe_list[2];",
        "sequence<Point, 3> points;",
        "sequence<f32_4, 2> rows;",
        "Unit unit;",
        "Literal choice;",
    ]
    assert body(text, "optional_u32") == ["@optional unsigned long value;"]
    assert "typedef float f32_4[4];" in text
    assert "_pad" not in text


@pytest.mark.parametrize("form", ["image", "message"])
def test_types_are_defined_before_they_are_used(form):
    """The type itself comes last, and every name it uses stands above."""
    text = layout_of(Imu).to_idl(form)
    names = re.findall(r"^(?:struct|enum|typedef [\w ]*) (\w+)(?: \{|;|\[)", text, re.MULTILINE)
    assert names[-1] == "Imu"
    assert len(set(names)) == len(names)
    for name in ("Point", "Mode", "Wide"):
        definition = re.search(rf"(struct|enum|long) {name}\b", text)
        assert definition is not None
        assert definition.start() < text.index("struct Imu")


def test_unknown_form_is_a_value_error():
    """There are two forms."""
    with pytest.raises(ValueError, match="message"):
        layout_of(Point).to_idl(form="text")


def test_enums_are_idl_enums_where_every_compiler_agrees():
    """An i32 enum keeps its enumerators with their values; other widths are typedefs with constants."""
    text = layout_of(Imu).to_idl()
    assert "enum Mode {\n    @value(0) IDLE,\n    @value(3) _DEFAULT\n};" in text
    assert "typedef octet Mode_;\nconst octet Mode__IDLE = 0;" in text
    assert "typedef long long Wide;\nconst long long Wide_LOWEST = -9223372036854775808;" in text


def fields_named(names):
    return build_layout("Names", [(name, SCALARS["u8"]) for name in names])


def test_keywords_are_escaped_in_each_language():
    """IDL has a leading underscore for them, whatever their case; C gets a trailing one."""
    layout = fields_named(["default", "Object", "new", "uint8_t", "plain"])
    assert body(layout.to_idl(), "Names") == [
        "octet _default;",
        "octet _Object;",
        "octet new;",
        "octet uint8_t;",
        "octet plain;",
    ]
    assert body(layout.to_c(), "Names")[:5] == [
        "uint8_t default_;",
        "uint8_t Object;",
        "uint8_t new_;",
        "uint8_t uint8_t_;",
        "uint8_t plain;",
    ]


def test_names_that_fold_together_are_kept_apart():
    """IDL takes K and k for one name, and _pad0 for pad0; C does not."""
    u8 = SCALARS["u8"]
    members = [("K", u8), ("k", u8), ("pad0", u8), ("late", SCALARS["f64"])]
    layout = build_layout("Names", members)
    assert body(layout.to_idl(), "Names") == [
        "octet K;",
        "octet k_;",
        "octet pad0;",
        "octet _pad0_[5];",
        "double late;",
    ]
    assert body(layout.to_c(), "Names") == [
        "uint8_t K;",
        "uint8_t k;",
        "uint8_t pad0;",
        "uint8_t _pad0[5];",
        "double late;",
    ]


def test_two_types_of_one_name_are_kept_apart():
    """A nested type that is called like the outer one gets another name."""
    members = [("a", SCALARS["i8"]), ("p", layout_of(Point))]
    outer = build_layout("Point", members)
    assert body(outer.to_idl(), "Point")[-1] == "Point_ p;"
    assert body(outer.to_c(), "Point")[-1] == "Point_ p;"


def test_generic_names_become_identifiers():
    """Box[Point] is Box_Point in IDL and C."""

    class Box(Sample, Generic[T]):
        value: T

    layout = layout_of(Box[Point])
    assert "struct Box_Point {" in layout.to_idl()
    assert "typedef struct Box_Point {" in layout.to_c()


COMPILERS = [("gcc", "c11", "c"), ("g++", "c++17", "c++"), ("gcc", "gnu17", "c")]


def compile_text(text, compiler, standard, language, tmp_path):
    tool = shutil.which(compiler)
    if tool is None:
        pytest.skip(f"{compiler} is not installed")
    source = tmp_path / "sample.txt"
    source.write_text(text)
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    command = [tool, f"-std={standard}", *warnings, "-x", language, str(source)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.row("NEW-2")
@pytest.mark.parametrize(("compiler", "standard", "language"), COMPILERS)
def test_header_compiles_in_c_and_cpp(compiler, standard, language, tmp_path):
    """The header of a type with everything in it compiles without a warning, twice in one file and beside another."""
    headers = layout_of(Imu).to_c() * 2 + layout_of(Point).to_c() + layout_of(Unit).to_c()
    done = compile_text(headers + "int main(void) { return 0; }\n", compiler, standard, language, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("compiler", "standard", "language"), COMPILERS)
def test_every_keyword_can_be_a_field(compiler, standard, language, tmp_path):
    """All words that C, C++ and IDL reserve compile as fields, together in one struct."""
    extra = ["INT8_MAX", "int32_t", "UINT64_C", "assert", "Names", "uint_fast8_t"]
    names = [name for name in sorted({*C_KEYWORDS, *IDL_KEYWORDS, *extra}) if is_identifier(name)]
    assert len(names) > 100
    text = fields_named(names).to_c() + "int main(void) { return 0; }\n"
    done = compile_text(text, compiler, standard, language, tmp_path)
    assert done.returncode == 0, done.stderr


def test_header_does_not_compile_where_an_offset_differs(tmp_path):
    """The asserts in the header do their work."""
    text = layout_of(Point).to_c().replace("double x;", "float x;")
    done = compile_text(text, "gcc", "c11", "c", tmp_path)
    assert done.returncode != 0
    assert "size of Point" in done.stderr
