"""publish_many and take_many of 64-byte samples between two processes, compared with single calls and with memcpy.

The publisher waits for the subscriber (on_full="block"), so no sample is lost and the rate is that of the slower side.
`max_loans=64` lets it check once for as many samples; `depth=4096` lets each side work for a while on its own.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs
from tests.bench.harness import Effort, Row, Table, summary
from zeroslot.cli.bench.measurements import cores, domain
from zeroslot.cli.bench.workers import clock, pin
from zeroslot.cli.processes import Children, Parent, serve

BATCH = 4096


class Point(zs.Sample):
    """64 bytes."""

    number: zs.U64
    values: Annotated[NDArray[np.float64], zs.Shape(7)]


def publish(parent: Parent, *, domain: str, core: int | None) -> None:
    """Each order is (way, count): publish so many samples, or copy their bytes. The answer is the time of one."""
    pin(core)
    array = np.zeros(BATCH, zs.layout_of(Point).dtype)
    array["values"] = 1.0
    target = np.zeros(BATCH + 16, array.dtype)[16:]  # not as far into a page as `array`, which slows some memcpy down
    model = Point(number=1, values=np.ones(7))
    memcpy = ctypes.CDLL(None).memcpy
    memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    with zs.Publisher("points", Point, depth=4096, max_loans=64, on_full="block", domain=domain) as pub:

        def many(count: int) -> None:
            for _ in range(0, count, BATCH):
                pub.publish_many(array)

        def single(count: int) -> None:
            for _ in range(count):
                pub.publish(model)

        def copy(count: int) -> None:
            for _ in range(0, count, BATCH):
                memcpy(target.ctypes.data, array.ctypes.data, array.nbytes)

        ways: dict[str, Callable[[int], None]] = {"batches": many, "single": single, "memcpy": copy}
        parent.send("ready")
        while (order := parent.receive()) is not None:
            way, count = order
            began = clock()
            ways[way](count)
            parent.send((clock() - began) / count)


def take(parent: Parent, *, domain: str, core: int | None) -> None:
    """Each order is (way, count): take so many samples. The answer is the time of one, from the first to the last, and
    the mean number of samples in a batch.
    """
    pin(core)
    out = np.zeros(BATCH, zs.layout_of(Point).dtype)
    with zs.Subscriber("points", Point, reliable=True, domain=domain) as sub:

        def many(count: int) -> tuple[int, int]:
            sub.wait()
            began = clock()
            taken = calls = 0
            while taken < count:
                taken += len(sub.take_many(out=out, timeout=None))
                calls += 1
            return clock() - began, calls

        def single(count: int) -> tuple[int, int]:
            sub.wait()
            began = clock()
            for _ in range(count):
                _ = sub.take(timeout=None).sample.number
            return clock() - began, count

        ways = {"batches": many, "single": single}
        parent.send("ready")
        while (order := parent.receive()) is not None:
            way, count = order
            time, calls = ways[way](count)
            parent.send([time / count, count / calls, sub.lost])


def measure(effort: Effort) -> Iterator[Row]:
    """Nanoseconds of a sample, and millions a second."""
    rounds, count = effort.few * 3 + 1, effort.of(100, 1) * BATCH
    where = domain()
    with Children() as children:
        both = [
            children.start("tests.bench.parts.batches", task, task=task, domain=where, core=core)
            for task, core in zip(("publish", "take"), cores(), strict=True)
        ]
        publisher, subscriber = both
        for child in both:
            children.receive(child)

        def turn(way: str, count: int) -> float:
            subscriber.send([way, count])
            publisher.send([way, count])
            children.receive(publisher)
            time, _, lost = children.receive(subscriber)
            if lost:
                raise RuntimeError(f"{lost} samples were lost")
            return float(time)

        table = Table()
        for run in range(rounds):
            single = turn("single", max(count // 100, 1))
            many = turn("batches", count)
            copy = children.request(publisher, ["memcpy", count])
            if run:  # the first round warms up
                for name, time in (("publish_many, take_many", many), ("publish, take", single), ("memcpy, C", copy)):
                    table.add(name, [time])
    for name, runs, _ in table:
        figures, middles = summary(runs)
        shown = {
            "p50": figures["p50"],
            "low": figures["low"],
            "high": figures["high"],
            "million/s": 1e3 / figures["p50"],
        }
        yield Row("batches", name, "memcpy" if "memcpy" in name else "zeroslot", shown, runs=middles)


if __name__ == "__main__":
    sys.exit(serve({"publish": publish, "take": take}))
