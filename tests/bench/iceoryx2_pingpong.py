"""A side of a ping-pong over iceoryx2's Python binding: the worker of against_iceoryx2.py.

Of the ways to send (`write_payload`, `payload().contents`, `send_copy`) this is the one that was fastest here.
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
    """64 bytes, field by field what zeroslot.cli.bench.samples.Typed is."""

    _fields_ = (
        ("stamp_ns", ctypes.c_uint64),
        ("acceleration", ctypes.c_double * 3),
        ("angular_velocity", ctypes.c_double * 3),
        ("number", ctypes.c_uint64),
    )


def play(parent: Parent, *, first: bool, core: int | None, prefix: str) -> None:
    """Answer, or send first and tell how long one way took, as often as each order says."""
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
    parent.say("ready")
    while (rounds := parent.hear()) is not None:
        times = turns(publisher, subscriber, rounds) if first else answers(publisher, subscriber, rounds)
        parent.say([elapsed / 2 for elapsed in times])


def turns(publisher: Any, subscriber: Any, count: int) -> list[int]:
    """Set one field, send, spin until the answer is there, read one field, drop."""
    payload = Payload()
    send_copy, receive = publisher.send_copy, subscriber.receive
    times = [0] * count
    before = clock()
    for turn in range(count):
        payload.number = turn
        send_copy(payload)
        while (sample := receive()) is None:
            pass
        sample.payload().contents.number  # noqa: B018  # reading it is what is measured
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
        sample.payload().contents.number  # noqa: B018  # reading it is what is measured
        del sample
        payload.number = turn
        send_copy(payload)
    return []


if __name__ == "__main__":
    sys.exit(serve({"play": play}))
