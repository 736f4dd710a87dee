"""The account of a hand-over: what each step costs, as a table that adds up to the hop that is measured.

Each step is timed where it happens, by a clock read before and after it, in the loop of a ping-pong. `take` is counted
from the sender's clock read after its commit to the receiver's after its take: all processors have one clock. So a hop
is these steps, one after the other, and half a turn of the loop. What one clock read costs is the difference of this
loop and the same one without them, which is the hop that is measured, divided by their number.

`hot` is the same step in one process, where no cache line moves between processors; `moved` is the difference, and
below zero where the two processors work at the same time: the receiver sees the sample before the sender's commit has
returned. The core in C has both as well, so its `moved` is what these lines cost at least.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from time import perf_counter_ns as clock
from typing import Any

import zeroslot as zs
from tests.bench import floors
from tests.bench.harness import Effort, NoAnswerError, Row, Table, receive, summary
from zeroslot.cli.bench.machine import pair_of_cores
from zeroslot.cli.bench.samples import Typed
from zeroslot.cli.bench.workers import pin
from zeroslot.cli.figures import median
from zeroslot.cli.processes import ChildError, Children, Parent, serve

LOOP = "half a turn of the loop"
LINES = {
    # shared cache lines that a step touches and that the other processor wrote last, read from the code of the core
    "loan = loan_uninit()": "1: the entry of the slot that is used again, to see that no reader has it",
    "loan.sample.number = n": "1: the payload, which the other read",
    "loan.commit()": "2: the ring's entry, which the other polls, and the slot's entry, of which it has a copy",
    "lease = take(None)": "2: the ring's entry, and the slot's entry, which it also writes",
    "lease.sample.number": "1: the payload",
    "lease.release()": "0: the slot's entry is here already",
    LOOP: "0",
}
STEPS = (
    "loan = loan_uninit()",
    "loan.sample.number = n",
    "loan.commit()",
    "lease = take(None)",
    "lease.sample.number",
    "lease.release()",
)
STAMPS = "abcdefg"


def program(*, first: bool, stamped: bool) -> str:
    """A function that sends and takes in turn, and keeps a clock read before, between and after all steps."""

    def steps(numbers: range) -> list[str]:
        lines = []
        for at in numbers:
            lines += [f"{STAMPS[at]} = clock()", STEPS[at]]
        return lines

    sending, taking = steps(range(3)), steps(range(4, 6))
    if first:
        body = [*sending, "d = clock()", STEPS[3], *taking, "g = clock()"]
    else:
        body = [STEPS[3], *taking, "g = clock()", *sending, "d = clock()"]
    if stamped:
        body.append("stamps[n] = a, b, c, d, e, f, g")
    else:
        body = [line for line in body if "clock()" not in line]
    head = ["def run(count, loan_uninit, take, clock, stamps):", "    for n in range(count):"]
    return "\n".join([*head, *(f"        {line}" for line in body)])


def play(parent: Parent, *, first: bool, core: int | None, alone: bool) -> None:
    """One side. An order is (count, whether stamped); the answer is the time of a turn, and the stamps.

    `alone`: it takes what it has sent itself.
    """
    pin(core)
    there, back = ("there", "there") if alone else ("there", "back") if first else ("back", "there")
    runs = []
    for stamped in (False, True):
        space: dict[str, Any] = {}
        exec(program(first=first, stamped=stamped), space)
        runs.append(space["run"])
    with zs.Publisher(there, Typed, domain="hop") as pub, zs.Subscriber(back, Typed, domain="hop") as sub:
        pub.wait_for_subscribers()
        sub.wait_for_publishers()
        parent.send("ready")
        while (order := parent.receive()) is not None:
            count, stamped = order
            stamps: list[Any] = [None] * count
            began = clock()
            runs[stamped](count, pub.loan_uninit, sub.take, clock, stamps)
            parent.send([(clock() - began) / count, stamps if stamped else []])


def loop_cost() -> tuple[float, float]:
    """Nanoseconds of a turn of the loop, and of keeping the stamps of one."""
    count = 20_000
    stamps: list[Any] = [None] * count
    a = b = c = d = e = f = g = 0
    empty, keeping = [], []
    for _ in range(21):
        began = clock()
        for _n in range(count):
            pass
        between = clock()
        for n in range(count):
            stamps[n] = a, b, c, d, e, f, g
        empty.append((between - began) / count)
        keeping.append((clock() - between) / count)
    return median(empty), median(keeping) - median(empty)


def steady(values: list[float]) -> float:
    """The mean of the lower nine tenths: finer than the clock's steps, and without what interrupts."""
    kept = sorted(values)[: max(1, len(values) * 9 // 10)]
    return sum(kept) / len(kept)


def measure(effort: Effort) -> Iterator[Row]:
    """The steps of one hop; their sum; what the loop without the stamps measures."""
    steps, hot, whole = Table(), Table(), Table()
    core, lines = [], []
    count = effort.of(8000, 20)
    for _ in range(effort.each):
        try:
            whole.add("hop", [add_steps(steps, effort, count, alone=False) / 2])
            whole.add("hot", [add_steps(hot, effort, count, alone=True)])
        except (NoAnswerError, ChildError) as error:
            yield Row("hop", "steps", "zeroslot", why=str(error).strip().splitlines()[-1])
            return
        core.append(floors.run("core", effort.of(200, 3)) | floors.pingpong("--ring", effort.of(30_000, 100)))
        lines.append(floors.run("line", 1, effort.of(30_000, 100)))
    yield from account(steps, hot, whole, core, lines)


def add_steps(table: Table, effort: Effort, count: int, *, alone: bool) -> float:
    """Measure the steps of one run, in fresh processes; nanoseconds of a turn without stamps."""
    cores = pair_of_cores() or (None, None)
    sides = [(True, cores[0])] if alone else [(True, cores[0]), (False, cores[1])]
    with Children() as children:
        both = [
            children.start("tests.bench.parts.hop", "hop", task="play", first=first, core=core, alone=alone)
            for first, core in sides
        ]
        for child in both:
            receive(children, child, effort.patience_s)

        def turn(count: int, *, stamped: bool) -> list[Any]:
            for child in reversed(both):
                child.send([count, stamped])
            return [receive(children, child, effort.patience_s) for child in both]

        turn(max(count // 5, 10), stamped=False)
        turn(max(count // 5, 10), stamped=True)
        plain = min(turn(count, stamped=False)[0][0] for _ in range(3))
        found = turn(count, stamped=True)
    (whole, here), (_, there) = found[0], found[-1]
    empty, keeping = loop_cost()
    reads = 7 if alone else 14  # clock reads in a turn
    cost = max(0.0, (steady_turn(here, whole) - plain - keeping) / reads)
    for at, name in enumerate(STEPS):
        side = here if at < 3 else there
        before = here if at <= 3 else there
        table.add(name, [steady([one[at + 1] - other[at] - cost for one, other in zip(side, before, strict=True)])])
    table.add(LOOP, [empty if alone else empty / 2])
    return plain


def steady_turn(stamps: list[Any], otherwise: float) -> float:
    """Nanoseconds of a turn with stamps."""
    if len(stamps) < 2:
        return otherwise
    return steady([later[0] - one[0] for one, later in itertools.pairwise(stamps)])


def account(
    steps: Table, hot: Table, whole: Table, core: list[dict[str, float]], lines: list[dict[str, float]]
) -> Iterator[Row]:
    """The rows: the steps, their sum and what was measured; then what of it C needs as well."""

    def of(found: list[dict[str, float]], name: str) -> float:
        return median([one[name] for one in found])

    total = total_hot = 0.0
    for name in (*STEPS, LOOP):
        figures, middles = summary(steps.times[name])
        warm = summary(hot.times[name])[0]["p50"]
        total, total_hot = total + figures["p50"], total_hot + warm
        shown = {"ns": figures["p50"], "hot": warm, "moved": figures["p50"] - warm}
        yield Row("hop", name, "zeroslot", shown, runs=middles, facts={"lines": LINES[name]})
    yield Row("hop", "sum", "zeroslot", {"ns": total, "hot": total_hot, "moved": total - total_hot})
    (hop, middles), (warm_hop, _) = summary(whole.times["hop"]), summary(whole.times["hot"])
    shown = {"ns": hop["p50"], "hot": warm_hop["p50"], "low": hop["low"], "high": hop["high"]}
    yield Row("hop", "measured, without clock reads", "zeroslot", shown, runs=middles)
    above = {"ns": hop["p50"] - total, "hot": warm_hop["p50"] - total_hot}
    yield Row("hop", "measured, above the sum", "zeroslot", above)
    between = {"ns": of(core, "p50"), "hot": of(core, "send and receive")}
    between["moved"] = between["ns"] - between["hot"]
    yield Row("hop", "the core in C: the same hop", "zeroslot's core, C", between)
    for name in ("send", "empty take", "clock", "locked add"):
        yield Row("hop", f"the core in C, one process: {name}", "zeroslot's core, C", {"hot": of(core, name)})
    yield Row("hop", "one cache line, there", "a cache line, C", {"ns": of(lines, "p50"), "moved": of(lines, "p50")})


if __name__ == "__main__":
    sys.exit(serve({"play": play}))
