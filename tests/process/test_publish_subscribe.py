"""Samples between processes: to all subscribers, in order, counted, from the first moment on."""

from __future__ import annotations

import pickle

import pytest

import zeroslot as zs
from tests.process.actors import Cast, start_to
from tests.process.samples import Imu, Tick


def ticks(first: int, last: int, sender: str = "") -> list[list[object]]:
    return [[number, number, sender] for number in range(first, last + 1)]


@pytest.mark.row("SUB-2", "SUB-8", "SUB-11", "PUB-1")
def test_every_subscriber_gets_every_sample_in_order(cast: Cast):
    """Four processes read what one publishes, each at its own pace."""
    pub = cast.publisher("t", depth=16)
    subs = [cast.subscriber("t") for _ in range(4)]
    assert pub.ask(["publish", 16]) == 16
    for sub in subs:
        sub.tell(["take", 16])
        sub.expect("waiting")
        assert sub.hear() == ticks(1, 16)
        assert sub.ask(["stats"]) == {"taken": 16, "lost": 0, "skipped": 0, "leases": 0, "publishers": 1, "corrupt": 0}


@pytest.mark.row("SUB-7", "NOT-1")
def test_a_sleeping_subscriber_is_woken(cast: Cast):
    """One that sleeps without a timeout gets a sample that comes later, again and again."""
    sub = cast.subscriber("t", spin_us=0)
    pub = cast.publisher("t")
    for number in range(1, 21):
        start_to(sub, "take", 1)
        pub.ask(["publish", 1])
        assert sub.hear() == ticks(number, number)


def test_one_sample_wakes_all_sleeping_subscribers(cast: Cast):
    """One commit wakes all of them with one call."""
    pub = cast.publisher("t")
    subs = [cast.subscriber("t", spin_us=0) for _ in range(3)]
    for sub in subs:
        start_to(sub, "take", 1)
    pub.ask(["publish", 1])
    assert [sub.hear() for sub in subs] == [ticks(1, 1)] * 3


@pytest.mark.row("SUB-10")
def test_a_late_subscriber_gets_history_at_once_on_a_quiet_topic(cast: Cast):
    """History is there when the constructor returns: nothing has to be published for it."""
    pub = cast.publisher("t", depth=8)
    pub.ask(["publish", 20])
    with zs.Subscriber("t", Tick, history=5) as sub:
        assert [lease.sequence for lease in iter(sub.take, None)] == [16, 17, 18, 19, 20]
        assert sub.lost == 0


@pytest.mark.row("SUB-10")
def test_without_history_a_late_subscriber_starts_with_the_next_sample(cast: Cast):
    """Samples from before the constructor are not delivered, and not counted as lost."""
    pub = cast.publisher("t")
    pub.ask(["publish", 7])
    with zs.Subscriber("t", Tick) as sub:
        assert sub.take() is None
        pub.ask(["publish", 1])
        lease = sub.take(timeout=None)
        assert lease is not None
        assert (lease.sequence, sub.lost) == (8, 0)


@pytest.mark.row("PUB-3", "SUB-11", "DEF-14")
def test_samples_that_a_slow_subscriber_misses_are_counted_exactly(cast: Cast):
    """Depth samples are left, and taken + lost is the number published."""
    pub = cast.publisher("t", depth=4)
    with zs.Subscriber("t", Tick) as sub:
        assert pub.ask(["publish", 1000]) == 1000
        assert [lease.sequence for lease in iter(sub.take, None)] == [997, 998, 999, 1000]
        assert (sub.stats.taken, sub.lost) == (4, 996)


@pytest.mark.row("SUB-1")
def test_latest_counts_what_it_skips(cast: Cast):
    """Samples before the newest are skipped, not lost."""
    pub = cast.publisher("t", depth=4)
    sub = cast.subscriber("t")
    pub.ask(["publish", 10])
    assert sub.ask(["latest"]) == [10, 10, ""]
    assert sub.ask(["latest"]) is None
    stats = sub.ask(["stats"])
    assert (stats["taken"], stats["lost"], stats["skipped"]) == (1, 0, 9)


def test_publishers_of_one_topic_take_turns(cast: Cast):
    """With a backlog at each, none is read twice before every other was read once; within each the order holds."""
    pubs = [cast.publisher("t", name=name) for name in ("a", "b", "c")]
    with zs.Subscriber("t", Tick, max_leases=5) as sub:
        for pub in pubs:
            pub.ask(["publish", 5])
        taken = [(lease.sample.sender, lease.sequence) for lease in iter(sub.take, None)]
        assert len(taken) == 15
        for turn in range(5):
            assert {sender for sender, _ in taken[3 * turn : 3 * turn + 3]} == {"a", "b", "c"}
        for name in ("a", "b", "c"):
            assert [number for sender, number in taken if sender == name] == [1, 2, 3, 4, 5]


def test_publisher_id_names_the_publisher_of_a_sample(cast: Cast):
    """The id of a lease is the one that the publisher has."""
    pubs = {pub.ask(["id"]): pub for pub in (cast.publisher("t", name=name) for name in ("a", "b"))}
    with zs.Subscriber("t", Tick) as sub:
        for publisher_id, pub in pubs.items():
            pub.ask(["publish", 1])
            lease = sub.take(timeout=None)
            assert lease is not None
            assert lease.publisher_id == publisher_id
        assert {info.publisher_id: info.pid for info in sub.publishers} == {key: pub.pid for key, pub in pubs.items()}


@pytest.mark.row("SUB-7")
def test_a_take_that_times_out_returns_none(cast: Cast):
    """Nothing is raised, and the clock has moved as far as asked."""
    cast.publisher("t")
    with zs.Subscriber("t", Tick) as sub:
        assert sub.take(timeout=0.01) is None
        assert sub.latest(timeout=0.01) is None
        assert sub.wait(timeout=0.01) is False


@pytest.mark.row("SUB-7", "DEF-13")
@pytest.mark.parametrize("timeout", [1e12, 2.0**63, 1e300, float("inf"), None])
def test_a_huge_timeout_waits_and_still_wakes(cast: Cast, timeout: float | None):
    """No overflow turns a long wait into none."""
    pub = cast.publisher("t")
    sub = cast(
        """
        import zeroslot as zs
        from tests.process.samples import Tick
        with zs.Subscriber("t", Tick, spin_us=0) as sub:
            say("waiting")
            say(sub.take(timeout=float(args[0]) if args[0] else None).sequence)
        """,
        None if timeout is None else str(timeout),
    )
    sub.expect("waiting")
    sub.wait_for_sleep()
    pub.ask(["publish", 1])
    assert sub.hear() == 1


@pytest.mark.row("TYP-4", "TYP-6", "NEW-3", "DEF-16", "DEF-2")
def test_another_type_is_refused_with_the_difference(cast: Cast):
    """The error names both types and the fields that differ, and comes through pickle whole."""
    cast.publisher("t")
    with pytest.raises(zs.TypeMismatchError) as caught:
        zs.Subscriber("t", Imu)
    text = str(caught.value)
    assert [word for word in ("Tick", "Imu", "stamp_ns", "number") if word not in text] == []
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == text
    with pytest.raises(zs.TypeMismatchError):
        zs.Publisher("t", Imu)


@pytest.mark.row("TYP-4")
def test_two_types_that_race_for_a_topic_never_both_succeed(cast: Cast):
    """Two processes, 300 starts at the same moment: one has the topic or none, and neither leaves anything."""
    source = """
        import zeroslot as zs
        from tests.process import samples
        kind = getattr(samples, args[0])
        say("ready")
        for _ in orders():
            try:
                pub = zs.Publisher("t", kind)
            except zs.TypeMismatchError:
                pub = None
            say(pub is not None)
            hear()
            if pub is not None:
                pub.close()
            say("closed")
    """
    racers = [cast(source, kind) for kind in ("Tick", "Imu")]
    for racer in racers:
        racer.expect("ready")
    outcomes = []
    for _ in range(300):
        for racer in racers:
            racer.tell("start")
        outcomes.append([racer.hear() for racer in racers])
        for racer in racers:
            racer.tell("close")
        for racer in racers:
            racer.expect("closed")
    assert [True, True] not in outcomes


def test_a_mismatched_publisher_is_left_out_and_the_others_are_read(cast: Cast, caplog: pytest.LogCaptureFixture):
    """Logged once, if there is another to read."""
    pub = cast.publisher("t")
    child = cast(
        """
        import zeroslot as zs
        from tests.process.samples import Imu
        zs.Publisher._refuse_other_types = lambda *_, **__: None  # an old program, which did not look
        pub = zs.Publisher("t", Imu)
        say("ready")
        hear()
        """
    )
    with zs.Subscriber("t", Tick) as sub:
        assert len(sub.publishers) == 1
        child.expect("ready")
        for _ in range(3):
            pub.ask(["publish", 1])
            assert sub.take(timeout=None) is not None
        assert len([record for record in caplog.records if "left out" in record.getMessage()]) <= 1
        assert len(sub.publishers) == 1


@pytest.mark.row("NEW-3")
def test_by_name_reads_the_fields_that_both_share(cast: Cast):
    """In place, at the publisher's offsets; defaults stand in for fields that the publisher lacks."""
    child = cast(
        """
        from typing import Annotated
        import numpy as np, zeroslot as zs
        from numpy.typing import NDArray
        class Imu(zs.Sample):
            fresh: zs.U32
            accel: Annotated[NDArray[np.float64], zs.Shape(3)]
            stamp_ns: zs.U64
        with zs.Publisher("t", Imu) as pub:
            say("ready")
            hear()
            pub.publish(Imu(fresh=1, accel=np.array([1.0, 2.0, 3.0]), stamp_ns=77))
            say("published")
            hear()
        """
    )
    child.expect("ready")
    with pytest.raises(zs.TypeMismatchError):
        zs.Subscriber("t", Imu)
    with zs.Subscriber("t", Imu, match="by_name") as sub:
        child.ask("go")
        lease = sub.take(timeout=None)
        assert lease is not None
        assert lease.sample.stamp_ns == 77
        assert lease.sample.accel.tolist() == [1.0, 2.0, 3.0]
        assert lease.sample.frame == lease.copy().frame == "imu"


@pytest.mark.row("NEW-4")
def test_no_class_is_needed_to_read(cast: Cast):
    """A subscriber without a type reads from the schema in the segment."""
    pub = cast.publisher("t", name="first")
    with zs.Subscriber("t") as sub:
        pub.ask(["publish", 1])
        lease = sub.take(timeout=None)
        assert lease is not None
        assert lease.sample.model_dump() == {"number": 1, "sender": "first"}
        assert type(lease.sample).__name__ == "Tick"


@pytest.mark.row("NEW-4")
def test_a_subscriber_needs_neither_a_class_nor_a_publisher(cast: Cast):
    """The type comes with the first publisher."""
    sub = cast(
        """
        import zeroslot as zs
        with zs.Subscriber("t") as sub:
            say("waiting")
            say(sub.take(timeout=None).copy().model_dump())
        """
    )
    sub.expect("waiting")
    sub.wait_for_sleep()
    pub = cast.publisher("t")
    pub.ask(["publish", 1])
    assert sub.hear() == {"number": 1, "sender": ""}


@pytest.mark.row("NOT-12")
def test_a_publisher_waits_for_subscribers(cast: Cast):
    """It sleeps until they are there."""
    pub = cast.publisher("t")
    start_to(pub, "wait_for_subscribers", 2)
    first = cast.subscriber("t")
    pub.wait_for_sleep()
    cast.subscriber("t")
    assert pub.hear() is True
    assert pub.ask(["subscribers"]) == 2
    first.kill()
    assert pub.ask(["subscribers"]) == 1


@pytest.mark.row("NOT-12")
def test_a_subscriber_waits_for_publishers(cast: Cast):
    """It sleeps until they are there."""
    sub = cast.subscriber("t")
    start_to(sub, "wait_for_publishers", 2)
    cast.publisher("t", name="a")
    sub.wait_for_sleep()
    cast.publisher("t", name="b")
    assert sub.hear() is True
    assert sub.ask(["publishers"]) == ["a", "b"]


@pytest.mark.row("NOT-12")
def test_waiting_for_peers_ends_with_the_timeout(zeroslot_dir: object):
    """False, and no exception."""
    with zs.Publisher("t", Tick) as pub, zs.Subscriber("u", Tick) as sub:
        assert pub.wait_for_subscribers(timeout=0.01) is False
        assert sub.wait_for_publishers(timeout=0.01) is False


def test_topics_of_one_name_in_two_domains_are_separate(cast: Cast):
    """A domain is a separate set of topics."""
    pub = cast.publisher("t", domain="one")
    with zs.Subscriber("t", Tick, domain="two") as sub, zs.Subscriber("t", Tick, domain="one") as same:
        pub.ask(["publish", 1])
        assert sub.take() is None
        assert same.take(timeout=None) is not None


@pytest.mark.row("DIS-9", "NEW-7")
def test_inspection_of_live_topics_takes_no_entry(cast: Cast):
    """A third process learns which processes publish and read, and how far, without joining."""
    pub = cast.publisher("robot/t", name="pub")
    sub = cast.subscriber("robot/t", name="sub")
    pub.ask(["publish", 5])
    sub.ask(["hold", 2])
    (topic,) = zs.topics()
    assert topic.topic == "robot/t"
    (facts,) = topic.publishers
    assert (facts.pid, facts.name, facts.published, facts.type_name) == (pub.pid, "pub", 5, "Tick")
    (reader,) = facts.subscribers
    assert (reader.pid, reader.name, reader.held, reader.taken, reader.behind) == (sub.pid, "sub", 2, 2, 3)
    assert pub.ask(["subscribers"]) == 1
    with pytest.raises(zs.TopicNotFoundError):
        zs.inspect("robot/other")
