"""Subscribers in trio: taking, timeouts, cancellation, and the end of a subscriber."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import zeroslot as zs
from tests.process.samples import Tick

trio: Any = pytest.importorskip("trio", reason="trio is not installed: the extra `recipes` has it")
pytest.importorskip("trio.testing")  # which trio itself does not import


def number_of(lease: zs.Lease[Tick] | None) -> int:
    assert lease is not None
    return lease.sample.number


@pytest.mark.row("NOT-9", "NEW-13")
def test_a_task_gets_each_sample_in_order(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Published by a thread, each after the one before it was taken, so the task waits for each."""
    taken = threading.Semaphore(1)

    def publish() -> None:
        for number in range(1, 101):
            taken.acquire()
            pub.publish(Tick(number=number))

    async def main() -> list[int]:
        numbers: list[int] = []
        async for lease in sub:
            numbers.append(lease.sample.number)
            taken.release()
            if len(numbers) == 100:
                break
        return numbers

    thread = threading.Thread(target=publish)
    thread.start()
    assert trio.run(main) == list(range(1, 101))
    thread.join()


@pytest.mark.row("NOT-9")
@pytest.mark.parametrize("timeout", [0, -1, 0.001, 0.02])
def test_a_timeout_gives_none(sub: zs.Subscriber[Tick], timeout: float) -> None:
    """Zero and negative ones look once."""
    assert trio.run(sub.take_async, timeout) is None
    assert trio.run(sub.latest_async, timeout) is None


@pytest.mark.row("NOT-9")
def test_tasks_of_one_loop_share_a_subscriber(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Each sample is taken by one of them."""
    numbers: list[int] = []

    async def take() -> None:
        for _ in range(10):
            numbers.append(number_of(await sub.take_async()))  # noqa: PERF401  # the other task does so as well

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            nursery.start_soon(take)
            for number in range(20):
                pub.publish(Tick(number=number))
                await trio.lowlevel.checkpoint()

    trio.run(main)
    assert sorted(numbers) == list(range(20))


@pytest.mark.row("NOT-9", "NEW-13")
def test_cancelled_waits_lose_nothing_and_leave_nothing(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Cancelled while they sleep, a thousand times; then a sample comes, and is there for the next wait."""

    async def main() -> int:
        for _ in range(1000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sub.take_async)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        pub.publish(Tick(number=7))
        return number_of(await sub.take_async())

    assert trio.run(main) == 7
    assert (sub.stats.taken, sub.lost, sub.skipped) == (1, 0, 0)


@pytest.mark.row("NOT-13")
def test_a_wait_ends_when_the_subscriber_is_closed(sub: zs.Subscriber[Tick]) -> None:
    """ClosedError, as in a thread."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def take() -> None:
                with pytest.raises(zs.ClosedError):
                    await sub.take_async()

            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            sub.close()

    trio.run(main)
