"""Annotations: what pydantic lets through, and which node each one means."""

from __future__ import annotations

import enum
import math
from typing import Annotated, Any, Literal, Union

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from zeroslot.errors import DeclarationError
from zeroslot.types.annotations import node_of
from zeroslot.types.names import is_identifier, python_names
from zeroslot.types.nodes.arrays import Array, Shape
from zeroslot.types.nodes.enums import Enumeration
from zeroslot.types.nodes.lists import BoundedList, FixedList, MaxLen
from zeroslot.types.nodes.optional import Optional
from zeroslot.types.nodes.scalars import F16, F32, F64, I8, I16, I32, I64, SCALARS, U8, U16, U32, U64, Bool
from zeroslot.types.nodes.text import Blob, MaxBytes, Text


class Mode(enum.IntEnum):
    IDLE = 0
    RUN = 3


def validate(annotation, value):
    return TypeAdapter(annotation).validate_python(value)


ALIASES = {"u8": U8, "u16": U16, "u32": U32, "u64": U64, "i8": I8, "i16": I16, "i32": I32, "i64": I64}


@pytest.mark.row("TYP-8")
@pytest.mark.parametrize(
    ("annotation", "kind", "size"),
    [
        *((annotation, kind, int(kind[1:]) // 8) for kind, annotation in ALIASES.items()),
        (F16, "f16", 2),
        (F32, "f32", 4),
        (F64, "f64", 8),
        (Bool, "bool", 1),
        (int, "i64", 8),
        (float, "f64", 8),
        (bool, "bool", 1),
    ],
)
def test_scalar_has_its_width_as_size_and_alignment(annotation, kind, size):
    """Every scalar alias, and the plain Python types, mean one number of a fixed width."""
    node = node_of(annotation, "T.x")
    assert node == SCALARS[kind]
    assert (node.size, node.alignment, node.text) == (size, size, kind)


NODES = [
    (Annotated[NDArray[np.float32], Shape(480, 640)], Array(SCALARS["f32"], (480, 640)), "f32[480,640]", 1228800, 4),
    (Annotated[NDArray[np.bool_], Shape(3)], Array(SCALARS["bool"], (3,)), "bool[3]", 3, 1),
    (Annotated[NDArray[np.longlong], Shape(3)], Array(SCALARS["i64"], (3,)), "i64[3]", 24, 8),
    (Annotated[str, MaxBytes(5)], Text(5), "str<=5", 12, 4),
    (Annotated[bytes, MaxBytes(4)], Blob(4), "bytes<=4", 8, 4),
    (Annotated[list[int], Shape(2)], FixedList(SCALARS["i64"], 2), "list[i64][2]", 16, 8),
    (Annotated[list[float], MaxLen(2)], BoundedList(SCALARS["f64"], 2), "list[f64]<=2", 24, 8),
    (Annotated[list[U8], MaxLen(2)], BoundedList(SCALARS["u8"], 2), "list[u8]<=2", 8, 4),
    (U32 | None, Optional(SCALARS["u32"]), "u32?", 8, 4),
    (Union[None, bool], Optional(SCALARS["bool"]), "bool?", 2, 1),  # noqa: UP007  # both spellings mean it
    (Mode, Enumeration(SCALARS["i32"], "Mode", (("IDLE", 0), ("RUN", 3))), "Mode", 4, 4),
    (Annotated[Mode, U8], Enumeration(SCALARS["u8"], "Mode", (("IDLE", 0), ("RUN", 3))), "Mode:u8", 1, 1),
    (Literal[2, 1], Enumeration(SCALARS["i32"], "Literal", (("VALUE_1", 1), ("VALUE_2", 2))), "Literal", 4, 4),
]


@pytest.mark.row("TYP-9")
@pytest.mark.parametrize(("annotation", "node", "text", "size", "alignment"), NODES)
def test_annotation_means_one_node(annotation, node, text, size, alignment):
    """Arrays, text, lists, optionals and enums have the size and alignment that the format document gives them."""
    found = node_of(annotation, "T.x")
    assert (found, found.text, found.size, found.alignment) == (node, text, size, alignment)


def test_enumeration_knows_its_class_and_compares_without_it():
    """A schema read from a segment equals the class it was made from."""
    node = node_of(Mode, "T.x")
    assert isinstance(node, Enumeration)
    assert node.python_type is Mode
    assert node == Enumeration(SCALARS["i32"], "Other", (("IDLE", 0), ("RUN", 3)))
    assert node != Enumeration(SCALARS["i32"], "Mode", (("IDLE", 0), ("RUN", 4)))


class Flags(enum.IntFlag):
    A = 1


REFUSED = [
    (list, "what it holds"),
    (list[str], "variable size"),
    (list[NDArray[np.float64] | None], "variable size"),
    (Annotated[list[bytes], MaxLen(2)], "variable size"),
    (Annotated[list[list[int]], Shape(2)], "variable size"),
    (NDArray[np.object_], "element type"),
    (NDArray[np.object_], "NDArray.Any."),
    (Annotated[NDArray[Any], Shape(2)], "element type"),
    (Annotated[list, MaxLen(3)], "what it holds"),
    (int | str, "union"),
    (U8 | F64 | None, "union"),
    (dict[str, int], "no fixed place"),
    (Any, "no fixed place"),
    (type(None), "no fixed place"),
    (complex, "no fixed place"),
    (tuple[float, float], "Shape"),
    (np.float32, "F32"),
    (Annotated[NDArray[np.object_], Shape(2)], "element type"),
    (Annotated[NDArray[np.object_], Shape(2)], "element type"),
    (Annotated[NDArray[np.floating[Any]], Shape(2)], "element type"),
    (Annotated[NDArray[np.float64], MaxLen(2)], "does not belong"),
    (Annotated[NDArray[np.float64], MaxLen(2), Shape(2)], "exclude each other"),
    (Annotated[list[int], Shape(2, 3)], "several dims"),
    (Annotated[str, Shape(2)], "does not belong"),
    (Annotated[int, MaxBytes(2)], "does not belong"),
    (Annotated[str | None, MaxBytes(2)], "Put it inside"),
    (Annotated[Annotated[int | None, "a"] | None, "b"], "optional of an optional"),
    (enum.StrEnum("Color", "RED"), "not an IntEnum"),
    (Flags, "not an IntEnum"),
    (enum.IntEnum("Empty", []), "no enumerators"),
    (enum.IntEnum("Spaced", {"a b": 1}), "identifier"),
    (Annotated[enum.IntEnum("Big", {"A": 256}), U8], "does not fit"),
    (Annotated[Mode, F32], "integer width"),
    (Literal["a"], "not ints"),
    (Literal[True], "not ints"),
    ("Later", "not resolved"),
]


@pytest.mark.row("TYP-2")
@pytest.mark.parametrize(("annotation", "text"), REFUSED)
def test_annotation_without_a_fixed_place_is_refused(annotation, text):
    """Whatever has no fixed place in memory is a DeclarationError that names class and field and says what to write."""
    with pytest.raises(DeclarationError, match=text) as caught:
        node_of(annotation, "Imu.accel")
    assert (caught.value.type_name, caught.value.field) == ("Imu", "accel")
    assert str(caught.value).startswith("Imu.accel: ")


@pytest.mark.parametrize("bound", [Shape, MaxBytes, MaxLen])
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, None, 2**31])
def test_bound_takes_positive_whole_numbers(bound, value):
    """A bound that cannot be a size is refused where it is written."""
    with pytest.raises(DeclarationError):
        bound(value)


@pytest.mark.parametrize("dims", [(), (1,) * 33, (3, 0)])
def test_shape_takes_the_dims_that_an_array_can_have(dims):
    """No dims, too many dims and empty dims are refused."""
    with pytest.raises(DeclarationError):
        Shape(*dims)


def test_bounds_compare_hash_and_print_by_value():
    """Bounds can be keys, and their text is the code that makes them."""
    assert {Shape(3), Shape(np.int64(3)), MaxLen(3), MaxBytes(3)} == {MaxBytes(3), Shape(3), MaxLen(3)}
    assert [repr(each) for each in (Shape(3, 4), MaxLen(3), MaxBytes(2))] == ["Shape(3, 4)", "MaxLen(3)", "MaxBytes(2)"]


@pytest.mark.parametrize(("kind", "annotation"), ALIASES.items())
def test_integer_is_checked_against_its_width(kind, annotation):
    """Both ends of the range pass, one step beyond does not, and numpy integers count as integers."""
    info = np.iinfo(SCALARS[kind].dtype)
    for value in (info.min, info.max):
        assert validate(annotation, int(value)) == value
        assert type(validate(annotation, info.dtype.type(value))) is int
    assert validate(annotation, info.dtype.type(info.max - 1)) == info.max - 1
    for value in (int(info.min) - 1, int(info.max) + 1, 1.5, "x", None):
        with pytest.raises(ValidationError):
            validate(annotation, value)


def test_narrow_floats_are_rounded_as_memory_rounds_them():
    """A validated F32 or F16 equals what is read back; infinity stays, a finite number beyond the range is refused."""
    assert validate(F32, 0.1) == float(np.float32(0.1))
    assert validate(F16, np.float64(0.1)) == float(np.float16(0.1))
    assert validate(F16, math.inf) == math.inf
    assert math.isnan(validate(F32, math.nan))
    assert validate(F64, 0.1) == 0.1
    for annotation, value in ((F32, 1e39), (F16, 65520.0)):
        with pytest.raises(ValidationError, match="beyond the range"):
            validate(annotation, value)


VECTOR = Annotated[NDArray[np.float32], Shape(3)]
COUNTS = Annotated[NDArray[np.uint64], Shape(2)]


def test_array_that_fits_is_kept_as_it_is():
    """An array of the right kind and shape is not copied."""
    given = np.zeros(3, np.float32)
    assert validate(VECTOR, given) is given


@pytest.mark.parametrize("value", [[1, 2, 3], (1.0, 2.0, 3.0), np.arange(1, 4), np.array([1, 2, 3], ">f8")])
def test_array_likes_become_the_declared_kind(value):
    """Lists, tuples and other numbers are converted when nothing but digits is lost."""
    result = validate(VECTOR, value)
    assert result.dtype == np.dtype("<f4")
    assert result.tolist() == [1, 2, 3]


def test_numbers_just_within_the_range_are_rounded_and_infinity_stays():
    """The largest numbers that do not become infinite, without a warning of numpy's."""
    edge = np.nextafter(3.4028235677973366e38, 0)
    assert validate(VECTOR, [edge, np.inf, -np.inf]).tolist() == [np.finfo(np.float32).max, np.inf, -np.inf]
    assert validate(Annotated[NDArray[np.float16], Shape(2)], [65519, -np.inf]).tolist() == [65504, -np.inf]
    assert np.isnan(validate(VECTOR, [np.nan] * 3)).all()


def test_large_integers_in_lists_stay_exact():
    """A list with 2**64 - 1, for which numpy guesses float64, becomes an array of the integers."""
    assert validate(COUNTS, [1, 2**64 - 1]).tolist() == [1, 2**64 - 1]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (VECTOR, [1, 2]),
        (VECTOR, [[1, 2, 3]]),
        (VECTOR, [1, [2], 3]),
        (VECTOR, [1j, 2, 3]),
        (VECTOR, [1e39, 0, 0]),
        (VECTOR, [-3.4028235677973366e38, 0, 0]),
        (Annotated[NDArray[np.float16], Shape(1)], np.array([65520])),
        (Annotated[NDArray[np.float64], Shape(1)], np.array([np.finfo(np.longdouble).max])),
        (VECTOR, ["a", "b", "c"]),
        (VECTOR, np.array(["1", "2", "3"])),
        (VECTOR, None),
        (VECTOR, [True, False, True]),
        (COUNTS, [1.0, 2.0]),
        (COUNTS, [-1, 2]),
        (COUNTS, [1, 2**64]),
        (COUNTS, np.array([1, "x"], object)),
        (Annotated[NDArray[np.int8], Shape(1)], np.array([128])),
        (Annotated[NDArray[np.bool_], Shape(1)], [1]),
    ],
)
def test_array_that_would_lose_something_is_refused(annotation, value):
    """Wrong shapes, wrong kinds and numbers out of range are validation errors, not silent changes."""
    with pytest.raises(ValidationError):
        validate(annotation, value)


def test_arrays_survive_json():
    """Nested lists in JSON, with names for what JSON has no number for, and arrays in Python mode."""
    adapter = TypeAdapter(Annotated[NDArray[np.float64], Shape(2, 2)])
    value = np.array([[1.5, math.nan], [math.inf, -math.inf]])
    text = adapter.dump_json(value)
    assert text == b'[[1.5,"NaN"],["Infinity","-Infinity"]]'
    np.testing.assert_array_equal(adapter.validate_json(text), value)
    assert adapter.dump_python(value) is value
    assert adapter.json_schema()["items"] == {
        "type": "array",
        "items": {"type": "number"},
        "minItems": 2,
        "maxItems": 2,
    }


def test_text_is_bounded_in_bytes_of_utf8():
    """Five two-byte letters do not fit into nine bytes."""
    annotation = Annotated[str, MaxBytes(9)]
    assert validate(annotation, "éééé") == "éééé"
    assert validate(annotation, "123456789") == "123456789"
    for value in ("ééééé", "1234567890", "\ud800", 5):
        with pytest.raises(ValidationError):
            validate(annotation, value)
    with pytest.raises(ValidationError):
        validate(Annotated[bytes, MaxBytes(2)], b"123")


@pytest.mark.parametrize("text", ["", "aGk=", "hi"])
def test_a_str_is_no_bytes_in_python_and_base64_in_json(text):
    """pydantic would decode it in Python as well, and "aGk=" would be two other bytes than it looks."""
    adapter = TypeAdapter(Annotated[bytes, MaxBytes(4)], config={"val_json_bytes": "base64"})
    with pytest.raises(ValidationError, match="str is not bytes"):
        adapter.validate_python(text)
    assert adapter.validate_json('"aGk="') == b"hi"
    assert [adapter.validate_python(each) for each in (b"hi", bytearray(b"hi"), memoryview(b"hi"))] == [b"hi"] * 3
    for value in (5, [1], None):
        with pytest.raises(ValidationError):
            adapter.validate_python(value)
    with pytest.raises(ValidationError, match="do not fit"):
        adapter.validate_json('"aGVsbG8="')


def test_lists_are_bounded():
    """Shape says how many items there are, MaxLen how many there may be; items are checked against their width."""
    assert validate(Annotated[list[int], Shape(2)], np.array([1, 2])) == [1, 2]
    assert validate(Annotated[list[int], MaxLen(2)], []) == []
    for annotation, value in (
        (Annotated[list[int], Shape(2)], [1]),
        (Annotated[list[int], Shape(2)], [1, 2, 3]),
        (Annotated[list[int], MaxLen(2)], [1, 2, 3]),
        (Annotated[list[int], MaxLen(2)], [2**63]),
    ):
        with pytest.raises(ValidationError):
            validate(annotation, value)


def test_renamed_names_do_not_collide():
    """In every order; names that need no change are kept."""
    assert python_names(["class", "class_", "class__"], is_identifier) == {
        "class": "class___",
        "class_": "class_",
        "class__": "class__",
    }
