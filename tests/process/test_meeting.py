"""Any wait of a process meets publishers for all of its subscribers: programs with several topics never wait for each
other in a circle.
"""

from __future__ import annotations

import itertools
import logging
import threading

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Tick

# Written as a program is that knows nothing of this: each stage makes its handles, waits until the others are there,
# and works.
CAMERA = """
import zeroslot as zs
from tests.process.samples import Tick
with zs.Publisher("camera", Tick, on_full="block") as frames:
    frames.wait_for_subscribers(2)
    for number in range(1, 51):
        frames.publish(Tick(number=number))
    frames.flush()
"""

DETECTOR = """
import zeroslot as zs
from tests.process.samples import Tick
with (
    zs.Publisher("detections", Tick, on_full="block") as detections,
    zs.Subscriber("camera", Tick, reliable=True) as frames,
):
    detections.wait_for_subscribers()
    for _ in range(50):
        detections.publish(Tick(number=1000 + frames.take(timeout=None).sample.number))
    detections.flush()
"""

DISPLAY = """
import zeroslot as zs
from tests.process.samples import Tick
with (
    zs.Subscriber("camera", Tick, reliable=True) as frames,
    zs.Subscriber("detections", Tick, reliable=True) as detections,
):
    shown = []
    while len(shown) < 100:
        for sub in zs.wait(frames, detections):
            shown.append(sub.take().sample.number)
    say([n for n in shown if n < 1000] == list(range(1, 51)))
    say([n for n in shown if n > 1000] == list(range(1001, 1051)))
    say([frames.lost, detections.lost])
"""

STAGES = {"camera": CAMERA, "detector": DETECTOR, "display": DISPLAY}


@pytest.mark.row("NOT-11", "NOT-12", "NEW-13")
@pytest.mark.parametrize("order", list(itertools.permutations(STAGES)), ids="-".join)
def test_a_pipeline_meets_in_every_order_of_starting(cast: Cast, order: tuple[str, ...]) -> None:
    """Camera, detector and display, where the display waits on either topic: all meet, and nothing is lost."""
    children = {}
    for stage in order:
        children[stage] = cast(STAGES[stage], name=stage)
        if len(children) < len(order):  # all of them end soon after the last one has started
            children[stage].wait_for_sleep()
    assert [children["display"].hear() for _ in range(3)] == [True, True, [0, 0]]
    for child in children.values():
        child.finish()


WAITS = {
    "take": "zs.Subscriber('other', Tick, spin_us=0).take(timeout=None)",
    "latest": "zs.Subscriber('other', Tick, spin_us=0).latest(timeout=None)",
    "take_many": "zs.Subscriber('other', Tick, spin_us=0).take_many(timeout=None)",
    "a spinning take": "zs.Subscriber('other', Tick, spin_us=1e9).take(timeout=None)",
    "wait": "zs.Subscriber('other', Tick).wait()",
    "zs.wait": "zs.wait(zs.Subscriber('other', Tick), zs.Subscriber('another', Tick))",
    "wait_for_publishers": "zs.Subscriber('other', Tick).wait_for_publishers()",
    "wait_for_subscribers": "zs.Publisher('other', Tick).wait_for_subscribers()",
    "flush": "pub.flush()",
    "a loan that blocks": "pub.publish(Tick(number=2))",
    "wait_for_change": "slots.wait_for_change(slots.generation)",
    "SlotReader.attach": "zs.SlotReader.attach('/missing.flink', timeout=None)",
}


@pytest.mark.row("NOT-12")
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_every_wait_meets_the_publishers_of_the_other_subscribers(cast: Cast, wait: str) -> None:
    """A publisher that waits for a subscriber of a process goes on, whatever that process waits for."""
    waiting = cast(
        """
        import threading
        import zeroslot as zs
        from tests.process.samples import Tick
        at_hand = zs.Subscriber("topic", Tick)
        pub = zs.Publisher("full", Tick, depth=1, max_loans=1, on_full="block")
        slow = zs.Subscriber("full", Tick, reliable=True)
        pub.publish(Tick(number=1))
        slots = zs.SlotAllocator.in_memory(4, 64).reader()
        threading.Thread(target=lambda: eval(args[0]), daemon=True).start()
        say("ready")
        for _ in orders():
            say(at_hand.take().sample.number)
        """,
        wait,
    )
    waiting.expect("ready")
    with zs.Publisher("topic", Tick) as pub:
        assert pub.wait_for_subscribers()
        pub.publish(Tick(number=7))
        assert waiting.ask("take") == 7


@pytest.mark.row("NOT-12")
def test_a_publisher_meets_a_subscriber_of_its_own_process() -> None:
    """Its wait follows the bell for that subscriber, too."""
    with zs.Subscriber("t", Tick) as first, zs.Subscriber("t", Tick) as second, zs.Publisher("t", Tick) as pub:
        assert pub.wait_for_subscribers(2)
        pub.publish(Tick(number=1))
        for sub in (first, second):
            lease = sub.take()
            assert lease is not None
            assert lease.sequence == 1


class Other(zs.Sample):
    """A type that is not that of the subscribers."""

    text: zs.U8


def test_an_error_is_raised_by_the_subscriber_that_it_concerns(caplog: pytest.LogCaptureFixture) -> None:
    """A wait of another subscriber follows, and neither raises nor logs; the next call raises, once."""
    with zs.Subscriber("bad", Tick) as bad, zs.Subscriber("good", Tick) as good, zs.Publisher("bad", Other):
        with caplog.at_level(logging.WARNING):
            assert good.take(timeout=0.001) is None
        assert caplog.records == []
        assert zs.wait(bad, good) == [bad]
        assert zs.wait(bad, good, timeout=0) == [bad]
        with pytest.raises(zs.TypeMismatchError):
            bad.take()
        assert bad.take() is None
        assert zs.wait(bad, good, timeout=0) == []


def test_a_warning_is_logged_by_the_subscriber_that_it_concerns(caplog: pytest.LogCaptureFixture) -> None:
    """Its next call logs it, once."""
    with (
        zs.Subscriber("t", Tick, max_leases=8) as sub,
        zs.Subscriber("other", Tick) as other,
        zs.Publisher("t", Tick, spare_slots=4) as pub,
        caplog.at_level(logging.WARNING),
    ):
        other.wait(timeout=0.001)
        assert pub.subscriber_count == 1
        assert caplog.records == []
        sub.take()
        sub.take()
        assert len(caplog.records) == 1
        assert "spare_slots=8" in caplog.text


@pytest.mark.row("NOT-11")
def test_an_evicted_subscriber_joins_again_only_after_its_error(cast: Cast) -> None:
    """The waits of others leave it as it is: the eviction is raised before the publisher is read again."""
    with (
        zs.Publisher("t", Tick, depth=1, max_loans=1, spare_slots=0, on_full="block", evict_after=0.01) as pub,
        zs.Subscriber("t", Tick, reliable=True) as evicted,
        zs.Subscriber("other", Tick) as other,
    ):
        pub.publish(Tick(number=1))
        pub.publish(Tick(number=2), timeout=None)
        with zs.Publisher("t", Tick, on_full="block"):  # which rings the bell
            other.wait(timeout=0.001)
            assert zs.wait(other, evicted) == [evicted]
            with pytest.raises(zs.EvictedError):
                evicted.take()
            assert evicted.take() is None  # joins again
            pub.publish(Tick(number=3), timeout=None)
            lease = evicted.take(timeout=None)
            assert lease is not None
            assert lease.sample.number == 3


def test_a_subscriber_that_another_thread_follows_for_is_not_waited_for(cast: Cast) -> None:
    """A wait only tries the lock of another subscriber, and tries again later."""
    with zs.Subscriber("t", Tick) as sub, zs.Subscriber("other", Tick) as other:
        held, free = threading.Event(), threading.Event()

        def hold() -> None:
            with sub._following:
                held.set()
                free.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        with zs.Publisher("t", Tick) as pub:
            assert not other.wait(timeout=0.03)
            assert pub.subscriber_count == 0
            free.set()
            thread.join()
            assert pub.wait_for_subscribers()
            assert sub.take() is None
