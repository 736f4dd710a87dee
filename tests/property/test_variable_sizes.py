"""Random types with variable fields, of random sizes: what is published, however, is what is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydantic import create_model

import zeroslot as zs
from tests.property.test_round_trip import FIELDS, Declared, _sample_type, quick, taken
from zeroslot import Publisher, Sample, Subscriber, layout_of
from zeroslot.types.compiled import compiled
from zeroslot.types.nodes.optional import Optional
from zeroslot.types.nodes.scalars import SCALARS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LARGEST = 1 << 18
SHAPES = hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3)
ANY_DTYPE = st.sampled_from(["u1", "<f2", "<f8", "?", "<c8", ">i4", "<M8[us]", "<m8[s]", "S3", "<U2", "V5"])


@st.composite
def variable_leaves(draw: st.DrawFn) -> Declared:
    """One field of variable size."""
    match draw(st.sampled_from(["text", "bytes", "array", "open", "list"])):
        case "text":
            return str, TEXT
        case "bytes":
            return bytes, st.binary(max_size=200)
        case "array":
            scalar = draw(st.sampled_from(sorted(SCALARS.values(), key=repr)))
            elements = {"allow_nan": False} if scalar.python_type is float else {}
            return NDArray[scalar.dtype.type], hnp.arrays(scalar.dtype, SHAPES, elements=elements)  # type: ignore[name-defined]  # made at run time
        case "open":
            dtype = draw(ANY_DTYPE)
            return NDArray[Any], SHAPES.map(lambda shape: np.arange(np.prod(shape) * 20, dtype="u1")).flatmap(
                lambda data: SHAPES.map(lambda shape: _array_of(data, dtype, shape))
            )
        case _:
            annotation, values = draw(FIELDS)
            return list[annotation], st.lists(values, max_size=5)  # type: ignore[valid-type]  # made at run time


def _array_of(data: NDArray[Any], dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Some array of this dtype and shape, whose items have equal bytes as they have equal values."""
    numbers = np.resize(data if data.size else np.zeros(1, "u1"), shape)
    return numbers.astype("S1").astype(dtype) if np.dtype(dtype).kind in "SUV" else numbers.astype(dtype)


@st.composite
def variable_fields(draw: st.DrawFn, depth: int = 2) -> Declared:
    """A variable field, a nested sample with some, or an optional of either."""
    declared = draw(variable_leaves())
    if depth and draw(st.integers(0, 3)) == 0:
        inner = {"v": draw(variable_fields(depth - 1)), "f": draw(FIELDS)}
        declared = _sample_type(inner)
    if draw(st.integers(0, 3)) == 0 and type(None) not in getattr(declared[0], "__args__", ()):
        declared = declared[0] | None, st.none() | declared[1]
    return declared


@st.composite
def variable_samples(draw: st.DrawFn) -> tuple[type[Sample], list[Sample]]:
    """A sample type with at least one variable field, and some samples of it."""
    members = {f"f{i}": draw(st.one_of(variable_fields(), FIELDS)) for i in range(draw(st.integers(0, 3)))}
    kind, values = _sample_type(members | {"last": draw(variable_fields())})
    return kind, draw(st.lists(values, min_size=1, max_size=4))


def sizes_of(value: Any, layout: Any) -> Any:
    """What to give to `loan` for this value: the size of a field, or those of a nested sample."""
    if value is None:
        return None
    if isinstance(value, Sample):
        names = [field.name for field in layout.members if field.node.variable]
        inner = {
            field.name: field.node.item if isinstance(field.node, Optional) else field.node for field in layout.members
        }
        return {name: sizes_of(getattr(value, name), inner[name]) for name in names}
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype) if layout.kind == "any" else value.shape
    return len(value)


def same(one: Any, other: Any) -> bool:
    """As models compare; arrays by dtype, shape and bytes, so that NaT equals NaT."""
    if isinstance(one, Sample):
        return same(one.model_dump(), other.model_dump())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    return bool(one == other)


@pytest.mark.row("PUB-1", "TYP-8", "TYP-9", "BUF-1", "VAR-1", "VAR-9", "SUB-6")
@quick
@given(variable_samples())
def test_what_is_published_is_what_is_taken(drawn: tuple[type[Sample], list[Sample]]) -> None:
    """In place, as copies, and without the class; from models, views, mappings and filled loans, in the same bytes."""
    kind, values = drawn
    layout = layout_of(kind)
    with (
        Publisher("drawn", kind, max_bytes=LARGEST) as pub,
        Subscriber("drawn", kind, max_leases=16) as sub,
        Subscriber("drawn", max_leases=16) as any_type,
    ):
        for value in values:
            pub.publish(value)
            first = taken(sub)
            assert same(first.sample, value)
            assert same(first.copy(), value)
            assert type(first.copy()) is kind
            assert same(taken(any_type).sample, value)
            for way in (first.sample, first.copy(), dict(value.__dict__)):
                pub.publish(way)
                taken(any_type)
                assert bytes(taken(sub)) == bytes(first)
            with pub.loan(sizes=sizes_of(value, layout)) as view:
                for name in kind.model_fields:
                    setattr(view, name, getattr(value, name))
            taken(any_type)
            again = taken(sub)
            assert same(again.sample, value)
            assert bytes(again) == bytes(first)


@pytest.mark.row("NEW-3", "TYP-7", "BUF-1")
@quick
@given(variable_samples(), st.randoms(use_true_random=False))
def test_by_name_reads_variable_fields(drawn: tuple[type[Sample], list[Sample]], random: Any) -> None:
    """Fields in another order, with another one before them and some left out."""
    kind, values = drawn
    names = [name for name in kind.model_fields if name == "last" or random.random() < 0.7]
    random.shuffle(names)
    members: dict[str, Any] = {"extra": (zs.U8, 0)}
    members |= {name: (kind.model_fields[name].rebuild_annotation(), ...) for name in names}
    other = create_model("Other", __base__=Sample, **members)
    with (
        Publisher("drawn", kind, max_bytes=LARGEST) as pub,
        Subscriber("drawn", other, match="by_name") as sub,
    ):
        for value in values:
            pub.publish(value)
            with taken(sub) as lease:
                dumped, expected = lease.sample.model_dump(), value.model_dump()
                for name in names:
                    assert same(dumped[name], expected[name])


@pytest.mark.row("TYP-6")
@quick
@given(variable_samples())
def test_the_schema_and_other_languages_know_every_type(drawn: tuple[type[Sample], list[Sample]]) -> None:
    """The layout comes back from its schema; IDL and C have every field."""
    kind, _ = drawn
    layout = layout_of(kind)
    assert compiled(kind).layout is layout
    for text in (layout.to_idl(), layout.to_idl("message"), layout.to_c()):
        assert all(f" {field.name}" in text for field in layout.members if field.size)
