"""A 64-byte typed sample, one way, Python to Python, both sides spinning: zeroslot and iceoryx2's Python binding.

The same harness and the same two processors, in alternating rounds. If iceoryx2 is neither installed nor in the
directory ZEROSLOT_BENCH_ICEORYX2, it is installed into a temporary directory.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from common import ROOT, Result, alternate, at_least, main, median, medians, ratio

from zeroslot.cli.bench.measurements import cores, pingpong, players
from zeroslot.cli.processes import Children

IOX2 = "iceoryx2==0.10.0"


def find_iceoryx2() -> None:
    """Make iceoryx2 importable here and in children. The project does not depend on it."""
    if importlib.util.find_spec("iceoryx2") is None:
        place = os.environ.get("ZEROSLOT_BENCH_ICEORYX2") or os.path.join(
            tempfile.gettempdir(), "zeroslot-bench-iceoryx2"
        )
        if not os.path.isdir(os.path.join(place, "iceoryx2")):
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", place, IOX2]
            subprocess.run(command, check=True, cwd=ROOT)
        sys.path.append(place)


def measure(quick: bool) -> Iterator[Result]:
    """The ratio."""
    what = "64 B typed, one way, spinning: times faster than iceoryx2 0.10.0 (Python)"
    try:
        find_iceoryx2()
    except subprocess.CalledProcessError as error:
        yield Result(what, ">= 12", "iceoryx2 cannot be installed", None, str(error))
        return
    rounds, count = (5, 5000) if quick else (21, 20000)
    with Children() as children:
        zeroslot_players = players(children, size=None)
        prefix = f"zeroslot-bench-{os.getpid()}"
        iceoryx2_players = [
            children.start("iceoryx2_pingpong", "iceoryx2", task="play", first=first, core=core, prefix=prefix)
            for first, core in zip((True, False), cores(), strict=True)
        ]
        for child in iceoryx2_players:
            children.receive(child)
        found = alternate(
            rounds,
            {
                "zeroslot": lambda: median(pingpong(children, zeroslot_players, count)),
                "iceoryx2": lambda: median(pingpong(children, iceoryx2_players, count // 4)),
            },
        )
    yield at_least(what, 12, ratio(found, "iceoryx2", "zeroslot"), medians(found))


if __name__ == "__main__":
    main(measure)
