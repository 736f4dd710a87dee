"""The sample types of these tests, for children to import."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs


class Tick(zs.Sample):
    """A number and the name of its sender."""

    number: zs.U64
    sender: Annotated[str, zs.MaxBytes(16)] = ""


class Imu(zs.Sample):
    stamp_ns: zs.U64
    accel: Annotated[NDArray[np.float64], zs.Shape(3)]
    frame: Annotated[str, zs.MaxBytes(16)] = "imu"


class Frame(zs.Sample):
    """Large enough that a page of it is never touched by accident."""

    number: zs.U64
    pixels: Annotated[NDArray[np.uint8], zs.Shape(64, 1024)]


class Point(zs.Sample):
    x: zs.F32 = 0.0
    y: zs.F32 = 0.0


class Cloud(zs.Sample):
    points: Annotated[list[Point], zs.MaxLen(1000)] = []  # noqa: RUF012  # pydantic copies it


class Pixels(zs.Sample):
    """An image at the start of the slot, which has the alignment that libraries of arrays want."""

    image: Annotated[NDArray[np.float32], zs.Shape(64, 64)]


class Message(zs.Sample):
    """Fields of variable size."""

    number: zs.U64
    text: str
    values: NDArray[np.float64]
    points: list[Point]


class Scan(zs.Sample):
    """An array with a bound, one of times, and one of records."""

    cloud: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(1000), 3)]
    times: Annotated[NDArray[np.datetime64], zs.Shape(zs.UpTo(4), dtype="datetime64[ns]")]
    points: Annotated[NDArray[np.void], zs.Shape(zs.UpTo(4), dtype=Point)]
