"""Views: classes made from a layout, whose fields work on their own slots and on nothing else."""

from __future__ import annotations

import copy
import enum
import pickle
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, computed_field, field_validator

import zeroslot as zs
from zeroslot import CorruptSegmentError, Publisher, Sample, Subscriber, TypeMismatchError, layout_of
from zeroslot._core import binding
from zeroslot.types.by_name import ByName
from zeroslot.types.compiled import compiled
from zeroslot.types.from_schema import sample_type_of


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


def test_a_changed_attribute_of_a_view_class_is_seen_at_once(pub: Publisher[Scan]) -> None:
    """Fields that were used are remembered, for as long as the class stays as it is, and not for another class."""
    loan = pub.loan()
    view: Any = loan.sample
    other: Any = loan.sample.origin
    kind: Any = type(view)
    view.stamp, other.x, spelled = 7, 8, "".join(["st", "amp"])
    for _ in range(3):
        assert (view.stamp, getattr(view, spelled), other.x, view.origin.x) == (7, 7, 8, 8)
    with pytest.raises(AttributeError, match="stamp"):
        other.stamp  # noqa: B018  # the class of `view` has it
    field = vars(kind)["stamp"]
    kind.stamp = property(lambda self: -1)
    assert (view.stamp, getattr(view, spelled)) == (-1, -1)
    with pytest.raises(AttributeError):
        view.stamp = 9
    del kind.stamp
    with pytest.raises(AttributeError, match="stamp"):
        view.stamp  # noqa: B018  # reading it raises
    kind.stamp = field
    assert view.stamp == 7
    with pytest.raises(AttributeError):
        del view.stamp
    assert view.stamp == 7
    with pytest.raises(AttributeError, match="unknown"):
        view.unknown = 1
    loan.discard()


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


class Base(Sample):
    x: zs.I32 = 1

    def name(self) -> str:
        return f"base {self.x}"

    def __len__(self) -> int:
        return self.x


class Rich(Base):
    """What a class can add to its fields."""

    model_config = ConfigDict(frozen=False)
    limit: ClassVar[int] = 9
    y: zs.U8 = Field(default=2, alias="why")
    hidden: zs.U8 = Field(default=3, repr=False)
    _secret: int = PrivateAttr(default=4)

    class Inner(enum.IntEnum):
        A = 1

    def name(self) -> str:
        return f"rich {super().name()}"

    @property
    def twice(self) -> int:
        return 2 * self.x

    @cached_property
    def thrice(self) -> int:
        return 3 * self.x

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def square(self) -> int:
        return self.x**2

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @cached_property
    def cube(self) -> int:
        return self.x**3

    @classmethod
    def of(cls, x: int) -> Self:
        return cls(x=x)

    @staticmethod
    def five() -> int:
        return 5

    @field_validator("x")
    @classmethod
    def small(cls, value: int) -> int:
        return min(value, 100)

    def other(self) -> Self:
        return self.__class__(x=self.x + 1)

    def private(self) -> int:
        return self._secret

    def __add__(self, other: int) -> int:
        return self.x + other

    def __lt__(self, other: Any) -> bool:
        return bool(self.x < other.x)


@pytest.fixture
def rich() -> Iterator[tuple[Rich, Rich]]:
    """A view, and the model of the same values."""
    with Publisher("rich", Rich) as made, Subscriber("rich", Rich) as sub:
        made.publish(Rich(x=7, why=8))
        lease = sub.take()
        assert lease is not None
        yield lease.sample, Rich(x=7, why=8)


def _matched(sample: Any) -> int:
    match sample:
        case Rich(x=x, y=8):
            return int(x)
        case _:
            return 0


USES: dict[str, Callable[[Rich], Any]] = {
    "super": lambda sample: sample.name(),
    "property": lambda sample: sample.twice,
    "cached_property": lambda sample: sample.thrice + sample.thrice,
    "computed_field": lambda sample: (sample.square, sample.cube),
    "classmethod": lambda sample: sample.of(3),
    "staticmethod": lambda sample: sample.five(),
    "class variable": lambda sample: sample.limit,
    "nested class": lambda sample: sample.Inner.A,
    "validator": lambda sample: sample.small(200),
    "__class__": lambda sample: sample.__class__,
    "makes another": lambda sample: sample.other(),
    "isinstance": lambda sample: (isinstance(sample, Rich), isinstance(sample, Base), isinstance(sample, Scan)),
    "len": len,
    "operator": lambda sample: sample + 1,
    "order": lambda sample: sample < Rich(x=8),
    "sorted": lambda sample: [each.x for each in sorted([Rich(x=8), sample])],
    "repr": repr,
    "str": str,
    "f-string": lambda sample: f"{sample} {sample!r}",
    "iteration": list,
    "dict()": dict,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda sample: sample.model_copy(),
    "model_copy(update)": lambda sample: sample.model_copy(update={"x": 5}, deep=True),
    "model_dump": lambda sample: sample.model_dump(),
    "model_dump(...)": lambda sample: sample.model_dump(by_alias=True, exclude={"x"}, mode="json", round_trip=True),
    "model_dump_json": lambda sample: sample.model_dump_json(indent=1),
    "model_fields_set": lambda sample: sample.model_fields_set | {"hidden"},
    "model_extra": lambda sample: sample.model_extra,
    "model_fields": lambda sample: list(type(sample).model_fields),
    "model_computed_fields": lambda sample: list(type(sample).model_computed_fields),
    "model_config": lambda sample: sample.model_config["frozen"],
    "model_construct": lambda sample: sample.model_construct(x=1),
    "model_validate": lambda sample: sample.model_validate({"x": 200, "why": 1}),
    "model_validate_json": lambda sample: sample.model_validate_json('{"x": 2}'),
    "model_validate_strings": lambda sample: sample.model_validate_strings({"x": "2"}),
    "model_json_schema": lambda sample: sample.model_json_schema(),
    "model_parametrized_name": lambda sample: sample.model_parametrized_name((int,)),
    "model_rebuild": lambda sample: sample.model_rebuild(),
    "model_post_init": lambda sample: sample.model_post_init(None),
    "validated": Rich.model_validate,
    "match": _matched,
    "getattr": lambda sample: getattr(sample, "nothing", "default"),
}


@pytest.mark.row("NEW-2")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_view_does_what_the_model_does(rich: tuple[Rich, Rich], use: Callable[[Rich], Any]) -> None:
    """What a class adds, what Python does with objects, and what pydantic offers."""
    view, model = rich
    assert use(view) == use(model)


def test_everything_public_of_a_model_is_there_on_views(rich: tuple[Rich, Rich]) -> None:
    """No name of pydantic's ends in an AttributeError, and each is in the table above."""
    view, _ = rich
    names = {name for name in dir(BaseModel) if not name.startswith("_")}
    for name in names:
        assert getattr(view, name, 0) != 0, name
    untried = {name for name in names if name.startswith("model_")} - USES.keys()
    assert untried == set()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["dict", "json", "copy"])
def test_deprecated_methods_work_on_a_copy(rich: tuple[Rich, Rich], name: str) -> None:
    """As long as pydantic has them."""
    view, model = rich
    assert getattr(view, name)() == getattr(model, name)()


def test_a_view_says_what_it_does_not_have(rich: tuple[Rich, Rich]) -> None:
    """Private attributes: a copy has them."""
    view, _ = rich
    with pytest.raises(AttributeError, match=r"_secret.*lease\.copy"):
        view.private()
    with pytest.raises(AttributeError, match=r"_secret.*lease\.copy"):
        view._secret = 5
    with pytest.raises(TypeError, match="keeps its class"):
        view.__class__ = Base  # type: ignore[assignment]  # on purpose
    assert view.model_copy().private() == 4


def test_a_class_variable_that_changes_is_seen(rich: tuple[Rich, Rich], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the class's, and not a copy."""
    monkeypatch.setattr(Rich, "limit", 10)
    assert rich[0].limit == 10


def test_a_field_may_have_the_name_of_a_method_of_models() -> None:
    """The field is read, on views as on models."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic warns of the shadowing

        class Shadowing(Sample):
            copy: zs.U8 = 1  # type: ignore[assignment]  # as said
            json: zs.U8 = 2  # type: ignore[assignment]  # as said

    with Publisher("shadowing", Shadowing) as pub, Subscriber("shadowing", Shadowing) as sub:
        pub.publish(Shadowing(copy=3, json=4))
        lease = sub.take()
        assert lease is not None
        assert (lease.sample.copy, lease.sample.json, lease.copy()) == (3, 4, Shadowing(copy=3, json=4))


def test_views_are_not_pickled(pub: Publisher[Scan]) -> None:
    """The text says what can be sent."""
    with pytest.raises(TypeError, match="copy"):
        pickle.dumps(pub.loan().sample)


def test_views_are_not_made_by_hand() -> None:
    """Calling the class raises; from __new__ it is empty, and every use of it is an exception."""
    kind = compiled(Scan).view_class
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
        with pytest.raises(AttributeError, match="cannot be deleted"):
            descriptor.__delete__(view)
    with pytest.raises(AttributeError, match="stamp: a field of a sample in place cannot be deleted"):
        del view.stamp
    with pytest.raises(TypeError, match="does not move its items"):
        del view.points[0]


def test_fields_of_another_class_do_not_leave_a_view(pub: Publisher[Scan]) -> None:
    """`__class__` is assigned, or is not: no field reads beyond the part that the view is of."""
    point: Any = pub.loan().sample.origin
    try:
        point.__class__ = compiled(Scan).view_class
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
    plan = compiled(Scan).writing_plan
    assert compiled(Scan).writing_plan is plan
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
    ranges: Annotated[NDArray[np.float32], zs.Shape(4)]


CALLS: list[int] = []


class New(Sample):
    """A later version of Old: one field less, and more that have defaults."""

    stamp: zs.U64
    count: zs.U8 = 77
    points: Annotated[list[Point], zs.MaxLen(2)] = [Point(x=3)]  # noqa: RUF012  # pydantic copies it
    origin: Point = Point(x=1)
    offsets: Annotated[NDArray[np.float32], zs.Shape(2)] = (1, 2)  # type: ignore[assignment]  # it is validated
    maybe: zs.U8 | None = None
    number: zs.U32 = Field(default_factory=lambda: CALLS.append(1) or len(CALLS))
    name: Annotated[str, zs.MaxBytes(8)]
    ranges: Annotated[NDArray[np.float32], zs.Shape(4)]


@pytest.mark.row("NEW-3", "TYP-7")
def test_by_name_reads_what_both_share_in_place() -> None:
    """At the publisher's offsets; declared defaults stand in for the others, in the view as in copies."""
    with Publisher("scan", Old) as pub, Subscriber("scan", New, match="by_name") as sub:
        pub.publish(Old(name="shared", stamp=2**40, ranges=np.ones(4)))
        lease = sub.take()
        assert lease is not None
        view = lease.sample
        copied = lease.copy()
        assert isinstance(view, New)
        assert type(copied) is New
        expected = New(stamp=2**40, name="shared", ranges=np.ones(4), number=copied.number)
        assert copied == expected
        assert view == expected
        assert list(dict(view)) == list(New.model_fields) == list(copied.model_dump())
        for name, value in dict(view).items():
            assert str(value) == str(getattr(copied, name))
        assert (view.count, view.origin, view.points) == (77, Point(x=1), [Point(x=3)])
        assert view.number == view.number == copied.number
        assert copied.model_fields_set == view.model_fields_set == {"stamp", "name", "ranges"}
        view.points.append(Point())
        view.offsets[0] = 9
        assert (len(view.points), view.offsets.tolist()) == (1, [1, 2])
        with pytest.raises(AttributeError, match="count"):
            view.count = 5
        assert not hasattr(view, "extra")
        assert "shared" in repr(view)
        assert repr(view).startswith("New(stamp=1099511627776, count=77")
        assert New.model_validate(view) == copied


@pytest.mark.row("NEW-3", "TYP-6")
def test_by_name_refuses_at_the_subscription_what_it_cannot_read() -> None:
    """Fields that the publisher lacks and that have no default, and fields of another kind, are listed."""

    class Demanding(Sample):
        stamp: zs.U64
        gone: zs.U8
        optional: zs.U8 = 0
        ranges: Annotated[NDArray[np.float64], zs.Shape(4)] = np.zeros(4)
        name: Annotated[str, zs.MaxBytes(7)]

    with Publisher("scan", Old):
        for match in ("exact", "by_name"):
            with pytest.raises(TypeMismatchError, match=r"cannot read gone, ranges, name:") as caught:
                Subscriber("scan", Demanding, match=match)  # type: ignore[call-overload]  # one of the two
            assert caught.value.unreadable == ("gone", "ranges", "name")
    with Subscriber("scan", Demanding, match="by_name") as sub:
        with Publisher("scan", Old), pytest.raises(TypeMismatchError):
            sub.take()


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
    assert compiled(Scan).view_class is compiled(Scan).view_class
    by_name = compiled(New).reading_plan_by_name(ByName(layout_of(Old), layout_of(New))).view_class
    assert by_name.__zs_names__ == tuple(New.model_fields)
    assert by_name.__zs_sample__ is New


@pytest.mark.row("NEW-4")
def test_a_class_from_a_layout_has_the_same_layout() -> None:
    """Field by field, hash included."""
    layout = layout_of(Scan)
    assert sample_type_of(layout) is Scan
    rebuilt = zs.Layout(layout.name, layout.members)
    made = sample_type_of(rebuilt)
    assert made is not Scan
    assert layout_of(made).type_hash == layout.type_hash
    assert made(ranges=[1, 2, 3, 4], stamp=1, points=[], origin={"x": 1, "y": 2}, name="n").name == "n"  # type: ignore[attr-defined]  # made at run time
