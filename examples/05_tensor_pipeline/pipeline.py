from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs

BATCHES = 3


class Batch(zs.Sample):
    number: zs.U32
    pixels: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(16), 3, 32, 32)]  # up to 16 images


class Detection(zs.Sample):
    image: zs.U32
    label: zs.U32
    score: zs.F32


class Detections(zs.Sample):
    batch: zs.U32
    found: Annotated[list[Detection], zs.MaxLen(16)]
