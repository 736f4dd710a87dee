from __future__ import annotations
from typing import Literal
from zeroslot.layout import StructLayout
def to_idl(layout: StructLayout, form: Literal["image", "message"] = "image") -> str:
    raise NotImplementedError
def to_c(layout: StructLayout) -> str:
    raise NotImplementedError
