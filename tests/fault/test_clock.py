"""The realtime clock is set back and forward while processes sleep, wait with timeouts, and report ages.

Twice: by a year, in processes with a preloaded library that adds to their realtime clock (clock.c); and by an hour for
real, only in a run with `--step-the-clock`. The machine's clock is restored by the monotonic one.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import zeroslot as zs
from tests.children import Child
from tests.fault import stepped
from tests.process.actors import Cast
from tests.process.samples import Tick

# Says "waiting" before everything that it does, and then the result.
ACTOR = """
import time
import zeroslot as zs
from tests.process.samples import Tick

role, topic, options = args
end = {"publisher": zs.Publisher, "subscriber": zs.Subscriber}[role](topic, Tick, **options)
held = []

def take(timeout):
    lease = end.take(timeout=timeout)
    return None if lease is None else [lease.sequence, lease.published_ns]

def publish(timeout):
    try:
        return end.publish(Tick(number=1), timeout=timeout)
    except zs.BackpressureError as error:
        return [holder.stalled_s for holder in error.holders]

def attach(timeout):
    try:
        return str(zs.SlotReader.attach(options["name"], timeout=timeout))
    except zs.TopicNotFoundError:
        return "not found"

verbs = {
    "take": take, "publish": publish, "attach": attach,
    "wait": lambda timeout: end.wait(timeout=timeout),
    "flush": lambda timeout: end.flush(timeout),
    "wait_for_publishers": lambda timeout: end.wait_for_publishers(9, timeout),
    "wait_for_subscribers": lambda timeout: end.wait_for_subscribers(9, timeout),
    "hold": lambda: held.append(end.take()),
    "overdue": lambda: [[info.max_period_s, info.overdue] for info in end.publishers],
    "evicted": lambda: end.stats.evicted,
    "ahead_s": lambda: time.time() - time.monotonic(),
}
say("ready")
for verb, *rest in orders():
    say("waiting")
    say(verbs[verb](*rest))
"""


class Preloaded:
    """The clock of processes with clock.c in them."""

    seconds = 365 * 86400

    def __init__(self, file: Path) -> None:
        self._file = file
        file.write_bytes(bytes(8))
        self.env = {"LD_PRELOAD": str(stepped.clock()), "ZEROSLOT_TEST_CLOCK": str(file)}

    def step(self, seconds: int) -> None:
        """So far from where it belongs."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("<q", seconds * 10**9))


class Machine:
    """The clock of everybody on this machine."""

    seconds = 3600

    def __init__(self) -> None:
        self.env: dict[str, str] = {}
        self._belongs_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def step(self, seconds: int) -> None:
        """So far from where it belongs."""
        now_ns = self._belongs_ns + time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        time.clock_settime_ns(time.CLOCK_REALTIME, now_ns + seconds * 10**9)


Clock = Preloaded | Machine


@pytest.fixture(params=["preloaded", "the machine's"])
def clock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Clock]:
    """One that can be stepped, and is put back."""
    if request.param == "preloaded":
        yield Preloaded(tmp_path / "clock")
        return
    if not request.config.getoption("step_the_clock"):
        pytest.skip("steps the clock of this machine: only with --step-the-clock")
    made = Machine()
    try:
        made.step(0)
    except PermissionError:
        pytest.skip("this process may not set the clock")
    try:
        yield made
    finally:
        made.step(0)


@pytest.fixture(params=[1, -1], ids=["on", "back"])
def step(request: pytest.FixtureRequest, clock: Clock) -> int:
    return int(request.param * clock.seconds)


class Actor:
    """A child whose clock may be stepped."""

    def __init__(self, cast: Cast, clock: Clock, role: str, topic: str = "t", **options: object) -> None:
        self._clock = clock
        self.child: Child = cast(ACTOR, role, topic, options, env=dict(clock.env), name=role)
        self.child.expect("ready")

    def ask(self, verb: str, *rest: object) -> object:
        self.child.tell([verb, *rest])
        self.child.expect("waiting")
        return self.child.hear()

    def asleep_in(self, verb: str, timeout: float) -> None:
        self.child.tell([verb, timeout])
        self.child.expect("waiting")
        self.child.wait_for_sleep()

    def sleeps_on(self) -> None:
        """Returns when it has woken three times and gone to sleep again, so that it has looked at its clocks."""

        def sleeps() -> int:
            status = Path(f"/proc/{self.child.pid}/status").read_text()
            return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

        enough = sleeps() + 3
        while sleeps() < enough:
            assert self.child.alive
            os.sched_yield()
        self.child.wait_for_sleep()

    def sees(self, step: int) -> None:
        """Its clock is stepped: else the test would test nothing."""
        here = time.clock_gettime(time.CLOCK_REALTIME) - time.monotonic()
        there = self.ask("ahead_s")
        assert isinstance(there, float)
        assert abs(there - here - (step if isinstance(self._clock, Preloaded) else 0)) < 1800


def test_a_clock_step_does_not_end_a_long_wait_of_a_subscriber(cast: Cast, clock: Clock, step: int):
    """With more than an hour left, it keeps sleeping and takes the next sample; timestamps are monotonic."""
    sub = Actor(cast, clock, "subscriber", spin_us=0)
    with zs.Publisher("t", Tick) as pub:
        assert sub.ask("wait_for_publishers", 0) is False
        sub.asleep_in("take", clock.seconds / 2)
        clock.step(step)
        sub.sleeps_on()
        before = time.monotonic_ns()
        pub.publish(Tick(number=1))
        sequence, published_ns = sub.child.hear()
        assert sequence == 1
        assert before <= published_ns <= time.monotonic_ns()
        sub.sees(step)
        clock.step(0)


@pytest.mark.parametrize("verb", ["take", "wait", "wait_for_publishers", "attach"])
def test_a_clock_step_does_not_prolong_a_short_wait_of_a_subscriber(
    cast: Cast, clock: Clock, step: int, verb: str, tmp_path: Path
):
    """A wait by the realtime clock would end a year later."""
    sub = Actor(cast, clock, "subscriber", spin_us=0, name=str(tmp_path / "flink")[-200:])
    with zs.Publisher("t", Tick):
        sub.asleep_in(verb, 0.3)
        clock.step(step)
        assert sub.child.hear() == {"take": None, "attach": "not found"}.get(verb, False)
        clock.step(0)


def test_a_clock_step_does_not_end_a_long_wait_of_a_publisher(cast: Cast, clock: Clock, step: int):
    """Blocked by a subscriber that is behind, it continues when that one has taken, and not before."""
    pub = Actor(cast, clock, "publisher", depth=2, max_loans=1, on_full="block")
    with zs.Subscriber("t", Tick, reliable=True) as sub:
        assert [pub.ask("publish", 0) for _ in range(2)] == [1, 2]
        pub.asleep_in("publish", clock.seconds / 2)
        clock.step(step)
        pub.sleeps_on()
        assert sub.take() is not None
        assert pub.child.hear() == 3
        pub.sees(step)
        clock.step(0)


@pytest.mark.parametrize("verb", ["publish", "flush", "wait_for_subscribers"])
def test_a_clock_step_does_not_prolong_a_short_wait_of_a_publisher(cast: Cast, clock: Clock, step: int, verb: str):
    """It ends with BackpressureError, whose age is right, or with False."""
    pub = Actor(cast, clock, "publisher", depth=2, max_loans=1, on_full="block")
    with zs.Subscriber("t", Tick, reliable=True):
        assert [pub.ask("publish", 0) for _ in range(2)] == [1, 2]
        pub.asleep_in(verb, 0.3)
        clock.step(step)
        said = pub.child.hear()
        clock.step(0)
        if verb == "publish":
            assert len(said) == 1
            assert 0.2 <= said[0] < 1800  # since the wait began
        else:
            assert said is False


def test_a_clock_step_makes_no_publisher_overdue_and_no_subscriber_stalled(cast: Cast, clock: Clock, step: int):
    """No publisher is overdue, and no subscriber has stalled or is evicted, because a clock was set."""
    limit = clock.seconds / 2
    pub = Actor(
        cast, clock, "publisher", depth=2, max_loans=1, spare_slots=1, on_full="block",
        max_period=limit, evict_after=limit,
    )  # fmt: skip  # one option beside the other
    sub = Actor(cast, clock, "subscriber", reliable=True)
    pub.ask("publish", 0)
    sub.ask("hold")
    pub.ask("publish", 0)
    clock.step(step)
    pub.sees(step)
    assert sub.ask("overdue") == [[limit, False]]
    pub.ask("publish", 0)
    stalled = pub.ask("publish", 0.01)
    assert isinstance(stalled, list)
    assert all(0 < stalled_s < 1800 for stalled_s in stalled)
    assert len(stalled) == 1
    assert pub.ask("evicted") == 0
    (peer,) = zs.inspect("t").publishers[0].subscribers
    assert peer.oldest_held_s is not None
    assert 0 < peer.oldest_held_s < 1800
    clock.step(0)
