"""Corrupt bytes: every one of a control object, while others attach, take and list. An error of ours or a right answer.

The victims are children: a crash is the end of one, and the byte that did it is the last that it was told. A mutation
is written before the attach or after it; the object is put right again in between. Hangs meet the watchdog.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import zeroslot as zs
from tests.children import ChildError
from tests.fault.parcels import Parcel, fill
from tests.process.actors import Cast
from tests.unit.control_bytes import ControlBytes
from zeroslot._core.binding import Descriptor

# Told whether to attach before or after the change; says "ok", or what should not have happened.
VICTIM = """
import zeroslot as zs
from tests.fault.parcels import Parcel, whole
from zeroslot import cleaning

def take(sub):
    for _ in range(8):
        lease = sub.take()
        if lease is None:
            return
        # What lies in the pool is whole: a wrong slot number may show another sample, never half of one.
        if not whole(lease.sample, int(lease.sample.number)) or not 1 <= lease.sample.number <= 4:
            raise AssertionError(f"sample {lease.sequence} is not whole")

def tried(step):
    try:
        return step()
    except (zs.ZeroslotError, PermissionError):
        return None

def use(sub):
    for step in (lambda: take(sub), sub.latest, lambda: sub.publishers, lambda: sub.stats, lambda: repr(sub)):
        tried(step)

def look():
    tried(lambda: zs.topics())
    tried(lambda: zs.inspect("t"))
    tried(lambda: cleaning.clean(dry_run=True))
    tried(lambda: zs.Subscriber("t", history=4).close())

sub = None
say("ready")
for verb in orders():
    try:
        if verb == "join":
            sub = zs.Subscriber("t", Parcel, history=4, spin_us=0)
        elif verb == "use":
            use(sub)
        elif verb == "leave":
            sub.close()
        else:
            late = tried(lambda: zs.Subscriber("t", Parcel, history=4, spin_us=0))
            if late is not None:
                use(late)
                late.close()
            look()
        say("ok")
    except BaseException as error:
        say(f"{type(error).__name__}: {error}")
"""


class Target:
    """A small live segment with four samples, and its control object as it was when all was well."""

    def __init__(self) -> None:
        self.pub = zs.Publisher("t", Parcel, depth=4, max_loans=1, spare_slots=4, max_subscribers=4)
        for number in range(1, 5):
            with self.pub.loan() as sample:
                fill(sample, number)
        self.bytes = ControlBytes(self.pub.flink)
        self.good = self.bytes.path.read_bytes()

    def restore(self) -> None:
        self.bytes.write_bytes(0, self.good)

    def sampled_offsets(self) -> list[int]:
        """All of the header and all that is not 0; of the rest (hot words, empty entries) every byte of 4 in 16."""
        return [at for at, byte in enumerate(self.good) if byte or at < 384 or at % 16 < 4]


@pytest.fixture
def target(zeroslot_dir: Path):
    made = Target()
    yield made
    made.restore()
    made.pub.close()


class Watched:
    """A victim that is started again after a crash; what went wrong is collected, with the byte."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self.wrong: list[str] = []
        self._start()

    def _start(self) -> None:
        self._child = self._cast(VICTIM)
        self._child.expect("ready")

    def does(self, verb: str, what: str) -> None:
        try:
            said = self._child.ask(verb)
        except ChildError as error:
            self.wrong.append(f"{what}, {verb}: {str(error)[:300]}")
            self._start()
            return
        if said != "ok":
            self.wrong.append(f"{what}, {verb}: {said}")


def attack(cast: Cast, target: Target, changes: list[tuple[int, bytes]]) -> list[str]:
    """Each change met by one who comes after it, and by one who was there before it."""
    victim = Watched(cast)
    for at, content in changes:
        what = f"bytes {at}+{len(content)} are {content.hex()}, were {target.good[at : at + len(content)].hex()}"
        target.bytes.write_bytes(at, content)
        victim.does("meet", what)
        target.restore()
        victim.does("join", what)
        target.bytes.write_bytes(at, content)
        victim.does("use", what)
        target.restore()
        victim.does("leave", what)
    return victim.wrong


def flipped(target: Target, at: int, mask: int) -> tuple[int, bytes]:
    return at, bytes([target.good[at] ^ mask])


def test_no_flipped_byte_of_the_control_object_crashes_or_deceives(cast: Cast, target: Target):
    """Every byte that is set, and a sample of the others, in one of three patterns; `-m stress` does all in all."""
    changes = [flipped(target, at, (0xFF, 0x01, 0x80)[at % 3]) for at in target.sampled_offsets()]
    print(len(changes), "changes of", len(target.good), "bytes")
    assert attack(cast, target, changes) == []


@pytest.mark.stress
def test_no_byte_in_any_pattern_and_no_million_mutations(cast: Cast, target: Target, request):
    """Every byte in four patterns; then words and runs, seeded, of hostile values."""
    masks = (0xFF, 0x01, 0x80, 0x55)
    assert attack(cast, target, [flipped(target, at, mask) for at in range(len(target.good)) for mask in masks]) == []
    chosen = random.Random(3)
    words = [0, 1, 2**16 - 1, 2**31, 2**32 - 1, 2**48, 2**62, 2**63, 2**64 - 1]
    for _ in range(1000):
        changes = []
        for _ in range(1000):
            at = chosen.randrange(0, len(target.good) - 8, 4)
            value = chosen.choice([*words, chosen.getrandbits(64)])
            changes.append((at, value.to_bytes(8, "little")[: chosen.choice((1, 2, 4, 8))]))
        assert attack(cast, target, changes) == []


@pytest.mark.parametrize("share", [0, 1, 100, 383, 384, 1000, -1])
def test_an_object_that_was_cut_short_is_no_publisher(cast: Cast, target: Target, share: int):
    """Before the attach: found too short, and never touched beyond its end."""
    victim = Watched(cast)
    name = os.urandom(8).hex()
    copy = target.bytes.path.with_name(f"zs-{name}")
    size = share if share >= 0 else len(target.good) - 1
    copy.write_bytes(target.good[:size])
    flink = target.pub.flink.with_name(f"{name}.flink")
    owner = Descriptor(os.open(copy, os.O_RDWR))
    owner.try_lock(0)  # an owner that lives: no cleaner takes it away
    try:
        flink.write_text(f"/{copy.name}")
        flink.chmod(0o600)
        victim.does("meet", f"the first {size} bytes")
    finally:
        owner.close()
        copy.unlink(missing_ok=True)  # a cleaner of another run may have been faster
        flink.unlink()
    assert victim.wrong == []


@pytest.mark.parametrize("content", [b"", b"/zs-", b"\0" * 20, b"/zs-" + b"f" * 16, b"/etc/passwd", os.urandom(64)])
def test_a_flink_of_garbage_is_left_alone(cast: Cast, target: Target, content: bytes):
    """The healthy publisher beside it is read as ever."""
    victim = Watched(cast)
    flink = target.pub.flink.with_name("0" * 16 + ".flink")
    flink.write_bytes(content)
    flink.chmod(0o600)
    try:
        victim.does("meet", repr(content))
        with zs.Subscriber("t", Parcel, history=4) as sub:
            assert [lease.sequence for lease in iter(sub.take, None)] == [1, 2, 3, 4]
    finally:
        flink.unlink()
    assert victim.wrong == []


def test_a_replaced_object_is_seen_through(cast: Cast, target: Target):
    """Another file under the name of a living publisher's: its contents say who they are, and nobody locks it."""
    victim = Watched(cast)
    aside = target.bytes.path.with_suffix(".aside")
    target.bytes.path.rename(aside)
    try:
        for content in (target.good, bytes(len(target.good)), os.urandom(len(target.good))):
            target.bytes.path.write_bytes(content)
            victim.does("meet", "a replaced object")
            target.bytes.path.unlink(missing_ok=True)  # nobody locks it: a cleaner of another run may be faster
        victim.does("meet", "no object")
    finally:
        aside.rename(target.bytes.path)
    assert victim.wrong == []
