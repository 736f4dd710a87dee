"""`np.ndarray` and `bytes` as sample types: each sample is one array, or one run of bytes, of any size.

A whole type is laid out like a class with one variable field, `data`, and is read and written as that class is. What
differs: `sample` is what the field holds and no view with a field, and its hash is another one than that of the class,
because a program that expects `sample.data` must not get the array.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from zeroslot._core.binding import View
from zeroslot.types.compiled import CompiledType, compiled
from zeroslot.types.from_schema import sample_type_of
from zeroslot.types.layout import Layout
from zeroslot.types.sample import Sample
from zeroslot.types.schema import from_json_schema

FIELD = "data"
HEAD_ROOM = 1024  # what a slot has beside `max_bytes`: the fixed part, and the description of a structured dtype


@cache
def _compiled(sample_type: type) -> CompiledType:
    class Array(Sample):
        data: NDArray[Any]

    class Bytes(Sample):
        data: bytes

    holder = Array if sample_type is np.ndarray else Bytes
    return CompiledType(holder, Layout(sample_type.__name__, compiled(holder).layout.members, holder, whole=True))


def wrapped(sample: Any, sample_type: type) -> dict[str, Any]:
    """A sample of a whole type as the values of its fields. Raises TypeError for what is none."""
    if sample_type is np.ndarray and (sample is None or isinstance(sample, (str, bytes, Mapping, BaseModel, View))):
        raise TypeError(f"an array, not {type(sample).__name__}")
    return {FIELD: sample}


def compiled_type(sample_type: type[Any] | None) -> CompiledType:
    """The record of a sample type or a whole type. Raises DeclarationError for anything else."""
    if sample_type is np.ndarray or sample_type is bytes:
        return _compiled(cast("Hashable", sample_type))
    return compiled(sample_type)


def type_of(layout: Layout) -> type[Any]:
    """The type of samples of a layout that was read from a segment."""
    for sample_type in (np.ndarray, bytes):
        if layout.whole and _compiled(sample_type).layout.type_hash == layout.type_hash:
            return sample_type
    return sample_type_of(layout)


def type_from_schema(schema: bytes | str | dict[str, Any] | Layout) -> type[Any]:
    """A sample type from a stored schema: the JSON of `layout_of(sample_type).to_json_schema()`, as text or parsed, or
    the layout that `schema_of(topic)` gives. It has the same fields at the same offsets, and the same type hash.

    Two calls make two classes, which are the same type for publishers and subscribers. A name that Python does not
    allow, such as `class`, gets a trailing underscore; its alias is the original name. `np.ndarray` and `bytes` are
    given as they are. The schema says nothing of defaults, constraints and validators: all fields are required.

    Raises FormatError for what is no such schema, CorruptSegmentError where no class can have these fields. Safe for
    any input.
    """
    layout = schema if isinstance(schema, Layout) else from_json_schema(schema)
    return type_of(layout)
