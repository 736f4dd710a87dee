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
from common import Result, alternate, at_least, main, medians, ratio
from numpy.typing import NDArray

import zeroslot as zs
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


def measure(quick: bool) -> Iterator[Result]:
    """Millions of samples a second."""
    rounds, count = (7, 200 * BATCH) if quick else (21, 500 * BATCH)
    where = domain()
    with Children() as children:
        publisher = children.start("batches", "the publisher", task="publish", domain=where, core=cores()[0])
        children.receive(publisher)
        subscriber = children.start("batches", "the subscriber", task="take", domain=where, core=cores()[1])
        children.receive(subscriber)
        sizes: list[float] = []

        def both(way: str, count: int) -> float:
            subscriber.send([way, count])
            publisher.send([way, count])
            children.receive(publisher)
            time, size, lost = children.receive(subscriber)
            if way == "batches":
                sizes.append(size)
            if lost:
                raise RuntimeError(f"{lost} samples were lost")
            return float(time)

        found = alternate(
            rounds,
            {
                "batches": lambda: both("batches", count),
                "single": lambda: both("single", count // 100),
                "memcpy": lambda: children.request(publisher, ["memcpy", count]),
            },
        )
    best, middle = 1e3 / min(found["batches"]), 1e3 / sorted(found["batches"])[len(found["batches"]) // 2]
    details = f"{medians(found)}; {sum(sizes) / len(sizes):.0f} samples a batch"
    yield at_least("millions of 64 B samples a second, publish_many to take_many", 20, middle, details)
    yield Result("the same, best round", "", f"{best:.1f}", None)
    yield Result("the same: times single publish and take", "", f"{ratio(found, 'single', 'batches'):.0f}", None)
    yield Result("the same: part of memcpy's rate", "", f"{ratio(found, 'memcpy', 'batches'):.2f}", None)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("{"):
        sys.exit(serve({"publish": publish, "take": take}))
    main(measure)
