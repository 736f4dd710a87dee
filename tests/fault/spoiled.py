"""The process that meets changed bytes: it changes them, acts on them and restores them, a million times.

It maps the control object itself, without the library, and writes its progress to a small file. When it dies or hangs,
the test reads there which change it was at and what it did.

    newcomers   attach afterwards, take, inspect, leave
    members     were attached before, and hold a sample
    listings    topics, inspect, clean(dry_run=True), readers that take the type from the segment, untyped ones
    the owner   publishes, waits for room, counts, reaps, flushes and closes while its own control object is changed

An error of the package, PermissionError or a right answer is accepted. A sample is right if it is whole and is the one
that its sequence says. Where several bytes of the ring, the slot table or the header change at once, they may fit each
other, and no reader can know better: there another whole sample of this segment is right as well. Every slot of the
segment has held a sample, so a slot shows something else only if it is read at a wrong place.
"""

from __future__ import annotations

import gc
import json
import logging
import mmap
import os
import resource
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import zeroslot as zs
from tests.fault.mutations import Anatomy, Change, changes_of
from tests.fault.parcels import Parcel, fill, whole
from zeroslot.memory import cleanup
from zeroslot.memory.bell import Bell
from zeroslot.qos import OnFull

TOPIC = "t"
QOS: dict[str, Any] = {"depth": 4, "max_loans": 1, "spare_slots": 4, "max_subscribers": 4}
SAMPLES = 13  # more than there are slots: each has held one
HISTORY = 3  # what a reliable subscriber may request
TIMEOUT_S = 0.0003
ROOM_BYTES = 512 * 1024 * 1024  # no count in a control object of six kilobytes makes a process take more
FAILURES_LIMIT = 20

PROGRESS = struct.Struct("<QQ48s")  # the change, a count of steps, the step


class WrongAnswerError(Exception):
    """A wrong answer."""


class Progress:
    """The progress, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        path.touch()
        os.truncate(path, PROGRESS.size)
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), PROGRESS.size)
        self.number = self._steps = 0

    def step(self, what: str) -> None:
        self._steps += 1
        PROGRESS.pack_into(self._memory, 0, self.number, self._steps, what.encode())

    @staticmethod
    def read(path: Path) -> tuple[int, int, str]:
        content = path.read_bytes() if path.exists() else b""
        if len(content) < PROGRESS.size:
            return 0, 0, "the start"
        number, steps, what = PROGRESS.unpack(content)
        return number, steps, what.rstrip(b"\0").decode()


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A control object, as bytes to write to."""
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    try:
        yield memory
    finally:
        memory.close()


def control_of(flink: Path) -> Path:
    return Path("/dev/shm" + flink.read_text("ascii"))


def publish(pub: zs.Publisher[Parcel], timeout: float = 0) -> int:
    with pub.loan(timeout=timeout) as parcel:
        fill(parcel, pub.sequence + 1)
    return pub.sequence


class Actors:
    """The steps, each of which may raise an error of the package. `counted`: answers and errors by class."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.counted: Counter[str] = Counter()
        self.strict = True
        self.torn_is_wrong = True
        self.last = SAMPLES

    def tried(self, what: str, step: Callable[[], Any]) -> Any:
        """What the step answers, or None after an error of the package."""
        self.progress.step(what)
        try:
            answer = step()
        except (zs.ZeroslotError, PermissionError) as error:
            self.counted[type(error).__name__] += 1
            return None
        self.counted["answers"] += 1
        return answer

    def check(self, lease: Any) -> None:
        number = int(lease.sample.number)
        right = 1 <= number <= self.last and whole(lease.sample, number)
        if self.torn_is_wrong and not right:
            raise WrongAnswerError(f"sample {lease.sequence} is not whole, and says that it is {number}")
        if self.strict and number != lease.sequence:
            raise WrongAnswerError(f"sample {lease.sequence} is {number}")

    def took(self, take: Callable[..., Any], **timeout: float) -> Any:
        lease = take(**timeout)
        if lease is not None:
            self.check(lease)
        return lease

    def take(self, sub: zs.Subscriber[Parcel]) -> None:
        for _ in range(QOS["depth"] + 1):
            if self.tried("take", lambda: self.took(sub.take)) is None:
                return

    def wait(self, sub: zs.Subscriber[Parcel]) -> None:
        """They sleep, or would sleep, and return."""
        self.tried("take with a timeout", lambda: self.took(sub.take, timeout=TIMEOUT_S))
        self.tried("latest with a timeout", lambda: self.took(sub.latest, timeout=TIMEOUT_S))
        self.tried("wait", lambda: sub.wait(TIMEOUT_S))

    def latest(self, sub: zs.Subscriber[Parcel]) -> None:
        self.tried("latest", lambda: self.took(sub.latest))

    def use(self, sub: zs.Subscriber[Parcel], turn: int, *, patient: bool) -> None:
        """All that a subscriber can do; the first call meets a reader that has not refused anything yet."""
        steps: list[Callable[[zs.Subscriber[Parcel]], None]] = [self.take, self.latest]
        if patient:
            steps = [self.latest_in_time, self.take, self.latest, self.wait]
        for i in range(len(steps)):
            steps[(turn + i) % len(steps)](sub)
        self.tried("publishers", lambda: (sub.publishers, sub.stats, sub.lost, sub.skipped, repr(sub)))

    def latest_in_time(self, sub: zs.Subscriber[Parcel]) -> None:
        self.tried("latest with a timeout", lambda: self.took(sub.latest, timeout=TIMEOUT_S))

    def newcomer(self, turn: int, *, patient: bool, sample_type: Any = Parcel, **options: Any) -> None:
        sub = self.tried(
            "attach",
            lambda: zs.Subscriber(
                TOPIC, sample_type, history=HISTORY, spin_us=0, reliable=turn % 2 == 1, max_leases=2, **options
            ),
        )
        if sub is not None:
            self.use(sub, turn, patient=patient)
            self.progress.step("close")
            sub.close()

    def listings(self, flink: Path, *, of_types: bool, patient: bool) -> None:
        self.tried("topics", zs.topics)
        self.tried("inspect", lambda: zs.inspect(TOPIC))
        self.tried("clean(dry_run=True)", lambda: cleanup.clean(dry_run=True))
        reader = self.tried("attach untyped", lambda: zs.SlotReader.attach(flink, history=HISTORY))
        if reader is not None:
            self.tried("take untyped", lambda: self._bytes_of(reader))
            if patient:
                self.tried("wait_for_change", lambda: reader.wait_for_change(reader.generation, TIMEOUT_S))
            reader.close()
        if of_types:
            self.newcomer(0, patient=False, match="by_name")
            self.newcomer(0, patient=False, sample_type=None)

    def _bytes_of(self, reader: zs.SlotReader) -> None:
        for lease in iter(reader.take, None):
            words = np.frombuffer(lease, np.uint8)
            if self.torn_is_wrong and len(words) == zs.layout_of(Parcel).size:
                self.check(_Untyped(lease.sequence, SimpleNamespace(
                    number=words[:8].view(np.uint64)[0], check=words[8:16].view(np.uint64)[0],
                    words=words[16:].view(np.uint64),
                )))  # fmt: skip  # a sample by hand


@dataclass
class _Untyped:
    """A lease of bytes, read as a parcel."""

    sequence: int
    sample: Any


class Spoiler:
    """Goes through the changes from `start` on."""

    def __init__(self, spec: dict[str, Any], flink: Path, other: Path, progress: Progress) -> None:
        self.spec, self.flink, self.progress = spec, flink, progress
        self.control = control_of(flink)
        self.good = self.control.read_bytes()
        self.anatomy = Anatomy(self.good)
        self.changes = changes_of(spec, self.good, other.read_bytes())
        self.actors = Actors(progress)
        self.failures: list[str] = []

    def run(self, start: int, tell: Callable[[], None]) -> None:
        with mapped(self.control) as memory:
            for number in range(start, len(self.changes)):
                self.progress.number = number
                change = self.changes[number]
                try:
                    self.meet(memory, number, change)
                except BaseException as error:  # noqa: BLE001 (whatever it is, it is a failure)
                    _, _, what = PROGRESS.unpack_from(self.progress._memory)
                    self.failures.append(
                        f"change {number} ({'; '.join(map(str, change))}), {what.rstrip(bytes(1)).decode()}: "
                        f"{type(error).__name__}: {error}"
                    )
                    tell()
                    if len(self.failures) >= FAILURES_LIMIT:
                        return
                finally:
                    memory[:] = self.good
                if number % 5000 == 0:
                    tell()

    def meet(self, memory: mmap.mmap, number: int, change: Change) -> None:
        spec, actors = self.spec, self.actors
        single = spec["kind"] == "flips"  # one byte never makes two entries fit each other
        actors.strict = single or not self.anatomy.touches(change, "header", "ring", "slots")
        of_types = self.anatomy.touches(change, "schema") or any(edit.at < 48 for edit in change)

        for edit in change:
            edit.make(memory)
        patient = number % spec["patient"] == 0
        actors.newcomer(number, patient=patient)
        if number % spec["listings"] == 0:
            actors.listings(self.flink, of_types=of_types, patient=patient)
        memory[:] = self.good

        for turn in range(4) if spec["all_turns"] else (number // 2,):
            sub = zs.Subscriber(TOPIC, Parcel, history=HISTORY, spin_us=0, reliable=number % 2 == 1, max_leases=3)
            held = sub.take()
            for edit in change:
                edit.make(memory)
            actors.use(sub, turn, patient=patient)
            if not whole(held.sample, SAMPLES - HISTORY + 1):
                raise WrongAnswerError("a sample that is held has changed")
            del held
            self.progress.step("close")
            sub.close()
            memory[:] = self.good

        if number % spec["owners"] == 0:
            self.own(number, change)

    def own(self, number: int, change: Change) -> None:
        """A publisher whose control object is changed under it: it goes on, from copies of its own.

        Its next sample after the bytes were put right reaches the next take; or it closes with the bytes as they
        are, and nothing of it is left.
        """
        tried, on_full = self.actors.tried, ("block", "evict", "raise")[number % 3]
        pub = zs.Publisher("o", Parcel, on_full=on_full, **QOS)
        control = control_of(pub.flink)
        with mapped(control) as memory:
            for _ in range(QOS["depth"]):
                publish(pub)
            sub = zs.Subscriber("o", Parcel, history=1, reliable=on_full != "evict", spin_us=0)
            before = [(edit.at, memory[edit.at : edit.at + len(edit.content)]) for edit in change]
            for edit in change:
                edit.make(memory)
            tried("reserve", lambda: pub.loan(timeout=TIMEOUT_S).discard())
            for _ in range(3):
                tried("publish", lambda: publish(pub, TIMEOUT_S))
            tried("publish a model", lambda: pub.publish(Parcel(number=pub.sequence + 1), timeout=0))
            tried("stats", lambda: (pub.stats, repr(pub), pub.allocator.free_count, pub.allocator.slot_capacity))
            tried("subscriber_count", lambda: pub.subscriber_count)
            tried("wait_for_subscribers", lambda: pub.wait_for_subscribers(4, TIMEOUT_S))
            tried("reap", pub.reap)
            tried("evict_stale", lambda: pub.allocator.evict_stale(3600))
            tried("flush", lambda: pub.flush(0))
            tried("take from it", sub.take)
            self.progress.step("leave it")
            sub.close()
            if number // 3 % 4 == 0:
                tried("close it", pub.close)
                if control.exists() or pub.flink.exists():
                    raise WrongAnswerError("it has closed, and left its objects")
                return
            for at, content in before:
                memory[at : at + len(content)] = content
        self.progress.step("go on")
        pub.reap()
        expected = publish(pub)
        self.progress.step("attach to it")
        with zs.Subscriber("o", Parcel, history=1, spin_us=0) as late:
            lease = late.latest()
            if lease is None or lease.sequence != expected or not whole(lease.sample, expected):
                raise WrongAnswerError(f"of {expected} a late subscriber gets {lease}")
            del lease
        pub.close()


def spoil(spec: dict[str, Any], flink: str, other: str, progress: str, report: str, start: int) -> None:
    """The life of a victim: from change `start` on. The report is written now and then, and when it has ended."""
    logging.disable()
    bell = Bell.join("default")  # held, so that not every attach makes it anew
    spoiler = Spoiler(spec, Path(flink), Path(other), Progress(Path(progress)))
    descriptors = len(os.listdir("/proc/self/fd"))
    limit_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def tell(*, ended: bool = False) -> None:
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        told = {"failures": spoiler.failures, "counted": spoiler.actors.counted, "grown_kb": grown_kb, "ended": ended}
        temporary = Path(f"{report}.tmp")
        temporary.write_text(json.dumps(told))
        temporary.replace(report)

    spoiler.run(start, tell)
    gc.collect()
    more = len(os.listdir("/proc/self/fd")) - descriptors
    if more > 0:
        spoiler.failures.append(f"{more} descriptors were not closed")
    bell.leave()
    tell(ended=True)


def limit_memory() -> None:
    """After this a MemoryError means that a corrupt count was used unchecked."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def endure(flink_file: str, progress: str, report: str, rounds: int, on_full: OnFull, told: Callable[[], Any]) -> None:
    """A publisher and its subscribers in one process, while another process writes over the control object.

    The two races of check and use that are left out of "torn" are promises of the owner to its readers: see the test.
    """
    logging.disable()
    actors = Actors(Progress(Path(progress)))
    actors.strict = False
    actors.last = 2**63
    limit_memory()
    failures: list[str] = []
    pub = zs.Publisher(TOPIC, Parcel, on_full=on_full, **QOS)
    Path(flink_file).write_text(str(pub.flink))
    actors.torn_is_wrong = told()
    try:
        for number in range(rounds):
            actors.progress.number = number
            actors.tried("publish", lambda: publish(pub, TIMEOUT_S))
            actors.newcomer(number, patient=number % 8 == 0)
            actors.tried("publish", lambda: publish(pub, TIMEOUT_S))
            actors.tried("reap", lambda: (pub.reap(), pub.subscriber_count, pub.flush(0), pub.stats))
            if number % 16 == 0:
                actors.listings(pub.flink, of_types=True, patient=True)
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is a failure)
        failures.append(f"round {number}: {type(error).__name__}: {error}")
    with suppress(zs.ZeroslotError):
        pub.close()
    Path(report).write_text(json.dumps({"failures": failures, "counted": actors.counted, "grown_kb": 0}))
