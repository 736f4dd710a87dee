"""Samples of which every byte was written in place: from the commit to the return of `take`.

Even if the commit is 20 us after the last byte, this is slower for 8 MB than for 64 bytes, because the fill has evicted
everything else from the processor's caches and page tables. flag.c does the same with one flag and without the library;
its figure shows the part of the machine.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

from tests.bench import floors
from tests.bench.harness import Effort, Row, Table, summary
from zeroslot.cli.bench.measurements import SETTLE_NS, filled, fillers
from zeroslot.cli.figures import as_bytes, median
from zeroslot.cli.processes import Children

SMALL, LARGE = 64, 8 << 20


def measure(effort: Effort) -> Iterator[Row]:
    """64 bytes and 8 MiB, committed 20 us after the last byte and at once, and a bare flag."""
    table = Table()
    count = effort.of(100, 3)
    program = floors.program("flag", os.environ["ZEROSLOT_BENCH_DIR"])
    for settle_ns in (SETTLE_NS, 0):
        when = "committed 20 us later" if settle_ns else "committed at once"
        with Children() as children, Children() as others:
            sides = {
                SMALL: (children, fillers(children, SMALL, settle_ns)),
                LARGE: (others, fillers(others, LARGE, settle_ns, name="large")),
            }
            for run in range(effort.few + 1):
                for size, (owner, both) in sides.items():
                    times = filled(owner, both, count)
                    if run:  # the first round warms up
                        table.add((when, size, "zeroslot"), times)
                    if run and settle_ns:
                        table.add((when, size, "a flag, C"), [flag(program, size, count)])
    for (when, size, name), runs, _ in table:
        figures, middles = summary(runs)
        other = [median(run) for run in table.times[when, SMALL, name]]
        figures["times 64 B"] = median([one / small for one, small in zip(middles, other, strict=True)])
        yield Row("filled", f"{when}, {as_bytes(size)}", name, figures, runs=middles)


def flag(program: str, size: int, count: int) -> float:
    """The median that the C program prints."""
    done = subprocess.run([program, str(size), str(count)], check=True, capture_output=True)
    return float(done.stdout)
