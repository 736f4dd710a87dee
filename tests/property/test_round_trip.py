"""Random sample types and values: what is published, however, is what is taken."""

from __future__ import annotations

import contextlib
import copy
import enum
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, create_model

import zeroslot as zs
from tests.taking import taken
from zeroslot import Publisher, Sample, Subscriber, layout_of
from zeroslot._core import binding
from zeroslot.types.compiled import compiled
from zeroslot.types.nodes.scalars import NUMPY_TYPES, SCALARS, Scalar


class Mode(enum.IntEnum):
    LOW = -3
    OFF = 0
    ON = 7


Declared = tuple[Any, st.SearchStrategy[Any]]  # an annotation, and the values that it takes


def short_text(limit: int) -> st.SearchStrategy[str]:
    characters = st.characters(exclude_categories=["Cs"])
    return st.text(characters, max_size=limit).map(lambda text: text.encode()[:limit].decode(errors="ignore"))


def _number(scalar: Scalar) -> Declared:
    alias = getattr(zs, repr(scalar))
    if scalar.range is not None:
        return alias, st.integers(*scalar.range)
    if scalar.python_type is bool:
        return alias, st.booleans()
    floats = st.floats(width=scalar.size * 8, allow_nan=False)  # type: ignore[call-overload]  # 16, 32, 64
    return alias, floats.filter(lambda value: _fits(scalar, value))


def _fits(scalar: Scalar, value: float) -> bool:
    try:
        binding.Stored(scalar.kind)(value)
    except ValueError:
        return False
    return True


SCALAR_FIELDS = st.sampled_from(sorted(SCALARS.values(), key=repr)).map(_number)


@st.composite
def leaves(draw: st.DrawFn) -> Declared:
    """One field without others in it."""
    match draw(st.sampled_from(["scalar", "enum", "text", "bytes", "array"])):
        case "enum":
            return Mode, st.sampled_from(Mode)
        case "text":
            limit = draw(st.integers(1, 12))
            return Annotated[str, zs.MaxBytes(limit)], short_text(limit)
        case "bytes":
            limit = draw(st.integers(1, 12))
            return Annotated[bytes, zs.MaxBytes(limit)], st.binary(max_size=limit)
        case "array":
            scalar = draw(st.sampled_from(sorted(set(NUMPY_TYPES.values()), key=repr)))
            shape = draw(hnp.array_shapes(max_dims=3, max_side=4))
            dtype = scalar.dtype
            elements = {"allow_nan": False} if scalar.python_type is float else {}
            return Annotated[NDArray[dtype.type], zs.Shape(*shape)], hnp.arrays(dtype, shape, elements=elements)
        case _:
            return draw(SCALAR_FIELDS)


def _extended(inner: st.SearchStrategy[Declared]) -> st.SearchStrategy[Declared]:
    def bounded(declared: Declared, limit: int) -> Declared:
        return Annotated[list[declared[0]], zs.MaxLen(limit)], st.lists(declared[1], max_size=limit)

    def fixed(declared: Declared, count: int) -> Declared:
        return Annotated[list[declared[0]], zs.Shape(count)], st.lists(declared[1], min_size=count, max_size=count)

    def optional(declared: Declared) -> Declared:
        if type(None) in getattr(declared[0], "__args__", ()):
            return declared  # an optional cannot be optional again
        return declared[0] | None, st.none() | declared[1]

    return (
        st.builds(bounded, inner, st.integers(1, 4))
        | st.builds(fixed, inner, st.integers(1, 3))
        | st.builds(optional, inner)
        | structs(inner)
    )


@st.composite
def structs(draw: st.DrawFn, inner: st.SearchStrategy[Declared]) -> Declared:
    """A sample type of up to four fields."""
    members = draw(st.lists(inner, max_size=4 if draw(st.booleans()) else 1, min_size=1))
    return _sample_type({f"f{i}": declared for i, declared in enumerate(members)})


def _sample_type(members: dict[str, Declared]) -> Declared:
    made = create_model(
        "Drawn", __base__=Sample, **{name: (annotation, ...) for name, (annotation, _) in members.items()}
    )  # type: ignore[call-overload]  # fields made at run time
    values = st.fixed_dictionaries({name: strategy for name, (_, strategy) in members.items()})
    return made, values.map(lambda fields: made(**fields))


FIELDS = st.recursive(leaves(), _extended, max_leaves=4)


@st.composite
def samples(draw: st.DrawFn, most: int = 4) -> tuple[type[Sample], list[Sample]]:
    """A sample type and some samples of it."""
    count = draw(st.integers(0, most))
    kind, values = _sample_type({f"f{i}": draw(FIELDS) for i in range(count)})
    return kind, draw(st.lists(values, min_size=1, max_size=4))


@contextlib.contextmanager
def ends(kind: type[Sample], **options: Any) -> Iterator[tuple[Publisher[Any], Subscriber[Any]]]:
    with Publisher("drawn", kind) as pub, Subscriber("drawn", options.pop("reading", kind), **options) as sub:
        yield pub, sub


quick = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.row("PUB-1", "TYP-1", "TYP-8", "TYP-9", "TYP-12", "SUB-6")
@quick
@given(samples())
def test_what_is_published_is_what_is_taken(drawn: tuple[type[Sample], list[Sample]]) -> None:
    """As models: equal in place, equal as copies, of the right classes, and the image has the layout's size."""
    kind, values = drawn
    with ends(kind) as (pub, sub):
        for value in values:
            pub.publish(value)
            with taken(sub) as lease:
                assert lease.size == layout_of(kind).size
                assert lease.sample == value
                copied = lease.copy()
                assert copied == value
                assert type(copied) is kind
                assert str(lease.sample.model_dump()) == str(value.model_dump())
            assert copied == value


@pytest.mark.row("PUB-1", "SLOT-3", "TYP-9")
@quick
@given(samples())
def test_every_way_in_gives_the_same_bytes(drawn: tuple[type[Sample], list[Sample]]) -> None:
    """A model, a view, a mapping, a record, and a loan that is filled field by field."""
    kind, values = drawn
    layout = layout_of(kind)
    with ends(kind, max_leases=16) as (pub, sub):
        for value in values:
            pub.publish(value)
            first = taken(sub)
            image = bytes(first)
            record = np.frombuffer(image, layout.dtype)[0] if layout.size else None
            for way in (first.sample, first.copy(), dict(value.__dict__), record):
                if way is not None:
                    pub.publish(way)
                    assert bytes(taken(sub)) == image
            with pub.loan() as sample:
                for name in type(value).model_fields:
                    setattr(sample, name, getattr(value, name))
            assert bytes(taken(sub)) == image


JUNK = st.sampled_from([None, -1, 2**70, 1.5, float("nan"), True, "text", b"bytes", [], [1], {}, np.zeros(3), object()])


@pytest.mark.row("PUB-1", "TYP-9")
@quick
@given(samples(), st.data())
def test_send_is_publish_without_a_model(drawn: tuple[type[Sample], list[Sample]], data: st.DataObject) -> None:
    """The same bytes from the same fields in any order, and the same error for a value that does not fit."""
    kind, values = drawn
    with ends(kind, max_leases=16) as (pub, sub):
        for value in values:
            fields = dict(value.__dict__)
            order = data.draw(st.permutations([*fields]))
            if data.draw(st.booleans()):
                fields |= {name: data.draw(JUNK) for name in order[:1]}
            outcomes: list[Any] = []
            for act in (
                lambda fields=fields: pub.publish(kind.model_construct(**fields)),
                lambda fields=fields, order=order: pub.send(**{name: fields[name] for name in order}),
            ):
                try:
                    act()
                    outcomes.append(bytes(taken(sub)))
                except (ValueError, TypeError) as error:
                    outcomes.append((type(error), str(error)))
            assert outcomes[0] == outcomes[1]
            assert sub.take() is None


def _converted(value: Any) -> Any:
    return value + 1 if isinstance(value, int) else value


NUMBERS = st.integers(0, 2**31)
ALIAS_NAMES = ("a", "b", "c", "other")  # most of them are names of fields, too


@st.composite
def aliased(draw: st.DrawFn) -> tuple[type[Sample], list[Sample]]:
    """Types with aliases, converting validators, validate_by_name=False, and others of these inside."""

    def kind(depth: int) -> Any:
        members: dict[str, Any] = {}
        inner = [kind(depth - 1) for _ in range(draw(st.integers(0, 2)))] if depth else []
        aliases = draw(st.lists(st.sampled_from(ALIAS_NAMES), min_size=3, max_size=3, unique=True))
        for name, alias in zip("abc", aliases, strict=True):
            annotation: Any = Annotated[zs.U64, AfterValidator(_converted)]
            if inner and draw(st.booleans()):
                each = inner[0]
                annotation = draw(st.sampled_from([each, Annotated[list[each], zs.MaxLen(3)], each | None]))
            options: dict[str, Any] = draw(
                st.sampled_from([{}, {"alias": alias}, {"validation_alias": alias}, {"serialization_alias": alias}])
            )
            members[name] = (annotation, Field(**options))
        by_name = draw(st.booleans())
        config = {"validate_by_name": by_name, "validate_by_alias": True, "populate_by_name": by_name}
        base = type("Configured", (Sample,), {"model_config": config, "__module__": __name__})
        return create_model("Aliased", __base__=base, **members)

    made = kind(2)
    return made, [made.__zs_layout__() and _filled(draw, made) for _ in range(2)]


def _filled(draw: st.DrawFn, kind: type[Sample]) -> Sample:
    """A sample with drawn values, whatever its class would make of them."""

    def value(annotation: Any) -> Any:
        if isinstance(annotation, type) and issubclass(annotation, Sample):
            return _filled(draw, annotation)
        arguments = [each for each in getattr(annotation, "__args__", ()) if each is not type(None)]
        if getattr(annotation, "__origin__", None) is list:
            return [value(arguments[0]) for _ in range(draw(st.integers(0, 3)))]
        return value(arguments[0]) if arguments else draw(NUMBERS)

    made = kind.__new__(kind)
    object.__setattr__(made, "__dict__", {name: value(field.annotation) for name, field in kind.model_fields.items()})
    object.__setattr__(made, "__pydantic_fields_set__", set(kind.model_fields))
    object.__setattr__(made, "__pydantic_extra__", None)
    object.__setattr__(made, "__pydantic_private__", None)
    return made


@pytest.mark.row("PUB-1", "SUB-6")
@quick
@given(aliased())
def test_a_model_is_copied_field_by_field(drawn: tuple[type[Sample], list[Sample]]) -> None:
    """Whatever its aliases, validators and configuration are: published, taken and copied, it is the same model."""
    kind, values = drawn
    with ends(kind) as (pub, sub):
        for value in values:
            pub.publish(value)
            with taken(sub) as lease:
                assert lease.sample == value
                for copied in (lease.copy(), copy.deepcopy(lease.sample), lease.sample.model_copy()):
                    assert copied == value
                    assert type(copied) is kind
                    assert copied.model_fields_set == set(kind.model_fields)
                assert lease.sample.model_dump() == value.model_dump()
                assert lease.sample.model_dump(by_alias=True) == value.model_dump(by_alias=True)
                pub.publish(lease.sample)
            with taken(sub) as lease:
                assert lease.copy() == value


@pytest.mark.row("TYP-1", "NEW-2")
@quick
@given(samples())
def test_padding_and_what_is_absent_are_zero(drawn: tuple[type[Sample], list[Sample]]) -> None:
    """Whatever the slot held before: two equal samples have equal images."""
    kind, values = drawn
    with ends(kind, max_leases=16) as (pub, sub):
        images: list[bytes] = []
        for _ in range(2):
            for value in values:
                pub.publish(value)
                images.append(bytes(taken(sub)))
        assert images[: len(values)] == images[len(values) :]
        image = images[-1]
        for field in layout_of(kind).fields:
            if field.padding:
                assert image[field.offset : field.offset + field.size] == bytes(field.size)


@pytest.mark.row("NEW-4", "TYP-6")
@quick
@given(samples())
def test_the_segments_own_schema_reads_the_same(drawn: tuple[type[Sample], list[Sample]]) -> None:
    """Without the class."""
    kind, values = drawn
    with ends(kind, reading=None) as (pub, sub):
        for value in values:
            pub.publish(value)
            with taken(sub) as lease:
                assert type(lease.sample) is not compiled(kind).view_class
                assert str(lease.sample.model_dump(mode="json")) == str(value.model_dump(mode="json"))


@pytest.mark.row("NEW-3", "TYP-7")
@quick
@given(samples(), st.randoms(use_true_random=False))
def test_by_name_reads_what_both_sides_share(drawn: tuple[type[Sample], list[Sample]], random: Any) -> None:
    """Fields in another order, with others between and some left out."""
    kind, values = drawn
    fields = dict(kind.model_fields)
    names = [name for name in fields if random.random() < 0.7]
    random.shuffle(names)
    if not names:
        return
    members: dict[str, Any] = {"extra": (zs.U8, 0)}
    for name in names:
        members[name] = (
            Annotated[fields[name].annotation, *fields[name].metadata]
            if fields[name].metadata
            else fields[name].annotation,
            ...,
        )
    other = create_model("Other", __base__=Sample, **members)
    with ends(kind, reading=other, match="by_name") as (pub, sub):
        for value in values:
            pub.publish(value)
            with taken(sub) as lease:
                for name in names:
                    assert str(lease.sample.__zs_values__()[name]) == str(_plain(getattr(value, name)))
                assert lease.sample.extra == lease.copy().extra == 0
                assert lease.copy() == lease.sample


def _plain(value: Any) -> Any:
    if isinstance(value, Sample):
        return {name: _plain(item) for name, item in value.__dict__.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
