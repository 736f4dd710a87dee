"""Objects that are truncated or replaced before an attach and between any two of its system calls.

The attaching process is stopped before each of its system calls in turn, an object is changed, and the process
continues. The attach raises an error of the package, finds no publisher, or succeeds; a signal never ends it as long as
a later system call could notice. A truncation after the last such call hits an object in use: tests/README.md says what
happens then.
"""

from __future__ import annotations

import os
import signal
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import zeroslot as zs
from tests.fault import survivors
from tests.fault.parcels import Parcel, fill
from tests.fault.spoiled import HISTORY, SAMPLES, TOPIC, control_of, publish
from tests.fault.survivors import Launcher

BUS_ERROR = f"ended with status {int(signal.SIGBUS)}:"
FOREIGN = 10_000  # where the numbers of another segment's samples begin
ERRORS_OF_THE_PACKAGE = {
    "",
    "CorruptSegmentError",
    "FormatError",
    "TopicNotFoundError",
    "TypeMismatchError",
    "OwnerGoneError",
}


class Place:
    """A living publisher with a control object of many pages, and another of the same form beside it."""

    def __init__(self) -> None:
        self.pub, self.other = (zs.Publisher(topic, Parcel, depth=8, spare_slots=24) for topic in (TOPIC, "other"))
        while self.pub.sequence < SAMPLES:
            publish(self.pub)
        while self.other.sequence < SAMPLES:
            with self.other.loan() as parcel:
                fill(parcel, FOREIGN + self.other.sequence)
        self.control, self.foreign_control = control_of(self.pub.flink), control_of(self.other.flink)
        self.pool, self.foreign_pool = (
            path.with_name(f"{path.name}-p0") for path in (self.control, self.foreign_control)
        )
        self.flink = self.pub.flink
        self._good = {path: path.read_bytes() for path in (self.control, self.pool)}
        self._aside = self.control.with_name("aside")

    def cut(self, path: Path, size: int) -> None:
        os.truncate(path, size)

    def mend(self) -> None:
        """The same objects, whole again."""
        for path, content in self._good.items():
            with path.open("r+b") as file:
                file.write(content)
                file.truncate()

    def replace(self, path: Path, make: Callable[[Path], object]) -> None:
        """Put another thing under the name, at once where that can be."""
        path.rename(self._aside)
        make(path)

    def put_back(self, path: Path) -> None:
        """Away with it, and the old one under its name again."""
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._aside.rename(path)
        self.mend()

    def close(self) -> None:
        self.pub.close()
        self.other.close()


@pytest.fixture
def place(zeroslot_dir: Path) -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


def stopped(
    tracing: Launcher, scenario: str, args: tuple[object, ...], call: int, do: Callable[[], None] = lambda: None
) -> tuple[str, str]:
    """One victim that stands before this call while something is done: where it stood, and how it ended."""
    victim = tracing.start(scenario, TOPIC, *args, history=HISTORY)
    verdict, _ = victim.stop_before(call)
    if verdict != "finished":
        do()
    death = victim.end_of_stop(verdict)
    return verdict, death.raised


@pytest.fixture(scope="module")
def last_look() -> dict[str, int]:
    """The last system call of an attach that maps pages, and so can tell, once it was looked for."""
    return {}


def last_that_tells(tracing: Launcher, last_look: dict[str, int]) -> int:
    if not last_look:
        for call in range(1000):
            verdict, raised = stopped(tracing, "join", (), call)
            assert raised == ""
            if verdict == "populates":
                last_look["call"] = call
            if verdict == "finished":
                break
    return last_look["call"]


def calls(request: pytest.FixtureRequest, every: int) -> range:
    """All of them with --every-instruction, some otherwise; each test begins with another."""
    if request.config.getoption("every_instruction"):
        return range(1000)
    return range(zlib.crc32(request.node.name.encode()) % every, 1000, every)


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("size", ["empty", "a page", "half"])
@pytest.mark.parametrize("what", ["control", "pool"])
def test_an_attach_survives_a_truncated_object(
    tracing: Launcher, place: Place, last_look: dict[str, int], request: pytest.FixtureRequest, what: str, size: str
):
    """Before any of its system calls but those behind the last that could tell. A pool is not touched by an attach."""
    path = place.control if what == "control" else place.pool
    short = {"empty": 0, "a page": 4096, "half": path.stat().st_size // 2}[size]
    ends: Counter[str] = Counter()
    late: Counter[str] = Counter()
    tells = last_that_tells(tracing, last_look)
    for call in calls(request, 3):
        verdict, end = stopped(tracing, "join", (), call, lambda: place.cut(path, short))
        place.mend()
        if verdict == "finished":
            break
        if call <= tells or what == "pool":
            assert end in ERRORS_OF_THE_PACKAGE, f"cut before call {call}: {end}"
            ends[end] += 1
        else:
            assert end in ERRORS_OF_THE_PACKAGE or end == BUS_ERROR, f"cut before call {call}: {end}"
            late[end] += 1
    survivors.say(request.config, f"{what}, {size}: {dict(ends)}; behind the last that could tell: {dict(late)}")
    assert ends["CorruptSegmentError"] > 0


def _written(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], object]:
    return lambda foreign, path: path.write_bytes(change(foreign.read_bytes()))


# What is put where an object was, and what it is made from: the same object of the other segment.
REPLACEMENTS: dict[str, Callable[[Path, Path], object]] = {
    "another segment's": os.link,
    "noise": _written(lambda content: os.urandom(len(content))),
    "smaller": _written(lambda content: content[:-64]),
    "larger": _written(lambda content: content + bytes(64)),
    "a directory": lambda _, path: path.mkdir(mode=0o700),
    "a fifo": lambda _, path: os.mkfifo(path, 0o600),
    "a symlink": lambda foreign, path: path.symlink_to(foreign),
    "nothing": lambda _, path: None,
}


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("by", REPLACEMENTS)
@pytest.mark.parametrize("what", ["control", "pool", "flink"])
def test_an_attach_survives_a_replaced_object(
    tracing: Launcher, place: Place, request: pytest.FixtureRequest, what: str, by: str
):
    """Between any two of its system calls: an error of the package, no publisher, or this segment; no other."""
    if (what, by) == ("flink", "another segment's"):
        pytest.skip("a flink that names another segment is a flink of that segment: its own name means nothing")
    path = {"control": place.control, "pool": place.pool, "flink": place.flink}[what]
    foreign = {"control": place.foreign_control, "pool": place.foreign_pool, "flink": place.other.flink}[what]
    ends: Counter[str] = Counter()
    for call in calls(request, 10):
        replace = partial(place.replace, path, partial(REPLACEMENTS[by], foreign))
        verdict, end = stopped(tracing, "join_and_take", (SAMPLES,), call, replace)
        if verdict == "finished":
            break
        place.put_back(path)
        assert end in ERRORS_OF_THE_PACKAGE, f"replaced before call {call}: {end}"
        ends[end] += 1
    survivors.say(request.config, f"{what}, {by}: {dict(ends)}")
    assert ends[""] > 0
