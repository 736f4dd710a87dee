"""Names, and how deep types nest: what is declared can be read without the class, by name, and by the tools.

What cannot be read is refused where it is declared.

Foreign declarations stand for publishers of other languages: layouts that no class statement made.
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import create_model
from typer.testing import CliRunner

import zeroslot as zs
from zeroslot import DeclarationError, FormatError, Publisher, Sample, Subscriber, layout_of
from zeroslot.cli.app import app
from zeroslot.types.from_schema import sample_type_of
from zeroslot.types.layout import Layout, build_layout
from zeroslot.types.nodes.arrays import Array
from zeroslot.types.nodes.enums import Enumeration
from zeroslot.types.nodes.lists import BoundedList, FixedList
from zeroslot.types.nodes.optional import Optional
from zeroslot.types.nodes.scalars import SCALARS
from zeroslot.types.schema import from_json_schema

U8 = SCALARS["u8"]


def foreign(*members: tuple[str, Any], name: str = "Foreign") -> type[Sample]:
    """A sample type of another language."""
    return sample_type_of(build_layout(name, members))


def declared(name: str = "T", /, **fields: Any) -> type[Sample]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic warns of fields that shadow its own
        return create_model(name, __base__=Sample, **{key: (value, ...) for key, value in fields.items()})  # type: ignore[call-overload]  # made at run time


def enum_named(name: str, /, **members: int) -> Any:
    return enum.IntEnum(name, members or {"A": 1})  # type: ignore[misc]  # made at run time


def enumeration(name: str, *members: str) -> Enumeration:
    return Enumeration(SCALARS["u8"], name, tuple((member, value) for value, member in enumerate(members, 1)))


READABLE: dict[str, type[Sample]] = {
    "private enum class": declared(x=enum_named("_Mode")),
    "dunder enum class": declared(x=enum_named("__Mode__")),
    "enum class of another alphabet": declared(x=enum_named("Größe")),
    "enum class that is a keyword": declared(x=enum_named("class")),
    "enum class with a long name": declared(x=enum_named("E" * 1000)),
    "enum class that is called Literal": declared(x=enum_named("Literal", ON=1)),
    "a Literal": declared(x=Literal[-1, 3]),
    "members name and value": declared(x=enum_named("E", name=1, value=2, names=3, real=4)),
    "members that are keywords": declared(x=enum_named("E", **{"class": 1, "None": 2, "class_": 3})),
    "a member with a long name": declared(x=enum_named("E", **{"m" * 255: 1})),
    "large values": declared(x=Annotated[enum_named("E", LOW=-(2**63), HIGH=2**63 - 1), zs.I64]),
    "private sample type": declared("_T", x=zs.U8),
    "sample type of another alphabet": declared("Größe", x=zs.U8),
    "sample type with a long name": declared("T" * 1000, x=zs.U8),
    "sample type that ends a comment": declared("a*/ // b\\\\", x=zs.U8),
    "sample type that is a keyword": declared("class", x=zs.U8),
    "fields that models have as methods": declared(copy=zs.U8, json=zs.U8, dict=zs.U8, schema=zs.U8, validate=zs.U8),
    "fields of C": declared(int=zs.U8, register_=zs.U8, struct=zs.U8, INT=zs.U8),
    "fields that views use": declared(self=zs.U8, name=zs.U8, hold=zs.U8, data=zs.U8, size=zs.U8, sample=zs.U8),
    "a field with a long name": declared(**{"f" * 255: zs.U8}),
    "soft keywords": declared(match=zs.U8, case=zs.U8, type=zs.U8),
    "foreign keywords": foreign(("class", U8), ("None", U8), ("class_", U8), ("class__", U8), ("is", U8)),
    "foreign attributes of classes": foreign(("mro", U8), ("register", U8), ("mro_", U8)),
    "foreign attributes of models": foreign(*((name, U8) for name in ("model_dump", "model_fields", "model_extra"))),
    "foreign enumerators": foreign(("x", enumeration("E", "mro", "mro_", "class", "True", "name", "value"))),
    "foreign enum called Literal": foreign(("x", enumeration("Literal", "OFF", "ON"))),
    "foreign enum in everything": foreign(
        ("l", BoundedList(enumeration("E", "mro", "None"), 2)),
        ("o", Optional(enumeration("E", "mro"))),
        ("s", layout_of(foreign(("class", enumeration("E", "mro")), name="Inner"))),
    ),
}


@pytest.mark.row("NEW-3", "NEW-4", "TYP-2")
@pytest.mark.parametrize("kind", READABLE.values(), ids=READABLE)
def test_what_is_declared_can_be_read_by_all(kind: type[Sample]) -> None:
    """Without the class, by name, by `topics` and by the command line; the copy has what was published."""
    layout = layout_of(kind)
    with Publisher("named", kind) as pub, Subscriber("named", max_leases=8) as without:
        with pub.loan() as sample:
            for name in type(sample).__zs_names__:
                codes = layout.members[list(type(sample).__zs_names__).index(name)].node
                if isinstance(codes, Enumeration):
                    setattr(sample, name, codes.members[-1][1])
                elif codes == U8:
                    setattr(sample, name, 7)
                elif isinstance(codes, BoundedList):
                    setattr(sample, name, [codes.item.members[0][1]])  # type: ignore[union-attr]  # an enum
                elif isinstance(codes, Layout):
                    getattr(sample, name).class_ = 1
        lease = without.take()
        assert lease is not None
        assert bytes(lease) == bytes(sample)
        assert lease.sample.model_dump(mode="json") == sample.model_dump(mode="json")
        assert layout_of(type(lease.copy())) == layout
        assert type(lease.copy()).model_validate_json(lease.copy().model_dump_json(by_alias=True)) == lease.copy()
        pub.publish(lease.sample)
        again = without.take()
        assert again is not None
        assert again.sample == lease.sample
        (info,) = zs.topics()
        assert info.publishers[0].type_name == layout.name
        assert zs.inspect("named").publishers[0].type_hash == layout.type_hash.hex()
        result = CliRunner().invoke(app, ["info", "named"], catch_exceptions=False)
        assert result.exit_code == 0
        shared = [name for name in kind.model_fields if kind.__zs_renamed__.get(name, name) == name]
        if shared and not kind.__zs_renamed__:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                other = create_model("Other", __base__=Sample, **_fields_of(kind, shared), extra=(zs.U8, 5))  # type: ignore[call-overload]  # made at run time
            with Subscriber("named", other, match="by_name", history=2) as by_name:
                found = by_name.take()
                assert found is not None
                for name in shared:
                    assert getattr(found.sample, name) == getattr(sample, name)
        assert from_json_schema(layout.to_json_schema()).canonical == layout.canonical
        assert layout.to_idl()
        assert "*/" not in layout.to_c().splitlines()[0][:-2]


def _fields_of(kind: type[Sample], names: list[str]) -> dict[str, Any]:
    return {
        name: (Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation, ...)
        for name, field in kind.model_fields.items()
        if name in names
    }


@pytest.mark.row("NEW-4")
def test_what_python_cannot_say_is_renamed_and_the_mapping_is_visible() -> None:
    """Underscores behind it; the alias of a field is its name in memory, and the layout has the publisher's names."""
    made = foreign(("class", U8), ("mro", U8), ("x", enumeration("E", "mro", "ON", "None")))
    assert [field.name for field in layout_of(made).members] == ["class", "mro", "x"]
    assert {name: field.alias for name, field in made.model_fields.items()} == {
        "class_": "class",
        "mro_": "mro",
        "x": None,
    }
    mode = made.model_fields["x"].annotation
    assert [member.name for member in mode] == ["mro_", "ON", "None_"]  # type: ignore[union-attr]  # an enum
    sample: Any = made(class_=1, mro=2, x=3)
    assert sample.model_dump(by_alias=True) == {"class": 1, "mro": 2, "x": 3}
    assert layout_of(made).members[2].node.canonical == "enum(u8){mro=1,ON=2,None=3}"


REFUSED: dict[str, Any] = {
    "fields of models": {"model_fields": zs.U8},
    "fields that pydantic would not read": {"model_fields_set": zs.U8},
    "fields of classes": {"mro": zs.U8},
    "keywords": {"class": zs.U8},
    "another alphabet": {"größe": zs.U8},
    "long names": {"f" * 256: zs.U8},
    "enumerators of another alphabet": {"x": enum_named("E", größe=1)},
    "private enumerators": {"x": enum_named("E", _a=1)},
    "long enumerators": {"x": enum_named("E", **{"m" * 256: 1})},
    "values that do not fit": {"x": enum_named("E", BIG=2**31)},
    "long enum names": {"x": enum_named("E" * 1001)},
    "unprintable enum names": {"x": enum_named("E\n")},
}


@pytest.mark.row("TYP-2")
@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_where_it_is_declared(fields: dict[str, Any]) -> None:
    """Not at the first subscriber, as a damaged segment."""
    with pytest.raises(DeclarationError):
        declared(**fields)


# --- depth ---


def nested(depth: int) -> Iterator[type[Sample]]:
    """Types that contain each other, from the innermost on."""
    made = declared("Level1", x=zs.U8)
    yield made
    for level in range(2, depth + 1):
        made = declared(f"Level{level}", x=made)
        yield made


@pytest.mark.row("NEW-4", "TYP-2", "TYP-9")
def test_nesting_has_one_limit_which_readers_have_too() -> None:
    """32 structs, lists and optionals within each other are read by all, 33 are refused where they are declared."""
    deepest = list(nested(32))[-1]
    assert layout_of(deepest).nesting == 32
    lists: Any = Array(U8, (1,) * 32)
    for _ in range(31):
        lists = FixedList(lists, 1)
    for kind in (deepest, foreign(("x", lists), name="Lists")):
        with Publisher("deep", kind) as pub, Subscriber("deep") as without:
            with pub.loan():
                pass
            lease = without.take()
            assert lease is not None
            assert lease.copy().model_dump_json() == lease.sample.model_dump_json()
            assert len(zs.topics()) == 1
    for annotation in (deepest, deepest | None, Annotated[list[deepest], zs.MaxLen(1)]):  # type: ignore[valid-type]  # made at run time
        with pytest.raises(DeclarationError, match=r"nested 3[34] structs") as caught:
            declared("Level33", x=annotation)
        assert caught.value.field == "x"
    with pytest.raises(DeclarationError):
        build_layout("T", [("x", FixedList(lists, 1))])


def test_a_schema_that_is_nested_more_deeply_is_refused() -> None:
    """By the same limit."""
    schema: Any = layout_of(declared(x=Annotated[NDArray[np.uint8], zs.Shape(1)])).to_json_schema()
    inner = schema["properties"]["x"]
    offset = inner["x-zeroslot"].pop("offset")
    for _ in range(32):
        inner = {"type": "array", "items": inner, "x-zeroslot": {"kind": "list", "shape": [1], "size": 1}}
    inner["x-zeroslot"]["offset"] = offset
    schema["properties"]["x"] = inner
    with pytest.raises(FormatError, match="nested deeper"):
        from_json_schema(schema)


def test_a_type_whose_description_explodes_is_refused() -> None:
    """Each level describes the one below it twice; the error comes before memory runs out."""

    def explode() -> None:
        made = declared("Level0")
        for level in range(1, 32):
            made = declared(f"Level{level}", a=made, b=made)

    with pytest.raises(DeclarationError, match="description"):
        explode()
