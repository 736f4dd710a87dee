from samples import FRAMES, Frame

import zeroslot as zs

with zs.Publisher("camera", Frame, on_full="block") as frames:
    frames.wait_for_subscribers(3)
    for number in range(1, FRAMES + 1):
        with frames.loan() as frame:
            frame.number = number
            frame.gray[:] = 0
            frame.gray[10 * number, 20 * number] = 255
    frames.flush()
