from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs

TOPIC = "camera/front"
FRAME_COUNT = 5


class Frame(zs.Sample):
    number: zs.U32
    image: Annotated[NDArray[np.uint8], zs.Shape(1080, 1920, 3)]
