"""Threads of one process share handles: waits release the GIL, and closing ends every wait."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Tick


@pytest.mark.parametrize(
    "wait", ["sub.take(timeout=None)", "sub.wait()", "sub.latest(timeout=None)", "next(iter(sub))"]
)
@pytest.mark.parametrize("spin_us", [0, 1e9])
def test_a_wait_releases_the_gil(cast: Cast, wait: str, spin_us: float):
    """Asleep and spinning: other threads run, and a publish of the same process ends the wait."""
    child = cast(
        f"""
        import threading, zeroslot as zs
        from tests.process.samples import Tick
        pub = zs.Publisher("t", Tick)
        sub = zs.Subscriber("t", Tick, spin_us={spin_us})
        started = threading.Event()
        def wait():
            started.set()
            {wait}
        thread = threading.Thread(target=wait)
        thread.start()
        started.wait()
        total = sum(range(200_000))
        say("alive")
        hear()
        pub.publish(Tick(number=1))
        thread.join()
        say("awake")
        """
    )
    child.expect("alive")
    assert child.ask("publish") == "awake"


def test_a_blocked_loan_releases_the_gil(cast: Cast):
    """Another thread of the process releases the slot that the loan waits for."""
    child = cast(
        """
        import threading, zeroslot as zs
        from tests.process.samples import Tick
        pub = zs.Publisher("t", Tick, depth=1, max_loans=1, spare_slots=0)
        sub = zs.Subscriber("t", Tick)
        pub.publish(Tick(number=1))
        first = sub.take()
        pub.publish(Tick(number=2))
        second = sub.take()
        started = threading.Event()
        def loan():
            started.set()
            with pub.loan(timeout=None) as tick:
                tick.number = 3
        thread = threading.Thread(target=loan)
        thread.start()
        started.wait()
        say("alive")
        hear()
        first.release()
        thread.join()
        say(sub.take().sample.number)
        """
    )
    child.expect("alive")
    assert child.ask("release") == 3


@pytest.mark.row("SUB-20", "NOT-13")
@pytest.mark.parametrize("wait", ["take", "latest", "wait", "iteration", "wait_for_publishers"])
def test_closing_ends_the_waits_of_other_threads(zeroslot_dir: object, wait: str):
    """Iteration ends, everything else raises ClosedError, in every thread."""
    sub = zs.Subscriber("t", Tick, spin_us=0)
    waits = {
        "take": lambda: sub.take(timeout=None),
        "latest": lambda: sub.latest(timeout=None),
        "wait": sub.wait,
        "iteration": lambda: list(sub),
        "wait_for_publishers": sub.wait_for_publishers,
    }
    barrier = threading.Barrier(4)
    ends: list[object] = []

    def run() -> None:
        barrier.wait()
        try:
            ends.append(waits[wait]())
        except zs.ClosedError as error:
            ends.append(type(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    barrier.wait()
    sub.close()
    for thread in threads:
        thread.join()
    if wait == "iteration":
        # One that had not begun to wait ends in the same way.
        assert ends == [[]] * 3
    else:
        assert ends == [zs.ClosedError] * 3


def test_closing_a_publisher_ends_its_blocked_loans(zeroslot_dir: object):
    """ClosedError in the thread that waits for a slot."""
    pub = zs.Publisher("t", Tick, depth=1, max_loans=1, spare_slots=0)
    with zs.Subscriber("t", Tick) as sub:
        held = []
        for number in range(2):
            pub.publish(Tick(number=number))
            held.append(sub.take())
        ends: list[object] = []

        def loan() -> None:
            try:
                pub.loan(timeout=None)
            except zs.ClosedError:
                ends.append("closed")

        thread = threading.Thread(target=loan)
        thread.start()
        while not pub.stats.blocked:
            pass
        pub.close()
        thread.join()
        assert ends == ["closed"]
        assert [lease.sample.number for lease in held if lease] == [0, 1]


def test_threads_of_one_subscriber_share_the_samples(cast: Cast):
    """Each sample goes to one of them, once; together they get all that is not lost."""
    pub = cast.publisher("t", depth=512)
    got: Counter[int] = Counter()
    with zs.Subscriber("t", Tick, max_leases=16) as sub:
        seen: list[list[int]] = [[] for _ in range(4)]
        total = 2000
        done = threading.Event()

        def take(mine: list[int]) -> None:
            while not done.is_set():
                lease = sub.take(timeout=0.01)
                if lease is not None:
                    mine.append(lease.sequence)
                    lease.release()

        threads = [threading.Thread(target=take, args=(mine,)) for mine in seen]
        for thread in threads:
            thread.start()
        for _ in range(total // 100):
            pub.ask(["publish", 100])
        while (stats := sub.stats).taken + stats.lost < total:
            pass
        done.set()
        for thread in threads:
            thread.join()
        for mine in seen:
            assert mine == sorted(mine)
            got.update(mine)
        assert set(got.values()) == {1}
        assert len(got) + sub.lost == total


def test_threads_of_one_publisher_publish_every_sample_once(cast: Cast):
    """Sequences have no gap and no duplicate, and each sample is what its thread wrote."""
    child = cast(
        """
        import threading, zeroslot as zs
        from tests.process.samples import Tick
        pub = zs.Publisher("t", Tick, depth=2048, max_loans=4)
        say("ready")
        hear()
        def publish(thread):
            for number in range(500):
                sequence = pub.publish(Tick(number=number, sender=str(thread)))
        threads = [threading.Thread(target=publish, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        say(pub.sequence)
        hear()
        pub.close()
        """
    )
    child.expect("ready")
    with zs.Subscriber("t", Tick) as sub:
        assert child.ask("go") == 2000
        numbers: dict[str, list[int]] = {}
        for at, lease in enumerate(iter(sub.take, None), 1):
            assert lease.sequence == at
            numbers.setdefault(lease.sample.sender, []).append(lease.sample.number)
        assert numbers == {str(thread): list(range(500)) for thread in range(4)}
        assert sub.lost == 0
