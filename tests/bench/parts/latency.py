"""One way between two processes, A to B to A: half of each round trip, from before the send to after the read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.bench import floors
from tests.bench.harness import Effort, NoAnswerError, Pair, Row, Table, fill, missing, pairs, summary, turn_about
from tests.bench.peers import PEERS
from tests.bench.ways import BLOCK, COPIED, FILLED, SIZES, SPIN, TYPED, size_name
from zeroslot.cli.figures import median
from zeroslot.cli.processes import ChildError

SLOW_NS = 20e6  # what takes longer is measured in the first three runs only
WHERE_IT_MATTERS = {(BLOCK, FILLED): (64, 1 << 20, 8 << 20), (SPIN, FILLED): (64, 65536, 1 << 20, 8 << 20)}
FEWER = {(BLOCK, COPIED): (64, 65536, 1 << 20, SIZES[4])}
RUNS_OF_THE_SLOW = 3
LINE, CORE, FUTEX = "a cache line, C", "zeroslot's core, C", "a bare futex, C"
SAME, IN_TURN = "memcpy, the same place", "memcpy, 14 places in turn"
FLOORS = (LINE, CORE, FUTEX, SAME, IN_TURN)
# Budgets of what sleeps and is compared with the bare futex. A virtual machine learns how long to poll before it halts:
# a futex alone took 16 us for a tenth of a second, and 24 us after it.
SETTLED = 4


def measure(effort: Effort) -> Iterator[Row]:
    """All peers, spinning and blocking, typed, filled in place and copied, in alternating runs."""
    yield from missing("latency", effort)
    table = Table()
    settings: dict[Any, str] = {}
    for run in range(effort.runs):
        for name, wait in turn_about(run, pairs(effort, (SPIN, BLOCK))):
            measure_pair(table, settings, name, wait, effort, run)
        measure_floors(table, effort)
    yield from rows("latency", table, settings)


def measure_pair(table: Table, settings: dict[Any, str], name: str, wait: str, effort: Effort, run: int) -> None:
    """One run of one peer: fresh processes, which measure one payload and size after the other."""
    peer = PEERS[name]
    key: tuple[str, str, str, int] = (wait, TYPED, name, 64)
    try:
        with Pair(name, wait, effort.patience_s) as pair:
            for payload in peer.payloads:
                for size in sizes(payload, wait, peer.sizes, effort):
                    key = (wait, payload, name, size)
                    if key in table.why or (run >= RUNS_OF_THE_SLOW and table.slow(key, SLOW_NS)):
                        continue
                    opened = pair.ask("open", payload, size, 1)
                    settings[key] = opened["first"]["statements"]
                    part = SETTLED if (wait, payload) == (BLOCK, TYPED) else 1
                    table.add(key, [time / 2 for time in fill(pair, effort, part=part)])
                    pair.ask("close")
    except (NoAnswerError, ChildError) as error:
        table.fail(key, str(error).strip().splitlines()[-1])


def sizes(payload: str, wait: str, all_of_peer: tuple[int, ...], effort: Effort) -> tuple[int, ...]:
    """The sizes that are measured."""
    if payload == TYPED:
        return (64,)
    chosen = {**WHERE_IT_MATTERS, **FEWER}.get((wait, payload), SIZES)
    if effort.runs <= 2:
        chosen = tuple(size for size in chosen if size in {64, 65536, 1 << 20})
    return tuple(size for size in chosen if size in all_of_peer)


def measure_floors(table: Table, effort: Effort) -> None:
    """The same without Python, and the parts of the machine."""
    rounds = effort.of(30_000, 100)
    table.add((SPIN, TYPED, LINE, 64), spread(floors.run("line", 1, rounds)))
    table.add((SPIN, TYPED, CORE, 64), spread(floors.pingpong("--ring", rounds)))
    table.add((BLOCK, TYPED, FUTEX, 64), spread(floors.pingpong("--futex", effort.of(2000 * SETTLED, 50))))
    for size in SIZES[2:]:
        found = floors.run("memcpy", size, effort.of(int(4e8 / size) + 5, 5))
        table.add((SPIN, COPIED, SAME, size), [found["same"]])
        table.add((SPIN, COPIED, IN_TURN, size), [found["in turn"]])


def spread(found: dict[str, float]) -> list[float]:
    """A hundred and one values of which the median and the 99th percentile are those that a C program printed."""
    return [found["p50"]] * 99 + [found["p99"]] * 2


def rows(part: str, table: Table, settings: dict[Any, str]) -> Iterator[Row]:
    """In the order of waits, payloads and sizes; the fastest peer first."""
    order = {SPIN: 0, BLOCK: 1, TYPED: 0, FILLED: 1, COPIED: 2}

    def place(item: tuple[Any, list[list[float]], str]) -> tuple[Any, ...]:
        (wait, payload, _, size), runs, _ = item
        return order[wait], order[payload], size, median([median(run) for run in runs]) if runs else 1e18

    for (wait, payload, name, size), runs, why in sorted(table, key=place):
        what = f"{'spinning' if wait == SPIN else 'blocking'}, {payload}, {size_name(size)}"
        facts = {"wait": wait, "payload": payload, "bytes": size}
        if runs:
            figures, middles = summary(runs)
            if name in FLOORS:  # the programs in C print a median and a tail, not each time
                figures = {figure: figures[figure] for figure in ("p50", "p99", "low", "high")}
            facts |= {"count": sum(len(run) for run in runs), "statements": settings.get((wait, payload, name, size))}
            yield Row(part, what, name, figures, runs=middles, facts=facts, why=why)
        else:
            yield Row(part, what, name, facts=facts, why=why)
