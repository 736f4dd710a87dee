"""Arrays of which a dimension has a bound and no length: `Annotated[NDArray[np.float32], Shape(UpTo(200_000), 3)]`.

Why each such dimension has its length in the sample, and the elements are in C order of the lengths: the array is then
contiguous whatever its shape is, and any dimension may have a bound. A view is trimmed to what is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zeroslot._core import binding
from zeroslot.types.nodes.arrays import (
    Array,
    Shape,
    UpTo,
    array_annotation,
    declared_element,
    nested_lists_of,
    stored_element,
)
from zeroslot.types.nodes.base import (
    Declaration,
    Declarator,
    Field,
    Inner,
    Node,
    Record,
    StoredNode,
    TypeWriter,
    place,
)
from zeroslot.types.nodes.lists import BoundedList, FixedList
from zeroslot.types.nodes.scalars import SCALARS


@dataclass(frozen=True)
class BoundedArray(Record):
    """The length of each dim that has a bound, as u32, and room for the elements of the largest array."""

    item: Node
    dims: tuple[int | UpTo, ...]

    @property
    def kind(self) -> str:
        """That of its elements."""
        return self.item.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """The largest."""
        return tuple(dim.limit if isinstance(dim, UpTo) else dim for dim in self.dims)

    @property
    def is_bounded(self) -> tuple[bool, ...]:
        """Whether a dim has a bound, for each."""
        return tuple(isinstance(dim, UpTo) for dim in self.dims)

    @cached_property
    def members(self) -> tuple[Field, ...]:
        """Lengths and elements. Elements have dims only where those are the same in every sample."""
        count = sum(self.is_bounded)
        lengths = ("count", SCALARS["u32"]) if count == 1 else ("counts", Array(SCALARS["u32"], (count,)))
        dims = self.shape if not any(self.is_bounded[1:]) else (math.prod(self.shape),)
        return place([lengths, ("items", Array(self.item, dims))])

    @property
    def nesting(self) -> int:
        """A value, not a struct; its elements may be structs."""
        return self.item.nesting

    @property
    def _written(self) -> list[str]:
        return [f"<={dim.limit}" if isinstance(dim, UpTo) else str(dim) for dim in self.dims]

    @property
    def text(self) -> str:
        return f"{self.item.text}[{','.join(self._written)}]"

    @property
    def tag(self) -> str:
        dims = (f"upto{dim.limit}" if isinstance(dim, UpTo) else str(dim) for dim in self.dims)
        return "_".join([self.item.tag, *dims])

    @property
    def canonical(self) -> str:
        return f"array({','.join(self._written)})[{self.item.canonical}]"

    @classmethod
    def from_annotation(cls, declared: Declaration) -> BoundedArray | None:
        is_array = np.ndarray in (declared.base, declared.origin)
        if not is_array or not isinstance(declared.bound, Shape) or not declared.bound.has_bounds:
            return None
        return cls(declared_element(declared), declared.bound.dims)

    @classmethod
    def from_schema(cls, stored: StoredNode) -> BoundedArray | None:
        dims = stored.facts.get("shape")
        if not isinstance(dims, list) or not any(isinstance(dim, dict) for dim in dims):
            return None
        # As a shape of lengths, which checks that these are dims.
        shape = stored.dims([dim.get("up_to") if isinstance(dim, dict) else dim for dim in dims])
        item = stored_element(stored)
        if item is None:
            return None
        return cls(
            item, tuple(UpTo(dim) if isinstance(given, dict) else dim for given, dim in zip(dims, shape, strict=True))
        )

    def annotation(self, sample_type_of: Callable[[Record], type]) -> Any:
        return array_annotation(self.item, self.dims, sample_type_of)

    def json_schema(self) -> dict[str, Any]:
        shape = [{"up_to": dim.limit} if isinstance(dim, UpTo) else dim for dim in self.dims]
        return {**nested_lists_of(self.item, self.dims), "x-zeroslot": {"kind": self.item.kind, "shape": shape}}

    def declare(self, writer: TypeWriter) -> Declarator:
        return self._as_sequences().declare(writer) if writer.message else writer.helper(self)

    def _as_sequences(self) -> Node:
        """What the message form of IDL has: lists in lists, and an array of the last dims that have no bound."""
        last = max(i for i, bounded in enumerate(self.is_bounded) if bounded)
        node: Node = Array(self.item, self.shape[last + 1 :]) if self.shape[last + 1 :] else self.item
        for dim in reversed(self.dims[: last + 1]):
            node = BoundedList(node, dim.limit) if isinstance(dim, UpTo) else FixedList(node, dim)
        return node

    def codec(self, codec_of_sample: Callable[[Record], binding.Codec]) -> binding.Codec:
        dims = tuple(-dim.limit if isinstance(dim, UpTo) else dim for dim in self.dims)
        return binding.BoundedArrayCodec(self.item.dtype, dims, self.members[1].offset, self.size)

    def reading(self, published: Node, inner: Inner) -> Node | None:
        """An array of the same elements whose dims are within these."""
        if not isinstance(published, (Array, BoundedArray)) or published.item != self.item:
            return None
        fits = len(published.dims) == len(self.dims) and all(
            dim == here or (isinstance(here, UpTo) and _limit(dim) <= here.limit)
            for dim, here in zip(published.dims, self.dims, strict=True)
        )
        return published if fits else None


def _limit(dim: int | UpTo) -> int:
    return dim.limit if isinstance(dim, UpTo) else dim
