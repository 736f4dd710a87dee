"""`CompiledType`: all that is made from a sample type, once, for publishers, subscribers and layouts.

The layout is made at the class statement, where a field without a fixed place in memory is a DeclarationError. View
classes and plans are made when they are first used, because most classes of a program that imports them are never
published.

Why the record hangs on the class, in one attribute: a table of classes beside them would keep each class alive, since
a record refers to its class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import BaseModel

from zeroslot._core import binding
from zeroslot._core.binding import SPAN_LIMIT, Plan, StructCodec, View
from zeroslot.errors import DeclarationError
from zeroslot.types.annotations import node_of
from zeroslot.types.by_name import ByName, SharedLayout
from zeroslot.types.difference import difference
from zeroslot.types.layout import Layout, build_layout
from zeroslot.types.model import (
    annotation_of,
    attribute_names,
    class_name,
    default_of,
    default_values,
    is_field_name,
)
from zeroslot.types.names import is_identifier
from zeroslot.types.nodes.base import Node, Record, reject_declaration
from zeroslot.types.nodes.families import ANY
from zeroslot.types.nodes.optional import Optional
from zeroslot.types.nodes.variable import VariableArray
from zeroslot.types.view import AbsentField, MissingField, make_view_class

_ATTRIBUTE = "__zs_compiled__"


class CompiledType:
    """The layout of a sample type, and the view classes and plans by which its samples are written and read."""

    def __init__(self, sample_type: type[BaseModel], layout: Layout) -> None:
        self.sample_type = sample_type
        self.layout = layout

    @cached_property
    def names(self) -> dict[str, str]:
        """Name in memory -> attribute, of every field."""
        return attribute_names(self.sample_type)

    @cached_property
    def view_class(self) -> type[View]:
        """The class of the views of samples that have this layout."""
        return self.view_class_of(self.layout)

    def view_class_of(self, layout: Layout) -> type[View]:
        """A class of the views of samples that have this layout, or what `ByName` made of it and another one: declared
        defaults stand in for fields that it lacks. A default factory is called here, and each read gives a copy.
        """
        fields = [
            binding.FieldDescriptor(self.names[field.name], field.node.codec(_codec_of_sample), field.offset)
            for field in layout.members
        ]
        there = {field.name for field in fields}
        absent = {name: self._absent_field(name) for name in self.names.values() if name not in there}
        return make_view_class(self.sample_type, self.names.values(), layout.size, fields, absent)

    def _absent_field(self, name: str) -> AbsentField | MissingField:
        if self.sample_type.model_fields[name].is_required():
            return MissingField(name)
        return AbsentField(name, default_of(self.sample_type, name))

    @property
    def _dtype(self) -> np.dtype[Any] | None:
        """That of records; None where those would not have all of a sample."""
        return None if self.layout.variable else self.layout.dtype

    @property
    def record_dtype(self) -> np.dtype[Any]:
        """The dtype of records that are samples. Raises TypeError for a type with variable fields."""
        if self._dtype is None:
            raise TypeError(
                f"a numpy record has no variable fields, which {self.layout.name} has: use models, mappings or loans"
            )
        return self._dtype

    @cached_property
    def reading_plan(self) -> Plan:
        """What a subscriber needs for publishers of this layout."""
        return Plan(self.view_class, self.layout.size, [], None, self._dtype, whole=self._whole_codec())

    @cached_property
    def writing_plan(self) -> Plan:
        """What a publisher needs: the declared defaults, and what else a loan starts with."""
        values, factories = default_values(self.sample_type)
        required = frozenset({*self.names.values()} - values.keys() - factories.keys())
        variable: binding.Arrangement | None = None
        if self.layout.variable:
            names = {self.names[field.name] for field in self.layout.members if field.node.variable}
            called = {name: factories.pop(name) for name in names & factories.keys()}
            starting = {name: values.pop(name) for name in names & values.keys()}
            variable = binding.Arrangement(tuple(_variable_fields(self.layout)), starting | called, set(called))
        image = binding.sample_image(self.view_class, self.layout.size, values)
        contents = [(at, image[at : at + size]) for at, size in self._initial_spans({*values}, {*factories})]

        size, codec = self.layout.size, self._whole_codec()
        return Plan(self.view_class, size, contents, factories, self._dtype, variable, whole=codec, required=required)

    def _whole_codec(self) -> binding.VariableCodec | None:
        """How the samples of a whole type are read and written. None: they have fields."""
        if not self.layout.whole:
            return None
        if isinstance(self.layout.members[0].node, VariableArray):
            return binding.VariableArrayCodec(ANY.dtype, ANY.letters)
        return binding.VariableBytesCodec(False, True)

    def reading_plan_by_name(self, by_name: ByName) -> Plan:
        """What a subscriber needs for publishers of another version."""
        shared = by_name.layout
        return Plan(self.view_class_of(shared), shared.size, [], exact=None if by_name.missing else self.reading_plan)

    def _initial_spans(self, with_value: set[str], with_factory: set[str]) -> list[tuple[int, int]]:
        """What a loan writes of a sample, as (offset, size): declared defaults, and zeros."""
        spans: list[tuple[int, int]] = []
        for field in self.layout.fields:
            attribute = self.names.get(field.name)  # padding has none
            if attribute in with_value:
                spans.append((field.offset, field.size))
            elif attribute not in with_factory:
                spans += field.node.spans_to_zero(field.offset)
        merged: list[tuple[int, int]] = []
        for at, size in spans:
            if merged and merged[-1][0] + merged[-1][1] == at:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            else:
                merged.append((at, size))
        return merged if len(merged) <= SPAN_LIMIT else [(0, self.layout.size)]


def _variable_fields(
    node: Node, at: int = 0, path: tuple[str, ...] = (), presences: tuple[int, ...] = ()
) -> Iterator[binding.VariableField]:
    """All variable fields of a sample type that has some, in the order of memory. `presences`: see VariableField."""
    if isinstance(node, Optional):
        yield from _variable_fields(node.item, at + node.members[1].offset, path, (*presences, at))
    elif isinstance(node, Layout):
        names = compiled(node.sample_type).names
        for field in node.members:
            if field.node.variable:
                yield from _variable_fields(field.node, at + field.offset, (*path, names[field.name]), presences)
    else:
        yield binding.VariableField(path, node.codec(_codec_of_sample), at, presences)


def _codec_of_sample(record: Record) -> StructCodec:
    """The codec of a nested sample, which is that of its view class."""
    found = compiled(record.sample_type)
    return (found.view_class_of(record) if isinstance(record, SharedLayout) else found.view_class).__zs_codec__


# --- from a class to its record ---


class IncompleteError(DeclarationError):
    """A class that this one names is not defined yet."""


_under_construction: ContextVar[tuple[type[BaseModel], ...]] = ContextVar("_under_construction", default=())


def compiled(sample_type: type[BaseModel] | None) -> CompiledType:
    """The record of a sample type, made once.

    Raises `DeclarationError` for anything else than a sample type, for one that names a class that still does not
    exist, and for one whose type parameters are not filled in.
    """
    if not isinstance(sample_type, type) or not hasattr(sample_type, "__zs_layout__"):
        raise DeclarationError(
            _no_sample_type(sample_type),
            type_name=getattr(sample_type, "__name__", None),
        )
    found: CompiledType | None = vars(sample_type).get(_ATTRIBUTE)
    if found is None:
        found = CompiledType(sample_type, _layout_of(sample_type))
        setattr(sample_type, _ATTRIBUTE, found)
    return found


def _no_sample_type(value: object) -> str:
    """What is wrong with a value in place of a sample type."""
    shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}…"
    for kind, name in ((np.ndarray, "np.ndarray"), (bytes, "bytes")):
        if isinstance(value, kind):
            return f"{shown} is a sample, and not its type: write {name}."
    if not isinstance(value, type) and hasattr(value, "__zs_layout__"):
        return f"{shown} is a sample, and not its class: write {type(value).__name__}."
    text = " For texts give bytes, and publish text.encode()." if value is str else ""
    return f"{shown} is not a sample type. Derive a class from zeroslot.Sample, or give np.ndarray or bytes.{text}"


def has_open_parameters(sample_type: type[BaseModel]) -> bool:
    """Whether it is generic, and its type parameters are not filled in."""
    return bool(sample_type.__pydantic_generic_metadata__["parameters"])


def _layout_of(sample_type: type[BaseModel]) -> Layout:
    name = sample_type.__name__
    if has_open_parameters(sample_type):
        reject_declaration(name, "its type parameters are not filled in", f"Write {name}[…].")
    outer = _under_construction.get()
    if sample_type in outer:
        cycle = (sample_type, *reversed(outer[outer.index(sample_type) :]))
        chain = " in ".join(each.__name__ for each in cycle)
        reject_declaration(
            name, f"it contains itself ({chain}), so it has no size", "Refer to the other sample by an index."
        )
    if not sample_type.__pydantic_fields_complete__:
        sample_type.model_rebuild(raise_errors=False)
        if not sample_type.__pydantic_fields_complete__:
            raise IncompleteError(
                f"{name} names a class that is not defined. "
                f"Define it, or call {name}.model_rebuild() where it is visible.",
                type_name=name,
            )
    token = _under_construction.set((*outer, sample_type))
    try:
        members = []
        for name_in_memory, attribute in attribute_names(sample_type).items():
            where = f"{name}.{attribute}"
            _check_field_name(attribute, where)
            field = sample_type.__pydantic_fields__[attribute]
            members.append((name_in_memory, node_of(annotation_of(field), where)))
        return build_layout(name, members, sample_type)
    finally:
        _under_construction.reset(token)


def _check_field_name(name: str, where: str) -> None:
    if not is_identifier(name):
        reject_declaration(
            where, "the name is not an ASCII identifier", "Rename the field; C and IDL must be able to say it."
        )
    if not is_field_name(name):
        reject_declaration(where, "every class or model has an attribute of this name", "Rename the field.")


# --- whole samples ---


def prepared(sample: Any, sample_type: type[Any]) -> Any:
    """`sample` in a form that `binding.write_sample` takes.

    A model of the type and a view are taken as they are: they are copied field by field, and kinds, ranges and bounds
    are checked. So is a model of another class with the same layout. A mapping is validated by pydantic, as a
    constructor does it with the same keywords.
    """
    if isinstance(sample, (sample_type, View)):
        return sample
    if isinstance(sample, BaseModel) and hasattr(sample, "__zs_layout__"):  # declared again, as notebooks do
        publisher, found = compiled(sample_type).layout, compiled(type(sample)).layout
        if found == publisher:
            return sample
        raise TypeError(
            f"{class_name(type(sample))} has another layout than {class_name(sample_type)}, which this publisher "
            f"publishes:\n{difference(publisher, found)}\nMake the sample with that class"
        )
    if isinstance(sample, np.void) or (isinstance(sample, np.ndarray) and sample.ndim == 0):
        return binding.record_of(sample, compiled(sample_type).record_dtype)
    if isinstance(sample, Mapping):
        return sample_type.model_validate(dict(sample))
    raise TypeError(
        f"publish takes a {sample_type.__name__}, a view of one, a numpy record or a mapping, not "
        f"{type(sample).__name__}"
    )
