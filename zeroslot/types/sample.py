"""`Sample`, the base class of user types, and `layout_of`, what such a type means in memory.

A sample type is an ordinary pydantic class. It is checked where it is defined: a field without a fixed place in
memory is a DeclarationError at the class statement, not at the first publish. A class that names another one which
does not exist yet is checked as soon as pydantic can complete it.

Why a metaclass: a view of shared memory is a native object and no pydantic model, yet `isinstance(view, Imu)` must be
true for code that takes an Imu. ABC.register does not do that for pydantic classes, so the instance check looks at
the view's class itself.

Why a function stands before every model validator: `isinstance` being true, pydantic would store a view that is put
into another model as it is, and a slot of shared memory would live as long as that model. The function makes a copy of
it, which is a model like any other: not validated again.

Why no validator here is written in Python: see zeroslot/_core/validators.pxi.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast, dataclass_transform, get_args

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, PrivateAttr, TypeAdapter, ValidationError
from pydantic._internal._model_construction import ModelMetaclass  # type(BaseModel); only so can mypy see a base class
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, core_schema

from zeroslot._core import binding
from zeroslot.errors import DeclarationError
from zeroslot.types.fields import ScalarKind, is_identifier, node_of, refuse, with_widths
from zeroslot.types.idl import to_c, to_idl
from zeroslot.types.layout import StructLayout, build_layout
from zeroslot.types.schema import to_json_schema

S = TypeVar("S", bound="Sample")


class Layout(StructLayout):
    """Where every field of a sample type lies, and the same in other languages.

    `sample_type` is the class it was made from; None for a layout that was read from a segment.
    """

    sample_type: type[Sample] | None = None

    def to_idl(self, form: Literal["image", "message"] = "image") -> str:
        """OMG IDL 4.2: "image" says what lies in memory, "message" what recorders and bridges emit."""
        return to_idl(self, form)

    def to_c(self) -> str:
        """A header for C11 and C++17 that asserts every offset."""
        return to_c(self)

    def to_json_schema(self) -> dict[str, Any]:
        """JSON Schema of the sample as JSON, with offsets and sizes beside it."""
        return to_json_schema(self)


# mypy takes the decorator of the metaclass itself only, not of its base.
@dataclass_transform(kw_only_default=True, field_specifiers=(pydantic.Field, PrivateAttr))
class SampleType(ModelMetaclass):
    """Metaclass of Sample: an instance is a model, or a view of one in shared memory."""

    __instancecheck__ = binding.is_sample_instance


class _ModelJsonSchema(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        return binding.nested_lists(dft) if isinstance(dft, np.ndarray) else super().encode_default(dft)


class _IncompleteError(DeclarationError):
    """A class that this one names is not defined yet."""


_under_construction: ContextVar[tuple[type[Sample], ...]] = ContextVar("_under_construction", default=())


def _build(cls: type[Sample]) -> Layout:
    done: Layout | None = cls.__dict__.get("__zs_layout_cache__")
    if done is not None:
        return done
    name = cls.__name__
    if _is_open(cls):
        refuse(name, "its type parameters are not filled in", f"Write {name}[…].")
    outer = _under_construction.get()
    if cls in outer:
        chain = " in ".join(each.__name__ for each in (cls, *reversed(outer[outer.index(cls) :])))
        refuse(name, f"it contains itself ({chain}), so it has no size", "Refer to the other sample by an index.")
    if not cls.__pydantic_fields_complete__:
        cls.model_rebuild(raise_errors=False)
        if not cls.__pydantic_fields_complete__:
            raise _IncompleteError(
                f"{name} names a class that is not defined. "
                f"Define it, or call {name}.model_rebuild() where it is visible.",
                type_name=name,
            )
    token = _under_construction.set((*outer, cls))
    try:
        members = []
        for field_name, field in cls.__pydantic_fields__.items():
            where = f"{name}.{field_name}"
            if not is_identifier(field_name):
                refuse(
                    where, "the name is not an ASCII identifier", "Rename the field; C and IDL must be able to say it."
                )
            if not is_field_name(field_name):
                refuse(where, "every class or model has an attribute of this name", "Rename the field.")
            in_memory = cls.__zs_renamed__.get(field_name, field_name)
            members.append((in_memory, node_of(_annotation_of(field), where=where)))
        layout = build_layout(name, members, Layout)
    finally:
        _under_construction.reset(token)
    object.__setattr__(layout, "sample_type", cls)  # the dataclass is frozen
    cls.__zs_layout_cache__ = layout
    return layout


def is_field_name(name: str) -> bool:
    """Whether a field of a model may be called this. pydantic would take a method of the metaclass for its default, and
    read its own attribute instead of the field.
    """
    own = hasattr(SampleType, name) or (name.startswith("model_") and hasattr(BaseModel, name))
    return is_identifier(name) and not own


def attribute_names(sample_type: type[Sample]) -> dict[str, str]:
    """Name in memory -> attribute, of every field. They differ where a class was made from a schema whose names Python
    cannot say.
    """
    return {sample_type.__zs_renamed__.get(name, name): name for name in sample_type.__pydantic_fields__}


def _parameter_name(parameter: Any) -> str:
    kinds = [item.kind for item in get_args(parameter) if isinstance(item, ScalarKind)]
    return kinds[0].capitalize() if kinds else getattr(parameter, "__name__", None) or str(parameter)


def _is_open(cls: type[Sample]) -> bool:
    return bool(cls.__pydantic_generic_metadata__["parameters"])


def _annotation_of(field: FieldInfo) -> Any:
    """The annotation as it was written: pydantic keeps the type and what stood around it apart."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


class Sample(BaseModel, metaclass=SampleType):
    """Base class of the types that publishers write and subscribers read.

    >>> class Imu(Sample):
    ...     stamp_ns: U64
    ...     accel: Annotated[NDArray[np.float64], Shape(3)]

    Instances are pydantic models and live in ordinary memory. They equal another model of the class, or a view, whose
    fields have equal values; arrays are compared by value.

    Constraints and validators of pydantic (`Field(ge=0)`, `field_validator`) hold where a model is constructed or
    validated, and for mappings that are published. They do not hold in place: a loan checks the kind and range of a
    field, the bounds of text, lists and arrays, and nothing else. Nor do they run again when a model is published,
    copied out of a lease, or put into another model.

    A str is no value of a bytes field; in JSON it is, in base64.
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True,
        validate_default=True,
        validate_by_name=True,
        validate_by_alias=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        ser_json_inf_nan="strings",
    )

    __zs_layout_cache__: ClassVar[Layout | None] = None
    __zs_renamed__: ClassVar[Mapping[str, str]] = {}  # attribute -> name in memory, where they differ

    @classmethod
    def __zs_layout__(cls) -> Layout:
        return _build(cls)

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As pydantic's, with arrays among the defaults. Offsets and sizes are in `layout_of(cls).to_json_schema()`."""
        if len(args) < 3:  # the third is schema_generator
            kwargs.setdefault("schema_generator", _ModelJsonSchema)
        return super().model_json_schema(*args, **kwargs)

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """`Box[U8]`, where pydantic would say `Box[Annotated[int, ScalarKind]]`."""
        return f"{cls.__name__}[{', '.join(map(_parameter_name, params))}]"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler, /) -> CoreSchema:
        if cls.__pydantic_fields_complete__:
            for field in cls.__pydantic_fields__.values():
                if not any(isinstance(item, ScalarKind) for item in field.metadata):
                    field.annotation = with_widths(field.annotation)
            if not _is_open(cls):
                with suppress(_IncompleteError):  # checked again when the missing class is there
                    _build(cls)

        schema = handler(source)
        inner: Any = handler.resolve_ref_schema(schema)
        if inner.get("function", {}).get("function") is binding.view_as_model:
            return schema  # pydantic kept it from the first time; a second wrapper would only cost time
        bare = {
            key: value for key, value in inner.items() if key != "ref"
        }  # others refer to the whole, wrapper included
        return core_schema.no_info_before_validator_function(
            binding.view_as_model, cast("CoreSchema", bare), ref=inner.get("ref")
        )

    def __eq__(self, other: object) -> bool:
        if type(other) is type(self):
            names = type(self).__pydantic_fields__  # and not what a cached_property keeps beside them
            return (
                all(_same(self.__dict__.get(name), other.__dict__.get(name)) for name in names)
                and self.__pydantic_private__ == other.__pydantic_private__
                and _same(self.__pydantic_extra__, other.__pydantic_extra__)
            )
        if isinstance(other, binding.View) and other.__zs_sample__ is type(self):
            values = other.__zs_values__()
            return all(_same(self.__dict__.get(name), value) for name, value in values.items())
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as pydantic: equal by value and mutable


def layout_of(sample_type: type[Sample]) -> Layout:
    """The layout of a sample type, computed once per class.

    Raises `DeclarationError` when it names a class that still does not exist, or has type parameters that are not
    filled in.
    """
    if not isinstance(sample_type, SampleType):
        raise not_a_sample_type(sample_type)
    return _build(sample_type)


def not_a_sample_type(found: object) -> DeclarationError:
    """The error for anything else where a sample type is asked for; the caller raises it."""
    return DeclarationError(
        f"{found!r} is not a sample type. Derive a class from zeroslot.Sample.",
        type_name=getattr(found, "__name__", None),
    )


def default_values(sample_type: type[Sample]) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    """The declared defaults: values, validated, and factories, which are called for every sample. Fields without
    either are in neither.

    Raises `DeclarationError` for a default that its own field refuses, and for a factory that wants the values of
    other fields.
    """
    values: dict[str, Any] = {}
    factories: dict[str, Callable[[], Any]] = {}
    for name, field in sample_type.__pydantic_fields__.items():
        where = f"{sample_type.__name__}.{name}"
        if field.default_factory is not None:
            if field.default_factory_takes_validated_data:
                refuse(
                    where,
                    "its default factory wants the other fields, which a loan has not written yet",
                    "Use one without arguments.",
                )
            factories[name] = field.default_factory  # type: ignore[assignment]  # takes no argument, as just checked
        elif not field.is_required():
            values[name] = default_of(sample_type, name)
    return values, factories


def default_of(sample_type: type[Sample], name: str) -> Any:
    """The default of a field, validated; a factory is called.

    Raises `DeclarationError` for one that the field refuses.
    """
    field = sample_type.__pydantic_fields__[name]
    default = field.get_default(call_default_factory=True, validated_data={})
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(_annotation_of(field), config=_adapter_config(field))
        return adapter.validate_python(default)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        where = f"{sample_type.__name__}.{name}"
        refuse(where, f"its default {default!r} is not a value of it ({problem})", "Change the default.")


def _adapter_config(field: FieldInfo) -> ConfigDict | None:
    # A type with a configuration of its own must not be given another one.
    annotation = field.annotation
    return (
        None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel)
        else ConfigDict(arbitrary_types_allowed=True)
    )


def _same(ours: Any, theirs: Any) -> bool:
    """Equality with arrays by value, and with a nested model equal to the dict that a view makes of it."""
    if isinstance(ours, np.ndarray) or isinstance(theirs, np.ndarray):
        return bool(np.array_equal(ours, theirs))
    if isinstance(ours, BaseModel) and isinstance(theirs, dict):
        return all(_same(ours.__dict__.get(name), value) for name, value in theirs.items())
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_same(value, theirs[name]) for name, value in ours.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return bool(ours == theirs)
