"""Tickets in one process: how long they are good, what redeeming them gives, and what a wrong one does."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot import testing
from zeroslot.endpoints import tickets


class Frame(zs.Sample):
    number: zs.U64
    pixels: Annotated[NDArray[np.uint8], zs.Shape(16, 64)]


@pytest.fixture(autouse=True)
def no_readers_of_other_tests() -> Iterator[None]:
    yield
    gc.collect()
    for reader in list(tickets._readers.values()):
        reader.close()
    tickets._readers.clear()


@pytest.fixture
def pub() -> Iterator[zs.Publisher[Frame]]:
    with zs.Publisher("cam/front", Frame, depth=2, spare_slots=0, max_loans=16) as publisher:
        yield publisher


@pytest.fixture
def sub(pub: zs.Publisher[Frame]) -> Iterator[zs.Subscriber[Frame]]:
    with zs.Subscriber("cam/front", Frame) as subscriber:
        yield subscriber


def publish(pub: zs.Publisher[Frame], count: int = 1) -> None:
    for _ in range(count):
        with pub.loan() as frame:
            frame.number = pub.sequence + 1
            frame.pixels[:] = (pub.sequence + 1) % 251


def taken(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]) -> zs.Lease[Frame]:
    publish(pub)
    lease = sub.take()
    assert lease is not None
    return lease


def use_every_slot(pub: zs.Publisher[Frame]) -> int:
    """Loan every slot that is free; how many there were. What is still held is held by readers."""
    loans = [pub.loan_uninit() for _ in range(pub.allocator.free_count)]
    for loan in loans:
        loan.discard()
    return len(loans)


def is_whole(frame: Frame, number: int) -> bool:
    return frame.number == number and bool(np.all(frame.pixels == number % 251))


# --- the ticket


@pytest.mark.row("BUF-10")
def test_a_ticket_is_small_equal_and_hashable_and_says_what_it_names(
    pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]
):
    """Two tickets of one sample are one, also after a trip through pickle."""
    lease = taken(pub, sub)
    ticket = lease.ticket()
    assert (ticket.publisher_id, ticket.sequence, ticket.topic) == (pub.publisher_id, 1, "cam/front")
    assert (ticket.uid, ticket.gid) == (os.geteuid(), Path(f"/dev/shm/zs-{pub.publisher_id}").stat().st_gid)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(ticket, protocol))
        assert again == ticket == lease.ticket() == copy.copy(ticket) == copy.deepcopy(ticket)
        assert hash(again) == hash(ticket)
    assert len(pickle.dumps(ticket)) < 128
    assert ticket != taken(pub, sub).ticket()
    assert ticket != "a ticket"
    assert repr(ticket) == f"<Ticket of cam/front, sample 1 of {pub.publisher_id}>"


def test_a_released_lease_makes_no_ticket(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """The slot may have another sample by then."""
    lease = taken(pub, sub)
    lease.release()
    with pytest.raises(zs.ClosedError):
        lease.ticket()


GOOD: tuple[Any, ...] = ("0123456789abcdef", 1, 2, 3, 4, "t")
WRONG = [
    (0, 7),
    (0, None),
    (0, b"0123456789abcdef"),
    (0, "0123456789abcde"),
    (0, "0123456789ABCDEF"),
    (0, "../../etc/passwd"),
]
WRONG += [
    (0, "0123456789abcde/"),
    (1, -1),
    (1, 65535),
    (1, 2**40),
    (1, 2**70),
    (1, "1"),
    (1, 1.0),
    (2, 0),
    (2, -1),
    (2, 2**63),
]
WRONG += [(2, 2**64), (2, None), (3, -1), (3, 2**32), (3, "root"), (4, -1), (4, 2**32), (5, 5), (5, b"t")]


@pytest.mark.parametrize(("at", "value"), WRONG, ids=repr)
def test_a_ticket_with_a_wrong_value_cannot_be_made(at: int, value: object):
    """Nor unpickled, or changed."""
    ticket = zs.Ticket(*GOOD)
    values = (*GOOD[:at], value, *GOOD[at + 1 :])
    with pytest.raises((TypeError, ValueError)):
        zs.Ticket(*values)
    with pytest.raises(AttributeError):
        setattr(ticket, ("publisher_id", "slot", "sequence", "uid", "gid", "topic")[at], value)


def test_every_changed_byte_of_a_pickled_ticket_is_an_error_or_a_ticket(
    pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]
):
    """What it gives, when it gives a ticket, is that sample or an error."""
    lease = taken(pub, sub)
    good = pickle.dumps(lease.ticket())
    for at in range(len(good)):
        for mask in (0x01, 0x80, 0xFF):
            bad = bytearray(good)
            bad[at] ^= mask
            try:
                ticket = pickle.loads(bytes(bad))
            except Exception:  # noqa: BLE001  # pickle raises anything
                continue
            try:
                with zs.redeem(ticket, Frame) as found:
                    assert is_whole(found.sample, 1)
            except (zs.ZeroslotError, OSError, TypeError):
                pass
    assert sub.stats.leases == 1


# --- how long it is good


@pytest.mark.row("BUF-10", "SLOT-20")
def test_a_ticket_is_redeemed_in_place(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """The same memory, class and facts; read-only."""
    lease = taken(pub, sub)
    with zs.redeem(lease.ticket()) as again:
        assert type(again) is zs.Lease
        assert isinstance(again.sample, Frame)
        assert (again.sequence, again.published_ns, again.size) == (lease.sequence, lease.published_ns, lease.size)
        assert again.publisher_id == pub.publisher_id
        assert not again.sample.pixels.flags.writeable
        assert again.copy() == lease.copy()
        assert bytes(memoryview(again)) == bytes(memoryview(lease))


@pytest.mark.row("SLOT-20")
def test_a_ticket_is_good_while_the_lease_that_made_it_is_held(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """However much is published meanwhile, and however often the publisher looks for slots."""
    lease = taken(pub, sub)
    ticket = lease.ticket()
    for _ in range(20):
        publish(pub, 5)
        use_every_slot(pub)
        with zs.redeem(ticket, Frame) as again:
            assert is_whole(again.sample, 1)
    lease.release()
    publish(pub)
    use_every_slot(pub)
    with pytest.raises(
        zs.SampleGoneError, match=r"cam/front: sample 1 is gone: the newest is 102, the newest 2 are kept"
    ) as gone:
        zs.redeem(ticket, Frame)
    assert isinstance(gone.value, LookupError)
    assert (gone.value.topic, gone.value.publisher_id) == ("cam/front", pub.publisher_id)
    assert (gone.value.sequence, gone.value.newest, gone.value.owner_gone) == (1, 102, False)


def test_a_ticket_is_good_while_its_sample_is_among_the_newest(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """With its lease released."""
    lease = taken(pub, sub)
    ticket = lease.ticket()
    lease.release()
    publish(pub)
    use_every_slot(pub)
    with zs.redeem(ticket, Frame) as again:
        assert is_whole(again.sample, 1)


def test_an_unredeemed_ticket_keeps_nothing(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """All slots but the newest ones can be used."""
    kept = [taken(pub, sub).ticket() for _ in range(50)]
    assert len(set(kept)) == 50
    assert use_every_slot(pub) == pub.slot_count - 2


def test_a_ticket_of_a_redeemed_sample_is_as_good(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """A chain: each keeps the sample for the next."""
    lease = taken(pub, sub)
    for _ in range(10):
        lease = zs.redeem(lease.ticket(), Frame)
        publish(pub, 3)
        use_every_slot(pub)
    assert is_whole(lease.sample, 1)


@pytest.mark.row("SLOT-20", "VAR-4")
def test_tickets_of_one_sample_share_a_hold(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """The slot comes back with the last of them, and of what was read from them."""
    lease = taken(pub, sub)
    ticket = lease.ticket()
    leases = [zs.redeem(ticket, Frame, max_leases=1) for _ in range(5)]
    view = leases[0].sample
    lease.release()
    publish(pub, 2)
    free = pub.allocator.free_count
    for each in leases:
        each.release()
        assert pub.allocator.free_count == free
    assert is_whole(view, 1)
    del view, each, leases
    gc.collect()
    assert pub.allocator.free_count == free + 1


def test_a_lease_by_ticket_and_one_of_a_subscriber_are_two(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """Neither ends the other."""
    lease = taken(pub, sub)
    again = zs.redeem(lease.ticket(), Frame)
    lease.release()
    publish(pub, 4)
    use_every_slot(pub)
    assert is_whole(again.sample, 1)
    second = taken(pub, sub)
    with zs.redeem(second.ticket(), Frame) as other:
        other.release()
    publish(pub, 4)
    use_every_slot(pub)
    assert is_whole(second.sample, second.sequence)


# --- who redeems


def test_a_process_that_redeems_is_no_subscriber(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """It is not counted and not listed, and a publisher that blocks does not wait for it."""
    lease = taken(pub, sub)
    with zs.redeem(lease.ticket()):
        assert pub.subscriber_count == 1
        assert [each.by_ticket for each in zs.inspect("cam/front").publishers[0].subscribers] == [False]
        assert pub.flush(timeout=0)
    with (
        zs.Publisher("blocking", Frame, on_full="block", depth=2) as blocking,
        zs.Subscriber("blocking", Frame) as other,
    ):
        with zs.redeem(taken(blocking, other).ticket()):
            publish(blocking, 10)


def test_the_error_for_no_slot_names_the_process_that_holds_by_ticket(zeroslot_dir: Path):
    """As what it is, with what it holds."""
    with zs.Publisher("few", Frame, depth=2, spare_slots=4) as pub, zs.Subscriber("few", Frame) as sub:
        held = []
        for _ in range(5):
            lease = taken(pub, sub)
            held.append(zs.redeem(lease.ticket(), Frame, max_leases=5))
            lease.release()
        publish(pub, 2)
        with pub.loan(), pytest.raises(zs.NoFreeSlotError, match=rf"pid {os.getpid()}, by tickets") as refused:
            pub.loan()
        assert [(each.by_ticket, each.held, each.pid) for each in refused.value.holders] == [(True, 5, os.getpid())]


def test_leases_by_ticket_are_bounded(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """By each call's `max_leases`; several of one sample count once."""
    held = []
    for _ in range(2):
        lease = taken(pub, sub)
        held += [zs.redeem(lease.ticket(), max_leases=2) for _ in range(3)]
    ticket = taken(pub, sub).ticket()
    with pytest.raises(zs.TooManyLeasesError, match=r"this process holds 2 samples of cam/front by tickets") as refused:
        zs.redeem(ticket, max_leases=2)
    assert (refused.value.held, refused.value.max_leases, refused.value.topic) == (2, 2, "cam/front")
    with zs.redeem(ticket, max_leases=3):
        pass
    for wrong in (0, -1, 70000):
        with pytest.raises(ValueError, match="max_leases"):
            zs.redeem(ticket, max_leases=wrong)


def test_an_evicted_process_redeems_again_once_it_has_let_go(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """The publisher's limits hold for leases by tickets too."""
    lease = taken(pub, sub)
    again = zs.redeem(lease.ticket(), Frame)
    assert pub.allocator.evict_stale(0.0) == 2
    with pytest.raises(zs.EvictedError, match="has ended the registration by which this process redeems"):
        zs.redeem(lease.ticket())
    assert is_whole(again.sample, 1)
    ticket = lease.ticket()
    again.release()
    with zs.redeem(ticket, Frame) as third:
        assert is_whole(third.sample, 1)


def test_a_full_table_is_an_error_that_names_all(zeroslot_dir: Path):
    """A process that redeems takes a place, and frees it for others when its reader is closed."""
    with zs.Publisher("small", Frame, max_subscribers=2) as pub, zs.Subscriber("small", Frame) as sub:
        ticket = taken(pub, sub).ticket()
        with zs.redeem(ticket), pytest.raises(zs.TooManyPeersError, match="by tickets") as refused:
            zs.Subscriber("small", Frame)
        assert [each.by_ticket for each in refused.value.peers] == [False, True]


# --- types


class Renamed(zs.Sample):
    number: zs.U64
    exposure: zs.F32 = 0.5


def test_the_type_may_be_given_or_left_to_the_ticket(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """Another type is a mismatch, or is read by name."""
    ticket = taken(pub, sub).ticket()
    with pytest.raises(zs.TypeMismatchError):
        zs.redeem(ticket, Renamed)
    with zs.redeem(ticket, Renamed, match="by_name") as lease:
        assert (lease.sample.number, lease.sample.exposure) == (1, 0.5)
    with pytest.raises(ValueError, match="match is"):
        zs.redeem(ticket, match="some")  # type: ignore[call-overload]  # on purpose
    with pytest.raises(zs.DeclarationError):
        zs.redeem(ticket, int)  # type: ignore[type-var]  # on purpose
    with pytest.raises(TypeError, match="redeem takes a Ticket"):
        zs.redeem("ticket")  # type: ignore[call-overload]  # on purpose


def test_a_ticket_is_redeemed_without_the_fields_that_its_publisher_lacks(
    pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]
):
    """As the error for them says. Each way of reading is kept apart."""

    class Longer(zs.Sample):
        number: zs.U64
        gain: zs.F32

    ticket = taken(pub, sub).ticket()
    for _ in range(2):
        with pytest.raises(zs.TypeMismatchError, match='give gain a default or say missing="ignore"'):
            zs.redeem(ticket, Longer, match="by_name")
        with zs.redeem(ticket, Longer, match="by_name", missing="ignore") as lease:
            assert lease.sample.number == 1
            assert not hasattr(lease.sample, "gain")
    with pytest.raises(ValueError, match='for match="by_name"'):
        zs.redeem(ticket, Longer, missing="ignore")
    with pytest.raises(ValueError, match="missing is"):
        zs.redeem(ticket, Longer, match="by_name", missing="some")  # type: ignore[call-overload]  # on purpose


def test_a_class_that_this_process_does_not_have_is_made_from_the_schema(zeroslot_dir: Path):
    """As for a Subscriber without a type."""

    def declared() -> type[zs.Sample]:
        class Passing(zs.Sample):
            number: zs.U64

        return Passing

    passing = declared()
    with zs.Publisher("passing", passing) as pub, zs.Subscriber("passing") as sub:
        pub.publish({"number": 7})
        lease = sub.take()
        assert lease is not None
        with zs.redeem(lease.ticket()) as again:
            assert isinstance(again.sample, passing)
        passing.__name__ = "Otherwise"
        tickets._readers.popitem()[1].close()
        with zs.redeem(lease.ticket()) as again:
            assert not isinstance(again.sample, passing)
            assert again.sample.number == 7


@pytest.mark.row("BUF-10")
def test_bytes_are_redeemed_as_bytes(zeroslot_dir: Path):
    """`SlotReader.redeem`, for segments without a type and for those with one."""
    with zs.SlotAllocator.create(zeroslot_dir / "slots", 8, 64) as slots, slots.reader() as reader:
        slots.commit(slots.reserve(), b"hello")
        lease = reader.take()
        assert lease is not None
        ticket = lease.ticket()
        with zs.SlotReader.redeem(ticket) as again:
            assert type(again) is zs.SlotLease
            assert bytes(again) == b"hello"
        with pytest.raises(zs.TypeMismatchError, match=r"Use SlotReader\.redeem"):
            zs.redeem(ticket)
        with pytest.raises(TypeError, match="redeem takes a Ticket"):
            zs.SlotReader.redeem(7)  # type: ignore[arg-type]  # on purpose


def test_a_segment_in_memory_has_no_tickets():
    """It has no name that another process could open."""
    with zs.SlotAllocator.in_memory(4, 64) as slots, slots.reader() as reader:
        slots.commit(slots.reserve(), b"hello")
        lease = reader.take()
        assert lease is not None
        with pytest.raises(ValueError, match="in memory has no name"):
            lease.ticket()


# --- publishers that end, and tickets that are wrong


def test_the_error_says_that_the_publisher_has_closed(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]):
    """What is mapped already is read on."""
    lease = taken(pub, sub)
    ticket = lease.ticket()
    with zs.redeem(ticket, Frame):
        pub.close()
    with zs.redeem(ticket, Frame) as again:
        assert is_whole(again.sample, 1)
    tickets._readers.popitem()[1].close()
    with pytest.raises(zs.SampleGoneError, match="its publisher has closed, or died") as gone:
        zs.redeem(ticket)
    assert gone.value.owner_gone


def test_the_samples_of_a_killed_publisher_are_there_until_it_is_removed(
    pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame]
):
    """By the next publisher of the topic, or by clean()."""
    ticket = taken(pub, sub).ticket()
    testing.abandon(pub)
    with zs.redeem(ticket, Frame) as again:
        assert is_whole(again.sample, 1)
    zs.clean()
    tickets._readers.popitem()[1].close()
    with pytest.raises(zs.SampleGoneError) as gone:
        zs.redeem(ticket)
    assert gone.value.owner_gone


def wrong_tickets(good: zs.Ticket) -> dict[str, zs.Ticket]:
    def but(**changes: Any) -> zs.Ticket:
        names = ("publisher_id", "slot", "sequence", "uid", "gid", "topic")
        return zs.Ticket(**{name: changes.get(name, getattr(good, name)) for name in names})

    return {
        "another segment": but(publisher_id="0" * 16),
        "another slot": but(slot=good.slot + 1),
        "no slot": but(slot=65534),
        "another sample": but(sequence=good.sequence + 1),
        "far ahead": but(sequence=2**63 - 1),
        "another user": but(uid=good.uid + 1),
    }


@pytest.mark.parametrize(
    "what", ["another segment", "another slot", "no slot", "another sample", "far ahead", "another user"]
)
def test_a_forged_ticket_is_an_error(pub: zs.Publisher[Frame], sub: zs.Subscriber[Frame], what: str):
    """And sets no bit."""
    lease = taken(pub, sub)
    with pytest.raises(PermissionError if what == "another user" else zs.SampleGoneError):
        zs.redeem(wrong_tickets(lease.ticket())[what])
    lease.release()
    publish(pub, 3)
    assert use_every_slot(pub) == pub.slot_count - 2


@pytest.mark.parametrize("content", [b"", b"no segment" * 1000, None], ids=["empty", "garbage", "directory"])
def test_another_object_under_the_name_of_a_segment_is_an_error(content: bytes | None):
    """What a ticket names is checked as what a flink names."""
    path = Path("/dev/shm/zs-00000000000000ff")
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
        path.chmod(0o600)
    try:
        with pytest.raises((zs.SampleGoneError, zs.FormatError, zs.CorruptSegmentError)):
            zs.redeem(zs.Ticket("00000000000000ff", 0, 1, os.geteuid(), os.getegid()))
    finally:
        path.rmdir() if content is None else path.unlink()


# --- what it costs


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.row("VAR-4")
def test_readers_that_are_not_used_are_closed(zeroslot_dir: Path):
    """Those of publishers that have ended at the next attach, of others the ones used last are kept."""
    with zs.Publisher("keep", Frame) as pub, zs.Subscriber("keep", Frame) as sub:
        first = taken(pub, sub)
        held = zs.redeem(first.ticket())
        for i in range(30):
            with zs.Publisher(f"many/{i}", Frame) as other, zs.Subscriber(f"many/{i}", Frame) as reader:
                with zs.redeem(taken(other, reader).ticket()):
                    pass
            if i == 1:
                gc.collect()
                before = descriptors()
        gc.collect()  # what is in cycles goes later on CPython 3.13, and is not what is counted here
        assert descriptors() <= before
        others = [zs.Publisher(f"live/{i}", Frame) for i in range(20)]
        for i, other in enumerate(others):
            with zs.Subscriber(f"live/{i}", Frame) as reader, zs.redeem(taken(other, reader).ticket()):
                pass
        assert len(tickets._readers) <= tickets.MOST_UNUSED + 1
        publish(pub, 20)
        assert held.sample.number == 1
        for other in others:
            other.close()


@pytest.mark.row("BUF-10")
def test_threads_share_tickets():
    """They redeem and release in the same slots while the publisher reuses slots; each sample stays whole."""
    failures: list[BaseException] = []
    done = threading.Event()
    with (
        zs.Publisher("threads", Frame, depth=2, spare_slots=24) as pub,
        zs.Subscriber("threads", Frame, max_leases=8) as sub,
    ):
        newest: list[tuple[zs.Lease[Frame], zs.Ticket]] = []

        def redeem_some(look: Callable[[Frame, int], bool]) -> None:
            try:
                while not done.is_set():
                    for lease, ticket in newest[-1:]:
                        try:
                            with zs.redeem(ticket, Frame, max_leases=16) as again:
                                assert look(again.sample, ticket.sequence)
                        except zs.SampleGoneError:
                            assert lease is not newest[-1][0]
            except BaseException as error:  # noqa: BLE001  # raised below
                failures.append(error)

        threads = [threading.Thread(target=redeem_some, args=(is_whole,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(2000):
            lease = taken(pub, sub)
            newest.append((lease, lease.ticket()))
            del newest[:-2]
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []
