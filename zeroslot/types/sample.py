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

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform, get_args

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, PrivateAttr
from pydantic._internal._model_construction import ModelMetaclass  # type(BaseModel); only so can mypy see a base class
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, core_schema

from zeroslot._core import binding
from zeroslot.types.compiled import IncompleteError, compiled, has_open_parameters
from zeroslot.types.layout import Layout
from zeroslot.types.nodes.bounds import Bound, with_widths
from zeroslot.types.nodes.lists import BoundedList, FixedList
from zeroslot.types.nodes.optional import Optional
from zeroslot.types.nodes.scalars import Scalar
from zeroslot.types.nodes.variable import VariableList, with_checks

S = TypeVar("S", bound="Sample")


# mypy takes the decorator of the metaclass itself only, not of its base.
@dataclass_transform(kw_only_default=True, field_specifiers=(pydantic.Field, PrivateAttr))
class SampleType(ModelMetaclass):
    """Metaclass of Sample: an instance is a model, or a view of one in shared memory."""

    __instancecheck__ = binding.is_sample_instance


class _ModelJsonSchema(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        return binding.nested_lists(dft) if isinstance(dft, np.ndarray) else super().encode_default(dft)


def _parameter_name(parameter: Any) -> str:
    kinds = [repr(item) for item in get_args(parameter) if isinstance(item, Scalar)]
    return kinds[0] if kinds else getattr(parameter, "__name__", None) or str(parameter)


class Sample(BaseModel, metaclass=SampleType):
    """Base class of the types that publishers write and subscribers read.

    >>> class Imu(Sample):
    ...     stamp_ns: U64
    ...     accel: Annotated[NDArray[np.float64], Shape(3)]

    Instances are pydantic models and live in ordinary memory. They equal another model of the class, or a view, whose
    fields have equal values; arrays are compared by value.

    Constraints and validators of pydantic (`Field(ge=0)`, `field_validator`) hold where a model is constructed or
    validated, and for mappings that are published. They do not hold in place: a loan checks the kind and range of a
    field, the bounds of text, lists and arrays, and nothing else, unless it is borrowed with `validate=True`. Nor do
    they run again when a model is published, copied out of a lease, or put into another model.

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

    __zs_renamed__: ClassVar[Mapping[str, str]] = {}  # attribute -> name in memory, where they differ

    @classmethod
    def __zs_layout__(cls) -> Layout:
        return compiled(cls).layout

    @classmethod
    def __zs_view_class__(cls) -> type[binding.View]:
        return compiled(cls).view_class

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
                if not any(isinstance(item, Scalar) for item in field.metadata):
                    is_bounded = any(isinstance(item, Bound) for item in field.metadata)
                    field.annotation = (with_widths if is_bounded else with_checks)(field.annotation)
            if not has_open_parameters(cls):
                with suppress(IncompleteError):  # checked again when the missing class is there
                    compiled(cls)

        schema = handler(source)
        inner: Any = handler.resolve_ref_schema(schema)
        if inner.get("function", {}).get("function") is binding.view_as_model:
            return schema  # pydantic kept it from the first time; a second wrapper would only cost time
        # Without its name, by which others refer to the whole, wrapper included.
        bare = {key: value for key, value in inner.items() if key != "ref"}
        return core_schema.no_info_before_validator_function(
            binding.view_as_model, cast("CoreSchema", bare), ref=inner.get("ref")
        )

    def __eq__(self, other: object) -> bool:
        if type(other) is type(self):
            names = type(self).__pydantic_fields__  # and not what a cached_property keeps beside them
            return (
                all(_same(_value_of(self, name), _value_of(other, name)) for name in names)
                and self.__pydantic_private__ == other.__pydantic_private__
                and _same(self.__pydantic_extra__, other.__pydantic_extra__)
            )
        if isinstance(other, binding.View) and other.__zs_sample__ is type(self):
            return _same(self, other.__zs_values__())
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as pydantic: equal by value and mutable


def layout_of(sample_type: type[Sample]) -> Layout:
    """The layout of a sample type, computed once per class.

    Raises `DeclarationError` when it names a class that still does not exist, or has type parameters that are not
    filled in.
    """
    return compiled(sample_type).layout


def _value_of(sample: BaseModel, name: str) -> Any:
    """A field; records in place of a list of samples as the samples that they say."""
    value = sample.__dict__.get(name)
    if not isinstance(value, np.ndarray) or value.dtype.names is None:
        return value
    record = compiled(type(sample))
    node: Any = next(field.node for field in record.layout.members if record.names[field.name] == name)
    while not isinstance(node, Layout):
        if not isinstance(node, (Optional, FixedList, BoundedList, VariableList)):
            return value
        node = node.item
    return binding.samples_of(compiled(node.sample_type).view_class, value)


def _same(one: Any, other: Any) -> bool:
    """Equality with arrays by value, and with a nested model equal to the dict that a view makes of it."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    if isinstance(one, BaseModel) and isinstance(other, dict):
        names = [name for name in type(one).__pydantic_fields__ if name in one.__dict__]
        return names == [*other] and all(_same(_value_of(one, name), other[name]) for name in names)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
