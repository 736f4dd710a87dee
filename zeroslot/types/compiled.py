"""`CompiledType`: all that is made from a sample type, once, for publishers, subscribers and layouts.

The layout is made at the class statement, where a field without a fixed place in memory is a DeclarationError. View
classes and plans are made when they are first used, because most classes of a program that imports them are never
published.

Why the record hangs on the class, in one attribute: a table of classes beside them would keep each class alive, since
a record refers to its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import BaseModel

from zeroslot._core import binding
from zeroslot._core.binding import Plan, StructCodec, View
from zeroslot.errors import CorruptSegmentError, DeclarationError
from zeroslot.types.annotations import node_of
from zeroslot.types.difference import shared_members
from zeroslot.types.layout import Layout, build_layout
from zeroslot.types.model import annotation_of, attribute_names, default_of, default_values, is_field_name
from zeroslot.types.names import is_identifier
from zeroslot.types.nodes.base import Field, Record, reject_declaration
from zeroslot.types.view import AbsentField, make_view_class

SPAN_LIMIT = 64
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
        return self._view_class(self.layout.size, {field.name: field for field in self.layout.members}, {})

    @cached_property
    def reading_plan(self) -> Plan:
        """What a subscriber needs for publishers of this layout."""
        return Plan(self.view_class, self.layout.size, [])

    @cached_property
    def writing_plan(self) -> Plan:
        """What a publisher needs: the declared defaults, and what else a loan starts with."""
        values, factories = default_values(self.sample_type)
        image = binding.sample_image(self.view_class, self.layout.size, values)
        contents = [(at, image[at : at + size]) for at, size in self._initial_spans({*values}, {*factories})]

        def call_factories(view: Any) -> None:
            for name, factory in factories.items():
                setattr(view, name, factory())

        return Plan(self.view_class, self.layout.size, contents, call_factories if factories else None)

    def reading_plan_by_name(self, publisher: Layout) -> Plan:
        """What a subscriber needs for publishers of another layout: a view class that reads what both sides share, at
        the publisher's offsets; declared defaults stand in for fields that the publisher lacks. A default factory is
        called once, here.

        `unreadable_by_name` is empty for this publisher.
        """
        shared = shared_members(publisher, self.layout)
        absent = {
            self.names[field.name]: AbsentField(
                self.names[field.name], default_of(self.sample_type, self.names[field.name])
            )
            for field in self.layout.members
            if field.name not in shared
        }
        members = {name: field for name, (field, _) in shared.items()}
        return Plan(self._view_class(publisher.size, members, absent), publisher.size, [])

    def unreadable_by_name(self, publisher: Layout) -> tuple[str, ...]:
        """The fields that cannot be read by name: those that the publisher has otherwise, and those that it lacks and
        that have no default here.
        """
        shared = shared_members(publisher, self.layout)
        published = {field.name for field in publisher.members}
        return tuple(
            name
            for name, attribute in self.names.items()
            if name not in shared and (name in published or self.sample_type.model_fields[attribute].is_required())
        )

    def _view_class(self, size: int, members: Mapping[str, Field], absent: dict[str, AbsentField]) -> type[View]:
        # Nested samples keep the classes of this side, wherever the offsets come from.
        nodes = {field.name: field.node for field in self.layout.members if field.name in members}
        fields = [
            binding.FieldDescriptor(self.names[name], node.codec(_codec_of_sample), members[name].offset)
            for name, node in nodes.items()
        ]
        return make_view_class(self.sample_type, tuple(self.names.values()), size, fields, absent)

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


def _codec_of_sample(record: Record) -> StructCodec:
    """The codec of a nested sample, which is that of its view class."""
    return compiled(record.sample_type).view_class.__zs_codec__


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
            f"{sample_type!r} is not a sample type. Derive a class from zeroslot.Sample.",
            type_name=getattr(sample_type, "__name__", None),
        )
    found: CompiledType | None = vars(sample_type).get(_ATTRIBUTE)
    if found is None:
        found = CompiledType(sample_type, _layout_of(sample_type))
        setattr(sample_type, _ATTRIBUTE, found)
    return found


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


# --- writing whole samples ---


def prepared(sample: Any, sample_type: type[BaseModel]) -> Any:
    """`sample` in a form that `write` takes.

    A model of the type and a view are taken as they are: `write` copies them field by field and checks kinds, ranges
    and bounds. A mapping is validated by pydantic, as a constructor does it with the same keywords.
    """
    if isinstance(sample, (sample_type, View)):
        return sample
    if isinstance(sample, np.void) or (isinstance(sample, np.ndarray) and sample.ndim == 0):
        dtype = compiled(sample_type).layout.dtype
        if sample.dtype != dtype:
            raise TypeError(f"a record of dtype {sample.dtype}, not {dtype} as {sample_type.__name__} has it")
        record = np.zeros((), dtype)
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
