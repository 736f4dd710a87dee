"""What a wait costs a processor, and what it saves: latency and CPU time of a subscriber at several rates.

    python -m tests.bench.spinning

`adaptive` is the default of `Subscriber`; `always` spins 20 us before each sleep, `never` sleeps at once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import zeroslot as zs
from zeroslot.cli.bench.measurements import cores, domain
from zeroslot.cli.bench.samples import Typed
from zeroslot.cli.bench.workers import pin
from zeroslot.cli.figures import as_time, median

KINDS: dict[str, float | None] = {"adaptive": None, "always": 20, "never": 0}
PERIODS_US = (5, 100, 1000, 10_000)


def publish(core: int | None, where: str, period_us: int, count: int) -> None:
    """Publish a sample in each period, by the clock, and stay until stdin ends."""
    pin(core)
    with zs.Publisher("spinning", Typed, domain=where) as publisher:
        publisher.wait_for_subscribers()
        due = time.monotonic_ns()
        for _ in range(count):
            due += period_us * 1000
            while time.monotonic_ns() < due:
                pass
            publisher.loan_uninit().commit()
        sys.stdin.read()


def main() -> None:
    """Print a row for each rate and each kind of wait."""
    root = Path(__file__).parents[2]
    print("| a sample each | wait | latency | CPU |\n| ---: | --- | ---: | ---: |")
    first, second = cores()
    pin(second)
    for period_us in PERIODS_US:
        count = max(50, 500_000 // period_us)
        for name, spin_us in KINDS.items():
            call = f"from tests.bench.spinning import publish; publish({first}, {domain()!r}, {period_us}, {count})"
            child = subprocess.Popen([sys.executable, "-c", call], cwd=root, stdin=subprocess.PIPE)
            with child, zs.Subscriber("spinning", Typed, spin_us=spin_us, domain=domain()) as subscriber:
                waits: list[float] = []
                began, used = time.monotonic_ns(), 0
                while len(waits) + subscriber.lost < count:
                    lease = subscriber.take(None)
                    if lease is not None:
                        if not waits:
                            began, used = time.monotonic_ns(), time.process_time_ns()
                        waits.append(time.monotonic_ns() - lease.published_ns)
                used, elapsed = time.process_time_ns() - used, time.monotonic_ns() - began
                subscriber.close()
            busy = 100 * used / elapsed
            print(f"| {period_us} us | {name} | {as_time(median(waits))} | {busy:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
