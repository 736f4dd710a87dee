"""Make idl/vectors from what the library does: `python -m tests.compat.make_vectors` writes the files.

`test_vectors.py` makes the same in memory and compares, so a change of the format cannot go unnoticed. Everything that
a clock, a random number or a process id would decide is fixed, so the result is the same on every machine.
"""

from __future__ import annotations

import enum
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs

VECTORS = Path(__file__).parents[2] / "idl" / "vectors"

# At least one declaration for each kind; `make` is a value of the type.
TYPES = {
    "Unit": """
        class Unit(zs.Sample):
            pass

        make = Unit()
    """,
    "Numbers": """
        class Numbers(zs.Sample):
            u8: zs.U8
            u16: zs.U16
            u32: zs.U32
            u64: zs.U64
            i8: zs.I8
            i16: zs.I16
            i32: zs.I32
            i64: zs.I64
            f16: zs.F16
            f32: zs.F32
            f64: zs.F64
            flag: zs.Bool

        make = Numbers(u8=1, u16=2, u32=3, u64=4, i8=-1, i16=-2, i32=-3, i64=-4, f16=0.5, f32=1.5, f64=-2.5, flag=True)
    """,
    "Enums": """
        class Mode(enum.IntEnum):
            RUN = 7
            STOP = -1

        class Enums(zs.Sample):
            mode: Mode
            small: Annotated[Mode, zs.I8]
            choice: Literal[3, 1]

        make = Enums(mode=Mode.RUN, small=Mode.STOP, choice=3)
    """,
    "Texts": """
        class Texts(zs.Sample):
            text: Annotated[str, zs.MaxBytes(5)]
            blob: Annotated[bytes, zs.MaxBytes(2)]

        make = Texts(text="a\\u00e9", blob=b"\\xff")
    """,
    "Arrays": """
        class Arrays(zs.Sample):
            grid: Annotated[NDArray[np.int16], zs.Shape(2, 3)]
            flags: Annotated[NDArray[np.bool_], zs.Shape(3)]
            half: Annotated[NDArray[np.float16], zs.Shape(1)]

        make = Arrays(
            grid=np.array([[1, 2, 3], [4, 5, 6]], np.int16),
            flags=np.array([True, False, True]),
            half=np.array([1.0], np.float16),
        )
    """,
    "Lists": """
        class Lists(zs.Sample):
            fixed: Annotated[list[zs.U16], zs.Shape(3)]
            bounded: Annotated[list[zs.F64], zs.MaxLen(2)]
            tiny: Annotated[list[zs.U8], zs.MaxLen(3)]

        make = Lists(fixed=[1, 2, 3], bounded=[0.5], tiny=[9, 8])
    """,
    "Optionals": """
        class Optionals(zs.Sample):
            number: zs.U32 | None
            text: Annotated[str, zs.MaxBytes(3)] | None
            absent: zs.U64 | None

        make = Optionals(number=1, text="x", absent=None)
    """,
    "Nested": """
        class Point(zs.Sample):
            x: zs.F32
            y: zs.F32

        class Shape(zs.Sample):
            name: Annotated[str, zs.MaxBytes(4)]
            origin: Point
            corners: Annotated[list[Point], zs.MaxLen(2)]

        class Nested(zs.Sample):
            stamp_ns: zs.U64
            shapes: Annotated[list[Shape], zs.Shape(2)]
            last: Shape | None
            rows: Annotated[list[Annotated[list[zs.U8], zs.MaxLen(2)]], zs.MaxLen(2)]

        make = Nested(
            stamp_ns=5,
            shapes=[
                Shape(name="a", origin=Point(x=1, y=2), corners=[]),
                Shape(name="bc", origin=Point(x=3, y=4), corners=[Point(x=5, y=6)]),
            ],
            last=None,
            rows=[[1], [2, 3]],
        )
    """,
}


def declared(name: str) -> tuple[type[zs.Sample], zs.Sample, list[str]]:
    """A type of TYPES, a value of it, and the lines of the declaration."""
    lines = [line[8:] for line in TYPES[name].strip("\n").splitlines()]
    scope: dict[str, Any] = {
        "zs": zs, "np": np, "enum": enum, "Annotated": Annotated, "Literal": Literal, "NDArray": NDArray,
        "__name__": __name__,
    }  # fmt: skip  # the names that a declaration may use
    exec("\n".join(lines), scope)
    value = scope["make"]
    lines = lines[: next(i for i, line in enumerate(lines) if line.startswith("make ="))]
    while not lines[-1].strip():
        lines.pop()
    return type(value), value, lines


def image_of(value: zs.Sample) -> bytes:
    """The bytes of a sample as a publisher writes them."""
    with zs.Publisher("vector", type(value)) as pub, zs.Subscriber("vector", type(value)) as sub:
        pub.publish(value)
        lease = sub.take()
        assert lease is not None
        return bytes(lease)


def types() -> list[dict[str, Any]]:
    """types.json: how a declaration becomes bytes, a canonical text, a hash and a JSON Schema."""
    found = []
    for name in TYPES:
        cls, value, lines = declared(name)
        layout = zs.layout_of(cls)
        found.append(
            {
                "name": name,
                "declaration": lines,
                "size": layout.size,
                "alignment": layout.alignment,
                "canonical": layout.canonical,
                "type_hash": layout.type_hash.hex(),
                "schema": layout.to_json_schema(),
                "value": value.model_dump(mode="json"),
                "image": image_of(value).hex(),
            }
        )
    return found


def files() -> dict[str, bytes]:
    """The files of idl/vectors by name."""
    return {"types.json": as_json(types())}


def as_json(content: object) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def main() -> None:
    """Write idl/vectors, with a discovery root of its own for the publishers that make it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        os.environ["ZEROSLOT_DIR"] = root
        VECTORS.mkdir(exist_ok=True)
        for name, content in files().items():
            (VECTORS / name).write_bytes(content)


if __name__ == "__main__":
    main()
