"""Announced subscriptions and death: a publisher that is killed at any step of what it does about them, and subscribers
that are stopped between their announcement and their join.

The steps are those of test_steps.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests import shared_memory
from tests.fault import survivors
from tests.fault.parcels import Parcel
from tests.fault.survivors import DEPTH, TOPIC, Launcher, Victim, numbers_of
from tests.fault.victims import NEVER
from zeroslot.memory import announcement
from zeroslot.memory.directories import topic_directory


class OtherParcel(zs.Sample):
    """A type that cannot be read by name, which a publisher does not know before a subscriber says so."""

    number: str = ""


class AnnouncedHere:
    """Reliable subscriptions of this process that make no call while a publisher dies: one that fits, and one that
    refuses every publisher as soon as it looks.
    """

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.fitting = zs.Subscriber(TOPIC, Parcel, reliable=True, name="fitting")
        self.refusing = zs.Subscriber(TOPIC, OtherParcel, reliable=True, match="by_name", name="refusing")
        self.own = announcements()
        self.objects = shared_memory.objects()
        self.files = shared_memory.files(Path(os.environ["ZEROSLOT_DIR"]))

    def leave_a_dead_one(self) -> None:
        """The announcement of a subscriber that was killed."""
        before = len(announcements())
        self.launcher.start("take", TOPIC, 0, reliable=True).kill_before_start()
        assert len(announcements()) == before + 1

    def refuse(self) -> None:
        """The one that fits none looks at the publishers that are there."""
        with pytest.raises(zs.TypeMismatchError):
            self.refusing.take()

    def check(self, published: int) -> None:
        """The one that fits goes on with what the dead publisher has published; the next publisher waits for it, and
        has removed the announcements of the dead.
        """
        numbers = numbers_of(self.fitting)
        assert numbers == [*range(1, len(numbers) + 1)]
        assert len(numbers) <= published
        with zs.Publisher(TOPIC, Parcel, on_full="raise", depth=2, max_loans=1) as successor:
            assert announcements() == self.own
            survivors.publish(successor, 2)
            with pytest.raises(zs.BackpressureError, match="has not joined") as caught:
                successor.loan()
            assert {each.name for each in caught.value.waiting} == {"fitting", "refusing"}
            self.refuse()
            assert numbers_of(self.fitting) == [1, 2]
            for number in (3, 4):
                survivors.publish(successor, 1)
                assert numbers_of(self.fitting) == [number]
        assert self.fitting.take() is None
        assert self.fitting.lost == 0
        assert announcements() == self.own
        survivors.assert_nothing_left(self.objects, self.files)

    def close(self) -> None:
        """Nothing is left when everybody has ended."""
        self.fitting.close()
        self.refusing.close()
        assert list(Path(os.environ["ZEROSLOT_DIR"]).rglob("*")) == []


def announcements() -> set[Path]:
    return set(announcement.list_announcements(topic_directory("default", TOPIC)))


@dataclass
class Deed:
    """What a publisher does about announced subscriptions, when it has published some samples. `refuses`, `dies`: what
    two of them have done since it found them. `raised`: how it ends where nothing kills it.
    """

    scenario: str
    published: int = DEPTH
    refuses: bool = False
    dies: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    raised: str = ""


DEEDS = {
    "look for them": Deed("create", published=0),
    "wait for them": Deed("wait_for_announced", raised="BackpressureError"),
    "forget two of them": Deed("wait_for_announced", refuses=True, dies=True, raised="BackpressureError"),
    "count them": Deed("count_announced", published=1),
    "evict them": Deed("evict_announced", published=1),
    "wait with evict_after": Deed("wait_for_announced", options={"evict_after": 0.001}),
    "end": Deed("close", published=1, dies=True),
}


@pytest.mark.row("NEW-5", "NOT-12")
@pytest.mark.parametrize("name", DEEDS)
def test_a_publisher_killed_at_any_step_about_announcements_holds_up_nobody(launcher: Launcher, name: str):
    """The subscribers go on, and the next publisher waits for them."""
    deed = DEEDS[name]
    world = AnnouncedHere(launcher)
    with survivors.nothing_grows():
        for at in range(NEVER):
            world.leave_a_dead_one()
            victim = launcher.start(deed.scenario, TOPIC, deed.published, on_full="block", max_loans=2, **deed.options)
            if deed.refuses:
                world.refuse()
            if deed.dies:
                world.leave_a_dead_one()
            death = victim.kill_at(at)
            try:
                world.check(deed.published)
            except BaseException as error:
                error.add_note(f"after a death before step {at}")
                raise
            if death.finished:
                assert launcher.traces or death.raised == deed.raised
                break
    world.close()


def stop(launcher: Launcher, at: int) -> tuple[Victim, bool]:
    victim = launcher.start("join_and_take_all", TOPIC, reliable=True)
    return victim, victim.stop(at)


@pytest.mark.row("NEW-5", "NOT-12", "DEF-11")
@pytest.mark.parametrize("evict_after", [None, 0.005])
def test_a_subscriber_stopped_between_its_announcement_and_its_join(launcher: Launcher, evict_after: float | None):
    """A publisher that starts meanwhile waits for it once it is announced. It takes every sample if it had looked for
    publishers before, and joins as with an older publisher if it had not. With `evict_after` the publisher waits no
    longer than that, and every sample is taken or counted as lost.
    """
    count = 2 * DEPTH
    waited: list[int] = []
    taken: list[int] = []
    for at in range(NEVER):
        victim, stopped = stop(launcher, at)
        with zs.Publisher(
            TOPIC, Parcel, on_full="block", depth=DEPTH, max_loans=1, evict_after=evict_after, max_subscribers=2
        ) as pub:
            published = 0
            try:
                for _ in range(count):
                    pub.publish(parcel(published + 1), timeout=0 if evict_after is None else None)
                    published += 1
            except zs.BackpressureError:
                assert evict_after is None
            raised = victim.go_on()
            peers = zs.inspect(TOPIC).publishers[0].subscribers
            if evict_after is not None and pub.stats.evicted:
                waited.append(at)
                assert raised in {"", "EvictedError"}
                assert not peers or peers[0].taken + peers[0].lost in {0, count}
            elif published < count:
                waited.append(at)
                assert (raised, published) == ("", DEPTH)
                if peers:  # else the stop was after its last look in this call
                    taken.append(peers[0].taken)
                    assert peers[0].lost == 0
                    pub.publish(parcel(published + 1), timeout=0)
            else:
                assert (raised, published) == ("", count)
                assert all(peer.lost == 0 for peer in peers)
            victim.kill()
        if not stopped:
            break
    # At first it is not announced, from some step on it is; and from a later one on it has looked.
    assert waited[0] > 0
    assert waited == [*range(waited[0], waited[-1] + 1)]
    if evict_after is None:
        assert set(taken) in ({0, DEPTH}, {DEPTH})  # it reads no shared memory between the two
        assert taken == sorted(taken)
    assert zs.clean() == ()


def parcel(number: int) -> Parcel:
    """A sample whose content goes with its number."""
    made = Parcel(number=0)
    survivors.fill(made, number)
    return made
