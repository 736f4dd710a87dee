"""8 MB in place against 64 bytes in place, the same type but for the length of its array.

What does a hand-over cost where the first and the last byte are written and read: a ping-pong. This has the bar.

And what where every byte was written: the time from `published_ns` to the return of `take`. A commit 20 us after the
last byte is slower than one of 64 bytes, too: the fill has pushed everything else out of the processor's caches and
page tables. flag.c does the same with one flag and no library; its figure says how much of that is the machine's. So
there is no bar on this.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import Result, alternate, at_most, main, median, medians, ratio

from zeroslot.cli.bench.measurements import SETTLE_NS, filled, fillers, pingpong, players
from zeroslot.cli.processes import Family

SMALL, LARGE = 64, 8 << 20
FILLS = 100


def measure(quick: bool) -> Iterator[Result]:
    """The ratios."""
    rounds, count = (7, 4000) if quick else (21, 10000)
    with Family() as family, Family() as others:
        small = players(family, size=SMALL)
        large = players(others, size=LARGE, name="large")
        found = alternate(
            rounds,
            {
                "8 MiB": lambda: median(pingpong(others, large, count)),
                "64 B": lambda: median(pingpong(family, small, count)),
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
    """flag.c, compiled."""
    program = str(directory / "flag")
    source = str(Path(__file__).with_name("flag.c"))
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, source], check=True)
    return program


def flag(program: str, size: int) -> float:
    """The median that the C program tells."""
    done = subprocess.run([program, str(size), str(FILLS)], check=True, capture_output=True)
    return float(done.stdout)


def full(rounds: int, settle_ns: int, program: str | None) -> dict[str, list[float]]:
    """Hand-overs of samples whose every byte was written, so long before; those of a bare flag in turn."""
    with Family() as family, Family() as others:
        small = fillers(family, SMALL, settle_ns)
        large = fillers(others, LARGE, settle_ns, name="large")
        sides = {
            "8 MiB": lambda: median(filled(others, large, FILLS)),
            "64 B": lambda: median(filled(family, small, FILLS)),
        }
        if program is not None:
            sides["C flag 8 MiB"] = lambda: flag(program, LARGE)
            sides["C flag 64 B"] = lambda: flag(program, SMALL)
        return alternate(rounds, sides)


if __name__ == "__main__":
    main(measure)
