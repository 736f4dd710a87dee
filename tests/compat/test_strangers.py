"""A reader and a writer in C that were written from FORMAT.md alone, against the library and against each other.

What they include is `stranger.h`, which has the numbers of FORMAT.md and nothing of zeroslot.
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
    """Start the C reader; it has said that it is ready."""

    def start(where: str | Path, *args: str | int) -> Child:
        child = run_child.program(programs / "reader", str(where), *map(str, args))
        child.expect("ready")
        return child

    return start


@pytest.fixture
def writer(programs: Path, run_child: Children, tmp_path: Path) -> Callable[..., Child]:
    """Start the C writer; its segment is open. With `of` it publishes that type."""

    def start(
        where: str | Path, capacity: int, *args: str | int, of: type[zs.Sample] | None = None, refused: bool = False
    ) -> Child:
        typed: list[str] = []
        if of is not None:
            layout = zs.layout_of(of)
            section = tmp_path / "schema"
            section.write_bytes(pack_schema(layout, layout.to_idl()))
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
    """The first word of a section, as it is now."""
    control = Control(Path(f"/dev/shm{flink.read_text()}").read_bytes())
    return control.number(control.at(section), 4)


def wait_for_word(flink: Path, section: str) -> None:
    """Returns when the first word of a section is not 0: a reader has parked, or the owner waits for room."""
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


# --- the library publishes, the stranger reads ---


@pytest.mark.row("SEG-1", "SEG-2", "SEG-11", "DIS-1", "TYP-6", "NEW-16")
def test_the_stranger_reads_what_a_publisher_publishes(reader):
    """Found by its topic: schema, order, bytes, end."""
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
def test_the_stranger_reads_bytes_through_a_flink(reader, tmp_path):
    """A flink anywhere, samples of any size, a history, and the newest."""
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
def test_the_stranger_reads_across_the_wrap_of_the_tags(reader, tmp_path):
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


def test_the_stranger_reads_with_an_index_in_the_second_word(reader, tmp_path):
    """Beyond 64 readers a slot has several words of bits; the owner looks at each."""
    flink = tmp_path / "link.flink"
    with zs.SlotAllocator.create(flink, 2, 64, depth=1, max_loans=1, max_subscribers=70) as allocator:
        others = Descriptor.open(f"/dev/shm{flink.read_text()}", os.O_RDWR)
        assert others.try_lock(64, count=66)  # as if so many were there
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


def test_a_publisher_wakes_the_stranger(reader):
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
def test_a_publisher_waits_for_the_reliable_stranger(reader):
    """The window is the depth; one sample taken is room for one."""
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


def test_the_stranger_wakes_a_publisher_that_waits(reader, run_child, tmp_path):
    """A move of the cursor is room, and the blocked owner hears of it."""
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
def test_the_lapped_stranger_counts_what_it_lost(reader):
    """Exactly the samples that were published and not taken."""
    with zs.Publisher("t", Pair, depth=3) as pub:
        child = reader("t")
        child.ask("join")
        for number in range(20):
            pub.publish(Pair(number=number, text="ab"))
        assert [child.ask("take")["sequence"] for _ in range(3)] == [18, 19, 20]
        assert child.ask("counts") == [3, 17, 0, 20]
        child.finish()


@pytest.mark.row("PEER-4")
def test_a_killed_stranger_is_reaped(reader):
    """Its lease and its claim go with it."""
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


def test_the_stranger_notices_a_killed_publisher(reader, run_child, tmp_path):
    """It marks the segment dead, and takes what is left first."""
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
    with zs.SlotAllocator.create(flink, 4, 64):  # removes what the dead one left
        pass


def test_the_stranger_whose_claim_was_ended_takes_no_more(reader, tmp_path):
    """What it holds stays as it is. It may join again, and what it missed until then is lost."""
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


# --- the stranger publishes, the library reads ---


@pytest.mark.row("TYP-6", "NEW-16")
def test_a_subscriber_reads_what_the_stranger_publishes(writer):
    """By its topic, with the class and without, as a type and as bytes."""
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


def test_the_stranger_keeps_what_an_index_in_the_second_word_holds(writer, tmp_path):
    """It does not write into a slot that the library's reader 66 has leased."""
    flink = tmp_path / "link.flink"
    child = writer(flink, 64, "depth", 1, "loans", 1, "spare", 0, "subscribers", 70)
    others = Descriptor.open(f"/dev/shm{flink.read_text()}", os.O_RDWR)
    assert others.try_lock(64, count=66)
    with zs.SlotReader.attach(flink) as reader:
        assert reader.reader.index == 66
        assert child.ask("publish aa") == 1
        lease = reader.take()
        assert child.ask("publish bb") == 2
        assert child.ask("publish cc") == {"error": "no room"}
        assert bytes(lease) == b"\xaa"
        lease.release()
        assert child.ask("publish cc") == 3
    others.close()
    child.finish()


def test_the_stranger_wakes_a_subscriber(writer, run_child, tmp_path):
    """A subscriber that sleeps gets the next sample, and one of a batch."""
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


def test_readers_follow_a_pool_that_is_added_while_they_read(writer, reader, tmp_path):
    """The library's reader and the C one map it when a sample lies in it."""
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
def test_the_stranger_waits_for_a_reliable_subscriber(writer):
    """It publishes as far as the depth, sleeps, and goes on when a sample is taken."""
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


def test_a_subscriber_of_the_stranger_counts_what_it_lost(writer):
    """Exactly: the newest `depth` can be taken and no other, also after more than one round of the ring."""
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


def test_the_library_reads_the_stranger_across_the_wrap_of_the_tags(writer, tmp_path):
    """The ring is filled with the tag of the sequence before the first, so nothing looks new before it is."""
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


def test_a_killed_subscriber_is_reaped_by_the_stranger(writer, run_child, tmp_path):
    """The stranger gets its slots back and waits for it no more."""
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
def test_a_subscriber_notices_the_killed_stranger(writer):
    """What was published is taken, the end is noticed, and the next publisher of the topic removes what is left."""
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


def test_the_claim_of_a_subscriber_can_be_ended_by_the_stranger(writer):
    """It raises once, and joins again by itself."""
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


def test_the_types_of_a_topic_do_not_mix(writer):
    """Of a library publisher and the stranger the later one gives up when the types differ, and not otherwise."""
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
def test_the_stranger_takes_at_full_speed_what_the_library_publishes(reader, run_child, tmp_path, reliable):
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
def test_the_library_takes_at_full_speed_what_the_stranger_publishes(writer, run_child, tmp_path, reliable):
    """The same in the other direction."""
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


def test_the_library_counts_all_that_a_killed_stranger_had_published(writer, run_child, tmp_path):
    """Killed anywhere in a commit: nothing is torn, each sample of the ring is taken or lost, the end is noticed."""
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
    with zs.SlotAllocator.create(flink, 2, 64):  # removes what the killed one left
        pass


def test_the_library_goes_on_when_a_reliable_stranger_is_killed(reader, run_child, tmp_path):
    """Killed anywhere in a take: its claim ends, its slot comes back, and the other reader loses nothing."""
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


# --- strangers among themselves ---


def test_strangers_understand_each_other(writer, reader):
    """A reader that follows the topic gets the first sample of a writer that comes later, and of the next one."""
    child = reader("t")
    for round_ in range(2):
        child.tell("next")
        owner = writer("t", 64)
        assert owner.ask(f"publish 0{round_}") == 1
        assert child.hear() == taken(1, f"0{round_}")
        owner.finish()
        assert child.ask("next") == {"ended": 2}
    child.finish()
