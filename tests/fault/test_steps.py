"""Death at every step: before each access to shared memory and each system call, of every operation, in every role.

A victim is killed at step 0, 1, 2, … of one operation, until it completes the operation, and once more after that.
After each death the survivors continue, a new process joins, every slot and index can be used again, every payload is
whole, and /dev/shm is as before.

Between two steps a death cannot be told from one at the next step: others see only writes to shared memory and system
calls. Plain writes (payload; a header, before another process can attach) are left to test_single_step.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests.fault import stepped, survivors
from tests.fault.survivors import DEPTH, TOPIC, Launcher, PublisherHere, SubscribersHere, Victim
from tests.fault.victims import NEVER
from zeroslot._core import binding


@dataclass
class Tally:
    """How many deaths of an operation were tried, and what it raised when it was completed."""

    points: int = 0
    raised: set[str] = field(default_factory=set)


counts: dict[str, Tally] = {}


@pytest.fixture(scope="module", autouse=True)
def published_counts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print the number of deaths at the end."""
    yield
    for how, what in {"accesses": "accesses to shared memory", "calls": "system calls"}.items():
        tallies = [tally for name, tally in counts.items() if name.startswith(how)]
        if not tallies:
            continue
        points = sum(tally.points for tally in tallies)
        survivors.say(request.config, f"{points} deaths at {what} in {len(tallies)} operations, all survived")


def at_every_step(name: str, start: Callable[[], Victim], check: Callable[[], None]) -> Tally:
    """Kill at step 0, 1, 2, …; the last victim completes the operation."""
    tally = counts.setdefault(name, Tally())
    for at in range(NEVER):
        victim = start()
        death = victim.kill_at(at)
        try:
            check()
        except BaseException as error:
            error.add_note(f"after a death before step {at} of {name}")
            raise
        tally.points += 1
        if death.finished:
            tally.raised.add(death.raised)
            return tally
    raise AssertionError


# --- the hook


@pytest.mark.row("NEW-5")
def test_the_shipped_core_has_no_step_hook(tmp_path: Path):
    """Its object code is byte for byte that of headers without a place for a hook."""
    shipped = stepped.core_object(tmp_path / "shipped")
    assert len(shipped) > 5000
    assert shipped == stepped.core_object(tmp_path / "without", without_places=True)
    hooked = stepped.core_object(tmp_path / "hooked", flags=("-include", str(stepped.HERE / "steps.h")))
    assert hooked != shipped
    assert b"zs_test" in hooked
    assert b"zs_test" not in Path(binding.__file__).read_bytes()


# --- subscribers die


@dataclass
class Reading:
    """A subscriber's operation, after it has taken `hold` samples of the `history`; then `between` are published."""

    scenario: str
    hold: int | None = None
    history: int = 0
    between: int = 0
    on_full: str = "evict"
    options: dict[str, Any] = field(default_factory=dict)
    after_a_death: bool = False
    refused: str = ""


READING = {
    "join": Reading("join"),
    "join with history": Reading("join", history=2),
    "join as reliable": Reading("join", history=2, on_full="block", options={"reliable": True}),
    "join after a death": Reading("join", after_a_death=True),
    "take": Reading("take", hold=0, history=1),
    "take a second": Reading("take", hold=1, history=2),
    "take as reliable": Reading("take", hold=0, history=2, on_full="block", options={"reliable": True}),
    "take of none": Reading("take", hold=0),
    "take too late": Reading("take", hold=1, history=2, between=DEPTH + 2),
    "take too many": Reading("take", hold=1, history=2, options={"max_leases": 1}, refused="TooManyLeasesError"),
    "latest": Reading("latest", hold=0, history=3),
    "take many": Reading("take_many", hold=0, history=3),
    "take many after a lease": Reading("take_many", hold=1, history=3, between=1),
    "take many as reliable": Reading("take_many", hold=0, history=2, on_full="block", options={"reliable": True}),
    "take many too late": Reading("take_many", hold=1, history=2, between=DEPTH + 2),
    "park": Reading("park", hold=0),
    "park with a lease": Reading("park", hold=1, history=1),
    "release": Reading("release", hold=1, history=1),
    "release of a retired one": Reading("release", hold=2, history=2, between=DEPTH),
    "release after close": Reading("release_after_close", hold=2, history=2),
    "close": Reading("leave", hold=0),
    "close with leases": Reading("leave", hold=2, history=2, between=DEPTH),
    "ticket": Reading("make_ticket", hold=1, history=1),
    "redeem": Reading("redeem", hold=1, history=1),
    "redeem again": Reading("redeem_again", hold=1, history=1),
    "redeem a retired one": Reading("redeem_again", hold=1, history=1, between=DEPTH + 1),
    "redeem too late": Reading("redeem_too_late", hold=1, history=1, refused="SampleGoneError"),
    "release a redeemed one": Reading("release_redeemed", hold=1, history=1),
    "inspect": Reading("inspect"),
    "reader's attach": Reading("join_untyped", history=1),
    "reader's park": Reading("park_for_change"),
}


@pytest.mark.row("NEW-5", "DEF-6", "DEF-9")
@pytest.mark.parametrize("name", READING)
def test_a_subscriber_killed_at_any_step_leaves_its_slots_and_index_usable(
    launcher: Launcher, name: str, request: pytest.FixtureRequest
):
    """Its publisher and the other subscriber continue."""
    case = READING[name]
    world = PublisherHere(on_full=case.on_full)
    where = str(world.pub.flink) if case.scenario in {"join_untyped", "park_for_change"} else TOPIC
    args: list[Any] = [where] if case.hold is None else [where, case.hold]
    options = dict(case.options)
    if case.scenario != "inspect":
        options["history"] = case.history

    def start() -> Victim:
        if case.after_a_death:
            launcher.start("take", TOPIC, 2, history=2).kill_before_start()
        victim = launcher.start(case.scenario, *args, **options)
        for _ in range(case.between):
            survivors.publish(world.pub, 1)
            survivors.numbers_of(world.sub)
        return victim

    with survivors.nothing_grows():
        tally = at_every_step(f"{request.node.callspec.params['launcher']}: {name}", start, world.check)
    assert launcher.traces or tally.raised == {case.refused}
    world.close()


@pytest.mark.row("NEW-5")
def test_a_subscriber_killed_at_any_step_of_following_leaves_both_publishers_usable(
    launcher: Launcher, request: pytest.FixtureRequest
):
    """It attaches to a second publisher, and detaches from one that has ended."""
    world = PublisherHere()
    second: list[zs.Publisher[Any]] = []

    def start() -> Victim:
        with zs.Publisher(TOPIC, survivors.Parcel, depth=DEPTH) as leaving:
            victim = launcher.start("look", TOPIC, 0)
            second.append(zs.Publisher(TOPIC, survivors.Parcel, depth=DEPTH))
            survivors.publish(leaving, 1)
            assert survivors.numbers_of(world.sub) == [1]
        return victim

    def check() -> None:
        pub = second.pop()
        survivors.publish(pub, 2)
        assert survivors.numbers_of(world.sub) == [1, 2]
        pub.allocator.reap()
        assert pub.allocator.free_count == pub.slot_count - 2
        assert pub.subscriber_count == 1
        pub.close()
        assert world.sub.take() is None
        world.check()

    at_every_step(f"{request.node.callspec.params['launcher']}: follow", start, check)
    world.close()


# --- publishers die


@dataclass
class Writing:
    """A publisher's operation, after it has published some. `unmet`: no subscriber reads from it before. `met_early`: a
    subscriber joins, and takes the first sample, while the publisher prepares. `lets_go`: and does not hold it.
    """

    scenario: str
    published: int = 2
    on_full: str = "evict"
    options: dict[str, Any] = field(default_factory=dict)
    unmet: bool = False
    met_early: bool = False
    lets_go: bool = False
    after_a_death: bool = False
    sleeper: bool = False
    dead_reader: bool = False
    refused: str = ""
    more: int = 1  # samples that the operation publishes, at the most


WRITING = {
    "create": Writing("create", published=0, unmet=True),
    "create and publish": Writing("create", published=1, unmet=True),
    "create after a death": Writing("create", published=0, unmet=True, after_a_death=True),
    "reserve": Writing("loan"),
    "reserve of a retired one": Writing("loan_retired", published=DEPTH, options={"max_loans": 4, "spare_slots": 0}),
    "reserve with tickets": Writing(
        "loan_ticketed", published=DEPTH + 1, options={"spare_slots": 0}, met_early=True, lets_go=True
    ),
    "commit": Writing("commit"),
    "commit that retires": Writing("commit", published=DEPTH),
    "commit that wakes": Writing("commit", sleeper=True),
    "let go": Writing("let_go"),
    "grow": Writing("grow"),
    "grow with a sleeper": Writing("grow", sleeper=True),
    "discard": Writing("discard"),
    "publish": Writing("publish"),
    "send": Writing("send"),
    "send that retires and wakes": Writing("send", published=DEPTH, sleeper=True),
    "publish many": Writing("publish_many", options={"count": 3}, more=3),
    "publish many with a sleeper": Writing("publish_many", options={"count": 3}, more=3, sleeper=True),
    "publish many until it blocks": Writing(
        "publish_many", on_full="block", options={"count": 5}, more=3, refused="BackpressureError"
    ),
    "loan many": Writing("loan_many", options={"count": 3, "max_loans": 3}),
    "commit many": Writing("commit_many", options={"count": 3, "max_loans": 3}, more=3),
    "commit many with a sleeper": Writing("commit_many", options={"count": 3, "max_loans": 3}, more=3, sleeper=True),
    "discard many": Writing("discard_many", options={"count": 3, "max_loans": 3}),
    "block": Writing("blocked", published=DEPTH, on_full="block", met_early=True, refused="BackpressureError"),
    "flush": Writing("flush", on_full="block"),
    "reap": Writing("relieve", published=DEPTH, options={"max_loans": 4, "spare_slots": 0}, dead_reader=True),
    "close": Writing("close"),
    "close with a sleeper": Writing("close", sleeper=True),
    "close with a loan": Writing("close_with_loan"),
}


@pytest.mark.row("NEW-5", "DEF-1", "DEF-10")
@pytest.mark.parametrize("name", WRITING)
def test_a_publisher_killed_at_any_step_leaves_its_published_samples_only(
    launcher: Launcher, name: str, request: pytest.FixtureRequest
):
    """Its subscribers get all of them and follow the next one; that one's start, or clean(), removes the rest."""
    case = WRITING[name]
    world = SubscribersHere(on_full=case.on_full, sleeper=case.sleeper)

    def start() -> Victim:
        if case.after_a_death:
            launcher.start("loan", TOPIC, 1).kill_before_start()
        meeting = threading.Thread(target=world.meet, kwargs={"keep": not case.lets_go}) if case.met_early else None
        if meeting is not None:
            meeting.start()
        victim = launcher.start(case.scenario, TOPIC, case.published, on_full=case.on_full, **case.options)
        if meeting is not None:
            meeting.join()
        elif not case.unmet:
            world.meet(keep=not case.dead_reader)
        if case.sleeper:
            world.wait_for_sleeper(case.published)
        if case.dead_reader:
            launcher.start("take", TOPIC, 2, history=DEPTH).kill_before_start()
        return victim

    with survivors.nothing_grows():
        check = partial(world.check, published=case.published, more=case.more)
        tally = at_every_step(f"{request.node.callspec.params['launcher']}: {name}", start, check)
    assert launcher.traces or tally.raised == {case.refused}
    world.close()


@pytest.mark.row("NEW-5", "SEG-14")
@pytest.mark.parametrize("name", ["create_untyped", "close_untyped", "create_untyped with force"])
def test_a_slot_allocator_killed_at_any_step_leaves_its_flink_usable(
    launcher: Launcher, name: str, request: pytest.FixtureRequest, zeroslot_dir: Path
):
    """With `force` the living owner keeps it, or has lost it to the dead one."""
    flink = zeroslot_dir / "slots"
    scenario, _, force = name.partition(" with ")
    before = survivors.shared_memory.objects()
    with zs.SlotAllocator.create(flink, 8, 64) if force else nullcontext():

        def check() -> None:
            with (
                zs.SlotAllocator.create(flink, 8, 64, force=bool(force)) as slots,
                zs.SlotReader.attach(flink) as reader,
            ):
                slot = slots.reserve()
                memoryview(slot)[:1] = b"x"
                slots.commit(slot, 1)
                assert bytes(reader.take()) == b"x"
            if not force:
                survivors.assert_nothing_left(before, set())

        start = partial(launcher.start, scenario, str(flink), force=bool(force))
        at_every_step(f"{request.node.callspec.params['launcher']}: {name}", start, check)
    survivors.assert_nothing_left(before, set())


@pytest.mark.row("NEW-5")
def test_a_subscriber_killed_at_any_step_of_marking_a_dead_publisher_misleads_no_other(
    launcher: Launcher, request: pytest.FixtureRequest
):
    """The other subscribers notice the publisher's death by themselves."""
    world = SubscribersHere()

    def start() -> Victim:
        dead = launcher.start("loan", TOPIC, 2)
        world.meet(keep=True)
        victim = launcher.start("look", TOPIC, 1, history=1)
        dead.kill_before_start()
        return victim

    at_every_step(f"{request.node.callspec.params['launcher']}: mark dead", start, partial(world.check, published=2))
    world.close()


# --- cleaners die


@pytest.mark.row("NEW-5")
def test_a_cleaner_killed_at_any_step_leaves_the_rest_to_the_next_cleaner(
    launcher: Launcher, request: pytest.FixtureRequest
):
    """It cleans after a dead publisher and a dead subscriber; living processes do not notice."""
    world = PublisherHere()

    def start() -> Victim:
        launcher.start("loan", "other/topic", 1).kill_before_start()
        launcher.start("take", TOPIC, 2, history=2).kill_before_start()
        return launcher.start("clean")

    def check() -> None:
        zs.clean()
        assert [left for left in zs.clean(dry_run=True) if TOPIC in left.where] == []
        world.check()

    at_every_step(f"{request.node.callspec.params['launcher']}: clean", start, check)
    world.close()
