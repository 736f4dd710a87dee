"""Corrupt bytes: every byte of a control object, and random changes, while others attach, take, list and publish.

Each call gives an error of the package or a right answer; spoiled.py says which answers are right and what the process
does. Here it is started, watched, and when it dies started again after the change at which it died.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests.children import Child
from tests.fault import survivors
from tests.fault.parcels import Parcel
from tests.fault.spoiled import HISTORY, QOS, SAMPLES, TOPIC, Progress, control_of, publish
from tests.process.actors import Cast

VICTIM = """
from tests.fault.spoiled import spoil
spoil(*args)
"""

# A publisher of its own and its subscribers; says what it checks while another process writes over its control object.
ENDURING = """
from tests.fault.spoiled import endure
endure(*args, told=hear)
say("done")
"""

# Another process that writes over a control object and puts the bytes back, as fast as it can, until it is killed.
SCRIBBLER = """
import itertools
from pathlib import Path
from tests.fault.mutations import Anatomy, Drawn
from tests.fault.spoiled import control_of, mapped

flink, seed, spared = args
path = control_of(Path(flink))
good = path.read_bytes()
anatomy = Anatomy(good)
drawn = Drawn(good, good, seed, 2000)
changes = [change for change in (drawn[i] for i in range(2000)) if not (spared and anatomy.touches(change, *spared))]
say("ready")
with mapped(path) as memory:
    for change in itertools.cycle(changes):
        before = [memory[edit.at : edit.at + len(edit.content)] for edit in change]
        for edit in change:
            edit.make(memory)
        for edit, content in zip(change, before):
            memory[edit.at : edit.at + len(edit.content)] = content
"""

LOOK_S = 0.02
LOOKS_WITHOUT_PROGRESS = 1500  # half a minute: every step has a timeout of less than a millisecond
MASKS = [0xFF, 0x01, 0x80, 0x55]


@dataclass
class Toll:
    """What came of an attack."""

    changes: int = 0
    lost: list[str] = field(default_factory=list)  # victims that crashed or hung, with the change
    failures: list[str] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    grown_kb: int = 0

    def __str__(self) -> str:
        errors = ", ".join(f"{name} {count}" for name, count in sorted(self.counted.items()) if name != "answers")
        return (
            f"{self.changes} changes: {self.counted['answers']} right answers, errors: {errors or 'none'}; "
            f"{len(self.lost)} victims lost, {len(self.failures)} failures, {self.grown_kb} KiB more memory"
        )


class Target:
    """A small live segment whose every slot has held a sample, and that of another type and form beside it."""

    def __init__(self) -> None:
        self.pub = zs.Publisher(TOPIC, Parcel, on_full="block", **QOS)
        while self.pub.sequence < SAMPLES:
            publish(self.pub)
        self.control = control_of(self.pub.flink)
        self.good = self.control.read_bytes()
        other = self.pub.flink.parent.parent / "other.flink"
        self._foreigner = zs.SlotAllocator.create(other, 6, 640)
        self.other = control_of(other)

    def restore(self) -> None:
        with self.control.open("r+b") as file:
            file.write(self.good)

    def close(self) -> None:
        self.restore()
        self._foreigner.close()
        self.pub.close()


@pytest.fixture
def target(zeroslot_dir: Path):
    made = Target()
    yield made
    made.close()


def watch(child: Child, progress: Path) -> bool:
    """Until it has ended: True. False: it came no further for many looks, and was ended; its stacks are in stderr."""
    seen, looks = -1, 0
    while child.alive:
        _, steps, _ = Progress.read(progress)
        looks = looks + 1 if steps == seen else 0
        seen = steps
        if looks > LOOKS_WITHOUT_PROGRESS:
            child.signal(10)  # children.py: where is it?
            time.sleep(LOOK_S * 10)
            child.kill()
            return False
        time.sleep(LOOK_S)
    child.wait()
    return True


def attack(cast: Cast, target: Target, tmp_path: Path, **spec: Any) -> Toll:
    """Every change of the spec met by victims, as many as it takes."""
    spec = {"patient": 1, "listings": 1, "owners": 1, "all_turns": False, **spec}
    toll = Toll()
    start, ended = 0, False
    while not ended and len(toll.lost) < 20:
        progress, report = tmp_path / f"progress {len(toll.lost)}", tmp_path / f"report {len(toll.lost)}"
        child = cast(VICTIM, spec, str(target.pub.flink), str(target.other), str(progress), str(report), start)
        came = watch(child, progress)
        number, _, what = Progress.read(progress)
        toll.changes += number + 1 - start
        start = number + 1
        if report.exists():
            told = json.loads(report.read_text())
            toll.failures += told["failures"]
            toll.counted.update(told["counted"])
            toll.grown_kb = max(toll.grown_kb, told["grown_kb"])
            ended = told["ended"]
        if not ended:
            target.restore()
            toll.lost.append(
                f"change {number}, {what}: {'died' if came else 'hangs'}, {child!r}\n{child.stderr[-2000:]}"
            )
    if toll.lost:
        zs.clean()  # what they left
    return toll


def expect_survival(toll: Toll) -> None:
    assert toll.lost == []
    assert toll.failures == []
    assert toll.grown_kb < 100 * 1024


@pytest.mark.watchdog(600.0)
@pytest.mark.row("SEC-4")
def test_a_flipped_byte_of_the_control_object_gives_an_error_or_a_right_answer(
    cast: Cast, target: Target, tmp_path: Path, request: pytest.FixtureRequest
):
    """Every byte but the empty ones of the schema, in one of four patterns; `-m stress` tries all patterns."""
    toll = attack(cast, target, tmp_path, kind="flips", masks=MASKS, rotate=True, only_told=True, patient=32, owners=8)
    survivors.say(request.config, str(toll))
    expect_survival(toll)
    assert toll.changes > len(target.good) // 2
    assert toll.counted["CorruptSegmentError"] > 0


@pytest.mark.watchdog(600.0)
@pytest.mark.row("SEC-4")
def test_random_changes_give_an_error_or_a_right_answer(
    cast: Cast, target: Target, tmp_path: Path, request: pytest.FixtureRequest
):
    """Several fields at once, entries of other segments, noise."""
    toll = attack(cast, target, tmp_path, kind="drawn", seed=3, count=3000, patient=16, listings=8, owners=8)
    survivors.say(request.config, str(toll))
    expect_survival(toll)
    assert toll.changes == 3000


@pytest.mark.stress
@pytest.mark.parametrize("mask", MASKS)
def test_every_byte_in_every_pattern_gives_an_error_or_a_right_answer(
    cast: Cast, target: Target, tmp_path: Path, request: pytest.FixtureRequest, mask: int
):
    """The subscribers and the publisher meet each change in every order."""
    toll = attack(
        cast, target, tmp_path, kind="flips", masks=[mask], rotate=False, only_told=False, patient=2, all_turns=True
    )
    survivors.say(request.config, str(toll))
    expect_survival(toll)
    assert toll.changes == len(target.good)


@pytest.mark.stress
@pytest.mark.parametrize("seed", [10, 11, 12, 13])
def test_a_million_random_changes_give_an_error_or_a_right_answer(
    cast: Cast, target: Target, tmp_path: Path, request: pytest.FixtureRequest, seed: int
):
    """A quarter of a million for each seed."""
    toll = attack(cast, target, tmp_path, kind="drawn", seed=seed, count=250_000, patient=64, listings=32, owners=32)
    survivors.say(request.config, f"seed {seed}: {toll}")
    expect_survival(toll)
    assert toll.changes == 250_000


@pytest.mark.watchdog(600.0)
@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("rounds", [1000, pytest.param(50_000, marks=pytest.mark.stress)])
@pytest.mark.parametrize("on_full", ["evict", "block"])
@pytest.mark.parametrize("spared", [["slots"], []], ids=["but the slot table", "all"])
def test_bytes_that_change_during_a_call_crash_and_hang_no_process(
    cast: Cast, tmp_path: Path, request: pytest.FixtureRequest, on_full: str, spared: list[str], rounds: int
):
    """A publisher and subscribers while another process writes over the control object: only errors of the package.

    As long as the slot table is left alone, every sample that is read is whole, too. With it go the sequence and the
    reader's bit, which are all that keeps the owner from a slot: a process that writes there can tear a sample.
    """
    where, progress, report = tmp_path / "flink", tmp_path / "progress", tmp_path / "report"
    child = cast(ENDURING, str(where), str(progress), str(report), rounds, on_full)
    while not (where.exists() and where.read_text()):
        assert child.alive, child.stderr
        time.sleep(LOOK_S)
    scribbler = cast(SCRIBBLER, where.read_text(), 5, spared)
    scribbler.expect("ready")
    child.tell(bool(spared))
    came = watch(child, progress)
    scribbler.kill()
    number, _, what = Progress.read(progress)
    assert came, f"round {number}, {what}: hangs\n{child.stderr}"
    assert report.exists(), f"round {number}, {what}: {child!r}\n{child.stderr}"
    told = json.loads(report.read_text())
    survivors.say(request.config, f"{number + 1} rounds: {told['counted']}")
    assert told["failures"] == []
    zs.clean()


@pytest.mark.parametrize("content", [b"", b"/zs-", b"\0" * 20, b"/zs-" + b"f" * 16, b"/etc/passwd", bytes(range(64))])
def test_a_flink_with_invalid_content_is_ignored(cast: Cast, target: Target, tmp_path: Path, content: bytes):
    """The topic's other publisher is read as usual."""
    flink = target.pub.flink.with_name("0" * 16 + ".flink")
    flink.write_bytes(content)
    flink.chmod(0o600)
    try:
        toll = attack(cast, target, tmp_path, kind="none")
        expect_survival(toll)
        assert toll.counted["answers"] > 0
        with zs.Subscriber(TOPIC, Parcel, history=HISTORY) as sub:
            assert [lease.sequence for lease in iter(sub.take, None)] == [11, 12, 13]
    finally:
        flink.unlink()
