from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs

FRAMES = 5


class Frame(zs.Sample):
    number: zs.U32
    gray: Annotated[NDArray[np.uint8], zs.Shape(120, 160)]


class Spot(zs.Sample):
    number: zs.U32
    row: zs.U32
    column: zs.U32
