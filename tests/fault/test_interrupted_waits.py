"""Ctrl-C at every place of the waits for several things: the next call works, and nothing is left armed or parked."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Callable

import pytest

import zeroslot as zs
from tests.fault.interruptions import Interrupted, forget_handled_error, interruptions
from tests.process.samples import Tick
from zeroslot.endpoints import waker


def descriptor(sub: zs.Subscriber[Tick], other: socket.socket) -> None:
    sub.take()
    select.select([sub], [], [], 0)
    sub.take()


def wait_set(sub: zs.Subscriber[Tick], other: socket.socket) -> None:
    with zs.WaitSet(sub) as waiting:
        event = waiting.event()
        waiting.every(1)
        waiting.deadline(sub, 1)
        event.notify()
        waiting.wait()
        waiting.detach(event)
        waiting.wait(timeout=0)


def wait_set_with_a_descriptor(sub: zs.Subscriber[Tick], other: socket.socket) -> None:
    with zs.WaitSet(sub, other) as waiting:
        waiting.wait(timeout=0.0001)


def task(sub: zs.Subscriber[Tick], other: socket.socket) -> None:
    asyncio.run(sub.take_async(timeout=0.0001))


def wait(sub: zs.Subscriber[Tick], other: socket.socket) -> None:
    zs.wait(sub, timeout=0)


def callback(sub: zs.Subscriber[Tick], other: socket.socket) -> None:
    sub.on_sample(print).stop()


# Where Ctrl-C comes while the last reference to a set ends, Python reports it and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.row("NEW-13")
@pytest.mark.parametrize("operation", [descriptor, wait_set, wait_set_with_a_descriptor, task, wait, callback])
def test_ctrl_c_anywhere_leaves_waits_whole(operation: Callable[[zs.Subscriber[Tick], socket.socket], None]) -> None:
    """A sample that comes afterwards wakes a descriptor, a set and a task."""
    here, there = socket.socketpair()
    threads = set(threading.enumerate())
    with here, there:
        for place in interruptions():
            with zs.Publisher("t", Tick, depth=16) as pub, zs.Subscriber("t", Tick) as sub:
                segment = sub._table.attached()[pub.publisher_id].reader.native.segment
                with place:
                    operation(sub, here)
                assert place.error is None or isinstance(place.error, Interrupted), place
                forget_handled_error()
                if operation is callback:
                    continue  # where its handle was lost, it goes on until the subscriber is closed
                while segment.parked_indexes() and sub._doorbell is None:
                    threading.Event().wait(0.0005)
                pub.send(number=1)
                assert zs.wait(sub) == [sub]
                assert select.select([sub], [], [])[0] == [sub]
                with zs.WaitSet(sub, here) as waiting:
                    assert waiting.wait() == [sub]
                lease = asyncio.run(sub.take_async())
                assert lease is not None
                assert lease.sample.number == 1
            del sub, pub, segment
    while {thread for thread in threading.enumerate() if thread is not waker._waker._thread} - threads:
        threading.Event().wait(0.001)
    assert [wake for reference in list(waker._waker.armed) if (wake := reference()) and not wake.is_over()] == []
