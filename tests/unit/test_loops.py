"""Subscribers in asyncio: taking, timeouts, cancellation, several tasks and loops."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests.process.samples import Tick
from zeroslot.endpoints.loops import _bells


def publish(pub: zs.Publisher[Tick], *numbers: int) -> None:
    for number in numbers:
        pub.publish(Tick(number=number))


def number_of(lease: zs.Lease[Tick] | None) -> int:
    assert lease is not None
    return lease.sample.number


async def suspended(task: asyncio.Task[Any]) -> None:
    """Returns when a task has run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()


@pytest.mark.row("NOT-9", "NEW-13")
def test_take_async_gives_each_sample_in_order(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Those that are there and those that come."""

    async def main() -> list[int]:
        publish(pub, 1, 2)
        numbers = [number_of(await sub.take_async()) for _ in range(2)]
        for number in range(3, 50):
            asyncio.get_running_loop().call_later(0.0005, publish, pub, number)
            numbers.append(number_of(await sub.take_async()))
        return numbers

    assert asyncio.run(main()) == list(range(1, 50))


@pytest.mark.row("NOT-9")
def test_latest_async_gives_the_newest_sample(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """And counts what it skips."""

    async def main() -> int:
        task = asyncio.create_task(sub.latest_async())
        await suspended(task)
        publish(pub, 1, 2, 3)
        return number_of(await task)

    assert asyncio.run(main()) == 3
    assert sub.skipped == 2


@pytest.mark.row("NOT-9", "NOT-13")
def test_async_iteration_ends_when_the_subscriber_is_closed(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """By another task, while it waits."""

    async def main() -> list[int]:
        numbers = []

        async def collect() -> None:
            async for lease in sub:
                numbers.append(lease.sample.number)  # noqa: PERF401  # read while it grows

        task = asyncio.create_task(collect())
        publish(pub, 1, 2)
        while len(numbers) < 2:
            await asyncio.sleep(0.001)
        sub.close()
        await task
        return numbers

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.row("NOT-13")
@pytest.mark.parametrize("take", [zs.Subscriber.take_async, zs.Subscriber.latest_async])
def test_a_wait_ends_with_an_error_when_the_subscriber_is_closed(sub: zs.Subscriber[Tick], take: Any) -> None:
    """ClosedError."""

    async def main() -> None:
        task = asyncio.create_task(take(sub))
        await suspended(task)
        sub.close()
        with pytest.raises(zs.ClosedError):
            await task

    asyncio.run(main())


@pytest.mark.row("DEF-13")
@pytest.mark.parametrize("timeout", [0, -1, -1e300, 1e-9, 0.001, 0.03])
def test_a_timeout_gives_none(sub: zs.Subscriber[Tick], timeout: float) -> None:
    """Zero and negative ones look once."""

    async def main() -> None:
        assert await sub.take_async(timeout) is None
        assert await sub.latest_async(timeout) is None

    asyncio.run(main())


@pytest.mark.row("DEF-13")
@pytest.mark.parametrize("timeout", [None, 1e9, 1e300, float("inf"), 10**400])
def test_a_huge_timeout_waits(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], timeout: float | None) -> None:
    """For ever, if need be."""

    async def main() -> int:
        asyncio.get_running_loop().call_later(0.005, publish, pub, 7)
        return number_of(await sub.take_async(timeout))

    assert asyncio.run(main()) == 7


@pytest.mark.parametrize(("timeout", "error"), [(float("nan"), ValueError), ("1", TypeError), ([], TypeError)])
def test_a_timeout_is_a_number(sub: zs.Subscriber[Tick], timeout: Any, error: type[Exception]) -> None:
    """Anything else is an error."""
    with pytest.raises(error):
        asyncio.run(sub.take_async(timeout))


@pytest.mark.row("NOT-9", "NEW-13")
def test_a_cancelled_wait_loses_nothing(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Whenever it is cancelled: before a sample, with one, and in the moment in which it is woken."""

    async def main() -> list[int]:
        numbers: list[int] = []
        for number in range(1, 200):
            task = asyncio.create_task(sub.take_async())
            await asyncio.sleep(0)
            publish(pub, number)
            for _ in range(number % 7):
                await asyncio.sleep(0.0001 * (number % 3))
            task.cancel()
            try:
                numbers.append(number_of(await task))
            except asyncio.CancelledError:
                numbers.append(number_of(await sub.take_async()))
        return numbers

    assert asyncio.run(main()) == list(range(1, 200))
    assert sub.lost == 0


def tasks_of_process() -> set[str]:
    return {path.name for path in Path("/proc/self/task").iterdir()}


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.row("NOT-9", "NEW-13")
def test_ten_thousand_cancelled_waits_leave_nothing(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """No thread, no descriptor, no parked bit, nothing armed."""
    before = tasks_of_process()
    descriptors_before = descriptors()
    segment = sub._table.attached()[pub.publisher_id].reader.native.segment

    async def main() -> None:
        for _ in range(100):
            tasks = [asyncio.create_task(sub.take_async()) for _ in range(100)]
            await suspended(tasks[-1])
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    while segment.parked_indexes():
        threading.Event().wait(0.01)
    while tasks_of_process() - before:
        threading.Event().wait(0.01)
    assert descriptors() <= descriptors_before
    publish(pub, 1)
    assert asyncio.run(sub.take_async()) is not None


@pytest.mark.row("NOT-9")
def test_tasks_may_share_a_subscriber(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Each sample goes to one of them."""

    async def take() -> int:
        return number_of(await sub.take_async())

    async def main() -> list[int]:
        tasks = [asyncio.create_task(take()) for _ in range(10)]
        await suspended(tasks[-1])
        for number in range(1, 11):
            publish(pub, number)
            await asyncio.sleep(0.001)
        return sorted(await asyncio.gather(*tasks))

    assert asyncio.run(main()) == list(range(1, 11))


@pytest.mark.row("NOT-9")
def test_two_topics_in_one_loop(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Each task gets its own."""
    with zs.Publisher("other", Tick) as other_pub, zs.Subscriber("other", Tick) as other:

        async def collect(source: zs.Subscriber[Tick]) -> list[int]:
            return [number_of(await source.take_async()) for _ in range(20)]

        async def main() -> list[list[int]]:
            both = asyncio.gather(collect(sub), collect(other))
            for number in range(20):
                await asyncio.sleep(0.0005)
                publish(pub, number)
                publish(other_pub, 100 + number)
            return list(await both)

        assert asyncio.run(main()) == [list(range(20)), list(range(100, 120))]


@pytest.mark.row("NOT-9")
def test_loops_of_several_threads_wait_at_once(pub: zs.Publisher[Tick]) -> None:
    """For subscribers of their own, and for one that they share."""
    with zs.Subscriber("t", Tick) as shared:
        found: list[int] = []

        def run() -> None:
            async def main() -> None:
                with zs.Subscriber("t", Tick, history=0) as own:
                    ready.release()
                    for source in (own, shared):
                        found.append(number_of(await source.take_async()))  # noqa: PERF401  # one after the other

            asyncio.run(main())

        ready = threading.Semaphore(0)
        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in threads:
            ready.acquire()
        publish(pub, 1, 2, 3)
        for thread in threads:
            thread.join()
        assert sorted(found) == [1, 1, 1, 1, 2, 3]


@pytest.mark.row("NOT-9")
def test_loops_that_are_closed_are_forgotten(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """A task that waited when its loop was closed is in no one's way."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(sub.take_async())
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    for number in range(1, 4):
        publish(pub, number)
        assert number_of(asyncio.run(sub.take_async())) == number
    task.get_coro().close()  # type: ignore[union-attr]  # it is a coroutine
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # what asyncio would complain of


@pytest.mark.row("NOT-9")
@pytest.mark.parametrize("woken", [False, True])
def test_loops_that_are_closed_while_tasks_wait_leave_nothing(
    pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], woken: bool
) -> None:
    """The loop, its tasks and its descriptor go, whether a sample has come for a task that did not run any more."""
    descriptors = len(os.listdir("/proc/self/fd"))
    loops = weakref.WeakSet[asyncio.AbstractEventLoop]()
    for _ in range(10):
        loop = asyncio.new_event_loop()
        loops.add(loop)
        task = loop.create_task(sub.take_async())
        loop.run_until_complete(suspended(task))
        if woken:
            publish(pub, 1)
            assert select.select([_bells[loop]().doorbell], [], [], 30)[0]  # type: ignore[misc]  # it is there
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # what asyncio would complain of
        del loop, task
        while sub.take() is not None:
            pass
    gc.collect()
    assert not loops
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.row("NOT-9")
def test_other_tasks_have_a_turn_while_there_are_samples(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Although each look finds one."""

    async def main() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(count())
        for number in range(640):
            publish(pub, number)
            await sub.take_async()
        task.cancel()
        return turns

    assert asyncio.run(main()) >= 20


@pytest.mark.row("NOT-6", "NOT-9")
def test_a_reader_of_a_loop(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """`loop.add_reader(sub, …)` calls when there is something."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        numbers: list[int] = []
        done = loop.create_future()

        def look() -> None:
            lease = sub.take()
            if lease is not None:
                numbers.append(lease.sample.number)
                if len(numbers) == 20:
                    done.set_result(None)

        loop.add_reader(sub, look)
        for number in range(20):
            publish(pub, number)
            await asyncio.sleep(0.0005 * (number % 2))
        await done
        loop.remove_reader(sub)
        return numbers

    assert asyncio.run(main()) == list(range(20))


@pytest.mark.row("NOT-9")
def test_an_eviction_is_raised_by_the_task(pub: zs.Publisher[Tick]) -> None:
    """One that waits is woken by it, and goes on after it."""
    with (
        zs.Publisher("full", Tick, depth=1, max_loans=1, spare_slots=1, on_full="block", evict_after=0.01) as full,
        zs.Subscriber("full", Tick, reliable=True) as evicted,
    ):
        publish(full, 1)
        full.publish(Tick(number=2), timeout=None)

        async def main() -> None:
            with pytest.raises(zs.EvictedError):
                await evicted.take_async()
            task = asyncio.create_task(evicted.take_async())
            await suspended(task)
            full.publish(Tick(number=3), timeout=None)
            assert number_of(await task) == 3

        asyncio.run(main())


@pytest.mark.row("NOT-12")
def test_a_loop_meets_the_publishers_of_other_subscribers(sub: zs.Subscriber[Tick]) -> None:
    """While a task waits, as in any wait of a process."""
    with zs.Subscriber("other", Tick) as other:
        found: list[bool] = []

        def publish_to_other() -> None:
            with zs.Publisher("other", Tick) as other_pub:
                found.append(other_pub.wait_for_subscribers())

        thread = threading.Thread(target=publish_to_other)

        async def main() -> None:
            task = asyncio.create_task(sub.take_async())
            await suspended(task)
            thread.start()
            while not found:
                await asyncio.sleep(0.001)
            task.cancel()

        asyncio.run(main())
        thread.join()
        assert found == [True]
        other.close()
