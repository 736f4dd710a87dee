"""What the elements of arrays without a bound can be: records, times, complex numbers, and families of dtypes."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

import zeroslot as zs
from tests.taking import taken
from zeroslot import CorruptSegmentError, DeclarationError, FormatError, Publisher, Sample, Subscriber, layout_of
from zeroslot.types.schema import from_json_schema

RECORD = np.dtype([("x", "<f4"), ("m", "<i2", (2, 3)), ("n", [("a", "?"), ("t", "<M8[ns]")])])
ALIGNED = np.dtype({"names": ["a", "b"], "formats": ["u1", ">f8"], "offsets": [0, 16], "itemsize": 32})


class Anything(Sample):
    before: zs.U8 = 1
    data: NDArray[Any]
    after: str = "after"


@pytest.fixture
def pub() -> Iterator[Publisher[Anything]]:
    with Publisher("anything", Anything, max_bytes=10_000) as made:
        yield made


@pytest.fixture
def sub(pub: Publisher[Anything]) -> Iterator[Subscriber[Anything]]:
    with Subscriber("anything", Anything) as made:
        yield made


def records(dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Records with other bytes in each item."""
    made = np.zeros(shape, dtype)
    name = made.dtype.names[0] if made.dtype.names else None
    if name is not None:
        made[name] = np.arange(made.size).reshape(shape)
    return made


ARRAYS = {
    "records": records(RECORD, (5,)),
    "records in two dimensions": records(RECORD, (2, 3)),
    "transposed records": records(RECORD, (2, 3)).T,
    "no records": np.zeros((0, 4), RECORD),
    "one record": records(RECORD, ()),
    "records with gaps": records(ALIGNED, (3,)),
    "a record array": np.rec.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")]),
    "times": np.array(["2026-01-01", "NaT"], "M8[25s]"),
    "durations": np.array([[1, -5]], ">m8[us]"),
    "times without a unit": np.zeros(2, "M8"),
    "truth values": np.array([True, False]),
    "complex numbers": np.array([1j, 2], "c8"),
    "complex numbers of the other byte order": np.array([1j, 2], ">c16"),
    "long doubles": np.ones(2, np.longdouble),
}


@pytest.mark.row("BUF-1", "TYP-8")
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_of_any_dtype_is_published_read_and_copied(
    pub: Publisher[Anything], sub: Subscriber[Anything], array: NDArray[Any]
) -> None:
    """As a model, a mapping, a view and by send; its copies are equal, and pickle."""
    model = Anything(data=array)
    pub.publish(model)
    first = taken(sub)
    pub.publish({"data": array})
    pub.publish(first.sample)
    pub.send(data=array)
    for lease in (first, taken(sub), taken(sub), taken(sub)):
        for found in (lease.sample, lease.copy(), copy.deepcopy(lease.sample)):
            assert found.data.dtype == array.dtype
            assert found.data.shape == array.shape
            assert repr(found.data.tolist()) == repr(array.tolist())  # bytes in gaps have no meaning
            assert (found.before, found.after) == (1, "after")
        assert not lease.sample.data.flags.writeable
        assert repr(pickle.loads(pickle.dumps(lease.copy())).data.tolist()) == repr(array.tolist())


@pytest.mark.row("BUF-1", "SLOT-3")
@pytest.mark.parametrize("dtype", [RECORD, ALIGNED, "M8[us]", "m8[D]", "c16", "?"], ids=str)
def test_a_loan_of_such_an_array_is_written_and_shrinks(
    pub: Publisher[Anything], sub: Subscriber[Anything], dtype: Any
) -> None:
    """The dtype is given once; resize keeps it where it is given a shape alone."""
    array = records(np.dtype(dtype), (3, 2))
    with pub.loan(data=((3, 2), dtype)) as view:
        assert not np.any(np.frombuffer(view.data.tobytes(), "u1"))
        view.data[:] = array
        zs.resize(view, data=(2, 2))
        assert view.data.dtype == dtype
        assert repr(view.data.tolist()) == repr(array[:2].tolist())
        zs.resize(view, data=((4,), "u1"))
        assert view.data.dtype == np.uint8
        view.data = array[:1]
    assert repr(taken(sub).sample.data.tolist()) == repr(array[:1].tolist())


@pytest.mark.row("BUF-5")
def test_a_buffer_of_records_and_times_begins_with_the_first_item(
    pub: Publisher[Anything], sub: Subscriber[Anything]
) -> None:
    """And not with the description of the dtype; times are integers, as the buffer protocol has no times."""
    array = records(RECORD, (2, 3))
    array["n"]["t"] = np.datetime64(7, "ns")
    loan = pub.loan(data=(array.shape, RECORD))
    with zs.buffer(loan.sample, "data") as written:
        there = np.asarray(written)
        assert there.dtype["n"]["t"] == np.int64
        there["x"] = array["x"]
        there["n"]["t"] = 7
        with pytest.raises(BufferError):
            loan.commit()
        del there
    loan.commit()
    view = taken(sub).sample
    assert view.data.tobytes() == array.tobytes()
    found = np.asarray(zs.buffer(view, "data"))
    assert found["x"].tolist() == array["x"].tolist()
    assert found["n"]["t"].tolist() == [[7] * 3] * 2
    assert not found.flags.writeable
    pub.publish(Anything(data=np.array([1, 2], "m8[s]")))
    assert zs.buffer(taken(sub).sample, "data").tolist() == [1, 2]


class Times(Sample):
    at: NDArray[np.datetime64]
    waits: NDArray[np.timedelta64]
    exact: Annotated[NDArray[np.datetime64], zs.Shape(..., dtype="datetime64[ns]")]
    values: NDArray[np.floating]
    signal: NDArray[np.complexfloating]
    points: NDArray[np.void]
    names: NDArray[np.str_] | None = None


VALUES: dict[str, Any] = {
    "at": np.array([["2026-01-01", "2027-01-01"]], "M8[ms]"),
    "waits": np.array(5, "m8[us]"),
    "exact": np.array(["2026-01-01"], "M8[D]"),
    "values": np.ones(3, "f2"),
    "signal": np.array([1j], "c8"),
    "points": records(RECORD, (2,)),
}


@pytest.mark.row("TYP-8", "BUF-1")
def test_a_field_takes_each_dtype_of_its_family() -> None:
    """Each sample has its own unit or width, and a declared unit is that of every sample."""
    with Publisher("times", Times, max_bytes=10_000) as pub, Subscriber("times", Times) as sub:
        pub.publish(Times(**VALUES))
        with Subscriber("times", history=1) as untyped:
            typed = taken(sub).sample
            assert typed == Times(**VALUES)
            for view in (typed, taken(untyped).sample):
                assert [getattr(view, name).dtype for name in VALUES] == [
                    *("<M8[ms]", "<m8[us]", "<M8[ns]", "<f2", "<c8", RECORD)
                ]
                assert view.exact == np.datetime64("2026-01-01", "ns")
        with pub.loan(at=(2, "M8[Y]"), exact=3, values=((2, 2), "f8")) as view:
            assert (view.at.dtype, view.exact.dtype, view.values.dtype) == ("<M8[Y]", "<M8[ns]", "<f8")
            assert [view.waits.dtype.kind, view.signal.dtype.kind, view.points.dtype.kind] == ["m", "c", "V"]
            view.at = np.array(["2026-02"], "M8[M]")
        assert taken(sub).sample.at.tolist() == [np.datetime64("2026-02", "M").item()]


@pytest.mark.row("TYP-8")
def test_lists_of_python_objects_get_a_dtype_of_the_family() -> None:
    """Texts, datetimes and durations the unit that they have, numbers 64 bits."""
    model = Times.model_validate(
        VALUES | {"at": ["2026-01-01T10"], "values": [1, 2.5], "signal": [1, 2j], "waits": [timedelta(seconds=5)]}
    )
    assert (model.at.dtype, model.values.dtype, model.signal.dtype) == ("<M8[h]", "<f8", "<c16")
    assert Times.model_validate(VALUES | {"at": []}).at.dtype.kind == "M"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("at", np.zeros(2), "an array of float64, whose kind f is none of M"),
        ("at", np.zeros(2, "m8[s]"), "whose kind m is none of M"),
        ("waits", np.zeros(2, "M8[s]"), "whose kind M is none of m"),
        ("exact", np.array([1], "M8[ps]"), "cannot become datetime64[ns] without loss"),
        ("values", np.array([1j]), "whose kind c is none of f"),
        ("values", np.arange(3), "whose kind i is none of f"),
        ("values", ["text"], "an array of <U4 cannot become"),
        ("signal", np.zeros(2), "whose kind f is none of c"),
        ("points", np.zeros(2), "whose kind f is none of V"),
        ("points", np.zeros(2, [("a", "O")]), "Python objects"),
        ("names", [1], "whose kind i is none of U"),
    ],
)
def test_another_dtype_is_refused(name: str, value: Any, text: str) -> None:
    """In a model and in a loan, by the name of the field."""
    with pytest.raises(ValidationError) as caught:
        Times.model_validate(VALUES | {name: value})
    assert text in str(caught.value)
    assert caught.value.errors()[0]["loc"] == (name,)
    with Publisher("times", Times, max_bytes=10_000) as pub:
        with pytest.raises((ValueError, TypeError), match=name):
            pub.publish(Times.model_construct(**VALUES | {name: value}))
        if name not in ("exact", "names"):
            with pytest.raises(TypeError, match=f"{name}: an array of bool, whose kind b is none of"):
                pub.loan(**{name: (3, "?")})


@pytest.mark.row("TYP-6", "TYP-7")
def test_the_schema_keeps_the_family_and_by_name_widens_it() -> None:
    """A family reads its parts, whatever shape they have, and no other way round."""
    layout = layout_of(Times)
    assert "at@0:array[datetime64];waits@168:array[timedelta64];exact@336:array[datetime64_ns];" in layout.canonical
    assert "values@504:array[floating];signal@672:array[complexfloating];points@840:array[void]" in layout.canonical
    again = zs.type_from_schema(json.dumps(layout.to_json_schema()))
    assert layout_of(again).type_hash == layout.type_hash
    assert layout_of(again).to_idl("message") == layout.to_idl("message")
    assert "sequence<long long> data;" in layout.to_idl("message")

    class Wider(Sample):
        exact: NDArray[np.datetime64]
        values: NDArray[np.number]
        points: NDArray[Any]

    class Narrower(Sample):
        at: Annotated[NDArray[np.datetime64], zs.Shape(..., dtype="M8[ms]")]
        values: NDArray[np.float16]
        waits: NDArray[np.datetime64]

    with Publisher("times", Times, max_bytes=10_000) as pub:
        with Subscriber("times", Wider, match="by_name") as sub:
            pub.publish(Times(**VALUES))
            assert taken(sub).copy() == Wider.model_validate({name: VALUES[name] for name in Wider.model_fields})
        with pytest.raises(zs.TypeMismatchError) as caught:
            Subscriber("times", Narrower, match="by_name")
        assert set(caught.value.unreadable) == {"at", "values", "waits"}


@pytest.mark.row("TYP-7")
def test_fixed_and_bounded_arrays_are_read_as_a_family_by_name() -> None:
    """Samples in an array are records."""

    class Point(Sample):
        x: zs.F32 = 0

    class Bounded(Sample):
        values: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(4))]
        points: Annotated[NDArray[np.void], zs.Shape(2, dtype=Point)]

    class Open(Sample):
        values: NDArray[np.inexact]
        points: NDArray[np.void]

    with Publisher("some", Bounded) as pub, Subscriber("some", Open, match="by_name") as sub:
        pub.publish({"values": [1, 2], "points": [{"x": 1}, {"x": 2}]})
        view = taken(sub).sample
        assert view.values.tolist() == [1, 2]
        assert view.points["x"].tolist() == [1, 2]


@pytest.mark.row("TYP-2")
@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (NDArray[np.object_], "NDArray\\[np.floating\\]"),
        (NDArray[np.longdouble], "no element type"),
        (Annotated[NDArray[Any], zs.Shape(...)], "has no element type with a fixed size"),
        (Annotated[NDArray[np.datetime64], zs.Shape(...)], 'dtype="datetime64'),
        (Annotated[NDArray[np.datetime64], zs.Shape(..., dtype="m8[s]")], "no element type"),
        (Annotated[list[zs.U8], zs.Shape(...)], "list\\[…\\] for a list of any length"),
    ],
)
def test_what_names_no_elements_is_refused(annotation: Any, text: str) -> None:
    """At the class statement."""
    with pytest.raises(DeclarationError, match=text):
        type(Sample)("Bad", (Sample,), {"__annotations__": {"field": annotation}, "__module__": __name__})


def test_the_other_spellings_of_arrays_of_any_dtype() -> None:
    """np.ndarray with and without parameters, np.generic, and a family with parameters."""

    class Spelled(Sample):
        a: np.ndarray  # type: ignore[type-arg]  # on purpose
        b: np.ndarray[Any, Any]
        c: NDArray[np.generic]
        d: NDArray[np.floating[Any]]
        e: Annotated[NDArray[np.float32], zs.Shape(...)]

    assert [field.node.canonical for field in layout_of(Spelled).members] == [
        *["array[any]"] * 3, "array[floating]", "array[f32]",
    ]  # fmt: skip  # one entry a line hides the table
    assert repr(zs.Shape(..., dtype="M8[s]")) == "Shape(..., dtype='M8[s]')"
    assert zs.Shape(...) != zs.Shape(1)


@pytest.mark.parametrize("item", ["times", "", 5, None, "datetime64[ns]", "any "])
def test_a_stored_family_that_is_none_is_a_format_error(item: Any) -> None:
    """The reader believes nothing."""
    schema = layout_of(Times).to_json_schema()
    schema["properties"]["at"]["x-zeroslot"]["item"] = item
    with pytest.raises(FormatError):
        from_json_schema(schema)


@pytest.mark.row("SEC-4", "BUF-1")
@pytest.mark.parametrize("code", [b"<f8", b"|b1", b"<m8[ms]", b"{0000", b"{001f00000000", b"|V8", b"\xff"])
def test_a_dtype_of_another_family_in_shared_memory_is_an_error(code: bytes) -> None:
    """Never an array of what was not declared."""
    with Publisher("times", Times, max_bytes=10_000) as pub, Subscriber("times", Times) as sub:
        with pub.loan(at=(2, "M8[ms]")) as view:
            memory = memoryview(view)
            memory[24:40] = code.ljust(16, b"\0")
            del memory
        view = taken(sub).sample
        for use in (lambda: view.at, lambda: zs.buffer(view, "at"), view.model_dump):
            with pytest.raises(CorruptSegmentError, match="extent of a variable field"):
                use()
