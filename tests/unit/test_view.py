"""Views: classes made from a layout, whose fields work on their own slots and on nothing else."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, Field, computed_field

import zeroslot as zs
from zeroslot import CorruptSegmentError, Publisher, Sample, Subscriber, TypeMismatchError, layout_of
from zeroslot._core import binding
from zeroslot.view import plan_of, sample_type_of, view_class_by_name, view_class_of


class Point(Sample):
    x: zs.I32 = 0
    y: float = 0.0

    @property
    def norm(self) -> float:
        return float(np.hypot(self.x, self.y))

    def moved(self, by: int) -> int:
        return self.x + by


class Scan(Sample):
    stamp: zs.U64 = 0
    ranges: Annotated[NDArray[np.float32], zs.Shape(4)]
    points: Annotated[list[Point], zs.MaxLen(2)] = []  # noqa: RUF012  # pydantic copies it
    origin: Point = Point(x=1)
    name: Annotated[str, zs.MaxBytes(8)] = "scan"

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def nearest(self) -> float:
        return float(self.ranges.min())


class Empty(Sample):
    pass


@pytest.fixture
def pub() -> Iterator[Publisher[Scan]]:
    with Publisher("scan", Scan) as made:
        yield made


def scan(**fields: Any) -> Scan:
    return Scan(**({"ranges": [1, 2, 3, 4]} | fields))


@pytest.mark.row("TYP-1", "NEW-2")
def test_a_view_is_an_instance_of_its_class(pub: Publisher[Scan]) -> None:
    """Nested ones too; a view of another class is not."""
    view: Any = pub.loan().sample
    assert isinstance(view, Scan)
    assert isinstance(view, Sample)
    assert isinstance(view.origin, Point)
    assert not isinstance(view, Point)
    assert not isinstance(view.origin, Scan)
    assert type(view).__name__ == "Scan"


def test_what_the_users_class_adds_works_on_views(pub: Publisher[Scan]) -> None:
    """Properties, methods, computed fields."""
    with pub.loan() as view:
        view.origin.x, view.origin.y = 3, 4.0
        view.ranges[:] = [5, 2, 7, 9]
        assert (view.origin.norm, view.origin.moved(2), view.nearest) == (5.0, 5, 2.0)


@pytest.mark.row("SUB-6")
def test_views_compare_and_print_as_models(pub: Publisher[Scan]) -> None:
    """Equal by value, in either order; never hashable."""
    model = scan(points=[Point(x=5)], name="é")
    with Subscriber("scan", Scan) as sub:
        pub.publish(model)
        lease = sub.take()
        assert lease is not None
        view = lease.sample
        assert view == model
        assert model == view
        assert not view != model  # noqa: SIM202  # both operators are under test
        assert view != scan()
        assert view.origin == Point(x=1)
        assert view != 5
        assert view.origin != view
        assert repr(view.origin) == repr(Point(x=1))
        assert str(view.model_dump()) == str(model.model_dump())
        assert Scan.model_validate_json(view.model_dump_json(exclude={"nearest"})) == model
        assert dict(view)["name"] == "é"
        with pytest.raises(TypeError):
            hash(view)


def test_a_view_in_another_model_becomes_a_copy(pub: Publisher[Scan]) -> None:
    """A model that is kept holds no slot."""

    class Holder(BaseModel):
        scan: Scan
        point: Point

    with Subscriber("scan", Scan) as sub:
        pub.publish(scan())
        lease = sub.take()
        assert lease is not None
        holder = Holder(scan=lease.sample, point=lease.sample.origin)
        assert type(holder.scan) is Scan
        assert type(holder.point) is Point
        lease.release()
        assert sub.stats.leases == 0
        assert holder.scan == scan()


@pytest.mark.parametrize("operation", [copy.copy, copy.deepcopy, lambda view: view.model_copy()])
def test_copies_of_views_are_models(pub: Publisher[Scan], operation: Any) -> None:
    """With memory of their own."""
    loan = pub.loan()
    loan.sample.ranges[:] = 1
    made = operation(loan.sample)
    assert type(made) is Scan
    made.ranges[0] = 9
    assert loan.sample.ranges[0] == 1


def test_views_are_not_pickled(pub: Publisher[Scan]) -> None:
    """The text says what can be sent."""
    with pytest.raises(TypeError, match="copy"):
        pickle.dumps(pub.loan().sample)


def test_views_are_not_made_by_hand() -> None:
    """Calling the class raises; from __new__ it is empty, and every use of it is an exception."""
    kind = view_class_of(Scan)
    for arguments in ((), (1,), ({"stamp": 1},)):
        with pytest.raises(TypeError, match="loans and leases"):
            kind(*arguments)
    for base in (kind, binding.View):
        empty: Any = base.__new__(base)
        uses = [
            lambda empty=empty: memoryview(empty),
            lambda empty=empty: bytes(empty),
            lambda empty=empty: empty.stamp,
            lambda empty=empty: setattr(empty, "stamp", 1),
            lambda empty=empty: empty.ranges,
            lambda empty=empty: empty.model_dump(),
            lambda empty=empty: list(empty),
            lambda empty=empty: pickle.dumps(empty),
            lambda empty=empty: binding.write_sample(empty, {}),
            lambda empty=empty: binding.write_image(empty, b""),
            lambda empty=empty: copy.copy(empty),
        ]
        for use in uses:
            with pytest.raises((TypeError, AttributeError)):
                use()
        assert isinstance(repr(empty), str)
        assert not empty.__zs_writable__


def test_fields_refuse_foreign_objects(pub: Publisher[Scan]) -> None:
    """A descriptor works on views of its own class and on nothing else."""
    view: Any = pub.loan().sample
    stamp, x = vars(type(view))["stamp"], vars(type(view.origin))["x"]
    foreign = [5, None, "text", object(), scan(), view.origin, view.points, memoryview(b"x" * 99), Scan]
    for each in foreign:
        with pytest.raises(TypeError):
            stamp.__get__(each, type(each)) if each is not None else stamp.__get__(None, None)
        with pytest.raises(TypeError):
            stamp.__set__(each, 1)
    with pytest.raises(TypeError):
        x.__get__(view, type(view))
    assert stamp.__get__(None, type(view)) is stamp
    for descriptor in (stamp, x):
        with pytest.raises((TypeError, AttributeError, NotImplementedError)):
            descriptor.__delete__(view)
    with pytest.raises((TypeError, AttributeError, NotImplementedError)):
        del view.stamp


def test_fields_of_another_class_do_not_leave_a_view(pub: Publisher[Scan]) -> None:
    """`__class__` is assigned, or is not: no field reads beyond the part that the view is of."""
    point: Any = pub.loan().sample.origin
    try:
        point.__class__ = view_class_of(Scan)
    except TypeError:
        return
    for name in ("ranges", "points", "origin", "name"):
        with pytest.raises(CorruptSegmentError, match="outside"):
            getattr(point, name)
        with pytest.raises((CorruptSegmentError, TypeError)):
            setattr(point, name, None)


def test_a_field_belongs_to_a_view_class() -> None:
    """Elsewhere it is refused where it is set."""
    field = binding.FieldDescriptor("x", binding.ScalarCodec("u8"), 0)
    with pytest.raises(TypeError):
        field.__set_name__(int, "x")
    with pytest.raises(TypeError):
        field.__get__(5, int)


@pytest.mark.row("TYP-12")
def test_a_sample_without_fields_is_delivered() -> None:
    """It has a sequence and a time, and no bytes."""
    with Publisher("empty", Empty) as pub, Subscriber("empty", Empty) as sub:
        assert layout_of(Empty).size == 0
        with pub.loan():
            pass
        assert pub.publish(Empty()) == 2
        assert pub.publish({}) == 3
        for sequence in (1, 2, 3):
            lease = sub.take()
            assert lease is not None
            assert (lease.sequence, lease.size, bytes(lease), lease.copy()) == (sequence, 0, b"", Empty())
            assert repr(lease.sample) == "Empty()"
        assert sub.take() is None


@pytest.mark.row("SLOT-21")
def test_a_loan_starts_with_the_defaults(pub: Publisher[Scan]) -> None:
    """Declared defaults, zeros elsewhere, whatever the slot held before."""
    for _ in range(pub.slot_count + 2):
        with pub.loan() as view:
            assert (view.stamp, view.name, len(view.points), view.origin) == (0, "scan", 0, Point(x=1))
            assert view.ranges.tolist() == [0, 0, 0, 0]
            view.stamp, view.name, view.ranges[:], view.points, view.origin.x = 5, "other", 7, [Point(x=1)], 9


@pytest.mark.row("SLOT-21")
def test_default_factories_are_called_for_each_loan() -> None:
    """And a factory that raises borrows no slot for ever."""
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        if len(calls) == 4:
            raise KeyError
        return len(calls)

    class Counted(Sample):
        n: zs.U32 = Field(default_factory=count)

    with Publisher("counted", Counted) as pub:
        assert [pub.loan().sample.n for _ in range(3)] == [1, 2, 3]
        with pytest.raises(KeyError):
            pub.loan()
        assert pub.allocator.loan_count == 0


@pytest.mark.row("SLOT-21")
def test_large_arrays_keep_what_was_there() -> None:
    """Over 4 KiB without a default: zeroing them would be the cost that zero-copy saves; small fields beside them are
    zeroed.
    """

    class Frame(Sample):
        pixels: Annotated[NDArray[np.uint8], zs.Shape(5000)]
        exposure: float

    with Publisher("frame", Frame, depth=1, max_loans=1, spare_slots=0) as pub:
        for _ in range(2):
            with pub.loan() as frame:
                frame.pixels[:], frame.exposure = 7, 1.0
        with pub.loan() as frame:
            assert (frame.pixels[0], frame.pixels[-1], frame.exposure) == (7, 7, 0.0)
        with pub.loan_uninit() as frame:
            assert frame.exposure == 1.0


def test_a_plan_is_made_once_and_not_again() -> None:
    """A second `__init__` of a shared plan would write over the end of it."""
    plan = plan_of(Scan)
    assert plan_of(Scan) is plan
    for _ in range(3):
        plan.__init__(plan.view_class, plan.size, [(0, b"x")] * 64)
    with pytest.raises(ValueError):
        binding.Plan(plan.view_class, plan.size, [(0, b"x")] * 65)
    with pytest.raises(ValueError):
        binding.Plan(plan.view_class, 4, [(3, b"xx")])
    with pytest.raises((ValueError, OverflowError)):
        binding.Plan(plan.view_class, 4, [(-1, b"x")])
    with Publisher("scan", Scan) as pub:
        assert pub.loan().sample.name == "scan"


# --- by name ---


class Old(Sample):
    name: Annotated[str, zs.MaxBytes(8)] = "old"
    extra: zs.U16 = 3
    stamp: zs.U64 = 0
    ranges: Annotated[NDArray[np.float64], zs.Shape(4)]


@pytest.mark.row("NEW-3", "TYP-7")
def test_by_name_reads_what_both_share_in_place() -> None:
    """At the publisher's offsets; what is missing or differs is an AttributeError that says which."""
    with Publisher("scan", Old) as pub, Subscriber("scan", Scan, match="by_name") as sub:
        pub.publish(Old(name="shared", stamp=2**40, ranges=np.ones(4)))
        lease = sub.take()
        assert lease is not None
        view = lease.sample
        assert isinstance(view, Scan)
        assert (view.name, view.stamp) == ("shared", 2**40)
        with pytest.raises(AttributeError, match="f64"):
            _ = view.ranges
        with pytest.raises(AttributeError, match="no such field"):
            _ = view.origin
        with pytest.raises(AttributeError):
            view.origin = Point()
        assert not hasattr(view, "extra")
        assert "shared" in repr(view)
        assert dict(view) == {"stamp": 2**40, "name": "shared"}
        copied = lease.copy()
        assert (copied.name, copied.stamp) == ("shared", 2**40)
        assert isinstance(copied, Scan)


@pytest.mark.row("NEW-3", "TYP-6")
def test_by_name_with_nothing_in_common_is_a_mismatch() -> None:
    """There is nothing to read."""

    class Other(Sample):
        different: zs.U8 = 0

    with Publisher("scan", Scan):
        with pytest.raises(TypeMismatchError, match="different"):
            Subscriber("scan", Other, match="by_name")


def test_view_classes_are_made_once_per_type() -> None:
    """And one by name for each publisher's layout."""
    assert view_class_of(Scan) is view_class_of(Scan)
    by_name = view_class_by_name(Scan, layout_of(Old))
    assert set(by_name.__zs_names__) == {"stamp", "name"}
    assert by_name.__zs_sample__ is Scan


@pytest.mark.row("NEW-4")
def test_a_class_from_a_layout_has_the_same_layout() -> None:
    """Field by field, hash included."""
    layout = layout_of(Scan)
    assert sample_type_of(layout) is Scan
    rebuilt = zs.Layout(
        **{
            name: getattr(layout, name)
            for name in ("name", "size", "alignment", "fields", "canonical", "type_hash", "dtype", "plain")
        }
    )
    made = sample_type_of(rebuilt)
    assert made is not Scan
    assert layout_of(made).type_hash == layout.type_hash
    assert made(ranges=[1, 2, 3, 4], stamp=1, points=[], origin={"x": 1, "y": 2}, name="n").name == "n"  # type: ignore[attr-defined]  # made at run time
