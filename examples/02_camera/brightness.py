from itertools import islice

from frame import FRAME_COUNT, TOPIC, Frame

import zeroslot as zs

with zs.Subscriber(TOPIC, Frame, reliable=True, max_leases=2) as sub:
    for lease in islice(sub, FRAME_COUNT):
        image = lease.sample.image
        print(f"frame {lease.sample.number}: mean {image.mean():.1f}, a copy: {image.flags.owndata}")
