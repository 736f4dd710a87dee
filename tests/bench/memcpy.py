"""publish() of a 1080p frame compared with memcpy and np.copyto of the same bytes into rotating destinations."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import Result, alternate, at_least, main, medians, ratio

import zeroslot as zs
from zeroslot.cli.bench.measurements import FRAME, cores, domain
from zeroslot.cli.bench.samples import block_type
from zeroslot.cli.bench.workers import clock, pin
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


def measure(quick: bool) -> Iterator[Result]:
    """The bandwidth divided by that of memcpy, and by that of np.copyto."""
    rounds, turns = (7, 50) if quick else (31, 100)
    with Children() as children:
        child = children.start("memcpy", "the copier", task="copy", domain=domain(), core=cores()[0])
        slots = children.receive(child)["slots"]
        ways = ("publish", "memcpy", "in place", "copyto")
        found = alternate(rounds, {way: lambda way=way: children.request(child, [way, turns]) for way in ways})
    details = f"{medians(found)}; {slots} destinations"
    yield at_least(
        "publish(frame) of 6.2 MB: part of memcpy's bandwidth", 0.9, ratio(found, "memcpy", "publish"), details
    )
    other = ratio(found, "copyto", "publish")
    yield Result("the same: part of np.copyto's", "", f"{other:.2f}", None)
    other = ratio(found, "memcpy", "in place")
    yield Result("loan_uninit, sample.data[:] = frame, commit: part of memcpy's", "", f"{other:.2f}", None)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("{"):
        sys.exit(serve({"copy": copy}))
    main(measure)
