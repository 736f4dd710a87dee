from itertools import islice

import numpy as np
from pipeline import BATCHES, Batch, Detections

import zeroslot as zs

with (
    zs.Publisher("pipeline/detections", Detections, on_full="block") as pub,
    zs.Subscriber("pipeline/batches", Batch, reliable=True) as sub,
):
    pub.wait_for_subscribers()
    for lease in islice(sub, BATCHES):
        # A tensor over the publisher's memory. With torch or jax: see SAMPLES.md.
        pixels = np.from_dlpack(lease.sample.pixels)
        scores = pixels.mean(axis=(2, 3))  # stands for a model

        with pub.loan() as detections:
            detections.batch = lease.sample.number
            zs.resize(detections, found=len(scores))
            found = np.asarray(detections.found)  # an array in place, with the fields of Detection
            found["image"] = np.arange(len(scores))
            found["label"] = scores.argmax(axis=1)
            found["score"] = scores.max(axis=1)
        print(f"batch {lease.sample.number}: {pixels.shape}, a copy: {pixels.flags.owndata}")
    pub.flush()
