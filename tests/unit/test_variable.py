"""Fields of variable size: sizes of loans, what is published and read in place, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.taking import taken
from zeroslot import DeclarationError, Publisher, Sample, SampleTooLargeError, Subscriber, layout_of
from zeroslot.types.schema import from_json_schema


class Point(Sample):
    x: float = 0.0
    label: Annotated[str, zs.MaxBytes(8)] = ""


class Cloud(Sample):
    frame: str = "map"
    points: NDArray[np.float32]


class Frame(Sample):
    stamp: zs.U64 = 0
    image: NDArray[np.uint8]
    anything: NDArray[Any]
    name: str = "camera"
    jpeg: bytes
    points: list[Point]
    sizes: list[zs.U16]
    cloud: Cloud
    depth: NDArray[np.float64] | None = None
    maybe: Cloud | None = None
    last: zs.U8 = 5


class Bounded(Sample):
    content: Annotated[bytes, zs.MaxBytes(8)] = b""


VARIABLE = ["image", "anything", "name", "jpeg", "points", "sizes", "cloud", "depth", "maybe"]
HEAD = layout_of(Frame).size


def frame(**fields: Any) -> Frame:
    given: dict[str, Any] = {
        "image": np.arange(24, dtype="u1").reshape(2, 3, 4),
        "anything": np.array([1 + 2j, 3]),
        "jpeg": b"\xff\xd8",
        "points": [Point(x=1, label="é"), Point(x=2)],
        "sizes": [1, 2, 3],
        "cloud": Cloud(points=[[1, 2, 3]]),
    }
    return Frame(**(given | fields))


@pytest.fixture
def pub() -> Iterator[Publisher[Frame]]:
    with Publisher("frame", Frame, max_bytes=100_000) as made:
        yield made


@pytest.fixture
def sub(pub: Publisher[Frame]) -> Iterator[Subscriber[Frame]]:
    with Subscriber("frame", Frame) as made:
        yield made


@pytest.mark.row("TYP-9", "BUF-1")
def test_what_is_published_is_read_in_place_and_copied(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """A model, a view, a mapping; equal in place, as copies, and in a subscriber without a class."""
    value = frame(depth=[[1.5]], maybe=Cloud(frame="", points=np.zeros((0, 3))))
    with Subscriber("frame") as any_type:
        pub.publish(value)
        lease = taken(sub)
        view = lease.sample
        assert view == value
        assert lease.copy() == value
        assert repr(view) == repr(value)
        assert str(view.model_dump()) == str(value.model_dump())
        assert view.image.base is not None
        assert view.maybe.points.shape == (0, 3)
        assert pickle.loads(pickle.dumps(lease.copy())) == value
        assert str(taken(any_type).sample.model_dump()) == str(value.model_dump())
        size = lease.size
        for way in (view, copy.deepcopy(view), dict(value.__dict__), view.model_dump()):
            pub.publish(way)
            again = taken(sub)
            assert again.sample == value
            assert again.size == size


@pytest.mark.row("BUF-1", "SLOT-3")
def test_a_loan_gives_sizes_and_is_filled_in_place(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """By name and in `sizes`; what is sized starts with zeros, what is not is its default or empty."""
    with pub.loan(
        image=(4, 5), anything=((2, 2), np.int16), jpeg=3, sizes={"sizes": 4, "maybe": {"points": 2}}
    ) as view:
        assert view == frame(
            image=np.zeros((4, 5), "u1"), anything=np.zeros((2, 2), "i2"), jpeg=bytes(3), points=[], sizes=[0] * 4,
            cloud=Cloud(frame="", points=[]), maybe=Cloud(frame="", points=[0, 0]),
        )  # fmt: skip  # one value a line hides the table
        view.image[:] = 7
        view.anything[0] = -1
        view.sizes[3] = 9
        view.jpeg = b"abc"
        assert view.anything.dtype == np.int16
    lease = taken(sub)
    assert (lease.sample.image == 7).all()
    assert lease.sample.sizes == [0, 0, 0, 9]
    assert lease.sample.jpeg == b"abc"
    assert lease.sample.name == "camera"
    assert lease.sample.last == 5


@pytest.mark.row("BUF-1")
def test_arrays_of_a_lease_are_read_only_and_aligned(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """And those that a publisher keeps after the commit, too."""
    with pub.loan(image=(4, 5), jpeg=1, cloud={"points": (7, 3)}) as view:
        kept = view.image
        assert kept.flags.writeable
    view = taken(sub).sample
    for array in (kept, view.image, view.cloud.points):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        assert array.__array_interface__["data"][0] % 64 == 0
        assert array.flags.c_contiguous


def test_a_size_shrinks_before_the_commit(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """By `resize` and by assigning something smaller; the sample then has that many bytes."""
    with pub.loan(image=(4, 5), points=3, name=10, maybe={"points": (1000,)}) as view:
        view.image[:] = np.arange(20).reshape(4, 5)
        view.maybe.points[:] = 1
        zs.resize(view, image=(2, 5), points=1, name=2)
        zs.resize(view, maybe={"points": (7,)})
        zs.resize(view.maybe, points=(5,))
        with pytest.raises(ValueError, match="maybe: points: 4004 bytes, and the loan has room for 4000"):
            zs.resize(view, maybe={"points": (1001,)})
        with pytest.raises(TypeError, match="cloud: it keeps its size"):
            zs.resize(view, cloud=3)
        with pytest.raises(TypeError, match=r"fixed length, 1 items.* resize\(\) sets"):
            view.points.append(Point())
        assert view.image.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
        view.name = "ab"
        view.name = "0123456789"
        with pytest.raises(ValueError, match="name: 11 bytes, and the loan has room for 10"):
            view.name = "0123456789a"
        with pytest.raises(ValueError, match=r"image: 21 bytes, .* can only shrink"):
            zs.resize(view, image=(21,))
        view.image = np.ones((1, 3), np.uint8)
    lease = taken(sub)
    assert lease.sample.image.tolist() == [[1, 1, 1]]
    assert lease.sample.points == [Point()]
    assert lease.sample.name == "0123456789"
    assert lease.sample.maybe.points.tolist() == [1] * 5
    assert lease.size < HEAD + 1000
    with pytest.raises(zs.ClosedError):
        zs.resize(view, image=(1,))


def test_what_a_field_gives_up_is_wiped(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """No byte that was written and taken back reaches a subscriber: by a resize, and by an assignment."""
    with pub.loan(jpeg=8, name=8, points=1) as view:
        view.jpeg, view.name = b"password", "PASSWORD"
        zs.resize(view, jpeg=1)
        view.name = "P"
    lease = taken(sub)
    assert (lease.sample.jpeg, lease.sample.name) == (b"p", "P")
    assert b"assw" not in bytes(lease).lower()


def test_a_large_text_that_gives_up_bytes_is_wiped(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """Else the bytes in the middle of a character come back when it grows, and the text is no UTF-8."""
    with pub.loan(name=9000) as view:
        view.name = "€" * 3000
        view.name = "a"
        zs.resize(view, name=9000)
    assert taken(sub).sample.name == "a" + "\0" * 8999


def test_a_size_makes_an_optional_present(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """Also a size of 0, as an empty value that is published does; None is no size."""
    with pub.loan(depth=(0, 3), maybe={"points": 0}):
        pass
    sample = taken(sub).sample
    assert sample.depth.shape == (0, 3)
    assert sample.maybe.points.shape == (0,)
    with pub.loan(depth=None):
        pass
    assert taken(sub).sample.depth is None


def test_none_cannot_be_resized(pub: Publisher[Frame]) -> None:
    """Its bytes would be in the sample, and the field None."""
    with pub.loan(depth=(3, 3)) as view:
        view.depth = None
        with pytest.raises(ValueError, match="depth: it is None"):
            zs.resize(view, depth=(2, 3))
        view.depth = np.ones((2, 3))
        zs.resize(view, depth=(1, 3))
        assert view.depth.tolist() == [[1, 1, 1]]


def test_sizes_by_name_in_any_order_and_number(pub: Publisher[Frame]) -> None:
    """At more places of a program than are remembered, each of which gives other names, twice."""
    names = ["image", "name", "jpeg", "points", "depth"]
    calls = [{name: at + 1 for at, name in enumerate(names[first:] + names[:first])} for first in range(len(names))]
    calls += [dict(list(call.items())[:2]) for call in calls]
    for call in calls * 2:
        loan = pub.loan_uninit(**call)
        view: Any = loan.sample
        got = {name: len(view.image if name == "image" else zs.buffer(view, name)) for name in call if name != "points"}
        assert got == {name: size for name, size in call.items() if name != "points"}
        assert len(view.points) == call.get("points", 0)
        loan.discard()
    with pytest.raises(TypeError, match="imago is no variable field"):
        pub.loan(0, image=1, imago=2)
    assert pub.allocator.loan_count == 0


@pytest.mark.parametrize(
    "value", [memoryview(b"a-b-c-")[::2], np.array([[97, 0], [98, 0], [99, 0]], np.uint8)[:, 0]], ids=["bytes", "array"]
)
def test_bytes_that_do_not_lie_in_a_row_are_copied(pub: Publisher[Frame], sub: Subscriber[Frame], value: Any) -> None:
    """Into a variable field, into one with a bound and into whole bytes."""
    model = frame()
    model.__dict__["jpeg"] = value
    pub.publish(model)
    assert bytes(taken(sub).sample.jpeg) == b"abc"
    with pub.loan(jpeg=3) as view:
        view.jpeg = value
    assert bytes(taken(sub).sample.jpeg) == b"abc"
    with Publisher("bounded", Bounded) as bounded, bounded.loan() as written:
        written.content = value
        assert written.content == b"abc"
    with Publisher("log", bytes, max_bytes=100) as log, Subscriber("log", bytes) as reader:
        log.publish(value)
        assert bytes(taken(reader).sample) == b"abc"


@pytest.mark.parametrize(
    "dtype",
    [[], {"names": [], "formats": [], "itemsize": 8}, [("a", [], 3), ("b", "u1")]],
    ids=["no bytes", "no fields", "no fields within"],
)
def test_structures_that_no_subscriber_could_read_are_refused(pub: Publisher[Frame], dtype: Any) -> None:
    """By publish and by loan, before a slot is borrowed."""
    model = frame()
    model.__dict__["anything"] = np.zeros(2, dtype)
    with pytest.raises(TypeError, match="subscribers cannot read"):
        pub.publish(model)
    with pytest.raises(TypeError, match="subscribers cannot read"):
        pub.loan(anything=(2, dtype))
    assert pub.allocator.loan_count == 0


def test_an_absent_optional_takes_no_bytes(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """Also where it was sized and then set to None."""
    with pub.loan(depth=(100, 3), maybe={"points": 5}) as view:
        view.depth = view.maybe = None
    lease = taken(sub)
    assert lease.sample.depth is None
    assert lease.sample.maybe is None
    assert lease.size == HEAD + len("camera")


def test_loan_uninit_gives_sizes_and_no_defaults(pub: Publisher[Frame]) -> None:
    """What has no size is empty, whatever the slot had before."""
    for _ in range(20):
        pub.publish(frame())
    loan = pub.loan_uninit(image=3)
    assert loan.sample.name == ""
    assert loan.sample.image.shape == (3,)
    assert loan.sample.anything.shape == (0,)
    assert loan.sample.points == []


REFUSED_SIZES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"imag": 3}, TypeError, "imag is no variable field, and has no size. Variable are: " + ", ".join(VARIABLE)),
    ({"stamp": 3}, TypeError, "stamp is no variable field"),
    ({"cloud": {"point": 3}}, TypeError, "cloud.point is no variable field"),
    ({"cloud": 3}, TypeError, "cloud: a dict of the sizes of its fields"),
    ({"image": -1}, ValueError, "image: a size is not negative"),
    ({"image": "3"}, TypeError, "image: a size is a whole number"),
    ({"image": (1,) * 9}, ValueError, "image: 9 dimensions"),
    ({"anything": (3, 4)}, TypeError, "anything: a shape and a dtype"),
    ({"anything": ((3,), object)}, TypeError, "Python objects"),
    ({"anything": ((3,), [("a", "O")])}, TypeError, "Python objects"),
    ({"name": 1.5}, TypeError, "name: a size is a whole number"),
    ({"cloud": {"points": (1, "2")}}, TypeError, "cloud: points: a size"),
]


@pytest.mark.parametrize(("sizes", "kind", "text"), REFUSED_SIZES)
def test_a_wrong_size_is_refused(
    pub: Publisher[Frame], sizes: dict[str, Any], kind: type[Exception], text: str
) -> None:
    """With the name of the field, and before a slot is borrowed."""
    with pytest.raises(kind) as caught:
        pub.loan(**sizes)
    assert text in str(caught.value)
    assert pub.allocator.loan_count == 0


@pytest.mark.row("VAR-7")
@pytest.mark.parametrize(
    "sizes",
    [
        {"image": 100_000},
        {"image": (2**40, 2**40)},
        {"image": (2**40, 2**40, 0)},
        {"image": (0, 2**62, 2**62)},
        {"image": 2**64 - 1},
        {"points": 2**62},
    ],
)
def test_a_sample_larger_than_a_slot_is_refused_with_the_sizes(pub: Publisher[Frame], sizes: dict[str, Any]) -> None:
    """A loan and a publish, before a slot is borrowed."""
    with pytest.raises(SampleTooLargeError, match="do not fit") as caught:
        pub.loan(**sizes)
    assert caught.value.size is not None
    assert caught.value.size > 100_000
    if caught.value.size > 2**48:
        assert f"more than {2**48} bytes do not fit" in str(caught.value)
    assert caught.value.topic == "frame"
    with pytest.raises(SampleTooLargeError):
        pub.publish(frame(image=np.zeros(100_000, np.uint8)))
    assert pub.allocator.loan_count == 0


@pytest.mark.row("VAR-7")
@pytest.mark.parametrize("options", [{}, {"grow": True}, {"pools": [(8192, 10)]}])
def test_a_sample_of_max_bytes_is_published_and_no_larger_one(options: dict[str, Any]) -> None:
    """To the byte, although slots have a few more."""
    with Publisher("frame", Frame, max_bytes=HEAD + 1001, **options) as pub:
        pub.loan_uninit(name=1001).commit()
        with pytest.raises(
            SampleTooLargeError, match=f"frame: {HEAD + 1002} bytes do not fit max_bytes={HEAD + 1001} "
        ):
            pub.loan_uninit(name=1002)
        assert (pub.sequence, pub.allocator.loan_count) == (1, 0)


@pytest.mark.row("VAR-7")
def test_max_bytes_is_required_for_variable_fields_and_for_nothing_else() -> None:
    """And is at least what the fixed part takes."""
    with pytest.raises(ValueError, match=r"image, anything, name, .*max_bytes"):
        Publisher("frame", Frame)
    with pytest.raises(ValueError, match="max_bytes is 10"):
        Publisher("frame", Frame, max_bytes=10)
    with pytest.raises(ValueError, match="types with variable fields"):
        Publisher("frame", Point, max_bytes=1000)
    with Publisher("frame", Frame, max_bytes=HEAD) as pub:
        assert pub.allocator.slot_capacity < HEAD + 128


def test_arguments_of_a_loan_are_checked() -> None:
    """The timeout by place or by name, sizes by name alone."""
    with Publisher("fixed", Point) as pub:
        pub.loan(0).discard()
        pub.loan(timeout=None).discard()
        pub.loan_uninit(0).discard()
        untyped: Any = pub
        with pytest.raises(TypeError, match="sizes by name"):
            untyped.loan(0, 1)
        with pytest.raises(TypeError, match="twice"):
            untyped.loan(0, timeout=1)
        with pytest.raises(TypeError, match=r"x is no variable field, and has no size\. Variable are: none"):
            pub.loan(x=1)
        with pytest.raises(TypeError, match="x is no variable field"):
            pub.loan_uninit(sizes={"x": 1})


def test_a_field_may_be_called_timeout() -> None:
    """Then its size is given in `sizes`."""

    class Odd(Sample):
        timeout: str
        sizes: str

    with Publisher("odd", Odd, max_bytes=1000) as pub, pub.loan(sizes={"timeout": 2, "sizes": 3}) as view:
        view.timeout, view.sizes = "ab", "abc"
        assert view == Odd(timeout="ab", sizes="abc")


def test_values_of_a_variable_field_are_checked(pub: Publisher[Frame]) -> None:
    """Kinds in a constructor, in place and when published."""
    for name, value in {"image": [[1], [2, 3]], "jpeg": "text", "name": 5, "sizes": [70000]}.items():
        with pytest.raises(ValueError, match=name):
            frame(**{name: value})
        model = frame()
        model.__dict__[name] = value
        with pytest.raises((ValueError, TypeError), match=name):
            pub.publish(model)
    with pytest.raises(ValueError, match="Python objects"):
        frame(anything=[object()])
    with pytest.raises(ValueError, match="9 dimensions"):
        frame(anything=np.zeros((1,) * 9))
    with pytest.raises(ValueError, match="without loss"):
        frame(image=[0.5])
    assert pub.allocator.loan_count == 0


def test_defaults_and_factories_are_written_by_a_loan() -> None:
    """Where the loan gives no size."""

    class Made(Sample):
        words: list[zs.U8] = [1, 2]  # noqa: RUF012  # pydantic copies it
        cloud: Cloud = Cloud(frame="odom", points=[1, 2])
        path: str | None = "x"

    with Publisher("made", Made, max_bytes=4096) as pub:
        with pub.loan() as view:
            assert view == Made()
        with pub.loan(words=3, path=None) as view:
            assert (view.words, view.path) == ([0, 0, 0], None)
            assert view.cloud == Made().cloud


def test_a_loan_writes_values_into_the_room_that_they_have(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """Whole nested samples, strided arrays, iterators, numpy strings."""
    with pub.loan(image=(3, 4), cloud={"frame": 4, "points": 6}, sizes={"sizes": 4}, anything=(2, "S3")) as view:
        view.cloud = Cloud(frame="é", points=[1, 2])
        view.image = np.arange(24, dtype="u1").reshape(3, 8)[:, ::2]
        view.sizes = iter([4, 3])
        view.anything[:] = [b"abc", b"d"]
    view = taken(sub).sample
    assert view.cloud == Cloud(frame="é", points=[1, 2])
    assert view.image.tolist() == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 20, 22]]
    assert view.sizes == [4, 3]
    assert view.anything.tolist() == [b"abc", b"d"]


@pytest.mark.parametrize(
    "array",
    [
        np.array(True), np.zeros((2, 0, 3), "f2"), np.array(["ab", "c"]), np.array([b"x"]), np.array([1j], "c8"),
        np.array(["2026-01-01", "NaT"], "M8[ns]"), np.array([5], "m8[us]"), np.arange(3, dtype=">i4"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.ones((1,) * 8), np.array([b"abc"], "V3"),
    ],
    ids=str,
)  # fmt: skip  # one value a line hides the table
@pytest.mark.row("BUF-1")
def test_an_open_array_keeps_dtype_and_shape(
    pub: Publisher[Frame], sub: Subscriber[Frame], array: NDArray[Any]
) -> None:
    """Whatever numpy has that is bytes."""
    pub.publish(frame(anything=array))
    view = taken(sub).sample
    assert view.anything.dtype == array.dtype
    assert view.anything.shape == array.shape
    assert view.anything.tobytes() == array.tobytes()


@pytest.mark.row("TYP-6", "TYP-8")
def test_the_schema_gives_the_same_layout() -> None:
    """Through JSON; with the canonical text that FORMAT.md gives."""
    layout = layout_of(Frame)
    again = from_json_schema(json.dumps(layout.to_json_schema()))
    assert again.type_hash == layout.type_hash
    assert again.to_idl() == layout.to_idl()
    assert layout.canonical.startswith(
        f"struct({HEAD},8){{stamp@0:u64;image@8:array[u8];anything@176:array[any];name@344:str;jpeg@360:bytes;"
        "points@376:list[struct(24,8){x@0:f64;label@8:str(8)}];sizes@392:list[u16];cloud@408:struct("
    )
    assert [field.kind for field in layout.members[1:7]] == ["u8", "any", "str", "bytes", "list", "list"]
    assert not layout.plain


def test_lists_of_what_has_no_size_are_refused() -> None:
    """At the class statement."""
    with pytest.raises(DeclarationError, match=r"Bad\.field: an item of the list \(Cloud\) has a variable size"):
        type(Sample)("Bad", (Sample,), {"__annotations__": {"field": list[Cloud]}, "__module__": __name__})


@pytest.mark.row("TYP-11", "SLOT-3")
def test_a_buffer_of_a_variable_field_is_its_data_in_place(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """It is written through in a loan, and read-only in a lease."""
    loan = pub.loan(jpeg=4, name=2, image=(2, 2), sizes={"sizes": 3})
    with zs.buffer(loan.sample, "jpeg") as jpeg, zs.buffer(loan.sample, "image") as image:
        jpeg[:] = b"jpeg"
        image[1, 1] = 7
        with pytest.raises(BufferError):
            loan.commit()
    loan.commit()
    view = taken(sub).sample
    assert zs.buffer(view, "jpeg") == b"jpeg"
    assert zs.buffer(view, "jpeg").readonly
    assert view.image.tolist() == [[0, 0], [0, 7]]
    assert np.asarray(view.sizes).dtype == np.uint16
    assert zs.buffer(view, "sizes").tolist() == [0, 0, 0]


def test_lists_of_samples_take_and_give_structured_arrays(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """As lists with MaxLen do."""
    points = np.zeros(1000, layout_of(Point).dtype)
    points["x"] = np.arange(1000)
    pub.publish(frame(points=points))
    found = np.asarray(taken(sub).sample.points)
    assert found.dtype == points.dtype
    assert found["x"].tolist() == list(range(1000))


def test_batches_of_arrays_are_refused(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """An array has no variable fields; models can be published in one call."""
    with pytest.raises(TypeError, match="variable fields"):
        pub.publish_many(np.zeros(3, layout_of(Frame).dtype))
    assert pub.publish_many([frame(), frame()]) == 2
    with pytest.raises(TypeError, match="samples of Frame cannot be copied into an array"):
        sub.take_many(2)
    assert taken(sub).sequence == 1


def test_a_numpy_record_has_no_variable_fields(pub: Publisher[Frame]) -> None:
    """It is refused with what to publish instead."""
    with pytest.raises(TypeError, match="variable fields, which Frame has"):
        pub.publish(np.zeros((), layout_of(Frame).dtype))


class Fixed(Sample):
    frame: Annotated[str, zs.MaxBytes(8)] = "map"
    points: Annotated[NDArray[np.float32], zs.Shape(2)]


@pytest.mark.row("TYP-7", "NEW-3")
def test_a_bounded_field_is_read_as_a_variable_one_by_name() -> None:
    """And not the other way round; the error says which kinds the two sides have."""
    with Publisher("cloud", Fixed) as pub, Subscriber("cloud", Cloud, match="by_name") as sub:
        pub.publish(Fixed(points=[1, 2]))
        assert taken(sub).sample.model_dump()["frame"] == "map"
        pub.publish(Fixed(points=[1, 2]))
        assert taken(sub).copy() == Cloud(points=[1, 2])
    with Publisher("cloud", Cloud, max_bytes=1000), pytest.raises(zs.TypeMismatchError) as caught:
        Subscriber("cloud", Fixed, match="by_name")
    assert "publisher f32[...] at 16" in str(caught.value)
    assert "here f32[2] at 12" in str(caught.value)
    assert set(caught.value.unreadable) == {"frame", "points"}
