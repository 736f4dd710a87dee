"""publish() of a 1080p frame compared with memcpy and np.copyto of the same bytes into rotating destinations."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import zeroslot as zs
from tests.bench.harness import Effort, Row, Table, summary, turn_about
from zeroslot.cli.bench.measurements import FRAME, cores, domain
from zeroslot.cli.bench.samples import block_type
from zeroslot.cli.bench.workers import clock, pin
from zeroslot.cli.figures import median
from zeroslot.cli.processes import Children, Parent, serve

DEPTH = 8


def copy(parent: Parent, *, domain: str, core: int | None) -> None:
    """Each order is (way, number of turns); the answer is the nanoseconds of one turn."""
    pin(core)
    sample_type: Any = block_type(FRAME + 8)
    source = np.ones(FRAME, np.uint8)
    model = sample_type(number=1, data=source)
    with zs.Publisher("memcpy", sample_type, depth=DEPTH, domain=domain) as publisher:
        count = publisher.slot_count
        # Shared memory, too, so that the pages are of the same kind; touched before.
        warm = [np.frombuffer(mmap.mmap(-1, FRAME), np.uint8) for _ in range(count)]
        for target in warm:
            target.fill(0)
        addresses = [target.ctypes.data for target in warm]
        memcpy = ctypes.CDLL(None).memcpy
        memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        origin = source.ctypes.data

        def publish(turns: int) -> None:
            for _ in range(turns):
                publisher.publish(model)

        def in_place(turns: int) -> None:
            for _ in range(turns):
                loan = publisher.loan_uninit()
                loan.sample.data[:] = source
                loan.commit()

        def with_memcpy(turns: int) -> None:
            for turn in range(turns):
                memcpy(addresses[turn % count], origin, FRAME)

        def with_copyto(turns: int) -> None:
            for turn in range(turns):
                np.copyto(warm[turn % count], source)

        ways = {"publish": publish, "in place": in_place, "memcpy": with_memcpy, "copyto": with_copyto}
        parent.send({"slots": count})
        while (order := parent.receive()) is not None:
            way, turns = order
            began = clock()
            ways[way](turns)
            parent.send((clock() - began) / turns)


def measure(effort: Effort) -> Iterator[Row]:
    """Nanoseconds of each way, and its part of memcpy's bandwidth."""
    table = Table()
    turns = effort.of(100, 2)
    with Children() as children:
        child = children.start("tests.bench.parts.frames", "copier", task="copy", domain=domain(), core=cores()[0])
        children.receive(child)
        for run in range(effort.few * 3 + 1):
            for way in turn_about(run, ["publish", "memcpy", "in place", "copyto"]):
                each = children.request(child, [way, turns])
                if run:  # the first round warms up
                    table.add(way, [each])
    floor = [times[0] for times in table.times["memcpy"]]
    for way, runs, _ in table:
        figures, middles = summary(runs)
        part = median([one / other for one, other in zip(floor, middles, strict=True)])
        shown = {"p50": figures["p50"], "low": figures["low"], "high": figures["high"], "part of memcpy": part}
        yield Row(
            "frames", f"6.2 MB, {way}", "zeroslot" if way in {"publish", "in place"} else way, shown, runs=middles
        )


if __name__ == "__main__":
    sys.exit(serve({"copy": copy}))
