from itertools import islice

import numpy as np
from frame import FRAME_COUNT, TOPIC, Frame

import zeroslot as zs

before = None
with zs.Subscriber(TOPIC, Frame, reliable=True, max_leases=2) as sub:
    for lease in islice(sub, FRAME_COUNT):
        image = lease.sample.image
        lease.release()  # the array keeps its frame without the lease
        if before is not None:
            print(f"{np.count_nonzero(image != before)} values differ")
        before = image

if before is not None:
    print(f"closed, and still readable: {before.shape}, brightest {before.max()}")
