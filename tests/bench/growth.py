"""The longest pause of a publisher that grows under load, and what a publish costs otherwise.

A publisher with `grow=True` publishes a small sample every 100 us while two subscribers take all of them; now and then
comes a sample that fits no slot. The pause is the time of the publish that adds the pool: its memory is reserved and
touched in it. The figure beside it is the same publish once the pool is there, so the difference is the growth.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from common import Result, as_ns, main, median
from numpy.typing import NDArray

import zeroslot as zs

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


def measure(quick: bool) -> Iterator[Result]:
    """The pauses."""
    between = 500 if quick else 5000
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
            yield Result(
                f"pause of the publish that adds {pool.slot_count} slots of {pool.slot_capacity} bytes",
                "",
                as_ns(first),
                None,
                f"the same publish once they are there: {as_ns(median(later))}",
            )
        yield Result("longest publish of 16 bytes", "", as_ns(max(small)), None, f"median {as_ns(median(small))}")
        pub.publish(Cloud(last=True, points=np.zeros(1, np.uint8)))
        missed = [child.communicate()[0].strip() for child in children]
        yield Result("samples that two subscribers lost and skipped", "0 0", "; ".join(missed), set(missed) == {"0 0"})


def publish(pub: zs.Publisher[Cloud], size: int) -> float:
    """Nanoseconds of loan and commit of a sample with this many bytes."""
    time.sleep(0.0001)
    began = time.perf_counter_ns()
    pub.loan_uninit(points=size).commit()
    return time.perf_counter_ns() - began


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main(measure)
