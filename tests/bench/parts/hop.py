"""The account of a hand-over: what each step costs, as a table that adds up to the hop that is measured.

Each step is timed where it happens, by a clock read before and after it, in the loop of the ping-pong itself; what one
clock read costs is subtracted. The hand-over is from the last clock read of the sender to the first one of the receiver
after `take`: both processors have one clock. It is then split: a take of a sample that is there costs what it costs in
one process, the core's lines have to move as they do in C, and what remains is the rest.

`hot` is the same step in one process, where no cache line moves. `lines` are the shared cache lines that the step has
to wait for when they were last written on the other processor.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import perf_counter_ns as clock
from typing import Any

import zeroslot as zs
from tests.bench import floors
from tests.bench.harness import Effort, NoAnswerError, Pair, Row, Table, fill, receive, summary
from tests.bench.ways import SPIN, TYPED
from zeroslot.cli.bench.machine import pair_of_cores
from zeroslot.cli.bench.samples import Typed
from zeroslot.cli.bench.workers import pin
from zeroslot.cli.figures import median
from zeroslot.cli.processes import ChildError, Children, Parent, serve

SEND = ("loan_uninit()", "loan.sample.number = n", "loan.commit()")
TAKE = "take(None)"
READ = ("lease.sample.number", "lease.release()")
LOOP = "half of the clock read and of the loop"
LINES = {
    # shared cache lines that a step touches and that the other processor wrote last, read from the code of the core
    "loan_uninit()": "1: the entry of the slot that is used again, to see that no reader has it",
    "loan.sample.number = n": "1: the payload, which the other read",
    "loan.commit()": "2: the ring's entry, which the other polls, and the slot's entry, of which it has a copy",
    TAKE: "2: the ring's entry, and the slot's entry, which it also writes",
    "lease.sample.number": "1: the payload",
    "lease.release()": "0: the slot's entry is here already",
    LOOP: "0",
}
SENDING = """
def run(count, loan_uninit, take, clock, stamps):
    for n in range(count):
        a = clock()
        loan = loan_uninit()
        b = clock()
        loan.sample.number = n
        c = clock()
        loan.commit()
        d = clock()
        lease = take(None)
        e = clock()
        lease.sample.number
        f = clock()
        lease.release()
        g = clock()
        stamps[n] = a, b, c, d, e, f, g
"""
ANSWERING = """
def run(count, loan_uninit, take, clock, stamps):
    for n in range(count):
        lease = take(None)
        e = clock()
        lease.sample.number
        f = clock()
        lease.release()
        g = clock()
        a = clock()
        loan = loan_uninit()
        b = clock()
        loan.sample.number = n
        c = clock()
        loan.commit()
        d = clock()
        stamps[n] = a, b, c, d, e, f, g
"""


def stamped(parent: Parent, *, first: bool, core: int | None, alone: bool) -> None:
    """One side. An order is a count, the answer all stamps. `alone`: it takes what it has sent itself."""
    pin(core)
    there, back = ("there", "there") if alone else ("there", "back") if first else ("back", "there")
    space: dict[str, Any] = {}
    exec(SENDING if first else ANSWERING, space)
    with zs.Publisher(there, Typed, domain="hop") as pub, zs.Subscriber(back, Typed, domain="hop") as sub:
        pub.wait_for_subscribers()
        sub.wait_for_publishers()
        parent.send([clock_cost(), loop_cost()])
        while (count := parent.receive()) is not None:
            stamps: list[Any] = [None] * count
            space["run"](count, pub.loan_uninit, sub.take, clock, stamps)
            parent.send(stamps)


def clock_cost() -> float:
    """What the reading of the clock adds to a step: the median difference of two reads."""
    found = []
    for _ in range(2001):
        a = clock()
        b = clock()
        found.append(b - a)
    return median(found)


def loop_cost() -> float:
    """Half of what a round trip has around its steps: a turn of the loop, a clock read, the difference that is kept."""
    count = 2000
    times, found = [0] * count, []
    for _ in range(21):
        began = before = clock()
        for turn in range(count):
            now = clock()
            times[turn] = now - before
            before = now
        found.append((clock() - began) / count)
    return median(found) / 2


def measure(effort: Effort) -> Iterator[Row]:
    """The steps of one hop; the sum; what the loop without the stamps measures."""
    steps, hot, whole = Table(), Table(), Table()
    core, lines = [], []
    for _ in range(effort.each):
        count = effort.of(8000, 20)
        try:
            add_steps(steps, stamps_of(effort, count, alone=False))
            add_steps(hot, stamps_of(effort, count, alone=True))
            with Pair("zeroslot", SPIN, effort.patience_s) as pair:
                pair.ask("open", TYPED, 64, 1)
                whole.add("hop", [time / 2 for time in fill(pair, effort)])
        except (NoAnswerError, ChildError) as error:
            yield Row("hop", "steps", "zeroslot", why=str(error).strip().splitlines()[-1])
            return
        core.append(floors.run("core", effort.of(200, 3)) | floors.pingpong("--ring", effort.of(30_000, 100)))
        lines.append(floors.run("line", 1, effort.of(30_000, 100)))
    yield from account(steps, hot, whole, core, lines)


def stamps_of(effort: Effort, count: int, *, alone: bool) -> Stamps:
    """The cost of a clock read and of the loop, and the stamps of both sides, or twice of the one."""
    cores = pair_of_cores() or (None, None)
    with Children() as children:
        sides = [(True, cores[0])] if alone else [(True, cores[0]), (False, cores[1])]
        both = [
            children.start("tests.bench.parts.hop", "hop", task="stamped", first=first, core=core, alone=alone)
            for first, core in sides
        ]
        costs = [receive(children, child, effort.patience_s) for child in both]
        found = []
        for repeat in (max(count // 10, 10), count):
            for child in reversed(both):
                child.send(repeat)
            found = [receive(children, child, effort.patience_s) for child in both]
    return costs[0], found[0], found[-1]


Stamps = tuple[list[float], list[Any], list[Any]]


def add_steps(table: Table, measured: Stamps) -> None:
    """The steps of the way there, from the stamps of both sides."""
    (cost, loop), here, there = measured
    for at, name in enumerate(SEND):
        table.add(name, [one[at + 1] - one[at] - cost for one in here])
    table.add(TAKE, [other[4] - one[3] - cost for one, other in zip(here, there, strict=True)])
    for at, name in enumerate(READ, 4):
        table.add(name, [one[at + 1] - one[at] - cost for one in there])
    table.add(LOOP, [loop])


def account(
    steps: Table, hot: Table, whole: Table, core: list[dict[str, float]], lines: list[dict[str, float]]
) -> Iterator[Row]:
    """The rows: the steps, their sum and what was measured; then what of it C needs as well."""

    def of(found: list[dict[str, float]], name: str) -> float:
        return median([one[name] for one in found])

    total = total_hot = 0.0
    for name in (*SEND, TAKE, *READ, LOOP):
        figures, middles = summary(steps.times[name])
        warm = summary(hot.times[name])[0]["p50"]
        total, total_hot = total + figures["p50"], total_hot + warm
        shown = {"ns": figures["p50"], "hot": warm, "moved": figures["p50"] - warm}
        yield Row("hop", name, "zeroslot", shown, runs=middles, facts={"lines": LINES[name]})
    yield Row("hop", "sum", "zeroslot", {"ns": total, "hot": total_hot, "moved": total - total_hot})
    hop, middles = summary(whole.times["hop"])
    shown = {"ns": hop["p50"], "low": hop["low"], "high": hop["high"]}
    yield Row("hop", "measured, without stamps", "zeroslot", shown, runs=middles)
    yield Row("hop", "measured, above the sum", "zeroslot", {"ns": hop["p50"] - total})
    between = {"ns": of(core, "p50"), "hot": of(core, "send and receive")}
    between["moved"] = between["ns"] - between["hot"]
    yield Row("hop", "the core in C: the same hop", "zeroslot's core, C", between)
    for name in ("send", "empty take", "clock", "locked add"):
        yield Row("hop", f"the core in C, one process: {name}", "zeroslot's core, C", {"hot": of(core, name)})
    yield Row("hop", "one cache line, there", "a cache line, C", {"ns": of(lines, "p50"), "moved": of(lines, "p50")})


if __name__ == "__main__":
    sys.exit(serve({"stamped": stamped}))
