"""Tests of a reader and a writer in C, written from FORMAT.md alone, with the library and with each other.

They include `stranger.h`, which has the numbers of FORMAT.md and includes nothing of zeroslot.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest

import zeroslot as zs
from tests.children import Child, Children
from tests.compat.make_vectors import Control
from zeroslot._core.binding import Descriptor
from zeroslot.types.schema import pack_schema


class Pair(zs.Sample):
    number: zs.U32
    text: Annotated[str, zs.MaxBytes(4)]


STORM = """
import zeroslot as zs

path, options, count = args
with zs.SlotAllocator.create(path, 12, 512, depth=4, **options) as allocator:
    say("ready")
    hear()
    for number in range(1, count + 1):
        slot = allocator.reserve(timeout=None)
        slot.array("u8", 64)[:] = number
        allocator.commit(slot)
"""

DRAIN = """
import zeroslot as zs

path, options = args
with zs.SlotReader.attach(path, **options) as reader:
    say("ready")
    wrong = 0
    while True:
        seen = reader.generation
        gone = reader.owner_gone
        lease = reader.take()
        if lease is not None:
            wrong += not bool((lease.array("u8") == lease.sequence).all())
            lease.release()
        elif gone:
            break
        else:
            reader.wait_for_change(seen)
    say([reader.stats["taken"], reader.lost, wrong])
"""

OWNER = """
import zeroslot as zs

path, options = args
with zs.SlotAllocator.create(path, 4, 64, **options) as allocator:
    say("ready")
    for _ in orders():
        say(allocator.commit(allocator.reserve(timeout=None), b"x"))
"""

READER = """
import zeroslot as zs

path, options = args
leases = []
with zs.SlotReader.attach(path, **options) as reader:
    say("ready")
    for count in orders():
        for _ in range(count):
            while True:
                seen = reader.generation
                lease = reader.take()
                if lease is not None:
                    break
                reader.wait_for_change(seen)
            leases.append(lease)
            say([lease.sequence, bytes(lease).hex()])
"""


def image(number: int) -> str:
    """The bytes of Pair(number=number, text="ab"), by section 8."""
    return (number.to_bytes(4, "little") + (2).to_bytes(4, "little") + b"ab\0\0").hex()


@pytest.fixture
def reader(programs: Path, run_child: Children) -> Callable[..., Child]:
    """Start the C reader, and wait until it is ready."""

    def start(where: str | Path, *args: str | int) -> Child:
        child = run_child.program(programs / "reader", str(where), *map(str, args))
        child.expect("ready")
        return child

    return start


@pytest.fixture
def writer(programs: Path, run_child: Children, tmp_path: Path) -> Callable[..., Child]:
    """Start the C writer, and wait until its segment is open. With `of` it publishes that type."""

    def start(
        where: str | Path, capacity: int, *args: str | int, of: type[zs.Sample] | None = None, refused: bool = False
    ) -> Child:
        typed: list[str] = []
        if of is not None:
            layout = zs.layout_of(of)
            section = tmp_path / "schema"
            section.write_bytes(pack_schema(layout))
            typed = ["type", layout.type_hash.hex(), str(section)]
        child = run_child.program(programs / "writer", str(where), str(capacity), *map(str, args), *typed)
        answer = child.hear()
        assert answer == {"error": "other type"} if refused else answer.startswith("/zs-")
        return child

    return start


def flink_of(topic: str) -> Path:
    """The flink of the only publisher of a topic."""
    (publisher,) = zs.inspect(topic).publishers
    return publisher.flink


def word_of(flink: Path, section: str) -> int:
    """The first word of a section."""
    control = Control(Path(f"/dev/shm{flink.read_text()}").read_bytes())
    return control.number(control.at(section), 4)


def wait_for_word(flink: Path, section: str) -> None:
    """Wait until the first word of a section is not 0: a reader has parked, or the owner waits for room."""
    while word_of(flink, section) == 0:
        os.sched_yield()


def stop_while(child: Child, flink: Path, section: str) -> None:
    """Stop a process while the first word of a section is not 0."""
    while True:
        wait_for_word(flink, section)
        child.stop()
        if word_of(flink, section) != 0:
            return
        child.cont()


def taken(sequence: int, payload: str) -> dict[str, object]:
    return {"sequence": sequence, "payload": payload}


# --- the library publishes, the C reader takes ---


@pytest.mark.row("SEG-1", "SEG-2", "SEG-11", "DIS-1", "TYP-6", "NEW-16")
def test_c_reader_takes_what_a_publisher_publishes(reader):
    """Through a topic: the schema, the order, the bytes and the end of the segment."""
    child = reader("robot/pair")
    child.tell("join")
    with zs.Publisher("robot/pair", Pair) as pub:
        assert child.hear() == {"index": 0, "epoch": 1, "cursor": 0}
        assert child.ask("schema") == "Pair"
        assert child.ask("take") is None
        for number in range(3):
            assert pub.publish(Pair(number=number, text="ab")) == number + 1
        assert [child.ask("take") for _ in range(4)] == [*(taken(n + 1, image(n)) for n in range(3)), None]
        assert pub.subscriber_count == 1
        pub.publish(Pair(number=9, text="ab"))
    assert child.ask("next") == taken(4, image(9))
    assert child.ask("next") == {"ended": 2}
    child.finish()


@pytest.mark.row("SEG-2")
def test_c_reader_attaches_through_a_flink(reader, tmp_path):
    """A flink outside of any topic; samples of any size, a history, and latest."""
    flink = tmp_path / "link.flink"
    with zs.SlotAllocator.create(flink, 8, 100) as allocator:
        for text in (b"one", b"", b"x" * 100):
            allocator.commit(allocator.reserve(), text)
        child = reader(flink, "history", 2)
        assert child.ask("join") == {"index": 0, "epoch": 1, "cursor": 1}
        assert child.ask("take") == taken(2, "")
        allocator.commit(allocator.reserve(), b"four")
        assert child.ask("latest") == taken(4, b"four".hex())
        assert child.ask("counts") == [2, 0, 1, 4]
        assert child.ask("leave") is True
        child.finish()
    assert not flink.exists()


@pytest.mark.row("SEG-2")
def test_c_reader_takes_across_the_wrap_of_tags(reader, tmp_path):
    """A ring entry holds 48 bits of the sequence; distances are signed."""
    flink = tmp_path / "link.flink"
    first = 2**48 - 2
    with zs.SlotAllocator.create(flink, 4, 64, depth=2, first_sequence=first) as allocator:
        child = reader(flink)
        child.ask("join")
        for i in range(5):
            allocator.commit(allocator.reserve(), b"%d" % i)
            assert child.ask("take") == taken(first + i, (b"%d" % i).hex())
        for i in range(5, 9):
            allocator.commit(allocator.reserve(), b"%d" % i)
        assert [child.ask("take")["sequence"] for _ in range(2)] == [first + 7, first + 8]
        assert child.ask("counts") == [7, 2, 0, first + 8]
        child.finish()


def test_c_reader_with_an_index_above_63(reader, tmp_path):
    """Beyond 64 readers a slot has several words of bits; the owner looks at each."""
    flink = tmp_path / "link.flink"
    with zs.SlotAllocator.create(flink, 2, 64, depth=1, max_loans=1, max_subscribers=70) as allocator:
        others = Descriptor.open(f"/dev/shm{flink.read_text()}", os.O_RDWR)
        assert others.try_lock(64, count=66)  # as if 66 readers had joined
        child = reader(flink)
        assert child.ask("join") == {"index": 66, "epoch": 1, "cursor": 0}
        for text in (b"one", b"two"):
            allocator.commit(allocator.reserve(), text)
            assert child.ask("hold")["payload"] == text.hex()
        assert allocator.subscriber_indexes() == [66]
        with pytest.raises(zs.NoFreeSlotError):
            allocator.reserve()
        child.ask("release")
        allocator.discard(allocator.reserve())
        child.ask("release")
        child.finish()
        others.close()


def test_publisher_wakes_the_c_reader(reader):
    """A parked reader that is asleep in the kernel gets the next sample."""
    with zs.Publisher("t", Pair) as pub:
        child = reader("t")
        child.ask("join")
        for number in range(5):
            child.tell("next")
            wait_for_word(pub.flink, "PARKED")
            pub.publish(Pair(number=number, text="ab"))
            assert child.hear() == taken(number + 1, image(number))
        assert pub.stats.wakes == 5
        child.finish()


@pytest.mark.row("PUB-2", "PUB-6")
def test_publisher_waits_for_a_reliable_c_reader(reader):
    """At most `depth` samples are not taken; each take makes room for one."""
    with zs.Publisher("t", Pair, depth=2, max_loans=1, on_full="raise") as pub:
        child = reader("t", "reliable")
        child.ask("join")
        for number in range(2):
            pub.publish(Pair(number=number, text="ab"))
        with pytest.raises(zs.BackpressureError):
            pub.publish(Pair(number=2, text="ab"))
        assert child.ask("take") == taken(1, image(0))
        pub.publish(Pair(number=2, text="ab"))
        with pytest.raises(zs.BackpressureError):
            pub.publish(Pair(number=3, text="ab"))
        child.finish()
        for number in range(4):
            pub.publish(Pair(number=number, text="ab"))


def test_c_reader_wakes_a_blocked_publisher(reader, run_child, tmp_path):
    """The owner is woken by a move of the cursor, and by a release."""
    flink = tmp_path / "link.flink"
    owner = run_child(OWNER, str(flink), {"depth": 2, "max_loans": 1, "on_full": "block"})
    owner.expect("ready")
    child = reader(flink, "reliable")
    child.ask("join")
    assert [owner.ask(0), owner.ask(0)] == [1, 2]
    owner.tell(0)
    stop_while(owner, flink, "WAITING")
    before = word_of(flink, "SPACE")
    assert child.ask("hold") == taken(1, "78")
    assert word_of(flink, "SPACE") == before + 1
    child.ask("release")
    assert word_of(flink, "SPACE") == before + 2
    owner.cont()
    assert owner.hear() == 3
    child.finish()
    owner.finish()


@pytest.mark.row("SUB-11")
def test_c_reader_counts_lost_samples(reader):
    """The count is the number of samples that were published and not taken."""
    with zs.Publisher("t", Pair, depth=3) as pub:
        child = reader("t")
        child.ask("join")
        for number in range(20):
            pub.publish(Pair(number=number, text="ab"))
        assert [child.ask("take")["sequence"] for _ in range(3)] == [18, 19, 20]
        assert child.ask("counts") == [3, 17, 0, 20]
        child.finish()


@pytest.mark.row("PEER-4")
def test_killed_c_reader_is_reaped(reader):
    """Its lease is cleared, and the publisher no longer waits for it."""
    with zs.Publisher("t", Pair, depth=1, max_loans=1, spare_slots=0, on_full="block") as pub:
        child = reader("t", "reliable")
        child.ask("join")
        pub.publish(Pair(number=1, text="ab"))
        assert child.ask("hold") == taken(1, image(1))
        pub.publish(Pair(number=2, text="ab"))
        child.kill()
        for number in range(3):
            pub.publish(Pair(number=number, text="ab"), timeout=None)
        assert pub.subscriber_count == 0
        assert pub.stats.reaped == 1


def test_c_reader_notices_a_killed_publisher(reader, run_child, tmp_path):
    """It takes the samples that remain, then marks the segment as dead."""
    flink = tmp_path / "link.flink"
    owner = run_child(OWNER, str(flink), {})
    owner.expect("ready")
    child = reader(flink)
    child.ask("join")
    owner.ask(0)
    owner.kill()
    assert child.ask("next") == taken(1, "78")
    assert child.ask("next") == {"ended": 3}
    child.finish()
    with zs.SlotAllocator.create(flink, 4, 64):  # removes the segment of the dead owner
        pass


def test_evicted_c_reader_takes_no_more(reader, tmp_path):
    """Its lease remains valid. It can join again, and the samples that it missed count as lost."""
    flink = tmp_path / "link.flink"
    with zs.SlotAllocator.create(flink, 8, 64, depth=2) as allocator:
        child = reader(flink)
        child.ask("join")
        allocator.commit(allocator.reserve(), b"one")
        assert child.ask("hold") == taken(1, b"one".hex())
        assert allocator.evict(0)
        allocator.commit(allocator.reserve(), b"two")
        assert child.ask("take") == {"error": "evicted"}
        assert child.ask("release") is True
        for text in (b"three", b"four"):
            allocator.commit(allocator.reserve(), text)
        assert child.ask("rejoin") is True
        assert [child.ask("take") for _ in range(3)] == [taken(3, b"three".hex()), taken(4, b"four".hex()), None]
        assert child.ask("counts") == [2, 1, 0, 4]
        child.finish()


# --- the C writer publishes, the library takes ---


@pytest.mark.row("TYP-6", "NEW-16")
def test_subscriber_takes_what_the_c_writer_publishes(writer):
    """Through a topic, with and without the class, and as bytes."""
    child = writer("robot/pair", 12, of=Pair)
    (found,) = zs.topics()
    assert (found.topic, found.publishers[0].type_name, found.publishers[0].name) == ("robot/pair", "Pair", "stranger")
    with zs.Subscriber("robot/pair", Pair) as typed, zs.Subscriber("robot/pair") as untyped:
        with zs.SlotReader.attach(found.publishers[0].flink) as raw:
            for number in range(3):
                assert child.ask(f"publish {image(number)}") == number + 1
                lease = typed.take()
                assert (lease.sequence, lease.sample.number, lease.sample.text) == (number + 1, number, "ab")
                assert untyped.take().copy().model_dump() == {"number": number, "text": "ab"}
                assert bytes(raw.take()).hex() == image(number)
                lease.release()
            assert child.ask("counts") == [3, 3]
            child.ask("seal")
            child.finish()
            assert raw.owner_gone
        assert typed.take() is None
    assert zs.topics() == ()


def test_c_writer_keeps_slots_leased_by_an_index_above_63(writer, tmp_path):
    """It does not write to a slot that the reader with index 66 has leased."""
    flink = tmp_path / "link.flink"
    child = writer(flink, 64, "depth", 1, "loans", 1, "spare", 0, "subscribers", 70)
    others = Descriptor.open(f"/dev/shm{flink.read_text()}", os.O_RDWR)
    assert others.try_lock(64, count=66)
    with zs.SlotReader.attach(flink) as reader:
        assert reader.native.index == 66
        assert child.ask("publish aa") == 1
        lease = reader.take()
        assert child.ask("publish bb") == 2
        assert child.ask("publish cc") == {"error": "no room"}
        assert bytes(lease) == b"\xaa"
        lease.release()
        assert child.ask("publish cc") == 3
    others.close()
    child.finish()


def test_c_writer_wakes_a_subscriber(writer, run_child, tmp_path):
    """A sleeping subscriber gets the next sample, and those of a batch."""
    flink = tmp_path / "link.flink"
    child = writer(flink, 64, "depth", 4)
    sub = run_child(READER, str(flink), {})
    sub.expect("ready")
    sub.tell(1)
    stop_while(sub, flink, "PARKED")
    before = word_of(flink, "GENERATION")
    child.ask("publish aa")
    assert word_of(flink, "PARKED") == 0
    assert word_of(flink, "GENERATION") == before + 2
    sub.cont()
    assert sub.hear() == [1, "aa"]
    sub.tell(3)
    wait_for_word(flink, "PARKED")
    child.ask("batch bb cc dd")
    assert [sub.hear() for _ in range(3)] == [[2, "bb"], [3, "cc"], [4, "dd"]]
    sub.finish()
    child.finish()


def test_readers_map_a_pool_that_is_added(writer, reader, tmp_path):
    """The reader of the library and the C reader map it when a sample is in it."""
    flink = tmp_path / "link.flink"
    child = writer(flink, 128, "depth", 2, "loans", 1, "spare", 9, "later", 6)
    other = reader(flink)
    other.ask("join")
    with zs.SlotReader.attach(flink) as raw:
        assert child.ask(f"publish {'aa' * 128}") == 1
        assert bytes(raw.take()) == b"\xaa" * 128
        assert child.ask(f"publish {'bb' * 129}") == {"error": "no room"}
        assert child.ask("grow 1000") is True
        assert child.ask(f"publish {'bb' * 1000}") == 2
        assert child.ask("publish cc") == 3
        assert [bytes(raw.take()) for _ in range(2)] == [b"\xbb" * 1000, b"\xcc"]
        assert [other.ask("take")["payload"] for _ in range(2)] == ["bb" * 1000, "cc"]
        assert other.ask("counts") == [2, 1, 0, 3]
    other.finish()
    child.finish()


@pytest.mark.row("PUB-2", "PUB-6")
def test_c_writer_waits_for_a_reliable_subscriber(writer):
    """It publishes `depth` samples, sleeps, and continues when a sample is taken."""
    child = writer("t", 12, "depth", 2, "policy", 1, of=Pair)
    with zs.Subscriber("t", Pair, reliable=True) as sub:
        assert child.ask(f"publish {image(1)}") == 1
        assert child.ask(f"publish {image(2)}") == 2
        assert child.ask(f"publish {image(3)}") == {"error": "no room"}
        child.tell(f"block {image(3)}")
        wait_for_word(flink_of("t"), "WAITING")
        assert sub.take().sample.number == 1
        assert child.hear() == 3
        assert [sub.take().sample.number, sub.take().sample.number] == [2, 3]
        assert sub.lost == 0
    child.finish()


def test_subscriber_of_the_c_writer_counts_lost_samples(writer):
    """The newest `depth` samples can be taken and no others, also after more than one lap of the ring."""
    child = writer("t", 12, "depth", 2, of=Pair)
    with zs.Subscriber("t", Pair) as sub:
        for number in range(3):
            child.ask(f"publish {image(number)}")
        assert [sub.take().sequence, sub.take().sequence] == [2, 3]
        assert (sub.lost, sub.take()) == (1, None)
        for number in range(11):
            child.ask(f"publish {image(number)}")
        assert [sub.take().sequence, sub.take().sequence] == [13, 14]
        assert (sub.lost, sub.take()) == (10, None)
    child.finish()


def test_reader_takes_from_the_c_writer_across_the_wrap_of_tags(writer, tmp_path):
    """The ring starts with the tag of the sequence before the first, so no entry looks new too early."""
    flink = tmp_path / "link.flink"
    first = 2**48 - 2
    child = writer(flink, 64, "depth", 2, "first", first)
    with zs.SlotReader.attach(flink) as reader:
        assert reader.take() is None
        for i in range(6):
            assert child.ask(f"publish 0{i}") == first + i
            lease = reader.take()
            assert (lease.sequence, bytes(lease)) == (first + i, bytes([i]))
            assert reader.take() is None
        assert reader.lost == 0
    child.finish()


def test_c_writer_reaps_a_killed_subscriber(writer, run_child, tmp_path):
    """The writer can use its slots again, and no longer waits for it."""
    flink = tmp_path / "link.flink"
    child = writer(flink, 64, "depth", 1, "spare", 0, "policy", 1)
    sub = run_child(READER, str(flink), {"reliable": True})
    sub.expect("ready")
    assert child.ask("publish aa") == 1
    assert sub.ask(1) == [1, "aa"]
    assert child.ask("publish bb") == 2
    assert child.ask("publish cc") == {"error": "no room"}
    child.tell("block cc")
    wait_for_word(flink, "WAITING")
    sub.kill()
    assert child.hear() == 3
    assert child.ask("counts") == [3, 0]
    child.finish()


@pytest.mark.row("PEER-6")
def test_subscriber_notices_a_killed_c_writer(writer):
    """It takes the samples that remain and notices the end; the next publisher of the topic removes the segment."""
    child = writer("t", 12, of=Pair)
    with zs.Subscriber("t", Pair) as sub:
        child.ask(f"publish {image(5)}")
        child.kill()
        assert sub.take(timeout=None).sample.number == 5
        while sub.publishers:
            pass
        assert (sub.take(), sub.lost) == (None, 0)
        with zs.Publisher("t", Pair) as pub:
            pub.publish(Pair(number=6, text="ab"))
            assert sub.take(timeout=None).sample.number == 6


def test_c_writer_evicts_a_subscriber(writer):
    """It raises once, then joins again."""
    child = writer("t", 12, of=Pair)
    with zs.Subscriber("t", Pair) as sub:
        child.ask("evict 0")
        with pytest.raises(zs.errors.EvictedError):
            sub.take()
        assert sub.take() is None
        child.ask(f"publish {image(1)}")
        assert sub.take().sample.number == 1
    child.finish()


class Other(zs.Sample):
    number: zs.U64


def test_publishers_of_one_topic_have_one_type(writer):
    """If the types differ, the second publisher of a topic is refused, whether it is the library's or the C writer."""
    with zs.Publisher("t", Other):
        writer("t", 12, of=Pair, refused=True).finish()
        writer("t", 12, refused=True).finish()
        writer("t", 8, of=Other).finish()
    child = writer("t", 12, of=Pair)
    with pytest.raises(zs.TypeMismatchError):
        zs.Publisher("t", Other)
    zs.Publisher("t", Pair).close()
    child.finish()


# --- at full speed ---

SAMPLES = 20_000


@pytest.mark.parametrize("reliable", [False, True], ids=["lossy", "reliable"])
def test_c_reader_takes_at_full_speed(reader, run_child, tmp_path, reliable):
    """No sample is torn, and each is taken or counted as lost; a reliable reader loses none."""
    flink = tmp_path / "link.flink"
    owner = run_child(STORM, str(flink), {"on_full": "block", "max_loans": 1} if reliable else {}, SAMPLES)
    owner.expect("ready")
    child = reader(flink, *(["reliable"] if reliable else []))
    child.ask("join")
    child.tell("drain")
    owner.tell(True)
    took, lost, wrong = child.hear()
    assert (took + lost, wrong) == (SAMPLES, 0)
    assert lost == 0 or not reliable
    owner.finish()
    child.finish()


@pytest.mark.parametrize("reliable", [False, True], ids=["lossy", "reliable"])
def test_reader_takes_from_the_c_writer_at_full_speed(writer, run_child, tmp_path, reliable):
    """The same with the C writer and the library's reader."""
    flink = tmp_path / "link.flink"
    child = writer(flink, 512, "depth", 4, "policy", int(reliable))
    sub = run_child(DRAIN, str(flink), {"reliable": reliable})
    sub.expect("ready")
    assert child.ask(f"storm {SAMPLES}") == SAMPLES
    child.ask("seal")
    took, lost, wrong = sub.hear()
    assert (took + lost, wrong) == (SAMPLES, 0)
    assert lost == 0 or not reliable
    sub.finish()
    child.finish()


def test_reader_counts_all_samples_of_a_killed_c_writer(writer, run_child, tmp_path):
    """Killed anywhere in a commit: no sample is torn, each is taken or counted as lost, and the end is noticed."""
    flink = tmp_path / "link.flink"
    child = writer(flink, 512, "depth", 4)
    sub = run_child(DRAIN, str(flink), {})
    sub.expect("ready")
    child.tell("storm 1000000000")
    while word_of(flink, "PUBLISHED") < 1000:
        os.sched_yield()
    child.kill()
    took, lost, wrong = sub.hear()
    assert wrong == 0
    assert took + lost - word_of(flink, "PUBLISHED") in (0, 1)
    sub.finish()
    with zs.SlotAllocator.create(flink, 2, 64):  # removes the segment of the killed writer
        pass


def test_publisher_continues_when_a_reliable_c_reader_is_killed(reader, run_child, tmp_path):
    """Killed anywhere in a take: the publisher no longer waits for it, and the other reader loses no sample."""
    flink = tmp_path / "link.flink"
    owner = run_child(STORM, str(flink), {"on_full": "block", "max_loans": 1}, SAMPLES)
    owner.expect("ready")
    killed, other = reader(flink, "reliable"), reader(flink, "reliable")
    for child in (killed, other):
        child.ask("join")
        child.tell("drain")
    owner.tell(True)
    while word_of(flink, "PUBLISHED") < 1000:
        os.sched_yield()
    killed.kill()
    assert other.hear() == [SAMPLES, 0, 0]
    owner.finish()
    other.finish()


# --- the C reader and the C writer ---


def test_c_reader_takes_from_the_c_writer(writer, reader):
    """A reader that follows a topic gets the first sample of a writer that starts later, and of the next writer."""
    child = reader("t")
    for round_ in range(2):
        child.tell("next")
        owner = writer("t", 64)
        assert owner.ask(f"publish 0{round_}") == 1
        assert child.hear() == taken(1, f"0{round_}")
        owner.finish()
        assert child.ask("next") == {"ended": 2}
    child.finish()
