"""All kinds of nodes, in the order in which `node_of` offers them an annotation or a part of a stored schema."""

from __future__ import annotations

from zeroslot.types.layout import Layout
from zeroslot.types.nodes.arrays import Array
from zeroslot.types.nodes.base import Node
from zeroslot.types.nodes.bounded_arrays import BoundedArray
from zeroslot.types.nodes.enums import Enumeration
from zeroslot.types.nodes.lists import BoundedList, FixedList
from zeroslot.types.nodes.optional import Optional
from zeroslot.types.nodes.scalars import Scalar
from zeroslot.types.nodes.text import Blob, Text
from zeroslot.types.nodes.variable import VariableArray, VariableBlob, VariableList, VariableText

# Optional and Enumeration come before Scalar, which refuses everything else that a width stands on; the kinds of
# variable size come before those that refuse to be without a bound.
NODES: tuple[type[Node], ...] = (
    Optional,
    Enumeration,
    Scalar,
    VariableText,
    VariableBlob,
    VariableArray,
    VariableList,
    Text,
    Blob,
    BoundedArray,
    Array,
    FixedList,
    BoundedList,
    Layout,
)
