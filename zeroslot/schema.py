from __future__ import annotations
from typing import Any
from zeroslot.layout import StructLayout
def to_json_schema(layout: StructLayout) -> dict[str, Any]:
    raise NotImplementedError
