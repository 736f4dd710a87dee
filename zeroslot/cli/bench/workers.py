"""The processes that are measured. Each does one measurement and ends.

Why one way is half a round trip: both ends are timed by one clock of one process. Each round trip reads that clock
once.

Why the spinning loops are written out: a call per sample to choose among ways to send would be a third of what is
measured. The others take microseconds.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import zeroslot as zs
from zeroslot.cli.bench.samples import Typed, block_type
from zeroslot.cli.figures import median
from zeroslot.cli.processes import Parent, serve

clock = time.perf_counter_ns


def pin(core: int | None) -> None:
    """Stay on one processor from here on."""
    if core is not None:
        os.sched_setaffinity(0, {core})


# --- ping-pong ---


def ping(parent: Parent, **how: Any) -> None:
    """Send and wait for the answer, as often as each order says, and report how long one way took each time."""
    publisher, subscriber, turns, _, _ = _player(parent, ("there", "back"), **how)
    with publisher, subscriber:
        while (rounds := parent.receive()) is not None:
            parent.send([elapsed / 2 for elapsed in turns(publisher, subscriber, rounds)])


def pong(parent: Parent, **how: Any) -> None:
    """Wait and answer, as often as each order says."""
    publisher, subscriber, turns, send, receive = _player(parent, ("back", "there"), **how)
    with publisher, subscriber:
        while (rounds := parent.receive()) is not None:
            receive()
            turns(publisher, subscriber, rounds - 1)
            send()
            parent.send("answered")


Turns = Callable[[Any, Any, int], list[int]]


def _player(
    parent: Parent,
    topics: tuple[str, str],
    *,
    size: int | None,
    copy: bool,
    parked: bool,
    domain: str,
    core: int | None,
) -> tuple[zs.Publisher[Any], zs.Subscriber[Any], Turns, Callable[[], None], Callable[[], None]]:
    """Both ends, ready; how to send and receive many times, and once. `size` None is the typed sample."""
    pin(core)
    sample_type: Any = Typed if size is None else block_type(size)
    publisher = zs.Publisher(topics[0], sample_type, domain=domain)
    subscriber = zs.Subscriber(topics[1], sample_type, domain=domain, spin_us=0 if parked else None)
    publisher.wait_for_subscribers()
    subscriber.wait_for_publishers()
    typed = size is None
    if copy:
        model = _model_of(size)

        def send() -> None:
            publisher.publish(model)

    else:

        def send() -> None:
            loan = publisher.loan_uninit()
            sample = loan.sample
            sample.number = 1
            if not typed:
                data = sample.data
                data[0] = data[-1] = 1
                del data
            loan.commit()

    def receive() -> None:
        while (lease := subscriber.take(None if parked else 0)) is None:
            pass
        _touch(lease, typed=typed)

    def turns(_publisher: Any, _subscriber: Any, count: int) -> list[int]:
        times = [0] * count
        before = clock()
        for turn in range(count):
            send()
            receive()
            now = clock()
            times[turn] = now - before
            before = now
        return times

    spun = _typed_turns if typed else _block_turns
    parent.send("ready")
    return publisher, subscriber, turns if copy or parked else spun, send, receive


def _touch(lease: Any, *, typed: bool) -> None:
    sample = lease.sample
    if typed:
        sample.number  # noqa: B018  # reading it is what is measured
    else:
        data = sample.data
        _ = data[0], data[-1]
    lease.release()


def _model_of(size: int | None) -> zs.Sample:
    if size is None:
        return Typed(stamp_ns=1, acceleration=np.zeros(3), angular_velocity=np.zeros(3), number=1)
    model: zs.Sample = block_type(size)(number=1, data=np.ones(size - 8, np.uint8))
    return model


def _typed_turns(publisher: Any, subscriber: Any, count: int) -> list[int]:
    """Set one field, commit, spin until the answer is there, read one field, release."""
    loan_uninit, take = publisher.loan_uninit, subscriber.take
    times = [0] * count
    before = clock()
    for turn in range(count):
        loan = loan_uninit()
        loan.sample.number = turn
        loan.commit()
        while (lease := take()) is None:
            pass
        lease.sample.number  # noqa: B018  # reading it is what is measured
        lease.release()
        now = clock()
        times[turn] = now - before
        before = now
    return times


def _block_turns(publisher: Any, subscriber: Any, count: int) -> list[int]:
    """The same with an array, of which the first and the last item are written and read."""
    loan_uninit, take = publisher.loan_uninit, subscriber.take
    times = [0] * count
    before = clock()
    for turn in range(count):
        loan = loan_uninit()
        data = loan.sample.data
        data[0] = data[-1] = 1
        del data
        loan.commit()
        while (lease := take()) is None:
            pass
        data = lease.sample.data
        _ = data[0], data[-1]
        del data
        lease.release()
        now = clock()
        times[turn] = now - before
        before = now
    return times


# --- handing over what was filled in place ---


def fill(parent: Parent, *, size: int, settle_ns: int, domain: str, core: int | None) -> None:
    """Fill every byte in place, commit, wait until the other has it; as often as each order says.

    `settle_ns` is how long after the last byte the commit comes: some time lets the processor finish its stores,
    which otherwise stand before those of the commit.
    """
    pin(core)
    sample_type = block_type(size)
    with (
        zs.Publisher("there", sample_type, domain=domain) as publisher,
        zs.Subscriber("back", Typed, domain=domain) as subscriber,
    ):
        publisher.wait_for_subscribers()
        subscriber.wait_for_publishers()
        parent.send("ready")
        while (rounds := parent.receive()) is not None:
            for turn in range(rounds):
                loan = publisher.loan_uninit()
                loan.sample.number = turn
                loan.sample.data.fill(turn & 0xFF)
                due = clock() + settle_ns
                while clock() < due:
                    pass
                loan.commit()
                while (lease := subscriber.take()) is None:
                    pass
                lease.release()
            parent.send("filled")


def receive_filled(parent: Parent, *, size: int, domain: str, core: int | None) -> None:
    """Report how long after its commit each sample was held here: from `published_ns` to the return of `take`."""
    pin(core)
    sample_type = block_type(size)
    with (
        zs.Publisher("back", Typed, domain=domain) as publisher,
        zs.Subscriber("there", sample_type, domain=domain) as subscriber,
    ):
        publisher.wait_for_subscribers()
        subscriber.wait_for_publishers()
        parent.send("ready")
        while (rounds := parent.receive()) is not None:
            times = [0] * rounds
            for turn in range(rounds):
                while (lease := subscriber.take()) is None:
                    pass
                now = time.monotonic_ns()
                times[turn] = now - lease.published_ns
                data = lease.sample.data
                if not data[0] == data[-1] == turn & 0xFF:
                    raise RuntimeError(f"sample {lease.sequence} is not what was written")
                del data
                lease.release()
                loan = publisher.loan_uninit()
                loan.sample.number = turn
                loan.commit()
            parent.send(times)


# --- throughput ---


def flood(parent: Parent, *, size: int | None, copy: bool, domain: str, core: int | None) -> None:
    """Publish as fast as the subscriber takes, waiting for it where it is behind, and report the nanoseconds."""
    pin(core)
    sample_type: Any = Typed if size is None else block_type(size)
    depth = 512 if size is None or size < 65536 else 8
    with zs.Publisher("flood", sample_type, depth=depth, on_full="block", domain=domain) as publisher:
        publisher.wait_for_subscribers()
        model = _model_of(size)
        parent.send("ready")
        while (count := parent.receive()) is not None:
            began = clock()
            if copy:
                for _ in range(count):
                    publisher.publish(model)
            elif size is None:
                for turn in range(count):
                    loan = publisher.loan_uninit()
                    loan.sample.number = turn
                    loan.commit()
            else:
                for turn in range(count):
                    loan = publisher.loan_uninit()
                    loan.sample.data.fill(turn & 0xFF)
                    loan.commit()
            publisher.flush()
            parent.send(clock() - began)


def drain(parent: Parent, *, size: int | None, domain: str, core: int | None) -> None:
    """Take as fast as they come; an order is a number of samples, the answer how many were lost."""
    pin(core)
    sample_type: Any = Typed if size is None else block_type(size)
    with zs.Subscriber("flood", sample_type, reliable=True, domain=domain) as subscriber:
        subscriber.wait_for_publishers()
        parent.send("ready")
        while (count := parent.receive()) is not None:
            for _ in range(count):
                lease = subscriber.take(None)
                if lease is None:
                    raise RuntimeError("a take without a timeout came back empty")
                lease.release()
            parent.send(subscriber.lost)


# --- fan-out ---


def publish_alone(parent: Parent, *, domain: str, core: int | None) -> None:
    """Publish batches of samples that no subscriber waits for.

    An order is (samples, batches), the answer the median of the nanoseconds per sample.
    """
    pin(core)
    with zs.Publisher("fanout", Typed, domain=domain, spare_slots=128) as publisher:
        parent.send("ready")
        while (order := parent.receive()) is not None:
            count, batches = order
            loan_uninit = publisher.loan_uninit
            times = []
            for _ in range(batches):
                began = clock()
                for turn in range(count):
                    loan = loan_uninit()
                    loan.sample.number = turn
                    loan.commit()
                times.append((clock() - began) / count)
            parent.send({"ns": median(times), "subscribers": publisher.subscriber_count})


def attach_many(parent: Parent, *, domain: str, core: int | None) -> None:
    """Hold as many subscribers as the last order says; they neither take nor sleep."""
    pin(core)
    held: list[zs.Subscriber[Typed]] = []
    parent.send("ready")
    while (wanted := parent.receive()) is not None:
        while len(held) > wanted:
            held.pop().close()
        while len(held) < wanted:
            held.append(zs.Subscriber("fanout", Typed, domain=domain))
        parent.send("attached")


# --- calls ---


class Empty:
    """What calls are compared with."""

    __slots__ = ("attribute",)

    def __init__(self) -> None:
        self.attribute = 1

    def method(self) -> None:
        """Nothing."""


BLOCK = 256  # samples that are there to be taken


def calls(parent: Parent, *, domain: str, core: int | None) -> None:
    """Nanoseconds of each call; an order is (repetitions of a loop, loops), the answer the median of each."""
    pin(core)
    with (
        zs.Publisher("calls", Typed, depth=BLOCK, domain=domain) as publisher,
        zs.Subscriber("calls", Typed, domain=domain) as subscriber,
    ):
        with publisher.loan() as sample:
            sample.number = 1
        lease = subscriber.take()
        if lease is None:
            raise RuntimeError("what was published is not there")
        loops = _loops(publisher, subscriber, lease.sample)
        parent.send("ready")
        while (order := parent.receive()) is not None:
            count, repeats = order
            times: dict[str, list[float]] = {name: [] for name in loops}
            for _ in range(repeats):
                for name, loop in loops.items():
                    times[name].append(loop(count) / count)
            parent.send({name: median(values) for name, values in times.items()})


def _loops(publisher: Any, subscriber: Any, view: Any) -> dict[str, Callable[[int], int]]:
    """Each runs its body so many times and gives the nanoseconds of all of them."""
    empty = Empty()

    def nothing(count: int) -> int:
        began = clock()
        for _ in range(count):
            pass
        return clock() - began

    def method(count: int) -> int:
        began = clock()
        for _ in range(count):
            empty.method()
        return clock() - began

    def attribute(count: int) -> int:
        began = clock()
        for _ in range(count):
            empty.attribute  # noqa: B018  # reading it is what is measured
        return clock() - began

    def publish(count: int) -> int:
        began = clock()
        for turn in range(count):
            loan = publisher.loan()
            loan.sample.number = turn
            loan.commit()
        return clock() - began

    def publish_with(count: int) -> int:
        began = clock()
        for turn in range(count):
            with publisher.loan() as sample:
                sample.number = turn
        return clock() - began

    def take(count: int) -> int:
        spent = 0
        while subscriber.take() is not None:
            pass
        for _ in range(-(-count // BLOCK)):
            for _ in range(BLOCK):
                publisher.loan_uninit().commit()
            began = clock()
            for _ in range(BLOCK):
                lease = subscriber.take()
                lease.sample.number  # noqa: B018  # reading it is what is measured
                lease.release()
            spent += clock() - began
        return spent * count // (-(-count // BLOCK) * BLOCK)

    def take_nothing(count: int) -> int:
        while subscriber.take() is not None:
            pass
        began = clock()
        for _ in range(count):
            subscriber.take()
        return clock() - began

    def scalar(count: int) -> int:
        began = clock()
        for _ in range(count):
            view.number  # noqa: B018  # reading it is what is measured
        return clock() - began

    def array(count: int) -> int:
        began = clock()
        for _ in range(count):
            view.acceleration  # noqa: B018  # reading it is what is measured
        return clock() - began

    return {
        "nothing": nothing,
        "method": method,
        "attribute": attribute,
        "publish": publish,
        "publish_with": publish_with,
        "take": take,
        "take_nothing": take_nothing,
        "scalar": scalar,
        "array": array,
    }


# --- attach ---


def hold_topic(parent: Parent, *, size: int, slots: int, domain: str) -> None:
    """A publisher of which others time how long subscribing takes."""
    with zs.Publisher("attach", block_type(size), depth=slots, max_loans=1, spare_slots=1, domain=domain) as publisher:
        publisher.publish(_model_of(size))
        parent.send("ready")
        parent.receive()


def attach(parent: Parent, *, size: int, rounds: int, domain: str) -> None:
    """Nanoseconds from the call to the subscriber that could take, each time."""
    sample_type = block_type(size)
    times = []
    for _ in range(rounds):
        began = clock()
        subscriber = zs.Subscriber("attach", sample_type, history=1, domain=domain)
        times.append(clock() - began)
        if subscriber.take() is None:
            raise RuntimeError("the history is not there")
        subscriber.close()
    parent.send(times)
    parent.receive()


if __name__ == "__main__":
    tasks = (ping, pong, fill, receive_filled, flood, drain, publish_alone, attach_many, calls, hold_topic, attach)
    sys.exit(serve({task.__name__: task for task in tasks}))
