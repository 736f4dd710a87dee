"""Pairs of processes, repeated runs, and the rows that come of them.

Why fresh processes for each run of each pair: what one run leaves behind (warm allocators, mapped pages, a lucky place
in the cache) would be in the figures of the next. Why runs alternate: the speed of the machine drifts, and all sides
drift together.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import zeroslot as zs
from tests.bench.peers import PEERS
from zeroslot.cli.bench.machine import pair_of_cores
from zeroslot.cli.figures import PERCENTILES, median, percentiles
from zeroslot.cli.processes import Child, ChildError, Children

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Row:
    """One line of a table. `figures` are in `unit`; `runs` are the medians of each run, in order."""

    part: str
    what: str
    peer: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    unit: str = "ns"
    runs: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    why: str = ""  # there are no figures

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Effort:
    """How much is measured. `runs` alternate; `budget` is the time of one measurement in one run."""

    runs: int
    budget_s: float
    most: int  # round trips in one measurement
    patience_s: float  # without an answer
    peers: tuple[str, ...] = ()  # only these; none: all

    @property
    def each(self) -> int:
        """Runs of the parts beside the first one: as many, unless it shall be quick."""
        return self.runs if self.runs > 2 else 1

    @property
    def few(self) -> int:
        """Runs of the parts that compare nothing with peers, or repeat within a run."""
        return (self.runs + 1) // 2

    def of(self, full: int, least: int) -> int:
        """A count that belongs to a full run, made smaller as the budget is."""
        return max(least, int(full * self.budget_s / FULL.budget_s))


FULL = Effort(runs=9, budget_s=0.1, most=20_000, patience_s=30.0)
QUICK = Effort(runs=2, budget_s=0.016, most=2_000, patience_s=15.0)
TINY = Effort(runs=1, budget_s=0.0, most=3, patience_s=60.0)


class NoAnswerError(RuntimeError):
    """A pair did not answer in time, or said that it cannot."""


class Pair:
    """Two fresh processes of one peer. A context manager."""

    _count = 0

    def __init__(self, peer: str, wait: str, patience_s: float) -> None:
        Pair._count += 1
        self._patience = patience_s
        self._children = Children()
        cores = pair_of_cores() or (None, None)
        self._child = self._children.start(
            "tests.bench.pair", peer, peer=peer, wait=wait, cores=cores, prefix=f"zb{os.getpid()}-{Pair._count}"
        )

    def ask(self, verb: str, *arguments: Any) -> dict[str, Any]:
        """Send an order to both processes, and wait for their answers."""
        self._child.send([verb, *arguments])
        answer: dict[str, Any] = receive(self._children, self._child, self._patience)
        if "error" in answer:
            raise NoAnswerError(answer["error"])
        return answer

    def turns(self, count: int, window: int = 1) -> list[int]:
        """Nanoseconds of so many round trips."""
        times: list[int] = self.ask("turns", count, window)["first"]
        return times

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._children.__exit__(None, None, None)


def receive(children: Children, child: Child, patience_s: float) -> Any:
    """The next message of a child."""
    deadline = time.monotonic() + patience_s
    while (left := deadline - time.monotonic()) > 0:
        for _, value in children.events(left):
            return value
    child.close_stdin()
    raise NoAnswerError(f"no answer within {patience_s:.0f} s")


def fill(pair: Pair, effort: Effort, window: int = 1, part: float = 1.0) -> list[int]:
    """Warm up, then as many round trips as the budget allows."""
    pair.turns(2, window)
    first = pair.turns(min(20, effort.most), window)
    each = max(median(first), 1)
    count = int(min(effort.most, effort.budget_s * part * 1e9 / each))
    if count <= len(first):
        return first
    pair.turns(max(1, count // 10), window)
    return pair.turns(count, window)


class Table:
    """What all runs have found, by key, in the order of the first run."""

    def __init__(self) -> None:
        self.times: dict[Any, list[list[float]]] = {}
        self.facts: dict[Any, dict[str, Any]] = {}
        self.why: dict[Any, str] = {}

    def add(self, key: Any, times: Iterable[float]) -> None:
        """The times of one run."""
        self.times.setdefault(key, []).append(list(times))

    def fail(self, key: Any, why: str) -> None:
        """Why there are none."""
        self.why.setdefault(key, why)

    def slow(self, key: Any, limit_ns: float) -> bool:
        """Whether this has been measured and takes so long that the later runs leave it out."""
        found = self.times.get(key)
        return found is not None and median(found[0]) > limit_ns

    def __iter__(self) -> Iterator[tuple[Any, list[list[float]], str]]:
        for key in [*self.times, *(key for key in self.why if key not in self.times)]:
            yield key, self.times.get(key, []), self.why.get(key, "")


def summary(runs: list[list[float]]) -> tuple[dict[str, float], list[float]]:
    """The median over the runs of each percentile, the largest value of all, and the median of each run.

    `low` and `high` are the smallest and the largest of these medians: the spread.
    """
    each = [percentiles(run) for run in runs]
    figures = {name: median([one[name] for one in each]) for name, _ in PERCENTILES}
    figures["max"] = max(one["max"] for one in each)
    middles = [one["p50"] for one in each]
    return figures | {"low": min(middles), "high": max(middles)}, middles


@contextmanager
def workspace() -> Iterator[None]:
    """A directory for sockets, and domains and files of zeroslot that are gone afterwards."""
    folder = tempfile.mkdtemp(prefix="zb")
    names = "ZEROSLOT_BENCH_DIR", "ZEROSLOT_DIR", "PYTHONDONTWRITEBYTECODE"
    before = {name: os.environ.get(name) for name in names}
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else a checkout, and no peer, is compiled by each import
    os.environ["ZEROSLOT_BENCH_DIR"] = folder
    os.environ["ZEROSLOT_DIR"] = f"/dev/shm/{Path(folder).name}"
    try:
        yield
    finally:
        zs.clean()  # what pairs that did not answer have left
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(os.environ["ZEROSLOT_DIR"], ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def turn_about(run: int, items: list[Any]) -> list[Any]:
    """The items, another one first in each run."""
    at = run * 5 % max(len(items), 1)
    return items[at:] + items[:at]


def present(effort: Effort, names: Iterable[str] = PEERS) -> list[str]:
    """Those of these peers that can run and that are wanted."""
    return [name for name in names if not PEERS[name].missing() and (not effort.peers or name in effort.peers)]


def pairs(effort: Effort, waits: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each of these peers with each of its waits."""
    return [(name, wait) for name in present(effort) for wait in waits if wait in PEERS[name].waits]


def missing(part: str, effort: Effort) -> Iterator[Row]:
    """A row for each peer that cannot run."""
    for peer in PEERS.values():
        if (why := peer.missing()) and (not effort.peers or peer.name in effort.peers):
            yield Row(part, "", peer.name, why=why)


Part = Callable[[Effort], Iterator[Row]]
__all__ = ["FULL", "QUICK", "TINY", "ChildError", "Effort", "NoAnswerError", "Pair", "Part", "Row", "Table"]
