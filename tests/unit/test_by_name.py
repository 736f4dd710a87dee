"""Two versions of a type: what one reads of the other, what is refused, and what the errors say."""

from __future__ import annotations

import enum
import itertools
import os
import pickle
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field, create_model

import zeroslot as zs
from zeroslot import Publisher, Sample, Subscriber, TypeMismatchError, layout_of
from zeroslot.types.by_name import ByName
from zeroslot.types.nodes.scalars import SCALARS, Scalar

pytestmark = pytest.mark.usefixtures("zeroslot_dir")


def declared(annotation: Any, default: Any = ..., name: str = "Version") -> type[Sample]:
    """A type with one field `value` of this annotation, behind another that all have."""
    made: type[Sample] = create_model(name, __base__=Sample, stamp=(zs.U64, 0), value=(annotation, default))
    return made


def unreadable(published: type[Sample], here: type[Sample], **options: bool) -> list[str]:
    return ByName(layout_of(published), layout_of(here), **options).unreadable


def room(kind: type[Sample]) -> dict[str, Any]:
    """What a publisher of a type with variable fields has to say."""
    return {"max_bytes": 4096} if layout_of(kind).variable else {}


def read(published: type[Sample], here: type[Sample], **values: Any) -> Any:
    """A sample with these values, as the other version sees it. It stays good."""
    with Publisher("t", published, **room(published)) as pub, Subscriber("t", here, match="by_name") as sub:
        pub.publish(published(**values))
        lease = sub.take()
        assert lease is not None
        return lease.sample


class Point(Sample):
    x: zs.F32
    y: zs.F32


class Point3(Sample):
    """Two fields more, one of them with a default, and wider ones."""

    z: zs.F64 = 9.5
    y: zs.F64
    x: zs.F32


class Demanding(Sample):
    x: zs.F32
    w: zs.U8


class Mode(enum.IntEnum):
    OFF = 0
    ON = 1


class MoreModes(enum.IntEnum):
    OFF = 0
    STANDBY = 7
    ON = 1


class Renumbered(enum.IntEnum):
    OFF = 1
    ON = 0


# --- what is safe to read ---

EXTREMES: dict[str, list[Any]] = {
    name: list(scalar.range) if scalar.range is not None else [True, False] for name, scalar in SCALARS.items()
} | {"f16": [65504.0, -65504.0, 5.960464477539063e-08], "f32": [3.4028234663852886e38, 1e-45], "f64": [1.7e308, 5e-324]}


def is_exact(published: Scalar, here: Scalar) -> bool:
    """Whether numpy gives the same values back, out of which any kind is lost that does not hold all of them."""
    if "bool" in (published.name, here.name):
        return published is here
    if published.python_type is float and here.python_type is int:
        return False
    values: list[Any] = EXTREMES[published.name]
    if published.python_type is int:
        low, high = published.range or (0, 0)
        values = [low, high, low + 1, high - 1]
    with np.errstate(over="ignore"):
        converted = [published.dtype.type(value).astype(here.dtype).item() for value in values]
    return converted == [published.dtype.type(value).item() for value in values]


@pytest.mark.row("TYP-7", "NEW-3")
@pytest.mark.parametrize("here", SCALARS.values(), ids=SCALARS)
@pytest.mark.parametrize("published", SCALARS.values(), ids=SCALARS)
def test_a_number_is_read_as_one_that_holds_each_of_its_values(published: Scalar, here: Scalar) -> None:
    """And as no other: 12 x 12 pairs. What is read has the Python type that this side declares."""
    old, new = (declared(Annotated[kind.python_type, kind]) for kind in (published, here))
    assert unreadable(old, new) == ([] if is_exact(published, here) else ["value"])
    if is_exact(published, here):
        for value in EXTREMES[published.name]:
            view = read(old, new, value=value)
            expected = published.dtype.type(value).item()
            for found in (view.value, view.model_copy().value):
                assert (found, type(found)) == (expected, here.python_type)


F32_3 = Annotated[NDArray[np.float32], zs.Shape(3)]
SAFE: dict[str, tuple[Any, Any, Any]] = {
    "text": (Annotated[str, zs.MaxBytes(4)], Annotated[str, zs.MaxBytes(9)], "äö"),
    "bytes": (Annotated[bytes, zs.MaxBytes(4)], Annotated[bytes, zs.MaxBytes(9)], b"abcd"),
    "list": (Annotated[list[zs.U16], zs.MaxLen(2)], Annotated[list[zs.U16], zs.MaxLen(3)], [1, 2]),
    "enum": (Annotated[Mode, zs.U8], Annotated[MoreModes, zs.U8], Mode.ON),
    "wider enum": (Annotated[Mode, zs.U8], MoreModes, Mode.ON),
    "literal": (Literal[1, 5], Literal[-1, 1, 5], 5),
    "optional": (zs.U8, zs.U16 | None, 200),
    "optional item": (zs.U8 | None, zs.U16 | None, 200),
    "nothing": (zs.U8 | None, zs.U16 | None, None),
    "enum of an optional": (Annotated[Mode, zs.U8] | None, MoreModes | None, Mode.OFF),
    "optional items": (Annotated[list[zs.U8], zs.Shape(2)], Annotated[list[zs.U8 | None], zs.Shape(2)], [1, 2]),
    "text without a bound": (Annotated[str, zs.MaxBytes(4)], str, "äö"),
    "bytes without a bound": (Annotated[bytes, zs.MaxBytes(4)], bytes | None, b"abcd"),
    "list without a bound": (Annotated[list[zs.U16], zs.MaxLen(3)], list[zs.U16], [1, 2]),
    "row as a list without a bound": (Annotated[list[zs.U16], zs.Shape(2)], list[zs.U16], [1, 2]),
    "lists of text": (
        Annotated[list[Annotated[str, zs.MaxBytes(3)]], zs.MaxLen(2)],
        Annotated[list[Annotated[str, zs.MaxBytes(7)]], zs.MaxLen(4)],
        ["a", "bcd"],
    ),
}


@pytest.mark.row("TYP-7", "NEW-3")
@pytest.mark.parametrize(("published", "here", "value"), SAFE.values(), ids=SAFE)
def test_what_holds_every_value_is_read(published: Any, here: Any, value: Any) -> None:
    """Larger bounds, more enumerators, an optional of what is always there. The other direction is refused."""
    old, new = declared(published), declared(here)
    view = read(old, new, value=value)
    assert view.value == value
    assert view == view.model_copy() == new(value=value)
    assert isinstance(view.model_copy().value, type(new(value=value).value))
    if "nothing" not in str(value):
        assert unreadable(new, old) == ["value"] or layout_of(old) == layout_of(new)


UNSAFE: dict[str, tuple[Any, Any]] = {
    "array kind": (F32_3, Annotated[NDArray[np.float64], zs.Shape(3)]),
    "array shape": (F32_3, Annotated[NDArray[np.float32], zs.Shape(4)]),
    "array bound": (F32_3, Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(2))]),
    "array unit": (
        Annotated[NDArray[np.datetime64], zs.Shape(2, dtype="datetime64[ns]")],
        Annotated[NDArray[np.datetime64], zs.Shape(2, dtype="datetime64[us]")],
    ),
    "array of any shape and another kind": (NDArray[np.float32], NDArray[np.float64]),
    "array of any shape": (NDArray[np.float32], F32_3),
    "text without a bound": (str, Annotated[str, zs.MaxBytes(99)]),
    "text and bytes without a bound": (str, bytes),
    "list without a bound": (list[zs.U8], Annotated[list[zs.U8], zs.MaxLen(99)]),
    "list of numbers without a bound": (list[zs.U8], list[zs.U16]),
    "array and list": (F32_3, Annotated[list[zs.F32], zs.Shape(3)]),
    "list of numbers": (Annotated[list[zs.F32], zs.MaxLen(3)], Annotated[list[zs.F64], zs.MaxLen(3)]),
    "row of numbers": (Annotated[list[zs.U8], zs.Shape(3)], Annotated[list[zs.U16], zs.Shape(3)]),
    "list length": (Annotated[list[zs.U8], zs.Shape(3)], Annotated[list[zs.U8], zs.Shape(4)]),
    "fixed and bounded": (Annotated[list[zs.U8], zs.Shape(3)], Annotated[list[zs.U8], zs.MaxLen(3)]),
    "text and bytes": (Annotated[str, zs.MaxBytes(3)], Annotated[bytes, zs.MaxBytes(3)]),
    "enum and number": (Mode, zs.I32),
    "number and enum": (zs.I32, Mode),
    "other numbers": (Mode, Renumbered),
    "enum and literal": (Mode, Literal[0, 1]),
    "a sample and a number": (Point, zs.U64),
    "a number and a sample": (zs.U64, Point),
    "samples without a field in common": (Point, declared(zs.U8, 0)),
    "optional and required": (zs.U8 | None, zs.U8),
}


@pytest.mark.row("TYP-7", "NEW-3")
@pytest.mark.parametrize(("published", "here"), UNSAFE.values(), ids=UNSAFE)
def test_what_does_not_hold_every_value_is_refused(published: Any, here: Any) -> None:
    """With its name, at the subscription."""
    assert unreadable(declared(published), declared(here)) == ["value"]
    old = declared(published)
    with Publisher("t", old, **room(old)), pytest.raises(TypeMismatchError) as caught:
        Subscriber("t", declared(here), match="by_name")
    assert caught.value.unreadable == ("value",)


BOUNDED = Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(4), 3)]
ARRAYS: dict[str, tuple[Any, Any]] = {
    "a larger bound": (BOUNDED, Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(9), 3)]),
    "a length within a bound": (Annotated[NDArray[np.float32], zs.Shape(2, 3)], BOUNDED),
    "one more bound": (BOUNDED, Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(4), zs.UpTo(3))]),
    "bounded as any shape": (BOUNDED, NDArray[np.float32]),
    "a shape as any shape": (Annotated[NDArray[np.float32], zs.Shape(2, 3)], NDArray[np.float32] | None),
}


@pytest.mark.row("TYP-7", "NEW-3")
@pytest.mark.parametrize(("published", "here"), ARRAYS.values(), ids=ARRAYS)
def test_an_array_is_read_as_one_whose_dims_hold_each_of_its_shapes(published: Any, here: Any) -> None:
    """In place, with the shape that was published. The other direction is refused."""
    old, new = declared(published), declared(here)
    view = read(old, new, value=np.arange(6, dtype=np.float32).reshape(2, 3))
    for found in (view.value, view.model_copy().value):
        assert (found.tolist(), found.dtype) == ([[0, 1, 2], [3, 4, 5]], np.float32)
    assert not view.value.flags.writeable
    assert unreadable(new, old) == ["value"]


@pytest.mark.row("TYP-7", "VAR-1")
def test_variable_fields_are_read_by_name() -> None:
    """In place, behind the publisher's fixed part; arrays of a shape are read where any shape is declared."""

    class Old(Sample):
        gone: zs.U64 = 0
        image: NDArray[np.uint8]
        label: str
        matrix: Annotated[NDArray[np.float32], zs.Shape(2, 2)]
        points: list[Point]

    class New(Sample):
        points: list[Point3]
        note: str = "none"
        label: str | None
        matrix: NDArray[np.float32]
        image: NDArray[np.uint8]

    values = {"label": "front", "matrix": [[1, 2], [3, 4]], "points": [Point(x=1, y=2)] * 3}
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    with Publisher("t", Old, max_bytes=4096) as pub, Subscriber("t", New, match="by_name") as sub:
        pub.publish(Old(image=image, **values))
        lease = sub.take()
        assert lease is not None
        view = lease.sample
        expected = New(image=image, **(values | {"points": [Point3(x=1, y=2)] * 3}))
        assert (view.image.tolist(), view.image.flags.writeable) == (image.tolist(), False)
        assert view == lease.copy() == expected
        assert view.note == "none"
        with pytest.raises(TypeError, match="variable fields"):
            sub.take_many()
        with Publisher("again", New, max_bytes=4096) as again, Subscriber("again", New) as same:
            again.publish(view)
            copied = same.take()
            assert copied is not None
            assert copied.sample == expected


# --- nested samples ---

NESTED: dict[str, tuple[Any, Any, Any]] = {
    "sample": (Point, Point3, Point(x=1, y=2)),
    "optional": (Point | None, Point3 | None, Point(x=1, y=2)),
    "list": (
        Annotated[list[Point], zs.MaxLen(2)],
        Annotated[list[Point3], zs.MaxLen(4)],
        [Point(x=1, y=2), Point(x=3, y=4)],
    ),
    "list without a bound": (list[Point], list[Point3], [Point(x=1, y=2), Point(x=3, y=4)]),
    "bounded as a list without a bound": (
        Annotated[list[Point], zs.MaxLen(2)],
        list[Point3],
        [Point(x=1, y=2), Point(x=3, y=4)],
    ),
    "row": (Annotated[list[Point], zs.Shape(2)], Annotated[list[Point3], zs.Shape(2)], [Point(x=1, y=2)] * 2),
    "deep": (
        Annotated[list[declared(Point)], zs.MaxLen(2)],  # type: ignore[misc]  # made at run time
        Annotated[list[declared(Point3 | None) | None], zs.MaxLen(2)],  # type: ignore[misc]  # made at run time
        [{"value": Point(x=1, y=2)}],
    ),
}


def as_version(value: Any, here: type[Sample]) -> Any:
    """A model of this side with the values of another version's, and defaults for the others."""
    return here.model_validate(value.model_dump())


@pytest.mark.row("TYP-7", "NEW-3")
@pytest.mark.parametrize(("published", "here", "value"), NESTED.values(), ids=NESTED)
def test_nested_samples_are_read_by_name(published: Any, here: Any, value: Any) -> None:
    """At the publisher's offsets, alone, as optionals and in lists, to any depth, with defaults for what is absent."""
    old, new = declared(published), declared(here)
    sample = old(value=value)
    view = read(old, new, value=value)
    expected = as_version(sample, new)
    assert view.model_copy() == expected
    assert view == expected
    assert view.model_dump() == expected.model_dump()
    assert str(view.value) == str(expected.value)  # type: ignore[attr-defined]  # made at run time


@pytest.mark.row("TYP-7", "NEW-3")
def test_a_list_of_samples_is_an_array_of_what_lies_in_memory() -> None:
    """In place, with the fields that both have, in the publisher's kinds; publishing the view writes all fields."""
    old, new = (declared(Annotated[list[kind], zs.MaxLen(3)]) for kind in (Point, Point3))  # type: ignore[valid-type]  # made here
    points = [{"x": 1, "y": 2}, {"x": 3, "y": 4}]
    view = read(old, new, value=points)
    array = np.asarray(view.value)
    assert array.dtype.names == ("y", "x")
    assert (array.dtype["y"], array.dtype.itemsize) == (np.float32, 8)
    assert (array["x"].tolist(), array["y"].tolist()) == ([1, 3], [2, 4])
    assert not array.flags.writeable
    assert np.shares_memory(array, np.asarray(view.value))
    again = read(new, new, **dict(view))
    assert again.model_dump() == {"stamp": 0, "value": [{"z": 9.5, **point} for point in points]}


@pytest.mark.row("TYP-7", "NEW-3")
def test_unreadable_fields_of_nested_samples_have_paths() -> None:
    """All of them are listed, in the order of this side's declaration."""

    class Old(Sample):
        pose: Point
        maybe: Point | None
        points: Annotated[list[Point], zs.MaxLen(2)]
        name: Annotated[str, zs.MaxBytes(4)]

    class New(Sample):
        name: Annotated[str, zs.MaxBytes(2)]
        pose: Demanding
        maybe: Demanding | None
        points: Annotated[list[Demanding], zs.MaxLen(2)]
        extra: Point

    paths = ["name", "pose.w", "maybe.w", "points[].w", "extra"]
    assert unreadable(Old, New) == paths
    assert unreadable(Old, New, ignore_missing=True) == ["name"]
    with Publisher("t", Old), pytest.raises(TypeMismatchError) as caught:
        Subscriber("t", New, match="by_name")
    assert caught.value.unreadable == tuple(paths)
    assert str(caught.value).splitlines()[-1] == (
        'match="by_name" cannot read name, pose.w, maybe.w, points[].w, extra: give pose.w, maybe.w, points[].w, extra '
        'a default or say missing="ignore", and declare name as the publisher does or not at all.'
    )


# --- what the publisher lacks ---


class Short(Sample):
    stamp: zs.U64 = 0
    pose: Point = Point(x=1, y=2)


class Long(Sample):
    gone: zs.U8
    stamp: zs.U64
    pose: Demanding
    lost: Annotated[list[Point], zs.MaxLen(2)]
    kept: zs.U8 = 5


@pytest.fixture
def ignoring() -> Iterator[Any]:
    """A view that lacks required fields, of its own and inside."""
    with Publisher("t", Short) as pub, Subscriber("t", Long, match="by_name", missing="ignore") as sub:
        pub.publish(Short(stamp=7))
        lease = sub.take()
        assert lease is not None
        yield lease.sample


@pytest.mark.row("TYP-7", "NEW-3")
def test_missing_fields_can_be_ignored(ignoring: Any) -> None:
    """To read one raises AttributeError; all else works, without them, also in copies."""
    copied = ignoring.model_copy()
    for holder, name in [(ignoring, "gone"), (ignoring, "lost"), (ignoring.pose, "w")]:
        with pytest.raises(AttributeError, match=rf"{name}: the publisher's type has no such field.*no default here"):
            getattr(holder, name)
        with pytest.raises(AttributeError, match=name):
            setattr(holder, name, 1)
        assert not hasattr(holder, name)
    assert not hasattr(copied, "gone")
    assert not hasattr(copied.pose, "w")
    assert list(dict(ignoring)) == ["stamp", "pose", "kept"]
    assert ignoring.model_dump() == copied.model_dump() == {"stamp": 7, "pose": {"x": 1.0}, "kept": 5}
    assert ignoring.model_fields_set == {"stamp", "pose"}
    assert ignoring == copied
    assert ignoring != Long(gone=0, stamp=7, pose=Demanding(x=1, w=0), lost=[])
    assert repr(ignoring) == "Long(stamp=7, pose=Demanding(x=1.0), kept=5)"
    with Publisher("other", Long) as pub, pytest.raises(ValueError, match="gone is missing"):
        pub.publish(ignoring)


def test_ignoring_missing_fields_is_for_matches_by_name() -> None:
    """With an exact match no field is missing. Other values are refused too."""
    with pytest.raises(ValueError, match='missing="ignore" is for match="by_name"'):
        Subscriber("t", Long, missing="ignore")
    with pytest.raises(ValueError, match="missing is 'all'"):
        Subscriber("t", Long, match="by_name", missing="all")  # type: ignore[call-overload]  # on purpose
    for handle in (Publisher, Subscriber):
        with pytest.raises(ValueError, match="match is 'name'"):
            handle("t", Long, match="name")  # type: ignore[call-overload]  # on purpose


def test_ignoring_does_not_read_a_type_without_a_field_in_common() -> None:
    """It is another topic's."""
    with Publisher("t", declared(zs.U8)):
        with pytest.raises(TypeMismatchError, match="share no field"):
            Subscriber("t", Point, match="by_name", missing="ignore")


def test_a_default_factory_is_called_once_for_each_publisher() -> None:
    """In nested samples too; each use gives a copy, so no program changes what another sees."""
    calls = itertools.count(1)

    class Counted(Sample):
        x: zs.F32
        serial: zs.U32 = Field(default_factory=lambda: next(calls))
        items: Annotated[list[zs.U8], zs.MaxLen(3)] = Field(default_factory=lambda: [1])

    class Outer(Sample):
        value: Counted

    with Subscriber("t", Outer, match="by_name") as sub:
        for serial in (1, 2):
            with Publisher("t", declared(Point)) as pub:
                for _ in range(2):
                    pub.publish({"value": {"x": 0, "y": 0}})
                    lease = sub.take()
                    assert lease is not None
                    assert lease.sample.value.serial == lease.copy().value.serial == serial
                    lease.sample.value.items.append(2)
                    assert lease.sample.value.items == lease.copy().value.items == [1]
            assert sub.take() is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"default": 300}, r"Late\.serial: its default 300 is not a value of it"),
        ({"default_factory": lambda others: others["x"]}, r"Late\.serial: its default factory takes the other fields"),
    ],
)
def test_a_default_that_cannot_stand_in_is_a_declaration_error(options: dict[str, Any], text: str) -> None:
    """Where the publisher is met that lacks the field."""
    late = create_model("Late", __base__=Sample, x=(zs.F32, ...), serial=(zs.U8, Field(**options)))
    with Publisher("t", Point), pytest.raises(zs.DeclarationError, match=text):
        Subscriber("t", late, match="by_name")


def test_an_exact_subscriber_calls_no_default_factory() -> None:
    """Not for the advice in its error either."""
    calls: list[int] = []

    class Counted(Sample):
        x: zs.F32
        serial: zs.U32 = Field(default_factory=lambda: calls.append(1) or 1)

    with Publisher("t", Point), pytest.raises(TypeMismatchError, match='Subscribe with match="by_name"'):
        Subscriber("t", Counted)
    assert calls == []


# --- two versions on one topic ---


class First(Sample):
    stamp: zs.U64
    name: Annotated[str, zs.MaxBytes(8)]


class Second(Sample):
    """`stamp` is optional, `gain` is new."""

    gain: zs.F32 = 1.0
    name: Annotated[str, zs.MaxBytes(8)]
    stamp: zs.U64 | None


class Longer(Sample):
    """All that First has, elsewhere, and one field more."""

    gain: zs.F32 = 1.0
    name: Annotated[str, zs.MaxBytes(8)]
    stamp: zs.U64


class Other(Sample):
    """The names of First, for other things."""

    name: Annotated[bytes, zs.MaxBytes(9)]
    stamp: Annotated[str, zs.MaxBytes(9)]


class Unrelated(Sample):
    label: Annotated[str, zs.MaxBytes(8)] = ""


class Without(Sample):
    """One field less than First, and one more without a default."""

    name: Annotated[str, zs.MaxBytes(8)]
    fresh: zs.U8


@pytest.mark.row("TYP-7", "NEW-3")
def test_a_newcomer_by_name_publishes_beside_another_version() -> None:
    """Subscribers by name read both, exact ones that of their own type, whichever publisher started first."""
    for kinds in ((First, Longer), (Longer, First)):
        with (
            Publisher("t", kinds[0], name="old") as old,
            Publisher("t", kinds[1], match="by_name", name="new") as new,
            Subscriber("t", Longer, match="by_name") as both,
            Subscriber("t", First) as first,
            Subscriber("t", Longer) as longer,
        ):
            pubs = {pub.sample_type: pub for pub in (old, new)}
            pubs[First].publish({"stamp": 1, "name": "first"})
            pubs[Longer].publish({"stamp": 2, "name": "longer", "gain": 3})
            samples = [lease.copy() for lease in iter(both.take, None)]
            assert sorted(samples, key=lambda each: each.gain) == [
                Longer(stamp=1, name="first"),
                Longer(stamp=2, name="longer", gain=3),
            ]
            for sub, name in ((first, "first"), (longer, "longer")):
                assert [lease.sample.name for lease in iter(sub.take, None)] == [name]


@pytest.mark.row("TYP-7", "NEW-3")
def test_one_direction_is_enough_to_publish_beside_another_version() -> None:
    """The newer reads the older, where its defaults count, or the older reads the newer, as if it had none."""

    class Narrow(Sample):
        stamp: zs.U64
        gone: zs.U8 = 0

    class Wide(Sample):
        stamp: zs.U64
        name: Annotated[str, zs.MaxBytes(8)]
        fresh: zs.U8

    pairs = {
        (First, Narrow): True,  # Narrow reads First: it has a default for `gone`
        (First, Wide): True,  # First reads Wide: it has all that First has
        (First, Second): True,
        (Second, First): False,  # First cannot read an optional stamp, and `gain` counts as required in Second
        (First, Without): False,
        (First, Other): False,
        (First, Unrelated): False,
    }
    for (old, new), allowed in pairs.items():
        with Publisher("t", old):
            if allowed:
                Publisher("t", new, match="by_name").close()
            else:
                with pytest.raises(TypeMismatchError, match=r"as the other by name|share no field"):
                    Publisher("t", new, match="by_name")


@pytest.mark.row("NEW-3")
def test_differences_list_what_is_read_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """For each publisher; empty for one of the same type. They are logged as well."""
    caplog.set_level("INFO", "zeroslot")
    with Publisher("t", First) as old, Publisher("t", Second, match="by_name") as new:
        with Subscriber("t", Second, match="by_name") as sub:
            text = (
                "  stamp   publisher u64 at 0           here u64? at 16\n"
                "  name    publisher str<=8 at 8        here str<=8 at 4\n"
                "  gain    missing at the publisher     here f32 at 0"
            )
            assert sub.differences == {old.publisher_id: text, new.publisher_id: ""}
            assert [text in record.getMessage() for record in caplog.records].count(True) == 1
    with pytest.raises(zs.ClosedError):
        _ = sub.differences


@pytest.mark.row("TYP-7", "NEW-12")
def test_a_batch_has_samples_of_both_versions() -> None:
    """As records of this side's type, with defaults: `take_many` goes on during an upgrade."""
    with (
        Publisher("t", Longer, name="new") as new,
        Publisher("t", First, match="by_name", name="old") as old,
        Subscriber("t", Longer, match="by_name") as sub,
    ):
        for n in range(3):
            old.publish({"stamp": n, "name": "old"})
        records = sub.take_many().samples
        assert (records["stamp"].tolist(), records["gain"].tolist()) == ([0, 1, 2], [1, 1, 1])
        for n in range(3):
            old.publish({"stamp": n, "name": "old"})
            new.publish({"stamp": 10 + n, "name": "new", "gain": 5})
        out = np.zeros(9, layout_of(Longer).dtype)
        records = sub.take_many(out=out).samples
        records.sort(order="stamp")
        assert records["stamp"].tolist() == [0, 1, 2, 10, 11, 12]
        assert records["gain"].tolist() == [1, 1, 1, 5, 5, 5]
        assert {bytes(record["name"]["data"][:3]) for record in records} == {b"old", b"new"}
        assert out["stamp"][6:].tolist() == [0, 0, 0]
        assert sub.stats.leases == 0


def test_a_batch_of_samples_without_all_fields_is_refused() -> None:
    """Those are taken one by one."""
    with Publisher("t", Short) as pub, Subscriber("t", Long, match="by_name", missing="ignore") as sub:
        pub.publish(Short())
        with pytest.raises(TypeError, match="one by one"):
            sub.take_many()


# --- what the errors say ---


@pytest.mark.row("NEW-3", "TYP-6")
def test_the_error_of_a_subscriber_names_processes_and_module() -> None:
    """And says what a subscriber can do. The facts are attributes, and survive pickling."""
    old, new = layout_of(First), layout_of(Second)
    with Publisher("robot/imu", First, name="driver"):
        with pytest.raises(TypeMismatchError) as caught:
            Subscriber("robot/imu", Second)
    assert str(caught.value) == (
        f"robot/imu carries First (2 fields, {old.type_hash.hex()[:4]}…) of driver (this process), not "
        f"{__name__}.Second (3 fields, {new.type_hash.hex()[:4]}…) of this process:\n"
        "  stamp   publisher u64 at 0           here u64? at 16\n"
        "  name    publisher str<=8 at 8        here str<=8 at 4\n"
        "  gain    missing at the publisher     here f32 at 0\n"
        'Subscribe with match="by_name" to read the fields that both share.'
    )
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.topic, error.publisher_type, error.publisher_hash) == ("robot/imu", "First", old.type_hash)
        assert (error.publisher_name, error.publisher_pid) == ("driver", os.getpid())
        assert "python" in error.publisher_command
        assert (error.here_type, error.here_module, error.here_hash) == ("Second", __name__, new.type_hash)
        assert (error.unreadable, error.difference.count("\n")) == ((), 2)


@pytest.mark.row("NEW-3", "TYP-6")
def test_the_error_of_a_publisher_advises_a_publisher() -> None:
    """It is not told to subscribe."""
    advice = {
        (Second, "exact"): 'Create it with match="by_name" to publish both versions: subscribers with match="by_name" '
        "read both, the others that of their own type.",
        (Unrelated, "exact"): "They share no field: publish under another topic.",
        (Unrelated, "by_name"): "They share no field: publish under another topic.",
        (
            Other,
            "exact",
        ): "Neither can be read as the other by name (name, stamp): publish under another topic, or stop "
        "the other publisher first.",
        (Without, "by_name"): "Neither can be read as the other by name (fresh): publish under another topic, or stop "
        "the other publisher first.",
    }
    with Publisher("t", First, name="driver"):
        for (kind, match), text in advice.items():
            with pytest.raises(TypeMismatchError) as caught:
                Publisher("t", kind, match=match)  # type: ignore[arg-type]  # one of the two
            assert str(caught.value).splitlines()[-1] == text
            assert "of driver (this process), not" in str(caught.value)
            assert "Subscribe" not in str(caught.value)


class Blob(Sample):
    """Its field has the name that the layout of a whole array or bytes uses."""

    data: bytes


@pytest.mark.parametrize(
    ("published", "here"), [(bytes, np.ndarray), (np.ndarray, bytes), (bytes, Blob), (Blob, bytes), (np.ndarray, Blob)]
)
@pytest.mark.parametrize("options", [{}, {"match": "by_name"}, {"match": "by_name", "missing": "ignore"}])
def test_whole_arrays_and_bytes_share_no_field(published: Any, here: Any, options: dict[str, Any]) -> None:
    """So no advice is about fields."""
    with Publisher("t", published, max_bytes=64):
        with pytest.raises(TypeMismatchError) as caught:
            Subscriber("t", here, **options)
        assert str(caught.value).endswith(
            "\nThey share no field: subscribe with the publisher's type, or to another topic."
        )
        with pytest.raises(TypeMismatchError, match="They share no field: publish under another topic"):
            Publisher("t", here, max_bytes=64, match=options.get("match", "exact"))


def test_untyped_publishers_are_named_in_the_error(zeroslot_dir: Any) -> None:
    """A topic that carries bytes."""
    directory = zeroslot_dir / "default" / "t"
    with Publisher("t", First) as pub:  # makes the directory
        path = pub.flink
    directory = path.parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with zs.SlotAllocator.create(directory / f"{1:016x}.flink", 4, 128, name="raw"):
        for handle in (Publisher, Subscriber):
            with pytest.raises(TypeMismatchError, match=r"carries bytes.* of raw \(this process\)") as caught:
                handle("t", First)
            assert (caught.value.publisher_name, caught.value.publisher_pid) == ("raw", os.getpid())


# --- a class that is declared again ---


def imu(extra: Any = None) -> tuple[type[Sample], type[Sample]]:
    """An outer and a nested class, as a cell of a notebook declares them each time it runs."""

    class Part(Sample):
        x: zs.F32
        mode: Mode = Mode.ON

    class Imu(Sample):
        stamp: zs.U64
        part: Part
        parts: Annotated[list[Part], zs.MaxLen(2)]
        maybe: Part | None
        if extra is not None:
            more: extra = 0

    return Imu, Part


@pytest.mark.row("TYP-7")
def test_a_redeclared_class_is_the_same_type_for_publish() -> None:
    """Models and views of it, and nested samples of redeclared classes."""
    (old, old_part), (new, new_part) = imu(), imu()
    with Publisher("t", old) as pub, Subscriber("t", new) as sub, Publisher("other", new) as other:
        for kind, part in ((old, old_part), (new, new_part)):
            sample = kind(stamp=3, part=part(x=1), parts=[part(x=2)], maybe=part(x=3))
            with other.loan() as loaned:
                for name, value in dict(sample).items():
                    setattr(loaned, name, value)
                pub.publish(sample)
                pub.publish(loaned)
            for _ in range(2):
                lease = sub.take()
                assert lease is not None
                assert lease.copy().model_dump() == sample.model_dump()
                assert type(lease.copy()) is new
        with pub.loan() as loaned:
            loaned.part = new_part(x=5)
            loaned.parts = [new_part(x=6), old_part(x=7)]
            loaned.maybe = other.loan().sample.part
            assert [item.x for item in loaned.parts] == [6, 7]


def test_a_redeclared_class_of_another_layout_is_refused_with_the_difference() -> None:
    """The text has both modules: the names are the same."""
    with Publisher("t", imu()[0]) as pub:
        other, part = imu(zs.U8)
        sample = other(stamp=1, part=part(x=1), parts=[], maybe=None)
        with pytest.raises(TypeError, match=rf"{__name__}.*Imu has another layout than (?s:.)*  more   missing"):
            pub.publish(sample)
        assert pub.sequence == 0
