"""Wake-ups: in asyncio, in a WaitSet over 100 topics and with descriptors, and the rate of awaited samples."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from common import Result, alternate, as_ns, at_least, at_most, main, medians, ratio

import zeroslot as zs
from zeroslot.cli.figures import median

TOPICS = 100
PAUSE_S = 0.001  # long enough for everything to be asleep again


class Tick(zs.Sample):
    number: zs.U64


def publish(orders: Any, answers: Any) -> None:
    """The other process: publishes as it is ordered, on a core of its own where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])
    with contextlib.ExitStack() as stack:
        publishers = [stack.enter_context(zs.Publisher(f"w/{n}", Tick, depth=64)) for n in range(TOPICS)]
        answers.send("ready")
        for topics, count, pause in iter(orders.recv, None):
            if pause:
                for n in range(count):
                    time.sleep(pause)
                    publishers[n % topics].send(number=n)
            else:
                end = time.perf_counter() + count
                while time.perf_counter() < end:
                    publishers[0].send(number=0)
            answers.send("done")


class Publishing:
    """Orders for the other process."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, orders = context.Pipe()
        answers, self._answers = context.Pipe()
        self._process = context.Process(target=publish, args=(orders, self._answers))
        self._process.start()
        self._heard = answers
        stack.callback(self._end)
        answers.recv()
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:1])

    def _end(self) -> None:
        self._orders.send(None)
        self._process.join()

    def tell(self, topics: int, count: float, pause: float = PAUSE_S) -> None:
        self._orders.send((topics, count, pause))

    def wait(self) -> None:
        self._heard.recv()


def median_age(publishing: Publishing, count: int, topics: int, receive: Callable[[int, list[int]], None]) -> float:
    """The median of how old samples are when a program has them."""
    ages: list[int] = []
    publishing.tell(topics, count)
    receive(count, ages)
    publishing.wait()
    return float(median([float(each) for each in ages]))


def note(lease: zs.Lease[Tick] | None, ages: list[int]) -> None:
    assert lease is not None
    ages.append(time.monotonic_ns() - lease.published_ns)


def in_a_thread(sub: zs.Subscriber[Tick]) -> Callable[[int, list[int]], None]:
    """What a program writes without asyncio support: a thread that waits, and call_soon_threadsafe."""

    async def run(count: int, ages: list[int]) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def arrived(lease: zs.Lease[Tick]) -> None:
            note(lease, ages)
            if len(ages) == count:
                done.set_result(None)

        def receive() -> None:
            for _ in range(count):
                loop.call_soon_threadsafe(arrived, sub.take(timeout=None))

        thread = threading.Thread(target=receive)
        thread.start()
        await done
        thread.join()

    return lambda count, ages: asyncio.run(run(count, ages))


def in_a_loop(*subs: zs.Subscriber[Tick]) -> Callable[[int, list[int]], None]:
    """One task for each subscriber."""

    async def receive(sub: zs.Subscriber[Tick], count: int, ages: list[int]) -> None:
        for _ in range(count):
            note(await sub.take_async(), ages)

    async def run(count: int, ages: list[int]) -> None:
        await asyncio.gather(*(receive(sub, count // len(subs), ages) for sub in subs))

    return lambda count, ages: asyncio.run(run(count, ages))


def in_a_set(waiting: zs.WaitSet) -> Callable[[int, list[int]], None]:
    """A thread that waits for whichever topic has something."""

    def receive(count: int, ages: list[int]) -> None:
        while len(ages) < count:
            for sub in waiting.wait():
                note(sub.take(), ages)

    return receive


def measure(quick: bool) -> Iterator[Result]:
    """All of it."""
    rounds, count = (3, 200) if quick else (11, 400)
    with contextlib.ExitStack() as stack:
        publishing = Publishing(stack)
        subs = [stack.enter_context(zs.Subscriber(f"w/{n}", Tick, spin_us=0, max_leases=30)) for n in range(TOPICS)]
        one = stack.enter_context(zs.WaitSet(subs[0]))
        all_of_them = stack.enter_context(zs.WaitSet(*subs))
        here, there = (stack.enter_context(each) for each in socket.socketpair())
        socket_too = stack.enter_context(zs.WaitSet(subs[0], here))
        sides = {
            "thread and call_soon_threadsafe": (1, in_a_thread(subs[0])),
            "take_async": (1, in_a_loop(subs[0])),
            "two topics in one loop": (2, in_a_loop(*subs[:2])),
            "WaitSet over one": (1, in_a_set(one)),
            "WaitSet over 100": (1, in_a_set(all_of_them)),
            "WaitSet with a socket": (1, in_a_set(socket_too)),
        }
        found = alternate(
            rounds,
            {
                name: lambda topics=topics, receive=receive: median_age(publishing, count, topics, receive)
                for name, (topics, receive) in sides.items()
            },
        )
        details = medians(found)
        yield at_most(
            "wake-up of take_async: times a thread and call_soon_threadsafe",
            1.5,
            ratio(found, "take_async", "thread and call_soon_threadsafe"),
            details,
        )
        yield at_most(
            "two topics in one loop: times one", 1.1, ratio(found, "two topics in one loop", "take_async"), ""
        )
        yield at_most(
            "WaitSet over 100 topics: times one", 1.5, ratio(found, "WaitSet over 100", "WaitSet over one"), ""
        )
        yield Result(
            "WaitSet with a socket: times without",
            "",
            f"{ratio(found, 'WaitSet with a socket', 'WaitSet over one'):.2f}",
            None,
        )
        del there
        yield from rate(publishing, subs[0], 2 if quick else 5)
        yield from looks(all_of_them)


def rate(publishing: Publishing, sub: zs.Subscriber[Tick], seconds: float) -> Iterator[Result]:
    """How many samples a task awaits in a second, from a publisher without a pause."""

    async def receive() -> tuple[int, float, float]:
        count = 0
        publishing.tell(1, seconds, 0)
        await sub.take_async()
        began, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() < began + 0.7 * seconds:
            for _ in range(100):
                await sub.take_async()
            count += 100
        return count, time.perf_counter() - began, time.process_time() - cpu

    count, took, cpu = asyncio.run(receive())
    publishing.wait()
    details = f"{cpu / took:.0%} of a core, {sub.lost} lost"
    yield at_least("awaited samples a second in one loop", 50_000, count / took, details)


def looks(waiting: zs.WaitSet) -> Iterator[Result]:
    """What a wait costs that finds nothing."""
    times = []
    for _ in range(2000):
        began = time.perf_counter_ns()
        waiting.wait(timeout=0)
        times.append(float(time.perf_counter_ns() - began))
    yield Result("a look of a WaitSet over 100 topics", "", as_ns(median(times)), None)


if __name__ == "__main__":
    main(measure)
