"""Families of dtypes: what `NDArray[np.datetime64]`, `NDArray[np.floating]` and `NDArray[Any]` leave to each sample.

Why a family is stored and not only checked by the publisher: a subscriber that declares times must not get numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zeroslot.types.nodes.scalars import Scalar


@dataclass(frozen=True)
class Family:
    """The dtypes whose `kind` numpy calls by one of `letters`. Records are of the kind V."""

    kind: str  # what the schema calls it
    numpy_type: Any
    letters: str
    default: str  # the dtype of an array without items, and of a list of Python objects

    @property
    def dtype(self) -> np.dtype[Any]:
        """See `default`."""
        return np.dtype(self.default)

    def includes(self, other: Scalar | Family) -> bool:
        """Whether each dtype of the other is one of these."""
        letters = other.letters if isinstance(other, Family) else other.dtype.kind
        return set(letters) <= set(self.letters)


ANY = Family("any", Any, "biufcSUVMm", "u1")
FAMILIES: dict[str, Family] = {
    family.kind: family
    for family in (
        ANY,
        Family("number", np.number, "iufc", "f8"),
        Family("integer", np.integer, "iu", "i8"),
        Family("signedinteger", np.signedinteger, "i", "i8"),
        Family("unsignedinteger", np.unsignedinteger, "u", "u8"),
        Family("inexact", np.inexact, "fc", "f8"),
        Family("floating", np.floating, "f", "f8"),
        Family("complexfloating", np.complexfloating, "c", "c16"),
        Family("datetime64", np.datetime64, "M", "M8"),
        Family("timedelta64", np.timedelta64, "m", "m8"),
        Family("bytes", np.bytes_, "S", "S1"),
        Family("str", np.str_, "U", "U1"),
        Family("void", np.void, "V", "V1"),
    )
}
FAMILY_OF: dict[Any, Family] = {family.numpy_type: family for family in FAMILIES.values()} | {np.generic: ANY}
