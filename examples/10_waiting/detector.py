import numpy as np
from samples import FRAMES, Frame, Spot

import zeroslot as zs

with (
    zs.Publisher("spots", Spot, on_full="block") as spots,
    zs.Subscriber("camera", Frame, reliable=True) as frames,
):
    spots.wait_for_subscribers(2)
    for lease in frames:
        frame = lease.sample
        row, column = np.unravel_index(int(frame.gray.argmax()), frame.gray.shape)
        spots.send(number=frame.number, row=int(row), column=int(column))
        if frame.number == FRAMES:
            break
    spots.flush()
