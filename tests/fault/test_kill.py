"""kill -9 and SIGSTOP: no process is blocked, no published sample is lost, and nothing is left."""

from __future__ import annotations

import os
import pickle

import pytest

import zeroslot as zs
from tests.process.actors import Cast, start_to
from tests.process.samples import Tick
from zeroslot._core.binding import DEAD, OPEN
from zeroslot.memory import cleanup
from zeroslot.memory.attach import attach_control


@pytest.mark.row("NEW-6", "PEER-11", "DEF-10")
def test_samples_of_a_killed_publisher_are_drained_and_the_next_publisher_is_followed(cast: Cast):
    """Nothing counts as lost; the same subscriber reads the successor."""
    sub = cast.subscriber("t")
    first = cast.publisher("t", name="first")
    assert sub.ask(["publishers"]) == ["first"]
    first.ask(["publish", 5])
    first.kill()
    second = cast.publisher("t", name="second")
    second.ask(["publish", 2])
    sub.tell(["take", 7])
    sub.expect("waiting")
    taken = sub.hear()
    assert [item for item in taken if item[2] == "first"] == [[number, number, "first"] for number in range(1, 6)]
    assert [item for item in taken if item[2] == "second"] == [[1, 1, "second"], [2, 2, "second"]]
    stats = sub.ask(["stats"])
    assert (stats["taken"], stats["lost"]) == (7, 0)
    assert sub.ask(["publishers"]) == ["second"]


def test_a_sleeping_subscriber_outlives_its_publisher(cast: Cast):
    """It sleeps on, notices the death by itself, and wakes for the successor."""
    first = cast.publisher("t", name="first")
    sub = cast.subscriber("t", spin_us=0)
    start_to(sub, "take", 1)
    first.kill()
    second = cast.publisher("t", name="second")
    sub.wait_for_sleep()
    second.ask(["publish", 1])
    assert sub.hear() == [[1, 1, "second"]]
    assert sub.ask(["publishers"]) == ["second"]


@pytest.mark.row("SEG-16", "PEER-6")
@pytest.mark.parametrize("waits", ["asleep", "polling"])
def test_a_subscriber_that_finds_no_sample_marks_its_dead_publisher(cast: Cast, waits: str):
    """A death moves no word. The probe at the end of a slice, or of one poll in many, sets the state to dead."""
    pub = cast.publisher("t")
    sub = cast(
        """
        import zeroslot as zs
        from tests.process.samples import Tick
        sub = zs.Subscriber("t", Tick, spin_us=0)
        say("ready")
        while args[0] == "polling":
            sub.take()
        sub.take(timeout=None)
        """,
        waits,
    )
    sub.expect("ready")
    (control,) = (facts.publishers[0].publisher_id for facts in zs.topics())
    attached = attach_control(f"/zs-{control}", "t")
    assert attached is not None
    if waits == "asleep":
        sub.wait_for_sleep()
    pub.kill()
    while attached.segment.state == OPEN:
        os.sched_yield()
    assert attached.segment.state == DEAD
    sub.kill()
    cleanup.clean()


def test_a_lease_survives_the_death_of_its_publisher(cast: Cast):
    """It also survives the removal of the objects: the mapping stays while anything refers to it."""
    pub = cast.publisher("t", name="first")
    with zs.Subscriber("t", Tick) as sub:
        pub.ask(["publish", 3])
        lease = sub.take(timeout=None)
        assert lease is not None
        pub.kill()
        with zs.Publisher("t", Tick) as successor:
            assert (lease.sample.number, lease.sample.sender) == (1, "first")
            assert [newer.sequence for newer in iter(sub.take, None)] == [2, 3]
            successor.publish(Tick(number=9))
            newest = sub.take(timeout=None)
            assert newest is not None
            assert (newest.sample.number, lease.sample.number) == (9, 1)


@pytest.mark.row("SEG-13")
def test_the_next_publisher_removes_what_a_killed_one_left(cast: Cast, zeroslot_dir):
    """Flink and objects, of all that were killed, at the next publisher's start."""
    for _ in range(3):
        cast.publisher("t").kill()
    # Each removed its predecessor's: one is left.
    assert len(list(zeroslot_dir.rglob("*.flink"))) == 1
    with zs.Publisher("t", Tick) as pub:
        assert list(zeroslot_dir.rglob("*.flink")) == [pub.flink]


@pytest.mark.row("PEER-9")
def test_a_loan_of_a_killed_publisher_is_never_seen(cast: Cast):
    """Subscribers get committed samples only."""
    pub = cast.publisher("t", max_loans=4)
    with zs.Subscriber("t", Tick) as sub:
        pub.ask(["publish", 1])
        pub.ask(["loan", 3])
        pub.kill()
        with zs.Publisher("t", Tick):
            pass
        assert [lease.sample.number for lease in iter(sub.take, None)] == [1]


@pytest.mark.row("PEER-8", "NEW-6")
def test_a_publisher_continues_at_once_after_the_holder_of_all_slots_was_killed(cast: Cast):
    """Without a timeout: the first loan after the death reaps and gets a slot."""
    with zs.Publisher("t", Tick, depth=1, max_loans=1, spare_slots=3) as pub:
        sub = cast.subscriber("t", max_leases=8)
        for number in range(1, 5):
            pub.publish(Tick(number=number))
            sub.ask(["hold", 1])
        pub.publish(Tick(number=5))
        sub.ask(["hold", 1])
        with pytest.raises(zs.NoFreeSlotError):
            pub.publish(Tick(number=6))
        sub.kill()
        assert pub.publish(Tick(number=6)) == 6
        assert pub.stats.reaped == 1
        assert pub.allocator.free_count == pub.slot_count - 1


@pytest.mark.row("PEER-8", "SLOT-17")
def test_a_blocked_loan_continues_when_the_holder_of_all_slots_is_killed(cast: Cast):
    """It sleeps, and only its own probes tell it of the death."""
    pub = cast.publisher("t", depth=1, max_loans=1, spare_slots=0, on_full="block")
    sub = cast.subscriber("t", max_leases=2)
    for _ in range(2):
        pub.ask(["publish", 1])
        sub.ask(["hold", 1])
    pub.tell(["publish", 1])
    pub.wait_for_sleep()
    sub.kill()
    assert pub.hear() == 3


def test_a_killed_reliable_subscriber_no_longer_blocks_its_publisher(cast: Cast):
    """The publisher stops waiting for the cursor of a dead subscriber."""
    pub = cast.publisher("t", depth=2, on_full="block")
    sub = cast.subscriber("t", reliable=True)
    pub.tell(["publish", 10])
    pub.wait_for_sleep()
    sub.kill()
    assert pub.hear() == 10


@pytest.mark.row("NEW-7")
def test_a_stopped_subscriber_keeps_its_slots_and_the_error_names_it(cast: Cast):
    """A stopped process is not dead: others continue, and when slots run out the error names their holder."""
    with (
        zs.Publisher("t", Tick, depth=2, max_loans=1, spare_slots=3, name="pub") as pub,
        zs.Subscriber("t", Tick) as other,
    ):
        sub = cast.subscriber("t", max_leases=16, name="sleepy")
        pub.publish(Tick(number=1))
        pub.publish(Tick(number=2))
        pub.publish(Tick(number=3))
        assert sub.ask(["hold", 2]) == [[2, 2, ""], [3, 3, ""]]
        sub.stop()
        assert pub.subscriber_count == 2
        for number in range(4, 20):
            assert pub.publish(Tick(number=number)) == number
            lease = other.latest(timeout=None)
            assert lease is not None
            assert lease.sample.number == number
            del lease
        assert pub.stats.reaped == 0
        sub.cont()
        assert sub.ask(["held"]) == [[2, 2, ""], [3, 3, ""]]
        assert sub.ask(["hold", 2]) == [[2, 2, ""], [3, 3, ""], [18, 18, ""], [19, 19, ""]]
        for number in (20, 21):
            pub.publish(Tick(number=number))
        sub.stop()
        with pytest.raises(zs.NoFreeSlotError) as caught:
            pub.publish(Tick(number=22))
        error = pickle.loads(pickle.dumps(caught.value))
        assert f"pid {sub.pid}" in str(error)
        assert "sleepy" in str(error)
        assert "stopped" in str(error)
        assert "4 slots" in str(error)
        (holder,) = error.holders
        assert (holder.pid, holder.name, holder.slots, holder.stopped) == (sub.pid, "sleepy", 4, True)
        assert str(sub.script) in holder.command
        assert holder.stalled_s > 0
        sub.cont()
        sub.ask(["drop"])
        assert pub.publish(Tick(number=22)) == 22


@pytest.mark.row("NEW-6")
def test_a_stopped_publisher_counts_as_alive(cast: Cast):
    """Neither time nor a successor removes it, and it continues where it was."""
    pub = cast.publisher("t", name="stopped")
    with zs.Subscriber("t", Tick) as sub:
        pub.ask(["publish", 1])
        pub.stop()
        with zs.Publisher("t", Tick, name="second") as second:
            second.publish(Tick(number=1))
            assert sorted(info.name for info in sub.publishers) == ["second", "stopped"]
            assert {lease.sample.sender for lease in iter(sub.take, None)} == {"stopped", ""}
            assert sub.take(timeout=0.2) is None
        pub.cont()
        pub.ask(["publish", 1])
        lease = sub.take(timeout=None)
        assert lease is not None
        assert (lease.sequence, lease.sample.sender) == (2, "stopped")


def test_subscribers_killed_at_any_moment_leave_every_slot_and_entry_free(cast: Cast):
    """Killed while they join, take, hold and sleep."""
    with zs.Publisher("t", Tick, depth=2, max_loans=1, spare_slots=8, max_subscribers=4) as pub:
        script = """
            import zeroslot as zs
            from tests.process.samples import Tick
            say("ready")
            while True:
                with zs.Subscriber("t", Tick, history=1, max_leases=2, spin_us=0) as sub:
                    for _ in range(args[0]):
                        lease = sub.take(timeout=None)
        """
        for round_ in range(6):
            sub = cast(script, 1 + round_ % 3)
            sub.expect("ready")
            first = pub.sequence
            while pub.sequence < first + 50 + 37 * round_:
                pub.publish(Tick(number=1))
            sub.kill()
        pub.allocator.reap()
        assert pub.subscriber_count == 0
        assert pub.allocator.free_count == pub.slot_count - 2
        subs = [zs.Subscriber("t", Tick) for _ in range(4)]
        with pytest.raises(zs.TooManyPeersError):
            zs.Subscriber("t", Tick)
        for one in subs:
            one.close()


@pytest.mark.row("DEF-9", "DEF-11")
def test_a_subscriber_joins_a_full_table_in_the_place_of_a_dead_one(cast: Cast):
    """While all of them are alive, the error names them."""
    with zs.Publisher("t", Tick, max_subscribers=2) as pub:
        subs = [cast.subscriber("t", name=f"sub{number}") for number in range(2)]
        with pytest.raises(zs.TooManyPeersError) as caught:
            zs.Subscriber("t", Tick)
        assert all(f"pid {sub.pid}" in str(caught.value) for sub in subs)
        subs[0].kill()
        with zs.Subscriber("t", Tick) as successor:
            pub.publish(Tick(number=1))
            assert successor.take(timeout=None) is not None
            assert pub.subscriber_count == 2


def test_a_killed_sleeper_costs_one_wake_call(cast: Cast):
    """It leaves its parked bit, which costs one futex call, and not one for every sample."""
    with zs.Publisher("t", Tick) as pub:
        sub = cast.subscriber("t", spin_us=0)
        start_to(sub, "take", 1)
        sub.kill()
        for number in range(100):
            pub.publish(Tick(number=number))
        assert pub.stats.wakes == 1


def test_abandon_leaves_what_a_kill_leaves(zeroslot_dir):
    """For tests of programs: the same death within one process."""
    from zeroslot import testing

    pub = zs.Publisher("t", Tick)
    with zs.Subscriber("t", Tick) as sub:
        pub.publish(Tick(number=1))
        testing.abandon(pub)
        assert len(list(zeroslot_dir.rglob("*.flink"))) == 1
        with zs.Publisher("t", Tick) as successor:
            assert list(zeroslot_dir.rglob("*.flink")) == [successor.flink]
            successor.publish(Tick(number=2))
            assert sorted(lease.sample.number for lease in iter(sub.take, None)) == [1, 2]
            assert sub.lost == 0
