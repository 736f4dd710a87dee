"""WaitSet in one process: what may be attached, and what is ready when."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import zeroslot as zs
from tests.process.samples import Tick


@pytest.fixture
def pub() -> Iterator[zs.Publisher[Tick]]:
    with zs.Publisher("t", Tick) as made:
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.mark.row("SUB-3")
def test_a_peek_takes_nothing(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """It tells of the sample that the next take gives, also where older ones have been overwritten."""
    assert sub.peek() is None
    for published in (2, 40):
        for number in range(published):
            pub.publish(Tick(number=number))
        for _ in range(2):
            facts = sub.peek()
            assert facts is not None
        lease = sub.take()
        assert lease is not None
        assert facts == (lease.sequence, lease.published_ns, lease.size)
        while sub.take() is not None:
            pass
        assert sub.peek() is None
    assert sub.stats.taken + sub.lost == 42
    sub.close()
    with pytest.raises(zs.ClosedError):
        sub.peek()


@pytest.mark.row("SUB-3")
def test_a_peek_looks_at_the_publisher_whose_turn_it_is(sub: zs.Subscriber[Tick], pub: zs.Publisher[Tick]) -> None:
    """As take does."""
    with zs.Publisher("t", Tick) as second:
        for _ in range(3):
            pub.publish(Tick(number=1))
            second.publish(Tick(number=2))
        for _ in range(6):
            facts, lease = sub.peek(), sub.take()
            assert facts is not None
            assert lease is not None
            assert facts[:2] == (lease.sequence, lease.published_ns)


@pytest.mark.row("NOT-11")
@pytest.mark.parametrize("with_descriptor", [False, True])
def test_what_is_ready_is_what_was_attached(
    pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], pair: tuple[socket.socket, socket.socket], with_descriptor: bool
) -> None:
    """The very objects, in the order of attaching, and each as long as it has something."""
    with zs.Subscriber("other", Tick) as other, zs.WaitSet(other, sub) as waiting:
        if with_descriptor:
            waiting.attach(pair[0])
        assert waiting.wait(timeout=0) == []
        pub.publish(Tick(number=1))
        for _ in range(2):
            (ready,) = waiting.wait()
            assert ready is sub
        with zs.Publisher("other", Tick) as other_pub:
            other_pub.publish(Tick(number=2))
            assert waiting.wait() == [other, sub]
            assert other.take() is not None
        assert waiting.wait() == [sub]
        assert sub.take() is not None
        assert waiting.wait(timeout=0) == []


@pytest.mark.row("NOT-11")
def test_descriptors_are_objects_and_numbers(pair: tuple[socket.socket, socket.socket]) -> None:
    """A number is given back as that number; both stay ready until they are read."""
    reading, writing = os.pipe()
    try:
        with zs.WaitSet(pair[0], reading) as waiting:
            assert waiting.wait(timeout=0) == []
            os.write(writing, b"x")
            assert waiting.wait() == [reading]
            pair[1].send(b"x")
            assert waiting.wait() == [pair[0], reading]
            os.read(reading, 1)
            assert waiting.wait() == [pair[0]]
            waiting.detach(pair[0])
            waiting.attach(pair[0], read=False, write=True)
            assert waiting.wait() == [pair[0]]
            waiting.detach(pair[0])
            os.close(writing)
            writing = -1
            assert waiting.wait() == [reading]  # hung up
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


@pytest.mark.row("NOT-11")
def test_a_timer_comes_again_and_again() -> None:
    """Those that nothing waited for are reported once, and counted."""
    with zs.WaitSet() as waiting:
        timer = waiting.every(0.001)
        for _ in range(20):
            assert waiting.wait() == [timer]
        missed = timer.missed
        threading.Event().wait(0.02)
        assert waiting.wait() == [timer]
        assert timer.missed >= missed + 10


@pytest.mark.row("NOT-11")
def test_a_timer_that_is_late_goes_on_in_time() -> None:
    """However many times were missed, the next one is in the future."""
    with zs.WaitSet() as waiting:
        timer = waiting.every(1000.0)
        timer._next_ns -= 3_500_000_000_000
        assert waiting.wait(0) == [timer]
        assert timer.missed == 2
        assert waiting.wait(0) == []


def test_what_is_ready_comes_in_the_order_of_attaching(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Whatever kind it is of."""
    with zs.WaitSet() as waiting:
        event = waiting.event()
        waiting.attach(sub)
        event.set()
        pub.publish(Tick(number=1))
        assert waiting.wait() == [event, sub]


def test_timers_have_their_own_times() -> None:
    """The faster one comes more often."""
    with zs.WaitSet() as waiting:
        fast, slow = waiting.every(0.002), waiting.every(0.02)
        counts = {fast: 0, slow: 0}
        while counts[slow] < 3:
            for ready in waiting.wait():
                counts[ready] += 1
        assert counts[fast] + fast.missed > 5 * (counts[slow] + slow.missed) - 5


@pytest.mark.row("NOT-7", "NOT-11")
@pytest.mark.parametrize("with_descriptor", [False, True])
def test_an_event_is_ready_once_for_any_number_of_notifications(
    pair: tuple[socket.socket, socket.socket], with_descriptor: bool
) -> None:
    """Also where another thread notifies during the wait; a set one is ready until it is cleared."""
    with zs.WaitSet() as waiting:
        if with_descriptor:
            waiting.attach(pair[0])
        event = waiting.event()
        assert not event.is_set()
        event.notify()
        event.notify()
        assert event.is_set()
        assert waiting.wait() == [event]
        assert not event.is_set()
        assert waiting.wait(timeout=0) == []
        event.set()
        event.notify()
        assert waiting.wait() == [event]
        assert waiting.wait() == [event]
        event.clear()
        assert waiting.wait(timeout=0) == []
        thread = threading.Timer(0.01, event.notify)
        thread.start()
        assert waiting.wait() == [event]
        thread.join()


@pytest.mark.row("SUB-16", "NOT-11")
@pytest.mark.parametrize("attached", [False, True])
def test_a_quiet_topic_is_an_event(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], attached: bool) -> None:
    """Once for each period without a sample, whether or not the subscriber is attached and takes."""
    with zs.WaitSet(*([sub] if attached else [])) as waiting:
        late = waiting.deadline(sub, 0.03)
        for _ in range(3):
            assert waiting.wait() == [late]
        for _ in range(10):
            pub.publish(Tick(number=1))
            threading.Event().wait(0.001)
            assert late not in waiting.wait(timeout=0)
            sub.take()
        assert waiting.wait() == [late]


@pytest.mark.row("SUB-16")
@pytest.mark.parametrize("closed", [False, True])
def test_a_deadline_counts_from_the_last_sample(
    pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], closed: bool
) -> None:
    """One that was published after the deadline was attached and before the wait began, also if its publisher ended."""
    with zs.WaitSet() as waiting:
        late = waiting.deadline(sub, 0.05)
        threading.Event().wait(0.03)
        pub.publish(Tick(number=1))
        assert sub.latest() is not None
        published = time.monotonic()
        if closed:
            pub.close()
            assert sub.take() is None
            assert sub.stats.publishers == 0
        assert waiting.wait() == [late]
        assert time.monotonic() - published >= 0.049


@pytest.mark.row("NOT-11")
def test_one_set_has_more_topics_than_a_futex_call_takes() -> None:
    """Beyond 128 words the wait looks every millisecond; each topic wakes it."""
    with contextlib.ExitStack() as stack:
        pubs = [stack.enter_context(zs.Publisher(f"many/{n}", Tick, depth=1, spare_slots=1)) for n in range(140)]
        subs = [stack.enter_context(zs.Subscriber(f"many/{n}", Tick, max_leases=1)) for n in range(140)]
        waiting = stack.enter_context(zs.WaitSet(*subs))
        assert waiting.wait(timeout=0.002) == []
        for n in (0, 70, 139):
            thread = threading.Timer(0.01, pubs[n].send, kwargs={"number": n})
            thread.start()
            assert waiting.wait() == [subs[n]]
            thread.join()
            assert subs[n].take() is not None


@pytest.mark.row("NOT-11")
@pytest.mark.parametrize("with_descriptor", [False, True])
def test_an_evicted_subscriber_is_ready(pair: tuple[socket.socket, socket.socket], with_descriptor: bool) -> None:
    """Until its error was raised; then it joins again."""
    with (
        zs.Publisher("full", Tick, depth=1, max_loans=1, spare_slots=1, on_full="block", evict_after=0.01) as full,
        zs.Subscriber("full", Tick, reliable=True) as evicted,
        zs.WaitSet(evicted, *([pair[0]] if with_descriptor else [])) as waiting,
    ):
        full.publish(Tick(number=1))
        full.publish(Tick(number=2), timeout=None)
        assert waiting.wait() == [evicted]
        with pytest.raises(zs.EvictedError):
            evicted.take()
        evicted.take()
        full.publish(Tick(number=3), timeout=None)
        assert waiting.wait() == [evicted]
        lease = evicted.take()
        assert lease is not None
        assert lease.sample.number == 3


@pytest.mark.row("NOT-11", "NOT-1")
def test_each_of_many_topics_wakes_a_set_that_sleeps() -> None:
    """Whichever it is, and however often: what came between the look and the sleep is seen as well."""
    with contextlib.ExitStack() as stack:
        pubs = [stack.enter_context(zs.Publisher(f"some/{n}", Tick, depth=8)) for n in range(8)]
        subs = [stack.enter_context(zs.Subscriber(f"some/{n}", Tick, spin_us=0)) for n in range(8)]
        waiting = stack.enter_context(zs.WaitSet(*subs))
        taken = threading.Semaphore(1)

        def publish() -> None:
            for number in range(2000):
                taken.acquire()
                pubs[number * 5 % 8].send(number=number)

        thread = threading.Thread(target=publish)
        thread.start()
        for number in range(2000):
            (ready,) = waiting.wait()
            assert ready is subs[number * 5 % 8]
            assert ready.take().sample.number == number
            taken.release()
        thread.join()


@pytest.mark.row("NOT-11", "NOT-13")
def test_a_closed_subscriber_is_ready(sub: zs.Subscriber[Tick]) -> None:
    """Its `take` says why; a wait that runs is woken."""
    with zs.WaitSet(sub) as waiting:
        closer = threading.Timer(0.01, sub.close)
        closer.start()
        assert waiting.wait() == [sub]
        closer.join()
        with pytest.raises(zs.ClosedError):
            sub.take()
        waiting.detach(sub)
        assert waiting.wait(timeout=0) == []


@pytest.mark.row("NOT-13")
@pytest.mark.parametrize("with_descriptor", [False, True])
def test_closing_ends_the_waits_of_other_threads(
    pair: tuple[socket.socket, socket.socket], with_descriptor: bool
) -> None:
    """They raise ClosedError."""
    waiting = zs.WaitSet(*([pair[0]] if with_descriptor else []))
    closer = threading.Timer(0.01, waiting.close)
    closer.start()
    with pytest.raises(zs.ClosedError):
        waiting.wait()
    closer.join()
    waiting.close()
    for call in (waiting.event, waiting.wait, lambda: waiting.every(1), lambda: waiting.attach(pair[0])):
        with pytest.raises(zs.ClosedError):
            call()
    assert waiting.closed
    assert "closed" in repr(waiting)


@pytest.mark.row("NOT-11")
@pytest.mark.parametrize("with_descriptor", [False, True])
def test_attaching_reaches_a_wait_that_runs(
    pub: zs.Publisher[Tick],
    sub: zs.Subscriber[Tick],
    pair: tuple[socket.socket, socket.socket],
    with_descriptor: bool,
) -> None:
    """In another thread."""
    pub.publish(Tick(number=1))
    pair[1].send(b"x")
    with zs.WaitSet() as waiting:
        later: Any = pair[0] if with_descriptor else sub
        thread = threading.Timer(0.01, lambda: waiting.attach(later))
        thread.start()
        assert waiting.wait() == [later]
        thread.join()


def test_threads_may_wait_on_one_set(
    pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], pair: tuple[socket.socket, socket.socket]
) -> None:
    """Each of them wakes."""
    for attached in ([sub], [sub, pair[0]]):
        with zs.WaitSet(*attached) as waiting:
            found: list[object] = []
            threads = [threading.Thread(target=lambda: found.extend(waiting.wait())) for _ in range(4)]  # noqa: B023  # joined in the same turn
            for thread in threads:
                thread.start()
            threading.Event().wait(0.01)
            pub.publish(Tick(number=1))
            for thread in threads:
                thread.join()
            assert found == [sub] * 4
            assert sub.take() is not None


def test_what_is_attached_can_be_listed(sub: zs.Subscriber[Tick], pair: tuple[socket.socket, socket.socket]) -> None:
    """In the order of attaching."""
    with zs.WaitSet(sub) as waiting:
        assert waiting.attach(pair[0]) is pair[0]
        timer = waiting.every(1)
        assert list(waiting) == [sub, pair[0], timer]
        assert len(waiting) == 3
        assert sub in waiting
        waiting.detach(timer)
        assert timer not in waiting
        assert "2 attached" in repr(waiting)


def test_what_cannot_be_attached(sub: zs.Subscriber[Tick], pub: zs.Publisher[Tick]) -> None:
    """Each error says what is wrong."""
    with zs.WaitSet(sub) as waiting:
        for wrong in (pub, "t", True, None, 1.5):
            with pytest.raises(TypeError, match="descriptors"):
                waiting.attach(wrong)
        with pytest.raises(ValueError, match="attached already"):
            waiting.attach(sub)
        with pytest.raises(ValueError, match="only read"):
            waiting.attach(sub, write=True)
        with pytest.raises(ValueError, match="or both"):
            waiting.attach(0, read=False)
        with pytest.raises(OSError):  # EBADF
            waiting.attach(987_654)
        with pytest.raises(ValueError, match="not attached"):
            waiting.detach(pub)
        for seconds in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="seconds"):
                waiting.every(seconds)
            with pytest.raises(ValueError, match="seconds"):
                waiting.deadline(sub, seconds)
        with pytest.raises(TypeError):
            waiting.every("1")  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError):
            waiting.deadline(pub, 1)  # type: ignore[arg-type]  # on purpose
        assert list(waiting) == [sub]


@pytest.mark.row("DEF-13")
@pytest.mark.parametrize("with_descriptor", [False, True])
def test_timeouts(sub: zs.Subscriber[Tick], pair: tuple[socket.socket, socket.socket], with_descriptor: bool) -> None:
    """Zero, negative and tiny ones look once; nan and what is no number are errors."""
    with zs.WaitSet(sub, *([pair[0]] if with_descriptor else [])) as waiting:
        for timeout in (0, -1, -1e300, 1e-9, 1e-4, -(10**400)):
            assert waiting.wait(timeout) == []
        with pytest.raises(ValueError, match="NaN"):
            waiting.wait(float("nan"))
        for wrong in ("1", [], object()):
            with pytest.raises(TypeError):
                waiting.wait(wrong)  # type: ignore[arg-type]  # on purpose
        event = waiting.event()
        for huge in (1e300, float("inf"), 10**400, 2**63):
            thread = threading.Timer(0.005, event.notify)
            thread.start()
            assert waiting.wait(huge) == [event]
            thread.join()


@pytest.mark.row("NOT-6", "NEW-13")
def test_a_subscriber_has_a_descriptor(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Readable from a sample until a take has found nothing; one take for each wake-up misses nothing."""
    poll = select.poll()
    poll.register(sub, select.POLLIN)
    assert sub.fileno() == sub.fileno()
    sub.take()
    assert poll.poll(0) == []
    for _ in range(3):
        for number in (1, 2):
            pub.publish(Tick(number=number))
        numbers = []
        while len(numbers) < 2:
            assert poll.poll() == [(sub.fileno(), select.POLLIN)]
            lease = sub.take()
            if lease is not None:
                numbers.append(lease.sample.number)
        assert numbers == [1, 2]
        assert sub.take() is None
        assert poll.poll(0) == []


@pytest.mark.row("NOT-6", "NOT-13")
def test_the_descriptor_of_a_closed_subscriber_stays_readable(sub: zs.Subscriber[Tick]) -> None:
    """Until the subscriber is dropped: what sleeps on it wakes, and `take` says why."""
    descriptor = sub.fileno()
    closer = threading.Timer(0.01, sub.close)
    closer.start()
    assert select.select([descriptor], [], []) == ([descriptor], [], [])
    closer.join()
    with pytest.raises(zs.ClosedError):
        sub.fileno()


@pytest.mark.row("NOT-6")
def test_a_subscriber_that_is_dropped_closes_its_descriptor(pub: zs.Publisher[Tick]) -> None:
    """The waker does not keep it."""
    sub = zs.Subscriber("t", Tick)
    descriptor = sub.fileno()
    os.fstat(descriptor)
    del sub
    while True:
        try:
            os.fstat(descriptor)
        except OSError:
            break
        threading.Event().wait(0.01)
    assert pub.subscriber_count == 0


@pytest.mark.row("NEW-13")
@pytest.mark.parametrize("with_descriptor", [False, True])
def test_a_signal_handler_may_set_an_event(pair: tuple[socket.socket, socket.socket], with_descriptor: bool) -> None:
    """Of the set for which its thread waits."""
    with zs.WaitSet(*([pair[0]] if with_descriptor else [])) as waiting:
        event = waiting.event()
        before = signal.signal(signal.SIGALRM, lambda *_: event.set())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            assert waiting.wait() == [event]
        finally:
            signal.signal(signal.SIGALRM, before)


def test_a_set_cannot_be_pickled(sub: zs.Subscriber[Tick]) -> None:
    """It stands for memory of this process."""
    with zs.WaitSet(sub) as waiting, pytest.raises(TypeError, match="pickled"):
        pickle.dumps(waiting)
