"""A side of a ping-pong over iceoryx2's Python binding: the worker of against_iceoryx2.py.

It sends with `send_copy`, which was faster here than `write_payload` and `payload().contents`.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

import iceoryx2 as iox2

from zeroslot.cli.processes import Parent, serve

clock = time.perf_counter_ns


class Payload(ctypes.Structure):
    """64 bytes, with the same fields as zeroslot.cli.bench.samples.Typed."""

    _fields_ = (
        ("stamp_ns", ctypes.c_uint64),
        ("acceleration", ctypes.c_double * 3),
        ("angular_velocity", ctypes.c_double * 3),
        ("number", ctypes.c_uint64),
    )


def play(parent: Parent, *, first: bool, core: int | None, prefix: str) -> None:
    """Send first and report the time of one way, or answer; each order is the number of rounds."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    iox2.set_log_level_from_env_or(iox2.LogLevel.Error)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    topics = (f"{prefix}/there", f"{prefix}/back")
    send, receive = topics if first else reversed(topics)
    outgoing, incoming = (
        node.service_builder(iox2.ServiceName.new(topic)).publish_subscribe(Payload).open_or_create()
        for topic in (send, receive)
    )
    publisher = outgoing.publisher_builder().create()
    subscriber = incoming.subscriber_builder().create()
    parent.send("ready")
    while (rounds := parent.receive()) is not None:
        times = turns(publisher, subscriber, rounds) if first else answers(publisher, subscriber, rounds)
        parent.send([elapsed / 2 for elapsed in times])


def turns(publisher: Any, subscriber: Any, count: int) -> list[int]:
    """Set one field, send, spin until the answer arrives, read one field, drop the sample."""
    payload = Payload()
    send_copy, receive = publisher.send_copy, subscriber.receive
    times = [0] * count
    before = clock()
    for turn in range(count):
        payload.number = turn
        send_copy(payload)
        while (sample := receive()) is None:
            pass
        sample.payload().contents.number  # noqa: B018  # the read is measured
        del sample
        now = clock()
        times[turn] = now - before
        before = now
    return times


def answers(publisher: Any, subscriber: Any, count: int) -> list[int]:
    """The other side of `turns`."""
    payload = Payload()
    send_copy, receive = publisher.send_copy, subscriber.receive
    for turn in range(count):
        while (sample := receive()) is None:
            pass
        sample.payload().contents.number  # noqa: B018  # the read is measured
        del sample
        payload.number = turn
        send_copy(payload)
    return []


if __name__ == "__main__":
    sys.exit(serve({"play": play}))
