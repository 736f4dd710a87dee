"""Layouts: where every byte of a sample is, and what the hash sees."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from zeroslot.errors import DeclarationError
from zeroslot.types.layout import build_layout
from zeroslot.types.nodes.arrays import Array
from zeroslot.types.nodes.enums import Enumeration
from zeroslot.types.nodes.lists import BoundedList, FixedList
from zeroslot.types.nodes.optional import Optional
from zeroslot.types.nodes.scalars import SCALARS
from zeroslot.types.nodes.text import Blob, Text

U8, U16, U32, U64, F64 = (SCALARS[kind] for kind in ("u8", "u16", "u32", "u64", "f64"))


def layout(*members, name="T"):
    return build_layout(name, members)


@pytest.mark.row("SEG-22")
@pytest.mark.row("TYP-1")
def test_layout_is_the_c_struct_of_the_declaration():
    """Order of declaration, natural alignment, every gap a field of its own; no segment is needed to know it."""
    found = layout(("a", U8), ("b", U32), ("c", U16), ("d", F64), ("e", U8))
    assert [(field.name, field.offset, field.size, field.padding) for field in found.fields] == [
        ("a", 0, 1, False),
        ("_pad0", 1, 3, True),
        ("b", 4, 4, False),
        ("c", 8, 2, False),
        ("_pad1", 10, 6, True),
        ("d", 16, 8, False),
        ("e", 24, 1, False),
        ("_pad2", 25, 7, True),
    ]
    assert (found.size, found.alignment) == (32, 8)
    assert sum(field.size for field in found.fields) == found.size
    assert [field.name for field in found.members] == ["a", "b", "c", "d", "e"]


@pytest.mark.row("TYP-9")
def test_field_says_kind_and_shape():
    """Kind and shape tell a reader what to expect without looking at the node."""
    point = layout(("x", F64))
    found = layout(
        ("a", U8),
        ("b", Array(F64, (2, 3))),
        ("c", Enumeration(SCALARS["u8"], "Mode", (("A", 0),))),
        ("d", Text(3)),
        ("e", Blob(3)),
        ("f", point),
        ("g", FixedList(point, 4)),
        ("h", BoundedList(U8, 5)),
        ("i", Optional(U8)),
    )
    assert [(field.kind, field.shape) for field in found.members] == [
        ("u8", ()),
        ("f64", (2, 3)),
        ("enum", ()),
        ("str", ()),
        ("bytes", ()),
        ("struct", ()),
        ("list", (4,)),
        ("list", (5,)),
        ("optional", ()),
    ]


@pytest.mark.row("TYP-12")
def test_unit_type_takes_no_bytes():
    """A type without fields is legal, alone and inside others."""
    unit = layout()
    assert (unit.size, unit.alignment, unit.fields, unit.dtype.itemsize) == (0, 1, (), 0)
    assert len(unit.type_hash) == 16
    outer = layout(("before", U8), ("unit", unit), ("maybe", Optional(unit)), ("after", U8))
    assert [(field.offset, field.size) for field in outer.members] == [(0, 1), (1, 0), (1, 1), (2, 1)]


@pytest.mark.row("NEW-2")
def test_dtype_reads_what_the_layout_says():
    """The numpy dtype has the offsets and the size of the layout and no name for padding."""
    point = layout(("x", U8), ("y", F64))
    found = layout(("a", U8), ("p", BoundedList(point, 2)), ("t", Text(3)), ("o", Optional(U32)))
    assert found.dtype.names == ("a", "p", "t", "o")
    assert found.dtype.itemsize == found.size
    assert [found.dtype.fields[field.name][1] for field in found.members] == [field.offset for field in found.members]
    image = np.zeros((), found.dtype)
    image["p"]["count"] = 1
    image["p"]["items"][0]["y"] = 2.5
    image["t"]["data"][:] = list(b"abc")
    raw = image.tobytes()
    assert raw[8:12] == b"\1\0\0\0"
    assert raw[24:32] == np.float64(2.5).tobytes()
    assert b"abc" in raw


BASE = [("x", U32), ("y", F64)]
DIFFERENT = [
    [("x", U32), ("z", F64)],
    [("y", F64), ("x", U32)],
    [("x", SCALARS["i32"]), ("y", F64)],
    [("x", U32), ("y", F64), ("z", U8)],
    [("x", U32), ("y", Array(F64, (1,)))],
    [("x", U32), ("y", FixedList(F64, 1))],
    [("x", U32), ("y", Optional(F64))],
    [("x", U32), ("y", layout(("y", F64)))],
    [("x", Text(4)), ("y", F64)],
    [("x", Blob(4)), ("y", F64)],
    [("x", Text(5)), ("y", F64)],
    [("x", Enumeration(SCALARS["u32"], "E", (("A", 0),))), ("y", F64)],
    [("x", Enumeration(SCALARS["u32"], "E", (("B", 0),))), ("y", F64)],
    [("x", Enumeration(SCALARS["u32"], "E", (("A", 1),))), ("y", F64)],
    [("x", U32), ("y", BoundedList(F64, 1))],
    [("x", U32), ("y", BoundedList(F64, 2))],
    [("x", U32), ("y", BoundedList(layout(("a", F64)), 2))],
    [("x", U32), ("y", BoundedList(layout(("b", F64)), 2))],
    [],
]


@pytest.mark.row("TYP-3")
@pytest.mark.row("TYP-4")
def test_hash_sees_every_difference_that_a_reader_would_meet():
    """Names, kinds, order, shapes, bounds, enumerators and nested fields each change the hash."""
    hashes = {layout(*members).type_hash for members in [BASE, *DIFFERENT]}
    assert len(hashes) == len(DIFFERENT) + 1


def test_hash_does_not_see_class_names():
    """The same bytes under another class name are the same type."""
    inner_a, inner_b = layout(("x", F64), name="Point"), layout(("x", F64), name="Vec")
    one, two = layout(("p", inner_a), name="A"), layout(("p", inner_b), name="B")
    assert one == two
    assert hash(one) == hash(two)
    assert one != layout(("q", inner_a))


def test_hash_is_the_same_for_ever():
    """The hash of format 1 is written down: a change of it is a change of the format."""
    found = layout(("x", U32), ("y", Array(F64, (3,))), ("t", Text(16)), name="Pinned")
    assert found.canonical == "struct(56,8){x@0:u32;y@8:array(3)[f64];t@32:str(16)}"
    assert found.type_hash.hex() == "85638917d7e10beb46e8b410e62593f7"


def test_plain_is_what_cdr_has_too():
    """Numbers, enums, fixed arrays and lists, and nested ones of these are plain; whatever has a count is not."""
    point = layout(("x", F64), ("e", Enumeration(SCALARS["i32"], "E", (("A", 0),))))
    assert layout(("a", Array(F64, (3,))), ("p", FixedList(point, 2))).plain
    assert layout().plain
    for node in (
        Text(3),
        Blob(3),
        BoundedList(U8, 2),
        Optional(U8),
        layout(("t", Text(3))),
        FixedList(Text(3), 2),
    ):
        assert not layout(("a", node)).plain


@pytest.mark.parametrize(
    "members",
    [
        [("a", Array(U64, (2**28,)))],
        [("a", Array(U8, (2**20,))), ("b", FixedList(Blob(2**20), 2**20))],
        [("a", Array(U8, (2**31 - 1, 2**31 - 1)))],
    ],
)
def test_sample_of_two_gigabytes_is_refused(members):
    """A size beyond what numpy can describe is a DeclarationError, not an overflow."""
    with pytest.raises(DeclarationError, match="at most"):
        layout(*members)


def test_more_dims_than_numpy_has_are_refused():
    """Lists of lists of arrays end before numpy's dims do."""
    node = Array(U8, (1,) * 32)
    for _ in range(40):
        node = FixedList(node, 1)
    with pytest.raises(DeclarationError, match="Nest fewer types"):
        layout(("deep", node))


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 1001])
def test_type_name_that_no_schema_can_carry_is_refused(name):
    """What could not be read back from a segment is not written into one."""
    with pytest.raises(DeclarationError, match="type name"):
        layout(name=name)


def test_layout_can_be_pickled():
    """Layouts travel between processes with their fields."""
    found = layout(("x", U32), ("p", layout(("y", F64))))
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert again.fields == found.fields
    assert again.dtype == found.dtype
