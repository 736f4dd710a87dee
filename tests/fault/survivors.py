"""The survivors: handles in the test's own process that stay while victims die, and check everything afterwards.

Either the publisher is here and subscribers die, or subscribers are here and publishers die. Both stay for all deaths
of a test, so the next check finds what one death leaked.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests import shared_memory
from tests.children import Child, Children
from tests.fault import stepped
from tests.fault.parcels import Parcel, fill, whole
from tests.fault.victims import NEVER, SERVER
from zeroslot._core.binding import OWNER_BYTE
from zeroslot.memory.objects import open_for_cleaning

TOPIC = "t"
DEPTH = 4


# --- victims


@dataclass
class Death:
    """How a victim ended. `finished`: it completed the operation, in `count` steps, and was killed afterwards."""

    finished: bool
    count: int
    raised: str = ""


class Stepper:
    """The program of stepper.c, running."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def attach(self, what: str, pid: int, limit: int) -> None:
        self.tell(f"{what} {pid} {limit}")
        answer = self.answer()
        if answer == "denied":
            pytest.skip("the system allows no tracing")
        assert answer == "ready"

    def tell(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.communicate()


class Victim:
    """One process that has prepared its operation."""

    def __init__(self, server: Child, stepper: Stepper | None, one: str, pid: int) -> None:
        self.pid = pid
        self._server, self._stepper, self._one = server, stepper, one
        self._held = False

    def kill_at(self, at: int = NEVER) -> Death:
        """Killed before step `at` of its operation, counted from 0: an access to shared memory, or a system call."""
        if self._stepper is None:
            finished, count, told = self._server.ask(["go", self._one, at])
            assert finished or told == "", told
            return Death(finished, count, told)
        return self.kill_traced("calls", at)

    def kill_traced(self, what: str, at: int) -> Death:
        assert self._stepper is not None
        self._stepper.attach(what, self.pid, at)
        self._server.ask(["go", self._one, "traced"])
        verdict, _, count = self._stepper.answer().partition(" ")
        _, _, told = self._server.ask(["wait", self._one])
        assert verdict in {"killed", "finished"}, (verdict, told)
        return Death(verdict == "finished", int(count), told)

    def stop(self, at: int) -> bool:
        """Stop before step `at` of its operation: True. False: it has completed the operation in fewer steps.

        In either case `go_on` has to follow, and `kill`.
        """
        if self._stepper is None:
            return bool(self._server.ask(["stop", self._one, at]) == "stopped")
        self._stepper.attach("hold", self.pid, at)
        self._server.ask(["stop", self._one, "traced"])
        verdict = self._stepper.answer().partition(" ")[0]
        assert verdict in {"held", "populates", "finished"}, verdict
        self._held = verdict != "finished"
        return self._held

    def go_on(self) -> str:
        """Continue after `stop` to the end of the operation; what it raised. The process stays alive."""
        if self._held:
            assert self._stepper is not None
            self._stepper.tell("on")
            self._held = False
        return str(self._server.ask(["on", self._one]))

    def stop_before(self, call: int) -> tuple[str, int]:
        """Run its operation up to this system call, counted from 0, and stop there.

        "held" or "populates" (the call is an madvise) and the number; or "finished" and the number of all calls.
        """
        assert self._stepper is not None
        self._stepper.attach("hold", self.pid, call)
        self._server.ask(["go", self._one, "traced"])
        verdict, _, count = self._stepper.answer().partition(" ")
        return verdict, int(count)

    def end_of_stop(self, verdict: str) -> Death:
        """Continue if it is stopped; how its operation ended. A death by a signal is in `raised`."""
        assert self._stepper is not None
        if verdict != "finished":
            self._stepper.tell("watch")
            assert self._stepper.answer() == "gone"
        finished, count, told = self._server.ask(["wait", self._one])
        return Death(finished, count, told.strip())

    def go(self) -> None:
        """Run its operation, which does not end."""
        self._server.ask(["go", self._one, "free"])

    def kill(self) -> None:
        """SIGKILL at any time, also when it is stopped; returns when it is dead. What it raised is an error."""
        os.kill(self.pid, signal.SIGKILL)
        _, _, told = self._server.ask(["wait", self._one])
        assert told == "", told

    def kill_before_start(self) -> None:
        """Kill it before its operation."""
        self._server.ask(["go", self._one, 0])


class Launcher:
    """Starts victims."""

    _numbers = itertools.count(1)

    def __init__(self, server: Child, stepper: Stepper | None = None) -> None:
        self._server, self._stepper = server, stepper

    @property
    def traces(self) -> bool:
        """Whether its victims are killed at system calls, and so cannot report what they raised."""
        return self._stepper is not None

    def start(self, scenario: str, *args: Any, **options: Any) -> Victim:
        one = f"victim {next(self._numbers)}"
        said, pid = self._server.ask(["start", one, os.environ["ZEROSLOT_DIR"], scenario, args, options])
        assert said == "prepared", said
        return Victim(self._server, self._stepper, one, pid)


def serve(children: Children, binding: Path | None) -> Child:
    """A server that forks victims, with the stepped binding or the shipped one."""
    # Bound at once: the first call of a function shall not be longer than the next.
    server = children(SERVER, str(binding) if binding else None, env={"LD_BIND_NOW": "1", "OPENBLAS_NUM_THREADS": "1"})
    server.expect("ready")
    return server


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    """Starts servers that outlive a test. They hold no handles."""
    started = Children(tmp_path_factory.mktemp("servers"))
    try:
        yield started
    finally:
        started.reap()


@pytest.fixture(scope="session")
def stepping(servers: Children) -> Launcher:
    """Kills before accesses to shared memory."""
    return Launcher(serve(servers, stepped.stepped_binding()))


@pytest.fixture(scope="session")
def tracing(servers: Children) -> Iterator[Launcher]:
    """Kills before system calls and at instructions, in the binding that is shipped."""
    stepper = Stepper(stepped.stepper())
    yield Launcher(serve(servers, None), stepper)
    stepper.end()


@pytest.fixture(params=["accesses", "calls"])
def launcher(request: pytest.FixtureRequest) -> Launcher:
    """Each of the two in turn."""
    return request.getfixturevalue({"accesses": "stepping", "calls": "tracing"}[request.param])


def say(config: pytest.Config, text: str) -> None:
    """Print a line for the reader of the test run, also without -s."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{text}", end="")


# --- checks


@contextmanager
def nothing_grows() -> Iterator[None]:
    """This process has as many descriptors and mappings afterwards as before, once sleeping threads are done."""

    def mine() -> tuple[int, int]:
        mapped = Path("/proc/self/maps").read_text().count("/zs-")
        return len(os.listdir("/proc/self/fd")), mapped

    before = mine()
    yield
    for _ in range(1000):
        if mine() == before:
            return
        gc.collect()
        time.sleep(0.01)
    assert mine() == before


def numbers_of(sub: zs.Subscriber[Parcel]) -> list[int]:
    """Take everything; each sample must be whole and the next in order."""
    numbers = []
    for lease in iter(sub.take, None):
        assert whole(lease.sample, lease.sequence), f"sample {lease.sequence} is not whole"
        assert not numbers or lease.sequence == numbers[-1] + 1
        numbers.append(lease.sequence)
    return numbers


def publish(pub: zs.Publisher[Parcel], count: int) -> None:
    for _ in range(count):
        with pub.loan(timeout=None) as parcel:
            fill(parcel, pub.sequence + 1)


def parked(pub_id: str) -> int:
    """The first word of parked bits of a segment."""
    with open(f"/dev/shm/zs-{pub_id}", "rb") as control:
        control.seek(208 + 8 * 2)
        control.seek(struct.unpack("<Q", control.read(8))[0])
        return int(struct.unpack("<Q", control.read(8))[0])


class PublisherHere:
    """A publisher and a subscriber in this process; victims are other subscribers."""

    def __init__(self, *, on_full: str = "evict") -> None:
        self.pub = zs.Publisher(
            TOPIC, Parcel, depth=DEPTH, max_loans=2 if on_full != "evict" else 6, spare_slots=6, max_subscribers=3,
            on_full=on_full,  # type: ignore[arg-type]  # a str from a JSON line
        )  # fmt: skip  # one option a line
        self.sub = zs.Subscriber(TOPIC, Parcel, reliable=on_full != "evict")
        self.before = shared_memory.objects()
        self.files = shared_memory.files(Path(os.environ["ZEROSLOT_DIR"]))
        publish(self.pub, DEPTH)
        assert len(numbers_of(self.sub)) == DEPTH

    def check(self) -> None:
        """The publisher and its other subscriber go on, a new one can join, every slot and index is free again."""
        pub, sub = self.pub, self.sub
        first = pub.sequence + 1
        for number in range(first, first + DEPTH + 1):
            publish(pub, 1)
            assert numbers_of(sub) == [number]
        with zs.Subscriber(TOPIC, Parcel, history=2) as joined:
            assert numbers_of(joined) == [pub.sequence - 1, pub.sequence]
            publish(pub, 1)
            assert numbers_of(joined) == [pub.sequence]
            # Its index may have been a dead subscriber's: it must inherit nothing of that one.
            pub.allocator.reap()
            assert pub.allocator.free_count == pub.slot_count - DEPTH
        assert numbers_of(sub) == [pub.sequence]
        assert sub.lost == 0
        pub.allocator.reap()
        mapped = pub.allocator.native.segment
        assert mapped.indexes_in_use() == mapped.active_indexes() == pub.allocator.subscriber_indexes()
        assert pub.subscriber_count == 1
        assert pub.allocator.free_count == pub.slot_count - DEPTH
        # Every free slot can be reserved.
        loans = [pub.loan() for _ in range(pub.allocator.max_loans)]
        for loan in loans:
            loan.discard()
        del loans, loan
        assert pub.allocator.free_count == pub.slot_count - DEPTH
        assert_nothing_left(self.before, self.files)

    def close(self) -> None:
        self.sub.close()
        self.pub.close()


class SubscribersHere:
    """Subscribers in this process, one of which may sleep in a thread; victims are the publishers they read from."""

    def __init__(self, *, on_full: str = "evict", sleeper: bool = False) -> None:
        self.options = {"on_full": on_full, "depth": DEPTH}
        reliable = on_full != "evict"
        self.sub = zs.Subscriber(TOPIC, Parcel, reliable=reliable)
        self.sleeper = Sleeper() if sleeper else None
        self.before = shared_memory.objects()
        self.root = Path(os.environ["ZEROSLOT_DIR"])
        self.files = shared_memory.files(self.root)
        self.held: Any = None
        self.met = False

    def meet(self, *, keep: bool) -> None:
        """A victim has published: follow it, take its first sample, and hold it if `keep`."""
        self.held = self.sub.take(timeout=None)
        assert self.held.sequence == 1
        self.met = True
        if not keep:
            self.held = None

    def wait_for_sleeper(self, published: int) -> None:
        assert self.sleeper is not None
        (publisher,) = self.sub.publishers
        self.sleeper.wait_for(published)
        while parked(publisher.publisher_id) == 0:
            os.sched_yield()

    def check(self, published: int, more: int = 1) -> None:
        """All its samples arrive, and at most `more` others; the held one stays whole, the next publisher is followed,
        and nothing is left.
        """
        sub = self.sub
        numbers = numbers_of(sub)
        if self.met:
            assert numbers == [*range(2, len(numbers) + 2)]
            assert published <= len(numbers) + 1 <= published + more
            assert self.held is None or whole(self.held.sample, 1)
            self.held, self.met = None, False
        else:
            assert numbers == [*range(1, len(numbers) + 1)]
            assert len(numbers) <= published
        with zs.Publisher(TOPIC, Parcel, **self.options) as successor:
            publish(successor, 1)
            lease = sub.take(timeout=None)
            assert lease is not None
            assert (lease.sequence, lease.publisher_id) == (1, successor.publisher_id)
            assert whole(lease.sample, 1)
            del lease
            assert [info.publisher_id for info in sub.publishers] == [successor.publisher_id]
            with zs.Subscriber(TOPIC, Parcel, history=1) as joined:
                assert numbers_of(joined) == [1]
            assert sub.take() is None
            if self.sleeper is not None:
                self.sleeper.wait_for_successor(max(numbers, default=1))
        assert sub.take() is None
        assert sub.publishers == ()
        assert sub.lost == 0
        assert_nothing_left(self.before, self.files)

    def close(self) -> None:
        self.sub.close()
        if self.sleeper is not None:
            self.sleeper.close()


def dead_objects(before: set[str]) -> set[str]:
    """The new objects that belong to no living process. Other programs may create and remove objects meanwhile."""
    dead = set()
    for name in shared_memory.objects() - before:
        own = open_for_cleaning(f"/{name[:19]}")
        if own is None:
            dead |= {name} & shared_memory.objects()
        else:
            if not own.is_locked(OWNER_BYTE):
                dead.add(name)
            own.close()
    return dead


def assert_nothing_left(before: set[str], files: set[Path]) -> None:
    """No file and no object of a dead process is left: the next publisher has removed all of them."""
    assert shared_memory.files(Path(os.environ["ZEROSLOT_DIR"])) == files
    assert dead_objects(before) == set()


class Sleeper:
    """A subscriber that sleeps for samples, in a thread."""

    def __init__(self) -> None:
        self._sub = zs.Subscriber(TOPIC, Parcel, spin_us=0)
        self._numbers: list[int] = []
        self._got = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)  # a test that fails does not wait for it
        self._thread.start()

    def _run(self) -> None:
        for lease in self._sub:
            number = lease.sequence if whole(lease.sample, lease.sequence) else -1
            del lease
            with self._got:
                self._numbers.append(number)
                self._got.notify()

    def _wait(self, enough: Callable[[], bool]) -> None:
        with self._got:
            self._got.wait_for(enough)

    def wait_for(self, published: int) -> None:
        """All samples of a new victim have arrived."""
        self._wait(lambda: len(self._numbers) >= published)
        assert self._numbers == [*range(1, published + 1)]

    def wait_for_successor(self, expected: int) -> None:
        """It got the same samples as the others, and then the successor's first, without a call of the test."""
        self._wait(lambda: len(self._numbers) >= expected + 1)
        assert sorted(self._numbers) == sorted([*range(1, expected + 1), 1])
        assert self._sub.lost == 0
        self._numbers.clear()

    def close(self) -> None:
        self._sub.close()
        self._thread.join()
