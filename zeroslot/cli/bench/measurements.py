"""What is measured, and how: each function starts its processes, repeats, and gives rows of figures.

Why fresh processes for each row: what one measurement leaves behind (warm allocators, mapped pages, a grown heap)
would be in the figure of the next.

Why medians over alternating rounds wherever two figures are compared: the machine's speed drifts, and both sides
drift together.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zeroslot.cli.bench.machine import pair_of_cores
from zeroslot.cli.drawing import PER_OCTAVE, spread_of
from zeroslot.cli.figures import as_bytes, median, percentiles
from zeroslot.cli.processes import Child, Children

WORKERS = "zeroslot.cli.bench.workers"
SIZES: tuple[int | None, ...] = (None, 64, 4096, 65536, 1 << 20, 8 << 20)
FRAME = 1080 * 1920 * 3
SETTLE_NS = 20_000  # after which the stores of a fill have left the processor


@dataclass(frozen=True)
class Row:
    """One line of a table. `figures` are in `unit`, unless their names say otherwise. `spread`: how often each time
    occurred, by half octaves: the shortest time of each in nanoseconds, and how many there were.
    """

    measurement: str
    what: str
    figures: dict[str, float]
    unit: str = "ns"
    payload_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    spread: dict[float, int] = field(default_factory=dict)


class Numbers:
    """How often things are repeated: enough for a p99.9, or, where it shall be quick, for a median."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick

    def of(self, many: int, few: int) -> int:
        """`few` where it shall be quick."""
        return few if self.quick else many


def domain() -> str:
    """A domain of this process, so that no other process is measured with it."""
    return f"bench-{os.getpid()}"


def cores() -> tuple[int | None, int | None]:
    """Where the two sides run."""
    return pair_of_cores() or (None, None)


def spread(times: list[float]) -> dict[float, int]:
    """How often each time occurred, by half octaves."""
    counts = spread_of((each, 1) for each in times)
    return {2 ** (place / PER_OCTAVE): counts[place] for place in sorted(counts)}


def name_of(size: int | None) -> str:
    """How a payload is called; None is the typed sample."""
    return "64 B typed" if size is None else as_bytes(size)


def _two(
    children: Children,
    tasks: tuple[str, str],
    each: dict[str, Any],
    first: dict[str, Any] | None = None,
    name: str = "",
) -> list[Child]:
    """Two workers on two processors, ready."""
    both = []
    for task, core, more in zip(tasks, cores(), (first or {}, {}), strict=True):
        both.append(
            children.start(WORKERS, f"bench {task}", task=task, core=core, domain=domain() + name, **each, **more)
        )
    for child in both:
        children.receive(child)
    return both


def pingpong(children: Children, both: list[Child], rounds: int) -> list[float]:
    """One-way times in nanoseconds of so many round trips."""
    both[1].send(rounds)
    times: list[float] = children.request(both[0], rounds)
    children.receive(both[1])
    return times


def players(
    children: Children, *, size: int | None, copy: bool = False, parked: bool = False, name: str = ""
) -> list[Child]:
    """The two sides of a ping-pong, ready. Pairs that live at the same time have different `name`s."""
    return _two(children, ("ping", "pong"), {"size": size, "copy": copy, "parked": parked}, name=name)


def latency(numbers: Numbers) -> Iterator[Row]:
    """One way between two processes, from before the loan to after the read."""
    for parked in (False, True):
        for copy in (False, True):
            for size in SIZES:
                large = (size or 0) > 65536 and copy
                rounds = numbers.of(*((2000, 200) if large else (20000, 2000) if parked else (100000, 10000)))
                with Children() as children:
                    both = players(children, size=size, copy=copy, parked=parked)
                    pingpong(children, both, rounds // 10 + 1)
                    times = pingpong(children, both, rounds)
                what = (
                    f"{'parked' if parked else 'spinning'}, {'publish(model)' if copy else 'in place'}, {name_of(size)}"
                )
                yield Row("latency", what, percentiles(times), payload_bytes=size or 64, spread=spread(times))


def handover(numbers: Numbers) -> Iterator[Row]:
    """From the commit of a sample whose every byte was written in place to the return of `take`, spinning."""
    for settle_ns in (SETTLE_NS, 0):
        for size in (64, 65536, 1 << 20, 8 << 20):
            rounds = numbers.of(2000, 200)
            with Children() as children:
                both = fillers(children, size, settle_ns)
                filled(children, both, rounds // 10)
                times = filled(children, both, rounds)
            when = f"committed {settle_ns // 1000} us later" if settle_ns else "committed at once"
            what = f"filled, {when}, {as_bytes(size)}"
            yield Row("handover", what, percentiles(times), payload_bytes=size, spread=spread(times))


def fillers(children: Children, size: int, settle_ns: int, name: str = "") -> list[Child]:
    """One that fills and one that receives, ready. Pairs that live at the same time have different `name`s."""
    return _two(children, ("fill", "receive_filled"), {"size": size}, {"settle_ns": settle_ns}, name=name)


def filled(children: Children, both: list[Child], rounds: int) -> list[float]:
    """Nanoseconds of so many hand-overs."""
    both[0].send(rounds)
    times: list[float] = children.request(both[1], rounds)
    children.receive(both[0])
    return times


def throughput(numbers: Numbers) -> Iterator[Row]:
    """Samples that reach a reliable subscriber, which is waited for: nothing is lost."""
    for copy in (False, True):
        for size in (*SIZES, FRAME):
            small = size is None or size < 65536
            count = numbers.of(*((100000, 10000) if small else (2000, 200)))
            with Children() as children:
                both = _two(children, ("flood", "drain"), {"size": size}, {"copy": copy})
                rates, lost = [], 0
                for _ in range(5):
                    both[1].send(count)
                    elapsed = children.request(both[0], count)
                    lost = children.receive(both[1])
                    rates.append(count * 1e9 / elapsed)
            rate = median(rates)
            figures = {"samples_per_s": rate, "bytes_per_s": rate * (size or 64), "lost": lost}
            what = f"{'publish(model)' if copy else 'in place'}, {name_of(size)}"
            yield Row("throughput", what, figures, unit="", payload_bytes=size or 64)


ATTACHED = (0, 1, 8, 32)


def fanout(numbers: Numbers) -> Iterator[Row]:
    """Loan, one field, commit, with so many subscribers attached that neither take nor sleep."""
    costs = fanout_rounds(numbers.of(15, 5), numbers.of(20000, 2000))
    for attached in ATTACHED:
        cost = median(costs[attached])
        ratio = median([many / none for many, none in zip(costs[attached], costs[0], strict=True)])
        yield Row("fanout", f"{attached} subscribers", {"p50": cost, "ratio": ratio})


def fanout_rounds(rounds: int, count: int) -> dict[int, list[float]]:
    """Nanoseconds per sample of each round, the counts of subscribers in turn."""
    costs: dict[int, list[float]] = {attached: [] for attached in ATTACHED}
    with Children() as children:
        publisher, holder = _two(children, ("publish_alone", "attach_many"), {})
        children.request(publisher, [count, 3])
        for _ in range(rounds):
            for attached, found in costs.items():
                children.request(holder, attached)
                report = children.request(publisher, [count, 5])
                if report["subscribers"] != attached:
                    raise RuntimeError(f"{report['subscribers']} subscribers are attached, not {attached}")
                found.append(report["ns"])
    return costs


CALLS = (
    ("loan + set + commit", "publish", "method"),
    ("the same, in a with statement", "publish_with", "method"),
    ("take + read + release", "take", "method"),
    ("take of nothing", "take_nothing", "method"),
    ("scalar field get", "scalar", "attribute"),
    ("array field get", "array", "attribute"),
)


def calls(numbers: Numbers) -> Iterator[Row]:
    """What calls cost in one process, and how much of it above an empty method call or an empty attribute access."""
    with Children() as children:
        child = children.start(WORKERS, "bench calls", task="calls", core=cores()[0], domain=domain())
        children.receive(child)
        children.request(child, [BLOCK_OF_CALLS, 3])
        found = children.request(child, [BLOCK_OF_CALLS, numbers.of(101, 21)])
    for what, name, baseline in CALLS:
        figures = {"p50": found[name] - found["nothing"], "above": found[name] - found[baseline]}
        yield Row("calls", what, figures, facts={"above": f"an empty {baseline}"})
    for name in ("method", "attribute"):
        yield Row("calls", f"empty {name}", {"p50": found[name] - found["nothing"], "above": 0.0})


BLOCK_OF_CALLS = 2048
IMPORTS = {"zeroslot": "import zeroslot", "numpy and pydantic": "import numpy, pydantic", "nothing": "pass"}


def importing(numbers: Numbers) -> Iterator[Row]:
    """A fresh interpreter, from the import statement to the next one."""
    times = import_rounds(numbers.of(21, 5))
    for name, found in times.items():
        ratio = median([one / other for one, other in zip(found, times["numpy and pydantic"], strict=True)])
        yield Row("import", name, {"p50": median(found), "max": max(found), "ratio": ratio})


def import_rounds(rounds: int) -> dict[str, list[float]]:
    """Nanoseconds of each import, in turn."""
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    for turn in range(rounds + 1):
        for name, statement in IMPORTS.items():
            program = f"from time import perf_counter_ns as now; t = now(); {statement}; print(now() - t)"
            done = subprocess.run(  # noqa: S603  # this interpreter, one of the three statements above
                [sys.executable, "-P", "-c", program],
                env=os.environ | {"PYTHONPATH": path},
                capture_output=True,
                check=True,
            )
            if turn > 0:  # the first one fills the file cache
                times[name].append(float(done.stdout))
    return times


def attach(numbers: Numbers) -> Iterator[Row]:
    """From the call of Subscriber to its return, where one publisher is there."""
    for size, slots in ((64, 8), (32768, 29)):
        with Children() as children:
            holder = children.start(
                WORKERS, "bench hold_topic", task="hold_topic", size=size, slots=slots, domain=domain()
            )
            children.receive(holder)
            rounds = numbers.of(200, 50)
            child = children.start(WORKERS, "bench attach", task="attach", size=size, rounds=rounds, domain=domain())
            times = children.receive(child)
        pool = size * (slots + 2)
        what = f"a pool of {as_bytes(pool)}"
        yield Row("attach", what, percentiles(times), payload_bytes=size, spread=spread(times))


MEASUREMENTS: dict[str, Callable[[Numbers], Iterator[Row]]] = {
    "latency": latency,
    "handover": handover,
    "throughput": throughput,
    "fanout": fanout,
    "calls": calls,
    "import": importing,
    "attach": attach,
}
