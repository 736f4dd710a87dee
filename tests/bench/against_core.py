"""zeroslot from Python compared with its C core and a bare futex: the programs of tests/core, in alternate rounds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

from common import ROOT, Result, alternate, at_most, main, median, medians, ratio

from zeroslot.cli.bench.measurements import pingpong, players
from zeroslot.cli.processes import Children

CORE = ROOT / "tests" / "core"


def build() -> str:
    """Build the C ping-pong; its path."""
    subprocess.run(["make", "-s", "-C", str(CORE), "build/pingpong"], check=True, stdout=subprocess.DEVNULL)
    return str(CORE / "build" / "pingpong")


def one_way(program: str, choice: str, rounds: int) -> float:
    """The median in nanoseconds that the C program prints. It runs on the same two processors."""
    done = subprocess.run([program, choice, "--json", "--rounds", str(rounds)], check=True, capture_output=True)
    found: float = json.loads(done.stdout)["p50_ns"]
    return found


def measure(quick: bool) -> Iterator[Result]:
    """Both ratios."""
    program = build()
    rounds, many, few = (5, 5000, 1000) if quick else (21, 20000, 3000)
    with Children() as children:
        busy = players(children, size=None)
        found = alternate(
            rounds,
            {
                "zeroslot": lambda: median(pingpong(children, busy, many)),
                "C core": lambda: one_way(program, "--ring", many * 5),
            },
        )
    what = "64 B typed, one way, spinning: times the C core's own ping-pong"
    yield at_most(what, 4, ratio(found, "zeroslot", "C core"), medians(found))
    with Children() as children:
        parked = players(children, size=None, parked=True)
        found = alternate(
            rounds,
            {
                "zeroslot": lambda: median(pingpong(children, parked, few)),
                "bare futex": lambda: one_way(program, "--futex", few),
            },
        )
    what = "64 B typed, one way, parked: times a bare C futex ping-pong"
    yield at_most(what, 1.15, ratio(found, "zeroslot", "bare futex"), medians(found))


if __name__ == "__main__":
    main(measure)
