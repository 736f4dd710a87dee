"""Lists in place as numpy arrays: read without a copy, and written from arrays in one copy."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot import CorruptSegmentError, Publisher, Sample, Subscriber, layout_of


class Mode(enum.IntEnum):
    IDLE = 0
    RUN = 3


class Point(Sample):
    x: zs.F32 = 0.0
    y: zs.F32 = 0.0
    label: zs.U8 = 0  # three bytes of padding follow

    @property
    def total(self) -> float:
        """Of the coordinates."""
        return self.x + self.y


class Tagged(Sample):
    mode: Mode = Mode.IDLE
    name: Annotated[str, zs.MaxBytes(8)] = ""
    maybe: zs.U8 | None = None
    few: Annotated[list[zs.U8], zs.MaxLen(2)] = []  # noqa: RUF012  # pydantic copies it


class Lists(Sample):
    points: Annotated[list[Point], zs.MaxLen(100)] = []  # noqa: RUF012  # pydantic copies it
    three: Annotated[list[Point], zs.Shape(3)] = [Point(), Point(), Point()]  # noqa: RUF012  # pydantic copies it
    tagged: Annotated[list[Tagged], zs.MaxLen(4)] = []  # noqa: RUF012  # pydantic copies it
    numbers: Annotated[list[zs.U32], zs.MaxLen(8)] = []  # noqa: RUF012  # pydantic copies it
    flags: Annotated[list[bool], zs.MaxLen(8)] = []  # noqa: RUF012  # pydantic copies it
    halves: Annotated[list[zs.F16], zs.MaxLen(8)] = []  # noqa: RUF012  # pydantic copies it
    modes: Annotated[list[Mode], zs.MaxLen(8)] = []  # noqa: RUF012  # pydantic copies it
    rows: Annotated[list[Annotated[NDArray[np.float64], zs.Shape(2)]], zs.MaxLen(4)] = []  # noqa: RUF012  # pydantic copies it
    grid: Annotated[list[Annotated[list[zs.I16], zs.Shape(3)]], zs.MaxLen(4)] = []  # noqa: RUF012  # pydantic copies it
    words: Annotated[list[Annotated[str, zs.MaxBytes(8)]], zs.MaxLen(4)] = []  # noqa: RUF012  # pydantic copies it
    holes: Annotated[list[zs.U8 | None], zs.MaxLen(4)] = []  # noqa: RUF012  # pydantic copies it
    point: Point = Point()


POINT = layout_of(Point).dtype
TAGGED = layout_of(Tagged).dtype


def points(count: int) -> NDArray[Any]:
    made = np.zeros(count, POINT)
    made["x"], made["label"] = np.arange(count), 7
    return made


@pytest.fixture
def pub() -> Iterator[Publisher[Lists]]:
    with Publisher("lists", Lists) as publisher:
        yield publisher


@pytest.fixture
def sub(pub: Publisher[Lists]) -> Iterator[Subscriber[Lists]]:
    with Subscriber("lists", Lists) as subscriber:
        yield subscriber


@pytest.mark.row("BUF-5")
def test_a_list_in_place_is_an_array_of_the_declared_dtype(pub: Publisher[Lists], sub: Subscriber[Lists]) -> None:
    """Trimmed to the items that are there, over the sample's memory, and read-only at the subscriber."""
    with pub.loan() as lists:
        lists.points = [Point(x=1, y=2, label=3), Point(x=4)]
        lists.numbers, lists.flags, lists.halves = [1, 2**32 - 1], [True, False], [0.5]
        lists.modes, lists.rows, lists.grid = [Mode.RUN], [np.ones(2)], [[1, 2, 3], [4, 5, 6]]
    lease = sub.take()
    assert lease is not None
    sample = lease.sample
    for name, dtype, shape in (
        ("points", POINT, (2,)),
        ("three", POINT, (3,)),
        ("tagged", TAGGED, (0,)),
        ("numbers", np.dtype("u4"), (2,)),
        ("flags", np.dtype("?"), (2,)),
        ("halves", np.dtype("f2"), (1,)),
        ("modes", np.dtype("i4"), (1,)),
        ("rows", np.dtype("f8"), (1, 2)),
        ("grid", np.dtype("i2"), (2, 3)),
    ):
        array = np.asarray(getattr(sample, name))
        assert (array.dtype, array.shape, array.flags.writeable) == (dtype, shape, False), name
        assert array.size == 0 or np.shares_memory(array, np.frombuffer(lease, "u1"))
        with pytest.raises(ValueError):
            array.flags.writeable = True
    assert np.asarray(sample.points)["x"].tolist() == [1, 4]
    assert np.asarray(sample.numbers).tolist() == [1, 2**32 - 1]
    assert np.asarray(sample.grid).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert float(np.mean(sample.numbers)) == 2**31  # what takes arrays takes such lists


@pytest.mark.row("BUF-5")
def test_the_array_of_a_list_keeps_its_sample(pub: Publisher[Lists], sub: Subscriber[Lists]) -> None:
    """The slot is not used again while the array is alive."""
    pub.publish(Lists(numbers=[1, 2, 3]))
    numbers = np.asarray(sub.take().sample.numbers)  # type: ignore[union-attr]  # one was published
    for _ in range(50):
        pub.publish(Lists(numbers=[9, 9, 9]))
    assert numbers.tolist() == [1, 2, 3]


@pytest.mark.row("BUF-5")
def test_copy_and_dtype_are_those_of_numpy(pub: Publisher[Lists]) -> None:
    """`copy=False` never copies, `copy=True` does, and another dtype is a copy."""
    loan = pub.loan()
    lists: Any = loan.sample
    lists.numbers, lists.words, lists.holes = [1, 2], ["a", "bc"], [1, None]
    place = np.asarray(lists.numbers)
    place[0] = 5
    assert list(lists.numbers) == [5, 2]
    assert np.shares_memory(np.array(lists.numbers, copy=False), place)
    assert np.shares_memory(np.asarray(lists.numbers, "u4"), place)
    assert not np.shares_memory(np.array(lists.numbers), place)
    wider = np.asarray(lists.numbers, "f8")
    assert (wider.dtype, wider.tolist()) == (np.dtype("f8"), [5.0, 2.0])
    for wrong in (lambda: np.array(lists.numbers, "f8", copy=False), lambda: np.array(lists.words, copy=False)):
        with pytest.raises(ValueError, match="copy"):
            wrong()
    assert np.asarray(lists.words).tolist() == ["a", "bc"]
    assert np.asarray(lists.holes).tolist() == [1, None]
    loan.discard()


@pytest.mark.row("BUF-3")
def test_the_array_of_a_loans_list_turns_read_only_at_the_commit(pub: Publisher[Lists], sub: Subscriber[Lists]) -> None:
    """As the arrays of array fields do."""
    with pub.loan() as lists:
        lists.numbers = [1, 2]
        array = np.asarray(lists.numbers)
        array[:] = 3, 4
    assert not array.flags.writeable
    with pytest.raises(ValueError):
        array[0] = 9
    assert sub.take().sample.numbers == [3, 4]  # type: ignore[union-attr]  # one was published


@pytest.mark.row("TYP-9")
def test_arrays_are_assigned_to_lists(pub: Publisher[Lists], sub: Subscriber[Lists]) -> None:
    """Structured arrays with the fields in any order and place, plain arrays, records, and lists of other samples."""
    other = np.zeros(6, [("label", ">u2"), ("more", "V3"), ("y", "f8"), ("x", "i4")])[
        ["x", "label", "y"]  # a view with gaps
    ][::2]
    other["x"], other["y"], other["label"] = [1, 2, 3], 0.5, 9
    with pub.loan() as lists:
        lists.points = points(100)
        assert len(lists.points) == 100
        lists.points = points(5)[::-2]
        lists.three = other
        lists.numbers = np.array([3, 2, 1], ">i8")
        lists.flags = np.array([True, False])
        lists.halves = np.array([1, 2])
        lists.modes = np.array([3, 0])
        lists.rows = np.arange(6.0).reshape(2, 3)[:, :2]
        lists.grid = np.arange(6).reshape(2, 3)
        lists.words = np.array(["a", "bc"])
        lists.point = other[1]
        lists.points[1] = points(3)[2]
        lists.tagged = np.zeros(2, TAGGED)
    sample = sub.take().sample  # type: ignore[union-attr]  # one was published
    assert sample.points == [Point(x=4, label=7), Point(x=2, label=7), Point(label=7)]
    assert sample.three == [Point(x=x, y=0.5, label=9) for x in (1, 2, 3)]
    assert (sample.numbers, sample.flags, sample.halves) == ([3, 2, 1], [True, False], [1.0, 2.0])
    assert (sample.modes, sample.words) == ([Mode.RUN, Mode.IDLE], ["a", "bc"])
    assert np.asarray(sample.rows).tolist() == [[0, 1], [3, 4]]
    assert np.asarray(sample.grid).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert sample.point == Point(x=2, y=0.5, label=9)
    assert sample.tagged == [Tagged(), Tagged()]
    with pub.loan() as lists:
        lists.points = sample.points  # memory of another slot
        lists.points = np.asarray(lists.points)[::-1]  # its own
    assert [point.x for point in sub.take().sample.points] == [0, 2, 4]  # type: ignore[union-attr]  # one was published


@pytest.mark.row("TYP-9")
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("points", np.zeros(2), "points: records with the fields x, y, label, not an array of float64"),
        ("points", np.zeros((2, 2), POINT), "points: shape (2, 2) is not (2,)"),
        ("points", np.zeros((), POINT), "points: shape () is not (1,)"),
        ("points", np.zeros(101, POINT), "points: 101 items, and the field holds at most 100"),
        ("points", np.zeros(1, [("x", "f4"), ("y", "f4")]), "points: records with the fields x, y, not x, y, label"),
        ("points", np.zeros(1, [("x", "c8"), ("y", "f4"), ("label", "u1")]), "points: x: an array of complex64 cannot"),
        ("points", np.array([(0, 0, 256)], [("x", "f4"), ("y", "f4"), ("label", "i8")]), "points: label: values from"),
        ("points", np.array([(1e39, 0, 0)], [("x", "f8"), ("y", "f4"), ("label", "u1")]), "points: x: a value is bey"),
        ("three", np.zeros(2, POINT), "three: 2 items, and the field holds 3"),
        ("numbers", np.array([-1]), "numbers: values from -1 to -1 do not fit into u32"),
        ("numbers", np.array([0.5]), "numbers: an array of float64 cannot become u32 without loss"),
        ("numbers", np.zeros((1, 1), "u4"), "numbers: shape (1, 1) is not (1,)"),
        ("numbers", np.zeros(1, POINT), "numbers: an array of"),
        ("rows", np.zeros((1, 3)), "rows: shape (1, 3) is not (1, 2)"),
        ("modes", np.array([0, 1]), "modes: item 1: 1 is no value of Mode"),
        ("point", np.zeros(1, POINT), "point: shape (1,) is not ()"),
        ("point", np.zeros(()), "point: records with the fields"),
    ],
)
def test_an_array_that_a_list_cannot_hold_is_refused_by_name(
    pub: Publisher[Lists], name: str, value: NDArray[Any], text: str
) -> None:
    """The error names the field, and nothing has changed."""
    loan = pub.loan()
    before = bytes(loan.sample)  # type: ignore[call-overload]  # a view is bytes-like
    with pytest.raises((ValueError, TypeError), match=re.escape(text)):
        setattr(loan.sample, name, value)
    assert bytes(loan.sample) == before  # type: ignore[call-overload]  # a view is bytes-like
    loan.discard()


@pytest.mark.row("TYP-9")
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda one: one.__setitem__("mode", 1), "1 is no value of Mode"),
        (lambda one: one["name"].__setitem__("length", 9), "a length of 9 bytes"),
        (lambda one: (one["name"].__setitem__("length", 1), one["name"]["data"].fill(0xFF)), "not UTF-8"),
        (lambda one: one["few"].__setitem__("count", 3), "a count of 3 items"),
    ],
)
def test_records_with_bytes_that_are_no_value_are_refused(pub: Publisher[Lists], spoil: Any, text: str) -> None:
    """What can be wrong in a record is checked before anything is written."""
    records = np.zeros(3, TAGGED)
    spoil(records[1:2])
    loan = pub.loan()
    lists: Any = loan.sample
    lists.tagged = [Tagged(name="old")]
    with pytest.raises(ValueError, match=f"tagged: item 1: .*{text}"):
        lists.tagged = records
    assert lists.tagged == [Tagged(name="old")]
    loan.discard()


@pytest.mark.row("TYP-9")
def test_padding_of_an_array_is_not_published(pub: Publisher[Lists], sub: Subscriber[Lists]) -> None:
    """It may be anything that was in memory before; a reader sees zeros."""
    records = np.frombuffer(b"\xaa" * 3 * POINT.itemsize, POINT)
    with pub.loan() as lists:
        lists.three = records
        lists.point = records[0]
    lease = sub.take()
    assert lease is not None
    for field in ("three", "point"):
        at = layout_of(Lists).dtype.fields[field][1]  # type: ignore[index]  # it has fields
        for i in range(3 if field == "three" else 1):
            item = bytes(lease)[at + i * POINT.itemsize :][: POINT.itemsize]  # type: ignore[call-overload]  # a view is bytes-like
            assert item == b"\xaa" * 9 + bytes(3)


@pytest.mark.row("TYP-9")
def test_a_model_keeps_an_array_of_records(pub: Publisher[Lists], sub: Subscriber[Lists]) -> None:
    """No sample is made of each record; it equals and serializes as the list that it says."""
    array = points(3)
    model = Lists(points=array)  # type: ignore[arg-type]  # declared as a list
    listed = Lists(points=[Point(x=x, label=7) for x in range(3)])
    assert model.points is array  # type: ignore[comparison-overlap]  # declared as a list
    assert model == listed == model.model_copy(deep=True)
    assert model.model_dump() == listed.model_dump()
    assert model.model_dump_json() == listed.model_dump_json()
    assert Lists.model_validate_json(model.model_dump_json()) == listed
    assert Lists.model_validate({"points": array}).points is array  # type: ignore[comparison-overlap]  # declared as a list
    for sample in (model, listed, {"points": array}):
        pub.publish(sample)
        taken = sub.take().sample  # type: ignore[union-attr]  # one was published
        assert taken == model == taken
        assert [point.total for point in taken.points] == [0, 1, 2]
    assert Lists(points=points(1)) != model  # type: ignore[arg-type]  # declared as a list
    for wrong in (points(101), points(4).reshape(2, 2), np.zeros(1, [("x", "f4")])):
        with pytest.raises(ValueError, match="points"):
            Lists(points=wrong)  # type: ignore[arg-type]  # declared as a list
    assert Lists(numbers=np.array([1, 2], "u4")).numbers == [1, 2]  # type: ignore[arg-type]  # numbers become a list


@pytest.mark.row("TYP-9")
def test_records_with_another_order_of_fields_are_published(pub: Publisher[Lists], sub: Subscriber[Lists]) -> None:
    """A record is taken by the names of its fields, also as a whole sample."""
    dtype = layout_of(Lists).dtype
    record = np.zeros((), [(name, dtype[name]) for name in reversed(dtype.names or ())])
    record["point"] = (1, 2, 3)
    pub.publish(record)
    assert sub.take().sample.point == Point(x=1, y=2, label=3)  # type: ignore[union-attr]  # one was published


@pytest.mark.row("BUF-5")
def test_a_corrupt_count_is_an_error_for_the_array_too(pub: Publisher[Lists], sub: Subscriber[Lists]) -> None:
    """The count is checked each time that an array is made."""
    with pub.loan() as lists:
        record = np.frombuffer(lists, layout_of(Lists).dtype)  # type: ignore[call-overload]  # a view is bytes-like
        record["numbers"]["count"] = 9
        del record
    sample = sub.take().sample  # type: ignore[union-attr]  # one was published
    with pytest.raises(CorruptSegmentError, match="9 items"):
        np.asarray(sample.numbers)
