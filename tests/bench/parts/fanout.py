"""One publisher and 1 to 32 subscribers; 1 to 32 publishers and one subscriber.

Why the subscribers are in one process: 32 processes on two processors would measure the scheduler. They are separate
subscribers all the same, each with an entry, a cursor and leases of its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench.harness import Effort, NoAnswerError, Row, Table, present, receive, summary, turn_about
from tests.bench.ways import own_directory
from zeroslot.cli.bench.machine import pair_of_cores
from zeroslot.cli.bench.measurements import fanout_rounds
from zeroslot.cli.bench.samples import Typed
from zeroslot.cli.bench.workers import clock, pin
from zeroslot.cli.figures import median
from zeroslot.cli.processes import ChildError, Children, Parent, serve

COUNTS = (1, 4, 16, 32)
BURST = 8  # samples that are sent before any is taken


def measure(effort: Effort) -> Iterator[Row]:
    """What a publish costs with so many attached, and what each delivery costs."""
    costs = fanout_rounds(effort.of(15, 1), effort.of(10_000, 100))
    none = costs[0]
    for attached, found in costs.items():
        ratio = median([many / one for many, one in zip(found, none, strict=True)])
        figures = {"p50": median(found), "low": min(found), "high": max(found), "times none": ratio}
        yield Row("fanout", f"publish, {attached} attached", "zeroslot", figures, runs=found)
    yield from deliveries("fanout", "subscribers", effort)


def measure_publishers(effort: Effort) -> Iterator[Row]:
    """What each delivery costs where so many publishers send to one subscriber."""
    yield from deliveries("publishers", "publishers", effort)


def deliveries(part: str, many: str, effort: Effort) -> Iterator[Row]:
    """Nanoseconds of each sample that is taken, by its receiver; and of each publish, by its sender."""
    sends, takes = Table(), Table()
    counts = COUNTS if effort.runs > 2 else COUNTS[::2]
    for run in range(effort.each):
        for name in turn_about(run, present(effort, SIDES)):
            one_run(sends, takes, part, many, name, run, counts, effort)
    for (count, name), runs, why in sorted(takes, key=lambda item: item[0]):
        what = f"{count} {many}"
        if not runs:
            yield Row(part, what, name, why=why)
            continue
        figures, middles = summary(runs)
        sent, _ = summary(sends.times[count, name])
        yield Row(part, what, name, {"publish": sent["p50"], **figures}, runs=middles, facts={"count": count})


def one_run(
    sends: Table, takes: Table, part: str, many: str, name: str, run: int, counts: tuple[int, ...], effort: Effort
) -> None:
    """Two fresh processes, which measure one count after the other."""
    cores = pair_of_cores() or (None, None)
    key = (counts[0], name)
    try:
        with Children() as children:
            both = [
                children.start(
                    "tests.bench.parts.fanout", task, task=task, core=core, peer=name, many=many, prefix=f"{part}{run}"
                )
                for task, core in zip(("sending", "taking"), cores, strict=True)
            ]
            for count in counts:
                key = (count, name)
                for child in both:
                    child.send([count, effort.of(60, 2)])
                for child, table in zip(both, (sends, takes), strict=True):
                    table.add(key, receive(children, child, effort.patience_s))
    except (NoAnswerError, ChildError) as error:
        takes.fail(key, str(error).strip().splitlines()[-1])


Ends = tuple[list[Callable[[int], Any]], list[Callable[[], int]]]


def zeroslot_ends(prefix: str, senders: int, takers: int) -> Ends:
    """Publishers and subscribers of one topic, and what sends and takes one sample."""
    import zeroslot as zs

    options = {"domain": "fan", "depth": 64, "spare_slots": 128}
    publishers = [zs.Publisher(prefix, Typed, **options) for _ in range(senders)]
    subscribers = [zs.Subscriber(prefix, Typed, domain="fan") for _ in range(takers)]
    for publisher in publishers:
        publisher.wait_for_subscribers(1 if takers else OTHERS["subscribers"])
    for subscriber in subscribers:
        subscriber.wait_for_publishers(OTHERS["publishers"])

    def sender(publisher: Any) -> Callable[[int], None]:
        def send(turn: int) -> None:
            loan = publisher.loan_uninit()
            loan.sample.number = turn
            loan.commit()

        return send

    def taker(subscriber: Any) -> Callable[[], int]:
        def take() -> int:
            lease = subscriber.take(None)
            seen: int = lease.sample.number
            lease.release()
            return seen

        return take

    return [sender(publisher) for publisher in publishers], [taker(subscriber) for subscriber in subscribers]


def iceoryx2_ends(prefix: str, senders: int, takers: int) -> Ends:
    """The same with iceoryx2."""
    import iceoryx2 as iox2

    from tests.bench.peers.iceoryx2 import Payload

    iox2.set_log_level_from_env_or(iox2.LogLevel.Error)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    KEPT.append(node)
    service = (
        node.service_builder(iox2.ServiceName.new(prefix))
        .publish_subscribe(Payload)
        .max_publishers(max(COUNTS))
        .max_subscribers(max(COUNTS))
        .history_size(0)
        .subscriber_max_buffer_size(64)
        .open_or_create()
    )
    publishers = [service.publisher_builder().create() for _ in range(senders)]
    subscribers = [service.subscriber_builder().create() for _ in range(takers)]
    KEPT.append(service)
    while senders and service.dynamic_config.number_of_subscribers < OTHERS["subscribers"]:
        time.sleep(0.001)  # between looks, before anything is measured

    def sender(publisher: Any) -> Callable[[int], None]:
        payload = Payload()

        def send(turn: int) -> None:
            payload.number = turn
            publisher.send_copy(payload)

        return send

    def taker(subscriber: Any) -> Callable[[], int]:
        def take() -> int:
            while (sample := subscriber.receive()) is None:
                pass
            seen: int = sample.payload().contents.number
            return seen

        return take

    return [sender(publisher) for publisher in publishers], [taker(subscriber) for subscriber in subscribers]


def zmq_ends(prefix: str, senders: int, takers: int) -> Ends:
    """The same with pyzmq: XPUB, which tells when a SUB has subscribed, and SUB, connected to each publisher."""
    import struct

    import zmq

    context = zmq.Context.instance()
    number = struct.Struct("=Q56x")
    publishers, subscribers = [], []
    for index in range(senders):
        publisher = context.socket(zmq.XPUB)
        publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
        publisher.bind(f"ipc://{own_directory()}/{prefix}-{index}")
        publishers.append(publisher)
    for _ in range(takers):
        subscriber = context.socket(zmq.SUB)
        subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        for index in range(OTHERS["publishers"]):
            subscriber.connect(f"ipc://{own_directory()}/{prefix}-{index}")
        subscribers.append(subscriber)
    for publisher in publishers:
        for _ in range(OTHERS["subscribers"]):
            publisher.recv()

    def sender(publisher: Any) -> Callable[[int], None]:
        return lambda turn: publisher.send(number.pack(turn))

    def taker(subscriber: Any) -> Callable[[], int]:
        return lambda: number.unpack(subscriber.recv())[0]

    return [sender(publisher) for publisher in publishers], [taker(subscriber) for subscriber in subscribers]


KEPT: list[Any] = []
OTHERS = {"publishers": 1, "subscribers": 1}
SIDES: dict[str, Callable[[str, int, int], Ends]] = {
    "zeroslot": zeroslot_ends,
    "iceoryx2": iceoryx2_ends,
    "pyzmq": zmq_ends,
}


def ends_of(peer: str, count: int, many: str, prefix: str, *, sending: bool) -> Ends:
    """The ends of one process: those of the topic, and one of another topic for the way back."""
    number = {"publishers": count if many == "publishers" else 1, "subscribers": count if many == "subscribers" else 1}
    OTHERS.update(number)
    senders = number["publishers"] if sending else 0
    takers = 0 if sending else number["subscribers"]
    return SIDES[peer](prefix, senders, takers)


def sending(parent: Parent, *, peer: str, many: str, prefix: str, core: int | None) -> None:
    """Send bursts with all publishers, and wait until each has been taken; nanoseconds of each publish."""
    pin(core)
    taken, sent = fifo(prefix, peer, "taken"), fifo(prefix, peer, "sent")
    while (order := parent.receive()) is not None:
        count, rounds = order
        senders, _ = ends_of(peer, count, many, f"{prefix}-{count}", sending=True)
        times = []
        for _ in range(rounds):
            began = clock()
            for turn in range(BURST):
                for send in senders:
                    send(turn)
            times.append((clock() - began) / (BURST * len(senders)))
            os.write(sent, b".")
            os.read(taken, 1)
        parent.send(times)


def taking(parent: Parent, *, peer: str, many: str, prefix: str, core: int | None) -> None:
    """Take each burst with all subscribers, after all of it was sent; nanoseconds of each take."""
    pin(core)
    taken, sent = fifo(prefix, peer, "taken"), fifo(prefix, peer, "sent")
    while (order := parent.receive()) is not None:
        count, rounds = order
        _, takers = ends_of(peer, count, many, f"{prefix}-{count}", sending=False)
        each = BURST * (count if many == "publishers" else 1)
        times = []
        for _ in range(rounds):
            os.read(sent, 1)
            began = clock()
            for take in takers:
                for _ in range(each):
                    take()
            times.append((clock() - began) / (each * len(takers)))
            os.write(taken, b".")
        parent.send(times)


def fifo(prefix: str, peer: str, name: str) -> int:
    """How these two processes tell each other that a burst is complete: the same for all peers, and not measured."""
    path = f"{own_directory()}/{prefix}-{peer}-{name}"
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path)
    return os.open(path, os.O_RDWR)


if __name__ == "__main__":
    sys.exit(serve({"sending": sending, "taking": taking}))
