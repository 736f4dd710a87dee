"""What each call costs in one process, above an empty method call or an empty attribute access.

Each operation is a statement in a loop of its own; all loops run in turn, and the figure is the median over the rounds.
What has to be there beforehand (samples to take) or undone afterwards (a loan that is discarded) is timed with it and
subtracted, or prepared outside of the clock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs
from tests.bench.harness import Effort, Row, receive, summary
from zeroslot.cli.bench.machine import pair_of_cores
from zeroslot.cli.bench.samples import Typed
from zeroslot.cli.bench.workers import Empty, clock, pin
from zeroslot.cli.processes import Children, Parent, serve

BLOCK = 64
SHOWN = {
    # what: (loop, what is subtracted, how that is called)
    "loan + set + commit": ("loan_set_commit", "method", "an empty method call"),
    "loan": ("loan_discard", "discard", "the discard that follows"),
    "loan_uninit + set + commit": ("uninit_set_commit", "method", "an empty method call"),
    "loan_uninit + commit": ("uninit_commit", "method", "an empty method call"),
    "commit": ("commit", "method", "an empty method call"),
    "with loan() as sample": ("with_loan", "method", "an empty method call"),
    "send of two numbers": ("send", "method", "an empty method call"),
    "publish(model) of 10 fields": ("publish_ten", "method", "an empty method call"),
    "building that model": ("build_ten", "method", "an empty method call"),
    "publish(model) of 64 B": ("publish", "method", "an empty method call"),
    "take + read + release": ("take_read_release", "method", "an empty method call"),
    "take + release": ("take_release", "method", "an empty method call"),
    "release": ("release", "method", "an empty method call"),
    "take of nothing": ("take_nothing", "method", "an empty method call"),
    "latest of nothing": ("latest_nothing", "method", "an empty method call"),
    "field get": ("get", "attribute", "an empty attribute access"),
    "field set": ("set", "set_attribute", "an empty attribute assignment"),
    "array get": ("array_get", "attribute", "an empty attribute access"),
    "array set": ("array_set", "set_attribute", "an empty attribute assignment"),
    "lease.sample": ("sample", "attribute", "an empty attribute access"),
    "lease.copy()": ("copy", "method", "an empty method call"),
    "clock read": ("clock", "nothing", "an empty loop"),
    "empty method call": ("method", "nothing", "an empty loop"),
    "empty attribute access": ("attribute", "nothing", "an empty loop"),
}


class Ten(zs.Sample):
    """Ten fields, of which one is an array of 16."""

    stamp_ns: zs.U64
    number: zs.U32
    kind: zs.U8
    valid: zs.Bool
    x: zs.F64
    y: zs.F64
    z: zs.F64
    scale: zs.F32
    offset: zs.I32
    values: Annotated[NDArray[np.float64], zs.Shape(16)]


class Two(zs.Sample):
    """Two numbers."""

    stamp_ns: zs.U64
    accel: zs.F64


def measure(effort: Effort) -> Iterator[Row]:
    """One process a run."""
    times: dict[str, list[list[float]]] = {}
    for _ in range(effort.each):
        with Children() as children:
            core = (pair_of_cores() or (None,))[0]
            child = children.start("tests.bench.parts.calls", "calls", task="loops", core=core)
            child.send([effort.of(31, 1), effort.of(2048, BLOCK)])
            for name, found in receive(children, child, effort.patience_s + 60).items():
                times.setdefault(name, []).append(found)
    for what, (loop, below, name) in SHOWN.items():
        above = [
            [one - other for one, other in zip(*pair, strict=True)]
            for pair in zip(times[loop], times[below], strict=True)
        ]
        whole, _ = summary(times[loop])
        figures, middles = summary(above)
        figures = {"whole": whole["p50"], "above": figures["p50"], "low": figures["low"], "high": figures["high"]}
        yield Row("calls", what, "zeroslot", figures, runs=middles, facts={"above": name})


def loops(parent: Parent, *, core: int | None) -> None:
    """An order is (rounds, count): nanoseconds of each operation in each round."""
    pin(core)
    with (
        zs.Publisher("calls", Typed, depth=BLOCK, domain="bench") as pub,
        zs.Subscriber("calls", Typed, domain="bench", max_leases=BLOCK) as sub,
        zs.Publisher("ten", Ten, domain="bench") as pub_ten,
        zs.Publisher("two", Two, domain="bench") as pub_two,
        zs.Publisher("many", Typed, max_loans=BLOCK, depth=BLOCK, domain="bench") as pub_many,
    ):
        pub.publish(Typed(stamp_ns=1, acceleration=np.zeros(3), angular_velocity=np.zeros(3), number=1))
        lease = sub.take()
        assert lease is not None
        found = operations(pub, sub, pub_ten, pub_two, pub_many, lease)
        rounds, count = parent.receive()
        times: dict[str, list[float]] = {name: [] for name in found}
        for round_number in range(rounds + 1):
            for name, operation in found.items():
                each = operation(count)
                if round_number:
                    times[name].append(each)
        parent.send(times)
        parent.receive()


def statement(text: str, **names: Any) -> Callable[[int], float]:
    """Nanoseconds of a statement: of so many in a loop, without the loop itself."""
    space = {"clock": clock, **names}
    lines = ["def run(count):", *(f"    {name} = names[{name!r}]" for name in space)]
    lines += ["    before = clock()", "    for turn in range(count):", "        pass", "    between = clock()"]
    lines += [
        "    for turn in range(count):",
        *(f"        {line}" for line in text.splitlines()),
        "    after = clock()",
    ]
    lines += ["    return ((after - between) - (between - before)) / count"]
    made: dict[str, Any] = {"names": space}
    exec("\n".join(lines), made)
    run: Callable[[int], float] = made["run"]
    return run


def operations(
    pub: Any, sub: Any, pub_ten: Any, pub_two: Any, pub_many: Any, lease: Any
) -> dict[str, Callable[[int], float]]:
    """Each operation as a function of a count, which gives the nanoseconds of one."""
    empty, values = Empty(), np.arange(16.0)
    model = Typed(stamp_ns=1, acceleration=np.zeros(3), angular_velocity=np.zeros(3), number=1)
    fields = {"stamp_ns": 1, "number": 2, "kind": 3, "valid": True, "x": 1.0, "y": 2.0, "z": 3.0, "scale": 0.5}
    fields |= {"offset": -1, "values": values}
    ten = Ten(**fields)
    held = pub_two.loan()
    three = np.zeros(3)
    writable = pub.loan()
    loan_discard = "loan = loan_()\nloan.discard()"
    return {
        "nothing": statement("pass"),
        "method": statement("empty.method()", empty=empty),
        "attribute": statement("empty.attribute", empty=empty),
        "set_attribute": statement("empty.attribute = turn", empty=empty),
        "clock": statement("clock()"),
        "loan_set_commit": statement("loan = loan_()\nloan.sample.number = turn\nloan.commit()", loan_=pub.loan),
        "uninit_set_commit": statement(
            "loan = loan_()\nloan.sample.number = turn\nloan.commit()", loan_=pub.loan_uninit
        ),
        "uninit_commit": statement("loan_().commit()", loan_=pub.loan_uninit),
        "with_loan": statement("with loan_() as sample:\n    sample.number = turn", loan_=pub.loan),
        "loan_discard": statement(loan_discard, loan_=pub.loan),
        "discard": each_of(lambda: [pub_many.loan() for _ in range(BLOCK)], "loan.discard()", "loan"),
        "commit": each_of(lambda: [pub_many.loan_uninit() for _ in range(BLOCK)], "loan.commit()", "loan"),
        "send": statement("send(stamp_ns=turn, accel=0.5)", send=pub_two.send),
        "publish_ten": statement("publish(model)", publish=pub_ten.publish, model=ten),
        "build_ten": statement("Ten(**fields)", Ten=Ten, fields=fields),
        "publish": statement("publish(model)", publish=pub.publish, model=model),
        "take_read_release": taking(pub, sub, "lease = take()\nlease.sample.number\nlease.release()"),
        "take_release": taking(pub, sub, "lease = take()\nlease.release()"),
        "release": each_of(lambda: leases(pub, sub), "lease.release()", "lease"),
        "take_nothing": taking(pub, sub, "take()", samples=0),
        "latest_nothing": taking(pub, sub, "latest()", samples=0),
        "get": statement("view.number", view=lease.sample),
        "set": statement("view.stamp_ns = turn", view=held.sample, held=held),
        "array_get": statement("view.acceleration", view=lease.sample),
        "array_set": statement("view.acceleration = three", view=writable.sample, three=three, held=writable),
        "sample": statement("lease.sample", lease=lease),
        "copy": statement("lease.copy()", lease=lease),
    }


def leases(pub: Any, sub: Any) -> list[Any]:
    """Leases of as many samples as may be held at once beside the one that is."""
    while sub.take() is not None:
        pass
    for _ in range(BLOCK - 1):
        pub.loan_uninit().commit()
    return [sub.take() for _ in range(BLOCK - 1)]


def taking(pub: Any, sub: Any, text: str, samples: int = BLOCK) -> Callable[[int], float]:
    """A statement on samples that are there: they are published outside of the clock."""
    loop = statement(text, take=sub.take, latest=sub.latest)

    def run(count: int) -> float:
        while sub.take() is not None:
            pass
        if not samples:
            return loop(count)
        blocks = max(1, count // samples)
        spent = 0.0
        for _ in range(blocks):
            for _ in range(samples):
                pub.loan_uninit().commit()
            spent += loop(samples)
        return spent / blocks

    return run


def each_of(make: Callable[[], list[Any]], text: str, name: str) -> Callable[[int], float]:
    """A statement on each of many objects that are made outside of the clock."""
    made: dict[str, Any] = {"clock": clock}
    lines = ["def run(items):", "    before = clock()", f"    for {name} in items:", "        pass"]
    lines += ["    between = clock()", f"    for {name} in items:", f"        {text}", "    after = clock()"]
    lines += ["    return ((after - between) - (between - before)) / len(items)"]
    exec("\n".join(lines), made)

    def run(count: int) -> float:
        blocks = max(1, count // BLOCK)
        return sum(made["run"](make()) for _ in range(blocks)) / blocks

    return run


if __name__ == "__main__":
    sys.exit(serve({"loops": loops}))
