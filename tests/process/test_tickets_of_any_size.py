"""Tickets between processes for samples of variable size, whole types, and pools that were added later."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.children import Child
from tests.process.actors import Cast

RECORD = np.dtype([("x", "<f4"), ("t", "<M8[ns]")])

REDEEMER = """
import pickle
import numpy as np
import zeroslot as zs
from tests.process.test_tickets_of_any_size import Cloud
held = []

def content(sample):
    if isinstance(sample, np.ndarray):
        return [str(sample.dtype), list(sample.shape), sample.tobytes().hex(), bool(sample.flags.writeable)]
    if isinstance(sample, memoryview):
        return [bytes(sample).hex(), sample.readonly]
    return [type(sample).__name__, sample.name, sample.points.tolist(), list(sample.sizes), isinstance(sample, Cloud)]

def redeem(text, kind=None):
    kinds = {None: None, "array": np.ndarray, "bytes": bytes, "cloud": Cloud}
    try:
        held.append(zs.redeem(pickle.loads(bytes.fromhex(text)), kinds[kind], max_leases=8))
    except (zs.ZeroslotError, OSError) as error:
        return [type(error).__name__, str(error)]
    return content(held[-1].sample)

verbs = {"redeem": redeem, "contents": lambda: [content(lease.sample) for lease in held], "release": held.clear}
say("ready")
for verb, *rest in orders():
    say(verbs[verb](*rest))
"""


class Cloud(zs.Sample):
    """Fields of any size."""

    name: str = "cloud"
    points: NDArray[np.float32]
    sizes: list[zs.U16] = []  # noqa: RUF012  # pydantic copies it


@pytest.fixture
def redeemer(cast: Cast) -> Child:
    """A process that redeems; it has seen no publisher yet."""
    started = cast(REDEEMER)
    started.expect("ready")
    return started


def ticket_of(sub: zs.Subscriber[Any], held: list[Any]) -> str:
    """The ticket of the next sample, whose lease is held."""
    lease = sub.take()
    assert lease is not None
    held.append(lease)
    return pickle.dumps(lease.ticket()).hex()


def use_every_slot(pub: zs.Publisher[Any]) -> None:
    """Retire what there is, and write to each slot that nothing holds: tickets of those samples end."""
    for _ in range(2):
        pub.publish(np.zeros(1, "u1"))
    loans = [pub.loan(1000, "u1") for _ in range(pub.allocator.free_count)]
    for loan in loans:
        loan.discard()


def seen(array: NDArray[Any]) -> list[Any]:
    """What the redeemer says of an array."""
    return [str(array.dtype), list(array.shape), array.tobytes().hex(), False]


@pytest.mark.row("BUF-10", "BUF-1")
def test_arrays_are_redeemed_in_place_with_their_dtype_and_shape(redeemer: Child):
    """Records too; with the type or without; and they outlive the lease that made the ticket."""
    arrays = [np.arange(6, dtype="<f8").reshape(2, 3), np.zeros((2, 2), RECORD), np.zeros((0, 3), "u1")]
    held: list[Any] = []
    with (
        zs.Publisher("a", np.ndarray, max_bytes=4096, depth=1, max_loans=16, spare_slots=0) as pub,
        zs.Subscriber("a", np.ndarray) as sub,
    ):
        for array in arrays:
            pub.publish(array)
            ticket = ticket_of(sub, held)
            assert redeemer.ask(["redeem", ticket]) == seen(array)
            assert redeemer.ask(["redeem", ticket, "array"]) == seen(array)
            assert redeemer.ask(["redeem", ticket, "bytes"])[0] == "TypeMismatchError"
        held.clear()
        use_every_slot(pub)
        assert redeemer.ask(["contents"]) == [seen(array) for array in arrays for _ in range(2)]
        redeemer.ask(["release"])
        use_every_slot(pub)
        assert redeemer.ask(["redeem", ticket])[0] == "SampleGoneError"


@pytest.mark.row("BUF-10", "TYP-11")
def test_bytes_of_a_whole_type_are_redeemed_in_place(redeemer: Child):
    """As a read-only memoryview of their length."""
    held: list[Any] = []
    with zs.Publisher("b", bytes, max_bytes=100) as pub, zs.Subscriber("b", bytes) as sub:
        for content in (b"line", b"", bytes(100)):
            pub.publish(content)
            ticket = ticket_of(sub, held)
            for kind in (None, "bytes"):
                assert redeemer.ask(["redeem", ticket, kind]) == [content.hex(), True]


@pytest.mark.row("BUF-10", "VAR-9")
def test_samples_with_variable_fields_are_redeemed_in_place(redeemer: Child):
    """With the class of the other process, and checked as at a subscriber."""
    held: list[Any] = []
    with zs.Publisher("c", Cloud, max_bytes=4096) as pub, zs.Subscriber("c", Cloud) as sub:
        for cloud in (Cloud(points=[[1, 2], [3, 4]], sizes=[1, 2]), Cloud(name="", points=[])):
            pub.publish(cloud)
            ticket = ticket_of(sub, held)
            for kind in (None, "cloud"):
                said = redeemer.ask(["redeem", ticket, kind])
                assert said[1:] == [cloud.name, cloud.points.tolist(), cloud.sizes, True]


@pytest.mark.row("BUF-10", "VAR-8", "SEG-9")
@pytest.mark.parametrize("attached", [True, False], ids=["attached before", "started before"])
def test_a_sample_in_an_added_pool_is_redeemed(redeemer: Child, attached: bool):
    """By a process that redeemed before the growth, and by one that was only started; what it holds stays."""
    held: list[Any] = []
    first, second = np.arange(10, dtype="u1"), np.arange(50_000, dtype="u4")
    with (
        zs.Publisher("a", np.ndarray, max_bytes=1 << 20, pools=[(4096, 16)], grow=True) as pub,
        zs.Subscriber("a", np.ndarray) as sub,
    ):
        pub.publish(first)
        early = ticket_of(sub, held)
        if attached:
            assert redeemer.ask(["redeem", early]) == seen(first)
        pub.publish(second)
        assert len(pub.stats.pools) == 2
        late = ticket_of(sub, held)
        assert redeemer.ask(["redeem", late]) == seen(second)
        assert redeemer.ask(["redeem", early]) == seen(first)
        contents = redeemer.ask(["contents"])
        assert contents == [*([seen(first)] if attached else []), seen(second), seen(first)]


@pytest.mark.row("BUF-10", "VAR-4")
@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_ticket_for_an_added_pool_after_the_end_of_its_publisher(cast: Cast, redeemer: Child, end: str):
    """Closed: the pool is gone, which is an error. Killed: it is there until it is removed. What is held stays."""
    publisher = cast(
        """
import numpy as np
import zeroslot as zs

pub = zs.Publisher("a", np.ndarray, max_bytes=1 << 20, pools=[(4096, 16)], grow=True)
say("ready")
for size in orders():
    say(pub.close() if size == "close" else pub.publish(np.arange(size, dtype="u4")))
"""
    )
    publisher.expect("ready")
    held: list[Any] = []
    with zs.Subscriber("a", np.ndarray) as sub:
        publisher.ask(10)
        assert redeemer.ask(["redeem", ticket_of(sub, held)]) == seen(np.arange(10, dtype="u4"))
        publisher.ask(50_000)
        late = ticket_of(sub, held)
        if end == "close":
            publisher.ask("close")
        else:
            publisher.kill()
        said = redeemer.ask(["redeem", late])
        if end == "close":
            assert said[0] == "SampleGoneError"
        else:
            assert said == seen(np.arange(50_000, dtype="u4"))
        assert redeemer.ask(["contents"])[0] == seen(np.arange(10, dtype="u4"))
        assert held[1].sample[-1] == 49_999
        redeemer.ask(["release"])
        held.clear()
    zs.clean()


@pytest.mark.row("BUF-10", "SLOT-11")
def test_tickets_of_an_evicted_subscriber_are_good_while_it_holds_the_samples(redeemer: Child):
    """Its right to take has ended; its leases have not, and nor have the tickets that it makes of them."""
    held: list[Any] = []
    with (
        zs.Publisher("a", np.ndarray, max_bytes=4096, depth=2, max_loans=16, spare_slots=0) as pub,
        zs.Subscriber("a", np.ndarray) as sub,
    ):
        pub.publish(np.arange(4))
        ticket = ticket_of(sub, held)
        for number in range(4):
            pub.publish(np.full(4, number))
        assert pub.allocator.evict_stale(0.0) == 1
        later = pickle.dumps(held[0].ticket()).hex()
        assert redeemer.ask(["redeem", ticket]) == seen(np.arange(4))
        assert redeemer.ask(["redeem", later]) == seen(np.arange(4))
        redeemer.ask(["release"])
        held.clear()
        use_every_slot(pub)
        assert redeemer.ask(["redeem", later])[0] == "SampleGoneError"
