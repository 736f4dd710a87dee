"""A reliable subscription that is announced before a publisher starts is waited for like one that is attached."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Imu, Tick
from zeroslot.memory import announcement
from zeroslot.memory.directories import topic_directory

# A publisher that publishes ten samples at once, without a wait for anyone before.
TEN = """
import zeroslot as zs
from tests.process.samples import Tick
with zs.Publisher("t", Tick, depth=4, **args[0]) as pub:
    say("ready")
    for number in range(1, 11):
        pub.publish(Tick(number=number), timeout=None)
    say("published")
    pub.flush()
    hear()
"""


def announced(topic: str = "t") -> list[Path]:
    return announcement.list_announcements(topic_directory("default", topic))


def numbers(sub: zs.Subscriber[Tick], count: int) -> list[int]:
    """The next samples, each taken and released."""
    found = []
    for _ in range(count):
        lease = sub.take(timeout=None)
        assert lease is not None
        found.append(lease.sample.number)
        lease.release()
    return found


@pytest.mark.row("NOT-12")
@pytest.mark.parametrize("max_loans", [1, 2, 4])
def test_a_busy_reliable_subscriber_loses_nothing_of_a_publisher_that_starts(cast: Cast, max_loans: int) -> None:
    """It makes no call while the publisher starts and fills its segment; then it takes every sample."""
    with zs.Subscriber("t", Tick, reliable=True) as sub:
        child = cast(TEN, {"on_full": "block", "max_loans": max_loans})
        child.expect("ready")
        child.wait_for_sleep()  # in the publish of the fifth
        assert numbers(sub, 10) == list(range(1, 11))
        assert (sub.lost, sub.skipped) == (0, 0)
        child.expect("published")


def test_a_batch_waits_too(cast: Cast) -> None:
    """`publish_many` looks at the window by another way."""
    with zs.Subscriber("t", Tick, reliable=True) as sub:
        child = cast(
            """
            import numpy as np
            import zeroslot as zs
            from tests.process.samples import Tick
            with zs.Publisher("t", Tick, on_full="block", depth=4) as pub:
                batch = np.zeros(10, zs.layout_of(Tick).dtype)
                batch["number"] = range(1, 11)
                say("ready")
                pub.publish_many(batch)
                pub.flush()
            """
        )
        child.expect("ready")
        child.wait_for_sleep()
        assert numbers(sub, 10) == list(range(1, 11))
        assert sub.lost == 0


def test_flush_waits_for_one_that_has_not_attached(cast: Cast) -> None:
    """Nothing is flushed while an announced subscription has taken nothing."""
    busy = cast.subscriber("t", reliable=True)
    with zs.Publisher("t", Tick, on_full="block") as pub:
        pub.publish(Tick(number=1))
        assert not pub.flush(timeout=0.05)
        busy.tell(["take", 1])
        busy.expect("waiting")
        assert pub.flush()
        assert busy.hear() == [[1, 1, ""]]


def test_raise_names_the_process_that_has_not_attached(cast: Cast) -> None:
    """With on_full="raise" the error says which process is in the way; when it attaches, publishing goes on."""
    busy = cast.subscriber("t", reliable=True, name="busy")
    with zs.Publisher("t", Tick, on_full="raise", depth=2, max_loans=1) as pub:
        for number in (1, 2):
            pub.publish(Tick(number=number))
        busy.stop()
        with pytest.raises(zs.BackpressureError, match=f"busy .pid {busy.pid}, stopped.*has not joined") as caught:
            pub.publish(Tick(number=3))
        assert caught.value.holders == ()
        assert [(each.name, each.pid, each.stopped) for each in caught.value.waiting] == [("busy", busy.pid, True)]
        busy.cont()
        assert busy.ask(["poll"]) == [1, 1, ""]
        pub.publish(Tick(number=3))
        assert [busy.ask(["poll"]) for _ in range(2)] == [[2, 2, ""], [3, 3, ""]]
        assert busy.ask(["stats"])["lost"] == 0


def publishes_freely(**options: Any) -> zs.Publisher[Tick]:
    """A publisher whose window no subscription fills."""
    pub = zs.Publisher("t", Tick, on_full="raise", depth=2, max_loans=1, **options)
    for number in range(1, 6):
        pub.publish(Tick(number=number))
    return pub


@pytest.mark.parametrize(
    ("sample_type", "options"),
    [
        (Tick, {}),
        (Imu, {"reliable": True}),
        (Tick, {"reliable": True, "history": 2}),
        (Tick, {"reliable": True, "verify": True}),
    ],
    ids=["best effort", "another type", "too much history", "no CRC"],
)
def test_one_that_cannot_be_served_is_not_waited_for(sample_type: type[zs.Sample], options: dict[str, Any]) -> None:
    """What the announcement and the publisher's options say is enough."""
    with zs.Subscriber("t", sample_type, **options):
        publishes_freely().close()


def test_one_that_refuses_the_publisher_is_not_waited_for(cast: Cast) -> None:
    """By name the publisher cannot know it: it waits until the subscriber has looked and said no."""
    busy = cast(
        """
        import zeroslot as zs
        from tests.process.samples import Imu
        sub = zs.Subscriber("t", Imu, reliable=True, match="by_name")
        say("ready")
        hear()
        try:
            sub.take()
        except zs.TypeMismatchError:
            say("refused")
        hear()
        """
    )
    busy.expect("ready")
    with zs.Publisher("t", Tick, on_full="block", depth=2, max_loans=1) as pub:
        for number in (1, 2):
            pub.publish(Tick(number=number))
        with pytest.raises(zs.BackpressureError):
            pub.publish(Tick(number=3), timeout=0)
        assert busy.ask("look") == "refused"
        assert pub.publish(Tick(number=3), timeout=0) == 3


@pytest.mark.parametrize("how", ["kill", "close"])
def test_one_that_ends_is_not_waited_for_any_longer(cast: Cast, how: str) -> None:
    """A publisher that blocks goes on when the process dies, or closes the subscriber."""
    busy = cast.subscriber("t", reliable=True)
    with zs.Publisher("t", Tick, on_full="block", depth=2, max_loans=1) as pub:
        for number in (1, 2):
            pub.publish(Tick(number=number))
        with pytest.raises(zs.BackpressureError):
            pub.publish(Tick(number=3), timeout=0)
        done = threading.Event()
        thread = threading.Thread(target=lambda: [pub.publish(Tick(number=3)), done.set()])
        thread.start()
        assert not done.wait(0.03)
        if how == "kill":
            busy.kill()
        else:
            busy.ask(["close"])
        thread.join()
        assert pub.publish(Tick(number=4), timeout=0) == 4


def test_evict_after_ends_the_wait(cast: Cast, caplog: pytest.LogCaptureFixture) -> None:
    """What the subscriber missed meanwhile is counted when it attaches."""
    busy = cast.subscriber("t", reliable=True, name="busy")
    with zs.Publisher("t", Tick, on_full="block", depth=2, max_loans=1, evict_after=0.02) as pub:
        for number in range(1, 6):
            pub.publish(Tick(number=number), timeout=None)
        assert "waits no longer for busy" in caplog.text
        assert pub.stats.evicted == 1
        assert busy.ask(["poll"]) == [4, 4, ""]
        assert busy.ask(["stats"])["lost"] == 3


def test_evict_stale_ends_the_wait(cast: Cast) -> None:
    """`evict_stale(0.0)` evicts all that are behind, those that have not joined included."""
    cast.subscriber("t", reliable=True)
    with zs.Publisher("t", Tick, on_full="raise", depth=2, max_loans=1) as pub:
        assert pub.allocator.evict_stale(0.0) == 0  # nothing is published: it is not behind
        assert pub.allocator.evict_stale(60.0) == 0
        pub.publish(Tick(number=1))
        assert pub.allocator.evict_stale(0.0) == 1  # also where it was not found behind before
        for number in range(2, 6):
            pub.publish(Tick(number=number))


def test_an_evicted_subscriber_is_no_announced_one(cast: Cast) -> None:
    """It has joined once. A publisher that starts after that waits for it again."""
    busy = cast.subscriber("t", reliable=True)
    with zs.Publisher("t", Tick, on_full="block", depth=2, max_loans=1, evict_after=0.01) as pub:
        pub.publish(Tick(number=1))
        assert busy.ask(["poll"]) == [1, 1, ""]
        for number in range(2, 6):
            pub.publish(Tick(number=number), timeout=None)
        assert pub.stats.evicted == 1
        with zs.Publisher("t", Tick, on_full="raise", depth=1, max_loans=1) as other:
            other.publish(Tick(number=1))
            with pytest.raises(zs.BackpressureError, match="has not joined"):
                other.publish(Tick(number=2))


def test_a_forked_child_keeps_no_announcement(cast: Cast) -> None:
    """The parent is killed, and nothing waits for it, though a child of it lives on; and the child removes nothing."""
    parent = cast(
        """
        import ctypes, os, signal
        import zeroslot as zs
        from tests.process.samples import Tick
        sub = zs.Subscriber("t", Tick, reliable=True)
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # outlives its parent
            sub.close()
            say(os.getpid())
            signal.pause()
        hear()
        """
    )
    child = parent.hear()
    try:
        assert len(announced()) == 1
        with zs.Publisher("t", Tick, on_full="raise", depth=1, max_loans=1) as pub:
            pub.publish(Tick(number=1))
            with pytest.raises(zs.BackpressureError):
                pub.publish(Tick(number=2))
            parent.kill()
            pub.publish(Tick(number=2))
        assert announced() == []
    finally:
        os.kill(child, signal.SIGKILL)


def test_announcements_of_the_dead_are_removed(cast: Cast) -> None:
    """By the next publisher of the topic, and by `clean`; not those of the living."""
    for topic in ("t", "other"):
        cast.subscriber(topic, reliable=True).kill()
        assert len(announced(topic)) == 1
    with zs.Subscriber("other", Tick, reliable=True), zs.Publisher("t", Tick):
        assert announced() == []
        (dead,) = [left for left in zs.clean(dry_run=True) if "subscri" in left.what]
        assert not dead.removed
        assert [left.removed for left in zs.clean() if "subscri" in left.what] == [True]
        assert len(announced("other")) == 1
        assert zs.clean() == ()


def test_a_process_that_ends_leaves_no_announcement(cast: Cast) -> None:
    """A handle that was not closed is closed when the interpreter ends."""
    child = cast.subscriber("a/b", reliable=True)
    assert len(announced("a/b")) == 1
    child.finish()
    assert not topic_directory("default", "a").exists()


ORDERS = list(itertools.permutations(["first", "second", "publisher"]))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_two_subscribers_and_a_publisher_in_every_order(cast: Cast, order: tuple[str, ...]) -> None:
    """Those that were there before the publisher get everything, those that come later what is published after."""
    subscribers = {}
    child = None
    for name in order:
        if name == "publisher":
            child = cast.publisher("t", on_full="block", depth=2, max_loans=1)
        else:
            subscribers[name] = cast.subscriber("t", reliable=True)
    assert child is not None
    child.tell(["publish", 6])
    for sub in subscribers.values():
        sub.tell(["take", 6])
    for sub in subscribers.values():
        sub.expect("waiting")
        assert [number for _, number, _ in sub.hear()] == list(range(1, 7))
    assert child.hear() == 6


@pytest.mark.row("DIS-9", "DIS-12")
def test_subscribers_that_wait_are_seen(cast: Cast) -> None:
    """Pending, bound or failed: each subscription is in one of these states, seen from outside."""
    sub = cast.subscriber("t", reliable=True, name="pending")
    assert zs.topics() == ()
    (facts,) = zs.topics(waiting=True)
    (peer,) = facts.waiting
    assert (facts.topic, facts.publishers) == ("t", ())
    assert zs.waiting_subscribers() == {"t": (peer,)}
    assert (peer.name, peer.pid, peer.reliable, peer.match, peer.history) == ("pending", sub.pid, True, "exact", 0)
    assert peer.type_hash == zs.layout_of(Tick).type_hash.hex()
    with zs.Publisher("t", Tick, on_full="block") as pub:
        assert [each.pid for each in zs.inspect("t").waiting] == [sub.pid]
        sub.ask(["poll"])
        assert zs.inspect("t").waiting == ()
        assert zs.waiting_subscribers() == {}
        assert [each.pid for each in zs.inspect("t").publishers[0].subscribers] == [sub.pid]
        failed = cast(
            """
            import zeroslot as zs
            from tests.process.samples import Imu
            sub = zs.Subscriber("t", Imu, match="by_name") if hear() else None
            """
        )
        failed.tell(True)
        assert failed.wait() == 1  # it can read no publisher, and says so
        assert "TypeMismatchError" in failed.stderr
        assert zs.inspect("t").waiting == ()
    with zs.Subscriber("t", Imu) as other, zs.Publisher("t", Tick) as pub:
        with pytest.raises(zs.TypeMismatchError):
            other.take()
        refusals = {each.pid: each.refused for each in zs.inspect("t").waiting}
        assert refusals == {os.getpid(): (pub.publisher_id,), sub.pid: ()}
        (refused,) = other.refused
        assert (refused.publisher_id, refused.flink, refused.pid, refused.why) == (
            pub.publisher_id, pub.flink, os.getpid(), "type",
        )  # fmt: skip  # the facts on one line
        assert "Tick" in refused.text
        assert "0 publishers, 1 left out (type)" in repr(other)
    sub.ask(["close"])
    assert zs.topics(waiting=True) == ()


def test_a_publisher_may_wait_for_announced_subscribers(cast: Cast) -> None:
    """`announced=True` counts each subscription that fits once, attached or not; by default attached ones count."""
    sub = cast.subscriber("t", reliable=True)
    with zs.Subscriber("t", Imu), zs.Publisher("t", Tick, on_full="block") as pub:
        assert pub.wait_for_subscribers(announced=True)
        assert not pub.wait_for_subscribers(timeout=0)
        assert not pub.wait_for_subscribers(2, timeout=0, announced=True)
        sub.ask(["poll"])
        assert pub.wait_for_subscribers()
        assert not pub.wait_for_subscribers(2, timeout=0, announced=True)
        cast.subscriber("t")
        assert pub.wait_for_subscribers(2, announced=True)


def test_other_reasons_why_a_publisher_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """A policy and a full table; each is logged once, and the other publisher is read."""
    with (
        zs.Publisher("t", Tick, on_full="block") as good,
        zs.Publisher("t", Tick, on_full="evict") as evicting,
        zs.Publisher("t", Tick, on_full="block", max_subscribers=1) as full,
        zs.SlotReader.attach(full.flink),
        zs.Subscriber("t", Tick, reliable=True) as sub,
    ):
        assert {each.publisher_id: each.why for each in sub.refused} == {
            evicting.publisher_id: "policy",
            full.publisher_id: "full",
        }
        good.publish(Tick(number=1))
        assert numbers(sub, 1) == [1]
        assert len([each for each in caplog.records if "left out" in each.message]) == 2
        assert "1 publishers, 2 left out (full, policy)" in repr(sub)


@pytest.mark.row("DIS-9")
def test_a_publisher_that_is_left_out_is_told_by_default() -> None:
    """On stderr, once, in a program that has configured no logging."""
    program = """
import zeroslot as zs
from tests.process.samples import Tick
with zs.Subscriber("t", Tick, reliable=True) as sub:
    for _ in range(3):
        sub.take()
"""
    with zs.Publisher("t", Tick, on_full="block"), zs.Publisher("t", Tick):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("t: this publisher is left out: t has on_full='evict'")
