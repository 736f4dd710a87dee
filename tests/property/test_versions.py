"""Random pairs of declarations: what one version publishes, the other reads by name, or is told what it cannot read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import create_model

import zeroslot as zs
from tests.property.test_round_trip import ends, leaves, quick, short_text, taken
from zeroslot import Sample, layout_of
from zeroslot.types.by_name import ByName
from zeroslot.types.nodes.scalars import SCALARS, Scalar

pytestmark = pytest.mark.usefixtures("zeroslot_dir")


@dataclass(frozen=True)
class Versions:
    """Two declarations of one field.

    `values`: of the old one, nested samples as dicts. `upgraded`: such a value as the new one has it. `broken`: what
    the new one cannot read, as paths behind the name of the field.
    """

    old: Any
    new: Any
    values: st.SearchStrategy[Any]
    upgraded: Callable[[Any], Any] = lambda value: value
    broken: tuple[str, ...] = ()


def number(scalar: Scalar) -> Any:
    return Annotated[scalar.python_type, scalar]


def numbers_of(scalar: Scalar) -> st.SearchStrategy[Any]:
    if scalar.range is not None:
        return st.integers(*scalar.range)
    if scalar.python_type is bool:
        return st.booleans()
    return st.floats(width=scalar.size * 8, allow_nan=False)  # type: ignore[call-overload]  # 16, 32, 64


def holds(new: Scalar, old: Scalar) -> bool:
    """Whether each value of the old kind is one of the new: what Python's own arithmetic says."""
    if old.range is not None and new.range is not None:
        return new.range[0] <= old.range[0] and old.range[1] <= new.range[1]
    if old.range is not None:
        digits = {"f16": 11, "f32": 24, "f64": 53}.get(new.name, 0)
        return digits >= max(old.range[1].bit_length(), (-old.range[0] - 1).bit_length())
    return old is new or (old.python_type is new.python_type is float and old.size < new.size)


@st.composite
def numbers(draw: st.DrawFn) -> Versions:
    """Any two kinds, mostly such that the second holds the first."""
    old = draw(st.sampled_from([*SCALARS.values()]))
    safe = [each for each in SCALARS.values() if holds(each, old)]
    new = draw(st.sampled_from(safe if draw(st.integers(0, 7)) else [*SCALARS.values()]))
    return Versions(number(old), number(new), numbers_of(old), new.python_type, () if holds(new, old) else ("",))


@st.composite
def texts(draw: st.DrawFn) -> Versions:
    """Of two bounds, mostly the second is the larger."""
    old, new = draw(st.integers(4, 12)), draw(st.integers(8, 20))
    annotations = [Annotated[str, zs.MaxBytes(limit)] for limit in (old, new)]
    return Versions(*annotations, short_text(old), broken=() if old <= new else ("",))


@st.composite
def same(draw: st.DrawFn) -> Versions:
    """No change."""
    annotation, values = draw(leaves())
    return Versions(annotation, annotation, values)


def lists(draw: st.DrawFn, inner: Versions) -> Versions:
    """Around samples and text; numbers in a row are an array."""
    old, new = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    return Versions(
        Annotated[list[inner.old], zs.MaxLen(old)],  # type: ignore[name-defined]  # made at run time
        Annotated[list[inner.new], zs.MaxLen(new)],  # type: ignore[name-defined]  # made at run time
        st.lists(inner.values, max_size=old),
        lambda values: [inner.upgraded(value) for value in values],
        ("",) if old > new else tuple(f"[]{path}" for path in inner.broken),
    )


def optionals(draw: st.DrawFn, inner: Versions) -> Versions:
    """On both sides, or on one of them."""
    if type(None) in getattr(inner.old, "__args__", ()) or type(None) in getattr(inner.new, "__args__", ()):
        return inner
    old, new = draw(st.sampled_from([(True, True), (False, True), (True, False)]))
    return Versions(
        inner.old | None if old else inner.old,
        inner.new | None if new else inner.new,
        st.none() | inner.values if old else inner.values,
        lambda value: None if value is None else inner.upgraded(value),
        ("",) if old and not new else inner.broken,
    )


@st.composite
def structs(draw: st.DrawFn, inner: st.SearchStrategy[Versions]) -> Versions:
    """Two sample types: a field that stays, others that change, that are gone, and that are new."""
    changed = {f"c{i}": each for i, each in enumerate(draw(st.lists(inner, max_size=3)))}
    gone = {f"g{i}": draw(leaves()) for i in range(draw(st.integers(0, 2)))}
    fresh = {f"n{i}": draw(leaves()) for i in range(draw(st.integers(0, 2)))}
    defaults = {name: draw(values) for name, (_, values) in fresh.items() if draw(st.integers(0, 7))}
    stay = {"stays": (zs.U16, ...)}
    old = stay | {name: (each.old, ...) for name, each in changed.items()}
    old |= {name: (annotation, ...) for name, (annotation, _) in gone.items()}
    new = stay | {name: (each.new, ...) for name, each in changed.items()}
    new |= {name: (annotation, defaults.get(name, ...)) for name, (annotation, _) in fresh.items()}
    old, new = ({name: fields[name] for name in draw(st.permutations(sorted(fields)))} for fields in (old, new))
    made: Any = [create_model("Drawn", __base__=Sample, **fields) for fields in (old, new)]
    values = {"stays": st.integers(0, 2**16 - 1)} | {name: each.values for name, each in changed.items()}
    values |= {name: strategy for name, (_, strategy) in gone.items()}
    broken = [path for name in new for path in _broken_in(name, changed, fresh, defaults)]
    return Versions(
        *made,
        st.fixed_dictionaries({name: values[name] for name in old}),
        lambda value: {
            name: value[name] if name == "stays" else changed[name].upgraded(value[name])
            for name in ("stays", *changed)
        },
        tuple(broken),
    )


def _broken_in(name: str, changed: dict[str, Versions], fresh: Any, defaults: dict[str, Any]) -> list[str]:
    if name in changed:
        return [f".{name}{path}" for path in changed[name].broken]
    return [f".{name}"] if name in fresh and name not in defaults else []


@st.composite
def _extended(draw: st.DrawFn, inner: st.SearchStrategy[Versions]) -> Versions:
    nested = draw(structs(inner) | texts())
    return draw(st.sampled_from([lists, optionals, lambda _, each: each]))(draw, nested)


FIELDS = st.recursive(numbers() | texts() | same(), lambda inner: _extended(inner) | inner, max_leaves=4)


@pytest.mark.row("NEW-3", "TYP-7")
@quick
@given(st.data())
def test_by_name_equals_a_model_of_the_shared_values(data: st.DataObject) -> None:
    """In place and as a copy, with defaults for what is new; and what cannot be read is listed, path by path."""
    drawn = data.draw(structs(FIELDS))
    broken = tuple(path[1:] for path in drawn.broken)
    by_name = ByName(layout_of(drawn.old), layout_of(drawn.new))
    assert tuple(by_name.unreadable) == broken
    if broken:
        with zs.Publisher("drawn", drawn.old), pytest.raises(zs.TypeMismatchError) as caught:
            zs.Subscriber("drawn", drawn.new, match="by_name")
        assert caught.value.unreadable == broken
        return
    with ends(drawn.old, reading=drawn.new, match="by_name") as (pub, sub):
        for value in data.draw(st.lists(drawn.values, min_size=1, max_size=3)):
            pub.publish(value)
            expected = drawn.new.model_validate(drawn.upgraded(value))
            with taken(sub) as lease:
                assert lease.copy() == expected
                assert lease.sample == expected
                assert str(lease.sample.model_dump()) == str(expected.model_dump())
                assert repr(lease.sample) == repr(expected)
                with zs.Publisher("again", drawn.new) as again, zs.Subscriber("again", drawn.new) as same_type:
                    again.publish(lease.sample)
                    with taken(same_type) as second:
                        assert second.copy() == expected
