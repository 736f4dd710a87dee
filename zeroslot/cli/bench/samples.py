"""The sample types that are measured."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import create_model

import zeroslot as zs


class Typed(zs.Sample):
    """64 bytes of scalars and small arrays."""

    stamp_ns: zs.U64
    acceleration: Annotated[NDArray[np.float64], zs.Shape(3)]
    angular_velocity: Annotated[NDArray[np.float64], zs.Shape(3)]
    number: zs.U64


@cache
def block_type(size: int) -> Any:
    """A type of `size` bytes: a number, and an array that fills the rest."""
    fields: dict[str, Any] = {
        "number": (zs.U64, ...),
        "data": (Annotated[NDArray[np.uint8], zs.Shape(size - 8)], ...),
    }
    return create_model(f"Block{size}", __base__=zs.Sample, **fields)
