"""From the annotation of a field to its node.

An annotation (`U8`, `Shape(3)`, `MaxBytes(16)`) is read twice: by pydantic, which validates values with it, and here.
All that comes after knows nodes only, never annotations.
"""

from __future__ import annotations

from typing import Annotated, Any, NoReturn, get_args, get_origin

import numpy as np

from zeroslot.types.nodes.base import Declaration, Node, annotation_text, reject_declaration
from zeroslot.types.nodes.bounds import Bound, without_alias
from zeroslot.types.nodes.scalars import NUMPY_TYPES, Scalar
from zeroslot.types.registry import NODES


def node_of(annotation: Any, where: str) -> Node:
    """The node that an annotation means. `where` is `Class.field`, for the error text.

    Raises `DeclarationError` for whatever has no fixed place in memory, and says what to write instead.
    """
    base, bounds = _unwrapped(annotation)
    if len(bounds) > 1:
        reject_declaration(where, f"{' and '.join(map(repr, bounds))} exclude each other", "Keep one bound.")
    declared = Declaration(where, base, bounds[0] if bounds else None, node_of)
    for kind in NODES:
        node = kind.from_annotation(declared)
        if node is not None:
            return node
    return _reject_type(declared)


def _unwrapped(annotation: Any) -> tuple[Any, list[Any]]:
    """The type inside Annotated, type aliases and NewType, and the widths and bounds that stood around it."""
    bounds: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *metadata = get_args(annotation)
            for item in metadata:
                if isinstance(item, (Scalar, Bound)):
                    bounds.append(item)
                elif get_origin(item) is Annotated:  # Annotated[Mode, U8]: the alias itself is the metadata
                    bounds += [inner for inner in get_args(item)[1:] if isinstance(inner, Scalar)]
        elif (meant := without_alias(annotation)) is not annotation:
            annotation = meant
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        else:
            return annotation, bounds


def _reject_type(declared: Declaration) -> NoReturn:
    base = declared.base
    if isinstance(base, type) and issubclass(base, np.generic):
        alias = repr(NUMPY_TYPES[base]) if base in NUMPY_TYPES else "one of U8 … F64"
        declared.reject(f"{annotation_text(base)} is not a field type", f"Write {alias}.")
    if tuple in (base, declared.origin):
        declared.reject(
            f"{annotation_text(base)} has no layout", "Write Annotated[list[…], Shape(n)] or a nested Sample."
        )
    if isinstance(base, str) or hasattr(base, "__forward_arg__"):
        declared.reject(
            f"the name {annotation_text(base)} is not resolved",
            "Define that class first, or call model_rebuild() once it is.",
        )
    declared.reject(
        f"{annotation_text(base)} has no fixed place in memory",
        f"Use {', '.join(kind.written for kind in NODES if kind.written)}, or X | None of these.",
    )
