"""zeroslot.testing, in one process. The pytest fixture is tested in tests/process/test_pytest_plugin.py."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests import shared_memory
from tests.unit.control_bytes import ControlBytes
from zeroslot import (
    ClosedError,
    MaxBytes,
    Publisher,
    QosMismatchError,
    Sample,
    SlotAllocator,
    Subscriber,
    domains,
    inspect,
    layout_of,
    testing,
    topics,
)
from zeroslot.testing import MemoryTopic, abandon, isolated_domain, lease_of, stopped_clock, view_of


class Tick(Sample):
    n: int = 0


class Frame(Sample):
    image: NDArray[np.uint8]
    camera: Annotated[str, MaxBytes(16)] = "front"


def test_an_isolated_domain_sees_no_other_and_leaves_the_environment_as_it_was() -> None:
    """Topics of the same name before, inside and after it are different ones."""
    before = os.environ.get("ZEROSLOT_DIR"), os.environ.get("ZEROSLOT_DOMAIN")
    with Publisher("t", Tick) as outer, Subscriber("t", Tick) as listener:
        with isolated_domain() as domain:
            assert topics() == ()
            with Publisher("t", Tick) as pub, Subscriber("t", Tick) as sub:
                assert domains() == (domain,)
                pub.publish(Tick(n=1))
                assert [lease.sample.n for lease in iter(sub.take, None)] == [1]
                assert listener.take() is None
        assert (os.environ.get("ZEROSLOT_DIR"), os.environ.get("ZEROSLOT_DOMAIN")) == before
        outer.publish(Tick(n=2))
        assert [lease.sample.n for lease in iter(listener.take, None)] == [2]


def test_an_isolated_domain_removes_what_a_dead_publisher_left() -> None:
    """Its objects in /dev/shm too, also where the test failed."""
    before = shared_memory.objects()

    def failing_test() -> None:
        with isolated_domain():
            abandon(Publisher("t", Tick))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_test()
    assert shared_memory.objects() == before


def test_a_memory_topic_has_the_same_publishers_and_subscribers() -> None:
    """Several of both; order, history, loss and errors as everywhere; nothing appears in shared memory."""
    before = shared_memory.objects()
    with MemoryTopic(Tick, "robot/tick") as topic:
        early = topic.subscriber()
        one = topic.publisher(depth=2, on_full="block")
        for n in range(3):
            one.publish(Tick(n=n))
        late = topic.subscriber(history=1)
        two = topic.publisher(depth=2)
        two.publish(Tick(n=9))
        assert {lease.sample.n for lease in iter(early.take, None)} == {1, 2, 9}
        assert early.lost == 1
        assert {lease.sample.n for lease in iter(late.take, None)} == {2, 9}
        assert {each.publisher_id for each in early.publishers} == {one.publisher_id, two.publisher_id}
        assert isinstance(one, Publisher)
        assert isinstance(late, Subscriber)
        assert (one.topic, early.topic) == ("robot/tick", "robot/tick")
        assert topics() == ()
        assert shared_memory.objects() == before
        abandon(two)
        one.close()
        assert early.take() is None
        assert early.publishers == ()
    with pytest.raises(ClosedError):
        early.take()


def test_errors_of_a_memory_topic_are_the_usual_ones() -> None:
    """Such as of a reliable subscriber and a publisher that evicts."""
    with MemoryTopic(Tick) as topic:
        topic.publisher()
        with pytest.raises(QosMismatchError, match="reliable"):
            topic.subscriber(reliable=True)


def test_a_subscriber_of_a_memory_topic_sleeps_and_meets_publishers_that_come() -> None:
    """A thread that waits for a sample gets it from a publisher that is made later."""
    with MemoryTopic(Tick) as topic:
        sub = topic.subscriber(spin_us=0)
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(next(iter(sub)).sample.n))
        thread.start()
        pub = topic.publisher()
        assert pub.wait_for_subscribers()
        pub.publish(Tick(n=5))
        thread.join()
        assert found == [5]


def test_lease_of_says_what_it_takes() -> None:
    """By the names of its own arguments."""
    with pytest.raises(TypeError, match=r"a sample, such as \w+\(\), and not its class"):
        lease_of(Tick)
    with pytest.raises(ValueError, match=r"^sequence is 0"):
        lease_of(b"", sequence=0)


@pytest.mark.parametrize(
    "sample",
    [
        Tick(n=3),
        Frame(image=np.arange(12, dtype=np.uint8).reshape(3, 4), camera="left"),
        np.arange(6.0).reshape(2, 3),
        b"some bytes",
    ],
    ids=["fixed", "variable", "array", "bytes"],
)
def test_lease_of_is_a_lease(sample: Any) -> None:
    """In place and read-only, with the sequence that is asked for; it outlives everything but itself."""
    lease = lease_of(sample, sequence=41)
    gc.collect()
    assert lease.sequence == 41
    assert np.array_equal(lease.copy(), sample) if isinstance(sample, np.ndarray) else lease.copy() == sample
    kept = view_of(sample)
    assert np.array_equal(kept, sample) if isinstance(sample, np.ndarray) else kept == sample
    if isinstance(sample, Frame):
        assert isinstance(kept, Frame)
        assert not kept.image.flags.writeable
        with pytest.raises(TypeError, match="read-only"):
            kept.camera = "right"
    lease.release()
    with pytest.raises(ClosedError):
        lease.sample  # noqa: B018  # reading it raises


def test_a_stopped_clock_decides_when_samples_are_published() -> None:
    """By loans, copies, `send` and batches; ages in the histogram; the promise of a period. Then time goes on."""
    with stopped_clock(5_000_000_000) as clock:
        with Publisher("t", Tick, max_period=2.0) as pub, Subscriber("t", Tick, max_leases=8) as sub:
            with pub.loan() as tick:
                tick.n = 1
            clock.advance(0.25)
            pub.publish(Tick(n=2))
            pub.send(n=3)
            clock.advance(1)
            pub.publish_many(np.zeros(1, layout_of(Tick).dtype))
            with pub.loan_many(1) as (last,):
                last.n = 5
            times = [lease.published_ns for lease in iter(sub.take, None)]
            assert [ns - 5_000_000_000 for ns in times] == [0, 250_000_000, 250_000_000, 1_250_000_000, 1_250_000_000]
            assert clock.now_ns == 6_250_000_000
            assert inspect("t").publishers[0].overdue is False
            clock.advance(2.1)
            assert inspect("t").publishers[0].overdue is True
            for wrong in (-1, float("inf"), 10**400):
                with pytest.raises(ValueError, match="0 or more"):
                    clock.advance(wrong)
            with pytest.raises(TypeError, match="seconds is a number of seconds, not '1'"):
                clock.advance(cast("float", "1"))
    with MemoryTopic(Tick) as topic:
        before = time.monotonic_ns()
        sub, pub = topic.subscriber(), topic.publisher()
        pub.publish(Tick())
        assert before <= next(iter(sub)).published_ns <= time.monotonic_ns()


def test_every_name_of_the_module_is_documented() -> None:
    """The recipe for unit tests shows each of them."""
    page = (Path(zs.__file__).parents[1] / "examples" / "recipes" / "unit_tests.md").read_text("utf-8")
    for name in testing.__all__:
        assert name in page


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
        with pytest.raises(TypeError, match=r"abandon\(\) takes a Publisher or a SlotAllocator, not str"):
            abandon(cast("Any", "t"))
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
