"""8 MB in place compared with 64 bytes in place; the types differ only in the length of an array.

The bar is on a ping-pong in which the first and the last byte are written and read.

The second figure is for samples of which every byte was written: the time from `published_ns` to the return of `take`.
Even if the commit is 20 us after the last byte, this is slower for 8 MB, because the fill has evicted everything else
from the processor's caches and page tables. flag.c does the same with one flag and without the library; its figure
shows the part of the machine. So there is no bar on this figure.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import Result, alternate, at_most, main, median, medians, ratio

from zeroslot.cli.bench.measurements import SETTLE_NS, filled, fillers, pingpong, players
from zeroslot.cli.processes import Children

SMALL, LARGE = 64, 8 << 20
FILLS = 100


def measure(quick: bool) -> Iterator[Result]:
    """The ratios."""
    rounds, count = (7, 4000) if quick else (21, 10000)
    with Children() as children, Children() as others:
        small = players(children, size=SMALL)
        large = players(others, size=LARGE, name="large")
        found = alternate(
            rounds,
            {
                "8 MiB": lambda: median(pingpong(others, large, count)),
                "64 B": lambda: median(pingpong(children, small, count)),
            },
        )
    what = "hand-over of 8 MiB in place, ends written and read: times 64 B"
    yield at_most(what, 1.2, ratio(found, "8 MiB", "64 B"), medians(found))
    with tempfile.TemporaryDirectory() as directory:
        program = build(Path(directory))
        found = full(rounds, SETTLE_NS, program)
    what = "commit to take of 8 MiB, every byte filled 20 us before: times 64 B"
    yield Result(what, "", f"{ratio(found, '8 MiB', '64 B'):.2f}", None, medians(found))
    floor = f"{ratio(found, 'C flag 8 MiB', 'C flag 64 B'):.2f}"
    yield Result("the same with a bare flag in C", "", floor, None)
    found = full(rounds, 0, None)
    yield Result("the same, committed at once", "", f"{ratio(found, '8 MiB', '64 B'):.2f}", None, medians(found))


def build(directory: Path) -> str:
    """Compile flag.c; the path of the program."""
    program = str(directory / "flag")
    source = str(Path(__file__).with_name("flag.c"))
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, source], check=True)
    return program


def flag(program: str, size: int) -> float:
    """The median that the C program prints."""
    done = subprocess.run([program, str(size), str(FILLS)], check=True, capture_output=True)
    return float(done.stdout)


def full(rounds: int, settle_ns: int, program: str | None) -> dict[str, list[float]]:
    """Hand-overs of samples of which every byte was written `settle_ns` before, and those of a bare flag."""
    with Children() as children, Children() as others:
        small = fillers(children, SMALL, settle_ns)
        large = fillers(others, LARGE, settle_ns, name="large")
        sides = {
            "8 MiB": lambda: median(filled(others, large, FILLS)),
            "64 B": lambda: median(filled(children, small, FILLS)),
        }
        if program is not None:
            sides["C flag 8 MiB"] = lambda: flag(program, LARGE)
            sides["C flag 64 B"] = lambda: flag(program, SMALL)
        return alternate(rounds, sides)


if __name__ == "__main__":
    main(measure)
