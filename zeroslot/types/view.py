"""View classes: a sample type as it lies in a slot.

A view class is made once per sample type and publisher's layout. Its fields are native descriptors over the slot's
memory; `isinstance(view, Imu)` is true, and what the user's class adds (methods, properties) works on it too.

Why a view has no `__dict__` and no cache of its own: there are as many views as samples, and a field read in place
costs less than looking up what was read before.
"""

from __future__ import annotations

import copy
import enum
import inspect
import json
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, create_model
from pydantic import Field as PydanticField

from zeroslot._core import binding
from zeroslot._core.binding import FieldDescriptor, Plan, View
from zeroslot.errors import CorruptSegmentError
from zeroslot.types import fields
from zeroslot.types.fields import (
    Array,
    Blob,
    BoundedList,
    Enumeration,
    FixedList,
    MaxBytes,
    MaxLen,
    Node,
    Optional,
    Scalar,
    Shape,
    Struct,
    Text,
    is_identifier,
    literal_members,
    python_names,
)
from zeroslot.types.layout import Field, StructLayout
from zeroslot.types.sample import (
    Layout,
    Sample,
    attribute_names,
    default_of,
    default_values,
    is_field_name,
    layout_of,
)
from zeroslot.types.schema import shared_members

SMALL = 4096  # bytes; a loan zeroes what is not larger
SPAN_LIMIT = 64

S = TypeVar("S", bound=Sample)


class _ViewMethods:
    """What every view can do besides its fields. Copied into each view class, which native code makes."""

    __hash__ = None  # type: ignore[assignment]  # equal by value, as the model
    __zs_sample__: ClassVar[type[Sample] | None] = None
    __zs_names__: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:

        def __zs_model__(self) -> Sample: ...

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Sample:
        """The sample as an instance of its class, in memory of its own, whatever `deep` says."""
        return self.__zs_model__().model_copy(update=update, deep=deep)

    @property
    def model_fields_set(self) -> set[str]:
        """The fields that the publisher has given."""
        return {name for name in self.__zs_names__ if not isinstance(vars(type(self)).get(name), AbsentField)}

    def __copy__(self) -> Sample:
        return self.__zs_model__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Sample:
        return self.__zs_model__()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self.__zs_names__)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, View):
            if other.__zs_sample__ is not self.__zs_sample__:
                return NotImplemented
            return bool(self.__zs_model__() == other.__zs_model__())
        return bool(other == self) if type(other) is self.__zs_sample__ else NotImplemented

    def __zs_shown__(self) -> Iterator[str]:
        sample_type = self.__zs_sample__ or Sample
        infos: dict[str, Any] = {**sample_type.model_fields, **sample_type.model_computed_fields}
        for name, info in infos.items():
            if info.repr:
                yield f"{name}={getattr(self, name)!r}"

    def __str__(self) -> str:
        return " ".join(self.__zs_shown__())

    def __repr__(self) -> str:
        try:
            return f"{type(self).__name__}({', '.join(self.__zs_shown__())})"
        except (CorruptSegmentError, TypeError) as error:
            return f"<{type(self).__name__}: {error}>"

    def __reduce__(self) -> Any:
        raise TypeError("a sample in shared memory cannot be pickled: send lease.copy() instead")


class AbsentField:
    """A field that the publisher's type does not have: its declared default stands in; only with match="by_name"."""

    def __init__(self, name: str, default: Any) -> None:
        self.name = name
        self.default = default

    def value(self) -> Any:
        """The default, which belongs to who asks for it."""
        return copy.deepcopy(self.default)

    def __get__(self, instance: object, owner: type) -> Any:
        return self if instance is None else self.value()

    def __set__(self, instance: object, value: object) -> None:
        raise AttributeError(f"{self.name}: the publisher's type has no such field, and what was taken is read-only")


class ClassAttribute:
    """What the sample type has, and no sample: its class methods, class variables and nested classes."""

    def __init__(self, sample_type: type[Sample], name: str) -> None:
        self.sample_type = sample_type
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(self.sample_type, self.name)


class PrivateField:
    """A private attribute, which views do not have."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError(f"{self.name}: shared memory has fields alone. lease.copy() has private attributes")

    def __set__(self, instance: object, value: object) -> None:
        self.__get__(instance, type(instance))


def _of_a_copy(name: str, kind: Any) -> Any:
    """A method or property of the sample's class, used on a copy of the sample."""

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        return getattr(self.__zs_model__(), name)(*arguments, **options)

    method.__name__ = name
    method.__doc__ = "As pydantic's, of a copy."
    return property(lambda self: getattr(self.__zs_model__(), name)) if isinstance(kind, property) else method


def _pydantic_methods(sample_type: type[Sample]) -> dict[str, Any]:
    """What every model offers: methods and properties of a copy; the rest is the class's."""
    return {
        name: _of_a_copy(name, value)
        if inspect.isfunction(value) or type(value) is property
        else ClassAttribute(sample_type, name)
        for name, value in _MODEL_ATTRIBUTES.items()
    }


_MODEL_ATTRIBUTES = {
    name: inspect.getattr_static(BaseModel, name) for name in dir(BaseModel) if not name.startswith("_")
}


_OF_ANY_CLASS = {"__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__qualname__"}


def view_class_of(sample_type: type[Sample]) -> type[View]:
    """The view class of a sample type's own layout, made once."""
    made: type[View] | None = sample_type.__dict__.get("__zs_view__")
    if made is None:
        layout = layout_of(sample_type)
        made = _make_view_class(sample_type, layout.size, {field.name: field for field in layout.members}, ())
        sample_type.__zs_view__ = made  # type: ignore[attr-defined]  # a cache beside pydantic's own
    return made


def view_class_by_name(sample_type: type[Sample], publisher: StructLayout) -> type[View]:
    """A view class that reads what both sides share, at the publisher's offsets; declared defaults stand in for fields
    that the publisher lacks. A default factory is called once, here.

    `not_by_name` is empty for these two.
    """
    here = layout_of(sample_type)
    shared = shared_members(publisher, here)
    absent = [field.name for field in here.members if field.name not in shared]
    return _make_view_class(sample_type, publisher.size, {name: field for name, (field, _) in shared.items()}, absent)


def not_by_name(sample_type: type[Sample], publisher: StructLayout) -> tuple[str, ...]:
    """The fields that cannot be read by name: those that the publisher has otherwise, and those that it lacks and that
    have no default here.
    """
    here = layout_of(sample_type)
    shared = shared_members(publisher, here)
    others = {field.name for field in publisher.members}
    return tuple(
        name
        for name, attribute in attribute_names(sample_type).items()
        if name not in shared and (name in others or sample_type.model_fields[attribute].is_required())
    )


def _make_view_class(
    sample_type: type[Sample], size: int, members: Mapping[str, Field], lacking: Iterable[str]
) -> type[View]:
    names = attribute_names(sample_type)
    # Nested samples keep the classes of this side, wherever the offsets come from.
    descriptors = {
        names[field.name]: FieldDescriptor(names[field.name], codec_of(field.node), members[field.name].offset)
        for field in layout_of(sample_type).members
        if field.name in members
    }
    absent = {names[name]: AbsentField(names[name], default_of(sample_type, names[name])) for name in lacking}
    namespace: dict[str, Any] = {
        **_pydantic_methods(sample_type),
        **{name: value for name, value in vars(_ViewMethods).items() if name not in _OF_ANY_CLASS},
        "__doc__": f"A {sample_type.__name__} in shared memory.",
        "__zs_sample__": sample_type,
        "__zs_names__": tuple(names.values()),
        **_additions_of(sample_type),
        **absent,
        **descriptors,
    }
    made: type[View] = binding.make_view_class(f"{sample_type.__module__}.{sample_type.__name__}", namespace)
    values = {name: field.value for name, field in absent.items()}
    made.__zs_codec__ = binding.StructCodec(made, size, tuple(descriptors.values()), values)
    return made


# Special methods that a class may define for its views as well, beside those that no model has.
_SPECIAL = {"__str__", "__repr__", "__format__", "__lt__", "__le__", "__gt__", "__ge__"}
_OF_MODELS_ALONE = {*dir(BaseModel), "__del__", "__getattr__"} - _SPECIAL


def _additions_of(sample_type: type[Sample]) -> dict[str, Any]:
    """What the user's classes add, which works on views too: methods, properties, special methods, class attributes.

    A cached_property is computed at each use: a view has no memory of its own.
    """
    found: dict[str, Any] = {}
    for base in reversed(sample_type.__mro__[: sample_type.__mro__.index(Sample)]):
        for name, declared in vars(base).items():
            value = getattr(declared, "wrapped", declared)
            if name in sample_type.model_fields or name.startswith(("_abc", "model_", "__pydantic", "__zs")):
                continue
            if name.startswith("__") and (name in _OF_MODELS_ALONE or not inspect.isfunction(value)):
                continue
            if isinstance(value, cached_property):
                found[name] = property(value.func)
            elif isinstance(value, (classmethod, type)) or not hasattr(value, "__get__"):
                found[name] = ClassAttribute(sample_type, name)
            else:
                found[name] = value
    return found | {name: PrivateField(name) for name in sample_type.__private_attributes__}


def codec_of(node: Node) -> binding.Codec:
    """The native codec of a node."""
    match node:
        case Scalar(kind):
            return binding.ScalarCodec(kind)
        case Enumeration(kind=kind, name=name, members=members, python_type=python_type):
            values = {value: python_type(value) if python_type else value for _, value in members}
            return binding.EnumCodec(kind, name, values)
        case Text(max_bytes):
            return binding.BytesCodec(max_bytes, True)
        case Blob(max_bytes):
            return binding.BytesCodec(max_bytes, False)
        case Struct():
            return view_class_of(sample_type_of(node.layout)).__zs_codec__
        case Array(item, shape):
            return binding.ArrayCodec(fields.DTYPES[item.kind], shape)
        case FixedList(item, length):
            return binding.ListCodec(codec_of(item), 0, item.size, length, False, node.size)
        case BoundedList(item, max_len):
            return binding.ListCodec(codec_of(item), node.items_at, item.size, max_len, True, node.size)
        case Optional(item):
            return binding.OptionalCodec(codec_of(item), node.item_at, node.size)


# --- plans ---


def plan_of(sample_type: type[Sample]) -> Plan:
    """What a publisher of this type needs, made once."""
    made: Plan | None = sample_type.__dict__.get("__zs_plan__")
    if made is None:
        made = _make_plan(sample_type)
        sample_type.__zs_plan__ = made  # type: ignore[attr-defined]  # a cache beside pydantic's own
    return made


def reading_plan(view_class: type[View], size: int) -> Plan:
    """What a subscriber needs."""
    return Plan(view_class, size, [])


def _make_plan(sample_type: type[Sample]) -> Plan:
    layout = layout_of(sample_type)
    view_class = view_class_of(sample_type)
    values, factories = default_values(sample_type)
    names = attribute_names(sample_type)
    image = binding.sample_image(view_class, layout.size, values)
    spans: list[tuple[int, int]] = []
    for field in layout.fields:
        attribute = names.get(field.name)  # padding has none
        if attribute in values:
            spans.append((field.offset, field.size))
        elif attribute not in factories:
            spans += _spans_to_zero(field.node, field.offset)
    merged: list[tuple[int, int]] = []
    for at, size in spans:
        if merged and merged[-1][0] + merged[-1][1] == at:
            merged[-1] = (merged[-1][0], merged[-1][1] + size)
        else:
            merged.append((at, size))
    if len(merged) > SPAN_LIMIT:
        merged = [(0, layout.size)]

    def fill(view: Any) -> None:
        for name, factory in factories.items():
            setattr(view, name, factory())

    contents = [(at, image[at : at + size]) for at, size in merged]
    return Plan(view_class, layout.size, contents, fill if factories else None)


def _spans_to_zero(node: Node, offset: int) -> list[tuple[int, int]]:
    """What a loan zeroes of a field without a default: all that is small, and every length, count and presence."""
    if node.size <= SMALL:
        return [(offset, node.size)]
    match node:
        case Struct():
            return [span for field in node.layout.fields for span in _spans_to_zero(field.node, offset + field.offset)]
        case Text() | Blob() | BoundedList():
            return [(offset, 4)]
        case Optional():
            return [(offset, 1)]
        case _:
            return []


# --- sample types from schemas ---

_ALIASES: dict[str, Any] = {
    "u8": fields.U8, "u16": fields.U16, "u32": fields.U32, "u64": fields.U64,
    "i8": fields.I8, "i16": fields.I16, "i32": fields.I32, "i64": fields.I64,
    "f16": fields.F16, "f32": fields.F32, "f64": fields.F64, "bool": fields.Bool,
}  # fmt: skip  # a table


def sample_type_of(layout: Any) -> type[Sample]:
    """The class a layout was made from, or one made from it: for a subscriber that has only the segment's schema.

    A name that Python cannot say, such as `class`, gets underscores behind it: the field `class_`, whose alias is
    `class`, or the enumerator `mro_`. Raises CorruptSegmentError when no class can have these fields.
    """
    known: type[Sample] | None = layout.sample_type
    if known is not None:
        return known
    names = python_names([field.name for field in layout.members], is_field_name)
    renamed = {new: old for old, new in names.items() if new != old}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a field may be called `json`; here nobody can rename it
            members: dict[str, Any] = {
                names[field.name]: (
                    _annotation_of(field.node),
                    PydanticField(alias=renamed.get(names[field.name])),
                )
                for field in layout.members
            }
            namespace = {"__module__": __name__, "__zs_renamed__": renamed}
            base = cast(
                "type[Sample]", types.new_class("Renamed", (Sample,), exec_body=lambda body: body.update(namespace))
            )
            made: type[Sample] = create_model(layout.name, __base__=base, __module__=__name__, **members)
    except Exception as error:
        raise CorruptSegmentError(
            f"the schema of {layout.name} makes no class: {error}", where=f"the schema of {layout.name}"
        ) from error
    if layout_of(made).type_hash != layout.type_hash:
        raise CorruptSegmentError(
            f"the schema of {layout.name} contradicts itself", where=f"the schema of {layout.name}"
        )
    object.__setattr__(layout, "sample_type", made)  # the dataclass is frozen
    return made


def _annotation_of(node: Node) -> Any:
    match node:
        case Scalar(kind):
            return _ALIASES[kind]
        case Enumeration(kind=kind, name=name, members=members):
            values = [value for _, value in members]
            if name == "Literal" and list(members) == literal_members(values):
                return Annotated[Literal[tuple(values)], fields.ScalarKind(kind)]
            return Annotated[_enum_of(name, members), fields.ScalarKind(kind)]
        case Text(max_bytes):
            return Annotated[str, MaxBytes(max_bytes)]
        case Blob(max_bytes):
            return Annotated[bytes, MaxBytes(max_bytes)]
        case Struct():
            return sample_type_of(node.layout)
        case Array(item, shape):
            return Annotated[NDArray[fields.DTYPES[item.kind].type], Shape(*shape)]  # type: ignore[misc]  # as below
        case FixedList(item, length):
            return Annotated[list[_annotation_of(item)], Shape(length)]  # type: ignore[misc]  # made at run time
        case BoundedList(item, max_len):
            return Annotated[list[_annotation_of(item)], MaxLen(max_len)]  # type: ignore[misc]  # made at run time
        case Optional(item):
            return _annotation_of(item) | None


def _enum_of(name: str, members: tuple[tuple[str, int], ...]) -> Any:
    names = python_names([member for member, _ in members], lambda each: is_identifier(each) and each != "mro")
    make: Any = enum.IntEnum  # mypy wants literals here
    made = make(name, [(names[member], value) for member, value in members])
    made.__zs_renamed__ = {new: old for old, new in names.items() if new != old}
    return made


# --- writing whole samples ---


def prepared(sample: Any, sample_type: type[S]) -> Any:
    """`sample` in a form that `write` takes.

    A model of the type and a view are taken as they are: `write` copies them field by field and checks kinds, ranges
    and bounds. A mapping is validated by pydantic, as a constructor does it with the same keywords.
    """
    if isinstance(sample, (sample_type, View)):
        return sample
    if isinstance(sample, np.void) or (isinstance(sample, np.ndarray) and sample.ndim == 0):
        layout = layout_of(sample_type)
        if sample.dtype != layout.dtype:
            raise TypeError(f"a record of dtype {sample.dtype}, not {layout.dtype} as {sample_type.__name__} has it")
        record = np.zeros((), layout.dtype)
        record[()] = sample
        return record
    if isinstance(sample, Mapping):
        return sample_type.model_validate(dict(sample))
    raise TypeError(
        f"a {sample_type.__name__}, a view of one, a numpy record or a mapping, not {type(sample).__name__}"
    )


def write(view: Any, sample: Any) -> None:
    """Write what `prepared` gave into the sample of a loan."""
    if not isinstance(sample, np.ndarray):
        binding.write_sample(view, sample)
        return
    if view.__zs_names__:
        binding.write_image(view, sample.tobytes())
    try:
        view.__zs_values__()
    except CorruptSegmentError as error:
        raise ValueError(f"the record is no {type(view).__name__}: {error}") from None


def schema_as_json(layout: Layout) -> str:
    """The JSON schema of a layout, compact."""
    return json.dumps(layout.to_json_schema(), separators=(",", ":"))
