"""A sample type from a layout: for a subscriber that has only the schema in the segment."""

from __future__ import annotations

import types
import warnings
from typing import Any, cast

from pydantic import Field, create_model

from zeroslot.errors import CorruptSegmentError
from zeroslot.types.model import is_field_name
from zeroslot.types.names import python_names
from zeroslot.types.nodes.base import Record
from zeroslot.types.sample import Sample, layout_of


def sample_type_of(layout: Record) -> type[Sample]:
    """The class that a layout was made from, or a new one.

    A name that Python cannot say, such as `class`, gets underscores behind it: the field `class_`, whose alias is
    `class`, or the enumerator `mro_`. Raises CorruptSegmentError when no class can have these fields.
    """
    if layout.sample_type is not None:
        return layout.sample_type
    names = python_names([field.name for field in layout.members], is_field_name)
    renamed = {new: old for old, new in names.items() if new != old}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a field may be called `json`, and cannot be renamed here
            members: dict[str, Any] = {
                names[field.name]: (
                    field.node.annotation(sample_type_of),
                    Field(alias=renamed.get(names[field.name])),
                )
                for field in layout.members
            }
            namespace = {"__module__": __name__, "__zs_renamed__": renamed}
            base = cast(
                "type[Sample]", types.new_class("Renamed", (Sample,), exec_body=lambda body: body.update(namespace))
            )
            made: type[Sample] = create_model(layout.tag, __base__=base, __module__=__name__, **members)
    except Exception as error:
        raise CorruptSegmentError(
            f"the schema of {layout.tag} makes no class: {error}", where=f"the schema of {layout.tag}"
        ) from error
    if layout_of(made).type_hash != layout.type_hash:
        raise CorruptSegmentError(f"the schema of {layout.tag} contradicts itself", where=f"the schema of {layout.tag}")
    return made
