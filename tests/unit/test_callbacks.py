"""Subscriber.on_sample: threads that call a function with each sample."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

import zeroslot as zs
from tests.process.samples import Tick


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> queue.Queue[BaseException]:
    """What `threading.excepthook` gets."""
    errors: queue.Queue[BaseException] = queue.Queue()
    monkeypatch.setattr(threading, "excepthook", lambda given: errors.put(given.exc_value.with_traceback(None)))
    return errors


def publish(pub: zs.Publisher[Tick], *numbers: int) -> None:
    for number in numbers:
        pub.publish(Tick(number=number))


@pytest.mark.row("NOT-10")
def test_a_function_is_called_with_each_sample(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """In order, in a thread of its own; the lease ends with the call."""
    numbers: queue.Queue[tuple[int, threading.Thread]] = queue.Queue()
    with sub.on_sample(lambda lease: numbers.put((lease.sample.number, threading.current_thread()))) as handle:
        publish(pub, *range(1, 41))
        found = [numbers.get() for _ in range(40)]
        assert [number for number, _ in found] == list(range(1, 41))
        (thread,) = {thread for _, thread in found}
        assert thread is not threading.current_thread()
        assert handle.running
    assert not handle.running
    assert "stopped" in repr(handle)
    publish(pub, 41)
    lease = sub.take()
    assert lease is not None
    assert lease.sample.number == 41
    assert sub.stats.leases == 1


@pytest.mark.row("NOT-10")
def test_latest_skips_what_is_older(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """A function that is slow gets the newest sample."""
    numbers: queue.Queue[int] = queue.Queue()
    go_on = threading.Event()

    def slow(lease: zs.Lease[Tick]) -> None:
        numbers.put(lease.sample.number)
        go_on.wait()

    with sub.on_sample(slow, latest=True):
        publish(pub, 1)
        assert numbers.get() == 1
        publish(pub, 2, 3, 4)
        go_on.set()
        assert numbers.get() == 4
    assert sub.skipped == 2


@pytest.mark.row("NOT-10")
def test_stop_waits_for_the_call_that_runs(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Up to its timeout."""
    began, go_on = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        began.set()
        go_on.wait()

    handle = sub.on_sample(slow)
    publish(pub, 1, 2)
    began.wait()
    assert not handle.stop(timeout=0)
    assert not handle.stop(timeout=0.001)
    assert handle.running
    go_on.set()
    assert handle.stop()
    assert handle.stop(timeout=1e300)
    lease = sub.take()  # the second one
    assert lease is not None
    with pytest.raises(ValueError, match="NaN"):
        handle.stop(float("nan"))


@pytest.mark.row("NOT-10")
def test_a_function_may_stop_itself(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """No later sample is taken."""
    handles: queue.Queue[Any] = queue.Queue()
    numbers: list[int] = []

    def once(lease: zs.Lease[Tick]) -> None:
        numbers.append(lease.sample.number)
        assert not handles.get().stop()

    handle = sub.on_sample(once)
    publish(pub, 1, 2)
    handles.put(handle)
    while handle.running:
        threading.Event().wait(0.001)
    assert numbers == [1]
    assert sub.take() is not None


@pytest.mark.row("NOT-10")
def test_errors_of_a_function_are_reported(
    pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], reported: queue.Queue[BaseException]
) -> None:
    """Each one, and the next sample is taken."""

    def fail(lease: zs.Lease[Tick]) -> None:
        raise KeyError(lease.sample.number)

    with sub.on_sample(fail):
        publish(pub, 1, 2)
        assert [repr(reported.get()) for _ in range(2)] == ["KeyError(1)", "KeyError(2)"]


@pytest.mark.row("NOT-10")
def test_errors_of_taking_are_reported_once(
    pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], reported: queue.Queue[BaseException]
) -> None:
    """A function that keeps its leases gets no more, until it lets go of them."""
    kept: queue.Queue[zs.Lease[Tick]] = queue.Queue()
    with sub.on_sample(kept.put):
        publish(pub, *range(1, 7))
        assert isinstance(reported.get(), zs.TooManyLeasesError)
        assert kept.qsize() == 4
        numbers = [kept.get().sample.number for _ in range(6)]
        assert numbers == list(range(1, 7))
    assert reported.empty()


@pytest.mark.row("NOT-10", "NOT-13")
def test_a_callback_ends_when_its_subscriber_is_closed(sub: zs.Subscriber[Tick]) -> None:
    """Without an error."""
    handle = sub.on_sample(print)
    sub.close()
    while handle.running:
        threading.Event().wait(0.001)
    with pytest.raises(zs.ClosedError):
        sub.on_sample(print)


def test_a_subscriber_may_have_several_functions(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> None:
    """Each sample goes to one of them."""
    numbers: queue.Queue[int] = queue.Queue()

    def put(lease: zs.Lease[Tick]) -> None:
        numbers.put(lease.sample.number)

    with sub.on_sample(put), sub.on_sample(put):
        publish(pub, *range(1, 41))
        assert sorted(numbers.get() for _ in range(40)) == list(range(1, 41))


def test_what_is_no_function_is_an_error(sub: zs.Subscriber[Tick]) -> None:
    """As is what is no flag."""
    with pytest.raises(TypeError, match="takes a function"):
        sub.on_sample(None)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match="latest"):
        sub.on_sample(print, latest=1)  # type: ignore[arg-type]  # on purpose
