"""Back-pressure: reliable subscribers, evictions by `evict_after`, errors that name the subscriber in the way."""

from __future__ import annotations

import os
import pickle
import threading
from typing import Any

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Tick
from zeroslot.qos import RESERVE_SLOTS

# Takes without waiting, and says the name of the error where there is one.
STALLER = """
import zeroslot as zs
from tests.process.samples import Tick

sub = zs.Subscriber("t", Tick, **args[0])
held = []

def take():
    try:
        lease = sub.take()
    except zs.ZeroslotError as error:
        return type(error).__name__
    return None if lease is None else lease.sequence

def latest():
    lease = sub.latest()
    return None if lease is None else lease.sequence

def hold(count):
    held.extend(sub.take(timeout=None) for _ in range(count))
    return told()

def told():
    return [[lease.sequence, lease.sample.number, lease.sample.sender] for lease in held]

verbs = {
    "take": take, "latest": latest, "hold": hold, "held": told, "drop": held.clear, "lost": lambda: sub.lost,
    "counts": lambda: {name: getattr(sub.stats, name) for name in sub.stats.__slots__},
}
say("ready")
for verb, *rest in orders():
    say(verbs[verb](*rest))
"""


def publish(pub: zs.Publisher[Tick], count: int) -> None:
    for _ in range(count):
        pub.publish(Tick(number=pub.sequence + 1, sender="pub"))


@pytest.mark.row("PUB-2")
def test_a_reliable_subscriber_loses_nothing_of_a_publisher_that_blocks(cast: Cast):
    """A window of four, thousands of samples: the publisher waits, all arrive, in order."""
    sub = cast.subscriber("t", reliable=True)
    with zs.Publisher("t", Tick, depth=4, on_full="block") as pub:
        sub.tell(["take", 3000])
        sub.expect("waiting")
        pub.wait_for_subscribers()  # before that the publisher does not wait, and retired samples count as lost
        publish(pub, 3000)
        assert [sequence for sequence, _, _ in sub.hear()] == list(range(1, 3001))
        assert sub.ask(["stats"])["lost"] == 0


@pytest.mark.row("PUB-2", "PUB-6", "NEW-7", "PEER-16", "SLOT-19")
@pytest.mark.parametrize(("on_full", "timeout"), [("block", 0.05), ("raise", 10.0)])
def test_the_error_for_a_full_window_names_the_subscriber_and_how_long_it_has_stalled(
    cast: Cast, on_full: str, timeout: float
):
    """Raised by the loan, not by the commit; in the text and as attributes, also after pickling."""
    with zs.Publisher("t", Tick, depth=4, max_loans=1, on_full=on_full) as pub:
        sub = cast.subscriber("t", reliable=True, name="slow")
        publish(pub, 2)
        sub.ask(["hold", 2])
        publish(pub, 4)
        with pytest.raises(zs.BackpressureError) as caught:
            pub.loan(timeout=timeout)
        error = pickle.loads(pickle.dumps(caught.value))
        (holder,) = error.holders
        assert (holder.name, holder.pid, holder.slots, holder.behind) == ("slow", sub.pid, 2, 4)
        assert str(sub.script) in holder.command
        assert holder.stalled_s > 0
        assert error.topic == "t"
        for told in ("t: ", "slow", f"pid {sub.pid}", "holds 2 slots", "4 samples behind", str(sub.script)[:40]):
            assert told in str(error)
        assert (pub.stats.blocked > 0) == (on_full == "block")
        assert (pub.stats.blocked_ns > 0) == (on_full == "block")
        sub.ask(["poll"])
        pub.publish(Tick(number=7), timeout=0)


@pytest.mark.row("NOT-4")
def test_a_take_wakes_the_publisher_that_waits_for_it(cast: Cast):
    """It is asleep in the kernel, and continues after one take of one sample."""
    pub = cast.publisher("t", depth=2, on_full="block")
    sub = cast.subscriber("t", reliable=True)
    pub.ask(["publish", 2])
    for number in range(3, 10):
        pub.tell(["publish", 1])
        pub.wait_for_sleep()
        assert sub.ask(["poll"])[0] == number - 2
        assert pub.hear() == number
    assert pub.ask(["stats"])["blocked"] >= 7


@pytest.mark.row("DEF-14", "PUB-2")
@pytest.mark.parametrize("reads", ["take", "latest"])
@pytest.mark.parametrize(
    ("on_full", "reliable"),
    [("evict", False), ("block", False), ("raise", False), ("block", True), ("raise", True)],
)
def test_every_published_sample_is_taken_lost_or_skipped(cast: Cast, on_full: str, reads: str, *, reliable: bool):
    """By a subscriber that is always behind, with any policy; a reliable one loses nothing."""
    with zs.Publisher("t", Tick, depth=4, max_loans=1, on_full=on_full) as pub:
        sub = cast(STALLER, {"reliable": reliable})
        sub.expect("ready")
        refused = 0
        for number in range(1, 300):
            try:
                pub.publish(Tick(number=number), timeout=0)
            except zs.BackpressureError:
                refused += 1
            if number % 7 == 0:
                sub.ask([reads])
        while sub.ask(["take"]) is not None:
            pass
        counts = sub.ask(["counts"])
        assert counts["taken"] + counts["lost"] + counts["skipped"] == pub.sequence == 299 - refused
        assert (counts["lost"] == 0) == reliable
        assert (refused > 0) == reliable
        assert (counts["skipped"] > 0) == (reads == "latest")


@pytest.mark.row("PUB-2")
def test_a_subscriber_that_asks_for_more_than_the_publisher_offers_is_refused(cast: Cast):
    """Reliability of a publisher that evicts; a history that would block its loans."""
    cast.publisher("t", on_full="evict", depth=8)
    with pytest.raises(zs.QosMismatchError, match="on_full") as caught:
        zs.Subscriber("t", Tick, reliable=True)
    assert (caught.value.setting, caught.value.requested, caught.value.offered) == ("reliable", True, False)
    cast.publisher("u", on_full="block", depth=8, max_loans=2)
    with pytest.raises(zs.QosMismatchError) as caught:
        zs.Subscriber("u", Tick, reliable=True, history=7)
    assert (caught.value.setting, caught.value.requested, caught.value.offered) == ("history", 7, 6)
    zs.Subscriber("u", Tick, reliable=True, history=6).close()


def test_reliable_subscribers_that_join_a_running_publisher_miss_nothing(cast: Cast):
    """They join in the middle of a stream: no gap after the first sample that they take."""
    with zs.Publisher("t", Tick, depth=4, on_full="block") as pub:
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                publish(pub, 1)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            for _ in range(10):
                sub = cast.subscriber("t", reliable=True, history=2)
                sub.tell(["take", 50])
                sub.expect("waiting")
                taken = [sequence for sequence, _, _ in sub.hear()]
                assert taken == list(range(taken[0], taken[0] + 50))
                assert sub.ask(["stats"])["lost"] == 0
                sub.kill()
        finally:
            stop.set()
            thread.join()


@pytest.mark.row("SLOT-11", "PEER-12", "NEW-7")
def test_a_stalled_subscriber_is_evicted_and_its_views_keep_their_bytes(cast: Cast):
    """Its slots are set apart and not reused while it holds them; the error comes once, and it joins again."""
    with zs.Publisher("t", Tick, depth=4, max_loans=1, spare_slots=0, on_full="block", evict_after=0.05) as pub:
        sub = cast(STALLER, {"reliable": True, "name": "stalled"})
        sub.expect("ready")
        publish(pub, 3)
        before = sub.ask(["hold", 3])
        assert before == [[number, number, "pub"] for number in (1, 2, 3)]
        sub.stop()
        publish(pub, 500)
        assert pub.stats.evicted == 1
        assert pub.subscriber_count == 1
        sub.cont()
        assert sub.ask(["held"]) == before
        assert sub.ask(["take"]) == "EvictedError"
        first = sub.ask(["take"])
        publish(pub, 1)
        first = sub.ask(["take"]) if first is None else first
        assert first - 4 == sub.ask(["lost"])
        publish(pub, 2)
        assert sub.ask(["held"]) == before
        set_apart = pub.allocator.free_count
        sub.ask(["drop"])
        assert pub.allocator.free_count == set_apart + 3


@pytest.mark.row("SLOT-11", "PEER-8")
def test_slots_set_apart_return_when_their_holder_dies(cast: Cast):
    """Stopped, evicted, killed: the publisher has all slots again."""
    with zs.Publisher("t", Tick, depth=4, max_loans=1, spare_slots=0, on_full="block", evict_after=0.05) as pub:
        sub = cast(STALLER, {"reliable": True})
        sub.expect("ready")
        publish(pub, 3)
        sub.ask(["hold", 3])
        sub.stop()
        publish(pub, 100)
        sub.kill()
        assert pub.reap() == 1
        publish(pub, 1)
        assert pub.allocator.free_count == pub.slot_count - 4 - RESERVE_SLOTS
        assert pub.subscriber_count == 0


@pytest.mark.row("SLOT-11", "PEER-12")
def test_reserve_slots_replace_those_that_an_evicted_subscriber_keeps(cast: Cast):
    """However many samples it may hold: the reserve has no other use. It is complete again when they are released,
    and serves for the next.
    """
    with (
        zs.Publisher("t", Tick, depth=2, max_loans=1, spare_slots=2, evict_after=3600) as pub,
        zs.Subscriber("t", Tick) as other,
    ):
        sub = cast(STALLER, {"name": "greedy", "max_leases": 64})
        sub.expect("ready")
        for eviction in (1, 2):
            for _ in range(5):
                publish(pub, 1)
                held = sub.ask(["hold", 1])
            with pytest.raises(zs.NoFreeSlotError, match="greedy"):
                publish(pub, 1)
            sub.stop()
            assert pub.allocator.evict_stale(0.0) == 1
            for _ in range(50):
                publish(pub, 1)
                lease = other.latest()
                assert lease is not None
                assert lease.sample.number == pub.sequence
                del lease
            assert pub.stats.evicted == eviction
            sub.cont()
            assert sub.ask(["held"]) == held
            assert sub.ask(["take"]) == "EvictedError"
            sub.ask(["drop"])
            while (taken := sub.ask(["take"])) is not None:
                assert taken <= pub.sequence


@pytest.mark.row("SUB-19")
def test_flush_returns_when_every_reliable_subscriber_has_taken_all(cast: Cast):
    """Not before, and it does not wait for dead subscribers or for those that are not reliable."""
    pub = cast(
        """
        import zeroslot as zs
        from tests.process.samples import Tick
        pub = zs.Publisher("t", Tick, on_full="block")
        say("ready")
        for order in orders():
            if order == "publish":
                say(pub.publish(Tick(number=1)))
            else:
                say(pub.flush(order["timeout"]))
        """
    )
    pub.expect("ready")
    sub, other = cast.subscriber("t", reliable=True), cast.subscriber("t", reliable=True)
    cast.subscriber("t")
    pub.ask("publish")
    assert pub.ask({"timeout": 0.01}) is False
    pub.tell({"timeout": None})
    pub.wait_for_sleep()
    sub.ask(["poll"])
    pub.wait_for_sleep()
    other.kill()
    assert pub.hear() is True


@pytest.mark.row("PEER-13", "NEW-7", "SLOT-19")
def test_the_error_for_no_free_slot_names_every_holder_and_closing_frees_their_slots(cast: Cast):
    """Two subscribers hold the spare slots; both are named; closing frees their slots without reaping."""
    with zs.Publisher("t", Tick, depth=1, max_loans=1, spare_slots=2) as pub:
        subs = [cast.subscriber("t", name=f"holder{number}") for number in range(2)]
        for sub in subs:
            publish(pub, 1)
            for one in subs:
                one.ask(["hold", 1] if one is sub else ["poll"])
        publish(pub, 1)
        for sub in subs:
            sub.ask(["hold", 1])
        with pytest.raises(zs.NoFreeSlotError) as caught:
            publish(pub, 8)
        assert sorted((holder.name, holder.pid) for holder in caught.value.holders) == sorted(
            (f"holder{number}", sub.pid) for number, sub in enumerate(subs)
        )
        for sub in subs:
            sub.ask(["drop"])
            sub.ask(["close"])
        assert pub.subscriber_count == 0
        assert pub.allocator.free_count == pub.slot_count - 1
        assert pub.stats.reaped == 0


@pytest.mark.row("SUB-16")
def test_a_publisher_that_misses_its_period_is_overdue(cast: Cast):
    """By its promised period and its newest sample; a publisher without a period is never late."""
    late = cast.publisher("t", name="late", max_period=0.001)
    cast.publisher("t", name="idle")
    prompt = cast.publisher("t", name="prompt", max_period=3600.0)
    with zs.Subscriber("t", Tick) as sub:
        late.ask(["publish", 1])
        prompt.ask(["publish", 1])
        while not next(info for info in sub.publishers if info.name == "late").overdue:
            os.sched_yield()
        assert {info.name: (info.max_period_s, info.overdue) for info in sub.publishers} == {
            "late": (0.001, True),
            "idle": (None, False),
            "prompt": (3600.0, False),
        }


@pytest.mark.row("PEER-14", "PEER-6")
def test_a_publisher_with_a_callback_is_told_of_a_death(cast: Cast):
    """Once, with the subscriber's facts; nothing is told of one that closes."""
    told: list[Any] = []
    with zs.Publisher("t", Tick) as pub:
        pub.on_subscriber_death(told.append)
        cast.subscriber("t").finish()
        sub = cast.subscriber("t", name="gone")
        publish(pub, 2)
        sub.ask(["hold", 1])
        sub.kill()
        assert (pub.reap(), pub.reap()) == (1, 0)
        (peer,) = told
        assert (peer.name, peer.pid, peer.slots, peer.behind) == ("gone", sub.pid, 1, 1)
