"""Bursts: A sends as many messages as the peer queues, at most 64, and B answers the last one. Nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.harness import Effort, NoAnswerError, Pair, Row, Table, fill, missing, pairs, summary, turn_about
from tests.bench.peers import PEERS
from tests.bench.ways import BLOCK, COPIED, FILLED, SPIN, TYPED
from zeroslot.cli.figures import as_bytes
from zeroslot.cli.processes import ChildError

LARGE = 1 << 20


def measure(effort: Effort) -> Iterator[Row]:
    """Each peer in its fastest wait: messages and bytes a second."""
    yield from missing("throughput", effort)
    table = Table()
    windows: dict[tuple[str, int, str], int] = {}
    for run in range(effort.each):
        for name, wait in turn_about(run, fastest(effort)):
            peer = PEERS[name]
            try:
                with Pair(name, wait, effort.patience_s) as pair:
                    for payload, size in ((TYPED, 64), (COPIED, 4096), (COPIED, LARGE), (FILLED, LARGE)):
                        if payload not in peer.payloads or size not in peer.sizes:
                            continue
                        key = (payload, size, name)
                        window = min(peer.queue, 64 if size < LARGE else 4)
                        windows[key] = window
                        pair.ask("open", payload, size, window)
                        table.add(key, [time / window for time in fill(pair, effort, window, part=0.5)])
                        pair.ask("close")
            except (NoAnswerError, ChildError) as error:
                table.fail((TYPED, 64, name), str(error).strip().splitlines()[-1])
    for (payload, size, name), runs, why in sorted(table, key=lambda item: (item[0][1], item[0][0], item[0][2])):
        what = f"{payload}, {as_bytes(size)}"
        facts = {"payload": payload, "bytes": size, "window": windows.get((payload, size, name), 0)}
        if not runs:
            yield Row("throughput", what, name, facts=facts, why=why)
            continue
        found, middles = summary(runs)
        figures = {"messages/s": 1e9 / found["p50"], "MB/s": size * 1e3 / found["p50"]}
        figures |= {"low": 1e9 / found["high"], "high": 1e9 / found["low"]}
        runs_of = [1e9 / middle for middle in middles]
        yield Row("throughput", what, name, figures, unit="", runs=runs_of, facts=facts, why=why)


def fastest(effort: Effort) -> list[tuple[str, str]]:
    """Each peer once: spinning where it can."""
    found: dict[str, str] = {}
    for name, wait in pairs(effort, (SPIN, BLOCK)):
        found.setdefault(name, wait)
    found.update({name: BLOCK for name in found if not PEERS[name].pinned and BLOCK in PEERS[name].waits})
    return list(found.items())
