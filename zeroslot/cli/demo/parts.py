"""The processes of the demo: a publisher or a subscriber of one topic, which does what the parent sends.

Why the depths: a subscriber's process may not run for a while on a busy machine, and the demo shall show what
zeroslot loses, not what the machine cannot do. An IMU sample is small, so four seconds of them are kept; of frames as
many as fit well, at most half a second.

Why a publisher that is late catches up a little and no more: the rate holds on average, and no burst comes that no
sensor sends.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zeroslot as zs
from zeroslot.cli.demo.samples import CAMERA_HZ, IMU_HZ, Frame, Imu, fill_frame, fill_imu, frame_is_whole, imu_is_whole
from zeroslot.cli.figures import Histogram
from zeroslot.cli.processes import Parent, serve

REPORT_NS = 250_000_000
SUBSCRIBERS = 2
MAX_LEASES = 2
CATCH_UP = 4  # periods
SHARED_MEMORY = "/dev/shm"  # noqa: S108  # where POSIX shared memory is; only its free space is read


@dataclass(frozen=True)
class Source:
    """One of the demo's topics."""

    topic: str
    sample_type: type[Any]
    rate_hz: float
    fill: Callable[[Any, int], None]
    is_whole: Callable[[Any, int], bool]
    most_kept: int
    least_kept: int

    @property
    def sample_bytes(self) -> int:
        """Size of one sample."""
        return zs.layout_of(self.sample_type).size

    def depth(self) -> int:
        """How many samples are kept: as many as requested, where a quarter of the free shared memory holds them."""
        free = os.statvfs(SHARED_MEMORY)
        fitting = free.f_bavail * free.f_frsize // 4 // self.sample_bytes
        return max(self.least_kept, min(self.most_kept, fitting))


SOURCES = {
    "imu": Source("demo/imu", Imu, IMU_HZ, fill_imu, imu_is_whole, 4096, 64),
    "camera": Source("demo/camera", Frame, CAMERA_HZ, fill_frame, frame_is_whole, 30, 2),
}


def publish(parent: Parent, *, source: str, domain: str) -> None:
    """Publish at the source's rate, from "go" to the next order; stay until there are no more."""
    about = SOURCES[source]
    period_ns = int(1e9 / about.rate_hz)
    spare = SUBSCRIBERS * MAX_LEASES
    with zs.Publisher(
        about.topic, about.sample_type, depth=about.depth(), max_loans=1, spare_slots=spare, domain=domain, name=source
    ) as publisher:
        publisher.wait_for_subscribers(SUBSCRIBERS)
        parent.send({"is": "ready"})
        parent.receive()
        due = reported = time.monotonic_ns()
        while not parent.has_order:
            with publisher.loan_uninit() as sample:
                about.fill(sample, publisher.sequence + 1)
            now = time.monotonic_ns()
            if now - reported >= REPORT_NS:
                reported = now
                parent.send({"is": "published", "count": publisher.sequence})
            due = max(due + period_ns, now - CATCH_UP * period_ns)
            time.sleep(max(due - now, 0) / 1e9)
        parent.send({"is": "done", "count": publisher.sequence})
        parent.receive()
        parent.receive()


def subscribe(parent: Parent, *, source: str, domain: str) -> None:
    """Take and prove every sample until the parent says how many were published and all of them are accounted for."""
    about = SOURCES[source]
    recent = Histogram()
    torn = 0
    last = None
    reported = time.monotonic_ns()

    def report(what: str) -> None:
        stats = subscriber.stats
        parent.send({"is": what, "taken": stats.taken, "lost": stats.lost, "torn": torn, "latency": recent.pairs()})
        recent.clear()

    with zs.Subscriber(about.topic, about.sample_type, max_leases=MAX_LEASES, domain=domain, name=source) as subscriber:
        while last is None or subscriber.stats.taken + subscriber.stats.lost < last:
            with_wait = 0.1 if last is None else 0.01
            lease = subscriber.take(timeout=with_wait)
            now = time.monotonic_ns()
            if lease is not None:
                recent.add(now - lease.published_ns)
                torn += not about.is_whole(lease.sample, lease.sequence)
                lease.release()
                del lease
            if now - reported >= REPORT_NS:
                reported = now
                report("taken")
            if last is None and parent.has_order:
                order = parent.receive()
                if order is None:
                    return
                last = order["published"]
        report("done")


if __name__ == "__main__":
    sys.exit(serve({"publish": publish, "subscribe": subscribe}))
