"""What a program drops is collected: classes that were declared in a function, and what was open of closed handles."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

import zeroslot as zs
from zeroslot.endpoints import redeeming, tickets


@pytest.fixture(autouse=True)
def no_readers_of_other_tests() -> Iterator[None]:
    yield
    for reader in list(tickets._readers.values()):
        reader.close()
    tickets._readers.clear()


def plain() -> type[zs.Sample]:
    class Plain(zs.Sample):
        number: zs.U64 = 0

    return Plain


def nested() -> type[zs.Sample]:
    class Inner(zs.Sample):
        x: float = 0.0

    class Nested(zs.Sample):
        inner: Inner = Inner()
        items: Annotated[list[Inner], zs.MaxLen(3)] = []  # noqa: RUF012  # pydantic copies it
        made: zs.U8 = Field(default_factory=lambda: 3)

    return Nested


def variable() -> type[zs.Sample]:
    class Variable(zs.Sample):
        image: NDArray[np.uint8] = np.zeros(3, np.uint8)
        name: str = "name"

    return Variable


def layout(sample_type: type[zs.Sample], pub: zs.Publisher[Any]) -> None:
    zs.layout_of(sample_type).to_idl()


def take(sample_type: type[zs.Sample], pub: zs.Publisher[Any]) -> None:
    with zs.Subscriber("t", sample_type) as sub, pub.loan():
        pub.publish(sample_type())
        lease = sub.take()
        assert lease is not None
        assert lease.copy() == lease.sample


def by_name(sample_type: type[zs.Sample], pub: zs.Publisher[Any]) -> None:
    with zs.Subscriber("t", sample_type, match="by_name") as sub, zs.Subscriber("t") as untyped:
        pub.publish(sample_type())
        for lease in (sub.take(), untyped.take()):
            assert lease is not None
            repr(lease.sample)


USES: list[Callable[[type[zs.Sample], zs.Publisher[Any]], None]] = [layout, take, by_name]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("declare", [plain, nested, variable])
def test_a_dropped_class_is_collected(declare: Callable[[], type[zs.Sample]], use: Any) -> None:
    """With its views, codecs and descriptors, after any use."""
    sample_type: Any = declare()
    there = weakref.ref(sample_type)
    max_bytes = 10_000 if zs.layout_of(sample_type).variable else None
    with zs.Publisher("t", sample_type, max_bytes=max_bytes) as pub:
        use(sample_type, pub)
    del sample_type, pub
    gc.collect()
    assert there() is None


def test_classes_that_tickets_were_redeemed_as_do_not_add_up() -> None:
    """As in a notebook that runs a cell again and again, beside a publisher that stays."""
    first = plain()
    with zs.Publisher("t", first) as pub, zs.Subscriber("t", first) as sub:
        pub.publish(first())
        lease = sub.take()
        assert lease is not None
        ticket = lease.ticket()
        dropped = []
        for _ in range(3 * redeeming.MOST_TYPES):
            again = plain()
            dropped.append(weakref.ref(again))
            with zs.redeem(ticket, again) as redeemed:
                assert redeemed.sample.number == 0
            del again, redeemed
        gc.collect()
        assert sum(each() is not None for each in dropped) <= redeeming.MOST_TYPES


def open_things() -> tuple[int, int]:
    """The descriptors, and the mappings of segments, that this process has."""
    return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("/zs-")


def test_closed_handles_leave_nothing_open_to_the_collector() -> None:
    """Descriptors and mappings are gone when handles and leases are, also on interpreters that collect rarely."""

    def turn() -> None:
        with (
            zs.Publisher("t", np.ndarray, max_bytes=1 << 16, pools=[(4096, 16)], grow=True) as pub,
            zs.Subscriber("t", np.ndarray) as sub,
        ):
            for size in (10, 5000):
                pub.publish(np.zeros(size))
                with sub.take() as lease:  # type: ignore[union-attr]  # one was published
                    assert lease.sample.size == size
            zs.inspect("t")
            assert len(sub.publishers) == 1

    gc.collect()
    gc.disable()
    try:
        turn()
        before = open_things()
        for _ in range(5):
            turn()
        assert open_things() == before
    finally:
        gc.enable()
