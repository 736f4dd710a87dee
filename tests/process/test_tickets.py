"""Tickets between processes: pools of workers, queues, forks, deaths, and users."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Tick

METHODS = ["fork", "spawn", "forkserver"]

REDEEMER = """
import pickle
import zeroslot as zs
from tests.process.samples import Tick
held = []

def redeem(text):
    try:
        held.append(zs.redeem(pickle.loads(bytes.fromhex(text)), max_leases=8))
    except (zs.ZeroslotError, OSError) as error:
        return [type(error).__name__, str(error)]
    return held[-1].sample.number

verbs = {"redeem": redeem, "numbers": lambda: [lease.sample.number for lease in held], "release": held.clear}
say("ready")
for verb, *rest in orders():
    say(verbs[verb](*rest))
"""


@pytest.fixture
def pub() -> Iterator[zs.Publisher[Tick]]:
    with zs.Publisher("t", Tick, depth=2, spare_slots=0, max_loans=8) as publisher:
        yield publisher


@pytest.fixture
def sub(pub: zs.Publisher[Tick]) -> Iterator[zs.Subscriber[Tick]]:
    with zs.Subscriber("t", Tick, max_leases=16) as subscriber:
        yield subscriber


def taken(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> zs.Lease[Tick]:
    pub.publish(Tick(number=pub.sequence + 1))
    lease = sub.take()
    assert lease is not None
    return lease


def reuse_slots(pub: zs.Publisher[Tick]) -> int:
    """Loan every free slot, and discard it; how many there were."""
    loans = [pub.loan() for _ in range(pub.allocator.free_count)]
    for loan in loans:
        loan.discard()
    return len(loans)


def text_of(ticket: zs.Ticket) -> str:
    import pickle

    return pickle.dumps(ticket).hex()


def number_of(ticket: zs.Ticket) -> tuple[int, bool]:
    with zs.redeem(ticket) as lease:
        return int(lease.sample.number), isinstance(lease.sample, Tick)


def work(tickets: Any, answers: Any) -> None:
    for ticket in iter(tickets.get, None):
        with zs.redeem(ticket, Tick) as lease:
            answers.put((ticket, int(lease.sample.number)))


@pytest.mark.row("BUF-10", "SLOT-20")
@pytest.mark.parametrize("method", METHODS)
def test_an_executor_of_processes_redeems_what_it_gets(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], method: str):
    """Each sample is retired long since, and held by the lease that made its ticket."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        for _ in range(10):
            lease = taken(pub, sub)
            pub.publish(Tick(number=0))
            pub.publish(Tick(number=0))
            sub.take()
            sub.take()
            reuse_slots(pub)
            assert pool.submit(number_of, lease.ticket()).result() == (lease.sequence, True)
            lease.release()
        assert pub.subscriber_count == 1
    assert reuse_slots(pub) == pub.slot_count - 2


@pytest.mark.row("BUF-10")
@pytest.mark.parametrize("method", METHODS)
def test_a_pool_of_multiprocessing_redeems_what_it_gets(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], method: str):
    """Results come back for all, in order."""
    leases = [taken(pub, sub) for _ in range(6)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(number_of, [lease.ticket() for lease in leases])
    assert found == [(lease.sequence, True) for lease in leases]


@pytest.mark.row("BUF-10")
@pytest.mark.parametrize("method", METHODS)
def test_tickets_go_through_a_queue(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick], method: str):
    """They come back equal."""
    context = multiprocessing.get_context(method)
    tickets, answers = context.Queue(), context.Queue()
    workers = [context.Process(target=work, args=(tickets, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    leases = {lease.ticket(): lease for lease in [taken(pub, sub) for _ in range(6)]}
    for ticket in leases:
        tickets.put(ticket)
    for _ in range(6):
        ticket, number = answers.get()
        assert leases[ticket].sequence == number
    for _ in workers:
        tickets.put(None)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


@pytest.mark.row("SLOT-20", "VAR-4")
def test_a_redeemed_sample_outlives_the_lease_that_made_its_ticket(
    cast: Cast, pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]
):
    """And frees its slot when it is released; a ticket that comes too late is an error."""
    redeemer = cast(REDEEMER)
    redeemer.expect("ready")
    lease = taken(pub, sub)
    ticket = text_of(lease.ticket())
    assert redeemer.ask(["redeem", ticket]) == 1
    lease.release()
    for _ in range(4):
        taken(pub, sub).release()
        reuse_slots(pub)
    assert redeemer.ask(["numbers"]) == [1]
    assert reuse_slots(pub) == pub.slot_count - 3
    redeemer.ask(["release"])
    assert reuse_slots(pub) == pub.slot_count - 2
    name, said = redeemer.ask(["redeem", ticket])
    assert name == "SampleGoneError"
    assert "sample 1 is gone: the newest is 5" in said


@pytest.mark.row("SLOT-20")
def test_what_a_killed_redeemer_held_comes_back(cast: Cast, pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]):
    """The publisher finds it dead when it needs a slot; so does a process that joins a full table."""
    redeemer = cast(REDEEMER)
    redeemer.expect("ready")
    for _ in range(4):
        lease = taken(pub, sub)
        assert redeemer.ask(["redeem", text_of(lease.ticket())]) == lease.sequence
        lease.release()
    taken(pub, sub).release()
    taken(pub, sub).release()
    assert pub.allocator.free_count == pub.slot_count - 6
    redeemer.kill()
    assert pub.reap() == 1
    assert reuse_slots(pub) == pub.slot_count - 2


def test_a_killed_redeemer_leaves_its_place_to_a_joiner(cast: Cast):
    """Also where it held a sample."""
    with zs.Publisher("small", Tick, max_subscribers=2) as pub, zs.Subscriber("small", Tick) as sub:
        redeemer = cast(REDEEMER)
        redeemer.expect("ready")
        lease = taken(pub, sub)
        assert redeemer.ask(["redeem", text_of(lease.ticket())]) == 1
        with pytest.raises(zs.TooManyPeersError):
            zs.Subscriber("small", Tick)
        redeemer.kill()
        with zs.Subscriber("small", Tick):
            lease.release()
            pub.publish(Tick(number=2))
            assert pub.subscriber_count == 2
            assert [info.held for info in zs.inspect("small").publishers[0].subscribers] == [0, 0]


def test_the_publisher_names_a_redeemer_that_holds_its_slots(
    cast: Cast, pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]
):
    """By process, and that it holds them by tickets; `evict_stale` ends what it may take."""
    redeemer = cast(REDEEMER)
    redeemer.expect("ready")
    tickets = []
    for _ in range(8):
        lease = taken(pub, sub)
        tickets.append(text_of(lease.ticket()))
        assert redeemer.ask(["redeem", tickets[-1]]) == lease.sequence
        lease.release()
    pub.publish(Tick(number=9))
    pub.publish(Tick(number=10))
    assert pub.allocator.free_count == 0
    with pytest.raises(zs.NoFreeSlotError, match=rf"pid {redeemer.pid}, by tickets") as refused:
        pub.loan()
    (holder,) = refused.value.holders
    assert (holder.pid, holder.by_ticket) == (redeemer.pid, True)
    assert pub.allocator.evict_stale(0.0) == 1
    assert redeemer.ask(["redeem", tickets[-1]])[0] == "EvictedError"
    assert redeemer.ask(["numbers"]) == list(range(1, 9))


def test_a_redeemer_learns_that_the_publisher_has_ended(cast: Cast):
    """Whether it has closed, or was killed and removed."""
    for end in ("close", "kill"):
        actor = cast.publisher("t")
        with zs.Subscriber("t", Tick) as sub:
            actor.ask(["publish", 1])
            lease = sub.take(timeout=None)
            assert lease is not None
            ticket = text_of(lease.ticket())
        lease.release()
        if end == "close":
            actor.ask(["close"])
        else:
            actor.kill()
            late = cast(REDEEMER)
            late.expect("ready")
            assert late.ask(["redeem", ticket]) == 1  # not removed yet
            late.ask(["release"])
            zs.clean()
        redeemer = cast(REDEEMER)
        redeemer.expect("ready")
        name, said = redeemer.ask(["redeem", ticket])
        assert (name, "its publisher has closed, or died" in said) == ("SampleGoneError", True)


@pytest.mark.row("BUF-10")
def test_a_forked_child_redeems_through_a_reader_of_its_own(cast: Cast):
    """It inherits neither the parent's reader nor its leases, and the parent's go on."""
    child = cast(
        """
        import os
        import zeroslot as zs
        from tests.process.samples import Tick
        from zeroslot.endpoints import tickets

        pub = zs.Publisher("t", Tick, depth=2, max_loans=6, spare_slots=0)
        sub = zs.Subscriber("t", Tick)
        pub.publish(Tick(number=1))
        lease = sub.take()
        ticket = lease.ticket()
        mine = zs.redeem(ticket)
        told, tell = os.pipe()
        asked, ask = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                refused = False
                try:
                    mine.ticket()
                except zs.ForkedHandleError as error:
                    refused = str(error).endswith("Redeem the ticket again in the child")
                assert refused and not tickets._readers
                with zs.redeem(ticket, Tick) as again:
                    assert again.sample.number == 1
                    mine.release()
                    os.write(tell, b"held")
                    os.read(asked, 4)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.read(told, 4) == b"held"
        say(sorted(len(pub.allocator.native.segment.held_by(i)) for i in range(4)))
        os.write(ask, b"done")
        say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        for number in range(2, 9):
            pub.publish(Tick(number=number))
        say(mine.sample.number)
        pub.reap()
        lease.release()
        mine.release()
        say(pub.allocator.free_count == pub.slot_count - 2)
        """
    )
    child.expect([0, 1, 1, 1])
    child.expect(0)
    child.expect(1)
    child.expect(True)
