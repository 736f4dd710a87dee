from typing import Any

from numpy.typing import NDArray

import zeroslot as zs


class Point(zs.Sample):
    x: zs.F32
    y: zs.F32
    z: zs.F32


class Cloud(zs.Sample):
    stamp_ns: zs.U64
    frame: str = "map"  # no bound: each sample has as much of it as it needs
    points: list[Point]
    intensity: NDArray[Any]  # of any shape and dtype
