"""Subscribers follow publishers that come and go, also while they sleep, without reading directories."""

from __future__ import annotations

from pathlib import Path

import pytest

import zeroslot as zs
from tests.process.actors import TRACED, Cast, need_strace, start_to, traced_calls, wait_for_traced_futex
from tests.process.samples import Tick


def test_a_sleeping_subscriber_finds_the_first_publisher(cast: Cast):
    """It subscribed before there was any, and reads from that publisher's first sample."""
    sub = cast.subscriber("t", spin_us=0)
    start_to(sub, "take", 3)
    pub = cast.publisher("t")
    pub.ask(["publish", 3])
    assert sub.hear() == [[1, 1, ""], [2, 2, ""], [3, 3, ""]]


def test_a_publisher_that_comes_later_is_read_from_its_first_sample(cast: Cast):
    """Samples from before it was noticed are delivered, as far as its depth reaches; the rest counts as lost."""
    with zs.Subscriber("t", Tick) as sub:
        pub = cast.publisher("t", depth=4)
        pub.ask(["publish", 10])
        assert [lease.sequence for lease in iter(sub.take, None)] == [7, 8, 9, 10]
        assert sub.lost == 6


def test_a_closed_publisher_is_drained_and_the_next_one_is_followed(cast: Cast):
    """No sample of the first is lost, although it is gone when it is read."""
    sub = cast.subscriber("t")
    for round_ in range(1, 4):
        pub = cast.publisher("t", name=f"p{round_}")
        assert sub.ask(["publishers"]) == [f"p{round_}"]
        pub.ask(["publish", 5])
        pub.ask(["close"])
        pub.finish()
        sub.tell(["take", 5])
        sub.expect("waiting")
        assert sub.hear() == [[number, number, f"p{round_}"] for number in range(1, 6)]
        assert sub.ask(["stats"])["lost"] == 0
    assert sub.ask(["publishers"]) == []
    assert sub.ask(["stats"])["taken"] == 15


def test_a_sleeping_subscriber_follows_publishers_that_come_and_go(cast: Cast):
    """One sleep outlasts publishers that publish nothing."""
    sub = cast.subscriber("t", spin_us=0)
    start_to(sub, "take", 1)
    for _ in range(3):
        cast.publisher("t").finish()
    pub = cast.publisher("t", name="last")
    sub.wait_for_sleep()
    pub.ask(["publish", 1])
    assert sub.hear() == [[1, 1, "last"]]
    assert sub.ask(["publishers"]) == ["last"]


def test_a_sleeping_subscriber_wakes_for_a_publisher_that_joined_others(cast: Cast):
    """It wakes for the new one as for the others."""
    old = cast.publisher("t", name="old")
    sub = cast.subscriber("t", spin_us=0)
    start_to(sub, "take", 1)
    new = cast.publisher("t", name="new")
    sub.wait_for_sleep()
    new.ask(["publish", 1])
    assert sub.hear() == [[1, 1, "new"]]
    start_to(sub, "take", 1)
    old.ask(["publish", 1])
    assert sub.hear() == [[1, 1, "old"]]


def test_every_sleeping_thread_of_a_subscriber_wakes_for_a_new_publisher(cast: Cast):
    """One of them follows the topic, and the others sleep on the new publisher too."""
    sub = cast(
        """
        import threading, zeroslot as zs
        from tests.process.samples import Tick
        sub = zs.Subscriber("t", Tick, spin_us=0)
        barrier = threading.Barrier(4)
        def take():
            barrier.wait()
            lease = sub.take(timeout=None)
            say(lease.sequence)
        threads = [threading.Thread(target=take) for _ in range(3)]
        for thread in threads:
            thread.start()
        barrier.wait()
        say("waiting")
        for thread in threads:
            thread.join()
        sub.close()
        """
    )
    sub.expect("waiting")
    sub.wait_for_sleep()
    pub = cast.publisher("t")
    pub.ask(["publish", 3])
    assert sorted(sub.hear() for _ in range(3)) == [1, 2, 3]


def test_one_sleep_covers_more_publishers_than_a_futex_call(cast: Cast):
    """Each of them wakes the sleeper."""
    pubs = cast(
        """
        import zeroslot as zs
        from tests.process.samples import Tick
        pubs = [zs.Publisher("t", Tick, depth=1, max_loans=1, spare_slots=1, max_subscribers=1) for _ in range(130)]
        say("ready")
        for at in orders():
            say(pubs[at].publish(Tick(number=at)))
        for pub in pubs:
            pub.close()
        """
    )
    pubs.expect("ready")
    sub = cast.subscriber("t", max_leases=1, spin_us=0)
    for at in (0, 64, 129):
        start_to(sub, "take", 1)
        assert pubs.ask(at) == 1
        assert sub.hear() == [[1, at, ""]]


@pytest.mark.row("NEW-10")
def test_a_sleeping_subscriber_reads_no_directory(cast: Cast, tmp_path: Path):
    """It sleeps on words in memory: until a sample comes it opens no file, lists no directory, and watches none."""
    need_strace()
    pub = cast.publisher("t")
    log = tmp_path / "trace"
    sub = cast(
        TRACED
        + """
import zeroslot as zs
from tests.process.samples import Tick
with zs.Subscriber("t", Tick, spin_us=0) as sub:
    sub.take(timeout=0.001)
    say("waiting")
    mark("begin")
    lease = sub.take(timeout=None)
    mark("end")
    say(lease.sequence)
""",
        str(log),
    )
    sub.expect("waiting")
    wait_for_traced_futex(sub)
    pub.ask(["publish", 1])
    assert sub.hear() == 1
    sub.finish()
    calls = traced_calls(log, "begin", "end")
    assert any(call.startswith(("futex_waitv", "syscall_0x1c1", "futex")) for call in calls)
    slept = {call.split("(")[0] for call in calls}
    assert not {name for name in slept if "getdents" in name or "inotify" in name or name in {"stat", "poll", "select"}}


def test_waiting_for_publishers_reads_no_directory(cast: Cast, tmp_path: Path):
    """The bell tells of a new publisher; the topic's directory is read then, and not before."""
    need_strace()
    log = tmp_path / "trace"
    sub = cast(
        TRACED
        + """
import zeroslot as zs
from tests.process.samples import Tick
with zs.Subscriber("t", Tick) as sub:
    mark("begin")
    say("waiting")
    sub.wait_for_publishers(timeout=0.3)
    mark("end")
""",
        str(log),
    )
    sub.expect("waiting")
    sub.finish()
    calls = traced_calls(log, "begin", "end")
    assert len([call for call in calls if call.startswith(("futex", "syscall_0x1c1"))]) >= 2
    assert [call for call in calls if "getdents" in call or "inotify" in call] == []
