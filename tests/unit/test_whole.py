"""np.ndarray and bytes as sample types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.taking import taken
from zeroslot import FormatError, Publisher, SampleTooLargeError, Subscriber, TypeMismatchError
from zeroslot.types import whole
from zeroslot.types.schema import from_json_schema

POINT = np.dtype(
    [("x", "<f4"), ("weight", "<f8"), ("m", "<i2", (2, 3)), ("n", [("a", "?"), ("t", "<M8[ns]")])], align=True
)


@pytest.fixture
def frames() -> Iterator[tuple[Publisher[np.ndarray[Any, Any]], Subscriber[np.ndarray[Any, Any]]]]:
    with (
        Publisher("frames", np.ndarray, max_bytes=1 << 20, depth=2, spare_slots=8) as pub,
        Subscriber("frames", np.ndarray, max_leases=8) as sub,
    ):
        yield pub, sub


@pytest.fixture
def log() -> Iterator[tuple[Publisher[bytes], Subscriber[bytes]]]:
    with Publisher("log", bytes, max_bytes=1000) as pub, Subscriber("log", bytes, max_leases=8) as sub:
        yield pub, sub


ARRAYS = {
    "numbers": np.arange(12).reshape(3, 4),
    "halves": np.ones((2, 2, 2), "f2"),
    "big endian": np.arange(5, dtype=">u4"),
    "a bool": np.array(True),
    "complex": np.array([1 + 2j, -1j]),
    "times": np.array(["2020-01-01", "NaT"], "M8[ns]"),
    "text": np.array(["a", "größe"]),
    "fortran": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "every second": np.arange(10)[::2],
    "backwards": np.arange(10)[::-1],
    "nothing": np.zeros((0, 3)),
    "eight dimensions": np.ones((1, 2, 1, 2, 1, 2, 1, 2), "i1"),
    "a number": np.float32(1.5),
    "records": np.array([(i, 2 * i, i, (True, i)) for i in range(5)], POINT),
    "no records": np.zeros((0, 2), POINT),
    "packed records": np.ones((2, 2), [("", "u1"), ("größe", "<f8")]),
}


@pytest.mark.row("BUF-1", "VAR-7")
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_arrives_with_its_dtype_and_shape(frames: Any, array: NDArray[Any]) -> None:
    """In place, read-only, aligned to 64 bytes; also for a subscriber that takes the type from the segment."""
    pub, sub = frames
    with Subscriber("frames") as untyped:
        for sequence in (1, 2):
            assert pub.publish(array) == sequence
            lease = taken(sub)
            for found in (lease.sample, taken(untyped).sample):
                assert type(found) is np.ndarray
                assert (found.dtype, found.shape) == (np.asarray(array).dtype, np.shape(array))
                assert np.array_equal(found, array) or found.dtype.kind == "M"
                assert found.tobytes() == np.asarray(array).tobytes()
                assert not found.flags.writeable
                assert found.ctypes.data % 64 == 0 or found.size == 0
            copy = lease.copy()
            assert copy.flags.writeable
            assert copy.base is None
            assert repr(copy) == repr(lease.sample)
        assert untyped.sample_type is np.ndarray


@pytest.mark.row("BUF-1")
@pytest.mark.parametrize("dtype", ["u1", "f2", POINT], ids=["u1", "f2", "records"])
def test_a_loan_gives_the_array_in_place(frames: Any, dtype: Any) -> None:
    """With shape and dtype; it is read-only after the commit. A loan can shrink before."""
    pub, sub = frames
    with pub.loan((480, 16), dtype) as array:
        assert (array.shape, array.dtype) == ((480, 16), np.dtype(dtype))
        array[:] = np.ones((), dtype)
        late = array
    assert not late.flags.writeable
    assert (taken(sub).sample == np.ones((480, 16), dtype)).all()
    loan = pub.loan_uninit(shape=10, dtype=dtype, timeout=1)
    loan.sample[:] = np.ones((), dtype)
    loan.resize(4)
    assert loan.sample.shape == (4,)
    loan.commit()
    found = taken(sub).sample
    assert (found.shape, found.dtype) == ((4,), np.dtype(dtype))
    assert (found == np.ones(4, dtype)).all()


def test_a_view_of_an_array_keeps_the_sample(frames: Any) -> None:
    """A slice outlives the lease, and holds its slot until it is gone."""
    pub, sub = frames
    pub.publish(np.arange(100))
    lease = taken(sub)
    part = lease.sample[10:20]
    lease.release()
    for number in range(20):
        pub.publish(np.full(100, number))
    assert part.tolist() == [*range(10, 20)]
    assert sub.stats.leases == 1
    del part, lease
    assert sub.stats.leases == 0


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (None, "an array, not NoneType"),
        ("text", "an array, not str"),
        (b"bytes", "an array, not bytes"),
        ({"data": 1}, "an array, not dict"),
        (np.array([object()]), "Python objects"),
        (np.zeros(2, [("a", "O")]), "Python objects"),
    ],
)
def test_what_is_no_array_is_refused(frames: Any, sample: Any, text: str) -> None:
    """Never an array of objects; nothing is published, and the slot goes back."""
    pub, sub = frames
    with pytest.raises(TypeError, match=text):
        pub.publish(sample)
    with pytest.raises(TypeError, match="Python objects"):
        pub.loan(3, object)
    assert (pub.sequence, sub.take(), pub.allocator.loan_count) == (0, None, 0)


@pytest.mark.row("VAR-7")
@pytest.mark.parametrize("options", [{}, {"grow": True}, {"pools": [(256, 10), (16384, 10)]}])
def test_max_bytes_is_the_size_of_the_largest_array_or_bytes(options: Any) -> None:
    """As many bytes fit, whatever the dtype's description takes, and not one more, although the slots have the room."""
    most = 300 * POINT.itemsize
    with Publisher("a", np.ndarray, max_bytes=most, **options) as pub, Subscriber("a", np.ndarray) as sub:
        for array in (np.zeros(300, POINT), np.zeros(most, "u1"), np.zeros(most // 8)):
            pub.publish(array)
            assert taken(sub).sample.shape == array.shape
        for larger in (np.zeros(301, POINT), np.zeros(most + 1, "u1"), np.zeros((2, most))):
            with pytest.raises(
                SampleTooLargeError, match=f"a: {larger.nbytes} bytes do not fit max_bytes={most} "
            ) as got:
                pub.publish(larger)
            assert (got.value.size, got.value.capacity) == (larger.nbytes, most)
            assert str(pub.allocator.size.total_bytes) in str(got.value)
            with pytest.raises(SampleTooLargeError, match=f"max_bytes={most} "):
                pub.loan(larger.shape, larger.dtype)
        with pytest.raises(SampleTooLargeError):
            pub.loan(1 << 40, "u1")
    with Publisher("b", bytes, max_bytes=4096, **options) as log, Subscriber("b", bytes) as sub:
        log.publish(bytes(4096))
        assert taken(sub).sample == bytes(4096)
        with pytest.raises(SampleTooLargeError, match="b: 4097 bytes do not fit max_bytes=4096 "):
            log.publish(bytes(4097))
        with pytest.raises(SampleTooLargeError):
            log.loan_uninit(4097)
        assert log.allocator.loan_count == 0
    with pytest.raises(ValueError, match="any size: give max_bytes"):
        Publisher("c", np.ndarray)
    with pytest.raises(ValueError, match="max_bytes is 4000, which takes slots of 5024 bytes, and the largest slots"):
        Publisher("d", bytes, max_bytes=4000, pools=[(4096, 10)])


@pytest.mark.parametrize(
    "arguments",
    [
        ((), {}),
        ((3,), {}),
        ((3, "u1", 0, 1), {}),
        ((3,), {"shape": 3}),
        ((3, "u1"), {"size": 1}),
        ((), {"dtype": "u1"}),
    ],
)
def test_a_loan_of_an_array_needs_shape_and_dtype(frames: Any, arguments: Any) -> None:
    """Anything else is a TypeError that names the form."""
    pub, _ = frames
    with pytest.raises(TypeError, match=r"loan\(shape, dtype\)"):
        pub.loan(*arguments[0], **arguments[1])
    assert pub.allocator.loan_count == 0


@pytest.mark.row("TYP-11")
@pytest.mark.parametrize("content", [b"", b"line", bytes(1000), bytearray(b"abc"), memoryview(b"abcd")[1:3]])
def test_bytes_arrive_in_place(log: Any, content: Any) -> None:
    """As a read-only memoryview, equal to the bytes; copy gives bytes of their own."""
    pub, sub = log
    pub.publish(content)
    lease = taken(sub)
    assert type(lease.sample) is memoryview
    assert lease.sample.readonly
    assert lease.sample == bytes(content)
    assert lease.copy() == bytes(content)
    assert type(lease.copy()) is bytes
    with Subscriber("log", history=1) as untyped:
        assert taken(untyped).sample == bytes(content)
        assert untyped.sample_type is bytes


@pytest.mark.row("TYP-11")
def test_a_loan_of_bytes_gives_a_memoryview_that_ends_with_the_commit(log: Any) -> None:
    """Zeros at first; after the commit it cannot be used; a buffer taken from it holds off the commit."""
    pub, sub = log
    with pub.loan(8) as buffer:
        assert bytes(buffer) == bytes(8)
        buffer[:4] = b"abcd"
    with pytest.raises(ValueError, match="released"):
        buffer[0]
    assert taken(sub).sample == b"abcd" + bytes(4)
    loan = pub.loan(size=100)
    array = np.frombuffer(loan.sample, "u1")
    with pytest.raises(BufferError, match="still alive"):
        loan.commit()
    del array
    loan.sample[:3] = b"xyz"
    loan.resize(3)
    with pytest.raises(ValueError, match="can only shrink"):
        loan.resize(101)
    loan.commit()
    assert taken(sub).sample == b"xyz"


def test_a_memoryview_of_a_lease_keeps_the_sample(log: Any) -> None:
    """Also a part of it, after the release."""
    pub, sub = log
    pub.publish(b"0123456789")
    lease = taken(sub)
    part = lease.sample[2:5]
    lease.release()
    for _ in range(100):
        pub.publish(b"----------")
    assert part == b"234"


@pytest.mark.parametrize("sample", ["text", 7, None, [1, 2]])
def test_what_is_no_bytes_is_refused(log: Any, sample: Any) -> None:
    """TypeError, and nothing is published."""
    pub, _ = log
    with pytest.raises(TypeError, match="bytes, not"):
        pub.publish(sample)
    assert (pub.sequence, pub.allocator.loan_count) == (0, 0)


class Holder(zs.Sample):
    data: NDArray[Any]


class Fixed(zs.Sample):
    data: zs.U64 = 0


@pytest.mark.parametrize("match", ["exact", "by_name"])
@pytest.mark.parametrize("other", [bytes, Holder, Fixed])
def test_another_type_is_a_mismatch(frames: Any, other: Any, match: Any) -> None:
    """Also a class with a field of the same name and kind, by name too, and in both directions."""
    with pytest.raises(TypeMismatchError, match="frames carries ndarray") as caught:
        Subscriber("frames", other, match=match)
    assert "has fields" in str(caught.value) or other is bytes
    with pytest.raises(TypeMismatchError, match="frames carries ndarray"):
        Publisher("frames", other, **({} if other is Fixed else {"max_bytes": 1000}))
    with Publisher("other", other, **({} if other is Fixed else {"max_bytes": 1000})):
        with pytest.raises(TypeMismatchError, match=f"other carries {other.__name__}"):
            Subscriber("other", np.ndarray, match=match)


def test_many_arrays_are_published_one_by_one(frames: Any) -> None:
    """publish_many takes any iterable of them; take_many has no array for samples without a common dtype."""
    pub, sub = frames
    pub.publish_many([np.arange(3), np.ones((2, 2))])
    assert [taken(sub).sample.shape, taken(sub).sample.shape] == [(3,), (2, 2)]
    pub.publish_many(np.arange(6).reshape(2, 3))
    assert [taken(sub).sample.tolist(), taken(sub).sample.tolist()] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(TypeError):
        sub.take_many()


def test_inspect_and_metadata_know_whole_types() -> None:
    """The type's name, CRC and metadata as for any type."""
    with (
        Publisher("all", np.ndarray, max_bytes=1 << 23, depth=1, spare_slots=4, crc=True, metadata=True) as pub,
        Subscriber("all", np.ndarray, verify=True) as sub,
    ):
        image = np.arange(6_220_800, dtype="u4").astype("u1").reshape(1080, 1920, 3)
        pub.publish(image, metadata={"content_type": "image/raw"})
        lease = taken(sub)
        assert np.array_equal(lease.sample, image)
        assert lease.metadata is not None
        assert lease.metadata.content_type == "image/raw"
        assert zs.inspect("all").publishers[0].type_name == "ndarray"
        assert sub.publishers[0].type_hash == whole.compiled_type(np.ndarray).layout.type_hash.hex()


@pytest.mark.parametrize("sample_type", [np.ndarray, bytes])
def test_the_schema_of_a_whole_type_makes_it_again(sample_type: type) -> None:
    """With the same hash, which is another one than that of a class with such a field; inside a sample it is none."""
    layout = whole.compiled_type(sample_type).layout
    schema = layout.to_json_schema()
    again = from_json_schema(schema)
    assert (again.whole, again.type_hash, whole.type_of(again)) == (True, layout.type_hash, sample_type)
    assert layout.type_hash != whole.compiled_type(Holder).layout.type_hash
    outer: dict[str, Any] = whole.compiled_type(Fixed).layout.to_json_schema()
    outer["properties"]["data"] = {key: value for key, value in schema.items() if key != "$schema"}
    with pytest.raises(FormatError):
        from_json_schema(outer)
    schema["properties"] = {}
    with pytest.raises(FormatError, match="not of one variable field"):
        from_json_schema(schema)


@pytest.mark.row("TYP-6")
def test_a_stored_schema_makes_a_type_again() -> None:
    """As text, bytes, parsed, or the layout of a topic: a sample type with the same hash, or the whole type."""

    class Made(zs.Sample):
        at: zs.U64
        name: str

    layout = zs.layout_of(Made)
    text = json.dumps(layout.to_json_schema())
    for schema in (text, text.encode(), layout.to_json_schema()):
        again = zs.type_from_schema(schema)
        assert issubclass(again, zs.Sample)
        assert zs.layout_of(again) == layout
    assert zs.type_from_schema(layout) is Made
    for sample_type in (np.ndarray, bytes):
        with Publisher("whole", sample_type, max_bytes=10):
            assert zs.type_from_schema(zs.schema_of("whole")) is sample_type
    for wrong in ("", b"\xff", "[]", "{}", text[:-1]):
        with pytest.raises(FormatError):
            zs.type_from_schema(wrong)
