"""Arrays with dimensions that have a bound, and arrays of complex numbers, times and records."""

from __future__ import annotations

import enum
import pickle
import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

import zeroslot as zs
from zeroslot import CorruptSegmentError, DeclarationError, FormatError, Publisher, Sample, Subscriber, layout_of
from zeroslot._core import binding
from zeroslot.types.difference import difference
from zeroslot.types.schema import from_json_schema


class Point(Sample):
    x: zs.F32 = 0.0
    label: zs.U8 = 0  # three bytes of padding follow


class Other(Sample):
    x: zs.F32


class Arrays(Sample):
    cloud: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(2000), 3)]
    image: Annotated[NDArray[np.uint8], zs.Shape(zs.UpTo(48), zs.UpTo(64), 3)]
    line: Annotated[NDArray[np.float64], zs.Shape(zs.UpTo(10))] = np.arange(3.0)
    signal: Annotated[NDArray[np.complex64], zs.Shape(2)] = np.array([1 + 2j, 3])
    spectrum: Annotated[NDArray[np.complex128], zs.Shape(zs.UpTo(4))] = np.zeros(0)
    times: Annotated[NDArray[np.datetime64], zs.Shape(2, dtype="datetime64[ns]")] = np.array(
        ["2024-01-01"] * 2, "M8[s]"
    )
    waits: Annotated[NDArray[np.timedelta64], zs.Shape(zs.UpTo(4), dtype="timedelta64[ms]")] = np.zeros(0, "m8[ms]")
    flags: Annotated[NDArray[np.bool_], zs.Shape(zs.UpTo(4))] = np.zeros(0, "?")
    halves: Annotated[NDArray[np.float16], zs.Shape(zs.UpTo(4))] = np.zeros(0, "f2")
    points: Annotated[NDArray[np.void], zs.Shape(2, dtype=Point)] = np.zeros(2, layout_of(Point).dtype)
    some: Annotated[NDArray[np.void], zs.Shape(zs.UpTo(4), dtype=Point)] = np.zeros(0, layout_of(Point).dtype)


VALUES: dict[str, Any] = {
    "cloud": np.arange(15, dtype="f4").reshape(5, 3),
    "image": np.arange(2 * 5 * 3, dtype="u1").reshape(2, 5, 3),
    "line": np.array([0.5]),
    "signal": np.array([1j, 2], "c8"),
    "spectrum": np.array([1 - 1j, 2, 3]),
    "times": np.array(["2024-02-29T01:02:03.000000004", "1969-12-31"], "M8[ns]"),
    "waits": np.array([-1, 5], "m8[ms]"),
    "flags": np.array([True, False]),
    "halves": np.array([0.5], "f2"),
    "points": np.array([(1, 2), (3, 4)], layout_of(Point).dtype),
    "some": np.array([(5, 6)], layout_of(Point).dtype),
}


@pytest.fixture
def pub() -> Iterator[Publisher[Arrays]]:
    with Publisher("arrays", Arrays) as publisher:
        yield publisher


@pytest.fixture
def sub(pub: Publisher[Arrays]) -> Iterator[Subscriber[Arrays]]:
    with Subscriber("arrays", Arrays) as subscriber:
        yield subscriber


@pytest.mark.row("TYP-8", "BUF-5")
def test_arrays_of_every_kind_are_views_trimmed_to_what_is_there(
    pub: Publisher[Arrays], sub: Subscriber[Arrays]
) -> None:
    """In place, contiguous, read-only at the subscriber; also where the type comes from the schema."""
    with Subscriber("arrays") as anonymous:
        pub.publish(VALUES)
        with pub.loan() as arrays:
            for name, value in VALUES.items():
                setattr(arrays, name, value)
        for each in (sub, anonymous):
            for _ in range(2):
                lease = each.take()
                assert lease is not None
                whole = np.frombuffer(lease, "u1")
                for name, value in VALUES.items():
                    array = getattr(lease.sample, name)
                    assert (array.dtype, array.shape, array.flags.writeable) == (value.dtype, value.shape, False)
                    assert array.flags.c_contiguous
                    assert np.shares_memory(array, whole)
                    assert np.array_equal(array, value)


@pytest.mark.row("TYP-9")
def test_a_loan_starts_with_empty_arrays_or_with_defaults(pub: Publisher[Arrays]) -> None:
    """Of a slot that an older sample has filled, too."""
    for _ in range(pub.slot_count + 1):
        pub.publish(VALUES)
    loan = pub.loan()
    assert loan.sample.cloud.shape == (0, 3)
    assert loan.sample.image.shape == (0, 0, 3)
    assert loan.sample.line.tolist() == [0, 1, 2]
    assert loan.sample.times.tolist() == np.array(["2024-01-01"] * 2, "M8[ns]").tolist()
    loan.sample.cloud = np.ones((2000, 3))
    assert loan.sample.cloud.shape == (2000, 3)
    loan.sample.cloud = loan.sample.cloud[::-2]  # of its own memory
    assert loan.sample.cloud.shape == (1000, 3)
    loan.discard()


@pytest.mark.row("BUF-3")
def test_bounded_arrays_turn_read_only_at_the_commit(pub: Publisher[Arrays], sub: Subscriber[Arrays]) -> None:
    """As all arrays of a loan."""
    with pub.loan() as arrays:
        arrays.cloud = np.zeros((2, 3))
        cloud = arrays.cloud
        cloud[:] = 7
    with pytest.raises(ValueError):
        cloud[:] = 8
    assert sub.take().sample.cloud.tolist() == [[7, 7, 7], [7, 7, 7]]  # type: ignore[union-attr]  # one was published


@pytest.mark.row("TYP-9")
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("cloud", np.zeros((2001, 3)), "cloud: shape (2001, 3) is not within (UpTo(2000), 3)"),
        ("cloud", np.zeros((2, 4)), "cloud: shape (2, 4) is not within (UpTo(2000), 3)"),
        ("cloud", np.zeros(3), "cloud: shape (3,) is not within (UpTo(2000), 3)"),
        ("image", np.zeros((1, 65, 3), "u1"), "image: shape (1, 65, 3) is not within (UpTo(48), UpTo(64), 3)"),
        ("image", np.zeros((1, 1, 3)), "image: an array of float64 cannot become u8 without loss"),
        ("signal", np.array([1e300, 0]), "signal: a value is beyond the range of f32"),
        ("signal", np.array([1e300j, 0]), "signal: a value is beyond the range of f32"),
        ("line", np.array([1j]), "line: an array of complex128 cannot become f64 without loss"),
        ("times", np.array(["3000", "3000"], "M8[Y]"), "times: an array of datetime64[Y] cannot become datetime64[ns]"),
        ("times", np.zeros(2), "times: an array of float64 cannot become datetime64[ns] without loss"),
        ("waits", np.array([1], "m8[us]"), "waits: an array of timedelta64[us] cannot become timedelta64[ms]"),
        ("waits", np.zeros(1, "M8[ms]"), "waits: an array of datetime64[ms] cannot become timedelta64[ms]"),
        ("points", np.zeros(2), "points: records with the fields x, label, not an array of float64"),
        ("points", [{"x": 1}] * 2, "points: a record has the fields x, label"),
        ("points", [{"x": 1, "label": 256}] * 2, "points: label: values from 256 to 256 do not fit into u8"),
        ("some", [(0, 0)] * 5, "some: shape (5,) is not within (UpTo(4))"),
    ],
)
def test_an_array_that_does_not_fit_is_refused_by_name(
    pub: Publisher[Arrays], name: str, value: Any, text: str
) -> None:
    """In a loan, where nothing changes, and in a model."""
    loan = pub.loan()
    before = bytes(loan.sample)  # type: ignore[call-overload]  # a view is bytes-like
    with pytest.raises((ValueError, TypeError), match=re.escape(text)):
        setattr(loan.sample, name, value)
    assert bytes(loan.sample) == before  # type: ignore[call-overload]  # a view is bytes-like
    loan.discard()
    with pytest.raises((ValidationError, TypeError), match=re.escape(text.partition(": ")[2])):
        Arrays.model_validate({**VALUES, name: value})


@pytest.mark.row("TYP-8")
def test_elements_are_converted_where_nothing_is_lost(pub: Publisher[Arrays]) -> None:
    """Real to complex, coarser to finer units, integers as counts of units, lists as JSON has them."""
    loan = pub.loan()
    arrays: Any = loan.sample
    for value, expected in (([1, 2.5], [1, 2.5]), ([[1, 2], [3, 4]], [1 + 2j, 3 + 4j]), ([1j, 2], [1j, 2])):
        arrays.signal = value
        assert arrays.signal.tolist() == expected
    for given in (np.array(["2024", "NaT"], "M8[Y]"), ["2024-01-01", "NaT"], [1704067200000000000, -(2**63)]):
        arrays.times = given
        assert arrays.times.view("i8").tolist() == [1704067200000000000, -(2**63)]
    arrays.waits = np.array([2], "m8[s]")
    assert arrays.waits.view("i8").tolist() == [2000]
    other = np.array([(7, 1.5), (8, 2.5)], [("label", ">i4"), ("x", "f8")])
    for records in (
        other,
        [{"label": 7, "x": 1.5}, {"label": 8, "x": 2.5}],
        [(1.5, 7), (2.5, 8)],
        list(other[["x", "label"]]),
        [Point(x=1.5, label=7), Point(x=2.5, label=8)],
        [MappingProxyType({"x": 1.5, "label": 7}), (2.5, 8)],
    ):
        arrays.points = records
        assert arrays.points.tolist() == [(1.5, 7), (2.5, 8)]
        assert Arrays.model_validate({**VALUES, "points": records}).points.tolist() == [(1.5, 7), (2.5, 8)]
    for value in ([1, 2], 5, None, "ab", (point for point in other)):
        with pytest.raises(TypeError, match="points: records with the fields x, label, not "):
            arrays.points = value
        with pytest.raises(ValidationError, match="records with the fields x, label, not "):
            Arrays.model_validate({**VALUES, "points": value})
    for value in (None, object(), {1}):
        with pytest.raises(ValueError, match=f"line: an array, not {type(value).__name__}"):
            arrays.line = value
    with pytest.raises(ValueError, match=r"times: .*too big"):
        arrays.times = [1 << 80, 0]
    with pytest.raises(ValueError, match="points: a record has the fields x, label"):
        arrays.points = [Other(x=1.0), Other(x=2.0)]
    arrays.line = []
    assert arrays.line.shape == (0,)
    loan.discard()


@pytest.mark.row("TYP-9")
def test_models_with_such_arrays_validate_serialize_and_pickle() -> None:
    """JSON has complex numbers as pairs, times and durations as counts of units, records as objects."""
    model = Arrays.model_validate(VALUES)
    assert Arrays.model_validate_json(model.model_dump_json()) == model
    assert pickle.loads(pickle.dumps(model)) == model
    shown = model.model_dump(mode="json")
    assert shown["signal"] == [[0, 1], [2, 0]]
    assert shown["waits"] == [-1, 5]
    assert shown["points"] == [{"x": 1, "label": 2}, {"x": 3, "label": 4}]
    infinite = Arrays.model_validate({**VALUES, "spectrum": [complex(float("inf"), 1), complex(0, float("nan"))]})
    again = Arrays.model_validate_json(infinite.model_dump_json())
    assert np.array_equal(again.spectrum, infinite.spectrum, equal_nan=True)
    properties = Arrays.model_json_schema()["properties"]
    assert properties["cloud"]["maxItems"] == 2000
    assert "minItems" not in properties["cloud"]
    assert properties["cloud"]["items"]["minItems"] == 3


@pytest.mark.row("TYP-10", "TYP-6")
@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0, 3)])
def test_an_empty_array_comes_back_from_json(shape: tuple[int, ...]) -> None:
    """An empty list has no dims behind it: they are the declared ones."""
    made = Arrays(cloud=np.zeros((0, 3), "f4"), image=np.zeros(shape, "u1"), points=VALUES["points"])
    read = Arrays.model_validate_json(made.model_dump_json())
    assert (read.cloud.shape, read.image.shape) == ((0, 3), (0, 0, 3) if shape[0] == 0 else shape)
    with pytest.raises(ValidationError, match=r"shape \(0,\) is not within"):
        Arrays(**VALUES | {"cloud": np.zeros(0, "f4")})


def test_the_layout_of_such_arrays_in_other_forms() -> None:
    """Canonical text, schema, IDL, C and the difference name the bounds."""
    layout = layout_of(Arrays)
    for part in (
        "cloud@0:array(<=2000,3)[f32]",
        "array(<=48,<=64,3)[u8]",
        "array(2)[c64]",
        "array(2)[datetime64_ns]",
        "array(<=4)[timedelta64_ms]",
        "array(<=4)[struct(8,4){x@0:f32;label@4:u8}]",
    ):
        assert part in layout.canonical
    assert from_json_schema(layout.to_json_schema()) == layout
    assert "unsigned long count;\n    float items[2000][3];" in layout.to_idl()
    assert "unsigned long counts[2];\n    octet items[9216];" in layout.to_idl()
    assert '@unit("ns") long long times[2];' in layout.to_idl()
    assert "sequence<f32_3, 2000> cloud;" in layout.to_idl("message")
    assert "sequence<sequence<u8_3, 64>, 48> image;" in layout.to_idl("message")
    assert "float signal[2][2];" in layout.to_c()
    assert "uint32_t count;\n    float items[2000][3];" in layout.to_c()
    field = next(field for field in layout.members if field.name == "cloud")
    assert (field.kind, field.shape, field.text) == ("f32", (2000, 3), "f32[<=2000,3]")

    class Wider(Sample):
        cloud: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(3000), 3)]

    assert "publisher f32[<=2000,3] at 0     here f32[<=3000,3] at 0" in re.sub(
        " {6,}", "     ", difference(layout, layout_of(Wider))
    )


@pytest.mark.row("TYP-7")
def test_a_larger_bound_reads_a_smaller_one_by_name(pub: Publisher[Arrays]) -> None:
    """As for texts and lists; an array without a bound is within one."""

    class Wider(Sample):
        cloud: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(3000), zs.UpTo(3))]
        signal: Annotated[NDArray[np.complex64], zs.Shape(zs.UpTo(2))]

    class Smaller(Sample):
        cloud: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(1000), 3)]

    with Subscriber("arrays", Wider, match="by_name") as sub:
        pub.publish(VALUES)
        sample = sub.take().sample  # type: ignore[union-attr]  # one was published
        assert np.array_equal(sample.cloud, VALUES["cloud"])
        assert np.array_equal(sample.signal, VALUES["signal"])
    with pytest.raises(zs.TypeMismatchError, match="cloud"), Subscriber("arrays", Smaller, match="by_name") as sub:
        sub.take()


class Tagged(Sample):
    name: Annotated[str, zs.MaxBytes(8)] = ""


class Mode(enum.IntEnum):
    IDLE = 0


@pytest.mark.row("TYP-2")
@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Annotated[list[Point], zs.Shape(zs.UpTo(3))], "Write MaxLen"),
        (Annotated[NDArray[np.float32], zs.UpTo(3)], "UpTo\\(3\\) does not belong on NDArray"),
        (Annotated[NDArray[np.datetime64], zs.Shape(2)], "datetime64\\[ns\\]"),
        (Annotated[NDArray[np.datetime64], zs.Shape(2, dtype="datetime64")], "datetime64\\[ns\\]"),
        (Annotated[NDArray[np.datetime64], zs.Shape(2, dtype="datetime64[25s]")], "datetime64\\[ns\\]"),
        (Annotated[NDArray[np.float32], zs.Shape(2, dtype="float64")], "dtype='float64'"),
        (Annotated[NDArray[np.void], zs.Shape(2)], "has no element type"),
        (Annotated[NDArray[np.void], zs.Shape(2, dtype=Tagged)], "dtype=Tagged"),
        (Annotated[NDArray[np.void], zs.Shape(2, dtype=[("x", "f4")])], "a Sample"),
        (Annotated[NDArray[np.object_], zs.Shape(2)], "has no element type"),
    ],
)
def test_what_is_no_such_array_is_refused_at_the_declaration(annotation: Any, text: str) -> None:
    """With what to write instead."""
    with pytest.raises(DeclarationError, match=text):
        type(Sample)("Wrong", (Sample,), {"__annotations__": {"value": annotation}, "__module__": __name__})


def test_bounds_are_whole_numbers_and_equal_by_value() -> None:
    """`UpTo` is shown as it is written."""
    assert zs.Shape(zs.UpTo(3), 2) == zs.Shape(zs.UpTo(3), 2) != zs.Shape(3, 2)
    assert hash(zs.Shape(zs.UpTo(3), 2)) == hash(zs.Shape(zs.UpTo(3), 2))
    assert zs.Shape(3, dtype="M8[s]") != zs.Shape(3, dtype="M8[ms]")
    assert repr(zs.Shape(zs.UpTo(3), 2, dtype=Point)) == "Shape(UpTo(3), 2, dtype=Point)"
    assert zs.UpTo(3).limit == 3
    for wrong in (0, -1, 1.5, True, 2**31, "3"):
        with pytest.raises(DeclarationError):
            zs.UpTo(wrong)  # type: ignore[arg-type]  # on purpose


# --- corrupt bytes ---


@pytest.mark.row("BUF-5", "TYP-9")
@pytest.mark.parametrize("length", [2001, 2**31, 2**32 - 1])
def test_a_corrupt_length_is_an_error(pub: Publisher[Arrays], sub: Subscriber[Arrays], length: int) -> None:
    """Whatever reads the array: never memory from elsewhere."""
    with pub.loan() as arrays:
        record = np.frombuffer(arrays, layout_of(Arrays).dtype)  # type: ignore[call-overload]  # a view is bytes-like
        record["cloud"]["count"], record["image"]["counts"] = length, [[1, length]]
        del record
    lease = sub.take()
    assert lease is not None
    sample = lease.sample
    for use in (
        lambda: sample.cloud,
        lambda: sample.image,
        lambda: zs.buffer(sample, "cloud"),
        lambda: sample == Arrays.model_validate(VALUES),
        lease.copy,
        sample.model_dump,
    ):
        with pytest.raises(CorruptSegmentError, match="a dimension of at most"):
            use()


@pytest.mark.row("TYP-9")
def test_a_record_with_a_length_beyond_its_bound_is_refused(pub: Publisher[Arrays]) -> None:
    """Nothing is published."""
    record = np.zeros((), layout_of(Arrays).dtype)
    pub.publish(record)
    record["image"]["counts"][1] = 65
    with pytest.raises(ValueError, match="65"):
        pub.publish(record)
    assert pub.sequence == 1


@pytest.mark.row("TYP-9")
def test_what_loan_uninit_left_can_be_assigned_to(pub: Publisher[Arrays]) -> None:
    """A length that is none, from an older sample of another program, is replaced."""
    loan = pub.loan_uninit()
    record = np.frombuffer(loan, layout_of(Arrays).dtype)  # type: ignore[call-overload]  # a loan is bytes-like
    record["cloud"]["count"] = 2**32 - 1
    loan.sample.cloud = VALUES["cloud"]
    assert np.array_equal(loan.sample.cloud, VALUES["cloud"])
    del record
    loan.discard()


@pytest.mark.row("TYP-6")
@pytest.mark.parametrize("shape", [[], [{"up_to": 0}], [{"up_to": "3"}], [{"most": 3}], [{"up_to": True}], [{}], 5])
def test_a_stored_shape_that_is_none_is_a_format_error(shape: Any) -> None:
    """The reader believes nothing."""
    schema = layout_of(Arrays).to_json_schema()
    schema["properties"]["cloud"]["x-zeroslot"]["shape"] = shape
    with pytest.raises(FormatError):
        from_json_schema(schema)


def test_a_codec_of_elements_that_leave_the_field_is_refused() -> None:
    """The binding checks what Python code gives it."""
    for dims, at, size in (((-3,), 4, 12), ((-3,), 0, 100), ((), 4, 100), ((2,) * 33, 4, 2**40)):
        with pytest.raises(ValueError):
            binding.BoundedArrayCodec(np.dtype("f4"), dims, at, size)
    with pytest.raises(ValueError):
        binding.BoundedArrayCodec(np.dtype("O"), (-3,), 4, 100)


@pytest.mark.row("BUF-5")
def test_buffers_of_such_arrays(pub: Publisher[Arrays], sub: Subscriber[Arrays]) -> None:
    """Trimmed; times and durations as integers, since buffers have no units."""
    pub.publish(VALUES)
    sample = sub.take().sample  # type: ignore[union-attr]  # one was published
    assert zs.buffer(sample, "cloud").shape == (5, 3)
    assert zs.buffer(sample, "waits").tolist() == [-1, 5]
    assert zs.buffer(sample, "signal").format == "Zf"
    assert zs.buffer(sample, "some").nbytes == 8
    tensor = np.from_dlpack(sample.signal)
    assert tensor.tolist() == [1j, 2]


# --- other sizes, in place ---


class Sized(Sample):
    cloud: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(2000), 3)]
    points: Annotated[list[Point], zs.MaxLen(10)] = []  # noqa: RUF012  # pydantic copies it
    jpeg: Annotated[bytes, zs.MaxBytes(100)] = b"abc"
    fixed: Annotated[list[zs.U8], zs.Shape(2)] = [1, 2]  # noqa: RUF012  # pydantic copies it
    maybe: Annotated[NDArray[np.uint8], zs.Shape(zs.UpTo(4))] | None = None
    number: zs.U8 = 0


@pytest.mark.row("TYP-9", "BUF-5")
def test_fields_with_a_bound_are_resized_and_written_in_place() -> None:
    """Arrays, lists of samples and bytes: the length first, then what numpy writes."""
    with Publisher("sized", Sized) as pub, Subscriber("sized", Sized) as sub:
        with pub.loan() as sized:
            zs.resize(sized, cloud=(2, 3), points=2, jpeg=5)
            sized.cloud[:] = 1
            np.asarray(sized.points)["x"] = [4, 5]
            with zs.buffer(sized, "jpeg") as jpeg:
                assert bytes(jpeg) == b"abc\0\0"
                jpeg[3:] = b"de"
            zs.resize(sized, jpeg=4)
        sample = sub.take().sample  # type: ignore[union-attr]  # one was published
        assert sample.cloud.tolist() == [[1, 1, 1], [1, 1, 1]]
        assert [point.x for point in sample.points] == [4, 5]
        assert sample.jpeg == b"abcd"
        loan = pub.loan()
        for sizes, error, text in (
            ({"cloud": (2001, 3)}, ValueError, r"cloud: shape \(2001, 3\) is not within \(UpTo\(2000\), 3\)"),
            ({"cloud": 3}, ValueError, r"cloud: shape \(3,\) is not within"),
            ({"cloud": (2**70, 3)}, ValueError, "cloud: shape"),
            ({"cloud": (-1, 3)}, ValueError, "cloud: "),
            ({"cloud": ("2", 3)}, TypeError, "cloud: "),
            ({"points": 11}, ValueError, "points: 11 items, and the field holds at most 10"),
            ({"jpeg": 101}, ValueError, "jpeg: 101 bytes, and the field holds 100"),
            ({"fixed": 1}, TypeError, "fixed: it keeps its size"),
            ({"number": 1}, TypeError, "number: it keeps its size"),
        ):
            with pytest.raises(error, match=text):
                zs.resize(loan.sample, **sizes)
        committed = loan.sample
        loan.commit()
        with pytest.raises(zs.ClosedError):
            zs.resize(committed, jpeg=1)


class Spectrum(Sample):
    values: NDArray[np.complex128]


@pytest.mark.row("TYP-8")
def test_arrays_without_a_bound_have_complex_numbers_too() -> None:
    """Their schema says so."""
    with Publisher("spectrum", Spectrum, max_bytes=10_000) as pub, Subscriber("spectrum") as sub:
        pub.publish(Spectrum(values=np.array([1j, 2])))
        assert sub.take().sample.values.tolist() == [1j, 2]  # type: ignore[union-attr]  # one was published
    assert from_json_schema(layout_of(Spectrum).to_json_schema()) == layout_of(Spectrum)
