"""The longest pause of a publisher that grows under load, and what a publish costs otherwise.

A publisher with `grow=True` publishes a small sample every 100 us while two subscribers take all of them; now and then
comes a sample that fits no slot. The pause is the time of the publish that adds the pool: its memory is reserved and
touched in it. The figure beside it is the same publish once the pool is there, so the difference is the growth.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs
from tests.bench.harness import Effort, Row
from zeroslot.cli.figures import median

SIZES = (64 << 10, 1 << 20, 8 << 20)
READER = """
import sys
import numpy as np
import zeroslot as zs
with zs.Subscriber("bench/growth", reliable=True) as sub:
    for lease in sub:
        if lease.sample.last:
            print(sub.lost, sub.skipped, flush=True)
            break
"""


class Cloud(zs.Sample):
    last: zs.Bool
    points: NDArray[np.uint8]


def measure(effort: Effort) -> Iterator[Row]:
    """The pauses."""
    between = effort.of(2000, 10)
    options = {"depth": 4, "max_loans": 1, "spare_slots": 8, "on_full": "block"}
    with zs.Publisher("bench/growth", Cloud, grow=True, max_bytes=SIZES[-1] + 4096, **options) as pub:
        children = [
            subprocess.Popen([sys.executable, "-c", READER], stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
        pub.wait_for_subscribers(2)
        small = [publish(pub, 16) for _ in range(between)]
        for size in SIZES:
            first = publish(pub, size)
            later = [publish(pub, size) for _ in range(20)]
            small += [publish(pub, 16) for _ in range(between)]
            pool = pub.stats.pools[-1]
            what = f"publish that adds {pool.slot_count} slots of {pool.slot_capacity} bytes"
            yield Row("growth", what, "zeroslot", {"p50": first, "the same later": median(later)})
        yield Row("growth", "publish of 16 bytes", "zeroslot", {"p50": median(small), "max": max(small)})
        pub.publish(Cloud(last=True, points=np.zeros(1, np.uint8)))
        for child in children:
            lost, skipped = child.communicate()[0].split()
            yield Row("growth", "a subscriber", "zeroslot", {"lost": int(lost), "skipped": int(skipped)}, unit="")


def publish(pub: zs.Publisher[Cloud], size: int) -> float:
    """Nanoseconds of loan and commit of a sample with this many bytes."""
    time.sleep(0.0001)
    began = time.perf_counter_ns()
    pub.loan_uninit(points=size).commit()
    return time.perf_counter_ns() - began
