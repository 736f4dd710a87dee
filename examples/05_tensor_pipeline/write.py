from itertools import islice

import numpy as np
from pipeline import BATCHES, Detections

import zeroslot as zs

with zs.Subscriber("pipeline/detections", Detections, reliable=True) as sub:
    for lease in islice(sub, BATCHES):
        found = np.asarray(lease.sample.found)  # an array in place, with the fields of Detection
        best = found[found["score"].argmax()]
        labels = np.bincount(found["label"], minlength=3)
        print(f"batch {lease.sample.batch}: {len(found)} images, labels {labels}, best score {best['score']:.2f}")
