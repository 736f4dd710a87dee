"""Every kind of field, in place: what goes in comes out, what does not fit stays out, and corrupt bytes are errors."""

from __future__ import annotations

import enum
import math
import struct
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.unit.control_bytes import ControlBytes
from zeroslot import CorruptSegmentError, Lease, Publisher, Sample, Subscriber, layout_of
from zeroslot._core import binding
from zeroslot.types.compiled import compiled
from zeroslot.types.nodes.scalars import SCALARS


class Mode(enum.IntEnum):
    IDLE = 0
    RUN = 3


class Inner(Sample):
    a: zs.U8 = 0
    text: Annotated[str, zs.MaxBytes(4)] = ""


class All(Sample):
    u8: zs.U8 = 0
    u16: zs.U16 = 0
    u32: zs.U32 = 0
    u64: zs.U64 = 0
    i8: zs.I8 = 0
    i16: zs.I16 = 0
    i32: zs.I32 = 0
    i64: zs.I64 = 0
    f16: zs.F16 = 0.0
    f32: zs.F32 = 0.0
    f64: zs.F64 = 0.0
    flag: zs.Bool = False
    mode: Mode = Mode.IDLE
    choice: Literal[-1, 5] = 5
    text: Annotated[str, zs.MaxBytes(8)] = ""
    blob: Annotated[bytes, zs.MaxBytes(8)] = b""
    array: Annotated[NDArray[np.int16], zs.Shape(2, 3)] = np.zeros((2, 3), "i2")
    fixed: Annotated[list[Inner], zs.Shape(2)] = [Inner(), Inner()]  # noqa: RUF012  # pydantic copies it
    bounded: Annotated[list[zs.U16], zs.MaxLen(3)] = []  # noqa: RUF012  # pydantic copies it
    inner: Inner = Inner()
    maybe: Inner | None = None
    small: zs.I16 | None = None


class Both:
    """A loan to write into, and the lease of what was written."""

    def __init__(self) -> None:
        self.pub: Publisher[All] = Publisher("all", All)
        self.sub: Subscriber[All] = Subscriber("all", All)
        self.loan = self.pub.loan()

    @property
    def here(self) -> Any:
        return self.loan.sample

    def sent(self) -> Lease[All]:
        self.loan.commit()
        lease = self.sub.take()
        assert lease is not None
        return lease

    def poked(self, field: str, content: bytes, *, inside: int = 0) -> Any:
        """The view of a sample whose bytes at a field were overwritten in the pool, behind everybody's back."""
        self.loan.commit()
        control = ControlBytes(self.pub.flink)
        slot = control.read(control.ring_at(1), "Q") & 0xFFFF
        at = slot * self.pub.allocator.slot_capacity + offset_of(field) + inside
        ControlBytes(self.pub.flink, pool=0).write_bytes(at, content)
        lease = self.sub.take()
        assert lease is not None
        return lease.sample


def offset_of(field: str) -> int:
    return next(each.offset for each in layout_of(All).members if each.name == field)


@pytest.fixture
def both() -> Iterator[Both]:
    made = Both()
    yield made
    made.loan.discard()
    made.sub.close()
    made.pub.close()


RANGES = {
    "u8": (0, 2**8 - 1),
    "u16": (0, 2**16 - 1),
    "u32": (0, 2**32 - 1),
    "u64": (0, 2**64 - 1),
    "i8": (-(2**7), 2**7 - 1),
    "i16": (-(2**15), 2**15 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "i64": (-(2**63), 2**63 - 1),
}


@pytest.mark.row("TYP-8")
@pytest.mark.parametrize("kind", RANGES)
def test_integers_have_their_whole_range_and_no_more(both: Both, kind: str) -> None:
    """Both ends arrive; one beyond is a ValueError that names the field and leaves it as it was."""
    low, high = RANGES[kind]
    for value in (low, high, 1, np.int8(1), True):
        setattr(both.here, kind, value)
        assert getattr(both.here, kind) == int(value)
    for value in (low - 1, high + 1, 10**30, -(10**30)):
        with pytest.raises(ValueError, match=kind):
            setattr(both.here, kind, value)
    for value in (1.0, "1", None, b"1", [], np.float64(1)):
        with pytest.raises(TypeError, match=kind):
            setattr(both.here, kind, value)
    setattr(both.here, kind, high)
    sample = both.sent().sample
    assert getattr(sample, kind) == high
    assert type(getattr(sample, kind)) is int


@pytest.mark.row("TYP-8")
@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("f64", 0.1, 0.1),
        ("f64", 5e-324, 5e-324),
        ("f64", 10**300, 1e300),
        ("f32", 0.1, float(np.float32(0.1))),
        ("f32", 1, 1.0),
        ("f16", 0.1, float(np.float16(0.1))),
        ("f16", 65504, 65504.0),
        ("f16", math.inf, math.inf),
        ("f32", -math.inf, -math.inf),
        ("f64", np.float32(0.5), 0.5),
        ("f32", True, 1.0),
    ],
)
def test_floats_are_rounded_to_their_width(both: Both, kind: str, value: float, stored: float) -> None:
    """As numpy rounds them."""
    setattr(both.here, kind, value)
    assert getattr(both.sent().sample, kind) == stored


@pytest.mark.row("TYP-8")
@pytest.mark.parametrize("kind", ["f16", "f32", "f64"])
def test_nan_arrives_as_nan(both: Both, kind: str) -> None:
    """And -0.0 keeps its sign."""
    setattr(both.here, kind, math.nan)
    assert math.isnan(getattr(both.here, kind))
    setattr(both.here, kind, -0.0)
    assert math.copysign(1, getattr(both.sent().sample, kind)) == -1


@pytest.mark.row("TYP-8")
@pytest.mark.parametrize(("kind", "value"), [("f16", 65520.0), ("f16", -1e9), ("f32", 1e39), ("f32", -1e300)])
def test_floats_beyond_their_width_are_refused(both: Both, kind: str, value: float) -> None:
    """A finite number does not become infinite silently."""
    with pytest.raises(ValueError, match=kind):
        setattr(both.here, kind, value)
    assert getattr(both.here, kind) == 0.0


@pytest.mark.parametrize("kind", ["f16", "f32", "f64"])
@pytest.mark.parametrize("value", ["1", None, b"1", 1j, [1.0]])
def test_floats_are_numbers(both: Both, kind: str, value: Any) -> None:
    """TypeError that names the field; an int beyond all floats is refused as well."""
    with pytest.raises(TypeError, match=kind):
        setattr(both.here, kind, value)
    with pytest.raises((OverflowError, ValueError)):
        setattr(both.here, kind, 10**400)


@pytest.mark.row("TYP-9")
def test_bools_are_bools(both: Both) -> None:
    """True, False, numpy's, 0 and 1; nothing else; what comes out is a bool whatever byte lies there."""
    for value in (True, np.True_, 1):
        both.here.flag = value
        assert both.here.flag is True
    for value in (2, -1, "yes", None, 1.0, []):
        with pytest.raises(TypeError, match="flag"):
            both.here.flag = value
    assert both.poked("flag", b"\x80").flag is True


@pytest.mark.row("TYP-9", "SEC-4")
def test_enums_are_members_in_both_directions(both: Both) -> None:
    """A number without a name is refused on the way in, and corrupt on the way out."""
    both.here.mode = Mode.RUN
    assert both.here.mode is Mode.RUN
    both.here.mode = 0
    assert both.here.mode is Mode.IDLE
    both.here.choice = -1
    assert both.here.choice == -1
    for field, value in (("mode", 1), ("mode", 2**40), ("choice", 0), ("mode", -3)):
        with pytest.raises(ValueError, match=field):
            setattr(both.here, field, value)
    with pytest.raises(TypeError, match="mode"):
        both.here.mode = "RUN"
    sample = both.poked("mode", struct.pack("<i", 77))
    with pytest.raises(CorruptSegmentError, match="77"):
        _ = sample.mode
    assert "77" in repr(sample)
    for use in (sample.model_dump, sample.__zs_values__, lambda: sample == sample):  # noqa: PLR0124  # equality is under test
        with pytest.raises(CorruptSegmentError):
            use()


@pytest.mark.row("TYP-9")
@pytest.mark.parametrize("text", ["", "a", "12345678", "äöüß", "\0\0", "𝄞𝄞", "e\u0301"])
def test_texts_are_utf8_of_at_most_their_bytes(both: Both, text: str) -> None:
    """Counted in bytes, with zeros and everything."""
    both.here.text = text
    assert both.sent().sample.text == text


@pytest.mark.row("TYP-9")
def test_texts_and_bytes_that_do_not_fit_are_refused(both: Both) -> None:
    """And leave what was there."""
    both.here.text, both.here.blob = "kept", b"kept"
    for field, value, error in (
        ("text", "123456789", ValueError),
        ("text", "äöüßé", ValueError),
        ("text", b"bytes", TypeError),
        ("text", None, TypeError),
        ("text", "\ud800", ValueError),
        ("blob", b"123456789", ValueError),
        ("blob", "str", TypeError),
        ("blob", None, TypeError),
        ("blob", 5, TypeError),
        ("blob", np.zeros(2, "f8"), ValueError),
    ):
        with pytest.raises(error):
            setattr(both.here, field, value)
    sample = both.sent().sample
    assert (sample.text, sample.blob) == ("kept", b"kept")


@pytest.mark.parametrize(
    "value", [b"", b"\0\xff", bytearray(b"12345678"), memoryview(b"abc"), np.arange(3, dtype="u1")]
)
def test_bytes_take_any_buffer(both: Both, value: Any) -> None:
    """Of bytes."""
    both.here.blob = value
    assert both.sent().sample.blob == bytes(value)


@pytest.mark.row("SEC-1", "TYP-9")
def test_what_a_shorter_value_leaves_behind_is_wiped(both: Both) -> None:
    """The end of an older text cannot be read behind the new one."""
    both.here.text, both.here.blob, both.here.bounded = "12345678", b"12345678", [1, 2, 3]
    both.here.small = 5
    both.here.text, both.here.blob, both.here.bounded, both.here.small = "ab", b"", [7], None
    image = bytes(both.here)
    assert image[offset_of("text") :][:12] == b"\2\0\0\0ab" + bytes(6)
    assert image[offset_of("blob") :][:12] == bytes(12)
    assert image[offset_of("bounded") :][:10] == struct.pack("<IHHH", 1, 7, 0, 0)
    assert image[offset_of("small") :][:4] == bytes(4)


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("field", ["text", "blob", "bounded"])
@pytest.mark.parametrize("count", [9, 2**31, 2**32 - 1])
def test_lengths_and_counts_beyond_the_field_are_corrupt(both: Both, field: str, count: int) -> None:
    """Checked at each read; the other fields can still be read."""
    both.here.u32 = 5
    sample = both.poked(field, struct.pack("<I", count))
    with pytest.raises(CorruptSegmentError, match=str(count)):
        getattr(sample, field)
    with pytest.raises(CorruptSegmentError):
        sample.__zs_model__()
    assert str(count) in repr(sample)
    assert sample.u32 == 5


@pytest.mark.row("SEC-4")
def test_a_count_that_becomes_corrupt_later_is_seen_later(both: Both) -> None:
    """A list view that was made before looks again each time."""
    both.here.bounded = [1, 2]
    both.loan.commit()
    lease = both.sub.take()
    assert lease is not None
    view: Any = lease.sample.bounded
    assert list(view) == [1, 2]
    control = ControlBytes(both.pub.flink)
    at = (control.read(control.ring_at(1), "Q") & 0xFFFF) * both.pub.allocator.slot_capacity + offset_of("bounded")
    ControlBytes(both.pub.flink, pool=0).write(at, "I", 1000)
    for use in (
        lambda: view[0],
        lambda: len(view),
        lambda: list(view),
        lambda: view == [],
        lambda: view[999],
        lambda: 1 in view,
    ):
        with pytest.raises(CorruptSegmentError):
            use()


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("content", [b"\xff\xff\xff\xff", b"\xc3(\0\0", b"\xed\xa0\x80\0"])
def test_a_text_that_is_no_utf8_is_corrupt(both: Both, content: bytes) -> None:
    """A CorruptSegmentError, and not the codec's UnicodeDecodeError."""
    both.here.text = "abcd"
    sample = both.poked("text", content, inside=4)
    with pytest.raises(CorruptSegmentError, match="UTF-8"):
        _ = sample.text


@pytest.mark.row("SEC-4", "TYP-9")
@pytest.mark.parametrize("byte", [1, 2, 0x80, 0xFF])
def test_any_presence_byte_but_zero_is_there(both: Both, byte: int) -> None:
    """The item behind it is checked by itself."""
    sample = both.poked("maybe", bytes([byte]))
    assert sample.maybe is not None
    assert sample.maybe.a == 0
    assert sample.small is None


@pytest.mark.row("TYP-9")
def test_optionals_come_and_go(both: Both) -> None:
    """None, a value, None again; a value that is refused leaves it absent."""
    here = both.here
    assert (here.small, here.maybe) == (None, None)
    here.small, here.maybe = -5, Inner(a=3, text="ab")
    assert (here.small, here.maybe.a, here.maybe.text) == (-5, 3, "ab")
    here.maybe.a = 4
    here.small = None
    with pytest.raises(ValueError, match="small"):
        here.small = 2**15
    assert here.small is None
    sample = both.sent().sample
    assert (sample.small, sample.maybe) == (None, Inner(a=4, text="ab"))


@pytest.mark.row("TYP-9")
def test_arrays_take_what_has_their_shape_without_loss(both: Both) -> None:
    """Lists and other dtypes whose values fit; scalars and other shapes do not."""
    good: list[Any] = [
        [[1, 2, 3], [4, 5, 6]],
        np.arange(6, dtype="i2").reshape(2, 3),
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.arange(6, dtype="i8").reshape(2, 3),
        np.arange(6, dtype="i2").reshape(3, 2).T,
        np.arange(12, dtype="i2").reshape(2, 6)[:, ::2],
        np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3)),
    ]
    for value in good:
        both.here.array = value
        assert both.here.array.tolist() == np.asarray(value).tolist()
    bad: list[Any] = [
        5,
        [1, 2, 3],
        np.zeros((3, 2), "i2"),
        np.zeros(6, "i2"),
        [[1, 2, 3], [4, 5, 2**15]],
        np.full((2, 3), 1.5),
        np.full((2, 3), "a"),
        None,
        "text",
        [[1, 2], [3]],
        np.array([[object()] * 3] * 2),
        np.zeros((2, 3), "M8[s]"),
    ]
    for value in bad:
        with pytest.raises((ValueError, TypeError), match="array"):
            both.here.array = value
    assert both.sent().sample.array.tolist() == np.asarray(good[-1]).tolist()


@pytest.mark.row("TYP-9")
def test_arrays_of_the_sample_itself_can_be_assigned_to_it(both: Both) -> None:
    """Overlapping memory is copied as if through a copy."""
    both.here.array = [[1, 2, 3], [4, 5, 6]]
    both.here.array = both.here.array
    both.here.array = both.here.array[::-1]
    assert both.here.array.tolist() == [[4, 5, 6], [1, 2, 3]]


@pytest.mark.row("TYP-9")
def test_lists_in_place_behave_as_lists(both: Both) -> None:
    """Index, slice, append, extend, clear, equality, containment, iteration."""
    items = both.here.bounded
    items.append(1)
    items.extend([2, 3])
    assert items == [1, 2, 3]
    assert (len(items), items[-1], items[0:2], 3 in items, 9 in items) == (3, 3, [1, 2], True, False)
    items[1] = 20
    items[0:3:2] = [10, 30]
    assert list(items) == [10, 20, 30]
    assert repr(items) == "[10, 20, 30]"
    with pytest.raises(ValueError, match="full"):
        items.append(4)
    for index in (3, -4, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**30, -(10**30), np.uint64(2**63)):
        with pytest.raises(IndexError):
            items[index]
        with pytest.raises(IndexError):
            items[index] = 1
    assert items[-(10**30) : 10**30] == [10, 20, 30]
    for index in ("0", None, 1.0):
        with pytest.raises(TypeError):
            items[index]
    with pytest.raises(ValueError):
        items[0:2] = [1]
    with pytest.raises((TypeError, NotImplementedError)):
        del items[0]
    with pytest.raises(ValueError):
        items[0] = 2**16
    items.clear()
    assert items == []
    assert both.here.bounded == []


@pytest.mark.row("TYP-9")
def test_fixed_lists_have_their_length(both: Both) -> None:
    """Items are written in place; the length is not."""
    items = both.here.fixed
    items[0].a = 9
    items[1] = Inner(a=8, text="xy")
    for use in (lambda: items.append(Inner()), items.clear, lambda: items.extend([Inner()])):
        with pytest.raises(TypeError, match="fixed"):
            use()
    for value in ([], [Inner()], [Inner()] * 3):
        with pytest.raises(ValueError, match="fixed"):
            both.here.fixed = value
    for value in ("ab", b"ab", {"a": 1}, 5, None):
        with pytest.raises(TypeError, match="fixed"):
            both.here.fixed = value
    assert both.sent().sample.fixed == [Inner(a=9), Inner(a=8, text="xy")]


@pytest.mark.row("TYP-9")
def test_nested_samples_take_models_views_and_mappings(both: Both) -> None:
    """Each with all of the fields and no other."""
    both.here.inner = Inner(a=1, text="m")
    assert both.here.inner == Inner(a=1, text="m")
    both.here.inner = {"a": 2, "text": "d"}
    assert both.here.inner == Inner(a=2, text="d")
    both.here.maybe = both.here.inner
    assert both.here.maybe == Inner(a=2, text="d")
    for value in ({"a": 1}, {"a": 1, "text": "", "more": 1}, {}):
        with pytest.raises(ValueError):
            both.here.inner = value
    for value in (None, 5, "text", object()):
        with pytest.raises((TypeError, AttributeError)):
            both.here.inner = value
    with pytest.raises(ValueError, match="text"):
        both.here.inner = {"a": 1, "text": "12345"}


@pytest.mark.row("TYP-9")
def test_lists_of_views_of_the_same_slot_are_read_first(both: Both) -> None:
    """Reversing a list by its own items gives the reversed list."""
    both.here.fixed = [Inner(a=1), Inner(a=2)]
    both.here.fixed = list(both.here.fixed)[::-1]
    assert [item.a for item in both.here.fixed] == [2, 1]


@pytest.mark.row("TYP-8")
def test_every_kind_lies_where_numpy_reads_it(both: Both) -> None:
    """The image is a record of the layout's dtype."""
    for kind in SCALARS:
        setattr(both.here, "flag" if kind == "bool" else kind, 1)
    record = np.frombuffer(both.sent(), layout_of(All).dtype)[0]
    for kind in SCALARS:
        assert record["flag" if kind == "bool" else kind] == 1


def test_codecs_and_fields_cannot_be_changed_after_they_are_made() -> None:
    """A second `__init__` does nothing, and one that was made by force has its parts."""
    field = vars(compiled(All).view_class)["text"]
    field.__init__("other", binding.ScalarCodec("u8"), 2**40)
    assert (field.offset, field.name) == (offset_of("text"), "text")
    codec = binding.BytesCodec(8, True)
    codec.__init__(2**30, True)  # type: ignore[call-arg]  # on purpose
    assert codec.size == 12
    for kind in ("ScalarCodec", "EnumCodec", "BytesCodec", "ArrayCodec", "StructCodec", "OptionalCodec", "ListCodec"):
        with pytest.raises(TypeError):
            getattr(binding, kind).__new__(getattr(binding, kind))
    with pytest.raises(TypeError):
        binding.FieldDescriptor.__new__(binding.FieldDescriptor)  # type: ignore[call-arg]  # on purpose
    with pytest.raises(ValueError):
        binding.ListCodec(binding.ScalarCodec("u8"), 0, 1, 100, False, 50)
    with pytest.raises(KeyError):
        binding.ScalarCodec("u7")
