"""abandon(): the death of a publisher without killing a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.control_bytes import ControlBytes
from zeroslot import ClosedError, Publisher, Sample, SlotAllocator, Subscriber, topics
from zeroslot.testing import abandon


class Tick(Sample):
    n: int = 0


@pytest.mark.row("SEG-16")
def test_an_abandoned_publisher_leaves_what_a_killed_one_leaves() -> None:
    """Its flink and its objects; its state says open; subscribers drain, and then know."""
    with Subscriber("t", Tick) as sub:
        pub = Publisher("t", Tick)
        control = ControlBytes(pub.flink)
        assert sub.wait_for_publishers()
        pub.publish(Tick(n=1))
        abandon(pub)
        assert pub.closed
        assert pub.flink.exists()
        assert control.read(332, "I") == 1
        assert topics() == ()
        lease = sub.take()
        assert lease is not None
        assert lease.sample.n == 1
        with Publisher("t", Tick):
            assert not pub.flink.exists()
            assert control.path.exists() is False
            assert sub.take() is None
        assert sub.lost == 0


def test_an_abandoned_handle_is_closed(zeroslot_dir: Path) -> None:
    """And a later close of it touches nothing, not even what a successor made."""
    path = zeroslot_dir / "slots.flink"
    slots = SlotAllocator.create(path, 4, 64)
    abandon(slots)
    with pytest.raises(ClosedError):
        slots.reserve()
    with SlotAllocator.create(path, 4, 64) as successor:
        content = path.read_bytes()
        slots.close()
        abandon(slots)
        assert path.read_bytes() == content
        assert successor.sequence == 0


def test_loans_of_an_abandoned_publisher_are_not_published() -> None:
    """They can be dropped."""
    pub = Publisher("t", Tick)
    loan = pub.loan()
    abandon(pub)
    with pytest.raises(ClosedError):
        loan.commit()
    del loan
    with Publisher("t", Tick):
        pass
