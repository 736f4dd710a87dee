"""A storm: publishers and subscribers of one topic come, are killed wherever they are, stop, continue and are replaced.

Here, in the test, are a publisher and a subscriber that stay. After each death they go on, everything is free again,
and a replacement works; the time for that is taken from the SIGKILL on. Every payload carries what it must be, and is
looked at when it is taken and when it is let go. At the end the topic's next publisher starts; what is there after it
has closed was leaked.

`pytest -m stress tests/stress/test_kills.py --kills 100000`
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import zeroslot as zs
from tests import shared_memory
from tests.fault import survivors
from tests.fault.parcels import Parcel, whole
from tests.fault.survivors import Launcher, Victim

TOPIC = "in/the/storm"
MAX_LEASES = 4
PUBLISHERS, SUBSCRIBERS, STOPPED = 2, 4, 2
OPTIONS = {"depth": 8, "max_loans": 2, "spare_slots": 64, "max_subscribers": 16}
SEED = 20261120


@dataclass
class Report:
    kills: Counter[str] = field(default_factory=Counter)
    noticed_ns: list[int] = field(default_factory=list)
    replaced_ns: list[int] = field(default_factory=list)
    taken: int = 0
    wrong: int = 0
    leaked_slots: int = 0
    leaked_peers: int = 0
    leaked_files: int = 0

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({kinds}); from the SIGKILL until the others are free of it "
            f"{spread(self.noticed_ns)}, until a replacement works {spread(self.replaced_ns)}; "
            f"leaked slots {self.leaked_slots}, peers {self.leaked_peers}, files {self.leaked_files}; "
            f"wrong payloads {self.wrong} of {self.taken}"
        )


def spread(times_ns: list[int]) -> str:
    """Percentiles, in words."""
    ordered = sorted(times_ns)
    p50, p99 = (ordered[len(ordered) * percent // 100] / 1e6 for percent in (50, 99))
    return f"p50 {p50:.1f} p99 {p99:.1f} worst {ordered[-1] / 1e6:.1f} ms"


class Storm:
    """The publisher and the subscriber that stay, and the processes that are killed."""

    def __init__(self, launcher: Launcher, seed: int) -> None:
        self.draw = random.Random(seed)
        self.launcher = launcher
        self.report = Report()
        self.pub = zs.Publisher(TOPIC, Parcel, **OPTIONS)  # type: ignore[arg-type]  # options of several types in one dict
        self.sub = zs.Subscriber(TOPIC, Parcel, max_leases=MAX_LEASES)
        self.last: dict[str, int] = {}
        self.gaps = 0
        survivors.publish(self.pub, 1)
        self.publishers = [self.start_publisher() for _ in range(PUBLISHERS)]
        self.subscribers = [self.start_subscriber() for _ in range(SUBSCRIBERS)]
        self.stopped: list[Victim] = []

    def start_publisher(self) -> Victim:
        return self.launcher.start("storm_publisher", TOPIC, self.draw.getrandbits(32), **OPTIONS)

    def start_subscriber(self) -> Victim:
        return self.launcher.start("storm_subscriber", TOPIC, self.draw.getrandbits(32), MAX_LEASES)

    def go_on(self) -> None:
        """Let the two that stay publish, and take all there is."""
        survivors.publish(self.pub, 2)
        for _ in range(64):  # the others publish meanwhile
            lease = self.sub.take()
            if lease is None:
                return
            self.look_at(lease)

    def look_at(self, lease: zs.Lease[Parcel]) -> None:
        self.report.taken += 1
        self.report.wrong += not whole(lease.sample, lease.sequence)
        last = self.last.get(lease.publisher_id, 0)
        assert lease.sequence > last
        self.gaps += lease.sequence - last - 1
        self.last[lease.publisher_id] = lease.sequence

    def kill(self) -> None:
        """One death, and the recovery from it."""
        group = self.draw.choice([self.publishers, self.subscribers])
        victim = group[self.draw.randrange(len(group))]
        kind = "publishers" if group is self.publishers else "subscribers"
        if victim in self.stopped:
            self.stopped.remove(victim)
            kind = f"stopped {kind}"
        began = time.perf_counter_ns()
        victim.kill()
        if group is self.publishers:
            self.wait_until_forgotten(victim)
        else:
            self.pub.allocator.reap()
            survivors.publish(self.pub, 1)
        self.report.noticed_ns.append(time.perf_counter_ns() - began)
        if group is self.publishers:
            group[group.index(victim)] = successor = self.start_publisher()
            self.wait_for(successor)
        else:
            group[group.index(victim)] = successor = self.start_subscriber()
        self.report.replaced_ns.append(time.perf_counter_ns() - began)
        self.report.kills[kind] += 1
        successor.go()

    def wait_until_forgotten(self, dead: Victim) -> None:
        """All that it left is taken, and it is known to be gone."""
        while any(info.pid == dead.pid for info in self.sub.publishers):
            lease = self.sub.take()
            if lease is not None:
                self.look_at(lease)

    def wait_for(self, successor: Victim) -> None:
        """The replacement's first sample has come."""
        known = set(self.last)
        while True:
            lease = self.sub.take(timeout=None)
            assert lease is not None
            self.look_at(lease)
            if lease.publisher_id in known:
                continue
            if any(
                info.publisher_id == lease.publisher_id and info.pid == successor.pid for info in self.sub.publishers
            ):
                return

    def stop_or_continue(self) -> None:
        """A stopped one is not dead: everybody goes on, and so does it later."""
        if self.stopped and self.draw.random() < 0.5:
            os.kill(self.stopped.pop().pid, signal.SIGCONT)
        elif len(self.stopped) < STOPPED:
            victim = self.draw.choice(
                [each for each in [*self.publishers, *self.subscribers] if each not in self.stopped]
            )
            os.kill(victim.pid, signal.SIGSTOP)
            self.stopped.append(victim)

    def run(self, kills: int) -> None:
        for victim in [*self.publishers, *self.subscribers]:
            victim.go()
        for _ in range(kills):
            if self.draw.random() < 0.2:
                self.stop_or_continue()
            self.go_on()
            time.sleep(self.draw.random() / 500)
            self.kill()

    def end(self, before: set[str], root: Path) -> Report:
        """All die; then nothing of them may be left but what the next publisher removes."""
        for victim in [*self.publishers, *self.subscribers]:
            victim.kill()
        for lease in iter(self.sub.take, None):
            self.look_at(lease)
        del lease
        assert self.sub.publishers[0].publisher_id == self.pub.publisher_id
        assert self.sub.lost == self.gaps
        pub, report = self.pub, self.report
        pub.allocator.reap()
        report.leaked_slots = pub.slot_count - OPTIONS["depth"] - pub.allocator.free_count
        report.leaked_peers = len(pub.allocator.native.segment.indexes_in_use()) - 1
        self.sub.close()
        pub.close()
        zs.Publisher(TOPIC, Parcel).close()  # the next publisher of the topic: it finds all that there is
        report.leaked_files = len(shared_memory.files(root)) + len(survivors.dead_objects(before))
        return report


@pytest.mark.row("NEW-5", "DEF-4", "DEF-6", "DEF-9")
def test_a_small_storm_leaves_nothing(tracing: Launcher, request: pytest.FixtureRequest, zeroslot_dir: Path):
    """A hundred deaths."""
    weather(tracing, 100, request.config, zeroslot_dir)


@pytest.mark.stress
@pytest.mark.row("NEW-5", "DEF-9")
def test_a_storm_leaves_nothing(tracing: Launcher, request: pytest.FixtureRequest, zeroslot_dir: Path):
    """Ten thousand deaths, or as many as `--kills` says."""
    weather(tracing, request.config.getoption("kills"), request.config, zeroslot_dir)


def weather(launcher: Launcher, kills: int, config: pytest.Config, root: Path) -> None:
    """The whole of it."""
    before = shared_memory.objects()
    with survivors.nothing_grows():
        storm = Storm(launcher, SEED)
        storm.run(kills)
        report = storm.end(before, root)
        del storm  # what is closed stays mapped for as long as it is referred to
    survivors.say(config, str(report))
    assert report.kills.total() == kills
    assert (report.leaked_slots, report.leaked_peers, report.leaked_files, report.wrong) == (0, 0, 0, 0)
