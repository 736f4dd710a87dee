"""Samples: declared as pydantic classes, checked where they are defined, equal to views of them."""

from __future__ import annotations

import enum
import pickle
import threading
from typing import Annotated, ClassVar, Generic, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, computed_field

from zeroslot import Publisher
from zeroslot._core import binding
from zeroslot.errors import DeclarationError
from zeroslot.types.layout import Layout
from zeroslot.types.model import default_values
from zeroslot.types.nodes.arrays import Shape
from zeroslot.types.nodes.lists import MaxLen
from zeroslot.types.nodes.scalars import F32, U8, U32, U64
from zeroslot.types.nodes.text import MaxBytes
from zeroslot.types.sample import Sample, layout_of

T = TypeVar("T")


class Mode(enum.IntEnum):
    IDLE = 0
    RUN = 3


class Point(Sample):
    x: float
    y: F32 = 0.5


class Imu(Sample):
    stamp_ns: U64
    accel: Annotated[NDArray[np.float64], Shape(3)]
    frame: Annotated[str, MaxBytes(16)] = "imu"
    points: Annotated[list[Point], MaxLen(2)] = []  # noqa: RUF012  # pydantic copies it
    point: Point = Point(x=1)
    mode: Mode = Mode.IDLE
    maybe: U8 | None = None


class Box(Sample, Generic[T]):
    value: T
    more: Annotated[list[T], MaxLen(2)]


@pytest.fixture
def view_of():
    """Puts a model into shared memory and gives its view."""
    publishers = []

    def put(model):
        publishers.append(Publisher(f"sample/{len(publishers)}", type(model)))
        loan = publishers[-1].loan()
        for name, value in model.__dict__.items():
            setattr(loan.sample, name, value)
        return loan.sample

    yield put
    for each in publishers:
        each.close()


def imu(**changes):
    return Imu(**{"stamp_ns": 1, "accel": [0, 1, 2], "points": [Point(x=2)], **changes})


@pytest.mark.row("SEG-22")
@pytest.mark.row("NEW-2")
def test_layout_is_known_from_the_class_alone():
    """Size, offsets, dtype, IDL, C and JSON schema come from the class, without a segment, and once."""
    layout = layout_of(Imu)
    assert isinstance(layout, Layout)
    assert layout is layout_of(Imu)
    assert [field.name for field in layout.members] == list(Imu.model_fields)
    assert layout.dtype.itemsize == layout.size
    assert "struct Imu" in layout.to_idl()
    assert "string<16>" in layout.to_idl(form="message")
    assert "typedef struct Imu" in layout.to_c()
    assert layout.to_json_schema()["title"] == "Imu"


@pytest.mark.row("TYP-2")
@pytest.mark.parametrize(
    "annotation",
    [tuple[int], "dict[str, int]", "Bad | None", NDArray[np.object_], list[str], "Annotated[list[Bad], MaxLen(2)]"],
)
def test_declaration_is_checked_where_it_is_written(annotation):
    """A field without a fixed place is an error of the class statement."""
    with pytest.raises(DeclarationError) as caught:
        type(Sample)("Bad", (Sample,), {"__annotations__": {"field": annotation}, "__module__": __name__})
    assert caught.value.type_name == "Bad"


@pytest.mark.parametrize("name", ["größe", "x" * 256])
def test_field_name_that_c_cannot_say_is_refused(name):
    """Field names are ASCII identifiers of at most 255 characters."""
    with pytest.raises(DeclarationError, match="identifier"):
        type(Sample)("Bad", (Sample,), {"__annotations__": {name: int}, "__module__": __name__})


@pytest.mark.filterwarnings("ignore:Field name")
@pytest.mark.parametrize("name", ["register", "mro"])
def test_field_name_that_every_class_has_is_refused(name):
    """A field called `register` would get a method of the metaclass as its default."""
    with pytest.raises(DeclarationError, match="every class"):
        type(Sample)("Bad", (Sample,), {"__annotations__": {name: int}, "__module__": __name__})


def test_two_types_that_contain_each_other_are_refused():
    """A ring of types has no size; the error shows the ring."""

    class Hen(Sample):
        egg: Egg

    class Egg(Sample):
        hen: Hen

    with pytest.raises(DeclarationError, match="Hen in Egg in Hen"):
        Hen.model_rebuild(_types_namespace={"Egg": Egg})


def test_unresolved_names_are_checked_once_they_are_there():
    """A class may name one that comes later; until then it has no layout, and the error says so."""

    class Outer(Sample):
        inner: Inner

    with pytest.raises(DeclarationError, match="not defined"):
        layout_of(Outer)

    class Inner(Sample):
        x: U8

    Outer.model_rebuild()
    assert layout_of(Outer).size == 1


@pytest.mark.parametrize("other", [int, BaseModel, "Imu", Imu.model_fields, None])
def test_only_sample_types_have_a_layout(other):
    """Anything else is refused in words."""
    with pytest.raises(DeclarationError, match=r"zeroslot\.Sample"):
        layout_of(other)


def test_inherited_fields_come_first():
    """A derived type begins with the fields of its base, at the same offsets."""

    class Stamped(Imu):
        extra: U8 = 0

    fields = layout_of(Stamped).members
    assert fields[:-1] == layout_of(Imu).members
    assert fields[-1].name == "extra"


def test_generic_types_work_when_their_parameters_are_filled_in():
    """Box[U8] and Box[Point] are types with layouts and short names; Box alone is not."""
    assert layout_of(Box[U8]).size == 12
    assert layout_of(Box[Point]).size == 16 + 8 + 2 * 16
    assert (Box[U8].__name__, Box[Point].__name__) == ("Box[U8]", "Box[Point]")
    assert "struct Box_U8 " in layout_of(Box[U8]).to_idl()
    with pytest.raises(DeclarationError, match="type parameters"):
        layout_of(Box)
    with pytest.raises(DeclarationError):
        Box[str]


def test_what_is_not_a_field_takes_no_memory():
    """Class variables, private attributes and computed fields stay Python's own."""

    class Rich(Sample):
        limit: ClassVar[int] = 3
        x: U8
        _cache: dict[str, int] = PrivateAttr(default_factory=dict)

        @computed_field
        @property
        def double(self) -> int:
            return 2 * self.x

    assert [field.name for field in layout_of(Rich).fields] == ["x"]
    assert Rich(x=2).double == 4


def test_plain_numbers_are_checked_as_sixty_four_bits():
    """What memory cannot hold is refused by the model, also inside optionals and lists."""

    class Plain(Sample):
        n: int = 0
        m: int | None = None
        positive: Annotated[int, Field(ge=3)] = 3

    for changes in ({"n": 2**63}, {"m": -(2**63) - 1}, {"positive": 2}):
        with pytest.raises(ValidationError):
            Plain(**changes)
    assert Plain(n=-(2**63), m=np.int64(2**62)).m == 2**62


def test_default_that_its_field_refuses_is_refused():
    """Defaults are validated like any other value."""

    class Wrong(Sample):
        x: U8 = 256

    with pytest.raises(DeclarationError, match=r"Wrong\.x: its default 256"):
        default_values(Wrong)
    with pytest.raises(ValidationError):
        Wrong()


def test_defaults_and_factories_are_told_apart():
    """Values come validated, factories as they are, required fields not at all."""

    class Rich(Sample):
        required: U8
        point: Point = Point(x=1)
        vector: Annotated[NDArray[np.float32], Shape(2)] = (1, 2)
        stamp: U64 = Field(default_factory=lambda: 7)
        maybe: Annotated[str, MaxBytes(3)] | None = None

    values, factories = default_values(Rich)
    assert list(values) == ["point", "vector", "maybe"]
    assert values["vector"].dtype == np.float32
    assert (values["point"], values["maybe"]) == (Point(x=1), None)
    assert factories["stamp"]() == 7


def test_factory_that_wants_other_fields_is_refused():
    """A loan has no other fields yet when it writes a default."""

    class Needy(Sample):
        x: U8
        y: U8 = Field(default_factory=lambda data: data["x"])

    with pytest.raises(DeclarationError, match="without arguments"):
        default_values(Needy)


def test_array_default_is_not_shared():
    """Each model gets an array of its own."""

    class Vector(Sample):
        data: Annotated[NDArray[np.float32], Shape(2)] = np.zeros(2, np.float32)

    first = Vector()
    first.data[0] = 5
    assert Vector().data.tolist() == [0, 0]


def test_models_are_equal_by_value():
    """Arrays count by value, at every depth; NaN equals nothing, as everywhere."""
    assert imu() == imu()
    assert imu() != imu(accel=[0, 1, 3])
    assert imu() != imu(points=[])
    assert imu() != imu(points=[Point(x=3)])
    assert imu(accel=[0, 1, np.nan]) != imu(accel=[0, 1, np.nan])
    assert imu() != 3
    assert imu().__eq__(Point(x=1)) is NotImplemented


def test_model_equals_a_view_of_equal_fields(view_of):
    """Both orders, nested models, lists and arrays included; a view of another type is something else."""
    view = view_of(imu())
    assert imu() == view
    assert view == imu()
    for changes in ({"accel": np.zeros(3)}, {"point": Point(x=9)}, {"points": []}, {"maybe": 1}):
        assert imu(**changes) != view
        assert view != imu(**changes)
    assert Point(x=1) != view


def test_samples_hash_as_pydantic_models_do():
    """Mutable models have no hash, frozen ones have one."""

    class Frozen(Sample, frozen=True):
        x: U8

    with pytest.raises(TypeError):
        hash(imu())
    assert hash(Frozen(x=1)) == hash(Frozen(x=1))


def test_view_is_an_instance_of_its_sample(view_of):
    """Isinstance holds for the sample of a view and its bases, and for nothing else."""
    view = view_of(imu())
    assert isinstance(view, Imu)
    assert isinstance(view, Sample)
    assert not isinstance(view, Point)
    assert not isinstance(binding.View.__new__(binding.View), Imu)
    assert not isinstance(3, Sample)
    assert isinstance(Point(x=1), Sample)
    assert not isinstance(Point(x=1), Imu)


def test_view_in_a_model_becomes_a_copy(view_of):
    """No model keeps a view alive, wherever it was put. The copy is what was published: not validated again."""
    view = view_of(Point(x=4))
    for model in (imu(point=view), imu(points=[view]), Imu.model_validate({**dict(imu()), "point": view})):
        point = model.points[0] if model.points and model.points[0].x == 4 else model.point
        assert type(point) is Point
        assert point == Point(x=4)
    whole = view_of(imu(points=[Point(x=4)] * 2))
    assert type(Imu.model_validate(whole)) is Imu
    assert Imu.model_validate(whole) == whole
    points = imu(points=whole.points).points
    assert [type(each) for each in points] == [Point, Point]
    assert points == whole.points

    class Holder(BaseModel):
        point: Point

    assert type(Holder(point=view).point) is Point
    with pytest.raises(ValidationError):
        imu(point=whole)


def test_view_is_copied_by_field_names_where_there_are_aliases(view_of):
    """A view knows the names of memory, not those of the wire."""

    class Aliased(Sample):
        model_config = ConfigDict(validate_by_name=False)
        x: U8 = Field(alias="ex")

    assert Aliased.model_validate(view_of(Aliased(ex=3))).x == 3


def test_model_survives_json_pickle_and_copies():
    """Whatever JSON has no form for, such as bytes and infinity, comes back all the same."""

    class Odd(Sample):
        raw: Annotated[bytes, MaxBytes(4)]
        high: float
        data: Annotated[NDArray[np.float32], Shape(2)]

    odd = Odd(raw=b"\xff\0", high=float("inf"), data=[1, float("-inf")])
    assert Odd.model_validate_json(odd.model_dump_json()) == odd
    assert odd.model_copy(deep=True) == odd
    assert pickle.loads(pickle.dumps(imu())) == imu()
    dump = odd.model_dump()
    assert isinstance(dump["data"], np.ndarray)


def test_json_schema_shows_array_defaults():
    """The pydantic schema is complete and gives no warning; nested samples are referred to by name."""

    class Vector(Sample):
        data: Annotated[NDArray[np.float32], Shape(2)] = np.zeros(2, np.float32)
        point: Point = Point(x=1)

    schema = Vector.model_json_schema()
    assert schema["properties"]["data"]["default"] == [0.0, 0.0]
    assert schema["properties"]["point"]["$ref"] == "#/$defs/Point"


@pytest.mark.row("TYP-12")
def test_unit_type_is_a_sample():
    """A class without fields has a layout of no bytes and instances that are equal."""

    class Unit(Sample):
        pass

    assert layout_of(Unit).size == 0
    assert Unit() == Unit()


def test_layouts_are_built_alike_in_many_threads():
    """Threads that ask at once get equal answers, and none is told of a recursion that is not there."""

    class Late(Sample):
        inner: Annotated[list[Point], Shape(3)]
        x: U32

    expected = layout_of(Late)
    found: list[Layout] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        Late.__zs_compiled__ = None
        found.append(layout_of(Late))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8
