"""Wake-ups of event loops and of one wait for many topics: how old a sample is when the program has it.

A publisher in another process publishes each millisecond, when everything is asleep again. The figure to compare with
asyncio is what a program has to write without it: a thread that waits, and `call_soon_threadsafe`.
"""

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

import zeroslot as zs
from tests.bench.harness import Effort, Row, summary
from zeroslot.cli.bench.machine import pair_of_cores
from zeroslot.cli.bench.workers import pin
from zeroslot.cli.figures import median

TOPICS = 100
PAUSE_S = 0.001

Receive = Callable[[int, list[float]], None]


class Tick(zs.Sample):
    number: zs.U64


def publish(orders: Any, answers: Any, core: int | None) -> None:
    """The other process: publishes as each order says, with a pause or as fast as it can for so many seconds."""
    pin(core)
    with contextlib.ExitStack() as stack:
        publishers = [stack.enter_context(zs.Publisher(f"bench/w{n}", Tick, depth=64)) for n in range(TOPICS)]
        answers.send("ready")
        for topics, count, pause in iter(orders.recv, None):
            if pause:
                for n in range(count):
                    time.sleep(pause)  # the other side falls asleep meanwhile
                    publishers[n % topics].send(number=n)
            else:
                end = time.perf_counter() + count
                while time.perf_counter() < end:
                    publishers[0].send(number=0)
            answers.send("done")


class Publishing:
    """Orders for the other process."""

    def __init__(self, stack: contextlib.ExitStack, core: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        orders, self._orders = context.Pipe(duplex=False)
        self._answers, answers = context.Pipe(duplex=False)
        self._process = context.Process(target=publish, args=(orders, answers, core), daemon=True)
        self._process.start()
        stack.callback(self._end)
        self._answers.recv()

    def _end(self) -> None:
        self._orders.send(None)
        self._process.join()

    def tell(self, topics: int, count: float, pause: float) -> None:
        self._orders.send((topics, count, pause))

    def wait(self) -> None:
        self._answers.recv()

    def ages(self, topics: int, count: int, receive: Receive) -> list[float]:
        """How old samples are when a program has them, in nanoseconds."""
        ages: list[float] = []
        self.tell(topics, count, PAUSE_S)
        receive(count, ages)
        self.wait()
        return ages


def note(lease: zs.Lease[Tick] | None, ages: list[float]) -> None:
    if lease is not None:
        ages.append(float(time.monotonic_ns() - lease.published_ns))


def in_a_thread(sub: zs.Subscriber[Tick]) -> Receive:
    """A thread that waits, and a callback in the loop."""

    async def run(count: int, ages: list[float]) -> None:
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


def in_a_loop(*subs: zs.Subscriber[Tick]) -> Receive:
    """One task for each subscriber."""

    async def receive(sub: zs.Subscriber[Tick], count: int, ages: list[float]) -> None:
        for _ in range(count):
            note(await sub.take_async(), ages)

    async def run(count: int, ages: list[float]) -> None:
        await asyncio.gather(*(receive(sub, count // len(subs), ages) for sub in subs))

    return lambda count, ages: asyncio.run(run(count, ages))


def in_a_set(waiting: zs.WaitSet) -> Receive:
    """A thread that waits for any topic."""

    def receive(count: int, ages: list[float]) -> None:
        while len(ages) < count:
            for sub in waiting.wait():
                note(sub.take(), ages)

    return receive


def measure(effort: Effort) -> Iterator[Row]:
    """All of it."""
    here, there = pair_of_cores() or (None, None)
    with contextlib.ExitStack() as stack:
        publishing = Publishing(stack, there)
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))  # else all later parts run on one processor
        pin(here)
        subs = [
            stack.enter_context(zs.Subscriber(f"bench/w{n}", Tick, spin_us=0, max_leases=30)) for n in range(TOPICS)
        ]
        ends = [stack.enter_context(end) for end in socket.socketpair()]
        one, many, mixed = (
            stack.enter_context(zs.WaitSet(*attached)) for attached in (subs[:1], subs, [subs[0], ends[0]])
        )
        sides: dict[str, tuple[int, str, Receive]] = {
            "thread, call_soon_threadsafe": (1, "", in_a_thread(subs[0])),
            "take_async": (1, "thread, call_soon_threadsafe", in_a_loop(subs[0])),
            "take_async, two topics in one loop": (2, "take_async", in_a_loop(*subs[:2])),
            "WaitSet of one topic": (1, "", in_a_set(one)),
            f"WaitSet of {TOPICS} topics": (1, "WaitSet of one topic", in_a_set(many)),
            "WaitSet of a topic and a socket": (1, "WaitSet of one topic", in_a_set(mixed)),
        }
        found: dict[str, list[list[float]]] = {name: [] for name in sides}
        for run in range(effort.runs + 1):
            for name, (topics, _, receive) in sides.items():
                ages = publishing.ages(topics, effort.of(400, 4), receive)
                if run:  # the first one warms up
                    found[name].append(ages)
        for name, (_, compared, _) in sides.items():
            figures, middles = summary(found[name])
            if compared:
                figures[f"times {compared}"] = median(
                    [median(ages) / median(other) for ages, other in zip(found[name], found[compared], strict=True)]
                )
            yield Row("waiting", name, "zeroslot", figures, runs=middles)
        yield from rate(publishing, subs[0], effort)
        yield from looks(many, effort)


def rate(publishing: Publishing, sub: zs.Subscriber[Tick], effort: Effort) -> Iterator[Row]:
    """How many samples a task awaits in a second, from a publisher without a pause."""
    seconds = 10 * max(effort.budget_s, 0.01)

    async def receive() -> tuple[int, float]:
        count = 0
        publishing.tell(1, seconds, 0)
        await sub.take_async()
        began = time.perf_counter()
        while time.perf_counter() < began + 0.7 * seconds:
            for _ in range(100):
                await sub.take_async(timeout=seconds)
            count += 100
        return count, time.perf_counter() - began

    count, took = asyncio.run(receive())
    publishing.wait()
    yield Row("waiting", "awaited samples in one loop", "zeroslot", {"a second": count / took}, unit="")


def looks(waiting: zs.WaitSet, effort: Effort) -> Iterator[Row]:
    """What a wait costs that finds nothing."""
    for sub in waiting:
        while sub.take() is not None:
            pass
    times = []
    for _ in range(effort.of(2000, 10)):
        began = time.perf_counter_ns()
        waiting.wait(timeout=0)
        times.append(float(time.perf_counter_ns() - began))
    figures, middles = summary([times])
    yield Row("waiting", f"a look at a WaitSet of {TOPICS} topics", "zeroslot", figures, runs=middles)
