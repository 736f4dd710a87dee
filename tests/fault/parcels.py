"""A sample type whose content shows whether a sample is whole."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs

WORDS = 32
_PATTERN = np.arange(1, WORDS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
_SALT = 0x5A5A5A5A5A5A5A5A


class Parcel(zs.Sample):
    """A number, and what follows from it."""

    number: zs.U64
    check: zs.U64 = 0
    words: Annotated[NDArray[np.uint64], zs.Shape(WORDS)] = np.zeros(WORDS, np.uint64)


def fill(sample: Any, number: int) -> None:
    """Write all that follows from `number`."""
    sample.number = number
    sample.words[:] = _PATTERN * np.uint64(number)
    sample.check = number ^ _SALT


def parcels(first: int, count: int) -> NDArray[Any]:
    """The samples with the numbers from `first` on, as records."""
    made = np.zeros(count, zs.layout_of(Parcel).dtype).view(np.recarray)
    for i, record in enumerate(made):
        fill(record, first + i)
    return np.asarray(made).view(zs.layout_of(Parcel).dtype)


def whole(sample: Any, number: int) -> bool:
    """Whether the sample is this one, and nothing of another."""
    return bool(
        sample.number == number
        and sample.check == number ^ _SALT
        and np.array_equal(sample.words, _PATTERN * np.uint64(number))
    )
