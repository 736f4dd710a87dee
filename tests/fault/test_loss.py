"""Each lost sample is counted once and none comes twice, whatever happens while a subscriber attaches, follows, is
evicted, joins again and leaves.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import zeroslot as zs
from tests.fault.interruptions import Interrupted, descriptors_run_out, interruptions
from tests.process.samples import Tick
from tests.unit.control_bytes import ControlBytes
from zeroslot._core.binding import now_ns
from zeroslot.endpoints.subscriber import SubscriberStats
from zeroslot.memory import flink
from zeroslot.memory.announcement import Announcement
from zeroslot.testing import abandon


def publish(pub: zs.Publisher[Tick], count: int) -> None:
    for _ in range(count):
        pub.publish(Tick(number=pub.sequence + 1))


def take_all(sub: zs.Subscriber[Tick]) -> list[int]:
    return [lease.sequence for lease in iter(sub.take, None)]


def evict_all(pub: zs.Publisher[Tick]) -> int:
    return sum(pub.allocator.evict(index) for index in pub.allocator.native.segment.active_indexes())


def accounted(sub: zs.Subscriber[Tick]) -> int:
    return sub.stats.taken + sub.lost + sub.skipped


def let_pass(ns: int) -> None:
    """Return when so much of CLOCK_MONOTONIC has gone by."""
    until = now_ns() + ns
    while now_ns() < until:
        os.sched_yield()


# --- evictions ---


@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("missed", [0, 1, 3, 4, 9])
def test_rejoin_after_eviction_resumes_at_the_cursor(*, reliable: bool, newer: bool, missed: int) -> None:
    """Whatever `history` was given and wherever reading began: no sample comes twice, and missed ones are lost."""
    options: dict[str, Any] = {"reliable": reliable, "history": 2}
    pub = None if newer else zs.Publisher("t", Tick, depth=4, max_loans=1, on_full="block")
    with (
        zs.Subscriber("t", Tick, **options) as sub,
        pub or zs.Publisher("t", Tick, depth=4, max_loans=1, on_full="block") as pub,
    ):
        assert sub.wait_for_publishers()
        publish(pub, 3)
        taken = [lease.sequence for lease in (sub.take(), sub.take()) if lease is not None]
        assert evict_all(pub) == 1
        publish(pub, missed)
        with pytest.raises(zs.EvictedError):
            sub.take()
        taken += take_all(sub)
        assert taken == sorted(set(taken))
        assert taken[-1] == pub.sequence
        assert accounted(sub) == pub.sequence
        assert sub.lost == len(set(range(1, pub.sequence + 1)) - set(taken))
        publish(pub, 1)
        assert take_all(sub) == [pub.sequence]


@pytest.mark.parametrize("ending", [zs.Publisher.close, abandon])
@pytest.mark.parametrize("told", [True, False])
def test_samples_missed_by_an_eviction_count_as_lost_if_the_publisher_ends_before_the_rejoin(
    ending: Callable[[zs.Publisher[Tick]], None], *, told: bool
) -> None:
    """Sealed or killed, before the subscriber learned of the eviction or after: counted once, raised once."""
    with zs.Subscriber("t", Tick) as sub:
        pub = zs.Publisher("t", Tick, depth=4)
        assert sub.wait_for_publishers()
        publish(pub, 3)
        assert sub.take() is not None
        evict_all(pub)
        publish(pub, 5)
        if told:
            with pytest.raises(zs.EvictedError):
                sub.take()
        ending(pub)
        if not told:
            with pytest.raises(zs.EvictedError):
                sub.take()
        assert take_all(sub) == []
        assert sub.stats == SubscriberStats(taken=1, lost=7, skipped=0, leases=0, publishers=0)
        with zs.Publisher("t", Tick) as other:
            publish(other, 2)
            assert take_all(sub) == [1, 2]
        assert sub.lost == 7


def test_an_eviction_is_raised_once_by_take_wait_or_latest() -> None:
    """Also to a subscriber that has taken everything, and every later call continues."""
    with zs.Publisher("t", Tick) as pub, zs.Subscriber("t", Tick) as sub:
        for call in (sub.take, sub.latest, lambda: sub.take(timeout=None), lambda: sub.wait() and sub.take()):
            publish(pub, 1)
            assert sub.take() is not None
            evict_all(pub)
            with pytest.raises(zs.EvictedError):
                call()
            assert sub.latest() is None
            assert sub.take() is None
        publish(pub, 1)
        assert take_all(sub) == [5]
        assert accounted(sub) == 5


@pytest.mark.parametrize("ends", [False, True])
def test_a_rejoin_that_fails_for_a_passing_reason_is_tried_again(
    caplog: pytest.LogCaptureFixture, *, ends: bool
) -> None:
    """The table is full: logged once, and missed samples are counted when a place gets free or the publisher ends."""
    pub = zs.Publisher("t", Tick, max_subscribers=2)
    with zs.Subscriber("t", Tick) as sub:
        publish(pub, 1)
        held = sub.take()
        if held is None:
            publish(pub, 1)
            held = sub.take()
        assert held is not None
        begun = held.sequence - 1
        evict_all(pub)
        with zs.Subscriber("t", Tick) as other:
            with pytest.raises(zs.EvictedError):
                sub.take()
            with pytest.raises(zs.TooManyPeersError):
                sub.take()
            publish(pub, 30)
            for _ in range(3):
                let_pass(10_000_000)
                assert sub.take() is None
            assert take_all(other)
        if ends:
            pub.close()
        taken: list[int] = []
        while begun + accounted(sub) < 31 + begun:
            taken += take_all(sub)
        assert taken == ([] if ends and not taken else list(range(taken[0], pub.sequence + 1)))
        assert begun + accounted(sub) == pub.sequence
        assert caplog.text.count("has room for") <= 1
    if not ends:
        pub.close()


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_of_takes_evictions_and_ends_is_counted_exactly(seed: int) -> None:
    """Sequences ascend, `lost` never falls, each eviction is one error, and the counts add up."""
    draw = random.Random(seed)
    reliable = draw.random() < 0.5
    with zs.Subscriber("t", Tick, reliable=reliable, history=draw.randrange(3)) as sub:
        published = evictions = told = lost = 0
        newest: dict[str, int] = {}
        pub: zs.Publisher[Tick] | None = None

        def take(call: Callable[[], Any]) -> None:
            nonlocal told, lost
            try:
                lease = call()
            except zs.EvictedError:
                told += 1
            else:
                if lease is not None:
                    assert lease.sequence > newest.get(lease.publisher_id, 0)
                    newest[lease.publisher_id] = lease.sequence
            assert sub.lost >= lost
            lost = sub.lost

        for _ in range(400):
            match draw.randrange(12):
                case 0 if pub is None:
                    pub = zs.Publisher("t", Tick, depth=4, max_loans=1, on_full=draw.choice(["block", "raise"]))
                    assert sub.publishers
                case 1 if pub is not None and draw.random() < 0.3:
                    published += pub.sequence
                    draw.choice([zs.Publisher.close, abandon])(pub)
                    pub = None
                case 2 if pub is not None:
                    evictions += evict_all(pub)
                case 3 | 4:
                    take(sub.latest)
                case 5 | 6 | 7:
                    take(sub.take)
                case _ if pub is not None:
                    with suppress(zs.BackpressureError):
                        for _ in range(draw.randrange(7)):
                            pub.publish(Tick(number=1), timeout=0)
        if pub is not None:
            published += pub.sequence
            pub.close()
        for _ in range(40):
            take(sub.take)
        assert accounted(sub) == published
        assert told <= evictions
        assert (told > 0) == (evictions > 0)
    zs.clean()  # what was abandoned last


# --- publishers that cannot be joined, and late joiners ---


@pytest.mark.parametrize("asleep", [False, True])
def test_a_publisher_whose_table_was_full_is_joined_when_a_place_gets_free(*, asleep: bool) -> None:
    """It is read from its first sample: by a poll, and by a sleeper that the leaving subscriber wakes."""
    with zs.Subscriber("t", Tick) as other, zs.Subscriber("t", Tick) as sub:
        with zs.Publisher("t", Tick, max_subscribers=1) as pub:
            assert other.wait_for_publishers()
            with pytest.raises(zs.TooManyPeersError):
                sub.take()
            publish(pub, 3)
            taken: list[int] = []
            if asleep:
                thread = threading.Thread(target=lambda: taken.append(sub.take(timeout=None).sequence))  # type: ignore[union-attr]  # waited for
                thread.start()
                other.close()
                thread.join()
            other.close()
            while len(taken) < 3:
                taken += take_all(sub)
            assert taken == [1, 2, 3]
            assert sub.lost == 0


def test_a_publisher_that_cannot_be_joined_does_not_affect_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """One is full and the other is read; the log tells it once, however often it is tried."""
    with zs.Publisher("t", Tick, max_subscribers=1) as full, zs.Subscriber("t", Tick):
        with zs.Publisher("t", Tick) as pub, zs.Subscriber("t", Tick) as sub:
            publish(pub, 2)
            assert take_all(sub) == [1, 2]
            publish(full, 2)
            for _ in range(4):
                let_pass(110_000_000)
                assert take_all(sub) == []
            assert caplog.text.count("has room for 1 subscribers") == 1


def test_a_publisher_that_the_first_look_missed_is_read_from_its_first_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its creator was preempted between header and flink: by its clock it is older, and all of it is read."""
    made: list[zs.Subscriber[Tick]] = []
    appear = flink.publish_flink

    def preempted(*arguments: Any, **named: Any) -> None:
        if not made:
            made.append(zs.Subscriber("t", Tick, reliable=True))
        appear(*arguments, **named)

    monkeypatch.setattr(flink, "publish_flink", preempted)
    with zs.Publisher("t", Tick, on_full="block") as pub, made[0] as sub:
        publish(pub, 3)
        assert take_all(sub) == [1, 2, 3]
        assert sub.lost == 0


@pytest.mark.parametrize("published", [0, 2, 3, 4, 20])
def test_a_late_reliable_subscriber_does_not_block_the_next_loan(
    published: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it may not be announced, a warning says so. It asks for everything from the first sample; what would fill
    the window counts as lost by the join.
    """

    def refused(self: Announcement, *_: object) -> None:
        raise PermissionError("the directory is read-only")

    monkeypatch.setattr(Announcement, "publish", refused)
    with zs.Subscriber("t", Tick, reliable=True) as sub:
        with zs.Publisher("t", Tick, depth=4, max_loans=1, on_full="raise") as pub:
            publish(pub, published)
            assert sub.wait_for_publishers()
            assert sub.lost == max(0, published - 3)
            publish(pub, 1)
            assert take_all(sub) == list(range(max(0, published - 3) + 1, published + 2))
            assert accounted(sub) == pub.sequence
            assert caplog.text.count("cannot be announced, so publishers that start later do not wait for it") == 1


# --- how a segment ends ---


def flipped(pub: zs.Publisher[Tick] | zs.SlotAllocator, bit: int, sequence: int | None) -> None:
    control = ControlBytes(pub.flink)  # type: ignore[arg-type]  # it has one
    at = control.at("published") if sequence is None else control.ring_at(sequence)
    control.write(at, "Q", control.read(at, "Q") ^ 1 << bit)


@pytest.mark.parametrize("sequence", [1, 2, 4, None])
def test_a_flipped_bit_before_the_seal_loses_nothing_silently(sequence: int | None) -> None:
    """Each bit of a tag and of `published`: every sample is taken or counted, or the segment is corrupt."""
    outcomes = set()
    for bit in range(0 if sequence is None else 16, 64):
        for taken_before in (0, 2):
            with zs.Publisher("t", Tick, depth=4) as pub, zs.Subscriber("t", Tick) as sub:
                assert sub.wait_for_publishers()
                publish(pub, 4)
                for _ in range(taken_before):
                    assert sub.take() is not None
                flipped(pub, bit, sequence)
                pub.close()
                try:
                    take_all(sub)
                except zs.CorruptSegmentError:
                    outcomes.add("corrupt")
                    continue
                assert accounted(sub) == 4, bit
                outcomes.add("counted" if sub.lost else "harmless")
    assert "corrupt" in outcomes
    assert ("counted" in outcomes) == (sequence in (1, 2))  # the newest one is what `published` is compared with


def test_a_slot_reader_counts_samples_that_an_ended_ring_lacks(zeroslot_dir: Any) -> None:
    """As a subscriber does."""
    for bit in range(16, 64):
        with zs.SlotAllocator.create(zeroslot_dir / "x.flink", 8, 64, depth=4) as slots:
            with zs.SlotReader.attach(slots.flink) as reader:  # type: ignore[arg-type]  # it has one
                for _ in range(4):
                    slots.commit(slots.reserve(), b"1")
                flipped(slots, bit, 2)
                slots.close()
                with suppress(zs.CorruptSegmentError):
                    found = [lease.sequence for lease in iter(reader.take, None)]
                    assert found == [1, 3, 4]
                    assert reader.lost == 1


@pytest.mark.parametrize("untyped", [False, True])
def test_a_few_polls_notice_a_death(zeroslot_dir: Any, *, untyped: bool) -> None:
    """However slowly they follow each other: the time between them counts, and not their number."""
    if untyped:
        slots = zs.SlotAllocator.create(zeroslot_dir / "x.flink", 4, 64)
        with zs.SlotReader.attach(slots.flink) as reader:  # type: ignore[arg-type]  # it has one
            abandon(slots)
            let_pass(70_000_000)
            assert reader.take() is None
            assert reader.owner_gone
        with zs.SlotAllocator.create(zeroslot_dir / "x.flink", 4, 64) as again:
            with zs.SlotReader.attach(again.flink) as reader:  # type: ignore[arg-type]  # it has one
                again.abandon()
                while not reader.owner_gone:  # by looking alone
                    os.sched_yield()
        zs.clean()
        zs.SlotAllocator.create(zeroslot_dir / "x.flink", 4, 64).close()
        return
    with zs.Subscriber("t", Tick) as sub:
        pub = zs.Publisher("t", Tick)
        assert sub.wait_for_publishers()
        abandon(pub)
        for _ in range(3):
            let_pass(70_000_000)
            assert sub.take() is None
        assert sub.stats.publishers == 0
    zs.Publisher("t", Tick).close()  # removes what is left


# --- interrupted at every place ---


class Scene:
    """One operation of a subscriber, from the same start each time; `count` of it is what has to be accounted for."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.pub = zs.Publisher("t", Tick, depth=4, max_loans=1, max_subscribers=2)
        self.sub: zs.Subscriber[Tick] | None = None
        self.taken: list[int] = []
        self.told = 0
        self.count = 0
        if what == "attach":
            publish(self.pub, 3)
            return
        self.pub.close()
        self.sub = zs.Subscriber("t", Tick)
        self.pub = zs.Publisher("t", Tick, depth=4, max_loans=1, max_subscribers=2)
        if what != "follow":
            assert self.sub.wait_for_publishers()
        publish(self.pub, 3)
        self.count = 3
        if what == "rejoin":
            self.taken.append(self.sub.take().sequence)  # type: ignore[union-attr]  # there are three
            evict_all(self.pub)
            publish(self.pub, 5)
            self.count = 8
            with pytest.raises(zs.EvictedError):
                self.sub.take()
        if what == "leave":
            self.pub.close()

    def act(self) -> None:
        if self.what == "attach":
            self.sub = zs.Subscriber("t", Tick, history=2)
        self.drain()

    def drain(self) -> None:
        assert self.sub is not None
        while (lease := self.sub.take()) is not None:
            self.taken.append(lease.sequence)

    def check(self, place: object) -> None:
        """The subscriber goes on, and all of it has been accounted for."""
        if self.sub is None:
            self.sub = zs.Subscriber("t", Tick, history=2)
        if self.what == "attach":
            self.count = 2
        while accounted(self.sub) < self.count:
            self.drain()
        self.drain()
        assert accounted(self.sub) == self.count, place
        # A sample that was taken when the interruption came is in no list here.
        assert self.taken == sorted(set(self.taken)), place
        assert self.count - self.sub.lost - len(self.taken) <= 1, place
        if self.what != "leave":
            assert self.pub.subscriber_count == 1, place
            publish(self.pub, 1)
            self.drain()
            assert self.taken[-1] == self.pub.sequence, place

    def end(self) -> None:
        if self.sub is not None:
            self.sub.close()
        assert self.what == "leave" or self.pub.subscriber_count == 0
        self.pub.close()


WHAT = ["attach", "follow", "rejoin", "leave"]


def places(rounds: Iterator[Any], what: str, accept: type[BaseException] | tuple[type[BaseException], ...]) -> int:
    count = 0
    for place in rounds:
        scene = Scene(what)
        with place:
            scene.act()
        assert place.error is None or isinstance(place.error, accept), place
        scene.check(place)
        scene.end()
        count += place.injected
    return count


@pytest.mark.watchdog(600.0)
@pytest.mark.parametrize("at", ["line", "opcode"])
@pytest.mark.parametrize("what", WHAT)
def test_ctrl_c_at_any_place_loses_no_sample_and_no_publisher(what: str, at: Any, record_property: Any) -> None:
    """At each line, and each instruction, of attaching, following, rejoining and leaving."""
    if at == "opcode" and what == "attach":
        pytest.skip("the constructor runs far more than the attach")
    count = places(interruptions(at=at), what, Interrupted)
    record_property("places", count)
    print(f"{what} by {at}: {count} places")
    assert count > 20


@pytest.mark.watchdog(600.0)
@pytest.mark.parametrize("what", WHAT)
def test_a_lack_of_descriptors_loses_no_sample_and_no_publisher(what: str, record_property: Any) -> None:
    """From no free descriptor to enough: an OSError, or a publisher that is tried again."""
    count = places(descriptors_run_out(), what, OSError)
    record_property("places", count)
    print(f"{what}: {count} lacks")


@pytest.mark.watchdog(600.0)
@pytest.mark.parametrize("what", ["follow", "rejoin", "leave"])
def test_a_signal_handler_may_take_from_the_subscriber_that_it_interrupts(what: str) -> None:
    """At each line: no publisher is joined twice, and each sample comes once or is counted."""
    scene: Scene

    def handler() -> None:
        scene.drain()

    count = 0
    for place in interruptions(handler):
        scene = Scene(what)
        with place:
            scene.act()
        assert place.error is None, place
        scene.check(place)
        scene.end()
        count += place.injected
    print(f"{what}: {count} places")
    assert count > 20
