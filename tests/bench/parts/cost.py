"""What a peer holds and uses: memory, files, descriptors, threads; processor time, asleep and following 1 kHz."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.harness import Effort, NoAnswerError, Pair, Row, missing, pairs
from tests.bench.peers import PEERS
from tests.bench.ways import BLOCK, COPIED, SPIN, TYPED
from zeroslot.cli.figures import as_bytes
from zeroslot.cli.processes import ChildError

HERTZ = 1000


def measure_footprint(effort: Effort) -> Iterator[Row]:
    """Above a bare interpreter, of the process that opened a pair of topics first."""
    yield from missing("footprint", effort)
    for name, wait in pairs(effort, (SPIN, BLOCK)):
        if wait == SPIN and BLOCK in PEERS[name].waits:
            continue
        for payload, size in ((TYPED, 64), (COPIED, 1 << 20))[: 2 if effort.few > 1 else 1]:
            try:
                with Pair(name, wait, effort.patience_s) as pair:
                    answer = pair.ask("open", payload, size, 1)
                    pair.turns(3)
            except (NoAnswerError, ChildError) as error:
                yield Row("footprint", as_bytes(size), name, why=str(error).strip().splitlines()[-1])
                continue
            found = answer["first"]
            figures = {
                "import, MB": found["import_rss"] / 1e6,
                "open, MB": found["open_rss"] / 1e6,
                "/dev/shm, MB": answer["shm"]["bytes"] / 1e6,
                "files there": answer["shm"]["files"],
                "descriptors": found["fds"],
                "threads": found["threads"],
            }
            yield Row("footprint", as_bytes(size), name, figures, unit="")


def measure_idle(effort: Effort) -> Iterator[Row]:
    """Processor time of the receiver, as a part of one processor: asleep for a second, and at 1000 messages a second.

    zeroslot is measured twice: without spinning, and as it waits by default, which spins for a bounded time first.
    """
    yield from missing("idle", effort)
    following = effort.of(HERTZ, 20)
    for name, wait in pairs(effort, (SPIN, BLOCK)):
        if wait == SPIN and name != "zeroslot, defaults":
            continue
        label = "default spin_us" if wait == SPIN else "spin_us=0" if name == "zeroslot" else ""
        try:
            with Pair(name, wait, effort.patience_s) as pair:
                pair.ask("open", TYPED, 64, PEERS[name].queue)
                pair.turns(2)
                asleep = pair.ask("follow", 1, 0)["second"] if following >= HERTZ // 4 else None
                awake = pair.ask("follow", following, HERTZ)
        except (NoAnswerError, ChildError) as error:
            yield Row("idle", label, name, why=str(error).strip().splitlines()[-1])
            continue
        figures = {
            "receiver asleep, %": 100 * asleep["cpu"] / asleep["wall"] if asleep else 0.0,
            "receiver at 1 kHz, %": 100 * awake["second"]["cpu"] / awake["second"]["wall"],
            "sender at 1 kHz, %": 100 * awake["first"]["cpu"] / awake["first"]["wall"],
        }
        yield Row("idle", label, name, figures, unit="")
